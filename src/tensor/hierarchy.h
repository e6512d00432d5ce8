// Hierarchical attention over a sequence, as one operation: shapes and rule. The method is described
// in src/attention/method_htransformer1d.c.
//
// The n tokens are padded, with tokens that nobody sees, to block * 2^doublings. Level l has rows
// that stand for 2^l tokens each: Q and K are means over the visible ones of them, V is their sum
// and c their number. At each level l < levels a block of `block` rows sees the keys of its
// sibling, the other block of the aligned pair; at level 0 each block sees itself as well. With
// I = i >> l the row of token i and S(i) the rows that it sees at its levels,
//
//     z_i = sum of exp(scale <Q_I, K_J>) V_J / sum of exp(scale <Q_I, K_J>) c_J  over J in S(i).
//
// levels = doublings covers every pair of tokens once.
//
// `published`: the weights of each of these blocks are divided by the row's largest of that block,
// and the blocks added as they are; a visible key counts 1 in the divisor, not c_J, and 1e-8 is added
// to the divisor; a block of keys without any visible adds `block` to the divisor; a mean is that of
// the two halves' means where both have a visible token. The maximum has a gradient.
#ifndef MRA_TENSOR_HIERARCHY_H
#define MRA_TENSOR_HIERARCHY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MRA_HIERARCHY_BLOCK = 512 }; // the largest block

typedef struct mra_hierarchy {
    size_t batch;
    int heads, n, d;
    int block, doublings, levels; // levels <= doublings
    float scale;
    bool published;
} mra_hierarchy;

typedef struct mra_hierarchy_operands {
    const float *q, *k, *v; // [batch, heads, n, d]
    const uint8_t *mask;    // [batch, n] or NULL
    float *z;               // [batch, heads, n, d]: 0 in rows that are masked or see nothing
    // [batch, heads, n]: the logarithm of the divisor (infinity in rows of 0), or, published, the
    // divisor.
    float *divisor;
    const float *dz;    // backward only, as are the next
    float *gradient[3]; // of q, k, v; any may be NULL, and they may be the same array
    bool adds[3];       // to what it holds, in the order q, k, v
} mra_hierarchy_operands;

#endif
