// The attention kernels under the host runner and on the GPU: against the definition in float64, against the CPU's
// choice of boxes, and against themselves under other schedules.
//
// Tolerances. With u the unit roundoff of the products' operands (2^-24, 2^-11, 2^-8 for
// float32, TF32, bf16) a logit of deviation a^2 is off by about sqrt(2/3) u a^2, and so is,
// relatively, its weight; the weight and the value are rounded once more each, by u/sqrt(3):
// together below 2 u max(1, a^2) for z, in the Frobenius norm. A gradient takes one more product
// before and one more after: 4 u max(1, a^2). In float32 sums over up to n terms weigh more than
// their operands: 16 times that.
#include "attention_case.h"

#include "../tensor/devices.h"
#include "tensor/kernel_device.h"
#include "tensor/kernels.h"

// Tests run once for each device that has these kernels: its name is the state of the test.
static const mra_attention_kernels *kernels;

static mra_device *open_device(void **state)
{
    const char *name = *state;
    mra_device *device;
    mra_error err;
    mra_blas_single_thread();
    if (mra_device_open(&device, name, 1, &err) != MRA_OK) fail_msg("%s", err.message);
    if (strcmp(name, "simt") == 0) mra_simt_schedule(device, kernel_seed());
    kernels = device->kernels->attention;
    return device;
}

// The line of a case in the log and in the table of the whole run. `logits_too`: dq and dk are to be
// close, not only what does not go through the softmax.
static void report(const mra_device *device, const char *name, const double worst[4],
                   bool logits_too)
{
    char rest[40] = "";
    if (logits_too) snprintf(rest, sizeof rest, "  dq %.1e  dk %.1e", worst[1], worst[2]);
    print_message("# %-28s %-5s z %.1e  dv %.1e%s\n", name, device->name, worst[0], worst[3],
                  rest);
    device_log(name, device->name, worst[0],
               logits_too ? fmax(worst[1], fmax(worst[2], worst[3])) : worst[3]);
}

// Under the sanitizers every second case of a table: a kernel takes five times as long there.
static size_t stride_of_cases(void)
{
    return getenv("MRA_SANITIZED") ? 2 : 1;
}

static double tolerance(const kernel_case *c, int which)
{
    const double roundoff[] = {16 * ldexp(1, -24), ldexp(1, -11), ldexp(1, -8)};
    double spread = fmax(1, c->deviation * c->deviation);
    bool cancels = c->options.scales == 2 && c->options.blocks[1] == 0 && which;
    return roundoff[c->precision] * (which ? 4 : 2) * spread * (cancels ? 16 : 1);
}

static mra_options with(double blocks, bool sparse, int first, int diagonal)
{
    mra_options options = mra_options_mra2(blocks);
    options.sparse = sparse;
    options.first = first;
    options.diagonal = diagonal;
    return options;
}

static mra_options on_grid(mra_options options, int height, int width)
{
    options.grid_height = height;
    options.grid_width = width;
    return options;
}

static mra_options plain(mra_options options)
{
    options.ranking = MRA_RANK_PLAIN;
    return options;
}

static mra_options counting_padding(mra_options options)
{
    options.count_padding = true;
    return options;
}

static const mra_options exact = {.scales = 1, .scale = {1}};

static void check_case(mra_device *device, const kernel_case *c, uint64_t which, bool add)
{
    arrays a = case_arrays(c, kernel_seed() + which);
    kernel_result r = run_case(kernels, device, c, &a, add);
    differences found = compare_with_definition(c, &a, &r, add ? 1 : 0);
    const char *name[] = {"z", "dq", "dk", "dv"};
    report(device, c->name, found.worst, true);
    for (int i = 0; i < 4; i++)
        if (!(found.worst[i] <= tolerance(c, i)))
            fail_msg("%s: %s differs by %.2e from the definition, allowed %.2e", c->name,
                     name[i], found.worst[i], tolerance(c, i));
    free_result(&r);
    free_arrays(&a);
}

// In float32: everything that can be told.
static void kernels_follow_the_definition(void **state)
{
    const kernel_case cases[] = {
        {"mra2", {2, 1, 150, 64}, with(1.7, false, 0, 0), 0, false, NO_MASK, 1},
        {"mra2 d 32, mask", {2, 2, 99, 32}, with(1, false, 0, 0), 0, false, RANDOM_MASK, 1},
        {"mra2 d 128, blocks masked",
         {1, 1, 170, 128},
         with(1, false, 0, 3),
         0,
         false,
         BLOCK_MASK,
         0.7f},
        {"mra2 in parts", {3, 2, 40, 32}, with(0.7, false, 0, 0), 0, false, TAIL_MASK, 1},
        {"exact in parts", {3, 1, 40, 32}, exact, 0, false, TAIL_MASK, 1},
        {"mra2s, padded tail", {2, 1, 161, 32}, with(0.5, true, 0, 0), 0, false, TAIL_MASK, 1},
        {"mra2, padding counted",
         {1, 2, 161, 32},
         counting_padding(with(0.5, false, 0, 0)),
         0,
         false,
         TAIL_MASK,
         1},
        {"mra2s, priors, plain",
         {1, 1, 131, 32},
         plain(with(1.5, true, 1, 1)),
         0,
         false,
         RANDOM_MASK,
         1},
        {"mra2 grid",
         {1, 2, 192, 32},
         on_grid(with(1.5, false, 0, 1), 8, 24),
         0,
         false,
         RANDOM_MASK,
         1},
        {"mra2 all refined", {1, 1, 70, 32}, with(9, false, 0, 0), 0, false, NO_MASK, 1},
        {"mra2 nothing refined", {1, 1, 70, 32}, with(0, false, 0, 0), 0, false, NO_MASK, 1},
        {"mra2s nothing refined", {1, 1, 70, 32}, with(0, true, 0, 0), 0, false, NO_MASK, 1},
        {"mra2 nothing there", {1, 1, 70, 32}, with(1, false, 0, 0), 0, false, NOTHING, 1},
        {"mra2 one token", {1, 1, 1, 32}, with(1, false, 0, 0), 0, false, NO_MASK, 1},
        {"mra2 ties", {1, 1, 200, 32}, with(1.5, false, 0, 0), 0, false, NO_MASK, 0},
        {"exact", {2, 1, 150, 64}, exact, 0, false, RANDOM_MASK, 1},
        {"exact d 128", {1, 1, 70, 128}, exact, 0, false, NO_MASK, 1},
    };
    mra_device *device = open_device(state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += stride_of_cases())
        check_case(device, &cases[i], i, i % 2 == 1);
    mra_device_close(device);
}

// Lines that take several warps (17 boxes and more), and more than one line of coarse tiles.
static void long_lines_and_many_blocks(void **state)
{
    const kernel_case cases[] = {
        {"mra2 long lines", {1, 1, 600, 32}, with(2, false, 1, 0), 0, false, NO_MASK, 1},
        {"mra2s long lines, bf16",
         {1, 1, 600, 32},
         with(2, true, 1, 0),
         MRA_BF16,
         false,
         RANDOM_MASK,
         1},
        {"mra2 35 blocks", {1, 1, 1100, 32}, with(0.3, false, 0, 0), 0, false, NO_MASK, 1},
        {"mra2 35 blocks, TF32",
         {1, 1, 1100, 32},
         with(0.3, false, 0, 0),
         MRA_TF32,
         false,
         BLOCK_MASK,
         1},
    };
    mra_device *device = open_device(state);
    const int count = sizeof cases / sizeof cases[0];
    for (int i = 0; i < count; i += (int)stride_of_cases())
        check_case(device, &cases[i], 100 + (uint64_t)i, i == 1);
    mra_device_close(device);
}

static void tensor_cores_round_as_they_should(void **state)
{
    const kernel_case cases[] = {
        {"mra2 TF32", {2, 1, 150, 64}, with(1.7, false, 0, 0), 1, false, RANDOM_MASK, 1},
        {"mra2 TF32 d 128", {1, 1, 97, 128}, with(1, false, 0, 0), 1, false, NO_MASK, 1},
        {"mra2s TF32 d 32, grid",
         {1, 1, 128, 32},
         on_grid(with(1, true, 0, 0), 8, 16),
         1,
         false,
         NO_MASK,
         1},
        {"exact TF32", {1, 1, 150, 64}, exact, 1, false, NO_MASK, 1},
        {"mra2 bf16", {2, 1, 150, 64}, with(1.7, false, 0, 0), 2, false, RANDOM_MASK, 1},
        {"mra2 bf16 arrays", {1, 2, 150, 64}, with(1.7, false, 0, 0), 2, true, RANDOM_MASK, 1},
        {"mra2s bf16 arrays, d 128",
         {1, 1, 97, 128},
         with(1, true, 0, 0),
         2,
         true,
         TAIL_MASK,
         1},
        {"mra2 bf16 arrays, d 32, grid",
         {1, 1, 128, 32},
         on_grid(with(1, false, 0, 0), 8, 16),
         2,
         true,
         NO_MASK,
         1},
        {"exact bf16", {1, 1, 150, 64}, exact, 2, false, RANDOM_MASK, 1},
        {"exact bf16 arrays, d 32", {1, 2, 97, 32}, exact, 2, true, NO_MASK, 1},
        {"exact bf16 arrays, d 128", {1, 1, 97, 128}, exact, 2, true, NO_MASK, 1},
    };
    mra_device *device = open_device(state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += stride_of_cases())
        check_case(device, &cases[i], 200 + i, !cases[i].bf16_arrays && i % 2 == 0);
    mra_device_close(device);
}

// Logits of +-1e4 and more. Where bf16 holds the inputs exactly, products are exact and sums are
// float32's.
static void extreme_logits(void **state)
{
    const kernel_case cases[] = {
        {"mra2, logits 1e4",
         {1, 1, 150, 64},
         with(1.7, false, 0, 0),
         0,
         false,
         RANDOM_MASK,
         100},
        {"mra2s, logits 1e4", {1, 1, 150, 32}, with(1, true, 0, 0), 0, false, NO_MASK, 100},
        {"exact, logits 1e4", {1, 1, 97, 64}, exact, 0, false, NO_MASK, 100},
        {"mra2 bf16, logits 1e4",
         {1, 1, 150, 64},
         with(1.7, false, 0, 0),
         2,
         true,
         NO_MASK,
         100},
        {"exact bf16, logits 1e4", {1, 1, 97, 64}, exact, 2, true, NO_MASK, 100},
    };
    mra_device *device = open_device(state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += stride_of_cases()) {
        kernel_case c = cases[i];
        arrays a = case_arrays(&c, kernel_seed() + 300 + i);
        kernel_result r = run_case(kernels, device, &c, &a, false);
        differences found = compare_with_definition(&c, &a, &r, 0);
        report(device, c.name, found.worst, false);
        // A logit of 1e4 has an error of 1e-3 in float32, and its weight that relative error.
        // Gradients of logits are differences of nearly equal numbers there: only z and dv.
        double allowed = c.precision == MRA_BF16 ? 4 * ldexp(1, -8) : 5e-3;
        for (int k = 0; k < 4; k += 3)
            if (!(found.worst[k] <= allowed))
                fail_msg("%s: %s differs by %.2e", c.name, k ? "dv" : "z", found.worst[k]);
        for (size_t k = 0; k < a.size; k++)
            assert_true(isfinite(r.z[k]) && isfinite(r.dq[k]) && isfinite(r.dk[k]));
        free_result(&r);
        free_arrays(&a);
    }
    mra_device_close(device);
}

// ---- Against the CPU ------------------------------------------------------------------------

static double distance_of(const float *have, const float *want, size_t count)
{
    double *exact_values = to_double(want, count);
    double distance = reference_distance(have, exact_values, count);
    free(exact_values);
    return distance;
}

// So many blocks (133) that a warp of the coarse stage has a second tile: too many for the
// definition, but not for the CPU's fused path.
static void many_blocks_agree_with_the_cpu(void **state)
{
    if (getenv("MRA_SANITIZED")) return;
    const kernel_case c = {
        "mra2 133 blocks", {1, 1, 4250, 32}, with(0.05, false, 0, 0), 0, false, RANDOM_MASK, 1};
    mra_device *device = open_device(state);
    arrays a = case_arrays(&c, kernel_seed() + 700);
    kernel_result r = run_case(kernels, device, &c, &a, false);
    run(&a, &c.options);
    double distance[] = {distance_of(r.z, a.z, a.size), distance_of(r.dq, a.dq, a.size),
                         distance_of(r.dk, a.dk, a.size), distance_of(r.dv, a.dv, a.size)};
    report(device, c.name, distance, true);
    for (int i = 0; i < 4; i++) assert_true(distance[i] <= 2 * tolerance(&c, i));
    free_result(&r);
    free_arrays(&a);
    mra_device_close(device);
}

// ---- J --------------------------------------------------------------------------------------

// J of one head as the CPU's fused path chooses it.
static bool *cpu_choice(const kernel_case *c, const arrays *a, size_t head,
                        const int32_t *order)
{
    mra_fused_plan plan;
    mra_fused_record record;
    mra_fused_head work;
    mra_error err = {0};
    mra_shape shape = {1, 1, c->shape.n, c->shape.d};
    const int32_t *tiles = c->options.grid_height ? order : NULL;
    check_ok(c, mra_fused_plan_make(&plan, shape, &c->options, tiles, &err), &err);
    void *memory[2] = {aligned_alloc(64, mra_fused_record_place(&record, &plan, NULL)),
                       aligned_alloc(64, mra_fused_head_place(&work, &plan, 1, NULL))};
    mra_fused_record_place(&record, &plan, memory[0]);
    mra_fused_head_place(&work, &plan, 1, memory[1]);
    size_t n = (size_t)c->shape.n, first = head * n * (size_t)c->shape.d;
    const uint8_t *mask = a->mask ? a->mask + head / (size_t)c->shape.heads * n : NULL;
    float *z = reference_alloc(n * (size_t)c->shape.d, sizeof *z);
    assert_true(
        mra_fused_forward(&work, &record, a->q + first, a->k + first, a->v + first, mask, z));
    size_t blocks = (size_t)plan.blocks;
    bool *chosen = reference_alloc(blocks * blocks, sizeof *chosen);
    for (size_t x = 0; x < blocks; x++)
        for (int32_t e = record.row_start[x]; e < record.row_start[x + 1]; e++)
            chosen[x * blocks + (size_t)record.column[e]] = true;
    for (int i = 0; i < 2; i++) free(memory[i]);
    free(z);
    return chosen;
}

static void the_choice_of_boxes_is_the_cpus(void **state)
{
    const kernel_case cases[] = {
        {"J", {2, 2, 333, 64}, with(2.3, false, 0, 0), 0, false, RANDOM_MASK, 1},
        {"J bf16 arrays", {1, 2, 333, 64}, with(2.3, true, 0, 0), 2, true, RANDOM_MASK, 1},
        {"J TF32, d 128", {1, 1, 333, 128}, with(2.3, false, 1, 0), 1, false, BLOCK_MASK, 1},
        {"J plain, priors",
         {1, 2, 333, 32},
         plain(with(4, false, 1, 3)),
         0,
         false,
         TAIL_MASK,
         1},
        {"J ties", {2, 2, 333, 32}, with(2.3, false, 0, 0), 0, false, NO_MASK, 0},
        {"J ties, plain, priors",
         {2, 1, 320, 32},
         plain(with(3.3, true, 2, 1)),
         0,
         false,
         NO_MASK,
         0},
        {"J budget of the empty",
         {2, 1, 333, 32},
         with(9.5, false, 0, 0),
         0,
         false,
         BLOCK_MASK,
         1},
        {"J grid",
         {1, 2, 384, 32},
         on_grid(with(2.3, false, 0, 1), 16, 24),
         0,
         false,
         RANDOM_MASK,
         1},
    };
    mra_device *device = open_device(state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += stride_of_cases()) {
        const kernel_case *c = &cases[i];
        arrays a = case_arrays(c, kernel_seed() + 400 + i);
        kernel_result r = run_case(kernels, device, c, &a, false);
        int32_t *order = reference_alloc((size_t)c->shape.n, sizeof *order);
        mra_error err;
        check_ok(c, mra_grid_order(&c->options, c->shape.n, order, &err), &err);
        size_t boxes = (size_t)case_blocks(c) * case_blocks(c);
        for (size_t head = 0; head < (size_t)c->shape.batch * c->shape.heads; head++) {
            bool *want = cpu_choice(c, &a, head, order);
            for (size_t b = 0; b < boxes; b++)
                if (want[b] != r.chosen[head * boxes + b])
                    fail_msg("%s: head %zu: box (%zu, %zu) is %srefined on the cpu", c->name,
                             head, b / (size_t)case_blocks(c), b % (size_t)case_blocks(c),
                             want[b] ? "" : "not ");
            free(want);
        }
        free(order);
        free_result(&r);
        free_arrays(&a);
    }
    mra_device_close(device);
}

// Statistics are the CPU's.
static void statistics_are_the_cpus(void **state)
{
    kernel_case c = {"counts", {2, 2, 170, 32}, with(0.4, true, 0, 0), 0, false, TAIL_MASK, 1};
    mra_device *device = open_device(state);
    for (int sparse = 0; sparse < 2; sparse++) {
        c.options.sparse = sparse;
        arrays a = case_arrays(&c, kernel_seed() + 500);
        kernel_result r = run_case(kernels, device, &c, &a, false);
        mra_statistics want = run(&a, &c.options);
        assert_int_equal(r.statistics.boxes[0], want.boxes[0]);
        assert_int_equal(r.statistics.boxes[1], want.boxes[1]);
        assert_int_equal(r.statistics.empty_rows, want.empty_rows);
        assert_true(!sparse || want.empty_rows > 0);
        free_result(&r);
        free_arrays(&a);
    }
    mra_device_close(device);
}

// ---- Schedules ------------------------------------------------------------------------------

static void schedules_do_not_show(void **state)
{
    const kernel_case cases[] = {
        {"mra2 long lines", {1, 1, 600, 32}, with(2, false, 1, 0), 0, false, NO_MASK, 1},
        {"mra2 bf16", {2, 1, 150, 64}, with(1.7, false, 0, 0), 2, true, RANDOM_MASK, 1},
        {"mra2s TF32", {1, 1, 150, 32}, with(1.7, true, 0, 0), 1, false, RANDOM_MASK, 1},
        {"exact bf16", {1, 1, 97, 64}, exact, 2, false, NO_MASK, 1},
    };
    mra_device *device = open_device(state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += stride_of_cases()) {
        const kernel_case *c = &cases[i];
        arrays a = case_arrays(c, kernel_seed() + 600 + i);
        kernel_result first = {0};
        for (uint64_t schedule = 0; schedule < 3; schedule++) {
            if (device->kernels->attention == &mra_simt_attention)
                mra_simt_schedule(device, kernel_seed() + 7 * schedule);
            kernel_result r = run_case(kernels, device, c, &a, false);
            if (schedule == 0) {
                first = r;
                continue;
            }
            const float *have[] = {r.z, r.dq, r.dk, r.dv};
            const float *want[] = {first.z, first.dq, first.dk, first.dv};
            for (int k = 0; k < 4; k++)
                if (memcmp(have[k], want[k], a.size * sizeof(float)) != 0)
                    fail_msg("%s: another schedule, another result", c->name);
            free_result(&r);
        }
        free_result(&first);
        free_arrays(&a);
    }
    mra_device_close(device);
}

// ---- Bad input ------------------------------------------------------------------------------

static void refuse(mra_device *device, mra_kernel_request request, const char *words)
{
    mra_kernel_attention *attention;
    mra_error err = {0};
    assert_int_equal(kernels->create(&attention, device, &request, &err), MRA_BAD_INPUT);
    assert_null(attention);
    if (!strstr(err.message, words)) fail_msg("'%s' says nothing of '%s'", err.message, words);
}

static void bad_input_is_refused(void **state)
{
    mra_device *device = open_device(state);
    mra_kernel_request good = {.shape = {1, 1, 64, 32}, .options = with(1, false, 0, 0)};
    mra_kernel_request bad = good;
    bad.shape.d = 48;
    refuse(device, bad, "d: 48");
    bad = good;
    bad.shape.n = 0;
    refuse(device, bad, "n: 0");
    bad = good;
    bad.shape.heads = 30000;
    refuse(device, bad, "heads");
    bad = good;
    bad.options.scale[0] = 16;
    refuse(device, bad, "scales");
    bad = good;
    bad.bf16_arrays = true;
    refuse(device, bad, "precision");
    bad = good;
    bad.options.grid_height = 7;
    bad.options.grid_width = 9;
    refuse(device, bad, "grid");
    bad = good;
    bad.parts = 2;
    refuse(device, bad, "parts");

    // More memory than any device has: the message says how much was asked for. (The sanitizers end
    // a program that asks for so much.)
    mra_kernel_attention *none;
    mra_error too_large = {0};
    bad = good;
    bad.shape.heads = 60;
    bad.shape.n = 46340 * 32;
    if (!getenv("MRA_SANITIZED")) {
        assert_int_equal(kernels->create(&none, device, &bad, &too_large), MRA_NO_MEMORY);
        assert_null(none);
        assert_non_null(strstr(too_large.message, "workspace of"));
        assert_non_null(strstr(too_large.message, "60 heads of 1482880 tokens"));
    }

    kernel_case c = {"NaN", {2, 2, 70, 32}, with(1, false, 0, 0), 0, false, NO_MASK, 1};
    arrays a = case_arrays(&c, kernel_seed());
    a.k[(size_t)(3 * 70 + 40) * 32 + 5] = NAN;
    mra_kernel_attention *attention;
    mra_error err = {0};
    mra_kernel_request request = {.shape = c.shape, .options = c.options};
    check_ok(&c, kernels->create(&attention, device, &request, &err), &err);
    float *array[4];
    const float *from[] = {a.q, a.k, a.v, a.z};
    for (int i = 0; i < 4; i++) array[i] = upload_array(device, &c, from[i], a.size);
    assert_int_equal(kernels->backward(attention, array[0], array[1], array[2], NULL, array[3],
                                       array[3], array[0], array[1], array[2], true, &err),
                     MRA_BAD_INPUT);
    check_ok(&c,
             kernels->forward(attention, array[0], array[1], array[2], NULL, array[3], &err),
             &err);
    assert_int_equal(kernels->check(attention, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "head 3"));
    check_ok(&c, kernels->check(attention, &err), &err);
    for (int i = 0; i < 4; i++) device->release(device, array[i]);
    kernels->release(attention);
    free_arrays(&a);
    mra_device_close(device);
}

// Every test on the host runner and, where it is there, on the GPU.
int main(void)
{
    static char where[2][5] = {"simt", "cuda"};
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } all[] = {
        {"kernels_follow_the_definition", kernels_follow_the_definition},
        {"long_lines_and_many_blocks", long_lines_and_many_blocks},
        {"many_blocks_agree_with_the_cpu", many_blocks_agree_with_the_cpu},
        {"tensor_cores_round_as_they_should", tensor_cores_round_as_they_should},
        {"extreme_logits", extreme_logits},
        {"the_choice_of_boxes_is_the_cpus", the_choice_of_boxes_is_the_cpus},
        {"statistics_are_the_cpus", statistics_are_the_cpus},
        {"schedules_do_not_show", schedules_do_not_show},
        {"bad_input_is_refused", bad_input_is_refused},
    };
    enum { TESTS = sizeof all / sizeof all[0] };
    static char name[2 * TESTS][60];
    struct CMUnitTest tests[2 * TESTS] = {0}; // those without a name are left out
    for (size_t i = 0; i < 2 * TESTS; i++) {
        char *device = where[i / TESTS];
        if (!kernels_are_there(device)) continue;
        snprintf(name[i], sizeof name[i], "%s, %s", all[i % TESTS].name, device);
        tests[i] = (struct CMUnitTest){name[i], all[i % TESTS].run, NULL, NULL, device};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
