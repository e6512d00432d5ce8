// # Random features of the softmax kernel
//
// A product leaves the projections in y (src/tensor/features.h has the formulas); then they become
// exponentials in their place. A warp takes a row. Kinds that shift by a maximum over the keys
// find it first: a block takes 64 rows, a thread a feature, and the parts are joined by a second
// kernel.
//
// Bytes: x read, y read and written, and once more read where a maximum over the keys is
// needed. At 12 heads of 64, batch 8, $n=4096$ and 128 features (y: 201 MB, x: 101 MB) on an H200:
// 503 MB, 105 us; with the maximum 168 us. Backward reads x, y, dy and writes dp, dx: 806 MB, 168
// us. `divide_by_last` reads and writes its argument once, 203 MB, 42 us.

#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { PART_ROWS = 64, WARPS = THREADS / 32 };

struct feature_plan {
    mra_feature_form form;
    size_t groups, parts; // parts of a group
    const float *x;
    const uint8_t *mask;
    float *shift, *log_scale, *part, *largest, *y, *dy, *dx;
    bool add;
};

__device__ static bool visible(const feature_plan &p, size_t group, size_t row)
{
    return !p.mask || p.mask[group / (size_t)p.form.heads * (size_t)p.form.n + row] != 0;
}

// |s x_i|^2 / 2, by a warp.
__device__ static float half_square(const feature_plan &p, size_t at)
{
    float sum = 0.0f;
    for (int j = (int)threadIdx.x % 32; j < p.form.d; j += 32) {
        const float x = p.x[at * (size_t)p.form.d + j];
        sum += x * x;
    }
    return 0.5f * p.form.rule.scale * p.form.rule.scale * warp_sum(sum);
}

// ---- Maxima over the keys -------------------------------------------------------------------

__global__ void feature_part_kernel(feature_plan p)
{
    MRA_SHARED(float, half, PART_ROWS);
    MRA_SHARED(int, seen, PART_ROWS);
    const size_t group = blockIdx.x / p.parts, part = blockIdx.x % p.parts;
    const size_t n = (size_t)p.form.n, m = (size_t)p.form.features, first = part * PART_ROWS;
    const int count = n - first < PART_ROWS ? (int)(n - first) : PART_ROWS;
    const bool common = p.form.rule.kind == MRA_FEATURES_COMMON;
    for (int row = (int)threadIdx.x / 32; row < count; row += WARPS) {
        const float value = common ? 0.0f : half_square(p, group * n + first + row);
        if (threadIdx.x % 32 > 0) continue;
        half[row] = value;
        seen[row] = p.form.rule.kind == MRA_FEATURES_KEY_ONE || visible(p, group, first + row);
    }
    __syncthreads();
    for (size_t r = threadIdx.x; r < m; r += THREADS) {
        float largest = -INFINITY;
        for (int row = 0; row < count; row++) {
            if (seen[row])
                largest = fmaxf(largest, p.y[(group * n + first + row) * m + r] - half[row]);
            else if (common)
                largest = fmaxf(largest, 0.0f);
        }
        p.part[blockIdx.x * m + r] = largest;
    }
}

struct join_each {
    feature_plan p;
    __device__ void operator()(size_t i) const // of shift[groups, features]
    {
        const size_t m = (size_t)p.form.features, group = i / m;
        const bool one = p.form.rule.kind == MRA_FEATURES_KEY_ONE;
        const size_t step = one ? 1 : m, count = p.parts * m;
        float largest = -INFINITY;
        for (size_t at = one ? 0 : i % m; at < count; at += step)
            largest = fmaxf(largest, p.part[group * count + at]);
        p.shift[i] = largest == -INFINITY ? 0.0f : largest;
    }
};

__global__ void largest_kernel(size_t count, const float *x, float *largest)
{
    float own = -INFINITY;
    for (size_t i = threadIdx.x; i < count; i += THREADS) own = fmaxf(own, x[i]);
    own = block_max(own);
    if (threadIdx.x == 0) *largest = own;
}

// ---- Exponentials ---------------------------------------------------------------------------

__global__ void feature_kernel(feature_plan p)
{
    const size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, n = (size_t)p.form.n;
    if (at >= p.groups * n) return;
    const size_t group = at / n, m = (size_t)p.form.features;
    const int lane = (int)threadIdx.x % 32;
    const mra_feature_kind kind = p.form.rule.kind;
    const float epsilon = p.form.rule.epsilon;
    const float *shift = p.shift + group * m; // kinds KEY, KEY_ONE and QUERY
    float *y = p.y + at * m;
    if (!visible(p, group, at % n)) {
        const float value = kind == MRA_FEATURES_COMMON ? expf(-*p.largest) + epsilon : 0.0f;
        for (size_t r = lane; r < m; r += 32) y[r] = value;
        if (p.log_scale && lane == 0) p.log_scale[at] = 0.0f;
        return;
    }
    const float half = half_square(p, at);
    float largest = -INFINITY;
    if (kind == MRA_FEATURES_QUERY || kind == MRA_FEATURES_ROW) {
        for (size_t r = lane; r < m; r += 32)
            largest = fmaxf(largest, kind == MRA_FEATURES_QUERY ? y[r] + shift[r] : y[r]);
        largest = warp_max(largest);
    }
    for (size_t r = lane; r < m; r += 32) {
        float logit = y[r];
        if (kind == MRA_FEATURES_KEY || kind == MRA_FEATURES_KEY_ONE)
            logit = logit - half - shift[r];
        else if (kind == MRA_FEATURES_QUERY)
            logit = logit + shift[r] - largest;
        else
            logit = logit - (half + (kind == MRA_FEATURES_ROW ? largest : *p.largest));
        y[r] = expf(logit) + epsilon;
    }
    if (kind == MRA_FEATURES_QUERY && p.log_scale && lane == 0)
        p.log_scale[at] = largest - half - logf((float)m);
}

mra_status features(mra_device *device, const mra_feature_form *form, const float *x,
                    const float *w, const uint8_t *mask, float *shift, float *log_scale,
                    float *y, mra_error *err)
{
    stream_t stream = stream_of(device);
    feature_plan p = {};
    p.form = *form;
    p.groups = form->batch * (size_t)form->heads;
    p.parts = blocks_for((size_t)form->n, PART_ROWS);
    p.x = x, p.mask = mask, p.shift = shift, p.log_scale = log_scale, p.y = y;
    const size_t rows = p.groups * (size_t)form->n, m = (size_t)form->features;
    const size_t parts = p.groups * p.parts;
    if (!rows || !m) return MRA_OK;
    mra_status status = linear(device, rows, form->d, form->features, x, w, NULL, y, err);
    if (status) return status;
    const mra_feature_kind kind = form->rule.kind;
    if (kind == MRA_FEATURES_KEY || kind == MRA_FEATURES_KEY_ONE ||
        kind == MRA_FEATURES_COMMON) {
        status = working_begin(
            device, working_size(parts * m * sizeof(float)) + working_size(sizeof(float)),
            "features", err);
        if (status) return status;
        p.part = working_piece<float>(device, parts * m);
        p.largest = working_piece<float>(device, 1);
        MRA_LAUNCH(feature_part_kernel, (unsigned)parts, THREADS, 0, stream, p);
        if (kind == MRA_FEATURES_COMMON)
            MRA_LAUNCH(largest_kernel, 1, THREADS, 0, stream, parts * m, (const float *)p.part,
                       p.largest);
        else
            status = for_each(device, "features_join", p.groups * m, join_each{p}, err);
        if (status) return status;
    }
    MRA_LAUNCH(feature_kernel, blocks_for(rows, WARPS), THREADS, 0, stream, p);
    return launch_status(stream, "features", err);
}

// ---- Backward -------------------------------------------------------------------------------

__global__ void feature_backward_kernel(feature_plan p)
{
    const size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, n = (size_t)p.form.n;
    if (at >= p.groups * n) return;
    const size_t m = (size_t)p.form.features, d = (size_t)p.form.d;
    const int lane = (int)threadIdx.x % 32;
    const bool counts = visible(p, at / n, at % n);
    float sum = 0.0f;
    for (size_t r = lane; r < m; r += 32) {
        const float value =
            counts ? (p.y[at * m + r] - p.form.rule.epsilon) * p.dy[at * m + r] : 0.0f;
        p.dy[at * m + r] = value; // dp takes the place of dy
        sum += value;
    }
    const float factor = -p.form.rule.scale * p.form.rule.scale * warp_sum(sum);
    for (size_t j = lane; j < d; j += 32) {
        float *to = p.dx + at * d + j;
        const float value = counts ? factor * p.x[at * d + j] : 0.0f;
        *to = p.add ? *to + value : value;
    }
}

mra_status features_backward(mra_device *device, const mra_feature_form *form, const float *x,
                             const float *w, const uint8_t *mask, const float *y, float *dy,
                             float *dx, bool add, mra_error *err)
{
    feature_plan p = {};
    p.form = *form;
    p.groups = form->batch * (size_t)form->heads;
    p.x = x, p.mask = mask, p.y = (float *)y, p.dy = dy, p.dx = dx, p.add = add;
    const size_t rows = p.groups * (size_t)form->n;
    if (!rows) return MRA_OK;
    MRA_LAUNCH(feature_backward_kernel, blocks_for(rows, WARPS), THREADS, 0, stream_of(device),
               p);
    mra_status status = launch_status(stream_of(device), "features_backward", err);
    if (status) return status;
    return linear_backward_input(device, rows, form->d, form->features, dy, w, dx, true, err);
}

// ---- Division by the last column ------------------------------------------------------------

struct divide_each {
    size_t width;
    const float *x;
    float *y;
    __device__ void operator()(size_t i) const // of y[rows, width]
    {
        const size_t row = i / width, j = i % width;
        const float divisor = x[row * (width + 1) + width];
        y[i] = divisor == 0.0f ? 0.0f : x[row * (width + 1) + j] / divisor;
    }
};
mra_status divide_by_last(mra_device *device, size_t rows, int width, const float *x, float *y,
                          mra_error *err)
{
    return for_each(device, "divide_by_last", rows * (size_t)width,
                    divide_each{(size_t)width, x, y}, err);
}

__global__ void divide_backward_kernel(size_t rows, size_t width, const float *x,
                                       const float *y, const float *dy, float *dx, bool add)
{
    const size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= rows) return;
    const float divisor = x[row * (width + 1) + width];
    const float inverse = divisor == 0.0f ? 0.0f : 1.0f / divisor;
    float inner = 0.0f, *to = dx + row * (width + 1);
    for (size_t j = threadIdx.x % 32; j < width; j += 32) {
        const float slope = dy[row * width + j];
        inner += slope * y[row * width + j];
        to[j] = (add ? to[j] : 0.0f) + slope * inverse;
    }
    inner = warp_sum(inner);
    if (threadIdx.x % 32 == 0) to[width] = (add ? to[width] : 0.0f) - inner * inverse;
}

mra_status divide_by_last_backward(mra_device *device, size_t rows, int width, const float *x,
                                   const float *y, const float *dy, float *dx, bool add,
                                   mra_error *err)
{
    if (!rows) return MRA_OK;
    MRA_LAUNCH(divide_backward_kernel, blocks_for(rows, WARPS), THREADS, 0, stream_of(device),
               rows, (size_t)width, x, y, dy, dx, add);
    return launch_status(stream_of(device), "divide_by_last_backward", err);
}

} // namespace MRA_BACKEND
