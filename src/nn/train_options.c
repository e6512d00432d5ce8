// The settings of a training: from an ini file to numbers, and back to text.
//
// The text is canonical: it has every setting, the defaults too, in a fixed order. Two runs with
// the same text are the same run, and a checkpoint keeps it to know whether it belongs to
// the run that found it. How often checkpoints are written and whether batches are prepared ahead decides nothing about
// the result and is left out.

#include "nn/train_options.h"

#include <stdlib.h>
#include <string.h>

static const char *const anneal_names[] = {"linear", "cosine", NULL};

static const int64_t LARGE = 1000000000;

// ---- Reading --------------------------------------------------------------------------------------

static void read_training(mra_reader *reader, mra_train_options *options)
{
    mra_schedule *schedule = &options->schedule;
    schedule->steps = mra_read_int(reader, "train.steps", 5000, 1, LARGE);
    schedule->warmup =
        mra_read_int(reader, "train.warmup",
                     schedule->steps < 5000 ? schedule->steps / 5 : 1000, 0, schedule->steps);
    schedule->peak = mra_read_real(reader, "train.learning_rate", 1e-4, 0.0, 1e9);
    schedule->anneal = (mra_anneal)mra_read_choice(reader, "train.anneal", anneal_names);
    options->optimiser = mra_optimiser_defaults();
    options->optimiser.weight_decay = mra_read_real(reader, "train.weight_decay", 0, 0, 1);
    options->clip = mra_read_real(reader, "train.clip", 0.0, 0.0, 1e9);
    options->batch = (int)mra_read_int(reader, "train.batch", 32, 1, 65536);
    options->accumulate = (int)mra_read_int(reader, "train.accumulate", 1, 1, options->batch);
    options->log_every = mra_read_int(reader, "train.log_every", 50, 1, LARGE);
    options->eval_every = mra_read_int(reader, "train.eval_every", 500, 1, LARGE);
    options->checkpoint_every = mra_read_int(reader, "train.checkpoint_every", 200, 1, LARGE);
    options->dev_examples = (size_t)mra_read_int(reader, "train.dev_examples", 0, 0, LARGE);
    options->test_examples = (size_t)mra_read_int(reader, "train.test_examples", 0, 0, LARGE);
    options->seed = (uint64_t)mra_read_int(reader, "train.seed", 1, 0, INT64_MAX);
    options->prefetch = mra_read_bool(reader, "train.prefetch", options->task->prefetch);
    options->diverge_factor = mra_read_real(reader, "train.diverge_factor", 0.0, 0.0, 1e9);
    options->diverge_steps = mra_read_int(reader, "train.diverge_steps", 100, 1, LARGE);
}

mra_status mra_train_options_read(mra_train_options *options, mra_settings *settings,
                                  mra_error *err)
{
    *options = (mra_train_options){0};
    const char *name = mra_settings_text(settings, "task.name", mra_task_known(0)->name);
    mra_status status = mra_task_find(&options->task, name, err);
    if (status != MRA_OK) return status;
    mra_reader reader = {settings, err, MRA_OK};
    read_training(&reader, options);
    options->task->read(&reader, options);
    if (reader.status != MRA_OK) return reader.status;
    return mra_settings_finish(settings, err);
}

// ---- Writing --------------------------------------------------------------------------------------

static void write_training(const mra_train_options *options, mra_writer *writer)
{
    const mra_schedule *schedule = &options->schedule;
    mra_write(writer, "train.steps=%lld\ntrain.warmup=%lld\n", (long long)schedule->steps,
              (long long)schedule->warmup);
    mra_write(writer, "train.learning_rate=%.17g\ntrain.anneal=%s\n", schedule->peak,
              anneal_names[schedule->anneal]);
    mra_write(writer, "train.weight_decay=%.17g\ntrain.clip=%.17g\n",
              options->optimiser.weight_decay, options->clip);
    mra_write(writer, "train.batch=%d\ntrain.accumulate=%d\n", options->batch,
              options->accumulate);
    mra_write(writer, "train.log_every=%lld\ntrain.eval_every=%lld\n",
              (long long)options->log_every, (long long)options->eval_every);
    mra_write(writer, "train.dev_examples=%zu\ntrain.test_examples=%zu\n",
              options->dev_examples, options->test_examples);
    mra_write(writer, "train.diverge_factor=%.17g\ntrain.diverge_steps=%lld\n",
              options->diverge_factor, (long long)options->diverge_steps);
    mra_write(writer, "train.seed=%llu\n", (unsigned long long)options->seed);
}

size_t mra_train_options_text(const mra_train_options *options, char *text, size_t room)
{
    mra_writer writer = {text, room, 0};
    if (room) *text = '\0';
    if (options->task != mra_task_known(0))
        mra_write(&writer, "task.name=%s\n", options->task->name);
    options->task->write(options, &writer);
    write_training(options, &writer);
    return writer.used + 1;
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
