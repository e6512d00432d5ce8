// The common interface: options are checked, the data set's own file fills the splits, and from
// then on a data set is three lists of sequences.

#include "data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/imdb.h"
#include "data/listops.h"
#include "data/sequences.h"

struct mra_dataset {
    const char *name; // from the table of known names
    int vocabulary, classes, maximum_length;
    mra_sequences splits[MRA_SPLITS];
    bool dev_is_test; // dev then borrows from test: its first dev_count examples
    size_t dev_count;
    char sources[MRA_SPLITS][1024];
    int source_count;
};

static const char *const known[] = {"listops", "text", NULL};

const char *mra_dataset_known(int index)
{
    return index >= 0 && index < 2 ? known[index] : NULL;
}

const char *mra_split_name(mra_split split)
{
    static const char *const names[MRA_SPLITS] = {"train", "dev", "test"};
    return names[split];
}

mra_dataset_options mra_dataset_defaults(const char *name)
{
    if (strcmp(name, "text") == 0)
        return (mra_dataset_options){.name = name, .maximum_length = 4000};
    return (mra_dataset_options){.name = name,
                                 .train = 96000,
                                 .dev = 2000,
                                 .test = 2000,
                                 .minimum_length = 500,
                                 .maximum_length = 2000};
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

static mra_status generate_listops(mra_dataset *data, const mra_dataset_options *options,
                                   mra_error *err)
{
    const size_t counts[MRA_SPLITS] = {options->train, options->dev, options->test};
    for (int s = 0; s < MRA_SPLITS; s++)
        if ((s == MRA_TRAIN && counts[s] == 0) || counts[s] > 100000000)
            return mra_fail(err, MRA_BAD_INPUT,
                            "data set listops: %s = %zu examples to generate: "
                            "expected %d to 100000000",
                            mra_split_name((mra_split)s), counts[s], s == MRA_TRAIN);
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
    data->vocabulary = MRA_LISTOPS_VOCABULARY;
    data->classes = MRA_LISTOPS_CLASSES;
    return options->folder ? read_listops(data, options, err)
                           : generate_listops(data, options, err);
}

// ---- Text -----------------------------------------------------------------------------------

static size_t at_most(size_t count, size_t limit)
{
    return limit && limit < count ? limit : count;
}

// Shuffles where a part is taken, so that the part is a sample, and cuts the splits to size.
static mra_status divide_reviews(mra_dataset *data, const mra_dataset_options *options,
                                 mra_error *err)
{
    mra_sequences *train = &data->splits[MRA_TRAIN], *dev = &data->splits[MRA_DEV],
                  *test = &data->splits[MRA_TEST];
    if (options->held_out >= train->count)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "data set text: %zu reviews held out for dev: expected fewer than the %zu of train",
            options->held_out, train->count);
    if (options->train || options->held_out)
        mra_sequences_shuffle(train, options->seed, "order of train");
    if (options->test || options->dev)
        mra_sequences_shuffle(test, options->seed, "order of test");
    if (options->held_out) {
        if (!mra_sequences_move(dev, train, options->held_out))
            return mra_fail(err, MRA_NO_MEMORY, "data set text: no memory for the splits");
        mra_sequences_truncate(dev, at_most(dev->count, options->dev));
    }
    mra_sequences_truncate(train, at_most(train->count, options->train));
    mra_sequences_truncate(test, at_most(test->count, options->test));
    data->dev_is_test = options->held_out == 0;
    data->dev_count = data->dev_is_test ? at_most(test->count, options->dev) : dev->count;
    return MRA_OK;
}

static mra_status open_text(mra_dataset *data, const mra_dataset_options *options,
                            mra_error *err)
{
    data->vocabulary = MRA_IMDB_VOCABULARY;
    data->classes = MRA_IMDB_CLASSES;
    char *path = data->sources[0];
    mra_status status = mra_imdb_find(options->folder, path, sizeof data->sources[0], err);
    if (status != MRA_OK) return status;
    data->source_count = 1;
    const char *cache = options->cache ? options->cache : "build/cache";
    status = mra_imdb_read(&data->splits[MRA_TRAIN], &data->splits[MRA_TEST], path,
                           options->maximum_length, cache, options->quiet, err);
    return status == MRA_OK ? divide_reviews(data, options, err) : status;
}

// ---- The interface --------------------------------------------------------------------------

mra_status mra_dataset_open(mra_dataset **data, const mra_dataset_options *options,
                            mra_error *err)
{
    static mra_status (*const open[])(mra_dataset *, const mra_dataset_options *,
                                      mra_error *) = {open_listops, open_text};
    *data = NULL;
    int which = 0;
    while (known[which] && strcmp(known[which], options->name) != 0) which++;
    if (!known[which])
        return mra_fail(err, MRA_BAD_INPUT, "data set \"%.80s\": expected listops or text",
                        options->name);
    if (options->maximum_length < 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "data set %s: maximum length %d: expected 1 or more", options->name,
                        options->maximum_length);
    mra_dataset *opened = calloc(1, sizeof *opened);
    if (!opened) return mra_fail(err, MRA_NO_MEMORY, "data set %s: no memory", options->name);
    opened->name = known[which];
    opened->maximum_length = options->maximum_length;
    mra_status status = open[which](opened, options, err);
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
    return (mra_example){.ids = item->ids, .length = item->length, .label = item->label};
}

const char *mra_dataset_name(const mra_dataset *data)
{
    return data->name;
}

int mra_dataset_vocabulary(const mra_dataset *data)
{
    return data->vocabulary;
}

int mra_dataset_classes(const mra_dataset *data)
{
    return data->classes;
}

int mra_dataset_maximum_length(const mra_dataset *data)
{
    return data->maximum_length;
}

double mra_dataset_majority(const mra_dataset *data, mra_split split)
{
    size_t counts[MRA_LISTOPS_CLASSES] = {0}, count = mra_dataset_count(data, split), most = 0;
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
