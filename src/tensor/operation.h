// What the operations (tensor/op_*.c) share: checks of their operands, and the step from
// operands to a node. Private to src/tensor.
//
// Every operation reads the same way: check the shapes (a message names the operation and the
// shapes), make the result, call a kernel, record a node whose backward pass calls the kernels
// that carry the gradient back.
#ifndef MRA_TENSOR_OPERATION_H
#define MRA_TENSOR_OPERATION_H

#include "tensor/device.h"
#include "tensor/kernels.h"
#include "tensor/tensor.h"

// A shape as text, "[2,3,64]", for messages.
typedef struct mra_shape_words {
    char text[72];
} mra_shape_words;

mra_shape_words mra_shape_of(const mra_tensor *tensor);

// Whether two tensors have the same shape.
bool mra_same_shape(const mra_tensor *a, const mra_tensor *b);
// The last dimension (1 for a tensor of rank 0), and the product of all dimensions before it.
int mra_last(const mra_tensor *tensor);
size_t mra_leading(const mra_tensor *tensor);

// A result of the same shape as `like` that needs a gradient if `needs_grad`.
mra_tensor *mra_result_like(mra_tape *tape, const mra_tensor *like, bool needs_grad);

// Fills the gradient of `operand` with zeros if nothing was added to it yet: for kernels that
// only add. Does nothing to a tensor without a gradient.
mra_status mra_grad_ready(mra_tape *tape, mra_tensor *operand, mra_error *err);

// NULL with the kernel's error made sticky if `status` says so, otherwise the recorded node's
// output.
mra_tensor *mra_finish(mra_tape *tape, mra_status status, const mra_error *err,
                       const mra_node *node);

#endif
