// The settings of a training: from an ini file to numbers, and back to text.
//
// The text is canonical: it has every setting, the defaults too, in a fixed order. Two runs with
// the same text are the same run, and a checkpoint keeps it to know whether it belongs to
// the run that found it. How often checkpoints are written decides nothing about the result and is left out.

#include "nn/train_options.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const pooling_names[] = {"all", "tokens", NULL};
static const char *const batching_names[] = {"padded", "bucketed", NULL};
static const char *const anneal_names[] = {"linear", "cosine", NULL};
static const char *const evaluate_names[] = {"held_out", "training", NULL};

// ---- Reading --------------------------------------------------------------------------------------

// A run of reads that stops at the first failure.
typedef struct reader {
    mra_settings *settings;
    mra_error *err;
    mra_status status;
} reader;

static int64_t read_int(reader *reader, const char *key, int64_t fallback, int64_t low,
                        int64_t high)
{
    int64_t value = fallback;
    if (reader->status == MRA_OK)
        reader->status =
            mra_settings_int(reader->settings, key, fallback, low, high, &value, reader->err);
    return value;
}

static double read_real(reader *reader, const char *key, double fallback, double low,
                        double high)
{
    double value = fallback;
    if (reader->status == MRA_OK)
        reader->status =
            mra_settings_real(reader->settings, key, fallback, low, high, &value, reader->err);
    return value;
}

static int read_choice(reader *reader, const char *key, const char *const *names)
{
    int index = 0;
    if (reader->status == MRA_OK)
        reader->status =
            mra_settings_choice(reader->settings, key, names[0], names, &index, reader->err);
    return index;
}

static const int64_t LARGE = 1000000000;

static void read_data(reader *reader, mra_dataset_options *data)
{
    const char *name = mra_settings_text(reader->settings, "data.name", "listops");
    *data = mra_dataset_defaults(name);
    data->folder = mra_settings_text(reader->settings, "data.folder", data->folder);
    data->train = (size_t)read_int(reader, "data.train", (int64_t)data->train, 0, LARGE);
    data->dev = (size_t)read_int(reader, "data.dev", (int64_t)data->dev, 0, LARGE);
    data->test = (size_t)read_int(reader, "data.test", (int64_t)data->test, 0, LARGE);
    data->held_out =
        (size_t)read_int(reader, "data.held_out", (int64_t)data->held_out, 0, LARGE);
    data->minimum_length =
        (int)read_int(reader, "data.minimum_length", data->minimum_length, 0, 1 << 20);
    data->maximum_length =
        (int)read_int(reader, "data.maximum_length", data->maximum_length, 1, 1 << 20);
    data->seed = (uint64_t)read_int(reader, "data.seed", (int64_t)data->seed, 0, INT64_MAX);
}

static int power_of_two_above(int n)
{
    int power = 1;
    while (power < n) power *= 2;
    return power;
}

static void read_model(reader *reader, mra_classifier_options *model, int maximum_length)
{
    mra_encoder_options *encoder = &model->encoder;
    encoder->dim = (int)read_int(reader, "model.dim", 64, 1, 8192);
    encoder->heads = (int)read_int(reader, "model.heads", 2, 1, 256);
    encoder->head_dim = (int)read_int(reader, "model.head_dim", 32, 1, 256);
    encoder->blocks = (int)read_int(reader, "model.layers", 2, 1, MRA_MAX_BLOCKS);
    encoder->hidden = (int)read_int(reader, "model.hidden", 128, 1, 65536);
    encoder->dropout = read_real(reader, "model.dropout", 0.1, 0.0, 0.99);
    encoder->positions = (int)read_int(reader, "model.positions",
                                       power_of_two_above(maximum_length), 1, 1 << 20);
    model->pooling = (mra_pooling)read_choice(reader, "model.pooling", pooling_names);
}

// The method and every other key of the section, as "option=value"; the method checks them.
static void read_attention(reader *reader, mra_encoder_options *encoder)
{
    const char *method = mra_settings_text(reader->settings, "attention.method", "exact");
    if (reader->status == MRA_OK && strlen(method) >= sizeof encoder->method)
        reader->status =
            mra_fail(reader->err, MRA_BAD_INPUT, "attention.method: %.60s is unknown", method);
    snprintf(encoder->method, sizeof encoder->method, "%.39s", method);
    encoder->settings = 0;
    const char prefix[] = "attention.";
    const char *key;
    for (size_t i = 0; reader->status == MRA_OK; i++) {
        if (!(key = mra_settings_key(reader->settings, i))) break;
        if (strncmp(key, prefix, strlen(prefix)) != 0 || strcmp(key, "attention.method") == 0)
            continue;
        const char *value = mra_settings_text(reader->settings, key, "");
        const int room = (int)sizeof encoder->setting[0];
        const bool full = encoder->settings == MRA_ATTENTION_SETTINGS;
        if (full || snprintf(encoder->setting[encoder->settings], (size_t)room, "%s=%s",
                             key + strlen(prefix), value) >= room)
            reader->status = mra_fail(reader->err, MRA_BAD_INPUT,
                                      "%s: at most %d options of an attention method, each of "
                                      "fewer than %d characters",
                                      key, MRA_ATTENTION_SETTINGS, room);
        encoder->settings++;
    }
}

static void read_training(reader *reader, mra_train_options *options)
{
    mra_schedule *schedule = &options->schedule;
    schedule->steps = read_int(reader, "train.steps", 5000, 1, LARGE);
    schedule->warmup =
        read_int(reader, "train.warmup", schedule->steps < 5000 ? schedule->steps / 5 : 1000, 0,
                 schedule->steps);
    schedule->peak = read_real(reader, "train.learning_rate", 1e-4, 0.0, 1e9);
    schedule->anneal = (mra_anneal)read_choice(reader, "train.anneal", anneal_names);
    options->optimiser = mra_optimiser_defaults();
    options->optimiser.weight_decay = read_real(reader, "train.weight_decay", 0.0, 0.0, 1.0);
    options->clip = read_real(reader, "train.clip", 0.0, 0.0, 1e9);
    options->batch = (int)read_int(reader, "train.batch", 32, 1, 65536);
    options->bucketed = read_choice(reader, "train.batching", batching_names) == 1;
    options->memorise = read_choice(reader, "train.evaluate", evaluate_names) == 1;
    options->multiple = (int)read_int(reader, "train.multiple", 32, 1, 1 << 20);
    options->log_every = read_int(reader, "train.log_every", 50, 1, LARGE);
    options->eval_every = read_int(reader, "train.eval_every", 500, 1, LARGE);
    options->checkpoint_every = read_int(reader, "train.checkpoint_every", 200, 1, LARGE);
    options->dev_examples = (size_t)read_int(reader, "train.dev_examples", 0, 0, LARGE);
    options->test_examples = (size_t)read_int(reader, "train.test_examples", 0, 0, LARGE);
    options->seed = (uint64_t)read_int(reader, "train.seed", 1, 0, INT64_MAX);
    options->model.encoder.seed = options->seed;
}

mra_status mra_train_options_read(mra_train_options *options, mra_settings *settings,
                                  mra_error *err)
{
    *options = (mra_train_options){0};
    reader reader = {settings, err, MRA_OK};
    read_data(&reader, &options->data);
    read_model(&reader, &options->model, options->data.maximum_length);
    read_attention(&reader, &options->model.encoder);
    read_training(&reader, options);
    if (reader.status != MRA_OK) return reader.status;
    if (options->model.encoder.positions < options->data.maximum_length)
        return mra_fail(err, MRA_BAD_INPUT,
                        "model.positions=%d is less than data.maximum_length=%d",
                        options->model.encoder.positions, options->data.maximum_length);
    return mra_settings_finish(settings, err);
}

// ---- Writing --------------------------------------------------------------------------------------

typedef struct text {
    char *at;
    size_t room, used;
} text;

static void MRA_PRINTF(2, 3) line(text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t left = text->used < text->room ? text->room - text->used : 0;
    int length = vsnprintf(left ? text->at + text->used : NULL, left, format, arguments);
    va_end(arguments);
    text->used += (size_t)length;
}

static void write_data(text *text, const mra_dataset_options *data)
{
    line(text, "data.name=%s\n", data->name);
    if (data->folder) line(text, "data.folder=%s\n", data->folder);
    line(text, "data.train=%zu\ndata.dev=%zu\ndata.test=%zu\n", data->train, data->dev,
         data->test);
    line(text, "data.held_out=%zu\n", data->held_out);
    line(text, "data.minimum_length=%d\ndata.maximum_length=%d\n", data->minimum_length,
         data->maximum_length);
    line(text, "data.seed=%llu\n", (unsigned long long)data->seed);
}

static void write_model(text *text, const mra_classifier_options *model)
{
    const mra_encoder_options *encoder = &model->encoder;
    line(text, "model.dim=%d\nmodel.heads=%d\nmodel.head_dim=%d\n", encoder->dim,
         encoder->heads, encoder->head_dim);
    line(text, "model.layers=%d\nmodel.hidden=%d\n", encoder->blocks, encoder->hidden);
    line(text, "model.dropout=%.17g\nmodel.positions=%d\n", encoder->dropout,
         encoder->positions);
    line(text, "model.pooling=%s\n", pooling_names[model->pooling]);
    line(text, "attention.method=%s\n", encoder->method);
    for (int i = 0; i < encoder->settings; i++)
        line(text, "attention.%s\n", encoder->setting[i]);
}

size_t mra_train_options_text(const mra_train_options *options, char *buffer, size_t room)
{
    text text = {buffer, room, 0};
    const mra_schedule *schedule = &options->schedule;
    if (room) *buffer = '\0';
    write_data(&text, &options->data);
    write_model(&text, &options->model);
    line(&text, "train.steps=%lld\ntrain.warmup=%lld\n", (long long)schedule->steps,
         (long long)schedule->warmup);
    line(&text, "train.learning_rate=%.17g\ntrain.anneal=%s\n", schedule->peak,
         anneal_names[schedule->anneal]);
    line(&text, "train.weight_decay=%.17g\ntrain.clip=%.17g\n", options->optimiser.weight_decay,
         options->clip);
    line(&text, "train.batch=%d\ntrain.batching=%s\ntrain.multiple=%d\n", options->batch,
         batching_names[options->bucketed], options->multiple);
    line(&text, "train.log_every=%lld\ntrain.eval_every=%lld\n", (long long)options->log_every,
         (long long)options->eval_every);
    line(&text, "train.dev_examples=%zu\ntrain.test_examples=%zu\n", options->dev_examples,
         options->test_examples);
    if (options->memorise) line(&text, "train.evaluate=%s\n", evaluate_names[1]);
    line(&text, "train.seed=%llu\n", (unsigned long long)options->seed);
    return text.used + 1;
}

mra_status mra_train_options_restore(mra_settings *settings, const char *text, mra_error *err)
{
    char *copy = strdup(text), *rest = copy;
    if (!copy) return mra_fail(err, MRA_NO_MEMORY, "settings: no memory");
    mra_status status = MRA_OK;
    for (char *one; status == MRA_OK && (one = strsep(&rest, "\n"));)
        if (*one) status = mra_settings_override(settings, one, err);
    free(copy);
    return status;
}
