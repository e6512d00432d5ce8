// CUDA's types, barriers, warp functions and atomic operations for the host runner. Meanings as in
// the CUDA C++ Programming Guide, "C++ Language Extensions"; where the guide leaves a result
// undefined, the launch stops with a message.
#ifndef MRA_KERNELS_SIMT_HOST_WARP_CUH
#define MRA_KERNELS_SIMT_HOST_WARP_CUH

#include <stddef.h>
#include <stdint.h>

#include "simt/runner.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __constant__ static const

#define threadIdx (simt_now->thread)
#define blockIdx (simt_now->block)
#define blockDim (simt_now->block_size)
#define gridDim (simt_now->grid_size)

// The array that the threads of a block share; every declaration has an address of its own.
#define MRA_SHARED(type, name, count) \
    static const char name##_key = 0; \
    type *const name =                \
        (type *)simt_shared_array(&name##_key, sizeof(type) * (count), alignof(type), #name)

namespace mra_simt
{

struct dim3 : simt_dim {
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)
    {
        x = x_, y = y_, z = z_;
    }
};

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y)
{
    return float2{x, y};
}
inline float4 make_float4(float x, float y, float z, float w)
{
    return float4{x, y, z, w};
}
inline int2 make_int2(int x, int y)
{
    return int2{x, y};
}
inline uint2 make_uint2(unsigned x, unsigned y)
{
    return uint2{x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return uint4{x, y, z, w};
}

// ---- Barriers and fences --------------------------------------------------------------------

inline void __syncthreads(const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    simt_block_barrier(0, file, line);
}
inline int __syncthreads_count(int vote, const char *file = __builtin_FILE(),
                               int line = __builtin_LINE())
{
    return simt_block_barrier(vote, file, line);
}
inline int __syncthreads_or(int vote, const char *file = __builtin_FILE(),
                            int line = __builtin_LINE())
{
    return simt_block_barrier(vote, file, line) > 0;
}
inline int __syncthreads_and(int vote, const char *file = __builtin_FILE(),
                             int line = __builtin_LINE())
{
    return simt_block_barrier(!vote, file, line) == 0;
}
inline void __threadfence()
{
    simt_fence();
}
inline void __threadfence_block()
{
    simt_fence();
}

inline void complete_syncwarp(void *const *, uint32_t)
{
    simt_warp_ordered();
}
inline void __syncwarp(uint32_t mask = ~0u, const char *file = __builtin_FILE(),
                       int line = __builtin_LINE())
{
    simt_collective(mask, complete_syncwarp, NULL, "__syncwarp", file, line);
}

// ---- Shuffles -------------------------------------------------------------------------------

template <class T> struct shuffle_argument {
    T value, result;
    int source;
};

template <class T> inline void complete_shuffle(void *const *argument, uint32_t mask)
{
    for (int lane = 0; lane < SIMT_WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        shuffle_argument<T> *own = (shuffle_argument<T> *)argument[lane];
        if (!(mask >> own->source & 1))
            simt_fail("a shuffle: lane %d reads lane %d, which its mask %#x leaves out", lane,
                      own->source, mask);
        own->result = ((const shuffle_argument<T> *)argument[own->source])->value;
    }
}

template <class T>
inline T shuffle(uint32_t mask, T value, int source, const char *what, const char *file,
                 int line)
{
    shuffle_argument<T> argument = {value, value, source};
    simt_collective(mask, complete_shuffle<T>, &argument, what, file, line);
    return argument.result;
}
template <class T>
inline T __shfl_sync(uint32_t mask, T value, int source, int width = 32,
                     const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    int first = simt_lane() & ~(width - 1);
    return shuffle(mask, value, first + (source & (width - 1)), "__shfl_sync", file, line);
}
template <class T>
inline T __shfl_up_sync(uint32_t mask, T value, unsigned by, int width = 32,
                        const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    int lane = simt_lane(), first = lane & ~(width - 1), source = lane - (int)by;
    return shuffle(mask, value, source < first ? lane : source, "__shfl_up_sync", file, line);
}
template <class T>
inline T __shfl_down_sync(uint32_t mask, T value, unsigned by, int width = 32,
                          const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    int lane = simt_lane(), end = (lane & ~(width - 1)) + width, source = lane + (int)by;
    return shuffle(mask, value, source < end ? source : lane, "__shfl_down_sync", file, line);
}
template <class T>
inline T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32,
                         const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    int lane = simt_lane(), end = (lane & ~(width - 1)) + width, source = lane ^ bits;
    return shuffle(mask, value, source < end ? source : lane, "__shfl_xor_sync", file, line);
}

// ---- Votes, matches, reductions -------------------------------------------------------------

struct vote_argument {
    uint32_t value, result;
};

inline void complete_ballot(void *const *argument, uint32_t mask)
{
    uint32_t votes = 0;
    for (int lane = 0; lane < SIMT_WARP; lane++)
        if ((mask >> lane & 1) && ((const vote_argument *)argument[lane])->value)
            votes |= 1u << lane;
    for (int lane = 0; lane < SIMT_WARP; lane++)
        if (mask >> lane & 1) ((vote_argument *)argument[lane])->result = votes;
}
inline uint32_t ballot(uint32_t mask, int vote, const char *what, const char *file, int line)
{
    vote_argument argument = {vote != 0, 0};
    simt_collective(mask, complete_ballot, &argument, what, file, line);
    return argument.result;
}
inline uint32_t __ballot_sync(uint32_t mask, int vote, const char *file = __builtin_FILE(),
                              int line = __builtin_LINE())
{
    return ballot(mask, vote, "__ballot_sync", file, line);
}
inline int __any_sync(uint32_t mask, int vote, const char *file = __builtin_FILE(),
                      int line = __builtin_LINE())
{
    return ballot(mask, vote, "__any_sync", file, line) != 0;
}
inline int __all_sync(uint32_t mask, int vote, const char *file = __builtin_FILE(),
                      int line = __builtin_LINE())
{
    return ballot(mask, vote, "__all_sync", file, line) == mask;
}

inline void complete_match(void *const *argument, uint32_t mask)
{
    for (int lane = 0; lane < SIMT_WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        vote_argument *own = (vote_argument *)argument[lane];
        own->result = 0;
        for (int other = 0; other < SIMT_WARP; other++)
            if ((mask >> other & 1) &&
                ((const vote_argument *)argument[other])->value == own->value)
                own->result |= 1u << other;
    }
}
inline uint32_t __match_any_sync(uint32_t mask, uint32_t value,
                                 const char *file = __builtin_FILE(),
                                 int line = __builtin_LINE())
{
    vote_argument argument = {value, 0};
    simt_collective(mask, complete_match, &argument, "__match_any_sync", file, line);
    return argument.result;
}

struct combine_add {
    template <class T> static T of(T a, T b)
    {
        return a + b;
    }
};
struct combine_min {
    template <class T> static T of(T a, T b)
    {
        return b < a ? b : a;
    }
};
struct combine_max {
    template <class T> static T of(T a, T b)
    {
        return a < b ? b : a;
    }
};
struct combine_or {
    template <class T> static T of(T a, T b)
    {
        return a | b;
    }
};
struct combine_and {
    template <class T> static T of(T a, T b)
    {
        return a & b;
    }
};

template <class T, class C> inline void complete_reduce(void *const *argument, uint32_t mask)
{
    bool begun = false;
    T total = T();
    for (int lane = 0; lane < SIMT_WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        T value = ((const shuffle_argument<T> *)argument[lane])->value;
        total = begun ? C::of(total, value) : value;
        begun = true;
    }
    for (int lane = 0; lane < SIMT_WARP; lane++)
        if (mask >> lane & 1) ((shuffle_argument<T> *)argument[lane])->result = total;
}

// Integers only, as in the hardware.
#define SIMT_REDUCE(name, combine)                                                        \
    template <class T>                                                                    \
    inline T name(uint32_t mask, T value, const char *file = __builtin_FILE(),            \
                  int line = __builtin_LINE())                                            \
    {                                                                                     \
        static_assert(T(1) / 2 == 0, "integers only");                                    \
        shuffle_argument<T> argument = {value, value, 0};                                 \
        simt_collective(mask, complete_reduce<T, combine>, &argument, #name, file, line); \
        return argument.result;                                                           \
    }
SIMT_REDUCE(__reduce_add_sync, combine_add)
SIMT_REDUCE(__reduce_min_sync, combine_min)
SIMT_REDUCE(__reduce_max_sync, combine_max)
SIMT_REDUCE(__reduce_or_sync, combine_or)
SIMT_REDUCE(__reduce_and_sync, combine_and)
#undef SIMT_REDUCE

inline uint32_t __activemask()
{
    return simt_active_mask();
}

// ---- Atomic operations: they return what was there before -----------------------------------

template <class T> struct plain_type {
    typedef T type;
};

#define SIMT_ATOMIC(name, expression)                                                        \
    template <class T>                                                                       \
    __attribute__((noinline, no_sanitize("thread"))) T name(T *address,                      \
                                                            typename plain_type<T>::type by) \
    {                                                                                        \
        simt_atomic(address, sizeof(T));                                                     \
        const T old = *address;                                                              \
        *address = (expression);                                                             \
        return old;                                                                          \
    }
SIMT_ATOMIC(atomicAdd, (T)(old + by))
SIMT_ATOMIC(atomicSub, (T)(old - by))
SIMT_ATOMIC(atomicMin, by < old ? by : old)
SIMT_ATOMIC(atomicMax, old < by ? by : old)
SIMT_ATOMIC(atomicExch, by)
SIMT_ATOMIC(atomicAnd, (T)(old &by))
SIMT_ATOMIC(atomicOr, (T)(old | by))
SIMT_ATOMIC(atomicXor, (T)(old ^ by))
SIMT_ATOMIC(atomicInc, (T)(old >= by ? 0 : old + 1))
#undef SIMT_ATOMIC

template <class T>
__attribute__((noinline, no_sanitize("thread"))) T
atomicCAS(T *address, typename plain_type<T>::type from, typename plain_type<T>::type to)
{
    simt_atomic(address, sizeof(T));
    const T old = *address;
    if (old == from) *address = to;
    return old;
}

} // namespace mra_simt
#endif
