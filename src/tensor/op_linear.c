// Linear layers and batched products.
//
//     y = x W^T + b:    dx = dy W,    dW = dy^T x,    db = column sums of dy
//     C = A B:          dA = dC B^T,  dB = A^T dC

#include "tensor/operation.h"

static mra_status linear_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const mra_kernels *kernels = device->kernels;
    mra_tensor *x = node->operand[0], *w = node->operand[1], *b = node->operand[2];
    const int in = mra_last(x), out = w->shape[0];
    const size_t rows = mra_leading(x);
    const float *dy = node->output->grad;
    mra_status status = MRA_OK;
    if (x->needs_grad)
        status = kernels->linear_backward_input(device, rows, in, out, dy, w->data, x->grad,
                                                mra_grad_adds(x), err);
    if (!status) status = mra_grad_ready(tape, w, err);
    if (!status && w->needs_grad)
        status =
            kernels->linear_backward_weight(device, rows, in, out, dy, x->data, w->grad, err);
    if (!status && b) status = mra_grad_ready(tape, b, err);
    if (!status && b && b->needs_grad)
        status = kernels->add_column_sums(device, rows, out, dy, b->grad, err);
    return status;
}

static bool linear_fits(const mra_tensor *x, const mra_tensor *w, const mra_tensor *b)
{
    if (x->rank < 1 || w->rank != 2 || mra_last(x) != w->shape[1]) return false;
    return !b || (b->rank == 1 && b->shape[0] == w->shape[0]);
}

mra_tensor *mra_linear(mra_tape *tape, mra_tensor *x, mra_tensor *w, mra_tensor *b)
{
    if (!x || !w || mra_tape_status(tape, NULL)) return NULL;
    if (!linear_fits(x, w, b))
        return mra_tape_fail(
            tape, MRA_BAD_INPUT, "linear: x%s, W%s, b%s; expected x[...,in], W[out,in], b[out]",
            mra_shape_of(x).text, mra_shape_of(w).text, b ? mra_shape_of(b).text : " absent");
    int shape[MRA_MAX_RANK];
    for (int i = 0; i < x->rank; i++) shape[i] = x->shape[i];
    shape[x->rank - 1] = w->shape[0];
    const bool needs_grad = x->needs_grad || w->needs_grad || (b && b->needs_grad);
    mra_tensor *y = mra_tape_result(tape, x->rank, shape, needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->linear(device, mra_leading(x), mra_last(x), w->shape[0], x->data,
                                w->data, b ? b->data : NULL, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x, w, b},
                                  .operands = 3,
                                  .backward = linear_backward,
                                  .name = "linear",
                                  .overwrites = true});
}

// ---- Batched products -----------------------------------------------------------------------

// How the operands of a product were given; kept on the tape for the way back.
typedef struct matmul_form {
    size_t batch;
    int m, n, k;
    bool transpose_a, transpose_b;
} matmul_form;

// If A was given as it is, dA = dC op(B)^T; if it was given as its transpose, d(A^T) = op(B)
// dC^T.
static mra_status backward_to_a(mra_device *device, const matmul_form *f, const float *dc,
                                mra_tensor *a, const mra_tensor *b, mra_error *err)
{
    const bool add = mra_grad_adds(a);
    if (!f->transpose_a) {
        const mra_product product = {f->batch, f->m, f->k, f->n, false, !f->transpose_b, 1.0f};
        return device->kernels->gemm(device, &product, dc, b->data, a->grad, add, err);
    }
    const mra_product product = {f->batch, f->k, f->m, f->n, f->transpose_b, true, 1.0f};
    return device->kernels->gemm(device, &product, b->data, dc, a->grad, add, err);
}

// Likewise dB = op(A)^T dC, or d(B^T) = dC^T op(A).
static mra_status backward_to_b(mra_device *device, const matmul_form *f, const float *dc,
                                const mra_tensor *a, mra_tensor *b, mra_error *err)
{
    const bool add = mra_grad_adds(b);
    if (!f->transpose_b) {
        const mra_product product = {f->batch, f->k, f->n, f->m, !f->transpose_a, false, 1.0f};
        return device->kernels->gemm(device, &product, a->data, dc, b->grad, add, err);
    }
    const mra_product product = {f->batch, f->n, f->k, f->m, true, f->transpose_a, 1.0f};
    return device->kernels->gemm(device, &product, dc, a->data, b->grad, add, err);
}

static mra_status matmul_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const matmul_form *form = node->saved;
    mra_tensor *a = node->operand[0], *b = node->operand[1];
    const float *dc = node->output->grad;
    mra_status status = MRA_OK;
    if (a->needs_grad) status = backward_to_a(device, form, dc, a, b, err);
    if (!status && b->needs_grad) status = backward_to_b(device, form, dc, a, b, err);
    return status;
}

static bool matmul_fits(const mra_tensor *a, bool transpose_a, const mra_tensor *b,
                        bool transpose_b)
{
    if (a->rank < 2 || a->rank != b->rank) return false;
    for (int i = 0; i + 2 < a->rank; i++)
        if (a->shape[i] != b->shape[i]) return false;
    const int last = a->rank - 1;
    return a->shape[transpose_a ? last - 1 : last] == b->shape[transpose_b ? last : last - 1];
}

mra_tensor *mra_matmul(mra_tape *tape, mra_tensor *a, bool transpose_a, mra_tensor *b,
                       bool transpose_b)
{
    if (!a || !b || mra_tape_status(tape, NULL)) return NULL;
    if (!matmul_fits(a, transpose_a, b, transpose_b))
        return mra_tape_fail(tape, MRA_BAD_INPUT, "matmul: A%s%s, B%s%s do not fit",
                             mra_shape_of(a).text, transpose_a ? " transposed" : "",
                             mra_shape_of(b).text, transpose_b ? " transposed" : "");
    matmul_form *form = mra_tape_alloc(tape, sizeof *form);
    if (!form) return NULL;
    const int last = a->rank - 1;
    *form = (matmul_form){.batch = 1,
                          .m = a->shape[transpose_a ? last : last - 1],
                          .n = b->shape[transpose_b ? last - 1 : last],
                          .k = a->shape[transpose_a ? last - 1 : last],
                          .transpose_a = transpose_a,
                          .transpose_b = transpose_b};
    int shape[MRA_MAX_RANK];
    for (int i = 0; i < last - 1; i++) {
        shape[i] = a->shape[i];
        form->batch *= (size_t)shape[i];
    }
    shape[last - 1] = form->m;
    shape[last] = form->n;
    mra_tensor *c = mra_tape_result(tape, a->rank, shape, a->needs_grad || b->needs_grad);
    if (!c) return NULL;
    mra_device *device = mra_tape_device(tape);
    const mra_product product = {form->batch, form->m,     form->n, form->k,
                                 transpose_a, transpose_b, 1.0f};
    mra_error err;
    mra_status status =
        device->kernels->gemm(device, &product, a->data, b->data, c->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = c,
                                  .operand = {a, b},
                                  .operands = 2,
                                  .saved = form,
                                  .backward = matmul_backward,
                                  .name = "matmul",
                                  .overwrites = true});
}
