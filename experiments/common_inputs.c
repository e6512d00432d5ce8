// Finding and reading the trained heads; see common_inputs.h.

#include "common_inputs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common_dense.h"
#include "io/npy.h"

enum { MOST_SETS = 64 };

// Whether `name` ends with "-<n>".
static bool has_length(const char *name, int n)
{
    char ending[32];
    int length = snprintf(ending, sizeof ending, "-%d", n);
    size_t size = strlen(name);
    return size > (size_t)length && !strcmp(name + size - (size_t)length, ending);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The names of the sets with n tokens in `folder`, sorted; each to be freed.
static int list_sets(const char *folder, int n, char *names[MOST_SETS])
{
    DIR *open = opendir(folder);
    int count = 0;
    for (struct dirent *entry; open && (entry = readdir(open));) {
        if (has_length(entry->d_name, n) && strlen(entry->d_name) < 64 && count < MOST_SETS) {
            char *name = strdup(entry->d_name);
            if (name) names[count++] = name;
        }
    }
    if (open) closedir(open);
    qsort(names, (size_t)count, sizeof *names, by_name);
    return count;
}

static void array_path(char path[1200], const char *folder, int example, char which)
{
    snprintf(path, 1200, "%s/example%d-%c.npy", folder, example, which);
}

// Reads one of q, k, v and checks its shape against n and against the first array of the
// example (or fixes it).
static mra_status read_array(mra_experiment *experiment, const char *path, int n,
                             size_t shape[3], float **data, mra_error *err)
{
    mra_npy array;
    if (mra_npy_read_f32(&array, path, true, err) != MRA_OK) return err->status;
    char text[128];
    mra_npy_shape_text(&array, text, sizeof text);
    mra_status status = MRA_OK;
    if (array.rank != 3 || array.shape[1] != (size_t)n || array.shape[0] < 1 ||
        array.shape[0] > 4096 || array.shape[2] < 1 || array.shape[2] > 256) {
        status =
            mra_fail(err, MRA_BAD_INPUT,
                     "%s: shape %s, expected (heads, %d, d) with d up to 256", path, text, n);
    } else if (shape[0] && memcmp(shape, array.shape, 3 * sizeof *shape)) {
        status = mra_fail(err, MRA_BAD_INPUT,
                          "%s: shape %s, but q of the same example has (%zu, %zu, %zu)", path,
                          text, shape[0], shape[1], shape[2]);
    } else {
        status = mra_experiment_input(experiment, path, err);
    }
    if (status != MRA_OK) {
        mra_npy_free(&array);
        return status;
    }
    memcpy(shape, array.shape, 3 * sizeof *shape);
    *data = array.data; // mra_npy_free frees exactly this
    return MRA_OK;
}

static bool make_room(mra_trained_inputs *inputs, size_t heads)
{
    mra_trained_head *head =
        realloc(inputs->head, ((size_t)inputs->count + heads) * sizeof *inputs->head);
    if (head) inputs->head = head;
    float **array =
        realloc(inputs->array, ((size_t)inputs->arrays + 3) * sizeof *inputs->array);
    if (array) inputs->array = array;
    return head && array;
}

static mra_status read_example(mra_experiment *experiment, const char *folder, const char *set,
                               int n, int example, mra_trained_inputs *inputs, mra_error *err)
{
    size_t shape[3] = {0};
    float *data[3];
    for (int i = 0; i < 3; i++) {
        char path[1200];
        array_path(path, folder, example, "qkv"[i]);
        if (read_array(experiment, path, n, shape, &data[i], err) != MRA_OK) return err->status;
        if (i == 0 && !make_room(inputs, shape[0])) {
            mra_aligned_free(data[i]);
            return mra_fail(err, MRA_NO_MEMORY, "no memory for the heads of %s", folder);
        }
        inputs->array[inputs->arrays++] = data[i];
    }
    for (size_t h = 0; h < shape[0]; h++) {
        size_t start = h * shape[1] * shape[2];
        mra_trained_head *head = &inputs->head[inputs->count++];
        *head = (mra_trained_head){.example = example,
                                   .number = (int)h,
                                   .n = n,
                                   .d = (int)shape[2],
                                   .q = data[0] + start,
                                   .k = data[1] + start,
                                   .v = data[2] + start};
        snprintf(head->set, sizeof head->set, "%.63s", set);
    }
    return MRA_OK;
}

static mra_status read_set(mra_experiment *experiment, const char *folder, const char *set,
                           int n, int examples, mra_trained_inputs *inputs, mra_error *err)
{
    for (int example = 0; example < examples; example++) {
        char path[1200];
        array_path(path, folder, example, 'q');
        if (!mra_file_exists(path)) break;
        if (read_example(experiment, folder, set, n, example, inputs, err) != MRA_OK) {
            return err->status;
        }
    }
    return MRA_OK;
}

// The last part of a path, for a folder that is itself a set.
static void folder_name(const char *folder, char name[64])
{
    size_t end = strlen(folder);
    while (end > 0 && folder[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && folder[start - 1] != '/') start--;
    snprintf(name, 64, "%.*s", (int)(end - start > 63 ? 63 : end - start), folder + start);
}

mra_status mra_trained_inputs_load(mra_experiment *experiment, int n, int examples,
                                   mra_trained_inputs *inputs, mra_error *err)
{
    *inputs = (mra_trained_inputs){0};
    char path[1200], *names[MOST_SETS];
    mra_status status = MRA_OK;
    array_path(path, experiment->inputs, 0, 'q');
    if (mra_file_exists(path)) {
        char name[64];
        folder_name(experiment->inputs, name);
        status = read_set(experiment, experiment->inputs, name, n, examples, inputs, err);
    } else {
        int sets = list_sets(experiment->inputs, n, names);
        for (int s = 0; s < sets; s++) {
            snprintf(path, sizeof path, "%s/%s", experiment->inputs, names[s]);
            if (status == MRA_OK) {
                status = read_set(experiment, path, names[s], n, examples, inputs, err);
            }
            free(names[s]);
        }
    }
    if (status == MRA_OK && inputs->count == 0) {
        status = mra_fail(
            err, MRA_ABSENT,
            "%s: no trained heads of %d tokens (looked for <name>-%d/example0-q.npy, -k, -v)",
            experiment->inputs, n, n);
    }
    if (status != MRA_OK) mra_trained_inputs_free(inputs);
    return status;
}

void mra_trained_inputs_free(mra_trained_inputs *inputs)
{
    for (int i = 0; i < inputs->arrays; i++) mra_aligned_free(inputs->array[i]);
    free(inputs->array);
    free(inputs->head);
    *inputs = (mra_trained_inputs){0};
}

const mra_trained_head *mra_trained_head_find(const mra_trained_inputs *inputs,
                                              const char *name)
{
    for (int i = 0; i < inputs->count; i++) {
        char full[96];
        const mra_trained_head *head = &inputs->head[i];
        snprintf(full, sizeof full, "%s:%d:%d", head->set, head->example, head->number);
        if (!strcmp(full, name)) return head;
    }
    return NULL;
}

// ---- Heads for pictures ---------------------------------------------------------------------

typedef struct ranked_head {
    double entropy;
    const mra_trained_head *head;
} ranked_head;

static int by_entropy(const void *a, const void *b)
{
    const ranked_head *first = a, *second = b;
    return (first->entropy > second->entropy) - (first->entropy < second->entropy);
}

// `limit` heads from the least to the most spread-out attention, at even distances in rank.
static mra_status spread_heads(const mra_trained_inputs *inputs, int limit,
                               const mra_trained_head **heads, int *count, mra_error *err)
{
    ranked_head *ranked = calloc((size_t)inputs->count, sizeof *ranked);
    if (!ranked) return mra_fail(err, MRA_NO_MEMORY, "no memory for %d heads", inputs->count);
    mra_status status = MRA_OK;
    for (int i = 0; i < inputs->count && status == MRA_OK; i++) {
        mra_dense_head dense;
        status = mra_dense_head_create(&dense, &inputs->head[i], err);
        if (status != MRA_OK) break;
        ranked[i] = (ranked_head){dense.entropy, &inputs->head[i]};
        mra_dense_head_free(&dense);
    }
    qsort(ranked, (size_t)inputs->count, sizeof *ranked, by_entropy);
    *count = limit < inputs->count ? limit : inputs->count;
    for (int i = 0; i < *count; i++) {
        int place = *count == 1 ? inputs->count / 2 : i * (inputs->count - 1) / (*count - 1);
        heads[i] = ranked[place].head;
    }
    free(ranked);
    return status;
}

mra_status mra_trained_heads_named(mra_experiment *experiment, const char *key,
                                   const mra_trained_inputs *inputs, int limit,
                                   const mra_trained_head **heads, int *count, mra_error *err)
{
    const char *text = mra_experiment_text(experiment, key);
    if (!text || !strcmp(text, "spread")) return spread_heads(inputs, limit, heads, count, err);
    *count = 0;
    while (*(text += strspn(text, " \t,"))) {
        char word[96];
        int length = (int)strcspn(text, " \t,");
        snprintf(word, sizeof word, "%.*s", length < 95 ? length : 95, text);
        text += length;
        const mra_trained_head *head = mra_trained_head_find(inputs, word);
        if (!head) {
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: %s: no head '%s' among the inputs (<set>:<example>:<number>)",
                            experiment->settings_path, key, word);
        }
        if (*count == limit) {
            return mra_fail(err, MRA_BAD_INPUT, "%s: %s: more than %d heads",
                            experiment->settings_path, key, limit);
        }
        heads[(*count)++] = head;
    }
    return MRA_OK;
}
