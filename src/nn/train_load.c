// A trained classifier, made again from what its training left.

#include <stdio.h>
#include <stdlib.h>

#include "nn/train.h"

// A count in the metadata of the weights.
static mra_status read_count(const mra_safetensors *file, const char *path, const char *key,
                             int *value, mra_error *err)
{
    const char *text = mra_safetensors_get(file, key);
    char *end = NULL;
    double number = text ? strtod(text, &end) : 0;
    if (!text || *end || !(number >= 1 && number <= 1e8))
        return mra_fail(err, MRA_BAD_INPUT, "%s: metadata %s is %s, expected a count", path,
                        key, text ? text : "absent");
    *value = (int)number;
    return MRA_OK;
}

static mra_status read_options(const mra_safetensors *file, const char *path,
                               mra_settings *settings, mra_train_options *options,
                               mra_error *err)
{
    const char *text = mra_safetensors_get(file, "settings");
    if (!text)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: no metadata \"settings\"; these are not weights of a training",
                        path);
    mra_status status = mra_train_options_restore(settings, text, err);
    if (status == MRA_OK) status = mra_train_options_read(options, settings, err);
    if (status != MRA_OK) return mra_fail_within(err, "%s", path);
    if (options->task != &mra_task_classify)
        return mra_fail(err, MRA_BAD_INPUT, "%s: weights of the task %s, expected classify",
                        path, options->task->name);
    status =
        read_count(file, path, "vocabulary", &options->classify.model.encoder.vocabulary, err);
    if (status == MRA_OK)
        status = read_count(file, path, "classes", &options->classify.model.classes, err);
    options->classify.model.pairs = mra_dataset_pairs(options->classify.data.name);
    return status;
}

mra_status mra_train_load(const char *folder, mra_device *device, mra_settings *settings,
                          mra_train_options *options, mra_classifier **classifier,
                          mra_error *err)
{
    char path[1024];
    *classifier = NULL;
    if (snprintf(path, sizeof path, "%s/weights.safetensors", folder) >= (int)sizeof path)
        return mra_fail(err, MRA_BAD_INPUT, "%.60s...: the name is too long", folder);
    mra_safetensors *file;
    mra_status status = mra_safetensors_read(&file, path, err);
    if (status != MRA_OK) return status;
    float *values = NULL;
    status = read_options(file, path, settings, options, err);
    if (status == MRA_OK)
        status = mra_classifier_create(classifier, &options->classify.model, device, err);
    if (status == MRA_OK) {
        const mra_parameters *parameters = &(*classifier)->parameters;
        values = malloc(parameters->size * sizeof *values);
        status = values ? mra_parameters_fetch(parameters, "", file, path, values, err)
                        : mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    }
    if (status == MRA_OK)
        status = mra_parameters_from_host(&(*classifier)->parameters, values, err);
    if (status != MRA_OK) {
        mra_classifier_free(*classifier);
        *classifier = NULL;
    }
    free(values);
    mra_safetensors_free(file);
    return status;
}
