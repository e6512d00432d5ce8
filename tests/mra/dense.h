// What the tests of src/mra share: fresh random heads, and attention written down entry by
// entry in float64.
#ifndef MRA_TESTS_MRA_DENSE_H
#define MRA_TESTS_MRA_DENSE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"

// The seed of all tests: MRA_TEST_SEED, or a fixed one.
static inline uint64_t test_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text == NULL ? 20220717 : strtoull(text, NULL, 10);
}

static inline void *test_alloc(size_t count, size_t size)
{
    void *memory = calloc(count == 0 ? 1 : count, size);
    assert_non_null(memory);
    return memory;
}

// One head of attention: q, k, v [n, d] and a mask, in float32 as the library sees it.
typedef struct test_head {
    int n, d;
    float *q, *k, *v;
    uint8_t *mask; // NULL: all tokens are there
} test_head;

static inline float *test_normal(size_t count, double deviation, const char *purpose,
                                 uint64_t which)
{
    float *values = test_alloc(count, sizeof *values);
    mra_fill_normal(values, count, (float)deviation, test_seed(),
                    mra_stream(purpose, which, 0));
    return values;
}

// Neighbouring tokens are alike, as in trained heads: a random walk plus noise. `deviation`
// scales the logits.
static inline float *test_smooth(int n, int d, double deviation, const char *purpose,
                                 uint64_t which)
{
    size_t width = (size_t)d;
    float *step = test_normal((size_t)n * width, 1, purpose, which);
    for (size_t i = width; i < (size_t)n * width; i++)
        step[i] = 0.9f * step[i - width] + 0.44f * step[i];
    for (size_t i = 0; i < (size_t)n * width; i++) step[i] *= (float)deviation;
    return step;
}

// `masked`: the share of tokens that are padding, scattered; 0: no mask at all.
static inline test_head test_head_make(int n, int d, double deviation, double masked,
                                       uint64_t which)
{
    test_head head = {.n = n, .d = d};
    head.q = test_smooth(n, d, deviation, "test q", which);
    head.k = test_smooth(n, d, deviation, "test k", which);
    head.v = test_normal((size_t)n * (size_t)d, 1, "test v", which);
    if (masked > 0) {
        mra_random random = mra_random_open(test_seed(), mra_stream("test mask", which, 0));
        head.mask = test_alloc((size_t)n, 1);
        for (int i = 0; i < n; i++) head.mask[i] = mra_random_uniform(&random) >= masked;
    }
    return head;
}

static inline void test_head_free(test_head *head)
{
    free(head->q);
    free(head->k);
    free(head->v);
    free(head->mask);
}

static inline bool test_present(const test_head *head, int token)
{
    return head->mask == NULL || head->mask[token] != 0;
}

// Logit P_ij from float64 copies of q and k.
static inline double test_logit(const double *q, const double *k, int d, int i, int j)
{
    double sum = 0;
    for (int c = 0; c < d; c++) sum += q[(size_t)i * d + c] * k[(size_t)j * d + c];
    return sum / sqrt(d);
}

static inline double *test_widen(const float *values, size_t count)
{
    double *wide = test_alloc(count, sizeof *wide);
    for (size_t i = 0; i < count; i++) wide[i] = (double)values[i];
    return wide;
}

// || a - b ||_F / || b ||_F (0 if both are 0).
static inline double test_difference(const float *a, const double *b, size_t count)
{
    double gap = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(isfinite(a[i]));
        gap += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return gap == 0 ? 0 : sqrt(gap / norm);
}

#define assert_below(value, limit) \
    test_assert_below((value), (limit), #value, __FILE__, __LINE__)
static inline void test_assert_below(double value, double limit, const char *what,
                                     const char *file, int line)
{
    if (value <= limit) return;
    print_error("%s = %.6g, expected at most %.6g\n", what, value, limit);
    _fail(file, line);
}

#endif
