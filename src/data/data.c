// The common interface: options are checked, the data set's own file fills the splits, and from
// then on a data set is three lists of sequences.

#include "data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "data/cifar.h"
#include "data/imdb.h"
#include "data/listops.h"
#include "data/pathfinder.h"
#include "data/prepared.h"
#include "data/retrieval.h"
#include "data/sequences.h"
#include "data/source.h"

// One row for each data set: its published settings, and what fills the splits.
typedef struct task {
    mra_dataset_options defaults;
    int vocabulary, classes;
    bool pairs;
    mra_status (*open)(mra_dataset *data, const mra_dataset_options *options, mra_error *err);
    // Whether the files are there; NULL: none are needed.
    mra_status (*find)(const mra_dataset_options *options, mra_error *err);
} task;

static mra_status open_listops(mra_dataset *, const mra_dataset_options *, mra_error *);
static mra_status open_text(mra_dataset *, const mra_dataset_options *, mra_error *);
static mra_status open_image(mra_dataset *, const mra_dataset_options *, mra_error *);
static mra_status open_pathfinder(mra_dataset *, const mra_dataset_options *, mra_error *);
static mra_status open_retrieval(mra_dataset *, const mra_dataset_options *, mra_error *);
static mra_status open_same_film(mra_dataset *, const mra_dataset_options *, mra_error *);
static mra_status find_listops(const mra_dataset_options *, mra_error *);
static mra_status find_text(const mra_dataset_options *, mra_error *);
static mra_status find_image(const mra_dataset_options *, mra_error *);
static mra_status find_retrieval(const mra_dataset_options *, mra_error *);
static mra_status find_same_film(const mra_dataset_options *, mra_error *);

static const task tasks[] = {
    {{.name = "listops",
      .train = 96000,
      .dev = 2000,
      .test = 2000,
      .minimum_length = 500,
      .maximum_length = 2000},
     MRA_LISTOPS_VOCABULARY,
     MRA_LISTOPS_CLASSES,
     false,
     open_listops,
     find_listops},
    {{.name = "text", .maximum_length = 4000},
     MRA_IMDB_VOCABULARY,
     MRA_IMDB_CLASSES,
     false,
     open_text,
     find_text},
    {{.name = "image", .held_out = 5000, .maximum_length = MRA_CIFAR_LENGTH},
     MRA_CIFAR_VOCABULARY,
     MRA_CIFAR_CLASSES,
     false,
     open_image,
     find_image},
    {{.name = "pathfinder32",
      .train = 160000,
      .dev = 20000,
      .test = 20000,
      .maximum_length = MRA_PATHFINDER_LENGTH},
     MRA_PATHFINDER_VOCABULARY,
     MRA_PATHFINDER_CLASSES,
     false,
     open_pathfinder,
     NULL},
    {{.name = "retrieval", .maximum_length = 4000},
     MRA_RETRIEVAL_VOCABULARY,
     MRA_RETRIEVAL_CLASSES,
     true,
     open_retrieval,
     find_retrieval},
    {{.name = "same-film",
      .train = 147086,
      .dev = 18090,
      .test = 17437,
      .maximum_length = 4000},
     MRA_RETRIEVAL_VOCABULARY,
     MRA_RETRIEVAL_CLASSES,
     true,
     open_same_film,
     find_same_film},
};
enum { TASKS = sizeof tasks / sizeof tasks[0], MOST_CLASSES = 10 };

struct mra_dataset {
    const task *task;
    int maximum_length;
    mra_prepared prepared; // where sequences may lie
    mra_sequences splits[MRA_SPLITS];
    bool dev_is_test; // dev then borrows from test: its first dev_count examples
    size_t dev_count;
    char sources[MRA_SPLITS][1024];
    int source_count;
};

const char *mra_dataset_known(int index)
{
    return index >= 0 && index < TASKS ? tasks[index].defaults.name : NULL;
}

static const task *find_task(const char *name)
{
    for (int i = 0; i < TASKS; i++)
        if (strcmp(tasks[i].defaults.name, name) == 0) return &tasks[i];
    return NULL;
}

const char *mra_split_name(mra_split split)
{
    static const char *const names[MRA_SPLITS] = {"train", "dev", "test"};
    return names[split];
}

mra_dataset_options mra_dataset_defaults(const char *name)
{
    const task *task = find_task(name);
    mra_dataset_options options = task ? task->defaults : tasks[0].defaults;
    options.name = name;
    return options;
}

// ---- ListOps --------------------------------------------------------------------------------

static const char *const listops_files[MRA_SPLITS] = {"basic_train.tsv", "basic_val.tsv",
                                                      "basic_test.tsv"};

static mra_status read_listops(mra_dataset *data, const mra_dataset_options *options,
                               mra_error *err)
{
    const size_t limits[MRA_SPLITS] = {options->train, options->dev, options->test};
    for (int s = 0; s < MRA_SPLITS; s++) {
        char *path = data->sources[s];
        int length =
            snprintf(path, sizeof data->sources[s], "%s/%s", options->folder, listops_files[s]);
        if (length < 0 || (size_t)length >= sizeof data->sources[s])
            return mra_fail(err, MRA_BAD_INPUT,
                            "data set listops: the folder's name is too long");
        data->source_count = s + 1;
        mra_status status =
            mra_listops_read(&data->splits[s], path, limits[s], options->maximum_length,
                             options->check_labels, err);
        if (status == MRA_ABSENT)
            return mra_fail(
                err, MRA_ABSENT,
                "data set listops: %s is not in the folder %.200s (looked for %s, %s and %s); "
                "make them with: mra data prepare listops --out %.100s",
                listops_files[s], options->folder, listops_files[0], listops_files[1],
                listops_files[2], options->folder);
        if (status != MRA_OK) return status;
    }
    return MRA_OK;
}

// How many examples of each split a generator is to draw.
static mra_status read_counts(const mra_dataset_options *options, size_t counts[MRA_SPLITS],
                              mra_error *err)
{
    const size_t wanted[MRA_SPLITS] = {options->train, options->dev, options->test};
    for (int s = 0; s < MRA_SPLITS; s++) {
        counts[s] = wanted[s];
        if ((s == MRA_TRAIN && counts[s] == 0) || counts[s] > 100000000)
            return mra_fail(err, MRA_BAD_INPUT,
                            "data set %s: %s = %zu examples to generate: "
                            "expected %d to 100000000",
                            options->name, mra_split_name((mra_split)s), counts[s],
                            s == MRA_TRAIN);
    }
    return MRA_OK;
}

static mra_status generate_listops(mra_dataset *data, const mra_dataset_options *options,
                                   mra_error *err)
{
    size_t counts[MRA_SPLITS];
    mra_status status = read_counts(options, counts, err);
    if (status != MRA_OK) return status;
    mra_listops_options drawing = {.minimum_length = options->minimum_length,
                                   .maximum_length = options->maximum_length,
                                   .seed = options->seed,
                                   .threads = options->threads,
                                   .quiet = options->quiet};
    return mra_listops_generate(data->splits, counts, &drawing, err);
}

static mra_status open_listops(mra_dataset *data, const mra_dataset_options *options,
                               mra_error *err)
{
    return options->folder ? read_listops(data, options, err)
                           : generate_listops(data, options, err);
}

// ---- What comes as train and test -----------------------------------------------------------

static size_t at_most(size_t count, size_t limit)
{
    return limit && limit < count ? limit : count;
}

// Shuffles where a part is taken, so that the part is a sample, and cuts the splits to size.
static mra_status divide(mra_dataset *data, const mra_dataset_options *options, mra_error *err)
{
    mra_sequences *train = &data->splits[MRA_TRAIN], *dev = &data->splits[MRA_DEV],
                  *test = &data->splits[MRA_TEST];
    if (options->held_out >= train->count)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "data set %s: %zu examples held out for dev: expected fewer than the %zu of train",
            options->name, options->held_out, train->count);
    if (options->train || options->held_out)
        mra_sequences_shuffle(train, options->seed, "order of train");
    if (options->test || options->dev)
        mra_sequences_shuffle(test, options->seed, "order of test");
    if (options->held_out) {
        if (!mra_sequences_move(dev, train, options->held_out))
            return mra_fail(err, MRA_NO_MEMORY, "data set %s: no memory for the splits",
                            options->name);
        mra_sequences_truncate(dev, at_most(dev->count, options->dev));
    }
    mra_sequences_truncate(train, at_most(train->count, options->train));
    mra_sequences_truncate(test, at_most(test->count, options->test));
    data->dev_is_test = options->held_out == 0;
    data->dev_count = data->dev_is_test ? at_most(test->count, options->dev) : dev->count;
    return MRA_OK;
}

static const char *cache_folder(const mra_dataset_options *options)
{
    return options->cache ? options->cache : "build/cache";
}

static mra_status open_text(mra_dataset *data, const mra_dataset_options *options,
                            mra_error *err)
{
    char *path = data->sources[0];
    mra_status status = mra_imdb_find(options->folder, path, sizeof data->sources[0], err);
    if (status != MRA_OK) return status;
    data->source_count = 1;
    status = mra_imdb_read(&data->splits[MRA_TRAIN], &data->splits[MRA_TEST], path,
                           options->maximum_length, cache_folder(options), options->quiet, err);
    return status == MRA_OK ? divide(data, options, err) : status;
}

// ---- Image ----------------------------------------------------------------------------------

// Leaves a prepared copy of the splits for the next time; that it could not be written is said, but
// the data are there.
static void keep_copy(const mra_dataset *data, const mra_dataset_options *options,
                      const char *copy, const char key[65])
{
    mra_error err = {0};
    mra_status status = mra_make_folder(cache_folder(options), &err);
    if (status == MRA_OK) status = mra_prepared_write(copy, key, data->splits, &err);
    if (status != MRA_OK)
        mra_say(options->quiet, "going on without a prepared copy of %s: %s", options->name,
                err.message);
}

// Pictures are not cut.
static mra_status require_pixels(const mra_dataset_options *options, mra_error *err)
{
    if (options->maximum_length >= MRA_CIFAR_LENGTH) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT,
                    "data set %s: maximum length %d: expected %d, a picture's pixels",
                    options->name, options->maximum_length, MRA_CIFAR_LENGTH);
}

static mra_status open_image(mra_dataset *data, const mra_dataset_options *options,
                             mra_error *err)
{
    char *path = data->sources[0], sha256[65] = "", copy[1100];
    const bool caches = *cache_folder(options) != '\0';
    mra_status status = require_pixels(options, err);
    if (status == MRA_OK)
        status = mra_cifar_find(options->folder, path, sizeof data->sources[0], err);
    if (status != MRA_OK) return status;
    data->source_count = 1;
    if (caches) status = mra_sha256_file(path, sha256, err);
    if (status != MRA_OK) return status;
    snprintf(copy, sizeof copy, "%.1000s/image-%.16s.bin", cache_folder(options), sha256);
    if (!caches || !mra_prepared_open(&data->prepared, copy, sha256, data->splits)) {
        status = mra_cifar_read(&data->splits[MRA_TRAIN], &data->splits[MRA_TEST], path,
                                options->quiet, err);
        if (status == MRA_OK && caches) keep_copy(data, options, copy, sha256);
    }
    return status == MRA_OK ? divide(data, options, err) : status;
}

// ---- Pathfinder -----------------------------------------------------------------------------

static mra_status open_pathfinder(mra_dataset *data, const mra_dataset_options *options,
                                  mra_error *err)
{
    size_t counts[MRA_SPLITS];
    char text[200], key[65], copy[1100];
    mra_status status = read_counts(options, counts, err);
    if (status == MRA_OK) status = require_pixels(options, err);
    if (status != MRA_OK) return status;
    snprintf(text, sizeof text, "pathfinder32 1 %zu %zu %zu %llu", counts[0], counts[1],
             counts[2], (unsigned long long)options->seed);
    mra_sha256(text, strlen(text), key);
    snprintf(copy, sizeof copy, "%.1000s/pathfinder32-%.16s.bin", cache_folder(options), key);
    const bool caches = *cache_folder(options) != '\0';
    if (caches && mra_prepared_open(&data->prepared, copy, key, data->splits)) return MRA_OK;
    status = mra_pathfinder_generate(data->splits, counts, options->seed, options->threads,
                                     options->quiet, err);
    if (status == MRA_OK && caches) keep_copy(data, options, copy, key);
    return status;
}

// ---- Pairs ----------------------------------------------------------------------------------

static const char *const retrieval_files[MRA_SPLITS] = {
    "new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv", "new_aan_pairs.test.tsv"};

static mra_status open_retrieval(mra_dataset *data, const mra_dataset_options *options,
                                 mra_error *err)
{
    const size_t limits[MRA_SPLITS] = {options->train, options->dev, options->test};
    for (int s = 0; s < MRA_SPLITS; s++) {
        const char *const wanted[] = {retrieval_files[s], NULL};
        mra_status status = mra_data_find("retrieval", wanted, options->folder,
                                          data->sources[s], sizeof data->sources[s], err);
        if (status == MRA_OK)
            status = mra_aan_read(&data->splits[s], data->sources[s], limits[s],
                                  options->maximum_length, err);
        if (status != MRA_OK) return status;
        data->source_count = s + 1;
    }
    return MRA_OK;
}

static mra_status open_same_film(mra_dataset *data, const mra_dataset_options *options,
                                 mra_error *err)
{
    size_t counts[MRA_SPLITS];
    char sums[2][65], text[400], key[65], copy[1100];
    const bool caches = *cache_folder(options) != '\0';
    mra_status status = read_counts(options, counts, err);
    if (status == MRA_OK)
        status = mra_same_film_find(options->folder, data->sources[0], data->sources[1], err);
    for (int i = 0; i < 2 && status == MRA_OK; i++)
        status = mra_sha256_file(data->sources[i], sums[i], err);
    if (status != MRA_OK) return status;
    data->source_count = 2;
    snprintf(text, sizeof text, "same-film 1 %s %s %zu %zu %zu %d %llu", sums[0], sums[1],
             counts[0], counts[1], counts[2], options->maximum_length,
             (unsigned long long)options->seed);
    mra_sha256(text, strlen(text), key);
    snprintf(copy, sizeof copy, "%.1000s/same-film-%.16s.bin", cache_folder(options), key);
    if (caches && mra_prepared_open(&data->prepared, copy, key, data->splits)) return MRA_OK;
    status = mra_same_film_draw(data->splits, counts, data->sources[0], data->sources[1],
                                options->maximum_length, options->seed, options->quiet, err);
    if (status == MRA_OK && caches) keep_copy(data, options, copy, key);
    return status;
}

// ---- Whether they are there -----------------------------------------------------------------

static mra_status find_listops(const mra_dataset_options *options, mra_error *err)
{
    char path[1024];
    for (int s = 0; options->folder && s < MRA_SPLITS; s++) {
        const char *const wanted[] = {listops_files[s], NULL};
        mra_status status =
            mra_data_find("listops", wanted, options->folder, path, sizeof path, err);
        if (status != MRA_OK) return status;
    }
    return MRA_OK;
}

static mra_status find_text(const mra_dataset_options *options, mra_error *err)
{
    char path[1024];
    return mra_imdb_find(options->folder, path, sizeof path, err);
}

static mra_status find_image(const mra_dataset_options *options, mra_error *err)
{
    char path[1024];
    return mra_cifar_find(options->folder, path, sizeof path, err);
}

static mra_status find_retrieval(const mra_dataset_options *options, mra_error *err)
{
    char path[1024];
    for (int s = 0; s < MRA_SPLITS; s++) {
        const char *const wanted[] = {retrieval_files[s], NULL};
        mra_status status =
            mra_data_find("retrieval", wanted, options->folder, path, sizeof path, err);
        if (status != MRA_OK) return status;
    }
    return MRA_OK;
}

static mra_status find_same_film(const mra_dataset_options *options, mra_error *err)
{
    char reviews[1024], urls[1024];
    return mra_same_film_find(options->folder, reviews, urls, err);
}

// ---- The interface --------------------------------------------------------------------------

static mra_status unknown_name(const char *name, mra_error *err)
{
    char names[200] = "";
    for (int i = 0; i < TASKS; i++) {
        strcat(names, i == 0 ? "" : i + 1 < TASKS ? ", " : " or ");
        strcat(names, tasks[i].defaults.name);
    }
    return mra_fail(err, MRA_BAD_INPUT, "data set \"%.80s\": expected %s", name, names);
}

mra_status mra_dataset_open(mra_dataset **data, const mra_dataset_options *options,
                            mra_error *err)
{
    *data = NULL;
    const task *task = find_task(options->name);
    if (!task) return unknown_name(options->name, err);
    if (options->maximum_length < 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "data set %s: maximum length %d: expected 1 or more", options->name,
                        options->maximum_length);
    mra_dataset *opened = calloc(1, sizeof *opened);
    if (!opened) return mra_fail(err, MRA_NO_MEMORY, "data set %s: no memory", options->name);
    opened->task = task;
    opened->maximum_length = options->maximum_length;
    mra_status status = task->open(opened, options, err);
    if (status == MRA_OK)
        *data = opened;
    else
        mra_dataset_free(opened);
    return status;
}

void mra_dataset_free(mra_dataset *data)
{
    if (!data) return;
    for (int s = 0; s < MRA_SPLITS; s++) mra_sequences_free(&data->splits[s]);
    mra_prepared_close(&data->prepared);
    free(data);
}

static const mra_sequences *list_of(const mra_dataset *data, mra_split split)
{
    return &data->splits[split == MRA_DEV && data->dev_is_test ? MRA_TEST : split];
}

size_t mra_dataset_count(const mra_dataset *data, mra_split split)
{
    return split == MRA_DEV && data->dev_is_test ? data->dev_count : data->splits[split].count;
}

mra_example mra_dataset_get(const mra_dataset *data, mra_split split, size_t i)
{
    const mra_sequence *item = &list_of(data, split)->items[i];
    return (mra_example){.ids = item->ids,
                         .length = item->length,
                         .second = item->second ? item->ids + item->length : NULL,
                         .second_length = item->second,
                         .label = item->label};
}

const char *mra_dataset_name(const mra_dataset *data)
{
    return data->task->defaults.name;
}

int mra_dataset_vocabulary(const mra_dataset *data)
{
    return data->task->vocabulary;
}

int mra_dataset_classes(const mra_dataset *data)
{
    return data->task->classes;
}

mra_status mra_dataset_find(const mra_dataset_options *options, mra_error *err)
{
    const task *task = find_task(options->name);
    if (!task) return unknown_name(options->name, err);
    return task->find ? task->find(options, err) : MRA_OK;
}

mra_status mra_dataset_about(const char *name, int *vocabulary, int *classes, mra_error *err)
{
    const task *task = find_task(name);
    if (!task) return unknown_name(name, err);
    *vocabulary = task->vocabulary;
    *classes = task->classes;
    return MRA_OK;
}

bool mra_dataset_pairs(const char *name)
{
    const task *task = find_task(name);
    return task && task->pairs;
}

int mra_dataset_maximum_length(const mra_dataset *data)
{
    return data->maximum_length;
}

double mra_dataset_majority(const mra_dataset *data, mra_split split)
{
    size_t counts[MOST_CLASSES] = {0}, count = mra_dataset_count(data, split), most = 0;
    for (size_t i = 0; i < count; i++) {
        size_t of_label = ++counts[mra_dataset_get(data, split, i).label];
        if (of_label > most) most = of_label;
    }
    return count ? (double)most / (double)count : 0.0;
}

const char *mra_dataset_source(const mra_dataset *data, int index)
{
    return index >= 0 && index < data->source_count ? data->sources[index] : NULL;
}
