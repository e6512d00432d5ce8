// LayerNorm and softmax on the cpu. A row is read from memory once; the passes over it that
// follow find it in the first cache. Sums along a row run in as many lanes as a register has,
// which depends on the machine and the width, never on threads.

#include <math.h>
#include <string.h>

#include "tensor/cpu.h"
#include "tensor/vector.h"

// ---- LayerNorm ------------------------------------------------------------------------------

typedef struct norm_context {
    size_t rows, width;
    float epsilon;
    const float *x, *gamma, *beta;
    float *y, *statistics;
} norm_context;

// The variance is taken around the mean, in a second pass: the mean of squares less the square
// of the mean would cancel where the mean is large.
//
// Both are float64. What rounding does to an entry is that entry's own, but what it does to the mean
// or to the deviation all entries of the row share, and what comes next may add it up: a row $y$ that
// is too long by $\epsilon$ changes a squared distance $\lVert q-y\rVert^2$ by up to
// $2\epsilon\lVert y\rVert^2$, twice 64 units of rounding in a row of 64.
static void norm_row(size_t width, float epsilon, const float *x, const float *gamma,
                     const float *beta, float *y, float *statistics)
{
    double sum = 0.0, squares = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < width; j++) sum += (double)x[j];
    const double mean = sum / (double)width;
#pragma omp simd reduction(+ : squares)
    for (size_t j = 0; j < width; j++) squares += ((double)x[j] - mean) * ((double)x[j] - mean);
    const double inverse = 1.0 / sqrt(squares / (double)width + (double)epsilon);
#pragma omp simd
    for (size_t j = 0; j < width; j++)
        y[j] = (float)(((double)x[j] - mean) * inverse) * gamma[j] + beta[j];
    statistics[0] = (float)mean;
    statistics[1] = (float)inverse;
}

static void norm_item(void *context, size_t item, int thread)
{
    (void)thread;
    const norm_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++)
        norm_row(c->width, c->epsilon, c->x + row * c->width, c->gamma, c->beta,
                 c->y + row * c->width, c->statistics + 2 * row);
}

mra_status mra_cpu_layer_norm(mra_device *device, size_t rows, int width, float epsilon,
                              const float *x, const float *gamma, const float *beta, float *y,
                              float *statistics, mra_error *err)
{
    (void)err;
    norm_context context = {rows, (size_t)width, epsilon, x, gamma, beta, y, statistics};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item((size_t)width)), norm_item,
                 &context);
    return MRA_OK;
}

typedef struct norm_back_context {
    size_t rows, width;
    const float *x, *gamma, *statistics, *dy;
    float *dx, *gamma_part, *beta_part; // the parts: [items, width]
    bool add;
} norm_back_context;

static void norm_back_row(const norm_back_context *c, size_t row, float *dgamma, float *dbeta)
{
    const size_t width = c->width;
    const float *x = c->x + row * width, *dy = c->dy + row * width, *gamma = c->gamma;
    const float mean = c->statistics[2 * row], inverse = c->statistics[2 * row + 1];
    float sum = 0.0f, product = 0.0f;
#pragma omp simd reduction(+ : sum, product)
    for (size_t j = 0; j < width; j++) {
        const float normal = (x[j] - mean) * inverse, g = dy[j] * gamma[j];
        sum += g;
        product += g * normal;
        dgamma[j] += dy[j] * normal;
        dbeta[j] += dy[j];
    }
    if (!c->dx) return;
    float *dx = c->dx + row * width;
    const float g_mean = sum / (float)width, along = product / (float)width;
    if (c->add) {
#pragma omp simd
        for (size_t j = 0; j < width; j++)
            dx[j] += inverse * (dy[j] * gamma[j] - g_mean - (x[j] - mean) * inverse * along);
    } else {
#pragma omp simd
        for (size_t j = 0; j < width; j++)
            dx[j] = inverse * (dy[j] * gamma[j] - g_mean - (x[j] - mean) * inverse * along);
    }
}

static void norm_back_item(void *context, size_t item, int thread)
{
    (void)thread;
    const norm_back_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    float *dgamma = c->gamma_part + item * c->width, *dbeta = c->beta_part + item * c->width;
    memset(dgamma, 0, c->width * sizeof *dgamma);
    memset(dbeta, 0, c->width * sizeof *dbeta);
    for (size_t row = range.begin; row < range.end; row++) norm_back_row(c, row, dgamma, dbeta);
}

mra_status mra_cpu_layer_norm_backward(mra_device *device, size_t rows, int width,
                                       const float *x, const float *gamma,
                                       const float *statistics, const float *dy, float *dx,
                                       bool add, float *dgamma, float *dbeta, mra_error *err)
{
    const size_t items = mra_items(rows, mra_rows_per_item((size_t)width));
    const size_t size = items * (size_t)width;
    float *part = mra_cpu_scratch(device, 2 * size, sizeof *part, "layer norm, backward", err);
    if (!part) return MRA_NO_MEMORY;
    norm_back_context context = {rows, (size_t)width, x,           gamma, statistics, dy,
                                 dx,   part,          part + size, add};
    mra_cpu_loop(device, items, norm_back_item, &context);
    if (dgamma) mra_cpu_add_parts(device, items, (size_t)width, context.gamma_part, dgamma);
    if (dbeta) mra_cpu_add_parts(device, items, (size_t)width, context.beta_part, dbeta);
    return MRA_OK;
}

// ---- Softmax --------------------------------------------------------------------------------

typedef struct softmax_context {
    size_t rows, width;
    const float *x, *dy; // x: the logits, backward: y
    float *y;            // backward: dx
    bool add;
} softmax_context;

static void softmax_item(void *context, size_t item, int thread)
{
    (void)thread;
    const softmax_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        float *y = c->y + row * c->width;
        memcpy(y, c->x + row * c->width, c->width * sizeof *y);
        const float largest = mra_row_max(y, c->width);
        const float sum = mra_exp_row(y, c->width, largest == -INFINITY ? 0.0f : largest);
        const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma omp simd
        for (size_t j = 0; j < c->width; j++) y[j] *= inverse;
    }
}

mra_status mra_cpu_softmax(mra_device *device, size_t rows, int width, const float *x, float *y,
                           mra_error *err)
{
    (void)err;
    softmax_context context = {.rows = rows, .width = (size_t)width, .x = x, .y = y};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item((size_t)width)), softmax_item,
                 &context);
    return MRA_OK;
}

typedef struct kept_context {
    size_t heads, rows, width;
    const uint8_t *keep;
    const float *x;
    float *y;
} kept_context;

static void kept_item(void *context, size_t group, int thread)
{
    (void)thread;
    const kept_context *c = context;
    const uint8_t *keep = c->keep + group / c->heads * c->width;
    for (size_t row = group * c->rows; row < (group + 1) * c->rows; row++) {
        const float *x = c->x + row * c->width;
        float *y = c->y + row * c->width;
#pragma omp simd
        for (size_t j = 0; j < c->width; j++) y[j] = keep[j] ? x[j] : -INFINITY;
        const float largest = mra_row_max(y, c->width);
        const float sum = mra_exp_row(y, c->width, largest == -INFINITY ? 0.0f : largest);
        const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma omp simd
        for (size_t j = 0; j < c->width; j++) y[j] *= inverse;
    }
}

mra_status mra_cpu_softmax_kept(mra_device *device, size_t groups, int heads, int rows,
                                int width, const uint8_t *keep, const float *x, float *y,
                                mra_error *err)
{
    (void)err;
    kept_context context = {(size_t)heads, (size_t)rows, (size_t)width, keep, x, y};
    mra_cpu_loop(device, groups, kept_item, &context);
    return MRA_OK;
}

static void softmax_backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const softmax_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *y = c->x + row * c->width, *dy = c->dy + row * c->width;
        float *dx = c->y + row * c->width, inner = 0.0f;
#pragma omp simd reduction(+ : inner)
        for (size_t j = 0; j < c->width; j++) inner += y[j] * dy[j];
        if (c->add) {
#pragma omp simd
            for (size_t j = 0; j < c->width; j++) dx[j] += y[j] * (dy[j] - inner);
        } else {
#pragma omp simd
            for (size_t j = 0; j < c->width; j++) dx[j] = y[j] * (dy[j] - inner);
        }
    }
}

mra_status mra_cpu_softmax_backward(mra_device *device, size_t rows, int width, const float *y,
                                    const float *dy, float *dx, bool add, mra_error *err)
{
    (void)err;
    softmax_context context = {rows, (size_t)width, y, dy, dx, add};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item((size_t)width)),
                 softmax_backward_item, &context);
    return MRA_OK;
}
