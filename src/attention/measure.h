// What is measured about an attention method, in one place, so that the program, the benchmarks
// and the experiments mean the same by the same word (paper, experiments on approximation
// accuracy and efficiency).
//
//     entropy         how spread out a head's attention is, in nats, in float64
//     relative error  ||Z^ - Z||_F / ||Z||_F, one head at a time
//     time            median over repeats; rivals take turns, so that drift hits them alike
//     memory          peak resident bytes, in a process of its own
//     operations      floating-point operations of a forward pass, counted, not timed
#ifndef MRA_ATTENTION_MEASURE_H
#define MRA_ATTENTION_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "attention/attention.h"
#include "core/error.h"
#include "mra/mra.h"

// ---- Accuracy ----------------------------------------------------------------------

// entropy[batch * heads]: the mean over unmasked rows i of -sum_j p_ij log p_ij, in nats, where
// p_i is the softmax of q_i . k_j * logit_scale over the unmasked keys j (logit_scale 0:
// 1/sqrt(d)). q, k: [batch][heads][n][d]; mask: [batch][n] or NULL. A head without unmasked
// rows has entropy 0. Logits and sums are float64, computed a tile of rows at a time: O(n^2 d)
// work, O(n) memory per thread. Calls BLAS from its own threads.
mra_status mra_measure_entropy(mra_shape shape, const float *q, const float *k,
                               const uint8_t *mask, double logit_scale, int threads,
                               double *entropy, mra_error *err);

// ||approximate - exact||_F / ||exact||_F over `count` values, summed in float64. Two zero
// arrays: 0; only `exact` zero: infinity. NaN in either is seen: the result is NaN.
double mra_relative_error(const float *approximate, const float *exact, size_t count);

// ---- Time --------------------------------------------------------------------------

// Work that can be measured: `context` is its own. Returns MRA_OK or fills *err.
typedef mra_status (*mra_measured)(void *context, mra_error *err);

typedef struct mra_work {
    mra_measured run;
    void *context;
} mra_work;

typedef struct mra_timing {
    double median, least, most; // seconds
    int repeats;
} mra_timing;

// Times `count` pieces of work against each other: one warm-up of each, then `repeats` rounds
// (1 .. 1000) in which each runs once, in order. timing[count] receives the results. Stops at
// the first failure.
mra_status mra_measure_times(const mra_work *works, int count, int repeats, mra_timing *timing,
                             mra_error *err);
// The same for one piece of work alone.
mra_status mra_measure_time(mra_measured run, void *context, int repeats, mra_timing *timing,
                            mra_error *err);

// ---- Memory ------------------------------------------------------------------------

typedef struct mra_memory {
    size_t before; // resident bytes of the child when it starts: the program, and what its
                   // parent held
    size_t peak;   // the most that were ever resident while it worked
    size_t above;  // peak - before: what the work itself needed
} mra_memory;

// Runs the work in a child process and reports its peak resident memory; nothing that the work
// does to memory is seen by the caller, except through `memory`. The child starts with what the
// caller holds (inputs that are there already are in `before`); so the work should allocate all
// that it wants counted. Call it from the main thread, outside parallel loops. The
// kernel counts to about a MiB. MRA_NO_MEMORY when the child was killed, as a system short of
// memory does.
mra_status mra_measure_peak(mra_measured run, void *context, mra_memory *memory,
                            mra_error *err);

// ---- Attention methods as work -----------------------------------------------------

// A layer with its arrays, ready to be timed. All arrays are of the layer's shape and borrowed.
typedef struct mra_instance {
    mra_attention_layer *layer;
    mra_tape *tape;
    const float *q, *k, *v;
    const uint8_t *mask; // [batch][n] or NULL
    float *z;            // receives the output
    const float *dz;     // for mra_instance_both, as are:
    float *dq, *dk, *dv;
} mra_instance;

mra_status mra_instance_forward(void *instance, mra_error *err); // an mra_measured
mra_status mra_instance_both(void *instance, mra_error *err);    // forward and backward

// Peak memory of one instance of a method, in a process of its own: the layer is made and run
// there, forward and, if `backward`, backward, with all the arrays it writes (z, dq, dk, dv)
// and dz allocated there. q, k, v NULL: the child also makes its own Gaussian inputs, so that
// `peak` is that of a program which does nothing else.
typedef struct mra_peak_request {
    const char *method;
    mra_device *device;
    mra_shape shape;
    uint64_t seed;
    const char *const *assignments; // as for mra_attention_layer_create
    int assignment_count;
    const float *q, *k, *v;
    const uint8_t *mask;
    bool backward;
} mra_peak_request;

mra_status mra_measure_method_peak(const mra_peak_request *request, mra_memory *memory,
                                   mra_error *err);

// Floating-point operations of one forward pass of the layer over batch and heads, a
// multiplication and an addition counted as one each, exponentials as one each. How it is
// counted stands in measure_operations.c. NAN for a method whose work is not counted.
double mra_measure_operations(const mra_attention_layer *layer);

// The value that the layer has for the option `name`; NULL when its method has no such option.
const mra_option_value *mra_layer_option(const mra_attention_layer *layer, const char *name);

#endif
