// # Exact attention: the way back
//
// Given $dZ$, the gradients of $\langle dZ, Z\rangle$ follow by the chain rule. Write $S =
// QK^\top/\sqrt d$ for the logits and $P = D^{-1}e^{S}$ for the normalised weights, so that $Z
// = PV$. Then
//
// $$dV = P^\top dZ, \qquad dP = dZ\,V^\top .$$
//
// The softmax of row $i$ has the Jacobian $\mathrm{diag}(p_i) - p_i p_i^\top$, hence
//
// $$dS_{ij} = P_{ij}\Big(dP_{ij} - \sum_k P_{ik}\,dP_{ik}\Big), \qquad
//   \sum_k P_{ik}\,dP_{ik} = \sum_k P_{ik}\, dz_i^\top v_k = dz_i^\top z_i =: D_i :$$
//
// the sum over all keys is an inner product of two rows that are known. So each entry of $dS$
// depends on nothing but its own entry of $P$, which is computed again from $Q$, $K$ and the
// row's maximum and sum. Last,
//
// $$dQ = dS\,K/\sqrt d, \qquad dK = dS^\top Q/\sqrt d .$$
//
// Maximum and sum are kept apart rather than as one log-sum-exp: where logits are near $10^4$
// the last place of a float is $10^{-3}$, and so would be the error of every weight.
//
// ## Who adds what
//
// Of the five products of a pair of tiles two ($S$, $dP$) stay in the pair, one adds to rows of
// $dQ$ and two to rows of $dK$ and $dV$. Items that own queries would have to share $dK$ and
// $dV$, items that own keys would share $dQ$; giving each its own loop would compute $S$ and
// $dP$ twice, seven products instead of five. So an item owns a whole head, and visits its
// tiles in a fixed order. Where there are few heads, the keys of a head are
// cut into up to four chunks, an item each: the first adds to $dQ$ itself, the others to
// partial sums, which are added afterwards in the order of the chunks. The number of chunks
// depends on the number of heads alone, so that the result does not depend on the number of
// threads. The partial sums
// take $3nd$ numbers for one head, $7nd$ at most for several, none from eight heads on.
//
// Cost: $10 n^2 d$ floating-point operations and $n^2$ exponentials per head.

#include <math.h>
#include <string.h>

#include "attention/exact_tiles.h"
#include "core/arena.h"
#include "core/parallel.h"
#include "tensor/vector.h"

int mra_exact_chunks(const mra_exact *exact)
{
    enum { ITEMS = 8, MOST = 4 };
    const int heads = exact->shape.batch * exact->shape.heads;
    int chunks = heads >= ITEMS ? 1 : (ITEMS + heads - 1) / heads;
    if (chunks > MOST) chunks = MOST;
    return chunks < exact->key_tiles ? chunks : exact->key_tiles;
}

typedef struct backward_pass {
    mra_exact *exact;
    const float *q, *k, *v;
    const uint8_t *mask;
    const float *z, *dz;
    float *dq, *dk, *dv;
} backward_pass;

// What the pairs of tiles of one row of tiles have in common: $Q_x^\top$ and $dZ_x^\top$, the
// row's maximum, the inverse of its sum and $D_i$. A row without result gets the maximum
// $+\infty$, so that its weights come out as 0.

static void load_rows(const backward_pass *pass, const mra_exact_scratch *tile, size_t head,
                      mra_exact_range range)
{
    const mra_exact *exact = pass->exact;
    const int rows = exact->rows;
    const size_t d = (size_t)exact->shape.d;
    const size_t first = head * (size_t)exact->shape.n + (size_t)range.first;
    mra_exact_transpose(tile->query, rows, pass->q + first * d, range.count, (int)d,
                        exact->logit_scale);
    mra_exact_transpose(tile->output_grad, rows, pass->dz + first * d, range.count, (int)d,
                        1.0f);
    for (int i = 0; i < range.count; i++) {
        const float *z = pass->z + (first + (size_t)i) * d;
        const float *dz = pass->dz + (first + (size_t)i) * d;
        const float sum = exact->row_sum[first + (size_t)i];
        float product = 0.0f;
#pragma omp simd reduction(+ : product)
        for (size_t c = 0; c < d; c++) product += z[c] * dz[c];
        tile->row_max[i] = exact->row_max[first + (size_t)i];
        tile->row_sum[i] = sum > 0.0f ? 1.0f / sum : 0.0f;
        tile->row_factor[i] = product;
    }
    for (int i = range.count; i < rows; i++) {
        tile->row_max[i] = INFINITY;
        tile->row_sum[i] = tile->row_factor[i] = 0.0f;
    }
}

// Logits to $P$ and $dP$ to $dS/\sqrt d$, in place, one key (a row of the transposed tile)
// after the other.

static void weight_gradients(const mra_exact *exact, const mra_exact_scratch *tile, int keys,
                             const uint8_t *keep)
{
    const int rows = exact->rows;
    const float scale = exact->logit_scale;
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
            grad[i] = scale * weight[i] * (grad[i] - shared[i]);
        }
    }
}

// All pairs of one row of tiles with the key tiles `begin` .. `end`; `dq_row` receives $dQ$ of
// the rows.

static void backward_rows(const backward_pass *pass, const mra_exact_scratch *tile,
                          size_t offset, mra_exact_range range, const uint8_t *mask, int begin,
                          int end, float *dq_row)
{
    const mra_exact *exact = pass->exact;
    const mra_exact_products *products = &exact->products;
    const size_t d = (size_t)exact->shape.d;
    const size_t row = offset + (size_t)range.first * d;
    for (int y = begin; y < end; y++) {
        const mra_exact_range keys = mra_exact_tile(exact->shape.n, exact->keys, y);
        if (!mra_exact_any(mask, keys)) continue;
        const size_t start = offset + (size_t)keys.first * d;
        const mra_small_gemm *logits = &products->logits[keys.last_and_short];
        const mra_small_gemm *to_keys =
            &products->to_keys[keys.last_and_short][range.last_and_short];
        mra_small_gemm_run(logits, pass->k + start, tile->query, tile->weight);
        mra_small_gemm_run(logits, pass->v + start, tile->output_grad, tile->weight_grad);
        weight_gradients(exact, tile, keys.count, mask ? mask + keys.first : NULL);
        mra_small_gemm_run(to_keys, tile->weight, pass->dz + row, pass->dv + start);
        mra_small_gemm_run(to_keys, tile->weight_grad, pass->q + row, pass->dk + start);
        mra_small_gemm_run(&products->to_rows[keys.last_and_short][range.last_and_short],
                           tile->weight_grad, pass->k + start, dq_row);
    }
}

static void backward_chunk(void *context, size_t item, int thread)
{
    const backward_pass *pass = context;
    const mra_exact *exact = pass->exact;
    const mra_exact_scratch *tile = &exact->scratch[thread];
    const size_t n = (size_t)exact->shape.n, d = (size_t)exact->shape.d;
    const size_t heads = (size_t)exact->shape.batch * (size_t)exact->shape.heads;
    const size_t head = item / (size_t)exact->chunks;
    const int chunk = (int)(item % (size_t)exact->chunks);
    const int begin = (int)((long long)exact->key_tiles * chunk / exact->chunks);
    const int end = (int)((long long)exact->key_tiles * (chunk + 1) / exact->chunks);
    const size_t offset = head * n * d;
    const uint8_t *mask =
        pass->mask ? pass->mask + head / (size_t)exact->shape.heads * n : NULL;
    float *dq = pass->dq + offset;
    if (chunk > 0) {
        dq = exact->partial + ((size_t)(chunk - 1) * heads + head) * n * d;
        memset(dq, 0, n * d * sizeof *dq);
    }
    for (int x = 0; x < exact->row_tiles; x++) {
        const mra_exact_range range = mra_exact_tile(exact->shape.n, exact->rows, x);
        if (!mra_exact_any(mask, range)) continue;
        load_rows(pass, tile, head, range);
        backward_rows(pass, tile, offset, range, mask, begin, end,
                      dq + (size_t)range.first * d);
    }
}

// dQ of a head += its partial sums, in the order of the chunks.
static void add_partial_sums(void *context, size_t head, int thread)
{
    (void)thread;
    const backward_pass *pass = context;
    const mra_exact *exact = pass->exact;
    const size_t heads = (size_t)exact->shape.batch * (size_t)exact->shape.heads;
    const size_t size = (size_t)exact->shape.n * (size_t)exact->shape.d;
    float *restrict dq = pass->dq + head * size;
    for (size_t chunk = 1; chunk < (size_t)exact->chunks; chunk++) {
        const float *restrict partial = exact->partial + ((chunk - 1) * heads + head) * size;
        for (size_t i = 0; i < size; i++) dq[i] += partial[i];
    }
}

mra_status mra_exact_backward(mra_exact *exact, const float *q, const float *k, const float *v,
                              const uint8_t *mask, const float *z, const float *dz, float *dq,
                              float *dk, float *dv, mra_error *err)
{
    const size_t heads = (size_t)exact->shape.batch * (size_t)exact->shape.heads;
    const size_t size = (size_t)exact->shape.n * (size_t)exact->shape.d;
    const size_t chunks = (size_t)exact->chunks;
    if (chunks > 1 && !exact->partial) {
        exact->partial = mra_aligned_calloc((chunks - 1) * heads * size, sizeof(float));
        if (!exact->partial)
            return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu partial gradients",
                            (chunks - 1) * heads * size);
    }
    backward_pass pass = {exact, q, k, v, mask, z, dz, dq, dk, dv};
    mra_parallel_for(exact->threads, heads * chunks, backward_chunk, &pass);
    if (chunks > 1) mra_parallel_for(exact->threads, heads, add_partial_sums, &pass);
    return MRA_OK;
}
