// The table of methods and the life of a layer: create, check, apply, free.
//
// Everything that compares methods walks this table and knows none of them by name, so a method
// joins every command, benchmark and figure by adding its row here.
#include "attention/attention.h"

#include <stdlib.h>
#include <string.h>

#include "attention/methods.h"

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
        return mra_fail(
            err, MRA_BAD_INPUT,
            "%s: shape [batch %d, heads %d, n %d, d %d]: expected positive sizes and "
            "d of at most 256",
            method, shape.batch, shape.heads, shape.n, shape.d);
    mra_attention_layer base = {
        .method = found, .device = device, .shape = shape, .seed = seed};
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
