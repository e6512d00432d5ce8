// # Looking at every access
//
// The compiler's option for ThreadSanitizer puts a call before every access to memory. Its
// library, which knows threads of the host, is not linked; the functions called are the ones at
// the end of this file, which know the threads of a block. So kernels need no special types.
//
// For every byte that kernels may touch there is a state: not allocated, allocated but never
// written, on its way (an asynchronous copy), written. For every four bytes there is a note of the
// last write and of the last reads: who, and when. Time is counted in *intervals*, the stretches of
// a block between barriers; the lanes of a warp also count their own meetings (`__syncwarp`; a
// shuffle orders nothing). Two accesses by two threads, one of them a write, are a race if they
// fall in the same interval, and, within a warp, in the same stretch between its meetings. Two
// blocks of a launch are never ordered. Two atomic operations are never a race; and a warp that
// meets, by an atomic operation on the same word, another that set a fence before its own has
// seen what that one wrote (how the last block to finish finds the others' results).
//
// What it cannot see: of two threads that write different bytes of one word only the last is
// noted, and reads by several warps are noted as one. Races are missed by that, none is made up.
// The cost is some ten nanoseconds an access.

#include "simt/state.h"

#ifndef MRA_SIMT_WATCH

bool simt_watch_create(simt_runner *runner)
{
    (void)runner;
    return true;
}
void simt_watch_free(simt_runner *runner)
{
    (void)runner;
}
void simt_watch_launch(simt_runner *runner)
{
    (void)runner;
}
void simt_watch_block(simt_runner *runner)
{
    (void)runner;
}
void simt_watch_barrier(simt_runner *runner)
{
    (void)runner;
}
void simt_watch_warp(simt_runner *runner, int warp)
{
    (void)runner, (void)warp;
}
void simt_watch_fence(simt_runner *runner, int warp)
{
    (void)runner, (void)warp;
}
void simt_watch_atomic(simt_runner *runner, void *memory, size_t bytes)
{
    (void)runner, (void)memory, (void)bytes;
}
void simt_watch_copy_begins(simt_runner *runner, void *to, size_t bytes)
{
    (void)runner, (void)to, (void)bytes;
}
void simt_watch_copy_arrives(simt_runner *runner, void *to, const void *from, size_t bytes)
{
    (void)runner, (void)to, (void)from, (void)bytes;
}
void simt_watch_allowed(simt_runner *runner, void *memory, size_t bytes, bool allowed,
                        bool written)
{
    (void)runner, (void)memory, (void)bytes, (void)allowed, (void)written;
}
char *simt_watch_region(simt_runner *runner, size_t *bytes)
{
    (void)runner;
    *bytes = 0;
    return NULL;
}
bool simt_watch_extend(simt_runner *runner, size_t bytes)
{
    (void)runner, (void)bytes;
    return true;
}

#else

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { WORD = 4, WARPS = SIMT_MAX_THREADS / SIMT_WARP, STEP = 1 << 21 };
static const size_t REGION = (size_t)1 << 34;

typedef enum byte_state { NOT_ALLOCATED, NOT_WRITTEN, ON_ITS_WAY, WRITTEN } byte_state;

// An access to four bytes. `interval` 0: none. `who`: which of the four bytes, flags, the thread in
// its block and the number of meetings of its warp, modulo 2^14.
typedef struct note {
    uint32_t interval, who;
} note;

enum {
    BYTES = 0xF,
    ATOMIC = 0x10,   // a write: by an atomic operation,
    RELEASED = 0x20, // after a fence
    LANES = 0x40,    // reads: by several lanes of the warp,
    MANY_WARPS = 0x80,
    THREAD_AT = 8,
    WARP_AT = THREAD_AT + 5,
    MEETING_AT = THREAD_AT + 10
};

static unsigned thread_of(const note *other)
{
    return other->who >> THREAD_AT & (SIMT_MAX_THREADS - 1);
}

typedef struct word_notes {
    note write, read;
} word_notes;

struct simt_watch {
    char *region;      // kernels' memory
    uint8_t *state;    // of its bytes
    word_notes *notes; // of its words
    size_t extent;     // bytes of it in use
    size_t shared;     // the first of them: shared memory
    uint32_t interval, launch_begin, block_begin;
    uint16_t meeting[WARPS];
    uint32_t unmet[WARPS]; // lanes that have written global memory since the warp last met
    bool fenced[WARPS];    // the warp has set a fence in this block
    bool handed[WARPS];    // it has met others by an atomic operation
    bool acquired[WARPS];  // and has set a fence, or met a barrier, since
};

extern char __executable_start, _end; // the linker's: the program's own data

static void *reserve(size_t bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

bool simt_watch_create(simt_runner *runner)
{
    simt_watch *watch = runner->watch = calloc(1, sizeof *watch);
    if (!watch) return false;
    watch->region = reserve(REGION);
    watch->state = reserve(REGION);
    watch->notes = reserve(REGION / WORD * sizeof(word_notes));
    return watch->region && watch->state && watch->notes;
}

void simt_watch_free(simt_runner *runner)
{
    simt_watch *watch = runner->watch;
    if (!watch) return;
    if (watch->region) munmap(watch->region, REGION);
    if (watch->state) munmap(watch->state, REGION);
    if (watch->notes) munmap(watch->notes, REGION / WORD * sizeof(word_notes));
    free(watch);
}

char *simt_watch_region(simt_runner *runner, size_t *bytes)
{
    *bytes = REGION;
    return runner->watch->region;
}

bool simt_watch_extend(simt_runner *runner, size_t bytes)
{
    simt_watch *watch = runner->watch;
    if (!watch->shared) watch->shared = bytes;
    if (bytes <= watch->extent) return true;
    size_t begin = watch->extent, more = (bytes - begin + STEP - 1) / STEP * STEP;
    const size_t ratio = sizeof(word_notes) / WORD;
    const int usable = PROT_READ | PROT_WRITE;
    if (more > REGION - begin || mprotect(watch->region + begin, more, usable) != 0 ||
        mprotect(watch->state + begin, more, usable) != 0 ||
        mprotect((char *)watch->notes + begin * ratio, more * ratio, usable) != 0)
        return false;
    watch->extent = begin + more;
    return true;
}

void simt_watch_allowed(simt_runner *runner, void *memory, size_t bytes, bool allowed,
                        bool written)
{
    simt_watch *watch = runner->watch;
    size_t offset = (size_t)((char *)memory - watch->region);
    if (offset >= watch->extent) return; // the host's own
    memset(watch->state + offset,
           !allowed  ? NOT_ALLOCATED
           : written ? WRITTEN
                     : NOT_WRITTEN,
           bytes);
    if (allowed) // what happened here before concerns nobody
        memset(watch->notes + offset / WORD, 0, (bytes + WORD - 1) / WORD * sizeof(word_notes));
}

// ---- Time -----------------------------------------------------------------------------------

void simt_watch_launch(simt_runner *runner)
{
    runner->watch->launch_begin = runner->watch->interval + 1;
}

void simt_watch_block(simt_runner *runner)
{
    simt_watch *watch = runner->watch;
    watch->block_begin = ++watch->interval;
    memset(watch->unmet, 0, sizeof watch->unmet);
    memset(watch->fenced, 0, sizeof watch->fenced);
    memset(watch->handed, 0, sizeof watch->handed);
    memset(watch->acquired, 0, sizeof watch->acquired);
}

void simt_watch_barrier(simt_runner *runner)
{
    simt_watch *watch = runner->watch;
    watch->interval++;
    // A barrier hands on what any thread has set or seen.
    bool fenced = false, acquired = false;
    for (int i = 0; i < WARPS; i++) {
        fenced = fenced || watch->fenced[i];
        acquired = acquired || watch->acquired[i] || watch->handed[i];
    }
    memset(watch->unmet, 0, sizeof watch->unmet);
    memset(watch->fenced, fenced, sizeof watch->fenced);
    memset(watch->acquired, acquired, sizeof watch->acquired);
}

void simt_watch_warp(simt_runner *runner, int warp)
{
    runner->watch->meeting[warp]++;
    runner->watch->unmet[warp] = 0;
}

void simt_watch_fence(simt_runner *runner, int warp)
{
    simt_watch *watch = runner->watch;
    watch->fenced[warp] = true;
    watch->acquired[warp] = watch->acquired[warp] || watch->handed[warp];
}

// ---- Races ----------------------------------------------------------------------------------

typedef enum access_kind { READS, WRITES, READS_ATOMICALLY } access_kind;

static const char *verb(access_kind kind)
{
    return kind == READS ? "reads" : kind == WRITES ? "writes" : "updates";
}

static const char *place(const simt_watch *watch, size_t offset)
{
    return offset < watch->shared ? "shared memory" : "global memory";
}

static void report_race(simt_runner *runner, size_t offset, access_kind kind, const note *other,
                        const char *what)
{
    const simt_watch *watch = runner->watch;
    const char *where = place(watch, offset);
    if (other->interval < watch->block_begin)
        simt_fail("race: %s %s that thread %u of another block of the launch %s (at %p)",
                  verb(kind), where, thread_of(other), what, (void *)(watch->region + offset));
    simt_fail("race: %s %s that thread %u %s, with no barrier between (at %p)", verb(kind),
              where, thread_of(other), what, (void *)(watch->region + offset));
}

// The thread that runs and the meetings of its warp, as in a note.
static inline uint32_t own_place(const simt_runner *runner)
{
    const uint32_t thread = (uint32_t)runner->current;
    return (uint32_t)runner->watch->meeting[thread / SIMT_WARP] << MEETING_AT |
           thread << THREAD_AT;
}

// Whether `other`, an access of the past, is not ordered before one of now.
static bool unordered(const simt_runner *runner, const note *other, uint32_t own, bool shared)
{
    const simt_watch *watch = runner->watch;
    if (watch->acquired[runner->current / SIMT_WARP]) return false;
    if (other->interval < watch->block_begin) return !shared;
    if (other->interval < watch->interval) return false;
    if (other->who & MANY_WARPS) return true;
    const uint32_t apart = other->who ^ own;
    const bool same_warp = (apart >> WARP_AT & (WARPS - 1)) == 0;
    if (same_warp && apart >> MEETING_AT) return false;
    return other->who & LANES || apart >> THREAD_AT;
}

static inline void note_read(note *read, uint32_t interval, uint32_t own, unsigned bytes)
{
    const uint32_t apart = (read->who ^ own) >> THREAD_AT;
    if (read->interval != interval)
        *read = (note){interval, own | bytes};
    else if (apart == 0)
        read->who |= bytes;
    else if (apart >> (WARP_AT - THREAD_AT) & (WARPS - 1))
        read->who |= bytes | MANY_WARPS;
    else if (apart >> (MEETING_AT - THREAD_AT)) // the warp has met since
        read->who = own | bytes | (read->who & (MANY_WARPS | BYTES));
    else
        read->who |= bytes | LANES;
}

// Handing over: if everyone before set a fence, what they wrote can be seen from here, after another
// fence.
static void hand_over(simt_runner *runner, const note *before, note *now)
{
    simt_watch *watch = runner->watch;
    if (!(before->who & ATOMIC) || before->interval < watch->launch_begin) return;
    if (before->who & RELEASED)
        watch->handed[runner->current / SIMT_WARP] = true;
    else
        now->who &= ~(uint32_t)RELEASED;
}

static void look_at_word(simt_runner *runner, size_t offset, unsigned bytes, access_kind kind)
{
    simt_watch *watch = runner->watch;
    word_notes *notes = &watch->notes[offset / WORD];
    const bool shared = offset < watch->shared, atomic = kind == READS_ATOMICALLY;
    const uint32_t own = own_place(runner);
    if (notes->write.interval >= watch->launch_begin && (notes->write.who & bytes) &&
        !(atomic && (notes->write.who & ATOMIC)) &&
        unordered(runner, &notes->write, own, shared))
        report_race(runner, offset, kind, &notes->write,
                    notes->write.who & ATOMIC ? "updates" : "writes");
    if (kind == READS) {
        note_read(&notes->read, watch->interval, own, bytes);
        return;
    }
    if (notes->read.interval >= watch->launch_begin && (notes->read.who & bytes) &&
        unordered(runner, &notes->read, own, shared))
        report_race(runner, offset, kind, &notes->read, "reads");
    note now = {watch->interval, own | bytes};
    const int warp = runner->current / SIMT_WARP;
    const uint32_t lane = 1u << runner->current % SIMT_WARP;
    if (kind == WRITES && !shared) watch->unmet[warp] |= lane;
    if (atomic) {
        now.who |= ATOMIC;
        // What another lane has written since the warp last met need not come before this.
        if (watch->fenced[warp] && !(watch->unmet[warp] & ~lane)) now.who |= RELEASED;
        hand_over(runner, &notes->write, &now);
    }
    notes->write = now;
}

// ---- One access -----------------------------------------------------------------------------

static bool known_to_host(const simt_runner *runner, uintptr_t address)
{
    const size_t stacks = SIMT_MAX_THREADS * ((size_t)SIMT_STACK_BYTES + 4096);
    return address - (uintptr_t)runner->stacks < stacks ||
           address - (uintptr_t)runner->closure < runner->closure_bytes ||
           address - (uintptr_t)runner->fiber < SIMT_MAX_THREADS * sizeof *runner->fiber ||
           address - (uintptr_t)&__executable_start <
               (uintptr_t)&_end - (uintptr_t)&__executable_start ||
           address - (uintptr_t)&simt_now < sizeof simt_now ||
           address - (uintptr_t)&simt_current < sizeof simt_current;
}

static void look(simt_runner *runner, const void *memory, size_t bytes, access_kind kind,
                 byte_state before, byte_state after)
{
    simt_watch *watch = runner->watch;
    size_t offset = (size_t)((const char *)memory - watch->region);
    if (offset >= watch->extent) {
        if (offset < REGION)
            simt_fail("%s %zu bytes outside any allocation (at %p)", verb(kind), bytes, memory);
        if (!known_to_host(runner, (uintptr_t)memory))
            simt_fail("%s %zu bytes of host memory (at %p)", verb(kind), bytes, memory);
        return;
    }
    uint8_t *state = watch->state + offset;
    for (size_t i = 0; i < bytes; i++) {
        if (state[i] == NOT_ALLOCATED)
            simt_fail("%s %zu bytes of %s outside an allocation (at %p)", verb(kind), bytes,
                      place(watch, offset), memory);
        if (state[i] < before)
            simt_fail("%s %s that %s (at %p)", verb(kind), place(watch, offset),
                      state[i] == ON_ITS_WAY ? "an asynchronous copy has not delivered"
                                             : "nobody has written",
                      memory);
        if (after) state[i] = (uint8_t)after;
    }
    for (size_t i = 0; i < bytes;) {
        size_t at = (offset + i) % WORD, count = WORD - at < bytes - i ? WORD - at : bytes - i;
        look_at_word(runner, offset + i - at, ((1u << count) - 1) << at, kind);
        i += count;
    }
}

void simt_watch_atomic(simt_runner *runner, void *memory, size_t bytes)
{
    look(runner, memory, bytes, READS_ATOMICALLY, WRITTEN, WRITTEN);
}

void simt_watch_copy_begins(simt_runner *runner, void *to, size_t bytes)
{
    look(runner, to, bytes, WRITES, NOT_WRITTEN, ON_ITS_WAY);
}

void simt_watch_copy_arrives(simt_runner *runner, void *to, const void *from, size_t bytes)
{
    if (from) look(runner, from, bytes, READS, WRITTEN, 0);
    look(runner, to, bytes, WRITES, NOT_WRITTEN, WRITTEN);
}

// ---- What the compiler calls ----------------------------------------------------------------

static inline void accessed(const void *memory, size_t bytes, access_kind kind)
{
    simt_runner *runner = simt_current;
    if (!runner || runner->current < 0) return;
    // The hardware knows no access that straddles: the compiler was promised this alignment.
    if (bytes <= 16 && (uintptr_t)memory % bytes != 0)
        simt_fail("%s %zu bytes at %p, which is no multiple of that", verb(kind), bytes,
                  memory);
    look(runner, memory, bytes, kind, kind == READS ? WRITTEN : NOT_WRITTEN,
         kind == READS ? 0 : WRITTEN);
}

#define ACCESS(name, bytes, kind)      \
    void name(void *memory);           \
    void name(void *memory)            \
    {                                  \
        accessed(memory, bytes, kind); \
    }
ACCESS(__tsan_read1, 1, READS)
ACCESS(__tsan_read2, 2, READS)
ACCESS(__tsan_read4, 4, READS)
ACCESS(__tsan_read8, 8, READS)
ACCESS(__tsan_read16, 16, READS)
ACCESS(__tsan_write1, 1, WRITES)
ACCESS(__tsan_write2, 2, WRITES)
ACCESS(__tsan_write4, 4, WRITES)
ACCESS(__tsan_write8, 8, WRITES)
ACCESS(__tsan_write16, 16, WRITES)

#define RANGE(name, kind)                                                        \
    void name(void *memory, size_t bytes);                                       \
    void name(void *memory, size_t bytes)                                        \
    {                                                                            \
        simt_runner *runner = simt_current;                                      \
        if (!runner || runner->current < 0 || !bytes) return;                    \
        look(runner, memory, bytes, kind, kind == READS ? WRITTEN : NOT_WRITTEN, \
             kind == READS ? 0 : WRITTEN);                                       \
    }
RANGE(__tsan_read_range, READS)
RANGE(__tsan_write_range, WRITES)

void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_vptr_update(void **at, void *value);
void __tsan_vptr_update(void **at, void *value)
{
    (void)at, (void)value;
}

#endif
