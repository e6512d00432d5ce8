// # Blocks, barriers and warps
//
// The scheduler holds the fibers that can go on. It draws one, which runs until it waits or ends.
// When a barrier is complete all of its fibers can go on again. When none can go on and some still
// wait, they wait for something that will not happen: that is the report.
//
// Two disciplines take turns with the parity of the seed: any ready fiber may be next, or the one
// that became ready last goes first, so that a few threads run as far ahead as barriers let
// them.

#include "simt/state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

__thread simt_position *simt_now;
__thread simt_runner *simt_current;

// ---- Making a runner ------------------------------------------------------------------------

simt_runner *simt_runner_create(uint64_t seed)
{
    simt_runner *runner = calloc(1, sizeof *runner);
    if (!runner) return NULL;
    runner->fiber = calloc(SIMT_MAX_THREADS, sizeof *runner->fiber);
    runner->ready = calloc(SIMT_MAX_THREADS, sizeof *runner->ready);
    runner->current = -1;
    if (!runner->fiber || !runner->ready || !simt_stacks_create(runner) ||
        !simt_watch_create(runner) || !simt_memory_create(runner)) {
        simt_runner_free(runner);
        return NULL;
    }
    simt_runner_seed(runner, seed);
    return runner;
}

void simt_runner_free(simt_runner *runner)
{
    if (!runner) return;
    for (int i = 0; runner->fiber && i < SIMT_MAX_THREADS; i++) free(runner->fiber[i].copy);
    simt_memory_free(runner);
    simt_watch_free(runner);
    simt_stacks_free(runner);
    free(runner->fiber);
    free(runner->ready);
    free(runner);
}

void simt_runner_seed(simt_runner *runner, uint64_t seed)
{
    runner->seed = seed;
    runner->random = seed * 0x9E3779B97F4A7C15u + 0x2545F4914F6CDD1Du;
}

const char *simt_runner_take_error(simt_runner *runner)
{
    if (!runner->failed) return NULL;
    runner->failed = false;
    memcpy(runner->taken, runner->error, sizeof runner->taken);
    return runner->taken;
}

void simt_runner_counts(const simt_runner *runner, uint64_t *launches, uint64_t *blocks)
{
    *launches = runner->launches;
    *blocks = runner->blocks;
}

// SplitMix64: an order needs no more.
uint32_t simt_draw(simt_runner *runner)
{
    uint64_t z = runner->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(z >> 32);
}

// ---- Errors ---------------------------------------------------------------------------------

static int describe(const simt_runner *runner, int index, char *text, size_t size)
{
    const simt_position *at = &runner->fiber[index].position;
    return snprintf(text, size, "kernel %.*s, block (%u,%u,%u), thread (%u,%u,%u)",
                    runner->kernel_length, runner->kernel, at->block.x, at->block.y,
                    at->block.z, at->thread.x, at->thread.y, at->thread.z);
}

static void record(simt_runner *runner, int index, const char *format, va_list arguments)
{
    if (runner->failed) return;
    int used = describe(runner, index, runner->error, sizeof runner->error);
    used += snprintf(runner->error + used, sizeof runner->error - (size_t)used, ": ");
    vsnprintf(runner->error + used, sizeof runner->error - (size_t)used, format, arguments);
    runner->failed = true;
}

static void report(simt_runner *runner, int index, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void report(simt_runner *runner, int index, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record(runner, index, format, arguments);
    va_end(arguments);
}

void simt_fail(const char *format, ...)
{
    simt_runner *runner = simt_current;
    va_list arguments;
    va_start(arguments, format);
    record(runner, runner->current, format, arguments);
    va_end(arguments);
    for (;;) simt_fiber_suspend(runner); // the scheduler does not come back
}

#ifdef __SANITIZE_ADDRESS__
static void after_report(const char *text)
{
    (void)text;
    char where[256];
    if (!simt_current || simt_current->current < 0) return;
    describe(simt_current, simt_current->current, where, sizeof where);
    fprintf(stderr, "simt: in %s\n", where);
}
#endif

// ---- Scheduling -----------------------------------------------------------------------------

static void make_ready(simt_runner *runner, int index)
{
    runner->fiber[index].status = SIMT_READY;
    runner->ready[runner->ready_count++] = index;
}

static int next_ready(simt_runner *runner)
{
    int last = --runner->ready_count;
    if (runner->seed & 1) return runner->ready[last];
    int pick = (int)(simt_draw(runner) % (unsigned)(last + 1)), index = runner->ready[pick];
    runner->ready[pick] = runner->ready[last];
    return index;
}

void simt_yield(simt_runner *runner)
{
    int index = runner->current;
    make_ready(runner, index);
    if (runner->seed & 1) { // or it would be next at once
        int other = (int)(simt_draw(runner) % (unsigned)runner->ready_count);
        int last = runner->ready_count - 1;
        runner->ready[last] = runner->ready[other];
        runner->ready[other] = index;
    }
    simt_fiber_suspend(runner);
}

static int first_with(const simt_runner *runner, simt_status status)
{
    for (int i = 0; i < runner->threads; i++)
        if (runner->fiber[i].status == status) return i;
    return -1;
}

// All that have not ended wait at the barrier.
static void complete_barrier(simt_runner *runner)
{
    int first = first_with(runner, SIMT_AT_BARRIER);
    const simt_fiber *here = &runner->fiber[first];
    if (runner->ended) {
        int other = first_with(runner, SIMT_ENDED);
        report(runner, first,
               "waits at the barrier %s:%d, which %d of %d threads never reach: "
               "thread %d has ended",
               here->file, here->line, runner->ended, runner->threads, other);
        return;
    }
    for (int i = 0; i < runner->threads; i++) {
        const simt_fiber *fiber = &runner->fiber[i];
        if (fiber->line != here->line || strcmp(fiber->file, here->file) != 0) {
            report(runner, first,
                   "waits at the barrier %s:%d while thread %d waits at another, %s:%d",
                   here->file, here->line, i, fiber->file, fiber->line);
            return;
        }
    }
    simt_watch_barrier(runner);
    runner->votes = 0;
    for (int i = 0; i < runner->threads; i++) runner->votes += runner->fiber[i].vote != 0;
    runner->waiting = 0;
    for (int i = runner->threads; i-- > 0;) make_ready(runner, i);
}

int simt_block_barrier(int vote, const char *file, int line)
{
    simt_runner *runner = simt_current;
    simt_fiber *fiber = &runner->fiber[runner->current];
    fiber->status = SIMT_AT_BARRIER;
    fiber->vote = vote;
    fiber->what = "the barrier", fiber->file = file, fiber->line = line;
    runner->waiting++;
    simt_fiber_suspend(runner);
    return runner->votes;
}

void simt_fiber_main(simt_runner *runner, int index)
{
    simt_fiber *fiber = &runner->fiber[index];
    runner->body(runner->closure);
    fiber->status = SIMT_ENDED;
    runner->ended++;
}

// None can go on though some have not ended.
static void report_stuck(simt_runner *runner)
{
    int index = first_with(runner, SIMT_IN_COLLECTIVE);
    const simt_fiber *fiber = &runner->fiber[index];
    for (int lane = 0; lane < SIMT_WARP; lane++) {
        int other = index / SIMT_WARP * SIMT_WARP + lane;
        if (!(fiber->mask >> lane & 1)) continue;
        const simt_fiber *peer = other < runner->threads ? &runner->fiber[other] : NULL;
        if (!peer || peer->status == SIMT_ENDED) {
            report(runner, index, "waits in %s %s:%d for lane %d, which %s", fiber->what,
                   fiber->file, fiber->line, lane, peer ? "has ended" : "does not exist");
            return;
        }
        if (peer->complete != fiber->complete || peer->mask != fiber->mask ||
            peer->status != SIMT_IN_COLLECTIVE) {
            report(runner, index, "waits in %s %s:%d for lane %d, which waits in %s %s:%d",
                   fiber->what, fiber->file, fiber->line, lane, peer->what, peer->file,
                   peer->line);
            return;
        }
    }
    report(runner, index, "waits in %s %s:%d without end", fiber->what, fiber->file,
           fiber->line);
}

static void begin_block(simt_runner *runner, simt_dim grid, simt_dim block, simt_dim at)
{
    runner->ready_count = runner->waiting = runner->ended = 0;
    simt_shared_begin(runner);
    simt_watch_block(runner);
    for (int i = 0; i < runner->threads; i++) {
        simt_fiber *fiber = &runner->fiber[i];
        unsigned index = (unsigned)i;
        fiber->position = (simt_position){
            {index % block.x, index / block.x % block.y, index / block.x / block.y},
            at,
            block,
            grid};
        fiber->copies = fiber->group = 0;
        make_ready(runner, i);
    }
    for (int i = runner->threads; i > 1; i--) { // Fisher-Yates: no order at the beginning
        int other = (int)(simt_draw(runner) % (unsigned)i), kept = runner->ready[i - 1];
        runner->ready[i - 1] = runner->ready[other];
        runner->ready[other] = kept;
    }
}

static void run_block(simt_runner *runner)
{
    while (runner->ended < runner->threads && !runner->failed) {
        while (runner->ready_count > 0 && !runner->failed) {
            simt_fiber_resume(runner, next_ready(runner));
        }
        if (runner->failed || runner->ended == runner->threads) break;
        if (runner->waiting > 0 && runner->waiting + runner->ended == runner->threads)
            complete_barrier(runner);
        else
            report_stuck(runner);
    }
    runner->blocks++;
    if (runner->failed)
        for (int i = 0; i < runner->threads; i++) simt_fiber_forget(runner, i);
}

// ---- Launches -------------------------------------------------------------------------------

static bool launch_fits(simt_runner *runner, simt_dim grid, simt_dim block, size_t shared_bytes)
{
    const char *problem = NULL;
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads < 1 || threads > SIMT_MAX_THREADS || block.z > 64)
        problem = "a block has 1 to 1024 threads, at most 64 along z";
    else if (!grid.x || !grid.y || !grid.z || grid.x > 0x7FFFFFFF || grid.y > 65535 ||
             grid.z > 65535)
        problem = "a grid has 1 to 2^31 - 1 blocks along x, 1 to 65535 along y and z";
    else if (shared_bytes > SIMT_SHARED_BYTES)
        problem = "a block has at most 227 KiB of shared memory";
    if (!problem) return true;
    snprintf(runner->error, sizeof runner->error,
             "kernel %.*s: grid (%u,%u,%u), block (%u,%u,%u), %zu bytes of shared memory: %s",
             runner->kernel_length, runner->kernel, grid.x, grid.y, grid.z, block.x, block.y,
             block.z, shared_bytes, problem);
    runner->failed = true;
    return false;
}

// A permutation of the blocks that needs no memory: i -> (a i + b) mod count with a prime to it.
static uint64_t coprime(uint64_t start, uint64_t count)
{
    for (uint64_t a = start % count;; a = (a + 1) % count) {
        uint64_t x = a, y = count;
        while (y) {
            uint64_t rest = x % y;
            x = y, y = rest;
        }
        if (x == 1) return a;
    }
}

void simt_launch(simt_runner *runner, const char *kernel, simt_dim grid, simt_dim block,
                 size_t shared_bytes, void (*body)(void *closure), void *closure,
                 size_t closure_bytes)
{
    if (runner->failed) return;
    bool brackets = kernel[0] == '(';
    runner->kernel = kernel + brackets;
    runner->kernel_length = (int)strlen(kernel) - 2 * brackets;
    if (!launch_fits(runner, grid, block, shared_bytes)) return;
    runner->body = body;
    runner->closure = closure;
    runner->closure_bytes = closure_bytes;
    runner->threads = (int)(block.x * block.y * block.z);
    runner->dynamic_bytes = shared_bytes;
    runner->launches++;
    simt_runner *before = simt_current;
    simt_current = runner;
#ifdef __SANITIZE_ADDRESS__
    __asan_set_error_report_callback(after_report);
#endif
    simt_watch_launch(runner);
    uint64_t count = (uint64_t)grid.x * grid.y * grid.z;
    uint64_t step = count == 1 ? 0 : coprime(simt_draw(runner), count);
    uint64_t offset = simt_draw(runner) % count;
    for (uint64_t i = 0; i < count && !runner->failed; i++) {
        uint64_t b = (i * step + offset) % count;
        simt_dim at = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                       (unsigned)(b / grid.x / grid.y)};
        begin_block(runner, grid, block, at);
        run_block(runner);
    }
    simt_current = before;
    simt_now = NULL;
}

// ---- Warps ----------------------------------------------------------------------------------

int simt_lane(void)
{
    return simt_current->current % SIMT_WARP;
}

void simt_collective(uint32_t mask, simt_complete complete, void *argument, const char *what,
                     const char *file, int line)
{
    simt_runner *runner = simt_current;
    int index = runner->current, base = index / SIMT_WARP * SIMT_WARP;
    simt_fiber *fiber = &runner->fiber[index];
    if (!(mask >> (index - base) & 1))
        simt_fail("%s %s:%d: the mask %#x leaves out the lane that calls, %d", what, file, line,
                  mask, index - base);
    fiber->what = what, fiber->file = file, fiber->line = line;
    fiber->mask = mask, fiber->complete = complete, fiber->argument = argument;
    void *all[SIMT_WARP] = {0};
    bool everyone = true;
    all[index - base] = argument;
    for (int lane = 0; lane < SIMT_WARP && everyone; lane++) {
        if (!(mask >> lane & 1) || base + lane == index) continue;
        const simt_fiber *peer = &runner->fiber[base + lane];
        everyone = base + lane < runner->threads && peer->status == SIMT_IN_COLLECTIVE &&
                   peer->complete == complete && peer->mask == mask;
        if (everyone) all[lane] = peer->argument;
    }
    if (!everyone) {
        fiber->status = SIMT_IN_COLLECTIVE;
        simt_fiber_suspend(runner);
        return;
    }
    complete(all, mask);
    for (int lane = 0; lane < SIMT_WARP; lane++)
        if ((mask >> lane & 1) && base + lane != index) make_ready(runner, base + lane);
    simt_yield(runner);
}

void simt_warp_ordered(void)
{
    simt_watch_warp(simt_current, simt_current->current / SIMT_WARP);
}

void simt_fence(void)
{
    simt_watch_fence(simt_current, simt_current->current / SIMT_WARP);
}

uint32_t simt_active_mask(void)
{
    const simt_runner *runner = simt_current;
    int base = runner->current / SIMT_WARP * SIMT_WARP;
    uint32_t mask = 0;
    for (int lane = 0; lane < SIMT_WARP && base + lane < runner->threads; lane++)
        if (runner->fiber[base + lane].status != SIMT_ENDED) mask |= 1u << lane;
    return mask;
}

void simt_atomic(void *address, size_t bytes)
{
    simt_runner *runner = simt_current;
    // Others run before the access is noted: it is noted in the order in which it happens.
    if (simt_draw(runner) % 4 == 0) simt_yield(runner);
    simt_watch_atomic(runner, address, bytes);
}
