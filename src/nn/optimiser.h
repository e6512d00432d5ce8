// AdamW with its state, and the norm of the gradient.
#ifndef MRA_NN_OPTIMISER_H
#define MRA_NN_OPTIMISER_H

#include <stdint.h>

#include "core/error.h"
#include "nn/layers.h"

typedef struct mra_optimiser_options {
    double beta1, beta2, epsilon, weight_decay;
} mra_optimiser_options;

// beta1 0.9, beta2 0.999, epsilon 1e-6, no weight decay: the published settings.
mra_optimiser_options mra_optimiser_defaults(void);

typedef struct mra_optimiser
    mra_optimiser; // opaque: two moments for every parameter, on the device

// `parameters` is borrowed and must be complete.
mra_status mra_optimiser_create(mra_optimiser **optimiser, const mra_optimiser_options *options,
                                mra_parameters *parameters, mra_error *err);
void mra_optimiser_free(mra_optimiser *optimiser);

// The Euclidean norm of all gradients together (not finite if any of them is not).
mra_status mra_optimiser_norm(mra_optimiser *optimiser, double *norm, mra_error *err);
// Update number `step` (from 1) of all parameters at the learning rate `rate`, with g the gradient times
// `gradient_scale` (for clipping; 1 leaves it as it is):
//
//     m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,
//     w <- w - rate (weight_decay w + (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon))
//
// (Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019; every parameter decays alike). Then the
// gradients are set to zero.
mra_status mra_optimiser_step(mra_optimiser *optimiser, int64_t step, double rate,
                              double gradient_scale, mra_error *err);

// Moment 1 or 2 of all parameters, in their order, to and from host memory (parameters->size floats).
mra_status mra_optimiser_to_host(const mra_optimiser *optimiser, int moment, float *values,
                                 mra_error *err);
mra_status mra_optimiser_from_host(mra_optimiser *optimiser, int moment, const float *values,
                                   mra_error *err);

#endif
