// Attention among sorted rows, chunk by chunk, on the cpu.
//
// A chunk of queries meets two chunks of keys: products of fixed size whatever the length, so
// $O(n\,\mathrm{chunk}\,d)$ a round. The rounds of one query belong to one softmax. Its running
// maximum and sum go from round to round as in blocked attention, which is the same as
// weighting the rounds' results by their log-sum-exp, but keeps largest logit and sum apart: a
// logit of $-10^5$ (a row that meets only itself) leaves single precision no room for the $\log
// 2$ of two rounds.
//
// The way back computes each chunk's logits again: with $p_{ij}$ the weight of a pair,
// $D_i = \langle dz_i, z_i\rangle$,
//
// $$ds_{ij} = p_{ij}\,(\langle dz_i, v_j\rangle - D_i),\quad dq_i = \sum_j ds_{ij} k_j,\quad
// dk_j = \sum_i ds_{ij} q_i,\quad dv_j = \sum_i p_{ij}\, dz_i ,$$
//
// except that the logit of a pair of a row with itself is a constant, whose $ds$ is 0.

#include <math.h>
#include <string.h>

#include "tensor/cpu.h"
#include "tensor/gemm.h"
#include "tensor/vector.h"

static const float self_logit = -1e5f;

typedef struct sorted_context {
    const mra_sorted_form *form;
    const mra_sorted_operands *o;
    int32_t *integers;
    float *floats;
    size_t integers_each, floats_each;
} sorted_context;

// One head and a thread's working memory. A chunk's queries are its entries; its keys those of
// the chunk before (if any) and its own.
typedef struct sorted_head {
    const mra_sorted_form *form;
    const float *q, *k, *v, *dz;
    const int32_t *codes, *order;
    const uint8_t *mask;
    float *statistics, *z;                           // [n, 2]; [n, d] (backward: read)
    float *gradient[3];                              // backward: sums for dq, dk, dv
    int32_t *chunk_of;                               // [rounds, n]: a row's chunk in each round
    int32_t *key_row, *key_code, *key_chunk, *query; // of a chunk; key_* [rounds, 2 chunk]
    float *q_rows, *k_rows, *v_rows, *dz_rows, *result; // gathered
    float *logit, *slope;                               // [chunk, 2 chunk]
    int queries, keys, round;
} sorted_head;

// ---- The pairs of a chunk -------------------------------------------------------------------

static void gather(size_t d, int count, const int32_t *row, const float *x, float *y)
{
    for (int i = 0; i < count; i++)
        memcpy(y + (size_t)i * d, x + (size_t)row[i] * d, d * sizeof *y);
}

static void scatter(size_t d, int count, const int32_t *row, const float *x, float *y)
{
    for (int i = 0; i < count; i++) {
        float *restrict to = y + (size_t)row[i] * d;
        const float *restrict from = x + (size_t)i * d;
#pragma omp simd
        for (size_t j = 0; j < d; j++) to[j] += from[j];
    }
}

// The keys' codes and chunks in every round, for counting in how many a pair meets.
static void look_up_keys(sorted_head *h)
{
    const int n = h->form->n, most = 2 * h->form->chunk;
    for (int r = 0; r < h->form->rounds && h->form->by_bucket; r++)
        for (int j = 0; j < h->keys; j++) {
            h->key_code[r * most + j] = h->codes[r * n + h->key_row[j]];
            h->key_chunk[r * most + j] = h->chunk_of[r * n + h->key_row[j]];
        }
}

// The logits of query `row` (in place) and the share of each pair: 1 / (rounds in which it
// meets), 0 if it does not meet in this one.
static void pair_shares(const sorted_head *h, int32_t row, float *restrict logit,
                        float *restrict share)
{
    const int n = h->form->n, most = 2 * h->form->chunk, keys = h->keys;
    if (!h->form->by_bucket) {
        for (int j = 0; j < keys; j++)
            share[j] = h->mask && !h->mask[h->key_row[j]] ? 0.0f : 1.0f;
    } else {
        int meets[keys];
        memset(meets, 0, sizeof meets);
        for (int r = 0; r < h->form->rounds; r++) {
            const int32_t code = h->codes[r * n + row], chunk = h->chunk_of[r * n + row];
            const int32_t *codes = h->key_code + r * most, *chunks = h->key_chunk + r * most;
#pragma omp simd
            for (int j = 0; j < keys; j++)
                meets[j] += (codes[j] == code) & ((uint32_t)(chunk - chunks[j]) <= 1u);
        }
        const int32_t code = h->codes[h->round * n + row];
        const int32_t *codes = h->key_code + h->round * most;
#pragma omp simd
        for (int j = 0; j < keys; j++)
            share[j] = codes[j] == code ? 1.0f / (float)(meets[j] > 0 ? meets[j] : 1) : 0.0f;
    }
    for (int j = 0; j < keys; j++)
        if (h->key_row[j] == row) {
            logit[j] = self_logit;
            share[j] = 1.0f; // met in every round, and counted in each
        }
#pragma omp simd
    for (int j = 0; j < keys; j++) logit[j] = share[j] > 0.0f ? logit[j] : -INFINITY;
}

// Fills query, key_row and the gathered rows for chunk `at` of `length` sorted entries.
static void open_chunk(sorted_head *h, const int32_t *order, int length, int at)
{
    const int chunk = h->form->chunk, n = h->form->n;
    const int chunks = (length + chunk - 1) / chunk;
    const bool ring = !h->form->by_bucket;
    const int before = at > 0 ? at - 1 : ring ? chunks - 1 : -1;
    h->queries = length - at * chunk < chunk ? length - at * chunk : chunk;
    h->keys = 0;
    for (int i = 0; before >= 0 && i < chunk && before * chunk + i < length; i++)
        h->key_row[h->keys++] = order[before * chunk + i] % n;
    for (int i = 0; i < h->queries; i++) {
        h->query[i] = order[at * chunk + i] % n;
        h->key_row[h->keys++] = h->query[i];
    }
    const size_t d = (size_t)h->form->d;
    gather(d, h->queries, h->query, h->q, h->q_rows);
    gather(d, h->keys, h->key_row, h->k, h->k_rows);
    gather(d, h->keys, h->key_row, h->v, h->v_rows);
    look_up_keys(h);
    mra_gemm(false, true, h->queries, h->keys, (int)d, 1.0f, h->q_rows, (int)d, h->k_rows,
             (int)d, 0.0f, h->logit, h->keys);
}

// ---- Forward --------------------------------------------------------------------------------

// Row i of the chunk: logits -> weights relative to the row's running maximum; the row's sum
// and result so far are brought to it.
static void forward_row(sorted_head *h, int i)
{
    const size_t d = (size_t)h->form->d, row = (size_t)h->query[i];
    float *logit = h->logit + (size_t)i * (size_t)h->keys, *state = h->statistics + 2 * row;
    float share[h->keys], sum = 0.0f;
    const bool out = h->mask && !h->mask[row];
    if (!out) pair_shares(h, h->query[i], logit, share);
    const float largest = out ? -INFINITY : mra_row_max(logit, (size_t)h->keys);
    const float shift = largest > state[0] ? largest : state[0];
    if (out || shift == -INFINITY) {
        memset(logit, 0, (size_t)h->keys * sizeof *logit);
        return;
    }
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < h->keys; j++) {
        const float weight = share[j] * mra_exp(logit[j] - shift);
        logit[j] = weight;
        sum += weight;
    }
    const float keep = mra_exp(state[0] - shift);
    float *z = h->z + row * d;
    for (size_t j = 0; j < d && keep != 1.0f; j++) z[j] *= keep;
    state[0] = shift;
    state[1] = state[1] * keep + sum;
}

static void forward_chunk(sorted_head *h)
{
    const int d = h->form->d;
    for (int i = 0; i < h->queries; i++) forward_row(h, i);
    mra_gemm(false, false, h->queries, d, h->keys, 1.0f, h->logit, h->keys, h->v_rows, d, 0.0f,
             h->result, d);
    scatter((size_t)d, h->queries, h->query, h->result, h->z);
}

// ---- Backward -------------------------------------------------------------------------------

// Row i: logits -> weights, and slope[i, :] = <dz_i, v_j> -> ds.
static void backward_row(sorted_head *h, int i, const float *z)
{
    const size_t d = (size_t)h->form->d, row = (size_t)h->query[i], keys = (size_t)h->keys;
    float *logit = h->logit + (size_t)i * keys, *slope = h->slope + (size_t)i * keys;
    const float *state = h->statistics + 2 * row, *dz = h->dz_rows + (size_t)i * d;
    if (!(state[1] > 0.0f)) {
        memset(logit, 0, keys * sizeof *logit);
        memset(slope, 0, keys * sizeof *slope);
        return;
    }
    float share[h->keys], mean = 0.0f;
    pair_shares(h, h->query[i], logit, share);
#pragma omp simd reduction(+ : mean)
    for (size_t j = 0; j < d; j++) mean += dz[j] * z[row * d + j];
    const float inverse = 1.0f / state[1], shift = state[0];
#pragma omp simd
    for (size_t j = 0; j < keys; j++) {
        const float weight = inverse * share[j] * mra_exp(logit[j] - shift);
        logit[j] = weight;
        slope[j] = weight * (slope[j] - mean);
    }
    for (size_t j = 0; j < keys; j++)
        if (h->key_row[j] == h->query[i]) slope[j] = 0.0f;
}

static void backward_chunk(sorted_head *h)
{
    const int d = h->form->d, queries = h->queries, keys = h->keys;
    gather((size_t)d, queries, h->query, h->dz, h->dz_rows);
    mra_gemm(false, true, queries, keys, d, 1.0f, h->dz_rows, d, h->v_rows, d, 0.0f, h->slope,
             keys);
    for (int i = 0; i < queries; i++) backward_row(h, i, h->z);
    mra_gemm(false, false, queries, d, keys, 1.0f, h->slope, keys, h->k_rows, d, 0.0f,
             h->result, d);
    scatter((size_t)d, queries, h->query, h->result, h->gradient[0]);
    mra_gemm(true, false, keys, d, queries, 1.0f, h->slope, keys, h->q_rows, d, 0.0f, h->result,
             d);
    scatter((size_t)d, keys, h->key_row, h->result, h->gradient[1]);
    mra_gemm(true, false, keys, d, queries, 1.0f, h->logit, keys, h->dz_rows, d, 0.0f,
             h->result, d);
    scatter((size_t)d, keys, h->key_row, h->result, h->gradient[2]);
}

// ---- Heads ----------------------------------------------------------------------------------

// All chunks of a head in a fixed order. start: of this head's lists.
static void walk(sorted_head *h, const int32_t *start, int range, void (*chunk)(sorted_head *))
{
    const int n = h->form->n, size = h->form->chunk;
    const int lists = h->form->by_bucket ? h->form->rounds : 1;
    const int length = h->form->by_bucket ? n : h->form->rounds * n;
    if (h->form->by_bucket)
        for (int r = 0; r < lists; r++)
            for (int i = 0; i < start[r * (range + 1) + range]; i++)
                h->chunk_of[r * n + h->order[r * n + i]] = i / size;
    for (h->round = 0; h->round < lists; h->round++) {
        const int count = start[h->round * (range + 1) + range];
        for (int at = 0; at * size < count; at++) {
            open_chunk(h, h->order + h->round * length, count, at);
            chunk(h);
        }
    }
}

static sorted_head open_head(const sorted_context *c, size_t item, int thread)
{
    const mra_sorted_form *f = c->form;
    const mra_sorted_operands *o = c->o;
    const size_t n = (size_t)f->n, d = (size_t)f->d, at = item * n * d;
    const size_t rounds = (size_t)f->rounds, chunk = (size_t)f->chunk, rows = chunk * d;
    float *w = c->floats + (size_t)thread * c->floats_each;
    int32_t *i = c->integers + (size_t)thread * c->integers_each;
    return (sorted_head){
        .form = f,
        .q = o->q + at,
        .k = o->k + at,
        .v = o->v + at,
        .dz = o->dz ? o->dz + at : NULL,
        .codes = o->codes + item * rounds * n,
        .order = o->order + item * rounds * n,
        .mask = o->mask ? o->mask + item / (size_t)f->heads * n : NULL,
        .statistics = o->statistics + item * 2 * n,
        .z = o->z + at,
        .chunk_of = i,
        .key_code = i + rounds * n,
        .key_chunk = i + rounds * (n + 2 * chunk),
        .key_row = i + rounds * (n + 4 * chunk),
        .query = i + rounds * (n + 4 * chunk) + 2 * chunk,
        .q_rows = w,
        .k_rows = w + rows,
        .v_rows = w + 3 * rows,
        .dz_rows = w + 5 * rows,
        .result = w + 6 * rows,
        .logit = w + 8 * rows,
        .slope = w + 8 * rows + 2 * chunk * chunk,
        .gradient = {w + 8 * rows + 4 * chunk * chunk, w + 8 * rows + 4 * chunk * chunk + n * d,
                     w + 8 * rows + 4 * chunk * chunk + 2 * n * d},
    };
}

static const int32_t *starts(const sorted_context *c, size_t item)
{
    const size_t lists = c->form->by_bucket ? (size_t)c->form->rounds : 1;
    return c->o->start + item * lists * (size_t)(c->o->range + 1);
}

static void forward_item(void *context, size_t item, int thread)
{
    const sorted_context *c = context;
    sorted_head h = open_head(c, item, thread);
    const size_t n = (size_t)c->form->n, d = (size_t)c->form->d;
    memset(h.z, 0, n * d * sizeof *h.z);
    for (size_t i = 0; i < n; i++) {
        h.statistics[2 * i] = -INFINITY;
        h.statistics[2 * i + 1] = 0.0f;
    }
    walk(&h, starts(c, item), c->o->range, forward_chunk);
    for (size_t i = 0; i < n; i++) {
        const float sum = h.statistics[2 * i + 1], inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
        for (size_t j = 0; j < d; j++) h.z[i * d + j] *= inverse;
    }
}

static void backward_item(void *context, size_t item, int thread)
{
    const sorted_context *c = context;
    sorted_head h = open_head(c, item, thread);
    const size_t size = (size_t)c->form->n * (size_t)c->form->d;
    memset(h.gradient[0], 0, 3 * size * sizeof *h.gradient[0]);
    walk(&h, starts(c, item), c->o->range, backward_chunk);
    float *const to[3] = {c->o->dq, c->o->dk, c->o->dv};
    const bool add[3] = {c->o->add_q, c->o->add_k, c->o->add_v};
    for (int g = 0; g < 3; g++) {
        if (!to[g]) continue;
        float *y = to[g] + item * size;
        for (size_t i = 0; i < size; i++) y[i] = (add[g] ? y[i] : 0.0f) + h.gradient[g][i];
    }
}

static mra_status run(mra_device *device, sorted_context *c, mra_loop_body body, mra_error *err)
{
    const mra_sorted_form *f = c->form;
    const size_t n = (size_t)f->n, d = (size_t)f->d, chunk = (size_t)f->chunk;
    const size_t threads = (size_t)device->threads, rounds = (size_t)f->rounds;
    c->floats_each = 8 * chunk * d + 4 * chunk * chunk + 3 * n * d;
    c->integers_each = rounds * (n + 4 * chunk) + 3 * chunk;
    c->floats = mra_cpu_scratch(device, threads * c->floats_each, sizeof *c->floats,
                                "sorted attention", err);
    if (!c->floats) return MRA_NO_MEMORY;
    c->integers = mra_cpu_more_scratch(device, threads * c->integers_each, sizeof *c->integers,
                                       "sorted attention", err);
    if (!c->integers) return MRA_NO_MEMORY;
    mra_cpu_loop(device, f->batch * (size_t)f->heads, body, c);
    return MRA_OK;
}

mra_status mra_cpu_sorted_attention(mra_device *device, const mra_sorted_form *form,
                                    const mra_sorted_operands *operands, mra_error *err)
{
    return run(device, &(sorted_context){.form = form, .o = operands}, forward_item, err);
}

mra_status mra_cpu_sorted_attention_backward(mra_device *device, const mra_sorted_form *form,
                                             const mra_sorted_operands *operands,
                                             mra_error *err)
{
    return run(device, &(sorted_context){.form = form, .o = operands}, backward_item, err);
}
