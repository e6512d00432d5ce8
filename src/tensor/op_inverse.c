// Operations of iterations towards an inverse: c I - X, the first guess, the guard.

#include "tensor/operation.h"

// Whether x is a batch of square matrices.
static bool is_square(const mra_tensor *x)
{
    return x->rank >= 2 && x->shape[x->rank - 1] == x->shape[x->rank - 2];
}

static size_t matrices(const mra_tensor *x)
{
    return mra_leading(x) / (size_t)mra_last(x);
}

// ---- c I - X --------------------------------------------------------------------------------

static mra_status minus_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    return device->kernels->scale(device, x->size, -1.0f, node->output->grad, x->grad,
                                  mra_grad_adds(x), err);
}

mra_tensor *mra_identity_minus(mra_tape *tape, float factor, mra_tensor *x)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (!is_square(x))
        return mra_tape_fail(tape, MRA_BAD_INPUT, "identity_minus: x%s, expected x[...,m,m]",
                             mra_shape_of(x).text);
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->identity_minus(device, matrices(x), mra_last(x),
                                                        factor, x->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .backward = minus_backward,
                                  .name = "identity_minus",
                                  .overwrites = true});
}

// ---- The first guess ------------------------------------------------------------------------

typedef struct guess_saved {
    int rule;
    float *scale; // on the device, as is:
    int32_t *places;
} guess_saved;

static mra_status guess_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    const guess_saved *saved = node->saved;
    mra_status status = mra_grad_ready(tape, x, err);
    if (status || !x->needs_grad) return status;
    return device->kernels->inverse_guess_backward(
        device, saved->rule, matrices(x), mra_last(x), x->data, saved->scale, saved->places,
        node->output->grad, x->grad, err);
}

mra_tensor *mra_inverse_guess(mra_tape *tape, mra_tensor *x, int rule, bool joint)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (!is_square(x))
        return mra_tape_fail(tape, MRA_BAD_INPUT, "inverse_guess: x%s, expected x[...,m,m]",
                             mra_shape_of(x).text);
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    guess_saved *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!y || !saved) return NULL;
    *saved =
        (guess_saved){.rule = rule,
                      .scale = mra_tape_device_alloc(tape, matrices(x) * sizeof(float)),
                      .places = mra_tape_device_alloc(tape, matrices(x) * 4 * sizeof(int32_t))};
    if (!saved->scale || !saved->places) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->inverse_guess(device, rule, joint, matrices(x), mra_last(x), x->data,
                                       y->data, saved->scale, saved->places, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = saved,
                                  .backward = guess_backward,
                                  .name = "inverse_guess",
                                  .overwrites = true});
}

// ---- The guard ------------------------------------------------------------------------------

static mra_status bounded_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_status status = MRA_OK;
    for (int i = 0; i < 2 && !status; i++) {
        mra_tensor *x = node->operand[i];
        if (x->needs_grad)
            status = device->kernels->copy_chosen(device, matrices(x), x->size / matrices(x),
                                                  node->saved, i, node->output->grad, x->grad,
                                                  mra_grad_adds(x), err);
    }
    return status;
}

mra_tensor *mra_keep_bounded(mra_tape *tape, mra_tensor *a, mra_tensor *b, float limit,
                             bool joint)
{
    if (!a || !b || mra_tape_status(tape, NULL)) return NULL;
    if (!is_square(a) || !mra_same_shape(a, b))
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "keep_bounded: a%s, b%s; expected a[...,m,m] and b like it",
                             mra_shape_of(a).text, mra_shape_of(b).text);
    mra_tensor *y = mra_result_like(tape, a, a->needs_grad || b->needs_grad);
    int32_t *chosen = mra_tape_device_alloc(tape, matrices(a) * sizeof *chosen);
    if (!y || !chosen) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->keep_bounded(device, joint, matrices(a), a->size / matrices(a), limit,
                                      a->data, b->data, y->data, chosen, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {a, b},
                                  .operands = 2,
                                  .saved = chosen,
                                  .backward = bounded_backward,
                                  .name = "keep_bounded",
                                  .overwrites = true});
}
