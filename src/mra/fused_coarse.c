// ## The coarse part
//
// With $b=n/s$ blocks there are $b^2$ coarse logits $c_{xy}=\langle\tilde Q_x,\tilde K_y\rangle/\sqrt d$: one matrix
// product of $2b^2d$ operations, $s^2$ times fewer than the full one. They are needed twice, to rank the boxes and to weigh
// those that stay coarse.
//
// Box $(x,y)$ adds, for each of the rows of $x$, $c_y\,e^{c_{xy}}$ to the normaliser ($c_y$ keys, one coefficient) and
// $e^{c_{xy}} \sum_{j\in y} v_j$ to the numerator. Neither depends on the row inside the block, so all rows
// share them, and for all blocks at once they are again one product, $W\,\tilde V$ with
// $W_{xy}=e^{c_{xy}-M_x}$ and $M_x=\max_y c_{xy}$ over the boxes of the row that stay coarse; $W_{xy}=0$ for those
// that are refined and for blocks without tokens. The forward pass of the rows then starts its running maximum at $M_x$.
//
// The backward pass needs no new idea. With $w_{iy}=e^{c_{xy}-m_i}/D_i = W_{xy}\,g_i$, $g_i=e^{M_x-m_i}/D_i$, for
// row $i$ of block $x$, and $\partial L/\partial c_{xy}=\sum_{i\in x} w_{iy}\,(\langle dz_i,\tilde V_y\rangle-c_y\langle
// dz_i,z_i\rangle)$, the sums over $i$ come first:
// $$ G_x=\sum_{i\in x} g_i\,dz_i,\qquad h_x=\sum_{i\in x} g_i\langle dz_i,z_i\rangle,\qquad
//    C_{xy}=W_{xy}\,(\langle G_x,\tilde V_y\rangle-c_y h_x), $$
// $$ d\tilde V=W^\top G,\qquad d\tilde Q=C\tilde K/\sqrt d,\qquad d\tilde K=C^\top\tilde Q/\sqrt d, $$
// four products of $2b^2d$ operations. Spreading to tokens is the transpose of pooling: each query of $x$ gets $d\tilde
// Q_x/c_x$, each key of $y$ gets $d\tilde K_y/c_y$, each value of $y$ gets $d\tilde V_y$.
//
// The work is cut into chunks of rows (and, for what is summed over rows, of columns) whose size does not depend on
// the number of threads.

#include "mra/fused.h"

#include <math.h>
#include <string.h>

#include "core/parallel.h"
#include "mra/selection.h"
#include "tensor/vector.h"

enum { CHUNK = 64 }; // rows or columns of boxes in an item of a loop

static size_t chunks(const mra_fused_plan *plan)
{
    return ((size_t)plan->blocks + CHUNK - 1) / CHUNK;
}

static int chunk_length(const mra_fused_plan *plan, size_t item)
{
    int left = plan->blocks - (int)item * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

// The coarse logits of a chunk of rows.
static void logit_chunk(void *context, size_t item, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    int blocks = plan->blocks, d = plan->d, rows = chunk_length(plan, item);
    size_t first = item * CHUNK;
    float *logit = head->logit + first * blocks;
    mra_gemm(false, true, rows, blocks, d, plan->logit_scale, record->query + first * d, d,
             record->key, d, 0, logit, blocks);
    if (!mra_fused_all_finite(logit, (size_t)rows * blocks)) {
#pragma omp atomic write
        head->finite = false;
    }
}

// ### Which boxes are refined
//
// The chosen boxes come as ascending indices $x\,b+y$; they become a list of columns for every row, in place. Boxes
// without a query or without a key are dropped here: when the budget is large, they may be among the chosen.
static void list_boxes(mra_fused_head *head, size_t chosen)
{
    const mra_fused_plan *plan = head->plan;
    mra_fused_record *record = head->record;
    const int32_t *tokens = record->tokens;
    int blocks = plan->blocks;
    int32_t *column = record->column;
    size_t next = 0, kept = 0;
    record->fine_entries = 0;
    for (int x = 0; x < blocks; x++) {
        size_t first = (size_t)x * blocks;
        record->row_start[x] = (int32_t)kept;
        for (; next < chosen && (size_t)column[next] < first + blocks; next++) {
            int y = (int)((size_t)column[next] - first);
            if (tokens[x] == 0 || tokens[y] == 0) continue;
            column[kept++] = y;
            record->fine_entries += (long long)tokens[x] * tokens[y];
        }
    }
    record->row_start[blocks] = (int32_t)kept;
}

// The number of boxes that have a query and a key, less those refined.
static long long count_coarse(const mra_fused_head *head)
{
    const mra_fused_plan *plan = head->plan;
    if (plan->options.sparse) return 0;
    long long blocks = 0;
    for (int x = 0; x < plan->blocks; x++) blocks += head->record->tokens[x] > 0;
    return blocks * blocks - head->record->row_start[plan->blocks];
}

void mra_fused_select(mra_fused_head *head)
{
    const mra_fused_plan *plan = head->plan;
    mra_fused_record *record = head->record;
    size_t all = (size_t)plan->blocks * plan->blocks, chosen;
    if (plan->all_refined) {
        for (size_t i = 0; i < all; i++) record->column[i] = (int32_t)i;
        chosen = all;
    } else {
        mra_parallel_for(head->threads, chunks(plan), logit_chunk, head);
        if (plan->budget > 0)
            mra_rank_boxes(&plan->options, plan->blocks, head->logit, record->tokens, head->score);
        chosen = mra_select_largest(head->score, all, plan->budget, record->column, head->order);
    }
    list_boxes(head, chosen);
    record->coarse_boxes = count_coarse(head);
}

bool mra_fused_has_coarse(const mra_fused_head *head)
{
    return head->record->coarse_boxes > 0;
}

// ### Weights
//
// Turns the coarse logits of row x into weights relative to their maximum; returns the maximum.
static float weigh_row(const mra_fused_head *head, int x)
{
    const mra_fused_record *record = head->record;
    int blocks = head->plan->blocks;
    float *row = head->logit + (size_t)x * blocks;
    for (int y = 0; y < blocks; y++)
        if (record->tokens[y] == 0 || record->tokens[x] == 0) row[y] = -INFINITY;
    for (int32_t e = record->row_start[x]; e < record->row_start[x + 1]; e++)
        row[record->column[e]] = -INFINITY;

    float largest = mra_row_max(row, (size_t)blocks);
    if (largest == -INFINITY)
        memset(row, 0, (size_t)blocks * sizeof *row);
    else
        mra_exp_row(row, (size_t)blocks, largest);
    return largest;
}

static void weigh_chunk(const mra_fused_head *head, size_t item)
{
    const mra_fused_record *record = head->record;
    int blocks = head->plan->blocks;
    int first = (int)item * CHUNK, end = first + chunk_length(head->plan, item);
    for (int x = first; x < end; x++) {
        record->coarse_max[x] = weigh_row(head, x);
        const float *row = head->logit + (size_t)x * blocks;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int y = 0; y < blocks; y++) sum += row[y] * record->weight[y];
        head->coarse_sum[x] = sum;
    }
}

static void forward_chunk(void *context, size_t item, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    int blocks = head->plan->blocks, d = head->plan->d;
    size_t first = item * CHUNK;
    weigh_chunk(head, item);
    mra_gemm(false, false, chunk_length(head->plan, item), d, blocks, 1,
             head->logit + first * blocks, blocks, head->record->value, d, 0,
             head->coarse_value + first * d, d);
}

void mra_fused_coarse_forward(mra_fused_head *head)
{
    mra_parallel_for(head->threads, chunks(head->plan), forward_chunk, head);
}

// ### Gradients
//
// A chunk of rows: the weights once more (they are not kept between the passes), the gradients $C$ of the logits in place
// of the ranking, and from them the gradients of the pooled queries.
static void backward_rows(void *context, size_t item, int thread)
{
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    int blocks = plan->blocks, d = plan->d, rows = chunk_length(plan, item);
    size_t first = item * CHUNK;
    float *gradient = head->score + first * blocks;
    logit_chunk(head, item, thread);
    weigh_chunk(head, item);
    mra_gemm(false, true, rows, blocks, d, 1, head->pull + first * d, d, record->value, d, 0,
             gradient, blocks);
    for (int x = 0; x < rows; x++) {
        const float *weight = head->logit + (first + x) * blocks;
        float *row = gradient + (size_t)x * blocks, product = head->pull_product[first + x];
        for (int y = 0; y < blocks; y++)
            row[y] = weight[y] * (row[y] - product * record->weight[y]);
    }
    mra_gemm(false, false, rows, d, blocks, plan->logit_scale, gradient, blocks, record->key, d, 0,
             head->dquery + first * d, d);
}

// A chunk of columns: gradients of pooled keys and values, summed over all rows.
static void backward_columns(void *context, size_t item, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    int blocks = plan->blocks, d = plan->d, columns = chunk_length(plan, item);
    size_t first = item * CHUNK;
    mra_gemm(true, false, columns, d, blocks, plan->logit_scale, head->score + first, blocks,
             head->record->query, d, 0, head->dkey + first * d, d);
    mra_gemm(true, false, columns, d, blocks, 1, head->logit + first, blocks, head->pull, d, 0,
             head->dvalue + first * d, d);
}

void mra_fused_coarse_backward(mra_fused_head *head)
{
    mra_parallel_for(head->threads, chunks(head->plan), backward_rows, head);
    mra_parallel_for(head->threads, chunks(head->plan), backward_columns, head);
}
