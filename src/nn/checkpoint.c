// Checkpoints.
//
// A checkpoint is one safetensors file that is replaced by rename(), so at every moment there is exactly one, and
// it is whole. Weights and moments are stored as the floats they are. The numbers of the state stand in
// the metadata as text; real numbers in hexadecimal ("%a"), which loses no bit.
//
// Random numbers need no state: dropout and the order of examples are functions of (seed, step).

#include "nn/checkpoint.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char FORMAT[] = "mra training checkpoint 2";

// The fields of the state, by name.
typedef struct field {
    const char *name;
    size_t offset;
    bool real;
} field;

static const field fields[] = {
    {"step", offsetof(mra_train_state, step), false},
    {"evaluated", offsetof(mra_train_state, evaluated), false},
    {"log_bytes", offsetof(mra_train_state, log_bytes), false},
    {"seconds", offsetof(mra_train_state, seconds), true},
    {"interval_steps", offsetof(mra_train_state, interval_steps), false},
    {"interval_right", offsetof(mra_train_state, interval_right[0]), false},
    {"interval_right_second", offsetof(mra_train_state, interval_right[1]), false},
    {"interval_examples", offsetof(mra_train_state, interval_examples), false},
    {"interval_tokens", offsetof(mra_train_state, interval_tokens), false},
    {"interval_loss", offsetof(mra_train_state, interval_loss), true},
    {"interval_seconds", offsetof(mra_train_state, interval_seconds), true},
    {"best_step", offsetof(mra_train_state, best_step), false},
    {"best_examples", offsetof(mra_train_state, best.examples), false},
    {"best_right", offsetof(mra_train_state, best.right[0]), false},
    {"best_right_second", offsetof(mra_train_state, best.right[1]), false},
    {"best_metric", offsetof(mra_train_state, best.metric[0]), true},
    {"best_metric_second", offsetof(mra_train_state, best.metric[1]), true},
    {"best_loss", offsetof(mra_train_state, best.loss), true},
    {"lowest_loss", offsetof(mra_train_state, lowest_loss), true},
    {"steps_above", offsetof(mra_train_state, steps_above), false},
};
enum { FIELDS = sizeof fields / sizeof *fields };

// ---- Writing --------------------------------------------------------------------------------------

static mra_status set_state(mra_safetensors *file, const mra_train_state *state, mra_error *err)
{
    mra_status status = MRA_OK;
    for (int i = 0; i < FIELDS && status == MRA_OK; i++) {
        const char *at = (const char *)state + fields[i].offset;
        char text[64];
        if (fields[i].real)
            snprintf(text, sizeof text, "%a", *(const double *)(const void *)at);
        else
            snprintf(text, sizeof text, "%" PRId64, *(const int64_t *)(const void *)at);
        status = mra_safetensors_set(file, fields[i].name, text, err);
    }
    return status;
}

// The four sets of arrays, each in `size` floats of `values` (best is the caller's).
static mra_status add_arrays(mra_safetensors *file, const mra_parameters *parameters,
                             const mra_optimiser *optimiser, float *values, const float *best,
                             mra_error *err)
{
    float *weight = values, *moment1 = weight + parameters->size;
    float *moment2 = moment1 + parameters->size;
    mra_status status = mra_parameters_to_host(parameters, weight, err);
    if (status == MRA_OK) status = mra_optimiser_to_host(optimiser, 1, moment1, err);
    if (status == MRA_OK) status = mra_optimiser_to_host(optimiser, 2, moment2, err);
    if (status == MRA_OK)
        status = mra_parameters_store(parameters, "weight/", weight, file, err);
    if (status == MRA_OK)
        status = mra_parameters_store(parameters, "moment1/", moment1, file, err);
    if (status == MRA_OK)
        status = mra_parameters_store(parameters, "moment2/", moment2, file, err);
    if (status == MRA_OK) status = mra_parameters_store(parameters, "best/", best, file, err);
    return status;
}

mra_status mra_checkpoint_write(const char *path, const mra_parameters *parameters,
                                const mra_optimiser *optimiser, const float *best,
                                const mra_train_state *state, const char *settings,
                                mra_error *err)
{
    mra_safetensors *file = NULL;
    float *values = malloc(3 * parameters->size * sizeof *values);
    mra_status status = values ? mra_safetensors_create(&file, err)
                               : mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    if (status == MRA_OK) status = mra_safetensors_set(file, "format", FORMAT, err);
    if (status == MRA_OK) status = mra_safetensors_set(file, "settings", settings, err);
    if (status == MRA_OK) status = set_state(file, state, err);
    if (status == MRA_OK) status = add_arrays(file, parameters, optimiser, values, best, err);
    if (status == MRA_OK) status = mra_safetensors_write(file, path, err);
    mra_safetensors_free(file);
    free(values);
    return status;
}

// ---- Reading --------------------------------------------------------------------------------------

static mra_status get_state(const mra_safetensors *file, const char *path,
                            mra_train_state *state, mra_error *err)
{
    for (int i = 0; i < FIELDS; i++) {
        const char *text = mra_safetensors_get(file, fields[i].name);
        char *at = (char *)state + fields[i].offset, *end = NULL;
        if (text && fields[i].real)
            *(double *)(void *)at = strtod(text, &end);
        else if (text)
            *(int64_t *)(void *)at = strtoll(text, &end, 10);
        if (!text || end == text || *end)
            return mra_fail(err, MRA_BAD_INPUT, "%s: metadata %s is missing or no number", path,
                            fields[i].name);
    }
    return MRA_OK;
}

// Names the first line in which two settings differ.
static mra_status compare_settings(const char *path, const char *stored, const char *now,
                                   mra_error *err)
{
    while (*stored || *now) {
        size_t a = strcspn(stored, "\n"), b = strcspn(now, "\n");
        if (a != b || memcmp(stored, now, a) != 0)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s belongs to a run with other settings: there %.*s, here %.*s; "
                            "choose another --out or remove it",
                            path, a ? (int)a : 7, a ? stored : "nothing", b ? (int)b : 7,
                            b ? now : "nothing");
        stored += a + (stored[a] == '\n');
        now += b + (now[b] == '\n');
    }
    return MRA_OK;
}

static mra_status check_header(const mra_safetensors *file, const char *path,
                               const char *settings, mra_error *err)
{
    const char *format = mra_safetensors_get(file, "format");
    if (!format || strcmp(format, FORMAT) != 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: not a checkpoint (metadata format is %s, expected %s)", path,
                        format ? format : "absent", FORMAT);
    const char *stored = mra_safetensors_get(file, "settings");
    return compare_settings(path, stored ? stored : "", settings, err);
}

mra_status mra_checkpoint_read(const char *path, mra_parameters *parameters,
                               mra_optimiser *optimiser, float *best, mra_train_state *state,
                               const char *settings, mra_error *err)
{
    mra_safetensors *file;
    mra_status status = mra_safetensors_read(&file, path, err);
    if (status != MRA_OK) return status;
    size_t size = parameters->size;
    mra_train_state read = {0};
    float *values = malloc(4 * size * sizeof *values);
    if (!values) status = mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    if (status == MRA_OK) status = check_header(file, path, settings, err);
    if (status == MRA_OK) status = get_state(file, path, &read, err);
    const char *const prefix[4] = {"weight/", "moment1/", "moment2/", "best/"};
    for (size_t i = 0; i < 4 && status == MRA_OK; i++)
        status =
            mra_parameters_fetch(parameters, prefix[i], file, path, values + i * size, err);
    if (status == MRA_OK) status = mra_parameters_from_host(parameters, values, err);
    if (status == MRA_OK) status = mra_optimiser_from_host(optimiser, 1, values + size, err);
    if (status == MRA_OK)
        status = mra_optimiser_from_host(optimiser, 2, values + 2 * size, err);
    if (status == MRA_OK) {
        memcpy(best, values + 3 * size, size * sizeof *best);
        *state = read;
    }
    free(values);
    mra_safetensors_free(file);
    return status;
}
