// The Gaussian kernel between points and centres.
//
// |x - c|^2 = |x|^2 + |c|^2 - 2 <x, c> would be one matrix product, but where points are near (and the kernel is
// large) it is a small difference of large numbers, and its rounding is the kernel's relative error.
// Here the differences are squared and summed: three operations a pair and dimension instead of two, all of
// them on whole vectors, since the centres are turned over first (centre by centre in one register). The
// way back has no such difference of large numbers, so it is matrix products.

#include <string.h>

#include "tensor/cpu.h"
#include "tensor/gemm.h"
#include "tensor/vector.h"

enum { LANES = 64, ROWS = 64 }; // centres in registers; points of one item

typedef struct gaussian_context {
    size_t groups, n, m, width, strips;
    const float *x, *c, *y, *dy;
    const float *turned; // [groups][width][padded]: m rounded up to LANES
    size_t padded;
    float *out, *dx, *dc;
    float *weight; // backward: dy y, [groups][n][m]
    bool add_x, add_c;
} gaussian_context;

// Squared differences of RUN dimensions are summed as they come; these sums are added up with what rounding
// takes from each addition kept beside (Knuth's two-sum), because an error of the exponent is a relative
// error of the kernel: at a distance of 6 it is 18 units of rounding large.
enum { RUN = 8 };

typedef struct lanes {
    float sum[LANES], lost[LANES];
} lanes;

// Adds the squared differences of dimensions first .. end between one point and LANES centres, `stride` floats
// from one dimension to the next.
static void add_run(lanes *l, const float *x, const float *centre, size_t stride, size_t first,
                    size_t end)
{
    float run[LANES] = {0};
    for (size_t e = first; e < end; e++) {
        const float point = x[e], *row = centre + e * stride;
#pragma omp simd
        for (size_t j = 0; j < LANES; j++) {
            const float difference = point - row[j];
            run[j] += difference * difference;
        }
    }
#pragma omp simd
    for (size_t j = 0; j < LANES; j++) {
        const float sum = l->sum[j] + run[j], part = sum - l->sum[j];
        l->lost[j] += (l->sum[j] - (sum - part)) + (run[j] - part);
        l->sum[j] = sum;
    }
}

// One point against LANES centres, of which the first `count` are wanted.
static void gaussian_strip(const gaussian_context *g, const float *x, const float *turned,
                           size_t count, float *y)
{
    lanes l = {{0}, {0}};
    float value[LANES];
    for (size_t first = 0; first < g->width; first += RUN)
        add_run(&l, x, turned, g->padded, first,
                g->width - first < RUN ? g->width : first + RUN);
#pragma omp simd
    for (size_t j = 0; j < LANES; j++)
        value[j] = mra_exp(-0.5f * l.sum[j]) * (1.0f - 0.5f * l.lost[j]);
    memcpy(y, value, count * sizeof *y);
}

static void gaussian_item(void *context, size_t item, int thread)
{
    (void)thread;
    const gaussian_context *g = context;
    const size_t group = item / g->strips;
    const mra_range range = mra_range_of(item % g->strips, ROWS, g->n);
    const float *turned = g->turned + group * g->width * g->padded;
    for (size_t i = range.begin; i < range.end; i++)
        for (size_t left = 0; left < g->m; left += LANES)
            gaussian_strip(g, g->x + (group * g->n + i) * g->width, turned + left,
                           g->m - left < LANES ? g->m - left : LANES,
                           g->out + (group * g->n + i) * g->m + left);
}

mra_status mra_cpu_gaussian(mra_device *device, size_t groups, int n, int m, int width,
                            const float *x, const float *c, float *y, mra_error *err)
{
    gaussian_context g = {.groups = groups,
                          .n = (size_t)n,
                          .m = (size_t)m,
                          .width = (size_t)width,
                          .strips = mra_items((size_t)n, ROWS),
                          .x = x,
                          .out = y};
    g.padded = mra_items(g.m, LANES) * LANES;
    const size_t size = groups * g.width * g.padded;
    float *turned = mra_cpu_scratch(device, size, sizeof *turned, "Gaussian kernel", err);
    if (!turned) return MRA_NO_MEMORY;
    memset(turned, 0, size * sizeof *turned);
    for (size_t group = 0; group < groups; group++)
        for (size_t j = 0; j < g.m; j++)
            for (size_t e = 0; e < g.width; e++)
                turned[(group * g.width + e) * g.padded + j] =
                    c[(group * g.m + j) * g.width + e];
    g.turned = turned;
    mra_cpu_loop(device, groups * g.strips, gaussian_item, &g);
    return MRA_OK;
}

// dx_i = sum_j g_ij c_j - (sum_j g_ij) x_i, and the same for the centres.
static void gaussian_back_item(void *context, size_t group, int thread)
{
    (void)thread;
    const gaussian_context *g = context;
    const int n = (int)g->n, m = (int)g->m, width = (int)g->width;
    const float *x = g->x + group * g->n * g->width, *c = g->c + group * g->m * g->width;
    float *weight = g->weight + group * g->n * g->m;
    for (size_t e = 0; e < g->n * g->m; e++)
        weight[e] = g->dy[group * g->n * g->m + e] * g->y[group * g->n * g->m + e];
    if (g->dx) {
        float *dx = g->dx + group * g->n * g->width;
        if (!g->add_x) memset(dx, 0, g->n * g->width * sizeof *dx);
        mra_gemm(false, false, n, width, m, 1, weight, m, c, width, 1, dx, width);
        for (size_t i = 0; i < g->n; i++) {
            float sum = 0;
            for (size_t j = 0; j < g->m; j++) sum += weight[i * g->m + j];
            for (size_t e = 0; e < g->width; e++)
                dx[i * g->width + e] -= sum * x[i * g->width + e];
        }
    }
    if (!g->dc) return;
    float *dc = g->dc + group * g->m * g->width;
    if (!g->add_c) memset(dc, 0, g->m * g->width * sizeof *dc);
    mra_gemm(true, false, m, width, n, 1, weight, m, x, width, 1, dc, width);
    for (size_t j = 0; j < g->m; j++) {
        float sum = 0;
        for (size_t i = 0; i < g->n; i++) sum += weight[i * g->m + j];
        for (size_t e = 0; e < g->width; e++) dc[j * g->width + e] -= sum * c[j * g->width + e];
    }
}

mra_status mra_cpu_gaussian_backward(mra_device *device, size_t groups, int n, int m, int width,
                                     const float *x, const float *c, const float *y,
                                     const float *dy, float *dx, bool add_x, float *dc,
                                     bool add_c, mra_error *err)
{
    gaussian_context g = {.groups = groups,
                          .n = (size_t)n,
                          .m = (size_t)m,
                          .width = (size_t)width,
                          .x = x,
                          .c = c,
                          .y = y,
                          .dy = dy,
                          .dx = dx,
                          .dc = dc,
                          .add_x = add_x,
                          .add_c = add_c};
    g.weight = mra_cpu_scratch(device, groups * g.n * g.m, sizeof(float),
                               "Gaussian kernel, backward", err);
    if (!g.weight) return MRA_NO_MEMORY;
    mra_cpu_loop(device, groups, gaussian_back_item, &g);
    return MRA_OK;
}
