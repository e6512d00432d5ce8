// The share of hyperplanes that do not separate two unit vectors, its powers and its slope: what
// angle.cu and collision.cu have in common (src/tensor/cpu_angle.c has the formulas).
#ifndef MRA_KERNELS_ANGLE_CUH
#define MRA_KERNELS_ANGLE_CUH

#include "simt/device.cuh"

namespace MRA_BACKEND
{

// 1 - arccos(c) / pi; beyond |c| = 1 c counts as +-1. For c < 0 it is arccos(-c) / pi, which loses
// nothing where it is small.
__device__ inline float angle_share(float c)
{
    const float share = acosf(fminf(fabsf(c), 1.0f)) * 0.31830988618f;
    return c < 0.0f ? share : 1.0f - share;
}

// x^power by repeated squaring, power 0 or more.
__device__ inline float integer_power(float x, int power)
{
    float y = 1.0f;
    for (; power > 0; power >>= 1, x *= x)
        if (power & 1) y *= x;
    return y;
}

// power share^(power - 1) / (pi sqrt(1 - c^2)), given share = angle_share(c) and below =
// share^(power - 1); 1 - c^2 is held at 2^-22 or more.
__device__ inline float angle_slope(float c, int power, float below)
{
    const float square = fmaxf((1.0f - c) * (1.0f + c), 2.384185791015625e-7f);
    return (float)power * below * 0.31830988618f / sqrtf(square);
}

} // namespace MRA_BACKEND
#endif
