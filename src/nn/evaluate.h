// How well a network does its task on held-out examples.
#ifndef MRA_NN_EVALUATE_H
#define MRA_NN_EVALUATE_H

#include <signal.h>

#include "core/error.h"
#include "nn/group.h"
#include "nn/task.h"
#include "tensor/tensor.h"

// Scores as numbers that processes can add up (mra_group_sum), and what they come to together: counts are added, the loss is the
// mean over all that is counted (0 of nothing), summed in the order of the scores.
enum { MRA_SCORE_NUMBERS = 3 + MRA_TASK_METRICS };
void mra_score_store(const mra_score *score, double numbers[MRA_SCORE_NUMBERS]);
mra_score mra_score_total(const double *numbers, size_t scores);

// Runs the network, without dropout, over all evaluation batches of a split (MRA_DEV or MRA_TEST), which the processes of
// the group share out (collective; NULL: this process alone). MRA_INTERRUPTED as
// soon as *stop (may be NULL) is not 0. `report` (may be NULL) is called after every batch of this process.
mra_status mra_evaluate(mra_task *task, mra_tape *tape, mra_prefetch *prefetch,
                        const mra_group *group, mra_split split,
                        const volatile sig_atomic_t *stop,
                        void (*report)(void *context, size_t done, size_t total), void *context,
                        mra_evaluation *evaluation, mra_error *err);

// The value of a one-element tensor of the tape, after looking at the tape's status.
mra_status mra_tape_value(mra_tape *tape, const mra_tensor *tensor, float *value,
                          mra_error *err);

#endif
