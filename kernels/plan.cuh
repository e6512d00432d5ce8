// What shape and options fix for the attention kernels, and where their arrays lie on the
// device. Passed to every kernel by value.
#ifndef MRA_KERNELS_PLAN_CUH
#define MRA_KERNELS_PLAN_CUH

#include <stddef.h>

#include "tile.cuh"

namespace MRA_BACKEND::attention
{

enum {
    ITEM_BOXES = 16, // refined boxes of a row, or of a column, that one warp takes
    DIGITS = 2048    // bins of a histogram of the selection
};

// The refined boxes of a head by rows (entry: their columns) or by columns (entry: their rows),
// ascending, and how they are dealt to warps. [heads, ...] each.
struct box_list {
    int *start;      // [blocks + 1]: the boxes of line i are start[i] .. start[i + 1] - 1
    int *entry;      // [budget]
    int *item_start; // [blocks + 1]: the items of line i
    int *item_line;  // [items]
    int *arrived;    // [2, blocks]: finished items of a line that has several; 0 between passes
    float *partial;  // [2 (items - blocks), ...]: results of items of lines that have several
};

struct plan {
    int batch, heads, n, d; // heads: batch times heads a sequence
    int first_head;         // a launch works on the heads first_head .. first_head +
    int launch_heads;       // launch_heads - 1
    int blocks;             // ceil(n / 32)
    int words;              // ceil(blocks / 32)
    int budget;             // boxes refined in a head without padding, at most blocks^2
    double blocks_refined;  // per row of boxes that counts
    bool count_padding;     // all rows of boxes count, not those alone that hold a token
    int items;              // at most so many items in a head, of rows or of columns
    int first, diagonal;    // priors
    bool row_ranking, sparse;
    float logit_scale;
    const int *order;    // [n]: permuted token t is token order[t] of the arrays; or NULL
    const uint8_t *mask; // [batch, n] or NULL

    // Left by the forward pass. Heads are the first dimension of all but `present`.
    uint32_t *present;      // [batch, blocks]: bit r: token r of the block is there
    float *query, *key;     // [blocks, d]: means over the present tokens of a block; 0: none
    float *value;           // [blocks, d]: sums over them
    float *logit;           // [blocks, blocks]: coarse logits
    float *row_largest;     // [blocks]: largest coarse logit of a row with a key
    uint32_t *chosen;       // [blocks, words]: bit y of row x: box (x, y) is refined
    box_list rows, columns; // columns: made by the backward pass
    float *coarse_max;      // [blocks]: largest logit of a row's coarse boxes; or -infinity
    float *coarse_sum;      // [blocks]: normaliser of the coarse part, relative to that
    float *coarse_value;    // [blocks, d]: its sum of values
    float *row_max;         // [blocks, 32]: the running maximum at its end
    float *row_inverse;     // [blocks, 32]: 1 / normaliser; 0 for rows without output
    int *broken;            // one per head: a pooled number or coarse logit is not finite

    // Working memory of the backward pass.
    float *row_product;            // [blocks, 32]: <dz_i, z_i>
    float *pull, *pull_product;    // [blocks, d], [blocks]: what rows ask of coarse boxes
    float *dquery, *dkey, *dvalue; // [blocks, d]: gradients of pooled rows
};

// Token r of block x in the caller's arrays.
__device__ inline int token_of(const plan &p, int x, int r)
{
    int t = x * TILE + r;
    return p.order ? p.order[t] : t;
}

__device__ inline uint32_t present_of(const plan &p, int head, int x)
{
    return p.present[(size_t)(head / (p.heads / p.batch)) * p.blocks + x];
}

// Where a head's part of an array [heads, count, width] begins.
template <class T> __device__ inline T *of_head(T *array, int head, size_t size)
{
    return array + (size_t)head * size;
}

// The 32 rows of block x of array[n, D] to a tile in shared memory, by one warp, or as worker
// `worker` of `workers`; zeros for absent tokens. Asynchronous: copy_commit, copy_wait and a
// barrier are the caller's.
template <class E, int D>
__device__ inline void load_block(const plan &p, E *tile, const E *array, int x,
                                  uint32_t present, int worker, int workers)
{
    const int width = 16 / (int)sizeof(E), pieces = D / width;
#pragma unroll 4
    for (int i = worker; i < TILE * pieces; i += workers) {
        int r = i / pieces, c = i % pieces * width;
        bool there = present >> r & 1;
        const E *from = there ? array + (size_t)token_of(p, x, r) * D + c : array;
        copy_async(tile + r * tile_stride<E, D>::value + c, from, there);
    }
}

template <class E, int D>
__device__ inline void load_block(const plan &p, E *tile, const E *array, int x,
                                  uint32_t present)
{
    load_block<E, D>(p, tile, array, x, present, threadIdx.x % 32, 32);
}

// Rows first .. first + 31 of pooled[count, D]; zeros beyond the end.
template <int D>
__device__ inline void load_pooled(float *tile, const float *pooled, int first, int count)
{
#pragma unroll 4
    for (int i = threadIdx.x % 32; i < TILE * (D / 4); i += 32) {
        int r = i / (D / 4), c = i % (D / 4) * 4;
        bool there = first + r < count;
        const float *from = there ? pooled + (size_t)(first + r) * D + c : pooled;
        copy_async(tile + r * tile_stride<float, D>::value + c, from, there);
    }
}

} // namespace MRA_BACKEND::attention
#endif
