// # Tiles of 32 x 32 on one warp
//
// Everything that MRA-2 multiplies is a block of 32 tokens: $S=Q_xK_y^\top$, $O\mathrel{+}=PV_y$
// and their relatives in the backward pass; the coarse stage multiplies 32 pooled rows by 32
// others. So one warp, one tile: two products serve the forward and the backward pass, exact
// attention and the coarse stage,
// $$\text{inner: } C_{32\times32}\mathrel{+}=A_{32\times d}\,B_{32\times d}^\top,\qquad
//   \text{outer: } O_{32\times d}\mathrel{+}=P_{32\times32}\,B_{32\times d},$$
// with $A$ and $B$ in shared memory, $C$, $P$ and $O$ in registers. A tile of 32 queries is too
// small for Hopper's warpgroup product (64 rows); the warp-wide one (`mma.sync`) fits.
//
// **Where an entry lies.** All three precisions use the layout of the tensor cores' results. Lane
// $l$ has $g=\lfloor l/4\rfloor$, $t=l \bmod 4$ and holds, for `c[m][j][e]`, row
// $16m+g+8\lfloor e/2\rfloor$ and column $8j+2t+(e\bmod 2)$. A row lies in the four lanes of a
// quad, so maxima and sums over a row take two shuffles.
//
// **Three precisions.** bf16 (8 bits of significand, products of 16 bits, sums in float32), TF32
// (11 bits), and float32 without tensor cores, where each lane forms its own entries, adding
// over $k$ in ascending order: the order in which the CPU's products add.
//
// Rows in shared memory are 16 bytes longer than they need be, so that the eight rows that are
// read together lie in different banks.
#ifndef MRA_KERNELS_TILE_CUH
#define MRA_KERNELS_TILE_CUH

#include "platform.cuh"

namespace MRA_BACKEND::attention
{

enum { TILE = 32, QUAD_ROWS = 4 }; // QUAD_ROWS: rows of a tile that a lane has entries of

// Elements from row to row of a tile in shared memory.
template <class E, int D> struct tile_stride {
    static const int value = D + 16 / (int)sizeof(E);
};
template <class E, int D> struct tile_size {
    static const int value = TILE * tile_stride<E, D>::value;
};

// The row (0 .. 3 for the four that a lane has) and column of c[m][j][e].
__device__ inline int lane_row(int i)
{
    return (threadIdx.x % 32) / 4 + 8 * i;
}
__device__ inline int lane_column(int j, int e)
{
    return 8 * j + 2 * (threadIdx.x % 4) + (e & 1);
}

__device__ inline void clear(float (&c)[2][4][4])
{
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) c[m][j][e] = 0;
}

template <int N> __device__ inline void clear_rows(float (&o)[2][N][4])
{
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) o[m][j][e] = 0;
}

// ---- bf16 -----------------------------------------------------------------------------------

struct bf16_path {
    typedef bfloat16 element;
    static const bool exact_exp = false;
    enum { SCRATCH = 0 }; // floats of shared memory that outer() needs

    template <int D>
    __device__ static void inner(float (&c)[2][4][4], const bfloat16 *a, const bfloat16 *b)
    {
        const int stride = tile_stride<bfloat16, D>::value, lane = threadIdx.x % 32;
        const bfloat16 *a_row = a + (lane % 16) * stride + lane / 16 * 8;
        const bfloat16 *b_row = b + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8;
#pragma unroll
        for (int k = 0; k < D; k += 16) {
            uint32_t left[2][4], right[4];
            load_matrices(left[0], a_row + k);
            load_matrices(left[1], a_row + 16 * stride + k);
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                load_matrices(right, b_row + j * 8 * stride + k);
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    multiply_bf16(c[m][j], left[m], right[0], right[1]);
                    multiply_bf16(c[m][j + 1], left[m], right[2], right[3]);
                }
            }
        }
    }

    template <int D, int N>
    __device__ static void outer(float (&o)[2][N][4], const float (&p)[2][4][4],
                                 const bfloat16 *b, float *)
    {
        const int stride = tile_stride<bfloat16, D>::value, lane = threadIdx.x % 32;
        const bfloat16 *b_row = b + (lane % 16) * stride + lane / 16 * 8;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            uint32_t left[2][4], right[4];
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float *pair = &p[m][2 * k + i / 2][i % 2 * 2];
                    left[m][i] = pack_bf16(pair[0], pair[1]);
                }
#pragma unroll
            for (int j = 0; j < N; j += 2) {
                load_matrices_transposed(right, b_row + k * 16 * stride + j * 8);
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    multiply_bf16(o[m][j], left[m], right[0], right[1]);
                    multiply_bf16(o[m][j + 1], left[m], right[2], right[3]);
                }
            }
        }
    }
};

// ---- TF32 -----------------------------------------------------------------------------------
//
// Which slot of $k$ a number takes in the tensor core is free, if both operands agree. In
// `outer` slots $t$ and $t+4$ are given to columns $2t$ and $2t+1$ of $P$: then a lane already
// holds what it has to deliver.
struct tf32_path {
    typedef float element;
    static const bool exact_exp = false;
    enum { SCRATCH = 0 };

    template <int D>
    __device__ static void inner(float (&c)[2][4][4], const float *a, const float *b)
    {
        const int stride = tile_stride<float, D>::value, lane = threadIdx.x % 32;
        const float *a_row = a + lane / 4 * stride + lane % 4;
        const float *b_row = b + lane / 4 * stride + lane % 4;
#pragma unroll 4
        for (int k = 0; k < D; k += 8) {
            uint32_t left[2][4];
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    left[m][i] = to_tf32(a_row[(16 * m + i % 2 * 8) * stride + k + i / 2 * 4]);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                uint32_t low = to_tf32(b_row[8 * j * stride + k]);
                uint32_t high = to_tf32(b_row[8 * j * stride + k + 4]);
#pragma unroll
                for (int m = 0; m < 2; m++) multiply_tf32(c[m][j], left[m], low, high);
            }
        }
    }

    template <int D, int N>
    __device__ static void outer(float (&o)[2][N][4], const float (&p)[2][4][4], const float *b,
                                 float *)
    {
        const int stride = tile_stride<float, D>::value, lane = threadIdx.x % 32;
        const float *b_row = b + lane % 4 * 2 * stride + lane / 4;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t left[2][4];
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int i = 0; i < 4; i++) left[m][i] = to_tf32(p[m][k][i % 2 * 2 + i / 2]);
#pragma unroll
            for (int j = 0; j < N; j++) {
                uint32_t low = to_tf32(b_row[8 * k * stride + 8 * j]);
                uint32_t high = to_tf32(b_row[(8 * k + 1) * stride + 8 * j]);
#pragma unroll
                for (int m = 0; m < 2; m++) multiply_tf32(o[m][j], left[m], low, high);
            }
        }
    }
};

// ---- float32 --------------------------------------------------------------------------------
//
// Without tensor cores a lane needs whole rows of $P$, of which it holds a part: $P$ goes
// through shared memory.
struct float_path {
    typedef float element;
    static const bool exact_exp = true;
    enum { P_STRIDE = TILE + 4, SCRATCH = TILE * P_STRIDE };

    template <int D>
    __device__ static void inner(float (&c)[2][4][4], const float *a, const float *b)
    {
        const int stride = tile_stride<float, D>::value;
        for (int k = 0; k < D; k += 4) {
            float4 left[QUAD_ROWS];
#pragma unroll
            for (int i = 0; i < QUAD_ROWS; i++)
                left[i] = *(const float4 *)(a + lane_row(i) * stride + k);
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float4 right = *(const float4 *)(b + lane_column(j, e) * stride + k);
#pragma unroll
                    for (int i = 0; i < QUAD_ROWS; i++) {
                        float sum = c[i / 2][j][i % 2 * 2 + e];
                        sum = fmaf(left[i].x, right.x, sum);
                        sum = fmaf(left[i].y, right.y, sum);
                        sum = fmaf(left[i].z, right.z, sum);
                        c[i / 2][j][i % 2 * 2 + e] = fmaf(left[i].w, right.w, sum);
                    }
                }
        }
    }

    template <int D, int N>
    __device__ static void outer(float (&o)[2][N][4], const float (&p)[2][4][4], const float *b,
                                 float *scratch)
    {
        const int stride = tile_stride<float, D>::value;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < QUAD_ROWS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    scratch[lane_row(i) * P_STRIDE + lane_column(j, e)] =
                        p[i / 2][j][i % 2 * 2 + e];
        __syncwarp();
        for (int k = 0; k < TILE; k++) {
            float left[QUAD_ROWS];
#pragma unroll
            for (int i = 0; i < QUAD_ROWS; i++) left[i] = scratch[lane_row(i) * P_STRIDE + k];
#pragma unroll
            for (int j = 0; j < N; j++) {
                float2 right = *(const float2 *)(b + k * stride + lane_column(j, 0));
#pragma unroll
                for (int i = 0; i < QUAD_ROWS; i++) {
                    float *pair = &o[i / 2][j][i % 2 * 2];
                    pair[0] = fmaf(left[i], right.x, pair[0]);
                    pair[1] = fmaf(left[i], right.y, pair[1]);
                }
            }
        }
    }
};

// ---- Rows -----------------------------------------------------------------------------------

// Maximum and sum over the four lanes of a quad, the same in all four.
__device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// exp(x) for x <= 0, 0 for -infinity. Without `exact`, by the processor's power of two: relative
// error 2^-22 + 2^-24 |x|, far below the rounding of what is multiplied.
template <bool exact> __device__ inline float weight_exp(float x)
{
    return exact ? expf(x) : power_of_two(x * 1.44269504f);
}

} // namespace MRA_BACKEND::attention
#endif
