// Operations along sequences: depth-wise convolution, means of segments, the Gaussian kernel, softmax over the
// entries that are kept.

#include "tensor/operation.h"

// ---- Convolution ----------------------------------------------------------------------------

static mra_status convolve_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *filter = node->operand[1];
    const size_t groups = (size_t)x->shape[0] * (size_t)x->shape[1];
    const int heads = x->shape[1], n = x->shape[2], d = x->shape[3], taps = filter->shape[1];
    const float *dy = node->output->grad;
    mra_status status = MRA_OK;
    if (x->needs_grad)
        status = device->kernels->convolve(device, groups, heads, n, d, taps, dy, filter->data,
                                           true, x->grad, mra_grad_adds(x), err);
    if (!status) status = mra_grad_ready(tape, filter, err);
    if (!status && filter->needs_grad)
        status = device->kernels->convolve_backward_filter(device, groups, heads, n, d, taps,
                                                           x->data, dy, filter->grad, err);
    return status;
}

mra_tensor *mra_convolve_sequence(mra_tape *tape, mra_tensor *x, mra_tensor *filter)
{
    if (!x || !filter || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 4 || filter->rank != 2 || filter->shape[0] != x->shape[1] ||
        filter->shape[1] % 2 == 0)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "convolve_sequence: x%s, filter%s; expected x[batch,heads,n,d], "
                             "filter[heads,taps] with an odd number of taps",
                             mra_shape_of(x).text, mra_shape_of(filter).text);
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad || filter->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->convolve(
        device, (size_t)x->shape[0] * (size_t)x->shape[1], x->shape[1], x->shape[2],
        x->shape[3], filter->shape[1], x->data, filter->data, false, y->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x, filter},
                                  .operands = 2,
                                  .backward = convolve_backward,
                                  .name = "convolve_sequence",
                                  .overwrites = true});
}

// ---- Means of segments ----------------------------------------------------------------------

static mra_status segment_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    return device->kernels->segment_mean_backward(
        device, (size_t)x->shape[0] * (size_t)x->shape[1], x->shape[1], x->shape[2],
        node->output->shape[2], x->shape[3], node->saved, node->output->grad, x->grad,
        mra_grad_adds(x), err);
}

mra_tensor *mra_segment_mean(mra_tape *tape, mra_tensor *x, const int32_t *segment,
                             int segments)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 4 || segments < 1)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "segment_mean: x%s into %d segments, expected x[batch,heads,n,d]",
                             mra_shape_of(x).text, segments);
    const int shape[4] = {x->shape[0], x->shape[1], segments, x->shape[3]};
    const size_t positions = (size_t)x->shape[0] * (size_t)x->shape[2];
    mra_tensor *y = mra_tape_result(tape, 4, shape, x->needs_grad);
    int32_t *saved = mra_tape_upload(tape, segment, positions * sizeof *saved);
    if (!y || !saved) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->segment_mean(
        device, (size_t)x->shape[0] * (size_t)x->shape[1], x->shape[1], x->shape[2], segments,
        x->shape[3], saved, x->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = saved,
                                  .backward = segment_backward,
                                  .name = "segment_mean",
                                  .overwrites = true});
}

// ---- The Gaussian kernel --------------------------------------------------------------------

static mra_status gaussian_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *c = node->operand[1], *y = node->output;
    const size_t groups = mra_leading(x) / (size_t)x->shape[x->rank - 2];
    // One tensor in both places is written to twice: the second time it adds.
    const bool add_x = x->needs_grad && mra_grad_adds(x);
    const bool add_c = c->needs_grad && mra_grad_adds(c);
    return device->kernels->gaussian_backward(
        device, groups, x->shape[x->rank - 2], c->shape[c->rank - 2], mra_last(x), x->data,
        c->data, y->data, y->grad, x->needs_grad ? x->grad : NULL, add_x,
        c->needs_grad ? c->grad : NULL, add_c, err);
}

mra_tensor *mra_gaussian(mra_tape *tape, mra_tensor *x, mra_tensor *c)
{
    if (!x || !c || mra_tape_status(tape, NULL)) return NULL;
    bool fits = x->rank == c->rank && x->rank >= 2 && mra_last(x) == mra_last(c);
    for (int i = 0; fits && i + 2 < x->rank; i++) fits = x->shape[i] == c->shape[i];
    if (!fits)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "gaussian: x%s, c%s; expected x[...,n,d], c[...,m,d]",
                             mra_shape_of(x).text, mra_shape_of(c).text);
    int shape[MRA_MAX_RANK];
    for (int i = 0; i < x->rank; i++) shape[i] = x->shape[i];
    shape[x->rank - 1] = c->shape[c->rank - 2];
    mra_tensor *y = mra_tape_result(tape, x->rank, shape, x->needs_grad || c->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->gaussian(
        device, mra_leading(x) / (size_t)x->shape[x->rank - 2], x->shape[x->rank - 2],
        c->shape[c->rank - 2], mra_last(x), x->data, c->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x, c},
                                  .operands = 2,
                                  .backward = gaussian_backward,
                                  .name = "gaussian",
                                  .overwrites = true});
}

// ---- Softmax over what is kept --------------------------------------------------------------

static mra_status kept_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *y = node->output;
    return device->kernels->softmax_backward(device, mra_leading(x), mra_last(x), y->data,
                                             y->grad, x->grad, mra_grad_adds(x), err);
}

mra_tensor *mra_softmax_kept(mra_tape *tape, mra_tensor *x, const uint8_t *keep)
{
    if (!keep) return mra_softmax(tape, x);
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 4)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "softmax_kept: x%s, expected x[batch,heads,rows,width]",
                             mra_shape_of(x).text);
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    uint8_t *saved = mra_tape_upload(tape, keep, (size_t)x->shape[0] * (size_t)x->shape[3]);
    if (!y || !saved) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->softmax_kept(
        device, (size_t)x->shape[0] * (size_t)x->shape[1], x->shape[1], x->shape[2],
        x->shape[3], saved, x->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .backward = kept_backward,
                                  .name = "softmax_kept",
                                  .overwrites = true});
}
