// Random features on the cpu: maxima, then exponentials, over projections that a product made.
//
// A group's rows are cut into items of 256 rows. The maximum over the keys needs all rows before
// any can be exponentiated: each item leaves its own maxima, which are joined in order, although
// a maximum would not mind another one.

#include <math.h>
#include <string.h>

#include "tensor/cpu.h"
#include "tensor/vector.h"

enum { ITEM_ROWS = 256 };

typedef struct features_context {
    const mra_feature_form *form;
    size_t items; // per group
    const float *x, *dy;
    const uint8_t *mask;
    float *shift, *log_scale, *part, *y; // part[groups * items, features]: maxima of the items
    float *dp, *dx;
    float largest; // kind COMMON
    bool add;
} features_context;

static size_t groups_of(const mra_feature_form *form)
{
    return form->batch * (size_t)form->heads;
}

static bool visible(const features_context *c, size_t group, size_t row)
{
    return !c->mask || c->mask[group / (size_t)c->form->heads * (size_t)c->form->n + row] != 0;
}

// |s x|^2 / 2.
static float half_square(const mra_feature_form *form, const float *x)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < form->d; j++) sum += x[j] * x[j];
    return 0.5f * form->rule.scale * form->rule.scale * sum;
}

// ---- Maxima over the keys -------------------------------------------------------------------

static void largest_item(void *context, size_t item, int thread)
{
    (void)thread;
    const features_context *c = context;
    const size_t m = (size_t)c->form->features, n = (size_t)c->form->n;
    const size_t d = (size_t)c->form->d, group = item / c->items;
    const mra_range range = mra_range_of(item % c->items, ITEM_ROWS, n);
    const bool common = c->form->rule.kind == MRA_FEATURES_COMMON;
    float *part = c->part + item * m;
    for (size_t r = 0; r < m; r++) part[r] = -INFINITY;
    for (size_t row = range.begin; row < range.end; row++) {
        const float *p = c->y + (group * n + row) * m;
        if (visible(c, group, row)) {
            const float half =
                common ? 0.0f : half_square(c->form, c->x + (group * n + row) * d);
#pragma omp simd
            for (size_t r = 0; r < m; r++)
                part[r] = p[r] - half > part[r] ? p[r] - half : part[r];
        } else if (common) {
            for (size_t r = 0; r < m; r++) part[r] = part[r] < 0.0f ? 0.0f : part[r];
        }
    }
}

static void join_largest(features_context *c)
{
    const size_t m = (size_t)c->form->features, groups = groups_of(c->form);
    if (c->form->rule.kind == MRA_FEATURES_COMMON) {
        c->largest = mra_row_max(c->part, groups * c->items * m);
        return;
    }
    for (size_t group = 0; group < groups; group++) {
        float *shift = c->shift + group * m;
        memcpy(shift, c->part + group * c->items * m, m * sizeof *shift);
        for (size_t item = 1; item < c->items; item++) {
            const float *part = c->part + (group * c->items + item) * m;
            for (size_t r = 0; r < m; r++) shift[r] = part[r] > shift[r] ? part[r] : shift[r];
        }
        for (size_t r = 0; r < m; r++) shift[r] = shift[r] == -INFINITY ? 0.0f : shift[r];
    }
}

// ---- Exponentials ---------------------------------------------------------------------------

static void exponentiate(size_t m, float *y, float shift, float epsilon)
{
#pragma omp simd
    for (size_t r = 0; r < m; r++) y[r] = mra_exp(y[r] - shift) + epsilon;
}

// One visible row; `shift` is the group's (kinds KEY and QUERY).
static void features_row(const features_context *c, size_t at, const float *shift)
{
    const mra_feature_form *form = c->form;
    const size_t m = (size_t)form->features;
    const float half = half_square(form, c->x + at * (size_t)form->d);
    const float epsilon = form->rule.epsilon;
    float *y = c->y + at * m;
    if (form->rule.kind == MRA_FEATURES_COMMON) {
        exponentiate(m, y, half + c->largest, epsilon);
    } else if (form->rule.kind == MRA_FEATURES_ROW) {
        exponentiate(m, y, half + mra_row_max(y, m), epsilon);
    } else if (form->rule.kind == MRA_FEATURES_KEY) {
#pragma omp simd
        for (size_t r = 0; r < m; r++) y[r] = mra_exp((y[r] - half) - shift[r]) + epsilon;
    } else {
#pragma omp simd
        for (size_t r = 0; r < m; r++) y[r] += shift[r];
        const float largest = mra_row_max(y, m);
        exponentiate(m, y, largest, epsilon);
        if (c->log_scale) c->log_scale[at] = largest - half - logf((float)m);
    }
}

static void features_item(void *context, size_t item, int thread)
{
    (void)thread;
    const features_context *c = context;
    const size_t m = (size_t)c->form->features, n = (size_t)c->form->n;
    const size_t group = item / c->items;
    const mra_range range = mra_range_of(item % c->items, ITEM_ROWS, n);
    const bool common = c->form->rule.kind == MRA_FEATURES_COMMON;
    for (size_t row = range.begin; row < range.end; row++) {
        const size_t at = group * n + row;
        if (visible(c, group, row)) {
            features_row(c, at, c->shift ? c->shift + group * m : NULL);
            continue;
        }
        const float value = common ? mra_exp(-c->largest) + c->form->rule.epsilon : 0.0f;
        for (size_t r = 0; r < m; r++) c->y[at * m + r] = value;
        if (c->log_scale) c->log_scale[at] = 0.0f;
    }
}

mra_status mra_cpu_features(mra_device *device, const mra_feature_form *form, const float *x,
                            const uint8_t *mask, float *shift, float *log_scale, float *y,
                            mra_error *err)
{
    features_context context = {.form = form,
                                .items = mra_items((size_t)form->n, ITEM_ROWS),
                                .x = x,
                                .mask = mask,
                                .shift = shift,
                                .log_scale = log_scale,
                                .y = y};
    const size_t items = groups_of(form) * context.items;
    const mra_feature_kind kind = form->rule.kind;
    if (kind == MRA_FEATURES_KEY || kind == MRA_FEATURES_COMMON) {
        context.part = mra_cpu_scratch(device, items * (size_t)form->features,
                                       sizeof *context.part, "features", err);
        if (!context.part) return MRA_NO_MEMORY;
        mra_cpu_loop(device, items, largest_item, &context);
        join_largest(&context);
    }
    mra_cpu_loop(device, items, features_item, &context);
    return MRA_OK;
}

// ---- Backward -------------------------------------------------------------------------------

static void backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const features_context *c = context;
    const size_t m = (size_t)c->form->features, n = (size_t)c->form->n;
    const size_t d = (size_t)c->form->d, group = item / c->items;
    const float epsilon = c->form->rule.epsilon, scale = c->form->rule.scale;
    const mra_range range = mra_range_of(item % c->items, ITEM_ROWS, n);
    for (size_t at = group * n + range.begin; at < group * n + range.end; at++) {
        const float *y = c->y + at * m, *dy = c->dy + at * m, *x = c->x + at * d;
        float *dp = c->dp + at * m, *dx = c->dx + at * d, sum = 0.0f;
        if (!visible(c, group, at - group * n)) {
            memset(dp, 0, m * sizeof *dp);
            if (!c->add) memset(dx, 0, d * sizeof *dx);
            continue;
        }
#pragma omp simd reduction(+ : sum)
        for (size_t r = 0; r < m; r++) {
            dp[r] = (y[r] - epsilon) * dy[r];
            sum += dp[r];
        }
        const float factor = -scale * scale * sum;
#pragma omp simd
        for (size_t j = 0; j < d; j++) dx[j] = (c->add ? dx[j] : 0.0f) + factor * x[j];
    }
}

mra_status mra_cpu_features_backward(mra_device *device, const mra_feature_form *form,
                                     const float *x, const uint8_t *mask, const float *y,
                                     const float *dy, float *dp, float *dx, bool add,
                                     mra_error *err)
{
    (void)err;
    features_context context = {.form = form,
                                .items = mra_items((size_t)form->n, ITEM_ROWS),
                                .x = x,
                                .dy = dy,
                                .mask = mask,
                                .y = (float *)(uintptr_t)y,
                                .dp = dp,
                                .dx = dx,
                                .add = add};
    mra_cpu_loop(device, groups_of(form) * context.items, backward_item, &context);
    return MRA_OK;
}

// ---- Division by the last column ------------------------------------------------------------

typedef struct divide_context {
    size_t rows, width;
    const float *x, *y, *dy;
    float *to;
    bool add;
} divide_context;

static void divide_item(void *context, size_t item, int thread)
{
    (void)thread;
    const divide_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *x = c->x + row * (c->width + 1);
        float *y = c->to + row * c->width;
        const float inverse = x[c->width] == 0.0f ? 0.0f : 1.0f / x[c->width];
#pragma omp simd
        for (size_t j = 0; j < c->width; j++) y[j] = x[j] * inverse;
    }
}

mra_status mra_cpu_divide_by_last(mra_device *device, size_t rows, int width, const float *x,
                                  float *y, mra_error *err)
{
    (void)err;
    divide_context context = {.rows = rows, .width = (size_t)width, .x = x, .to = y};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item((size_t)width)), divide_item,
                 &context);
    return MRA_OK;
}

// With D the divisor: d(x_j) = dy_j / D, d(D) = -<dy, y> / D.
static void divide_backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const divide_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *y = c->y + row * c->width, *dy = c->dy + row * c->width;
        const float divisor = c->x[row * (c->width + 1) + c->width];
        const float inverse = divisor == 0.0f ? 0.0f : 1.0f / divisor;
        float *dx = c->to + row * (c->width + 1), inner = 0.0f;
#pragma omp simd reduction(+ : inner)
        for (size_t j = 0; j < c->width; j++) {
            inner += dy[j] * y[j];
            dx[j] = (c->add ? dx[j] : 0.0f) + dy[j] * inverse;
        }
        dx[c->width] = (c->add ? dx[c->width] : 0.0f) - inner * inverse;
    }
}

mra_status mra_cpu_divide_by_last_backward(mra_device *device, size_t rows, int width,
                                           const float *x, const float *y, const float *dy,
                                           float *dx, bool add, mra_error *err)
{
    (void)err;
    divide_context context = {rows, (size_t)width, x, y, dy, dx, add};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item((size_t)width)),
                 divide_backward_item, &context);
    return MRA_OK;
}
