// # The error of the whole matrix
//
// The paper sums its lemma over all boxes. On a box of side $s$ that is not refined,
// $$\sum(A_{ij}-\mu)^2=s^2\bigl(\overline{e^{2P}}-2\mu\,\overline{e^P}+\mu^2\bigr)
//   \le s^2\bigl(\overline{e^{2P}}-\mu^2\bigr),$$
// for $\overline{e^P}\ge\mu$. The lemma once more, for the logits $2P$, whose range is $2r$ and the
// exponential of whose mean is $\mu^2$, bounds what is left by $s^2C_{2r}\,\mu^2$. Refined boxes have
// no error; with $\delta$ the largest coefficient that is not refined and $r$ the largest range,
// $$\frac{\lVert A-\hat A\rVert_F}{\lVert A\rVert_F}\le
//   \sqrt{\frac{(n^2-ms^2)\,C_{2r}\,\delta^2}{\sum_{ij}e^{2P_{ij}}}} .$$
// Two losses are in it. One $r$ and one $\delta$ for all boxes: summing $s^2C_{2r_b}\mu_b^2$ over
// the boxes, each with its own, is the second bound. And $C$ where Specht's ratio does:
// $\sum_bs^2(S(e^{2r_b})-1)\,\mu_b^2$ is the third, and no function of $r_b$ and $\mu_b$ is smaller
// as far as $\overline{e^{2P}}$ goes. Everything in logarithms, for $C_{2r}$ may be too large for a number.

#include "common_bounds.h"

#include <math.h>
#include <stdlib.h>

#include "common_dense.h"
#include "mra/apply.h"

typedef struct box {
    double log_mu, range, log_square, entries;
} box;

static double log_add(double a, double b)
{
    const double most = fmax(a, b);
    return most == -INFINITY ? most : most + log(exp(a - most) + exp(b - most));
}

// log C_r, for any r >= 0.
static double log_paper_bound(double r)
{
    return 2 * (r > 60 ? r / 2 : log(expm1(r / 2)));
}

// log (S(e^r) - 1).
static double log_sharp_excess(double r)
{
    const double log_ratio = mra_specht_log(r);
    return log_ratio > 30 ? log_ratio : log(expm1(log_ratio));
}

static int by_coefficient(const void *a, const void *b)
{
    const double first = ((const box *)a)->log_mu, second = ((const box *)b)->log_mu;
    return (first < second) - (first > second);
}

static double log_squared_norm(const mra_dense_head *dense)
{
    double sum = 0;
    for (size_t i = 0; i < (size_t)dense->n * (size_t)dense->n; i++)
        sum += exp(2 * (dense->logit[i] - dense->largest));
    return (sum > 0 ? log(sum) : -INFINITY) + 2 * dense->largest; // never 0: the largest is 1
}

// The boxes from m on are those that are not refined.
static mra_global_error sum_boxes(const box *boxes, size_t count, size_t m, double log_norm)
{
    double log_error = -INFINITY, entries = 0, range = 0, sums[2] = {-INFINITY, -INFINITY};
    for (size_t b = m; b < count; b++) {
        const double log_size = log(boxes[b].entries) + 2 * boxes[b].log_mu;
        log_error = log_add(log_error, boxes[b].log_square);
        entries += boxes[b].entries;
        range = fmax(range, boxes[b].range);
        if (boxes[b].range == 0) continue; // no error, and none allowed
        sums[0] = log_add(sums[0], log_size + log_paper_bound(2 * boxes[b].range));
        sums[1] = log_add(sums[1], log_size + log_sharp_excess(2 * boxes[b].range));
    }
    mra_global_error result = {.log_error = (log_error - log_norm) / 2};
    double whole = -INFINITY;
    if (m < count && range > 0)
        whole = log(entries) + log_paper_bound(2 * range) + 2 * boxes[m].log_mu;
    result.log_bound[MRA_BOUND_PAPER] = (whole - log_norm) / 2;
    result.log_bound[MRA_BOUND_BOXES] = (sums[0] - log_norm) / 2;
    result.log_bound[MRA_BOUND_SHARP] = (sums[1] - log_norm) / 2;
    return result;
}

static void list_boxes(const mra_apply *apply, box *boxes)
{
    const mra_selection_level *level = &apply->selection.level[0];
    for (int x = 0; x < level->blocks; x++)
        for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++) {
            const mra_box_truth truth =
                mra_box_inspect(&apply->pyramid, 0, x, level->column[b]);
            boxes[b] = (box){.log_mu = truth.mean,
                             .range = truth.high - truth.low,
                             .log_square = log(truth.squared_error) + 2 * truth.high,
                             .entries = (double)truth.entries};
        }
}

mra_status mra_global_errors(const mra_trained_head *head, int block, const size_t *refined,
                             size_t count, mra_global_error *error, mra_error *err)
{
    mra_options options = mra_options_mra2(0);
    options.scale[0] = block;
    mra_dense_head dense;
    mra_status status = mra_dense_head_create(&dense, head, err);
    if (status != MRA_OK) return status;
    mra_apply *apply = NULL;
    box *boxes = NULL;
    status = mra_apply_create(&apply, &options, head->n, head->d, err);
    if (status == MRA_OK) {
        mra_apply_prepare(apply, head->q, head->k, head->v, NULL);
        const size_t all = apply->selection.level[0].count;
        boxes = calloc(all + 1, sizeof *boxes);
        if (!boxes) status = mra_fail(err, MRA_NO_MEMORY, "no memory for %zu boxes", all);
    }
    if (status == MRA_OK) {
        const size_t all = apply->selection.level[0].count;
        list_boxes(apply, boxes);
        qsort(boxes, all, sizeof *boxes, by_coefficient);
        const double log_norm = log_squared_norm(&dense);
        for (size_t i = 0; i < count; i++)
            error[i] = sum_boxes(boxes, all, refined[i] < all ? refined[i] : all, log_norm);
    }
    free(boxes);
    mra_apply_free(apply);
    mra_dense_head_free(&dense);
    return status;
}
