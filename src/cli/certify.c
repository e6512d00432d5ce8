// Attention with a certificate (see cli/certify.h).

#include "cli/certify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

// A float32 that is not below x.
static float round_up(double x)
{
    const float nearest = (float)x;
    return nearest < x ? nextafterf(nearest, INFINITY) : nearest;
}

static mra_status certify_layer(const mra_cli_common *common, const char *method,
                                const mra_cli_words *set, const mra_cli_arrays *arrays,
                                float *z, double *row, mra_certificate *certificate,
                                mra_error *err)
{
    mra_device *device = NULL;
    mra_attention_layer *layer = NULL;
    mra_tape *tape = NULL;
    const float *q = arrays->q.data, *k = arrays->k.data, *v = arrays->v.data;
    mra_status status = mra_cli_device(&device, common, err);
    if (status == MRA_OK)
        status = mra_attention_layer_create(&layer, method, device, arrays->shape, common->seed,
                                            set->word, set->count, err);
    if (status == MRA_OK && !layer->method->certify)
        status =
            mra_fail(err, MRA_BAD_INPUT,
                     "--certify: %s has no certificate: expected mra2, mra2s or mra", method);
    if (status == MRA_OK) status = mra_attention_layer_check(layer, err);
    if (status == MRA_OK) status = mra_tape_create(&tape, device, err);
    if (status == MRA_OK)
        status = mra_attention_run(layer, tape, q, k, v, arrays->mask, z, NULL, NULL, NULL,
                                   NULL, err);
    if (status == MRA_OK)
        status = layer->method->certify(layer, q, k, v, arrays->mask, z, row, certificate, err);
    if (tape != NULL) mra_tape_free(tape);
    if (layer != NULL) mra_attention_layer_free(layer);
    if (device != NULL) mra_device_close(device);
    return status;
}

static mra_status attend_within(const char *method, const mra_cli_words *set,
                                const mra_cli_arrays *arrays, float *z, double *row,
                                mra_cli_certified *certified, mra_error *err)
{
    if (strcmp(method, "mra2") != 0)
        return mra_fail(err, MRA_BAD_INPUT, "--tolerance: %s: expected the method mra2",
                        method);
    if (set->count > 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "--set %s: not with --tolerance, which finds the budget itself",
                        set->word[0]);
    const mra_options options = mra_options_mra2(1);
    const mra_shape shape = arrays->shape;
    const size_t n = (size_t)shape.n, size = n * (size_t)shape.d;
    const float *q = arrays->q.data, *k = arrays->k.data, *v = arrays->v.data;
    mra_status status = MRA_OK;
    for (size_t h = 0; h < arrays->q.size / size && status == MRA_OK; h++) {
        const uint8_t *mask = arrays->mask ? arrays->mask + h / (size_t)shape.heads * n : NULL;
        status = mra_attend_within(&options, shape.n, shape.d, q + h * size, k + h * size,
                                   v + h * size, mask, certified->tolerance, z + h * size,
                                   row + h * n, &certified->certificate[h],
                                   &certified->blocks[h], err);
    }
    return status;
}

mra_status mra_cli_run_certified(const mra_cli_common *common, const char *method,
                                 const mra_cli_words *set, mra_cli_weights *weights,
                                 const mra_cli_arrays *arrays, float *z,
                                 mra_cli_certified *certified, mra_error *err)
{
    const size_t rows = arrays->q.size / (size_t)arrays->shape.d;
    const size_t heads = rows / (size_t)arrays->shape.n;
    double *row = mra_aligned_calloc(rows, sizeof *row);
    certified->bound = mra_aligned_calloc(rows, sizeof *certified->bound);
    certified->certificate = mra_aligned_calloc(heads, sizeof *certified->certificate);
    certified->blocks = mra_aligned_calloc(heads, sizeof *certified->blocks);
    mra_status status = MRA_OK;
    if (!row || !certified->bound || !certified->certificate || !certified->blocks)
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for the bounds of %zu rows", rows);
    if (status == MRA_OK) status = mra_cli_weights_check(weights, err);
    if (status == MRA_OK)
        status = certified->tolerance > 0
                     ? attend_within(method, set, arrays, z, row, certified, err)
                     : certify_layer(common, method, set, arrays, z, row,
                                     certified->certificate, err);
    for (size_t i = 0; i < rows && status == MRA_OK; i++)
        certified->bound[i] = round_up(row[i]);
    mra_aligned_free(row);
    return status;
}

void mra_cli_print_certified(const mra_cli_certified *certified, mra_shape shape)
{
    printf("batch\thead\tcertified_relative\tcertified_error\tnorm\ttrivial_rows\tblocks\n");
    for (int b = 0; b < shape.batch; b++)
        for (int h = 0; h < shape.heads; h++) {
            const size_t at = (size_t)b * (size_t)shape.heads + (size_t)h;
            const mra_certificate *c = &certified->certificate[at];
            printf("%d\t%d\t%.6g\t%.6g\t%.6g\t%lld\t", b, h, c->relative, c->output,
                   c->output_norm, c->trivial);
            if (certified->tolerance > 0)
                printf("%.6g\n", certified->blocks[at]);
            else
                printf("-\n");
        }
}

void mra_cli_certified_free(mra_cli_certified *certified)
{
    mra_aligned_free(certified->bound);
    mra_aligned_free(certified->certificate);
    mra_aligned_free(certified->blocks);
}
