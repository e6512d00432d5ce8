// Sums over the pairs outside a band or inside one, and the joint normaliser of two parts of a row, as operations
// of the tape. The formulas of both are in cpu_outside_band.c and cpu_join.c.

#include "tensor/operation.h"

static mra_status band_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const mra_band_form *form = node->saved;
    mra_band_form turned = *form; // <dy_i, c_j> b_j: the widths change places
    turned.width = form->values;
    turned.values = form->width;
    mra_tensor *a = node->operand[0], *b = node->operand[1], *c = node->operand[2];
    const float *dy = node->output->grad;
    mra_status status = MRA_OK;
    if (a->needs_grad)
        status = device->kernels->band_sum(device, &turned, dy, c->data, b->data, a->grad,
                                           mra_grad_adds(a), err);
    mra_band_form back = *form; // seen from the keys
    back.left = form->right;
    back.right = form->left;
    turned.left = back.left;
    turned.right = back.right;
    if (!status && b->needs_grad)
        status = device->kernels->band_sum(device, &turned, c->data, dy, a->data, b->grad,
                                           mra_grad_adds(b), err);
    if (!status && c->needs_grad)
        status = device->kernels->band_sum(device, &back, b->data, a->data, dy, c->grad,
                                           mra_grad_adds(c), err);
    return status;
}

static mra_tensor *band_sum(mra_tape *tape, mra_tensor *a, mra_tensor *b, mra_tensor *c,
                            int left, int right, bool inside)
{
    const char *name = inside ? "inside_band" : "outside_band";
    if (!a || !b || !c || mra_tape_status(tape, NULL)) return NULL;
    bool fits =
        a->rank >= 2 && c->rank == a->rank && mra_same_shape(a, b) && left >= 0 && right >= 0;
    for (int i = 0; fits && i + 1 < a->rank; i++) fits = a->shape[i] == c->shape[i];
    if (!fits)
        return mra_tape_fail(
            tape, MRA_BAD_INPUT,
            "%s: a%s, b%s, c%s, band -%d..%d: expected a, b[...,n,width], c[...,n,values], "
            "at least 0 on either side",
            name, mra_shape_of(a).text, mra_shape_of(b).text, mra_shape_of(c).text, left,
            right);
    const int n = a->shape[a->rank - 2];
    mra_band_form *form = mra_tape_alloc(tape, sizeof *form);
    mra_tensor *y = mra_result_like(tape, c, a->needs_grad || b->needs_grad || c->needs_grad);
    if (!form || !y) return NULL;
    *form = (mra_band_form){.matrices = n ? mra_leading(a) / (size_t)n : 0,
                            .n = n,
                            .left = left,
                            .right = right,
                            .inside = inside,
                            .width = mra_last(a),
                            .values = mra_last(c)};
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->band_sum(device, form, a->data, b->data, c->data,
                                                  y->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {a, b, c},
                                  .operands = 3,
                                  .saved = form,
                                  .backward = band_backward,
                                  .name = name,
                                  .overwrites = true});
}

mra_tensor *mra_outside_band(mra_tape *tape, mra_tensor *a, mra_tensor *b, mra_tensor *c,
                             int window)
{
    return band_sum(tape, a, b, c, window, window, false);
}

mra_tensor *mra_inside_band(mra_tape *tape, mra_tensor *a, mra_tensor *b, mra_tensor *c,
                            int left, int right)
{
    return band_sum(tape, a, b, c, left, right, true);
}

typedef struct saved_join {
    const mra_tensor *scale;
    float least;
} saved_join;

static mra_join_operands join_operands(const mra_tensor *local, const mra_tensor *lse,
                                       const mra_tensor *sums, const saved_join *saved,
                                       const mra_tensor *z)
{
    return (mra_join_operands){.local = local->data,
                               .lse = lse->data,
                               .sums = sums->data,
                               .scale = saved->scale->data,
                               .least = saved->least,
                               .z = z->data};
}

static mra_status join_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *const *x = node->operand;
    mra_join_operands operands = join_operands(x[0], x[1], x[2], node->saved, node->output);
    operands.dz = node->output->grad;
    operands.dlocal = x[0]->grad;
    operands.dlse = x[1]->grad;
    operands.dsums = x[2]->grad;
    return device->kernels->join_backward(device, mra_leading(x[0]), mra_last(x[0]), &operands,
                                          err);
}

mra_tensor *mra_join(mra_tape *tape, mra_tensor *local, mra_tensor *lse, mra_tensor *sums,
                     mra_tensor *scale, float least)
{
    if (!local || !lse || !sums || !scale || mra_tape_status(tape, NULL)) return NULL;
    const size_t rows = mra_leading(local);
    if (local->rank < 1 || lse->size != rows || scale->size != rows ||
        mra_leading(sums) != rows || mra_last(sums) != mra_last(local) + 1)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "join: local%s, lse%s, sums%s, scale%s: expected local[...,d], "
                             "lse[...], sums[...,d+1], scale[...]",
                             mra_shape_of(local).text, mra_shape_of(lse).text,
                             mra_shape_of(sums).text, mra_shape_of(scale).text);
    mra_tensor *z =
        mra_result_like(tape, local, local->needs_grad || lse->needs_grad || sums->needs_grad);
    saved_join *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!z || !saved) return NULL;
    *saved = (saved_join){scale, least};
    mra_device *device = mra_tape_device(tape);
    const mra_join_operands operands = join_operands(local, lse, sums, saved, z);
    mra_error err;
    mra_status status = device->kernels->join(device, rows, mra_last(local), &operands, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = z,
                                  .operand = {local, lse, sums},
                                  .operands = 3,
                                  .saved = saved,
                                  .backward = join_backward,
                                  .name = "join"});
}
