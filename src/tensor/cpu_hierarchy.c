// Hierarchical attention on the cpu, forward. A head is an item: pooling, a small product for each
// pair of blocks, and sums that are handed down from the coarsest level to the tokens. A block has
// 16 rows, so the head's arrays, a few times n d floats, are read about once per level that they
// have, each level half as long as the one below.

#include "tensor/cpu_hierarchy.h"

#include <math.h>
#include <string.h>

#include "tensor/gemm.h"
#include "tensor/vector.h"

// ---- Pooling --------------------------------------------------------------------------------

mra_hierarchy_layout mra_hierarchy_layout_of(const mra_hierarchy *form)
{
    mra_hierarchy_layout layout = {.levels = form->levels > 1 ? form->levels : 1};
    for (int level = 0; level < layout.levels; level++) {
        layout.first[level] = layout.rows;
        layout.count[level] = (size_t)form->block << (form->doublings - level);
        layout.rows += layout.count[level];
    }
    return layout;
}

size_t mra_hierarchy_head_floats(const mra_hierarchy *form, const mra_hierarchy_layout *layout)
{
    return layout->rows * (3 * (size_t)form->d + 2) + (size_t)form->block * (size_t)form->block;
}

float *mra_hierarchy_head_place(mra_hierarchy_head *head, const mra_hierarchy *form,
                                const mra_hierarchy_layout *layout, float *memory)
{
    const size_t size = layout->rows * (size_t)form->d;
    *head = (mra_hierarchy_head){.form = form,
                                 .layout = layout,
                                 .q = memory,
                                 .k = memory + size,
                                 .v = memory + 2 * size,
                                 .seen = memory + 3 * size,
                                 .weight = memory + 3 * size + layout->rows,
                                 .logits = memory + 3 * size + 2 * layout->rows};
    return head->logits + (size_t)form->block * (size_t)form->block;
}

static void copy_tokens(mra_hierarchy_head *head, const mra_hierarchy_operands *operands,
                        size_t group)
{
    const mra_hierarchy *form = head->form;
    const size_t n = (size_t)form->n, d = (size_t)form->d;
    const uint8_t *mask =
        operands->mask ? operands->mask + group / (size_t)form->heads * n : NULL;
    for (size_t i = 0; i < head->layout->count[0]; i++) {
        const bool visible = i < n && (!mask || mask[i]);
        float *q = head->q + i * d, *k = head->k + i * d, *v = head->v + i * d;
        head->seen[i] = visible ? 1.0f : 0.0f;
        if (visible) {
            const size_t from = (group * n + i) * d;
            for (size_t c = 0; c < d; c++) q[c] = form->scale * operands->q[from + c];
            memcpy(k, operands->k + from, d * sizeof *k);
            memcpy(v, operands->v + from, d * sizeof *v);
        } else {
            memset(q, 0, d * sizeof *q);
            memset(k, 0, d * sizeof *k);
            memset(v, 0, d * sizeof *v);
        }
    }
}

// The shares of two halves in their mean: by their visible tokens, or, published, one each.
static void share(const mra_hierarchy_head *head, size_t child)
{
    const float first = head->seen[child], second = head->seen[child + 1];
    const bool halves = head->form->published;
    const float a = halves ? (float)(first > 0.0f) : first;
    const float b = halves ? (float)(second > 0.0f) : second;
    const float inverse = a + b > 0.0f ? 1.0f / (a + b) : 0.0f;
    head->weight[child] = a * inverse;
    head->weight[child + 1] = b * inverse;
}

void mra_hierarchy_pool(mra_hierarchy_head *head, const mra_hierarchy_operands *operands,
                        size_t group)
{
    const mra_hierarchy_layout *layout = head->layout;
    const size_t d = (size_t)head->form->d;
    copy_tokens(head, operands, group);
    for (int level = 1; level < layout->levels; level++)
        for (size_t i = 0; i < layout->count[level]; i++) {
            const size_t row = layout->first[level] + i;
            const size_t child = layout->first[level - 1] + 2 * i;
            share(head, child);
            const float a = head->weight[child], b = head->weight[child + 1];
            float *q = head->q + row * d, *k = head->k + row * d, *v = head->v + row * d;
            const float *q2 = head->q + child * d, *k2 = head->k + child * d;
            const float *v2 = head->v + child * d;
#pragma omp simd
            for (size_t c = 0; c < d; c++) {
                q[c] = a * q2[c] + b * q2[c + d];
                k[c] = a * k2[c] + b * k2[c + d];
                v[c] = v2[c] + v2[c + d];
            }
            head->seen[row] = head->seen[child] + head->seen[child + 1];
        }
}

// ---- Blocks ---------------------------------------------------------------------------------

void mra_hierarchy_logits(const mra_hierarchy_head *head, size_t rows, size_t keys)
{
    const int block = head->form->block, d = head->form->d;
    const size_t stride = (size_t)d;
    mra_gemm(false, true, block, block, d, 1.0f, head->q + rows * stride, d,
             head->k + keys * stride, d, 0.0f, head->logits, block);
    for (int j = 0; j < block; j++)
        if (head->seen[keys + (size_t)j] == 0.0f)
            for (int i = 0; i < block; i++) head->logits[i * block + j] = -INFINITY;
}

void mra_hierarchy_walk(const mra_hierarchy_head *head, mra_hierarchy_visit visit,
                        void *context)
{
    const mra_hierarchy_layout *layout = head->layout;
    const size_t block = (size_t)head->form->block;
    for (int level = head->form->levels - 1; level >= 0; level--)
        for (size_t i = 0; i < layout->count[level] / block; i++)
            visit(context, level, layout->first[level] + i * block,
                  layout->first[level] + (i ^ 1) * block);
    for (size_t i = 0; i < layout->count[0] / block; i++)
        visit(context, -1, i * block, i * block);
}

// ---- Forward --------------------------------------------------------------------------------

// Sums of what a row and the rows above it saw, relative to exp(largest) (published: to 1).
typedef struct forward_head {
    mra_hierarchy_head head;
    float *sum, *divisor, *largest; // [rows, d], [rows], [rows]
    float *part;                    // [block, d]: of one pair of blocks
} forward_head;

typedef struct forward_context {
    const mra_hierarchy *form;
    const mra_hierarchy_operands *operands;
    mra_hierarchy_layout layout;
    float *memory;
    size_t floats; // of one thread's memory
} forward_context;

// What the row above saw, or nothing at the coarsest level.
static void hand_down(forward_head *self, int level, size_t row)
{
    const mra_hierarchy_layout *layout = self->head.layout;
    const size_t d = (size_t)self->head.form->d;
    if (level + 1 >= layout->levels) {
        memset(self->sum + row * d, 0, d * sizeof *self->sum);
        self->divisor[row] = 0.0f;
        self->largest[row] = -INFINITY;
        return;
    }
    const size_t above = layout->first[level + 1] + (row - layout->first[level]) / 2;
    memcpy(self->sum + row * d, self->sum + above * d, d * sizeof *self->sum);
    self->divisor[row] = self->divisor[above];
    self->largest[row] = self->largest[above];
}

// Turns a row of logits into weights; returns their contribution to the divisor.
static float weigh(const mra_hierarchy_head *head, float *logit, size_t keys, float largest)
{
    const size_t block = (size_t)head->form->block;
    const bool published = head->form->published;
    float divisor = 0.0f;
    mra_exp_row(logit, block, largest == -INFINITY ? 0.0f : largest);
    for (size_t j = 0; j < block; j++)
        divisor += published ? logit[j] : logit[j] * head->seen[keys + j];
    return published && largest == -INFINITY ? (float)block : divisor;
}

static void add_part(forward_head *self, size_t row, const float *part, float largest,
                     float divisor)
{
    const size_t d = (size_t)self->head.form->d;
    float *sum = self->sum + row * d, own = 1.0f, old = 1.0f;
    if (!self->head.form->published) {
        if (largest == -INFINITY) return;
        const float before = self->largest[row];
        self->largest[row] = largest > before ? largest : before;
        own = mra_exp(largest - self->largest[row]);
        old = mra_exp(before - self->largest[row]);
    }
#pragma omp simd
    for (size_t c = 0; c < d; c++) sum[c] = old * sum[c] + own * part[c];
    self->divisor[row] = old * self->divisor[row] + own * divisor;
}

static void forward_block(void *context, int level, size_t rows, size_t keys)
{
    forward_head *self = context;
    const mra_hierarchy_head *head = &self->head;
    const int block = head->form->block, d = head->form->d;
    float largest[MRA_HIERARCHY_BLOCK], divisor[MRA_HIERARCHY_BLOCK];
    mra_hierarchy_logits(head, rows, keys);
    for (int i = 0; i < block; i++) {
        float *logit = head->logits + (size_t)i * (size_t)block;
        largest[i] = mra_row_max(logit, (size_t)block);
        divisor[i] = weigh(head, logit, keys, largest[i]);
    }
    mra_gemm(false, false, block, d, block, 1.0f, head->logits, block,
             head->v + keys * (size_t)d, d, 0.0f, self->part, d);
    for (int i = 0; i < block; i++) {
        const size_t row = rows + (size_t)i;
        if (level >= 0) hand_down(self, level, row);
        add_part(self, row, self->part + (size_t)i * (size_t)d, largest[i], divisor[i]);
    }
}

static void finish_rows(const forward_head *self, const mra_hierarchy_operands *operands,
                        size_t group)
{
    const mra_hierarchy *form = self->head.form;
    const size_t n = (size_t)form->n, d = (size_t)form->d;
    for (size_t i = 0; i < n; i++) {
        float *z = operands->z + (group * n + i) * d;
        const bool empty = self->head.seen[i] == 0.0f || self->divisor[i] == 0.0f;
        const float divisor = self->divisor[i] + (form->published ? 1e-8f : 0.0f);
        const float inverse = empty ? 0.0f : 1.0f / divisor;
        for (size_t c = 0; c < d; c++) z[c] = self->sum[i * d + c] * inverse;
        operands->divisor[group * n + i] = empty             ? INFINITY
                                           : form->published ? divisor
                                                             : self->largest[i] + logf(divisor);
    }
}

static void forward_item(void *context, size_t group, int thread)
{
    const forward_context *c = context;
    const size_t rows = c->layout.rows, d = (size_t)c->form->d;
    forward_head self;
    self.sum = mra_hierarchy_head_place(&self.head, c->form, &c->layout,
                                        c->memory + (size_t)thread * c->floats);
    self.divisor = self.sum + rows * d;
    self.largest = self.divisor + rows;
    self.part = self.largest + rows;
    mra_hierarchy_pool(&self.head, c->operands, group);
    if (c->form->levels == 0)
        for (size_t i = 0; i < c->layout.count[0]; i++) hand_down(&self, 0, i);
    mra_hierarchy_walk(&self.head, forward_block, &self);
    finish_rows(&self, c->operands, group);
}

mra_status mra_cpu_hierarchy(mra_device *device, const mra_hierarchy *form,
                             const mra_hierarchy_operands *operands, mra_error *err)
{
    forward_context context = {
        .form = form, .operands = operands, .layout = mra_hierarchy_layout_of(form)};
    context.floats = mra_hierarchy_head_floats(form, &context.layout) +
                     context.layout.rows * ((size_t)form->d + 2) +
                     (size_t)form->block * (size_t)form->d;
    context.memory = mra_cpu_scratch(device, (size_t)device->threads * context.floats,
                                     sizeof(float), "hierarchical attention", err);
    if (!context.memory) return MRA_NO_MEMORY;
    mra_cpu_loop(device, form->batch * (size_t)form->heads, forward_item, &context);
    return MRA_OK;
}
