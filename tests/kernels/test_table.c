// Operations of the table that no tensor operation calls, or calls at sizes of one block alone, on
// every device that is there: the optimiser, sums of squares, dropout's numbers, scattered sums with
// repeated rows, products of many blocks, and values that must not spread.

#include "../tensor/check.h"

enum { ARRAYS = 8 };

// Arrays on a device, given back together.
typedef struct table_run {
    mra_device *device;
    const mra_kernels *kernels;
    const char *label;
    void *array[ARRAYS];
    int count;
} table_run;

static mra_error err;

static void expect_ok(mra_status status)
{
    if (status != MRA_OK) fail_msg("%s", err.message);
}

static void *upload(table_run *run, const void *from, size_t bytes)
{
    void *to = run->device->allocate(run->device, bytes);
    assert_non_null(to);
    assert_true(run->count < ARRAYS);
    run->array[run->count++] = to;
    expect_ok(run->device->to_device(run->device, to, from, bytes, &err));
    return to;
}

static float *upload_floats(table_run *run, const float *from, size_t count)
{
    return upload(run, from, count * sizeof *from);
}

// The difference of what the device holds from `want`, relative, which must be at most `allowed`.
static double differs(const table_run *run, const char *what, const float *on_device,
                      const double *want, size_t count, double allowed)
{
    float *have = malloc(count * sizeof *have);
    assert_non_null(have);
    expect_ok(run->device->to_host(run->device, have, on_device, count * sizeof *have, &err));
    const double difference = check_difference(run->label, what, have, want, count, allowed);
    free(have);
    return difference;
}

static double *doubles(const float *from, size_t count)
{
    double *to = malloc(count * sizeof *to);
    assert_non_null(to);
    for (size_t i = 0; i < count; i++) to[i] = from[i];
    return to;
}

static void on_every_device(void (*body)(table_run *run))
{
    for (device_turn turn = {0}; device_next(&turn);) {
        table_run run = {
            .device = turn.device, .kernels = turn.device->kernels, .label = turn.label};
        body(&run);
        for (int i = 0; i < run.count; i++) run.device->release(run.device, run.array[i]);
    }
}

// ---- The optimiser --------------------------------------------------------------------------

enum { WEIGHTS = 2500 }; // three blocks, the last one ragged

static void adamw(table_run *run)
{
    float *start = check_normal(WEIGHTS, 1), *slope = check_normal(WEIGHTS, 2);
    float *zeros = mra_aligned_calloc(WEIGHTS, sizeof *zeros);
    double *w = doubles(start, WEIGHTS), *m = doubles(zeros, WEIGHTS),
           *v = doubles(zeros, WEIGHTS);
    float *on[] = {upload_floats(run, start, WEIGHTS), upload_floats(run, slope, WEIGHTS),
                   upload_floats(run, zeros, WEIGHTS), upload_floats(run, zeros, WEIGHTS)};
    for (uint64_t step = 1; step <= 3; step++) {
        const mra_adamw settings = {.rate = 0.01 * (double)step,
                                    .beta1 = 0.9,
                                    .beta2 = 0.999,
                                    .epsilon = 1e-6,
                                    .weight_decay = 0.02,
                                    .gradient_scale = 0.5,
                                    .step = step};
        for (size_t i = 0; i < WEIGHTS; i++) {
            const double gradient = 0.5 * slope[i];
            m[i] = 0.9 * m[i] + 0.1 * gradient;
            v[i] = 0.999 * v[i] + 0.001 * gradient * gradient;
            const double first = m[i] / (1 - pow(0.9, (double)step));
            const double second = v[i] / (1 - pow(0.999, (double)step));
            w[i] -= settings.rate * (first / (sqrt(second) + 1e-6) + 0.02 * w[i]);
        }
        expect_ok(run->kernels->adamw(run->device, &settings, WEIGHTS, on[0], on[1], on[2],
                                      on[3], &err));
    }
    double worst = differs(run, "weights", on[0], w, WEIGHTS, 1e-6);
    worst = fmax(worst, differs(run, "first moments", on[2], m, WEIGHTS, 1e-6));
    worst = fmax(worst, differs(run, "second moments", on[3], v, WEIGHTS, 1e-6));
    device_log("adamw", run->label, worst, 0);
    mra_aligned_free(start);
    mra_aligned_free(slope);
    mra_aligned_free(zeros);
    free(w);
    free(m);
    free(v);
}

static void test_adamw(void **state)
{
    (void)state;
    on_every_device(adamw);
}

static void sum_of_squares(table_run *run)
{
    const size_t count = 70001; // more than one part of any device's
    float *x = check_normal(count, 3), *on = upload_floats(run, x, count);
    double sum, want = 0;
    for (size_t i = 0; i < count; i++) want += (double)x[i] * x[i];
    expect_ok(run->kernels->sum_of_squares(run->device, count, on, &sum, &err));
    if (!(fabs(sum - want) <= 1e-12 * want))
        fail_msg("%s: %.15g, expected %.15g", run->label, sum, want);
    device_log("sum_of_squares", run->label, fabs(sum - want) / want, 0);
    expect_ok(run->kernels->sum_of_squares(run->device, 0, on, &sum, &err));
    assert_true(sum == 0);
    mra_aligned_free(x);
}

static void test_sum_of_squares(void **state)
{
    (void)state;
    on_every_device(sum_of_squares);
}

// ---- Numbers that are the same everywhere -----------------------------------------------------

// Which entries dropout keeps is a function of seed, stream and place (core/random.h).
static void dropout(table_run *run)
{
    enum { COUNT = 2049 };
    const uint64_t seed = check_seed() ^ UINT64_C(0x9876543210abcdef),
                   stream = mra_stream("test", 1, 2);
    const float p = 0.3f;
    float *x = check_normal(COUNT, 4), *on = upload_floats(run, x, COUNT);
    float *to = upload_floats(run, x, COUNT), y[COUNT];
    expect_ok(run->kernels->dropout(run->device, COUNT, p, seed, stream, on, to, false, &err));
    expect_ok(run->device->to_host(run->device, y, to, sizeof y, &err));
    double worst = 0;
    for (size_t i = 0; i < COUNT; i++) {
        const bool keep = mra_uniform_at(seed, stream, i) >= p;
        if ((y[i] != 0) != (keep && x[i] != 0))
            fail_msg("%s: entry %zu is %g", run->label, i, (double)y[i]);
        if (keep) worst = fmax(worst, fabs(y[i] * (1.0 - p) / x[i] - 1));
    }
    assert_true(worst < 1e-6);
    device_log("dropout, kept entries", run->label, worst, 0);
    mra_aligned_free(x);
}

static void test_dropout(void **state)
{
    (void)state;
    on_every_device(dropout);
}

// ---- Sums into rows that repeat ---------------------------------------------------------------

static void scatter_add(table_run *run)
{
    enum { COUNT = 900, ROWS = 70, WIDTH = 33 };
    int32_t ids[COUNT];
    float *dy = check_normal((size_t)COUNT * WIDTH, 5),
          *table = check_normal((size_t)ROWS * WIDTH, 6);
    double *want = doubles(table, (size_t)ROWS * WIDTH);
    mra_random random = mra_random_open(check_seed(), 9);
    for (int i = 0; i < COUNT; i++) {
        ids[i] = i % 3 ? (int32_t)mra_random_below(&random, ROWS) : ROWS - 1;
        for (int j = 0; j < WIDTH; j++) want[ids[i] * WIDTH + j] += dy[i * WIDTH + j];
    }
    const int32_t *at = upload(run, ids, sizeof ids);
    const float *from = upload_floats(run, dy, (size_t)COUNT * WIDTH);
    float *to = upload_floats(run, table, (size_t)ROWS * WIDTH);
    expect_ok(run->kernels->scatter_add(run->device, COUNT, ROWS, WIDTH, at, from, to, &err));
    device_log("scatter_add", run->label,
               differs(run, "table", to, want, (size_t)ROWS * WIDTH, 1e-6), 0);
    mra_aligned_free(dy);
    mra_aligned_free(table);
    free(want);
}

static void test_scatter_add(void **state)
{
    (void)state;
    on_every_device(scatter_add);
}

// ---- Products -------------------------------------------------------------------------------

// y = x w^T + b in float32, with more rows and columns than a tile of any device's.
static void linear(table_run *run)
{
    enum { ROWS = 300, IN = 70, OUT = 133 };
    float *x = check_normal((size_t)ROWS * IN, 7), *w = check_normal((size_t)OUT * IN, 8);
    float *b = check_normal(OUT, 9),
          *zeros = mra_aligned_calloc((size_t)ROWS * OUT, sizeof *zeros);
    double *want = doubles(zeros, (size_t)ROWS * OUT);
    for (int i = 0; i < ROWS; i++)
        for (int o = 0; o < OUT; o++) {
            double sum = b[o];
            for (int j = 0; j < IN; j++) sum += (double)x[i * IN + j] * w[o * IN + j];
            want[i * OUT + o] = sum;
        }
    const float *on[] = {upload_floats(run, x, (size_t)ROWS * IN),
                         upload_floats(run, w, (size_t)OUT * IN), upload_floats(run, b, OUT)};
    float *to = upload_floats(run, zeros, (size_t)ROWS * OUT);
    const double allowed[] = {1e-6, ldexp(1, -10), ldexp(1, -7)};
    static const char *const name[] = {"linear", "linear, TF32", "linear, bf16"};
    for (int p = 0; p < (run->device->host_memory ? 1 : 3); p++) {
        run->device->precision = (mra_precision)p;
        expect_ok(
            run->kernels->linear(run->device, ROWS, IN, OUT, on[0], on[1], on[2], to, &err));
        device_log(name[p], run->label,
                   differs(run, name[p], to, want, (size_t)ROWS * OUT, allowed[p]), 0);
    }
    run->device->precision = MRA_FLOAT32;
    float *const floats[] = {x, w, b, zeros};
    for (int i = 0; i < 4; i++) mra_aligned_free(floats[i]);
    free(want);
}

static void test_linear(void **state)
{
    (void)state;
    on_every_device(linear);
}

// ---- What must not spread ---------------------------------------------------------------------

// A row that is masked is 0 even if it holds no number; relu keeps a NaN.
static void not_a_number(table_run *run)
{
    const float x[6] = {NAN, INFINITY, 1, 2, -3, 0};
    const uint8_t keep[2] = {0, 1};
    float y[6], zeros[6] = {0};
    const float *from = upload_floats(run, x, 6);
    const uint8_t *mask = upload(run, keep, sizeof keep);
    float *to = upload_floats(run, zeros, 6), *mean = upload_floats(run, zeros, 2);
    expect_ok(run->kernels->mask_rows(run->device, 2, 2, mask, from, to, false, &err));
    expect_ok(run->device->to_host(run->device, y, to, 4 * sizeof *y, &err));
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == 1 && y[3] == 2);
    expect_ok(run->kernels->mean_pool(run->device, 1, 2, 2, mask, from, mean, &err));
    expect_ok(run->device->to_host(run->device, y, mean, 2 * sizeof *y, &err));
    assert_true(y[0] == 1 && y[1] == 2);
    expect_ok(run->kernels->relu(run->device, 6, from, to, &err));
    expect_ok(run->device->to_host(run->device, y, to, sizeof y, &err));
    assert_true(isnan(y[0]) && y[1] == INFINITY && y[4] == 0 && y[5] == 0);
}

static void test_not_a_number(void **state)
{
    (void)state;
    on_every_device(not_a_number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),   cmocka_unit_test(test_sum_of_squares),
        cmocka_unit_test(test_dropout), cmocka_unit_test(test_scatter_add),
        cmocka_unit_test(test_linear),  cmocka_unit_test(test_not_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
