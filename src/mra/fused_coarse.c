// ## The coarse part
//
// With $b=n/s$ blocks there are $b^2$ coarse logits $c_{xy}=\langle\tilde Q_x,\tilde
// K_y\rangle/\sqrt d$: one matrix product of $2b^2d$ operations, $s^2$ times fewer than the
// full one. They are needed twice, to rank the boxes and to weigh those that stay coarse.
//
// Box $(x,y)$ adds, for each of the rows of $x$, $c_y\,e^{c_{xy}}$ to the normaliser ($c_y$
// keys, one coefficient) and $e^{c_{xy}} \sum_{j\in y} v_j$ to the numerator. Neither depends
// on the row inside the block, so all rows share them, and for all blocks at once they are
// again one product, $W\,\tilde V$ with $W_{xy}=e^{c_{xy}-M_x}$ and $M_x=\max_y c_{xy}$ over
// the boxes of the row that stay coarse; $W_{xy}=0$ for those that are refined and for blocks
// without tokens. The forward pass of the rows then starts its running maximum at $M_x$.
//
// The backward pass needs no new idea. With $w_{iy}=e^{c_{xy}-m_i}/D_i = W_{xy}\,g_i$,
// $g_i=e^{M_x-m_i}/D_i$, for row $i$ of block $x$, and $\partial L/\partial c_{xy}=\sum_{i\in
// x} w_{iy}\,(\langle dz_i,\tilde V_y\rangle-c_y\langle dz_i,z_i\rangle)$, the sums over $i$
// come first:
// $$ G_x=\sum_{i\in x} g_i\,dz_i,\qquad h_x=\sum_{i\in x} g_i\langle dz_i,z_i\rangle,\qquad
//    C_{xy}=W_{xy}\,(\langle G_x,\tilde V_y\rangle-c_y h_x)/\sqrt d, $$
// $$ d\tilde V=W^\top G,\qquad d\tilde Q=C\tilde K,\qquad d\tilde K=C^\top\tilde Q, $$
// four products of $2b^2d$ operations. Spreading to tokens is the transpose of pooling: each
// query of $x$ gets $d\tilde Q_x/c_x$, each key of $y$ gets $d\tilde K_y/c_y$, each value of
// $y$ gets $d\tilde V_y$.
//
// The matrices are cut into squares of 64 boxes for the small products of tensor/gemm.h. Rows
// of squares are the items of the parallel loops (columns of squares for what is summed over
// rows), so the order of every sum is fixed.

#include "mra/fused.h"

#include <math.h>
#include <string.h>

#include "core/parallel.h"
#include "mra/fused_lanes.h"

enum { SQUARE = MRA_FUSED_SQUARE };

static int squares(const mra_fused_plan *plan)
{
    return (plan->blocks + SQUARE - 1) / SQUARE;
}

// Rows (or columns) of square i, and which of the two prepared sizes that is: 1 for a ragged
// last one.
static int square_length(const mra_fused_plan *plan, int i)
{
    int left = plan->blocks - i * SQUARE;
    return left < SQUARE ? left : SQUARE;
}

static int square_size(const mra_fused_plan *plan, int i)
{
    return square_length(plan, i) < SQUARE;
}

void mra_fused_coarse_prepare(mra_fused_plan *plan)
{
    int size[2] = {SQUARE, plan->blocks % SQUARE}, blocks = plan->blocks, d = plan->d;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            plan->outer[i][j] =
                mra_small_gemm_prepare(size[i], size[j], d, d, SQUARE, blocks, 0);
            plan->along[i][j] = mra_small_gemm_prepare(size[i], d, size[j], blocks, d, d, 1);
            plan->across[i][j] =
                mra_small_gemm_prepare_transposed(size[i], d, size[j], blocks, d, d, 1);
        }
}

// panel[d, 64] = factor * rows[length, d]^T, for every square: the right-hand side of an outer
// product.
typedef struct panel_loop {
    const mra_fused_plan *plan;
    const float *rows;
    float factor, *panels;
} panel_loop;

static void pack_panel(void *context, size_t item, int thread)
{
    (void)thread;
    const panel_loop *loop = context;
    size_t size = (size_t)SQUARE * loop->plan->d;
    mra_transpose(loop->rows + item * size, square_length(loop->plan, (int)item), loop->plan->d,
                  loop->factor, loop->panels + item * size, SQUARE);
}

static void pack_panels(const mra_fused_head *head, const float *rows, float factor,
                        float *panels)
{
    panel_loop loop = {head->plan, rows, factor, panels};
    mra_parallel_for(head->threads, (size_t)squares(head->plan), pack_panel, &loop);
}

// Row i of squares of matrix[b, b] = left[b, d] times the rows that the panels hold.
static void outer_rows(const mra_fused_plan *plan, int i, const float *left,
                       const float *panels, float *matrix)
{
    size_t blocks = (size_t)plan->blocks, d = (size_t)plan->d, first = (size_t)i * SQUARE;
    for (int j = 0; j < squares(plan); j++) {
        size_t column = (size_t)j * SQUARE;
        mra_small_gemm_run(&plan->outer[square_size(plan, i)][square_size(plan, j)],
                           left + first * d, panels + column * d,
                           matrix + first * blocks + column);
    }
}

// Row i of squares of out[b, d] = matrix[b, b] right[b, d].
static void along_rows(const mra_fused_plan *plan, int i, const float *matrix,
                       const float *right, float *out)
{
    size_t blocks = (size_t)plan->blocks, d = (size_t)plan->d, first = (size_t)i * SQUARE;
    memset(out + first * d, 0, (size_t)square_length(plan, i) * d * sizeof *out);
    for (int j = 0; j < squares(plan); j++) {
        size_t column = (size_t)j * SQUARE;
        mra_small_gemm_run(&plan->along[square_size(plan, i)][square_size(plan, j)],
                           matrix + first * blocks + column, right + column * d,
                           out + first * d);
    }
}

// Row i of squares of out[b, d] = matrix[b, b]^T right[b, d].
static void across_rows(const mra_fused_plan *plan, int i, const float *matrix,
                        const float *right, float *out)
{
    size_t blocks = (size_t)plan->blocks, d = (size_t)plan->d, first = (size_t)i * SQUARE;
    memset(out + first * d, 0, (size_t)square_length(plan, i) * d * sizeof *out);
    for (int j = 0; j < squares(plan); j++) {
        size_t row = (size_t)j * SQUARE;
        mra_small_gemm_run(&plan->across[square_size(plan, i)][square_size(plan, j)],
                           matrix + row * blocks + first, right + row * d, out + first * d);
    }
}

// ### Logits
static void logit_rows(void *context, size_t item, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    size_t blocks = (size_t)plan->blocks;
    outer_rows(plan, (int)item, head->record->query, head->key_panels, head->logit);
    if (!mra_fused_all_finite(head->logit + item * SQUARE * blocks,
                              (size_t)square_length(plan, (int)item) * blocks)) {
#pragma omp atomic write
        head->finite = false;
    }
}

void mra_fused_coarse_logits(mra_fused_head *head)
{
    pack_panels(head, head->record->key, head->plan->logit_scale, head->key_panels);
    mra_parallel_for(head->threads, (size_t)squares(head->plan), logit_rows, head);
}

// ### Weights
//
// Turns the coarse logits of row x into weights relative to their maximum; returns the maximum.
static float weigh_row(const mra_fused_head *head, int x, bool padded)
{
    const mra_fused_record *record = head->record;
    size_t blocks = (size_t)head->plan->blocks;
    float *row = head->logit + (size_t)x * blocks;
    if (padded)
        for (size_t y = 0; y < blocks; y++)
            row[y] = record->tokens[y] == 0 || record->tokens[x] == 0 ? -INFINITY : row[y];
    for (int32_t e = record->row_start[x]; e < record->row_start[x + 1]; e++)
        row[record->column[e]] = -INFINITY;

    float largest = mra_row_max(row, blocks);
    if (largest == -INFINITY)
        memset(row, 0, blocks * sizeof *row);
    else
        mra_exp_row(row, blocks, largest);
    return largest;
}

static void weigh_rows(const mra_fused_head *head, int i)
{
    const mra_fused_record *record = head->record;
    int blocks = head->plan->blocks, first = i * SQUARE;
    bool padded = false;
    for (int y = 0; y < blocks; y++) padded = padded || record->tokens[y] == 0;
    for (int x = first; x < first + square_length(head->plan, i); x++) {
        record->coarse_max[x] = weigh_row(head, x, padded);
        const float *row = head->logit + (size_t)x * blocks;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int y = 0; y < blocks; y++) sum += row[y] * record->weight[y];
        head->coarse_sum[x] = sum;
    }
}

static void forward_rows(void *context, size_t item, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    weigh_rows(head, (int)item);
    along_rows(head->plan, (int)item, head->logit, head->record->value, head->coarse_value);
}

void mra_fused_coarse_forward(mra_fused_head *head)
{
    mra_parallel_for(head->threads, (size_t)squares(head->plan), forward_rows, head);
}

// ### Gradients
//
// For a row of squares: the weights once more (they are not kept between the passes), the
// gradients $C$ of the logits in place of the ranking, and from them the gradients of the
// pooled queries.
static void backward_rows(void *context, size_t item, int thread)
{
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    int i = (int)item, first = i * SQUARE;
    size_t blocks = (size_t)plan->blocks;
    logit_rows(head, item, thread);
    weigh_rows(head, i);
    outer_rows(plan, i, head->pull, head->value_panels, head->score);
    for (int x = first; x < first + square_length(plan, i); x++) {
        const float *weight = head->logit + (size_t)x * blocks;
        float *gradient = head->score + (size_t)x * blocks, product = head->pull_product[x];
        for (size_t y = 0; y < blocks; y++)
            gradient[y] =
                plan->logit_scale * weight[y] * (gradient[y] - product * record->weight[y]);
    }
    along_rows(plan, i, head->score, record->key, head->dquery);
}

// For a column of squares: gradients of pooled keys and values, summed over all rows.
static void backward_columns(void *context, size_t item, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    across_rows(plan, (int)item, head->score, head->record->query, head->dkey);
    across_rows(plan, (int)item, head->logit, head->pull, head->dvalue);
}

void mra_fused_coarse_backward(mra_fused_head *head)
{
    size_t items = (size_t)squares(head->plan);
    pack_panels(head, head->record->key, head->plan->logit_scale, head->key_panels);
    pack_panels(head, head->record->value, 1, head->value_panels);
    mra_parallel_for(head->threads, items, backward_rows, head);
    mra_parallel_for(head->threads, items, backward_columns, head);
}
