// A method that is one operation on host arrays, forward and backward, behind the common
// interface.
//
// Such a method needs a way forward, a way back and a state between the two (what the forward
// pass chose, row maxima, ...). This file makes a layer of the three: one node on the tape, or,
// for mra_attention_run, two plain calls without tape and copies.
#ifndef MRA_ATTENTION_FUSED_LAYER_H
#define MRA_ATTENTION_FUSED_LAYER_H

#include "attention/attention.h"
#include "tensor/fused.h"

typedef struct mra_fused_layer {
    mra_attention_layer base; // first
    const mra_fused_rule *rule;
    void *state;
    uint64_t passes; // forward passes so far: whose state it is
} mra_fused_layer;

// Makes the layer from *base and a state, which it owns from now on (also when it fails).
mra_status mra_fused_layer_create(mra_attention_layer **layer, const mra_attention_layer *base,
                                  const mra_fused_rule *rule, void *state, mra_error *err);

// Makes the layer of a method that is one operation of a device whose memory is not the host's, if
// the device has it (tensor/fused.h); `options` as that page says. MRA_ABSENT names method and
// device.
mra_status mra_fused_layer_on_device(mra_attention_layer **layer,
                                     const mra_attention_layer *base, const void *options,
                                     mra_error *err);

// Members of the method's row: see struct mra_method.
mra_tensor *mra_fused_apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                            mra_tensor *k, mra_tensor *v, const uint8_t *mask);
void mra_fused_destroy(mra_attention_layer *layer);
mra_status mra_fused_run(mra_attention_layer *layer, const float *q, const float *k,
                         const float *v, const uint8_t *mask, float *z, const float *dz,
                         float *dq, float *dk, float *dv, mra_error *err);

#endif
