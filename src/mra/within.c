// # Attention with a promise
//
// The paper's budget says how much work is done, not how good the result is. With a certificate
// the question can be turned around: refine until the error is certain to be small enough.
//
// The boxes are refined in the order of what they cost the certificate (its terms for the
// coarse matrix with nothing refined), not in the order of their coefficients: a large box whose
// logits hardly vary is left alone, and a smaller one that hides a peak is opened. The budget
// grows by half until the certified relative error is within the tolerance; the work of all
// rounds together is at most about three times that of the last. When every box is refined the
// result is exact attention but for rounding, and the certificate says how much that is.

#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "mra/certificate.h"

typedef struct within_head {
    mra_options options;
    int n, d, rows; // rows of boxes
    int counted;    // those that budgets count
    const float *q, *k, *v;
    const uint8_t *mask;
    float *z;
    double *row;
    mra_certificate *certificate;
    float *score;
    int32_t *order, *scratch;
    size_t boxes; // coarse boxes that there are
} within_head;

// J with nothing refined: its output and the scores of its boxes.
static mra_status score_boxes(within_head *head, mra_error *err)
{
    mra_apply *apply;
    mra_options options = head->options;
    options.ranking = MRA_RANK_ROW;
    options.blocks[1] = 0;
    mra_status status = mra_apply_create(&apply, &options, head->n, head->d, err);
    if (status != MRA_OK) return status;
    mra_apply_forward(apply, head->q, head->k, head->v, head->mask, head->z);
    head->boxes = apply->selection.level[0].count;
    head->counted = mra_budget_rows(&options, apply->pyramid.level[0].tokens, head->rows);
    head->score = mra_aligned_calloc(head->boxes + 1, sizeof *head->score);
    head->order = mra_aligned_calloc(head->boxes + 1, sizeof *head->order);
    head->scratch = mra_aligned_calloc(2 * head->boxes + 1, sizeof *head->scratch);
    if (!head->score || !head->order || !head->scratch)
        status = mra_fail(err, MRA_NO_MEMORY, "no memory to rank %zu boxes", head->boxes);
    if (status == MRA_OK) status = mra_certificate_scores(apply, head->z, head->score, err);
    mra_apply_free(apply);
    return status;
}

// J with the m boxes of the largest scores refined, its output and its certificate.
static mra_status refine(within_head *head, size_t m, mra_error *err)
{
    mra_apply *apply;
    mra_options options = head->options;
    options.ranking = MRA_RANK_ROW;
    options.blocks[1] = (double)m / head->rows;
    mra_status status = mra_apply_create(&apply, &options, head->n, head->d, err);
    if (status != MRA_OK) return status;
    mra_pyramid_build(&apply->pyramid, head->q, head->k, head->v, head->mask);
    mra_selection_start(&apply->selection, &apply->pyramid);
    const size_t chosen =
        mra_select_largest(head->score, head->boxes, m, head->order, head->scratch);
    mra_selection_refine(&apply->selection, &apply->pyramid, 1, head->order, chosen);
    mra_apply_product(apply, head->z);
    status = mra_certify_apply(apply, head->z, head->row, head->certificate, err);
    mra_apply_free(apply);
    return status;
}

static mra_status refine_until(within_head *head, double tolerance, double *blocks,
                               mra_error *err)
{
    mra_status status = score_boxes(head, err);
    for (size_t m = 0; status == MRA_OK; m += m / 2 + (size_t)head->counted) {
        if (m > head->boxes) m = head->boxes;
        status = refine(head, m, err);
        *blocks = m > 0 ? (double)m / head->counted : 0;
        if (m == head->boxes || head->certificate->relative <= tolerance) break;
    }
    mra_aligned_free(head->score);
    mra_aligned_free(head->order);
    mra_aligned_free(head->scratch);
    return status;
}

static bool all_finite(const within_head *head)
{
    const float *array[] = {head->q, head->k, head->v};
    for (int row = 0; row < head->n; row++) {
        if (head->mask && !head->mask[row]) continue;
        for (int a = 0; a < 3; a++)
            if (!mra_fused_all_finite(array[a] + (size_t)row * (size_t)head->d,
                                      (size_t)head->d))
                return false;
    }
    return true;
}

mra_status mra_attend_within(const mra_options *options, int n, int d, const float *q,
                             const float *k, const float *v, const uint8_t *mask,
                             double tolerance, float *z, double *row,
                             mra_certificate *certificate, double *blocks, mra_error *err)
{
    *blocks = 0;
    if (!(tolerance > 0))
        return mra_fail(err, MRA_BAD_INPUT, "tolerance: %g, expected a number above 0",
                        tolerance);
    if (options->scales != 2 || options->sparse || options->grid_height > 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "tolerance: expected a sequence and two scales with the coarse one "
                        "kept (MRA-2)");
    within_head head = {.options = *options,
                        .n = n,
                        .d = d,
                        .rows = (n + options->scale[0] - 1) / options->scale[0],
                        .q = q,
                        .k = k,
                        .v = v,
                        .mask = mask,
                        .z = z,
                        .row = row,
                        .certificate = certificate};
    if (!all_finite(&head))
        return mra_fail(err, MRA_BAD_INPUT,
                        "q, k, v: NaN or an infinity; expected finite numbers");
    if (!row) head.row = mra_aligned_calloc((size_t)n, sizeof *head.row);
    mra_status status = head.row ? refine_until(&head, tolerance, blocks, err)
                                 : mra_fail(err, MRA_NO_MEMORY, "no memory for %d bounds", n);
    if (!row) mra_aligned_free(head.row);
    return status;
}
