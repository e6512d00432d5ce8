// Separable resampling: the weights of an output sample are the same for all rows and columns.

#include "data/resize.h"

#include <math.h>

enum { FRACTION = 22 };

static double sinc(double x)
{
    return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x);
}

static double lanczos(double x)
{
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static void make_window(mra_resize_window *w, int from, int to, int at)
{
    const double scale = (double)from / to, support = 3 * scale;
    const double centre = (at + 0.5) * scale;
    double value[MRA_RESIZE_TAPS], sum = 0;
    int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
    if (centre - support < 0) first = 0;
    if (end > from) end = from;
    w->first = first;
    w->count = end - first;
    for (int i = 0; i < w->count; i++)
        sum += value[i] = lanczos((i + first - centre + 0.5) / scale);
    for (int i = 0; i < w->count; i++) {
        const double share = value[i] / sum * (1 << FRACTION);
        w->weight[i] = (int32_t)(share < 0 ? share - 0.5 : share + 0.5);
    }
}

void mra_resize_plan(mra_resize *resize, int from, int to)
{
    resize->from = from;
    resize->to = to;
    for (int at = 0; at < to; at++) make_window(&resize->window[at], from, to, at);
}

// One output sample from samples that lie `stride` apart.
static uint8_t weigh(const mra_resize_window *w, const uint8_t *in, int stride)
{
    int32_t sum = 1 << (FRACTION - 1);
    for (int i = 0; i < w->count; i++) sum += in[(w->first + i) * stride] * w->weight[i];
    sum >>= FRACTION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
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
