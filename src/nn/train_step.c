// A step of a training: the loss of its batch and the gradient, part by part, and an update of the weights.

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/tsv.h"
#include "nn/evaluate.h"
#include "nn/trainer.h"

// What is known of a step once all its parts are.
typedef struct step_sums {
    mra_score score;
    double norm;  // of the gradient of the mean loss
    double share; // what the gradient that was summed has to be multiplied with
} step_sums;

// ---- Runs that went nowhere -----------------------------------------------------------------------

// diverged.tsv: for whoever runs many trainings and looks at their folders.
static mra_status write_diverged(const mra_trainer *trainer, const char *what, mra_error *err)
{
    const char *metric = trainer->task->kind->metric[0];
    const char *const columns[] = {"step",     "why",     "best_step", metric,
                                   "dev_loss", "seconds", NULL};
    const mra_train_state *state = &trainer->state;
    char path[MRA_TRAIN_NAME];
    mra_tsv *tsv;
    mra_status status = mra_trainer_path(trainer, path, "diverged.tsv", err);
    if (status == MRA_OK) status = mra_tsv_create(&tsv, path, columns, err);
    if (status != MRA_OK) return status;
    mra_tsv_int(tsv, state->step);
    mra_tsv_text(tsv, what);
    mra_tsv_int(tsv, state->best_step);
    mra_tsv_real(tsv, state->best.metric[0]);
    mra_tsv_real(tsv, state->best.loss);
    mra_tsv_real(tsv, state->seconds);
    status = mra_tsv_end_row(tsv, err);
    if (status == MRA_OK) return mra_tsv_commit(tsv, err);
    mra_tsv_abandon(tsv);
    return status;
}

// The state is kept, so that one can look at it, and the run ends.
static mra_status diverged(mra_trainer *trainer, const char *what, mra_error *err)
{
    mra_status status = mra_trainer_save(trainer, err);
    if (status == MRA_OK && trainer->first) status = write_diverged(trainer, what, err);
    if (status != MRA_OK) return status;
    return mra_fail(
        err, MRA_BAD_INPUT,
        "the training diverged: %s at step %" PRId64
        "; a smaller train.learning_rate or train.clip=1 may help; the last finite state is "
        "kept in %s",
        what, trainer->state.step, trainer->checkpoint);
}

static mra_status not_finite(mra_trainer *trainer, const char *what, double value,
                             mra_error *err)
{
    char text[80];
    snprintf(text, sizeof text, "%s is %g", what, value);
    return diverged(trainer, text, err);
}

// Remembers how the loss of the step just taken compares with the lowest so far.
static void watch_loss(mra_trainer *trainer, double loss)
{
    mra_train_state *state = &trainer->state;
    if (loss < state->lowest_loss) state->lowest_loss = loss;
    const bool above = loss > trainer->options->diverge_factor * state->lowest_loss;
    state->steps_above = above ? state->steps_above + 1 : 0;
}

// Asked before a step, so that a run that is started again ends as it did before.
static bool goes_nowhere(const mra_trainer *trainer)
{
    const mra_train_options *options = trainer->options;
    return options->diverge_factor > 0 && trainer->state.steps_above >= options->diverge_steps;
}

static mra_status went_nowhere(mra_trainer *trainer, mra_error *err)
{
    char text[160];
    snprintf(text, sizeof text,
             "the loss has been above %g times its lowest, %g, for %" PRId64 " steps",
             trainer->options->diverge_factor, trainer->state.lowest_loss,
             trainer->state.steps_above);
    return diverged(trainer, text, err);
}

// ---- Loss and gradient ----------------------------------------------------------------------------

// Loss and gradient of one part, computed by this process. The gradient is c_p g_p (nn/gradient.h); a step in one part has g
// itself, and no sum.
static mra_status compute_part(mra_trainer *trainer, const mra_portion *here,
                               const mra_portion *next, mra_error *err)
{
    mra_task *task = trainer->task;
    mra_tape *tape = trainer->tape;
    const void *batch;
    mra_score score;
    float value = 0;
    mra_status status = mra_prefetch_get(trainer->prefetch, here, next, &batch, err);
    if (status != MRA_OK) return status;
    mra_tape_mode(tape, true, true, trainer->options->seed,
                  here->index * (uint64_t)here->parts + (uint64_t)here->part);
    mra_tensor *output = task->kind->loss(task, tape, batch, &score);
    status = mra_tape_value(tape, output, &value, err);
    if (status == MRA_OK && isfinite(value)) {
        const float weight = here->parts == 1 ? 1.0f : (float)score.counted;
        status = mra_tape_backward_from(tape, output, &weight, err);
    }
    mra_tape_reset(tape);
    score.loss = (double)value;
    mra_score_store(&score, trainer->scores + here->part * MRA_SCORE_NUMBERS);
    return status;
}

// The parts of this process, one after another; its first one of the next step is prepared while the last one is computed.
static mra_status compute_parts(mra_trainer *trainer, mra_error *err)
{
    const mra_group *group = &trainer->group;
    const uint64_t step = (uint64_t)trainer->state.step;
    const int parts = trainer->options->accumulate, own = parts / group->count;
    const int begin = group->rank * own, end = begin + own;
    const bool last = trainer->state.step + 1 == trainer->options->schedule.steps;
    memset(trainer->scores, 0, (size_t)parts * MRA_SCORE_NUMBERS * sizeof *trainer->scores);
    for (int part = begin; part < end; part++) {
        const bool over = part + 1 == end;
        const mra_portion here = {MRA_TRAIN, step, part, parts};
        const mra_portion next = {MRA_TRAIN, step + over, over ? begin : part + 1, parts};
        mra_status status = compute_part(trainer, &here, over && last ? NULL : &next, err);
        status = mra_group_agree(group, status, err);
        if (status == MRA_OK) status = mra_gradient_add(trainer->gradient, part, err);
        if (status != MRA_OK) return status;
    }
    mra_group_sum(group, trainer->scores, (size_t)parts * MRA_SCORE_NUMBERS);
    return mra_gradient_finish(trainer->gradient, err);
}

static mra_status differentiate(mra_trainer *trainer, step_sums *sums, mra_error *err)
{
    const int parts = trainer->options->accumulate;
    mra_status status = compute_parts(trainer, err);
    if (status != MRA_OK) return status;
    sums->score = mra_score_total(trainer->scores, (size_t)parts);
    // Of nothing at all (no position was masked) the loss is 0 and the gradient too.
    const bool whole = parts == 1 || sums->score.counted == 0;
    sums->share = whole ? 1.0 : 1.0 / (double)sums->score.counted;
    status = mra_optimiser_norm(trainer->optimiser, &sums->norm, err);
    sums->norm *= sums->share;
    return status;
}

// ---- The step -------------------------------------------------------------------------------------

static void begin_interval(mra_train_state *state)
{
    state->interval_steps = state->interval_examples = state->interval_tokens = 0;
    state->interval_loss = state->interval_seconds = 0;
    for (int k = 0; k < MRA_TASK_METRICS; k++) state->interval_right[k] = 0;
}

// Writes a row of the log when one is due, and begins a new interval.
static mra_status log_interval(mra_trainer *trainer, double rate, mra_error *err)
{
    mra_train_state *state = &trainer->state;
    if (state->step % trainer->options->log_every != 0) return MRA_OK;
    double examples = (double)state->interval_examples, seconds = state->interval_seconds;
    mra_log_row row = {.step = state->step,
                       .split = "train",
                       .loss = state->interval_loss / (double)state->interval_steps,
                       .learning_rate = rate,
                       .tokens_per_second =
                           seconds > 0 ? (double)state->interval_tokens / seconds : 0,
                       .seconds = state->seconds};
    for (int k = 0; k < MRA_TASK_METRICS; k++)
        row.metric[k] = (double)state->interval_right[k] / examples;
    begin_interval(state);
    if (!trainer->first) return MRA_OK;
    return mra_train_log_row(&trainer->log, &row, &state->log_bytes, err);
}

static void count_step(mra_trainer *trainer, const mra_score *score)
{
    mra_train_state *state = &trainer->state;
    state->step++;
    state->interval_steps++;
    state->interval_loss += score->loss;
    state->interval_examples += score->counted;
    state->interval_tokens += score->tokens;
    for (int k = 0; k < MRA_TASK_METRICS; k++) state->interval_right[k] += score->right[k];
    state->interval_seconds += mra_trainer_seconds(trainer);
    char detail[120];
    snprintf(detail, sizeof detail, "step %" PRId64 ", loss %.3f, best dev %s %.3f",
             state->step, score->loss, trainer->task->kind->metric[0], state->best.metric[0]);
    mra_progress_update(&trainer->progress, (double)state->step, detail);
}

mra_status mra_trainer_step(mra_trainer *trainer, mra_error *err)
{
    mra_train_state *state = &trainer->state;
    const double clip = trainer->options->clip;
    step_sums sums;
    if (goes_nowhere(trainer)) return went_nowhere(trainer, err);
    mra_status status = differentiate(trainer, &sums, err);
    if (status != MRA_OK) return status;
    if (!isfinite(sums.score.loss))
        return not_finite(trainer, "the loss", sums.score.loss, err);
    if (!isfinite(sums.norm))
        return not_finite(trainer, "the norm of the gradient", sums.norm, err);
    double rate = mra_schedule_rate(&trainer->options->schedule, state->step);
    double scale = clip > 0 && sums.norm > clip ? clip / sums.norm : 1.0;
    status =
        mra_optimiser_step(trainer->optimiser, state->step + 1, rate, scale * sums.share, err);
    if (status != MRA_OK) return status;
    count_step(trainer, &sums.score);
    watch_loss(trainer, sums.score.loss);
    return log_interval(trainer, rate, err);
}
