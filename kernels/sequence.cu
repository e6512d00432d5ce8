// # Along sequences: convolution, means of segments, distances
//
// `convolve` slides a filter of `taps` numbers down the rows of a head: bytes as for a copy if the
// taps' neighbours are found in the caches (42 us at 101 MB on an H200), $2\,$taps operations
// an entry. Its way back to the filter sums over everything: parts of 128 rows first, then the parts
// in their order. `segment_mean` reads x once; a thread owns a column of a segment and goes down
// the sequence, which is short work as long as segments are many. `gaussian` needs $3nmw$ operations
// a group; operands are small (landmarks), so it is bound by arithmetic in float32.

#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { PART_ROWS = 128 };

// ---- Softmax over what a mask keeps -----------------------------------------------------------

__global__ void softmax_kept_kernel(int heads, int rows, int width, const uint8_t *keep,
                                    const float *x, float *y)
{
    const size_t row = blockIdx.x, group = row / (size_t)rows;
    keep += group / (size_t)heads * (size_t)width;
    x += row * (size_t)width;
    y += row * (size_t)width;
    float largest = -INFINITY, sum = 0.0f;
    for (int j = (int)threadIdx.x; j < width; j += THREADS)
        if (keep[j]) largest = fmaxf(largest, x[j]);
    largest = block_max(largest);
    if (largest == -INFINITY) largest = 0.0f;
    for (int j = (int)threadIdx.x; j < width; j += THREADS) {
        const float weight = keep[j] ? expf(x[j] - largest) : 0.0f;
        y[j] = weight;
        sum += weight;
    }
    sum = block_sum(sum);
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    for (int j = (int)threadIdx.x; j < width; j += THREADS) y[j] *= inverse;
}

mra_status softmax_kept(mra_device *device, size_t groups, int heads, int rows, int width,
                        const uint8_t *keep, const float *x, float *y, mra_error *err)
{
    const size_t all = groups * (size_t)rows;
    if (!all || !width) return MRA_OK;
    MRA_LAUNCH(softmax_kept_kernel, (unsigned)all, THREADS, 0, stream_of(device), heads, rows,
               width, keep, x, y);
    return launch_status(stream_of(device), "softmax_kept", err);
}

// ---- Convolution ----------------------------------------------------------------------------

struct convolve_each {
    int heads, n, width, taps;
    const float *x, *filter;
    bool flipped;
    float *y;
    bool add;
    __device__ void operator()(size_t at) const
    {
        const size_t w = (size_t)width, row = at / w, group = row / (size_t)n;
        const int i = (int)(row % (size_t)n), half = taps / 2;
        const float *own = filter + group % (size_t)heads * (size_t)taps;
        float sum = 0.0f;
        for (int t = 0; t < taps; t++) {
            const int from = i + t - half;
            if (from < 0 || from >= n) continue;
            const float factor = own[flipped ? taps - 1 - t : t];
            sum += factor * x[(group * (size_t)n + (size_t)from) * w + at % w];
        }
        y[at] = add ? y[at] + sum : sum;
    }
};
mra_status convolve(mra_device *device, size_t groups, int heads, int n, int width, int taps,
                    const float *x, const float *filter, bool flipped, float *y, bool add,
                    mra_error *err)
{
    return for_each(device, "convolve", groups * (size_t)n * (size_t)width,
                    convolve_each{heads, n, width, taps, x, filter, flipped, y, add}, err);
}

// One tap of one part of a group: part[group, part, tap].
__global__ void filter_part_kernel(int n, int width, int taps, int parts, const float *x,
                                   const float *dy, float *part)
{
    const size_t group = blockIdx.x / (size_t)parts;
    const int first = (int)(blockIdx.x % (unsigned)parts) * PART_ROWS, t = (int)blockIdx.y;
    const int end = n - first < PART_ROWS ? n : first + PART_ROWS, shift = t - taps / 2;
    x += group * (size_t)n * (size_t)width;
    dy += group * (size_t)n * (size_t)width;
    float sum = 0.0f;
    for (size_t at = (size_t)first * width + threadIdx.x; at < (size_t)end * width;
         at += THREADS) {
        const int from = (int)(at / (size_t)width) + shift;
        if (from >= 0 && from < n)
            sum += dy[at] * x[(size_t)from * (size_t)width + at % (size_t)width];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x * (size_t)taps + t] = sum;
}

struct filter_each {
    size_t groups;
    int heads, taps, parts;
    const float *part;
    float *dfilter;
    __device__ void operator()(size_t i) const // of dfilter[heads, taps]
    {
        const size_t head = i / (size_t)taps, t = i % (size_t)taps;
        float sum = 0.0f;
        for (size_t group = head; group < groups; group += (size_t)heads)
            for (int p = 0; p < parts; p++)
                sum += part[(group * (size_t)parts + p) * (size_t)taps + t];
        dfilter[i] += sum;
    }
};

mra_status convolve_backward_filter(mra_device *device, size_t groups, int heads, int n,
                                    int width, int taps, const float *x, const float *dy,
                                    float *dfilter, mra_error *err)
{
    const char *name = "convolve_backward_filter";
    const int parts = (n + PART_ROWS - 1) / PART_ROWS;
    const size_t all = groups * (size_t)parts;
    if (!all || !width) return MRA_OK;
    mra_status status =
        working_begin(device, working_size(all * (size_t)taps * sizeof(float)), name, err);
    if (status) return status;
    float *part = working_piece<float>(device, all * (size_t)taps);
    const dim3 grid((unsigned)all, (unsigned)taps);
    MRA_LAUNCH(filter_part_kernel, grid, THREADS, 0, stream_of(device), n, width, taps, parts,
               x, dy, part);
    return for_each(device, name, (size_t)heads * (size_t)taps,
                    filter_each{groups, heads, taps, parts, part, dfilter}, err);
}

// ---- Means of segments ----------------------------------------------------------------------

struct segment_plan {
    int heads, n, segments, width;
    const int32_t *segment;
    const float *x; // backward: dy
    int *count;     // [examples, segments]
    float *y;       // backward: dx
    bool add;
};

struct segment_count_each {
    segment_plan p;
    __device__ void operator()(size_t i) const
    {
        const int32_t *own = p.segment + i / (size_t)p.segments * (size_t)p.n;
        const int wanted = (int)(i % (size_t)p.segments);
        int count = 0;
        for (int j = 0; j < p.n; j++) count += own[j] == wanted;
        p.count[i] = count;
    }
};
struct segment_mean_each {
    segment_plan p;
    __device__ void operator()(size_t at) const // of y[groups, segments, width]
    {
        const size_t w = (size_t)p.width, row = at / w, group = row / (size_t)p.segments;
        const int wanted = (int)(row % (size_t)p.segments);
        const int32_t *own = p.segment + group / (size_t)p.heads * (size_t)p.n;
        const float *x = p.x + group * (size_t)p.n * w + at % w;
        float sum = 0.0f;
        int count = 0;
        for (int i = 0; i < p.n; i++) {
            if (own[i] != wanted) continue;
            sum += x[(size_t)i * w];
            count++;
        }
        p.y[at] = count ? sum / (float)count : 0.0f;
    }
};
mra_status segment_mean(mra_device *device, size_t groups, int heads, int n, int segments,
                        int width, const int32_t *segment, const float *x, float *y,
                        mra_error *err)
{
    segment_plan p = {heads, n, segments, width, segment, x, NULL, y, false};
    return for_each(device, "segment_mean", groups * (size_t)segments * (size_t)width,
                    segment_mean_each{p}, err);
}

struct segment_back_each {
    segment_plan p;
    __device__ void operator()(size_t at) const // of dx[groups, n, width]
    {
        const size_t w = (size_t)p.width, row = at / w, group = row / (size_t)p.n;
        const size_t example = group / (size_t)p.heads, many = (size_t)p.segments;
        const int own = p.segment[example * (size_t)p.n + row % (size_t)p.n];
        float value = 0.0f;
        if (own >= 0 && own < p.segments)
            value = p.x[(group * many + (size_t)own) * w + at % w] /
                    (float)p.count[example * many + (size_t)own];
        p.y[at] = p.add ? p.y[at] + value : value;
    }
};
mra_status segment_mean_backward(mra_device *device, size_t groups, int heads, int n,
                                 int segments, int width, const int32_t *segment,
                                 const float *dy, float *dx, bool add, mra_error *err)
{
    const char *name = "segment_mean_backward";
    const size_t counts = groups / (size_t)heads * (size_t)segments;
    mra_status status = working_begin(device, working_size(counts * sizeof(int)), name, err);
    if (status) return status;
    segment_plan p = {heads, n, segments, width, segment, dy, NULL, dx, add};
    p.count = working_piece<int>(device, counts);
    status = for_each(device, name, counts, segment_count_each{p}, err);
    if (status) return status;
    return for_each(device, name, groups * (size_t)n * (size_t)width, segment_back_each{p},
                    err);
}

// ---- Gaussians of distances -----------------------------------------------------------------

struct gaussian_plan {
    int n, m, width;
    const float *x, *c, *y, *dy;
    float *to;
    bool add;
};

struct gaussian_each {
    gaussian_plan p;
    __device__ void operator()(size_t at) const // of y[groups, n, m]
    {
        const size_t m = (size_t)p.m, w = (size_t)p.width, row = at / m;
        const size_t group = row / (size_t)p.n;
        const float *x = p.x + row * w, *c = p.c + (group * m + at % m) * w;
        float sum = 0.0f;
        for (size_t k = 0; k < w; k++) sum += (x[k] - c[k]) * (x[k] - c[k]);
        p.to[at] = expf(-0.5f * sum);
    }
};
mra_status gaussian(mra_device *device, size_t groups, int n, int m, int width, const float *x,
                    const float *c, float *y, mra_error *err)
{
    const gaussian_plan p = {n, m, width, x, c, NULL, NULL, y, false};
    return for_each(device, "gaussian", groups * (size_t)n * (size_t)m, gaussian_each{p}, err);
}

// dx_i = sum over j of g_ij (c_j - x_i); `centres`: dc_j = sum over i of g_ij (x_i - c_j).
template <bool centres> struct gaussian_back_each {
    gaussian_plan p;
    __device__ void operator()(size_t at) const
    {
        const size_t n = (size_t)p.n, m = (size_t)p.m, w = (size_t)p.width;
        const size_t rows = centres ? m : n, others = centres ? n : m;
        const size_t row = at / w, k = at % w, group = row / rows, own = row % rows;
        const float *other = (centres ? p.x : p.c) + group * others * w + k;
        const float here = centres ? p.c[at] : p.x[at];
        float sum = 0.0f;
        for (size_t j = 0; j < others; j++) {
            const size_t pair = group * n * m + (centres ? j * m + own : own * m + j);
            sum += p.dy[pair] * p.y[pair] * (other[j * w] - here);
        }
        p.to[at] = p.add ? p.to[at] + sum : sum;
    }
};
mra_status gaussian_backward(mra_device *device, size_t groups, int n, int m, int width,
                             const float *x, const float *c, const float *y, const float *dy,
                             float *dx, bool add_x, float *dc, bool add_c, mra_error *err)
{
    const char *name = "gaussian_backward";
    gaussian_plan p = {n, m, width, x, c, y, dy, dx, add_x};
    mra_status status = MRA_OK;
    if (dx)
        status = for_each(device, name, groups * (size_t)n * (size_t)width,
                          gaussian_back_each<false>{p}, err);
    if (status || !dc) return status;
    p.to = dc, p.add = add_c;
    return for_each(device, name, groups * (size_t)m * (size_t)width,
                    gaussian_back_each<true>{p}, err);
}

} // namespace MRA_BACKEND
