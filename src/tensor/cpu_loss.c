// Cross-entropy on the cpu. Only log-sum-exp of each row is kept for the backward pass, which
// takes the softmax from it again; with tens of thousands of classes the probabilities would be
// the largest array of the step.

#include <math.h>

#include "tensor/cpu.h"
#include "tensor/vector.h"

typedef struct loss_context {
    size_t rows, classes;
    const float *logits;
    const int32_t *labels;
    const float *lse;
    float *row_lse, *dlogits;
    double *row_loss;
    int32_t *row_right;
    float factor; // backward: dloss / rows that have a label
    bool add;
} loss_context;

// max + log sum exp(x - max); -infinity where every entry is.
static float log_sum_exp(size_t count, const float *x)
{
    const float largest = mra_row_max(x, count);
    const float shift = largest == -INFINITY ? 0.0f : largest;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < count; j++) sum += mra_exp(x[j] - shift);
    return sum == 0.0f ? -INFINITY : shift + logf(sum);
}

// Whether argmax (the first of equal ones) is at the label. NaN is never right.
static bool is_largest(size_t count, const float *x, size_t label)
{
    for (size_t j = 0; j < count; j++) {
        if (j < label && !(x[j] < x[label])) return false;
        if (j >= label && !(x[j] <= x[label])) return false;
    }
    return true;
}

static void loss_item(void *context, size_t item, int thread)
{
    (void)thread;
    const loss_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->classes), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *x = c->logits + row * c->classes;
        const int32_t label = c->labels[row];
        c->row_lse[row] = log_sum_exp(c->classes, x);
        c->row_loss[row] = label < 0 ? 0.0 : (double)c->row_lse[row] - (double)x[label];
        c->row_right[row] = label >= 0 && is_largest(c->classes, x, (size_t)label);
    }
}

mra_status mra_cpu_cross_entropy(mra_device *device, size_t rows, int classes,
                                 const float *logits, const int32_t *labels, float *lse,
                                 float *loss, int32_t *counts, mra_error *err)
{
    const char *name = "cross-entropy";
    double *row_loss = mra_cpu_scratch(device, rows, sizeof *row_loss, name, err);
    if (!row_loss) return MRA_NO_MEMORY;
    int32_t *row_right = mra_cpu_more_scratch(device, rows, sizeof *row_right, name, err);
    if (!row_right) return MRA_NO_MEMORY;
    loss_context context = {.rows = rows,
                            .classes = (size_t)classes,
                            .logits = logits,
                            .labels = labels,
                            .row_lse = lse,
                            .row_loss = row_loss,
                            .row_right = row_right};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item(context.classes)), loss_item,
                 &context);
    double sum = 0.0;
    counts[0] = counts[1] = 0;
    for (size_t row = 0; row < rows; row++) {
        counts[0] += labels[row] >= 0;
        counts[1] += context.row_right[row];
        sum += row_loss[row];
    }
    *loss = counts[0] ? (float)(sum / counts[0]) : 0.0f;
    return MRA_OK;
}

static void loss_backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const loss_context *c = context;
    const size_t classes = c->classes;
    const mra_range range = mra_range_of(item, mra_rows_per_item(classes), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *x = c->logits + row * classes;
        float *dx = c->dlogits + row * classes;
        const float lse = c->lse[row], factor = c->labels[row] < 0 ? 0.0f : c->factor;
        if (factor == 0.0f) {
            for (size_t j = 0; !c->add && j < classes; j++) dx[j] = 0.0f;
            continue;
        }
        const size_t label = (size_t)c->labels[row];
        const float target =
            (c->add ? dx[label] : 0.0f) + factor * (mra_exp(x[label] - lse) - 1);
        if (c->add) {
#pragma omp simd
            for (size_t j = 0; j < classes; j++) dx[j] += factor * mra_exp(x[j] - lse);
        } else {
#pragma omp simd
            for (size_t j = 0; j < classes; j++) dx[j] = factor * mra_exp(x[j] - lse);
        }
        dx[label] = target;
    }
}

mra_status mra_cpu_cross_entropy_backward(mra_device *device, size_t rows, int classes,
                                          const float *logits, const int32_t *labels,
                                          const float *lse, const int32_t *counts,
                                          const float *dloss, float *dlogits, bool add,
                                          mra_error *err)
{
    (void)err;
    loss_context context = {.rows = rows,
                            .classes = (size_t)classes,
                            .logits = logits,
                            .labels = labels,
                            .lse = lse,
                            .dlogits = dlogits,
                            .factor = counts[0] ? *dloss / (float)counts[0] : 0.0f,
                            .add = add};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item(context.classes)),
                 loss_backward_item, &context);
    return MRA_OK;
}
