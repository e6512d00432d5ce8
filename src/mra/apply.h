// Applying J to the values: Z = D^-1 A-hat V for one head and any R, forward and backward
// (paper, section on computing A-hat V).
//
//     mra_apply *apply;
//     mra_apply_create(&apply, &options, n, d, &err);       or mra_apply_bytes +
//     mra_apply_place mra_apply_forward(apply, q, k, v, mask, z); mra_apply_backward(apply, z,
//     dz, dq, dk, dv); mra_apply_free(apply);
//
// An mra_apply works for one head at a time on the calling thread; a caller with many heads
// gives each thread its own. The grid of the options is the caller's affair: q, k, v, mask come
// already permuted.
#ifndef MRA_MRA_APPLY_H
#define MRA_MRA_APPLY_H

#include <stddef.h>
#include <stdint.h>

#include "mra/coefficient.h"
#include "mra/selection.h"

typedef struct mra_apply {
    mra_options options;
    int n, d;
    mra_pyramid pyramid;     // of the last head: see coefficient.h
    mra_selection selection; // J of the last head, with its logits
    float *row_lse; // [n]: log of row i of D, i.e. log sum_j A-hat_ij; -INFINITY for masked and
                    // empty rows
    size_t empty_rows; // unmasked rows with nothing to attend to (sparse only)
    // Forward, per scale, [blocks] and [blocks, d]: what the boxes of this scale and of coarser
    // ones give to the rows of a block: largest logit, normaliser, sum of values. (The finest
    // sum is z.)
    float *largest[MRA_MAX_SCALES], *normaliser[MRA_MAX_SCALES], *sum[MRA_MAX_SCALES];
    // Backward, per scale, [blocks], [blocks, d] and [blocks]: what the rows of a block ask of
    // the boxes: M, G, E of the text.
    float *reference[MRA_MAX_SCALES], *gradient[MRA_MAX_SCALES], *correction[MRA_MAX_SCALES];
    // Gradients of the pooled queries, keys and values, [blocks, d] per scale.
    float *dquery[MRA_MAX_SCALES], *dkey[MRA_MAX_SCALES], *dvalue[MRA_MAX_SCALES];
    bool backward;
    void *owned; // memory of mra_apply_create
} mra_apply;

// Bytes of memory for one head of n tokens and width d; without `backward`, mra_apply_backward
// must not be called. The options have passed mra_options_check.
size_t mra_apply_bytes(const mra_options *options, int n, int d, bool backward);
// Lays *apply out in `memory` (64-byte aligned, mra_apply_bytes long, the caller's); nothing to
// free afterwards.
void mra_apply_place(mra_apply *apply, const mra_options *options, int n, int d, bool backward,
                     void *memory);

// The same with memory of its own. MRA_BAD_INPUT as mra_options_check and for n < 1 or d
// outside 1 .. 256; MRA_NO_MEMORY names the bytes.
mra_status mra_apply_create(mra_apply **apply, const mra_options *options, int n, int d,
                            mra_error *err);
void mra_apply_free(mra_apply *apply);

// Pyramid, J and z[n, d] (overwritten; masked and empty rows 0) from q, k, v [n, d] and mask
// [n] (or NULL). Allocates nothing. Any finite logits. q, k, v, mask are borrowed until the
// backward pass is over.
void mra_apply_forward(mra_apply *apply, const float *q, const float *k, const float *v,
                       const uint8_t *mask, float *z);
// The same without z: pyramid, J and row_lse. A caller that shares one mra_apply among several
// heads calls this for the head before its backward pass; J comes out the same, bit for bit.
void mra_apply_prepare(mra_apply *apply, const float *q, const float *k, const float *v,
                       const uint8_t *mask);
// For J as it stands in apply->selection (made by mra_selection_start and _refine on
// apply->pyramid): z and row_lse.
void mra_apply_product(mra_apply *apply, float *z);

// Adds the gradients of <dz, z> to dq, dk, dv [n, d], with J held fixed, for the head of the
// last forward pass or mra_apply_prepare; z is the forward pass's result. Rows of masked tokens
// are left alone. Allocates nothing.
void mra_apply_backward(mra_apply *apply, const float *z, const float *dz, float *dq, float *dk,
                        float *dv);

// The approximation itself, for figures and tests: a_hat[n, n] (row-major, float64) = A-hat_ij
// exp(-shift), 0 where no box of J covers (i, j), where J's scale is left out (sparse) and for
// masked rows and columns. With shift at least the largest logit of Q K^T nothing overflows.
// O(n^2).
void mra_apply_dense(const mra_apply *apply, double shift, double *a_hat);
// The largest logit of J's boxes (of the finest scale if sparse); -INFINITY if there is none.
double mra_apply_largest_logit(const mra_apply *apply);

#endif
