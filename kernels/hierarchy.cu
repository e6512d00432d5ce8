// # Hierarchical attention
//
// src/tensor/hierarchy.h says what it is. A level is half as long as the one below it, so all
// levels together have fewer than twice the rows of the tokens. They lie one after another, level by
// level, and in each the rows of all heads; then an aligned pair of blocks, $2b$ rows, is one of a
// batch of equal small matrices, and what is multiplied is multiplied by the library, all levels at
// once:
//
// $$L = Q K^\top,\quad P = W V\quad\text{forward};\qquad L = Q K^\top,\; S = G V^\top,\; dQ = S K,\;
// dK = S^\top Q,\; dV = W^\top G\quad\text{backward},$$
//
// with matrices of $2b \times 2b$ weights of which a level uses its two blocks off the diagonal, and
// level 0 all four. Half of the products of the higher levels are of no use; in exchange a block of
// 16 becomes a matrix of 32. Between the products a warp has a row: weights from logits, or slopes.
// Then a warp has a token and adds up the rows above it, each level relative to the largest logit of
// all; backward a thread has an entry of a token's gradient and adds what arrived at the rows above
// it, with its share in each. No sum is taken by atomic additions.
//
// At 12 heads of 64, batch 8, $n=4096$, $b=16$: 96 heads of 8160 rows, 0.20 GB an array of that
// size and width, 0.10 GB of logits. Forward writes three (pooled), reads them, writes and reads
// one, and writes and twice reads and writes logits: 2.2 GB with q, k, v, z, 0.46 ms on an H200 at
// 4.8 TB/s; 6.4 GFLOP, 0.1 ms at the 67 TFLOP/s of float32. Backward: pooling, G, five products
// and three gradients, some 4.5 GB, 0.94 ms; 16 GFLOP. What small batched products cost beyond that
// is not known here.

#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { WARPS = THREADS / 32 };

// Heads group .. group + groups - 1 and the arrays of their levels: row r of head g of level l is row
// groups first(l) + g count(l) + r.
struct tree {
    mra_hierarchy form;
    mra_hierarchy_operands o;
    size_t group, groups, rows; // rows: of all levels and heads
    int levels, side;           // levels kept, at least 1; rows of a pair of blocks
    float *q, *k, *v;           // [rows, d] pooled; q times the scale
    float *seen, *weight;       // [rows]: visible tokens; share in the mean of the row above
    float *logit;               // [rows / side, side, side], then weights
    // Forward: what a row sees at its level, relative to its largest logit (published: as it is).
    float *part, *largest, *divisor;
    // Backward: gradient of the sum and of the divisor, collected from the tokens; the least
    // logarithm of their divisors; gradients of weights, then of logits; of pooled q, k, v.
    float *sum, *slope, *gradient[3]; // `divisor` and `largest` serve for the other two
};

__host__ __device__ static size_t count_of(const tree &t, int level)
{
    return (size_t)t.form.block << (t.form.doublings - level);
}
// Rows of one head on the levels below `level`.
__host__ __device__ static size_t first_of(const tree &t, int level)
{
    const size_t all = 2 * count_of(t, 0);
    return all - (all >> level);
}
__device__ static int level_of(const tree &t, size_t row)
{
    int level = 0;
    while (level + 1 < t.levels && row >= t.groups * first_of(t, level + 1)) level++;
    return level;
}
// The row of token i of head g (of this slice) at a level.
__device__ static size_t row_above(const tree &t, int level, size_t g, size_t i)
{
    return t.groups * first_of(t, level) + g * count_of(t, level) + (i >> level);
}

// ---- Pooling --------------------------------------------------------------------------------

struct tokens_each {
    tree t;
    __device__ void operator()(size_t at) const // of q, k, v at level 0
    {
        const size_t d = (size_t)t.form.d, row = at / d, n = (size_t)t.form.n;
        const size_t i = row % count_of(t, 0), group = t.group + row / count_of(t, 0);
        const bool visible =
            i < n && (!t.o.mask || t.o.mask[group / (size_t)t.form.heads * n + i]);
        const size_t from = (group * n + i) * d + at % d;
        t.q[at] = visible ? t.form.scale * t.o.q[from] : 0.0f;
        t.k[at] = visible ? t.o.k[from] : 0.0f;
        t.v[at] = visible ? t.o.v[from] : 0.0f;
        if (at % d == 0) t.seen[row] = visible ? 1.0f : 0.0f;
    }
};

struct pool_each {
    tree t;
    int level;
    __device__ void operator()(size_t at) const
    {
        const size_t d = (size_t)t.form.d, c = at % d, local = at / d;
        const size_t row = t.groups * first_of(t, level) + local;
        const size_t child = t.groups * first_of(t, level - 1) + 2 * local;
        const float first = t.seen[child], second = t.seen[child + 1];
        // Shares of the halves in their mean: by visible tokens or, published, one each.
        const float a = t.form.published ? (float)(first > 0.0f) : first;
        const float b = t.form.published ? (float)(second > 0.0f) : second;
        const float inverse = a + b > 0.0f ? 1.0f / (a + b) : 0.0f;
        const float one = a * inverse, other = b * inverse;
        const size_t to = row * d + c, from = child * d + c;
        t.q[to] = one * t.q[from] + other * t.q[from + d];
        t.k[to] = one * t.k[from] + other * t.k[from + d];
        t.v[to] = t.v[from] + t.v[from + d];
        if (c > 0) return;
        t.weight[child] = one;
        t.weight[child + 1] = other;
        t.seen[row] = first + second;
    }
};

static mra_status pool(mra_device *device, const tree &t, mra_error *err)
{
    const size_t entries = t.groups * (size_t)t.form.d;
    mra_status status =
        for_each(device, "hierarchy_tokens", entries * count_of(t, 0), tokens_each{t}, err);
    for (int level = 1; level < t.levels && !status; level++)
        status = for_each(device, "hierarchy_pool", entries * count_of(t, level),
                          pool_each{t, level}, err);
    return status;
}

// For each pair of blocks a product of its [side, m or k] matrices; of weights, transposed or not,
// and rows, or of rows with rows.
static mra_status pair_products(mra_device *device, const tree &t, bool rows_with_rows,
                                bool transpose, const float *a, const float *b, float *c,
                                mra_error *err)
{
    const int n = rows_with_rows ? t.side : t.form.d, k = rows_with_rows ? t.form.d : t.side;
    const mra_product product = {t.rows / (size_t)t.side, t.side, n, k, transpose,
                                 rows_with_rows,          1.0f};
    return gemm(device, &product, a, b, c, false, err);
}

// ---- A warp has a row -----------------------------------------------------------------------

// The two blocks of keys that a row has before it: its own and the sibling (or its own alone).
struct pair_row {
    size_t row;
    int lane, block, blocks;
    bool allowed[2]; // which of them it sees at its level
    float *logit;    // [side]
    const float *seen;
    __device__ pair_row(const tree &t, size_t row_) : row(row_), lane((int)threadIdx.x % 32)
    {
        block = t.form.block, blocks = t.side / block;
        const size_t side = (size_t)t.side, pair = row / side;
        const int own = (int)(row % side) / block, level = level_of(t, row);
        for (int s = 0; s < 2; s++)
            allowed[s] = s < blocks && (s == own ? level == 0 : t.form.levels > 0);
        logit = t.logit + row * side;
        seen = t.seen + pair * side;
    }
    // The largest logit of a visible key of block s; -infinity: there is none.
    __device__ float largest_of(int s) const
    {
        float largest = -INFINITY;
        for (int j = s * block + lane; j < (s + 1) * block; j += 32)
            if (allowed[s] && seen[j] > 0.0f) largest = fmaxf(largest, logit[j]);
        return warp_max(largest);
    }
};

__global__ void hierarchy_weights_kernel(tree t)
{
    const size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= t.rows) return;
    const pair_row p(t, row);
    float largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int s = 0; s < 2; s++)
        if (s < p.blocks) largest[s] = p.largest_of(s);
    const bool published = t.form.published;
    const float both = fmaxf(largest[0], largest[1]);
    float divisor = 0.0f;
#pragma unroll
    for (int s = 0; s < 2; s++) {
        if (s == p.blocks) break;
        const float shift = published ? largest[s] : both;
        for (int j = s * p.block + p.lane; j < (s + 1) * p.block; j += 32) {
            const bool counts = p.allowed[s] && p.seen[j] > 0.0f;
            const float weight = counts ? expf(p.logit[j] - shift) : 0.0f;
            p.logit[j] = weight;
            divisor += published ? weight : weight * p.seen[j];
        }
        if (published && p.allowed[s] && shift == -INFINITY && p.lane == 0)
            divisor += (float)p.block;
    }
    divisor = warp_sum(divisor);
    if (p.lane > 0) return;
    t.divisor[row] = divisor;
    t.largest[row] = published ? 0.0f : both;
}

// Logits become weights, t.slope (gradients of weights) gradients of logits.
__global__ void hierarchy_slopes_kernel(tree t)
{
    const size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= t.rows) return;
    const pair_row p(t, row);
    const bool published = t.form.published;
    float *slope = t.slope + row * (size_t)t.side;
#pragma unroll
    for (int s = 0; s < 2; s++) {
        if (s == p.blocks) break;
        const float shift = published ? p.largest_of(s) : t.largest[row];
        float total = 0.0f;
        int top = t.side; // the first key with the largest logit: published
        for (int j = s * p.block + p.lane; j < (s + 1) * p.block; j += 32) {
            const bool counts = p.allowed[s] && p.seen[j] > 0.0f;
            const float weight = counts ? expf(p.logit[j] - shift) : 0.0f;
            const float share = t.divisor[row] * (published ? 1.0f : p.seen[j]);
            if (counts && p.logit[j] == shift) top = min(top, j);
            p.logit[j] = weight;
            slope[j] = counts ? weight * (slope[j] + share) : 0.0f;
            total += slope[j];
        }
        if (!published) continue;
        total = warp_sum(total);
        const int first = __reduce_min_sync(0xffffffffu, top);
        if (first == top && top < t.side) slope[top] -= total;
    }
}

// ---- A warp has a token ---------------------------------------------------------------------

__global__ void hierarchy_finish_kernel(tree t)
{
    const size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, n = (size_t)t.form.n;
    if (at >= t.groups * n) return;
    const size_t g = at / n, i = at % n, d = (size_t)t.form.d, out = t.group * n + at;
    float largest = -INFINITY, divisor = 0.0f;
    for (int level = 0; level < t.levels; level++)
        largest = fmaxf(largest, t.largest[row_above(t, level, g, i)]);
    const float shift = largest == -INFINITY ? 0.0f : largest;
    for (int level = 0; level < t.levels; level++) {
        const size_t row = row_above(t, level, g, i);
        divisor += expf(t.largest[row] - shift) * t.divisor[row];
    }
    const bool empty = t.seen[row_above(t, 0, g, i)] == 0.0f || divisor == 0.0f;
    if (t.form.published) divisor += 1e-8f;
    const float inverse = empty ? 0.0f : 1.0f / divisor;
    for (size_t c = threadIdx.x % 32; c < d; c += 32) {
        float sum = 0.0f;
        for (int level = t.levels - 1; level >= 0; level--) {
            const size_t row = row_above(t, level, g, i);
            sum += expf(t.largest[row] - shift) * t.part[row * d + c];
        }
        t.o.z[out * d + c] = sum * inverse;
    }
    if (threadIdx.x % 32 > 0) return;
    t.o.divisor[out] = empty ? INFINITY : t.form.published ? divisor : largest + logf(divisor);
}

// Level 0 of G, of the gradient of the divisor and of its logarithm.
__global__ void hierarchy_gradient_kernel(tree t)
{
    const size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, n = (size_t)t.form.n;
    if (row >= t.groups * count_of(t, 0)) return;
    const size_t g = row / count_of(t, 0), i = row % count_of(t, 0), d = (size_t)t.form.d;
    const size_t in = (t.group + g) * n + i;
    const float divisor = i < n ? t.o.divisor[in] : INFINITY;
    const bool there = divisor != INFINITY, published = t.form.published;
    const float factor = published ? 1.0f / divisor : 1.0f;
    float inner = 0.0f;
    for (size_t c = threadIdx.x % 32; c < d; c += 32) {
        const float value = there ? factor * t.o.dz[in * d + c] : 0.0f;
        t.sum[row * d + c] = value;
        if (there) inner += value * t.o.z[in * d + c];
    }
    inner = warp_sum(inner);
    if (threadIdx.x % 32 > 0) return;
    t.divisor[row] = -inner;
    t.largest[row] = there && published ? 0.0f : divisor;
}

struct hierarchy_collect_each {
    tree t;
    int level;
    __device__ void operator()(size_t at) const
    {
        const size_t d = (size_t)t.form.d, c = at % d, local = at / d;
        const size_t row = t.groups * first_of(t, level) + local;
        const size_t child = t.groups * first_of(t, level - 1) + 2 * local;
        const float a = t.largest[child], b = t.largest[child + 1], least = fminf(a, b);
        const float first = a == INFINITY ? 0.0f : expf(least - a);
        const float second = b == INFINITY ? 0.0f : expf(least - b);
        t.sum[row * d + c] = first * t.sum[child * d + c] + second * t.sum[(child + 1) * d + c];
        if (c > 0) return;
        t.divisor[row] = first * t.divisor[child] + second * t.divisor[child + 1];
        t.largest[row] = least;
    }
};

struct write_each {
    tree t;
    int which; // of q, k, v
    __device__ void operator()(size_t at) const
    {
        const size_t d = (size_t)t.form.d, n = (size_t)t.form.n, i = at / d % n, g = at / d / n;
        const float *from = t.gradient[which];
        float value = 0.0f, share = 1.0f;
        for (int level = 0; level < t.levels; level++) {
            const size_t row = row_above(t, level, g, i);
            value += share * from[row * d + at % d];
            if (which < 2 && level + 1 < t.levels) share *= t.weight[row];
        }
        value *= t.seen[row_above(t, 0, g, i)] * (which == 0 ? t.form.scale : 1.0f);
        float *to = t.o.gradient[which] + t.group * n * d + at;
        *to = t.o.adds[which] ? *to + value : value;
    }
};

// ---- Slices of heads ------------------------------------------------------------------------

static float *take(mra_device *device, size_t count)
{
    return working_piece<float>(device, count);
}

// Heads first .. first + groups - 1 with their arrays, in working memory that has begun.
static tree place(mra_device *device, tree t, size_t first, size_t groups, bool backward)
{
    state_of(device)->working_used = 0;
    t.group = first, t.groups = groups, t.rows = groups * first_of(t, t.levels);
    const size_t size = t.rows * (size_t)t.form.d, square = t.rows * (size_t)t.side;
    float **const wide[] = {&t.q, &t.k, &t.v, backward ? &t.sum : &t.part};
    float **const narrow[] = {&t.seen, &t.weight, &t.largest, &t.divisor};
    for (int i = 0; i < 4; i++) *wide[i] = take(device, size);
    for (int i = 0; i < 4; i++) *narrow[i] = take(device, t.rows);
    t.logit = take(device, square);
    for (int i = 0; i < 3 && backward; i++) t.gradient[i] = take(device, size);
    if (backward) t.slope = take(device, square);
    return t;
}

static mra_status forward(mra_device *device, const tree &t, mra_error *err)
{
    stream_t stream = stream_of(device);
    mra_status status = pool(device, t, err);
    if (!status) status = pair_products(device, t, true, false, t.q, t.k, t.logit, err);
    if (status) return status;
    MRA_LAUNCH(hierarchy_weights_kernel, blocks_for(t.rows, WARPS), THREADS, 0, stream, t);
    status = launch_status(stream, "hierarchy", err);
    if (!status) status = pair_products(device, t, false, false, t.logit, t.v, t.part, err);
    if (status) return status;
    MRA_LAUNCH(hierarchy_finish_kernel, blocks_for(t.groups * (size_t)t.form.n, WARPS), THREADS,
               0, stream, t);
    return launch_status(stream, "hierarchy", err);
}

static mra_status backward(mra_device *device, const tree &t, mra_error *err)
{
    const char *name = "hierarchy_backward";
    stream_t stream = stream_of(device);
    const size_t entries = t.groups * (size_t)t.form.d;
    mra_status status = pool(device, t, err);
    if (status) return status;
    MRA_LAUNCH(hierarchy_gradient_kernel, blocks_for(t.groups * count_of(t, 0), WARPS), THREADS,
               0, stream, t);
    status = launch_status(stream, name, err);
    for (int level = 1; level < t.levels && !status; level++)
        status = for_each(device, "hierarchy_collect", entries * count_of(t, level),
                          hierarchy_collect_each{t, level}, err);
    if (!status) status = pair_products(device, t, true, false, t.q, t.k, t.logit, err);
    if (!status) status = pair_products(device, t, true, false, t.sum, t.v, t.slope, err);
    if (status) return status;
    MRA_LAUNCH(hierarchy_slopes_kernel, blocks_for(t.rows, WARPS), THREADS, 0, stream, t);
    status = launch_status(stream, name, err);
    if (!status)
        status = pair_products(device, t, false, false, t.slope, t.k, t.gradient[0], err);
    if (!status)
        status = pair_products(device, t, false, true, t.slope, t.q, t.gradient[1], err);
    if (!status)
        status = pair_products(device, t, false, true, t.logit, t.sum, t.gradient[2], err);
    for (int i = 0; i < 3 && !status; i++)
        if (t.o.gradient[i])
            status = for_each(device, "hierarchy_write", entries * (size_t)t.form.n,
                              write_each{t, i}, err);
    return status;
}

static mra_status run(mra_device *device, const char *name, const mra_hierarchy *form,
                      const mra_hierarchy_operands *operands, bool back, mra_error *err)
{
    tree t = {};
    t.form = *form, t.o = *operands;
    t.levels = form->levels > 1 ? form->levels : 1;
    t.side = form->doublings > 0 ? 2 * form->block : form->block;
    const size_t heads = form->batch * (size_t)form->heads, rows = first_of(t, t.levels);
    if (!heads || form->n < 1) return MRA_OK;
    const size_t wide = back ? 7 : 4, square = back ? 2 : 1;
    const size_t floats = rows * (wide * (size_t)form->d + 4 + square * (size_t)t.side);
    const size_t groups = slice_of(device, floats * sizeof(float), heads);
    // Each piece begins at a multiple of 256 bytes.
    mra_status status = working_begin(
        device, groups * floats * sizeof(float) + 16 * working_size(1), name, err);
    for (size_t first = 0; first < heads && !status; first += groups) {
        const size_t many = heads - first < groups ? heads - first : groups;
        const tree slice = place(device, t, first, many, back);
        status = back ? backward(device, slice, err) : forward(device, slice, err);
    }
    return status;
}

mra_status hierarchy(mra_device *device, const mra_hierarchy *form,
                     const mra_hierarchy_operands *operands, mra_error *err)
{
    return run(device, "hierarchy", form, operands, false, err);
}

mra_status hierarchy_backward(mra_device *device, const mra_hierarchy *form,
                              const mra_hierarchy_operands *operands, mra_error *err)
{
    return run(device, "hierarchy_backward", form, operands, true, err);
}

} // namespace MRA_BACKEND
