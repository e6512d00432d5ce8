// The share of hyperplanes that do not separate two unit vectors, and its powers, for whole
// rows: what cpu_angle.c and cpu_collision_backward.c share.
#ifndef MRA_TENSOR_CPU_ANGLE_H
#define MRA_TENSOR_CPU_ANGLE_H

#include <math.h>
#include <stddef.h>

#include "tensor/vector.h"

// 1 - arccos(c) / pi for |c| <= 1, beyond which c counts as +-1. arccos(c) = sqrt(1 - c) p(c)
// on [0, 1] with the polynomial of Abramowitz & Stegun, "Handbook of Mathematical Functions",
// 4.4.46, which is off by at most 2e-8; arccos(-c) = pi - arccos(c).
static inline float mra_angle_share(float c)
{
    const float a = fminf(fabsf(c), 1.0f);
    float p = -0.0012624911f;
    p = mra_multiply_add(p, a, 0.0066700901f);
    p = mra_multiply_add(p, a, -0.0170881256f);
    p = mra_multiply_add(p, a, 0.0308918810f);
    p = mra_multiply_add(p, a, -0.0501743046f);
    p = mra_multiply_add(p, a, 0.0889789874f);
    p = mra_multiply_add(p, a, -0.2145988016f);
    p = mra_multiply_add(p, a, 1.5707963050f);
    const float share = sqrtf(1.0f - a) * p * 0.31830988618f;
    return c < 0.0f ? share : 1.0f - share;
}

// 1 / sqrt(1 - c^2), with 1 - c^2 held at 2^-22 or more.
static inline float mra_inverse_sine(float c)
{
    return 1.0f / sqrtf(fmaxf((1.0f - c) * (1.0f + c), 0x1p-22f));
}

// y[i] = base[i]^power by repeated squaring; base is used up.
static inline void mra_power_row(size_t count, int power, float *base, float *y)
{
    for (size_t i = 0; i < count; i++) y[i] = 1.0f;
    for (; power > 0; power >>= 1) {
        if (power & 1)
#pragma omp simd
            for (size_t i = 0; i < count; i++) y[i] *= base[i];
        if (power > 1)
#pragma omp simd
            for (size_t i = 0; i < count; i++) base[i] *= base[i];
    }
}

#endif
