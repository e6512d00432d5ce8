// How well a network does its task on held-out examples.
//
// The loss of a batch is the mean over what is counted in it, so batches are weighted by how much that is: the sum over
// batches, taken in their order, is the mean over the split.

#include "nn/evaluate.h"

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

mra_status mra_evaluate(mra_task *task, mra_tape *tape, mra_prefetch *prefetch, mra_split split,
                        const volatile sig_atomic_t *stop,
                        void (*report)(void *context, size_t done, size_t total), void *context,
                        mra_evaluation *evaluation, mra_error *err)
{
    *evaluation = (mra_evaluation){0};
    const size_t total = task->kind->batches(task, split);
    for (size_t i = 0; i < total; i++) {
        if (stop && *stop) return mra_fail(err, MRA_INTERRUPTED, "evaluation was interrupted");
        const mra_portion here = {.split = split, .index = i, .parts = 1};
        const mra_portion next = {.split = split, .index = i + 1, .parts = 1};
        const void *batch;
        mra_score score;
        mra_status status =
            mra_prefetch_get(prefetch, &here, i + 1 < total ? &next : NULL, &batch, err);
        if (status == MRA_OK) status = score_batch(task, tape, batch, &score, err);
        if (status != MRA_OK) return status;
        evaluation->examples += score.counted;
        for (int k = 0; k < MRA_TASK_METRICS; k++) evaluation->right[k] += score.right[k];
        evaluation->loss += score.loss * (double)score.counted;
        if (report) report(context, i + 1, total);
    }
    const double examples = (double)evaluation->examples;
    evaluation->loss /= examples;
    for (int k = 0; k < MRA_TASK_METRICS; k++)
        evaluation->metric[k] = (double)evaluation->right[k] / examples;
    return MRA_OK;
}
