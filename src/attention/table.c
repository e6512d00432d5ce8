// The table of methods and the life of a layer: create, check, apply, free.
//
// Everything that compares methods walks this table and knows none of them by name, so a method
// joins every command, benchmark and figure by adding its row here.
#include "attention/attention.h"

#include <stdlib.h>
#include <string.h>

#include "attention/methods.h"
#include "core/arena.h"
#include "core/random.h"

static const mra_method *const methods[] = {
    &mra_method_exact,          &mra_method_mra2,
    &mra_method_mra2s,          &mra_method_mra,
    &mra_method_linformer,      &mra_method_performer,
    &mra_method_nystromformer,  &mra_method_nystromformer_conv,
    &mra_method_soft,           &mra_method_soft_conv,
    &mra_method_yoso,           &mra_method_yoso_conv,
    &mra_method_reformer,       &mra_method_longformer,
    &mra_method_bigbird,        &mra_method_scatterbrain,
    &mra_method_htransformer1d,
};
enum { METHODS = sizeof methods / sizeof methods[0] };

const mra_method *mra_method_at(int index)
{
    return index >= 0 && index < METHODS ? methods[index] : NULL;
}

const mra_method *mra_method_find(const char *name)
{
    for (int i = 0; i < METHODS; i++)
        if (strcmp(methods[i]->name, name) == 0) return methods[i];
    return NULL;
}

static mra_status unknown_method(const char *name, mra_error *err)
{
    char names[300] = "";
    for (int i = 0; i < METHODS; i++) {
        strncat(names, i ? ", " : "", sizeof names - strlen(names) - 1);
        strncat(names, methods[i]->name, sizeof names - strlen(names) - 1);
    }
    return mra_fail(err, MRA_BAD_INPUT, "unknown method '%s': expected one of %s", name, names);
}

// Everything of a layer that follows from the request alone.
static mra_status read_request(const mra_attention_request *request, mra_attention_layer *base,
                               mra_error *err)
{
    const mra_shape shape = request->shape;
    const mra_method *found = mra_method_find(request->method);
    if (!found) return unknown_method(request->method, err);
    if (shape.batch < 1 || shape.heads < 1 || shape.n < 1 || shape.d < 1 || shape.d > 256)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "%s: shape [batch %d, heads %d, n %d, d %d]: expected positive sizes and "
            "d of at most 256",
            request->method, shape.batch, shape.heads, shape.n, shape.d);
    *base = (mra_attention_layer){.method = found,
                                  .device = request->device,
                                  .shape = shape,
                                  .seed = request->seed,
                                  .positions = request->positions > shape.n ? request->positions
                                                                            : shape.n,
                                  .borrowed = request->parameters != NULL};
    return mra_method_parse(found, request->assignments, request->assignment_count,
                            base->option, err);
}

mra_status mra_attention_learned(const mra_attention_request *request,
                                 mra_method_parameter parameter[MRA_METHOD_PARAMETERS],
                                 int *count, mra_error *err)
{
    mra_attention_layer base;
    *count = 0;
    mra_status status = read_request(request, &base, err);
    if (status == MRA_OK && base.method->learned)
        *count = base.method->learned(&base, parameter);
    return status;
}

static size_t parameter_size(const mra_method_parameter *parameter)
{
    size_t size = 1;
    for (int i = 0; i < parameter->rank; i++) size *= (size_t)parameter->shape[i];
    return size;
}

void mra_method_parameter_draw(const mra_method_parameter *parameter, uint64_t seed,
                               float *values)
{
    const size_t size = parameter_size(parameter);
    mra_fill_normal(values, size, parameter->deviation, seed,
                    mra_stream(parameter->name, 0, 0));
    for (size_t i = 0; i < size; i++) values[i] += parameter->mean;
}

// One parameter of the layer's own, with its first values.
static mra_status make_parameter(mra_attention_layer *base, const mra_method_parameter *learned,
                                 mra_error *err)
{
    const size_t bytes = parameter_size(learned) * sizeof(float);
    mra_tensor **made = &base->parameter[base->parameters];
    mra_status status =
        mra_tensor_create(made, base->device, learned->rank, learned->shape, true, err);
    if (status != MRA_OK) return status;
    base->parameters++;
    float *values = mra_aligned_calloc(1, bytes);
    if (!values)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for %s", base->method->name,
                        learned->name);
    mra_method_parameter_draw(learned, base->seed, values);
    status = base->device->to_device(base->device, (*made)->data, values, bytes, err);
    mra_aligned_free(values);
    return status;
}

static mra_status take_parameters(mra_attention_layer *base, mra_tensor *const *given,
                                  mra_error *err)
{
    mra_method_parameter learned[MRA_METHOD_PARAMETERS];
    const int count = base->method->learned ? base->method->learned(base, learned) : 0;
    for (int i = 0; i < count; i++) {
        if (!given) {
            mra_status status = make_parameter(base, &learned[i], err);
            if (status != MRA_OK) return status;
            continue;
        }
        if (given[i]->rank != learned[i].rank ||
            memcmp(given[i]->shape, learned[i].shape, sizeof(int) * (size_t)learned[i].rank) !=
                0)
            return mra_fail(err, MRA_BAD_INPUT, "%s: the parameter %s has another shape",
                            base->method->name, learned[i].name);
        base->parameter[base->parameters++] = given[i];
    }
    return MRA_OK;
}

static void release_parameters(mra_attention_layer *layer)
{
    for (int i = 0; i < layer->parameters && !layer->borrowed; i++)
        mra_tensor_free(layer->parameter[i], layer->device);
}

mra_status mra_attention_layer_make(mra_attention_layer **layer,
                                    const mra_attention_request *request, mra_error *err)
{
    mra_attention_layer base;
    *layer = NULL;
    mra_status status = read_request(request, &base, err);
    if (status != MRA_OK) return status;
    status = take_parameters(&base, request->parameters, err);
    if (status == MRA_OK) status = base.method->create(layer, &base, err);
    if (status != MRA_OK) release_parameters(&base);
    return status;
}

mra_status mra_attention_layer_create(mra_attention_layer **layer, const char *method,
                                      mra_device *device, mra_shape shape, uint64_t seed,
                                      const char *const *assignments, int count, mra_error *err)
{
    return mra_attention_layer_make(layer,
                                    &(mra_attention_request){.method = method,
                                                             .device = device,
                                                             .shape = shape,
                                                             .seed = seed,
                                                             .assignments = assignments,
                                                             .assignment_count = count},
                                    err);
}

mra_status mra_attention_layer_check(const mra_attention_layer *layer, mra_error *err)
{
    return layer->method->check ? layer->method->check(layer, err) : MRA_OK;
}

void mra_attention_layer_free(mra_attention_layer *layer)
{
    if (!layer) return;
    release_parameters(layer);
    layer->method->destroy(layer);
}

mra_tensor *mra_attention_apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                                mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    if (!q || !k || !v) return NULL;
    const int expected[4] = {layer->shape.batch, layer->shape.heads, layer->shape.n,
                             layer->shape.d};
    const mra_tensor *operand[3] = {q, k, v};
    for (int i = 0; i < 3; i++)
        if (operand[i]->rank != 4 || memcmp(operand[i]->shape, expected, sizeof expected) != 0)
            return mra_tape_fail(tape, MRA_BAD_INPUT,
                                 "%s: %c: expected shape [%d, %d, %d, %d] of the layer",
                                 layer->method->name, "qkv"[i], expected[0], expected[1],
                                 expected[2], expected[3]);
    return layer->method->apply(layer, tape, q, k, v, mask);
}
