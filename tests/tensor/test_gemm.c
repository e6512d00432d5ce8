// Products of every shape and orientation against float64 sums, and the vector functions
// against the C library's in double precision.

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/random.h"
#include "tensor/gemm.h"
#include "tensor/vector.h"

// Room for a matrix of at most 140 rows of at most 150 numbers.
enum { ROOM = 140 * 150 };
static float a[ROOM], b[ROOM], c[ROOM], before[ROOM];

static void fill(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    const uint64_t seed = text ? strtoull(text, NULL, 10) : 20220712;
    mra_fill_normal(a, ROOM, 1.0f, seed, 1);
    mra_fill_normal(b, ROOM, 1.0f, seed, 2);
    mra_fill_normal(c, ROOM, 1.0f, seed, 3);
    memcpy(before, c, sizeof c);
}

typedef struct product {
    bool transpose_a, transpose_b;
    int m, n, k, lda, ldb, ldc;
    float alpha, beta;
} product;

// Compares c with alpha op(a) op(b) + beta before, and what lies outside of the m x n part with
// `before`.
static void check_product(const product *p)
{
    for (int i = 0; i < p->m; i++)
        for (int j = 0; j < p->ldc && i * p->ldc + j < ROOM; j++) {
            const int at = i * p->ldc + j;
            if (j >= p->n) {
                assert_memory_equal(&c[at], &before[at], sizeof c[at]);
                continue;
            }
            double sum = 0, size = 1;
            for (int l = 0; l < p->k; l++) {
                const double left = p->transpose_a ? a[l * p->lda + i] : a[i * p->lda + l];
                const double right = p->transpose_b ? b[j * p->ldb + l] : b[l * p->ldb + j];
                sum += left * right;
                size += fabs(left * right);
            }
            const double expected = p->alpha * sum + (p->beta != 0 ? p->beta * before[at] : 0);
            if (!(fabs(c[at] - expected) <= 1e-6 * size * (1 + fabs(p->alpha))))
                fail_msg("%d x %d x %d, entry %d %d: %g, expected %g", p->m, p->n, p->k, i, j,
                         c[at], expected);
        }
}

static void test_gemm(void **state)
{
    (void)state;
    const int shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {32, 33, 31}, {130, 64, 50}, {1, 100, 13}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int orientation = 0; orientation < 4; orientation++) {
            const int m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            product p = {orientation & 1, orientation >> 1, m, n, k, 0, 0, n + 2, 0.5f, -2.0f};
            p.lda = (p.transpose_a ? m : k) + 1;
            p.ldb = (p.transpose_b ? k : n) + 3;
            fill();
            mra_gemm(p.transpose_a, p.transpose_b, m, n, k, p.alpha, a, p.lda, b, p.ldb, p.beta,
                     c, p.ldc);
            check_product(&p);
        }
}

// Nothing to add up: C is beta C; an empty C: nothing happens.
static void test_gemm_empty(void **state)
{
    (void)state;
    fill();
    mra_gemm(false, false, 4, 4, 0, 1.0f, a, 4, b, 4, 0.5f, c, 4);
    for (int i = 0; i < 16; i++) assert_true(c[i] == 0.5f * before[i]);
    mra_gemm(false, false, 0, 4, 4, 1.0f, a, 4, b, 4, 0.0f, c, 4);
    mra_gemm(false, false, 4, 0, 4, 1.0f, a, 4, b, 4, 0.0f, c, 4);
    for (int i = 0; i < 16; i++) assert_true(c[i] == 0.5f * before[i]);
}

static void check_small(product p)
{
    fill();
    if (p.beta == 0.0f)
        for (int i = 0; i < p.m; i++) // the old C is not read
            for (int j = 0; j < p.n; j++) c[i * p.ldc + j] = NAN;
    mra_small_gemm gemm =
        p.transpose_a
            ? mra_small_gemm_prepare_transposed(p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.beta)
            : mra_small_gemm_prepare(p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.beta);
    mra_small_gemm_run(&gemm, a, b, c);
    check_product(&p);
    // The same through OpenBLAS, for a build or a processor without generated code.
    for (int i = 0; i < p.m * p.ldc && i < ROOM; i++) c[i] = before[i];
    gemm.generated = NULL;
    mra_small_gemm_run(&gemm, a, b, c);
    check_product(&p);
}

static void test_small_gemm(void **state)
{
    (void)state;
    const int shapes[][3] = {{32, 32, 64}, {32, 64, 32}, {1, 1, 1},    {31, 33, 65},
                             {4, 4, 64},   {7, 96, 32},  {64, 128, 3}, {128, 16, 32}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int variant = 0; variant < 8; variant++) {
            const int m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            const int gap = variant & 4 ? 5 : 0;
            const bool transpose = variant & 2;
            check_small((product){.transpose_a = transpose,
                                  .m = m,
                                  .n = n,
                                  .k = k,
                                  .lda = (transpose ? m : k) + gap,
                                  .ldb = n + gap,
                                  .ldc = n + gap,
                                  .alpha = 1.0f,
                                  .beta = (float)(variant & 1)});
        }
}

static void test_backend_and_rate(void **state)
{
    (void)state;
    const char *backend = mra_small_gemm_backend();
    assert_true(strncmp(backend, "libxsmm ", 8) == 0 || strcmp(backend, "openblas") == 0);
    const double rate = mra_sgemm_rate(96, 2);
    assert_true(isfinite(rate) && rate > 0);
    assert_true(mra_sgemm_rate(0, 2) == 0);
}

static void test_exp_error(void **state)
{
    (void)state;
    double worst = 0;
    uint32_t bits = 0;
    for (uint64_t step = 0; step < 1u << 22; step++, bits += 1021) {
        float x;
        memcpy(&x, &bits, sizeof x);
        if (!(x > -86.97f && x < 88.72f)) continue;
        const double expected = exp((double)x);
        int exponent;
        frexp(expected, &exponent);
        const double units = fabs(mra_exp(x) - expected) / ldexp(1.0, exponent - 24);
        if (units > worst) worst = units;
    }
#ifdef __FMA__
    assert_true(worst < 1.0);
#else
    assert_true(worst < 2.0);
#endif
    assert_true(worst > 0.4); // something was measured
}

static void test_exp_special_values(void **state)
{
    (void)state;
    assert_true(mra_exp(0.0f) == 1.0f && mra_exp(-0.0f) == 1.0f);
    const float vanishing[] = {-87.0f, -104.0f, -1e4f, -1e30f, -INFINITY};
    for (int i = 0; i < 5; i++) assert_true(mra_exp(vanishing[i]) == 0.0f);
    const float huge[] = {88.73f, 1e4f, 1e30f, INFINITY};
    for (int i = 0; i < 4; i++) assert_true(mra_exp(huge[i]) == INFINITY);
    assert_true(isfinite(mra_exp(88.72f)) && mra_exp(-86.9f) > 0.0f);
    assert_true(isnan(mra_exp(NAN)));
}

static void test_rows(void **state)
{
    (void)state;
    assert_true(mra_row_max(a, 0) == -INFINITY);
    for (size_t n = 1; n < 100; n += n < 40 ? 1 : 7) {
        fill();
        size_t at = 0;
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            if (a[i] > a[at]) at = i;
        const float largest = a[at];
        assert_true(mra_row_max(a, n) == largest);
        for (size_t i = 0; i < n; i++) sum += exp((double)a[i] - largest);
        const float first = a[0], after = a[n], total = mra_exp_row(a, n, largest);
        assert_true(fabs(total - sum) <= 1e-6 * sum);
        assert_true(a[at] == 1.0f && a[n] == after);
        assert_true(fabs(a[0] - exp((double)(first - largest))) <= 1e-6);
    }
}

int main(void)
{
    mra_blas_single_thread();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),       cmocka_unit_test(test_gemm_empty),
        cmocka_unit_test(test_small_gemm), cmocka_unit_test(test_backend_and_rate),
        cmocka_unit_test(test_exp_error),  cmocka_unit_test(test_exp_special_values),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
