// The methods beside MRA-2, as settings name them.
//
// A settings file has a line for each method that a figure shows, by the method's name:
//
//     longformer = window 0.25 16 32 64 128     ; an option, the largest share of n, values to try
//     htransformer1d = block 0.25 8 16 32
//     exact = default                           ; its default options, one cell
//
// A method without a line is left out, so that which methods a figure shows stands in its settings.
#ifndef MRA_EXPERIMENTS_COMMON_RIVALS_H
#define MRA_EXPERIMENTS_COMMON_RIVALS_H

#include "attention/attention.h"
#include "common.h"

enum { MRA_RIVALS = 24, MRA_RIVAL_VALUES = 12 };

// One method and the budgets at which it is measured.
typedef struct mra_rival_sweep {
    const mra_method *method;
    char option[32]; // "" : no option is swept, there is one cell
    double share;    // values above share * n are left out
    double value[MRA_RIVAL_VALUES];
    size_t count;
} mra_rival_sweep;

// The sweeps of all methods of the table that the settings name, in the table's order, but for
// those in `except` (NULL-terminated names, or NULL). MRA_BAD_INPUT names the settings file and the line.
mra_status mra_rival_sweeps(mra_experiment *experiment, const char *const *except,
                            mra_rival_sweep sweeps[MRA_RIVALS], int *count, mra_error *err);

// The assignment "option=value" of value `i` of a sweep at length n in text, or "" where nothing
// is swept; false where there is no such value or it is too large for n.
bool mra_rival_assignment(const mra_rival_sweep *sweep, size_t i, int n, char *text,
                          size_t room);

#endif
