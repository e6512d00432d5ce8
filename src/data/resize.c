// Separable resampling. Output sample $i$ of an axis that goes from $n$ to $m$ samples has its centre at
// $c = (i + 1/2)\, n/m$ in the input, and is the mean of the inputs $j$ with weights
// $h((j + 1/2 - c)/s)$, $s = \max(n/m, 1)$: where the picture shrinks, the filter $h$ is stretched with
// it and removes what the coarser grid cannot hold. The weights are cut at the border and
// normalised, and are the same for all rows and columns.

#include "data/resize.h"

#include <math.h>
#include <stdlib.h>

enum { FRACTION = 22 };

static double sinc(double x)
{
    return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x);
}

static double support_of(mra_filter filter)
{
    return filter == MRA_BILINEAR ? 1 : filter == MRA_BICUBIC ? 2 : 3;
}

static double filter_at(mra_filter filter, double x)
{
    const double a = -0.5, d = fabs(x);
    switch (filter) {
    case MRA_BILINEAR:
        return d < 1 ? 1 - d : 0;
    case MRA_BICUBIC:
        if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
        return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    case MRA_LANCZOS:
        break;
    }
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

// How many weights a sample has at most.
static int taps_of(mra_filter filter, int from, int to)
{
    const double scale = (double)from / to;
    return 2 * (int)ceil(support_of(filter) * (scale > 1 ? scale : 1)) + 1;
}

// The weights of output sample `at`, of `count` inputs from the first on.
static void weights_of(mra_filter filter, int from, int to, int at, int *first, int *count,
                       int32_t *weight)
{
    const double scale = (double)from / to, stretch = scale > 1 ? scale : 1;
    const double support = support_of(filter) * stretch, centre = (at + 0.5) * scale;
    double sum = 0;
    int end = (int)(centre + support + 0.5);
    *first = (int)(centre - support + 0.5);
    if (centre - support < 0) *first = 0;
    if (end > from) end = from;
    *count = end - *first;
    for (int i = 0; i < *count; i++)
        sum += filter_at(filter, (i + *first - centre + 0.5) * (1 / stretch));
    for (int i = 0; i < *count; i++) {
        const double value = filter_at(filter, (i + *first - centre + 0.5) * (1 / stretch));
        const double share = value / sum * (1 << FRACTION);
        weight[i] = (int32_t)(share < 0 ? share - 0.5 : share + 0.5);
    }
}

static uint8_t to_byte(int32_t sum)
{
    sum >>= FRACTION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

// ---- Small square gray pictures -------------------------------------------------------------

void mra_resize_plan(mra_resize *resize, int from, int to)
{
    resize->from = from;
    resize->to = to;
    for (int at = 0; at < to; at++) {
        mra_resize_window *w = &resize->window[at];
        weights_of(MRA_LANCZOS, from, to, at, &w->first, &w->count, w->weight);
    }
}

// One output sample from samples that lie `stride` apart.
static uint8_t weigh(const mra_resize_window *w, const uint8_t *in, int stride)
{
    int32_t sum = 1 << (FRACTION - 1);
    for (int i = 0; i < w->count; i++) sum += in[(w->first + i) * stride] * w->weight[i];
    return to_byte(sum);
}

void mra_resize_run(const mra_resize *resize, const uint8_t *in, uint8_t *out)
{
    uint8_t narrow[MRA_RESIZE_SIDE * MRA_RESIZE_SIDE]; // `from` rows of `to`
    const int from = resize->from, to = resize->to;
    for (int y = 0; y < from; y++)
        for (int x = 0; x < to; x++)
            narrow[y * to + x] = weigh(&resize->window[x], in + y * from, 1);
    for (int y = 0; y < to; y++)
        for (int x = 0; x < to; x++)
            out[y * to + x] = weigh(&resize->window[y], narrow + x, to);
}

// ---- Colour pictures of any size ------------------------------------------------------------

// The windows of the wanted output samples of one axis.
typedef struct axis {
    int count, taps;
    int *first, *used;
    int32_t *weight; // [count][taps]
} axis;

static void axis_close(axis *a)
{
    free(a->first);
    free(a->weight);
    *a = (axis){0};
}

static mra_status axis_open(axis *a, mra_filter filter, int from, int to, int begin, int count,
                            mra_error *err)
{
    a->count = count;
    a->taps = taps_of(filter, from, to);
    a->first = malloc(2 * (size_t)count * sizeof *a->first);
    a->weight = malloc((size_t)count * (size_t)a->taps * sizeof *a->weight);
    if (!a->first || !a->weight) {
        axis_close(a);
        return mra_fail(err, MRA_NO_MEMORY, "no memory to resize %d samples to %d", from, to);
    }
    a->used = a->first + count;
    for (int i = 0; i < count; i++)
        weights_of(filter, from, to, begin + i, &a->first[i], &a->used[i],
                   a->weight + (size_t)i * (size_t)a->taps);
    return MRA_OK;
}

// One row to a->count pixels.
static void narrow_row(const axis *a, const uint8_t *in, uint8_t *out)
{
    for (int x = 0; x < a->count; x++) {
        const int32_t *weight = a->weight + (size_t)x * (size_t)a->taps;
        const uint8_t *pixel = in + (size_t)a->first[x] * 3;
        int32_t red = 1 << (FRACTION - 1), green = red, blue = red;
        for (int i = 0; i < a->used[x]; i++, pixel += 3) {
            red += pixel[0] * weight[i];
            green += pixel[1] * weight[i];
            blue += pixel[2] * weight[i];
        }
        out[3 * x] = to_byte(red);
        out[3 * x + 1] = to_byte(green);
        out[3 * x + 2] = to_byte(blue);
    }
}

// Output row `y` from the narrowed rows, of which `rows` is the first input row's.
static void mix_rows(const axis *a, int y, const uint8_t *rows, int top, size_t bytes,
                     int32_t *sum, uint8_t *out)
{
    const int32_t *weight = a->weight + (size_t)y * (size_t)a->taps;
    for (size_t b = 0; b < bytes; b++) sum[b] = 1 << (FRACTION - 1);
    for (int i = 0; i < a->used[y]; i++) {
        const uint8_t *row = rows + (size_t)(a->first[y] + i - top) * bytes;
        for (size_t b = 0; b < bytes; b++) sum[b] += row[b] * weight[i];
    }
    for (size_t b = 0; b < bytes; b++) out[b] = to_byte(sum[b]);
}

mra_status mra_resize_rgb(uint8_t *out, const mra_resize_rgb_job *job, mra_error *err)
{
    axis across = {0}, down = {0};
    mra_status status = axis_open(&across, job->filter, job->in_width, job->width, job->left,
                                  job->part_width, err);
    if (status == MRA_OK)
        status = axis_open(&down, job->filter, job->in_height, job->height, job->top,
                           job->part_height, err);
    if (status != MRA_OK) {
        axis_close(&across);
        return status;
    }
    const int last = job->part_height - 1, top = down.first[0];
    const int end = down.first[last] + down.used[last];
    const size_t bytes = (size_t)job->part_width * 3;
    uint8_t *rows = malloc((size_t)(end - top) * bytes);
    int32_t *sum = malloc(bytes * sizeof *sum);
    if (rows && sum) {
        for (int y = top; y < end; y++)
            narrow_row(&across, job->in + (size_t)y * job->pitch,
                       rows + (size_t)(y - top) * bytes);
        for (int y = 0; y < job->part_height; y++)
            mix_rows(&down, y, rows, top, bytes, sum, out + (size_t)y * bytes);
    } else {
        status = mra_fail(err, MRA_NO_MEMORY, "no memory to resize a picture of %d x %d",
                          job->in_width, job->in_height);
    }
    free(rows);
    free(sum);
    axis_close(&across);
    axis_close(&down);
    return status;
}
