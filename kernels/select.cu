// # Component selection on the GPU
//
// Of the $b^2$ boxes of a head the $m$ with the largest scores are refined, ties going to the
// lower index: the same set that src/mra/selection.c finds, for the scores are the same
// functions of the logits and the result of the search does not depend on how it is made. One
// block of threads has a head. It never stores scores: a score is the logit less the largest of
// its row (priors lifted above all others), formed anew in each pass.
//
// 1. Three histograms over 11, 11 and 10 bits of the order-preserving integer of a score give
//    the $m$-th largest and how many of its equals are in (radix select). Counts are added by
//    integer atomics, whose order does not show.
// 2. A pass over the rows counts what is in; prefix sums over rows settle which ties are in and
//    where each row's list begins.
// 3. A last pass writes lists, a bit for each box, and the largest logit that stays coarse.
//
// Five passes over $4b^2$ bytes, 64 KB a head at $n=4096$, in L2: 96 blocks on 132 processors
// read at about 100 GB/s each, so 0.7 us a pass; with atomics that collide eightfold in the
// first, and a dozen barriers, 10 us together. At $n=16384$ (1 MB a head) 50 us.
//
// A row with many boxes would keep one warp busy while others idle, so lists are dealt out in
// items of at most 16 boxes; the results of a row's items are added in the order of the items.

#include "launch.cuh"
#include "scan.cuh"

namespace MRA_BACKEND::attention
{

enum { SELECT_THREADS = 512, SELECT_WARPS = SELECT_THREADS / 32 };

// ---- Scores ---------------------------------------------------------------------------------

// The integer with the same order as the score.
__device__ static uint32_t ordered_key(float score)
{
    union {
        float number;
        uint32_t bits;
    } value = {score + 0.0f}; // -0 becomes +0
    return value.bits & 0x80000000u ? ~value.bits : value.bits | 0x80000000u;
}

__device__ static bool has_prior(const plan &p)
{
    return p.first > 0 || p.diagonal > 0;
}

__device__ static bool prior_names(const plan &p, int x, int y)
{
    if (x < p.first || y < p.first) return true;
    return p.diagonal > 0 && abs(x - y) <= p.diagonal / 2;
}

// The key of box (x, y): as mra_rank_boxes scores it.
__device__ static uint32_t key_of_box(const plan &p, int x, int y, float logit, float shift,
                                      bool empty)
{
    if (empty) return ordered_key(-INFINITY);
    float score = logit - shift;
    if (score < -3.402823466e38f) score = -3.402823466e38f;
    if (has_prior(p) && prior_names(p, x, y)) score = 1 / (1 - score);
    return ordered_key(score);
}

// One head under way: what its passes read.
struct ranking {
    const float *logit, *row_largest;
    const uint32_t *present;
    float overall; // shift of the plain ranking
};

__device__ static float shift_of_row(const plan &p, const ranking &head, int x)
{
    return p.row_ranking ? head.row_largest[x] : head.overall;
}

// ---- The m-th largest -----------------------------------------------------------------------

// The digit at which the bins counted from above reach `wanted`; *wanted becomes how many of
// that digit's own are.
__device__ static uint32_t digit_of_mth(const int *histogram, int *wanted, int *room)
{
    const int each = DIGITS / SELECT_THREADS;
    int top = DIGITS - 1 - (int)threadIdx.x * each, own = 0, total;
    for (int i = 0; i < each; i++) own += histogram[top - i];
    int above = scan_block<SELECT_WARPS>(own, room, &total);
    MRA_SHARED(int, found, 2);
    for (int i = 0; i < each; i++) {
        int count = histogram[top - i];
        if (above < *wanted && above + count >= *wanted) {
            found[0] = top - i;
            found[1] = *wanted - above;
        }
        above += count;
    }
    __syncthreads();
    *wanted = found[1];
    return (uint32_t)found[0]; // free again after the next barrier
}

// Counts digit (key >> shift) & (2^bits - 1) of the keys whose higher bits equal `prefix`.
__device__ static void count_digits(const plan &p, const ranking &head, int *histogram,
                                    int shift, int bits, uint32_t prefix)
{
    for (int i = threadIdx.x; i < DIGITS; i += SELECT_THREADS) histogram[i] = 0;
    __syncthreads();
    for (int x = threadIdx.x / 32; x < p.blocks; x += SELECT_WARPS) {
        float row_shift = shift_of_row(p, head, x);
        bool queries = head.present[x] != 0;
        const float *row = head.logit + (size_t)x * p.blocks;
        for (int y = threadIdx.x % 32; y < p.blocks; y += 32) {
            bool empty = !queries || head.present[y] == 0;
            uint32_t key = key_of_box(p, x, y, row[y], row_shift, empty);
            if (shift + bits == 32 || key >> (shift + bits) == prefix)
                atomicAdd(&histogram[key >> shift & ((1u << bits) - 1)], 1);
        }
    }
    __syncthreads();
}

// How many boxes of the head are refined: mra_refinement_budget for the rows of boxes that
// mra_budget_rows counts.
__device__ static int budget_of(const plan &p, const ranking &head, int *room)
{
    size_t all = (size_t)p.blocks * p.blocks;
    if (p.count_padding || (size_t)p.budget == all) return p.budget;
    int own = 0, rows;
    for (int x = threadIdx.x; x < p.blocks; x += SELECT_THREADS) own += head.present[x] != 0;
    scan_block<SELECT_WARPS>(own, room, &rows);
    double budget = floor(p.blocks_refined * rows + 0.5);
    return budget < p.budget ? (int)budget : p.budget;
}

// The key of the m-th largest score; *ties: how many boxes with that key are in.
__device__ static uint32_t mth_largest_key(const plan &p, const ranking &head, int m,
                                           int *histogram, int *room, int *ties)
{
    *ties = m;
    uint32_t prefix = 0;
    const int shift[3] = {21, 10, 0}, bits[3] = {11, 11, 10};
    for (int pass = 0; pass < 3; pass++) {
        count_digits(p, head, histogram, shift[pass], bits[pass], prefix);
        prefix = prefix << bits[pass] | digit_of_mth(histogram, ties, room);
    }
    return prefix;
}

// ---- Lists ----------------------------------------------------------------------------------

// A pass over the boxes of a row by one warp, 32 at a time. `last`: the key of the m-th largest;
// `ties`: how many equals are still in. With list NULL it only counts: *above, *equal.
struct row_scan {
    uint32_t last;
    int ties;       // equals that may still be taken
    int *entry;     // NULL: count only
    uint32_t *bits; // [words]
    int above, equal;
    float coarse_max;
};

__device__ static void scan_row(const plan &p, const ranking &head, int x, row_scan *scan)
{
    int lane = threadIdx.x % 32, taken = 0;
    uint32_t below = (1u << lane) - 1;
    float row_shift = shift_of_row(p, head, x);
    scan->above = scan->equal = 0;
    scan->coarse_max = -INFINITY;
    for (int first = 0; first < p.blocks; first += 32) {
        int y = first + lane;
        bool box = y < p.blocks && head.present[x] != 0 && head.present[y] != 0;
        float logit = box ? head.logit[(size_t)x * p.blocks + y] : 0;
        uint32_t key = box ? key_of_box(p, x, y, logit, row_shift, false) : 0;
        uint32_t equals = __ballot_sync(0xffffffffu, box && key == scan->last);
        uint32_t above = __ballot_sync(0xffffffffu, box && key > scan->last);
        bool in =
            box && (key > scan->last ||
                    (key == scan->last && scan->equal + __popc(equals & below) < scan->ties));
        scan->above += __popc(above);
        scan->equal += __popc(equals);
        if (!scan->entry) continue;
        uint32_t chosen = __ballot_sync(0xffffffffu, in);
        if (in) scan->entry[taken + __popc(chosen & below)] = y;
        taken += __popc(chosen);
        if (lane == 0) scan->bits[first / 32] = chosen;
        if (box && !in) scan->coarse_max = fmaxf(scan->coarse_max, logit);
    }
}

// Items of each line from the lengths of the lists.
__device__ static void deal_items(const plan &p, const box_list &list, int head, int *room)
{
    const int *start = of_head(list.start, head, p.blocks + 1);
    int *item_start = of_head(list.item_start, head, p.blocks + 1);
    for (int x = threadIdx.x; x < p.blocks; x += SELECT_THREADS) {
        int boxes = start[x + 1] - start[x];
        item_start[x] = boxes > ITEM_BOXES ? (boxes + ITEM_BOXES - 1) / ITEM_BOXES : 1;
        of_head(list.arrived, head, 2 * (size_t)p.blocks)[x] = 0;
        of_head(list.arrived, head, 2 * (size_t)p.blocks)[p.blocks + x] = 0;
    }
    scan_array<SELECT_WARPS>(item_start, p.blocks, room);
    int *line = of_head(list.item_line, head, p.items);
    for (int x = threadIdx.x; x < p.blocks; x += SELECT_THREADS)
        for (int item = item_start[x]; item < item_start[x + 1]; item++) line[item] = x;
}

// Counts per row first; row_start holds the counts of equals until they are settled.
__device__ static void settle_rows(const plan &p, const ranking &head, uint32_t last, int ties,
                                   int *start, int *equal_start, int *room)
{
    for (int x = threadIdx.x / 32; x < p.blocks; x += SELECT_WARPS) {
        row_scan scan = {last, 0, NULL, NULL, 0, 0, 0};
        scan_row(p, head, x, &scan);
        if (threadIdx.x % 32 == 0) {
            start[x] = scan.above;
            equal_start[x] = scan.equal;
        }
    }
    __syncthreads();
    scan_array<SELECT_WARPS>(equal_start, p.blocks, room);
    for (int x = threadIdx.x; x < p.blocks; x += SELECT_THREADS) {
        int before = equal_start[x], end = equal_start[x + 1];
        start[x] += (end < ties ? end : ties) - (before < ties ? before : ties);
    }
    scan_array<SELECT_WARPS>(start, p.blocks, room);
}

__device__ static float overall_shift(const plan &p, const ranking &head)
{
    if (p.row_ranking || !has_prior(p)) return 0;
    float largest = -INFINITY;
    for (int x = threadIdx.x; x < p.blocks; x += SELECT_THREADS)
        if (head.present[x]) largest = fmaxf(largest, head.row_largest[x]);
    return block_max(largest);
}

__global__ void select_kernel(plan p)
{
    MRA_SHARED(int, histogram, DIGITS);
    MRA_SHARED(int, room, SELECT_WARPS + 1);
    int index = p.first_head + blockIdx.x;
    size_t all = (size_t)p.blocks * p.blocks;
    ranking head = {of_head(p.logit, index, all), of_head(p.row_largest, index, p.blocks),
                    of_head(p.present, index / (p.heads / p.batch), p.blocks), 0};
    head.overall = overall_shift(p, head);

    int budget = budget_of(p, head, room);
    uint32_t last = budget > 0 ? 0 : 0xffffffffu; // all boxes, or none
    int ties = 0;
    if (budget > 0 && (size_t)budget < all)
        last = mth_largest_key(p, head, budget, histogram, room, &ties);

    // The lists' item_start serves for the counts of equals until the items are dealt.
    int *start = of_head(p.rows.start, index, p.blocks + 1);
    int *equal_start = of_head(p.rows.item_start, index, p.blocks + 1);
    settle_rows(p, head, last, ties, start, equal_start, room);

    for (int x = threadIdx.x / 32; x < p.blocks; x += SELECT_WARPS) {
        row_scan scan = {last,
                         ties - equal_start[x],
                         of_head(p.rows.entry, index, p.budget) + start[x],
                         of_head(p.chosen, index, (size_t)p.blocks * p.words) + x * p.words,
                         0,
                         0,
                         0};
        scan_row(p, head, x, &scan);
        float largest = warp_max(scan.coarse_max);
        if (threadIdx.x % 32 > 0) continue;
        of_head(p.coarse_max, index, p.blocks)[x] = p.sparse ? -INFINITY : largest;
    }
    __syncthreads();
    deal_items(p, p.rows, index, room);
}

void select_boxes(const plan &p, stream_t stream)
{
    MRA_LAUNCH(select_kernel, dim3((unsigned)p.launch_heads), SELECT_THREADS, 0, stream, p);
}

// ---- Columns --------------------------------------------------------------------------------
//
// The same boxes by columns, for the backward pass: a thread owns a column and walks down the
// rows of bits, of which a warp reads one word at a time. Rows come out ascending, so what is
// added up over a column has a fixed order.
__global__ void columns_kernel(plan p)
{
    MRA_SHARED(int, room, SELECT_WARPS + 1);
    int index = p.first_head + blockIdx.x;
    const uint32_t *chosen = of_head(p.chosen, index, (size_t)p.blocks * p.words);
    int *start = of_head(p.columns.start, index, p.blocks + 1);
    int *entry = of_head(p.columns.entry, index, p.budget);
    for (int y = threadIdx.x; y < p.blocks; y += SELECT_THREADS) {
        int count = 0;
        for (int x = 0; x < p.blocks; x++)
            count += chosen[x * p.words + y / 32] >> (y % 32) & 1;
        start[y] = count;
    }
    scan_array<SELECT_WARPS>(start, p.blocks, room);
    for (int y = threadIdx.x; y < p.blocks; y += SELECT_THREADS) {
        int next = start[y];
        for (int x = 0; x < p.blocks; x++)
            if (chosen[x * p.words + y / 32] >> (y % 32) & 1) entry[next++] = x;
    }
    deal_items(p, p.columns, index, room);
}

void list_columns(const plan &p, stream_t stream)
{
    MRA_LAUNCH(columns_kernel, dim3((unsigned)p.launch_heads), SELECT_THREADS, 0, stream, p);
}

} // namespace MRA_BACKEND::attention
