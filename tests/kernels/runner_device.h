// A device that has nothing but memory and the host runner: what kernels need to run under it.
#ifndef MRA_TESTS_KERNELS_RUNNER_DEVICE_H
#define MRA_TESTS_KERNELS_RUNNER_DEVICE_H

#include <stdlib.h>

#include "simt/runner.h"
#include "tensor/device.h"

typedef struct runner_state {
    simt_runner *runner; // first: the stream of the launches
} runner_state;

static inline simt_runner *runner_of(mra_device *device)
{
    return ((runner_state *)device->state)->runner;
}

static inline void *runner_allocate(mra_device *device, size_t bytes)
{
    return simt_malloc(runner_of(device), bytes, true);
}
static inline void *runner_scratch(mra_device *device, size_t bytes)
{
    return simt_malloc(runner_of(device), bytes, false);
}
static inline void runner_release(mra_device *device, void *memory)
{
    simt_free(runner_of(device), memory);
}
static inline mra_status runner_copy(mra_device *device, void *to, const void *from,
                                     size_t bytes, mra_error *err)
{
    (void)err;
    simt_copy(runner_of(device), to, from, bytes);
    return MRA_OK;
}
static inline void runner_close(mra_device *device)
{
    simt_runner_free(runner_of(device));
    free(device->state);
    free(device);
}

static inline mra_device *runner_device(uint64_t seed)
{
    mra_device *device = calloc(1, sizeof *device);
    runner_state *state = calloc(1, sizeof *state);
    if (!device || !state) abort();
    state->runner = simt_runner_create(seed);
    if (!state->runner) abort();
    *device = (mra_device){.name = "simt",
                           .threads = 1,
                           .state = state,
                           .allocate = runner_allocate,
                           .scratch = runner_scratch,
                           .release = runner_release,
                           .to_device = runner_copy,
                           .to_host = runner_copy,
                           .close = runner_close};
    return device;
}

#endif
