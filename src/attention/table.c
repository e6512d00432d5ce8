// The table of methods and the life of a layer: create, apply, run, free.
//
// Everything that compares methods walks this table and knows none of them by name, so a method joins every
// command, benchmark and figure by adding its row here.
#include "attention/attention.h"

#include <stdlib.h>
#include <string.h>

#include "attention/methods.h"
#include "core/arena.h"

static const mra_method *const methods[] = {&mra_method_exact, &mra_method_mra2,
                                            &mra_method_mra2s, &mra_method_mra};
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

mra_status mra_attention_layer_create(mra_attention_layer **layer, const char *method,
                                      mra_device *device, mra_shape shape, uint64_t seed,
                                      const char *const *assignments, int count, mra_error *err)
{
    *layer = NULL;
    const mra_method *found = mra_method_find(method);
    if (!found) return unknown_method(method, err);
    if (shape.batch < 1 || shape.heads < 1 || shape.n < 1 || shape.d < 1 || shape.d > 256)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: shape [batch %d, heads %d, n %d, d %d]: expected positive sizes and "
                        "d of at most 256",
                        method, shape.batch, shape.heads, shape.n, shape.d);
    mra_attention_layer base = {.method = found, .device = device, .shape = shape, .seed = seed};
    mra_status status = mra_method_parse(found, assignments, count, base.option, err);
    if (status != MRA_OK) return status;
    return found->create(layer, &base, err);
}

mra_status mra_attention_layer_check(const mra_attention_layer *layer, mra_error *err)
{
    return layer->method->check ? layer->method->check(layer, err) : MRA_OK;
}

void mra_attention_layer_free(mra_attention_layer *layer)
{
    if (!layer) return;
    for (int i = 0; i < layer->parameters; i++)
        mra_tensor_free(layer->parameter[i], layer->device);
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

// The host's arrays are the device's arrays on the CPU; they are wrapped, not copied.
mra_status mra_attention_run(mra_attention_layer *layer, mra_tape *tape, const float *q,
                             const float *k, const float *v, const uint8_t *mask, float *z,
                             const float *dz, float *dq, float *dk, float *dv, mra_error *err)
{
    const mra_shape s = layer->shape;
    const int shape[4] = {s.batch, s.heads, s.n, s.d};
    const size_t bytes = sizeof(float) * (size_t)s.batch * s.heads * s.n * s.d;
    mra_tape_reset(tape);
    mra_tape_mode(tape, dz != NULL, dz != NULL, layer->seed, 0);
    float *grad[3] = {dz ? dq : NULL, dz ? dk : NULL, dz ? dv : NULL};
    for (int i = 0; i < 3; i++)
        if (grad[i]) memset(grad[i], 0, bytes);
    // Operations never write to the data of their operands, so dropping const is safe.
    mra_tensor *out = mra_attention_apply(
        layer, tape, mra_wrap(tape, 4, shape, (float *)(uintptr_t)q, grad[0]),
        mra_wrap(tape, 4, shape, (float *)(uintptr_t)k, grad[1]),
        mra_wrap(tape, 4, shape, (float *)(uintptr_t)v, grad[2]), mask);
    if (!out) return mra_tape_status(tape, err);
    if (z) memcpy(z, out->data, bytes);
    return dz ? mra_tape_backward_from(tape, out, dz, err) : MRA_OK;
}
