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
// ## Which way round
//
// A tile of logits is kept *transposed*, keys down, queries across: $S^\top = K_y (Q_x^\top)$.
// That has three advantages. The tile of $Q$ is transposed once and meets all keys, while $K$
// and $V$ are read as they lie. Maximum, exponential and sum of 16 queries at a time are
// operations on whole vector registers, with nothing to add up across lanes. And both products
// have the form that small matrix products do best (tensor/gemm.c): $S^\top = K_y \cdot
// Q_x^\top$ and $O_x \mathrel{+}= (S^\top)^\top V_y$. A masked key is a row of the tile, which
// is set to zero.
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
#include <string.h>

#include "attention/exact_tiles.h"
#include "core/arena.h"
#include "core/parallel.h"
#include "tensor/vector.h"

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

static void prepare_products(mra_exact *exact)
{
    const int n = exact->shape.n, d = exact->shape.d, rows = exact->rows;
    mra_exact_products *products = &exact->products;
    const int keys[2] = {exact->keys, n - (exact->key_tiles - 1) * exact->keys};
    const int queries[2] = {rows, n - (exact->row_tiles - 1) * rows};
    for (int last = 0; last < 2; last++) {
        products->logits[last] =
            mra_small_gemm_prepare(keys[last], rows, d, d, rows, rows, 0.0f);
        products->output[last] =
            mra_small_gemm_prepare_transposed(rows, d, keys[last], rows, d, d, 1.0f);
        for (int row = 0; row < 2; row++) {
            products->to_keys[last][row] =
                mra_small_gemm_prepare(keys[last], d, queries[row], rows, d, d, 1.0f);
            products->to_rows[last][row] = mra_small_gemm_prepare_transposed(
                queries[row], d, keys[last], rows, d, d, 1.0f);
        }
    }
}

static bool allocate(mra_exact *exact)
{
    const mra_shape shape = exact->shape;
    const size_t tokens = (size_t)shape.batch * (size_t)shape.heads * (size_t)shape.n;
    const size_t rows = (size_t)exact->rows;
    const size_t wide = rows * (size_t)shape.d;                        // d numbers a query
    const size_t tile = rows * (((size_t)exact->keys + 15) / 16 * 16); // a number a pair
    const size_t share = 3 * wide + 2 * tile + 3 * rows;
    exact->row_max = mra_aligned_calloc(3 * tokens, sizeof(float));
    exact->scratch_memory = mra_aligned_calloc((size_t)exact->threads * share, sizeof(float));
    exact->scratch = calloc((size_t)exact->threads, sizeof *exact->scratch);
    if (!exact->row_max || !exact->scratch_memory || !exact->scratch) return false;
    exact->row_sum = exact->row_max + tokens;
    exact->row_lse = exact->row_sum + tokens;
    for (int thread = 0; thread < exact->threads; thread++) {
        mra_exact_scratch *scratch = &exact->scratch[thread];
        float *memory = exact->scratch_memory + (size_t)thread * share;
        scratch->query = memory;
        scratch->output_grad = scratch->query + wide;
        scratch->output = scratch->output_grad + wide;
        scratch->weight = scratch->output + wide;
        scratch->weight_grad = scratch->weight + tile;
        scratch->row_max = scratch->weight_grad + tile;
        scratch->row_sum = scratch->row_max + rows;
        scratch->row_factor = scratch->row_sum + rows;
    }
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
    prepare_products(exact);
    *result = exact;
    return MRA_OK;
}

void mra_exact_free(mra_exact *exact)
{
    if (!exact) return;
    mra_aligned_free(exact->row_max);
    mra_aligned_free(exact->partial);
    mra_aligned_free(exact->scratch_memory);
    free(exact->scratch);
    free(exact);
}

const float *mra_exact_row_lse(const mra_exact *exact)
{
    return exact->row_lse;
}

// ## One tile of keys
//
// The new reference first: the largest logit of each query over the visible keys of the tile
// and all before. The sum and the output so far are brought to it by the factor $e^{m - m^+}$,
// which is 1 for most rows once a few tiles have been seen, and 0 at the first tile, where $m =
// -\infty$.

static void raise_maximum(const mra_exact_scratch *tile, int rows, int keys,
                          const uint8_t *keep)
{
    float *restrict row_max = tile->row_max, *restrict factor = tile->row_factor;
    memcpy(factor, row_max, (size_t)rows * sizeof *factor);
    for (int j = 0; j < keys; j++) {
        if (keep && !keep[j]) continue;
        const float *restrict logit = tile->weight + (size_t)j * (size_t)rows;
#pragma omp simd
        for (int i = 0; i < rows; i++)
            row_max[i] = logit[i] > row_max[i] ? logit[i] : row_max[i];
    }
#pragma omp simd
    for (int i = 0; i < rows; i++) factor[i] = mra_exp(factor[i] - row_max[i]);
}

static void rescale(const mra_exact_scratch *tile, int rows, int d)
{
    for (int i = 0; i < rows; i++) {
        const float factor = tile->row_factor[i];
        if (factor == 1.0f) continue;
        tile->row_sum[i] *= factor;
        float *output = tile->output + (size_t)i * (size_t)d;
        for (int c = 0; c < d; c++) output[c] *= factor;
    }
}

// Then the exponentials, in place, and their sums. A masked key has weight 0.

static void exponentials(const mra_exact_scratch *tile, int rows, int keys, const uint8_t *keep)
{
    const float *restrict row_max = tile->row_max;
    float *restrict row_sum = tile->row_sum;
    for (int j = 0; j < keys; j++) {
        float *restrict weight = tile->weight + (size_t)j * (size_t)rows;
        if (keep && !keep[j]) {
            memset(weight, 0, (size_t)rows * sizeof *weight);
            continue;
        }
#pragma omp simd
        for (int i = 0; i < rows; i++) {
            weight[i] = mra_exp(weight[i] - row_max[i]);
            row_sum[i] += weight[i];
        }
    }
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

static void finish_rows(const forward_pass *pass, const mra_exact_scratch *tile, size_t head,
                        mra_exact_range range, const uint8_t *mask)
{
    mra_exact *exact = pass->exact;
    const size_t d = (size_t)exact->shape.d;
    for (int i = 0; i < range.count; i++) {
        const size_t row = head * (size_t)exact->shape.n + (size_t)(range.first + i);
        const bool visible = (!mask || mask[range.first + i]) && tile->row_sum[i] > 0.0f;
        const float inverse = visible ? 1.0f / tile->row_sum[i] : 0.0f;
        const float *output = tile->output + (size_t)i * d;
        float *z = pass->z + row * d;
        for (size_t c = 0; c < d; c++) z[c] = visible ? output[c] * inverse : 0.0f;
        exact->row_max[row] = visible ? tile->row_max[i] : INFINITY;
        exact->row_sum[row] = visible ? tile->row_sum[i] : 0.0f;
        exact->row_lse[row] = visible ? tile->row_max[i] + logf(tile->row_sum[i]) : -INFINITY;
    }
}

static void forward_rows(void *context, size_t item, int thread)
{
    const forward_pass *pass = context;
    const mra_exact *exact = pass->exact;
    const mra_exact_scratch *tile = &exact->scratch[thread];
    const int n = exact->shape.n, d = exact->shape.d, rows = exact->rows;
    const size_t head = item / (size_t)exact->row_tiles;
    const size_t offset = head * (size_t)n * (size_t)d;
    const uint8_t *mask =
        pass->mask ? pass->mask + head / (size_t)exact->shape.heads * (size_t)n : NULL;
    const mra_exact_range range =
        mra_exact_tile(n, rows, (int)(item % (size_t)exact->row_tiles));

    for (int i = 0; i < rows; i++) tile->row_max[i] = -INFINITY;
    memset(tile->row_sum, 0, (size_t)rows * sizeof(float));
    memset(tile->output, 0, (size_t)rows * (size_t)d * sizeof(float));
    const int key_tiles = mra_exact_any(mask, range) ? exact->key_tiles : 0;
    if (key_tiles)
        mra_exact_transpose(tile->query, rows,
                            pass->q + offset + (size_t)range.first * (size_t)d, range.count, d,
                            exact->logit_scale);
    for (int y = 0; y < key_tiles; y++) {
        const mra_exact_range keys = mra_exact_tile(n, exact->keys, y);
        if (!mra_exact_any(mask, keys)) continue;
        const uint8_t *keep = mask ? mask + keys.first : NULL;
        const size_t start = offset + (size_t)keys.first * (size_t)d;
        mra_small_gemm_run(&exact->products.logits[keys.last_and_short], pass->k + start,
                           tile->query, tile->weight);
        raise_maximum(tile, rows, keys.count, keep);
        rescale(tile, rows, d);
        exponentials(tile, rows, keys.count, keep);
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
