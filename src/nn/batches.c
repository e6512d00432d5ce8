// Batches of a data set.
//
// A run that is killed and started again has to see the same batches as one that was not. So nothing here is
// a stream that is drawn from: the order of an epoch is computed from (seed, epoch) whenever it is needed, and
// the batch of step t is a function of t.
//
// Sequences of a batch are padded to one length. Padding all of them to the longest length of the task, as the
// published experiments do, wastes most of the work when lengths vary by a factor of ten, as those of film reviews do.
// "Bucketed" batches take what the random order brings in pools of 64 batches, sort each pool by length, cut it
// into batches and shuffle these: batches stay random enough for training, and padding nearly vanishes.

#include "nn/batches.h"

#include <stdlib.h>
#include <string.h>

#include "core/random.h"

enum { BATCHES_PER_POOL = 64 };

struct mra_batches {
    const mra_dataset *data; // borrowed
    mra_split split;
    mra_batches_options options;
    size_t examples, per_epoch; // per_epoch: batches
    int sequences;              // of an example: 2 for pairs
    uint64_t epoch;             // the one that `order` holds, plus one; 0: none
    uint32_t *subset;           // the examples that are used
    uint32_t *order;            // examples in the order of training
    uint32_t *by_length;        // examples in the order of evaluation
    uint32_t *scratch;
    size_t *start; // of each length, while sorting
    double majority;
    mra_batch batch;
};

// The longest of an example's sequences.
static int length_of(const mra_batches *batches, uint32_t index)
{
    const mra_example example = mra_dataset_get(batches->data, batches->split, index);
    return example.length > example.second_length ? example.length : example.second_length;
}

// ---- Sorting by length ----------------------------------------------------------------------------

// Counting sort of index[0 .. count) by length: linear and stable, so that ties keep their random order.
static void sort_by_length(const mra_batches *batches, uint32_t *index, size_t count)
{
    size_t longest = (size_t)batches->options.positions;
    size_t *start = batches->start;
    memset(start, 0, (longest + 2) * sizeof *start);
    for (size_t i = 0; i < count; i++) {
        size_t length = (size_t)length_of(batches, index[i]);
        start[(length < longest ? length : longest) + 1]++;
    }
    for (size_t l = 1; l <= longest + 1; l++) start[l] += start[l - 1];
    memcpy(batches->scratch, index, count * sizeof *index);
    for (size_t i = 0; i < count; i++) {
        size_t length = (size_t)length_of(batches, batches->scratch[i]);
        index[start[length < longest ? length : longest]++] = batches->scratch[i];
    }
}

// ---- Making and freeing ---------------------------------------------------------------------------

static mra_status allocate(mra_batches *batches, mra_error *err)
{
    size_t rows = (size_t)batches->options.batch;
    size_t cells = rows * (size_t)batches->options.positions * (size_t)batches->sequences;
    batches->subset = calloc(batches->examples, sizeof *batches->subset);
    batches->order = calloc(batches->examples, sizeof *batches->order);
    batches->by_length = calloc(batches->examples, sizeof *batches->by_length);
    batches->scratch = calloc(batches->examples, sizeof *batches->scratch);
    batches->start = calloc((size_t)batches->options.positions + 2, sizeof *batches->start);
    batches->batch.ids = calloc(cells, sizeof *batches->batch.ids);
    batches->batch.mask = calloc(cells, sizeof *batches->batch.mask);
    batches->batch.labels = calloc(rows, sizeof *batches->batch.labels);
    if (!batches->subset || !batches->order || !batches->by_length || !batches->scratch ||
        !batches->start || !batches->batch.ids || !batches->batch.mask ||
        !batches->batch.labels)
        return mra_fail(err, MRA_NO_MEMORY, "batches of %zu x %d tokens: no memory", rows,
                        batches->options.positions);
    return MRA_OK;
}

// All examples, or as many as are wanted: drawn evenly from the whole split, for a split may be sorted by label. The draw
// depends on the sizes alone, so that runs of different seeds are tested on the same examples.
static void choose_subset(mra_batches *batches)
{
    const size_t total = mra_dataset_count(batches->data, batches->split);
    mra_random_subset(batches->subset, total, batches->examples, 0,
                      mra_stream("subset", total, batches->examples));
}

static mra_status count_labels(mra_batches *batches, mra_error *err)
{
    size_t *tally = calloc((size_t)mra_dataset_classes(batches->data), sizeof *tally), most = 0;
    if (!tally) return mra_fail(err, MRA_NO_MEMORY, "batches: no memory");
    for (size_t i = 0; i < batches->examples; i++) {
        size_t seen =
            ++tally[mra_dataset_get(batches->data, batches->split, batches->subset[i]).label];
        if (seen > most) most = seen;
    }
    free(tally);
    batches->majority = (double)most / (double)batches->examples;
    return MRA_OK;
}

mra_status mra_batches_create(mra_batches **batches, const mra_dataset *data, mra_split split,
                              size_t limit, const mra_batches_options *options, mra_error *err)
{
    *batches = NULL;
    size_t examples = mra_dataset_count(data, split);
    if (limit > 0 && limit < examples) examples = limit;
    if (examples == 0 || mra_dataset_count(data, split) > UINT32_MAX)
        return mra_fail(err, MRA_BAD_INPUT,
                        "data set %s: %zu examples in split %s, expected 1 to %u",
                        mra_dataset_name(data), examples, mra_split_name(split), UINT32_MAX);
    if (options->batch < 1 || options->positions < 1 || options->multiple < 1)
        return mra_fail(err, MRA_BAD_INPUT, "batches: sizes must be at least 1");
    mra_batches *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "batches: no memory");
    made->data = data;
    made->split = split;
    made->options = *options;
    if ((size_t)options->batch > examples) made->options.batch = (int)examples;
    made->examples = examples;
    made->sequences = mra_dataset_pairs(mra_dataset_name(data)) ? 2 : 1;
    made->per_epoch = examples / (size_t)made->options.batch;
    mra_status status = allocate(made, err);
    if (status == MRA_OK) choose_subset(made);
    if (status == MRA_OK) status = count_labels(made, err);
    if (status != MRA_OK) {
        mra_batches_free(made);
        return status;
    }
    memcpy(made->by_length, made->subset, examples * sizeof *made->subset);
    if (options->bucketed) sort_by_length(made, made->by_length, examples);
    *batches = made;
    return MRA_OK;
}

void mra_batches_free(mra_batches *batches)
{
    if (!batches) return;
    free(batches->subset);
    free(batches->order);
    free(batches->by_length);
    free(batches->scratch);
    free(batches->start);
    free(batches->batch.ids);
    free(batches->batch.mask);
    free(batches->batch.labels);
    free(batches);
}

// ---- The order of an epoch ------------------------------------------------------------------------

static void plan_epoch(mra_batches *batches, uint64_t epoch)
{
    if (batches->epoch == epoch + 1) return;
    uint64_t seed = batches->options.seed;
    size_t width = (size_t)batches->options.batch;
    memcpy(batches->order, batches->subset, batches->examples * sizeof *batches->order);
    mra_random_shuffle(batches->order, batches->examples, 1, seed,
                       mra_stream("order of examples", epoch, 0));
    if (batches->options.bucketed) {
        size_t used = batches->per_epoch * width, pool = BATCHES_PER_POOL * width;
        for (size_t from = 0; from < used; from += pool)
            sort_by_length(batches, batches->order + from,
                           used - from < pool ? used - from : pool);
        mra_random_shuffle(batches->order, batches->per_epoch, width, seed,
                           mra_stream("order of batches", epoch, 0));
    }
    batches->epoch = epoch + 1;
}

// ---- Filling a batch ------------------------------------------------------------------------------

// One sequence, cut to the batch's width.
static void put(mra_batch *batch, size_t row, const uint16_t *ids, int length)
{
    if (length > batch->n) length = batch->n;
    for (int i = 0; i < length; i++) batch->ids[row * (size_t)batch->n + (size_t)i] = ids[i];
    memset(batch->mask + row * (size_t)batch->n, 1, (size_t)length);
}

// Fills the batch with `count` examples; the rows after them repeat the first, unlabelled.
static const mra_batch *fill(mra_batches *batches, const uint32_t *index, size_t count)
{
    mra_batch *batch = &batches->batch;
    const mra_batches_options *options = &batches->options;
    int longest = 1;
    for (size_t i = 0; i < count; i++) {
        int length = length_of(batches, index[i]);
        if (length > longest) longest = length;
    }
    int n = options->positions;
    if (options->bucketed) {
        int rounded = (longest + options->multiple - 1) / options->multiple * options->multiple;
        if (rounded < n) n = rounded;
    }
    batch->n = n;
    batch->count = options->batch;
    const size_t rows = (size_t)batch->count * (size_t)batches->sequences;
    memset(batch->ids, 0, rows * (size_t)n * sizeof *batch->ids);
    memset(batch->mask, 0, rows * (size_t)n);
    for (size_t row = 0; row < (size_t)batch->count; row++) {
        mra_example example =
            mra_dataset_get(batches->data, batches->split, index[row < count ? row : 0]);
        const size_t at = row * (size_t)batches->sequences;
        put(batch, at, example.ids, example.length);
        if (batches->sequences == 2) put(batch, at + 1, example.second, example.second_length);
        batch->labels[row] = row < count ? example.label : -1;
    }
    return batch;
}

const mra_batch *mra_batches_training(mra_batches *batches, uint64_t step)
{
    plan_epoch(batches, step / batches->per_epoch);
    size_t width = (size_t)batches->options.batch;
    return fill(batches, batches->order + step % batches->per_epoch * width, width);
}

size_t mra_batches_count(const mra_batches *batches)
{
    size_t width = (size_t)batches->options.batch;
    return (batches->examples + width - 1) / width;
}

const mra_batch *mra_batches_evaluation(mra_batches *batches, size_t index)
{
    size_t width = (size_t)batches->options.batch, left = batches->examples - index * width;
    return fill(batches, batches->by_length + index * width, left < width ? left : width);
}

size_t mra_batches_examples(const mra_batches *batches)
{
    return batches->examples;
}

double mra_batches_majority(const mra_batches *batches)
{
    return batches->majority;
}
