// Two ways to spend a budget, compared at the same time in place of the same budget.
#ifndef MRA_EXPERIMENTS_COMMON_EQUAL_TIME_H
#define MRA_EXPERIMENTS_COMMON_EQUAL_TIME_H

#include "common.h"

// From the committed table "<out>/<name><from>" with the columns set, n, ranking, blocks, both_ms
// and error (rows of a set and ranking next to each other or not, budgets ascending) writes
// "<out>/<name><to>": for every row of `reference` what `rival` reaches in its time. Columns set,
// n, blocks, both_ms, error (of the reference), rival_blocks and rival_error: on the straight line
// between the two measured budgets of the rival whose times enclose both_ms, in blocks and in the
// logarithm of the error. Where that time lies above all of the rival's, its largest budget (it
// reaches that error and has time left); where it lies below all of them, "-". A rival whose
// times do not ascend (noise) is met where its curve first crosses that time. MRA_BAD_INPUT for a
// missing column or a cell that is no number.
mra_status mra_experiment_equal_time(mra_experiment *experiment, const char *from,
                                     const char *to, const char *reference, const char *rival,
                                     mra_error *err);

#endif
