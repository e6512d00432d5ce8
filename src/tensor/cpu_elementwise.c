// Entry-by-entry kernels of the cpu device. They do next to no arithmetic: what they cost is
// the memory they pass over, so each loop reads and writes every array once and nothing else.

#include "tensor/cpu.h"

typedef struct entries_context {
    size_t count;
    float factor;
    const float *a, *b;
    float *y;
    bool add;
} entries_context;

static void run(mra_device *device, mra_loop_body body, entries_context *context)
{
    mra_cpu_loop(device, mra_items(context->count, MRA_CPU_ENTRIES), body, context);
}

static void fill_item(void *context, size_t item, int thread)
{
    (void)thread;
    const entries_context *c = context;
    mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    for (size_t i = range.begin; i < range.end; i++) c->y[i] = c->factor;
}

mra_status mra_cpu_fill(mra_device *device, size_t count, float value, float *y, mra_error *err)
{
    (void)err;
    run(device, fill_item, &(entries_context){.count = count, .factor = value, .y = y});
    return MRA_OK;
}

static void scale_item(void *context, size_t item, int thread)
{
    (void)thread;
    const entries_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    const float factor = c->factor;
    const float *a = c->a;
    float *y = c->y;
    if (c->add) {
#pragma omp simd
        for (size_t i = range.begin; i < range.end; i++) y[i] += factor * a[i];
    } else {
#pragma omp simd
        for (size_t i = range.begin; i < range.end; i++) y[i] = factor * a[i];
    }
}

mra_status mra_cpu_scale(mra_device *device, size_t count, float factor, const float *x,
                         float *y, bool add, mra_error *err)
{
    (void)err;
    run(device, scale_item,
        &(entries_context){.count = count, .factor = factor, .a = x, .y = y, .add = add});
    return MRA_OK;
}

static void add_item(void *context, size_t item, int thread)
{
    (void)thread;
    const entries_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    const float *a = c->a, *b = c->b;
    float *y = c->y;
#pragma omp simd
    for (size_t i = range.begin; i < range.end; i++) y[i] = a[i] + b[i];
}

mra_status mra_cpu_add(mra_device *device, size_t count, const float *a, const float *b,
                       float *y, mra_error *err)
{
    (void)err;
    run(device, add_item, &(entries_context){.count = count, .a = a, .b = b, .y = y});
    return MRA_OK;
}

static void multiply_item(void *context, size_t item, int thread)
{
    (void)thread;
    const entries_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    const float *a = c->a, *b = c->b;
    float *y = c->y;
    if (c->add) {
#pragma omp simd
        for (size_t i = range.begin; i < range.end; i++) y[i] += a[i] * b[i];
    } else {
#pragma omp simd
        for (size_t i = range.begin; i < range.end; i++) y[i] = a[i] * b[i];
    }
}

mra_status mra_cpu_multiply(mra_device *device, size_t count, const float *a, const float *b,
                            float *y, bool add, mra_error *err)
{
    (void)err;
    run(device, multiply_item,
        &(entries_context){.count = count, .a = a, .b = b, .y = y, .add = add});
    return MRA_OK;
}

// Written as "0 where x < 0" so that NaN passes.
static void relu_item(void *context, size_t item, int thread)
{
    (void)thread;
    const entries_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    const float *x = c->a;
    float *y = c->y;
#pragma omp simd
    for (size_t i = range.begin; i < range.end; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

mra_status mra_cpu_relu(mra_device *device, size_t count, const float *x, float *y,
                        mra_error *err)
{
    (void)err;
    run(device, relu_item, &(entries_context){.count = count, .a = x, .y = y});
    return MRA_OK;
}

static void relu_backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const entries_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    const float *x = c->a, *dy = c->b;
    float *dx = c->y;
    if (c->add) {
#pragma omp simd
        for (size_t i = range.begin; i < range.end; i++) dx[i] += x[i] <= 0.0f ? 0.0f : dy[i];
    } else {
#pragma omp simd
        for (size_t i = range.begin; i < range.end; i++) dx[i] = x[i] <= 0.0f ? 0.0f : dy[i];
    }
}

mra_status mra_cpu_relu_backward(mra_device *device, size_t count, const float *x,
                                 const float *dy, float *dx, bool add, mra_error *err)
{
    (void)err;
    run(device, relu_backward_item,
        &(entries_context){.count = count, .a = x, .b = dy, .y = dx, .add = add});
    return MRA_OK;
}
