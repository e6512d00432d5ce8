// The gradient of a step that is computed in parts.
//
// One process adds the parts where the gradients are, on the device, so that nothing passes to the host and back.
//
// Several processes cannot each add up their own parts and then add these sums: $(g_0 + g_1) + (g_2 + g_3)$ has other bits than
// $((g_0 + g_1) + g_2) + g_3$. So every process adds *all* parts, but only of the slice of weights that is its own: after each
// part it sends the others their slices of it and keeps what it gets, $P$ slices of $1 / R$ of the weights; when the last part
// has come it adds them in their order, and the slices are joined.

#include "nn/gradient.h"

#include <limits.h>
#include <stdlib.h>

#include "tensor/kernels.h"

struct mra_gradient {
    mra_parameters *parameters; // borrowed
    const mra_group *group;     // borrowed
    int parts;
    float *sum; // one process: on the device, parameters->size; NULL with one part
    // Several processes, on the host: the own gradient, and the own slice of every part.
    float *whole, *slots;
    size_t slice; // entries of the own slice
};

static mra_status allocate(mra_gradient *gradient, mra_error *err)
{
    const size_t size = gradient->parameters->size, parts = (size_t)gradient->parts;
    mra_device *device = gradient->parameters->device;
    const mra_group *group = gradient->group;
    bool complete = true;
    if (group->count > 1) {
        gradient->slice = mra_group_slice(group, size, group->rank + 1) -
                          mra_group_slice(group, size, group->rank);
        if (size > INT_MAX || gradient->slice > INT_MAX / parts)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%zu weights in %zu parts: too many to exchange", size, parts);
        gradient->whole = malloc(size * sizeof(float));
        gradient->slots = malloc(parts * (gradient->slice + 1) * sizeof(float));
        complete = gradient->whole && gradient->slots;
    } else if (parts > 1) {
        gradient->sum = device->allocate(device, size * sizeof(float));
        complete = gradient->sum;
    }
    if (complete) return MRA_OK;
    return mra_fail(err, MRA_NO_MEMORY, "gradients: no memory for those of %zu weights", size);
}

mra_status mra_gradient_create(mra_gradient **gradient, mra_parameters *parameters, int parts,
                               const mra_group *group, mra_error *err)
{
    *gradient = NULL;
    if (parts % group->count != 0)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "%d processes cannot share a batch of train.accumulate=%d parts evenly; "
            "expected a multiple of %d",
            group->count, parts, group->count);
    mra_gradient *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "gradients: no memory");
    made->parameters = parameters;
    made->group = group;
    made->parts = parts;
    mra_status status = allocate(made, err);
    if (status == MRA_OK)
        *gradient = made;
    else
        mra_gradient_free(made);
    return status;
}

void mra_gradient_free(mra_gradient *gradient)
{
    if (!gradient) return;
    mra_device *device = gradient->parameters->device;
    if (gradient->sum) device->release(device, gradient->sum);
    free(gradient->whole);
    free(gradient->slots);
    free(gradient);
}

// ---- One process ----------------------------------------------------------------------------------

static mra_status add_here(mra_gradient *gradient, int part, mra_error *err)
{
    const mra_parameters *parameters = gradient->parameters;
    mra_device *device = parameters->device;
    float *sum = gradient->sum;
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        const mra_tensor *tensor = parameters->list[i].tensor;
        status = device->kernels->scale(device, tensor->size, 1.0f, tensor->grad, sum, part > 0,
                                        err);
        if (status == MRA_OK)
            status = device->kernels->fill(device, tensor->size, 0.0f, tensor->grad, err);
        sum += tensor->size;
    }
    return status;
}

static mra_status finish_here(mra_gradient *gradient, mra_error *err)
{
    const mra_parameters *parameters = gradient->parameters;
    mra_device *device = parameters->device;
    const float *sum = gradient->sum;
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        const mra_tensor *tensor = parameters->list[i].tensor;
        status =
            device->kernels->scale(device, tensor->size, 1.0f, sum, tensor->grad, false, err);
        sum += tensor->size;
    }
    return status;
}

// ---- Several processes ----------------------------------------------------------------------------

static mra_status add_together(mra_gradient *gradient, int part, mra_error *err)
{
    const mra_parameters *parameters = gradient->parameters;
    mra_device *device = parameters->device;
    float *whole = gradient->whole;
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        const mra_tensor *tensor = parameters->list[i].tensor;
        status =
            device->to_host(device, whole, tensor->grad, tensor->size * sizeof *whole, err);
        if (status == MRA_OK)
            status = device->kernels->fill(device, tensor->size, 0.0f, tensor->grad, err);
        whole += tensor->size;
    }
    status = mra_group_agree(gradient->group, status, err);
    if (status != MRA_OK) return status;
    // Process r is at part r own + k, as this one is at part rank own + k.
    const int own = gradient->parts / gradient->group->count;
    const int k = part - gradient->group->rank * own;
    mra_group_send_slices(gradient->group, parameters->size, gradient->whole,
                          gradient->slots + (size_t)k * gradient->slice,
                          (size_t)own * gradient->slice);
    return MRA_OK;
}

static mra_status finish_together(mra_gradient *gradient, mra_error *err)
{
    const mra_parameters *parameters = gradient->parameters;
    mra_device *device = parameters->device;
    float *sum = gradient->slots;
    for (int part = 1; part < gradient->parts; part++) {
        const float *slot = gradient->slots + (size_t)part * gradient->slice;
        for (size_t i = 0; i < gradient->slice; i++) sum[i] += slot[i];
    }
    mra_group_join_slices(gradient->group, parameters->size, sum, gradient->whole);
    const float *whole = gradient->whole;
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        const mra_tensor *tensor = parameters->list[i].tensor;
        status =
            device->to_device(device, tensor->grad, whole, tensor->size * sizeof *whole, err);
        whole += tensor->size;
    }
    return mra_group_agree(gradient->group, status, err);
}

mra_status mra_gradient_add(mra_gradient *gradient, int part, mra_error *err)
{
    if (gradient->group->count > 1) return add_together(gradient, part, err);
    return gradient->parts > 1 ? add_here(gradient, part, err) : MRA_OK;
}

mra_status mra_gradient_finish(mra_gradient *gradient, mra_error *err)
{
    if (gradient->group->count > 1) return finish_together(gradient, err);
    return gradient->parts > 1 ? finish_here(gradient, err) : MRA_OK;
}
