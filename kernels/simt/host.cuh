// The half of device.cuh for the host runner: what CUDA C has beyond C++, as functions that call
// kernels/simt/runner.h.
#ifndef MRA_KERNELS_SIMT_HOST_CUH
#define MRA_KERNELS_SIMT_HOST_CUH

#include <string.h>

#include "simt/host_warp.cuh"

namespace mra_simt
{

typedef simt_runner *stream_t;

// ---- Launching ------------------------------------------------------------------------------

template <class... P, class... A>
inline void launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                   size_t shared_bytes, stream_t stream, A... arguments)
{
    auto closure = [=]() { kernel(P(arguments)...); };
    typedef decltype(closure) closure_type;
    simt_launch(
        stream, name, grid, block, shared_bytes, [](void *self) { (*(closure_type *)self)(); },
        &closure, sizeof closure);
}
#define MRA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    mra_simt::launch(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)

inline mra_status launch_status(stream_t stream, const char *what, mra_error *err)
{
    const char *error = simt_runner_take_error(stream);
    if (!error) return MRA_OK;
    return mra_fail(err, MRA_INTERNAL, "device 'simt': %s: %s", what, error);
}

// ---- Shared memory --------------------------------------------------------------------------

template <class T> inline T *dynamic_shared()
{
    return (T *)simt_dynamic_shared();
}

// ---- Numbers --------------------------------------------------------------------------------

inline float __uint_as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
inline uint32_t __float_as_uint(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float __int_as_float(int bits)
{
    return __uint_as_float((uint32_t)bits);
}
inline int __float_as_int(float x)
{
    return (int)__float_as_uint(x);
}

template <class T> inline T min(T a, T b)
{
    return b < a ? b : a;
}
template <class T> inline T max(T a, T b)
{
    return a < b ? b : a;
}
inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
inline float __expf(float x)
{
    return expf(x);
}
inline float __logf(float x)
{
    return logf(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float normcdff(float x)
{
    return 0.5f * erfcf(-0.70710678118654752f * x);
}
inline uint32_t __umulhi(uint32_t a, uint32_t b)
{
    return (uint32_t)((uint64_t)a * b >> 32);
}
inline int __popc(uint32_t x)
{
    return __builtin_popcount(x);
}
inline int __popcll(uint64_t x)
{
    return __builtin_popcountll(x);
}
inline int __ffs(uint32_t x)
{
    return __builtin_ffs((int)x);
}
inline int __clz(uint32_t x)
{
    return x ? __builtin_clz(x) : 32;
}
inline uint32_t __brev(uint32_t x)
{
    uint32_t y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
    return y;
}
template <class T> inline T __ldg(const T *from)
{
    return *from;
}

inline uint32_t bf16_bits(float x)
{
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF; // NaN
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}
inline uint32_t pack_bf16(float low, float high)
{
    return bf16_bits(high) << 16 | bf16_bits(low);
}
inline uint32_t to_tf32(float x)
{
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7F800000u) == 0x7F800000u) return bits; // infinity, NaN
    return (bits + 0x1000) & 0xFFFFE000u;
}
inline float power_of_two(float x)
{
    return exp2f(x);
}

// ---- Tensor cores: layouts in nvcc.cuh ------------------------------------------------------

struct matrix_load {
    const bfloat16 *row;
    uint32_t to[4];
    const char *file;
    int line;
};

template <bool transposed> inline void complete_load(void *const *argument, uint32_t)
{
    for (int i = 0; i < 4; i++)
        for (int lane = 0; lane < 32; lane++) {
            uint32_t pair[2];
            for (int e = 0; e < 2; e++) {
                int row = transposed ? 2 * (lane % 4) + e : lane / 4;
                int column = transposed ? lane / 4 : 2 * (lane % 4) + e;
                const matrix_load *from = (const matrix_load *)argument[8 * i + row];
                if ((uintptr_t)from->row % 16)
                    simt_fail("%s:%d: a row of a matrix to load is not at a multiple of 16",
                              from->file, from->line);
                pair[e] = from->row[column].bits;
            }
            ((matrix_load *)argument[lane])->to[i] = pair[0] | pair[1] << 16;
        }
}
inline void load_matrices(uint32_t (&to)[4], const bfloat16 *row,
                          const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    matrix_load load = {row, {0, 0, 0, 0}, file, line};
    simt_collective(~0u, complete_load<false>, &load, "load_matrices", file, line);
    for (int i = 0; i < 4; i++) to[i] = load.to[i];
}
inline void load_matrices_transposed(uint32_t (&to)[4], const bfloat16 *row,
                                     const char *file = __builtin_FILE(),
                                     int line = __builtin_LINE())
{
    matrix_load load = {row, {0, 0, 0, 0}, file, line};
    simt_collective(~0u, complete_load<true>, &load, "load_matrices_transposed", file, line);
    for (int i = 0; i < 4; i++) to[i] = load.to[i];
}

struct matrix_product {
    float *c;
    const uint32_t *a;
    uint32_t b[2];
};

inline float bf16_half(uint32_t pair, int which)
{
    return __uint_as_float(which ? pair & 0xFFFF0000u : pair << 16);
}

inline void complete_bf16(void *const *argument, uint32_t)
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const matrix_product *from = (const matrix_product *)argument[lane];
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++)
            for (int e = 0; e < 2; e++)
                a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + e] = bf16_half(from->a[i], e);
        for (int i = 0; i < 2; i++)
            for (int e = 0; e < 2; e++) b[2 * t + 8 * i + e][g] = bf16_half(from->b[i], e);
    }
    for (int lane = 0; lane < 32; lane++)
        for (int e = 0; e < 4; e++) {
            int row = lane / 4 + 8 * (e / 2), column = 2 * (lane % 4) + e % 2;
            float sum = ((matrix_product *)argument[lane])->c[e];
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][column];
            ((matrix_product *)argument[lane])->c[e] = sum;
        }
}
inline void complete_tf32(void *const *argument, uint32_t)
{
    const uint32_t kept = 0xFFFFE000u; // the bits that the hardware looks at
    float a[16][8], b[8][8];
    for (int lane = 0; lane < 32; lane++) {
        const matrix_product *from = (const matrix_product *)argument[lane];
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++)
            a[g + 8 * (i % 2)][t + 4 * (i / 2)] = __uint_as_float(from->a[i] & kept);
        for (int i = 0; i < 2; i++) b[t + 4 * i][g] = __uint_as_float(from->b[i] & kept);
    }
    for (int lane = 0; lane < 32; lane++)
        for (int e = 0; e < 4; e++) {
            int row = lane / 4 + 8 * (e / 2), column = 2 * (lane % 4) + e % 2;
            float sum = ((matrix_product *)argument[lane])->c[e];
            for (int k = 0; k < 8; k++) sum += a[row][k] * b[k][column];
            ((matrix_product *)argument[lane])->c[e] = sum;
        }
}
inline void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                          const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    matrix_product product = {c, a, {b0, b1}};
    simt_collective(~0u, complete_bf16, &product, "multiply_bf16", file, line);
}
inline void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                          const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    matrix_product product = {c, a, {b0, b1}};
    simt_collective(~0u, complete_tf32, &product, "multiply_tf32", file, line);
}

// ---- Asynchronous copies --------------------------------------------------------------------

inline void copy_async(void *to, const void *from, bool present,
                       const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    simt_copy_async(to, from, 16, present, file, line);
}
inline void copy_async_word(void *to, const void *from, bool present,
                            const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    simt_copy_async(to, from, 4, present, file, line);
}
inline void copy_commit()
{
    simt_copy_commit();
}
template <int pending> inline void copy_wait()
{
    simt_copy_wait(pending);
}

} // namespace mra_simt
#endif
