// The half of device.cuh for nvcc: single instructions. PTX is quoted from "Parallel Thread
// Execution ISA", the sections of mma, ldmatrix, cp.async and cvt; sm_80 and later.
#ifndef MRA_KERNELS_SIMT_NVCC_CUH
#define MRA_KERNELS_SIMT_NVCC_CUH

#include <cuda_runtime.h>

#define MRA_SHARED(type, name, count) __shared__ type name[count]

namespace mra_cuda
{

typedef cudaStream_t stream_t;

template <class T> __device__ inline T *dynamic_shared()
{
    extern __shared__ __align__(128) unsigned char mra_dynamic_shared[];
    return (T *)mra_dynamic_shared;
}

// ---- Launching ------------------------------------------------------------------------------

template <class... P, class... A>
inline void launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                   size_t shared_bytes, stream_t stream, A... arguments)
{
    (void)name;
    if (shared_bytes > 48 * 1024)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)shared_bytes);
    kernel<<<grid, block, shared_bytes, stream>>>(P(arguments)...);
}
#define MRA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    mra_cuda::launch(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)

// The first error of the launches since the last call; names `what`.
inline mra_status launch_status(stream_t stream, const char *what, mra_error *err)
{
    (void)stream;
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return MRA_OK;
    return mra_fail(err, error == cudaErrorMemoryAllocation ? MRA_NO_MEMORY : MRA_INTERNAL,
                    "device 'cuda': %s: %s", what, cudaGetErrorString(error));
}

// ---- Numbers --------------------------------------------------------------------------------

// Two floats, rounded to nearest even; `low` in the lower half.
__device__ inline uint32_t pack_bf16(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
// Rounded to the 11 significant bits of TF32, ties away from zero.
__device__ inline uint32_t to_tf32(float x)
{
    uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}
// 2^x, relative error below 2^-22.
__device__ inline float power_of_two(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- Tensor cores ---------------------------------------------------------------------------

__device__ inline uint32_t shared_address(const void *pointer)
{
    return (uint32_t)__cvta_generic_to_shared(pointer);
}
// Four 8 x 8 matrices of 16-bit numbers in shared memory: lanes 8i .. 8i+7 name the rows of matrix
// i, 16 bytes each, at multiples of 16; lane l receives columns 2(l%4), 2(l%4)+1 of row l/4 of each,
// or with _transposed rows 2(l%4), 2(l%4)+1 of column l/4.
__device__ inline void load_matrices(uint32_t (&to)[4], const bfloat16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&to)[4], const bfloat16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// c[16 x 8] += a[16 x 16] b[16 x 8] over a warp. With g = lane / 4, t = lane % 4: c[e] is row g + 8
// (e / 2), column 2t + e % 2; a[i] holds columns 2t + 8 (i / 2) and the next of row g + 8 (i % 2),
// the first in the lower half; b0 and b1 hold rows 2t and 2t + 1, and those plus 8, of column
// g.
__device__ inline void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                     uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// c[16 x 8] += a[16 x 8] b[8 x 8] in TF32: a[i] is row g + 8 (i % 2), column t + 4 (i / 2); b0 and
// b1 are rows t and t + 4 of column g. Operands as to_tf32 leaves them.
__device__ inline void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                     uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- Asynchronous copies --------------------------------------------------------------------

// Starts copying 16 bytes to shared memory; zeros if not `present` (`from` is then not read).
// Visible to this thread after copy_wait, to others after a barrier as well.
__device__ inline void copy_async(void *to, const void *from, bool present)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(present ? 16 : 0)
                 : "memory");
}
// Four bytes.
__device__ inline void copy_async_word(void *to, const void *from, bool present)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(present ? 4 : 0)
                 : "memory");
}
__device__ inline void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `pending` of the groups that this thread committed are under way.
template <int pending> __device__ inline void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

} // namespace mra_cuda
#endif
