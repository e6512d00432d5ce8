// # Component selection
//
// The set $J$ says where the approximation looks closely. Finding the best $J$ of a given size
// is hopeless: the number of candidates is exponential, and to know how much a box would gain
// by refinement one would have to compute the entries that refinement was meant to save. The
// paper's answer is greedy and cheap. Fix the scales $R=\{s_0>s_1>\dots>s_k=1\}$. Start with
// *all* boxes of scale $s_0$. At each next scale take the $m_i$ boxes with the largest
// coefficients among those just made, and replace each by its $(s_{i-1}/s_i)^2$ children.
// Whatever is not refined stays in $J$ as a leaf. Why the largest coefficients? The error of a
// box is bounded by $C_r\,\mu$ per entry (the chapter on coefficients), and $r$ is unknown but
// $\mu$ is at hand; and where $\mu$ is tiny, even a large relative error is harmless.
//
// For a sequence of $n$ tokens the coarsest scale costs $(n/s_0)^2 d$ operations, scale $i$
// costs $m_i (s_{i-1}/s_i)^2 d$, and choosing is linear in the number of candidates. With $m_i$
// in proportion to $n$, everything but the coarsest scale is linear in $n$. The choice is a
// discrete one: no gradient flows through it.
//
// How the paper's code differs from its text, and this file from both:
//
// * The text ranks by the coefficient $\mu$. The code ranks by the coarse logit *minus the
//   largest coarse logit of its row of boxes*, over the whole matrix of a head at once. That is
//   the natural quantity, for the rows of $D^{-1}A$ are normalised one by one: a box matters if
//   it is large *within its rows*. Both rankings are here.
// * The code is written for $R=\{32,1\}$ alone; how to rank at deeper scales is left open. Here
//   the ranking subtracts, at every scale, the largest logit of the *coarsest* row of boxes
//   that a box lies in: one fixed reference per row of tokens, so that children of different
//   parents compete on equal terms.
// * In the code priors add 5000 and padding takes 10000 away, which is right as long as logits
//   are small against that. Here priors come first and padding last for logits of any size.
// * In the code $m$ follows the length of the padded sequence, and padding is ranked last; so the
//   more padding there is, the more boxes the tokens get. Here the rows of boxes that hold a token
//   count, so that padding at the end is the same as a shorter sequence; `count_padding` keeps the
//   code's rule.
// * In the code a block of padding takes part in the maximum of its row (with logit 0, the
//   product of zero means); here it is left aside. And when several boxes tie for the last
//   place, the code drops all of them from the coarse part but refines only some; here the
//   lower index wins, and every entry is covered exactly once.
#include "mra/selection.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mra/dot.h"
#include "mra/layout.h"
#include "tensor/gemm.h"

// ## The $m$ largest of many
//
// Sorting all scores would cost more than computing them. What is needed is only the $m$-th
// largest value; whoever lies above it is in. It is found digit by digit, as in radix sort:
// read a score as an unsigned integer that has the same order, count how often each leading
// digit (11 bits) occurs, find the digit at which the count from above reaches $m$, and look
// further only among the scores that share it. Three digits make a float. The cost is linear
// whatever the scores are, which no choice of pivots can promise.
//
// The integer with the same order: IEEE floats of one sign are ordered like their bit patterns;
// so set the sign bit of the positive ones and flip all bits of the negative ones.
static uint32_t ordered_key(float score)
{
    score += 0.0f; // -0 becomes +0
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The largest digit at which the keys counted from above number at least `*m`, which becomes
// how many of that digit's own keys are wanted.
static uint32_t digit_of_mth(const uint32_t *histogram, uint32_t digits, size_t *m)
{
    uint32_t digit = digits - 1;
    while (histogram[digit] < *m) *m -= histogram[digit--];
    return digit;
}

// The key of the m-th largest score, 1 <= m <= count. `ties`: how many of the scores with that
// very key belong to the m largest.
static uint32_t mth_largest_key(const float *score, size_t count, size_t m, uint32_t *candidate,
                                size_t *ties)
{
    enum { DIGITS = 2048 };
    uint32_t histogram[DIGITS] = {0};
    for (size_t i = 0; i < count; i++) histogram[ordered_key(score[i]) >> 21]++;
    uint32_t prefix = digit_of_mth(histogram, DIGITS, &m);
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t key = ordered_key(score[i]);
        if (key >> 21 == prefix) candidate[left++] = key;
    }
    const int shift[2] = {10, 0};
    const uint32_t digits[2] = {2048, 1024};
    for (int pass = 0; pass < 2; pass++) {
        memset(histogram, 0, sizeof histogram);
        for (size_t i = 0; i < left; i++)
            histogram[(candidate[i] >> shift[pass]) & (digits[pass] - 1)]++;
        prefix = prefix * digits[pass] + digit_of_mth(histogram, digits[pass], &m);
        size_t kept = 0;
        for (size_t i = 0; i < left; i++)
            if (candidate[i] >> shift[pass] == prefix) candidate[kept++] = candidate[i];
        left = kept;
    }
    *ties = m;
    return prefix;
}

// Of scores equal to the $m$-th largest the first ones are taken. So the result is a function
// of the scores alone, and another algorithm, or another device, has to come to the same.
size_t mra_select_largest(const float *score, size_t count, size_t m, int32_t *index,
                          int32_t *scratch)
{
    if (m == 0 || count == 0) return 0;
    if (m >= count) {
        for (size_t i = 0; i < count; i++) index[i] = (int32_t)i;
        return count;
    }
    size_t ties;
    uint32_t last = mth_largest_key(score, count, m, (uint32_t *)scratch, &ties);
    size_t chosen = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t key = ordered_key(score[i]);
        if (key > last)
            index[chosen++] = (int32_t)i;
        else if (key == last && ties > 0) {
            index[chosen++] = (int32_t)i;
            ties--;
        }
    }
    return chosen;
}

// ## Ranking and priors
//
// A prior is a wish of the user: refine the first $f$ rows and columns of boxes (a first token
// that everything attends to) and a diagonal band (neighbours) before anything else. It
// concerns the coarsest scale, where one decides *where* to look; below, the coefficients
// decide.
//
// To put the boxes of a prior before all others by adding a constant one would need a constant
// larger than any logit, and in float32 it would swallow the differences that order them.
// Instead, shift all scores to $s\le 0$ and send those of the prior through
// $s\mapsto 1/(1-s)\in(0,1]$: increasing, positive, and of full relative accuracy.
static bool prior_names(const mra_options *options, int x, int y)
{
    if (x < options->first || y < options->first) return true;
    return options->diagonal > 0 && abs(x - y) <= options->diagonal / 2;
}

static bool has_prior(const mra_options *options)
{
    return options->first > 0 || options->diagonal > 0;
}

// A logit less the shift, finite whatever the two are.
static inline float shifted(float logit, float shift)
{
    float score = logit - shift;
    return score < -FLT_MAX ? -FLT_MAX : score;
}

// Raises the scores (all <= 0) of those boxes of row x that a prior names; column NULL: boxes 0
// .. count-1.
static void raise_priors(const mra_options *options, int x, const int32_t *column, size_t count,
                         float *score)
{
    for (size_t b = 0; b < count; b++) {
        int y = column == NULL ? (int)b : column[b];
        if (score[b] > -INFINITY && prior_names(options, x, y)) score[b] = 1 / (1 - score[b]);
    }
}

// The largest logit of a row of boxes among the columns that hold tokens; -INFINITY if none
// does.
static float largest_in_row(const float *logit, const int32_t *tokens, int columns)
{
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (int y = 0; y < columns; y++) {
        float value = tokens[y] > 0 ? logit[y] : -INFINITY;
        largest = value > largest ? value : largest;
    }
    return largest;
}

// What is subtracted from the logits of a row of boxes: for the row ranking the largest of the
// row. The plain ranking needs no shift, except that scores have to be <= 0 for the priors.
static float ranking_shift(const mra_options *options, float row_largest, float overall)
{
    if (options->ranking == MRA_RANK_ROW) return row_largest;
    return has_prior(options) ? overall : 0;
}

void mra_rank_boxes(const mra_options *options, int rows, const float *logit,
                    const int32_t *row_tokens, float *score)
{
    size_t columns = (size_t)rows;
    float overall = -INFINITY;
    if (options->ranking == MRA_RANK_PLAIN && has_prior(options)) {
        for (int x = 0; x < rows; x++)
            if (row_tokens[x] > 0)
                overall = fmaxf(overall,
                                largest_in_row(logit + (size_t)x * columns, row_tokens, rows));
    }
    for (int x = 0; x < rows; x++) {
        const float *row = logit + (size_t)x * columns;
        float *out = score + (size_t)x * columns;
        float shift = ranking_shift(options, largest_in_row(row, row_tokens, rows), overall);
        for (int y = 0; y < rows; y++) {
            bool empty = row_tokens[x] == 0 || row_tokens[y] == 0;
            out[y] = empty ? -INFINITY : shifted(row[y], shift);
        }
        if (has_prior(options)) raise_priors(options, x, NULL, columns, out);
    }
}

void mra_raise_priors(const mra_options *options, int rows, float *score)
{
    if (!has_prior(options)) return;
    const size_t columns = (size_t)rows;
    float largest = -INFINITY;
    for (size_t b = 0; b < columns * columns; b++) largest = fmaxf(largest, score[b]);
    for (int x = 0; x < rows && largest > -INFINITY; x++) {
        float *row = score + (size_t)x * columns;
        for (size_t y = 0; y < columns; y++)
            if (row[y] > -INFINITY) row[y] = shifted(row[y], largest);
        raise_priors(options, x, NULL, columns, row);
    }
}

// ## The boxes of $J$, level by level
//
// Each scale keeps its leaves in compressed rows: for every row $x$ of boxes the columns $y$,
// ascending, and the logits $\log\mu$. That is the order in which they are made and used: the
// product walks along rows of boxes, and a row of boxes belongs to $s$ rows of $A$.
//
// All sizes are known before the first logit is: the budgets fix how many boxes a scale can
// hold. So memory is laid out once, for a sequence without padding, and selecting allocates
// nothing.
size_t mra_refinement_budget(const mra_options *options, int rows, int i, size_t there)
{
    double budget = floor(options->blocks[i] * rows + 0.5);
    return budget >= (double)there ? there : (size_t)budget;
}

int mra_budget_rows(const mra_options *options, const int32_t *row_tokens, int rows)
{
    if (options->count_padding) return rows;
    int count = 0;
    for (int x = 0; x < rows; x++) count += row_tokens[x] > 0;
    return count;
}

// How many boxes of each scale there can be in J, and how many blocks in a row.
static void level_sizes(const mra_options *options, int n, size_t *capacity, int *blocks)
{
    for (int i = 0; i < options->scales; i++) {
        blocks[i] = (n + options->scale[i] - 1) / options->scale[i];
        size_t all = (size_t)blocks[i] * (size_t)blocks[i];
        capacity[i] = all;
        if (i == 0) continue;
        size_t ratio = (size_t)(options->scale[i - 1] / options->scale[i]);
        size_t refined = mra_refinement_budget(options, blocks[0], i, capacity[i - 1]);
        if (refined <= all / (ratio * ratio)) capacity[i] = refined * ratio * ratio;
    }
}

static size_t lay_out(mra_selection *selection, const mra_options *options, int n, void *memory)
{
    mra_layout layout = {.memory = memory};
    size_t capacity[MRA_MAX_SCALES], ranked = 0;
    int blocks[MRA_MAX_SCALES];
    level_sizes(options, n, capacity, blocks);
    *selection = (mra_selection){.n = n, .scales = options->scales};
    for (int i = 0; i < options->scales; i++) {
        mra_selection_level *level = &selection->level[i];
        level->scale = options->scale[i];
        level->blocks = blocks[i];
        level->capacity = capacity[i];
        level->row_start = mra_layout_take(&layout, (size_t)blocks[i] + 1, sizeof(size_t));
        level->column = mra_layout_take(&layout, capacity[i], sizeof(int32_t));
        level->logit = mra_layout_take(&layout, capacity[i], sizeof(float));
        if (i + 1 < options->scales && capacity[i] > ranked) ranked = capacity[i];
    }
    selection->row_largest = mra_layout_take(&layout, (size_t)blocks[0], sizeof(float));
    selection->score = mra_layout_take(&layout, ranked, sizeof(float));
    selection->chosen = mra_layout_take(&layout, ranked, sizeof(int32_t));
    selection->scratch = mra_layout_take(&layout, 2 * ranked, sizeof(int32_t));
    return layout.used;
}

size_t mra_selection_bytes(const mra_options *options, int n)
{
    mra_selection unused;
    return lay_out(&unused, options, n, NULL);
}

void mra_selection_place(mra_selection *selection, const mra_options *options, int n,
                         void *memory)
{
    lay_out(selection, options, n, memory);
}

// ## The coarsest scale
//
// One matrix product of the pooled queries with the pooled keys gives every coarse logit,
// $\log\mu_{x,y}=\langle\tilde Q_x,\tilde K_y\rangle/\sqrt d$. Boxes without a query or without
// a key (padding, whole blocks of it) are dropped here once and for all; the list that remains
// is compacted in place.
void mra_selection_start(mra_selection *selection, const mra_pyramid *pyramid)
{
    const mra_pyramid_level *pooled = &pyramid->level[0];
    mra_selection_level *level = &selection->level[0];
    int blocks = level->blocks, d = pyramid->d;
    mra_gemm(false, true, blocks, blocks, d, pyramid->logit_scale, pooled->query, d,
             pooled->key, d, 0, level->logit, blocks);
    size_t kept = 0;
    for (int x = 0; x < blocks; x++) {
        const float *row = level->logit + (size_t)x * (size_t)blocks;
        level->row_start[x] = kept;
        selection->row_largest[x] = -INFINITY;
        if (pooled->tokens[x] == 0) continue;
        selection->row_largest[x] = largest_in_row(row, pooled->tokens, blocks);
        for (int y = 0; y < blocks; y++) {
            if (pooled->tokens[y] == 0) continue;
            level->column[kept] = y;
            level->logit[kept++] = row[y];
        }
    }
    level->row_start[blocks] = level->count = kept;
    for (int i = 1; i < selection->scales; i++) {
        level = &selection->level[i];
        level->count = 0;
        memset(level->row_start, 0, ((size_t)level->blocks + 1) * sizeof *level->row_start);
    }
}

// ## One refinement
//
// The scores of the boxes that compete: as in `mra_rank_boxes`, on the list.
void mra_selection_rank(const mra_selection *selection, const mra_options *options, int i,
                        float *score)
{
    const mra_selection_level *level = &selection->level[i - 1];
    int coarsest_rows = selection->level[0].blocks;
    int rows_each = selection->level[0].scale / level->scale;
    float overall = -INFINITY;
    for (int x = 0; x < coarsest_rows; x++) overall = fmaxf(overall, selection->row_largest[x]);
    for (int x = 0; x < level->blocks; x++) {
        size_t first = level->row_start[x], count = level->row_start[x + 1] - first;
        float reference = selection->row_largest[x / rows_each];
        float shift = ranking_shift(options, reference, overall);
        for (size_t b = first; b < first + count; b++)
            score[b] = shifted(level->logit[b], shift);
        if (i == 1 && has_prior(options))
            raise_priors(options, x, level->column + first, count, score + first);
    }
}

// A box $(s_{i-1},x,y)$ becomes the boxes $(s_i,\,rx+a,\,ry+b)$ with $r=s_{i-1}/s_i$ and
// $0\le a,b<r$: their logits are new inner products, of means over fewer tokens. Children
// outside the sequence (a ragged last block) or without tokens are not made. To keep the rows
// in order, all chosen parents of a row $x$ are opened together: first the children in row
// $rx$, then those in row $rx+1$, and so on.
//
// Appends the children of parent column y in row `row` of boxes of level i.
static void append_children(mra_selection_level *level, const mra_pyramid *pyramid, int i,
                            int row, int y, int ratio)
{
    const mra_pyramid_level *pooled = &pyramid->level[i];
    size_t d = (size_t)pyramid->d;
    const float *query = pooled->query + (size_t)row * d;
    int end = (y + 1) * ratio < level->blocks ? (y + 1) * ratio : level->blocks;
    for (int column = y * ratio; column < end; column++) {
        if (pooled->tokens[column] == 0) continue;
        const float *key = pooled->key + (size_t)column * d;
        level->column[level->count] = column;
        level->logit[level->count++] = pyramid->logit_scale * mra_dot(query, key, pyramid->d);
    }
}

// Takes the chosen boxes (ascending positions) out of a level.
static void remove_boxes(mra_selection_level *level, const int32_t *chosen, size_t m)
{
    size_t kept = 0, next = 0, b = 0;
    for (int x = 0; x < level->blocks; x++) {
        size_t end = level->row_start[x + 1];
        level->row_start[x] = kept;
        for (; b < end; b++) {
            if (next < m && (size_t)chosen[next] == b) {
                next++;
                continue;
            }
            level->column[kept] = level->column[b];
            level->logit[kept++] = level->logit[b];
        }
    }
    level->row_start[level->blocks] = level->count = kept;
}

void mra_selection_refine(mra_selection *selection, const mra_pyramid *pyramid, int i,
                          const int32_t *chosen, size_t m)
{
    mra_selection_level *parents = &selection->level[i - 1], *level = &selection->level[i];
    int ratio = parents->scale / level->scale;
    size_t next = 0;
    for (int x = 0; x < parents->blocks; x++) {
        size_t first = next;
        while (next < m && (size_t)chosen[next] < parents->row_start[x + 1]) next++;
        int end = x + 1 < parents->blocks ? (x + 1) * ratio : level->blocks;
        for (int row = x * ratio; row < end; row++) {
            level->row_start[row] = level->count;
            if (pyramid->level[i].tokens[row] == 0) continue;
            for (size_t p = first; p < next; p++)
                append_children(level, pyramid, i, row, parents->column[chosen[p]], ratio);
        }
    }
    level->row_start[level->blocks] = level->count;
    remove_boxes(parents, chosen, m);
}

void mra_select(mra_selection *selection, const mra_options *options,
                const mra_pyramid *pyramid)
{
    mra_selection_start(selection, pyramid);
    int rows = mra_budget_rows(options, pyramid->level[0].tokens, selection->level[0].blocks);
    for (int i = 1; i < selection->scales; i++) {
        size_t there = selection->level[i - 1].count;
        size_t budget = mra_refinement_budget(options, rows, i, there);
        mra_selection_rank(selection, options, i, selection->score);
        size_t m = mra_select_largest(selection->score, there, budget, selection->chosen,
                                      selection->scratch);
        mra_selection_refine(selection, pyramid, i, selection->chosen, m);
    }
}
