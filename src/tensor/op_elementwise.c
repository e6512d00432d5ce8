// Operations entry by entry: sums, products, activations, dropout.

#include "core/random.h"
#include "tensor/operation.h"

// ---- a + b: da = db = dy --------------------------------------------------------------------

static mra_status add_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const mra_tensor *y = node->output;
    for (int i = 0; i < 2; i++) {
        mra_tensor *operand = node->operand[i];
        if (!operand->needs_grad) continue;
        mra_status status = device->kernels->scale(device, y->size, 1.0f, y->grad,
                                                   operand->grad, mra_grad_adds(operand), err);
        if (status) return status;
    }
    return MRA_OK;
}

// The result of an operation on two operands of equal shape; NULL with a message if they are
// not.
static mra_tensor *pair_result(mra_tape *tape, const char *name, const mra_tensor *a,
                               const mra_tensor *b)
{
    if (!a || !b || mra_tape_status(tape, NULL)) return NULL;
    if (!mra_same_shape(a, b))
        return mra_tape_fail(tape, MRA_BAD_INPUT, "%s: a%s and b%s, expected equal shapes",
                             name, mra_shape_of(a).text, mra_shape_of(b).text);
    return mra_result_like(tape, a, a->needs_grad || b->needs_grad);
}

mra_tensor *mra_add(mra_tape *tape, mra_tensor *a, mra_tensor *b)
{
    mra_tensor *y = pair_result(tape, "add", a, b);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->add(device, y->size, a->data, b->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {a, b},
                                  .operands = 2,
                                  .backward = add_backward,
                                  .name = "add",
                                  .overwrites = true});
}

// ---- a b: da = dy b, db = dy a --------------------------------------------------------------

static mra_status multiply_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const mra_tensor *y = node->output;
    for (int i = 0; i < 2; i++) {
        mra_tensor *operand = node->operand[i], *other = node->operand[1 - i];
        if (!operand->needs_grad) continue;
        mra_status status = device->kernels->multiply(
            device, y->size, y->grad, other->data, operand->grad, mra_grad_adds(operand), err);
        if (status) return status;
    }
    return MRA_OK;
}

mra_tensor *mra_multiply(mra_tape *tape, mra_tensor *a, mra_tensor *b)
{
    mra_tensor *y = pair_result(tape, "multiply", a, b);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->multiply(device, y->size, a->data, b->data, y->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {a, b},
                                  .operands = 2,
                                  .backward = multiply_backward,
                                  .name = "multiply",
                                  .overwrites = true});
}

// ---- One operand ----------------------------------------------------------------------------

static mra_status scale_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    const float factor = *(const float *)node->saved;
    return device->kernels->scale(device, x->size, factor, node->output->grad, x->grad,
                                  mra_grad_adds(x), err);
}

mra_tensor *mra_scale(mra_tape *tape, mra_tensor *x, float factor)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    float *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!y || !saved) return NULL;
    *saved = factor;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->scale(device, x->size, factor, x->data, y->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = saved,
                                  .backward = scale_backward,
                                  .name = "scale",
                                  .overwrites = true});
}

static mra_status gelu_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    return device->kernels->gelu_backward(device, x->size, x->data, node->output->grad, x->grad,
                                          mra_grad_adds(x), err);
}

mra_tensor *mra_gelu(mra_tape *tape, mra_tensor *x)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->gelu(device, x->size, x->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .backward = gelu_backward,
                                  .name = "gelu",
                                  .overwrites = true});
}

static mra_status relu_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    return device->kernels->relu_backward(device, x->size, x->data, node->output->grad, x->grad,
                                          mra_grad_adds(x), err);
}

mra_tensor *mra_relu(mra_tape *tape, mra_tensor *x)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->relu(device, x->size, x->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .backward = relu_backward,
                                  .name = "relu",
                                  .overwrites = true});
}

// ---- Dropout --------------------------------------------------------------------------------

// Which numbers decide: enough to draw them again on the way back.
typedef struct dropout_choice {
    float p;
    uint64_t seed, stream;
} dropout_choice;

static mra_status dropout_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const dropout_choice *choice = node->saved;
    mra_tensor *x = node->operand[0];
    return device->kernels->dropout(device, x->size, choice->p, choice->seed, choice->stream,
                                    node->output->grad, x->grad, mra_grad_adds(x), err);
}

mra_tensor *mra_dropout(mra_tape *tape, mra_tensor *x, float p, uint32_t site)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (!(p >= 0.0f && p < 1.0f))
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "dropout: the probability is %g, expected 0 <= p < 1", (double)p);
    const mra_tape_random random = mra_tape_random_of(tape);
    if (!random.training || p == 0.0f) return x;
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    dropout_choice *choice = mra_tape_alloc(tape, sizeof *choice);
    if (!y || !choice) return NULL;
    *choice = (dropout_choice){p, random.seed, mra_stream("dropout", site, random.step)};
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->dropout(device, x->size, p, choice->seed,
                                                 choice->stream, x->data, y->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = choice,
                                  .backward = dropout_backward,
                                  .name = "dropout",
                                  .overwrites = true});
}
