// How well a network does its task on held-out examples.
//
// The loss of a batch is the mean over what is counted in it, so batches are weighted by how much that is: the sum over
// batches, taken in their order whoever scored them, is the mean over the split.

#include "nn/evaluate.h"

#include <stdlib.h>

#include "tensor/device.h"

mra_status mra_tape_value(mra_tape *tape, const mra_tensor *tensor, float *value,
                          mra_error *err)
{
    mra_status status = mra_tape_status(tape, err);
    if (status != MRA_OK) return status;
    mra_device *device = mra_tape_device(tape);
    return device->to_host(device, value, tensor->data, sizeof *value, err);
}

static mra_status score_batch(mra_task *task, mra_tape *tape, const void *batch,
                              mra_score *score, mra_error *err)
{
    float value = 0;
    mra_tape_mode(tape, false, false, 0, 0);
    const mra_tensor *loss = task->kind->loss(task, tape, batch, score);
    mra_status status = mra_tape_value(tape, loss, &value, err);
    mra_tape_reset(tape);
    score->loss = (double)value;
    return status;
}

enum { COUNTED, TOKENS, LOSS, RIGHT };

void mra_score_store(const mra_score *score, double numbers[MRA_SCORE_NUMBERS])
{
    numbers[COUNTED] = (double)score->counted;
    numbers[TOKENS] = (double)score->tokens;
    numbers[LOSS] = score->loss;
    for (int k = 0; k < MRA_TASK_METRICS; k++) numbers[RIGHT + k] = (double)score->right[k];
}

mra_score mra_score_total(const double *numbers, size_t scores)
{
    mra_score total = {0};
    for (size_t i = 0; i < scores; i++, numbers += MRA_SCORE_NUMBERS) {
        total.counted += (int64_t)numbers[COUNTED];
        total.tokens += (int64_t)numbers[TOKENS];
        total.loss += numbers[LOSS] * numbers[COUNTED];
        for (int k = 0; k < MRA_TASK_METRICS; k++)
            total.right[k] += (int64_t)numbers[RIGHT + k];
    }
    if (total.counted > 0) total.loss /= (double)total.counted;
    return total;
}

// Scores the batches of this process: one of every group->count.
static mra_status score_batches(mra_task *task, mra_tape *tape, mra_prefetch *prefetch,
                                const mra_group *group, mra_split split, size_t total,
                                const volatile sig_atomic_t *stop,
                                void (*report)(void *context, size_t done, size_t total),
                                void *context, double *scores, mra_error *err)
{
    const size_t stride = (size_t)group->count;
    for (size_t i = (size_t)group->rank; i < total; i += stride) {
        if (stop && *stop) return mra_fail(err, MRA_INTERRUPTED, "evaluation was interrupted");
        const mra_portion here = {.split = split, .index = i, .parts = 1};
        const mra_portion next = {.split = split, .index = i + stride, .parts = 1};
        const void *batch;
        mra_score score;
        mra_status status =
            mra_prefetch_get(prefetch, &here, i + stride < total ? &next : NULL, &batch, err);
        if (status == MRA_OK) status = score_batch(task, tape, batch, &score, err);
        if (status != MRA_OK) return status;
        mra_score_store(&score, scores + i * MRA_SCORE_NUMBERS);
        if (report) report(context, i + 1, total);
    }
    return MRA_OK;
}

static mra_evaluation evaluation_of(const mra_score *score)
{
    mra_evaluation evaluation = {.examples = score->counted, .loss = score->loss};
    for (int k = 0; k < MRA_TASK_METRICS; k++) {
        evaluation.right[k] = score->right[k];
        evaluation.metric[k] = (double)score->right[k] / (double)score->counted;
    }
    return evaluation;
}

mra_status mra_evaluate(mra_task *task, mra_tape *tape, mra_prefetch *prefetch,
                        const mra_group *group, mra_split split,
                        const volatile sig_atomic_t *stop,
                        void (*report)(void *context, size_t done, size_t total), void *context,
                        mra_evaluation *evaluation, mra_error *err)
{
    const mra_group alone = {.count = 1};
    if (!group) group = &alone;
    *evaluation = (mra_evaluation){0};
    const size_t total = task->kind->batches(task, split);
    double *scores = calloc(total * MRA_SCORE_NUMBERS + 1, sizeof *scores);
    mra_status status = scores ? score_batches(task, tape, prefetch, group, split, total, stop,
                                               report, context, scores, err)
                               : mra_fail(err, MRA_NO_MEMORY, "evaluation: no memory");
    status = mra_group_agree(group, status, err);
    if (status == MRA_OK) {
        mra_group_sum(group, scores, total * MRA_SCORE_NUMBERS);
        const mra_score score = mra_score_total(scores, total);
        *evaluation = evaluation_of(&score);
    }
    free(scores);
    return status;
}
