// The loss of a classifier: mean over rows of $-\log \mathrm{softmax}(x)_{label} =
// \mathrm{lse}(x) - x_{label}$.

#include "tensor/operation.h"

// What the way back needs, all on the device.
typedef struct loss_values {
    const int32_t *labels;
    float *lse;
    int32_t *counts;
} loss_values;

static mra_status loss_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const loss_values *saved = node->saved;
    mra_tensor *logits = node->operand[0];
    return device->kernels->cross_entropy_backward(
        device, (size_t)logits->shape[0], logits->shape[1], logits->data, saved->labels,
        saved->lse, saved->counts, node->output->grad, logits->grad, mra_grad_adds(logits),
        err);
}

static bool labels_fit(mra_tape *tape, const mra_tensor *logits, const int32_t *labels)
{
    if (logits->rank != 2) {
        mra_tape_fail(tape, MRA_BAD_INPUT,
                      "cross_entropy: logits%s, expected logits[rows,classes]",
                      mra_shape_of(logits).text);
        return false;
    }
    for (int row = 0; row < logits->shape[0]; row++)
        if (labels[row] >= logits->shape[1]) {
            mra_tape_fail(
                tape, MRA_BAD_INPUT,
                "cross_entropy: label %d of row %d, expected 0 to %d, or less than 0 to "
                "leave the row out",
                (int)labels[row], row, logits->shape[1] - 1);
            return false;
        }
    return true;
}

static loss_values *loss_memory(mra_tape *tape, const int32_t *labels, size_t rows)
{
    loss_values *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!saved) return NULL;
    saved->labels = mra_tape_upload(tape, labels, rows * sizeof *labels);
    saved->lse = mra_tape_device_alloc(tape, rows * sizeof *saved->lse);
    saved->counts = mra_tape_device_alloc(tape, 2 * sizeof *saved->counts);
    return saved->labels && saved->lse && saved->counts ? saved : NULL;
}

mra_tensor *mra_cross_entropy(mra_tape *tape, mra_tensor *logits, const int32_t *labels,
                              int *correct)
{
    if (!logits || mra_tape_status(tape, NULL) || !labels_fit(tape, logits, labels))
        return NULL;
    const size_t rows = (size_t)logits->shape[0];
    mra_tensor *loss = mra_tape_result(tape, 1, (int[]){1}, logits->needs_grad);
    loss_values *saved = loss_memory(tape, labels, rows);
    if (!loss || !saved) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->cross_entropy(device, rows, logits->shape[1],
                                                       logits->data, saved->labels, saved->lse,
                                                       loss->data, saved->counts, &err);
    int32_t counts[2] = {0, 0};
    if (!status && correct) {
        status = device->to_host(device, counts, saved->counts, sizeof counts, &err);
        *correct = (int)counts[1];
    }
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = loss,
                                  .operand = {logits},
                                  .operands = 1,
                                  .saved = saved,
                                  .backward = loss_backward,
                                  .name = "cross_entropy",
                                  .overwrites = true});
}
