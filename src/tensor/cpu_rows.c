// Kernels of the cpu device that move rows, leave some out, or average over them.

#include <string.h>

#include "tensor/cpu.h"

static inline void copy_or_add(size_t width, const float *restrict x, float *restrict y,
                               bool add)
{
    if (add)
        for (size_t j = 0; j < width; j++) y[j] += x[j];
    else
        for (size_t j = 0; j < width; j++) y[j] = x[j];
}

// ---- Moving ---------------------------------------------------------------------------------

typedef struct swap_context {
    size_t outer, first, second, inner;
    const float *x;
    float *y;
    bool add;
} swap_context;

static void swap_item(void *context, size_t item, int thread)
{
    (void)thread;
    const swap_context *c = context;
    const size_t per_item = mra_rows_per_item(c->second * c->inner);
    const mra_range range = mra_range_of(item, per_item, c->outer * c->first);
    for (size_t row = range.begin; row < range.end; row++) {
        const size_t outer = row / c->first, i = row % c->first;
        const float *x = c->x + row * c->second * c->inner;
        float *y = c->y + (outer * c->second * c->first + i) * c->inner;
        for (size_t j = 0; j < c->second; j++)
            copy_or_add(c->inner, x + j * c->inner, y + j * c->first * c->inner, c->add);
    }
}

mra_status mra_cpu_swap_middle(mra_device *device, size_t outer, int first, int second,
                               int inner, const float *x, float *y, bool add, mra_error *err)
{
    (void)err;
    swap_context context = {outer, (size_t)first, (size_t)second, (size_t)inner, x, y, add};
    const size_t per_item = mra_rows_per_item(context.second * context.inner);
    mra_cpu_loop(device, mra_items(outer * context.first, per_item), swap_item, &context);
    return MRA_OK;
}

typedef struct columns_context {
    size_t rows, width, x_stride, y_stride;
    const float *x;
    float *y;
    bool add;
} columns_context;

static void columns_item(void *context, size_t item, int thread)
{
    (void)thread;
    const columns_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++)
        copy_or_add(c->width, c->x + row * c->x_stride, c->y + row * c->y_stride, c->add);
}

mra_status mra_cpu_copy_columns(mra_device *device, size_t rows, int width, const float *x,
                                size_t x_stride, float *y, size_t y_stride, bool add,
                                mra_error *err)
{
    (void)err;
    columns_context context = {rows, (size_t)width, x_stride, y_stride, x, y, add};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item(context.width)), columns_item,
                 &context);
    return MRA_OK;
}

// ---- Masks and means ------------------------------------------------------------------------

typedef struct mask_context {
    size_t rows, n, width; // rows: batch * n
    const uint8_t *mask;
    const float *x;
    float *y;
    bool add;
} mask_context;

static void mask_item(void *context, size_t item, int thread)
{
    (void)thread;
    const mask_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        float *y = c->y + row * c->width;
        if (c->mask[row])
            copy_or_add(c->width, c->x + row * c->width, y, c->add);
        else if (!c->add)
            memset(y, 0, c->width * sizeof *y);
    }
}

mra_status mra_cpu_mask_rows(mra_device *device, size_t rows, int width, const uint8_t *mask,
                             const float *x, float *y, bool add, mra_error *err)
{
    (void)err;
    mask_context context = {
        .rows = rows, .width = (size_t)width, .mask = mask, .x = x, .y = y, .add = add};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item(context.width)), mask_item,
                 &context);
    return MRA_OK;
}

static size_t count_kept(size_t n, const uint8_t *mask)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) kept += !mask || mask[i];
    return kept;
}

static void pool_item(void *context, size_t item, int thread)
{
    (void)thread;
    const mask_context *c = context;
    const uint8_t *mask = c->mask ? c->mask + item * c->n : NULL;
    const size_t kept = count_kept(c->n, mask);
    float *y = c->y + item * c->width;
    mra_cpu_sum_rows(c->n, c->width, c->x + item * c->n * c->width, c->width, mask, y);
    for (size_t j = 0; j < c->width; j++) y[j] = kept ? y[j] / (float)kept : 0.0f;
}

mra_status mra_cpu_mean_pool(mra_device *device, size_t batch, int n, int width,
                             const uint8_t *mask, const float *x, float *y, mra_error *err)
{
    (void)err;
    mask_context context = {
        .n = (size_t)n, .width = (size_t)width, .mask = mask, .x = x, .y = y};
    mra_cpu_loop(device, batch, pool_item, &context);
    return MRA_OK;
}

static void pool_backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const mask_context *c = context;
    const uint8_t *mask = c->mask ? c->mask + item * c->n : NULL;
    const size_t kept = count_kept(c->n, mask);
    const float *dy = c->x + item * c->width, share = kept ? 1.0f / (float)kept : 0.0f;
    float *dx = c->y + item * c->n * c->width;
    for (size_t i = 0; i < c->n; i++, dx += c->width) {
        if (mask && !mask[i]) {
            if (!c->add) memset(dx, 0, c->width * sizeof *dx);
        } else if (c->add) {
#pragma omp simd
            for (size_t j = 0; j < c->width; j++) dx[j] += share * dy[j];
        } else {
#pragma omp simd
            for (size_t j = 0; j < c->width; j++) dx[j] = share * dy[j];
        }
    }
}

mra_status mra_cpu_mean_pool_backward(mra_device *device, size_t batch, int n, int width,
                                      const uint8_t *mask, const float *dy, float *dx, bool add,
                                      mra_error *err)
{
    (void)err;
    mask_context context = {
        .n = (size_t)n, .width = (size_t)width, .mask = mask, .x = dy, .y = dx, .add = add};
    mra_cpu_loop(device, batch, pool_backward_item, &context);
    return MRA_OK;
}
