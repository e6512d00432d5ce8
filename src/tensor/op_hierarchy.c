// Hierarchical attention on the tape.

#include "tensor/operation.h"

#include <math.h>

typedef struct saved_hierarchy {
    mra_hierarchy form;
    const uint8_t *mask; // on the device
    float *divisor;
} saved_hierarchy;

static mra_status hierarchy_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const saved_hierarchy *saved = node->saved;
    mra_tensor *const *x = node->operand;
    mra_hierarchy_operands operands = {.q = x[0]->data,
                                       .k = x[1]->data,
                                       .v = x[2]->data,
                                       .mask = saved->mask,
                                       .z = node->output->data,
                                       .divisor = saved->divisor,
                                       .dz = node->output->grad};
    for (int i = 0; i < 3; i++) {
        operands.gradient[i] = x[i]->needs_grad ? x[i]->grad : NULL;
        operands.adds[i] = x[i]->needs_grad && mra_grad_adds(x[i]);
    }
    return device->kernels->hierarchy_backward(device, &saved->form, &operands, err);
}

// The smallest number of doublings of a block that reaches n; published code has four blocks at
// least.
static mra_hierarchy form_of(const mra_tensor *q, int block, bool published)
{
    mra_hierarchy form = {.batch = (size_t)q->shape[0],
                          .heads = q->shape[1],
                          .n = q->shape[2],
                          .d = q->shape[3],
                          .block = block,
                          .doublings = published ? 2 : 0,
                          .scale = (float)(1.0 / sqrt(q->shape[3])),
                          .published = published};
    while ((int64_t)block << form.doublings < form.n) form.doublings++;
    form.levels = published ? form.doublings - 1 : form.doublings;
    return form;
}

mra_tensor *mra_hierarchical_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k,
                                       mra_tensor *v, int block, bool published,
                                       const uint8_t *mask)
{
    if (!q || !k || !v || mra_tape_status(tape, NULL)) return NULL;
    if (q->rank != 4 || !mra_same_shape(q, k) || !mra_same_shape(q, v) || block < 1 ||
        block > MRA_HIERARCHY_BLOCK)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "hierarchical_attention: q%s, k%s, v%s, blocks of %d; expected "
                             "three equal [batch,heads,n,d] and blocks of 1 to %d",
                             mra_shape_of(q).text, mra_shape_of(k).text, mra_shape_of(v).text,
                             block, MRA_HIERARCHY_BLOCK);
    mra_tensor *z = mra_result_like(tape, q, q->needs_grad || k->needs_grad || v->needs_grad);
    saved_hierarchy *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!z || !saved) return NULL;
    *saved = (saved_hierarchy){.form = form_of(q, block, published)};
    const size_t positions = saved->form.batch * (size_t)q->shape[2];
    saved->divisor =
        mra_tape_device_alloc(tape, positions * (size_t)q->shape[1] * sizeof(float));
    if (mask) saved->mask = mra_tape_upload(tape, mask, positions);
    if (!saved->divisor || (mask && !saved->mask)) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    const mra_hierarchy_operands operands = {.q = q->data,
                                             .k = k->data,
                                             .v = v->data,
                                             .mask = saved->mask,
                                             .z = z->data,
                                             .divisor = saved->divisor};
    mra_status status = device->kernels->hierarchy(device, &saved->form, &operands, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = z,
                                  .operand = {q, k, v},
                                  .operands = 3,
                                  .saved = saved,
                                  .backward = hierarchy_backward,
                                  .name = "hierarchical_attention",
                                  .overwrites = true});
}
