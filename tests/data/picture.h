// Pictures for tests of resizing and augmentation, and the filters in float64.
#ifndef MRA_TESTS_DATA_PICTURE_H
#define MRA_TESTS_DATA_PICTURE_H

#include <math.h>
#include <stdlib.h>

#include "core/random.h"
#include "data/resize.h"
#include "io/image.h"

static inline uint64_t fresh_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20220711;
}

// A picture of noise with flat patches; the caller frees .rgb.
static inline mra_image noise(mra_random *random, int width, int height)
{
    mra_image image = {.width = width, .height = height};
    const size_t bytes = (size_t)width * (size_t)height * 3;
    image.rgb = malloc(bytes);
    const int low = (int)mra_random_below(random, 100),
              span = 1 + (int)mra_random_below(random, 155);
    for (size_t i = 0; i < bytes; i++) {
        image.rgb[i] = (uint8_t)(low + (int)mra_random_below(random, (uint32_t)span));
        if (i / 3 % 7 == 0) image.rgb[i] = 255;
    }
    return image;
}

static inline double kernel(mra_filter filter, double x, double a)
{
    const double d = fabs(x);
    if (filter == MRA_BILINEAR) return fmax(0, 1 - d);
    if (d >= 2) return 0;
    return d >= 1 ? a * (d * d * d - 5 * d * d + 8 * d - 4)
                  : (a + 2) * d * d * d - (a + 3) * d * d + 1;
}

// Weight of input j for output i.
static inline double weight_of(mra_filter filter, int from, int to, int i, int j)
{
    const double scale = (double)from / to, stretch = fmax(scale, 1);
    double sum = 0;
    for (int k = 0; k < from; k++)
        sum += kernel(filter, (k + 0.5 - (i + 0.5) * scale) / stretch, -0.5);
    return kernel(filter, (j + 0.5 - (i + 0.5) * scale) / stretch, -0.5) / sum;
}

static inline double *weights(mra_filter filter, int from, int to)
{
    double *w = malloc((size_t)from * (size_t)to * sizeof *w);
    for (int i = 0; i < to; i++)
        for (int j = 0; j < from; j++) w[i * from + j] = weight_of(filter, from, to, i, j);
    return w;
}

// Sample (x, y, c) of the picture resized to width x height, by the weights of both axes.
static inline double resized(const mra_image *in, const double *across, const double *down,
                             int x, int y, int c)
{
    double value = 0;
    for (int v = 0; v < in->height; v++) {
        const double row = down[y * in->height + v];
        if (row == 0) continue;
        double sum = 0; // of a row, cut to what 8 bits hold before the rows are mixed
        for (int u = 0; u < in->width; u++)
            sum += across[x * in->width + u] * in->rgb[3 * (v * in->width + u) + c];
        value += row * fmin(255, fmax(0, sum));
    }
    return fmin(255, fmax(0, value));
}

// The rounding between the axes, which the filter may enlarge by the sum of its weights' absolute
// values (below 1.3), and that at the end.
static const double two_roundings = 0.5 * 1.3 + 0.5 + 1e-3;

#endif
