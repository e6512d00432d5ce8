// AdamW with its state.
//
// The moments of all parameters lie one after another in two arrays on the device, in the order of the list of
// parameters. The update itself is a primitive of the device (tensor/kernels.h).

#include "nn/optimiser.h"

#include <math.h>
#include <stdlib.h>

#include "tensor/kernels.h"

struct mra_optimiser {
    mra_optimiser_options options;
    mra_parameters *parameters; // borrowed
    float *moment[2];           // on the device, parameters->size each
};

mra_optimiser_options mra_optimiser_defaults(void)
{
    return (mra_optimiser_options){.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-6};
}

mra_status mra_optimiser_create(mra_optimiser **optimiser, const mra_optimiser_options *options,
                                mra_parameters *parameters, mra_error *err)
{
    mra_optimiser *made = calloc(1, sizeof *made);
    *optimiser = NULL;
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "optimiser: no memory");
    made->options = *options;
    made->parameters = parameters;
    mra_device *device = parameters->device;
    for (int i = 0; i < 2; i++) {
        made->moment[i] = device->allocate(device, parameters->size * sizeof(float));
        if (made->moment[i]) continue;
        mra_optimiser_free(made);
        return mra_fail(err, MRA_NO_MEMORY,
                        "optimiser: no memory for the moments of %zu weights",
                        parameters->size);
    }
    *optimiser = made;
    return MRA_OK;
}

void mra_optimiser_free(mra_optimiser *optimiser)
{
    if (!optimiser) return;
    mra_device *device = optimiser->parameters->device;
    for (int i = 0; i < 2; i++)
        if (optimiser->moment[i]) device->release(device, optimiser->moment[i]);
    free(optimiser);
}

mra_status mra_optimiser_norm(mra_optimiser *optimiser, double *norm, mra_error *err)
{
    const mra_parameters *parameters = optimiser->parameters;
    mra_device *device = parameters->device;
    double total = 0;
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        const mra_tensor *tensor = parameters->list[i].tensor;
        double sum = 0;
        status = device->kernels->sum_of_squares(device, tensor->size, tensor->grad, &sum, err);
        total += sum;
    }
    *norm = sqrt(total);
    return status;
}

mra_status mra_optimiser_step(mra_optimiser *optimiser, int64_t step, double rate,
                              double gradient_scale, mra_error *err)
{
    const mra_parameters *parameters = optimiser->parameters;
    const mra_optimiser_options *options = &optimiser->options;
    mra_device *device = parameters->device;
    const mra_adamw update = {.rate = rate,
                              .beta1 = options->beta1,
                              .beta2 = options->beta2,
                              .epsilon = options->epsilon,
                              .weight_decay = options->weight_decay,
                              .gradient_scale = gradient_scale,
                              .step = (uint64_t)step};
    size_t at = 0;
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        mra_tensor *tensor = parameters->list[i].tensor;
        status =
            device->kernels->adamw(device, &update, tensor->size, tensor->data, tensor->grad,
                                   optimiser->moment[0] + at, optimiser->moment[1] + at, err);
        if (status == MRA_OK)
            status = device->kernels->fill(device, tensor->size, 0.0f, tensor->grad, err);
        at += tensor->size;
    }
    return status;
}

mra_status mra_optimiser_to_host(const mra_optimiser *optimiser, int moment, float *values,
                                 mra_error *err)
{
    mra_device *device = optimiser->parameters->device;
    return device->to_host(device, values, optimiser->moment[moment - 1],
                           optimiser->parameters->size * sizeof *values, err);
}

mra_status mra_optimiser_from_host(mra_optimiser *optimiser, int moment, const float *values,
                                   mra_error *err)
{
    mra_device *device = optimiser->parameters->device;
    return device->to_device(device, optimiser->moment[moment - 1], values,
                             optimiser->parameters->size * sizeof *values, err);
}
