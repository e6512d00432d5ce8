// ## What the fused path prepares
//
// Nothing is allocated while attention runs: shape and options fix the size of every buffer,
// and one block of memory is laid out once. The two functions that lay it out are each called
// twice, first without memory, to count.
//
// For a head of $n$ tokens in $b = n/s$ blocks, the workspace holds $4 b^2$ numbers (coarse
// logits, their ranking, the scratch of the selection; later their gradients), some $O(n)$, and
// room for copies of $q$, $k$, $v$ and $dz$. That room is touched only for blocks that cannot
// be used where they lie (ragged, masked in part, or permuted by a grid), so without those it
// takes addresses and no memory. What has to survive from the forward to the backward pass is
// small: pooled rows ($3nd/s$), the list of refined boxes, and two numbers a query.

#include "mra/fused.h"

#include <string.h>

#include "mra/fused_lanes.h"
#include "mra/layout.h"
#include "mra/selection.h"

enum {
    TILE_OF_EXACT = 32,    // for R = {1} blocks are no more than a way to cut the loops
    CHUNK_FLOATS = 16384,  // logits of a chunk of tiles: 64 KiB, a part of a core's cache
    LARGEST_BLOCKS = 46340 // so that the index of a box fits an int32_t
};

bool mra_fused_takes(const mra_options *options)
{
    if (options->scales == 1) return true;
    return options->scales == 2 && options->scale[0] <= MRA_FUSED_LARGEST;
}

mra_status mra_fused_plan_make(mra_fused_plan *plan, mra_shape shape,
                               const mra_options *options, const int32_t *order, mra_error *err)
{
    int s = options->scales == 1 ? TILE_OF_EXACT : options->scale[0];
    int d = shape.d, blocks = (shape.n - 1) / s + 1;
    if (blocks > LARGEST_BLOCKS)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "scale: %d blocks of %d tokens, expected at most %d blocks; use larger blocks",
            blocks, s, LARGEST_BLOCKS);

    int lanes = (s + MRA_LANES - 1) / MRA_LANES * MRA_LANES;
    size_t all = (size_t)blocks * blocks;
    *plan = (mra_fused_plan){.options = *options, .n = shape.n, .d = d};
    plan->scale = s;
    plan->blocks = blocks;
    plan->lanes = lanes;
    plan->chunk = CHUNK_FLOATS / (s * lanes) > 1 ? CHUNK_FLOATS / (s * lanes) : 1;
    plan->budget = options->scales == 1 ? all : mra_refinement_budget(options, blocks, 1, all);
    plan->all_refined = plan->budget == all;
    plan->scattered = mra_fused_scattered(shape.n, d);
    plan->logit_scale = (float)(options->logit_scale != 0 ? options->logit_scale : 1 / sqrt(d));
    plan->order = order;
    mra_fused_products_prepare(plan);
    mra_fused_coarse_prepare(plan);
    return MRA_OK;
}

static float *take_floats(mra_layout *memory, size_t rows, size_t width)
{
    return mra_layout_take(memory, rows, width * sizeof(float));
}

size_t mra_fused_record_place(mra_fused_record *record, const mra_fused_plan *plan,
                              void *memory)
{
    mra_layout m = {.memory = memory};
    size_t blocks = (size_t)plan->blocks, d = (size_t)plan->d, lanes = (size_t)plan->lanes;
    memset(record, 0, sizeof *record);
    record->query = take_floats(&m, blocks, d);
    record->key = take_floats(&m, blocks, d);
    record->value = take_floats(&m, blocks, d);
    record->tokens = mra_layout_take(&m, blocks, sizeof(int32_t));
    record->weight = take_floats(&m, blocks, 1);
    record->row_start = mra_layout_take(&m, blocks + 1, sizeof(int32_t));
    record->column = mra_layout_take(&m, plan->budget, sizeof(int32_t));
    record->coarse_max = take_floats(&m, blocks, 1);
    record->row_max = take_floats(&m, blocks, lanes);
    record->row_inverse = take_floats(&m, blocks, lanes);
    return m.used;
}

// The numbers of one head, whoever computes on it.
static void place_rows(mra_fused_head *head, const mra_fused_plan *plan, mra_layout *m)
{
    size_t blocks = (size_t)plan->blocks, s = (size_t)plan->scale, d = (size_t)plan->d;
    for (int a = 0; a < MRA_FUSED_ARRAYS; a++) {
        head->rows[a] = mra_layout_take(m, blocks, sizeof(float *));
        head->packed[a] = take_floats(m, blocks * s, d);
    }
    head->present = mra_layout_take(m, blocks, s);
    head->logit = take_floats(m, blocks, blocks);
    head->score = take_floats(m, blocks, blocks);
    head->order = mra_layout_take(m, 2 * blocks, blocks * sizeof(int32_t));
    if (plan->options.ranking == MRA_RANK_SPREAD) {
        head->spread_left = take_floats(m, blocks, 2 * d);
        head->spread_right = take_floats(m, blocks, 2 * d);
    }
    head->shortlist = take_floats(m, blocks * blocks / MRA_FUSED_SHARE, 1);
    size_t squares = (blocks + MRA_FUSED_SQUARE - 1) / MRA_FUSED_SQUARE;
    head->key_panels = take_floats(m, squares * MRA_FUSED_SQUARE, d);
    head->value_panels = take_floats(m, squares * MRA_FUSED_SQUARE, d);
    head->coarse_sum = take_floats(m, blocks, 1);
    head->coarse_value = take_floats(m, blocks, d);
    head->row_product = take_floats(m, blocks, (size_t)plan->lanes);
    head->pull = take_floats(m, blocks, d);
    head->pull_product = take_floats(m, blocks, 1);
    head->dquery = take_floats(m, blocks, d);
    head->dkey = take_floats(m, blocks, d);
    head->dvalue = take_floats(m, blocks, d);
}

// What depends on how the head is shared. One thread adds to keys and values while it walks the
// rows, so it needs room for all of them at once; several threads walk the rows first and the
// columns afterwards, so they need the list of columns and all transposed rows.
static void place_shared(mra_fused_head *head, const mra_fused_plan *plan, mra_layout *m)
{
    size_t blocks = (size_t)plan->blocks, s = (size_t)plan->scale, d = (size_t)plan->d;
    size_t lanes = (size_t)plan->lanes;
    head->packs = head->threads > 1 ? plan->blocks : 1;
    head->query_transposed = take_floats(m, (size_t)head->packs * d, lanes);
    head->dz_transposed = take_floats(m, (size_t)head->packs * d, lanes);
    if (head->threads > 1) {
        head->column_start = mra_layout_take(m, blocks + 1, sizeof(int32_t));
        head->column_row = mra_layout_take(m, plan->budget, sizeof(int32_t));
    } else {
        head->dkey_fine = take_floats(m, blocks * s, d);
        head->dvalue_fine = take_floats(m, blocks * s, d);
    }
}

size_t mra_fused_head_place(mra_fused_head *head, const mra_fused_plan *plan, int threads,
                            void *memory)
{
    mra_layout m = {.memory = memory};
    size_t s = (size_t)plan->scale, d = (size_t)plan->d, lanes = (size_t)plan->lanes;
    memset(head, 0, sizeof *head);
    head->plan = plan;
    head->threads = threads;
    head->scratch = mra_layout_take(&m, (size_t)threads, sizeof(mra_fused_scratch));
    for (int t = 0; t < threads; t++) {
        mra_fused_scratch scratch;
        scratch.tile = take_floats(&m, (size_t)plan->chunk * s, lanes);
        scratch.tile_grad = take_floats(&m, s, lanes);
        scratch.query = take_floats(&m, d, lanes);
        scratch.out = take_floats(&m, s, d);
        scratch.out_key = take_floats(&m, s, d);
        if (memory) head->scratch[t] = scratch;
    }
    place_rows(head, plan, &m);
    place_shared(head, plan, &m);
    return m.used;
}
