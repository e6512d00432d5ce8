// Embeddings of tokens and of positions.
//
// Indices come from the host. They are checked, then copied to the device, where they stay
// until the way back: the caller's array is free at once.

#include "tensor/operation.h"

// What the way back needs of an embedding.
typedef struct embedding_indices {
    const int32_t *ids; // on the device; NULL: 0, 1, 2, ...
    size_t count;
} embedding_indices;

// Copies `count` indices to the tape after checking that each is in [0, rows). NULL with a
// message.
static embedding_indices *save_indices(mra_tape *tape, const char *name, const int32_t *ids,
                                       size_t count, int rows)
{
    if (count > INT32_MAX) {
        mra_tape_fail(tape, MRA_BAD_INPUT, "%s: %zu indices, at most %d allowed", name, count,
                      INT32_MAX);
        return NULL;
    }
    for (size_t i = 0; ids && i < count; i++)
        if (ids[i] < 0 || ids[i] >= rows) {
            mra_tape_fail(tape, MRA_BAD_INPUT, "%s: index %d at position %zu, expected 0 to %d",
                          name, (int)ids[i], i, rows - 1);
            return NULL;
        }
    embedding_indices *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!saved) return NULL;
    *saved = (embedding_indices){NULL, count};
    if (!ids) return saved;
    saved->ids = mra_tape_upload(tape, ids, count * sizeof *ids);
    return saved->ids ? saved : NULL;
}

static mra_status embedding_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const embedding_indices *indices = node->saved;
    mra_tensor *table = node->operand[0];
    mra_status status = mra_grad_ready(tape, table, err);
    if (status) return status;
    return device->kernels->scatter_add(device, indices->count, table->shape[0],
                                        table->shape[1], indices->ids, node->output->grad,
                                        table->grad, err);
}

mra_tensor *mra_embedding(mra_tape *tape, mra_tensor *table, const int32_t *ids, size_t count)
{
    if (!table || mra_tape_status(tape, NULL)) return NULL;
    if (table->rank != 2)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "embedding: table%s, expected table[rows,width]",
                             mra_shape_of(table).text);
    embedding_indices *indices = save_indices(tape, "embedding", ids, count, table->shape[0]);
    if (!indices) return NULL;
    mra_tensor *y =
        mra_tape_result(tape, 2, (int[]){(int)count, table->shape[1]}, table->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->gather(device, count, table->shape[1], table->data,
                                                indices->ids, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {table},
                                  .operands = 1,
                                  .saved = indices,
                                  .backward = embedding_backward,
                                  .name = "embedding",
                                  .overwrites = true});
}

// ---- Positions ------------------------------------------------------------------------------

static mra_status positions_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const embedding_indices *indices = node->saved;
    mra_tensor *x = node->operand[0], *table = node->operand[1];
    const float *dy = node->output->grad;
    mra_status status = MRA_OK;
    if (x->needs_grad)
        status =
            device->kernels->scale(device, x->size, 1.0f, dy, x->grad, mra_grad_adds(x), err);
    if (status || !table->needs_grad) return status;
    status = mra_grad_ready(tape, table, err);
    if (status) return status;
    return device->kernels->add_positions_backward(device, (size_t)x->shape[0], x->shape[1],
                                                   x->shape[2], dy, indices->ids, table->grad,
                                                   err);
}

mra_tensor *mra_add_positions(mra_tape *tape, mra_tensor *x, mra_tensor *table,
                              const int32_t *positions)
{
    if (!x || !table || mra_tape_status(tape, NULL)) return NULL;
    if (x->rank != 3 || table->rank != 2 || x->shape[2] != table->shape[1] ||
        (!positions && x->shape[1] > table->shape[0]))
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "add_positions: x%s, table%s; expected x[batch,n,width], "
                             "table[positions >= n,width]",
                             mra_shape_of(x).text, mra_shape_of(table).text);
    embedding_indices *indices =
        save_indices(tape, "add_positions", positions, (size_t)x->shape[1], table->shape[0]);
    if (!indices) return NULL;
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad || table->needs_grad);
    if (!y) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->add_positions(device, (size_t)x->shape[0], x->shape[1], x->shape[2],
                                       x->data, table->data, indices->ids, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x, table},
                                  .operands = 2,
                                  .saved = indices,
                                  .backward = positions_backward,
                                  .name = "add_positions",
                                  .overwrites = true});
}
