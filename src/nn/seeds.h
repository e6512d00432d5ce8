// The results of one training under several seeds, together.
#ifndef MRA_NN_SEEDS_H
#define MRA_NN_SEEDS_H

#include <stdint.h>

#include "core/error.h"
#include "nn/task.h"
#include "nn/train_result.h"

enum { MRA_SEEDS = 64 }; // at most

// Mean and sample standard deviation (n - 1; 0 of one value) of `count` values, count >= 1.
void mra_seeds_spread(const double *values, int count, double *mean, double *deviation);

// One row for each split and seed, and two more for each split whose column seed says "mean" and "deviation": columns
// split, seed, the metrics of the task, loss, majority (of the data, the same for all seeds), step (of the best weights) and
// seconds. The deviation of majority is 0 by its nature. Written atomically.
mra_status mra_seeds_write(const char *path, const mra_task_kind *kind, const uint64_t *seeds,
                           const mra_train_result *results, int count, mra_error *err);

#endif
