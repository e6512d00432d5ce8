// The host runner: CUDA kernels without a GPU, one fiber for each thread of a block.
//
// A launch runs its blocks one after another, in a random order. The threads of a block are fibers
// on one thread of the host: a fiber runs until it waits (at a barrier, in a shuffle, in a
// tensor-core product) or ends; which one goes on next is drawn from the runner's seed. So a
// launch is repeatable, and another seed is another schedule.
//
// What a launch reports, as one line that names kernel, block and thread:
//
// - a barrier that some threads never reach, or at which threads wait at different lines; a shuffle
//   or product whose mask names lanes that are elsewhere or have ended;
// - in the variant `release`, where every memory access of a kernel is looked at: two accesses
//   to one address, one of them a write, with nothing to order them (shared and global memory; also
//   between blocks); a read of shared memory, or of working memory, that nobody has written; a
//   read of what an asynchronous copy has not delivered; an access outside an allocation, to host
//   memory, or at an address that is not a multiple of its size;
// - in the variant `asan`: every allocation and every shared array has redzones, so that
//   AddressSanitizer stops the program at an access outside; the line above follows its report.
//   Shared memory begins as NaN.
//
// The header that kernels include is kernels/simt/device.cuh; what is here serves it, devices and
// tests. One thread at a time uses a runner; two runners may work at once on two threads.
#ifndef MRA_KERNELS_SIMT_RUNNER_H
#define MRA_KERNELS_SIMT_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SIMT_WARP = 32,
    SIMT_MAX_THREADS = 1024,        // of a block
    SIMT_SHARED_BYTES = 227 * 1024, // of a block, as on sm_90
    SIMT_STATIC_BYTES = 48 * 1024   // of these, what may be declared rather than asked for
};

typedef struct simt_dim {
    unsigned x, y, z;
} simt_dim;

// What a running thread knows about itself; kernels read it as threadIdx and so on.
typedef struct simt_position {
    simt_dim thread, block, block_size, grid_size;
} simt_position;

typedef struct simt_runner simt_runner;

// NULL: no memory.
simt_runner *simt_runner_create(uint64_t seed);
void simt_runner_free(simt_runner *runner);
// The schedule of the launches that follow.
void simt_runner_seed(simt_runner *runner, uint64_t seed);
// The first error since the last call, or NULL; the text lives until the next launch. After an
// error launches do nothing until it is taken.
const char *simt_runner_take_error(simt_runner *runner);
// How many launches and how many blocks so far.
void simt_runner_counts(const simt_runner *runner, uint64_t *launches, uint64_t *blocks);

// Runs body(closure) once for every thread. `closure_bytes` of closure may be read by kernels;
// `kernel` is the name for messages (brackets around it are left out).
void simt_launch(simt_runner *runner, const char *kernel, simt_dim grid, simt_dim block,
                 size_t shared_bytes, void (*body)(void *closure), void *closure,
                 size_t closure_bytes);

// ---- Device memory --------------------------------------------------------------------------

// `bytes` (0 too) at a multiple of 256, exactly: the byte after the last is out of bounds. With
// `zeroed` it holds zeros, otherwise it counts as unwritten. NULL: none left.
void *simt_malloc(simt_runner *runner, size_t bytes, bool zeroed);
void simt_free(simt_runner *runner, void *memory);
// How much could still be had: of the region that is looked at; 0: the host's memory is the limit.
size_t simt_free_bytes(const simt_runner *runner);
// Copies from or to the host; what is written counts as written. `from` NULL: zeros.
void simt_copy(simt_runner *runner, void *to, const void *from, size_t bytes);

// ---- For kernels/simt/device.cuh: called by running threads ---------------------------------

extern __thread simt_position *simt_now;

// The block's own copy of a shared array: `key` tells arrays apart.
void *simt_shared_array(const void *key, size_t bytes, size_t alignment, const char *name);
void *simt_dynamic_shared(void);

// Waits until all threads of the block have come here. `vote`: returns the number of threads
// whose vote is not 0.
int simt_block_barrier(int vote, const char *file, int line);

// Waits until all lanes of `mask` are here with the same `complete`. The last one to come runs
// complete(argument, mask), where argument[lane] is what each handed in.
typedef void (*simt_complete)(void *const *argument, uint32_t mask);
void simt_collective(uint32_t mask, simt_complete complete, void *argument, const char *what,
                     const char *file, int line);
// What __syncwarp adds to that: accesses before it come before those after it.
void simt_warp_ordered(void);
// A thread fence: what this warp wrote comes before its next atomic operation.
void simt_fence(void);
uint32_t simt_active_mask(void);
int simt_lane(void);

// Before an atomic operation of `bytes` at `address`: counts as an access that needs no order, and
// lets other threads run now and then, so that a loop that waits for another thread ends.
void simt_atomic(void *address, size_t bytes);

// Asynchronous copies of a thread to shared memory. The bytes arrive when the thread waits for
// their group; `present` false: zeros.
void simt_copy_async(void *to, const void *from, size_t bytes, bool present, const char *file,
                     int line);
void simt_copy_commit(void);
void simt_copy_wait(int pending);

// Stops the launch with a message.
void simt_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#ifdef __cplusplus
}
#endif
#endif
