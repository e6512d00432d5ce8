// # Attention over listed blocks
//
// Window, global and random attention (Longformer, BigBird) have one form: row $i$ of the
// attention matrix is a softmax over a set of columns that was chosen beforehand, and the sets
// consist of blocks. So there is one operation for them,
//
// $$z_i = \sum_{j \in S_i} e^{P_{ij} - \ell_i} v_j, \qquad \ell_i = \log\sum_{j\in S_i}
//   e^{P_{ij}}, \qquad P_{ij} = s\, q_i^\top k_j,$$
//
// and the methods differ in the lists that they make. A block of queries meets the blocks of its
// list just as in exact attention it meets all of them: the steps are those of
// tensor/softmax_tile.c. Where an entry is conditional, the pairs that its condition excludes
// get the logit $-\infty$, whose weight is 0 forwards and backwards.
//
// Cost, with $E$ entries of $b \times b$: $4 E b^2 d$ operations in products forward and $10 E
// b^2 d$ backward, whatever the conditions let through.

#include <math.h>
#include <string.h>

#include "tensor/cpu.h"
#include "tensor/softmax_tile.h"

typedef struct block_pass {
    const mra_block_form *form;
    const mra_block_operands *operands;
    size_t heads;       // of all examples
    int blocks, stride; // of queries and of keys; width of a transposed tile
    mra_tile_products products;
    float *memory; // [threads][share]
    size_t share;
    size_t chunks;  // backward
    float *partial; // [chunks - 1][2][heads][n][d]: dk, dv
} block_pass;

static mra_status prepare(mra_device *device, block_pass *pass, const mra_block_form *form,
                          const mra_block_operands *operands, mra_error *err)
{
    const mra_block_pattern *pattern = &form->pattern;
    const int stride = (pattern->block + 15) / 16 * 16;
    *pass = (block_pass){.form = form,
                         .operands = operands,
                         .heads = form->batch * (size_t)form->heads,
                         .blocks = mra_pattern_blocks(pattern),
                         .stride = stride};
    pass->products =
        mra_tile_products_prepare(pattern->n, form->d, pattern->block, stride, pattern->block);
    pass->share = (mra_softmax_tile_floats(stride, pattern->block, form->d) + 15) / 16 * 16;
    pass->memory = mra_cpu_scratch(device, (size_t)device->threads * pass->share, sizeof(float),
                                   "block attention", err);
    return pass->memory ? MRA_OK : MRA_NO_MEMORY;
}

static mra_softmax_tile tile_of(const block_pass *pass, int thread)
{
    return mra_softmax_tile_at(pass->memory + (size_t)thread * pass->share, pass->stride,
                               pass->form->pattern.block, pass->form->d);
}

// The list of a block of queries of a head.
typedef struct entries {
    const int32_t *entry;
    int count;
} entries;

static entries entries_of(const block_pass *pass, size_t head, int row)
{
    const mra_block_pattern *pattern = &pass->form->pattern;
    const size_t list = head % (size_t)pattern->lists;
    const int32_t *start = pattern->start + list * (size_t)pass->blocks + row;
    return (entries){pattern->entry + start[0], start[1] - start[0]};
}

static const uint8_t *mask_of(const block_pass *pass, size_t head)
{
    const uint8_t *mask = pass->operands->mask;
    return mask ? mask + head / (size_t)pass->form->heads * (size_t)pass->form->pattern.n
                : NULL;
}

// Takes the pairs out that the condition excludes. Of key $j$ it keeps the queries of
// $[j - w, j + w]$ and those before `globals`: what goes are two ranges of a row of the tile.

static void exclude(float *logit, int begin, int end)
{
    for (int i = begin; i < end; i++) logit[i] = -INFINITY;
}

static int clamp(long value, int low, int high)
{
    return value < low ? low : value > high ? high : (int)value;
}

static void restrict_tile(const mra_block_pattern *pattern, const mra_softmax_tile *tile,
                          mra_tile_range rows, mra_tile_range keys)
{
    const int begin = clamp((long)pattern->globals - rows.first, 0, rows.count);
    for (int y = 0; y < keys.count; y++) {
        const long j = keys.first + y;
        if (j < pattern->globals) continue;
        float *logit = tile->weight + (size_t)y * (size_t)tile->rows;
        exclude(logit, begin,
                clamp(j - pattern->window + pattern->fewer - rows.first, begin, rows.count));
        exclude(logit, clamp(j + pattern->window + 1 - rows.first, begin, rows.count),
                rows.count);
    }
}

// ## Forward
//
// A block of queries of a head is an item: it writes rows of its own.

static void forward_row(void *context, size_t item, int thread)
{
    const block_pass *pass = context;
    const mra_block_operands *o = pass->operands;
    const mra_block_pattern *pattern = &pass->form->pattern;
    const mra_softmax_tile tile = tile_of(pass, thread);
    const int n = pattern->n, d = pass->form->d;
    const size_t head = item / (size_t)pass->blocks, offset = head * (size_t)n * (size_t)d;
    const int row = (int)(item % (size_t)pass->blocks);
    const uint8_t *mask = mask_of(pass, head);
    const mra_tile_range rows = mra_tile_range_of(n, pattern->block, row);
    const size_t first = head * (size_t)n + (size_t)rows.first;
    entries list = entries_of(pass, head, row);

    mra_tile_begin(&tile);
    if (!mra_tile_any(mask, rows)) list.count = 0;
    mra_tile_transpose(tile.query, tile.rows, o->q + first * (size_t)d, rows.count, d,
                       pass->form->scale);
    for (int e = 0; e < list.count; e++) {
        const mra_tile_range keys = mra_tile_range_of(n, pattern->block, list.entry[e] / 2);
        if (!mra_tile_any(mask, keys)) continue;
        const size_t start = offset + (size_t)keys.first * (size_t)d;
        mra_small_gemm_run(&pass->products.logits[keys.last_and_short], o->k + start,
                           tile.query, tile.weight);
        if (list.entry[e] % 2) restrict_tile(pattern, &tile, rows, keys);
        mra_tile_absorb(&tile, keys.count, mask ? mask + keys.first : NULL);
        mra_small_gemm_run(&pass->products.output[keys.last_and_short], tile.weight,
                           o->v + start, tile.output);
    }
    float *row_max = o->statistics + first;
    float *row_sum = row_max + pass->heads * (size_t)n;
    mra_tile_finish(&tile, rows.count, mask ? mask + rows.first : NULL,
                    o->z + first * (size_t)d, row_max, row_sum);
    for (int i = 0; i < rows.count && o->lse; i++)
        o->lse[first + (size_t)i] =
            row_sum[i] > 0.0f ? row_max[i] + logf(row_sum[i]) : -INFINITY;
}

mra_status mra_cpu_block_attention(mra_device *device, const mra_block_form *form,
                                   const mra_block_operands *operands, mra_error *err)
{
    block_pass pass;
    if (!form->batch || form->pattern.n < 1) return MRA_OK;
    mra_status status = prepare(device, &pass, form, operands, err);
    if (status != MRA_OK) return status;
    mra_cpu_loop(device, pass.heads * (size_t)pass.blocks, forward_row, &pass);
    return MRA_OK;
}

// ## Backward
//
// A block of queries adds to its own rows of $dQ$ and to the rows of $dK$ and $dV$ of all the keys
// of its list, which other blocks of queries add to as well. So an item is a whole head, whose
// blocks come in their order, or, where there are few heads, one of up to four runs of blocks of
// queries: the first run adds to $dK$ and $dV$ itself, the others to sums of their own, which are
// added afterwards in the order of the runs. The number of runs depends on the number of heads and
// blocks alone, so that the result does not depend on the number of threads.

static size_t chunks_of(const block_pass *pass)
{
    enum { ITEMS = 8, MOST = 4 };
    size_t chunks = pass->heads >= ITEMS ? 1 : (ITEMS + pass->heads - 1) / pass->heads;
    if (chunks > MOST) chunks = MOST;
    return chunks < (size_t)pass->blocks ? chunks : (size_t)pass->blocks;
}

// The pairs of one block of queries; dk and dv of the head, either NULL if nobody wants it.
static void backward_row(const block_pass *pass, const mra_softmax_tile *tile, size_t head,
                         int row, float *dk, float *dv)
{
    const mra_block_operands *o = pass->operands;
    const mra_block_pattern *pattern = &pass->form->pattern;
    const size_t n = (size_t)pattern->n, d = (size_t)pass->form->d;
    const uint8_t *mask = mask_of(pass, head);
    const mra_tile_range rows = mra_tile_range_of((int)n, pattern->block, row);
    if (!mra_tile_any(mask, rows)) return;
    const size_t first = head * n + (size_t)rows.first;
    const entries list = entries_of(pass, head, row);
    mra_tile_load(tile, rows.count, pass->form->scale,
                  &(mra_tile_rows){.q = o->q + first * d,
                                   .z = o->z + first * d,
                                   .dz = o->dz + first * d,
                                   .dlse = o->dlse ? o->dlse + first : NULL,
                                   .row_max = o->statistics + first,
                                   .row_sum = o->statistics + pass->heads * n + first});
    for (int e = 0; e < list.count; e++) {
        const mra_tile_range keys =
            mra_tile_range_of((int)n, pattern->block, list.entry[e] / 2);
        if (!mra_tile_any(mask, keys)) continue;
        const size_t own = (size_t)keys.first * d, start = head * n * d + own;
        const bool last = keys.last_and_short;
        const mra_small_gemm *to_keys = &pass->products.to_keys[last][rows.last_and_short];
        mra_small_gemm_run(&pass->products.logits[last], o->k + start, tile->query,
                           tile->weight);
        mra_small_gemm_run(&pass->products.logits[last], o->v + start, tile->output_grad,
                           tile->weight_grad);
        if (list.entry[e] % 2) restrict_tile(pattern, tile, rows, keys);
        mra_tile_gradients(tile, keys.count, mask ? mask + keys.first : NULL,
                           pass->form->scale);
        if (dv) mra_small_gemm_run(to_keys, tile->weight, o->dz + first * d, dv + own);
        if (dk) mra_small_gemm_run(to_keys, tile->weight_grad, o->q + first * d, dk + own);
        if (o->dq)
            mra_small_gemm_run(&pass->products.to_rows[last][rows.last_and_short],
                               tile->weight_grad, o->k + start, o->dq + first * d);
    }
}

static void backward_item(void *context, size_t item, int thread)
{
    const block_pass *pass = context;
    const mra_softmax_tile tile = tile_of(pass, thread);
    const size_t size = (size_t)pass->form->pattern.n * (size_t)pass->form->d;
    const size_t head = item / pass->chunks, chunk = item % pass->chunks;
    const size_t blocks = (size_t)pass->blocks;
    float *dk = pass->operands->dk ? pass->operands->dk + head * size : NULL;
    float *dv = pass->operands->dv ? pass->operands->dv + head * size : NULL;
    if (chunk > 0) {
        float *own = pass->partial + ((chunk - 1) * pass->heads + head) * 2 * size;
        memset(own, 0, 2 * size * sizeof *own);
        if (dk) dk = own;
        if (dv) dv = own + size;
    }
    for (size_t row = blocks * chunk / pass->chunks; row < blocks * (chunk + 1) / pass->chunks;
         row++)
        backward_row(pass, &tile, head, (int)row, dk, dv);
}

static void add_to(float *restrict to, const float *restrict from, size_t count)
{
    for (size_t i = 0; to && i < count; i++) to[i] += from[i];
}

// dK and dV of a head += its partial sums, in the order of the runs.
static void add_partial(void *context, size_t head, int thread)
{
    (void)thread;
    const block_pass *pass = context;
    const size_t size = (size_t)pass->form->pattern.n * (size_t)pass->form->d;
    float *dk = pass->operands->dk, *dv = pass->operands->dv;
    for (size_t chunk = 1; chunk < pass->chunks; chunk++) {
        const float *own = pass->partial + ((chunk - 1) * pass->heads + head) * 2 * size;
        add_to(dk ? dk + head * size : NULL, own, size);
        add_to(dv ? dv + head * size : NULL, own + size, size);
    }
}

mra_status mra_cpu_block_attention_backward(mra_device *device, const mra_block_form *form,
                                            const mra_block_operands *operands, mra_error *err)
{
    block_pass pass;
    if (!form->batch || form->pattern.n < 1) return MRA_OK;
    mra_status status = prepare(device, &pass, form, operands, err);
    if (status != MRA_OK) return status;
    pass.chunks = chunks_of(&pass);
    const size_t size = pass.heads * (size_t)form->pattern.n * (size_t)form->d;
    pass.partial = mra_cpu_more_scratch(device, (pass.chunks - 1) * 2 * size, sizeof(float),
                                        "block attention, backward", err);
    if (!pass.partial) return MRA_NO_MEMORY;
    mra_cpu_loop(device, pass.heads * pass.chunks, backward_item, &pass);
    if (pass.chunks > 1) mra_cpu_loop(device, pass.heads, add_partial, &pass);
    return MRA_OK;
}
