// What methods share that are chains of the tape's operations: a layer without anything of its own, and masks for
// all heads.
#ifndef MRA_ATTENTION_PLAIN_H
#define MRA_ATTENTION_PLAIN_H

#include "attention/attention.h"

// `create` and `destroy` of a method whose layer is an mra_attention_layer and no more.
mra_status mra_plain_create(mra_attention_layer **layer, const mra_attention_layer *base,
                            mra_error *err);
void mra_plain_destroy(mra_attention_layer *layer);

// x[batch, heads, n, width] with zeros where mask[batch, n] is 0 (host bytes; NULL: x itself).
mra_tensor *mra_mask_heads(mra_tape *tape, mra_tensor *x, const uint8_t *mask);

// How many tokens of each example are there, count[batch]: n without a mask.
void mra_count_tokens(mra_shape shape, const uint8_t *mask, int *count);

#endif
