// # Sums over the pairs outside a band, or inside
//
// With random features the weight of a pair is an inner product, $a_i^\top b_j$, and a sum over
// *all* keys needs no pairs: $\sum_j (a_i^\top b_j) c_j = a_i^\top \big(\sum_j b_j c_j^\top\big)$.
// Where the pairs near the diagonal are computed exactly instead (method_scatterbrain.c), what is
// needed is the sum over the other pairs,
//
// $$y_i = \sum_{|i - j| > w} (a_i^\top b_j)\, c_j .$$
//
// It could be had as the sum over all less that over the band, but features are positive, and the
// difference of two large numbers would keep only the digits in which they differ; it might even
// come out negative. Here nothing is subtracted: tokens are cut into blocks, blocks that lie wholly
// left of the band of block $x$ are collected in a state $P = \sum_j b_j c_j^\top$ which grows as
// $x$ does, those to the right in another on the way back, and the few blocks that the edge of the
// band cuts are computed pair by pair.
//
// The gradients are sums of the same kind with the roles exchanged; for $b$ and $c$ the sides of
// the band are too:
//
// $$da_i = \sum (dy_i^\top c_j)\, b_j, \qquad db_j = \sum (c_j^\top dy_i)\, a_i, \qquad
//   dc_j = \sum (b_j^\top a_i)\, dy_i .$$
//
// A band may reach less far to the right than to the left. Who does want the difference, to compute
// what others have computed by it, gets the sum over the band as well: blocks that the band
// touches, pair by pair.
//
// Cost, for widths $p$ of $a$ and $b$ and $r$ of $c$: $8 n p r$ operations for the states and
// $2 (p + r) n$ for every key in the blocks at the edge, of which there are about $2 w$ and two
// blocks. An item of the parallel loop is a matrix.

#include <stdlib.h>
#include <string.h>

#include "tensor/cpu.h"
#include "tensor/softmax_tile.h"

enum { SIDE = 64 }; // of a block

typedef struct outside_pass {
    const mra_band_form *form;
    const float *a, *b, *c;
    float *y;
    bool add;
    int blocks;
    mra_small_gemm state[2];   // P += B^T C; the index: is the block the last, shorter one
    mra_small_gemm far[2];     // Y += A P
    mra_small_gemm weights[2]; // W^T = B A^T
    mra_small_gemm near[2][2]; // Y += (W^T)^T C; [keys][rows]
    float *memory;             // [threads][share]
    size_t share;
} outside_pass;

static void prepare(outside_pass *pass)
{
    const int n = pass->form->n, width = pass->form->width, values = pass->form->values;
    const int count[2] = {SIDE, n - (pass->blocks - 1) * SIDE};
    for (int last = 0; last < 2; last++) {
        pass->state[last] = mra_small_gemm_prepare_transposed(width, values, count[last], width,
                                                              values, values, 1.0f);
        pass->far[last] =
            mra_small_gemm_prepare(count[last], values, width, width, values, values, 1.0f);
        pass->weights[last] =
            mra_small_gemm_prepare(count[last], SIDE, width, width, SIDE, SIDE, 0.0f);
        for (int row = 0; row < 2; row++)
            pass->near[last][row] = mra_small_gemm_prepare_transposed(
                count[row], values, count[last], SIDE, values, values, 1.0f);
    }
}

// One thread's memory and the matrix that it works on.
typedef struct outside_work {
    const outside_pass *pass;
    const float *a, *b, *c;
    float *y;
    float *state, *turned, *weight; // [width][values], [width][SIDE], [SIDE][SIDE]
} outside_work;

static void collect(const outside_work *work, int block)
{
    const mra_tile_range keys = mra_tile_range_of(work->pass->form->n, SIDE, block);
    const size_t first = (size_t)keys.first;
    mra_small_gemm_run(&work->pass->state[keys.last_and_short],
                       work->b + first * (size_t)work->pass->form->width,
                       work->c + first * (size_t)work->pass->form->values, work->state);
}

static void add_far(const outside_work *work, mra_tile_range rows)
{
    const size_t first = (size_t)rows.first;
    mra_small_gemm_run(&work->pass->far[rows.last_and_short],
                       work->a + first * (size_t)work->pass->form->width, work->state,
                       work->y + first * (size_t)work->pass->form->values);
}

static long between(long at, long count)
{
    return at < 0 ? 0 : at > count ? count : at;
}

// A block of keys pair by pair; those that do not count get weight 0.
static void add_near(const outside_work *work, mra_tile_range rows, int block)
{
    const mra_band_form *form = work->pass->form;
    const mra_tile_range keys = mra_tile_range_of(form->n, SIDE, block);
    const size_t first = (size_t)keys.first;
    mra_small_gemm_run(&work->pass->weights[keys.last_and_short],
                       work->b + first * (size_t)form->width, work->turned, work->weight);
    for (int y = 0; y < keys.count; y++) {
        const long middle = (long)keys.first + y - rows.first;
        const long begin = between(middle - form->right, rows.count);
        const long end =
            between(middle + form->left + 1, rows.count); // of the rows in the band
        float *weight = work->weight + (size_t)y * SIDE;
        for (long i = form->inside ? 0 : begin; i < (form->inside ? begin : end); i++)
            weight[i] = 0.0f;
        for (long i = end; form->inside && i < rows.count; i++) weight[i] = 0.0f;
    }
    mra_small_gemm_run(&work->pass->near[keys.last_and_short][rows.last_and_short],
                       work->weight, work->c + first * (size_t)form->values,
                       work->y + (size_t)rows.first * (size_t)form->values);
}

// Whether no pair of blocks is within the band, the keys being `apart` blocks to the right of the
// rows (left, if negative), or all are.
static bool wholly_outside(const mra_band_form *form, int apart)
{
    return (long)(abs(apart) - 1) * SIDE + 1 > (apart < 0 ? form->left : form->right);
}

static bool wholly_inside(const mra_band_form *form, int apart)
{
    const long reach = (long)SIDE - 1 + (long)abs(apart) * SIDE;
    return reach <= (apart < 0 ? form->left : form->right) &&
           (apart != 0 || reach <= form->left);
}

// Rows downwards, with the state of the blocks to their left and the blocks at the edge; then
// upwards with those to their right.
static void outside_item(void *context, size_t item, int thread)
{
    const outside_pass *pass = context;
    const mra_band_form *form = pass->form;
    const size_t n = (size_t)form->n, width = (size_t)form->width,
                 values = (size_t)form->values;
    float *state = pass->memory + (size_t)thread * pass->share;
    const outside_work work = {.pass = pass,
                               .a = pass->a + item * n * width,
                               .b = pass->b + item * n * width,
                               .c = pass->c + item * n * values,
                               .y = pass->y + item * n * values,
                               .state = state,
                               .turned = state + (width * values + 15) / 16 * 16,
                               .weight =
                                   state + (width * values + 15) / 16 * 16 + width * SIDE};
    if (!pass->add) memset(work.y, 0, n * values * sizeof *work.y);
    memset(state, 0, width * values * sizeof *state);
    for (int x = 0, next = 0; x < pass->blocks; x++) {
        const mra_tile_range rows = mra_tile_range_of(form->n, SIDE, x);
        while (next < x && wholly_outside(form, next - x)) {
            if (!form->inside) collect(&work, next);
            next++;
        }
        if (next > 0 && !form->inside) add_far(&work, rows);
        mra_tile_transpose(work.turned, SIDE, work.a + (size_t)rows.first * width, rows.count,
                           form->width, 1.0f);
        for (int y = next; y < pass->blocks && (y <= x || !wholly_outside(form, y - x)); y++)
            if (form->inside || !wholly_inside(form, y - x)) add_near(&work, rows, y);
    }
    if (form->inside) return;
    memset(state, 0, width * values * sizeof *state);
    for (int x = pass->blocks - 1, next = x; x >= 0; x--) {
        while (next > x && wholly_outside(form, next - x)) collect(&work, next--);
        if (next < pass->blocks - 1) add_far(&work, mra_tile_range_of(form->n, SIDE, x));
    }
}

mra_status mra_cpu_band_sum(mra_device *device, const mra_band_form *form, const float *a,
                            const float *b, const float *c, float *y, bool add, mra_error *err)
{
    if (!form->matrices || form->n < 1) return MRA_OK;
    const size_t width = (size_t)form->width, values = (size_t)form->values;
    outside_pass pass = {.form = form, .a = a, .b = b, .c = c, .y = y, .add = add};
    pass.blocks = (form->n + SIDE - 1) / SIDE;
    pass.share = (width * values + 15) / 16 * 16 + width * SIDE + SIDE * SIDE;
    pass.memory = mra_cpu_scratch(device, (size_t)device->threads * pass.share, sizeof(float),
                                  "outside band", err);
    if (!pass.memory) return MRA_NO_MEMORY;
    prepare(&pass);
    mra_cpu_loop(device, form->matrices, outside_item, &pass);
    return MRA_OK;
}
