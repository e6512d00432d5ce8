// ## Which boxes are refined
//
// Ranking and choosing are those of the chapter on selection. What is added here is speed: at
// $n=65536$ there are four million coarse boxes, of which 16384 are wanted, and to look for the
// $m$-th largest among all of them takes longer than to compute them. So most are discarded
// first, by a bound that costs one comparison each. Deal the scores into groups of $32$; each
// group's largest score is a score. The $m$-th largest of *these* is a bound that at least $m$
// scores reach, so nothing below it is among the $m$ largest. What is left (little more than
// $m$, if the large scores are scattered) goes to the exact selection. The outcome is the same,
// ties included, whatever the scores: if the bound leaves too many, all of them go.

#include "mra/fused.h"

#include "core/parallel.h"
#include "mra/selection.h"
#include "tensor/vector.h"

enum {
    GROUP = 32,  // scores in a group
    RANGES = 16, // items of the loop over groups
    STRIDE = 32  // scores looked at together for whether any reaches the bound
};

// largest[i] = the largest of score[i], score[i + groups], score[i + 2 groups], ...: groups
// that a vector unit takes 16 at a time, and threads a range each.
typedef struct maxima_loop {
    const float *score;
    size_t count, groups;
    float *largest;
} maxima_loop;

static void range_maxima(void *context, size_t item, int thread)
{
    (void)thread;
    const maxima_loop *loop = context;
    size_t groups = loop->groups, begin = item * groups / RANGES;
    size_t end = (item + 1) * groups / RANGES;
    float *largest = loop->largest;
    for (size_t i = begin; i < end; i++) largest[i] = loop->score[i];
    for (size_t first = groups; first < loop->count; first += groups) {
        size_t left = loop->count - first, stop = left < end ? left : end;
        const float *slice = loop->score + first;
#pragma omp simd
        for (size_t i = begin; i < stop; i++)
            largest[i] = slice[i] > largest[i] ? slice[i] : largest[i];
    }
}

static void group_maxima(const float *score, size_t count, size_t groups, float *largest,
                         int threads)
{
    maxima_loop loop = {score, count, groups, largest};
    mra_parallel_for(threads, RANGES, range_maxima, &loop);
}

// Indices, ascending, and scores of those that reach the bound; SIZE_MAX if there are more than
// `room`.
static size_t shortlist(const float *score, size_t count, float bound, size_t room,
                        int32_t *index, float *reached)
{
    size_t length = 0;
    for (size_t first = 0; first < count; first += STRIDE) {
        size_t end = count - first < STRIDE ? count : first + STRIDE;
        if (mra_row_max(score + first, end - first) < bound) continue;
        for (size_t i = first; i < end; i++) {
            if (score[i] < bound) continue;
            if (length == room) return SIZE_MAX;
            index[length] = (int32_t)i;
            reached[length++] = score[i];
        }
    }
    return length;
}

// mra_select_largest on score[0 .. count), by way of a shortlist if that pays;
// scratch[2 * count], value[count / MRA_FUSED_SHARE].
static size_t select_largest(const float *score, size_t count, size_t m, int32_t *index,
                             int32_t *scratch, float *value, int threads)
{
    size_t groups = count / GROUP, room = count / MRA_FUSED_SHARE;
    if (m == 0 || groups < 2 * m) return mra_select_largest(score, count, m, index, scratch);
    // `value` holds the group maxima, then the scores of the shortlist.
    int32_t *place = scratch, *rest = scratch + room;
    group_maxima(score, count, groups, value, threads);
    size_t chosen = mra_select_largest(value, groups, m, index, rest);
    float bound = INFINITY;
    for (size_t i = 0; i < chosen; i++)
        bound = value[index[i]] < bound ? value[index[i]] : bound;

    size_t length = shortlist(score, count, bound, room, place, value);
    if (length == SIZE_MAX) return mra_select_largest(score, count, m, index, scratch);
    chosen = mra_select_largest(value, length, m, index, rest);
    for (size_t i = 0; i < chosen; i++) index[i] = place[index[i]];
    return chosen;
}

// The chosen boxes come as ascending indices $x\,b+y$; they become a list of columns for every
// row, in place. Boxes without a query or without a key are dropped here: when the budget is
// large, they may be among the chosen.
static void list_boxes(mra_fused_head *head, size_t chosen)
{
    const mra_fused_plan *plan = head->plan;
    mra_fused_record *record = head->record;
    const int32_t *tokens = record->tokens;
    size_t blocks = (size_t)plan->blocks, next = 0, kept = 0;
    int32_t *column = record->column;
    record->fine_entries = 0;
    for (size_t x = 0; x < blocks; x++) {
        size_t first = x * blocks;
        record->row_start[x] = (int32_t)kept;
        for (; next < chosen && (size_t)column[next] < first + blocks; next++) {
            size_t y = (size_t)column[next] - first;
            if (tokens[x] == 0 || tokens[y] == 0) continue;
            column[kept++] = (int32_t)y;
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
    size_t all = (size_t)plan->blocks * plan->blocks, chosen = all, budget = all;
    if (!plan->all_refined) {
        int rows = mra_budget_rows(&plan->options, record->tokens, plan->blocks);
        budget = chosen = mra_refinement_budget(&plan->options, rows, 1, all);
    }
    if (plan->all_refined) {
        for (size_t i = 0; i < all; i++) record->column[i] = (int32_t)i;
    } else if (budget > 0) {
        if (plan->options.ranking == MRA_RANK_SPREAD)
            mra_fused_spread(head);
        else
            mra_rank_boxes(&plan->options, plan->blocks, head->logit, record->tokens,
                           head->score);
        chosen = select_largest(head->score, all, budget, record->column, head->order,
                                head->shortlist, head->threads);
    }
    list_boxes(head, chosen);
    record->coarse_boxes = count_coarse(head);
}

bool mra_fused_has_coarse(const mra_fused_head *head)
{
    return head->record->coarse_boxes > 0;
}
