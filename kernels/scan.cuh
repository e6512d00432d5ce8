// Prefix sums of integers over a block of threads: the lists of the selection (select.cu) and of
// sorting (hash.cu).
#ifndef MRA_KERNELS_SCAN_CUH
#define MRA_KERNELS_SCAN_CUH

#include "simt/device.cuh"

namespace MRA_BACKEND
{

// The sum of x over the threads before this one; *total that over all. By all threads of a
// one-dimensional block of WARPS full warps; `room`: WARPS + 1 integers of shared memory.
template <int WARPS> __device__ inline int scan_block(int x, int *room, int *total)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int sum = x;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += other;
    }
    __syncthreads(); // room may still be read from the call before
    if (lane == 31) room[warp] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        int before = 0;
        for (int w = 0; w < WARPS; w++) {
            const int own = room[w];
            room[w] = before;
            before += own;
        }
        room[WARPS] = before;
    }
    __syncthreads();
    *total = room[WARPS];
    return room[warp] + sum - x;
}

// values[0 .. count) become the sums of those before them, values[count] their total; all threads
// may read them afterwards. A thread reads values[threadIdx.x + 32 WARPS k]: no barrier is needed
// after a loop in which each thread has written these.
template <int WARPS> __device__ inline void scan_array(int *values, int count, int *room)
{
    int before = 0;
    for (int first = 0; first < count; first += 32 * WARPS) {
        const int i = first + (int)threadIdx.x;
        int total;
        const int own = i < count ? values[i] : 0;
        const int sum = scan_block<WARPS>(own, room, &total);
        if (i < count) values[i] = before + sum;
        before += total;
    }
    if (threadIdx.x == 0) values[count] = before;
    __syncthreads();
}

} // namespace MRA_BACKEND
#endif
