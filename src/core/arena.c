// An arena as a list of chunks, of which the last one serves requests.
//
// Growth is geometric: a new chunk is at least as large as everything reserved before, so that
// a step that needs b bytes asks the system O(log b) times. A reset that finds several chunks
// leaves them for the next request to merge: from then on one chunk holds the whole step, and
// `requests` stands still.

#include "core/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, SMALLEST_CHUNK = 1 << 16 };

struct mra_arena_chunk {
    mra_arena_chunk *next;
    size_t capacity, used;
    char *memory; // capacity bytes, aligned
};

// Rounds up to the alignment; false when that overflows.
static bool round_up(size_t bytes, size_t *rounded)
{
    if (bytes > SIZE_MAX - ALIGNMENT) return false;
    *rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return true;
}

static mra_arena_chunk *chunk_create(size_t capacity)
{
    mra_arena_chunk *chunk = malloc(sizeof *chunk);
    if (!chunk) return NULL;
    chunk->memory = aligned_alloc(ALIGNMENT, capacity);
    if (!chunk->memory) {
        free(chunk);
        return NULL;
    }
    chunk->next = NULL;
    chunk->capacity = capacity;
    chunk->used = 0;
    return chunk;
}

static void release_chunks(mra_arena *arena)
{
    for (mra_arena_chunk *chunk = arena->first; chunk;) {
        mra_arena_chunk *next = chunk->next;
        free(chunk->memory);
        free(chunk);
        chunk = next;
    }
    arena->first = arena->current = NULL;
    arena->reserved = 0;
}

// Adds a chunk that holds at least `bytes`. An arena that was reset while it had several chunks
// gives them back first and asks for their total in one piece.
static bool add_chunk(mra_arena *arena, size_t bytes)
{
    size_t capacity = bytes > SMALLEST_CHUNK ? bytes : SMALLEST_CHUNK;
    if (capacity < arena->reserved) capacity = arena->reserved;
    if (arena->used == 0) release_chunks(arena);
    arena->requests++;
    mra_arena_chunk *chunk = chunk_create(capacity);
    if (!chunk && capacity > bytes && bytes > 0) chunk = chunk_create(capacity = bytes);
    if (!chunk) return false;
    if (arena->current)
        arena->current->next = chunk;
    else
        arena->first = chunk;
    arena->current = chunk;
    arena->reserved += capacity;
    return true;
}

void *mra_arena_alloc(mra_arena *arena, size_t bytes)
{
    size_t rounded;
    if (!round_up(bytes ? bytes : 1, &rounded)) return NULL;
    mra_arena_chunk *chunk = arena->current;
    bool merge = arena->used == 0 && arena->first != arena->current;
    if (!chunk || merge || chunk->capacity - chunk->used < rounded) {
        if (!add_chunk(arena, rounded)) return NULL;
        chunk = arena->current;
    }
    void *memory = chunk->memory + chunk->used;
    chunk->used += rounded;
    arena->used += rounded;
    if (arena->used > arena->peak) arena->peak = arena->used;
    return memory;
}

void *mra_arena_calloc(mra_arena *arena, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size) return NULL;
    void *memory = mra_arena_alloc(arena, count * size);
    if (memory) memset(memory, 0, count * size);
    return memory;
}

void mra_arena_reset(mra_arena *arena)
{
    for (mra_arena_chunk *chunk = arena->first; chunk; chunk = chunk->next) chunk->used = 0;
    arena->used = 0;
}

void mra_arena_free(mra_arena *arena)
{
    release_chunks(arena);
    arena->used = 0;
}

void *mra_aligned_calloc(size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size) return NULL;
    size_t bytes;
    if (!round_up(count && size ? count * size : 1, &bytes)) return NULL;
    void *memory = aligned_alloc(ALIGNMENT, bytes);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

void mra_aligned_free(void *memory)
{
    free(memory);
}
