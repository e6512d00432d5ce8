// What the files of the host runner share: private to kernels/simt.
#ifndef MRA_KERNELS_SIMT_STATE_H
#define MRA_KERNELS_SIMT_STATE_H

#include "simt/runner.h"

enum {
    SIMT_STACK_BYTES = 256 * 1024, // of a fiber
    SIMT_ARRAYS = 32,              // shared arrays of a kernel
    SIMT_COPIES = 256              // asynchronous copies of a thread that are under way
};

typedef enum simt_status {
    SIMT_READY,
    SIMT_AT_BARRIER,
    SIMT_IN_COLLECTIVE,
    SIMT_ENDED
} simt_status;

typedef struct simt_pending {
    void *to;
    const void *from;
    unsigned bytes, group;
    bool present;
} simt_pending;

// A thread of the block that is running.
typedef struct simt_fiber {
    simt_position position;
    void *stack;     // lowest address
    void *saved;     // stack pointer while it does not run
    void *sanitizer; // AddressSanitizer's own stack of the fiber
    bool made;       // it has a context to go on with
    simt_status status;
    const char *what, *file; // where it waits
    int line, vote;
    uint32_t mask;
    simt_complete complete;
    void *argument;
    simt_pending *copy; // SIMT_COPIES of them, made with the first
    unsigned copies, group;
} simt_fiber;

typedef struct simt_array {
    const void *key;
    void *memory;
    size_t bytes;
} simt_array;

struct simt_runner {
    uint64_t seed, random; // the seed, and the state of the generator
    char error[512], taken[512];
    bool failed;
    uint64_t launches, blocks;

    // The launch.
    const char *kernel;
    int kernel_length;
    void (*body)(void *closure);
    void *closure;
    size_t closure_bytes;
    int threads;
    size_t dynamic_bytes;

    // The block.
    simt_fiber *fiber; // SIMT_MAX_THREADS
    char *stacks;      // all stacks, one after another
    int current;       // the fiber that runs; -1: the scheduler
    int *ready, ready_count;
    int waiting, ended; // at the barrier; ended
    int votes;
    void *scheduler, *scheduler_sanitizer;
    const void *scheduler_stack;
    size_t scheduler_stack_bytes;

    char *shared; // the block's shared memory
    size_t shared_used, static_used;
    simt_array array[SIMT_ARRAYS];
    int arrays;

    struct simt_heap *heap;   // memory.c
    struct simt_watch *watch; // watch.c
};

// The runner whose block runs on this thread; NULL: none.
extern __thread simt_runner *simt_current;

// ---- block.c --------------------------------------------------------------------------------

// 32 random bits of the schedule.
uint32_t simt_draw(simt_runner *runner);
// Lets another fiber run; the running one stays ready.
void simt_yield(simt_runner *runner);

// ---- fiber.c --------------------------------------------------------------------------------

bool simt_stacks_create(simt_runner *runner);
void simt_stacks_free(simt_runner *runner);
void simt_fiber_resume(simt_runner *runner, int index); // from the scheduler
void simt_fiber_suspend(simt_runner *runner);           // back to the scheduler
void simt_fiber_forget(simt_runner *runner, int index); // its next resume begins anew
void simt_fiber_main(simt_runner *runner, int index);   // block.c: what a fiber does

// ---- memory.c -------------------------------------------------------------------------------

bool simt_memory_create(simt_runner *runner);
void simt_memory_free(simt_runner *runner);
void simt_shared_begin(simt_runner *runner); // a block begins: nothing is declared, all is NaN

// ---- watch.c: what is known about every byte, in the variant that looks at accesses ----------
//
// In the other variants these do nothing.

typedef struct simt_watch simt_watch;

bool simt_watch_create(simt_runner *runner);
void simt_watch_free(simt_runner *runner);
void simt_watch_launch(simt_runner *runner);          // a launch begins
void simt_watch_block(simt_runner *runner);           // a block begins
void simt_watch_barrier(simt_runner *runner);         // all threads of the block have met
void simt_watch_warp(simt_runner *runner, int warp);  // the lanes of a warp have met
void simt_watch_fence(simt_runner *runner, int warp); // its writes come before its next atomic
void simt_watch_atomic(simt_runner *runner, void *memory, size_t bytes);
void simt_watch_copy_begins(simt_runner *runner, void *to, size_t bytes);
void simt_watch_copy_arrives(simt_runner *runner, void *to, const void *from, size_t bytes);
// Bytes that may be accessed from now on, or (false) no longer; whether they count as written.
void simt_watch_allowed(simt_runner *runner, void *memory, size_t bytes, bool allowed,
                        bool written);
// Addresses in which accesses are looked at, for memory.c to deal out; NULL in other variants.
char *simt_watch_region(simt_runner *runner, size_t *bytes);
// Makes the first `bytes` of it usable. false: no memory.
bool simt_watch_extend(simt_runner *runner, size_t bytes);

#endif
