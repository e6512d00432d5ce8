// # Exact attention without the matrix
//
// For one head, $Z = D^{-1} A V$ with $A = \exp(P)$, $P = QK^\top/\sqrt d$ and $D =
// \mathrm{diag}(A\mathbf 1)$ (section "self-attention"). This is the method that every
// approximation is measured against, in error and in time, so it has to be a fair opponent: as
// fast as the matrix products that it consists of, and with no $n \times n$ matrix in memory.
//
// ## One pass over the keys
//
// A row of $Z$ is a weighted mean of the rows of $V$. It can be taken over the keys one tile at
// a time if three things are carried along: the largest logit $m$ so far, the sum $\ell$ of
// $e^{P_{ij} - m}$ and the vector $o = \sum_j e^{P_{ij}-m} v_j$. A new tile with largest logit
// $m'$ changes the reference to $m^+ = \max(m, m')$:
//
// $$\ell \leftarrow e^{m - m^+}\ell + \sum_{j} e^{P_{ij} - m^+}, \qquad
//   o \leftarrow e^{m - m^+} o + \sum_{j} e^{P_{ij} - m^+} v_j .$$
//
// At the end $z_i = o/\ell$. No exponent is ever positive, so that logits of $\pm 10^4$ do no
// harm. (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Rabe and
// Staats, "Self-attention does not need $O(n^2)$ memory", 2021; Dao et al., "FlashAttention",
// 2022.)
//
// How a tile is computed is said in tensor/softmax_tile.c.
//
// Cost: $4 n^2 d$ floating-point operations in products and $n^2$ exponentials per head; memory
// beyond the arrays: three numbers a row, and per thread the tiles.
//
// Measured on two cores of the processor described in tensor/gemm.c, 12 heads, $n = 4096$, $d =
// 64$, medians of 5 to 7, in Gflop/s: forward 447 and backward 498 with LIBXSMM, whose products
// alone reach 275 a core; forward 210 and backward 218 where all products are OpenBLAS's, whose
// large square product reached 258 to 265 beside them. Other tiles of 64 to 256 queries and 32
// to 128 keys are within 7 % of these.

#include "attention/exact.h"

#include <math.h>
#include <stdlib.h>

#include "attention/exact_tiles.h"
#include "core/arena.h"
#include "core/parallel.h"

// ## Preparing
//
// The number of tiles follows from $n$; then tiles are made as equal as possible, so that a
// sequence of 129 tokens is cut into 80 + 49 and not into 128 + 1. Rows of the tile are a
// multiple of 16, one vector register; the last tile is filled up with zero queries whose
// results nobody reads.

static int even_tile(int n, int largest, int multiple)
{
    const int tiles = (n + largest - 1) / largest;
    const int tile = (n + tiles - 1) / tiles;
    return (tile + multiple - 1) / multiple * multiple;
}

static bool allocate(mra_exact *exact)
{
    const mra_shape shape = exact->shape;
    const size_t tokens = (size_t)shape.batch * (size_t)shape.heads * (size_t)shape.n;
    const size_t share = mra_softmax_tile_floats(exact->rows, exact->keys, shape.d);
    exact->row_max = mra_aligned_calloc(3 * tokens, sizeof(float));
    exact->tile_memory = mra_aligned_calloc((size_t)exact->threads * share, sizeof(float));
    exact->tile = calloc((size_t)exact->threads, sizeof *exact->tile);
    if (!exact->row_max || !exact->tile_memory || !exact->tile) return false;
    exact->row_sum = exact->row_max + tokens;
    exact->row_lse = exact->row_sum + tokens;
    for (int thread = 0; thread < exact->threads; thread++)
        exact->tile[thread] = mra_softmax_tile_at(exact->tile_memory + (size_t)thread * share,
                                                  exact->rows, exact->keys, shape.d);
    return true;
}

mra_status mra_exact_create(mra_exact **result, mra_shape shape, double logit_scale,
                            int threads, mra_error *err)
{
    *result = NULL;
    if (shape.batch < 1 || shape.heads < 1 || shape.n < 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "batch, heads and n must be at least 1, not %d, %d and %d", shape.batch,
                        shape.heads, shape.n);
    if (shape.d < 1 || shape.d > 256)
        return mra_fail(err, MRA_BAD_INPUT, "d must be in [1, 256], not %d", shape.d);
    if (!isfinite(logit_scale))
        return mra_fail(err, MRA_BAD_INPUT, "the logit scale must be finite, not %g",
                        logit_scale);
    mra_exact *exact = calloc(1, sizeof *exact);
    if (!exact) return mra_fail(err, MRA_NO_MEMORY, "no memory for its state");
    exact->shape = shape;
    exact->logit_scale = (float)(logit_scale != 0.0 ? logit_scale : 1.0 / sqrt(shape.d));
    exact->threads = threads < 1 ? mra_default_threads() : threads;
    exact->rows = even_tile(shape.n, MRA_EXACT_ROWS, 16);
    exact->keys = even_tile(shape.n, MRA_EXACT_KEYS, 1);
    exact->row_tiles = (shape.n + exact->rows - 1) / exact->rows;
    exact->key_tiles = (shape.n + exact->keys - 1) / exact->keys;
    exact->chunks = mra_exact_chunks(exact);
    if (!allocate(exact)) {
        mra_exact_free(exact);
        return mra_fail(err, MRA_NO_MEMORY, "no memory for %d x %d rows of %d numbers",
                        shape.batch * shape.heads, shape.n, 3);
    }
    exact->products =
        mra_tile_products_prepare(shape.n, shape.d, exact->rows, exact->rows, exact->keys);
    *result = exact;
    return MRA_OK;
}

void mra_exact_free(mra_exact *exact)
{
    if (!exact) return;
    mra_aligned_free(exact->row_max);
    mra_aligned_free(exact->partial);
    mra_aligned_free(exact->tile_memory);
    free(exact->tile);
    free(exact);
}

const float *mra_exact_row_lse(const mra_exact *exact)
{
    return exact->row_lse;
}

// ## One tile of queries
//
// A tile of queries is an item of the parallel loop: it meets the keys in their order and
// writes rows of its own, so that the result is the same for any number of threads. A row that
// sees no key, and a masked row, is 0; its log-sum-exp is $-\infty$.

typedef struct forward_pass {
    mra_exact *exact;
    const float *q, *k, *v;
    const uint8_t *mask;
    float *z;
} forward_pass;

static void finish_rows(const forward_pass *pass, const mra_softmax_tile *tile, size_t head,
                        mra_tile_range range, const uint8_t *mask)
{
    mra_exact *exact = pass->exact;
    const size_t first = head * (size_t)exact->shape.n + (size_t)range.first;
    mra_tile_finish(tile, range.count, mask ? mask + range.first : NULL,
                    pass->z + first * (size_t)exact->shape.d, exact->row_max + first,
                    exact->row_sum + first);
    for (size_t row = first; row < first + (size_t)range.count; row++)
        exact->row_lse[row] = exact->row_sum[row] > 0.0f
                                  ? exact->row_max[row] + logf(exact->row_sum[row])
                                  : -INFINITY;
}

static void forward_rows(void *context, size_t item, int thread)
{
    const forward_pass *pass = context;
    const mra_exact *exact = pass->exact;
    const mra_softmax_tile *tile = &exact->tile[thread];
    const int n = exact->shape.n, d = exact->shape.d, rows = exact->rows;
    const size_t head = item / (size_t)exact->row_tiles;
    const size_t offset = head * (size_t)n * (size_t)d;
    const uint8_t *mask =
        pass->mask ? pass->mask + head / (size_t)exact->shape.heads * (size_t)n : NULL;
    const mra_tile_range range =
        mra_tile_range_of(n, rows, (int)(item % (size_t)exact->row_tiles));

    mra_tile_begin(tile);
    const int key_tiles = mra_tile_any(mask, range) ? exact->key_tiles : 0;
    if (key_tiles)
        mra_tile_transpose(tile->query, rows,
                           pass->q + offset + (size_t)range.first * (size_t)d, range.count, d,
                           exact->logit_scale);
    for (int y = 0; y < key_tiles; y++) {
        const mra_tile_range keys = mra_tile_range_of(n, exact->keys, y);
        if (!mra_tile_any(mask, keys)) continue;
        const uint8_t *keep = mask ? mask + keys.first : NULL;
        const size_t start = offset + (size_t)keys.first * (size_t)d;
        mra_small_gemm_run(&exact->products.logits[keys.last_and_short], pass->k + start,
                           tile->query, tile->weight);
        mra_tile_absorb(tile, keys.count, keep);
        mra_small_gemm_run(&exact->products.output[keys.last_and_short], tile->weight,
                           pass->v + start, tile->output);
    }
    finish_rows(pass, tile, head, range, mask);
}

mra_status mra_exact_forward(mra_exact *exact, const float *q, const float *k, const float *v,
                             const uint8_t *mask, float *z, mra_error *err)
{
    (void)err;
    forward_pass pass = {exact, q, k, v, mask, z};
    const size_t heads = (size_t)exact->shape.batch * (size_t)exact->shape.heads;
    mra_parallel_for(exact->threads, heads * (size_t)exact->row_tiles, forward_rows, &pass);
    return MRA_OK;
}
