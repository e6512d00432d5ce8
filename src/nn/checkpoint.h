// Checkpoints: everything that a training needs to go on as if it had never been stopped.
#ifndef MRA_NN_CHECKPOINT_H
#define MRA_NN_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "nn/layers.h"
#include "nn/optimiser.h"
#include "nn/task.h"

// Where a training stands, apart from weights and moments.
typedef struct mra_train_state {
    int64_t step;      // updates done
    int64_t evaluated; // the step of the last evaluation on dev, -1: none
    int64_t log_bytes; // length of the log up to here
    double seconds;    // spent in all runs together

    // Sums since the last row of the log.
    int64_t interval_steps, interval_examples, interval_tokens;
    int64_t interval_right[MRA_TASK_METRICS];
    double interval_loss, interval_seconds;

    // The best evaluation on dev so far.
    int64_t best_step; // -1: none
    mra_evaluation best;

    // Whether the run is going anywhere: the lowest loss of a step so far (infinite: none), and for how many steps in a
    // row it has been far above that (train.diverge_factor).
    double lowest_loss;
    int64_t steps_above;
} mra_train_state;

// Writes `path` atomically: the parameters ("weight/..."), both moments ("moment1/...", "moment2/..."), the best
// weights so far (`best`, parameters->size floats on the host: "best/..."), the state, and `settings`, the text
// that says which run this is.
mra_status mra_checkpoint_write(const char *path, const mra_parameters *parameters,
                                const mra_optimiser *optimiser, const float *best,
                                const mra_train_state *state, const char *settings,
                                mra_error *err);
// Reads it back. A file that is damaged, of another model or written under other settings is MRA_BAD_INPUT naming
// the file and the first difference; parameters and state are then unchanged.
mra_status mra_checkpoint_read(const char *path, mra_parameters *parameters,
                               mra_optimiser *optimiser, float *best, mra_train_state *state,
                               const char *settings, mra_error *err);

#endif
