// Layers without a state of their own, and masks for all heads at once.

#include "attention/plain.h"

#include <stdlib.h>
#include <string.h>

mra_status mra_plain_create(mra_attention_layer **layer, const mra_attention_layer *base,
                            mra_error *err)
{
    *layer = malloc(sizeof **layer);
    if (!*layer) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", base->method->name);
    **layer = *base;
    return MRA_OK;
}

void mra_plain_destroy(mra_attention_layer *layer)
{
    free(layer);
}

mra_tensor *mra_mask_heads(mra_tape *tape, mra_tensor *x, const uint8_t *mask)
{
    if (!x || !mask) return x;
    const int batch = x->shape[0], heads = x->shape[1], n = x->shape[2], width = x->shape[3];
    const size_t length = (size_t)n;
    uint8_t *repeated = mra_tape_alloc(tape, (size_t)batch * (size_t)heads * length);
    if (!repeated) return NULL;
    for (int group = 0; group < batch * heads; group++)
        memcpy(repeated + (size_t)group * length, mask + (size_t)(group / heads) * length,
               length);
    mra_tensor *flat = mra_reshape(tape, x, 3, (int[]){batch * heads, n, width});
    return mra_reshape(tape, mra_apply_mask(tape, flat, repeated), 4,
                       (int[]){batch, heads, n, width});
}

void mra_count_tokens(mra_shape shape, const uint8_t *mask, int *count)
{
    for (int b = 0; b < shape.batch; b++) {
        count[b] = mask ? 0 : shape.n;
        for (int i = 0; mask && i < shape.n; i++) count[b] += mask[b * shape.n + i] != 0;
    }
}
