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

static void load_rows(const backward_pass *pass, const mra_softmax_tile *tile, size_t head,
                      mra_tile_range range)
{
    const mra_exact *exact = pass->exact;
    const size_t first = head * (size_t)exact->shape.n + (size_t)range.first;
    const size_t at = first * (size_t)exact->shape.d;
    mra_tile_load(tile, range.count, exact->logit_scale,
                  &(mra_tile_rows){.q = pass->q + at,
                                   .z = pass->z + at,
                                   .dz = pass->dz + at,
                                   .row_max = exact->row_max + first,
                                   .row_sum = exact->row_sum + first});
}

// All pairs of one row of tiles with the key tiles `begin` .. `end`; `dq_row` receives $dQ$ of
// the rows.

static void backward_rows(const backward_pass *pass, const mra_softmax_tile *tile,
                          size_t offset, mra_tile_range range, const uint8_t *mask, int begin,
                          int end, float *dq_row)
{
    const mra_exact *exact = pass->exact;
    const mra_tile_products *products = &exact->products;
    const size_t d = (size_t)exact->shape.d;
    const size_t row = offset + (size_t)range.first * d;
    for (int y = begin; y < end; y++) {
        const mra_tile_range keys = mra_tile_range_of(exact->shape.n, exact->keys, y);
        if (!mra_tile_any(mask, keys)) continue;
        const size_t start = offset + (size_t)keys.first * d;
        const mra_small_gemm *logits = &products->logits[keys.last_and_short];
        const mra_small_gemm *to_keys =
            &products->to_keys[keys.last_and_short][range.last_and_short];
        mra_small_gemm_run(logits, pass->k + start, tile->query, tile->weight);
        mra_small_gemm_run(logits, pass->v + start, tile->output_grad, tile->weight_grad);
        mra_tile_gradients(tile, keys.count, mask ? mask + keys.first : NULL,
                           exact->logit_scale);
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
    const mra_softmax_tile *tile = &exact->tile[thread];
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
        const mra_tile_range range = mra_tile_range_of(exact->shape.n, exact->rows, x);
        if (!mra_tile_any(mask, range)) continue;
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
