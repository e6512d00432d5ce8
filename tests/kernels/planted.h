// Kernels with one defect each, and kernels without: what the host runner must and must not
// report.
#ifndef MRA_TESTS_KERNELS_PLANTED_H
#define MRA_TESTS_KERNELS_PLANTED_H

#include "simt/runner.h"

#ifdef __cplusplus
extern "C" {
#endif

// What sees the defect: the scheduler, in every variant; the look at every access; or that and
// the sanitizers, which end the program.
typedef enum planted_seen { SEEN_ALWAYS, SEEN_BY_WATCH, SEEN_BY_BOTH } planted_seen;

typedef struct planted {
    const char *kernel;  // as the message names it
    const char *message; // part of the message
    planted_seen seen;
    void (*run)(simt_runner *runner, const char *kernel);
} planted;

extern const planted planted_defects[];
extern const int planted_defect_count;

// Correct kernels over `count` values; each writes its result to y (host memory).
void planted_reverse(simt_runner *runner, int count, const float *x, float *y);
// y[i] = x[i] + ... + x[i - i % 32]: sums of the lanes up to one's own.
void planted_scan(simt_runner *runner, int count, const float *x, float *y);
// The sum of all x, by blocks whose last one adds up; `fence` false leaves the fence out.
void planted_last_block(simt_runner *runner, int count, const float *x, float *y, bool fence);
// y = 2 x through shared memory by asynchronous copies, two groups under way.
void planted_copies(simt_runner *runner, int count, const float *x, float *y);
// c[16 x 8] = a[16 x depth] b[8 x depth]^T on the tensor cores.
void planted_product(simt_runner *runner, bool bf16, int depth, const float *a, const float *b,
                     float *c);
// Votes, matches, reductions, broadcasts of one warp with lanes 0 .. lanes - 1: 8 results a
// lane.
void planted_warp(simt_runner *runner, int lanes, const int *x, unsigned *y);
// An order: order[i] is which thread of the one block came i-th to an atomic counter.
void planted_order(simt_runner *runner, int threads, int *order);

#ifdef __cplusplus
}
#endif
#endif
