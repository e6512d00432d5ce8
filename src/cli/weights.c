// Learned parameters and random numbers of attention methods, from and to files (see
// cli/weights.h).

#include "cli/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char mra_cli_help_weights[] =
    "What the method learns, from this safetensors file, in place of initial values drawn with "
    "--seed: arrays named as `mra methods NAME` lists them, or METHOD.NAME.";
const char mra_cli_help_save_weights[] =
    "Receives what the method learns, as it was used, in the same format.";
const char mra_cli_help_dump_random[] =
    "Receives all that the method drew with --seed (features, rotations, blocks) as "
    "safetensors of float32 and int32: what another program needs to compute the same.";

mra_status mra_cli_weights_open(mra_cli_weights *weights, const mra_cli_weight_files *files,
                                const char *dweights, bool several, uint64_t seed,
                                mra_error *err)
{
    *weights = (mra_cli_weights){.files = *files, .dweights = dweights, .several = several};
    mra_safetensors **made[] = {files->save ? &weights->saved : NULL,
                                files->random ? &weights->random : NULL,
                                dweights ? &weights->gradients : NULL};
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, seed);
    mra_status status = MRA_OK;
    if (files->weights) status = mra_safetensors_read(&weights->given, files->weights, err);
    for (int i = 0; i < 3 && status == MRA_OK; i++) {
        if (!made[i]) continue;
        status = mra_safetensors_create(made[i], err);
        if (status == MRA_OK) status = mra_safetensors_set(*made[i], "seed", text, err);
    }
    return status;
}

void mra_cli_weights_close(mra_cli_weights *weights)
{
    mra_safetensors_free(weights->given);
    mra_safetensors_free(weights->saved);
    mra_safetensors_free(weights->random);
    mra_safetensors_free(weights->gradients);
    mra_arena_free(&weights->memory);
    *weights = (mra_cli_weights){0};
}

// "NAME" or "METHOD.NAME".
static void array_name(char *text, size_t room, const mra_attention_layer *layer,
                       const char *name, bool full)
{
    snprintf(text, room, "%s%s%s", full ? layer->method->name : "", full ? "." : "", name);
}

static int learned_by(const mra_attention_layer *layer,
                      mra_method_parameter parameter[MRA_METHOD_PARAMETERS])
{
    return layer->method->learned ? layer->method->learned(layer, parameter) : 0;
}

mra_status mra_cli_weights_load(mra_cli_weights *weights, const mra_attention_layer *layer,
                                mra_error *err)
{
    mra_method_parameter learned[MRA_METHOD_PARAMETERS];
    const int count = learned_by(layer, learned);
    mra_status status = MRA_OK;
    weights->learns = weights->learns || count > 0;
    mra_method_array drawn[MRA_METHOD_ARRAYS];
    if (layer->method->drawn && layer->method->drawn(layer, drawn) > 0) weights->draws = true;
    for (int i = 0; i < count && weights->given && status == MRA_OK; i++) {
        const mra_tensor *tensor = layer->parameter[i];
        const float *values;
        char name[120];
        array_name(name, sizeof name, layer, learned[i].name, true);
        if (!mra_safetensors_find(weights->given, name))
            array_name(name, sizeof name, layer, learned[i].name, false);
        status = mra_safetensors_fetch(weights->given, weights->files.weights, name,
                                       tensor->rank, tensor->shape, &values, err);
        if (status == MRA_OK)
            status = layer->device->to_device(layer->device, tensor->data, values,
                                              tensor->size * sizeof *values, err);
    }
    return status;
}

// Adds a copy of an array; `floats` is memory of `device`, or of the host where that is NULL.
static mra_status keep_array(mra_cli_weights *weights, mra_safetensors *file,
                             const mra_attention_layer *layer, const mra_method_array *array,
                             mra_device *device, mra_error *err)
{
    char name[120];
    int64_t shape[MRA_MAX_RANK];
    size_t bytes = sizeof(float);
    array_name(name, sizeof name, layer, array->name, weights->several);
    if (mra_safetensors_find(file, name)) return MRA_OK;
    for (int i = 0; i < array->rank; i++) {
        shape[i] = array->shape[i];
        bytes *= (size_t)array->shape[i];
    }
    void *copy = mra_arena_alloc(&weights->memory, bytes);
    if (!copy) return mra_fail(err, MRA_NO_MEMORY, "no memory for a copy of %s", name);
    mra_status status = MRA_OK;
    if (device)
        status = device->to_host(device, copy, array->floats, bytes, err);
    else
        memcpy(copy, array->ints ? (const void *)array->ints : array->floats, bytes);
    if (status != MRA_OK) return status;
    return array->ints ? mra_safetensors_add_ints(file, name, array->rank, shape, copy, err)
                       : mra_safetensors_add(file, name, array->rank, shape, copy, err);
}

// The values of what the layer learns, or their gradients.
static mra_status keep_learned(mra_cli_weights *weights, mra_safetensors *file,
                               const mra_attention_layer *layer, bool gradients, mra_error *err)
{
    mra_method_parameter learned[MRA_METHOD_PARAMETERS];
    const int count = learned_by(layer, learned);
    mra_status status = MRA_OK;
    for (int i = 0; i < count && status == MRA_OK; i++) {
        const mra_tensor *tensor = layer->parameter[i];
        mra_method_array array = {.name = learned[i].name,
                                  .rank = learned[i].rank,
                                  .floats = gradients ? tensor->grad : tensor->data};
        memcpy(array.shape, learned[i].shape, sizeof array.shape);
        status = keep_array(weights, file, layer, &array, layer->device, err);
    }
    return status;
}

mra_status mra_cli_weights_keep(mra_cli_weights *weights, const mra_attention_layer *layer,
                                mra_error *err)
{
    mra_method_array drawn[MRA_METHOD_ARRAYS];
    mra_status status = MRA_OK;
    if (weights->saved) status = keep_learned(weights, weights->saved, layer, false, err);
    if (weights->gradients && status == MRA_OK)
        status = keep_learned(weights, weights->gradients, layer, true, err);
    const int count = layer->method->drawn ? layer->method->drawn(layer, drawn) : 0;
    for (int i = 0; i < count && weights->random && status == MRA_OK; i++)
        status = keep_array(weights, weights->random, layer, &drawn[i], NULL, err);
    return status;
}

mra_status mra_cli_weights_check(const mra_cli_weights *weights, mra_error *err)
{
    const struct {
        const char *option, *path, *verb;
        bool useful;
    } check[] = {{"weights", weights->files.weights, "learns", weights->learns},
                 {"save-weights", weights->files.save, "learns", weights->learns},
                 {"dweights", weights->dweights, "learns", weights->learns},
                 {"dump-random", weights->files.random, "draws", weights->draws}};
    for (size_t i = 0; i < sizeof check / sizeof check[0]; i++)
        if (check[i].path && !check[i].useful)
            return mra_fail(err, MRA_BAD_INPUT, "--%s: %s %s %s", check[i].option,
                            weights->several ? "none of the methods" : "the method",
                            check[i].verb, weights->several ? "anything" : "nothing");
    return MRA_OK;
}

void mra_cli_weights_outputs(const mra_cli_weights *weights,
                             mra_cli_output outputs[MRA_CLI_WEIGHT_OUTPUTS])
{
    outputs[0] = (mra_cli_output){
        .option = "save-weights", .path = weights->files.save, .file = weights->saved};
    outputs[1] = (mra_cli_output){
        .option = "dump-random", .path = weights->files.random, .file = weights->random};
    outputs[2] = (mra_cli_output){
        .option = "dweights", .path = weights->dweights, .file = weights->gradients};
}

mra_status mra_cli_weights_write(const mra_cli_weights *weights, mra_error *err)
{
    mra_cli_output outputs[MRA_CLI_WEIGHT_OUTPUTS];
    mra_cli_weights_outputs(weights, outputs);
    return mra_cli_write_arrays(outputs, MRA_CLI_WEIGHT_OUTPUTS, NULL, err);
}

mra_status mra_cli_run_method(const mra_cli_common *common, const char *method,
                              const mra_cli_words *set, mra_cli_weights *weights,
                              const mra_cli_arrays *arrays, float *z, float *dq, float *dk,
                              float *dv, mra_error *err)
{
    mra_device *device = NULL;
    mra_attention_layer *layer = NULL;
    mra_tape *tape = NULL;
    mra_status status = mra_cli_device(&device, common, err);
    if (status == MRA_OK)
        status = mra_attention_layer_create(&layer, method, device, arrays->shape, common->seed,
                                            set->word, set->count, err);
    if (status == MRA_OK) status = mra_attention_layer_check(layer, err);
    if (status == MRA_OK) status = mra_cli_weights_load(weights, layer, err);
    if (status == MRA_OK) status = mra_cli_weights_check(weights, err);
    if (status == MRA_OK) status = mra_tape_create(&tape, device, err);
    if (status == MRA_OK)
        status = mra_attention_run(layer, tape, arrays->q.data, arrays->k.data, arrays->v.data,
                                   arrays->mask, z, dq != NULL ? arrays->dout.data : NULL, dq,
                                   dk, dv, err);
    if (status == MRA_OK) status = mra_cli_weights_keep(weights, layer, err);
    if (tape != NULL) mra_tape_free(tape);
    if (layer != NULL) mra_attention_layer_free(layer);
    if (device != NULL) mra_device_close(device);
    return status;
}
