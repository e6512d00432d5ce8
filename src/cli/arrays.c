// Reading, checking and writing the arrays of attention (see cli/arrays.h).

#include "cli/arrays.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/core.h"

// ---- Reading
// ---------------------------------------------------------------------------------

static mra_status check_rank(const mra_npy *array, const char *path, mra_error *err)
{
    char shape[120];
    mra_npy_shape_text(array, shape, sizeof shape);
    if (array->rank < 2 || array->rank > 4)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: shape %s: expected [n, d], [heads, n, d] or [batch, heads, n, d]",
                        path, shape);
    for (int i = 0; i < array->rank; i++)
        if (array->shape[i] < 1 || array->shape[i] > INT_MAX)
            return mra_fail(err, MRA_BAD_INPUT, "%s: shape %s: expected sizes from 1 to %d",
                            path, shape, INT_MAX);
    return MRA_OK;
}

static bool same_shape(const mra_npy *a, const mra_npy *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]) == 0;
}

static mra_status take_array(mra_npy *array, const mra_safetensors *file, const char *path,
                             const char *name, mra_error *err)
{
    const mra_safetensor *found = mra_safetensors_find(file, name);
    if (found == NULL || found->data == NULL || found->rank > MRA_NPY_MAX_RANK)
        return mra_fail(err, MRA_BAD_INPUT, "%s: no float32 array '%s'", path, name);
    for (size_t i = 0; i < found->size; i++)
        if (!isfinite(found->data[i]))
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: %s: element %zu is %g, expected finite "
                            "numbers",
                            path, name, i, (double)found->data[i]);
    *array = (mra_npy){.type = MRA_NPY_F4, .rank = found->rank, .size = found->size};
    for (int i = 0; i < found->rank; i++) array->shape[i] = (size_t)found->shape[i];
    array->data = mra_aligned_calloc(found->size + 1, sizeof(float));
    if (array->data == NULL)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for %zu numbers", path, found->size);
    memcpy(array->data, found->data, found->size * sizeof(float));
    return MRA_OK;
}

// A .npy file, or the array `name` of a safetensors file.
static mra_status read_f32(mra_npy *array, const char *path, const char *name, mra_error *err)
{
    static const char ending[] = ".safetensors";
    const size_t length = strlen(path);
    if (length < sizeof ending || strcmp(path + length - (sizeof ending - 1), ending) != 0)
        return mra_npy_read_f32(array, path, true, err);
    mra_safetensors *file;
    mra_status status = mra_safetensors_read(&file, path, err);
    if (status != MRA_OK) return status;
    status = take_array(array, file, path, name, err);
    mra_safetensors_free(file);
    return status;
}

static mra_status read_like(mra_npy *array, const char *path, const char *name,
                            const mra_npy *q, const char *q_path, mra_error *err)
{
    if (path == NULL) return MRA_OK;
    mra_status status = read_f32(array, path, name, err);
    if (status != MRA_OK || same_shape(array, q)) return status;
    char shape[120], expected[120];
    mra_npy_shape_text(array, shape, sizeof shape);
    mra_npy_shape_text(q, expected, sizeof expected);
    return mra_fail(err, MRA_BAD_INPUT,
                    "%s has shape %s but %s has shape %s: expected the same", path, shape,
                    q_path, expected);
}

static mra_shape shape_of(const mra_npy *q)
{
    const size_t *last = q->shape + q->rank;
    return (mra_shape){.batch = q->rank >= 4 ? (int)last[-4] : 1,
                       .heads = q->rank >= 3 ? (int)last[-3] : 1,
                       .n = (int)last[-2],
                       .d = (int)last[-1]};
}

// Spreads a mask [n] over the batch, or takes [batch, n] as it is.
static mra_status read_mask(mra_cli_arrays *arrays, const mra_cli_inputs *inputs,
                            mra_error *err)
{
    if (inputs->mask == NULL) return MRA_OK;
    mra_npy mask;
    mra_status status = mra_npy_read_mask(&mask, inputs->mask, err);
    if (status != MRA_OK) return status;
    size_t batch = (size_t)arrays->shape.batch, n = (size_t)arrays->shape.n;
    bool shared = mask.rank == 1 && mask.shape[0] == n;
    bool own = mask.rank == 2 && mask.shape[0] == batch && mask.shape[1] == n;
    if (shared || own) {
        arrays->mask = mra_aligned_calloc(batch, n);
        if (arrays->mask == NULL)
            status = mra_fail(err, MRA_NO_MEMORY, "no memory for the mask");
        for (size_t i = 0; i < batch && status == MRA_OK; i++)
            memcpy(arrays->mask + i * n, (uint8_t *)mask.data + (own ? i * n : 0), n);
    } else {
        char shape[120], q_shape[120];
        mra_npy_shape_text(&mask, shape, sizeof shape);
        mra_npy_shape_text(&arrays->q, q_shape, sizeof q_shape);
        status =
            mra_fail(err, MRA_BAD_INPUT,
                     "%s has shape %s but %s has shape %s: expected a mask of shape (%zu,) "
                     "or (%zu, %zu)",
                     inputs->mask, shape, inputs->q, q_shape, n, batch, n);
    }
    mra_npy_free(&mask);
    return status;
}

mra_status mra_cli_read_arrays(mra_cli_arrays *arrays, const mra_cli_inputs *inputs,
                               mra_error *err)
{
    *arrays = (mra_cli_arrays){0};
    mra_status status = read_f32(&arrays->q, inputs->q, "q", err);
    if (status == MRA_OK) status = check_rank(&arrays->q, inputs->q, err);
    if (status == MRA_OK) {
        arrays->shape = shape_of(&arrays->q);
        status = read_like(&arrays->k, inputs->k, "k", &arrays->q, inputs->q, err);
    }
    if (status == MRA_OK)
        status = read_like(&arrays->v, inputs->v, "v", &arrays->q, inputs->q, err);
    if (status == MRA_OK)
        status = read_like(&arrays->dout, inputs->dout, "dout", &arrays->q, inputs->q, err);
    if (status == MRA_OK) status = read_mask(arrays, inputs, err);
    if (status != MRA_OK) mra_cli_free_arrays(arrays);
    return status;
}

void mra_cli_free_arrays(mra_cli_arrays *arrays)
{
    mra_npy_free(&arrays->q);
    mra_npy_free(&arrays->k);
    mra_npy_free(&arrays->v);
    mra_npy_free(&arrays->dout);
    mra_aligned_free(arrays->mask);
    *arrays = (mra_cli_arrays){0};
}

// ---- Writing
// ---------------------------------------------------------------------------------

enum { MAX_OUTPUTS = 8, PATH_ROOM = 1000 };

// What would make a later step fail, found before anything is written.
static mra_status check_outputs(const mra_cli_output *outputs, int count, mra_error *err)
{
    for (int i = 0; i < count; i++) {
        const char *path = outputs[i].path;
        struct stat info;
        if (path == NULL) continue;
        if (path[0] == '\0' || strlen(path) > PATH_ROOM - 32)
            return mra_fail(err, MRA_BAD_INPUT, "--%s: expected a path of 1 to %d characters",
                            outputs[i].option, PATH_ROOM - 32);
        if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
            return mra_fail(err, MRA_BAD_INPUT, "--%s: %s is a folder: expected a file",
                            outputs[i].option, path);
        for (int j = 0; j < i; j++)
            if (outputs[j].path != NULL && strcmp(outputs[j].path, path) == 0)
                return mra_fail(err, MRA_BAD_INPUT, "--%s and --%s both name %s",
                                outputs[j].option, outputs[i].option, path);
    }
    return MRA_OK;
}

// Where an output is written first: beside its final place; a device or a pipe is there already
// and is written to, not replaced.
static void stage_name(char name[PATH_ROOM], const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        snprintf(name, PATH_ROOM, "%s", path);
    else
        snprintf(name, PATH_ROOM, "%s.new.%ld", path, (long)getpid());
}

static bool is_staged(const char *name, const mra_cli_output *output)
{
    return name[0] != '\0' && strcmp(name, output->path) != 0;
}

// The name that the user knows in place of the temporary one.
static mra_status fail_by_name(mra_error *err, const char *staged, const char *path)
{
    char *found = strstr(err->message, staged);
    size_t extra = strlen(staged) - strlen(path);
    if (found != NULL) {
        char *tail = found + strlen(staged);
        memmove(tail - extra, tail, strlen(tail) + 1);
    }
    return err->status;
}

mra_status mra_cli_write_arrays(const mra_cli_output *outputs, int count, const mra_npy *like,
                                mra_error *err)
{
    char staged[MAX_OUTPUTS][PATH_ROOM] = {{0}};
    if (count > MAX_OUTPUTS) return mra_fail(err, MRA_INTERNAL, "too many outputs");
    mra_status status = check_outputs(outputs, count, err);
    for (int i = 0; i < count && status == MRA_OK; i++) {
        if (outputs[i].path == NULL) continue;
        stage_name(staged[i], outputs[i].path);
        status = outputs[i].file
                     ? mra_safetensors_write(outputs[i].file, staged[i], err)
                     : mra_npy_write(staged[i], MRA_NPY_F4, like->rank - outputs[i].per_row,
                                     like->shape, outputs[i].data, err);
        if (status != MRA_OK) status = fail_by_name(err, staged[i], outputs[i].path);
    }
    for (int i = 0; i < count && status == MRA_OK; i++) {
        if (!is_staged(staged[i], &outputs[i])) continue;
        if (rename(staged[i], outputs[i].path) != 0)
            status = mra_fail(err, MRA_IO, "%s: %s", outputs[i].path, strerror(errno));
        else
            staged[i][0] = '\0';
    }
    for (int i = 0; i < count; i++)
        if (is_staged(staged[i], &outputs[i])) unlink(staged[i]);
    return status;
}
