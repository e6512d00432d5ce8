// Running attention methods; see common_method.h.

#include "common_method.h"

#include <string.h>

#include "mra/selection.h"
#include "tensor/kernels.h"

mra_status mra_experiment_options(mra_experiment *experiment, const char *scales,
                                  const char *blocks, int n, mra_options *options,
                                  mra_error *err)
{
    double scale[MRA_MAX_SCALES], block[MRA_MAX_SCALES];
    size_t scale_count, block_count;
    if (mra_experiment_list(experiment, scales, scale, MRA_MAX_SCALES, &scale_count, err) !=
            MRA_OK ||
        mra_experiment_list(experiment, blocks, block, MRA_MAX_SCALES, &block_count, err) !=
            MRA_OK) {
        return err->status;
    }
    if (block_count + 1 != scale_count) {
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: %s: %zu budgets for %zu scales, expected one for each refinement",
                        experiment->settings_path, blocks, block_count, scale_count);
    }
    *options = (mra_options){.scales = (int)scale_count, .threads = 1};
    for (size_t i = 0; i < scale_count; i++) options->scale[i] = (int)scale[i];
    for (size_t i = 0; i < block_count; i++) options->blocks[i + 1] = block[i];
    if (mra_options_check(options, n, err) == MRA_OK) return MRA_OK;
    return mra_fail_within(err, "%s: %s", experiment->settings_path, scales);
}

mra_status mra_bench_place_open(mra_bench_place *place, int threads, const char *zeroed,
                                mra_error *err)
{
    *place = (mra_bench_place){.zeroed = zeroed};
    if (mra_device_open(&place->device, "cpu", threads, err) != MRA_OK) return err->status;
    mra_status status = mra_tape_create(&place->tape, place->device, err);
    if (status != MRA_OK) mra_bench_place_close(place);
    return status;
}

void mra_bench_place_close(mra_bench_place *place)
{
    if (place->tape) mra_tape_free(place->tape);
    if (place->device) mra_device_close(place->device);
    *place = (mra_bench_place){0};
}

static bool is_word_of(const char *words, const char *word)
{
    const size_t length = strlen(word);
    for (const char *at = words; at && (at = strstr(at, word)); at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || !at[length])) return true;
    return false;
}

mra_status mra_bench_layer(const mra_bench_place *place, const char *method,
                           const char *const *assignments, int count, uint64_t seed,
                           mra_shape shape, mra_attention_layer **layer, mra_error *err)
{
    mra_method_parameter learned[MRA_METHOD_PARAMETERS];
    mra_device *device = place->device;
    mra_status status =
        mra_attention_layer_create(layer, method, device, shape, seed, assignments, count, err);
    if (status != MRA_OK || !(*layer)->method->learned) return status;
    const int parameters = (*layer)->method->learned(*layer, learned);
    for (int i = 0; i < parameters && status == MRA_OK; i++) {
        mra_tensor *parameter = (*layer)->parameter[i];
        if (is_word_of(place->zeroed, learned[i].name))
            status = device->kernels->fill(device, parameter->size, 0.0f, parameter->data, err);
    }
    if (status != MRA_OK) mra_attention_layer_free(*layer);
    return status;
}

mra_status mra_bench_output(mra_bench_place *place, const char *method,
                            const char *const *assignments, int count, uint64_t seed,
                            const mra_trained_head *head, float *z, mra_error *err)
{
    mra_shape shape = {.batch = 1, .heads = 1, .n = head->n, .d = head->d};
    mra_attention_layer *layer;
    if (mra_bench_layer(place, method, assignments, count, seed, shape, &layer, err) !=
        MRA_OK) {
        return err->status;
    }
    mra_status status = mra_attention_run(layer, place->tape, head->q, head->k, head->v, NULL,
                                          z, NULL, NULL, NULL, NULL, err);
    mra_attention_layer_free(layer);
    return status;
}
