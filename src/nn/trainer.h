// What the files of the training loop share: train.c (setting up, between two steps), train_step.c (a step), train_end.c
// (what a finished run leaves). Not for others.
#ifndef MRA_NN_TRAINER_H
#define MRA_NN_TRAINER_H

#include "core/progress.h"
#include "nn/checkpoint.h"
#include "nn/gradient.h"
#include "nn/train.h"
#include "nn/train_log.h"

enum { MRA_TRAIN_NAME = 1024 };

typedef struct mra_trainer {
    const mra_train_options *options;
    const mra_train_run *run;
    mra_group group;
    bool first; // of the group: this process reads and writes the folder
    bool quiet;
    mra_task *task;
    mra_prefetch *prefetch;
    mra_optimiser *optimiser;
    mra_gradient *gradient;
    double *scores; // of the parts of a step (nn/evaluate.h)
    mra_tape *tape;
    float *best; // weights of the best evaluation so far
    char *settings;
    char checkpoint[MRA_TRAIN_NAME], result[MRA_TRAIN_NAME];
    mra_train_state state;
    bool finished; // an earlier run has left its result
    int64_t saved; // step of the checkpoint on disk, -1: none
    mra_train_log log;
    mra_progress progress;
    double clock; // when the seconds of the state were last counted
} mra_trainer;

// "FOLDER/FILE" of the run's folder; MRA_BAD_INPUT when it is too long.
mra_status mra_trainer_path(const mra_trainer *trainer, char path[MRA_TRAIN_NAME],
                            const char *file, mra_error *err);
// Adds the time since the last call to the total, and returns it.
double mra_trainer_seconds(mra_trainer *trainer);
// Writes the checkpoint (the first process does).
mra_status mra_trainer_save(mra_trainer *trainer, mra_error *err);
// Evaluates the present weights and writes the row of the log. Collective, as the next two; an error of mra_trainer_save() or
// of a log is that of one process until the loop has made all agree.
mra_status mra_trainer_evaluate(mra_trainer *trainer, mra_split split,
                                mra_evaluation *evaluation, mra_error *err);

// One update, with its row of the log when that is due.
mra_status mra_trainer_step(mra_trainer *trainer, mra_error *err);
// Tests the best weights and writes everything that a finished run leaves.
mra_status mra_trainer_finish(mra_trainer *trainer, mra_train_result *result, mra_error *err);

#endif
