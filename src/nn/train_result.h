// The result of a training, as a table.
#ifndef MRA_NN_TRAIN_RESULT_H
#define MRA_NN_TRAIN_RESULT_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "nn/task.h"

typedef struct mra_train_result {
    mra_evaluation dev, test;           // of the weights that did best on dev
    double dev_majority, test_majority; // accuracy of always giving the most frequent answer
    int64_t best_step, steps;
    size_t weights; // how many numbers the model has
    double seconds;
} mra_train_result;

// Two rows, dev and test, with the columns split, examples, the first metric of the task, loss, majority, step (of the
// best weights), steps, weights, seconds and the other metrics. Written atomically.
mra_status mra_train_result_write(const char *path, const mra_task_kind *kind,
                                  const mra_train_result *result, mra_error *err);
// Reads it back; MRA_BAD_INPUT names what is missing.
mra_status mra_train_result_read(const char *path, const mra_task_kind *kind,
                                 mra_train_result *result, mra_error *err);

#endif
