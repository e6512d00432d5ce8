// Accuracy and loss of a classifier on held-out examples.
//
// The loss of a batch is the mean over its labelled rows, so batches are weighted by how many they have: the sum over
// batches, taken in their order, is the mean over examples.

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

mra_status mra_evaluate(mra_classifier *classifier, mra_tape *tape, mra_batches *batches,
                        const volatile sig_atomic_t *stop,
                        void (*report)(void *context, size_t done, size_t total), void *context,
                        mra_evaluation *evaluation, mra_error *err)
{
    *evaluation = (mra_evaluation){0};
    size_t total = mra_batches_count(batches);
    mra_tape_mode(tape, false, false, 0, 0);
    for (size_t i = 0; i < total; i++) {
        if (stop && *stop) return mra_fail(err, MRA_INTERRUPTED, "evaluation was interrupted");
        const mra_batch *batch = mra_batches_evaluation(batches, i);
        int correct = 0, labelled = 0;
        for (int row = 0; row < batch->count; row++) labelled += batch->labels[row] >= 0;
        mra_tensor *loss = mra_classifier_loss(classifier, tape, batch, &correct);
        float value = 0;
        mra_status status = mra_tape_value(tape, loss, &value, err);
        mra_tape_reset(tape);
        if (status != MRA_OK) return status;
        evaluation->examples += labelled;
        evaluation->correct += correct;
        evaluation->loss += (double)value * labelled;
        if (report) report(context, i + 1, total);
    }
    evaluation->loss /= (double)evaluation->examples;
    evaluation->accuracy = (double)evaluation->correct / (double)evaluation->examples;
    return MRA_OK;
}
