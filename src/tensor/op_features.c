// Random features on the tape, and what a normalised sum over them needs: values with a column of
// ones, whose product is the divisor, and the division.

#include <string.h>

#include "tensor/operation.h"

// ---- Features -------------------------------------------------------------------------------

typedef struct saved_features {
    mra_feature_form form;
    const uint8_t *mask; // on the device
} saved_features;

static mra_status features_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *w = node->operand[1], *y = node->output;
    const saved_features *saved = node->saved;
    // Nobody reads the gradient of y afterwards: it may be overwritten.
    return device->kernels->features_backward(device, &saved->form, x->data, w->data,
                                              saved->mask, y->data, y->grad, x->grad,
                                              mra_grad_adds(x), err);
}

// The shift and scale tensors that the kind writes or reads.
static bool of_keys(mra_feature_kind kind)
{
    return kind == MRA_FEATURES_KEY || kind == MRA_FEATURES_KEY_ONE;
}

static mra_status side_tensors(mra_tape *tape, const mra_tensor *x,
                               const mra_feature_form *form, mra_tensor **shift,
                               mra_tensor **log_scale)
{
    const int batch = x->shape[0], heads = x->shape[1];
    const mra_feature_kind kind = form->rule.kind;
    if (of_keys(kind))
        *shift = mra_tape_result(tape, 3, (int[]){batch, heads, form->features}, false);
    if (kind == MRA_FEATURES_QUERY && log_scale)
        *log_scale = mra_tape_result(tape, 3, (int[]){batch, heads, x->shape[2]}, false);
    if (kind == MRA_FEATURES_QUERY && *shift &&
        (*shift)->size != (size_t)batch * (size_t)heads * (size_t)form->features)
        mra_tape_fail(tape, MRA_BAD_INPUT, "features: shift%s, expected [%d,%d,%d]",
                      mra_shape_of(*shift).text, batch, heads, form->features);
    return mra_tape_status(tape, NULL);
}

static mra_tensor *features_run(mra_tape *tape, mra_tensor *x, mra_tensor *w,
                                const saved_features *saved, float *shift, float *log_scale)
{
    const mra_feature_form *form = &saved->form;
    const int shape[4] = {x->shape[0], x->shape[1], form->n, form->features};
    mra_tensor *y = mra_tape_result(tape, 4, shape, x->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->features(device, form, x->data, w->data, saved->mask,
                                                  shift, log_scale, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x, w},
                                  .operands = 2,
                                  .saved = (void *)(uintptr_t)saved,
                                  .backward = features_backward,
                                  .name = "features",
                                  .overwrites = true});
}

mra_tensor *mra_features(mra_tape *tape, mra_tensor *x, mra_tensor *w,
                         const mra_feature_rule *rule, const uint8_t *mask, mra_tensor **shift,
                         mra_tensor **log_scale)
{
    if (!x || !w || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 4 || w->rank != 2 || w->shape[1] != x->shape[3] || w->needs_grad)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "features: x%s, w%s; expected x[batch,heads,n,d], w[features,d] "
                             "without a gradient",
                             mra_shape_of(x).text, mra_shape_of(w).text);
    saved_features *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!saved) return NULL;
    *saved = (saved_features){.form = {*rule, (size_t)x->shape[0], x->shape[1], x->shape[2],
                                       x->shape[3], w->shape[0]}};
    const bool shifted = of_keys(rule->kind) || rule->kind == MRA_FEATURES_QUERY;
    if (side_tensors(tape, x, &saved->form, shift, log_scale)) return NULL;
    if (shifted && !*shift) return NULL;
    if (mask)
        saved->mask = mra_tape_upload(tape, mask, (size_t)x->shape[0] * (size_t)x->shape[2]);
    if (mask && !saved->mask) return NULL;
    const bool scaled = rule->kind == MRA_FEATURES_QUERY && log_scale;
    return features_run(tape, x, w, saved, shifted ? (*shift)->data : NULL,
                        scaled ? (*log_scale)->data : NULL);
}

// ---- Division by the last column ------------------------------------------------------------

static mra_status divide_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *y = node->output;
    return device->kernels->divide_by_last_backward(device, mra_leading(x), mra_last(y),
                                                    x->data, y->data, y->grad, x->grad,
                                                    mra_grad_adds(x), err);
}

mra_tensor *mra_divide_by_last(mra_tape *tape, mra_tensor *x)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank < 1 || mra_last(x) < 2)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "divide_by_last: x%s, expected x[...,width+1]",
                             mra_shape_of(x).text);
    int shape[MRA_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    shape[x->rank - 1]--;
    mra_tensor *y = mra_tape_result(tape, x->rank, shape, x->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->divide_by_last(device, mra_leading(x), mra_last(y),
                                                        x->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .backward = divide_backward,
                                  .name = "divide_by_last",
                                  .overwrites = true});
}

// ---- A column of ones, and masked rows ------------------------------------------------------

mra_tensor *mra_append_ones(mra_tape *tape, mra_tensor *x)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    int shape[MRA_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    shape[x->rank - 1] = 1;
    mra_tensor *ones = mra_tape_result(tape, x->rank, shape, false);
    if (!ones) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->fill(device, ones->size, 1.0f, ones->data, &err);
    if (status) return mra_tape_fail(tape, status, "%s", err.message);
    return mra_concat(tape, (mra_tensor *[]){x, ones}, 2);
}

mra_tensor *mra_mask_tokens(mra_tape *tape, mra_tensor *x, const uint8_t *mask)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (!mask) return x;
    if (x->rank != 4)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "mask_tokens: x%s, expected x[batch,heads,n,width]",
                             mra_shape_of(x).text);
    const int groups = x->shape[0] * x->shape[1], n = x->shape[2];
    uint8_t *rows = mra_tape_alloc(tape, (size_t)groups * (size_t)n);
    if (!rows) return NULL;
    for (int group = 0; group < groups; group++)
        memcpy(rows + (size_t)group * (size_t)n,
               mask + (size_t)(group / x->shape[1]) * (size_t)n, (size_t)n);
    mra_tensor *flat = mra_reshape(tape, x, 3, (int[]){groups, n, x->shape[3]});
    return mra_reshape(tape, mra_apply_mask(tape, flat, rows), 4, x->shape);
}
