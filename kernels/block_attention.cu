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
// the 67 TFLOP/s of an H200. Operands come from shared memory, which holds that to a fifth
// (kernels/team.cuh): 0.9 ms and 3.3 ms. Bytes: q, k, v, z, 403 MB, 84 us, forward.

#include "team.cuh"

namespace MRA_BACKEND
{

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

// The rows of a tile to shared memory.
__device__ static void load_tile(const block_plan &p, float *to, const float *from, int head,
                                 block_tile tile)
{
    from += ((size_t)head * p.n + tile.first) * p.d;
    load_rows(to, p.d, tile.count, [&](int row) { return from + (size_t)row * p.d; });
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

__device__ static const int32_t *list_of(const block_plan &p, int head)
{
    const int list = head % p.pattern.lists;
    return p.pattern.start + (size_t)list * p.blocks;
}

// ## Forward

template <int OWN> __global__ void block_forward_kernel(block_plan p)
{
    const int stride = p.d + 1, head = (int)blockIdx.y;
    const int block = (int)blockIdx.x / p.parts, part = (int)blockIdx.x % p.parts;
    const int r = (int)threadIdx.x / TEAM;
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
            float product[PRODUCTS];
            row_products(q + r * stride, k, keys.count, p.d, product);
            const auto logit_of = [&](int m, int y, float *) {
                if (i < 0 || !pair_counts(p, head, i, keys.first + y, entry % 2))
                    return -INFINITY;
                return p.scale * product[m];
            };
            absorb<OWN>(weight, v, keys.count, p.d, logit_of, row, out);
        }
    if (i < 0) return;
    const size_t at = (size_t)head * p.n + i;
    const float inverse = row.sum > 0.0f ? 1.0f / row.sum : 0.0f;
    put_row<OWN>(p.o.z + at * p.d, out, inverse, false, p.d);
    if (threadIdx.x % TEAM > 0) return;
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

// Weight and gradient of the logit of the pair (i, j), from <q_i, k_j> and <dz_i, v_j>.
__device__ static void pair_gradient(const block_plan &p, int head, int i, int j,
                                     bool conditional, float product, float along,
                                     float *weight, float *gradient)
{
    *weight = *gradient = 0.0f;
    const size_t at = (size_t)head * p.n + i;
    if (!pair_counts(p, head, i, j, conditional)) return;
    const float logit = p.scale * product;
    const float share = expf(logit - p.o.statistics[at]) / p.o.statistics[p.rows + at];
    *weight = share;
    *gradient = p.scale * share * (along - p.factor[at]);
}

template <int OWN> __global__ void block_queries_kernel(block_plan p)
{
    const int stride = p.d + 1, head = (int)blockIdx.y;
    const int block = (int)blockIdx.x / p.parts, part = (int)blockIdx.x % p.parts;
    const int r = (int)threadIdx.x / TEAM;
    const block_tile rows = tile_of(p, block, part);
    if (rows.count <= 0) return;
    float *q = dynamic_shared<float>(), *dz = q + SIDE * stride, *k = dz + SIDE * stride;
    float *v = k + SIDE * stride, *weight = v + SIDE * stride + r * SIDE;
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
            float product[PRODUCTS], along[PRODUCTS];
            row_products(q + r * stride, k, keys.count, p.d, product);
            row_products(dz + r * stride, v, keys.count, p.d, along);
            const auto slope_of = [&](int m, int y) {
                float share = 0.0f, slope = 0.0f;
                if (i >= 0)
                    pair_gradient(p, head, i, keys.first + y, entry % 2, product[m], along[m],
                                  &share, &slope);
                return slope;
            };
            add_weighted<OWN>(weight, k, keys.count, p.d, slope_of, sum);
        }
    if (i < 0) return;
    put_row<OWN>(p.o.dq + ((size_t)head * p.n + i) * p.d, sum, 1.0f, true, p.d);
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
    const int r = (int)threadIdx.x / TEAM;
    const block_tile keys = tile_of(p, block, part);
    if (keys.count <= 0) return;
    float *k = dynamic_shared<float>(), *v = k + SIDE * stride, *q = v + SIDE * stride;
    float *dz = q + SIDE * stride, *weight = dz + SIDE * stride + r * SIDE;
    float *gradient = weight + SIDE * SIDE;
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
                    float product[PRODUCTS], along[PRODUCTS];
                    row_products(k + r * stride, q, queries.count, p.d, product);
                    row_products(v + r * stride, dz, queries.count, p.d, along);
                    const auto pair_of = [&](int m, int y, float *share, float *slope) {
                        *share = *slope = 0.0f;
                        if (j >= 0)
                            pair_gradient(p, head, queries.first + y, j, entry % 2, product[m],
                                          along[m], share, slope);
                    };
                    take_queries<OWN>(weight, gradient, q, dz, queries.count, p.d, pair_of, dk,
                                      dv);
                }
            }
    }
    if (j < 0) return;
    const size_t at = ((size_t)head * p.n + j) * p.d;
    if (p.o.dk) put_row<OWN>(p.o.dk + at, dk, 1.0f, true, p.d);
    if (p.o.dv) put_row<OWN>(p.o.dv + at, dv, 1.0f, true, p.d);
}

// ## Launching

static dim3 grid_of(const block_plan &p)
{
    return dim3((unsigned)(p.blocks * p.parts), (unsigned)(p.rows / (size_t)p.n));
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
    const team_kernels<block_plan> kernels = {{block_forward_kernel<4>, block_forward_kernel<8>,
                                               block_forward_kernel<16>,
                                               block_forward_kernel<32>}};
    return launch_team(device, "block_forward", grid_of(p), p.d, 3, 1, kernels, p, err);
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
    const team_kernels<block_plan> queries = {{block_queries_kernel<4>, block_queries_kernel<8>,
                                               block_queries_kernel<16>,
                                               block_queries_kernel<32>}};
    const team_kernels<block_plan> keys = {{block_keys_kernel<4>, block_keys_kernel<8>,
                                            block_keys_kernel<16>, block_keys_kernel<32>}};
    if (p.o.dq)
        status = launch_team(device, "block_queries", grid_of(p), p.d, 4, 1, queries, p, err);
    if (status || (!p.o.dk && !p.o.dv)) return status;
    return launch_team(device, "block_keys", grid_of(p), p.d, 4, 2, keys, p, err);
}

} // namespace MRA_BACKEND
