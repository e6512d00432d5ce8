// LayerNorm and softmax on the tape.

#include "tensor/operation.h"

// ---- LayerNorm: saved are mean and 1 / deviation of each row --------------------------------

static mra_status layer_norm_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *gamma = node->operand[1], *beta = node->operand[2];
    mra_status status = mra_grad_ready(tape, gamma, err);
    if (!status) status = mra_grad_ready(tape, beta, err);
    if (status) return status;
    const bool add = x->needs_grad && mra_grad_adds(x);
    return device->kernels->layer_norm_backward(
        device, mra_leading(x), mra_last(x), x->data, gamma->data, node->saved,
        node->output->grad, x->needs_grad ? x->grad : NULL, add,
        gamma->needs_grad ? gamma->grad : NULL, beta->needs_grad ? beta->grad : NULL, err);
}

mra_tensor *mra_layer_norm(mra_tape *tape, mra_tensor *x, mra_tensor *gamma, mra_tensor *beta,
                           float epsilon)
{
    if (!x || !gamma || !beta || mra_tape_status(tape, NULL)) return NULL;
    const int width = mra_last(x);
    if (x->rank < 1 || width < 1 || gamma->size != (size_t)width || beta->size != (size_t)width)
        return mra_tape_fail(
            tape, MRA_BAD_INPUT,
            "layer_norm: x%s, gamma%s, beta%s; expected x[...,width], gamma[width], "
            "beta[width]",
            mra_shape_of(x).text, mra_shape_of(gamma).text, mra_shape_of(beta).text);
    const bool needs_grad = x->needs_grad || gamma->needs_grad || beta->needs_grad;
    mra_tensor *y = mra_result_like(tape, x, needs_grad);
    float *statistics = mra_tape_device_alloc(tape, 2 * mra_leading(x) * sizeof *statistics);
    if (!y || !statistics) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->layer_norm(device, mra_leading(x), width, epsilon, x->data,
                                    gamma->data, beta->data, y->data, statistics, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x, gamma, beta},
                                  .operands = 3,
                                  .saved = statistics,
                                  .backward = layer_norm_backward,
                                  .name = "layer_norm",
                                  .overwrites = true});
}

// ---- Softmax: its own result is all that the way back needs ---------------------------------

static mra_status softmax_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *y = node->output;
    return device->kernels->softmax_backward(device, mra_leading(x), mra_last(x), y->data,
                                             y->grad, x->grad, mra_grad_adds(x), err);
}

mra_tensor *mra_softmax(mra_tape *tape, mra_tensor *x)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->softmax(device, mra_leading(x), mra_last(x), x->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .backward = softmax_backward,
                                  .name = "softmax",
                                  .overwrites = true});
}
