// # The coarse stage on the GPU, backward
//
// From $G_x$ and $h_x$, the sums over the rows of a block that the preparation left, follow
// $$ C_{xy}=W_{xy}(\langle G_x,\tilde V_y\rangle-c_yh_x)/\sqrt d,\quad d\tilde Q=C\tilde K,\quad
//    d\tilde K=C^\top\tilde Q,\quad d\tilde V=W^\top G $$
// (src/mra/fused_coarse.c). As with the refined boxes there is one walk along rows and one down
// columns, so that no sum depends on an order of events; $W$ is formed anew from the stored
// logits, $\langle G_x,\tilde V_y\rangle$ twice: $10b^2d$ operations. At 12 heads of 64, batch
// 8, $n=4096$ that is 1 GFLOP in TF32 and 13 MB of logits in L2: latency, 5 us; at $n=16384$ 16
// GFLOP and 202 MB: 90 us. A warp has room for one tile of pooled rows and fills it twice.

#include "coarse.cuh"

namespace MRA_BACKEND::attention
{

// The gradient of a logit from w = W_xy and c = <G_x, V_y>.
__device__ static float logit_gradient(float w, float c, float pull_product, int tokens,
                                       float scale)
{
    return scale * w * (c - pull_product * (float)tokens);
}

template <class P, int D> __global__ void coarse_rows_kernel(plan p)
{
    float *shared = dynamic_shared<float>();
    const int stride = tile_stride<float, D>::value, size = tile_size<float, D>::value;
    int head = p.first_head + blockIdx.y, x0 = blockIdx.x * TILE, warp = threadIdx.x / 32;
    float *pull = shared, *tile = shared + (1 + warp) * size;
    float *scratch = shared + (1 + COARSE_WARPS) * size + warp * P::SCRATCH;
    size_t pooled = (size_t)p.blocks * D;
    if (warp == 0) load_scaled<D>(pull, of_head(p.pull, head, pooled), x0, p.blocks, 1);
    __syncthreads();

    float coarse_max[QUAD_ROWS], product[QUAD_ROWS], o[2][D / 8][4];
    clear_rows<D / 8>(o);
    for (int i = 0; i < QUAD_ROWS; i++) {
        int x = x0 + lane_row(i);
        coarse_max[i] = x < p.blocks ? of_head(p.coarse_max, head, p.blocks)[x] : -INFINITY;
        product[i] = x < p.blocks ? of_head(p.pull_product, head, p.blocks)[x] : 0;
    }
    for (int y0 = warp * TILE; y0 < p.blocks; y0 += COARSE_WARPS * TILE) {
        __syncwarp();
        load_pooled<D>(tile, of_head(p.value, head, pooled), y0, p.blocks);
        copy_commit();
        int tokens = tokens_of_lane(p, head, y0);
        copy_wait<0>();
        __syncwarp();
        float c[2][4][4];
        clear(c);
        P::template inner<D>(c, pull, tile);
        __syncwarp();
        load_pooled<D>(tile, of_head(p.key, head, pooled), y0, p.blocks);
        copy_commit();
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int column = lane_column(j, e);
                int keys = __shfl_sync(0xffffffffu, tokens, column);
#pragma unroll
                for (int i = 0; i < QUAD_ROWS; i++) {
                    float w = box_weight<P::exact_exp>(p, head, x0 + lane_row(i), y0 + column,
                                                       keys > 0, coarse_max[i]);
                    float *entry = &c[i / 2][j][i % 2 * 2 + e];
                    *entry = logit_gradient(w, *entry, product[i], keys, p.logit_scale);
                }
            }
        copy_wait<0>();
        __syncwarp();
        P::template outer<D, D / 8>(o, c, tile, scratch);
    }
    __syncwarp();
    put_rows<D / 8>(tile, stride, o);
    __syncthreads();
    add_warps(of_head(p.dquery, head, pooled), D, x0, p.blocks, D, shared + size, size, stride);
}

// Rows of the tile are y, columns x. Blocks of threads with blockIdx.z = 1 have the second half
// of the width at d = 128.
template <class P, int D> __global__ void coarse_columns_kernel(plan p)
{
    float *shared = dynamic_shared<float>();
    const int N = D > 64 ? 8 : D / 8, size = tile_size<float, D>::value;
    const int stride = tile_stride<float, D>::value;
    int head = p.first_head + blockIdx.y, y0 = blockIdx.x * TILE, warp = threadIdx.x / 32;
    int column = blockIdx.z * 8 * N;
    float *value = shared, *tile = shared + (1 + warp) * size;
    float *scratch = shared + (1 + COARSE_WARPS) * size + warp * P::SCRATCH;
    size_t pooled = (size_t)p.blocks * D;
    if (warp == 0) load_scaled<D>(value, of_head(p.value, head, pooled), y0, p.blocks, 1);
    __syncthreads();

    float dkey[2][N][4], dvalue[2][N][4];
    int tokens[QUAD_ROWS];
    clear_rows<N>(dkey);
    clear_rows<N>(dvalue);
    for (int i = 0; i < QUAD_ROWS; i++) {
        int y = y0 + lane_row(i);
        tokens[i] = y < p.blocks ? __popc(present_of(p, head, y)) : 0;
    }
    for (int x0 = warp * TILE; x0 < p.blocks; x0 += COARSE_WARPS * TILE) {
        __syncwarp();
        load_pooled<D>(tile, of_head(p.pull, head, pooled), x0, p.blocks);
        copy_commit();
        copy_wait<0>();
        __syncwarp();
        float c[2][4][4], w[2][4][4];
        clear(c);
        P::template inner<D>(c, value, tile);
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int x = x0 + lane_column(j, e);
                bool box = x < p.blocks;
                float max = box ? of_head(p.coarse_max, head, p.blocks)[x] : -INFINITY;
                float product = box ? of_head(p.pull_product, head, p.blocks)[x] : 0;
#pragma unroll
                for (int i = 0; i < QUAD_ROWS; i++) {
                    float weight = box_weight<P::exact_exp>(p, head, x, y0 + lane_row(i),
                                                            tokens[i] > 0, max);
                    float *entry = &c[i / 2][j][i % 2 * 2 + e];
                    w[i / 2][j][i % 2 * 2 + e] = weight;
                    *entry = logit_gradient(weight, *entry, product, tokens[i], p.logit_scale);
                }
            }
        P::template outer<D, N>(dvalue, w, tile + column, scratch);
        __syncwarp();
        load_pooled<D>(tile, of_head(p.query, head, pooled), x0, p.blocks);
        copy_commit();
        copy_wait<0>();
        __syncwarp();
        P::template outer<D, N>(dkey, c, tile + column, scratch);
    }
    __syncwarp();
    put_rows<N>(tile, stride, dkey);
    __syncthreads();
    add_warps(of_head(p.dkey, head, pooled) + column, D, y0, p.blocks, 8 * N, shared + size,
              size, stride);
    __syncthreads();
    put_rows<N>(tile, stride, dvalue);
    __syncthreads();
    add_warps(of_head(p.dvalue, head, pooled) + column, D, y0, p.blocks, 8 * N, shared + size,
              size, stride);
}

template <class P, int D> static void backward(const plan &p, stream_t stream)
{
    const size_t tiles = (1 + COARSE_WARPS) * tile_size<float, D>::value;
    const size_t bytes = (tiles + COARSE_WARPS * P::SCRATCH) * sizeof(float);
    dim3 grid((unsigned)((p.blocks + TILE - 1) / TILE), (unsigned)p.launch_heads);
    MRA_LAUNCH((coarse_rows_kernel<P, D>), grid, COARSE_WARPS * 32, bytes, stream, p);
    grid.z = D > 64 ? 2 : 1;
    MRA_LAUNCH((coarse_columns_kernel<P, D>), grid, COARSE_WARPS * 32, bytes, stream, p);
}

void coarse_backward(const plan &p, bool exact, stream_t stream)
{
    if (p.d == 32)
        exact ? backward<float_path, 32>(p, stream) : backward<tf32_path, 32>(p, stream);
    if (p.d == 64)
        exact ? backward<float_path, 64>(p, stream) : backward<tf32_path, 64>(p, stream);
    if (p.d == 128)
        exact ? backward<float_path, 128>(p, stream) : backward<tf32_path, 128>(p, stream);
}

} // namespace MRA_BACKEND::attention
