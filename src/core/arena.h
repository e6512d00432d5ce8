// An arena: memory that is handed out piece by piece and given back all at once.
//
// A training step makes the same tensors again and again. From an arena they cost a pointer
// addition; resetting the arena after the step forgets them together. The chunks stay, so that
// after the largest step has been seen no later step asks the system for memory.
#ifndef MRA_CORE_ARENA_H
#define MRA_CORE_ARENA_H

#include <stddef.h>

typedef struct mra_arena_chunk mra_arena_chunk;

typedef struct mra_arena {
    mra_arena_chunk *first;   // all chunks, oldest first
    mra_arena_chunk *current; // the one that serves requests
    size_t used;              // bytes handed out since the last reset, alignment included
    size_t peak;              // the largest `used` ever seen
    size_t reserved;          // bytes held from the system
    size_t requests;          // how often the system was asked for a chunk
} mra_arena;

// An arena needs no set-up beyond zeroing: `mra_arena arena = {0};`.

// `bytes` of uninitialised memory, aligned to 64 bytes (a cache line, an AVX-512 register),
// valid until the next reset or free. NULL when the system has none left. `bytes` may be 0.
void *mra_arena_alloc(mra_arena *arena, size_t bytes);
// The same, zeroed; count * size is checked for overflow (NULL).
void *mra_arena_calloc(mra_arena *arena, size_t count, size_t size);
// Forgets every piece and keeps the chunks. If several chunks were needed they are merged into
// one chunk of their total size at the next request, so that use settles to a single chunk.
void mra_arena_reset(mra_arena *arena);
// Gives every chunk back to the system; the arena may be used again afterwards.
void mra_arena_free(mra_arena *arena);

// A plain aligned allocation outside any arena (64 bytes), zeroed; free with mra_aligned_free.
void *mra_aligned_calloc(size_t count, size_t size);
void mra_aligned_free(void *memory);

#endif
