// The row `exact`: softmax attention without approximation, the reference of every comparison.
//
// The published code (old_code/LRA/encoders/transformer.py) computes the same and differs in two
// points. In training it drops entries of the normalised matrix at the network's dropout rate, which
// is not done here: an approximation that never forms the matrix has no such entries to drop, and the
// comparison is between equals. And it takes $10^6$ from the logits of masked keys, where here they are
// left out: the same in float32 unless logits are as large.

#include "attention/exact.h"
#include "attention/fused_layer.h"
#include "attention/methods.h"

static mra_status forward(void *state, const float *q, const float *k, const float *v,
                          const uint8_t *mask, float *z, mra_error *err)
{
    return mra_exact_forward(state, q, k, v, mask, z, err);
}

static mra_status backward(void *state, const float *q, const float *k, const float *v,
                           const uint8_t *mask, const float *z, const float *dz, float *dq,
                           float *dk, float *dv, mra_error *err)
{
    return mra_exact_backward(state, q, k, v, mask, z, dz, dq, dk, dv, err);
}

static void release(void *state)
{
    mra_exact_free(state);
}

static const mra_fused_rule rule = {
    .forward = forward, .backward = backward, .release = release};

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    mra_exact *exact;
    const double logit_scale = 0.0;
    if (!base->device->host_memory)
        return mra_fused_layer_on_device(layer, base, &logit_scale, err);
    mra_status status =
        mra_exact_create(&exact, base->shape, logit_scale, base->device->threads, err);
    if (status != MRA_OK) return mra_fail_within(err, "%s", base->method->name);
    return mra_fused_layer_create(layer, base, &rule, exact, err);
}

static const char *const description[] = {
    "softmax(Q K^T / sqrt(d)) V, every pair of tokens: the reference of every comparison. The "
    "matrix is never stored: tiles of logits meet the values while they are in the cache, and "
    "a running maximum of each row keeps the exponentials in range.",
    "In training the published code also drops entries of the normalised matrix at the "
    "network's dropout rate, which is not done here.",
    NULL};

const mra_method mra_method_exact = {
    .name = "exact",
    .summary = "softmax attention, blocked with online softmax",
    .time = "n^2 d",
    .memory = "n d",
    .source = "Vaswani et al., Attention is all you need, NeurIPS 2017; online softmax after "
              "Milakov & Gimelshein, arXiv 1805.02867",
    .description = description,
    .create = create,
    .apply = mra_fused_apply,
    .destroy = mra_fused_destroy,
    .run = mra_fused_run,
    .operations = mra_exact_operations,
};
