// What the kernels of the coarse stage share (coarse.cu, coarse_backward.cu): tiles of 32 x 32
// boxes, four warps to a line of tiles.
#ifndef MRA_KERNELS_COARSE_CUH
#define MRA_KERNELS_COARSE_CUH

#include "launch.cuh"

namespace MRA_BACKEND::attention
{

enum { COARSE_WARPS = 4 };

// Rows first .. first + 31 of pooled[count, D] times `factor`, zeros beyond the end, by one
// warp; visible to it after __syncwarp.
template <int D>
__device__ inline void load_scaled(float *tile, const float *pooled, int first, int count,
                                   float factor)
{
    for (int i = threadIdx.x % 32; i < TILE * (D / 4); i += 32) {
        int r = i / (D / 4), c = i % (D / 4) * 4;
        float4 piece = {0, 0, 0, 0};
        if (first + r < count) piece = *(const float4 *)(pooled + (size_t)(first + r) * D + c);
        piece.x *= factor;
        piece.y *= factor;
        piece.z *= factor;
        piece.w *= factor;
        *(float4 *)(tile + r * tile_stride<float, D>::value + c) = piece;
    }
}

// Present tokens of block `first + lane`, 0 beyond the end.
__device__ inline int tokens_of_lane(const plan &p, int head, int first)
{
    int y = first + threadIdx.x % 32;
    return y < p.blocks ? __popc(present_of(p, head, y)) : 0;
}

// The weight of box (x, y) relative to the largest of its row that stays coarse: 0 if it is
// refined or empty. `keys`: whether y holds a key; coarse_max is -infinity where nothing of the
// row stays coarse.
template <bool exact>
__device__ inline float box_weight(const plan &p, int head, int x, int y, bool keys,
                                   float coarse_max)
{
    if (x >= p.blocks || !keys || coarse_max == -INFINITY) return 0;
    uint32_t word = of_head(p.chosen, head, (size_t)p.blocks * p.words)[x * p.words + y / 32];
    if (word >> (y % 32) & 1) return 0;
    float logit = of_head(p.logit, head, (size_t)p.blocks * p.blocks)[(size_t)x * p.blocks + y];
    return weight_exp<exact>(logit - coarse_max);
}

// Writes o[32, 8 N] of one warp to shared memory.
template <int N>
__device__ inline void put_rows(float *tile, int stride, const float (&o)[2][N][4])
{
#pragma unroll
    for (int i = 0; i < QUAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                tile[lane_row(i) * stride + lane_column(j, e)] = o[i / 2][j][i % 2 * 2 + e];
}

// to[first + r, width] = the sum of the warps' tiles[w, 32, stride], warp by warp; to[count,
// pitch]. By all threads, which have passed a barrier since the tiles were written.
__device__ inline void add_warps(float *to, int pitch, int first, int count, int width,
                                 const float *tiles, int size, int stride)
{
    for (int i = threadIdx.x; i < TILE * width; i += COARSE_WARPS * 32) {
        int r = i / width, c = i % width;
        if (first + r >= count) continue;
        float sum = 0;
        for (int w = 0; w < COARSE_WARPS; w++) sum += tiles[w * size + r * stride + c];
        to[(size_t)(first + r) * pitch + c] = sum;
    }
}

} // namespace MRA_BACKEND::attention
#endif
