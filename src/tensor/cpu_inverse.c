// What iterations towards the inverse of many small matrices need beside products: a first guess with a scale
// that depends on the matrix, c I - X, and a guard against growth without bound.

#include <math.h>
#include <string.h>

#include "tensor/cpu.h"
#include "tensor/gemm.h"

// ---- c I - X --------------------------------------------------------------------------------

mra_status mra_cpu_identity_minus(mra_device *device, size_t groups, int m, float factor,
                                  const float *x, float *y, mra_error *err)
{
    const size_t side = (size_t)m;
    mra_status status = mra_cpu_scale(device, groups * side * side, -1.0f, x, y, false, err);
    for (size_t row = 0; row < groups * side; row++) y[row * side + row % side] += factor;
    return status;
}

// ---- The first guess ------------------------------------------------------------------------

enum {
    PLACES = 4
}; // of a group: group and row of the largest row sum, group and column of the column sum

typedef struct guess_context {
    int rule;
    size_t m;
    const float *x, *dy, *scale;
    float *y,
        *sums; // sums: [groups][2], the largest sums of rows and of columns; backward: <dy, x^T>
    int32_t *places;
} guess_context;

static void measure_item(void *context, size_t group, int thread)
{
    (void)thread;
    const guess_context *c = context;
    const float *x = c->x + group * c->m * c->m;
    float *most = c->sums + 2 * group;
    int32_t *place = c->places + PLACES * group;
    most[0] = most[1] = -1;
    for (size_t line = 0; line < c->m; line++) {
        float row = 0, column = 0;
        for (size_t j = 0; j < c->m; j++) {
            row += fabsf(x[line * c->m + j]);
            column += fabsf(x[j * c->m + line]);
        }
        if (row > most[0]) most[0] = row, place[1] = (int32_t)line;
        if (column > most[1]) most[1] = column, place[3] = (int32_t)line;
    }
    place[0] = place[2] = (int32_t)group;
}

// The largest sums of all groups, with their places, for each group.
static void join(guess_context *c, size_t groups)
{
    for (int which = 0; which < 2; which++) {
        size_t best = 0;
        for (size_t g = 1; g < groups; g++)
            if (c->sums[2 * g + (size_t)which] > c->sums[2 * best + (size_t)which]) best = g;
        const float most = c->sums[2 * best + (size_t)which];
        const int32_t place = c->places[PLACES * best + 2 * (size_t)which + 1];
        for (size_t g = 0; g < groups; g++) {
            c->sums[2 * g + (size_t)which] = most;
            c->places[PLACES * g + 2 * (size_t)which] = (int32_t)best;
            c->places[PLACES * g + 2 * (size_t)which + 1] = place;
        }
    }
}

// |I - scale X X|_1 for a symmetric X; `square`: room for m x m.
static float distance_from_identity(const float *x, size_t m, float scale, float *square)
{
    const int side = (int)m;
    float most = 0;
    mra_gemm(false, false, side, side, side, scale, x, side, x, side, 0, square, side);
    for (size_t j = 0; j < m; j++) {
        float sum = 0;
        for (size_t i = 0; i < m; i++) sum += fabsf((i == j ? 1 : 0) - square[i * m + j]);
        if (!(sum <= most)) most = sum;
    }
    return most;
}

enum { HALVINGS = 10 };

// Halves scale[first .. first + count) together until none is farther from the identity than 1.01.
static void halve(const guess_context *c, size_t first, size_t count, float *scale,
                  float *square)
{
    for (int k = 0; k < HALVINGS; k++) {
        float worst = 0;
        for (size_t g = first; g < first + count; g++) {
            const float distance =
                distance_from_identity(c->x + g * c->m * c->m, c->m, scale[g], square);
            if (!(distance <= worst)) worst = distance;
        }
        if (worst <= 1.01f) return;
        for (size_t g = first; g < first + count; g++) scale[g] *= 0.5f;
    }
}

static void guess_item(void *context, size_t group, int thread)
{
    (void)thread;
    const guess_context *c = context;
    const float *x = c->x + group * c->m * c->m;
    float *y = c->y + group * c->m * c->m;
    for (size_t i = 0; i < c->m; i++)
        for (size_t j = 0; j < c->m; j++) y[i * c->m + j] = c->scale[group] * x[j * c->m + i];
}

mra_status mra_cpu_inverse_guess(mra_device *device, int rule, bool joint, size_t groups, int m,
                                 const float *x, float *y, float *scale, int32_t *places,
                                 mra_error *err)
{
    guess_context c = {
        .rule = rule, .m = (size_t)m, .x = x, .y = y, .scale = scale, .places = places};
    c.sums = mra_cpu_scratch(device, 2 * groups + c.m * c.m, sizeof(float),
                             "first guess of an inverse", err);
    if (!c.sums) return MRA_NO_MEMORY;
    float *square = c.sums + 2 * groups;
    mra_cpu_loop(device, groups, measure_item, &c);
    if (joint) join(&c, groups);
    for (size_t g = 0; g < groups; g++) {
        const float row = c.sums[2 * g], column = c.sums[2 * g + 1];
        scale[g] = rule == MRA_INVERSE_NORMS    ? 1 / (row * column)
                   : rule == MRA_INVERSE_SQUARE ? 1 / (row * row)
                                                : 2 / (row * row);
    }
    if (rule == MRA_INVERSE_HALVED && joint) halve(&c, 0, groups, scale, square);
    for (size_t g = 0; g < groups && rule == MRA_INVERSE_HALVED && !joint; g++)
        halve(&c, g, 1, scale, square);
    mra_cpu_loop(device, groups, guess_item, &c);
    return MRA_OK;
}

static void guess_back_item(void *context, size_t group, int thread)
{
    (void)thread;
    const guess_context *c = context;
    const float *x = c->x + group * c->m * c->m, *dy = c->dy + group * c->m * c->m;
    float *dx = c->y + group * c->m * c->m, inner = 0;
    for (size_t i = 0; i < c->m; i++)
        for (size_t j = 0; j < c->m; j++) {
            inner += dy[i * c->m + j] * x[j * c->m + i];
            dx[j * c->m + i] += c->scale[group] * dy[i * c->m + j];
        }
    c->sums[group] = inner;
}

// dx += factor sign(x) along one row or column.
static void add_signs(const guess_context *c, const int32_t *place, bool row, float factor)
{
    const size_t start = (size_t)place[0] * c->m * c->m;
    for (size_t j = 0; j < c->m; j++) {
        const size_t at =
            start + (row ? (size_t)place[1] * c->m + j : j * c->m + (size_t)place[1]);
        c->y[at] += c->x[at] > 0 ? factor : c->x[at] < 0 ? -factor : 0;
    }
}

static float sum_along(const guess_context *c, const int32_t *place, bool row)
{
    const size_t start = (size_t)place[0] * c->m * c->m;
    float sum = 0;
    for (size_t j = 0; j < c->m; j++)
        sum += fabsf(
            c->x[start + (row ? (size_t)place[1] * c->m + j : j * c->m + (size_t)place[1])]);
    return sum;
}

mra_status mra_cpu_inverse_guess_backward(mra_device *device, int rule, size_t groups, int m,
                                          const float *x, const float *scale,
                                          const int32_t *places, const float *dy, float *dx,
                                          mra_error *err)
{
    guess_context c = {.m = (size_t)m, .x = x, .dy = dy, .scale = scale, .y = dx};
    c.sums =
        mra_cpu_scratch(device, groups, sizeof(float), "first guess of an inverse, back", err);
    if (!c.sums) return MRA_NO_MEMORY;
    mra_cpu_loop(device, groups, guess_back_item, &c);
    // scale = 1 / (row column), or a constant over row^2: both fall with the deciding sums.
    for (size_t g = 0; g < groups; g++) {
        const int32_t *place = places + PLACES * g;
        const float slope = -scale[g] * c.sums[g];
        const bool norms = rule == MRA_INVERSE_NORMS;
        add_signs(&c, place, true, (norms ? 1 : 2) * slope / sum_along(&c, place, true));
        if (norms) add_signs(&c, place + 2, false, slope / sum_along(&c, place + 2, false));
    }
    return MRA_OK;
}

// ---- The guard ------------------------------------------------------------------------------

mra_status mra_cpu_keep_bounded(mra_device *device, bool joint, size_t groups, size_t count,
                                float limit, const float *a, const float *b, float *y,
                                int32_t *chosen, mra_error *err)
{
    bool all = true;
    (void)device, (void)err;
    for (size_t g = 0; g < groups; g++) {
        bool bounded = true;
        for (size_t i = 0; i < count; i++)
            bounded = bounded && fabsf(b[g * count + i]) <= limit;
        chosen[g] = bounded;
        all = all && bounded;
    }
    for (size_t g = 0; g < groups; g++) {
        if (joint) chosen[g] = all;
        memcpy(y + g * count, (chosen[g] ? b : a) + g * count, count * sizeof *y);
    }
    return MRA_OK;
}

mra_status mra_cpu_copy_chosen(mra_device *device, size_t groups, size_t count,
                               const int32_t *chosen, int wanted, const float *x, float *y,
                               bool add, mra_error *err)
{
    (void)device, (void)err;
    for (size_t g = 0; g < groups; g++)
        for (size_t i = g * count; i < (g + 1) * count; i++)
            y[i] = (add ? y[i] : 0) + (chosen[g] == wanted ? x[i] : 0);
    return MRA_OK;
}
