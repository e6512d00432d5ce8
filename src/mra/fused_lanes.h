// Sixteen queries side by side.
//
// The fused path keeps every tile of logits *transposed*: a row of the tile is a key, its
// entries are the queries of the block. The softmax then runs down the columns, so that
// maximum, exponential and sum are plain vector operations on sixteen queries at a time, with
// no reduction across a vector. GCC's vector types say this directly, on any processor: one
// AVX-512 register where there is one, two or four narrower ones elsewhere.
#ifndef MRA_MRA_FUSED_LANES_H
#define MRA_MRA_FUSED_LANES_H

#include <stdint.h>

#include "tensor/vector.h"

enum { MRA_LANES = 16 };

// These functions are inlined, so how a processor without such registers would pass a vector to a
// function, which the warning is about, does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float mra_lanes __attribute__((vector_size(64), may_alias));
typedef int32_t mra_lane_bits __attribute__((vector_size(64), may_alias));

static inline mra_lanes mra_lanes_of(float value)
{
    return value - (mra_lanes){0};
}

static inline mra_lanes mra_lanes_max(mra_lanes a, mra_lanes b)
{
    for (int i = 0; i < MRA_LANES; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}

// mra_exp of every lane: 0 for -infinity.
static inline mra_lanes mra_lanes_exp(mra_lanes x)
{
    union {
        mra_lanes lanes;
        float number[MRA_LANES];
    } value = {x};
#pragma omp simd
    for (int i = 0; i < MRA_LANES; i++) value.number[i] = mra_exp(value.number[i]);
    return value.lanes;
}

#endif
