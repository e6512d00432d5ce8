// # A tile of queries among tiles of keys
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

#include "tensor/softmax_tile.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "tensor/vector.h"

mra_tile_products mra_tile_products_prepare(int n, int d, int rows, int stride, int keys)
{
    mra_tile_products products;
    const int key_count[2] = {keys, n - (n + keys - 1) / keys * keys + keys};
    const int row_count[2] = {rows, n - (n + rows - 1) / rows * rows + rows};
    for (int last = 0; last < 2; last++) {
        products.logits[last] =
            mra_small_gemm_prepare(key_count[last], stride, d, d, stride, stride, 0.0f);
        products.output[last] =
            mra_small_gemm_prepare_transposed(stride, d, key_count[last], stride, d, d, 1.0f);
        for (int row = 0; row < 2; row++) {
            products.to_keys[last][row] =
                mra_small_gemm_prepare(key_count[last], d, row_count[row], stride, d, d, 1.0f);
            products.to_rows[last][row] = mra_small_gemm_prepare_transposed(
                row_count[row], d, key_count[last], stride, d, d, 1.0f);
        }
    }
    return products;
}

static size_t tile_floats(int rows, int keys)
{
    return (size_t)rows * (((size_t)keys + 15) / 16 * 16);
}

size_t mra_softmax_tile_floats(int rows, int keys, int d)
{
    const size_t wide = (size_t)rows * (size_t)d;
    return 3 * wide + 2 * tile_floats(rows, keys) + 3 * (size_t)rows;
}

mra_softmax_tile mra_softmax_tile_at(float *memory, int rows, int keys, int d)
{
    const size_t wide = (size_t)rows * (size_t)d, tile = tile_floats(rows, keys);
    mra_softmax_tile made = {.rows = rows, .d = d, .query = memory};
    made.output_grad = made.query + wide;
    made.output = made.output_grad + wide;
    made.weight = made.output + wide;
    made.weight_grad = made.weight + tile;
    made.row_max = made.weight_grad + tile;
    made.row_sum = made.row_max + rows;
    made.row_factor = made.row_sum + rows;
    return made;
}

void mra_tile_transpose(float *to, int stride, const float *from, int count, int d,
                        float factor)
{
    for (int c = 0; c < d; c++) {
        float *row = to + (size_t)c * (size_t)stride;
        for (int i = 0; i < count; i++)
            row[i] = factor * from[(size_t)i * (size_t)d + (size_t)c];
        for (int i = count; i < stride; i++) row[i] = 0.0f;
    }
}

// ## One tile of keys
//
// The new reference first: the largest logit of each query over the visible keys of the tile
// and all before. The sum and the output so far are brought to it by the factor $e^{m - m^+}$,
// which is 1 for most rows once a few tiles have been seen, and 0 at the first tile. "Nothing
// seen" is the smallest finite number rather than $-\infty$: a row all of whose pairs were taken
// out then stays at it, with weights $e^{-\infty} = 0$ and the factor 1, where $-\infty$ less
// $-\infty$ would be undefined.

static void raise_maximum(const mra_softmax_tile *tile, int keys, const uint8_t *keep)
{
    const int rows = tile->rows;
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

static void rescale(const mra_softmax_tile *tile)
{
    for (int i = 0; i < tile->rows; i++) {
        const float factor = tile->row_factor[i];
        if (factor == 1.0f) continue;
        tile->row_sum[i] *= factor;
        float *output = tile->output + (size_t)i * (size_t)tile->d;
        for (int c = 0; c < tile->d; c++) output[c] *= factor;
    }
}

// Then the exponentials, in place, and their sums. A masked key has weight 0.

static void exponentials(const mra_softmax_tile *tile, int keys, const uint8_t *keep)
{
    const int rows = tile->rows;
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

void mra_tile_begin(const mra_softmax_tile *tile)
{
    for (int i = 0; i < tile->rows; i++) tile->row_max[i] = -FLT_MAX;
    memset(tile->row_sum, 0, (size_t)tile->rows * sizeof(float));
    memset(tile->output, 0, (size_t)tile->rows * (size_t)tile->d * sizeof(float));
}

void mra_tile_absorb(const mra_softmax_tile *tile, int keys, const uint8_t *keep)
{
    raise_maximum(tile, keys, keep);
    rescale(tile);
    exponentials(tile, keys, keep);
}

void mra_tile_finish(const mra_softmax_tile *tile, int count, const uint8_t *mask, float *z,
                     float *row_max, float *row_sum)
{
    const size_t d = (size_t)tile->d;
    for (int i = 0; i < count; i++) {
        const bool visible = (!mask || mask[i]) && tile->row_sum[i] > 0.0f;
        const float inverse = visible ? 1.0f / tile->row_sum[i] : 0.0f;
        const float *output = tile->output + (size_t)i * d;
        float *row = z + (size_t)i * d;
        for (size_t c = 0; c < d; c++) row[c] = visible ? output[c] * inverse : 0.0f;
        row_max[i] = visible ? tile->row_max[i] : INFINITY;
        row_sum[i] = visible ? tile->row_sum[i] : 0.0f;
    }
}

// ## The way back
//
// What the pairs of tiles of one tile of queries have in common: $Q_x^\top$ and $dZ_x^\top$, the
// row's maximum, the inverse of its sum and $D_i = dz_i^\top z_i$. Where the log-sum-exp of a row
// is a result too, its gradient $d\ell_i$ adds $P_{ij}\, d\ell_i$ to $dS_{ij}$, since
// $\partial \ell_i / \partial S_{ij} = P_{ij}$: it is $D_i$ less $d\ell_i$. A row without result
// gets the maximum $+\infty$, so that its weights come out as 0.

void mra_tile_load(const mra_softmax_tile *tile, int count, float logit_scale,
                   const mra_tile_rows *rows)
{
    const size_t d = (size_t)tile->d;
    mra_tile_transpose(tile->query, tile->rows, rows->q, count, tile->d, logit_scale);
    mra_tile_transpose(tile->output_grad, tile->rows, rows->dz, count, tile->d, 1.0f);
    for (int i = 0; i < count; i++) {
        const float *z = rows->z + (size_t)i * d, *dz = rows->dz + (size_t)i * d;
        const float sum = rows->row_sum[i];
        float product = 0.0f;
#pragma omp simd reduction(+ : product)
        for (size_t c = 0; c < d; c++) product += z[c] * dz[c];
        tile->row_max[i] = rows->row_max[i];
        tile->row_sum[i] = sum > 0.0f ? 1.0f / sum : 0.0f;
        tile->row_factor[i] = product - (rows->dlse && sum > 0.0f ? rows->dlse[i] : 0.0f);
    }
    for (int i = count; i < tile->rows; i++) {
        tile->row_max[i] = INFINITY;
        tile->row_sum[i] = tile->row_factor[i] = 0.0f;
    }
}

// Logits to $P$ and $dP$ to $dS$ times the logit scale, in place, one key (a row of the
// transposed tile) after the other.

void mra_tile_gradients(const mra_softmax_tile *tile, int keys, const uint8_t *keep,
                        float logit_scale)
{
    const int rows = tile->rows;
    const float *restrict row_max = tile->row_max, *restrict inverse = tile->row_sum;
    const float *restrict shared = tile->row_factor;
    for (int j = 0; j < keys; j++) {
        float *restrict weight = tile->weight + (size_t)j * (size_t)rows;
        float *restrict grad = tile->weight_grad + (size_t)j * (size_t)rows;
        if (keep && !keep[j]) {
            memset(weight, 0, (size_t)rows * sizeof *weight);
            memset(grad, 0, (size_t)rows * sizeof *grad);
            continue;
        }
#pragma omp simd
        for (int i = 0; i < rows; i++) {
            weight[i] = mra_exp(weight[i] - row_max[i]) * inverse[i];
            grad[i] = logit_scale * weight[i] * (grad[i] - shared[i]);
        }
    }
}
