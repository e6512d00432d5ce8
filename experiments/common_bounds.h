// The paper's bound on the error of the whole matrix, and two that are sharper, on one head.
#ifndef MRA_EXPERIMENTS_COMMON_BOUNDS_H
#define MRA_EXPERIMENTS_COMMON_BOUNDS_H

#include "common_inputs.h"

typedef enum mra_global_bound {
    MRA_BOUND_PAPER,
    MRA_BOUND_BOXES,
    MRA_BOUND_SHARP
} mra_global_bound;
enum { MRA_GLOBAL_BOUNDS = 3 };

typedef struct mra_global_error {
    double log_error;                    // log of ||A - A-hat||_F / ||A||_F
    double log_bound[MRA_GLOBAL_BOUNDS]; // logs of the bounds on it
} mra_global_error;

// For R = {block, 1} with the boxes of the `refined[i]` largest coefficients refined, i = 0 ..
// count - 1: error[count]. O(n^2 d). MRA_NO_MEMORY.
mra_status mra_global_errors(const mra_trained_head *head, int block, const size_t *refined,
                             size_t count, mra_global_error *error, mra_error *err);

#endif
