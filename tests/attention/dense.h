// Softmax attention by its definition, in float64, with the whole matrix in memory: what the
// tests of src/attention compare with. Nothing here is shared with the code under test.
#ifndef MRA_TESTS_ATTENTION_DENSE_H
#define MRA_TESTS_ATTENTION_DENSE_H

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
#include "mra/mra.h"

static inline size_t dense_size(mra_shape shape)
{
    return (size_t)shape.batch * (size_t)shape.heads * (size_t)shape.n * (size_t)shape.d;
}

// The seed of a run: fixed, or fresh where MRA_TEST_SEED says so.
static inline uint64_t dense_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20220710;
}

static inline float *dense_normal(size_t count, float deviation, uint64_t stream)
{
    float *x = mra_aligned_calloc(count, sizeof *x);
    assert_non_null(x);
    mra_fill_normal(x, count, deviation, dense_seed(), stream);
    return x;
}

// The arrays of one layer.
enum {
    DENSE_Q,
    DENSE_K,
    DENSE_V,
    DENSE_DZ,
    DENSE_Z,
    DENSE_DQ,
    DENSE_DK,
    DENSE_DV,
    DENSE_ARRAYS
};

typedef struct dense_arrays {
    mra_shape shape;
    float *x[DENSE_ARRAYS]; // q, k, v, dz random; z, dq, dk, dv zero
    uint8_t *mask;          // [batch][n] or NULL
} dense_arrays;

// `masked`: about a third of the tokens, and the last fifth of each sequence, are padding.
static inline dense_arrays dense_make(mra_shape shape, float deviation, bool masked)
{
    dense_arrays arrays = {.shape = shape};
    const size_t size = dense_size(shape), n = (size_t)shape.n;
    for (int i = 0; i < DENSE_ARRAYS; i++) {
        const float spread = i >= DENSE_Z ? 0.0f : i >= DENSE_V ? 1.0f : deviation;
        arrays.x[i] = dense_normal(size, spread, (uint64_t)i + 1);
    }
    if (!masked) return arrays;
    arrays.mask = calloc((size_t)shape.batch * n, 1);
    assert_non_null(arrays.mask);
    mra_random random = mra_random_open(dense_seed(), 99);
    for (size_t i = 0; i < (size_t)shape.batch * n; i++)
        arrays.mask[i] = i % n < n - n / 5 && mra_random_below(&random, 3) > 0;
    return arrays;
}

static inline void dense_release(dense_arrays *arrays)
{
    for (int i = 0; i < DENSE_ARRAYS; i++) mra_aligned_free(arrays->x[i]);
    free(arrays->mask);
}

// P[n][n] of one head, row-stochastic; rows of masked queries are 0. lse[n] may be NULL.
static inline void dense_weights(int n, int d, const double *q, const double *k,
                                 const uint8_t *mask, double *p, double *lse)
{
    for (int i = 0; i < n; i++) {
        double largest = -INFINITY, sum = 0;
        for (int j = 0; j < n; j++) {
            double logit = 0;
            for (int c = 0; c < d; c++) logit += q[i * d + c] * k[j * d + c];
            p[i * n + j] = mask && (!mask[j] || !mask[i]) ? -INFINITY : logit / sqrt(d);
            if (p[i * n + j] > largest) largest = p[i * n + j];
        }
        for (int j = 0; j < n && largest > -INFINITY; j++) sum += exp(p[i * n + j] - largest);
        for (int j = 0; j < n; j++)
            p[i * n + j] = sum > 0 ? exp(p[i * n + j] - largest) / sum : 0;
        if (lse) lse[i] = largest + log(sum);
    }
}

static inline double *dense_copy(const float *from, size_t count)
{
    double *to = malloc(count * sizeof *to);
    assert_non_null(to);
    for (size_t i = 0; i < count; i++) to[i] = from[i];
    return to;
}

// z[n][d] of one head; with dz also its gradients (all or none of dz, dq, dk, dv).
static inline void dense_head(int n, int d, double *const x[3], const uint8_t *mask, double *z,
                              const double *dz, double *const gradient[3], double *lse)
{
    double *p = malloc(sizeof *p * (size_t)n * (size_t)n);
    assert_non_null(p);
    dense_weights(n, d, x[0], x[1], mask, p, lse);
    memset(z, 0, sizeof *z * (size_t)(n * d));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            for (int c = 0; c < d; c++) z[i * d + c] += p[i * n + j] * x[2][j * d + c];
    for (int i = 0; i < n && dz; i++) {
        double mean = 0; // sum over j of p_ij dp_ij, taken as it stands
        double *dp = malloc(sizeof *dp * (size_t)n);
        assert_non_null(dp);
        for (int j = 0; j < n; j++) {
            dp[j] = 0;
            for (int c = 0; c < d; c++) dp[j] += dz[i * d + c] * x[2][j * d + c];
            mean += p[i * n + j] * dp[j];
        }
        for (int j = 0; j < n; j++) {
            const double weight = p[i * n + j], ds = weight * (dp[j] - mean) / sqrt(d);
            for (int c = 0; c < d; c++) {
                gradient[0][i * d + c] += ds * x[1][j * d + c];
                gradient[1][j * d + c] += ds * x[0][i * d + c];
                gradient[2][j * d + c] += weight * dz[i * d + c];
            }
        }
        free(dp);
    }
    free(p);
}

// ||a - b|| / ||b||, Frobenius; ||a|| where b is 0. NaN stays NaN.
static inline double dense_difference(const float *a, const double *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

#define assert_close(a, b, count, tolerance)                                \
    do {                                                                    \
        const double difference_ = dense_difference(a, b, count);           \
        if (!(difference_ <= (tolerance)))                                  \
            fail_msg("relative difference %.3g, allowed %.3g", difference_, \
                     (double)(tolerance));                                  \
    } while (0)

#endif
