// Exact softmax attention on the CPU, blocked with online softmax: no n x n matrix is ever
// stored.
#ifndef MRA_ATTENTION_EXACT_H
#define MRA_ATTENTION_EXACT_H

#include "core/error.h"
#include "mra/mra.h"

typedef struct mra_exact
    mra_exact; // opaque: workspace, row maxima and row sums of the last forward pass

mra_status mra_exact_create(mra_exact **exact, mra_shape shape, double logit_scale, int threads,
                            mra_error *err);
void mra_exact_free(mra_exact *exact);
// z = softmax(q k^T * logit_scale) v per head; mask as in mra/mra.h.
mra_status mra_exact_forward(mra_exact *exact, const float *q, const float *k, const float *v,
                             const uint8_t *mask, float *z, mra_error *err);
// Adds the gradients of <dz, z> to dq, dk, dv; follows a forward pass with the same arrays.
mra_status mra_exact_backward(mra_exact *exact, const float *q, const float *k, const float *v,
                              const uint8_t *mask, const float *z, const float *dz, float *dq,
                              float *dk, float *dv, mra_error *err);
// log-sum-exp of each row of logits, [batch][heads][n], of the last forward pass.
const float *mra_exact_row_lse(const mra_exact *exact);

#endif
