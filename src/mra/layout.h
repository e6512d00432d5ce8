// Laying several arrays out in one piece of memory.
//
// The size of a layout and the layout itself come from the same code: run it once without
// memory to add up the bytes, and once with memory to place the arrays.
#ifndef MRA_MRA_LAYOUT_H
#define MRA_MRA_LAYOUT_H

#include <stddef.h>

typedef struct mra_layout {
    char *memory; // 64-byte aligned, or NULL: only add up
    size_t used;  // bytes so far, a multiple of 64
} mra_layout;

// Room for `count` elements of `size` bytes, 64-byte aligned; NULL if the layout has no memory.
static inline void *mra_layout_take(mra_layout *layout, size_t count, size_t size)
{
    void *place = layout->memory == NULL ? NULL : layout->memory + layout->used;
    layout->used += (count * size + 63) / 64 * 64;
    return place;
}

#endif
