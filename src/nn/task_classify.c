// The task "classify": a classifier (nn/classifier.h) on a data set of sequences (data/data.h).
//
// A step's batch is made whole and then cut by rows into its parts. So all parts are padded to the length of the whole, and
// an example meets the same company and the same padding however many parts there are.

#include "nn/task_classify.h"

#include <stdlib.h>
#include <string.h>

#include "nn/batches.h"
#include "nn/encoder_options.h"
#include "nn/train_check.h"
#include "nn/train_options.h"

static const char *const pooling_names[] = {"all", "tokens", NULL};
static const char *const batching_names[] = {"padded", "bucketed", NULL};
static const char *const evaluate_names[] = {"held_out", "training", NULL};

typedef struct classify {
    mra_task task;
    const mra_train_options *options;
    mra_dataset *data;
    mra_classifier *model;
    mra_batches *batches[MRA_SPLITS];
} classify;

static classify *classify_of(const mra_task *task)
{
    return (classify *)task;
}

// ---- Settings -------------------------------------------------------------------------------------

static const int64_t LARGE = 1000000000;

static void read_data(mra_reader *reader, mra_dataset_options *data)
{
    *data = mra_dataset_defaults(mra_read_text(reader, "data.name", "listops"));
    data->folder = mra_read_text(reader, "data.folder", data->folder);
    data->train = (size_t)mra_read_int(reader, "data.train", (int64_t)data->train, 0, LARGE);
    data->dev = (size_t)mra_read_int(reader, "data.dev", (int64_t)data->dev, 0, LARGE);
    data->test = (size_t)mra_read_int(reader, "data.test", (int64_t)data->test, 0, LARGE);
    data->held_out =
        (size_t)mra_read_int(reader, "data.held_out", (int64_t)data->held_out, 0, LARGE);
    data->minimum_length =
        (int)mra_read_int(reader, "data.minimum_length", data->minimum_length, 0, 1 << 20);
    data->maximum_length =
        (int)mra_read_int(reader, "data.maximum_length", data->maximum_length, 1, 1 << 20);
    data->seed = (uint64_t)mra_read_int(reader, "data.seed", (int64_t)data->seed, 0, INT64_MAX);
}

static int power_of_two_above(int n)
{
    int power = 1;
    while (power < n) power *= 2;
    return power;
}

static void read_settings(mra_reader *reader, mra_train_options *options)
{
    mra_classify_options *classify = &options->classify;
    read_data(reader, &classify->data);
    mra_encoder_options *encoder = &classify->model.encoder;
    const int longest = classify->data.maximum_length;
    *encoder = (mra_encoder_options){.dim = 64,
                                     .heads = 2,
                                     .head_dim = 32,
                                     .blocks = 2,
                                     .hidden = 128,
                                     .dropout = 0.1,
                                     .positions = power_of_two_above(longest),
                                     .seed = options->seed};
    mra_encoder_options_read(reader, encoder);
    classify->model.pooling =
        (mra_pooling)mra_read_choice(reader, "model.pooling", pooling_names);
    mra_attention_options_read(reader, encoder);
    classify->bucketed = mra_read_choice(reader, "train.batching", batching_names) == 1;
    classify->memorise = mra_read_choice(reader, "train.evaluate", evaluate_names) == 1;
    classify->multiple = (int)mra_read_int(reader, "train.multiple", 32, 1, 1 << 20);
    if (reader->status == MRA_OK && encoder->positions < longest)
        reader->status = mra_fail(reader->err, MRA_BAD_INPUT,
                                  "model.positions=%d is less than data.maximum_length=%d",
                                  encoder->positions, longest);
}

static void write_settings(const mra_train_options *options, mra_writer *writer)
{
    const mra_classify_options *classify = &options->classify;
    const mra_dataset_options *data = &classify->data;
    mra_write(writer, "data.name=%s\n", data->name);
    if (data->folder) mra_write(writer, "data.folder=%s\n", data->folder);
    mra_write(writer, "data.train=%zu\ndata.dev=%zu\ndata.test=%zu\n", data->train, data->dev,
              data->test);
    mra_write(writer, "data.held_out=%zu\n", data->held_out);
    mra_write(writer, "data.minimum_length=%d\ndata.maximum_length=%d\n", data->minimum_length,
              data->maximum_length);
    mra_write(writer, "data.seed=%llu\n", (unsigned long long)data->seed);
    mra_encoder_options_write(&classify->model.encoder, writer);
    mra_write(writer, "model.pooling=%s\n", pooling_names[classify->model.pooling]);
    mra_attention_options_write(&classify->model.encoder, writer);
    mra_write(writer, "train.batching=%s\ntrain.multiple=%d\n",
              batching_names[classify->bucketed], classify->multiple);
    if (classify->memorise) mra_write(writer, "train.evaluate=%s\n", evaluate_names[1]);
}

// ---- Data and network -----------------------------------------------------------------------------

static mra_status open_data(classify *classify, const mra_task_run *run, mra_error *err)
{
    const mra_train_options *options = classify->options;
    const mra_classify_options *own = &options->classify;
    mra_dataset_options data = own->data;
    data.threads = run->device->threads;
    data.quiet = run->quiet;
    mra_status status = mra_dataset_open(&classify->data, &data, err);
    const mra_batches_options batches = {.batch = options->batch,
                                         .positions = own->model.encoder.positions,
                                         .bucketed = own->bucketed,
                                         .multiple = own->multiple,
                                         .seed = options->seed};
    const size_t limit[MRA_SPLITS] = {0, options->dev_examples, options->test_examples};
    for (int i = 0; i < MRA_SPLITS && status == MRA_OK; i++)
        status = mra_batches_create(&classify->batches[i], classify->data,
                                    own->memorise ? MRA_TRAIN : (mra_split)i, limit[i],
                                    &batches, err);
    return status;
}

static void close_task(mra_task *task)
{
    if (!task) return;
    classify *classify = classify_of(task);
    for (int i = 0; i < MRA_SPLITS; i++) mra_batches_free(classify->batches[i]);
    mra_classifier_free(classify->model);
    mra_dataset_free(classify->data);
    free(classify);
}

static mra_status open_task(mra_task **task, const mra_train_options *options,
                            const mra_task_run *run, mra_error *err)
{
    *task = NULL;
    classify *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "training: no memory");
    made->task.kind = &mra_task_classify;
    made->options = options;
    mra_status status = open_data(made, run, err);
    if (status == MRA_OK) {
        mra_classifier_options model = options->classify.model;
        model.encoder.vocabulary = mra_dataset_vocabulary(made->data);
        model.classes = mra_dataset_classes(made->data);
        model.pairs = mra_dataset_pairs(mra_dataset_name(made->data));
        status = mra_classifier_create(&made->model, &model, run->device, err);
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

static void free_batch(void *batch)
{
    mra_batch *own = batch;
    if (!own) return;
    free(own->ids);
    free(own->mask);
    free(own->labels);
    free(own);
}

static mra_status create_batch(mra_task *task, void **batch, mra_error *err)
{
    const classify *classify = classify_of(task);
    const size_t rows = (size_t)classify->options->batch;
    const size_t sequences = classify->model->options.pairs ? 2 * rows : rows;
    const size_t cells = sequences * (size_t)classify->model->options.encoder.positions;
    mra_batch *made = calloc(1, sizeof *made);
    *batch = made;
    if (made) {
        made->ids = calloc(cells, sizeof *made->ids);
        made->mask = calloc(cells, sizeof *made->mask);
        made->labels = calloc(rows, sizeof *made->labels);
        if (made->ids && made->mask && made->labels) return MRA_OK;
    }
    free_batch(made);
    *batch = NULL;
    return mra_fail(err, MRA_NO_MEMORY, "batches of %zu tokens: no memory", cells);
}

static mra_status prepare(mra_task *task, const mra_portion *portion, void *batch,
                          mra_error *err)
{
    const classify *classify = classify_of(task);
    mra_batches *batches = classify->batches[portion->split];
    const mra_batch *whole = portion->split == MRA_TRAIN
                                 ? mra_batches_training(batches, portion->index)
                                 : mra_batches_evaluation(batches, portion->index);
    int from, to;
    const mra_status status = mra_portion_rows(portion, whole->count, &from, &to, err);
    if (status != MRA_OK) return status;
    mra_batch *own = batch;
    own->count = to - from;
    own->n = whole->n;
    const size_t sequences = classify->model->options.pairs ? 2 : 1;
    const size_t start = (size_t)from * sequences * (size_t)own->n;
    const size_t cells = (size_t)own->count * sequences * (size_t)own->n;
    memcpy(own->ids, whole->ids + start, cells * sizeof *own->ids);
    memcpy(own->mask, whole->mask + start, cells * sizeof *own->mask);
    memcpy(own->labels, whole->labels + from, (size_t)own->count * sizeof *own->labels);
    return MRA_OK;
}

static mra_tensor *loss(mra_task *task, mra_tape *tape, const void *batch, mra_score *score)
{
    const classify *classify = classify_of(task);
    const mra_batch *own = batch;
    int correct = 0;
    mra_tensor *loss = mra_classifier_loss(classify->model, tape, own, &correct);
    *score = (mra_score){.right = {correct}};
    const size_t sequences = classify->model->options.pairs ? 2 : 1;
    const size_t cells = (size_t)own->count * sequences * (size_t)own->n;
    for (int i = 0; i < own->count; i++) score->counted += own->labels[i] >= 0;
    for (size_t i = 0; i < cells; i++) score->tokens += own->mask[i];
    return loss;
}

static size_t count_batches(const mra_task *task, mra_split split)
{
    return mra_batches_count(classify_of(task)->batches[split]);
}

// ---- About the data -------------------------------------------------------------------------------

static double majority(const mra_task *task, mra_split split)
{
    return mra_batches_majority(classify_of(task)->batches[split]);
}

static const char *source(const mra_task *task, int index)
{
    return mra_dataset_source(classify_of(task)->data, index);
}

static mra_status describe(const mra_task *task, mra_safetensors *file, mra_error *err)
{
    const mra_classifier_options *model = &classify_of(task)->model->options;
    mra_status status =
        mra_safetensors_set_number(file, "vocabulary", model->encoder.vocabulary, err);
    return status == MRA_OK ? mra_safetensors_set_number(file, "classes", model->classes, err)
                            : status;
}

const mra_task_kind mra_task_classify = {.name = "classify",
                                         .metric = {"accuracy"},
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
                                         .describe = describe,
                                         .check = mra_classify_check};
