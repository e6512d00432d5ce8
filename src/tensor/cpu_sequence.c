// Along sequences: the depth-wise convolution and the means of segments.

#include <string.h>

#include "tensor/cpu.h"

// ---- Depth-wise convolution -----------------------------------------------------------------

// A strip of rows of one group is an item: its rows and the `taps - 1` around them stay in the cache while the
// taps go over them. Four taps at once share the load and the store of the sum.
enum { STRIP = 128 };

typedef struct convolve_context {
    size_t groups, heads, n, width;
    int taps;
    const float *x, *filter, *dy;
    bool flipped, add;
    float *y;      // backward: a part for each group
    size_t strips; // of a group
} convolve_context;

// y[0 .. width) += sum over the taps whose row is in the sequence.
static void convolve_row(const convolve_context *c, const float *x, const float *filter, int i,
                         float *restrict y)
{
    const int half = c->taps / 2, n = (int)c->n;
    const int first = i < half ? half - i : 0;
    const int end = i + c->taps - half > n ? n - i + half : c->taps;
    int t = first;
    for (; t + 4 <= end; t += 4) {
        const float *row = x + (size_t)(i + t - half) * c->width;
        const float f[4] = {filter[c->flipped ? c->taps - 1 - t : t],
                            filter[c->flipped ? c->taps - 2 - t : t + 1],
                            filter[c->flipped ? c->taps - 3 - t : t + 2],
                            filter[c->flipped ? c->taps - 4 - t : t + 3]};
#pragma omp simd
        for (size_t j = 0; j < c->width; j++)
            y[j] += f[0] * row[j] + f[1] * row[c->width + j] + f[2] * row[2 * c->width + j] +
                    f[3] * row[3 * c->width + j];
    }
    for (; t < end; t++) {
        const float *row = x + (size_t)(i + t - half) * c->width;
        const float f = filter[c->flipped ? c->taps - 1 - t : t];
#pragma omp simd
        for (size_t j = 0; j < c->width; j++) y[j] += f * row[j];
    }
}

static void convolve_item(void *context, size_t item, int thread)
{
    (void)thread;
    const convolve_context *c = context;
    const size_t group = item / c->strips;
    const mra_range range = mra_range_of(item % c->strips, STRIP, c->n);
    const float *x = c->x + group * c->n * c->width;
    const float *filter = c->filter + group % c->heads * (size_t)c->taps;
    float *y = c->y + group * c->n * c->width;
    if (!c->add)
        memset(y + range.begin * c->width, 0, (range.end - range.begin) * c->width * sizeof *y);
    for (size_t i = range.begin; i < range.end; i++)
        convolve_row(c, x, filter, (int)i, y + i * c->width);
}

mra_status mra_cpu_convolve(mra_device *device, size_t groups, int heads, int n, int width,
                            int taps, const float *x, const float *filter, bool flipped,
                            float *y, bool add, mra_error *err)
{
    (void)err;
    convolve_context context = {.groups = groups,
                                .heads = (size_t)heads,
                                .n = (size_t)n,
                                .width = (size_t)width,
                                .taps = taps,
                                .x = x,
                                .filter = filter,
                                .flipped = flipped,
                                .add = add,
                                .y = y,
                                .strips = mra_items((size_t)n, STRIP)};
    mra_cpu_loop(device, groups * context.strips, convolve_item, &context);
    return MRA_OK;
}

// The taps' inner products over a strip of rows of one group.
static void filter_item(void *context, size_t item, int thread)
{
    (void)thread;
    const convolve_context *c = context;
    const size_t group = item / c->strips;
    const mra_range range = mra_range_of(item % c->strips, STRIP, c->n);
    const float *x = c->x + group * c->n * c->width, *dy = c->dy + group * c->n * c->width;
    float *part = c->y + item * (size_t)c->taps;
    for (int t = 0; t < c->taps; t++) {
        float sum = 0;
        for (size_t i = range.begin; i < range.end; i++) {
            const ptrdiff_t from = (ptrdiff_t)i + t - c->taps / 2;
            if (from < 0 || from >= (ptrdiff_t)c->n) continue;
            const float *row = x + (size_t)from * c->width, *slope = dy + i * c->width;
            float inner = 0;
#pragma omp simd reduction(+ : inner)
            for (size_t j = 0; j < c->width; j++) inner += row[j] * slope[j];
            sum += inner;
        }
        part[t] = sum;
    }
}

mra_status mra_cpu_convolve_backward_filter(mra_device *device, size_t groups, int heads, int n,
                                            int width, int taps, const float *x,
                                            const float *dy, float *dfilter, mra_error *err)
{
    convolve_context context = {.groups = groups,
                                .heads = (size_t)heads,
                                .n = (size_t)n,
                                .width = (size_t)width,
                                .taps = taps,
                                .x = x,
                                .dy = dy,
                                .strips = mra_items((size_t)n, STRIP)};
    const size_t items = groups * context.strips;
    context.y =
        mra_cpu_scratch(device, items * (size_t)taps, sizeof(float), "convolve, backward", err);
    if (!context.y) return MRA_NO_MEMORY;
    mra_cpu_loop(device, items, filter_item, &context);
    for (size_t item = 0; item < items; item++) {
        float *sum = dfilter + item / context.strips % context.heads * (size_t)taps;
        for (int t = 0; t < taps; t++) sum[t] += context.y[item * (size_t)taps + (size_t)t];
    }
    return MRA_OK;
}

// ---- Means of segments ----------------------------------------------------------------------

typedef struct segment_context {
    size_t heads, n, segments, width;
    const int32_t *segment;
    const float *x; // backward: dy
    float *y;       // backward: dx
    int32_t *count; // [groups / heads][segments]
    bool add;
} segment_context;

static void count_segments(segment_context *c, size_t examples)
{
    memset(c->count, 0, examples * c->segments * sizeof *c->count);
    for (size_t e = 0; e < examples; e++)
        for (size_t i = 0; i < c->n; i++) {
            const int32_t s = c->segment[e * c->n + i];
            if (s >= 0 && (size_t)s < c->segments) c->count[e * c->segments + (size_t)s]++;
        }
}

static void segment_item(void *context, size_t group, int thread)
{
    (void)thread;
    const segment_context *c = context;
    const int32_t *segment = c->segment + group / c->heads * c->n;
    const int32_t *count = c->count + group / c->heads * c->segments;
    const float *x = c->x + group * c->n * c->width;
    float *y = c->y + group * c->segments * c->width;
    memset(y, 0, c->segments * c->width * sizeof *y);
    for (size_t i = 0; i < c->n; i++) {
        const int32_t s = segment[i];
        if (s < 0 || (size_t)s >= c->segments) continue;
        float *sum = y + (size_t)s * c->width;
        for (size_t j = 0; j < c->width; j++) sum[j] += x[i * c->width + j];
    }
    for (size_t s = 0; s < c->segments; s++)
        for (size_t j = 0; j < c->width; j++)
            y[s * c->width + j] *= 1.0f / (float)(count[s] ? count[s] : 1);
}

static void segment_back_item(void *context, size_t group, int thread)
{
    (void)thread;
    const segment_context *c = context;
    const int32_t *segment = c->segment + group / c->heads * c->n;
    const int32_t *count = c->count + group / c->heads * c->segments;
    const float *dy = c->x + group * c->segments * c->width;
    float *dx = c->y + group * c->n * c->width;
    for (size_t i = 0; i < c->n; i++) {
        const int32_t s = segment[i];
        const bool inside = s >= 0 && (size_t)s < c->segments;
        const float share = inside ? 1.0f / (float)count[s] : 0;
        const float *slope = dy + (inside ? (size_t)s : 0) * c->width;
        float *row = dx + i * c->width;
        for (size_t j = 0; j < c->width; j++)
            row[j] = (c->add ? row[j] : 0) + (inside ? share * slope[j] : 0);
    }
}

static mra_status run_segments(mra_device *device, segment_context *c, size_t groups,
                               mra_loop_body body, mra_error *err)
{
    const size_t examples = groups / c->heads;
    c->count = mra_cpu_scratch(device, examples * c->segments, sizeof *c->count,
                               "means of segments", err);
    if (!c->count) return MRA_NO_MEMORY;
    count_segments(c, examples);
    mra_cpu_loop(device, groups, body, c);
    return MRA_OK;
}

mra_status mra_cpu_segment_mean(mra_device *device, size_t groups, int heads, int n,
                                int segments, int width, const int32_t *segment, const float *x,
                                float *y, mra_error *err)
{
    segment_context context = {.heads = (size_t)heads,
                               .n = (size_t)n,
                               .segments = (size_t)segments,
                               .width = (size_t)width,
                               .segment = segment,
                               .x = x,
                               .y = y};
    return run_segments(device, &context, groups, segment_item, err);
}

mra_status mra_cpu_segment_mean_backward(mra_device *device, size_t groups, int heads, int n,
                                         int segments, int width, const int32_t *segment,
                                         const float *dy, float *dx, bool add, mra_error *err)
{
    segment_context context = {.heads = (size_t)heads,
                               .n = (size_t)n,
                               .segments = (size_t)segments,
                               .width = (size_t)width,
                               .segment = segment,
                               .x = dy,
                               .y = dx,
                               .add = add};
    return run_segments(device, &context, groups, segment_back_item, err);
}
