// GELU on the cpu: y = x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2 (Hendrycks & Gimpel,
// "Gaussian error linear units", 2016).
//
// The C library's erff is a call per number, and branches. For loops that run on whole
// registers, write for x >= 0
//
//     Phi(-x) = exp(-x^2 / 2) t Q(t),    t = 1 / (1 + 0.35 x),
//
// which has the shape of formula 7.1.26 of Abramowitz & Stegun: the exponential carries the
// decay, so that what is left is smooth and the *relative* error stays small far out in the
// tail. Q is the polynomial of degree 8 that agrees with Phi(-x) exp(x^2 / 2) / t at the
// Chebyshev nodes of the range of t for 0 <= x <= 13.2, where exp(-x^2 / 2) reaches the
// smallest float; its largest relative error there is 3.9e-8. Phi(x) = 1 - Phi(-x) does the
// rest. The derivative, Phi(x) + x phi(x) with phi(x) = exp(-x^2 / 2) / sqrt(2 pi), uses the
// same exponential.

#include <math.h>

#include "tensor/cpu.h"
#include "tensor/vector.h"

typedef struct normal_values {
    float distribution, density; // Phi(x), phi(x)
} normal_values;

static inline normal_values normal(float x)
{
    const float size = fabsf(x), t = 1.0f / (1.0f + 0.35f * size);
    const float bell = mra_exp(-0.5f * x * x);
    float q = -0.0295586719f;
    q = mra_multiply_add(q, t, 0.145985261f);
    q = mra_multiply_add(q, t, -0.259867355f);
    q = mra_multiply_add(q, t, 0.163884176f);
    q = mra_multiply_add(q, t, -0.0263068302f);
    q = mra_multiply_add(q, t, 0.106830979f);
    q = mra_multiply_add(q, t, 0.119508676f);
    q = mra_multiply_add(q, t, 0.139904664f);
    q = mra_multiply_add(q, t, 0.139619083f);
    const float tail = bell * t * q; // Phi(-|x|)
    return (normal_values){x < 0.0f ? tail : 1.0f - tail, 0.398942280f * bell};
}

typedef struct gelu_context {
    size_t count;
    const float *x, *dy;
    float *y;
    bool add;
} gelu_context;

static void gelu_item(void *context, size_t item, int thread)
{
    (void)thread;
    const gelu_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    const float *x = c->x;
    float *y = c->y;
#pragma omp simd
    for (size_t i = range.begin; i < range.end; i++) y[i] = x[i] * normal(x[i]).distribution;
}

mra_status mra_cpu_gelu(mra_device *device, size_t count, const float *x, float *y,
                        mra_error *err)
{
    (void)err;
    gelu_context context = {.count = count, .x = x, .y = y};
    mra_cpu_loop(device, mra_items(count, MRA_CPU_ENTRIES), gelu_item, &context);
    return MRA_OK;
}

static inline float slope(float x)
{
    const normal_values at = normal(x);
    return mra_multiply_add(x, at.density, at.distribution);
}

static void gelu_backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const gelu_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    const float *x = c->x, *dy = c->dy;
    float *dx = c->y;
    if (c->add) {
#pragma omp simd
        for (size_t i = range.begin; i < range.end; i++) dx[i] += dy[i] * slope(x[i]);
    } else {
#pragma omp simd
        for (size_t i = range.begin; i < range.end; i++) dx[i] = dy[i] * slope(x[i]);
    }
}

mra_status mra_cpu_gelu_backward(mra_device *device, size_t count, const float *x,
                                 const float *dy, float *dx, bool add, mra_error *err)
{
    (void)err;
    gelu_context context = {.count = count, .x = x, .dy = dy, .y = dx, .add = add};
    mra_cpu_loop(device, mra_items(count, MRA_CPU_ENTRIES), gelu_backward_item, &context);
    return MRA_OK;
}
