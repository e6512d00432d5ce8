// Hierarchical attention on the cpu, backward.
//
// With p_IJ(i) = exp(logit_IJ) / divisor_i the gradients are those of softmax attention, except that
// the tokens i of a row I share its logits and have divisors of their own. So the gradient of a
// row's sum over the keys is collected from its tokens first, from the finest level upwards:
//
//     G_I = sum over i in I of exp(r_I - log divisor_i) dz_i,   r_I = the least log divisor_i,
//
// and likewise -<dz_i, z_i>, that of the divisor. exp(logit_IJ - r_I) is then at most 1, since no
// logit exceeds the logarithm of a divisor that it is part of. What arrives at a row of a pooled
// level is passed on to the two rows that it was made of. Published: the divisors are taken as they
// are, r_I = 0, and a logit's maximum gets minus the sum of its row's gradients.

#include <math.h>
#include <string.h>

#include "tensor/cpu_hierarchy.h"
#include "tensor/gemm.h"
#include "tensor/vector.h"

typedef struct backward_head {
    mra_hierarchy_head head;
    float *sum;                 // [rows, d]: G
    float *divisor, *reference; // [rows]: gradient of the divisor, r
    float *gradient[3];         // [rows, d]: of the pooled q, k, v
    float *slope;               // [block, block]: gradient of weights, then of logits
} backward_head;

typedef struct backward_context {
    const mra_hierarchy *form;
    const mra_hierarchy_operands *operands;
    mra_hierarchy_layout layout;
    float *memory;
    size_t floats; // of one thread's memory
} backward_context;

// ---- Upwards --------------------------------------------------------------------------------

static void token_gradients(backward_head *self, const mra_hierarchy_operands *operands,
                            size_t group)
{
    const mra_hierarchy *form = self->head.form;
    const size_t n = (size_t)form->n, d = (size_t)form->d;
    for (size_t i = 0; i < self->head.layout->count[0]; i++) {
        const float divisor = i < n ? operands->divisor[group * n + i] : INFINITY;
        float *sum = self->sum + i * d, inner = 0.0f;
        self->reference[i] = divisor;
        self->divisor[i] = 0.0f;
        memset(sum, 0, d * sizeof *sum);
        if (divisor == INFINITY) continue;
        const float *dz = operands->dz + (group * n + i) * d;
        const float *z = operands->z + (group * n + i) * d;
        const float factor = form->published ? 1.0f / divisor : 1.0f;
#pragma omp simd reduction(+ : inner)
        for (size_t c = 0; c < d; c++) {
            sum[c] = factor * dz[c];
            inner += sum[c] * z[c];
        }
        self->divisor[i] = -inner;
        if (form->published) self->reference[i] = 0.0f;
    }
}

static void collect(backward_head *self)
{
    const mra_hierarchy_layout *layout = self->head.layout;
    const size_t d = (size_t)self->head.form->d;
    for (int level = 1; level < layout->levels; level++)
        for (size_t i = 0; i < layout->count[level]; i++) {
            const size_t row = layout->first[level] + i;
            const size_t child = layout->first[level - 1] + 2 * i;
            const float a = self->reference[child], b = self->reference[child + 1];
            const float least = a < b ? a : b;
            const float first = a == INFINITY ? 0.0f : mra_exp(least - a);
            const float second = b == INFINITY ? 0.0f : mra_exp(least - b);
            const float *from = self->sum + child * d;
            float *sum = self->sum + row * d;
#pragma omp simd
            for (size_t c = 0; c < d; c++) sum[c] = first * from[c] + second * from[c + d];
            self->divisor[row] =
                first * self->divisor[child] + second * self->divisor[child + 1];
            self->reference[row] = least;
        }
}

// ---- Blocks ---------------------------------------------------------------------------------

// logit -> weight and slope (d objective / d weight) -> d objective / d logit, of one row.
static void row_gradient(const backward_head *self, size_t row, size_t keys, float *logit,
                         float *slope)
{
    const size_t block = (size_t)self->head.form->block;
    const bool published = self->head.form->published;
    const float *seen = self->head.seen + keys;
    const float largest = published ? mra_row_max(logit, block) : self->reference[row];
    size_t top = 0;
    while (published && top + 1 < block && logit[top] != largest) top++;
    // No key, or no token that wants a gradient: weights of 0.
    mra_exp_row(logit, block, largest == -INFINITY ? 0.0f : largest);
    float total = 0.0f;
    for (size_t j = 0; j < block; j++) {
        const float count = published ? 1.0f : seen[j];
        slope[j] = logit[j] * (slope[j] + self->divisor[row] * count);
        total += slope[j];
    }
    if (published) slope[top] -= total;
}

static void backward_block(void *context, int level, size_t rows, size_t keys)
{
    (void)level;
    backward_head *self = context;
    const mra_hierarchy_head *head = &self->head;
    const int block = head->form->block, d = head->form->d;
    const size_t query = rows * (size_t)d, key = keys * (size_t)d;
    mra_hierarchy_logits(head, rows, keys);
    mra_gemm(false, true, block, block, d, 1.0f, self->sum + query, d, head->v + key, d, 0.0f,
             self->slope, block);
    for (int i = 0; i < block; i++)
        row_gradient(self, rows + (size_t)i, keys, head->logits + i * block,
                     self->slope + i * block);
    mra_gemm(false, false, block, d, block, 1.0f, self->slope, block, head->k + key, d, 1.0f,
             self->gradient[0] + query, d);
    mra_gemm(true, false, block, d, block, 1.0f, self->slope, block, head->q + query, d, 1.0f,
             self->gradient[1] + key, d);
    mra_gemm(true, false, block, d, block, 1.0f, head->logits, block, self->sum + query, d,
             1.0f, self->gradient[2] + key, d);
}

// ---- Downwards ------------------------------------------------------------------------------

static void hand_down(backward_head *self)
{
    const mra_hierarchy_layout *layout = self->head.layout;
    const size_t d = (size_t)self->head.form->d;
    for (int level = layout->levels - 1; level > 0; level--)
        for (size_t i = 0; i < layout->count[level - 1]; i++) {
            const size_t above = (layout->first[level] + i / 2) * d;
            const size_t row = layout->first[level - 1] + i;
            const float weight = self->head.weight[row];
            float *dq = self->gradient[0] + row * d, *dk = self->gradient[1] + row * d;
            float *dv = self->gradient[2] + row * d;
#pragma omp simd
            for (size_t c = 0; c < d; c++) {
                dq[c] += weight * self->gradient[0][above + c];
                dk[c] += weight * self->gradient[1][above + c];
                dv[c] += self->gradient[2][above + c];
            }
        }
}

static void write_gradients(const backward_head *self, const mra_hierarchy_operands *operands,
                            size_t group)
{
    const mra_hierarchy *form = self->head.form;
    const size_t n = (size_t)form->n, d = (size_t)form->d;
    for (int which = 0; which < 3; which++) {
        if (!operands->gradient[which]) continue;
        const bool add = operands->adds[which];
        const float scale = which == 0 ? form->scale : 1.0f;
        for (size_t i = 0; i < n; i++) {
            float *to = operands->gradient[which] + (group * n + i) * d;
            const float *from = self->gradient[which] + i * d;
            const float factor = self->head.seen[i] * scale;
#pragma omp simd
            for (size_t c = 0; c < d; c++) to[c] = (add ? to[c] : 0.0f) + factor * from[c];
        }
    }
}

static void backward_item(void *context, size_t group, int thread)
{
    const backward_context *c = context;
    const size_t rows = c->layout.rows, size = rows * (size_t)c->form->d;
    backward_head self;
    self.sum = mra_hierarchy_head_place(&self.head, c->form, &c->layout,
                                        c->memory + (size_t)thread * c->floats);
    for (int i = 0; i < 3; i++) self.gradient[i] = self.sum + (size_t)(i + 1) * size;
    self.divisor = self.sum + 4 * size;
    self.reference = self.divisor + rows;
    self.slope = self.reference + rows;
    memset(self.gradient[0], 0, 3 * size * sizeof *self.gradient[0]);
    mra_hierarchy_pool(&self.head, c->operands, group);
    token_gradients(&self, c->operands, group);
    collect(&self);
    mra_hierarchy_walk(&self.head, backward_block, &self);
    hand_down(&self);
    write_gradients(&self, c->operands, group);
}

mra_status mra_cpu_hierarchy_backward(mra_device *device, const mra_hierarchy *form,
                                      const mra_hierarchy_operands *operands, mra_error *err)
{
    backward_context context = {
        .form = form, .operands = operands, .layout = mra_hierarchy_layout_of(form)};
    context.floats = mra_hierarchy_head_floats(form, &context.layout) +
                     context.layout.rows * (4 * (size_t)form->d + 2) +
                     (size_t)form->block * (size_t)form->block;
    context.memory = mra_cpu_scratch(device, (size_t)device->threads * context.floats,
                                     sizeof(float), "hierarchical attention", err);
    if (!context.memory) return MRA_NO_MEMORY;
    mra_cpu_loop(device, form->batch * (size_t)form->heads, backward_item, &context);
    return MRA_OK;
}
