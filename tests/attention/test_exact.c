// Exact attention against its definition in float64, forward and backward.

#include "dense.h"

#include "attention/exact.h"
#include "tensor/gemm.h"

static void run(dense_arrays *arrays, int threads, bool backward)
{
    mra_exact *exact;
    mra_error err;
    float **x = arrays->x;
    assert_int_equal(mra_exact_create(&exact, arrays->shape, 0, threads, &err), MRA_OK);
    assert_int_equal(mra_exact_forward(exact, x[0], x[1], x[2], arrays->mask, x[DENSE_Z], &err),
                     MRA_OK);
    if (backward)
        assert_int_equal(mra_exact_backward(exact, x[0], x[1], x[2], arrays->mask, x[DENSE_Z],
                                            x[DENSE_DZ], x[DENSE_DQ], x[DENSE_DK], x[DENSE_DV],
                                            &err),
                         MRA_OK);
    mra_exact_free(exact);
}

// Runs and compares every head with the definition.
static void compare(mra_shape shape, float deviation, bool masked, bool backward,
                    double tolerance)
{
    dense_arrays arrays = dense_make(shape, deviation, masked);
    run(&arrays, 2, backward);
    const size_t size = (size_t)shape.n * (size_t)shape.d;
    double *z = malloc(size * sizeof *z);
    for (int head = 0; head < shape.batch * shape.heads; head++) {
        const size_t at = (size_t)head * size;
        const uint8_t *mask = arrays.mask ? arrays.mask + head / shape.heads * shape.n : NULL;
        double *x[4], *gradient[3];
        for (int i = 0; i < 4; i++) x[i] = dense_copy(arrays.x[i] + at, size);
        for (int i = 0; i < 3; i++) gradient[i] = calloc(size, sizeof(double));
        dense_head(shape.n, shape.d, x, mask, z, backward ? x[DENSE_DZ] : NULL, gradient, NULL);
        assert_close(arrays.x[DENSE_Z] + at, z, size, tolerance);
        for (int i = 0; i < 3 && backward; i++)
            assert_close(arrays.x[DENSE_DQ + i] + at, gradient[i], size, tolerance);
        for (int i = 0; i < 4; i++) free(x[i]);
        for (int i = 0; i < 3; i++) free(gradient[i]);
    }
    free(z);
    dense_release(&arrays);
}

static void test_forward_any_length(void **state)
{
    (void)state;
    const int n[] = {1, 2, 31, 33, 64, 129, 257, 1000};
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++) {
        compare((mra_shape){1, 2, n[i], 32}, 1.0f, false, false, 2e-6);
        compare((mra_shape){2, 1, n[i], 32}, 1.0f, true, false, 2e-6);
    }
}

static void test_any_width(void **state)
{
    (void)state;
    const int d[] = {1, 3, 32, 64, 96, 256};
    for (size_t i = 0; i < sizeof d / sizeof d[0]; i++) {
        compare((mra_shape){1, 1, 161, d[i]}, 1.0f, false, true, 1e-5);
        compare((mra_shape){1, 1, 70, d[i]}, 1.0f, true, true, 1e-5);
    }
}

// One head: chunks of keys with partial sums. Nine heads: none.
static void test_backward_any_length(void **state)
{
    (void)state;
    const int n[] = {1, 31, 33, 257, 400};
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++)
        for (int masked = 0; masked < 2; masked++) {
            compare((mra_shape){1, 1, n[i], 32}, 1.0f, masked, true, 1e-5);
            compare((mra_shape){3, 1, n[i], 8}, 1.0f, masked, true, 1e-5);
        }
    compare((mra_shape){3, 3, 140, 16}, 1.0f, true, true, 1e-5);
}

// The definition's own gradients, by central differences of the definition: sum of dz * z along
// a random direction.
static double objective(int n, int d, double *const x[3], const uint8_t *mask, const double *dz)
{
    double *z = malloc(sizeof *z * (size_t)(n * d)), sum = 0;
    dense_head(n, d, x, mask, z, NULL, NULL, NULL);
    for (int i = 0; i < n * d; i++) sum += z[i] * dz[i];
    free(z);
    return sum;
}

static void test_backward_central_differences(void **state)
{
    (void)state;
    const mra_shape shape = {1, 1, 75, 20};
    const size_t size = dense_size(shape);
    dense_arrays arrays = dense_make(shape, 1.5f, true);
    run(&arrays, 2, true);
    double *x[4];
    for (int i = 0; i < 4; i++) x[i] = dense_copy(arrays.x[i], size);
    for (int i = 0; i < 3; i++) {
        float *direction = dense_normal(size, 1.0f, 50 + (uint64_t)i);
        const double step = 1e-5;
        double along = 0, value[2];
        for (size_t j = 0; j < size; j++) along += arrays.x[DENSE_DQ + i][j] * direction[j];
        for (int side = 0; side < 2; side++) {
            for (size_t j = 0; j < size; j++)
                x[i][j] = arrays.x[i][j] + (side ? step : -step) * direction[j];
            value[side] = objective(shape.n, shape.d, x, arrays.mask, x[DENSE_DZ]);
        }
        for (size_t j = 0; j < size; j++) x[i][j] = arrays.x[i][j];
        const double expected = (value[1] - value[0]) / (2 * step);
        assert_true(fabs(along - expected) <= 1e-4 * (1 + fabs(expected)));
        mra_aligned_free(direction);
    }
    for (int i = 0; i < 4; i++) free(x[i]);
    dense_release(&arrays);
}

// Keys far apart: one of them takes all. Logits reach +-10^4, products in float32 are off by
// 10^-3 there, so keys are built from few bits, which makes logits exact.
static void test_extreme_logits(void **state)
{
    (void)state;
    const mra_shape shape = {1, 1, 200, 64};
    dense_arrays arrays = dense_make(shape, 1.0f, false);
    float largest = 0;
    for (int i = 0; i < shape.n; i++)
        for (int c = 0; c < shape.d; c++) {
            float *q = arrays.x[0] + i * shape.d + c, *k = arrays.x[1] + i * shape.d + c;
            *q = i % 2 ? 40.0f : -40.0f;
            *k = (c == 0 ? (float)(i % 13) : 31.0f) * (i % 3 ? 1.0f : -1.0f);
        }
    for (int i = 0; i < shape.n; i++) {
        float logit = 0;
        for (int c = 0; c < shape.d; c++)
            logit += arrays.x[0][c] * arrays.x[1][i * shape.d + c] / 8;
        largest = fmaxf(largest, fabsf(logit));
    }
    assert_true(largest > 9000);
    run(&arrays, 2, true);
    const size_t size = dense_size(shape);
    double *x[4], *gradient[3], *z = malloc(size * sizeof *z);
    for (int i = 0; i < 4; i++) x[i] = dense_copy(arrays.x[i], size);
    for (int i = 0; i < 3; i++) gradient[i] = calloc(size, sizeof(double));
    dense_head(shape.n, shape.d, x, NULL, z, x[DENSE_DZ], gradient, NULL);
    assert_close(arrays.x[DENSE_Z], z, size, 1e-5);
    assert_close(arrays.x[DENSE_DV], gradient[2], size, 1e-5);
    for (int a = DENSE_DQ; a <= DENSE_DK; a++) // keys cancel to almost nothing here
        for (size_t i = 0; i < size; i++)
            assert_true(fabs(arrays.x[a][i] - gradient[a - DENSE_DQ][i]) < 1e-2);
    for (int i = 0; i < 4; i++) free(x[i]);
    for (int i = 0; i < 3; i++) free(gradient[i]);
    free(z);
    dense_release(&arrays);
}

// Random logits with a deviation of some thousands: finite, and still a mean of values.
static void test_large_random_logits(void **state)
{
    (void)state;
    dense_arrays arrays = dense_make((mra_shape){1, 2, 300, 64}, 60.0f, true);
    run(&arrays, 2, true);
    for (int a = DENSE_Z; a < DENSE_ARRAYS; a++)
        for (size_t i = 0; i < dense_size(arrays.shape); i++)
            assert_true(isfinite(arrays.x[a][i]));
    for (size_t i = 0; i < dense_size(arrays.shape); i++)
        assert_true(fabsf(arrays.x[DENSE_Z][i]) < 7.0f);
    dense_release(&arrays);
}

// A masked sequence gives what the sequence without its masked tokens gives; masked rows are 0
// everywhere.
static void test_mask_is_deletion(void **state)
{
    (void)state;
    const mra_shape shape = {1, 2, 301, 40};
    const size_t d = (size_t)shape.d;
    dense_arrays arrays = dense_make(shape, 1.0f, true);
    run(&arrays, 2, true);
    mra_shape shorter = shape;
    shorter.n = 0;
    for (int i = 0; i < shape.n; i++) shorter.n += arrays.mask[i];
    dense_arrays deleted = dense_make(shorter, 0.0f, false);
    for (int pass = 0; pass < 2; pass++) { // 0: delete, 1: compare
        size_t to = 0;
        for (size_t from = 0; from < 2 * (size_t)shape.n; from++) {
            const bool kept = arrays.mask[from % (size_t)shape.n];
            for (int a = pass ? DENSE_Z : DENSE_Q; a < (pass ? DENSE_ARRAYS : DENSE_Z); a++)
                for (size_t c = 0; c < d; c++) {
                    const float whole = arrays.x[a][from * d + c];
                    if (kept && pass)
                        assert_true(fabsf(whole - deleted.x[a][to * d + c]) < 1e-5f);
                    else if (kept)
                        deleted.x[a][to * d + c] = whole;
                    else if (pass)
                        assert_true(whole == 0.0f);
                }
            to += kept;
        }
        if (!pass) run(&deleted, 2, true);
    }
    dense_release(&arrays);
    dense_release(&deleted);
}

static void test_all_masked(void **state)
{
    (void)state;
    dense_arrays arrays = dense_make((mra_shape){2, 1, 90, 16}, 1.0f, true);
    memset(arrays.mask, 0, 90); // the first sequence is padding only, the second has one token
    memset(arrays.mask + 90, 0, 90);
    arrays.mask[90 + 77] = 1;
    run(&arrays, 2, true);
    const size_t token = (90 + 77) * 16;
    for (int a = DENSE_Z; a < DENSE_ARRAYS; a++)
        for (size_t i = 0; i < dense_size(arrays.shape); i++)
            if (i < token || i >= token + 16) assert_true(arrays.x[a][i] == 0.0f);
    for (size_t i = token; i < token + 16; i++)
        assert_float_equal(arrays.x[DENSE_Z][i], arrays.x[DENSE_V][i], 1e-6);
    dense_release(&arrays);
}

static void test_permuting_keys_and_values(void **state)
{
    (void)state;
    const mra_shape shape = {1, 1, 333, 24};
    const size_t size = dense_size(shape), d = (size_t)shape.d;
    dense_arrays arrays = dense_make(shape, 1.0f, false);
    dense_arrays permuted = dense_make(shape, 1.0f, false);
    for (size_t i = 0; i < (size_t)shape.n; i++) { // 100 and 333 share no factor
        const size_t to = i * 100 % (size_t)shape.n;
        for (int a = DENSE_K; a <= DENSE_V; a++)
            memcpy(permuted.x[a] + to * d, arrays.x[a] + i * d, d * sizeof(float));
    }
    run(&arrays, 2, true);
    run(&permuted, 2, true);
    double *z = dense_copy(arrays.x[DENSE_Z], size), *dq = dense_copy(arrays.x[DENSE_DQ], size);
    assert_close(permuted.x[DENSE_Z], z, size, 2e-6);
    assert_close(permuted.x[DENSE_DQ], dq, size, 1e-5);
    for (size_t i = 0; i < size; i++) {
        const size_t to = i / d * 100 % (size_t)shape.n * d + i % d;
        assert_float_equal(permuted.x[DENSE_DV][to], arrays.x[DENSE_DV][i], 1e-5);
    }
    free(z);
    free(dq);
    dense_release(&arrays);
    dense_release(&permuted);
}

static void test_any_number_of_threads(void **state)
{
    (void)state;
    const mra_shape shapes[] = {{1, 1, 517, 16}, {1, 3, 260, 16}, {2, 5, 130, 16}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        dense_arrays one = dense_make(shapes[s], 1.0f, true);
        run(&one, 1, true);
        for (int threads = 2; threads <= 4; threads += 2) {
            dense_arrays many = dense_make(shapes[s], 1.0f, true);
            run(&many, threads, true);
            for (int a = DENSE_Z; a < DENSE_ARRAYS; a++)
                assert_memory_equal(one.x[a], many.x[a], dense_size(shapes[s]) * sizeof(float));
            dense_release(&many);
        }
        dense_release(&one);
    }
}

// Backward adds to what is there; the same state serves again and again.
static void test_gradients_are_added(void **state)
{
    (void)state;
    const mra_shape shape = {1, 2, 150, 16};
    const size_t size = dense_size(shape);
    dense_arrays once = dense_make(shape, 1.0f, false), twice = dense_make(shape, 1.0f, false);
    run(&once, 2, true);
    mra_exact *exact;
    float **x = twice.x;
    assert_int_equal(mra_exact_create(&exact, shape, 0, 2, NULL), MRA_OK);
    mra_exact_forward(exact, x[0], x[1], x[2], NULL, x[DENSE_Z], NULL);
    for (int i = 0; i < 2; i++)
        mra_exact_backward(exact, x[0], x[1], x[2], NULL, x[DENSE_Z], x[DENSE_DZ], x[DENSE_DQ],
                           x[DENSE_DK], x[DENSE_DV], NULL);
    for (int a = DENSE_DQ; a < DENSE_ARRAYS; a++) {
        double *expected = dense_copy(once.x[a], size);
        for (size_t i = 0; i < size; i++) expected[i] *= 2;
        assert_close(x[a], expected, size, 1e-5);
        free(expected);
    }
    mra_exact_free(exact);
    dense_release(&once);
    dense_release(&twice);
}

static void test_row_lse_and_scale(void **state)
{
    (void)state;
    const mra_shape shape = {1, 1, 100, 16};
    dense_arrays arrays = dense_make(shape, 1.0f, true);
    mra_exact *exact;
    float **x = arrays.x;
    const size_t size = dense_size(shape);
    assert_int_equal(mra_exact_create(&exact, shape, 0.5, 2, NULL), MRA_OK);
    mra_exact_forward(exact, x[0], x[1], x[2], arrays.mask, x[DENSE_Z], NULL);
    double *wide[3], *z = malloc(size * sizeof *z), lse[100];
    for (int i = 0; i < 3; i++) wide[i] = dense_copy(x[i], size);
    for (size_t i = 0; i < size; i++) wide[0][i] *= 0.5 * sqrt(16); // the definition divides
    dense_head(shape.n, shape.d, wide, arrays.mask, z, NULL, NULL, lse);
    assert_close(x[DENSE_Z], z, size, 2e-6);
    for (int i = 0; i < shape.n; i++) {
        if (arrays.mask[i])
            assert_float_equal(mra_exact_row_lse(exact)[i], lse[i], 1e-5);
        else
            assert_true(mra_exact_row_lse(exact)[i] == -INFINITY);
    }
    for (int i = 0; i < 3; i++) free(wide[i]);
    free(z);
    mra_exact_free(exact);
    dense_release(&arrays);
}

static void test_bad_input(void **state)
{
    (void)state;
    const mra_shape bad[] = {
        {0, 1, 4, 4}, {1, 0, 4, 4}, {1, 1, 0, 4}, {1, 1, 4, 0}, {1, 1, 4, 257}};
    mra_exact *exact;
    mra_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mra_exact_create(&exact, bad[i], 0, 1, &err), MRA_BAD_INPUT);
        assert_null(exact);
        assert_true(strlen(err.message) > 0);
    }
    assert_int_equal(mra_exact_create(&exact, (mra_shape){1, 1, 4, 4}, NAN, 1, &err),
                     MRA_BAD_INPUT);
    mra_exact_free(NULL);
}

int main(void)
{
    mra_blas_single_thread();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_any_length),
        cmocka_unit_test(test_any_width),
        cmocka_unit_test(test_backward_any_length),
        cmocka_unit_test(test_backward_central_differences),
        cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_large_random_logits),
        cmocka_unit_test(test_mask_is_deletion),
        cmocka_unit_test(test_all_masked),
        cmocka_unit_test(test_permuting_keys_and_values),
        cmocka_unit_test(test_any_number_of_threads),
        cmocka_unit_test(test_gradients_are_added),
        cmocka_unit_test(test_row_lse_and_scale),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
