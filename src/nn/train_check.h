// What a training would need, without training: is everything there, how large is the model, how long will it take?
#ifndef MRA_NN_TRAIN_CHECK_H
#define MRA_NN_TRAIN_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "nn/train_options.h"
#include "tensor/device.h"

struct mra_train_check {
    size_t weights;   // numbers that the model learns
    bool present;     // whether the data are there (generated data always are)
    char absent[512]; // why they are not, otherwise ""

    // With `timed`, on this device as busy as it is now; otherwise 0.
    double step_seconds;    // a training step
    double example_seconds; // a forward pass, for each example that is evaluated
    double seconds;         // the whole run: steps, evaluations on dev, the test
};

// Asks the task. What the task "classify" does (mra_classify_check): makes the model of the settings and, if `timed`, runs a few passes on random tokens: batches of at most two examples of the
// longest length, scaled up to the size of a batch, so that the times are upper bounds where batches are of similar
// lengths. No data are read and no file is written; making or reading the data is not in the times. Evaluations count
// train.dev_examples and train.test_examples, or where these are 0 the sizes of the splits that the settings name.
// Data that are absent are no error. MRA_BAD_INPUT: what mra_train() would refuse about settings and model.
mra_status mra_train_check_run(const mra_train_options *options, mra_device *device, bool timed,
                               mra_train_check *check, mra_error *err);
mra_status mra_classify_check(const mra_train_options *options, mra_device *device, bool timed,
                              mra_train_check *check, mra_error *err);

#endif
