// The result of a training, as a table.
#ifndef MRA_NN_TRAIN_RESULT_H
#define MRA_NN_TRAIN_RESULT_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "nn/evaluate.h"

typedef struct mra_train_result {
    mra_evaluation dev, test;           // of the weights that did best on dev
    double dev_majority, test_majority; // accuracy of always giving the most frequent answer
    int64_t best_step, steps;
    size_t weights; // how many numbers the model has
    double seconds;
} mra_train_result;

// Two rows, dev and test, with the columns split, examples, accuracy, loss, majority, step (of the best weights),
// steps, weights and seconds. Written atomically.
mra_status mra_train_result_write(const char *path, const mra_train_result *result,
                                  mra_error *err);
// Reads it back; MRA_BAD_INPUT names what is missing.
mra_status mra_train_result_read(const char *path, mra_train_result *result, mra_error *err);

#endif
