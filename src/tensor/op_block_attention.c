// Attention over listed blocks as an operation of the tape: the second result, the log-sum-exp of
// each row, is a node of its own.
//
// A node has one output. The node of lse has z as its operand: it is recorded after the node of z,
// so the walk back reaches it first; it leaves a note that lse has a gradient, and makes the
// gradient of z ready, so that the node of z is reached even where the objective depends on lse
// alone.

#include "tensor/operation.h"

typedef struct block_saved {
    mra_block_form form;
    mra_block_operands operands; // of the forward pass
    mra_tensor *lse;             // or NULL
    bool lse_counts;             // the objective depends on lse
} block_saved;

static mra_status block_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    block_saved *saved = node->saved;
    mra_block_operands operands = saved->operands;
    operands.dz = node->output->grad;
    operands.dlse = saved->lse_counts ? saved->lse->grad : NULL;
    operands.dq = node->operand[0]->grad;
    operands.dk = node->operand[1]->grad;
    operands.dv = node->operand[2]->grad;
    saved->lse_counts = false; // for another walk back
    return device->kernels->block_attention_backward(device, &saved->form, &operands, err);
}

static mra_status lse_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    (void)tape, (void)err;
    ((block_saved *)node->saved)->lse_counts = true;
    return MRA_OK;
}

static bool block_fits(const mra_tensor *q, const mra_tensor *k, const mra_tensor *v,
                       const mra_block_pattern *pattern)
{
    if (q->rank != 4 || !mra_same_shape(q, k) || !mra_same_shape(q, v)) return false;
    return pattern->n == q->shape[2] && pattern->block >= 1 &&
           pattern->block <= MRA_BLOCK_LARGEST && pattern->window >= 0 && pattern->fewer >= 0 &&
           pattern->fewer <= pattern->window && pattern->globals >= 0 &&
           (pattern->lists == 1 || pattern->lists == q->shape[1] ||
            pattern->lists == q->shape[0] * q->shape[1]);
}

// Everything the kernel is told, and the results that it fills.
static block_saved *block_prepare(mra_tape *tape, mra_tensor *const x[3],
                                  const mra_block_pattern *pattern, float scale,
                                  const uint8_t *mask, mra_tensor **z, bool want_lse)
{
    const mra_tensor *q = x[0];
    const bool needs_grad = q->needs_grad || x[1]->needs_grad || x[2]->needs_grad;
    const size_t rows = mra_leading(q), bytes = 2 * rows * sizeof(float);
    block_saved *saved = mra_tape_alloc(tape, sizeof *saved);
    *z = mra_result_like(tape, q, needs_grad);
    float *statistics = mra_tape_device_alloc(tape, bytes);
    const size_t tokens = (size_t)q->shape[0] * (size_t)q->shape[2];
    const uint8_t *uploaded = mask ? mra_tape_upload(tape, mask, tokens) : NULL;
    mra_tensor *lse = want_lse ? mra_tape_result(tape, 3, q->shape, needs_grad) : NULL;
    if (!saved || !*z || !statistics || (mask && !uploaded) || (want_lse && !lse)) return NULL;
    *saved = (block_saved){.form = {.batch = (size_t)q->shape[0],
                                    .heads = q->shape[1],
                                    .d = q->shape[3],
                                    .scale = scale,
                                    .pattern = *pattern},
                           .operands = {.q = q->data,
                                        .k = x[1]->data,
                                        .v = x[2]->data,
                                        .mask = uploaded,
                                        .z = (*z)->data,
                                        .statistics = statistics,
                                        .lse = lse ? lse->data : NULL},
                           .lse = lse};
    return saved;
}

mra_tensor *mra_block_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k, mra_tensor *v,
                                const mra_block_pattern *pattern, float scale,
                                const uint8_t *mask, mra_tensor **lse)
{
    if (lse) *lse = NULL;
    if (!q || !k || !v || mra_tape_status(tape, NULL)) return NULL;
    if (!block_fits(q, k, v, pattern))
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "block_attention: q%s, k%s, v%s, pattern of n %d, block %d, lists "
                             "%d: expected equal shapes [batch,heads,n,d] that it fits",
                             mra_shape_of(q).text, mra_shape_of(k).text, mra_shape_of(v).text,
                             pattern->n, pattern->block, pattern->lists);
    mra_tensor *z;
    block_saved *saved = block_prepare(tape, (mra_tensor *const[3]){q, k, v}, pattern, scale,
                                       mask, &z, lse != NULL);
    if (!saved) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->block_attention(device, &saved->form, &saved->operands, &err);
    z = mra_finish(tape, status, &err,
                   &(mra_node){.output = z,
                               .operand = {q, k, v},
                               .operands = 3,
                               .saved = saved,
                               .backward = block_backward,
                               .name = "block_attention"});
    if (!z || !lse) return z;
    *lse = mra_tape_record(tape, &(mra_node){.output = saved->lse,
                                             .operand = {z},
                                             .operands = 1,
                                             .saved = saved,
                                             .backward = lse_backward,
                                             .name = "block_attention, log-sum-exp"});
    return z;
}
