// The gradients of sums over colliding rows with respect to the vectors that were hashed, on
// the cpu.
//
// A code does not change when its vector moves a little, so the derivative of the expected sum
// is estimated instead, from the very pairs that met: each contributes $g_{ij}\,\langle dy_i,
// v_j\rangle$ times the other vector. For one bucket of one function with $a$ rows of $q$ and
// $b$ of $k$ there are two ways to the same sums,
//
// $$\sum_j \langle dy_i, v_j\rangle\, k_j \;=\; \Big(\sum_j k_j v_j^\top\Big)\, dy_i ,$$
//
// pair by pair in $6\,a\,b\,d$ operations or through a $d \times d$ matrix in $4\,(a +
// b)\,d^2$. The cheaper one is taken, bucket by bucket: spread-out codes make pairs few, and
// codes that pile up cost no more than $O(n d^2)$ a function. Small buckets are gone through in
// plain loops, large ones in matrix products.
//
// With rule->derivative a pair counts once, with a weight of its own, so the pairs are gone
// through one by one, each at the first function in which it meets: $O(n^2 d)$ where all codes
// agree.

#include <string.h>

#include "tensor/cpu.h"
#include "tensor/cpu_angle.h"
#include "tensor/gemm.h"

enum { FEW = 1024 }; // pairs of a bucket that plain loops handle

typedef struct collision_context {
    const mra_hash_form *form;
    const mra_collision_rule *rule;
    const int32_t *q_codes, *k_codes;
    const float *q, *k, *v, *dy;
    float *dq, *dk;
    bool add_q, add_k;
    int32_t *integers;
    float *floats;
    size_t integers_each, floats_each; // per thread
} collision_context;

// One head: its arrays, and a thread's working memory.
typedef struct collision_head {
    const collision_context *c;
    size_t n, d;
    const int32_t *q_codes, *k_codes; // [hashes, n]
    const float *q, *k, *v, *dy;
    float *dq, *dk;                  // sums, not yet scaled
    float *rows[4], *result, *pairs; // of a bucket: q, k, v, dy; [n, d]; S or matrices
    int32_t *order_q, *start_q, *order_k, *start_k;
} collision_head;

typedef struct bucket {
    const int32_t *q, *k; // row numbers
    int qs, ks, hash;
} bucket;

static inline float dot(size_t d, const float *a, const float *b)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < d; j++) sum += a[j] * b[j];
    return sum;
}

static inline void add_scaled(size_t d, float factor, const float *restrict x,
                              float *restrict y)
{
#pragma omp simd
    for (size_t j = 0; j < d; j++) y[j] += factor * x[j];
}

// Whether rows i of q and j of k met in a function before `hash`.
static bool met_before(const collision_head *h, int hash, size_t i, size_t j)
{
    for (int before = 0; before < hash; before++) {
        const int32_t code = h->q_codes[(size_t)before * h->n + i];
        if (code >= 0 && code == h->k_codes[(size_t)before * h->n + j]) return true;
    }
    return false;
}

static float slope(const mra_collision_rule *rule, float cosine)
{
    const float c = rule->shrink * cosine, share = mra_angle_share(c);
    float below = 1.0f;
    for (int i = 1; i < rule->power; i++) below *= share;
    return (float)rule->power * below * 0.31830988618f * mra_inverse_sine(c);
}

static void by_pairs(const collision_head *h, const bucket *b)
{
    const mra_collision_rule *rule = h->c->rule;
    const size_t d = h->d;
    for (int a = 0; a < b->qs; a++) {
        const size_t i = (size_t)b->q[a];
        for (int e = 0; e < b->ks; e++) {
            const size_t j = (size_t)b->k[e];
            if (rule->derivative && met_before(h, b->hash, i, j)) continue;
            float weight = dot(d, h->dy + i * d, h->v + j * d);
            if (rule->derivative) weight *= slope(rule, dot(d, h->q + i * d, h->k + j * d));
            add_scaled(d, weight, h->k + j * d, h->dq + i * d);
            add_scaled(d, weight, h->q + i * d, h->dk + j * d);
        }
    }
}

static void gather(size_t d, int count, const int32_t *row, const float *x, float *y)
{
    for (int i = 0; i < count; i++)
        memcpy(y + (size_t)i * d, x + (size_t)row[i] * d, d * sizeof *y);
}

static void scatter(size_t d, int count, const int32_t *row, const float *x, float *y)
{
    for (int i = 0; i < count; i++)
        add_scaled(d, 1.0f, x + (size_t)i * d, y + (size_t)row[i] * d);
}

// A large bucket by products: S = dy v^T when `direct`, else the d x d matrices.
static void by_products(const collision_head *h, const bucket *b, bool direct)
{
    const int d = (int)h->d, qs = b->qs, ks = b->ks;
    float *q = h->rows[0], *k = h->rows[1], *v = h->rows[2], *dy = h->rows[3], *s = h->pairs;
    gather(h->d, qs, b->q, h->q, q);
    gather(h->d, ks, b->k, h->k, k);
    gather(h->d, ks, b->k, h->v, v);
    gather(h->d, qs, b->q, h->dy, dy);
    if (direct) {
        mra_gemm(false, true, qs, ks, d, 1.0f, dy, d, v, d, 0.0f, s, ks);
        mra_gemm(false, false, qs, d, ks, 1.0f, s, ks, k, d, 0.0f, h->result, d);
        scatter(h->d, qs, b->q, h->result, h->dq);
        mra_gemm(true, false, ks, d, qs, 1.0f, s, ks, q, d, 0.0f, h->result, d);
        scatter(h->d, ks, b->k, h->result, h->dk);
        return;
    }
    mra_gemm(true, false, d, d, ks, 1.0f, v, d, k, d, 0.0f, s, d); // sum of v_j k_j^T
    mra_gemm(false, false, qs, d, d, 1.0f, dy, d, s, d, 0.0f, h->result, d);
    scatter(h->d, qs, b->q, h->result, h->dq);
    mra_gemm(true, false, d, d, qs, 1.0f, dy, d, q, d, 0.0f, s, d); // sum of dy_i q_i^T
    mra_gemm(false, false, ks, d, d, 1.0f, v, d, s, d, 0.0f, h->result, d);
    scatter(h->d, ks, b->k, h->result, h->dk);
}

static void one_bucket(const collision_head *h, const bucket *b)
{
    const size_t pairs = (size_t)b->qs * (size_t)b->ks;
    if (!pairs) return;
    if (pairs <= FEW || h->c->rule->derivative)
        by_pairs(h, b);
    else
        by_products(h, b, 3 * pairs <= 2 * h->d * (size_t)(b->qs + b->ks));
}

static void write_scaled(size_t size, float factor, const float *sum, float *y, bool add)
{
    if (!y) return;
    for (size_t i = 0; i < size; i++) y[i] = (add ? y[i] : 0.0f) + factor * sum[i];
}

static void collision_item(void *context, size_t item, int thread)
{
    const collision_context *c = context;
    const mra_hash_form *form = c->form;
    const size_t n = (size_t)form->n, d = (size_t)form->d, size = n * d, at = item * size;
    const size_t codes = item * (size_t)form->hashes * n;
    float *f = c->floats + (size_t)thread * c->floats_each;
    int32_t *w = c->integers + (size_t)thread * c->integers_each;
    const collision_head h = {.c = c,
                              .n = n,
                              .d = d,
                              .q_codes = c->q_codes + codes,
                              .k_codes = c->k_codes + codes,
                              .q = c->q + at,
                              .k = c->k + at,
                              .v = c->v + at,
                              .dy = c->dy + at,
                              .dq = f,
                              .dk = f + size,
                              .rows = {f + 2 * size, f + 3 * size, f + 4 * size, f + 5 * size},
                              .result = f + 6 * size,
                              .pairs = f + 7 * size,
                              .order_q = w,
                              .order_k = w + n,
                              .start_q = w + 2 * n,
                              .start_k = w + 2 * n + (size_t)form->codes + 1};
    memset(f, 0, 2 * size * sizeof *f);
    for (int hash = 0; hash < form->hashes; hash++) {
        const size_t list = (size_t)hash * n;
        mra_cpu_sort_list(form->n, form->codes, h.q_codes + list, h.order_q, h.start_q);
        mra_cpu_sort_list(form->n, form->codes, h.k_codes + list, h.order_k, h.start_k);
        for (int code = 0; code < form->codes; code++)
            one_bucket(&h, &(bucket){.q = h.order_q + h.start_q[code],
                                     .k = h.order_k + h.start_k[code],
                                     .qs = h.start_q[code + 1] - h.start_q[code],
                                     .ks = h.start_k[code + 1] - h.start_k[code],
                                     .hash = hash});
    }
    const float factor =
        c->rule->derivative ? 1.0f : 0.5f * (float)c->rule->power / (float)form->hashes;
    write_scaled(size, factor, h.dq, c->dq ? c->dq + at : NULL, c->add_q);
    write_scaled(size, factor, h.dk, c->dk ? c->dk + at : NULL, c->add_k);
}

mra_status mra_cpu_collision_backward(mra_device *device, const mra_hash_form *form,
                                      const mra_collision_rule *rule, const int32_t *q_codes,
                                      const int32_t *k_codes, const float *const qkv[3],
                                      const float *dy, float *dq, bool add_q, float *dk,
                                      bool add_k, mra_error *err)
{
    const size_t n = (size_t)form->n, d = (size_t)form->d, threads = (size_t)device->threads;
    collision_context c = {.form = form,
                           .rule = rule,
                           .q_codes = q_codes,
                           .k_codes = k_codes,
                           .q = qkv[0],
                           .k = qkv[1],
                           .v = qkv[2],
                           .dy = dy,
                           .dq = dq,
                           .dk = dk,
                           .add_q = add_q,
                           .add_k = add_k};
    // S of a bucket that is summed directly has at most 2/3 d (qs + ks) entries.
    c.floats_each = 7 * n * d + (2 * n > d ? 2 * n : d) * d;
    c.integers_each = 2 * (n + (size_t)form->codes + 1);
    c.floats = mra_cpu_scratch(device, threads * c.floats_each, sizeof *c.floats,
                               "collisions, backward", err);
    if (!c.floats) return MRA_NO_MEMORY;
    c.integers = mra_cpu_more_scratch(device, threads * c.integers_each, sizeof *c.integers,
                                      "collisions, backward", err);
    if (!c.integers) return MRA_NO_MEMORY;
    mra_cpu_loop(device, form->batch * (size_t)form->heads, collision_item, &c);
    return MRA_OK;
}
