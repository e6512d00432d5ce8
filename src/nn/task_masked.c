// The task "masked".
//
// An epoch visits every sequence of the corpus once, in an order that is a function of (seed, epoch); which tokens of a sequence
// are masked, and by what, is a function of (seed, step, row), so that a sequence is masked differently each time it
// comes (RoBERTa's "dynamic masking"). The published code has its 200 epochs of masked batches prepared in files, and so repeats
// nothing either.

#include "nn/task_masked.h"

#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "data/masking.h"
#include "nn/train_options.h"

static const char *const document_names[] = {"files", "blank_lines", NULL};

typedef struct masked {
    mra_task task;
    const mra_train_options *options;
    mra_corpus *corpus;
    mra_roberta *model;
    mra_masking masking;
    size_t sequences[MRA_SPLITS]; // that are used
    uint32_t *order;              // of the training sequences
    uint64_t epoch;               // the one that `order` holds, plus one; 0: none
    double majority[MRA_SPLITS];  // of dev and test; negative: not counted yet
} masked;

static masked *masked_of(const mra_task *task)
{
    return (masked *)task;
}

// ---- Settings -------------------------------------------------------------------------------------

static const int64_t LARGE = 1000000000;

static void read_settings(mra_reader *reader, mra_train_options *options)
{
    mra_masked_options *own = &options->masked;
    mra_corpus_options *data = &own->data;
    *data = mra_corpus_defaults();
    data->folder = mra_read_text(reader, "data.folder", NULL);
    data->sources = mra_read_text(reader, "data.sources", NULL);
    data->members = mra_read_text(reader, "data.members", NULL);
    data->bpe = mra_read_text(reader, "data.tokeniser", NULL);
    data->blank_lines = mra_read_choice(reader, "data.documents", document_names) == 1;
    data->dev = (size_t)mra_read_int(reader, "data.dev", (int64_t)data->dev, 1, LARGE);
    data->test = (size_t)mra_read_int(reader, "data.test", (int64_t)data->test, 1, LARGE);
    data->seed = (uint64_t)mra_read_int(reader, "data.seed", 0, 0, INT64_MAX);
    mra_roberta_settings_read(reader, &own->roberta, options->seed);
    own->share = mra_read_real(reader, "train.mask", 0.15, 1e-3, 1.0);
    const int positions = own->roberta.model.encoder.positions;
    own->length = (int)mra_read_int(reader, "train.length", positions, 3, positions);
}

static void write_settings(const mra_train_options *options, mra_writer *writer)
{
    const mra_masked_options *own = &options->masked;
    const mra_corpus_options *data = &own->data;
    if (data->folder) mra_write(writer, "data.folder=%s\n", data->folder);
    if (data->sources) mra_write(writer, "data.sources=%s\n", data->sources);
    if (data->members) mra_write(writer, "data.members=%s\n", data->members);
    if (data->bpe) mra_write(writer, "data.tokeniser=%s\n", data->bpe);
    mra_write(writer, "data.documents=%s\n", document_names[data->blank_lines]);
    mra_write(writer, "data.dev=%zu\ndata.test=%zu\n", data->dev, data->test);
    mra_write(writer, "data.seed=%llu\n", (unsigned long long)data->seed);
    mra_roberta_settings_write(&own->roberta, writer);
    mra_write(writer, "train.mask=%.17g\ntrain.length=%d\n", own->share, own->length);
}

// ---- Data and network -----------------------------------------------------------------------------

static mra_status open_data(masked *masked, const mra_task_run *run, mra_error *err)
{
    const mra_train_options *options = masked->options;
    const mra_masked_options *own = &options->masked;
    mra_corpus_options data = own->data;
    data.quiet = run->quiet;
    const mra_status status = mra_corpus_open(&masked->corpus, &data, err);
    if (status != MRA_OK) return status;
    const size_t limit[MRA_SPLITS] = {0, options->dev_examples, options->test_examples};
    for (int s = 0; s < MRA_SPLITS; s++) {
        const size_t there = mra_corpus_sequences(masked->corpus, (mra_split)s, own->length);
        const size_t wanted = s == MRA_TRAIN ? (size_t)options->batch : 1;
        masked->sequences[s] = limit[s] && limit[s] < there ? limit[s] : there;
        masked->majority[s] = -1;
        if (there < wanted || there > UINT32_MAX)
            return mra_fail(
                err, MRA_BAD_INPUT,
                "corpus: %zu sequences of %d tokens in split %s, expected %zu to %u", there,
                own->length, mra_split_name((mra_split)s), wanted, UINT32_MAX);
    }
    masked->order = malloc(masked->sequences[MRA_TRAIN] * sizeof *masked->order);
    return masked->order ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "training: no memory");
}

static void close_task(mra_task *task)
{
    if (!task) return;
    masked *masked = masked_of(task);
    free(masked->order);
    mra_roberta_free(masked->model);
    mra_corpus_free(masked->corpus);
    free(masked);
}

static mra_status open_task(mra_task **task, const mra_train_options *options,
                            const mra_task_run *run, mra_error *err)
{
    *task = NULL;
    masked *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "training: no memory");
    made->task.kind = &mra_task_masked;
    made->options = options;
    mra_status status = open_data(made, run, err);
    if (status == MRA_OK) {
        mra_roberta_settings settings = options->masked.roberta;
        settings.model.encoder.vocabulary = mra_corpus_vocabulary(made->corpus);
        settings.model.head = MRA_ROBERTA_MASKED;
        made->masking = (mra_masking){.share = options->masked.share,
                                      .vocabulary = settings.model.encoder.vocabulary,
                                      .special = mra_corpus_special(made->corpus)};
        status = mra_roberta_begin(&made->model, &settings, run->device, run->quiet, err);
    }
    if (status != MRA_OK) {
        close_task(&made->task);
        return status;
    }
    made->task.parameters = &made->model->parameters;
    *task = &made->task;
    return MRA_OK;
}

// ---- Batches --------------------------------------------------------------------------------------

typedef struct masked_batch {
    mra_roberta_batch view; // of the arrays below
    int32_t *ids, *place, *label;
} masked_batch;

static void free_batch(void *batch)
{
    masked_batch *own = batch;
    if (!own) return;
    free(own->ids);
    free(own->place);
    free(own->label);
    free(own);
}

static mra_status create_batch(mra_task *task, void **batch, mra_error *err)
{
    const mra_train_options *options = masked_of(task)->options;
    const size_t cells = (size_t)options->batch * (size_t)options->masked.length;
    masked_batch *made = calloc(1, sizeof *made);
    *batch = made;
    if (made) {
        made->ids = calloc(cells, sizeof *made->ids);
        made->place = calloc(cells, sizeof *made->place);
        made->label = calloc(cells, sizeof *made->label);
        if (made->ids && made->place && made->label) return MRA_OK;
    }
    free_batch(made);
    *batch = NULL;
    return mra_fail(err, MRA_NO_MEMORY, "batches of %zu tokens: no memory", cells);
}

// The training sequence of row `row` of step `step`. What does not fill a batch at the end of an epoch is left out.
static size_t training_sequence(masked *masked, uint64_t step, size_t row)
{
    const size_t count = masked->sequences[MRA_TRAIN];
    const size_t batch = (size_t)masked->options->batch, steps = count / batch;
    const uint64_t epoch = step / steps;
    if (masked->epoch != epoch + 1) {
        for (size_t i = 0; i < count; i++) masked->order[i] = (uint32_t)i;
        mra_random_shuffle(masked->order, count, 1, masked->options->seed,
                           mra_stream("order of sequences", epoch, 0));
        masked->epoch = epoch + 1;
    }
    return masked->order[step % steps * batch + row];
}

// Held-out sequences that are used: all, or so many at equal distances.
static size_t held_out_sequence(const masked *masked, mra_split split, size_t index)
{
    const size_t there =
        mra_corpus_sequences(masked->corpus, split, masked->options->masked.length);
    return (size_t)((uint64_t)index * there / masked->sequences[split]);
}

// Puts sequence `row` of the portion, the `at`-th of the batch, into it.
static void put_sequence(masked *masked, const mra_portion *portion, size_t row, int at,
                         masked_batch *batch)
{
    const mra_train_options *options = masked->options;
    const int n = options->masked.length;
    int32_t *ids = batch->ids + (size_t)at * (size_t)n;
    mra_roberta_batch *view = &batch->view;
    const bool training = portion->split == MRA_TRAIN;
    const size_t held_out = (size_t)portion->index * (size_t)options->batch + row;
    const size_t sequence = training ? training_sequence(masked, portion->index, row)
                                     : held_out_sequence(masked, portion->split, held_out);
    mra_corpus_sequence(masked->corpus, portion->split, sequence, n, ids);
    const uint64_t seed = training ? options->seed : options->masked.data.seed;
    const uint64_t stream = training ? mra_stream("masked tokens", portion->index, row)
                                     : mra_stream("masked tokens of held-out text", sequence,
                                                  (uint64_t)portion->split);
    int32_t *place = batch->place + view->targets;
    const int count = mra_mask_sequence(&masked->masking, ids, n, seed, stream, place,
                                        batch->label + view->targets);
    for (int k = 0; k < count; k++) place[k] += at * n;
    view->targets += count;
}

static mra_status prepare(mra_task *task, const mra_portion *portion, void *batch,
                          mra_error *err)
{
    masked *masked = masked_of(task);
    masked_batch *own = batch;
    int rows = masked->options->batch, from, to;
    if (portion->split != MRA_TRAIN) {
        const int64_t left = (int64_t)masked->sequences[portion->split] -
                             (int64_t)portion->index * masked->options->batch;
        if (left < rows) rows = (int)left;
    }
    const mra_status status = mra_portion_rows(portion, rows, &from, &to, err);
    if (status != MRA_OK) return status;
    own->view = (mra_roberta_batch){.count = to - from,
                                    .n = masked->options->masked.length,
                                    .ids = own->ids,
                                    .place = own->place,
                                    .label = own->label};
    for (int row = from; row < to; row++)
        put_sequence(masked, portion, (size_t)row, row - from, own);
    if (own->view.targets > 0) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "corpus: a batch without a token to mask");
}

static mra_tensor *loss(mra_task *task, mra_tape *tape, const void *batch, mra_score *score)
{
    const masked_batch *own = batch;
    int correct = 0;
    mra_tensor *loss = mra_roberta_loss(masked_of(task)->model, tape, &own->view, &correct);
    *score = (mra_score){.counted = own->view.targets,
                         .right = {correct},
                         .tokens = (int64_t)own->view.count * own->view.n};
    return loss;
}

static size_t count_batches(const mra_task *task, mra_split split)
{
    const masked *masked = masked_of(task);
    const size_t width = (size_t)masked->options->batch;
    return (masked->sequences[split] + width - 1) / width;
}

// ---- About the data -------------------------------------------------------------------------------

// Counts the masked tokens of a split and takes the most frequent one.
static double count_majority(masked *masked, mra_split split)
{
    void *batch;
    mra_error err;
    int64_t total = 0, most = 0;
    int64_t *tally = calloc((size_t)masked->masking.vocabulary, sizeof *tally);
    if (!tally) return -1;
    if (create_batch(&masked->task, &batch, &err) == MRA_OK) {
        for (size_t i = 0; i < count_batches(&masked->task, split); i++) {
            const mra_portion portion = {split, i, 0, 1};
            const masked_batch *own = batch;
            if (prepare(&masked->task, &portion, batch, &err) != MRA_OK) break;
            for (int k = 0; k < own->view.targets; k++) {
                const int64_t seen = ++tally[own->label[k]];
                if (seen > most) most = seen;
            }
            total += own->view.targets;
        }
        free_batch(batch);
    }
    free(tally);
    return total ? (double)most / (double)total : -1;
}

static double majority(const mra_task *task, mra_split split)
{
    masked *masked = masked_of(task);
    if (masked->majority[split] < 0) masked->majority[split] = count_majority(masked, split);
    return masked->majority[split];
}

// The sources of the text, then the weights that the training started from.
static const char *source(const mra_task *task, int index)
{
    const masked *masked = masked_of(task);
    int sources = 0;
    while (mra_corpus_source(masked->corpus, sources)) sources++;
    if (index < sources) return mra_corpus_source(masked->corpus, index);
    return index == sources ? masked->options->masked.roberta.init : NULL;
}

static mra_status describe(const mra_task *task, mra_safetensors *file, mra_error *err)
{
    const int vocabulary = masked_of(task)->masking.vocabulary;
    const mra_status status = mra_safetensors_set_number(file, "vocabulary", vocabulary, err);
    return status == MRA_OK ? mra_safetensors_set(file, "format", "pt", err) : status;
}

const mra_task_kind mra_task_masked = {.name = "masked",
                                       .metric = {"accuracy"},
                                       .lowest_loss = true,
                                       .read = read_settings,
                                       .write = write_settings,
                                       .open = open_task,
                                       .close = close_task,
                                       .batch_create = create_batch,
                                       .batch_free = free_batch,
                                       .prepare = prepare,
                                       .loss = loss,
                                       .batches = count_batches,
                                       .majority = majority,
                                       .source = source,
                                       .describe = describe};
