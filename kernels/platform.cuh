// What the attention kernels add to kernels/simt/device.cuh.
#ifndef MRA_KERNELS_PLATFORM_CUH
#define MRA_KERNELS_PLATFORM_CUH

#include "simt/device.cuh"

namespace MRA_BACKEND::attention
{

// Of numbers that another processor may have written: not from this one's first-level cache.
__device__ inline float read_through(const float *from)
{
#ifdef __CUDACC__
    return __ldcg(from);
#else
    return *from;
#endif
}
__device__ inline float2 read_through_pair(const float *from)
{
#ifdef __CUDACC__
    return __ldcg((const float2 *)from);
#else
    return *(const float2 *)from;
#endif
}

} // namespace MRA_BACKEND::attention
#endif
