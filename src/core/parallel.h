// Deterministic parallel loops.
//
// The rule that makes results bit-identical for any number of threads: a loop is cut into items
// by the problem alone (rows of blocks, heads, fixed chunks of a sum), never by the number of
// threads, and an item writes only what belongs to it. Threads only decide who computes an
// item. A sum over items is taken afterwards, in the order of the items.
#ifndef MRA_CORE_PARALLEL_H
#define MRA_CORE_PARALLEL_H

#include <stddef.h>

// The body of a loop: computes item `item` as thread number `thread` (0 <= thread < threads;
// use it to pick a scratch buffer, never to decide what to compute).
typedef void (*mra_loop_body)(void *context, size_t item, int thread);

// Runs body(context, i, thread) for i in [0, items) on up to `threads` OpenMP threads (threads
// < 1: one). Items are handed out dynamically. Nested calls run on the calling thread alone.
void mra_parallel_for(int threads, size_t items, mra_loop_body body, void *context);

// The number of threads to use by default: what OMP_NUM_THREADS or the machine offers.
int mra_default_threads(void);

#endif
