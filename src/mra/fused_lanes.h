// Sixteen queries side by side.
//
// The fused path keeps every tile of logits *transposed*: a row of the tile is a key, its
// entries are the queries of the block. The softmax then runs down the columns, so that
// maximum, exponential and sum are plain vector operations on sixteen queries at a time, with
// no reduction across a vector. The vector types of GCC and Clang say this directly, on any
// processor: one AVX-512 register where there is one, two or four narrower ones elsewhere.
// Vectors are passed by address, since how they are passed by value differs between processors.
#ifndef MRA_MRA_FUSED_LANES_H
#define MRA_MRA_FUSED_LANES_H

#include "tensor/vector.h"

enum { MRA_LANES = 16 };

typedef float mra_lanes __attribute__((vector_size(64), may_alias));

// *largest <- max(*largest, *x), lane by lane.
static inline void mra_lanes_raise(mra_lanes *largest, const mra_lanes *x)
{
    mra_lanes a = *largest, b = *x;
    for (int i = 0; i < MRA_LANES; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
    *largest = a;
}

// *x <- mra_exp of every lane: 0 for -infinity.
static inline void mra_lanes_exp(mra_lanes *x)
{
    union {
        mra_lanes lanes;
        float number[MRA_LANES];
    } value = {*x};
#pragma omp simd
    for (int i = 0; i < MRA_LANES; i++) value.number[i] = mra_exp(value.number[i]);
    *x = value.lanes;
}

#endif
