// # LayerNorm, softmax, rows of length one
//
// A row belongs to a warp if it has at most 1024 entries, to a block of 256 threads otherwise. It
// is read from memory once; the passes over it that follow find it in the first cache (a warp's row
// of 1024 floats is 4 KiB, and a multiprocessor has 256).
//
// | kernel | bytes of a row of $w$ | at 8 x 4096 rows of 768 on an H200 |
// | --- | --- | --- |
// | `layer_norm` | $8w$ | 201 MB, 42 us |
// | `layer_norm_backward` | $12w$ (16 with `add`), and $8w/64$ of partial sums | 305 MB, 64 us |
// | `softmax` | $8w$ | 42 us; at 96 x 4096 rows of 4096: 12.9 GB, 2.7 ms |
// | `softmax_backward` | $12w$ (16) | 63 us; 4.0 ms |
// | `unit_rows`, backward | $8w$, $12w$ (16) | at 96 x 4096 rows of 64: 201 MB, 42 us; 63 us |
//
// Some ten operations an entry: 0.25 GFLOP against 67 TFLOP/s, hidden by the loads.

#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { WIDEST_OF_WARP = 1024, CHUNK = 64 }; // CHUNK: rows of a block in the backward pass

// The threads that share a row: a warp, or a block.
template <bool wide> struct row_team {
    size_t row;
    int first, step; // which entries the thread takes
    __device__ row_team()
    {
        if (wide) {
            row = blockIdx.x;
            first = (int)threadIdx.x, step = THREADS;
        } else {
            row = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
            first = (int)threadIdx.x % 32, step = 32;
        }
    }
    __device__ float sum(float x) const
    {
        return wide ? block_sum(x) : warp_sum(x);
    }
    __device__ float max(float x) const
    {
        return wide ? block_max(x) : warp_max(x);
    }
};
static unsigned teams(size_t rows, bool wide)
{
    return wide ? (unsigned)rows : blocks_for(rows, THREADS / 32);
}

// ---- LayerNorm ------------------------------------------------------------------------------

// The variance is taken around the mean, in a second pass: the mean of squares less the square of
// the mean would cancel.
template <bool wide>
__global__ void layer_norm_kernel(size_t rows, int width, float epsilon, const float *x,
                                  const float *gamma, const float *beta, float *y,
                                  float *statistics)
{
    const row_team<wide> team;
    if (team.row >= rows) return;
    x += team.row * (size_t)width;
    y += team.row * (size_t)width;
    float sum = 0.0f, squares = 0.0f;
    for (int j = team.first; j < width; j += team.step) sum += x[j];
    const float mean = team.sum(sum) / (float)width;
    for (int j = team.first; j < width; j += team.step) {
        const float apart = x[j] - mean;
        squares += apart * apart;
    }
    const float inverse = 1.0f / sqrtf(team.sum(squares) / (float)width + epsilon);
    for (int j = team.first; j < width; j += team.step)
        y[j] = (x[j] - mean) * inverse * gamma[j] + beta[j];
    if (team.first == 0) {
        statistics[2 * team.row] = mean;
        statistics[2 * team.row + 1] = inverse;
    }
}

mra_status layer_norm(mra_device *device, size_t rows, int width, float epsilon, const float *x,
                      const float *gamma, const float *beta, float *y, float *statistics,
                      mra_error *err)
{
    if (!rows) return MRA_OK;
    const bool wide = width > WIDEST_OF_WARP;
    MRA_LAUNCH((wide ? layer_norm_kernel<true> : layer_norm_kernel<false>), teams(rows, wide),
               THREADS, 0, stream_of(device), rows, width, epsilon, x, gamma, beta, y,
               statistics);
    return launch_status(stream_of(device), "layer_norm", err);
}

template <bool wide>
__global__ void layer_norm_input_kernel(size_t rows, int width, const float *x,
                                        const float *gamma, const float *statistics,
                                        const float *dy, float *dx, bool add)
{
    const row_team<wide> team;
    if (team.row >= rows) return;
    x += team.row * (size_t)width;
    dy += team.row * (size_t)width;
    dx += team.row * (size_t)width;
    const float mean = statistics[2 * team.row], inverse = statistics[2 * team.row + 1];
    float sum = 0.0f, product = 0.0f;
    for (int j = team.first; j < width; j += team.step) {
        const float g = dy[j] * gamma[j];
        sum += g;
        product += g * (x[j] - mean) * inverse;
    }
    sum = team.sum(sum) / (float)width;
    product = team.sum(product) / (float)width;
    for (int j = team.first; j < width; j += team.step) {
        const float value =
            inverse * (dy[j] * gamma[j] - sum - (x[j] - mean) * inverse * product);
        dx[j] = add ? dx[j] + value : value;
    }
}

// Columns of CHUNK rows: parts of dgamma and dbeta. A thread owns a column.
__global__ void layer_norm_weight_kernel(size_t rows, int width, const float *x,
                                         const float *statistics, const float *dy,
                                         float *gamma_part, float *beta_part)
{
    const int column = (int)blockIdx.y * THREADS + (int)threadIdx.x;
    const size_t first = (size_t)blockIdx.x * CHUNK;
    const size_t end = rows - first < CHUNK ? rows : first + CHUNK;
    if (column >= width) return;
    float dgamma = 0.0f, dbeta = 0.0f;
    for (size_t row = first; row < end; row++) {
        const size_t at = row * (size_t)width + column;
        dgamma += dy[at] * (x[at] - statistics[2 * row]) * statistics[2 * row + 1];
        dbeta += dy[at];
    }
    gamma_part[blockIdx.x * (size_t)width + column] = dgamma;
    beta_part[blockIdx.x * (size_t)width + column] = dbeta;
}

mra_status layer_norm_backward(mra_device *device, size_t rows, int width, const float *x,
                               const float *gamma, const float *statistics, const float *dy,
                               float *dx, bool add, float *dgamma, float *dbeta, mra_error *err)
{
    if (!rows) return MRA_OK;
    const bool wide = width > WIDEST_OF_WARP;
    if (dx)
        MRA_LAUNCH((wide ? layer_norm_input_kernel<true> : layer_norm_input_kernel<false>),
                   teams(rows, wide), THREADS, 0, stream_of(device), rows, width, x, gamma,
                   statistics, dy, dx, add);
    mra_status status = launch_status(stream_of(device), "layer_norm_backward", err);
    if (status || (!dgamma && !dbeta)) return status;
    const size_t parts = blocks_for(rows, CHUNK), size = parts * (size_t)width;
    status = working_begin(device, 2 * working_size(size * sizeof(float)),
                           "layer_norm_backward", err);
    if (status) return status;
    float *gamma_part = working_piece<float>(device, size);
    float *beta_part = working_piece<float>(device, size);
    const dim3 grid((unsigned)parts, blocks_for((size_t)width, THREADS));
    MRA_LAUNCH(layer_norm_weight_kernel, grid, THREADS, 0, stream_of(device), rows, width, x,
               statistics, dy, gamma_part, beta_part);
    if (dgamma) status = add_parts(device, parts, (size_t)width, gamma_part, dgamma, err);
    if (dbeta && !status)
        status = add_parts(device, parts, (size_t)width, beta_part, dbeta, err);
    return status;
}

// ---- Softmax --------------------------------------------------------------------------------

template <bool wide>
__global__ void softmax_kernel(size_t rows, int width, const float *x, float *y)
{
    const row_team<wide> team;
    if (team.row >= rows) return;
    x += team.row * (size_t)width;
    y += team.row * (size_t)width;
    float largest = -INFINITY, sum = 0.0f;
    for (int j = team.first; j < width; j += team.step) largest = fmaxf(largest, x[j]);
    largest = team.max(largest);
    if (largest == -INFINITY) largest = 0.0f;
    for (int j = team.first; j < width; j += team.step) {
        const float weight = expf(x[j] - largest);
        y[j] = weight;
        sum += weight;
    }
    sum = team.sum(sum);
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    for (int j = team.first; j < width; j += team.step) y[j] *= inverse;
}

mra_status softmax(mra_device *device, size_t rows, int width, const float *x, float *y,
                   mra_error *err)
{
    if (!rows) return MRA_OK;
    const bool wide = width > WIDEST_OF_WARP;
    MRA_LAUNCH((wide ? softmax_kernel<true> : softmax_kernel<false>), teams(rows, wide),
               THREADS, 0, stream_of(device), rows, width, x, y);
    return launch_status(stream_of(device), "softmax", err);
}

template <bool wide>
__global__ void softmax_backward_kernel(size_t rows, int width, const float *y, const float *dy,
                                        float *dx, bool add)
{
    const row_team<wide> team;
    if (team.row >= rows) return;
    y += team.row * (size_t)width;
    dy += team.row * (size_t)width;
    dx += team.row * (size_t)width;
    float inner = 0.0f;
    for (int j = team.first; j < width; j += team.step) inner += y[j] * dy[j];
    inner = team.sum(inner);
    for (int j = team.first; j < width; j += team.step) {
        const float value = y[j] * (dy[j] - inner);
        dx[j] = add ? dx[j] + value : value;
    }
}

mra_status softmax_backward(mra_device *device, size_t rows, int width, const float *y,
                            const float *dy, float *dx, bool add, mra_error *err)
{
    if (!rows) return MRA_OK;
    const bool wide = width > WIDEST_OF_WARP;
    MRA_LAUNCH((wide ? softmax_backward_kernel<true> : softmax_backward_kernel<false>),
               teams(rows, wide), THREADS, 0, stream_of(device), rows, width, y, dy, dx, add);
    return launch_status(stream_of(device), "softmax_backward", err);
}

// ---- Rows of length one: src/tensor/cpu_unit.c ------------------------------------------------

template <bool wide>
__global__ void unit_rows_kernel(size_t rows, int width, const float *x, float *y, float *norm)
{
    const row_team<wide> team;
    if (team.row >= rows) return;
    x += team.row * (size_t)width;
    y += team.row * (size_t)width;
    float squares = 0.0f;
    for (int j = team.first; j < width; j += team.step) squares += x[j] * x[j];
    const float length = sqrtf(team.sum(squares));
    const bool there = length > 1e-12f;
    const float inverse = there ? 1.0f / length : 0.0f;
    for (int j = team.first; j < width; j += team.step) y[j] = inverse * x[j];
    if (team.first == 0) norm[team.row] = there ? length : 0.0f;
}

mra_status unit_rows(mra_device *device, size_t rows, int width, const float *x, float *y,
                     float *norm, mra_error *err)
{
    if (!rows) return MRA_OK;
    const bool wide = width > WIDEST_OF_WARP;
    MRA_LAUNCH((wide ? unit_rows_kernel<true> : unit_rows_kernel<false>), teams(rows, wide),
               THREADS, 0, stream_of(device), rows, width, x, y, norm);
    return launch_status(stream_of(device), "unit_rows", err);
}

template <bool wide>
__global__ void unit_rows_backward_kernel(size_t rows, int width, const float *y,
                                          const float *norm, const float *dy, float *dx,
                                          bool add)
{
    const row_team<wide> team;
    if (team.row >= rows) return;
    y += team.row * (size_t)width;
    dy += team.row * (size_t)width;
    dx += team.row * (size_t)width;
    const float length = norm[team.row], inverse = length > 0.0f ? 1.0f / length : 0.0f;
    float along = 0.0f;
    for (int j = team.first; j < width && length > 0.0f; j += team.step) along += y[j] * dy[j];
    along = team.sum(along);
    for (int j = team.first; j < width; j += team.step) {
        const float value = length > 0.0f ? inverse * (dy[j] - along * y[j]) : 0.0f;
        dx[j] = add ? dx[j] + value : value;
    }
}

mra_status unit_rows_backward(mra_device *device, size_t rows, int width, const float *y,
                              const float *norm, const float *dy, float *dx, bool add,
                              mra_error *err)
{
    if (!rows) return MRA_OK;
    const bool wide = width > WIDEST_OF_WARP;
    MRA_LAUNCH((wide ? unit_rows_backward_kernel<true> : unit_rows_backward_kernel<false>),
               teams(rows, wide), THREADS, 0, stream_of(device), rows, width, y, norm, dy, dx,
               add);
    return launch_status(stream_of(device), "unit_rows_backward", err);
}

} // namespace MRA_BACKEND
