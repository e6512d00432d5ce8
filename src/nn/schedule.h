// One-cycle learning rates.
#ifndef MRA_NN_SCHEDULE_H
#define MRA_NN_SCHEDULE_H

#include <stdint.h>

typedef enum mra_anneal { MRA_ANNEAL_LINEAR, MRA_ANNEAL_COSINE } mra_anneal;

typedef struct mra_schedule {
    double peak;    // the largest learning rate
    int64_t warmup; // steps that lead up to it
    int64_t steps;  // of the whole training
    mra_anneal anneal;
} mra_schedule;

// The learning rate of step `step`, 0 <= step < steps (Smith & Topin, "Super-convergence", 2019; start = peak / 25,
// end = start / 10^4, as in PyTorch's OneCycleLR):
//
//     a = warmup - 1 (at least 0), b = steps - 1
//     step <= a:  anneal(start, peak, step / a)
//     step >  a:  anneal(peak, end, (step - a) / (b - a))
//     anneal(from, to, x) = from + (to - from) x                   linear
//                         = to + (from - to) (1 + cos(pi x)) / 2   cosine
double mra_schedule_rate(const mra_schedule *schedule, int64_t step);

#endif
