// Random features on the cpu: projections, maxima, exponentials.
//
// A group's rows are cut into items of 128 rows, whose projections stay in the second cache until
// they are exponentiated, unless a maximum over all keys has to be known first. Then each item
// leaves its own maxima, which are joined in order, and a second pass follows.

#include <math.h>
#include <string.h>

#include "tensor/cpu.h"
#include "tensor/gemm.h"
#include "tensor/vector.h"

enum { ITEM_ROWS = 128 };

typedef struct features_context {
    const mra_feature_form *form;
    size_t items;       // per group
    const float *x, *w; // w: [d, features] forward, [features, d] backward
    const uint8_t *mask;
    float *shift, *log_scale, *part, *y; // part[groups * items, features]: maxima of the items
    float *dy, *dx;
    float largest; // kind COMMON
    bool add;
    mra_small_gemm product; // of ITEM_ROWS rows
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

// Rows of at most this many features are a product of generated code (tensor/gemm.h).
enum { SMALL = 256 };

// C (+)= A B for the rows of an item: A[rows, inner], B[inner, width].
static void multiply(const mra_small_gemm *product, size_t rows, const float *a, const float *b,
                     float *c)
{
    if (product->generated && (int)rows == product->m)
        mra_small_gemm_run(product, a, b, c);
    else
        mra_gemm(false, false, (int)rows, product->n, product->k, 1.0f, a, product->lda, b,
                 product->ldb, product->beta, c, product->ldc);
}

static mra_small_gemm prepare(int inner, int width, float beta)
{
    if (inner <= SMALL && width <= SMALL)
        return mra_small_gemm_prepare(ITEM_ROWS, width, inner, inner, width, width, beta);
    return (mra_small_gemm){.m = ITEM_ROWS,
                            .n = width,
                            .k = inner,
                            .lda = inner,
                            .ldb = width,
                            .ldc = width,
                            .beta = beta};
}

static void project(const features_context *c, size_t group, mra_range range)
{
    const size_t at = group * (size_t)c->form->n + range.begin;
    multiply(&c->product, range.end - range.begin, c->x + at * (size_t)c->form->d, c->w,
             c->y + at * (size_t)c->form->features);
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
    const bool all = c->form->rule.kind == MRA_FEATURES_KEY_ONE;
    float *part = c->part + item * m;
    for (size_t r = 0; r < m; r++) part[r] = -INFINITY;
    project(c, group, range);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *p = c->y + (group * n + row) * m;
        if (all || visible(c, group, row)) {
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
        const float most = mra_row_max(shift, m);
        const bool one = c->form->rule.kind == MRA_FEATURES_KEY_ONE;
        for (size_t r = 0; r < m; r++) {
            if (one) shift[r] = most;
            if (shift[r] == -INFINITY) shift[r] = 0.0f;
        }
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
    } else if (form->rule.kind == MRA_FEATURES_KEY || form->rule.kind == MRA_FEATURES_KEY_ONE) {
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
    if (!c->part) project(c, group, range);
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
                            const float *w, const uint8_t *mask, float *shift, float *log_scale,
                            float *y, mra_error *err)
{
    const size_t m = (size_t)form->features, d = (size_t)form->d;
    const mra_feature_kind kind = form->rule.kind;
    features_context context = {.form = form,
                                .items = mra_items((size_t)form->n, ITEM_ROWS),
                                .x = x,
                                .mask = mask,
                                .shift = shift,
                                .log_scale = log_scale,
                                .y = y,
                                .product = prepare(form->d, form->features, 0.0f)};
    const size_t items = groups_of(form) * context.items;
    float *turned = mra_cpu_scratch(device, m * d, sizeof *turned, "features", err);
    if (!turned) return MRA_NO_MEMORY;
    for (size_t r = 0; r < m; r++)
        for (size_t j = 0; j < d; j++) turned[j * m + r] = w[r * d + j];
    context.w = turned;
    if (kind == MRA_FEATURES_KEY || kind == MRA_FEATURES_KEY_ONE ||
        kind == MRA_FEATURES_COMMON) {
        context.part =
            mra_cpu_more_scratch(device, items * m, sizeof *context.part, "features", err);
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
    const size_t first = group * n + range.begin;
    for (size_t at = first; at < group * n + range.end; at++) {
        const float *y = c->y + at * m, *x = c->x + at * d;
        float *dp = c->dy + at * m, *dx = c->dx + at * d, sum = 0.0f;
        if (!visible(c, group, at - group * n)) {
            memset(dp, 0, m * sizeof *dp);
            if (!c->add) memset(dx, 0, d * sizeof *dx);
            continue;
        }
#pragma omp simd reduction(+ : sum)
        for (size_t r = 0; r < m; r++) {
            dp[r] = (y[r] - epsilon) * dp[r];
            sum += dp[r];
        }
        const float factor = -scale * scale * sum;
#pragma omp simd
        for (size_t j = 0; j < d; j++) dx[j] = (c->add ? dx[j] : 0.0f) + factor * x[j];
    }
    multiply(&c->product, range.end - range.begin, c->dy + first * m, c->w, c->dx + first * d);
}

mra_status mra_cpu_features_backward(mra_device *device, const mra_feature_form *form,
                                     const float *x, const float *w, const uint8_t *mask,
                                     const float *y, float *dy, float *dx, bool add,
                                     mra_error *err)
{
    (void)err;
    features_context context = {.form = form,
                                .items = mra_items((size_t)form->n, ITEM_ROWS),
                                .x = x,
                                .w = w,
                                .mask = mask,
                                .y = (float *)(uintptr_t)y,
                                .dy = dy,
                                .dx = dx,
                                .add = add,
                                .product = prepare(form->features, form->d, 1.0f)};
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
