// # Attention on a device: the host's part
//
// Shape and options fix the size of everything, so one piece of device memory is laid out once;
// a pass is a fixed sequence of launches and nothing else.
//
// | forward | backward |
// | --- | --- |
// | pool.cu: means and sums of blocks (and bf16 copies) | fine_backward.cu: what each row needs to know |
// | coarse.cu: logits | coarse_backward.cu: gradients of pooled rows (MRA-2) |
// | select.cu: the refined boxes, by rows | select.cu: the same by columns |
// | coarse.cu: weights and values (MRA-2) | fine_backward.cu: along rows, down columns |
// | fine.cu: refined boxes, and z | |
//
// Exact attention needs of all these the first of each, and exact.cu.

#include "attention.h"
#include "launch.cuh"
#include "parts.cuh"

#include <stdlib.h>
#include <string.h>

extern "C" {
#include "mra/layout.h"
#include "mra/selection.h"
}

namespace MRA_BACKEND::attention
{

// The object of the C interface.
struct attention_object {
    mra_device *device;
    mra_kernel_request request;
    plan p;
    part_streams parts;
    void *memory;
    size_t bytes;
    bfloat16 *copy;    // [3, heads, n, d]: q, k, v; or NULL
    bfloat16 *dz_copy; // [heads, n, d]; or NULL
    bool done;
};

// ---- Creating -------------------------------------------------------------------------------

static mra_status check_request(const mra_kernel_request *request, mra_error *err)
{
    const mra_shape shape = request->shape;
    const char *name[] = {"batch", "heads", "n", "d"};
    const int value[] = {shape.batch, shape.heads, shape.n, shape.d};
    for (int i = 0; i < 4; i++)
        if (value[i] < 1)
            return mra_fail(err, MRA_BAD_INPUT, "%s: %d, expected at least 1", name[i],
                            value[i]);
    if (shape.d != 32 && shape.d != 64 && shape.d != 128)
        return mra_fail(err, MRA_BAD_INPUT,
                        "d: %d: the kernels have code for heads of 32, 64 and 128", shape.d);
    if ((long long)shape.batch * shape.heads > 65535 / 3)
        return mra_fail(err, MRA_BAD_INPUT, "batch, heads: %d x %d heads, expected at most %d",
                        shape.batch, shape.heads, 65535 / 3);
    if (shape.n > 46340 * TILE)
        return mra_fail(err, MRA_BAD_INPUT, "n: %d, expected at most %d", shape.n,
                        46340 * TILE);
    const mra_options *options = &request->options;
    if (options->scales != 1 && (options->scales != 2 || options->scale[0] != TILE))
        return mra_fail(err, MRA_BAD_INPUT,
                        "scales: the kernels have code for R = {32, 1} and R = {1}");
    if (request->parts < 0 || request->parts > MOST_PARTS || request->parts > shape.batch)
        return mra_fail(err, MRA_BAD_INPUT, "parts: %d, expected 0 to %d, at most the batch",
                        request->parts, MOST_PARTS);
    if (request->bf16_arrays && request->precision != MRA_BF16)
        return mra_fail(err, MRA_BAD_INPUT,
                        "precision: arrays of bf16 are multiplied in bf16 only");
    return mra_options_check(options, shape.n, err);
}

static bool is_exact(const mra_kernel_request *request)
{
    return request->options.scales == 1;
}

static plan make_plan(const mra_kernel_request *request)
{
    const mra_shape shape = request->shape;
    const mra_options *options = &request->options;
    plan p;
    memset(&p, 0, sizeof p);
    p.batch = shape.batch;
    p.heads = shape.batch * shape.heads;
    p.n = shape.n;
    p.d = shape.d;
    p.blocks = (shape.n - 1) / TILE + 1;
    p.words = (p.blocks + 31) / 32;
    size_t all = (size_t)p.blocks * p.blocks;
    if (!is_exact(request)) p.budget = (int)mra_refinement_budget(options, p.blocks, 1, all);
    p.items = p.blocks + p.budget / ITEM_BOXES;
    p.blocks_refined = is_exact(request) ? 0 : options->blocks[1];
    p.count_padding = options->count_padding;
    p.first = options->first;
    p.diagonal = options->diagonal;
    p.row_ranking = options->ranking == MRA_RANK_ROW;
    p.sparse = options->sparse;
    p.logit_scale =
        (float)(options->logit_scale != 0 ? options->logit_scale : 1 / sqrt(shape.d));
    return p;
}

// Room for `count` entries for each head.
template <class T> static T *take(mra_layout *m, const plan &p, size_t count)
{
    return (T *)mra_layout_take(m, (size_t)p.heads * count, sizeof(T));
}

static void place_list(box_list *list, const plan &p, mra_layout *m)
{
    list->start = take<int>(m, p, p.blocks + 1);
    list->entry = take<int>(m, p, p.budget);
    list->item_start = take<int>(m, p, p.blocks + 1);
    list->item_line = take<int>(m, p, p.items);
    list->arrived = take<int>(m, p, 2 * (size_t)p.blocks);
}

// What exact attention does not need: there these stay NULL.
static void place_boxes(plan &p, mra_layout *m)
{
    const size_t b = p.blocks, d = p.d;
    p.logit = take<float>(m, p, b * b);
    p.row_largest = take<float>(m, p, b);
    p.chosen = take<uint32_t>(m, p, b * p.words);
    place_list(&p.rows, p, m);
    place_list(&p.columns, p, m);
    p.rows.partial = take<float>(m, p, 2 * (size_t)(p.items - p.blocks) * 2 * TILE * d);
    p.columns.partial = p.rows.partial; // the two walks follow one another
    p.coarse_max = take<float>(m, p, b);
    p.coarse_sum = take<float>(m, p, b);
    p.coarse_value = take<float>(m, p, b * d);
    p.pull = take<float>(m, p, b * d);
    p.pull_product = take<float>(m, p, b);
    p.dquery = take<float>(m, p, b * d);
    p.dkey = take<float>(m, p, b * d);
    p.dvalue = take<float>(m, p, b * d);
}

static void place(attention_object *self, mra_layout *m)
{
    plan &p = self->p;
    const size_t b = p.blocks, d = p.d;
    p.broken = take<int>(m, p, 1);
    p.present = take<uint32_t>(m, p, b);
    p.query = take<float>(m, p, b * d);
    p.key = take<float>(m, p, b * d);
    p.value = take<float>(m, p, b * d);
    p.row_max = take<float>(m, p, b * TILE);
    p.row_inverse = take<float>(m, p, b * TILE);
    p.row_product = take<float>(m, p, b * TILE);
    if (!is_exact(&self->request)) place_boxes(p, m);
    if (self->request.options.grid_height > 0 && !is_exact(&self->request))
        p.order = (const int *)mra_layout_take(m, (size_t)p.n, sizeof(int));
    if (self->request.precision == MRA_BF16 && !self->request.bf16_arrays) {
        self->copy = take<bfloat16>(m, p, 3 * (size_t)p.n * d);
        self->dz_copy = take<bfloat16>(m, p, (size_t)p.n * d);
    }
}

static mra_status upload_order(attention_object *self, mra_error *err)
{
    const size_t bytes = (size_t)self->p.n * sizeof(int);
    int32_t *order = (int32_t *)malloc(bytes);
    if (!order)
        return mra_fail(err, MRA_NO_MEMORY, "attention: no memory for %zu bytes", bytes);
    mra_status status = mra_grid_order(&self->request.options, self->p.n, order, err);
    if (status == MRA_OK)
        status =
            self->device->to_device(self->device, (void *)self->p.order, order, bytes, err);
    free(order);
    return status;
}

static void release(mra_kernel_attention *attention)
{
    attention_object *self = (attention_object *)attention;
    if (!self) return;
    close_parts(&self->parts);
    if (self->memory) self->device->release(self->device, self->memory);
    free(self);
}

static mra_status create(mra_kernel_attention **attention, mra_device *device,
                         const mra_kernel_request *request, mra_error *err)
{
    *attention = NULL;
    mra_status status = check_request(request, err);
    if (status != MRA_OK) return status;
    attention_object *self = (attention_object *)calloc(1, sizeof *self);
    if (!self)
        return mra_fail(err, MRA_NO_MEMORY, "attention: no memory for %zu bytes", sizeof *self);
    self->device = device;
    self->request = *request;
    self->p = make_plan(request);
    mra_layout layout = {NULL, 0};
    place(self, &layout);
    self->bytes = layout.used;
    self->memory = device->allocate(device, self->bytes);
    if (!self->memory)
        status = mra_fail(err, MRA_NO_MEMORY,
                          "attention: device '%s' has no memory for a workspace of %zu bytes "
                          "(%d heads of %d tokens, %d boxes refined in each)",
                          device->name, self->bytes, self->p.heads, self->p.n, self->p.budget);
    layout.memory = (char *)self->memory;
    layout.used = 0;
    if (status == MRA_OK) place(self, &layout);
    if (status == MRA_OK && self->p.order) status = upload_order(self, err);
    int parts = request->parts > 0 ? request->parts : parts_that_pay(self->p);
    if (status == MRA_OK) status = open_parts(&self->parts, parts, err);
    if (status != MRA_OK) {
        release((mra_kernel_attention *)self);
        return status;
    }
    *attention = (mra_kernel_attention *)self;
    return MRA_OK;
}

// ---- Passes ---------------------------------------------------------------------------------

static operands make_operands(const attention_object *self, const void *q, const void *k,
                              const void *v)
{
    operands o;
    memset(&o, 0, sizeof o);
    o.precision = self->request.precision;
    o.bf16_io = self->request.bf16_arrays;
    o.q = q;
    o.k = k;
    o.v = v;
    if (self->copy) {
        size_t size = (size_t)self->p.heads * self->p.n * self->p.d;
        o.q = self->copy;
        o.k = self->copy + size;
        o.v = self->copy + 2 * size;
    }
    return o;
}

// The stages of a part. `q`, `k`, `v`: the caller's.
static void forward_part(const attention_object *self, const plan &p, const operands &o,
                         const void *q, const void *k, const void *v, stream_t stream)
{
    if (self->request.bf16_arrays)
        pool_bf16(p, (const bfloat16 *)q, (const bfloat16 *)k, (const bfloat16 *)v, stream);
    else
        pool_float(p, (const float *)q, (const float *)k, (const float *)v, self->copy, stream);
    if (is_exact(&self->request)) {
        exact_forward(p, o, stream);
        return;
    }
    coarse_logits(p, stream);
    select_boxes(p, stream);
    if (!p.sparse) coarse_values(p, o.precision == MRA_FLOAT32, stream);
    attend_boxes(p, o, stream);
}

static void backward_part(const attention_object *self, const plan &p, const operands &o,
                          stream_t stream)
{
    prepare_backward(p, o, stream);
    if (is_exact(&self->request)) {
        exact_backward(p, o, stream);
        return;
    }
    if (!p.sparse) coarse_backward(p, o.precision == MRA_FLOAT32, stream);
    list_columns(p, stream);
    fine_backward(p, o, stream);
}

static mra_status forward(mra_kernel_attention *attention, const void *q, const void *k,
                          const void *v, const uint8_t *mask, void *z, mra_error *err)
{
    attention_object *self = (attention_object *)attention;
    const part_streams &parts = self->parts;
    stream_t stream = device_stream(self->device);
    operands o = make_operands(self, q, k, v);
    o.z = z;
    self->p.mask = mask;
    fork(parts, stream);
    for (int i = 0; i < parts.count; i++)
        forward_part(self, part_of(self->p, parts, i), o, q, k, v,
                     stream_of_part(parts, i, stream));
    join(parts, stream);
    mra_status status = launch_status(stream, "attention", err);
    self->done = status == MRA_OK;
    return status;
}

static mra_status backward(mra_kernel_attention *attention, const void *q, const void *k,
                           const void *v, const uint8_t *mask, const void *z, const void *dz,
                           void *dq, void *dk, void *dv, bool add, mra_error *err)
{
    attention_object *self = (attention_object *)attention;
    if (!self->done)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "backward: no forward pass to go back through; expected one that succeeded");
    const part_streams &parts = self->parts;
    stream_t stream = device_stream(self->device);
    self->p.mask = mask;
    operands o = make_operands(self, q, k, v);
    o.z = (void *)z;
    o.caller_dz = dz;
    o.dz_copy = self->dz_copy;
    o.dz = self->dz_copy ? self->dz_copy : dz;
    o.dq = dq;
    o.dk = dk;
    o.dv = dv;
    o.add = add;
    fork(parts, stream);
    for (int i = 0; i < parts.count; i++)
        backward_part(self, part_of(self->p, parts, i), o, stream_of_part(parts, i, stream));
    join(parts, stream);
    return launch_status(stream, "attention: backward", err);
}

// ---- What happened --------------------------------------------------------------------------

// A host copy of `count` entries of device memory, to be freed; NULL: failed.
template <class T>
static T *download(const attention_object *self, const T *from, size_t count, mra_error *err,
                   mra_status *status)
{
    T *to = (T *)malloc(count * sizeof(T) + 1);
    if (!to)
        *status = mra_fail(err, MRA_NO_MEMORY, "attention: no memory for %zu bytes",
                           count * sizeof(T));
    else
        *status = self->device->to_host(self->device, to, from, count * sizeof(T), err);
    if (*status == MRA_OK) return to;
    free(to);
    return NULL;
}

static mra_status check(mra_kernel_attention *attention, mra_error *err)
{
    attention_object *self = (attention_object *)attention;
    mra_status status;
    int *broken = download(self, self->p.broken, self->p.heads, err, &status);
    if (!broken) return status;
    int head = 0;
    while (head < self->p.heads && !broken[head]) head++;
    bool any = head < self->p.heads;
    if (any) {
        memset(broken, 0, self->p.heads * sizeof *broken);
        status = self->device->to_device(self->device, self->p.broken, broken,
                                         self->p.heads * sizeof *broken, err);
        self->done = false;
    }
    free(broken);
    if (!any || status != MRA_OK) return status;
    return mra_fail(err, MRA_BAD_INPUT,
                    "q, k, v: head %d has NaN, an infinity, or logits beyond the range of "
                    "float32; expected finite numbers",
                    head);
}

static mra_status chosen(mra_kernel_attention *attention, bool *boxes, mra_error *err)
{
    attention_object *self = (attention_object *)attention;
    const plan &p = self->p;
    mra_status status;
    size_t lines = (size_t)p.heads * p.blocks;
    uint32_t *bits = download(self, p.chosen, lines * p.words, err, &status);
    if (!bits) return status;
    for (size_t line = 0; line < lines; line++)
        for (int y = 0; y < p.blocks; y++)
            boxes[line * p.blocks + y] = bits[line * p.words + y / 32] >> (y % 32) & 1;
    free(bits);
    return MRA_OK;
}

// Adds one head.
static void count_head(const plan &p, const uint32_t *present, const uint32_t *bits,
                       mra_statistics *total)
{
    long long lines = 0;
    for (int x = 0; x < p.blocks; x++) lines += present[x] != 0;
    for (int x = 0; x < p.blocks; x++) {
        long long refined = 0, keys = 0, queries = __builtin_popcount(present[x]);
        for (int y = 0; y < p.blocks; y++)
            if (bits[(size_t)x * p.words + y / 32] >> (y % 32) & 1) {
                refined++;
                keys += __builtin_popcount(present[y]);
            }
        total->boxes[1] += queries * keys;
        if (queries == 0) continue;
        if (!p.sparse) total->boxes[0] += lines - refined;
        if (refined == 0 && p.sparse) total->empty_rows += queries;
    }
}

static mra_status statistics(mra_kernel_attention *attention, mra_statistics *total,
                             mra_error *err)
{
    attention_object *self = (attention_object *)attention;
    const plan &p = self->p;
    memset(total, 0, sizeof *total);
    total->workspace = self->bytes;
    if (!self->done || is_exact(&self->request)) return MRA_OK;
    mra_status status;
    size_t size = (size_t)p.blocks * p.words;
    uint32_t *bits = download(self, p.chosen, p.heads * size, err, &status);
    if (!bits) return status;
    uint32_t *present = download(self, p.present, (size_t)p.batch * p.blocks, err, &status);
    for (int head = 0; present && head < p.heads; head++)
        count_head(p, present + (size_t)(head / (p.heads / p.batch)) * p.blocks,
                   bits + head * size, total);
    free(bits);
    free(present);
    return status;
}

} // namespace MRA_BACKEND::attention

#ifdef __CUDACC__
#define MRA_TABLE mra_cuda_attention
#else
#define MRA_TABLE mra_simt_attention
#endif
extern "C" const mra_attention_kernels MRA_TABLE = {
    MRA_BACKEND::attention::create,  MRA_BACKEND::attention::release,
    MRA_BACKEND::attention::forward, MRA_BACKEND::attention::backward,
    MRA_BACKEND::attention::check,   MRA_BACKEND::attention::statistics,
    MRA_BACKEND::attention::chosen,
};
