// # Shared and device memory
//
// A shared array is declared when the first thread of a block comes to its declaration; it is then
// filled with ones, NaN as a float, and has at least 64 bytes that nobody may touch on both
// sides. Device memory begins and ends exactly where it was asked to. Who watches over the edges
// differs: AddressSanitizer, or watch.c.

#include "simt/state.h"

#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

enum {
    EDGE = 64,
    SHARED_ROOM = SIMT_SHARED_BYTES + (SIMT_ARRAYS + 2) * 2 * EDGE + 1024,
    ALIGNMENT = 256
};

// A piece of the watched region. Pieces follow one another without gaps.
typedef struct simt_piece {
    size_t begin, bytes; // offset, and how much was asked for
    size_t room;         // bytes to the next piece
    bool used;
} simt_piece;

typedef struct simt_heap {
    char *region; // NULL: memory comes from malloc
    size_t size, used;
    simt_piece *piece;
    int pieces, capacity;
} simt_heap;

bool simt_memory_create(simt_runner *runner)
{
    simt_heap *heap = runner->heap = calloc(1, sizeof *heap);
    if (!heap) return false;
    heap->region = simt_watch_region(runner, &heap->size);
    if (heap->region) {
        heap->used = (SHARED_ROOM + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        runner->shared = heap->region;
        return simt_watch_extend(runner, heap->used);
    }
    runner->shared = aligned_alloc(ALIGNMENT, (SHARED_ROOM / ALIGNMENT + 1) * ALIGNMENT);
    return runner->shared != NULL;
}

void simt_memory_free(simt_runner *runner)
{
    if (!runner->heap) return;
#ifdef __SANITIZE_ADDRESS__
    if (runner->shared) __asan_unpoison_memory_region(runner->shared, SHARED_ROOM);
#endif
    if (!runner->heap->region) free(runner->shared);
    free(runner->heap->piece);
    free(runner->heap);
}

// ---- Shared memory --------------------------------------------------------------------------

static void *declare(simt_runner *runner, size_t bytes, size_t alignment)
{
    size_t begin = (runner->shared_used + EDGE + alignment - 1) / alignment * alignment;
    char *memory = runner->shared + begin;
    runner->shared_used = begin + bytes + EDGE;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(memory, bytes);
#endif
    memset(memory, 0xFF, bytes);
    simt_watch_allowed(runner, memory, bytes, true, false);
    return memory;
}

void simt_shared_begin(simt_runner *runner)
{
#ifdef __SANITIZE_ADDRESS__
    __asan_poison_memory_region(runner->shared, SHARED_ROOM);
#else
    simt_watch_allowed(runner, runner->shared, runner->shared_used, false, false);
#endif
    runner->arrays = 0;
    runner->shared_used = runner->static_used = 0;
    simt_array *dynamic = &runner->array[runner->arrays++];
    dynamic->key = NULL;
    dynamic->bytes = runner->dynamic_bytes;
    dynamic->memory = declare(runner, runner->dynamic_bytes, 128);
}

void *simt_shared_array(const void *key, size_t bytes, size_t alignment, const char *name)
{
    simt_runner *runner = simt_current;
    for (int i = 1; i < runner->arrays; i++)
        if (runner->array[i].key == key) return runner->array[i].memory;
    if (runner->arrays == SIMT_ARRAYS)
        simt_fail("shared array %s: a kernel has at most %d", name, SIMT_ARRAYS - 1);
    runner->static_used += bytes;
    if (runner->static_used > SIMT_STATIC_BYTES ||
        runner->static_used + runner->dynamic_bytes > SIMT_SHARED_BYTES)
        simt_fail("shared array %s: %zu declared and %zu dynamic bytes; at most %d declared, "
                  "%d in all",
                  name, runner->static_used, runner->dynamic_bytes, SIMT_STATIC_BYTES,
                  SIMT_SHARED_BYTES);
    simt_array *array = &runner->array[runner->arrays++];
    *array = (simt_array){key, declare(runner, bytes, alignment < 16 ? 16 : alignment), bytes};
    return array->memory;
}

void *simt_dynamic_shared(void)
{
    return simt_current->array[0].memory;
}

// ---- Device memory --------------------------------------------------------------------------

static simt_piece *find_room(simt_heap *heap, size_t room)
{
    for (int i = 0; i < heap->pieces; i++)
        if (!heap->piece[i].used && heap->piece[i].room >= room) return &heap->piece[i];
    return NULL;
}

static simt_piece *append(simt_runner *runner, size_t room)
{
    simt_heap *heap = runner->heap;
    if (room > heap->size - heap->used || !simt_watch_extend(runner, heap->used + room))
        return NULL;
    if (heap->pieces == heap->capacity) {
        int capacity = heap->capacity ? 2 * heap->capacity : 64;
        simt_piece *larger = realloc(heap->piece, (size_t)capacity * sizeof *larger);
        if (!larger) return NULL;
        heap->piece = larger;
        heap->capacity = capacity;
    }
    simt_piece *piece = &heap->piece[heap->pieces++];
    *piece = (simt_piece){.begin = heap->used, .room = room};
    heap->used += room;
    return piece;
}

static void *watched_malloc(simt_runner *runner, size_t bytes, bool zeroed)
{
    simt_heap *heap = runner->heap;
    if (bytes > heap->size) return NULL;
    size_t room = (bytes + EDGE + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    simt_piece *piece = find_room(heap, room);
    if (!piece) piece = append(runner, room);
    if (!piece) return NULL;
    piece->used = true;
    piece->bytes = bytes;
    char *memory = heap->region + piece->begin;
    memset(memory, zeroed ? 0 : 0xFF, bytes);
    simt_watch_allowed(runner, memory, bytes, true, zeroed);
    return memory;
}

void *simt_malloc(simt_runner *runner, size_t bytes, bool zeroed)
{
    if (runner->heap->region) return watched_malloc(runner, bytes, zeroed);
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, bytes) != 0) return NULL;
    if (memory) memset(memory, zeroed ? 0 : 0xFF, bytes);
    return memory;
}

void simt_free(simt_runner *runner, void *memory)
{
    simt_heap *heap = runner->heap;
    if (!heap->region) {
        free(memory);
        return;
    }
    for (int i = 0; memory && i < heap->pieces; i++) {
        simt_piece *piece = &heap->piece[i];
        if (!piece->used || heap->region + piece->begin != (char *)memory) continue;
        piece->used = false;
        simt_watch_allowed(runner, memory, piece->bytes, false, false);
        return;
    }
}

size_t simt_free_bytes(const simt_runner *runner)
{
    return runner->heap->size - runner->heap->used;
}

void simt_copy(simt_runner *runner, void *to, const void *from, size_t bytes)
{
    if (!bytes) return;
    if (from)
        memcpy(to, from, bytes);
    else
        memset(to, 0, bytes);
    simt_watch_allowed(runner, to, bytes, true, true);
}

// ---- Asynchronous copies --------------------------------------------------------------------
//
// They read and write when their group is waited for, the latest moment that the hardware is free
// to choose. A thread that looks earlier finds what was there before.

void simt_copy_async(void *to, const void *from, size_t bytes, bool present, const char *file,
                     int line)
{
    simt_runner *runner = simt_current;
    simt_fiber *fiber = &runner->fiber[runner->current];
    if (!fiber->copy) fiber->copy = calloc(SIMT_COPIES, sizeof *fiber->copy);
    if (!fiber->copy || fiber->copies == SIMT_COPIES)
        simt_fail("%s:%d: more than %d asynchronous copies under way", file, line, SIMT_COPIES);
    if ((uintptr_t)to % bytes || (present && (uintptr_t)from % bytes))
        simt_fail("%s:%d: an asynchronous copy of %zu bytes between addresses that are no "
                  "multiples of it",
                  file, line, bytes);
    if ((char *)to < runner->shared || (char *)to >= runner->shared + SHARED_ROOM)
        simt_fail("%s:%d: an asynchronous copy to other than shared memory", file, line);
    simt_watch_copy_begins(runner, to, bytes);
    fiber->copy[fiber->copies++] =
        (simt_pending){to, from, (unsigned)bytes, fiber->group, present};
}

void simt_copy_commit(void)
{
    simt_current->fiber[simt_current->current].group++;
}

void simt_copy_wait(int pending)
{
    simt_runner *runner = simt_current;
    simt_fiber *fiber = &runner->fiber[runner->current];
    unsigned kept = 0;
    for (unsigned i = 0; i < fiber->copies; i++) {
        simt_pending copy = fiber->copy[i];
        if ((int)(fiber->group - copy.group) <= pending) {
            fiber->copy[kept++] = copy; // not committed, or among the last that are
            continue;
        }
        simt_watch_copy_arrives(runner, copy.to, copy.present ? copy.from : NULL, copy.bytes);
        if (copy.present)
            memcpy(copy.to, copy.from, copy.bytes);
        else
            memset(copy.to, 0, copy.bytes);
    }
    fiber->copies = kept;
}
