// The gradient of a step that is computed in parts.
//
// The parts are added where the gradients are, on the device, so that nothing passes to the host and back.

#include "nn/gradient.h"

#include <stdlib.h>

#include "tensor/kernels.h"

struct mra_gradient {
    mra_parameters *parameters; // borrowed
    int parts;
    float *sum; // on the device, parameters->size; NULL with one part
};

mra_status mra_gradient_create(mra_gradient **gradient, mra_parameters *parameters, int parts,
                               mra_error *err)
{
    *gradient = NULL;
    mra_gradient *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "gradients: no memory");
    made->parameters = parameters;
    made->parts = parts;
    mra_device *device = parameters->device;
    if (parts > 1) made->sum = device->allocate(device, parameters->size * sizeof(float));
    if (parts > 1 && !made->sum) {
        mra_gradient_free(made);
        return mra_fail(err, MRA_NO_MEMORY, "gradients: no memory for those of %zu weights",
                        parameters->size);
    }
    *gradient = made;
    return MRA_OK;
}

void mra_gradient_free(mra_gradient *gradient)
{
    if (!gradient) return;
    mra_device *device = gradient->parameters->device;
    if (gradient->sum) device->release(device, gradient->sum);
    free(gradient);
}

mra_status mra_gradient_add(mra_gradient *gradient, int part, mra_error *err)
{
    if (gradient->parts == 1) return MRA_OK;
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

mra_status mra_gradient_finish(mra_gradient *gradient, mra_error *err)
{
    if (gradient->parts == 1) return MRA_OK;
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
