// The tape: a list of operations in an arena, and the walk back along it.
//
// Let $L$ be the loss and $y = f(x_1, x_2, ...)$ one operation. The chain rule says $\partial L
// / \partial x_i = (\partial y / \partial x_i)^T \partial L / \partial y$, summed over all
// operations that use $x_i$. In the reverse of the order in which operations ran, all uses of
// $y$ come before the operation that made it, so that its gradient is complete when its node is
// reached.
//
// A gradient starts at zero; but writing zeros only to read them again costs as much memory
// traffic as a kernel. So each result carries a mark, grad_empty: the first node that
// contributes overwrites, the later ones add. A node whose result is still marked when the walk
// reaches it is not on any path to the loss, and is skipped.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/operation.h"

typedef struct tape_entry tape_entry;
struct tape_entry {
    mra_node node;
    tape_entry *previous;
};

struct mra_tape {
    mra_device *device;
    mra_arena arena;
    tape_entry *last;
    void **piece; // device memory outside the arena, given back by the next reset
    size_t pieces, piece_room;
    bool training, record;
    uint64_t seed, step;
    mra_error error; // sticky; status MRA_OK while there is none
};

mra_status mra_tape_create(mra_tape **tape, mra_device *device, mra_error *err)
{
    *tape = calloc(1, sizeof **tape);
    if (!*tape) return mra_fail(err, MRA_NO_MEMORY, "tape: no memory for its state");
    (*tape)->device = device;
    (*tape)->record = true;
    return MRA_OK;
}

static void release_pieces(mra_tape *tape)
{
    while (tape->pieces > 0) tape->device->release(tape->device, tape->piece[--tape->pieces]);
}

void mra_tape_free(mra_tape *tape)
{
    if (!tape) return;
    release_pieces(tape);
    free(tape->piece);
    mra_arena_free(&tape->arena);
    free(tape);
}

// A step that needed several chunks leaves them to be merged into one at the next request.
// Asking here keeps that out of the step that follows.
void mra_tape_reset(mra_tape *tape)
{
    release_pieces(tape);
    mra_arena_reset(&tape->arena);
    if (tape->arena.first != tape->arena.current) {
        mra_arena_alloc(&tape->arena, 0);
        mra_arena_reset(&tape->arena);
    }
    tape->last = NULL;
    tape->error = (mra_error){.status = MRA_OK};
}

void mra_tape_mode(mra_tape *tape, bool training, bool record, uint64_t seed, uint64_t step)
{
    tape->training = training;
    tape->record = record;
    tape->seed = seed;
    tape->step = step;
}

mra_tape_random mra_tape_random_of(const mra_tape *tape)
{
    return (mra_tape_random){tape->training, tape->seed, tape->step};
}

mra_status mra_tape_status(const mra_tape *tape, mra_error *err)
{
    if (tape->error.status && err) *err = tape->error;
    return tape->error.status;
}

mra_device *mra_tape_device(const mra_tape *tape)
{
    return tape->device;
}

const mra_arena *mra_tape_arena(const mra_tape *tape)
{
    return &tape->arena;
}

mra_tensor *mra_tape_fail(mra_tape *tape, mra_status status, const char *format, ...)
{
    if (tape->error.status) return NULL;
    char message[sizeof tape->error.message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    mra_fail(&tape->error, status, "%s", message);
    return NULL;
}

// ---- Memory and results ---------------------------------------------------------------------

void *mra_tape_alloc(mra_tape *tape, size_t bytes)
{
    void *memory = mra_arena_alloc(&tape->arena, bytes);
    if (!memory)
        mra_tape_fail(tape, MRA_NO_MEMORY, "tape: no memory for %zu bytes beside %zu in use",
                      bytes, tape->arena.used);
    return memory;
}

// Where device memory is the host's it shares the arena. Otherwise every piece is the device's
// own, which keeps what it is given back for the next step.
void *mra_tape_device_alloc(mra_tape *tape, size_t bytes)
{
    mra_device *device = tape->device;
    if (device->host_memory) return mra_tape_alloc(tape, bytes);
    if (tape->pieces == tape->piece_room) {
        size_t room = tape->piece_room ? 2 * tape->piece_room : 256;
        void **piece = realloc(tape->piece, room * sizeof *piece);
        if (!piece) return mra_tape_fail(tape, MRA_NO_MEMORY, "tape: no memory for its list");
        tape->piece = piece;
        tape->piece_room = room;
    }
    void *memory = device->scratch(device, bytes);
    if (!memory)
        return mra_tape_fail(tape, MRA_NO_MEMORY,
                             "tape: no memory for %zu bytes on the device '%s'", bytes,
                             device->name);
    return tape->piece[tape->pieces++] = memory;
}

void *mra_tape_upload(mra_tape *tape, const void *from, size_t bytes)
{
    mra_error err;
    void *memory = mra_tape_device_alloc(tape, bytes);
    if (!memory) return NULL;
    if (tape->device->to_device(tape->device, memory, from, bytes, &err) == MRA_OK)
        return memory;
    return mra_tape_fail(tape, err.status, "%s", err.message);
}

static mra_tensor *make_header(mra_tape *tape, int rank, const int *shape)
{
    if (rank < 0 || rank > MRA_MAX_RANK)
        return mra_tape_fail(tape, MRA_BAD_INPUT, "tensor: rank %d, expected 0 to %d", rank,
                             MRA_MAX_RANK);
    mra_tensor *tensor = mra_tape_alloc(tape, sizeof *tensor);
    if (!tensor) return NULL;
    *tensor = (mra_tensor){.rank = rank, .size = 1};
    for (int i = 0; i < rank; i++) {
        tensor->shape[i] = shape[i];
        if (shape[i] < 0 || (shape[i] && tensor->size > SIZE_MAX / 4 / (size_t)shape[i]))
            return mra_tape_fail(tape, MRA_BAD_INPUT, "tensor: dimension %d of %d is %d", i,
                                 rank, shape[i]);
        tensor->size *= (size_t)shape[i];
    }
    return tensor;
}

mra_tensor *mra_wrap(mra_tape *tape, int rank, const int *shape, float *data, float *grad)
{
    mra_tensor *tensor = make_header(tape, rank, shape);
    if (!tensor) return NULL;
    tensor->data = data;
    tensor->grad = grad;
    tensor->needs_grad = grad != NULL;
    return tensor;
}

mra_tensor *mra_tape_result(mra_tape *tape, int rank, const int *shape, bool needs_grad)
{
    mra_tensor *tensor = make_header(tape, rank, shape);
    if (!tensor) return NULL;
    tensor->data = mra_tape_device_alloc(tape, tensor->size * sizeof(float));
    if (!tensor->data) return NULL;
    tensor->needs_grad = needs_grad && tape->record;
    if (!tensor->needs_grad) return tensor;
    tensor->grad = mra_tape_device_alloc(tape, tensor->size * sizeof(float));
    return tensor->grad ? tensor : NULL;
}

mra_tensor *mra_result_like(mra_tape *tape, const mra_tensor *like, bool needs_grad)
{
    return mra_tape_result(tape, like->rank, like->shape, needs_grad);
}

mra_tensor *mra_reshape(mra_tape *tape, mra_tensor *x, int rank, const int *shape)
{
    if (!x) return NULL;
    mra_tensor *view = make_header(tape, rank, shape);
    if (!view) return NULL;
    if (view->size != x->size)
        return mra_tape_fail(tape, MRA_BAD_INPUT, "reshape: %s does not fit into %s",
                             mra_shape_of(x).text, mra_shape_of(view).text);
    view->data = x->data;
    view->grad = x->grad;
    view->needs_grad = x->needs_grad;
    view->view_of = x;
    return view;
}

mra_tensor *mra_tape_record(mra_tape *tape, const mra_node *node)
{
    if (!node->output || tape->error.status) return NULL;
    if (!node->output->needs_grad || !tape->record) return node->output;
    tape_entry *entry = mra_tape_alloc(tape, sizeof *entry);
    if (!entry) return NULL;
    entry->node = *node;
    entry->previous = tape->last;
    tape->last = entry;
    return node->output;
}

mra_tensor *mra_finish(mra_tape *tape, mra_status status, const mra_error *err,
                       const mra_node *node)
{
    if (status) return mra_tape_fail(tape, status, "%s", err->message);
    return mra_tape_record(tape, node);
}

// ---- The walk back --------------------------------------------------------------------------

// The tensor that owns data and gradient: where the mark of an empty gradient lives.
static mra_tensor *owner(mra_tensor *tensor)
{
    while (tensor->view_of) tensor = tensor->view_of;
    return tensor;
}

bool mra_grad_adds(mra_tensor *operand)
{
    mra_tensor *holder = owner(operand);
    bool adds = !holder->grad_empty;
    holder->grad_empty = false;
    return adds;
}

mra_status mra_grad_ready(mra_tape *tape, mra_tensor *operand, mra_error *err)
{
    if (!operand->needs_grad || mra_grad_adds(operand)) return MRA_OK;
    return tape->device->kernels->fill(tape->device, operand->size, 0.0f, operand->grad, err);
}

// For nodes that only know how to add: gives them zeros to add to.
static mra_status make_gradients_ready(mra_tape *tape, mra_node *node, mra_error *err)
{
    for (int i = 0; i < node->operands; i++) {
        mra_status status = MRA_OK;
        if (node->operand[i]) status = mra_grad_ready(tape, node->operand[i], err);
        if (status) return status;
    }
    return MRA_OK;
}

static mra_status walk_back(mra_tape *tape, mra_error *err)
{
    for (tape_entry *entry = tape->last; entry; entry = entry->previous) {
        mra_node *node = &entry->node;
        if (owner(node->output)->grad_empty) continue;
        mra_status status = MRA_OK;
        if (!node->overwrites) status = make_gradients_ready(tape, node, err);
        if (!status) status = node->backward(tape, node, err);
        if (!status) status = mra_tape_status(tape, err);
        if (!status) continue;
        mra_fail_within(err, "backward of %s", node->name);
        return status;
    }
    return MRA_OK;
}

// Checks that there is something to do and marks the gradients of all results as empty.
static mra_status start_backward(mra_tape *tape, const mra_tensor *output, mra_error *err)
{
    mra_status status = mra_tape_status(tape, err);
    if (status) return status;
    if (!output) return mra_fail(err, MRA_BAD_INPUT, "backward: there is no output");
    if (!output->needs_grad)
        return mra_fail(err, MRA_BAD_INPUT,
                        "backward: nothing that leads to the output needs a gradient");
    for (tape_entry *entry = tape->last; entry; entry = entry->previous)
        owner(entry->node.output)->grad_empty = true;
    return MRA_OK;
}

mra_status mra_tape_backward(mra_tape *tape, mra_tensor *loss, mra_error *err)
{
    mra_status status = start_backward(tape, loss, err);
    if (status) return status;
    if (loss->size != 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "backward: the loss has shape %s, expected one element",
                        mra_shape_of(loss).text);
    const float one = 1.0f;
    return mra_tape_backward_from(tape, loss, &one, err);
}

mra_status mra_tape_backward_from(mra_tape *tape, mra_tensor *output, const float *seed_grad,
                                  mra_error *err)
{
    mra_status status = start_backward(tape, output, err);
    if (status) return status;
    mra_device *device = tape->device;
    const float *seed = mra_tape_upload(tape, seed_grad, output->size * sizeof *seed);
    if (!seed) return mra_tape_status(tape, err);
    const bool add = mra_grad_adds(output);
    status = device->kernels->scale(device, output->size, 1.0f, seed, output->grad, add, err);
    return status ? status : walk_back(tape, err);
}
