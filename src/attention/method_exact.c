// The row `exact`: softmax attention without approximation, the reference of every comparison.
#include "attention/exact.h"
#include "attention/methods.h"

#include <stdlib.h>

typedef struct exact_layer {
    mra_attention_layer base;
    mra_exact *exact;
} exact_layer;

typedef struct exact_saved {
    exact_layer *layer;
    const uint8_t *mask;
} exact_saved;

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    mra_status status = mra_method_require_cpu(base, err);
    if (status != MRA_OK) return status;
    exact_layer *self = calloc(1, sizeof *self);
    if (!self) return mra_fail(err, MRA_NO_MEMORY, "exact: no memory for a layer");
    self->base = *base;
    status = mra_exact_create(&self->exact, base->shape, 0.0, base->device->threads, err);
    if (status != MRA_OK) {
        free(self);
        return status;
    }
    *layer = &self->base;
    return MRA_OK;
}

static void destroy(mra_attention_layer *layer)
{
    exact_layer *self = (exact_layer *)layer;
    mra_exact_free(self->exact);
    free(self);
}

static mra_status backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    (void)tape;
    const exact_saved *saved = node->saved;
    mra_tensor **x = node->operand;
    return mra_exact_backward(saved->layer->exact, x[0]->data, x[1]->data, x[2]->data, saved->mask,
                              node->output->data, node->output->grad, x[0]->grad, x[1]->grad,
                              x[2]->grad, err);
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q, mra_tensor *k,
                         mra_tensor *v, const uint8_t *mask)
{
    exact_layer *self = (exact_layer *)layer;
    mra_error err;
    const bool needs_grad = q->needs_grad || k->needs_grad || v->needs_grad;
    mra_tensor *z = mra_tape_result(tape, 4, q->shape, needs_grad);
    exact_saved *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!z || !saved) return NULL;
    *saved = (exact_saved){self, mask};
    if (mra_exact_forward(self->exact, q->data, k->data, v->data, mask, z->data, &err) != MRA_OK)
        return mra_tape_fail(tape, err.status, "%s", err.message);
    return mra_tape_record(tape, &(mra_node){.output = z,
                                             .operand = {q, k, v},
                                             .operands = 3,
                                             .saved = saved,
                                             .backward = backward,
                                             .name = "exact"});
}

const mra_method mra_method_exact = {
    .name = "exact",
    .summary = "softmax attention, blocked with online softmax",
    .time = "n^2 d",
    .memory = "n d",
    .source = "Vaswani et al., Attention is all you need, NeurIPS 2017; online softmax after "
              "Milakov & Gimelshein, arXiv 1805.02867",
    .create = create,
    .apply = apply,
    .destroy = destroy,
};
