// The inner loops of the general path: short vectors of the width of a head, summed in a fixed
// order.
#ifndef MRA_MRA_DOT_H
#define MRA_MRA_DOT_H

#include <stddef.h>

#include "tensor/vector.h"

// <a, b> over d elements.
static inline float mra_dot(const float *a, const float *b, int d)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int c = 0; c < d; c++) sum = mra_multiply_add(a[c], b[c], sum);
    return sum;
}

// to += factor * from over d elements; the two do not overlap.
static inline void mra_add_scaled(float *restrict to, float factor, const float *restrict from,
                                  int d)
{
#pragma omp simd
    for (int c = 0; c < d; c++) to[c] = mra_multiply_add(factor, from[c], to[c]);
}

#endif
