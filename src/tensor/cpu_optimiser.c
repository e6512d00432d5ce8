// What a training step does to the weights, on the cpu: AdamW and the norm of the gradient.

#include <math.h>

#include "tensor/cpu.h"

typedef struct adamw_context {
    size_t count;
    float keep1, take1, keep2, take2; // beta and 1 - beta of both moments
    float unbias1, unbias2;           // 1 / (1 - beta^step)
    float rate, epsilon, decay, gradient_scale;
    float *w, *m, *v;
    const float *g;
} adamw_context;

static void adamw_item(void *context, size_t item, int thread)
{
    (void)thread;
    const adamw_context c = *(const adamw_context *)context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c.count);
#pragma omp simd
    for (size_t i = range.begin; i < range.end; i++) {
        const float g = c.gradient_scale * c.g[i];
        const float m = c.keep1 * c.m[i] + c.take1 * g;
        const float v = c.keep2 * c.v[i] + c.take2 * g * g;
        const float step = m * c.unbias1 / (sqrtf(v * c.unbias2) + c.epsilon);
        c.m[i] = m;
        c.v[i] = v;
        c.w[i] -= c.rate * (step + c.decay * c.w[i]);
    }
}

mra_status mra_cpu_adamw(mra_device *device, const mra_adamw *settings, size_t count, float *w,
                         const float *g, float *m, float *v, mra_error *err)
{
    (void)err;
    const double steps = (double)settings->step;
    adamw_context context = {
        .count = count,
        .keep1 = (float)settings->beta1,
        .take1 = (float)(1.0 - settings->beta1),
        .keep2 = (float)settings->beta2,
        .take2 = (float)(1.0 - settings->beta2),
        .unbias1 = (float)(1.0 / (1.0 - pow(settings->beta1, steps))),
        .unbias2 = (float)(1.0 / (1.0 - pow(settings->beta2, steps))),
        .rate = (float)settings->rate,
        .epsilon = (float)settings->epsilon,
        .decay = (float)settings->weight_decay,
        .gradient_scale = (float)settings->gradient_scale,
        .w = w,
        .m = m,
        .v = v,
        .g = g,
    };
    mra_cpu_loop(device, mra_items(count, MRA_CPU_ENTRIES), adamw_item, &context);
    return MRA_OK;
}

typedef struct squares_context {
    size_t count;
    const float *x;
    double *part;
} squares_context;

static void squares_item(void *context, size_t item, int thread)
{
    (void)thread;
    const squares_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = range.begin; i < range.end; i++) sum += (double)c->x[i] * (double)c->x[i];
    c->part[item] = sum;
}

mra_status mra_cpu_sum_of_squares(mra_device *device, size_t count, const float *x, double *sum,
                                  mra_error *err)
{
    const size_t items = mra_items(count, MRA_CPU_ENTRIES);
    double *part = mra_cpu_scratch(device, items, sizeof *part, "sum of squares", err);
    if (!part) return MRA_NO_MEMORY;
    squares_context context = {count, x, part};
    mra_cpu_loop(device, items, squares_item, &context);
    *sum = 0.0;
    for (size_t i = 0; i < items; i++) *sum += part[i];
    return MRA_OK;
}
