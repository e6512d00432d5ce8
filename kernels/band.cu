// # A band and the rest
//
// ScatterBrain's two operations; src/tensor/cpu_outside_band.c and cpu_join.c have the formulas.
//
// The sum over the pairs of a band goes pair by pair. The sum over all pairs outside it has, per block of 64 keys, a state $S_y = \sum_j b_j
// c_j^\top$. What lies wholly to the left of the band of a block of rows is a sum of states, a
// running sum down the blocks; what lies to the right is another, up the blocks. Both are made in
// one array, one after the other, and nothing is ever subtracted. Blocks that the edge of the band
// cuts are done pair by pair.
//
// Bytes, for widths $p$ of a and b and $r$ of c: the states, $4pr/64$ bytes a token, are written
// once, run through twice and read once, for each side. At 12 heads, batch 8, $n=4096$, $p=128$,
// $r=65$: 204 MB of states, 1.6 GB in all, 0.34 ms on an H200; $8npr$ operations a head, 26
// GFLOP, 0.4 ms at 67 TFLOP/s. `join` reads two arrays and writes one, 302 MB, 63 us.

#include <float.h>

#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { SIDE = 64, NEAR_ROWS = 8, NEAR_KEYS = 32 };

struct band_plan {
    mra_band_form form;
    int blocks;
    int apart[2]; // blocks so far to the left, or right, and more: no pair is in the band
    const float *a, *b, *c;
    float *state; // [matrices, blocks, width, values]
    float *y;
};

// S of a block of keys.
__global__ void state_kernel(band_plan p)
{
    const size_t n = (size_t)p.form.n, width = (size_t)p.form.width;
    const size_t values = (size_t)p.form.values, matrix = blockIdx.x / (size_t)p.blocks;
    const size_t first = blockIdx.x % (unsigned)p.blocks * (size_t)SIDE;
    const size_t end = n - first < SIDE ? n : first + SIDE;
    const float *b = p.b + matrix * n * width, *c = p.c + matrix * n * values;
    float *state = p.state + blockIdx.x * width * values;
    for (size_t at = threadIdx.x; at < width * values; at += THREADS) {
        float sum = 0.0f;
        for (size_t j = first; j < end; j++)
            sum += b[j * width + at / values] * c[j * values + at % values];
        state[at] = sum;
    }
}

// Running sums over the blocks, downwards or upwards, each with its own block.
struct running_each {
    band_plan p;
    bool upwards;
    __device__ void operator()(size_t i) const // of [matrices, width, values]
    {
        const size_t size = (size_t)p.form.width * (size_t)p.form.values;
        float *state = p.state + i / size * (size_t)p.blocks * size + i % size;
        float sum = 0.0f;
        for (int k = 0; k < p.blocks; k++) {
            float *own = state + (size_t)(upwards ? p.blocks - 1 - k : k) * size;
            sum += *own;
            *own = sum;
        }
    }
};

// y_i += a_i^T (the sum of the states of all blocks wholly on one side).
struct far_each {
    band_plan p;
    bool right;
    __device__ void operator()(size_t at) const // of y[matrices, n, values]
    {
        const size_t width = (size_t)p.form.width, values = (size_t)p.form.values;
        const size_t row = at / values, matrix = row / (size_t)p.form.n;
        const int block = (int)(row % (size_t)p.form.n) / SIDE;
        const int from = right ? block + p.apart[1] : block - p.apart[0];
        if (from < 0 || from >= p.blocks) return;
        const float *a = p.a + row * width;
        const float *state =
            p.state + (matrix * (size_t)p.blocks + (size_t)from) * width * values + at % values;
        float sum = 0.0f;
        for (size_t k = 0; k < width; k++) sum += a[k] * state[k * values];
        p.y[at] += sum;
    }
};

// Whether the pair of row i and key j is one of the form's.
__device__ static bool counts(const mra_band_form &form, int i, int j)
{
    return (j - i >= -form.left && j - i <= form.right) == form.inside;
}

// Pairs of eight rows with the keys of the band, or with those of the blocks that its edge cuts.
__global__ void near_kernel(band_plan p)
{
    MRA_SHARED(float, weight, NEAR_ROWS *NEAR_KEYS);
    float *sum = dynamic_shared<float>(); // [NEAR_ROWS, values]
    const int n = p.form.n, values = p.form.values;
    const size_t width = (size_t)p.form.width, tiles = ((size_t)n + NEAR_ROWS - 1) / NEAR_ROWS;
    const size_t matrix = blockIdx.x / tiles;
    const int row = (int)(blockIdx.x % tiles) * NEAR_ROWS, block = row / SIDE;
    const int begin = p.form.inside ? row - p.form.left : (block - p.apart[0] + 1) * SIDE;
    const int end =
        p.form.inside ? row + NEAR_ROWS + p.form.right : (block + p.apart[1]) * SIDE;
    const int first = begin > 0 ? begin : 0, last = end < n ? end : n;
    const float *a = p.a + matrix * (size_t)n * width, *b = p.b + matrix * (size_t)n * width;
    const float *c = p.c + matrix * (size_t)n * (size_t)values;
    for (int at = (int)threadIdx.x; at < NEAR_ROWS * values; at += THREADS) sum[at] = 0.0f;
    for (int key = first; key < last; key += NEAR_KEYS) {
        // All of these keys are within the band of all of these rows?
        if (!p.form.inside && key - (row + NEAR_ROWS - 1) >= -p.form.left &&
            key + NEAR_KEYS - 1 - row <= p.form.right)
            continue;
        const int i = row + (int)threadIdx.x / NEAR_KEYS,
                  j = key + (int)threadIdx.x % NEAR_KEYS;
        float product = 0.0f;
        if (i < n && j < last && counts(p.form, i, j))
            for (size_t k = 0; k < width; k++)
                product += a[(size_t)i * width + k] * b[(size_t)j * width + k];
        __syncthreads();
        weight[threadIdx.x] = product;
        __syncthreads();
        for (int at = (int)threadIdx.x; at < NEAR_ROWS * values; at += THREADS) {
            const float *own = weight + at / values * NEAR_KEYS;
            float total = sum[at];
            for (int k = 0; k < NEAR_KEYS && key + k < last; k++)
                total += own[k] * c[(size_t)(key + k) * (size_t)values + at % values];
            sum[at] = total;
        }
    }
    for (int at = (int)threadIdx.x; at < NEAR_ROWS * values; at += THREADS) {
        const int i = row + at / values;
        if (i < n)
            p.y[(matrix * (size_t)n + (size_t)i) * (size_t)values + at % values] += sum[at];
    }
}

static mra_status add_side(mra_device *device, const band_plan &p, bool right, mra_error *err)
{
    const char *name = "band_sum";
    const size_t matrices = p.form.matrices;
    const size_t size = (size_t)p.form.width * (size_t)p.form.values;
    if (p.apart[right] >= p.blocks) return MRA_OK; // no block is that far away
    MRA_LAUNCH(state_kernel, (unsigned)(matrices * (size_t)p.blocks), THREADS, 0,
               stream_of(device), p);
    mra_status status = for_each(device, name, matrices * size, running_each{p, right}, err);
    if (status) return status;
    return for_each(device, name, matrices * (size_t)p.form.n * (size_t)p.form.values,
                    far_each{p, right}, err);
}

mra_status band_sum(mra_device *device, const mra_band_form *form, const float *a,
                    const float *b, const float *c, float *y, bool add, mra_error *err)
{
    const char *name = "band_sum";
    const size_t n = (size_t)form->n, values = (size_t)form->values;
    if (!form->matrices || form->n < 1 || !values) return MRA_OK;
    band_plan p = {*form, (int)((n + SIDE - 1) / SIDE), {0, 0}, a, b, c, NULL, y};
    p.apart[0] = (form->left + SIDE - 1) / SIDE + 1;
    p.apart[1] = (form->right + SIDE - 1) / SIDE + 1;
    const size_t floats =
        form->inside ? 0 : form->matrices * (size_t)p.blocks * (size_t)form->width * values;
    mra_status status = working_begin(device, working_size(floats * sizeof(float)), name, err);
    if (status) return status;
    p.state = working_piece<float>(device, floats);
    if (!add) status = fill(device, form->matrices * n * values, 0.0f, y, err);
    if (!status && !form->inside) status = add_side(device, p, false, err);
    if (!status && !form->inside) status = add_side(device, p, true, err);
    if (status) return status;
    const size_t tiles = (n + NEAR_ROWS - 1) / NEAR_ROWS;
    MRA_LAUNCH(near_kernel, (unsigned)(form->matrices * tiles), THREADS,
               NEAR_ROWS * values * sizeof(float), stream_of(device), p);
    return launch_status(stream_of(device), name, err);
}

// ---- Joining the two ------------------------------------------------------------------------

enum { ROWS = THREADS / 32 }; // a warp takes a row

// alpha and beta of a row; both 0 where it has no keys at all.
__device__ static void shares(const mra_join_operands &o, size_t row, int d, float *alpha,
                              float *beta)
{
    const double lse = o.lse[row], scale = o.scale[row];
    const double sum = fmaxf(o.sums[row * (size_t)(d + 1) + d], o.least);
    const double other = sum >= FLT_MIN ? scale + log(sum) : -INFINITY;
    const double most = lse > other ? lse : other;
    *alpha = *beta = 0.0f;
    if (!(most > -INFINITY)) return;
    const double whole = most + log(exp(lse - most) + exp(other - most));
    *alpha = (float)exp(lse - whole);
    if (other > -INFINITY) *beta = (float)exp(scale - whole);
}

__global__ void join_kernel(size_t rows, int d, mra_join_operands o)
{
    const size_t row = (size_t)blockIdx.x * ROWS + threadIdx.x / 32;
    if (row >= rows) return;
    float alpha, beta;
    shares(o, row, d, &alpha, &beta);
    for (int i = (int)threadIdx.x % 32; i < d; i += 32)
        o.z[row * d + i] =
            alpha * o.local[row * d + i] + beta * o.sums[row * (size_t)(d + 1) + i];
}

mra_status join(mra_device *device, size_t rows, int d, const mra_join_operands *operands,
                mra_error *err)
{
    if (!rows) return MRA_OK;
    MRA_LAUNCH(join_kernel, blocks_for(rows, ROWS), THREADS, 0, stream_of(device), rows, d,
               *operands);
    return launch_status(stream_of(device), "join", err);
}

__global__ void join_backward_kernel(size_t rows, int d, mra_join_operands o)
{
    const size_t row = (size_t)blockIdx.x * ROWS + threadIdx.x / 32;
    if (row >= rows) return;
    const int lane = (int)threadIdx.x % 32;
    float alpha, beta, along = 0.0f, apart = 0.0f;
    shares(o, row, d, &alpha, &beta);
    float *dsums = o.dsums ? o.dsums + row * (size_t)(d + 1) : NULL;
    for (int i = lane; i < d; i += 32) {
        const float slope = o.dz[row * d + i], z = o.z[row * d + i];
        along += slope * z;
        apart += slope * (o.local[row * d + i] - z);
        if (o.dlocal) o.dlocal[row * d + i] += alpha * slope;
        if (dsums) dsums[i] += beta * slope;
    }
    along = warp_sum(along);
    apart = warp_sum(apart);
    if (lane > 0) return;
    if (dsums && !(o.sums[row * (size_t)(d + 1) + d] < o.least)) dsums[d] -= beta * along;
    if (o.dlse) o.dlse[row] += alpha * apart;
}

mra_status join_backward(mra_device *device, size_t rows, int d,
                         const mra_join_operands *operands, mra_error *err)
{
    if (!rows) return MRA_OK;
    MRA_LAUNCH(join_backward_kernel, blocks_for(rows, ROWS), THREADS, 0, stream_of(device),
               rows, d, *operands);
    return launch_status(stream_of(device), "join_backward", err);
}

} // namespace MRA_BACKEND
