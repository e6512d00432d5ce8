// Training.
//
// The loop is short: batch, loss, gradient, AdamW, at the rate that the schedule says. What makes it long
// is the promise that a run may be killed at any moment and lose nothing but time. It rests on three things.
// First, whatever is random is a function of (seed, step): the batch, the dropout. Second, everything else that a step reads
// stands in the checkpoint: weights, moments, and the sums of the log. Third, what happens between two steps
// happens in a fixed order: evaluation, then a checkpoint, then perhaps the end. A run that resumes at step t
// enters the loop where the other one left it.
//
// What is learned is not its business: data, network and loss are a task's (nn/task.h). A step is in nn/train_step.c, what a
// finished run leaves in nn/train_end.c.

#include "nn/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/file.h"
#include "nn/evaluate.h"
#include "nn/trainer.h"

// ---- Setting up -----------------------------------------------------------------------------------

mra_status mra_trainer_path(const mra_trainer *trainer, char path[MRA_TRAIN_NAME],
                            const char *file, mra_error *err)
{
    const char *folder = trainer->run->folder;
    if (snprintf(path, MRA_TRAIN_NAME, "%s/%s", folder, file) < MRA_TRAIN_NAME) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%.60s...: the name of the folder is too long", folder);
}

static mra_status make_settings_text(mra_trainer *trainer, mra_error *err)
{
    size_t bytes = mra_train_options_text(trainer->options, NULL, 0);
    trainer->settings = malloc(bytes);
    if (!trainer->settings) return mra_fail(err, MRA_NO_MEMORY, "settings: no memory");
    mra_train_options_text(trainer->options, trainer->settings, bytes);
    return MRA_OK;
}

static mra_status open_task(mra_trainer *trainer, mra_error *err)
{
    const mra_train_options *options = trainer->options;
    mra_device *device = trainer->run->device;
    const mra_task_run run = {.device = device, .quiet = trainer->quiet};
    mra_status status = options->task->open(&trainer->task, options, &run, err);
    if (status != MRA_OK) return status;
    mra_parameters *parameters = trainer->task->parameters;
    status = mra_prefetch_create(&trainer->prefetch, trainer->task, options->prefetch, err);
    if (status == MRA_OK)
        status =
            mra_optimiser_create(&trainer->optimiser, &options->optimiser, parameters, err);
    if (status == MRA_OK)
        status = mra_gradient_create(&trainer->gradient, parameters, options->accumulate,
                                     &trainer->group, err);
    if (status == MRA_OK) status = mra_tape_create(&trainer->tape, device, err);
    if (status != MRA_OK) return status;
    trainer->best = calloc(parameters->size, sizeof *trainer->best);
    trainer->scores =
        calloc((size_t)options->accumulate * MRA_SCORE_NUMBERS, sizeof *trainer->scores);
    return trainer->best && trainer->scores
               ? MRA_OK
               : mra_fail(err, MRA_NO_MEMORY, "training: no memory");
}

// The state of a checkpoint, if there is one; otherwise that of a beginning.
static mra_status find_checkpoint(mra_trainer *trainer, mra_error *err)
{
    trainer->state =
        (mra_train_state){.evaluated = -1, .best_step = -1, .lowest_loss = INFINITY};
    trainer->saved = -1;
    if (!trainer->first || !mra_file_exists(trainer->checkpoint)) return MRA_OK;
    mra_status status =
        mra_checkpoint_read(trainer->checkpoint, trainer->task->parameters, trainer->optimiser,
                            trainer->best, &trainer->state, trainer->settings, err);
    trainer->saved = trainer->state.step;
    trainer->finished = status == MRA_OK &&
                        trainer->saved == trainer->options->schedule.steps &&
                        mra_file_exists(trainer->result);
    if (status == MRA_OK && !trainer->finished)
        mra_say(trainer->quiet, "%s: going on from step %" PRId64, trainer->run->folder,
                trainer->state.step);
    return status;
}

static mra_status set_up(mra_trainer *trainer, mra_error *err)
{
    char log[MRA_TRAIN_NAME];
    mra_status status =
        mra_trainer_path(trainer, trainer->checkpoint, "checkpoint.safetensors", err);
    if (status == MRA_OK)
        status = mra_trainer_path(trainer, trainer->result, "result.tsv", err);
    if (status == MRA_OK) status = mra_trainer_path(trainer, log, "log.tsv", err);
    if (status == MRA_OK) status = make_settings_text(trainer, err);
    if (status == MRA_OK) status = open_task(trainer, err);
    if (status == MRA_OK && trainer->first) status = mra_make_folder(trainer->run->folder, err);
    if (status == MRA_OK) status = find_checkpoint(trainer, err);
    if (status == MRA_OK && trainer->first && !trainer->finished)
        status = mra_train_log_open(&trainer->log, log, trainer->options->task,
                                    &trainer->state.log_bytes, err);
    return status;
}

// What the first process found in the folder, to the others.
static mra_status share_state(mra_trainer *trainer, mra_error *err)
{
    const mra_group *group = &trainer->group;
    mra_parameters *parameters = trainer->task->parameters;
    if (group->count == 1) return MRA_OK;
    float *values = malloc(3 * parameters->size * sizeof *values);
    mra_status status =
        values ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "training: no memory to share weights");
    float *moment1 = values + (values ? parameters->size : 0);
    float *moment2 = moment1 + (values ? parameters->size : 0);
    if (status == MRA_OK) status = mra_parameters_to_host(parameters, values, err);
    if (status == MRA_OK) status = mra_optimiser_to_host(trainer->optimiser, 1, moment1, err);
    if (status == MRA_OK) status = mra_optimiser_to_host(trainer->optimiser, 2, moment2, err);
    status = mra_group_agree(group, status, err);
    if (status == MRA_OK) {
        mra_group_broadcast(group, values, 3 * parameters->size * sizeof *values);
        mra_group_broadcast(group, trainer->best, parameters->size * sizeof *trainer->best);
        mra_group_broadcast(group, &trainer->state, sizeof trainer->state);
        mra_group_broadcast(group, &trainer->finished, sizeof trainer->finished);
        mra_group_broadcast(group, &trainer->saved, sizeof trainer->saved);
        status = mra_parameters_from_host(parameters, values, err);
    }
    if (status == MRA_OK) status = mra_optimiser_from_host(trainer->optimiser, 1, moment1, err);
    if (status == MRA_OK) status = mra_optimiser_from_host(trainer->optimiser, 2, moment2, err);
    free(values);
    return mra_group_agree(group, status, err);
}

static void clean_up(mra_trainer *trainer)
{
    mra_train_log_close(&trainer->log);
    free(trainer->best);
    free(trainer->scores);
    free(trainer->settings);
    mra_tape_free(trainer->tape);
    mra_gradient_free(trainer->gradient);
    mra_optimiser_free(trainer->optimiser);
    mra_prefetch_free(trainer->prefetch);
    trainer->options->task->close(trainer->task);
}

// ---- Between two steps ----------------------------------------------------------------------------

double mra_trainer_seconds(mra_trainer *trainer)
{
    double now = mra_seconds(), passed = now - trainer->clock;
    trainer->clock = now;
    trainer->state.seconds += passed;
    return passed;
}

mra_status mra_trainer_save(mra_trainer *trainer, mra_error *err)
{
    mra_trainer_seconds(trainer);
    mra_status status = MRA_OK;
    if (trainer->first)
        status = mra_checkpoint_write(trainer->checkpoint, trainer->task->parameters,
                                      trainer->optimiser, trainer->best, &trainer->state,
                                      trainer->settings, err);
    if (status == MRA_OK) trainer->saved = trainer->state.step;
    return status;
}

static void show_evaluation(void *context, size_t done, size_t total)
{
    mra_trainer *trainer = context;
    char detail[80];
    snprintf(detail, sizeof detail, "evaluating %zu of %zu", done, total);
    mra_progress_update(&trainer->progress, (double)trainer->state.step, detail);
}

mra_status mra_trainer_evaluate(mra_trainer *trainer, mra_split split,
                                mra_evaluation *evaluation, mra_error *err)
{
    mra_status status =
        mra_evaluate(trainer->task, trainer->tape, trainer->prefetch, &trainer->group, split,
                     trainer->run->stop, show_evaluation, trainer, evaluation, err);
    if (status != MRA_OK) return status;
    mra_trainer_seconds(trainer);
    if (!trainer->first) return MRA_OK;
    mra_log_row row = {.step = trainer->state.step,
                       .split = mra_split_name(split),
                       .loss = evaluation->loss,
                       .seconds = trainer->state.seconds};
    for (int k = 0; k < MRA_TASK_METRICS; k++) row.metric[k] = evaluation->metric[k];
    return mra_train_log_row(&trainer->log, &row, &trainer->state.log_bytes, err);
}

// Whether an evaluation is better than the best so far: the highest accuracy, among equal ones the lowest loss; or the
// lowest loss, where the task says so.
static bool is_better(const mra_task_kind *kind, const mra_evaluation *evaluation,
                      const mra_evaluation *best)
{
    const double now = evaluation->metric[0], then = best->metric[0];
    if (kind->lowest_loss || now == then) return evaluation->loss < best->loss;
    return now > then;
}

// Evaluates on dev and keeps the weights if they are the best so far.
static mra_status evaluate_on_dev(mra_trainer *trainer, mra_error *err)
{
    mra_evaluation evaluation;
    mra_train_state *state = &trainer->state;
    mra_status status = mra_trainer_evaluate(trainer, MRA_DEV, &evaluation, err);
    if (status != MRA_OK) return status;
    state->evaluated = state->step;
    if (state->best_step >= 0 && !is_better(trainer->options->task, &evaluation, &state->best))
        return MRA_OK;
    state->best_step = state->step;
    state->best = evaluation;
    return mra_parameters_to_host(trainer->task->parameters, trainer->best, err);
}

// Of any process.
static bool stop_asked(const mra_trainer *trainer)
{
    return mra_group_any(&trainer->group, trainer->run->stop && *trainer->run->stop);
}

static mra_status interrupted(mra_trainer *trainer, mra_error *err)
{
    mra_status status = mra_trainer_save(trainer, err);
    if (status != MRA_OK) return status;
    return mra_fail(err, MRA_INTERRUPTED,
                    "stopped at step %" PRId64 " of %" PRId64
                    "; the same command goes on from %s",
                    trainer->state.step, trainer->options->schedule.steps, trainer->checkpoint);
}

static mra_status train_loop(mra_trainer *trainer, mra_error *err)
{
    const mra_train_options *options = trainer->options;
    const mra_group *group = &trainer->group;
    mra_train_state *state = &trainer->state;
    for (;;) {
        bool last = state->step == options->schedule.steps;
        bool due = state->step > 0 && (last || state->step % options->eval_every == 0);
        mra_status status = MRA_OK;
        if (due && state->evaluated != state->step) status = evaluate_on_dev(trainer, err);
        status = mra_group_agree(group, status, err);
        if ((status == MRA_OK || status == MRA_INTERRUPTED) && stop_asked(trainer))
            return mra_group_agree(group, interrupted(trainer, err), err);
        bool save_now = last || state->step % options->checkpoint_every == 0;
        if (status == MRA_OK && save_now && trainer->saved != state->step)
            status = mra_trainer_save(trainer, err);
        status = mra_group_agree(group, status, err);
        if (status != MRA_OK || last) return status;
        status = mra_group_agree(group, mra_trainer_step(trainer, err), err);
        if (status != MRA_OK) return status;
    }
}

mra_status mra_train(const mra_train_options *options, const mra_train_run *run,
                     mra_train_result *result, mra_error *err)
{
    mra_trainer trainer = {.options = options, .run = run, .clock = mra_seconds()};
    trainer.group = run->group ? *run->group : (mra_group){.count = 1};
    trainer.first = trainer.group.rank == 0;
    trainer.quiet = run->quiet || !trainer.first;
    mra_train_result unwanted;
    if (!result) result = &unwanted;
    *result = (mra_train_result){0};
    mra_status status = mra_group_agree(&trainer.group, set_up(&trainer, err), err);
    if (status == MRA_OK) status = share_state(&trainer, err);
    if (status == MRA_OK && trainer.finished) {
        if (trainer.first)
            status = mra_train_result_read(trainer.result, options->task, result, err);
        status = mra_group_agree(&trainer.group, status, err);
        mra_group_broadcast(&trainer.group, result, sizeof *result);
    } else if (status == MRA_OK) {
        trainer.progress = mra_progress_start("train", (double)options->schedule.steps,
                                              (double)trainer.state.step, trainer.quiet);
        trainer.clock = mra_seconds();
        status = train_loop(&trainer, err);
        if (status == MRA_OK)
            status =
                mra_group_agree(&trainer.group, mra_trainer_finish(&trainer, result, err), err);
        if (status == MRA_OK) mra_progress_end(&trainer.progress, "");
    }
    clean_up(&trainer);
    return status;
}
