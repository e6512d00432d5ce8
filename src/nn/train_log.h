// The log of a training: a table that grows row by row and is cut back when a run goes on from a checkpoint.
#ifndef MRA_NN_TRAIN_LOG_H
#define MRA_NN_TRAIN_LOG_H

#include <stdint.h>
#include <stdio.h>

#include "core/error.h"
#include "nn/task.h"

typedef struct mra_train_log {
    FILE *stream;
    const mra_task_kind *kind;
    char path[1024];
} mra_train_log;

// One row. The columns are step, split, loss, the first metric of the task, learning_rate, tokens_per_second, seconds and
// the other metrics. split "train": means over the steps since the last such row; "dev" and "test": an evaluation, with
// learning_rate and tokens_per_second 0.
typedef struct mra_log_row {
    int64_t step; // updates done
    const char *split;
    double loss, metric[MRA_TASK_METRICS], learning_rate, tokens_per_second;
    double seconds; // spent in all runs together
} mra_log_row;

// Opens the log for a run whose checkpoint had `*bytes` bytes of it (0: a new run; then *bytes becomes those of the
// header). Whatever came later, written by a run that was killed after its last checkpoint, is cut off, and will be
// written again. A log that is shorter than that, or one that another process is writing, is MRA_BAD_INPUT.
mra_status mra_train_log_open(mra_train_log *log, const char *path, const mra_task_kind *kind,
                              int64_t *bytes, mra_error *err);
// Appends a row; handed to the system at once. *bytes receives the length of the log.
mra_status mra_train_log_row(mra_train_log *log, const mra_log_row *row, int64_t *bytes,
                             mra_error *err);
void mra_train_log_close(mra_train_log *log);

#endif
