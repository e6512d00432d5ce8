// # Attention over listed blocks
//
// Windows, global tokens and random blocks (src/tensor/cpu_block_attention.c says what the operation
// is). A block of 256 threads takes 32 queries of a head and walks over the list of their block, 32
// keys at a time, with online softmax: eight threads share a query, each holds every eighth column
// of its output in registers. Nothing of size $n^2$ is written.
//
// Backward, $dQ$ goes the same way. $dK$ and $dV$ belong to keys: a block of threads takes 32 keys
// and finds, in the lists, the blocks of queries that name them, in ascending order; so every sum
// has a fixed order and no atomic addition is needed.
//
// With $E$ entries of $b\times b$ the products cost $4Eb^2d$ operations forward and $14 E b^2 d$
// backward (logits and $dP$ are formed twice). They are formed in float32 outside the tensor
// cores, from shared memory: at 12 heads of 64, batch 8, $n=4096$ and a window of 8 blocks of 64
// (96 lists of 64 rows with 8 entries) 12.9 GFLOP forward and 45 backward: 0.19 ms and 0.67 ms at
// the 67 TFLOP/s of an H200. Each multiplication takes two words from shared memory, which delivers
// 128 bytes a clock: that limit is four times lower, 0.8 ms and 2.7 ms. Bytes: q, k, v, z, 403 MB, 84
// us, forward.

#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { SIDE = 32, TEAM = 8 }; // of a tile; threads that share a row of it

struct block_plan {
    int heads, n, d, blocks, parts; // parts: tiles of a block
    float scale;
    mra_block_pattern pattern;
    mra_block_operands o;
    const float *factor; // [batch, heads, n], backward: <z_i, dz_i> - dlse_i
    size_t rows;         // batch * heads * n
};

// 32 rows or fewer of one head.
struct block_tile {
    int first, count;
};
__device__ static block_tile tile_of(const block_plan &p, int block, int part)
{
    const int begin = block * p.pattern.block, end = begin + p.pattern.block;
    block_tile tile;
    tile.first = begin + part * SIDE;
    tile.count = (end < p.n ? end : p.n) - tile.first;
    if (tile.count > SIDE) tile.count = SIDE;
    return tile;
}

// Rows of a tile to shared memory, d + 1 floats apart so that a column lies in different banks;
// zeros after the last row.
__device__ static void load_tile(const block_plan &p, float *to, const float *from, int head,
                                 block_tile tile)
{
    from += ((size_t)head * p.n + tile.first) * p.d;
    for (int i = (int)threadIdx.x; i < SIDE * p.d; i += THREADS) {
        const int row = i / p.d, column = i % p.d;
        to[row * (p.d + 1) + column] = row < tile.count ? from[(size_t)row * p.d + column] : 0;
    }
}

__device__ static bool is_there(const block_plan &p, int head, int i)
{
    return !p.o.mask || p.o.mask[(size_t)(head / p.heads) * p.n + i];
}

// Whether the pair of query i and key j counts.
__device__ static bool pair_counts(const block_plan &p, int head, int i, int j,
                                   bool conditional)
{
    if (!is_there(p, head, i) || !is_there(p, head, j)) return false;
    const mra_block_pattern &pattern = p.pattern;
    return !conditional ||
           (i - j <= pattern.window && j - i <= pattern.window - pattern.fewer) ||
           i < pattern.globals || j < pattern.globals;
}

__device__ static float row_product(const float *a, const float *b, int d)
{
    float sum = 0.0f;
    for (int c = 0; c < d; c++) sum += a[c] * b[c];
    return sum;
}

__device__ static const int32_t *list_of(const block_plan &p, int head)
{
    const int list = head % p.pattern.lists;
    return p.pattern.start + (size_t)list * p.blocks;
}

// sum[k] += sum over j < count of weight[j] rows[j][lane + 8 k].
template <int OWN>
__device__ static void add_rows(float (&sum)[OWN], const float *weight, const float *rows,
                                int count, int stride, int d)
{
    const int lane = (int)threadIdx.x % TEAM;
    for (int j = 0; j < count; j++) {
        const float w = weight[j];
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            const int c = lane + TEAM * k;
            if (c < d) sum[k] += w * rows[j * stride + c];
        }
    }
}

__device__ static float team_max(float x)
{
    for (int step = TEAM / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}
__device__ static float team_sum(float x)
{
    for (int step = TEAM / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

// ## Forward

struct online_row {
    float largest, sum;
};

// One tile of keys: logits of this thread's row to weights (in shared memory), and the output so
// far to the new maximum.
template <int OWN>
__device__ static void absorb(const block_plan &p, const float *q, const float *k,
                              const float *v, float *weight, int head, int i, block_tile keys,
                              bool conditional, online_row &row, float (&out)[OWN])
{
    const int stride = p.d + 1, lane = (int)threadIdx.x % TEAM;
    float logit[SIDE / TEAM], largest = row.largest;
    for (int m = 0; m < SIDE / TEAM; m++) {
        const int y = lane + TEAM * m, j = keys.first + y;
        logit[m] = -INFINITY;
        if (i >= 0 && y < keys.count && pair_counts(p, head, i, j, conditional))
            logit[m] = p.scale * row_product(q, k + y * stride, p.d);
        largest = fmaxf(largest, logit[m]);
    }
    largest = team_max(largest);
    const float shift = largest == -INFINITY ? 0.0f : largest;
    const float keep = expf(row.largest - shift);
    float sum = 0.0f;
    for (int m = 0; m < SIDE / TEAM; m++) {
        const float w = expf(logit[m] - shift);
        weight[lane + TEAM * m] = w;
        sum += w;
    }
    row.sum = row.sum * keep + team_sum(sum);
    row.largest = largest;
    __syncwarp();
    for (int k2 = 0; k2 < OWN; k2++) out[k2] *= keep;
    add_rows<OWN>(out, weight, v, keys.count, stride, p.d);
    __syncwarp(); // weight is free again
}

template <int OWN> __global__ void block_forward_kernel(block_plan p)
{
    const int stride = p.d + 1, head = (int)blockIdx.y;
    const int block = (int)blockIdx.x / p.parts, part = (int)blockIdx.x % p.parts;
    const int r = (int)threadIdx.x / TEAM, lane = (int)threadIdx.x % TEAM;
    const block_tile rows = tile_of(p, block, part);
    if (rows.count <= 0) return;
    float *q = dynamic_shared<float>(), *k = q + SIDE * stride, *v = k + SIDE * stride;
    float *weight = v + SIDE * stride + r * SIDE;
    const int i = r < rows.count ? rows.first + r : -1;
    const int32_t *start = list_of(p, head) + block;

    load_tile(p, q, p.o.q, head, rows);
    online_row row = {-INFINITY, 0.0f};
    float out[OWN];
    for (int c = 0; c < OWN; c++) out[c] = 0.0f;
    for (int e = start[0]; e < start[1]; e++)
        for (int t = 0; t < p.parts; t++) {
            const int entry = p.pattern.entry[e];
            const block_tile keys = tile_of(p, entry / 2, t);
            if (keys.count <= 0) continue;
            __syncthreads();
            load_tile(p, k, p.o.k, head, keys);
            load_tile(p, v, p.o.v, head, keys);
            __syncthreads();
            absorb<OWN>(p, q + r * stride, k, v, weight, head, i, keys, entry % 2, row, out);
        }
    if (i < 0) return;
    const size_t at = (size_t)head * p.n + i;
    const float inverse = row.sum > 0.0f ? 1.0f / row.sum : 0.0f;
    for (int c = 0; c < OWN; c++)
        if (lane + TEAM * c < p.d) p.o.z[at * p.d + lane + TEAM * c] = out[c] * inverse;
    if (lane > 0) return;
    p.o.statistics[at] = row.sum > 0.0f ? row.largest : INFINITY;
    p.o.statistics[p.rows + at] = row.sum;
    if (p.o.lse) p.o.lse[at] = row.sum > 0.0f ? row.largest + logf(row.sum) : -INFINITY;
}

// ## Backward

__global__ void block_factor_kernel(block_plan p, float *factor)
{
    const size_t at = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (at >= p.rows) return;
    float sum = 0.0f;
    for (int c = (int)threadIdx.x % 32; c < p.d; c += 32)
        sum += p.o.z[at * p.d + c] * p.o.dz[at * p.d + c];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        factor[at] = sum - (p.o.dlse && p.o.statistics[p.rows + at] > 0 ? p.o.dlse[at] : 0.0f);
}

// Weight and gradient of the logit of the pair (i, j); q, dz, k, v: rows in shared memory.
__device__ static void pair_gradient(const block_plan &p, int head, int i, int j,
                                     bool conditional, const float *q, const float *dz,
                                     const float *k, const float *v, float *weight,
                                     float *gradient)
{
    *weight = *gradient = 0.0f;
    const size_t at = (size_t)head * p.n + i;
    if (!pair_counts(p, head, i, j, conditional)) return;
    const float logit = p.scale * row_product(q, k, p.d);
    const float share = expf(logit - p.o.statistics[at]) / p.o.statistics[p.rows + at];
    *weight = share;
    *gradient = p.scale * share * (row_product(dz, v, p.d) - p.factor[at]);
}

template <int OWN> __global__ void block_queries_kernel(block_plan p)
{
    const int stride = p.d + 1, head = (int)blockIdx.y;
    const int block = (int)blockIdx.x / p.parts, part = (int)blockIdx.x % p.parts;
    const int r = (int)threadIdx.x / TEAM, lane = (int)threadIdx.x % TEAM;
    const block_tile rows = tile_of(p, block, part);
    if (rows.count <= 0) return;
    float *q = dynamic_shared<float>(), *dz = q + SIDE * stride, *k = dz + SIDE * stride;
    float *v = k + SIDE * stride, *gradient = v + SIDE * stride + r * SIDE;
    const int i = r < rows.count ? rows.first + r : -1;
    const int32_t *start = list_of(p, head) + block;

    load_tile(p, q, p.o.q, head, rows);
    load_tile(p, dz, p.o.dz, head, rows);
    float sum[OWN];
    for (int c = 0; c < OWN; c++) sum[c] = 0.0f;
    for (int e = start[0]; e < start[1]; e++)
        for (int t = 0; t < p.parts; t++) {
            const int entry = p.pattern.entry[e];
            const block_tile keys = tile_of(p, entry / 2, t);
            if (keys.count <= 0) continue;
            __syncthreads();
            load_tile(p, k, p.o.k, head, keys);
            load_tile(p, v, p.o.v, head, keys);
            __syncthreads();
            for (int y = lane; y < SIDE; y += TEAM) {
                float weight = 0.0f, slope = 0.0f;
                if (i >= 0 && y < keys.count)
                    pair_gradient(p, head, i, keys.first + y, entry % 2, q + r * stride,
                                  dz + r * stride, k + y * stride, v + y * stride, &weight,
                                  &slope);
                gradient[y] = slope;
            }
            __syncwarp();
            add_rows<OWN>(sum, gradient, k, keys.count, stride, p.d);
            __syncwarp();
        }
    if (i < 0) return;
    float *dq = p.o.dq + ((size_t)head * p.n + i) * p.d;
    for (int c = 0; c < OWN; c++)
        if (lane + TEAM * c < p.d) dq[lane + TEAM * c] += sum[c];
}

// What the keys of a block take from one tile of queries.
template <int OWN>
__device__ static void take_queries(const block_plan &p, const float *const tile[4],
                                    float *weight, float *gradient, int head, int j,
                                    block_tile queries, bool conditional, float (&dk)[OWN],
                                    float (&dv)[OWN])
{
    const int stride = p.d + 1, r = (int)threadIdx.x / TEAM, lane = (int)threadIdx.x % TEAM;
    for (int x = lane; x < SIDE; x += TEAM) {
        float w = 0.0f, slope = 0.0f;
        if (j >= 0 && x < queries.count)
            pair_gradient(p, head, queries.first + x, j, conditional, tile[2] + x * stride,
                          tile[3] + x * stride, tile[0] + r * stride, tile[1] + r * stride, &w,
                          &slope);
        weight[x] = w;
        gradient[x] = slope;
    }
    __syncwarp();
    add_rows<OWN>(dk, gradient, tile[2], queries.count, stride, p.d);
    add_rows<OWN>(dv, weight, tile[3], queries.count, stride, p.d);
    __syncwarp();
}

// The row of the list that entry e belongs to: the last x with start[x] <= e.
__device__ static int row_of_entry(const int32_t *start, int blocks, int e)
{
    int low = 0, high = blocks - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (start[middle] <= e)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

template <int OWN> __global__ void block_keys_kernel(block_plan p)
{
    MRA_SHARED(uint32_t, found, THREADS / 32); // entries that name these keys, 256 at a time
    const int stride = p.d + 1, head = (int)blockIdx.y;
    const int block = (int)blockIdx.x / p.parts, part = (int)blockIdx.x % p.parts;
    const int r = (int)threadIdx.x / TEAM, lane = (int)threadIdx.x % TEAM;
    const block_tile keys = tile_of(p, block, part);
    if (keys.count <= 0) return;
    float *k = dynamic_shared<float>(), *v = k + SIDE * stride, *q = v + SIDE * stride;
    float *dz = q + SIDE * stride, *weight = dz + SIDE * stride + r * SIDE;
    float *gradient = weight + SIDE * SIDE;
    const float *const tile[4] = {k, v, q, dz};
    const int j = r < keys.count ? keys.first + r : -1;
    const int32_t *start = list_of(p, head);

    load_tile(p, k, p.o.k, head, keys);
    load_tile(p, v, p.o.v, head, keys);
    float dk[OWN], dv[OWN];
    for (int c = 0; c < OWN; c++) dk[c] = dv[c] = 0.0f;
    const int end = start[p.blocks];
    for (int first = start[0]; first < end; first += THREADS) {
        const int own = first + (int)threadIdx.x;
        const bool names = own < end && p.pattern.entry[own] / 2 == block;
        const uint32_t bits = __ballot_sync(0xffffffffu, names);
        __syncthreads();
        if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = bits;
        __syncthreads();
        for (int w = 0; w < THREADS / 32; w++)
            for (uint32_t left = found[w]; left; left &= left - 1) {
                const int e = first + 32 * w + __ffs(left) - 1, entry = p.pattern.entry[e];
                const int x = row_of_entry(start, p.blocks, e);
                for (int t = 0; t < p.parts; t++) {
                    const block_tile queries = tile_of(p, x, t);
                    if (queries.count <= 0) continue;
                    __syncthreads();
                    load_tile(p, q, p.o.q, head, queries);
                    load_tile(p, dz, p.o.dz, head, queries);
                    __syncthreads();
                    take_queries<OWN>(p, tile, weight, gradient, head, j, queries, entry % 2,
                                      dk, dv);
                }
            }
    }
    if (j < 0) return;
    const size_t at = ((size_t)head * p.n + j) * p.d;
    for (int c = 0; c < OWN; c++) {
        if (lane + TEAM * c >= p.d) continue;
        if (p.o.dk) p.o.dk[at + lane + TEAM * c] += dk[c];
        if (p.o.dv) p.o.dv[at + lane + TEAM * c] += dv[c];
    }
}

// ## Launching

typedef void (*block_kernel)(block_plan);

// `kernels`: for up to 32, 64, 128 and 256 columns.
static mra_status run(mra_device *device, const char *name, const block_plan &p, int tiles,
                      int squares, const block_kernel (&kernels)[4], mra_error *err)
{
    const block_kernel kernel = kernels[p.d <= 32 ? 0 : p.d <= 64 ? 1 : p.d <= 128 ? 2 : 3];
    const size_t floats = (size_t)tiles * SIDE * (p.d + 1) + (size_t)squares * SIDE * SIDE;
    const dim3 grid((unsigned)(p.blocks * p.parts), (unsigned)(p.rows / (size_t)p.n));
    launch(name, kernel, grid, THREADS, floats * sizeof(float), stream_of(device), p);
    return launch_status(stream_of(device), name, err);
}

static mra_status make_plan(const mra_block_form *form, const mra_block_operands *operands,
                            block_plan *p, mra_error *err)
{
    p->heads = form->heads, p->n = form->pattern.n, p->d = form->d;
    p->blocks = mra_pattern_blocks(&form->pattern);
    p->parts = (form->pattern.block + SIDE - 1) / SIDE;
    p->scale = form->scale;
    p->pattern = form->pattern;
    p->o = *operands;
    p->factor = NULL;
    p->rows = form->batch * (size_t)form->heads * (size_t)p->n;
    if (p->d > 256)
        return mra_fail(err, MRA_BAD_INPUT, "block_attention: d = %d: expected at most 256",
                        p->d);
    if (form->batch * (size_t)form->heads > 65535)
        return mra_fail(err, MRA_BAD_INPUT,
                        "block_attention: %zu heads in the batch: expected at most 65535",
                        form->batch * (size_t)form->heads);
    return MRA_OK;
}

mra_status block_attention(mra_device *device, const mra_block_form *form,
                           const mra_block_operands *operands, mra_error *err)
{
    block_plan p;
    if (!form->batch || form->pattern.n < 1) return MRA_OK;
    mra_status status = make_plan(form, operands, &p, err);
    if (status) return status;
    const block_kernel kernels[4] = {block_forward_kernel<4>, block_forward_kernel<8>,
                                     block_forward_kernel<16>, block_forward_kernel<32>};
    return run(device, "block_attention", p, 3, 1, kernels, err);
}

mra_status block_attention_backward(mra_device *device, const mra_block_form *form,
                                    const mra_block_operands *operands, mra_error *err)
{
    const char *name = "block_attention_backward";
    block_plan p;
    if (!form->batch || form->pattern.n < 1) return MRA_OK;
    mra_status status = make_plan(form, operands, &p, err);
    if (!status)
        status = working_begin(device, working_size(p.rows * sizeof(float)), name, err);
    if (status) return status;
    float *factor = working_piece<float>(device, p.rows);
    p.factor = factor;
    launch(name, block_factor_kernel, blocks_for(p.rows, THREADS / 32), THREADS, 0,
           stream_of(device), p, factor);
    const block_kernel queries[4] = {block_queries_kernel<4>, block_queries_kernel<8>,
                                     block_queries_kernel<16>, block_queries_kernel<32>};
    const block_kernel keys[4] = {block_keys_kernel<4>, block_keys_kernel<8>,
                                  block_keys_kernel<16>, block_keys_kernel<32>};
    if (p.o.dq) status = run(device, name, p, 4, 1, queries, err);
    if (status || (!p.o.dk && !p.o.dv)) return status;
    return run(device, name, p, 4, 2, keys, err);
}

} // namespace MRA_BACKEND
