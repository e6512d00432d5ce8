// One node on the tape for a whole attention method.
//
// The state of a layer is that of its last forward pass. If a layer is applied twice before the
// way back (one layer used at two depths of a network), the earlier node finds a state that is
// not its own and repeats its forward pass first: the result is bit-identical, so nothing that
// was computed from it changes.

#include "attention/fused_layer.h"

#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"
#include "tensor/kernels.h"

mra_status mra_fused_layer_create(mra_attention_layer **layer, const mra_attention_layer *base,
                                  const mra_fused_rule *rule, void *state, mra_error *err)
{
    *layer = NULL;
    mra_fused_layer *self = calloc(1, sizeof *self);
    if (!self) {
        rule->release(state);
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for a layer", base->method->name);
    }
    *self = (mra_fused_layer){.base = *base, .rule = rule, .state = state};
    *layer = &self->base;
    return MRA_OK;
}

mra_status mra_fused_layer_on_device(mra_attention_layer **layer,
                                     const mra_attention_layer *base, const void *options,
                                     mra_error *err)
{
    *layer = NULL;
    const mra_shape s = base->shape;
    const int shape[4] = {s.batch, s.heads, s.n, s.d};
    const mra_fused_method *method;
    void *state;
    mra_status status = mra_device_fused(&method, base->device, base->method->name, err);
    if (status != MRA_OK) return status;
    status = method->create(&state, base->device, shape, options, err);
    if (status != MRA_OK) return mra_fail_within(err, "%s", base->method->name);
    return mra_fused_layer_create(layer, base, &method->rule, state, err);
}

void mra_fused_destroy(mra_attention_layer *layer)
{
    mra_fused_layer *self = (mra_fused_layer *)layer;
    self->rule->release(self->state);
    free(self);
}

// ---- On the tape
// --------------------------------------------------------------------------------

typedef struct fused_saved {
    mra_fused_layer *layer;
    uint64_t pass;       // which forward pass of the layer this node is
    const uint8_t *mask; // the node's own copy, or NULL
} fused_saved;

// Where the gradient of an operand goes: into scratch memory if nobody wants it.
static float *gradient_of(mra_tape *tape, const mra_tensor *operand)
{
    if (operand->needs_grad) return operand->grad;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    float *unwanted = mra_tape_device_alloc(tape, operand->size * sizeof *unwanted);
    if (!unwanted) return NULL;
    if (device->kernels->fill(device, operand->size, 0.0f, unwanted, &err) == MRA_OK)
        return unwanted;
    mra_tape_fail(tape, err.status, "%s", err.message);
    return NULL;
}

static mra_status fused_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    fused_saved *saved = node->saved;
    mra_fused_layer *layer = saved->layer;
    const mra_fused_rule *rule = layer->rule;
    const float *q = node->operand[0]->data, *k = node->operand[1]->data;
    const float *v = node->operand[2]->data;
    float *gradient[3];
    for (int i = 0; i < 3; i++) {
        gradient[i] = gradient_of(tape, node->operand[i]);
        if (!gradient[i]) return mra_tape_status(tape, err);
    }
    if (layer->passes != saved->pass) {
        mra_status status =
            rule->forward(layer->state, q, k, v, saved->mask, node->output->data, err);
        if (status != MRA_OK) return status;
        saved->pass = ++layer->passes;
    }
    return rule->backward(layer->state, q, k, v, saved->mask, node->output->data,
                          node->output->grad, gradient[0], gradient[1], gradient[2], err);
}

mra_tensor *mra_fused_apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                            mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    mra_fused_layer *self = (mra_fused_layer *)layer;
    const bool needs_grad = q->needs_grad || k->needs_grad || v->needs_grad;
    mra_tensor *z = mra_tape_result(tape, 4, q->shape, needs_grad);
    fused_saved *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!z || !saved) return NULL;
    uint8_t *own_mask = NULL;
    if (mask) {
        const size_t bytes = (size_t)layer->shape.batch * (size_t)layer->shape.n;
        own_mask = mra_tape_upload(tape, mask, bytes);
        if (!own_mask) return NULL;
    }
    mra_error err;
    mra_status status =
        self->rule->forward(self->state, q->data, k->data, v->data, own_mask, z->data, &err);
    if (status != MRA_OK)
        return mra_tape_fail(tape, status, "%s: %s", layer->method->name, err.message);
    *saved = (fused_saved){self, ++self->passes, own_mask};
    return mra_tape_record(tape, &(mra_node){.output = z,
                                             .operand = {q, k, v},
                                             .operands = 3,
                                             .saved = saved,
                                             .backward = fused_backward,
                                             .name = layer->method->name});
}

// ---- Without a tape
// -----------------------------------------------------------------------------

typedef struct gradients {
    float *gradient[3];
    size_t head_size;
} gradients;

// Item: one array of one head.
static void clear_gradients(void *context, size_t item, int thread)
{
    (void)thread;
    const gradients *all = context;
    float *start = all->gradient[item % 3] + item / 3 * all->head_size;
    memset(start, 0, all->head_size * sizeof *start);
}

mra_status mra_fused_run(mra_attention_layer *layer, const float *q, const float *k,
                         const float *v, const uint8_t *mask, float *z, const float *dz,
                         float *dq, float *dk, float *dv, mra_error *err)
{
    mra_fused_layer *self = (mra_fused_layer *)layer;
    const mra_shape shape = layer->shape;
    self->passes++;
    mra_status status = self->rule->forward(self->state, q, k, v, mask, z, err);
    if (status == MRA_OK && dz) {
        gradients all = {{dq, dk, dv}, (size_t)shape.n * (size_t)shape.d};
        const size_t heads = (size_t)shape.batch * (size_t)shape.heads;
        mra_parallel_for(layer->device->threads, 3 * heads, clear_gradients, &all);
        status = self->rule->backward(self->state, q, k, v, mask, z, dz, dq, dk, dv, err);
    }
    return status == MRA_OK ? MRA_OK : mra_fail_within(err, "%s", layer->method->name);
}
