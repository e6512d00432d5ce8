// What kernels include: CUDA C for two compilers.
//
// A kernel source is plain CUDA C inside `namespace MRA_BACKEND`. nvcc makes device code of it
// (namespace mra_cuda); g++ makes the same functions for the host runner (namespace mra_simt,
// kernels/simt/runner.h), so both can be linked into one program. What differs is here:
//
//     MRA_SHARED(float, tile, 32 * 33);                    __shared__ float tile[32 * 33]
//     float *buffer = dynamic_shared<float>();             extern __shared__
//     MRA_LAUNCH((kernel<float, 64>), grid, block, shared_bytes, stream, arguments...);
//     if (launch_status(stream, "pool", err)) ...          errors of the launches before
//
// and, in the same words for both: bf16 and TF32 conversion, tensor-core products with float32
// sums, loads of matrices for them, asynchronous copies. Everything else (__syncthreads,
// __syncwarp, shuffles, votes, reductions, matches, atomics, fences, vector types, threadIdx, ...) is
// written as in CUDA. A shared array of two dimensions: typedef float row[33]; MRA_SHARED(row,
// tile, 32). `sizeof` of a shared array is not to be used.
#ifndef MRA_KERNELS_SIMT_DEVICE_CUH
#define MRA_KERNELS_SIMT_DEVICE_CUH

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __CUDACC__
#define MRA_BACKEND mra_cuda
#else
#define MRA_BACKEND mra_simt
#endif

namespace MRA_BACKEND
{

struct bfloat16 {
    uint16_t bits; // the upper half of a float
};

} // namespace MRA_BACKEND

#ifdef __CUDACC__
#include "simt/nvcc.cuh"
#else
#include "simt/host.cuh"
#endif

namespace MRA_BACKEND
{

__device__ inline float to_float(float x)
{
    return x;
}
__device__ inline float to_float(bfloat16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}
__device__ inline bfloat16 to_bf16(float x)
{
    return bfloat16{(uint16_t)pack_bf16(x, 0)};
}
__device__ inline void store(float *to, float x)
{
    *to = x;
}
__device__ inline void store(bfloat16 *to, float x)
{
    *to = to_bf16(x);
}

// ---- Sums and maxima over a warp and over a block --------------------------------------------

__device__ inline float warp_sum(float x)
{
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}
__device__ inline double warp_sum(double x)
{
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}
__device__ inline float warp_max(float x)
{
    for (int step = 16; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// By all threads of a one-dimensional block of full warps, at most 1024 threads; every thread gets
// the result, always added up in the same order.
template <class T> __device__ inline T block_sum(T x)
{
    MRA_SHARED(T, part, 32);
    const int warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    x = warp_sum(x);
    __syncthreads(); // part may still be read from the call before
    if (threadIdx.x % 32 == 0) part[warp] = x;
    __syncthreads();
    T sum = part[0];
    for (int i = 1; i < warps; i++) sum += part[i];
    return sum;
}
__device__ inline float block_max(float x)
{
    MRA_SHARED(float, part, 32);
    const int warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[warp] = x;
    __syncthreads();
    float largest = part[0];
    for (int i = 1; i < warps; i++) largest = fmaxf(largest, part[i]);
    return largest;
}

} // namespace MRA_BACKEND
#endif
