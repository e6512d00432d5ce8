#include <stdlib.h>

#include "simt/device.cuh"

#include "../tests/kernels/planted.h"

namespace MRA_BACKEND
{

// ---- Correct ones ---------------------------------------------------------------------------

__global__ void reverse_kernel(int count, const float *x, float *y)
{
    MRA_SHARED(float, tile, 128);
    const int first = (int)blockIdx.x * 128, i = (int)threadIdx.x;
    const int here = count - first < 128 ? count - first : 128;
    if (i < here) tile[i] = x[first + i];
    __syncthreads();
    if (i < here) y[first + i] = tile[here - 1 - i];
}

__global__ void scan_kernel(int count, const float *x, float *y)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), lane = i % 32;
    float sum = i < count ? x[i] : 0.0f;
    for (int by = 1; by < 32; by *= 2) {
        float below = __shfl_up_sync(0xffffffffu, sum, by);
        if (lane >= by) sum += below;
    }
    if (i < count) y[i] = sum;
}

__global__ void last_block_kernel(int count, const float *x, float *part, unsigned *arrived,
                                  float *y, bool fence)
{
    MRA_SHARED(unsigned, last, 1);
    float sum = 0.0f;
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < count;
         i += (int)(gridDim.x * blockDim.x))
        sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        part[blockIdx.x] = sum;
        if (fence) __threadfence();
        last[0] = atomicAdd(arrived, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last[0]) return;
    sum = 0.0f;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) sum += part[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = sum;
}

__global__ void copies_kernel(int count, const float *x, float *y)
{
    float *buffer = dynamic_shared<float>();
    const int quads = count / 4, i = (int)threadIdx.x, step = (int)blockDim.x;
    const float nothing[4] = {0, 0, 0, 0};
    copy_async(buffer + 4 * i, i < quads ? x + 4 * i : nothing, i < quads);
    copy_commit();
    for (int at = i, turn = 0; at < quads; at += step, turn ^= 1) {
        const int next = at + step;
        copy_async(buffer + 4 * (i + (turn ^ 1) * step), next < quads ? x + 4 * next : x,
                   next < quads);
        copy_commit();
        copy_wait<1>();
        float4 four = *(const float4 *)(buffer + 4 * (i + turn * step));
        *(float4 *)(y + 4 * at) = make_float4(2 * four.x, 2 * four.y, 2 * four.z, 2 * four.w);
    }
    copy_wait<0>();
}

__global__ void bf16_product_kernel(int depth, const float *a, const float *b, float *c)
{
    MRA_SHARED(bfloat16, left, 16 * 24);
    MRA_SHARED(bfloat16, right, 16 * 24); // rows of b, the last 8 unused
    const int lane = (int)threadIdx.x;
    float sum[4] = {0, 0, 0, 0};
    for (int k = 0; k < depth; k += 16) {
        __syncwarp();
        for (int i = lane; i < 256; i += 32) {
            left[i / 16 * 24 + i % 16] = to_bf16(a[i / 16 * depth + k + i % 16]);
            right[i / 16 * 24 + i % 16] =
                to_bf16(i / 16 < 8 ? b[i / 16 * depth + k + i % 16] : 0.0f);
        }
        __syncwarp();
        uint32_t l[4], r[4];
        load_matrices(l, left + lane % 16 * 24 + lane / 16 * 8);
        load_matrices(r, right + (lane / 16 * 8 + lane % 8) * 24 + lane / 8 % 2 * 8);
        multiply_bf16(sum, l, r[0], r[1]);
    }
    for (int e = 0; e < 4; e++)
        c[(lane / 4 + 8 * (e / 2)) * 8 + 2 * (lane % 4) + e % 2] = sum[e];
}

__global__ void tf32_product_kernel(int depth, const float *a, const float *b, float *c)
{
    const int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4;
    float sum[4] = {0, 0, 0, 0};
    for (int k = 0; k < depth; k += 8) {
        uint32_t l[4];
        for (int i = 0; i < 4; i++)
            l[i] = to_tf32(a[(g + 8 * (i % 2)) * depth + k + t + 4 * (i / 2)]);
        multiply_tf32(sum, l, to_tf32(b[g * depth + k + t]), to_tf32(b[g * depth + k + t + 4]));
    }
    for (int e = 0; e < 4; e++)
        c[(lane / 4 + 8 * (e / 2)) * 8 + 2 * (lane % 4) + e % 2] = sum[e];
}

__global__ void warp_kernel(const int *x, unsigned *y)
{
    const int lane = (int)threadIdx.x;
    const uint32_t mask = __activemask();
    const int value = x[lane];
    y[8 * lane + 0] = __ballot_sync(mask, value & 1);
    y[8 * lane + 1] = __match_any_sync(mask, (uint32_t)value);
    y[8 * lane + 2] = (unsigned)__reduce_add_sync(mask, value);
    y[8 * lane + 3] = (unsigned)__reduce_max_sync(mask, value);
    y[8 * lane + 4] = (unsigned)__shfl_sync(mask, value, 3, 8);
    y[8 * lane + 5] = (unsigned)__shfl_down_sync(mask, value, 1, 4);
    y[8 * lane + 6] = (unsigned)__any_sync(mask, value == 7);
    y[8 * lane + 7] = (unsigned)__all_sync(mask, value >= 0);
}

__global__ void order_kernel(int *count, int *order)
{
    order[atomicAdd(count, 1)] = (int)threadIdx.x;
}

// ---- With a defect --------------------------------------------------------------------------

__global__ void no_barrier(float *y)
{
    MRA_SHARED(float, tile, 64);
    tile[threadIdx.x] = 0;
    __syncthreads();
    tile[threadIdx.x] = (float)threadIdx.x;
    y[threadIdx.x] = tile[63 - threadIdx.x];
}

__global__ void no_second_barrier(float *y)
{
    MRA_SHARED(float, tile, 64);
    for (int turn = 0; turn < 2; turn++) {
        tile[threadIdx.x] = (float)threadIdx.x;
        __syncthreads();
        y[threadIdx.x] = tile[63 - threadIdx.x];
    }
}

__global__ void no_syncwarp(float *y)
{
    MRA_SHARED(float, tile, 32);
    tile[threadIdx.x] = 0;
    __syncwarp();
    tile[threadIdx.x] = (float)threadIdx.x;
    y[threadIdx.x] = tile[31 - threadIdx.x];
}

__global__ void shuffle_for_syncwarp(float *y)
{
    MRA_SHARED(float, tile, 32);
    tile[threadIdx.x] = 0;
    __syncwarp();
    tile[threadIdx.x] = (float)threadIdx.x;
    __shfl_sync(0xffffffffu, 0, 0); // orders no memory
    y[threadIdx.x] = tile[31 - threadIdx.x];
}

__global__ void early_end(float *y)
{
    if (threadIdx.x >= 40) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

__global__ void two_barriers(float *y)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}

__global__ void absent_lane(float *y)
{
    if (threadIdx.x == 5) return;
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (float)threadIdx.x, 1);
}

__global__ void lane_at_barrier(float *y)
{
    if (threadIdx.x == 5) __syncthreads();
    y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (float)threadIdx.x, 1);
}

__global__ void own_lane_left_out(float *y)
{
    y[threadIdx.x] = __shfl_sync(0x7fffffffu, (float)threadIdx.x, 0);
}

__global__ void global_overrun(float *y)
{
    y[threadIdx.x + 1] = 1; // one after the last
}

__global__ void global_underrun(float *y)
{
    y[(int)threadIdx.x - 1] = 1;
}

__global__ void shared_overrun(float *y)
{
    MRA_SHARED(float, tile, 64);
    MRA_SHARED(float, other, 64);
    other[threadIdx.x] = 0;
    tile[threadIdx.x + 1] = 1;
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x] + other[threadIdx.x];
}

__global__ void dynamic_overrun(float *y)
{
    float *buffer = dynamic_shared<float>();
    buffer[threadIdx.x + 1] = 1;
    __syncthreads();
    y[threadIdx.x] = buffer[threadIdx.x];
}

__global__ void unwritten_shared(float *y)
{
    MRA_SHARED(float, tile, 65);
    tile[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x + 1];
}

__global__ void impatient_copy(const float *x, float *y)
{
    float *buffer = dynamic_shared<float>();
    if (threadIdx.x < 16) copy_async(buffer + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    copy_commit();
    __syncthreads(); // no wait
    y[threadIdx.x] = buffer[threadIdx.x];
}

__global__ void copy_without_barrier(const float *x, float *y)
{
    float *buffer = dynamic_shared<float>();
    buffer[threadIdx.x] = 0;
    __syncthreads();
    if (threadIdx.x < 16) copy_async(buffer + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    copy_commit();
    copy_wait<0>();
    y[threadIdx.x] = buffer[threadIdx.x];
}

__global__ void blocks_race(float *y)
{
    y[threadIdx.x] += 1; // every block
}

// The last warp to arrive adds up what the lanes of all have written: without the meeting of the warp
// before it says that it is there, or without the fence after it has heard that all are.
template <bool meets, bool fences> __device__ static void hand_over(float *y)
{
    float *part = y + 1 + 8 * blockIdx.x;
    int arrived = 0;
    if (threadIdx.x >= 32) return;
    if (threadIdx.x < 8) part[threadIdx.x] = 1;
    __threadfence();
    if (meets) __syncwarp();
    if (threadIdx.x == 0) arrived = atomicAdd((int *)y, 1);
    arrived = __shfl_sync(0xffffffffu, arrived, 0);
    if (fences) __threadfence();
    if (arrived == (int)gridDim.x - 1 && threadIdx.x < 8)
        for (int i = 0; i < (int)gridDim.x; i++)
            part[threadIdx.x] += y[1 + 8 * i + threadIdx.x];
}
__global__ void no_meeting_before_arrival(float *y)
{
    hand_over<false, true>(y);
}
__global__ void no_fence_after_arrival(float *y)
{
    hand_over<true, false>(y);
}

__global__ void misaligned(const float *x, float *y)
{
    if (threadIdx.x < 16) ((float4 *)y)[threadIdx.x] = *(const float4 *)(x + 1);
}

__global__ void host_pointer(const float *x, float *y)
{
    y[threadIdx.x] = x[threadIdx.x];
}

__global__ void too_much_shared(float *y)
{
    MRA_SHARED(float, tile, 16 * 1024);
    tile[threadIdx.x] = y[threadIdx.x];
}

// A block of 64 threads, y[64] on the device, and as much dynamic shared memory.
template <void (*kernel)(float *)> static void run(simt_runner *runner, const char *name)
{
    float *y = (float *)simt_malloc(runner, 64 * sizeof *y, true);
    const bool several = kernel == blocks_race || kernel == no_meeting_before_arrival ||
                         kernel == no_fence_after_arrival;
    launch(name, kernel, several ? 7 : 1, 64, 64 * sizeof *y, runner, y);
    simt_free(runner, y);
}
template <void (*kernel)(float *)> static void run_warp(simt_runner *runner, const char *name)
{
    float *y = (float *)simt_malloc(runner, 32 * sizeof *y, true);
    launch(name, kernel, 1, 32, 0, runner, y);
    simt_free(runner, y);
}
template <void (*kernel)(const float *, float *)>
static void run_on(simt_runner *runner, const char *name)
{
    float *x = (float *)simt_malloc(runner, 68 * sizeof *x, true);
    float *y = (float *)simt_malloc(runner, 64 * sizeof *y, true);
    float *host = (float *)calloc(64, sizeof *host);
    launch(name, kernel, 1, 64, 64 * sizeof *y, runner, kernel == host_pointer ? host : x, y);
    free(host);
    simt_free(runner, x);
    simt_free(runner, y);
}

} // namespace MRA_BACKEND

// ---- The table, and the correct ones from C -------------------------------------------------

using namespace MRA_BACKEND;

const planted planted_defects[] = {
    {"no_barrier", "race: ", SEEN_BY_WATCH, run<no_barrier>},
    {"no_second_barrier", "race: ", SEEN_BY_WATCH, run<no_second_barrier>},
    {"no_syncwarp", "race: ", SEEN_BY_WATCH, run_warp<no_syncwarp>},
    {"shuffle_for_syncwarp", "race: ", SEEN_BY_WATCH, run_warp<shuffle_for_syncwarp>},
    {"early_end", "24 of 64 threads never reach", SEEN_ALWAYS, run<early_end>},
    {"two_barriers", "waits at another", SEEN_ALWAYS, run<two_barriers>},
    {"absent_lane", "lane 5, which has ended", SEEN_ALWAYS, run_warp<absent_lane>},
    {"lane_at_barrier", "lane 5, which waits in the barrier", SEEN_ALWAYS,
     run_warp<lane_at_barrier>},
    {"own_lane_left_out", "leaves out the lane that calls, 31", SEEN_ALWAYS,
     run_warp<own_lane_left_out>},
    {"global_overrun", "outside an allocation", SEEN_BY_BOTH, run<global_overrun>},
    {"global_underrun", "outside an allocation", SEEN_BY_BOTH, run<global_underrun>},
    {"shared_overrun", "of shared memory outside an allocation", SEEN_BY_BOTH,
     run<shared_overrun>},
    {"dynamic_overrun", "of shared memory outside an allocation", SEEN_BY_BOTH,
     run<dynamic_overrun>},
    {"unwritten_shared", "reads shared memory that nobody has written", SEEN_BY_WATCH,
     run<unwritten_shared>},
    {"impatient_copy", "an asynchronous copy has not delivered", SEEN_BY_WATCH,
     run_on<impatient_copy>},
    {"copy_without_barrier", "race: ", SEEN_BY_WATCH, run_on<copy_without_barrier>},
    {"blocks_race", "of another block", SEEN_BY_WATCH, run<blocks_race>},
    {"no_meeting_before_arrival", "of another block", SEEN_BY_WATCH,
     run<no_meeting_before_arrival>},
    {"no_fence_after_arrival", "of another block", SEEN_BY_WATCH, run<no_fence_after_arrival>},
    {"misaligned", "no multiple of", SEEN_BY_BOTH, run_on<misaligned>},
    {"host_pointer", "host memory", SEEN_BY_WATCH, run_on<host_pointer>},
    {"too_much_shared", "at most 49152 declared", SEEN_ALWAYS, run<too_much_shared>},
};
const int planted_defect_count = sizeof planted_defects / sizeof planted_defects[0];

// Host arrays x[count] to the device, and y[results] back from it.
struct on_device {
    simt_runner *runner;
    float *x, *y, *host_y;
    size_t bytes;
    on_device(simt_runner *runner_, size_t count, const void *host_x, size_t results, void *to)
        : runner(runner_), host_y((float *)to), bytes(4 * results)
    {
        x = (float *)simt_malloc(runner, 4 * count, false);
        y = (float *)simt_malloc(runner, bytes, false);
        simt_copy(runner, x, host_x, 4 * count);
    }
    ~on_device()
    {
        if (bytes) memcpy(host_y, y, bytes);
        simt_free(runner, x);
        simt_free(runner, y);
    }
};

void planted_reverse(simt_runner *runner, int count, const float *x, float *y)
{
    on_device at(runner, count, x, count, y);
    MRA_LAUNCH(reverse_kernel, (count + 127) / 128, 128, 0, runner, count, at.x, at.y);
}

void planted_scan(simt_runner *runner, int count, const float *x, float *y)
{
    on_device at(runner, count, x, count, y);
    MRA_LAUNCH(scan_kernel, (count + 63) / 64, 64, 0, runner, count, at.x, at.y);
}

void planted_last_block(simt_runner *runner, int count, const float *x, float *y, bool fence)
{
    const int blocks = 7;
    on_device at(runner, count, x, 1, y);
    float *part = (float *)simt_malloc(runner, blocks * sizeof *part, false);
    unsigned *arrived = (unsigned *)simt_malloc(runner, sizeof *arrived, true);
    MRA_LAUNCH(last_block_kernel, blocks, 96, 0, runner, count, at.x, part, arrived, at.y,
               fence);
    simt_free(runner, part);
    simt_free(runner, arrived);
}

void planted_copies(simt_runner *runner, int count, const float *x, float *y)
{
    on_device at(runner, count, x, count, y);
    MRA_LAUNCH(copies_kernel, 1, 32, 2 * 32 * 16, runner, count, at.x, at.y);
}

void planted_product(simt_runner *runner, bool bf16, int depth, const float *a, const float *b,
                     float *c)
{
    on_device at(runner, 16 * (size_t)depth, a, 16 * 8, c);
    on_device other(runner, 8 * (size_t)depth, b, 0, NULL);
    if (bf16)
        MRA_LAUNCH(bf16_product_kernel, 1, 32, 0, runner, depth, at.x, other.x, at.y);
    else
        MRA_LAUNCH(tf32_product_kernel, 1, 32, 0, runner, depth, at.x, other.x, at.y);
}

void planted_warp(simt_runner *runner, int lanes, const int *x, unsigned *y)
{
    on_device at(runner, lanes, x, 8 * (size_t)lanes, y);
    MRA_LAUNCH(warp_kernel, 1, lanes, 0, runner, (const int *)at.x, (unsigned *)at.y);
}

void planted_order(simt_runner *runner, int threads, int *order)
{
    on_device at(runner, 0, NULL, threads, order);
    int *count = (int *)simt_malloc(runner, sizeof *count, true);
    MRA_LAUNCH(order_kernel, 1, threads, 0, runner, count, (int *)at.y);
    simt_free(runner, count);
}
