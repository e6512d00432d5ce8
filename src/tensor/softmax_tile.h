// Softmax attention between a tile of queries and the tiles of keys that it meets, one after the
// other: what exact attention (attention/exact.c) and attention over listed blocks
// (tensor/cpu_block_attention.c) have in common. On the host, for the calling thread.
//
// A tile of logits is kept transposed, [keys][rows], `rows` (a multiple of 16) numbers apart;
// softmax_tile.c says why. A tile that is not full has zero queries at its end, whose results
// nobody reads.
#ifndef MRA_TENSOR_SOFTMAX_TILE_H
#define MRA_TENSOR_SOFTMAX_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/gemm.h"

// A tile of queries or keys: tokens first .. first + count of one head.
typedef struct mra_tile_range {
    int first, count;
    bool last_and_short; // selects the products of the last, shorter tile
} mra_tile_range;

static inline mra_tile_range mra_tile_range_of(int n, int tile, int index)
{
    const int first = index * tile;
    const int count = n - first < tile ? n - first : tile;
    return (mra_tile_range){first, count, count < tile};
}

// Whether any token of the range is unmasked. `mask` is of one sequence, or NULL.
static inline bool mra_tile_any(const uint8_t *mask, mra_tile_range range)
{
    if (!mask) return true;
    for (int i = 0; i < range.count; i++)
        if (mask[range.first + i]) return true;
    return false;
}

// Products of one pair of tiles; an index says whether a tile is the last, shorter one.
typedef struct mra_tile_products {
    mra_small_gemm logits[2];     // [keys, rows] = K [keys, d] (Q^T) [d, rows]
    mra_small_gemm output[2];     // [rows, d] += (P^T)^T V
    mra_small_gemm to_keys[2][2]; // [keys, d] += P^T [keys, rows] dZ [rows, d]; [key][row]
    mra_small_gemm to_rows[2][2]; // [rows, d] += (dS^T)^T K
} mra_tile_products;

// For n queries and keys of d dimensions cut into tiles of `rows` queries (of which the last
// tile has fewer) and `keys` keys; `stride` is the width of a transposed tile in memory.
mra_tile_products mra_tile_products_prepare(int n, int d, int rows, int stride, int keys);

// One thread's memory; laid out by mra_softmax_tile_at.
typedef struct mra_softmax_tile {
    int rows, d;
    float *query;       // [d][rows], times the logit scale
    float *output_grad; // [d][rows]: dZ transposed
    float *weight;      // [keys][rows]: logits, then exp(logit - row max), then P
    float *weight_grad; // [keys][rows]: dP, then dS
    float *output;      // [rows][d]
    float *row_max;     // [rows]
    float *row_sum;     // [rows]: of the exponentials; in the backward pass its inverse
    float *row_factor;  // [rows]: forward exp(old maximum - new); backward D
} mra_softmax_tile;

// How many floats the memory of a tile takes, and the tile in such memory (64-byte aligned).
size_t mra_softmax_tile_floats(int rows, int keys, int d);
mra_softmax_tile mra_softmax_tile_at(float *memory, int rows, int keys, int d);

// to[d][stride] = factor * (from[count][d])^T; columns count .. stride become 0.
void mra_tile_transpose(float *to, int stride, const float *from, int count, int d,
                        float factor);

// Forward. Begins with no key seen; takes in `keys` keys whose logits lie in tile->weight, which
// becomes exp(logit - row max): the caller then adds their values to tile->output by the product
// `output`. keep[keys] (NULL: all) says which keys are visible; a logit of -infinity takes a
// single pair out. A row that has seen nothing has row_sum 0.
void mra_tile_begin(const mra_softmax_tile *tile);
void mra_tile_absorb(const mra_softmax_tile *tile, int keys, const uint8_t *keep);

// Row i of the result, of the `count` rows that begin at row 0 of these arrays: z = output / sum,
// row_max, row_sum. A row that is masked or has seen nothing gets z = 0, row_max = infinity,
// row_sum = 0.
void mra_tile_finish(const mra_softmax_tile *tile, int count, const uint8_t *mask, float *z,
                     float *row_max, float *row_sum);

// Backward. What a tile of queries needs of its `count` rows q, z, dz [count][d], and row_max
// and row_sum as mra_tile_finish left them. dlse (NULL: 0): the gradient of log(row_sum) +
// row_max.
typedef struct mra_tile_rows {
    const float *q, *z, *dz, *dlse;
    const float *row_max, *row_sum;
} mra_tile_rows;

void mra_tile_load(const mra_softmax_tile *tile, int count, float logit_scale,
                   const mra_tile_rows *rows);
// Logits in tile->weight to P, and dP in tile->weight_grad to logit_scale dS, in place.
void mra_tile_gradients(const mra_softmax_tile *tile, int keys, const uint8_t *keep,
                        float logit_scale);

#endif
