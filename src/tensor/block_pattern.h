// Which pairs of query and key attend to one another, as lists of blocks: what the operation
// mra_block_attention (tensor/tensor.h) and the kernel behind it are told.
//
// Queries and keys 0 .. n-1 are cut into blocks of `block` tokens, the last perhaps shorter:
// blocks = ceil(n / block). Each block of queries has a list of entries, a block of keys each. An
// entry lets all its pairs attend, or, if it is marked conditional, those pairs (i, j) with
// -window <= j - i <= window - fewer, or i < globals, or j < globals. A pair that two entries of a list let through
// counts twice.
#ifndef MRA_TENSOR_BLOCK_PATTERN_H
#define MRA_TENSOR_BLOCK_PATTERN_H

#include <stdint.h>

enum { MRA_BLOCK_LARGEST = 512 };

typedef struct mra_block_pattern {
    int n;     // tokens that the lists were made for
    int block; // 1 .. MRA_BLOCK_LARGEST
    int lists; // per block of queries: 1, or one for each head, or for each head of each example
    int window, globals; // of conditional entries; at least 0
    int fewer;           // keys that the window lacks on its right; 0 .. window
    // Device memory of the caller's, unchanged while a tape holds a node that uses it. The list of
    // query block x for list number l (0, the head, or example * heads + head) is
    // entry[start[l blocks + x]] up to, without, entry[start[l blocks + x + 1]]; `start` has
    // lists * blocks + 1 numbers. An entry is 2 * (block of keys), plus 1 if it is conditional.
    const int32_t *start, *entry;
} mra_block_pattern;

static inline int mra_pattern_blocks(const mra_block_pattern *pattern)
{
    return (pattern->n + pattern->block - 1) / pattern->block;
}

#endif
