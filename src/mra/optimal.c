// # The best choice there is
//
// Greedy selection has a price, and to know it one needs the optimum. For boxes that halve from
// scale to scale it can be computed: $J$ is a forest of quadtrees, and what one subtree costs
// does not depend on the others. The state is a box $b$ and a number $j$ of refinements inside
// it, the value $f_b(j)$ the least cost of the leaves below $b$:
//
// $$f_b(0)=\text{cost}(b),\qquad
//   f_b(j)=\min_{j_1+\dots+j_4=j-1}\;\sum_{c=1}^4 f_{b_c}(j_c),\quad j\ge1,$$
//
// over the four quarters $b_1,\dots,b_4$; the boxes of the coarsest scale are joined in the same
// way. One run gives the optimum for *every* budget up to the largest. Joining two subtrees with
// $p$ and $q$ refinements takes $pq$ operations, and a pair of refinements meets in one place
// only: $O(N^2)$ in all for $N$ boxes that can be refined, $O(N\cdot\text{most})$ when no more
// than `most` are asked for. (A greedy walk would do if every $f_b$ were convex. They are not: a
// checkerboard gains nothing by the first refinement and everything by the second.)

#include "mra/optimal.h"

#include <math.h>
#include <stdbool.h>

#include "core/arena.h"

enum { MOST_LEVELS = 12 };

typedef struct tree_search {
    int coarse, levels;
    size_t most;
    const double *const *cost;
    size_t length[MOST_LEVELS];    // entries of f for a box of this level
    double *child[MOST_LEVELS][4]; // of a box of this level: f of its quarters
    double *joined[MOST_LEVELS];   // and of the first two, three, four of them
} tree_search;

// joined[0 .. length) = the least a[i] + b[j] with i + j = k, by increasing k; `joined` is
// neither a nor b.
static void join(const double *a, size_t a_length, const double *b, size_t b_length,
                 double *joined, size_t length)
{
    for (size_t k = 0; k < length; k++) joined[k] = INFINITY;
    for (size_t i = 0; i < b_length && i < length; i++) {
        const double base = b[i];
        const size_t end = length - i < a_length ? length - i : a_length;
        double *to = joined + i;
#pragma omp simd
        for (size_t k = 0; k < end; k++) {
            const double sum = a[k] + base;
            to[k] = sum < to[k] ? sum : to[k];
        }
    }
}

static size_t at_most(size_t length, size_t most)
{
    return length < most + 1 ? length : most + 1;
}

// f of box (x, y) of level l: length[l] entries.
static void solve_box(tree_search *s, int l, size_t x, size_t y, double *f)
{
    const size_t side = (size_t)s->coarse << l;
    f[0] = s->cost[l][x * side + y];
    if (l + 1 == s->levels || s->length[l] == 1) return;
    for (size_t c = 0; c < 4; c++)
        solve_box(s, l + 1, 2 * x + c / 2, 2 * y + c % 2, s->child[l][c]);
    // Ping-pong between f's tail and the buffer: two, three, then four quarters.
    const size_t part = s->length[l + 1], room = s->length[l] - 1;
    double *tail = f + 1, *buffer = s->joined[l];
    const size_t two = at_most(2 * part - 1, room - 1), three = at_most(3 * part - 2, room - 1);
    join(s->child[l][0], part, s->child[l][1], part, tail, two);
    join(tail, two, s->child[l][2], part, buffer, three);
    join(buffer, three, s->child[l][3], part, tail, room);
}

static mra_status lay_out(tree_search *s, mra_arena *memory, mra_error *err)
{
    size_t inner = 0; // refinements inside a box of the level
    for (int l = s->levels - 1; l >= 0; l--) {
        s->length[l] = at_most(inner + 1, s->most);
        inner = 4 * inner + 1;
    }
    for (int l = 0; l + 1 < s->levels; l++) {
        const size_t bytes = s->length[l + 1] * sizeof(double);
        s->joined[l] = mra_arena_alloc(memory, s->length[l] * sizeof(double));
        bool complete = s->joined[l] != NULL;
        for (int c = 0; c < 4; c++) {
            s->child[l][c] = mra_arena_alloc(memory, bytes);
            complete = complete && s->child[l][c] != NULL;
        }
        if (!complete)
            return mra_fail(err, MRA_NO_MEMORY, "no memory for trees of %zu boxes", inner);
    }
    return MRA_OK;
}

// The coarsest boxes, one after another: least[j] for all of them so far.
static void solve_roots(tree_search *s, double *f, double *before, double *least)
{
    const size_t roots = (size_t)s->coarse * (size_t)s->coarse;
    size_t length = 1;
    for (size_t j = 0; j <= s->most; j++) least[j] = INFINITY;
    least[0] = 0;
    for (size_t root = 0; root < roots; root++) {
        solve_box(s, 0, root / (size_t)s->coarse, root % (size_t)s->coarse, f);
        for (size_t j = 0; j < length; j++) before[j] = least[j];
        const size_t longer = at_most(length + s->length[0] - 1, s->most);
        join(before, length, f, s->length[0], least, longer);
        length = longer;
    }
}

mra_status mra_optimal_trees(int coarse, int levels, const double *const *cost, size_t most,
                             double *least, mra_error *err)
{
    if (levels < 1 || levels > MOST_LEVELS)
        return mra_fail(err, MRA_BAD_INPUT, "levels: %d, expected 1 to %d", levels,
                        MOST_LEVELS);
    if (coarse < 1)
        return mra_fail(err, MRA_BAD_INPUT, "coarse: %d, expected at least 1", coarse);
    tree_search s = {.coarse = coarse, .levels = levels, .most = most, .cost = cost};
    mra_arena memory = {0};
    mra_status status = lay_out(&s, &memory, err);
    double *f = mra_arena_alloc(&memory, (s.length[0] + 1) * sizeof *f);
    double *before = mra_arena_alloc(&memory, (most + 1) * sizeof *before);
    if (status == MRA_OK && (!f || !before))
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for %zu refinements", most);
    if (status == MRA_OK) solve_roots(&s, f, before, least);
    mra_arena_free(&memory);
    return status;
}
