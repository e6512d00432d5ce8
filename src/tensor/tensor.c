// Tensors that live outside the tape: parameters, and inputs that are kept from step to step.

#include "tensor/tensor.h"

#include <stdio.h>
#include <stdlib.h>

#include "tensor/operation.h"

// The number of entries, or MRA_BAD_INPUT where a dimension is negative or the product
// overflows.
static mra_status count_entries(int rank, const int *shape, size_t *size, mra_error *err)
{
    if (rank < 0 || rank > MRA_MAX_RANK)
        return mra_fail(err, MRA_BAD_INPUT, "tensor: rank %d, expected 0 to %d", rank,
                        MRA_MAX_RANK);
    *size = 1;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0)
            return mra_fail(err, MRA_BAD_INPUT,
                            "tensor: dimension %d is %d, expected 0 or more", i, shape[i]);
        if (shape[i] && *size > SIZE_MAX / sizeof(float) / (size_t)shape[i])
            return mra_fail(err, MRA_BAD_INPUT, "tensor: its size does not fit into memory");
        *size *= (size_t)shape[i];
    }
    return MRA_OK;
}

mra_status mra_tensor_create(mra_tensor **tensor, mra_device *device, int rank,
                             const int *shape, bool needs_grad, mra_error *err)
{
    *tensor = NULL;
    size_t size = 0;
    if (count_entries(rank, shape, &size, err)) return MRA_BAD_INPUT;
    mra_tensor *made = calloc(1, sizeof *made);
    if (made) {
        *made = (mra_tensor){.rank = rank, .size = size, .needs_grad = needs_grad};
        for (int i = 0; i < rank; i++) made->shape[i] = shape[i];
        made->data = device->allocate(device, size * sizeof(float));
        if (needs_grad && made->data)
            made->grad = device->allocate(device, size * sizeof(float));
    }
    if (!made || !made->data || (needs_grad && !made->grad)) {
        mra_tensor_free(made, device);
        return mra_fail(err, MRA_NO_MEMORY, "tensor: no memory for %zu values on device '%s'",
                        size, device->name);
    }
    *tensor = made;
    return MRA_OK;
}

void mra_tensor_free(mra_tensor *tensor, mra_device *device)
{
    if (!tensor) return;
    if (tensor->data) device->release(device, tensor->data);
    if (tensor->grad) device->release(device, tensor->grad);
    free(tensor);
}

// ---- Shapes ---------------------------------------------------------------------------------

mra_shape_words mra_shape_of(const mra_tensor *tensor)
{
    mra_shape_words words = {"["};
    size_t used = 1;
    for (int i = 0; i < tensor->rank; i++)
        used += (size_t)snprintf(words.text + used, sizeof words.text - used, "%s%d",
                                 i ? "," : "", tensor->shape[i]);
    snprintf(words.text + used, sizeof words.text - used, "]");
    return words;
}

bool mra_same_shape(const mra_tensor *a, const mra_tensor *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

int mra_last(const mra_tensor *tensor)
{
    return tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
}

size_t mra_leading(const mra_tensor *tensor)
{
    size_t rows = 1;
    for (int i = 0; i + 1 < tensor->rank; i++) rows *= (size_t)tensor->shape[i];
    return rows;
}
