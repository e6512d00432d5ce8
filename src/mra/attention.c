// # MRA attention, fast
//
// The chapters before this one are the method in general: any scales, one head, clarity first.
// What the paper trains and times is one case of it, $R=\{32,1\}$, called **MRA-2**: all coarse
// boxes of side 32 start in $J$, and the $m = \text{blocks}\cdot n/32$ best are refined to
// single entries. **MRA-2-s** ("s" for sparse) then drops the coarse ones. Two scales leave so
// little structure that everything can be fused into blocks of matrix products, and this
// chapter does that. For one head, with $b=n/s$ blocks and $m$ refined boxes:
//
// | step | operations | numbers read and written |
// | --- | --- | --- |
// | pool $q,k,v$ into blocks | $3nd$ | $3nd$ |
// | coarse logits $\tilde Q\tilde K^\top$ | $2b^2d$ | $b^2$ |
// | rank, find the $m$ largest | $O(b^2)$ | about $6b^2$ |
// | weights and values of the coarse boxes | $2b^2d$, $b^2$ exponentials | $2b^2$ |
// | refined boxes | $4ms^2d$, $ms^2$ exponentials | $2msd$ from cache; $2nd$ for $q$, $z$ |
// | backward, refined | $10ms^2d$, $ms^2$ exponentials | $6msd$ from cache; $7nd$ |
// | backward, coarse | $10b^2d$, $b^2$ exponentials | about $6b^2$ |
//
// Exact attention takes $4n^2d$ operations forward and $10n^2d$ backward. So with blocks $=8$
// at $n=4096$ the refined boxes are a sixteenth of the work, and the whole gain hangs on two
// things: products of $32\times32\times64$ have to run at the processor's rate (they are
// machine code generated for this very shape, tensor/gemm.h), and everything else in the table
// has to stay small beside them. The term $b^2d$ is quadratic still, with a factor $1/s^2$: it
// is as large as the linear one only when $n = s^3\cdot\text{blocks}$, a quarter of a million
// tokens.
//
// What the paper's own code does differently:
//
// * It is written for a GPU, in several kernels that pass the logits of all refined boxes
//   through memory ($ms^2$ numbers per head). Here a tile is born, used and forgotten in a
//   cache of the core.
// * Its normaliser subtracts a maximum of the coarse and one of the refined part and mends the
//   difference afterwards. Here *one* running maximum per row serves both; logits of $\pm10^4$
//   are as good as any.
// * It ranks the coarse logit less the largest one of its row of blocks, over the whole matrix
//   of a head at once, so that a row of blocks may get many boxes or none; so does this code.
//   It lifts priors by a large constant and pushes padding down by another; here their order is
//   exact (the chapter on selection).
// * It asks for $n$ to be a multiple of 32. Here the last block may be ragged, masks may cut
//   blocks anywhere: a block counts its unmasked tokens, in its means, in its normaliser and in
//   its sum of values.
// * It adds $10^{-6}$ to what it divides by: to the count of tokens in a block's means (if there is
//   any padding), and to the normaliser, which stands in units of the row's largest weight. So its
//   rows sum to $1 - 10^{-6}$ or a little less, and to much less where that largest weight is not one
//   that counts: the maximum of a row runs over the masked keys of refined boxes too, whose logits
//   are 0, and over empty blocks, so that a row whose visible logits all are below $-14$ shrinks
//   towards 0. Here nothing is added and maxima are over what counts. It finds the maximum as an
//   integer of thousandths, which cancels, and overflows at logits beyond $2\cdot 10^6$.
// * It refines $m=\text{blocks}\cdot n/32$ boxes with $n$ the padded length, all of them among those that
//   hold tokens: a batch padded to twice an example's length gives that example twice the boxes a row
//   (`count_padding`). Here padding buys nothing.
// * It takes $10^4$ from the logits of masked keys and of coarse boxes that are refined; here they
//   are left out.
// * Its priors add up: among the boxes of the first rows, the first columns and the diagonal those
//   that two or three of them name come first. Here all boxes that a prior names come in the order
//   of their scores. It makes a difference where the budget is smaller than the priors.
//
// But for ties (the chapter on selection), priors that exceed the budget, and rows whose maximum is that of padding,
// the difference with `count_padding` is $10^{-6}$ of a row; there is no other variant.
//
// R with more scales, or with blocks larger than 128, goes to the general path (the chapter on
// applying $J$), head by head.
//
// ## Who computes what
//
// With as many heads as threads or more, a thread takes a head at a time. With fewer, all
// threads share one head after another: its loops run over chunks of rows, then of columns.
// Which of the two happens depends on the number of threads, but no sum depends on which: the
// results agree bit for bit.

#include "mra/mra.h"

#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"
#include "mra/apply.h"
#include "mra/certificate.h"
#include "mra/fused.h"
#include "mra/layout.h"
#include "mra/selection.h"

// The general path computes on one head at a time in a thread; a grid makes it copy the head to
// tile order.
typedef struct general_head {
    mra_apply apply;
    float *array[8]; // q, k, v, z, dz, dq, dk, dv in tile order: [n, d]; only with a grid
    uint8_t *mask;   // [n]
} general_head;

struct mra_attention {
    mra_shape shape;
    mra_options options;
    int threads, slots; // slots: heads under way at once
    size_t heads;       // batch * heads
    bool fused, done;   // done: a forward pass has succeeded
    int32_t *order;     // [n]: token order under a grid, or NULL

    mra_fused_plan plan;
    mra_fused_record *record; // [heads]
    mra_fused_head *head;     // [slots]
    general_head *general;    // [slots]

    mra_statistics *counted; // [heads]
    bool *finite;            // [heads]
    void *memory;
    size_t bytes;
};

mra_options mra_options_mra2(double blocks)
{
    return (mra_options){
        .scales = 2, .scale = {32, 1}, .blocks = {0, blocks}, .ranking = MRA_RANK_ROW};
}

// ## Preparation
static mra_status check_shape(mra_shape shape, mra_error *err)
{
    const char *name[] = {"batch", "heads", "n", "d"};
    const int value[] = {shape.batch, shape.heads, shape.n, shape.d};
    for (int i = 0; i < 4; i++)
        if (value[i] < 1)
            return mra_fail(err, MRA_BAD_INPUT, "%s: %d, expected at least 1", name[i],
                            value[i]);
    if (shape.d > 256)
        return mra_fail(err, MRA_BAD_INPUT, "d: %d, expected at most 256", shape.d);
    return MRA_OK;
}

static void place_general(mra_attention *attention, general_head *general, mra_layout *layout)
{
    const mra_options *options = &attention->options;
    int n = attention->shape.n, d = attention->shape.d;
    void *memory = mra_layout_take(layout, mra_apply_bytes(options, n, d, true), 1);
    if (layout->memory) mra_apply_place(&general->apply, options, n, d, true, memory);
    if (!attention->order) return;
    for (int a = 0; a < 8; a++) {
        float *array = mra_layout_take(layout, (size_t)n, (size_t)d * sizeof(float));
        if (layout->memory) general->array[a] = array;
    }
    uint8_t *mask = mra_layout_take(layout, (size_t)n, 1);
    if (layout->memory) general->mask = mask;
}

static void place_fused(mra_attention *attention, mra_layout *layout)
{
    const mra_fused_plan *plan = &attention->plan;
    int threads = attention->heads < (size_t)attention->threads ? attention->threads : 1;
    mra_fused_record record;
    mra_fused_head head;
    size_t record_bytes = mra_fused_record_place(&record, plan, NULL);
    size_t head_bytes = mra_fused_head_place(&head, plan, threads, NULL);
    for (size_t h = 0; h < attention->heads; h++) {
        void *memory = mra_layout_take(layout, record_bytes, 1);
        if (layout->memory) mra_fused_record_place(&attention->record[h], plan, memory);
    }
    for (int i = 0; i < attention->slots; i++) {
        void *memory = mra_layout_take(layout, head_bytes, 1);
        if (layout->memory) mra_fused_head_place(&attention->head[i], plan, threads, memory);
    }
}

// Lays everything out in layout->memory, or counts bytes if that is NULL.
static void place(mra_attention *attention, mra_layout *layout)
{
    size_t heads = attention->heads, slots = (size_t)attention->slots;
    attention->counted = mra_layout_take(layout, heads, sizeof *attention->counted);
    attention->finite = mra_layout_take(layout, heads, sizeof *attention->finite);
    attention->record = mra_layout_take(layout, heads, sizeof *attention->record);
    attention->head = mra_layout_take(layout, slots, sizeof *attention->head);
    attention->general = mra_layout_take(layout, slots, sizeof *attention->general);
    if (attention->fused)
        place_fused(attention, layout);
    else
        for (size_t i = 0; i < slots; i++)
            place_general(attention, layout->memory ? &attention->general[i] : NULL, layout);
}

// Memory is taken as it comes, without clearing it: what is never needed is then never touched,
// and costs addresses only.
static mra_status allocate(mra_attention *attention, mra_error *err)
{
    mra_layout count = {0};
    place(attention, &count);
    mra_layout layout = {.memory = aligned_alloc(64, count.used)};
    if (!layout.memory)
        return mra_fail(err, MRA_NO_MEMORY, "attention: no memory for a workspace of %zu bytes",
                        count.used);
    place(attention, &layout);
    attention->memory = layout.memory;
    attention->bytes = count.used;
    return MRA_OK;
}

static mra_status make_order(mra_attention *attention, mra_error *err)
{
    const mra_options *options = &attention->options;
    bool exact = options->scales == 1; // the order of tokens makes no difference
    if (options->grid_height == 0 || exact) return MRA_OK;
    size_t bytes = (size_t)attention->shape.n * sizeof *attention->order;
    attention->order = malloc(bytes);
    if (!attention->order)
        return mra_fail(err, MRA_NO_MEMORY, "attention: no memory for %zu bytes", bytes);
    return mra_grid_order(options, attention->shape.n, attention->order, err);
}

mra_status mra_attention_create(mra_attention **attention, mra_shape shape,
                                const mra_options *options, mra_error *err)
{
    *attention = NULL;
    mra_status status = check_shape(shape, err);
    if (status == MRA_OK) status = mra_options_check(options, shape.n, err);
    if (status != MRA_OK) return status;
    mra_attention *made = calloc(1, sizeof *made);
    if (!made)
        return mra_fail(err, MRA_NO_MEMORY, "attention: no memory for %zu bytes", sizeof *made);
    made->shape = shape;
    made->options = *options;
    made->heads = (size_t)shape.batch * shape.heads;
    made->threads = options->threads < 1 ? mra_default_threads() : options->threads;
    made->fused = mra_fused_takes(options);
    bool shared = made->heads < (size_t)made->threads; // threads share a head
    made->slots = !shared ? made->threads : made->fused ? 1 : (int)made->heads;

    status = make_order(made, err);
    if (status == MRA_OK && made->fused)
        status = mra_fused_plan_make(&made->plan, shape, options, made->order, err);
    if (status == MRA_OK) status = allocate(made, err);
    if (status != MRA_OK) {
        mra_attention_free(made);
        return status;
    }
    *attention = made;
    return MRA_OK;
}

void mra_attention_free(mra_attention *attention)
{
    if (!attention) return;
    free(attention->memory);
    free(attention->order);
    free(attention);
}

// ## The general path for one head
//
// A grid permutes the tokens on the way in and back on the way out.
static void to_tiles(const mra_attention *attention, const float *from, float *to)
{
    size_t d = (size_t)attention->shape.d;
    for (int t = 0; t < attention->shape.n; t++)
        memcpy(to + (size_t)t * d, from + (size_t)attention->order[t] * d, d * sizeof *to);
}

static void add_from_tiles(const mra_attention *attention, const float *from, float *to)
{
    size_t d = (size_t)attention->shape.d;
    for (int t = 0; t < attention->shape.n; t++) {
        const float *row = from + (size_t)t * d;
        float *sum = to + (size_t)attention->order[t] * d;
        for (size_t c = 0; c < d; c++) sum[c] += row[c];
    }
}

static const uint8_t *mask_to_tiles(const mra_attention *attention, general_head *general,
                                    const uint8_t *mask)
{
    if (!mask) return NULL;
    for (int t = 0; t < attention->shape.n; t++) general->mask[t] = mask[attention->order[t]];
    return general->mask;
}

static void general_forward(const mra_attention *attention, general_head *general,
                            const float *const array[3], const uint8_t *mask, float *z)
{
    mra_apply *apply = &general->apply;
    if (!attention->order) {
        mra_apply_forward(apply, array[0], array[1], array[2], mask, z);
        return;
    }
    float **tiled = general->array;
    for (int a = 0; a < 3; a++) to_tiles(attention, array[a], tiled[a]);
    mra_apply_forward(apply, tiled[0], tiled[1], tiled[2],
                      mask_to_tiles(attention, general, mask), tiled[3]);
    memset(z, 0, (size_t)attention->shape.n * attention->shape.d * sizeof *z);
    add_from_tiles(attention, tiled[3], z);
}

// The pyramid and J of the head are computed again: they were overwritten by other heads.
static void general_backward(const mra_attention *attention, general_head *general,
                             const float *const array[5], const uint8_t *mask,
                             float *const gradient[3])
{
    mra_apply *apply = &general->apply;
    if (!attention->order) {
        mra_apply_prepare(apply, array[0], array[1], array[2], mask);
        mra_apply_backward(apply, array[3], array[4], gradient[0], gradient[1], gradient[2]);
        return;
    }
    float **tiled = general->array;
    size_t size = (size_t)attention->shape.n * attention->shape.d;
    for (int a = 0; a < 5; a++) to_tiles(attention, array[a], tiled[a]);
    for (int a = 5; a < 8; a++) memset(tiled[a], 0, size * sizeof(float));
    mra_apply_prepare(apply, tiled[0], tiled[1], tiled[2],
                      mask_to_tiles(attention, general, mask));
    mra_apply_backward(apply, tiled[3], tiled[4], tiled[5], tiled[6], tiled[7]);
    for (int a = 0; a < 3; a++) add_from_tiles(attention, tiled[5 + a], gradient[a]);
}

// Whether the pooled queries, keys and values of a head are finite: one NaN or infinity in an
// unmasked token shows there.
static bool general_finite(const mra_apply *apply)
{
    const mra_pyramid_level *pooled = &apply->pyramid.level[0];
    size_t count = (size_t)pooled->blocks * apply->d;
    return mra_fused_all_finite(pooled->query, count) &&
           mra_fused_all_finite(pooled->key, count) &&
           mra_fused_all_finite(pooled->value, count);
}

static mra_statistics general_statistics(const mra_apply *apply)
{
    mra_statistics counted = {.empty_rows = (long long)apply->empty_rows};
    int last = apply->options.scales - 1;
    for (int i = apply->options.sparse ? last : 0; i <= last; i++)
        counted.boxes[i] = (long long)apply->selection.level[i].count;
    return counted;
}

static mra_statistics fused_statistics(const mra_fused_plan *plan,
                                       const mra_fused_record *record)
{
    mra_statistics counted = {.empty_rows = record->empty_rows};
    if (plan->options.scales > 1) counted.boxes[0] = record->coarse_boxes;
    counted.boxes[plan->options.scales - 1] = record->fine_entries;
    return counted;
}

// ## All heads
//
// The arrays of a pass; those of head h begin h n d floats in.
typedef struct pass {
    mra_attention *attention;
    const float *array[5]; // q, k, v; then z, dz in the backward pass
    float *out[3];         // z; or dq, dk, dv
    const uint8_t *mask;
} pass;

static const uint8_t *mask_of(const pass *pass, size_t head)
{
    size_t batch = head / (size_t)pass->attention->shape.heads;
    return pass->mask ? pass->mask + batch * (size_t)pass->attention->shape.n : NULL;
}

static void forward_head(void *context, size_t item, int slot)
{
    const pass *pass = context;
    mra_attention *attention = pass->attention;
    size_t first = item * attention->shape.n * attention->shape.d;
    const float *array[3];
    for (int a = 0; a < 3; a++) array[a] = pass->array[a] + first;
    const uint8_t *mask = mask_of(pass, item);
    float *z = pass->out[0] + first;
    if (attention->fused) {
        mra_fused_record *record = &attention->record[item];
        attention->finite[item] = mra_fused_forward(&attention->head[slot], record, array[0],
                                                    array[1], array[2], mask, z);
        if (attention->finite[item])
            attention->counted[item] = fused_statistics(&attention->plan, record);
        return;
    }
    general_head *general = &attention->general[slot];
    general_forward(attention, general, array, mask, z);
    attention->finite[item] = general_finite(&general->apply);
    attention->counted[item] = general_statistics(&general->apply);
}

static void backward_head(void *context, size_t item, int slot)
{
    const pass *pass = context;
    mra_attention *attention = pass->attention;
    size_t first = item * attention->shape.n * attention->shape.d;
    const float *array[5];
    float *gradient[3];
    for (int a = 0; a < 5; a++) array[a] = pass->array[a] + first;
    for (int a = 0; a < 3; a++) gradient[a] = pass->out[a] + first;
    const uint8_t *mask = mask_of(pass, item);
    if (attention->fused)
        mra_fused_backward(&attention->head[slot], &attention->record[item], array[0], array[1],
                           array[2], mask, array[3], array[4], gradient[0], gradient[1],
                           gradient[2]);
    else
        general_backward(attention, &attention->general[slot], array, mask, gradient);
}

// One head a thread, or (one slot) one head after another, shared by the threads.
static void run(mra_attention *attention, mra_loop_body body, pass *pass)
{
    mra_parallel_for(attention->slots, attention->heads, body, pass);
}

static mra_status check_arrays(int count, const char *const *name, const void *const *array,
                               mra_error *err)
{
    for (int a = 0; a < count; a++)
        if (!array[a])
            return mra_fail(err, MRA_BAD_INPUT, "%s: no array, expected [batch][heads][n][d]",
                            name[a]);
    return MRA_OK;
}

mra_status mra_attention_forward(mra_attention *attention, const float *q, const float *k,
                                 const float *v, const uint8_t *mask, float *z, mra_error *err)
{
    mra_status status = check_arrays(4, (const char *const[]){"q", "k", "v", "z"},
                                     (const void *const[]){q, k, v, z}, err);
    if (status != MRA_OK) return status;
    attention->done = false;
    run(attention, forward_head,
        &(pass){.attention = attention, .array = {q, k, v}, .out = {z}, .mask = mask});
    for (size_t h = 0; h < attention->heads; h++)
        if (!attention->finite[h])
            return mra_fail(
                err, MRA_BAD_INPUT,
                "q, k, v: head %zu has NaN, an infinity, or logits beyond the range of "
                "float32; expected finite numbers",
                h);
    attention->done = true;
    return MRA_OK;
}

mra_status mra_attention_backward(mra_attention *attention, const float *q, const float *k,
                                  const float *v, const uint8_t *mask, const float *z,
                                  const float *dz, float *dq, float *dk, float *dv,
                                  mra_error *err)
{
    const char *const name[] = {"q", "k", "v", "z", "dz", "dq", "dk", "dv"};
    const void *const array[] = {q, k, v, z, dz, dq, dk, dv};
    mra_status status = check_arrays(8, name, array, err);
    if (status != MRA_OK) return status;
    if (!attention->done)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "backward: no forward pass to go back through; expected one that succeeded");
    run(attention, backward_head,
        &(pass){.attention = attention,
                .array = {q, k, v, z, dz},
                .out = {dq, dk, dv},
                .mask = mask});
    return MRA_OK;
}

mra_statistics mra_attention_statistics(const mra_attention *attention)
{
    mra_statistics total = {.workspace = attention->bytes};
    if (!attention->done) return total;
    for (size_t h = 0; h < attention->heads; h++) {
        for (int i = 0; i < MRA_MAX_SCALES; i++)
            total.boxes[i] += attention->counted[h].boxes[i];
        total.empty_rows += attention->counted[h].empty_rows;
    }
    return total;
}

mra_attention_view mra_attention_look(const mra_attention *attention, size_t head)
{
    const bool fused = attention->fused;
    return (mra_attention_view){.shape = attention->shape,
                                .options = &attention->options,
                                .order = attention->order,
                                .plan = fused ? &attention->plan : NULL,
                                .record = fused ? &attention->record[head] : NULL,
                                .done = attention->done};
}
