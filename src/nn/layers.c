// Learned parameters, and the layers that are made of them.
//
// Initial values come from counter-based random numbers whose stream is the parameter's *name*: adding a
// layer to a network, or creating layers in another order, leaves the others' initial values as they were.

#include "nn/layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"

void mra_parameters_open(mra_parameters *parameters, mra_device *device, uint64_t seed)
{
    *parameters = (mra_parameters){.device = device, .seed = seed};
}

void mra_parameters_free(mra_parameters *parameters)
{
    for (int i = 0; i < parameters->count; i++)
        mra_tensor_free(parameters->list[i].tensor, parameters->device);
    free(parameters->list);
    parameters->list = NULL;
    parameters->count = parameters->room = 0;
    parameters->size = 0;
}

// Fills a parameter with its initial values.
static mra_status initialise(mra_parameters *parameters, const mra_parameter *parameter,
                             mra_initial initial, float scale, mra_error *err)
{
    if (initial == MRA_INITIAL_ZERO) return MRA_OK; // as created
    size_t size = parameter->tensor->size;
    float *value = malloc(size * sizeof *value);
    if (!value) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", parameter->name);
    uint64_t stream = mra_stream(parameter->name, 0, 0);
    if (initial == MRA_INITIAL_NORMAL)
        mra_fill_normal(value, size, scale, parameters->seed, stream);
    else if (initial == MRA_INITIAL_UNIFORM)
        mra_fill_uniform(value, size, -scale, scale, parameters->seed, stream);
    else
        for (size_t i = 0; i < size; i++) value[i] = 1.0f;
    mra_device *device = parameters->device;
    mra_status status =
        device->to_device(device, parameter->tensor->data, value, size * sizeof *value, err);
    free(value);
    return status;
}

mra_status mra_parameters_add(mra_parameters *parameters, mra_tensor **tensor, const char *name,
                              int rank, const int *shape, mra_initial initial, float scale,
                              mra_error *err)
{
    if (strlen(name) >= MRA_PARAMETER_NAME)
        return mra_fail(err, MRA_INTERNAL, "the parameter name %s is too long", name);
    if (parameters->count == parameters->room) {
        int room = parameters->room ? 2 * parameters->room : 32;
        mra_parameter *larger = realloc(parameters->list, (size_t)room * sizeof *larger);
        if (!larger) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", name);
        parameters->list = larger;
        parameters->room = room;
    }
    mra_parameter *parameter = &parameters->list[parameters->count];
    snprintf(parameter->name, sizeof parameter->name, "%s", name);
    mra_status status =
        mra_tensor_create(&parameter->tensor, parameters->device, rank, shape, true, err);
    if (status != MRA_OK) return mra_fail_within(err, "parameter %s", name);
    parameters->count++; // from here on the list owns it
    parameters->size += parameter->tensor->size;
    *tensor = parameter->tensor;
    return initialise(parameters, parameter, initial, scale, err);
}

mra_status mra_parameters_to_host(const mra_parameters *parameters, float *values,
                                  mra_error *err)
{
    mra_device *device = parameters->device;
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        const mra_tensor *tensor = parameters->list[i].tensor;
        status =
            device->to_host(device, values, tensor->data, tensor->size * sizeof(float), err);
        values += tensor->size;
    }
    return status;
}

mra_status mra_parameters_from_host(mra_parameters *parameters, const float *values,
                                    mra_error *err)
{
    mra_device *device = parameters->device;
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        mra_tensor *tensor = parameters->list[i].tensor;
        status =
            device->to_device(device, tensor->data, values, tensor->size * sizeof(float), err);
        values += tensor->size;
    }
    return status;
}

mra_status mra_parameters_store(const mra_parameters *parameters, const char *prefix,
                                const float *values, mra_safetensors *file, mra_error *err)
{
    mra_status status = MRA_OK;
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        const mra_parameter *parameter = &parameters->list[i];
        char name[2 * MRA_PARAMETER_NAME];
        snprintf(name, sizeof name, "%s%s", prefix, parameter->name);
        int64_t shape[MRA_MAX_RANK];
        for (int k = 0; k < parameter->tensor->rank; k++)
            shape[k] = parameter->tensor->shape[k];
        status = mra_safetensors_add(file, name, parameter->tensor->rank, shape, values, err);
        values += parameter->tensor->size;
    }
    return status;
}

mra_status mra_parameters_fetch(const mra_parameters *parameters, const char *prefix,
                                const mra_safetensors *file, const char *path, float *values,
                                mra_error *err)
{
    for (int i = 0; i < parameters->count; i++) {
        const mra_tensor *tensor = parameters->list[i].tensor;
        const float *stored;
        char name[2 * MRA_PARAMETER_NAME];
        snprintf(name, sizeof name, "%s%s", prefix, parameters->list[i].name);
        mra_status status =
            mra_safetensors_fetch(file, path, name, tensor->rank, tensor->shape, &stored, err);
        if (status != MRA_OK) return status;
        memcpy(values, stored, tensor->size * sizeof *values);
        values += tensor->size;
    }
    return MRA_OK;
}

// ---- Layers ---------------------------------------------------------------------------------------

mra_status mra_linear_layer_create(mra_linear_layer *layer, mra_parameters *parameters,
                                   const char *name, int in, int out, mra_error *err)
{
    char path[2 * MRA_PARAMETER_NAME];
    float bound = 1.0f / sqrtf((float)in);
    snprintf(path, sizeof path, "%s.weight", name);
    mra_status status = mra_parameters_add(parameters, &layer->weight, path, 2,
                                           (int[]){out, in}, MRA_INITIAL_UNIFORM, bound, err);
    if (status != MRA_OK) return status;
    snprintf(path, sizeof path, "%s.bias", name);
    return mra_parameters_add(parameters, &layer->bias, path, 1, &out, MRA_INITIAL_UNIFORM,
                              bound, err);
}

mra_tensor *mra_linear_layer_apply(const mra_linear_layer *layer, mra_tape *tape, mra_tensor *x)
{
    return mra_linear(tape, x, layer->weight, layer->bias);
}

mra_status mra_norm_layer_create(mra_norm_layer *layer, mra_parameters *parameters,
                                 const char *name, int width, mra_error *err)
{
    char path[2 * MRA_PARAMETER_NAME];
    snprintf(path, sizeof path, "%s.gain", name);
    mra_status status =
        mra_parameters_add(parameters, &layer->gain, path, 1, &width, MRA_INITIAL_ONE, 0, err);
    if (status != MRA_OK) return status;
    snprintf(path, sizeof path, "%s.shift", name);
    return mra_parameters_add(parameters, &layer->shift, path, 1, &width, MRA_INITIAL_ZERO, 0,
                              err);
}

mra_tensor *mra_norm_layer_apply(const mra_norm_layer *layer, mra_tape *tape, mra_tensor *x)
{
    return mra_layer_norm(tape, x, layer->gain, layer->shift, 1e-5f);
}
