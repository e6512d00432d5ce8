// # The box frame on a given matrix
//
// Here the matrix is known, and the question is what a number of boxes can do: the curve that
// belongs beside the one of the Haar basis. Start with one box, all of the matrix; refine one
// box at a time into its four quarters; stop at a given number of boxes. Two choices make four
// curves.
//
// *The coefficient.* The true mean $\mu^*$ of $A$ over the box is the best constant. The
// exponential of the mean logit, $\mu$, is what the method can afford. Their difference adds to
// the squared error of a box of side $s$:
//
// $$\sum_{(i,j)\in B}(A_{ij}-\mu)^2=\sum_{(i,j)\in B}(A_{ij}-\mu^*)^2+s^2(\mu^*-\mu)^2.$$
//
// *The order.* The box with the largest squared error, which only an oracle knows; or the one
// with the largest coefficient, which is the rule of the paper. (Not the box whose refinement
// gains most: a box may gain nothing in one step and everything in two, as a checkerboard
// does.)
//
// The path through the refinements is found with a heap of the boxes that can still be refined:
// $O(\log)$ per step.
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "mra/wavelet.h"

enum { FRAME_LEVELS = 13 }; // sides 1, 2, ..., 4096

// What is known of a box: means of A and of the logits, and sum of (A - mean)^2.
typedef struct frame_node {
    double mean, mean_logit, error;
} frame_node;

typedef struct frame_box {
    double priority;
    int level, x, y; // side 2^level
} frame_box;

typedef struct frame {
    int n, levels; // the whole matrix is the only box of level `levels`
    double shift;
    const double *logit;
    mra_frame_coefficient coefficient;
    mra_frame_order order;
    frame_node *node[FRAME_LEVELS]; // [level]: [n >> level, n >> level]; level 0 is computed
                                    // when asked for
    frame_box *heap;
    size_t waiting; // boxes in the heap
} frame;

static frame_node node_at(const frame *f, int level, int x, int y)
{
    size_t across = (size_t)(f->n >> level), at = (size_t)x * across + (size_t)y;
    if (level == 0) return (frame_node){exp(f->logit[at] - f->shift), f->logit[at], 0};
    return f->node[level][at];
}

// The squared deviations of a box from its mean are those of its quarters from their own means,
// plus those of the quarters' means from the mean of all: sums of squares, so nothing cancels.
static frame_node merge_quarters(const frame *f, int level, int x, int y)
{
    frame_node whole = {0}, quarter[4];
    double entries = ldexp(1, 2 * (level - 1)); // of a quarter
    for (int c = 0; c < 4; c++) {
        quarter[c] = node_at(f, level - 1, 2 * x + c / 2, 2 * y + c % 2);
        whole.mean += quarter[c].mean / 4;
        whole.mean_logit += quarter[c].mean_logit / 4;
    }
    for (int c = 0; c < 4; c++) {
        double gap = quarter[c].mean - whole.mean;
        whole.error += quarter[c].error + entries * gap * gap;
    }
    return whole;
}

static double box_value(const frame *f, int level, frame_node node)
{
    bool mean = f->coefficient == MRA_FRAME_MEAN || level == 0;
    return mean ? node.mean : exp(node.mean_logit - f->shift);
}

static double box_error(const frame *f, int level, frame_node node)
{
    double gap = node.mean - box_value(f, level, node);
    return node.error + ldexp(gap * gap, 2 * level);
}

// ## The heap
//
// Equal priorities: the larger box first, then the upper, then the left one, so that the path
// is unique.
static bool comes_before(const frame_box *a, const frame_box *b)
{
    if (a->priority != b->priority) return a->priority > b->priority;
    if (a->level != b->level) return a->level > b->level;
    return a->x != b->x ? a->x < b->x : a->y < b->y;
}

static void push_box(frame *f, int level, int x, int y)
{
    frame_node node = node_at(f, level, x, y);
    bool by_error = f->order == MRA_FRAME_LARGEST_ERROR;
    frame_box box = {by_error ? box_error(f, level, node) : box_value(f, level, node), level, x,
                     y};
    size_t hole = f->waiting++;
    while (hole > 0 && comes_before(&box, &f->heap[(hole - 1) / 2])) {
        f->heap[hole] = f->heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    f->heap[hole] = box;
}

static frame_box pop_box(frame *f)
{
    frame_box best = f->heap[0], last = f->heap[--f->waiting];
    size_t hole = 0;
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= f->waiting) break;
        if (child + 1 < f->waiting && comes_before(&f->heap[child + 1], &f->heap[child]))
            child++;
        if (!comes_before(&f->heap[child], &last)) break;
        f->heap[hole] = f->heap[child];
        hole = child;
    }
    f->heap[hole] = last;
    return best;
}

// ## Refining
//
// Replaces the first box of the heap by its quarters (single entries are final and do not enter
// the heap). Returns by how much the squared error fell; with exponentials of means it may
// rise.
static double refine_first(frame *f)
{
    frame_box box = pop_box(f);
    double fall = box_error(f, box.level, node_at(f, box.level, box.x, box.y));
    int level = box.level - 1;
    for (int c = 0; c < 4; c++) {
        int x = 2 * box.x + c / 2, y = 2 * box.y + c % 2;
        if (level == 0) continue;
        fall -= box_error(f, level, node_at(f, level, x, y));
        push_box(f, level, x, y);
    }
    return fall;
}

// The error after the last refinement is the sum over the boxes that are left; the errors
// before it follow by adding what each step took away, last step first: from small to large,
// without cancellation.
static void trace_back(const frame *f, mra_frame_point *point, size_t points)
{
    double error = 0;
    for (size_t b = 0; b < f->waiting; b++) {
        const frame_box *box = &f->heap[b];
        error += box_error(f, box->level, node_at(f, box->level, box->x, box->y));
    }
    for (size_t p = points; p-- > 0;) {
        double fall = point[p].squared_error; // of the step that led to this point
        point[p].squared_error = error;
        error += fall;
    }
}

static void paint(const frame *f, double *approximation)
{
    size_t n = (size_t)f->n;
    for (size_t i = 0; i < n * n; i++) approximation[i] = exp(f->logit[i] - f->shift);
    for (size_t b = 0; b < f->waiting; b++) {
        const frame_box *box = &f->heap[b];
        size_t side = (size_t)1 << box->level;
        double value = box_value(f, box->level, node_at(f, box->level, box->x, box->y));
        for (size_t i = 0; i < side; i++)
            for (size_t j = 0; j < side; j++)
                approximation[((size_t)box->x * side + i) * n + (size_t)box->y * side + j] =
                    value;
    }
}

static mra_status build_frame(frame *f, size_t terms, mra_error *err)
{
    size_t n = (size_t)f->n, bytes = 0;
    while (f->n >> f->levels > 1) f->levels++;
    for (int level = 1; level <= f->levels; level++) {
        size_t across = n >> level;
        bytes += across * across * sizeof(frame_node);
        f->node[level] = malloc(across * across * sizeof(frame_node));
        if (f->node[level] == NULL) goto failed;
        for (size_t x = 0; x < across; x++)
            for (size_t y = 0; y < across; y++)
                f->node[level][x * across + y] = merge_quarters(f, level, (int)x, (int)y);
    }
    size_t room = (terms < n * n / 4 ? terms : n * n / 4) + 4;
    bytes += room * sizeof *f->heap;
    f->heap = malloc(room * sizeof *f->heap);
    if (f->heap == NULL) goto failed;
    return MRA_OK;
failed:
    return mra_fail(err, MRA_NO_MEMORY, "boxes of a %d x %d matrix: no %zu bytes", f->n, f->n,
                    bytes);
}

mra_status mra_frame_approximate(const double *logit, int n, double shift,
                                 mra_frame_coefficient coefficient, mra_frame_order order,
                                 size_t terms, mra_frame_point *point, size_t *points,
                                 double *approximation, mra_error *err)
{
    if (n < 1 || (n & (n - 1)) != 0 || n > MRA_WAVELET_LIMIT)
        return mra_fail(err, MRA_BAD_INPUT, "n: %d, expected a power of two, at most %d", n,
                        MRA_WAVELET_LIMIT);
    if (terms < 1 || terms > (size_t)n * (size_t)n)
        return mra_fail(err, MRA_BAD_INPUT, "terms: %zu, expected 1 to n^2 = %zu", terms,
                        (size_t)n * (size_t)n);
    frame f = {
        .n = n, .shift = shift, .logit = logit, .coefficient = coefficient, .order = order};
    mra_status status = build_frame(&f, terms, err);
    size_t steps = (terms - 1) / 3;
    if (status == MRA_OK) {
        if (n > 1) push_box(&f, f.levels, 0, 0);
        if (point != NULL) point[0] = (mra_frame_point){.terms = 1};
        for (size_t t = 1; t <= steps; t++) {
            double fall = refine_first(&f);
            if (point != NULL) point[t] = (mra_frame_point){1 + 3 * t, fall};
        }
        if (point != NULL) trace_back(&f, point, steps + 1);
        if (points != NULL) *points = steps + 1;
        if (approximation != NULL) paint(&f, approximation);
    }
    for (int level = 1; level < FRAME_LEVELS; level++) free(f.node[level]);
    free(f.heap);
    return status;
}
