// Attention methods on trained heads, and the options of the box frame as settings give them.
#ifndef MRA_EXPERIMENTS_COMMON_METHOD_H
#define MRA_EXPERIMENTS_COMMON_METHOD_H

#include "attention/attention.h"
#include "common_inputs.h"
#include "mra/mra.h"

// R and budgets from two list settings: `scales` "16 4 1" and `blocks` "5 20", one budget for
// each refinement (how many boxes are refined per row of the coarsest boxes). Checked for n
// tokens; errors name file and setting.
mra_status mra_experiment_options(mra_experiment *experiment, const char *scales,
                                  const char *blocks, int n, mra_options *options,
                                  mra_error *err);

// Where methods run: a device and a tape.
typedef struct mra_bench_place {
    mra_device *device;
    mra_tape *tape;
    const char *zeroed; // names of learned parameters that are 0, separated by blanks; or NULL
} mra_bench_place;

mra_status mra_bench_place_open(mra_bench_place *place, int threads, const char *zeroed,
                                mra_error *err);
void mra_bench_place_close(mra_bench_place *place); // a zeroed one too

// A layer of `method` whose learned parameters have their first values, or 0 where the place says so:
// a convolution that is added to the output is no part of an approximation of softmax.
mra_status mra_bench_layer(const mra_bench_place *place, const char *method,
                           const char *const *assignments, int count, uint64_t seed,
                           mra_shape shape, mra_attention_layer **layer, mra_error *err);

// z[n, d] = the method's output for one head; `assignments` as for mra_attention_layer_create.
mra_status mra_bench_output(mra_bench_place *place, const char *method,
                            const char *const *assignments, int count, uint64_t seed,
                            const mra_trained_head *head, float *z, mra_error *err);

#endif
