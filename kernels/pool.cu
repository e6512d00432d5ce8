// # Pooling on the GPU
//
// One pass over $q$, $k$, $v$: means of the queries and keys of a block of 32 tokens and the sum
// of its values, over unmasked tokens. It is bound by memory. On an H200 (4.8 TB/s) at 12 heads
// of 64, batch 8, $n=4096$, it reads $3\cdot50$ MB in bf16 and writes $3\cdot3.1$ MB: 160 MB,
// 33 us; $0.08$ GFLOP count for nothing. With arrays in float32 and products in bf16 it writes
// the bf16 copies on the way, so that no later kernel reads float32 again: 463 MB, 97 us.
//
// A thread owns 16 bytes of a row's width and adds down the block's rows in order; all rows of
// a group of eight are under way at once. The order of the sum is that of src/mra/fused_pool.c,
// so pooled rows agree with the CPU's to the last bit, and with them the choice of boxes.

#include "launch.cuh"

namespace MRA_BACKEND::attention
{

enum { POOL_THREADS = 128 };

// Bit r: token r of block x is there. By a whole warp.
__device__ static uint32_t mark_present(const plan &p, int batch, int x)
{
    int r = threadIdx.x % 32, t = x * TILE + r;
    bool there = x < p.blocks && t < p.n;
    if (there && p.mask) there = p.mask[(size_t)batch * p.n + token_of(p, x, r)] != 0;
    return __ballot_sync(0xffffffffu, there);
}

// 16 bytes of a row as floats.
template <class E> struct piece {
    enum { WIDTH = 16 / sizeof(E) };
    union {
        uint4 bytes;
        E entry[WIDTH];
    };
};

// The bf16 copy of a piece of a row.
template <class E>
__device__ static void copy_piece(bfloat16 *to, const piece<E> &from, bool there)
{
    const int width = piece<E>::WIDTH;
    for (int c = 0; c < width; c += 2) {
        float low = there ? to_float(from.entry[c]) : 0;
        float high = there ? to_float(from.entry[c + 1]) : 0;
        *(uint32_t *)(to + c) = pack_bf16(low, high);
    }
}

// Sums of one thread's 16 bytes over the rows of block x; copies them to `copy` if not NULL.
template <class E, int D>
__device__ static void sum_block(const plan &p, const E *array, bfloat16 *copy, int x, int c,
                                 uint32_t present, float *sum)
{
    const int width = piece<E>::WIDTH, group = 8;
    for (int i = 0; i < width; i++) sum[i] = 0;
    for (int first = 0; first < TILE; first += group) {
        piece<E> row[group];
#pragma unroll
        for (int r = 0; r < group; r++)
            if (present >> (first + r) & 1)
                row[r].bytes =
                    *(const uint4 *)(array + (size_t)token_of(p, x, first + r) * D + c);
#pragma unroll
        for (int r = 0; r < group; r++) {
            bool there = present >> (first + r) & 1;
            for (int i = 0; i < width; i++)
                if (there) sum[i] += to_float(row[r].entry[i]);
            if (copy && there)
                copy_piece(copy + (size_t)token_of(p, x, first + r) * D + c, row[r], there);
        }
    }
}

// A warp takes `blocks_each` blocks of one array of one head.
template <class E, int D>
__global__ void pool_kernel(plan p, const E *q, const E *k, const E *v, bfloat16 *copy)
{
    const int width = piece<E>::WIDTH, threads_each = D / width,
              blocks_each = 32 / threads_each;
    int lane = threadIdx.x % 32;
    int group = blockIdx.x * (POOL_THREADS / 32) + threadIdx.x / 32, which = blockIdx.y % 3;
    int head = p.first_head + blockIdx.y / 3, each = p.heads / p.batch;
    if (group * blocks_each >= p.blocks) return;

    uint32_t present = 0;
    for (int i = 0; i < blocks_each; i++) {
        uint32_t bits = mark_present(p, head / each, group * blocks_each + i);
        if (lane / threads_each == i) present = bits;
    }
    int x = group * blocks_each + lane / threads_each, c = lane % threads_each * width;
    if (x >= p.blocks) return;
    if (which == 0 && head % each == 0 && c == 0)
        p.present[(size_t)(head / each) * p.blocks + x] = present;

    size_t size = (size_t)p.n * D;
    const E *array = of_head(which == 0 ? q : which == 1 ? k : v, head, size);
    if (copy) copy += ((size_t)which * p.heads + head) * size;
    float sum[width];
    sum_block<E, D>(p, array, copy, x, c, present, sum);

    int count = __popc(present);
    float share = which == 2 ? 1.0f : count > 0 ? 1 / (float)count : 0.0f;
    float *pooled = which == 0 ? p.query : which == 1 ? p.key : p.value;
    pooled = of_head(pooled, head, (size_t)p.blocks * D) + (size_t)x * D + c;
    bool finite = true;
    for (int i = 0; i < width; i++) {
        float mean = sum[i] * share;
        finite = finite && fabsf(mean) <= 3.402823466e38f;
        pooled[i] = mean;
    }
    if (!finite) atomicOr(&p.broken[head], 1);
}

template <class E, int D>
static void pool(const plan &p, const E *q, const E *k, const E *v, bfloat16 *copy,
                 stream_t stream)
{
    const int blocks_each = 32 / (D * (int)sizeof(E) / 16);
    const int each = blocks_each * (POOL_THREADS / 32);
    dim3 grid((unsigned)((p.blocks + each - 1) / each), (unsigned)(3 * p.launch_heads));
    MRA_LAUNCH((pool_kernel<E, D>), grid, POOL_THREADS, 0, stream, p, q, k, v, copy);
}

void pool_float(const plan &p, const float *q, const float *k, const float *v, bfloat16 *copy,
                stream_t stream)
{
    if (p.d == 32) pool<float, 32>(p, q, k, v, copy, stream);
    if (p.d == 64) pool<float, 64>(p, q, k, v, copy, stream);
    if (p.d == 128) pool<float, 128>(p, q, k, v, copy, stream);
}

void pool_bf16(const plan &p, const bfloat16 *q, const bfloat16 *k, const bfloat16 *v,
               stream_t stream)
{
    if (p.d == 32) pool<bfloat16, 32>(p, q, k, v, NULL, stream);
    if (p.d == 64) pool<bfloat16, 64>(p, q, k, v, NULL, stream);
    if (p.d == 128) pool<bfloat16, 128>(p, q, k, v, NULL, stream);
}

} // namespace MRA_BACKEND::attention
