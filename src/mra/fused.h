// The fused path for two scales, R = {s, 1}: MRA-2 and MRA-2-s, forward and backward
// (attention.c is its chapter).
//
// Everything here works on one head at a time. A plan holds what shape and options fix; a
// record holds what the forward pass of a head leaves for its backward pass; a head is the
// workspace of a head under way.
#ifndef MRA_MRA_FUSED_H
#define MRA_MRA_FUSED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mra/mra.h"
#include "tensor/gemm.h"

// A product of fixed shape, in pieces of its rows (fused_product.c).
typedef struct mra_fused_product {
    mra_small_gemm gemm;
    int pieces;
    size_t a_step, c_step; // floats from piece to piece
} mra_fused_product;

// Blocks that the next tile will need, asked for piece by piece.
typedef struct mra_fused_ahead {
    const float *rows[4]; // [s, d] each
    size_t size, next;    // floats in a block; where the block at hand has got to
    int blocks, block;    // how many; the one at hand
    int share;            // cache lines to ask for before each piece
} mra_fused_ahead;

// What shape and options fix. Read only once made.
typedef struct mra_fused_plan {
    mra_options options;
    int n, d;
    int scale;  // s: tokens in a block
    int blocks; // ceil(n / s); the last one may be ragged
    int lanes;  // s rounded up to a multiple of MRA_LANES: queries in a tile, padding included
    int chunk;  // tiles whose logits are held at once in the forward pass
    size_t budget;     // boxes refined in a head without padding, at most blocks^2
    bool all_refined;  // budget == blocks^2: exact attention
    bool scattered;    // keys and values of a head exceed a cache: fetch blocks ahead
    float logit_scale; // factor of <q, k>
    // Permuted token t is token order[t] of the arrays; NULL: as they are. Borrowed.
    const int32_t *order;

    // Products of a tile: [s, lanes] = [s, d] [d, lanes], keys times transposed queries; and
    // what a transposed tile gives to its queries, [s, d] += [s, lanes]^T [s, d], and to its
    // keys, [s, d] += [s, lanes] [s, d].
    mra_fused_product inner, to_row, to_key;
    // The coarse part, in squares of 64 boxes. Indices: sizes of the two dimensions that count
    // boxes, 0: 64, 1: what is left for the ragged last square.
    mra_small_gemm outer[2][2];  // [rows, columns] = [rows, d] [d, columns]
    mra_small_gemm along[2][2];  // [rows, d] += [rows, columns] [columns, d]
    mra_small_gemm across[2][2]; // [columns, d] += [rows, columns]^T [rows, d]
} mra_fused_plan;

// What the forward pass leaves for the backward pass, one per head.
typedef struct mra_fused_record {
    float *query, *key; // [blocks, d]: means over the unmasked tokens of a block; 0: none
    float *value;       // [blocks, d]: sums over them
    int32_t *tokens;    // [blocks]: how many there are
    float *weight;      // [blocks]: the same as floats
    int32_t *row_start; // [blocks + 1]: where in `column` the refined boxes of a row begin
    int32_t *column;    // [budget]: their y, ascending within a row
    float *coarse_max;  // [blocks]: largest logit of a row's coarse boxes; -INFINITY: none
    float *row_max;     // [blocks, lanes]: the running maximum m_i at its end
    // [blocks, lanes]: 1 / normaliser; 0 for masked and empty rows and for padding.
    float *row_inverse;
    long long coarse_boxes, fine_entries, empty_rows; // for mra_statistics
} mra_fused_record;

// Buffers of one thread.
typedef struct mra_fused_scratch {
    float *tile;      // [chunk, s, lanes]: transposed logits, then weights
    float *tile_grad; // [s, lanes]: their gradients
    float *query;     // [d, lanes]: transposed queries of the block of rows at hand
    float *out;     // [s, d]: what a block of rows, or the values of a block of keys, add up to
    float *out_key; // [s, d]: the keys of a block
} mra_fused_scratch;

enum { MRA_FUSED_Q, MRA_FUSED_K, MRA_FUSED_V, MRA_FUSED_DZ, MRA_FUSED_ARRAYS };

// Workspace of one head under way. Inside a head, loops run on `threads` threads, each with its
// scratch.
typedef struct mra_fused_head {
    const mra_fused_plan *plan;
    mra_fused_record *record;
    int threads;
    mra_fused_scratch *scratch; // [threads]

    // The arrays q, k, v, dz [n, d]; where the s rows of each block lie, [s, d] without gaps;
    // and room [blocks, s, d] for the blocks that cannot be used in place.
    const float *array[MRA_FUSED_ARRAYS];
    const float **rows[MRA_FUSED_ARRAYS];
    float *packed[MRA_FUSED_ARRAYS];
    const uint8_t *mask; // [n] or NULL
    uint8_t *present;    // [blocks, s]: 1 for unmasked tokens

    // [blocks, blocks]: coarse logits, then the weights of the boxes that stay coarse; and the
    // ranking, in the backward pass the gradients of the coarse logits.
    float *logit, *score;
    int32_t *order;                    // [2, blocks, blocks]: scratch of mra_select_largest
    float *spread_left, *spread_right; // [blocks, 2 d]: see fused_spread.c; else NULL
    float *shortlist;                 // [blocks * blocks / MRA_FUSED_SHARE]: see fused_select.c
    float *key_panels, *value_panels; // [squares, d, 64]: pooled keys and values, transposed
    float *coarse_sum;   // [blocks]: normaliser of the coarse part, relative to exp(coarse_max)
    float *coarse_value; // [blocks, d]: its sum of values

    // [packs, d, lanes]: one pack, or one for each block where threads share a head.
    float *query_transposed, *dz_transposed;
    int packs;
    float *row_product;            // [blocks, lanes]: <dz_i, z_i>
    float *pull, *pull_product;    // [blocks, d], [blocks]: what rows ask of coarse boxes
    float *dquery, *dkey, *dvalue; // [blocks, d]: gradients of pooled queries, keys, values
    // [blocks, s, d] where one thread has the whole head; else NULL.
    float *dkey_fine, *dvalue_fine;
    // Refined boxes by columns, rows ascending: [blocks + 1] and [budget].
    int32_t *column_start, *column_row;

    float *z;
    const float *z_read;
    float *dq, *dk, *dv;
    bool finite; // false once something infinite or NaN was met
} mra_fused_head;

// Prepares the plan. `order` ([n] or NULL) is borrowed. The options have been checked and ask
// for scales = 2 with 2 <= s <= MRA_FUSED_LARGEST, or for scales = 1 (exact attention: every
// box of a 32-grid is refined).
enum { MRA_FUSED_LARGEST = 128, MRA_FUSED_SQUARE = 64, MRA_FUSED_SHARE = 8 };
bool mra_fused_takes(const mra_options *options);
mra_status mra_fused_plan_make(mra_fused_plan *plan, mra_shape shape,
                               const mra_options *options, const int32_t *order,
                               mra_error *err);

// Bytes that a record and a head take, and their layout in `memory` (64-byte aligned, not
// initialised, the caller's). With memory NULL only the bytes are counted.
size_t mra_fused_record_place(mra_fused_record *record, const mra_fused_plan *plan,
                              void *memory);
size_t mra_fused_head_place(mra_fused_head *head, const mra_fused_plan *plan, int threads,
                            void *memory);

// One head: z[n, d] from q, k, v [n, d] and mask [n] (or NULL), and *record for the backward
// pass. False if an input or a coarse logit is infinite or NaN; z is then meaningless.
bool mra_fused_forward(mra_fused_head *head, mra_fused_record *record, const float *q,
                       const float *k, const float *v, const uint8_t *mask, float *z);
// Adds the gradients of <dz, z> to dq, dk, dv [n, d]. The same bits for any number of threads.
void mra_fused_backward(mra_fused_head *head, mra_fused_record *record, const float *q,
                        const float *k, const float *v, const uint8_t *mask, const float *z,
                        const float *dz, float *dq, float *dk, float *dv);

// ---- Between the files of the fused path ----

// Token r of block x in the caller's arrays, or -1 beyond the end of a ragged last block.
static inline int mra_fused_token(const mra_fused_plan *plan, int x, int r)
{
    int t = x * plan->scale + r;
    if (t >= plan->n) return -1;
    return plan->order ? plan->order[t] : t;
}

// fused_product.c. Whether the keys and values of a head are too many for a cache.
bool mra_fused_scattered(int n, int d);
void mra_fused_products_prepare(mra_fused_plan *plan);
// What to ask for during the coming `products` products (0: nothing): `blocks` blocks of rows,
// at most 4.
mra_fused_ahead mra_fused_look_ahead(const mra_fused_plan *plan, int products, int blocks,
                                     const float *const *rows);
// The product, and on the way a look ahead.
void mra_fused_multiply(const mra_fused_product *product, const float *a, const float *b,
                        float *c, mra_fused_ahead *ahead);

// fused_pool.c. Fills present, rows and packed for the arrays [0, arrays); with `pool`, the
// record's pooled q, k, v and token counts as well.
void mra_fused_pool(mra_fused_head *head, int arrays, bool pool);
// to[d, stride] = factor * rows[count, d]^T, zero from column `count` on.
void mra_transpose(const float *rows, int count, int d, float factor, float *to, int stride);
// Whether all of values[0 .. count) are finite.
bool mra_fused_all_finite(const float *values, size_t count);

// fused_select.c. Ranks the boxes by their coarse logits and lists the refined ones in the
// record.
void mra_fused_select(mra_fused_head *head);
// fused_spread.c. Scores of all boxes for MRA_RANK_SPREAD, in head->score.
void mra_fused_spread(mra_fused_head *head);
// Whether any box of J stays coarse.
bool mra_fused_has_coarse(const mra_fused_head *head);
// fused_coarse.c. Prepares the products of the coarse part.
void mra_fused_coarse_prepare(mra_fused_plan *plan);
// All coarse logits, in head->logit.
void mra_fused_coarse_logits(mra_fused_head *head);
// Weights of the boxes that stay coarse, in head->logit; coarse_max, coarse_sum, coarse_value
// of every row of blocks.
void mra_fused_coarse_forward(mra_fused_head *head);
// From pull, pull_product: dquery, dkey, dvalue.
void mra_fused_coarse_backward(mra_fused_head *head);

#endif
