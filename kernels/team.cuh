// Tiles of 32 rows against tiles of 32 rows in float32, outside the tensor cores: what attention
// over listed blocks, among sorted rows and by collisions have in common.
//
// A block of 256 threads has a tile of rows in shared memory and takes the other side tile by tile:
// eight threads share a row and hold every eighth column of its result in registers. A pair
// costs two products of d. A word of a row serves four products, and a weight the columns that a
// thread holds: some 1.2 words from shared memory for each multiplication. A multiprocessor loads
// 32 of them a clock and could multiply 128 times: the limit is a fifth of the rate of float32.
//
// `weight` and `slope` below are SIDE floats of shared memory of the thread's row: written and read by its
// eight threads, and free again after the next barrier of the block, which comes before the next
// tile is loaded.
#ifndef MRA_KERNELS_TEAM_CUH
#define MRA_KERNELS_TEAM_CUH

#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { SIDE = 32, TEAM = 8, WIDEST_TILE = 256 }; // of a tile; threads of a row; columns

// Rows of a tile to shared memory, d + 1 floats apart so that a column lies in different banks:
// row r from row_of(r), zeros from row `count` on. By all threads of the block.
template <class F>
__device__ inline void load_rows(float *to, int d, int count, const F &row_of)
{
    for (int i = (int)threadIdx.x; i < SIDE * d; i += THREADS) {
        const int row = i / d, column = i % d;
        to[row * (d + 1) + column] = row < count ? row_of(row)[column] : 0.0f;
    }
}

// The products of one row with the rows lane, lane + 8, ... of a tile: product[m] is that with row
// lane + 8 m, 0 beyond the first `count`. A word of the row serves four products.
enum { PRODUCTS = SIDE / TEAM };
__device__ inline void row_products(const float *row, const float *tile, int count, int d,
                                    float (&product)[PRODUCTS])
{
    const float *first = tile + (int)threadIdx.x % TEAM * (d + 1);
#pragma unroll
    for (int m = 0; m < PRODUCTS; m++) product[m] = 0.0f;
    for (int c = 0; c < d; c++) {
        const float x = row[c];
#pragma unroll
        for (int m = 0; m < PRODUCTS; m++)
            if (TEAM * m < count) product[m] += x * first[TEAM * m * (d + 1) + c];
    }
}

__device__ inline float team_max(float x)
{
    for (int step = TEAM / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}
__device__ inline float team_sum(float x)
{
    for (int step = TEAM / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

// sum[k] += sum over j < count of weight[j] rows[j][lane + 8 k].
template <int OWN>
__device__ inline void add_rows(float (&sum)[OWN], const float *weight, const float *rows,
                                int count, int d)
{
    const int lane = (int)threadIdx.x % TEAM;
    for (int j = 0; j < count; j++) {
        const float w = weight[j];
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            const int c = lane + TEAM * k;
            if (c < d) sum[k] += w * rows[j * (d + 1) + c];
        }
    }
}

// sum += the rows, times weight_of(m, y) each, y = lane + 8 m.
template <int OWN, class F>
__device__ inline void add_weighted(float *weight, const float *rows, int count, int d,
                                    const F &weight_of, float (&sum)[OWN])
{
#pragma unroll
    for (int m = 0; m < PRODUCTS; m++) {
        const int y = (int)threadIdx.x % TEAM + TEAM * m;
        if (y < count) weight[y] = weight_of(m, y);
    }
    __syncwarp();
    add_rows<OWN>(sum, weight, rows, count, d);
}

// What a key takes from a tile of queries: pair_of(m, x, &weight, &slope) says how much of each row of
// dz goes into dv and of q into dk.
template <int OWN, class F>
__device__ inline void take_queries(float *weight, float *slope, const float *q,
                                    const float *dz, int count, int d, const F &pair_of,
                                    float (&dk)[OWN], float (&dv)[OWN])
{
#pragma unroll
    for (int m = 0; m < PRODUCTS; m++) {
        const int x = (int)threadIdx.x % TEAM + TEAM * m;
        if (x < count) pair_of(m, x, &weight[x], &slope[x]);
    }
    __syncwarp();
    add_rows<OWN>(dk, slope, q, count, d);
    add_rows<OWN>(dv, weight, dz, count, d);
}

// ---- Online softmax -------------------------------------------------------------------------

struct online_row {
    float largest, sum;
};

// One tile of keys: logit_of(m, y, &share) is the logit of this thread's row and key y, -infinity if
// they do not meet, and the share with which its exponential counts. Brings the result so far to
// the new maximum and adds to it.
template <int OWN, class F>
__device__ inline void absorb(float *weight, const float *v, int count, int d,
                              const F &logit_of, online_row &row, float (&out)[OWN])
{
    const int lane = (int)threadIdx.x % TEAM;
    float logit[PRODUCTS], share[PRODUCTS], largest = row.largest;
#pragma unroll
    for (int m = 0; m < PRODUCTS; m++) {
        const int y = lane + TEAM * m;
        share[m] = 1.0f;
        logit[m] = y < count ? logit_of(m, y, &share[m]) : -INFINITY;
        largest = fmaxf(largest, logit[m]);
    }
    largest = team_max(largest);
    const float shift = largest == -INFINITY ? 0.0f : largest;
    const float keep = expf(row.largest - shift);
    float sum = 0.0f;
#pragma unroll
    for (int m = 0; m < PRODUCTS; m++) {
        const float w = share[m] * expf(logit[m] - shift);
        weight[lane + TEAM * m] = w;
        sum += w;
    }
    row.sum = row.sum * keep + team_sum(sum);
    row.largest = largest;
    __syncwarp();
    for (int k = 0; k < OWN; k++) out[k] *= keep;
    add_rows<OWN>(out, weight, v, count, d);
}

// ---- Launching ------------------------------------------------------------------------------

// A kernel for up to 32, 64, 128 and 256 columns: OWN = 4, 8, 16 and 32.
template <class P> struct team_kernels {
    void (*kernel[4])(P);
};

// `tiles` tiles and `squares` arrays of SIDE x SIDE weights in dynamic shared memory.
template <class P>
inline mra_status launch_team(mra_device *device, const char *name, dim3 grid, int d, int tiles,
                              int squares, const team_kernels<P> &kernels, const P &plan,
                              mra_error *err)
{
    if (d > WIDEST_TILE)
        return mra_fail(err, MRA_BAD_INPUT, "device '%s': %s: d = %d: expected at most %d",
                        device->name, name, d, WIDEST_TILE);
    const size_t floats = (size_t)tiles * SIDE * (d + 1) + (size_t)squares * SIDE * SIDE;
    launch(name,
           kernels.kernel[d <= 32    ? 0
                          : d <= 64  ? 1
                          : d <= 128 ? 2
                                     : 3],
           grid, THREADS, floats * sizeof(float), stream_of(device), plan);
    return launch_status(stream_of(device), name, err);
}

// Writes every eighth column of a row of results, or adds them to it; by the row's eight threads.
template <int OWN>
__device__ inline void put_row(float *to, const float (&sum)[OWN], float factor, bool add,
                               int d)
{
    const int lane = (int)threadIdx.x % TEAM;
#pragma unroll
    for (int k = 0; k < OWN; k++) {
        const int c = lane + TEAM * k;
        if (c < d) to[c] = (add ? to[c] : 0.0f) + factor * sum[k];
    }
}

} // namespace MRA_BACKEND
#endif
