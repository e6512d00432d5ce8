// What the forward and the backward pass of exact attention share: how the problem is cut, the
// products of one pair of tiles, and each thread's scratch memory. Inner to exact.c and
// exact_backward.c.
#ifndef MRA_ATTENTION_EXACT_TILES_H
#define MRA_ATTENTION_EXACT_TILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attention/exact.h"
#include "tensor/gemm.h"

// Largest tile: 128 queries by 64 keys of logits are 32 KiB, and with the tiles of Q, K, V and
// O that they meet (16 or 32 KiB each at d = 64) they stay in a level-two cache of 256 KiB or
// more.
enum { MRA_EXACT_ROWS = 128, MRA_EXACT_KEYS = 64 };

// Products of one tile pair; the index says whether the tile is the last, shorter one.
typedef struct mra_exact_products {
    mra_small_gemm logits[2];     // [keys, rows] = K [keys, d] (Q^T) [d, rows]
    mra_small_gemm output[2];     // [rows, d] += (P^T)^T V
    mra_small_gemm to_keys[2][2]; // [keys, d] += P^T [keys, rows] dZ [rows, d]; [key][row]
    mra_small_gemm to_rows[2][2]; // [rows, d] += (dS^T)^T K
} mra_exact_products;

// One thread's memory. A tile of logits is kept transposed, [keys][rows]: see exact.c.
typedef struct mra_exact_scratch {
    float *query;       // [d][rows], times the logit scale
    float *output_grad; // [d][rows]: dZ transposed
    float *weight;      // [keys][rows]: logits, then exp(logit - row max), then P
    float *weight_grad; // [keys][rows]: dP, then dS
    float *output;      // [rows][d]
    float *row_max;     // [rows]
    float *row_sum;     // [rows]: of the exponentials; in the backward pass its inverse
    float *row_factor;  // [rows]: forward exp(old maximum - new); backward D
} mra_exact_scratch;

struct mra_exact {
    mra_shape shape;
    float logit_scale;
    int threads;
    int rows, keys;           // height and width of a tile; rows is a multiple of 16
    int row_tiles, key_tiles; // per head
    int chunks;               // backward: the key tiles of a head are cut into so many parts
    mra_exact_products products;
    float *row_max, *row_sum, *row_lse; // [batch][heads][n], of the last forward pass
    float *partial;                     // [chunks - 1][batch][heads][n][d], backward only
    float *scratch_memory;
    mra_exact_scratch *scratch; // [threads]
};

// A tile of queries or keys: tokens first .. first + count of one head.
typedef struct mra_exact_range {
    int first, count;
    bool last_and_short;
} mra_exact_range;

static inline mra_exact_range mra_exact_tile(int n, int tile, int index)
{
    const int first = index * tile;
    const int count = n - first < tile ? n - first : tile;
    return (mra_exact_range){first, count, count < tile};
}

// Whether any token of the range is unmasked. `mask` is of one sequence, or NULL.
static inline bool mra_exact_any(const uint8_t *mask, mra_exact_range range)
{
    if (!mask) return true;
    for (int i = 0; i < range.count; i++)
        if (mask[range.first + i]) return true;
    return false;
}

// How many parts the keys of a head are cut into for the backward pass.
int mra_exact_chunks(const mra_exact *exact);

// to[d][stride] = factor * (from[count][d])^T; columns count .. stride become 0.
static inline void mra_exact_transpose(float *to, int stride, const float *from, int count,
                                       int d, float factor)
{
    for (int c = 0; c < d; c++) {
        float *row = to + (size_t)c * (size_t)stride;
        for (int i = 0; i < count; i++)
            row[i] = factor * from[(size_t)i * (size_t)d + (size_t)c];
        for (int i = count; i < stride; i++) row[i] = 0.0f;
    }
}

#endif
