// Sums over the pairs outside a band and inside one, and two parts of an attention row under one normaliser,
// against their definitions.

#include "check.h"

typedef struct outside_case {
    int matrices, n, width, values, window;
    bool inside; // from -window to window - fewer
    int fewer;
} outside_case;

static mra_tensor *apply(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const outside_case *c = context;
    if (c->inside)
        return mra_inside_band(tape, x[0], x[1], x[2], c->window, c->window - c->fewer);
    return mra_outside_band(tape, x[0], x[1], x[2], c->window);
}

static void reference(double *const *x, double *y, const void *context)
{
    const outside_case *c = context;
    const int n = c->n, p = c->width, r = c->values;
    memset(y, 0, sizeof *y * (size_t)(c->matrices * n * r));
    for (int m = 0; m < c->matrices; m++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                const bool within = i - j <= c->window && j - i <= c->window - c->fewer;
                if (within != c->inside) continue;
                double weight = 0;
                for (int k = 0; k < p; k++)
                    weight += x[0][(m * n + i) * p + k] * x[1][(m * n + j) * p + k];
                for (int k = 0; k < r; k++)
                    y[(m * n + i) * r + k] += weight * x[2][(m * n + j) * r + k];
            }
}

// Several blocks of 64 with whole ones in between, ragged ends, one block, one token, a band that
// covers all, and one of the diagonal alone; and bands with fewer keys on the right.
static void test_outside_band(void **state)
{
    (void)state;
    static const outside_case cases[] = {
        {2, 1, 3, 2, 0, false, 0},   {2, 17, 3, 4, 2, false, 0},
        {1, 64, 2, 1, 0, false, 0},  {1, 65, 1, 2, 63, false, 0},
        {1, 150, 2, 1, 5, false, 0}, {1, 200, 1, 1, 65, false, 0},
        {2, 9, 2, 3, 8, false, 0},   {1, 193, 1, 1, 62, false, 0},
        {2, 1, 3, 2, 1, true, 1},    {2, 17, 3, 4, 2, true, 1},
        {1, 65, 2, 1, 0, true, 0},   {1, 65, 1, 2, 63, true, 60},
        {1, 150, 2, 1, 70, true, 1}, {1, 70, 1, 1, 200, true, 1},
        {1, 193, 1, 1, 64, true, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const outside_case *c = &cases[i];
        const check_shape wide = {3, {c->matrices, c->n, c->width}};
        const check_shape values = {3, {c->matrices, c->n, c->values}};
        check_operation(&(check_case){.name = c->inside ? "inside_band" : "outside_band",
                                      .inputs = 3,
                                      .shape = {wide, wide, values},
                                      .apply = apply,
                                      .reference = reference,
                                      .context = c,
                                      .tolerance = 5e-6},
                        (size_t)(c->matrices * c->n * c->values));
    }
}

// At widths as they are used, forward, and for any number of threads.
static void test_wide(void **state)
{
    (void)state;
    const outside_case c = {2, 331, 70, 33, 32, false, 0};
    const size_t size = 2 * 331 * 70, outputs = 2 * 331 * 33;
    float *x[3], *y[2];
    double *exact[3], *want = malloc(outputs * sizeof *want);
    for (int i = 0; i < 3; i++) {
        x[i] = check_normal(i < 2 ? size : outputs, 20 + (uint64_t)i);
        exact[i] = malloc(size * sizeof *exact[i]);
        for (size_t e = 0; e < (i < 2 ? size : outputs); e++) exact[i][e] = x[i][e];
    }
    reference(exact, want, &c);
    for (int threads = 1; threads <= 2; threads++) {
        mra_device *device = check_open(threads);
        mra_error err;
        const mra_band_form form = {2, c.n, c.window, c.window, c.width, c.values, false};
        y[threads - 1] = check_normal(outputs, 9);
        assert_int_equal(device->kernels->band_sum(device, &form, x[0], x[1], x[2],
                                                   y[threads - 1], false, &err),
                         MRA_OK);
        check_difference("outside_band", "result", y[threads - 1], want, outputs, 2e-6);
        mra_device_close(device);
    }
    assert_memory_equal(y[0], y[1], outputs * sizeof(float));
    for (int i = 0; i < 3; i++) {
        mra_aligned_free(x[i]);
        free(exact[i]);
        if (i < 2) mra_aligned_free(y[i]);
    }
    free(want);
}

// ---- join -----------------------------------------------------------------------------------

enum { ROWS = 7, D = 4 };

typedef struct join_case {
    float scale[ROWS], shift; // log factors; shift: added to every lse and factor
    float least;
} join_case;

// The test's inputs are normal numbers; the sum of the weights has to be positive.
static mra_tensor *apply_join(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const join_case *c = context;
    float factor[ROWS], offset[ROWS];
    for (int i = 0; i < ROWS; i++) {
        factor[i] = c->scale[i] + c->shift;
        offset[i] = c->shift;
    }
    mra_tensor *shift = check_constant(tape, 1, (int[]){ROWS}, offset);
    mra_tensor *scale = check_constant(tape, 1, (int[]){ROWS}, factor);
    mra_tensor *weight = mra_multiply(tape, x[3], x[3]); // [ROWS, 1]
    mra_tensor *sums = mra_concat(tape, (mra_tensor *const[]){x[2], weight}, 2);
    return mra_join(tape, x[0], mra_add(tape, x[1], shift), sums, scale, c->least);
}

static void reference_join(double *const *x, double *z, const void *context)
{
    const join_case *c = context;
    for (int i = 0; i < ROWS; i++) {
        const double local = exp(x[1][i]), factor = exp((double)c->scale[i]);
        const double whole = local + factor * fmax(x[3][i] * x[3][i], c->least);
        for (int k = 0; k < D; k++)
            z[i * D + k] = (local * x[0][i * D + k] + factor * x[2][i * D + k]) / whole;
    }
}

static void test_join(void **state)
{
    (void)state;
    for (int turn = 0; turn < 3; turn++) {
        const bool large = turn == 1;
        join_case c = {.shift = large ? 8192 : 0}; // e^8192 has no float and no double
        if (turn == 2) c.least = 0.5f;             // above some sums and below others
        for (int i = 0; i < ROWS; i++) c.scale[i] = (float)(i - 3);
        check_operation(
            &(check_case){
                .name = "join",
                .inputs = 4,
                .shape = {{2, {ROWS, D}}, {1, {ROWS}}, {2, {ROWS, D}}, {2, {ROWS, 1}}},
                .apply = apply_join,
                .reference = reference_join,
                .context = &c,
                .tolerance = large ? 2e-3 : 5e-6},
            ROWS * D);
    }
}

// Rows of which one part or both are empty.
static void test_join_of_nothing(void **state)
{
    (void)state;
    mra_device *device = check_open(1);
    mra_error err;
    const float local[3] = {2, 2, 2}, lse[3] = {-INFINITY, 1, -INFINITY};
    const float sums[6] = {6, 3, 0, 0, 0, 0}, scale[3] = {5, 5, -INFINITY}, dz[3] = {1, 1, 1};
    float z[3], dlocal[3] = {0}, dlse[3] = {0}, dsums[6] = {0};
    const mra_join_operands operands = {.local = local,
                                        .lse = lse,
                                        .sums = sums,
                                        .scale = scale,
                                        .z = z,
                                        .dz = dz,
                                        .dlocal = dlocal,
                                        .dlse = dlse,
                                        .dsums = dsums};
    assert_int_equal(device->kernels->join(device, 3, 1, &operands, &err), MRA_OK);
    assert_int_equal(device->kernels->join_backward(device, 3, 1, &operands, &err), MRA_OK);
    for (int i = 0; i < 3; i++) {
        check_close(z[i], i == 2 ? 0 : 2, 1e-6);
        check_close(dlocal[i], i == 1, 1e-6);
        check_close(dlse[i], 0, 1e-6);
        check_close(dsums[2 * i], i == 0 ? 1 / 3.0 : 0, 1e-6);
    }
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_outside_band),
                                       cmocka_unit_test(test_wide), cmocka_unit_test(test_join),
                                       cmocka_unit_test(test_join_of_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
