// Rows of length one, on the cpu.
//
// With $y = x/\|x\|$ the derivative is the projection onto the plane at right angles to $y$,
// divided by $\|x\|$: $dx = (dy - y\,\langle y, dy\rangle)/\|x\|$. A row of zeros has no
// direction; it stays zero and passes nothing back. (`torch.nn.functional.normalize`, which the
// published code uses, divides by $\max(\|x\|, 10^{-12})$ and passes back $10^{12}\,dy$ there.)

#include <math.h>

#include "tensor/cpu.h"

static const float least_norm = 1e-12f;

typedef struct unit_context {
    size_t rows, width;
    const float *x; // backward: y
    float *y, *norm;
    const float *known, *dy; // backward: the norms, dy
    bool add;
} unit_context;

static float dot(size_t width, const float *a, const float *b)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < width; j++) sum += a[j] * b[j];
    return sum;
}

static void unit_item(void *context, size_t item, int thread)
{
    (void)thread;
    const unit_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *x = c->x + row * c->width;
        float *y = c->y + row * c->width;
        const float norm = sqrtf(dot(c->width, x, x));
        const float inverse = norm > least_norm ? 1.0f / norm : 0.0f;
        c->norm[row] = norm > least_norm ? norm : 0.0f;
#pragma omp simd
        for (size_t j = 0; j < c->width; j++) y[j] = inverse * x[j];
    }
}

mra_status mra_cpu_unit_rows(mra_device *device, size_t rows, int width, const float *x,
                             float *y, float *norm, mra_error *err)
{
    (void)err;
    unit_context context = {.rows = rows, .width = (size_t)width, .x = x, .y = y, .norm = norm};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item(context.width)), unit_item,
                 &context);
    return MRA_OK;
}

static void backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const unit_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *y = c->x + row * c->width, *dy = c->dy + row * c->width;
        float *dx = c->y + row * c->width;
        const float inverse = c->known[row] > 0.0f ? 1.0f / c->known[row] : 0.0f;
        const float along = inverse > 0.0f ? dot(c->width, y, dy) : 0.0f;
        for (size_t j = 0; j < c->width; j++) {
            const float slope = inverse > 0.0f ? inverse * (dy[j] - along * y[j]) : 0.0f;
            dx[j] = c->add ? dx[j] + slope : slope;
        }
    }
}

mra_status mra_cpu_unit_rows_backward(mra_device *device, size_t rows, int width,
                                      const float *y, const float *norm, const float *dy,
                                      float *dx, bool add, mra_error *err)
{
    (void)err;
    unit_context context = {.rows = rows,
                            .width = (size_t)width,
                            .x = y,
                            .y = dx,
                            .known = norm,
                            .dy = dy,
                            .add = add};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item(context.width)), backward_item,
                 &context);
    return MRA_OK;
}
