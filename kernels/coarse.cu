// # The coarse stage on the GPU: logits and weights
//
// With $b=n/32$ blocks a head has $b^2$ coarse logits $\langle\tilde Q_x,\tilde K_y\rangle/\sqrt
// d$; they rank the boxes and weigh those that stay coarse (src/mra/fused_coarse.c has the
// derivations). At 12 heads of 64, batch 8:
//
// | $n$ | logits | moved | operations | time on an H200 |
// | --- | --- | --- | --- | --- |
// | 4096 | 1.6 M | 6 MB written, 2 times read, in L2 | 0.2 GFLOP float32, 0.2 TF32 | 3 us of float32, else latency: 4 + 4 us |
// | 16384 | 25 M | 101 MB written, 2 times read | 3.2 + 3.2 GFLOP | 48 us (67 TFLOP/s) + 42 us (memory) |
//
// The logits are always formed in float32, over $k$ in ascending order with fused
// multiply-adds, like the CPU's: the choice of boxes then does not depend on the precision of
// the refined part, nor on the device. The weights may be rounded: they go through TF32 unless
// float32 is asked for.
//
// Four warps share a line of 32 rows of boxes and take its tiles in turn.

#include "coarse.cuh"

namespace MRA_BACKEND::attention
{

// ---- Logits ---------------------------------------------------------------------------------

// Stores a tile of logits; raises `largest` to the largest of those with a key.
__device__ static bool store_logits(const plan &p, int head, int x0, int y0, uint32_t keys,
                                    const float (&c)[2][4][4], float (&largest)[QUAD_ROWS])
{
    bool finite = true;
    float *logit = of_head(p.logit, head, (size_t)p.blocks * p.blocks);
    for (int i = 0; i < QUAD_ROWS; i++) {
        int x = x0 + lane_row(i);
        if (x >= p.blocks) continue;
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int y = y0 + lane_column(j, e);
                if (y >= p.blocks) continue;
                float value = c[i / 2][j][i % 2 * 2 + e];
                finite = finite && fabsf(value) <= 3.402823466e38f;
                logit[(size_t)x * p.blocks + y] = value;
                if (keys >> (y - y0) & 1) largest[i] = fmaxf(largest[i], value);
            }
    }
    return finite;
}

template <int D> __global__ void coarse_logits_kernel(plan p)
{
    float *shared = dynamic_shared<float>();
    MRA_SHARED(float, warp_largest, COARSE_WARPS *TILE);
    const int size = tile_size<float, D>::value;
    int head = p.first_head + blockIdx.y, x0 = blockIdx.x * TILE, warp = threadIdx.x / 32;
    float *query = shared, *key = shared + (1 + warp) * size;
    size_t pooled = (size_t)p.blocks * D;
    if (warp == 0) load_scaled<D>(query, of_head(p.query, head, pooled), x0, p.blocks, 1);
    __syncthreads();

    float largest[QUAD_ROWS];
    for (int i = 0; i < QUAD_ROWS; i++) largest[i] = -INFINITY;
    bool finite = true;
    for (int y0 = warp * TILE; y0 < p.blocks; y0 += COARSE_WARPS * TILE) {
        __syncwarp();
        load_scaled<D>(key, of_head(p.key, head, pooled), y0, p.blocks, p.logit_scale);
        uint32_t keys = __ballot_sync(0xffffffffu, tokens_of_lane(p, head, y0) > 0);
        __syncwarp();
        float c[2][4][4];
        clear(c);
        float_path::inner<D>(c, query, key);
        finite = store_logits(p, head, x0, y0, keys, c, largest) && finite;
    }
    if (!finite) atomicOr(&p.broken[head], 1);
    for (int i = 0; i < QUAD_ROWS; i++) {
        float row = quad_max(largest[i]);
        if (threadIdx.x % 4 == 0) warp_largest[warp * TILE + lane_row(i)] = row;
    }
    __syncthreads();
    if (warp > 0 || x0 + (int)threadIdx.x >= p.blocks) return;
    float row = warp_largest[threadIdx.x];
    for (int w = 1; w < COARSE_WARPS; w++)
        row = fmaxf(row, warp_largest[w * TILE + threadIdx.x]);
    of_head(p.row_largest, head, p.blocks)[x0 + threadIdx.x] = row;
}

// ---- Weights and values ---------------------------------------------------------------------

template <class P, int D> __global__ void coarse_values_kernel(plan p)
{
    float *shared = dynamic_shared<float>();
    MRA_SHARED(float, row_sum, COARSE_WARPS *TILE);
    const int stride = tile_stride<float, D>::value, size = tile_size<float, D>::value;
    int head = p.first_head + blockIdx.y, x0 = blockIdx.x * TILE, warp = threadIdx.x / 32;
    float *tile = shared + warp * size;
    float *scratch = shared + COARSE_WARPS * size + warp * P::SCRATCH;
    const float *value = of_head(p.value, head, (size_t)p.blocks * D);
    float sum[QUAD_ROWS] = {0, 0, 0, 0}, coarse_max[QUAD_ROWS], o[2][D / 8][4], w[2][4][4];
    clear_rows<D / 8>(o);
    for (int i = 0; i < QUAD_ROWS; i++) {
        int x = x0 + lane_row(i);
        coarse_max[i] = x < p.blocks ? of_head(p.coarse_max, head, p.blocks)[x] : -INFINITY;
    }
    for (int y0 = warp * TILE; y0 < p.blocks; y0 += COARSE_WARPS * TILE) {
        __syncwarp();
        load_pooled<D>(tile, value, y0, p.blocks);
        copy_commit();
        int tokens = tokens_of_lane(p, head, y0);
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int column = lane_column(j, e);
                int keys = __shfl_sync(0xffffffffu, tokens, column);
#pragma unroll
                for (int i = 0; i < QUAD_ROWS; i++) {
                    float weight = box_weight<P::exact_exp>(
                        p, head, x0 + lane_row(i), y0 + column, keys > 0, coarse_max[i]);
                    w[i / 2][j][i % 2 * 2 + e] = weight;
                    sum[i] += weight * (float)keys;
                }
            }
        copy_wait<0>();
        __syncwarp();
        P::template outer<D, D / 8>(o, w, tile, scratch);
    }
    for (int i = 0; i < QUAD_ROWS; i++) {
        float row = quad_sum(sum[i]);
        if (threadIdx.x % 4 == 0) row_sum[warp * TILE + lane_row(i)] = row;
    }
    __syncwarp();
    put_rows<D / 8>(tile, stride, o);
    __syncthreads();
    add_warps(of_head(p.coarse_value, head, (size_t)p.blocks * D), D, x0, p.blocks, D, shared,
              size, stride);
    add_warps(of_head(p.coarse_sum, head, p.blocks), 1, x0, p.blocks, 1, row_sum, TILE, 1);
}

// ---- Launches -------------------------------------------------------------------------------

static dim3 coarse_grid(const plan &p)
{
    return dim3((unsigned)((p.blocks + TILE - 1) / TILE), (unsigned)p.launch_heads);
}

template <int D> static void logits(const plan &p, stream_t stream)
{
    const size_t bytes = (1 + COARSE_WARPS) * tile_size<float, D>::value * sizeof(float);
    MRA_LAUNCH((coarse_logits_kernel<D>), coarse_grid(p), COARSE_WARPS * 32, bytes, stream, p);
}

void coarse_logits(const plan &p, stream_t stream)
{
    if (p.d == 32) logits<32>(p, stream);
    if (p.d == 64) logits<64>(p, stream);
    if (p.d == 128) logits<128>(p, stream);
}

template <class P, int D> static void values(const plan &p, stream_t stream)
{
    const size_t bytes =
        COARSE_WARPS * (tile_size<float, D>::value + P::SCRATCH) * sizeof(float);
    MRA_LAUNCH((coarse_values_kernel<P, D>), coarse_grid(p), COARSE_WARPS * 32, bytes, stream,
               p);
}

void coarse_values(const plan &p, bool exact, stream_t stream)
{
    if (p.d == 32) exact ? values<float_path, 32>(p, stream) : values<tf32_path, 32>(p, stream);
    if (p.d == 64) exact ? values<float_path, 64>(p, stream) : values<tf32_path, 64>(p, stream);
    if (p.d == 128)
        exact ? values<float_path, 128>(p, stream) : values<tf32_path, 128>(p, stream);
}

} // namespace MRA_BACKEND::attention
