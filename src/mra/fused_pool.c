// ## Blocks and their pooled rows
//
// Pooling replaces the $s$ queries of a block by their mean, $\tilde Q_x =
// \frac1{c_x}\sum_{i\in x} q_i$, and likewise the keys; values are summed, because a box hands
// its rows $\mu$ times the *sum* of the values (paper, "Coefficient Approximation"). The means
// run over unmasked tokens only; $c_x$ counts them. One pass over $q$, $k$ and $v$: $O(nd)$
// operations, and it is bound by memory, not by arithmetic.
//
// The same pass decides where the small products will read a block. They want $s$ rows without
// gaps, and rows that hold no stray numbers. A block of $s$ unmasked tokens in a row is used
// where it lies. Any other, be it ragged, masked in part or scattered by a grid, is copied,
// with zeros in the place of what is missing: zero rows change no sum, and whatever padding
// contains, even NaN, stays outside.

#include "mra/fused.h"

#include <string.h>

#include "core/parallel.h"
#include "mra/fused_lanes.h"

// Marks the tokens of block x that exist and are not masked, and counts them.
static int mark_present(mra_fused_head *head, int x)
{
    const mra_fused_plan *plan = head->plan;
    uint8_t *present = head->present + (size_t)x * plan->scale;
    int count = 0;
    for (int r = 0; r < plan->scale; r++) {
        int token = mra_fused_token(plan, x, r);
        present[r] = token >= 0 && (!head->mask || head->mask[token] != 0);
        count += present[r];
    }
    return count;
}

// Copies the present rows of block x, zeros for the others.
static const float *copy_rows(const mra_fused_head *head, const float *array, int x, float *to)
{
    const mra_fused_plan *plan = head->plan;
    const uint8_t *present = head->present + (size_t)x * plan->scale;
    size_t d = (size_t)plan->d;
    for (int r = 0; r < plan->scale; r++) {
        float *row = to + (size_t)r * d;
        if (present[r])
            memcpy(row, array + (size_t)mra_fused_token(plan, x, r) * d, d * sizeof(float));
        else
            memset(row, 0, d * sizeof(float));
    }
    return to;
}

// pooled[d] = factor * sum of the s rows.
static void sum_rows(const float *rows, int s, int d, float factor, float *pooled)
{
    for (int c = 0; c < d; c++) pooled[c] = 0;
    for (int r = 0; r < s; r++) {
        const float *row = rows + (size_t)r * d;
        for (int c = 0; c < d; c++) pooled[c] += row[c];
    }
    for (int c = 0; c < d; c++) pooled[c] *= factor;
}

typedef struct pool_loop {
    mra_fused_head *head;
    int arrays;
    bool pool;
} pool_loop;

static void pool_block(void *context, size_t item, int thread)
{
    (void)thread;
    const pool_loop *loop = context;
    mra_fused_head *head = loop->head;
    const mra_fused_plan *plan = head->plan;
    mra_fused_record *record = head->record;
    int x = (int)item, s = plan->scale, d = plan->d;
    size_t size = (size_t)s * d;
    int count = mark_present(head, x);

    for (int a = 0; a < loop->arrays; a++) {
        if (count == s && !plan->order)
            head->rows[a][x] = head->array[a] + item * size;
        else
            head->rows[a][x] =
                copy_rows(head, head->array[a], x, head->packed[a] + item * size);
    }
    if (!loop->pool) return;
    record->tokens[x] = count;
    record->weight[x] = (float)count;
    float share = count > 0 ? 1 / (float)count : 0;
    sum_rows(head->rows[MRA_FUSED_Q][x], s, d, share, record->query + item * d);
    sum_rows(head->rows[MRA_FUSED_K][x], s, d, share, record->key + item * d);
    sum_rows(head->rows[MRA_FUSED_V][x], s, d, 1, record->value + item * d);
}

void mra_fused_pool(mra_fused_head *head, int arrays, bool pool)
{
    pool_loop loop = {head, arrays, pool};
    mra_parallel_for(head->threads, (size_t)head->plan->blocks, pool_block, &loop);
}

bool mra_fused_all_finite(const float *values, size_t count)
{
    const uint32_t infinite = 0x7f800000u; // all exponent bits: infinite or NaN
    uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (size_t i = 0; i < count; i++) {
        union {
            float number;
            uint32_t bits;
        } value = {values[i]};
        uint32_t magnitude = value.bits & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest < infinite;
}

// Transposition, so that the queries of a block become the columns of its tiles. It costs $sd$
// moves once per row of blocks, against $2 s^2 d$ operations for each of its boxes.
void mra_transpose(const float *rows, int count, int d, float factor, float *to, int stride)
{
    for (int c = 0; c < d; c++) {
        float *column = to + (size_t)c * stride;
        for (int r = 0; r < count; r++) column[r] = factor * rows[(size_t)r * d + c];
        for (int r = count; r < stride; r++) column[r] = 0;
    }
}
