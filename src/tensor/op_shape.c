// Operations that move entries, leave some out, or average over positions.

#include "tensor/operation.h"

// ---- Heads: [batch, n, heads, d] <-> [batch, heads, n, d] -----------------------------------

// The way back swaps the two middle dimensions again.
static mra_status swap_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    const int *swapped = node->saved; // outer, first, second, inner of the way back
    return device->kernels->swap_middle(device, (size_t)swapped[0], swapped[1], swapped[2],
                                        swapped[3], node->output->grad, x->grad,
                                        mra_grad_adds(x), err);
}

// y = x with its two middle dimensions swapped, where x[outer, first, second, inner]; y has
// `shape`.
static mra_tensor *swap_middle(mra_tape *tape, mra_tensor *x, const int dimension[4], int rank,
                               const int *shape, const char *name)
{
    mra_tensor *y = mra_tape_result(tape, rank, shape, x->needs_grad);
    int *swapped = mra_tape_alloc(tape, 4 * sizeof *swapped);
    if (!y || !swapped) return NULL;
    const int back[4] = {dimension[0], dimension[2], dimension[1], dimension[3]};
    for (int i = 0; i < 4; i++) swapped[i] = back[i];
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->swap_middle(device, (size_t)dimension[0], dimension[1], dimension[2],
                                     dimension[3], x->data, y->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = swapped,
                                  .backward = swap_backward,
                                  .name = name,
                                  .overwrites = true});
}

mra_tensor *mra_split_heads(mra_tape *tape, mra_tensor *x, int heads)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 3 || heads < 1 || x->shape[2] % heads)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "split_heads: x%s into %d heads, expected x[batch,n,heads*d]",
                             mra_shape_of(x).text, heads);
    const int batch = x->shape[0], n = x->shape[1], d = x->shape[2] / heads;
    return swap_middle(tape, x, (int[]){batch, n, heads, d}, 4, (int[]){batch, heads, n, d},
                       "split_heads");
}

mra_tensor *mra_merge_heads(mra_tape *tape, mra_tensor *x)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 4)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "merge_heads: x%s, expected x[batch,heads,n,d]",
                             mra_shape_of(x).text);
    const int batch = x->shape[0], heads = x->shape[1], n = x->shape[2], d = x->shape[3];
    return swap_middle(tape, x, x->shape, 3, (int[]){batch, n, heads * d}, "merge_heads");
}

mra_tensor *mra_swap_middle(mra_tape *tape, mra_tensor *x, const int dimension[4], int rank,
                            const int *shape)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    size_t size = 1;
    for (int i = 0; i < 4; i++) size *= (size_t)dimension[i];
    if (size != x->size)
        return mra_tape_fail(tape, MRA_BAD_INPUT, "swap_middle: x%s, expected %zu entries",
                             mra_shape_of(x).text, size);
    return swap_middle(tape, x, dimension, rank, shape, "swap_middle");
}

// ---- Columns --------------------------------------------------------------------------------

typedef struct columns_saved {
    int from, to, count; // columns of x and of y from which `count` are copied
} columns_saved;

static mra_status columns_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *y = node->output;
    const columns_saved *s = node->saved;
    bool add = true;
    mra_status status = MRA_OK;
    if (s->count == mra_last(x))
        add = mra_grad_adds(x);
    else
        status = mra_grad_ready(tape, x, err); // the columns that were left out get nothing
    if (status) return status;
    return device->kernels->copy_columns(device, mra_leading(x), s->count, y->grad + s->to,
                                         (size_t)mra_last(y), x->grad + s->from,
                                         (size_t)mra_last(x), add, err);
}

// A result of `width` columns, zeros but for those that are copied from x.
static mra_tensor *with_columns(mra_tape *tape, mra_tensor *x, int width, columns_saved copied,
                                const char *name)
{
    int shape[MRA_MAX_RANK];
    for (int i = 0; i < x->rank; i++) shape[i] = x->shape[i];
    shape[x->rank - 1] = width;
    mra_tensor *y = mra_tape_result(tape, x->rank, shape, x->needs_grad);
    columns_saved *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!y || !saved) return NULL;
    *saved = copied;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = MRA_OK;
    if (width > copied.count)
        status = device->kernels->fill(device, y->size, 0.0f, y->data, &err);
    if (!status)
        status = device->kernels->copy_columns(device, mra_leading(x), copied.count,
                                               x->data + copied.from, (size_t)mra_last(x),
                                               y->data + copied.to, (size_t)width, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = saved,
                                  .backward = columns_backward,
                                  .name = name,
                                  .overwrites = true});
}

mra_tensor *mra_columns(mra_tape *tape, mra_tensor *x, int first, int count)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank < 1 || first < 0 || count < 1 || count > mra_last(x) - first)
        return mra_tape_fail(tape, MRA_BAD_INPUT, "columns: %d columns from %d of x%s", count,
                             first, mra_shape_of(x).text);
    if (count == mra_last(x)) return x;
    return with_columns(tape, x, count, (columns_saved){.from = first, .count = count},
                        "columns");
}

mra_tensor *mra_pad_columns(mra_tape *tape, mra_tensor *x, int count)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank < 1 || count < mra_last(x))
        return mra_tape_fail(tape, MRA_BAD_INPUT, "pad_columns: x%s to %d columns",
                             mra_shape_of(x).text, count);
    if (count == mra_last(x)) return x;
    return with_columns(tape, x, count, (columns_saved){.count = mra_last(x)}, "pad_columns");
}

// ---- Masks ----------------------------------------------------------------------------------

static mra_status mask_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    return device->kernels->mask_rows(device, mra_leading(x), mra_last(x), node->saved,
                                      node->output->grad, x->grad, mra_grad_adds(x), err);
}

mra_tensor *mra_apply_mask(mra_tape *tape, mra_tensor *x, const uint8_t *mask)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 3)
        return mra_tape_fail(tape, MRA_BAD_INPUT, "apply_mask: x%s, expected x[batch,n,width]",
                             mra_shape_of(x).text);
    if (!mask) return x;
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    uint8_t *saved = mra_tape_upload(tape, mask, mra_leading(x));
    if (!y || !saved) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->mask_rows(device, mra_leading(x), mra_last(x), saved,
                                                   x->data, y->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = saved,
                                  .backward = mask_backward,
                                  .name = "apply_mask",
                                  .overwrites = true});
}

// ---- Mean over positions --------------------------------------------------------------------

static mra_status pool_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0];
    return device->kernels->mean_pool_backward(device, (size_t)x->shape[0], x->shape[1],
                                               x->shape[2], node->saved, node->output->grad,
                                               x->grad, mra_grad_adds(x), err);
}

mra_tensor *mra_mean_pool(mra_tape *tape, mra_tensor *x, const uint8_t *mask)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 3)
        return mra_tape_fail(tape, MRA_BAD_INPUT, "mean_pool: x%s, expected x[batch,n,width]",
                             mra_shape_of(x).text);
    mra_tensor *y = mra_tape_result(tape, 2, (int[]){x->shape[0], x->shape[2]}, x->needs_grad);
    uint8_t *saved = mask ? mra_tape_upload(tape, mask, mra_leading(x)) : NULL;
    if (!y || (mask && !saved)) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->mean_pool(device, (size_t)x->shape[0], x->shape[1],
                                                   x->shape[2], saved, x->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = saved,
                                  .backward = pool_backward,
                                  .name = "mean_pool",
                                  .overwrites = true});
}

// ---- Concatenation --------------------------------------------------------------------------

enum { MOST_CONCAT = 4 };

static mra_status concat_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const size_t rows = mra_leading(node->output), stride = (size_t)mra_last(node->output);
    const float *dy = node->output->grad;
    for (int i = 0; i < node->operands; i++) {
        mra_tensor *x = node->operand[i];
        const int width = mra_last(x);
        mra_status status = MRA_OK;
        if (x->needs_grad)
            status = device->kernels->copy_columns(device, rows, width, dy, stride, x->grad,
                                                   (size_t)width, mra_grad_adds(x), err);
        if (status) return status;
        dy += width;
    }
    return MRA_OK;
}

// Whether `part` has the leading dimensions of `first`.
static bool same_leading(const mra_tensor *first, const mra_tensor *part)
{
    if (part->rank != first->rank || part->rank < 1) return false;
    for (int i = 0; i + 1 < part->rank; i++)
        if (part->shape[i] != first->shape[i]) return false;
    return true;
}

// The result of concat, not yet filled, and the node that will be recorded for it.
static mra_tensor *concat_result(mra_tape *tape, mra_tensor *const *parts, int count,
                                 mra_node *node)
{
    if (count < 1 || count > MOST_CONCAT)
        return mra_tape_fail(tape, MRA_BAD_INPUT, "concat: %d parts, expected 1 to %d", count,
                             MOST_CONCAT);
    bool needs_grad = false;
    int width = 0;
    for (int i = 0; i < count; i++) {
        if (!parts[i]) return NULL;
        if (!same_leading(parts[0], parts[i]))
            return mra_tape_fail(
                tape, MRA_BAD_INPUT,
                "concat: part 0%s and part %d%s, expected equal leading dimensions",
                mra_shape_of(parts[0]).text, i, mra_shape_of(parts[i]).text);
        node->operand[i] = parts[i];
        needs_grad = needs_grad || parts[i]->needs_grad;
        width += mra_last(parts[i]);
    }
    int shape[MRA_MAX_RANK];
    for (int i = 0; i < parts[0]->rank; i++) shape[i] = parts[0]->shape[i];
    shape[parts[0]->rank - 1] = width;
    return mra_tape_result(tape, parts[0]->rank, shape, needs_grad);
}

mra_tensor *mra_concat(mra_tape *tape, mra_tensor *const *parts, int count)
{
    if (mra_tape_status(tape, NULL)) return NULL;
    mra_node node = {
        .operands = count, .backward = concat_backward, .name = "concat", .overwrites = true};
    mra_tensor *y = concat_result(tape, parts, count, &node);
    if (!y) return NULL;
    node.output = y;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = MRA_OK;
    size_t left = 0;
    for (int i = 0; i < count && !status; i++) {
        const int width = mra_last(parts[i]);
        status = device->kernels->copy_columns(device, mra_leading(y), width, parts[i]->data,
                                               (size_t)width, y->data + left,
                                               (size_t)mra_last(y), false, &err);
        left += (size_t)width;
    }
    return mra_finish(tape, status, &err, &node);
}
