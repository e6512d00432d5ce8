// Training a classifier.
//
// The loop is short: batch, loss, gradient, AdamW, at the rate that the schedule says. What makes the file long
// is the promise that a run may be killed at any moment and lose nothing but time. It rests on three things.
// First, whatever is random is a function of (seed, step): the batch, the dropout. Second, everything else that a step reads
// stands in the checkpoint: weights, moments, and the sums of the log. Third, what happens between two steps
// happens in a fixed order: evaluation, then a checkpoint, then perhaps the end. A run that resumes at step t
// enters the loop where the other one left it.

#include "nn/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "nn/checkpoint.h"
#include "nn/train_log.h"

enum { NAME_ROOM = 1024 };

typedef struct trainer {
    const mra_train_options *options;
    const mra_train_run *run;
    mra_dataset *data;
    mra_batches *train, *dev, *test;
    mra_classifier *model;
    mra_optimiser *optimiser;
    mra_tape *tape;
    float *best; // weights of the best evaluation so far
    char *settings;
    char checkpoint[NAME_ROOM], result[NAME_ROOM];
    mra_train_state state;
    bool finished; // an earlier run has left its result
    int64_t saved; // step of the checkpoint on disk, -1: none
    mra_train_log log;
    mra_progress progress;
    double clock; // when the seconds of the state were last counted
} trainer;

// ---- Setting up -----------------------------------------------------------------------------------

static mra_status name_file(char name[NAME_ROOM], const char *folder, const char *file,
                            mra_error *err)
{
    if (snprintf(name, NAME_ROOM, "%s/%s", folder, file) < NAME_ROOM) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%.60s...: the name of the folder is too long", folder);
}

static mra_status make_settings_text(trainer *trainer, mra_error *err)
{
    size_t bytes = mra_train_options_text(trainer->options, NULL, 0);
    trainer->settings = malloc(bytes);
    if (!trainer->settings) return mra_fail(err, MRA_NO_MEMORY, "settings: no memory");
    mra_train_options_text(trainer->options, trainer->settings, bytes);
    return MRA_OK;
}

static mra_status open_data(trainer *trainer, mra_error *err)
{
    const mra_train_options *options = trainer->options;
    mra_dataset_options data = options->data;
    data.threads = trainer->run->device->threads;
    data.quiet = trainer->run->quiet;
    mra_status status = mra_dataset_open(&trainer->data, &data, err);
    if (status != MRA_OK) return status;
    mra_batches_options batches = {.batch = options->batch,
                                   .positions = options->model.encoder.positions,
                                   .bucketed = options->bucketed,
                                   .multiple = options->multiple,
                                   .seed = options->seed};
    mra_split dev = options->memorise ? MRA_TRAIN : MRA_DEV;
    mra_split test = options->memorise ? MRA_TRAIN : MRA_TEST;
    status = mra_batches_create(&trainer->train, trainer->data, MRA_TRAIN, 0, &batches, err);
    if (status == MRA_OK)
        status = mra_batches_create(&trainer->dev, trainer->data, dev, options->dev_examples,
                                    &batches, err);
    if (status == MRA_OK)
        status = mra_batches_create(&trainer->test, trainer->data, test, options->test_examples,
                                    &batches, err);
    return status;
}

static mra_status make_model(trainer *trainer, mra_error *err)
{
    mra_classifier_options model = trainer->options->model;
    model.encoder.vocabulary = mra_dataset_vocabulary(trainer->data);
    model.classes = mra_dataset_classes(trainer->data);
    model.pairs = mra_dataset_pairs(mra_dataset_name(trainer->data));
    mra_device *device = trainer->run->device;
    mra_status status = mra_classifier_create(&trainer->model, &model, device, err);
    if (status == MRA_OK)
        status = mra_optimiser_create(&trainer->optimiser, &trainer->options->optimiser,
                                      &trainer->model->parameters, err);
    if (status == MRA_OK) status = mra_tape_create(&trainer->tape, device, err);
    if (status != MRA_OK) return status;
    trainer->best = calloc(trainer->model->parameters.size, sizeof *trainer->best);
    return trainer->best ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "training: no memory");
}

// The state of a checkpoint, if there is one; otherwise that of a beginning.
static mra_status find_checkpoint(trainer *trainer, mra_error *err)
{
    trainer->state = (mra_train_state){.evaluated = -1, .best_step = -1};
    trainer->saved = -1;
    if (!mra_file_exists(trainer->checkpoint)) return MRA_OK;
    mra_status status = mra_checkpoint_read(trainer->checkpoint, &trainer->model->parameters,
                                            trainer->optimiser, trainer->best, &trainer->state,
                                            trainer->settings, err);
    trainer->saved = trainer->state.step;
    trainer->finished = status == MRA_OK &&
                        trainer->saved == trainer->options->schedule.steps &&
                        mra_file_exists(trainer->result);
    if (status == MRA_OK && !trainer->finished)
        mra_say(trainer->run->quiet, "%s: going on from step %" PRId64, trainer->run->folder,
                trainer->state.step);
    return status;
}

static mra_status set_up(trainer *trainer, mra_error *err)
{
    const char *folder = trainer->run->folder;
    char log[NAME_ROOM];
    mra_status status = name_file(trainer->checkpoint, folder, "checkpoint.safetensors", err);
    if (status == MRA_OK) status = name_file(trainer->result, folder, "result.tsv", err);
    if (status == MRA_OK) status = name_file(log, folder, "log.tsv", err);
    if (status == MRA_OK) status = make_settings_text(trainer, err);
    if (status == MRA_OK) status = open_data(trainer, err);
    if (status == MRA_OK) status = make_model(trainer, err);
    if (status == MRA_OK) status = mra_make_folder(folder, err);
    if (status == MRA_OK) status = find_checkpoint(trainer, err);
    if (status == MRA_OK && !trainer->finished)
        status = mra_train_log_open(&trainer->log, log, &trainer->state.log_bytes, err);
    return status;
}

static void clean_up(trainer *trainer)
{
    mra_train_log_close(&trainer->log);
    free(trainer->best);
    free(trainer->settings);
    mra_tape_free(trainer->tape);
    mra_optimiser_free(trainer->optimiser);
    mra_classifier_free(trainer->model);
    mra_batches_free(trainer->train);
    mra_batches_free(trainer->dev);
    mra_batches_free(trainer->test);
    mra_dataset_free(trainer->data);
}

// ---- Between two steps ----------------------------------------------------------------------------

// Adds the time since the last call to the total.
static double count_seconds(trainer *trainer)
{
    double now = mra_seconds(), passed = now - trainer->clock;
    trainer->clock = now;
    trainer->state.seconds += passed;
    return passed;
}

static mra_status save(trainer *trainer, mra_error *err)
{
    count_seconds(trainer);
    mra_status status = mra_checkpoint_write(trainer->checkpoint, &trainer->model->parameters,
                                             trainer->optimiser, trainer->best, &trainer->state,
                                             trainer->settings, err);
    if (status == MRA_OK) trainer->saved = trainer->state.step;
    return status;
}

static void show_evaluation(void *context, size_t done, size_t total)
{
    trainer *trainer = context;
    char detail[80];
    snprintf(detail, sizeof detail, "evaluating %zu of %zu", done, total);
    mra_progress_update(&trainer->progress, (double)trainer->state.step, detail);
}

static mra_status evaluate(trainer *trainer, mra_split split, mra_evaluation *evaluation,
                           mra_error *err)
{
    mra_batches *batches = split == MRA_DEV ? trainer->dev : trainer->test;
    mra_status status = mra_evaluate(trainer->model, trainer->tape, batches, trainer->run->stop,
                                     show_evaluation, trainer, evaluation, err);
    if (status != MRA_OK) return status;
    count_seconds(trainer);
    mra_log_row row = {.step = trainer->state.step,
                       .split = mra_split_name(split),
                       .loss = evaluation->loss,
                       .accuracy = evaluation->accuracy,
                       .seconds = trainer->state.seconds};
    return mra_train_log_row(&trainer->log, &row, &trainer->state.log_bytes, err);
}

// Evaluates on dev and keeps the weights if they are the best so far: the highest accuracy, among equal ones the lowest
// loss.
static mra_status evaluate_on_dev(trainer *trainer, mra_error *err)
{
    mra_evaluation evaluation;
    mra_train_state *state = &trainer->state;
    mra_status status = evaluate(trainer, MRA_DEV, &evaluation, err);
    if (status != MRA_OK) return status;
    state->evaluated = state->step;
    bool better =
        evaluation.accuracy > state->best_accuracy ||
        (evaluation.accuracy == state->best_accuracy && evaluation.loss < state->best_loss);
    if (state->best_step >= 0 && !better) return MRA_OK;
    state->best_step = state->step;
    state->best_accuracy = evaluation.accuracy;
    state->best_loss = evaluation.loss;
    return mra_parameters_to_host(&trainer->model->parameters, trainer->best, err);
}

// Writes a row of the log when one is due, and begins a new interval.
static mra_status log_interval(trainer *trainer, double rate, mra_error *err)
{
    mra_train_state *state = &trainer->state;
    if (state->step % trainer->options->log_every != 0) return MRA_OK;
    double examples = (double)state->interval_examples, seconds = state->interval_seconds;
    mra_log_row row = {.step = state->step,
                       .split = "train",
                       .loss = state->interval_loss / (double)state->interval_steps,
                       .accuracy = (double)state->interval_correct / examples,
                       .learning_rate = rate,
                       .tokens_per_second =
                           seconds > 0 ? (double)state->interval_tokens / seconds : 0,
                       .seconds = state->seconds};
    state->interval_steps = state->interval_correct = 0;
    state->interval_examples = state->interval_tokens = 0;
    state->interval_loss = state->interval_seconds = 0;
    return mra_train_log_row(&trainer->log, &row, &state->log_bytes, err);
}

// ---- A step ---------------------------------------------------------------------------------------

// A step that went nowhere: its state is kept, so that one can look at it, and the run ends.
static mra_status diverged(trainer *trainer, const char *what, double value, mra_error *err)
{
    long long step = (long long)trainer->state.step;
    mra_status status = save(trainer, err);
    if (status != MRA_OK) return status;
    return mra_fail(
        err, MRA_BAD_INPUT,
        "the training diverged: %s is %g at step %lld; a smaller train.learning_rate or "
        "train.clip=1 may help; the last finite state is kept in %s",
        what, value, step, trainer->checkpoint);
}

// Loss and gradient of the batch of this step; *norm is the gradient's.
static mra_status differentiate(trainer *trainer, const mra_batch *batch, float *loss,
                                int *correct, double *norm, mra_error *err)
{
    mra_tape_mode(trainer->tape, true, true, trainer->options->seed,
                  (uint64_t)trainer->state.step);
    mra_tensor *output = mra_classifier_loss(trainer->model, trainer->tape, batch, correct);
    mra_status status = mra_tape_value(trainer->tape, output, loss, err);
    if (status == MRA_OK && isfinite(*loss))
        status = mra_tape_backward(trainer->tape, output, err);
    mra_tape_reset(trainer->tape);
    if (status != MRA_OK) return status;
    return mra_optimiser_norm(trainer->optimiser, norm, err);
}

static mra_status take_step(trainer *trainer, mra_error *err)
{
    mra_train_state *state = &trainer->state;
    const mra_batch *batch = mra_batches_training(trainer->train, (uint64_t)state->step);
    float loss = 0;
    int correct = 0;
    double norm = 0, clip = trainer->options->clip;
    mra_status status = differentiate(trainer, batch, &loss, &correct, &norm, err);
    if (status != MRA_OK) return status;
    if (!isfinite(loss)) return diverged(trainer, "the loss", (double)loss, err);
    if (!isfinite(norm)) return diverged(trainer, "the norm of the gradient", norm, err);
    double rate = mra_schedule_rate(&trainer->options->schedule, state->step);
    double scale = clip > 0 && norm > clip ? clip / norm : 1.0;
    status = mra_optimiser_step(trainer->optimiser, state->step + 1, rate, scale, err);
    if (status != MRA_OK) return status;
    state->step++;
    state->interval_steps++;
    state->interval_loss += (double)loss;
    state->interval_correct += correct;
    state->interval_examples += batch->count;
    for (size_t i = 0; i < (size_t)batch->count * (size_t)batch->n; i++)
        state->interval_tokens += batch->mask[i];
    state->interval_seconds += count_seconds(trainer);
    char detail[120];
    snprintf(detail, sizeof detail, "step %" PRId64 ", loss %.3f, best dev accuracy %.3f",
             state->step, (double)loss, state->best_accuracy);
    mra_progress_update(&trainer->progress, (double)state->step, detail);
    return log_interval(trainer, rate, err);
}

static bool stop_asked(const trainer *trainer)
{
    return trainer->run->stop && *trainer->run->stop;
}

static mra_status interrupted(trainer *trainer, mra_error *err)
{
    mra_status status = save(trainer, err);
    if (status != MRA_OK) return status;
    return mra_fail(err, MRA_INTERRUPTED,
                    "stopped at step %" PRId64 " of %" PRId64
                    "; the same command goes on from %s",
                    trainer->state.step, trainer->options->schedule.steps, trainer->checkpoint);
}

static mra_status train_loop(trainer *trainer, mra_error *err)
{
    const mra_train_options *options = trainer->options;
    mra_train_state *state = &trainer->state;
    for (;;) {
        bool last = state->step == options->schedule.steps;
        bool due = state->step > 0 && (last || state->step % options->eval_every == 0);
        mra_status status = MRA_OK;
        if (due && state->evaluated != state->step) status = evaluate_on_dev(trainer, err);
        if (stop_asked(trainer) && (status == MRA_OK || status == MRA_INTERRUPTED))
            return interrupted(trainer, err);
        bool save_now = last || state->step % options->checkpoint_every == 0;
        if (status == MRA_OK && save_now && trainer->saved != state->step)
            status = save(trainer, err);
        if (status != MRA_OK || last) return status;
        status = take_step(trainer, err);
        if (status != MRA_OK) return status;
    }
}

// ---- The end --------------------------------------------------------------------------------------

static mra_status set_number(mra_safetensors *file, const char *key, double value,
                             mra_error *err)
{
    char text[64];
    snprintf(text, sizeof text, "%.17g", value);
    return mra_safetensors_set(file, key, text, err);
}

static mra_status write_weights(trainer *trainer, const mra_train_result *result,
                                mra_error *err)
{
    char path[NAME_ROOM];
    mra_safetensors *file = NULL;
    mra_status status = name_file(path, trainer->run->folder, "weights.safetensors", err);
    if (status == MRA_OK) status = mra_safetensors_create(&file, err);
    if (status == MRA_OK)
        status = mra_safetensors_set(file, "settings", trainer->settings, err);
    if (status == MRA_OK)
        status = set_number(file, "vocabulary", mra_dataset_vocabulary(trainer->data), err);
    if (status == MRA_OK)
        status = set_number(file, "classes", mra_dataset_classes(trainer->data), err);
    if (status == MRA_OK) status = set_number(file, "step", (double)result->best_step, err);
    if (status == MRA_OK) status = set_number(file, "dev_accuracy", result->dev.accuracy, err);
    if (status == MRA_OK)
        status = set_number(file, "test_accuracy", result->test.accuracy, err);
    if (status == MRA_OK)
        status =
            mra_parameters_store(&trainer->model->parameters, "", trainer->best, file, err);
    if (status == MRA_OK) status = mra_safetensors_write(file, path, err);
    mra_safetensors_free(file);
    return status;
}

static mra_status write_record(const trainer *trainer, const mra_train_result *result,
                               mra_error *err)
{
    mra_record *record = trainer->run->record;
    char path[NAME_ROOM];
    mra_status status = name_file(path, trainer->run->folder, "run.json", err);
    if (!record || status != MRA_OK) return status;
    const char *source;
    for (int i = 0; (source = mra_dataset_source(trainer->data, i)) && status == MRA_OK; i++)
        status = mra_record_input(record, source, err);
    mra_record_text(record, "training", trainer->settings);
    mra_record_number(record, "best_step", (double)result->best_step);
    mra_record_number(record, "dev_accuracy", result->dev.accuracy);
    mra_record_number(record, "test_accuracy", result->test.accuracy);
    mra_record_number(record, "test_majority", result->test_majority);
    mra_record_number(record, "training_seconds", result->seconds);
    return status == MRA_OK ? mra_record_write(record, path, err) : status;
}

// Tests the best weights and writes everything that a finished run leaves; the result comes last, for it says
// that the rest is there.
static mra_status finish(trainer *trainer, mra_train_result *result, mra_error *err)
{
    const mra_train_state *state = &trainer->state;
    mra_status status =
        mra_parameters_from_host(&trainer->model->parameters, trainer->best, err);
    if (status == MRA_OK) status = evaluate(trainer, MRA_TEST, &result->test, err);
    if (status == MRA_INTERRUPTED)
        return mra_fail(err, MRA_INTERRUPTED,
                        "stopped while testing; the same command goes on from %s",
                        trainer->checkpoint);
    if (status != MRA_OK) return status;
    result->dev.examples = (int64_t)mra_batches_examples(trainer->dev);
    result->dev.accuracy = state->best_accuracy;
    result->dev.correct = (int64_t)llround(state->best_accuracy * (double)result->dev.examples);
    result->dev.loss = state->best_loss;
    result->dev_majority = mra_batches_majority(trainer->dev);
    result->test_majority = mra_batches_majority(trainer->test);
    result->best_step = state->best_step;
    result->steps = state->step;
    result->weights = trainer->model->parameters.size;
    result->seconds = state->seconds;
    status = write_weights(trainer, result, err);
    if (status == MRA_OK) status = write_record(trainer, result, err);
    if (status == MRA_OK) status = mra_train_result_write(trainer->result, result, err);
    return status;
}

mra_status mra_train(const mra_train_options *options, const mra_train_run *run,
                     mra_train_result *result, mra_error *err)
{
    trainer trainer = {.options = options, .run = run, .clock = mra_seconds()};
    mra_train_result unwanted;
    if (!result) result = &unwanted;
    *result = (mra_train_result){0};
    mra_status status = set_up(&trainer, err);
    if (status == MRA_OK && trainer.finished) {
        status = mra_train_result_read(trainer.result, result, err);
    } else if (status == MRA_OK) {
        trainer.progress = mra_progress_start("train", (double)options->schedule.steps,
                                              (double)trainer.state.step, run->quiet);
        trainer.clock = mra_seconds();
        status = train_loop(&trainer, err);
        if (status == MRA_OK) status = finish(&trainer, result, err);
        if (status == MRA_OK) mra_progress_end(&trainer.progress, "");
    }
    clean_up(&trainer);
    return status;
}
