// Attention whose weights are powers of an angle, with the whole kernel, on the cpu.
//
// $w(c) = (1 - \arccos(c)/\pi)^\tau$ is the probability that $\tau$ random hyperplanes through
// the origin leave two unit vectors with $\langle q, k\rangle = c$ on the same side (Goemans &
// Williamson, "Improved approximation algorithms for maximum cut", 1995, lemma 3.2; Charikar
// 2002): what hashing estimates. Here it is computed, pair by pair, in tiles that stay in the
// cache: time $n^2 d$, no matrix in memory. Its slope,
//
// $$w'(c) = \frac{\tau\,(1 - \arccos(c)/\pi)^{\tau-1}}{\pi\sqrt{1 - c^2}},$$
//
// is infinite at $c = 1$. What reaches the vectors before they were made unit vectors is not:
// the part of $k$ at right angles to $q$ has length $\sqrt{1 - c^2}$.
//
// The gradient of $k$ is that of $q$ with the roles of rows and columns exchanged, so one
// kernel does both: rows $a$ against columns $b$.

#include <string.h>

#include "tensor/cpu.h"
#include "tensor/cpu_angle.h"
#include "tensor/gemm.h"

enum { ROWS = 64, COLUMNS = 256, TILE = ROWS * COLUMNS };

typedef struct angle_context {
    const mra_angle_form *form;
    size_t blocks;
    const float *a, *b, *r, *t; // forward: q, k, none, v
    float *da, *dr;             // forward: none, y
    bool add_a, add_r;
    float *scratch; // 4 tiles per thread
} angle_context;

// cosine[0 .. count) -> weight and, unless slope is NULL, the slope of the weight; cosine is
// used up.
static void tile_weights(const mra_angle_form *form, size_t count, float *cosine, float *weight,
                         float *slope)
{
    const float shrink = form->shrink, factor = shrink * (float)form->power * 0.31830988618f;
    if (!slope) {
#pragma omp simd
        for (size_t i = 0; i < count; i++) cosine[i] = mra_angle_share(shrink * cosine[i]);
        mra_power_row(count, form->power, cosine, weight);
        return;
    }
    float *restrict kept = slope; // slope holds the share, then the slope
#pragma omp simd
    for (size_t i = 0; i < count; i++) kept[i] = mra_angle_share(shrink * cosine[i]);
    for (size_t begin = 0; begin < count; begin += COLUMNS) {
        float base[COLUMNS];
        const size_t length = count - begin < COLUMNS ? count - begin : COLUMNS;
        memcpy(base, kept + begin, length * sizeof *base);
        mra_power_row(length, form->power - 1, base, weight + begin);
    }
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        const float below = weight[i];
        weight[i] = below * kept[i];
        kept[i] = factor * below * mra_inverse_sine(shrink * cosine[i]);
    }
}

static void angle_item(void *context, size_t item, int thread)
{
    const angle_context *c = context;
    const int n = c->form->n, d = c->form->d;
    const size_t width = (size_t)d, base = item / c->blocks * (size_t)n * width;
    const int first = (int)(item % c->blocks) * ROWS;
    const int rows = n - first < ROWS ? n - first : ROWS;
    const size_t at = base + (size_t)first * width;
    float *cosine = c->scratch + (size_t)thread * 4 * TILE, *weight = cosine + TILE;
    float *slope = weight + TILE, *inner = slope + TILE;
    for (int left = 0; left < n; left += COLUMNS) {
        const int columns = n - left < COLUMNS ? n - left : COLUMNS;
        const size_t across = base + (size_t)left * width, count = (size_t)(rows * columns);
        mra_gemm(false, true, rows, columns, d, 1.0f, c->a + at, d, c->b + across, d, 0.0f,
                 cosine, columns);
        tile_weights(c->form, count, cosine, weight, c->da ? slope : NULL);
        if (c->dr)
            mra_gemm(false, false, rows, d, columns, 1.0f, weight, columns, c->t + across, d,
                     left || c->add_r ? 1.0f : 0.0f, c->dr + at, d);
        if (!c->da) continue;
        mra_gemm(false, true, rows, columns, d, 1.0f, c->r + at, d, c->t + across, d, 0.0f,
                 inner, columns);
#pragma omp simd
        for (size_t i = 0; i < count; i++) inner[i] *= slope[i];
        mra_gemm(false, false, rows, d, columns, 1.0f, inner, columns, c->b + across, d,
                 left || c->add_a ? 1.0f : 0.0f, c->da + at, d);
    }
}

static mra_status run(mra_device *device, angle_context *context, mra_error *err)
{
    context->blocks = mra_items((size_t)context->form->n, ROWS);
    context->scratch = mra_cpu_scratch(device, (size_t)device->threads * 4 * TILE,
                                       sizeof(float), "angular attention", err);
    if (!context->scratch) return MRA_NO_MEMORY;
    mra_cpu_loop(device, context->form->matrices * context->blocks, angle_item, context);
    return MRA_OK;
}

mra_status mra_cpu_angular_attention(mra_device *device, const mra_angle_form *form,
                                     const float *q, const float *k, const float *v, float *y,
                                     mra_error *err)
{
    return run(device, &(angle_context){.form = form, .a = q, .b = k, .t = v, .dr = y}, err);
}

mra_status mra_cpu_angular_attention_backward(mra_device *device, const mra_angle_form *form,
                                              const float *a, const float *b, const float *r,
                                              const float *t, float *da, bool add_a, float *dr,
                                              bool add_r, mra_error *err)
{
    return run(device,
               &(angle_context){.form = form,
                                .a = a,
                                .b = b,
                                .r = r,
                                .t = t,
                                .da = da,
                                .dr = dr,
                                .add_a = add_a,
                                .add_r = add_r},
               err);
}
