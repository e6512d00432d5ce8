// Exact softmax attention on the CPU, blocked with online softmax: no n x n matrix is ever
// stored.
//
// Arrays are float32, row-major, [batch][heads][n][d], as in mra/mra.h; masks are [batch][n], 1
// for a token, 0 for padding, or NULL. Results are bit-identical for any number of threads. One
// object is used by one thread at a time.
#ifndef MRA_ATTENTION_EXACT_H
#define MRA_ATTENTION_EXACT_H

#include "core/error.h"
#include "mra/mra.h"

typedef struct mra_exact
    mra_exact; // opaque: workspace, row maxima and row sums of the last forward pass

// logit_scale is the factor of q k^T, 0: 1/sqrt(d); threads < 1: the default number.
// MRA_BAD_INPUT names what is wrong with the shape (d is at most 256) or the scale. Free with
// mra_exact_free.
mra_status mra_exact_create(mra_exact **exact, mra_shape shape, double logit_scale, int threads,
                            mra_error *err);
void mra_exact_free(mra_exact *exact);
// z = softmax(q k^T * logit_scale) v per head, overwritten. Padded keys are invisible, padded
// query rows get 0. Logits of any finite size are allowed.
mra_status mra_exact_forward(mra_exact *exact, const float *q, const float *k, const float *v,
                             const uint8_t *mask, float *z, mra_error *err);
// Adds the gradients of <dz, z> to dq, dk, dv; follows a forward pass with the same arrays,
// whose result is z. MRA_NO_MEMORY at the first call if there is no room for partial sums
// (needed for fewer than eight heads).
mra_status mra_exact_backward(mra_exact *exact, const float *q, const float *k, const float *v,
                              const uint8_t *mask, const float *z, const float *dz, float *dq,
                              float *dk, float *dv, mra_error *err);
// log-sum-exp of each row of logits, [batch][heads][n], of the last forward pass; -infinity for
// a row without output.
const float *mra_exact_row_lse(const mra_exact *exact);

#endif
