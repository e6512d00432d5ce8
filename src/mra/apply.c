// # Applying $J$ to the values
//
// The output of attention is $Z=D^{-1}AV$. With $A$ replaced by
//
// $$\hat A_{ij}=\mu_{s,x,y}\quad\text{for the box }(s,x,y)\in J\text{ that covers }(i,j),$$
//
// there is no need ever to write $\hat A$ down. On a box the product is the same for all its
// rows:
//
// $$(\hat AV)_i=\sum_{(s,x,y)\in J,\;\lfloor i/s\rfloor=x}\mu_{s,x,y}\,\tilde V^s_y,\qquad
//   \hat D_{ii}=\sum_{(s,x,y)\in J,\;\lfloor i/s\rfloor=x}\mu_{s,x,y}\,t^s_y,$$
//
// with the sums $\tilde V^s_y$ of the values of block $y$ and the number $t^s_y$ of its tokens,
// both from the pyramid. So each scale is a sparse matrix times the pooled values, one vector
// per *block* of rows, and a row of the output is the sum over the scales of what its blocks
// received. A box costs $O(d)$ whatever its size; handing the sums from blocks to their
// children costs $O(nd)$ in all. For $R=\{s_0,\dots,1\}$ the product takes $O(nd+|J|\,d)$
// operations; the paper's $R=\{32,1\}$ has $|J|=(n/32)^2-m+32^2m$.
//
// That is the scheme for any $R$. For two scales, the fused path in `attention.c` does the same
// with dense $32\times32$ products instead of single entries.
//
// **Tokens that are not there.** A masked key is in no mean, no sum and no count. A masked
// query gets $z=0$. Budgets are counted in rows of boxes that hold a token. So if the masked tokens
// are the end of the sequence, or make up whole blocks of scale $s_0$, the result is that of the
// sequence without them; elsewhere blocks simply hold fewer tokens.
#include "mra/apply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "mra/dot.h"
#include "mra/layout.h"
#include "tensor/vector.h"

static size_t lay_out(mra_apply *apply, const mra_options *options, int n, int d, bool backward,
                      char *memory)
{
    mra_layout layout = {.memory = memory};
    int finest = options->scales - 1;
    size_t tokens = (size_t)n, width = (size_t)d;
    *apply = (mra_apply){.options = *options, .n = n, .d = d, .backward = backward};
    void *part = mra_layout_take(&layout, mra_pyramid_bytes(options, n, d), 1);
    if (memory != NULL) mra_pyramid_place(&apply->pyramid, options, n, d, part);
    part = mra_layout_take(&layout, mra_selection_bytes(options, n), 1);
    if (memory != NULL) mra_selection_place(&apply->selection, options, n, part);
    apply->row_lse = mra_layout_take(&layout, tokens, sizeof(float));
    for (int i = 0; i <= finest; i++) {
        size_t blocks = (tokens + (size_t)options->scale[i] - 1) / (size_t)options->scale[i];
        size_t elements = blocks * width * sizeof(float);
        apply->largest[i] = mra_layout_take(&layout, blocks, sizeof(float));
        apply->normaliser[i] = mra_layout_take(&layout, blocks, sizeof(float));
        if (i < finest) apply->sum[i] = mra_layout_take(&layout, elements, 1);
        if (!backward) continue;
        // The backward pass has no more use for the coarse sums and works in their place.
        apply->reference[i] = apply->largest[i];
        apply->gradient[i] = i < finest ? apply->sum[i] : mra_layout_take(&layout, elements, 1);
        apply->correction[i] =
            i < finest ? apply->normaliser[i] : mra_layout_take(&layout, blocks, sizeof(float));
        if (i == finest) continue;
        apply->dquery[i] = mra_layout_take(&layout, elements, 1);
        apply->dkey[i] = mra_layout_take(&layout, elements, 1);
        apply->dvalue[i] = mra_layout_take(&layout, elements, 1);
    }
    return layout.used;
}

size_t mra_apply_bytes(const mra_options *options, int n, int d, bool backward)
{
    mra_apply unused;
    return lay_out(&unused, options, n, d, backward, NULL);
}

void mra_apply_place(mra_apply *apply, const mra_options *options, int n, int d, bool backward,
                     void *memory)
{
    lay_out(apply, options, n, d, backward, memory);
}

mra_status mra_apply_create(mra_apply **apply, const mra_options *options, int n, int d,
                            mra_error *err)
{
    *apply = NULL;
    mra_status status = mra_options_check(options, n, err);
    if (status != MRA_OK) return status;
    if (options->ranking == MRA_RANK_SPREAD)
        return mra_fail(err, MRA_BAD_INPUT,
                        "ranking: spread, expected row or plain: this path goes box by box");
    if (d < 1 || d > 256) return mra_fail(err, MRA_BAD_INPUT, "d: %d, expected 1 to 256", d);
    size_t bytes = mra_apply_bytes(options, n, d, true);
    mra_apply *made = malloc(sizeof *made);
    void *memory = mra_aligned_calloc(bytes, 1);
    if (made == NULL || memory == NULL) {
        free(made);
        mra_aligned_free(memory);
        return mra_fail(err, MRA_NO_MEMORY,
                        "multi-resolution attention: no %zu bytes for n = %d", bytes, n);
    }
    mra_apply_place(made, options, n, d, true, memory);
    made->owned = memory;
    *apply = made;
    return MRA_OK;
}

void mra_apply_free(mra_apply *apply)
{
    if (apply == NULL) return;
    mra_aligned_free(apply->owned);
    free(apply);
}

// ## One running maximum across scales
//
// $\exp$ of a logit of $10^4$ is no floating-point number, but only quotients are wanted.
// Online softmax keeps, for a row, the largest logit $m$ seen so far together with sums
// relative to it,
//
// $$w=\sum_b e^{\ell_b-m}\,t_b,\qquad u=\sum_b e^{\ell_b-m}\,\tilde V_b,$$
//
// and when a new logit exceeds $m$, it multiplies both by $e^{m-m'}$. The same idea works *down
// the pyramid*. All rows of a block $x$ of scale $s_i$ see the same boxes of scales
// $s_0,\dots,s_i$; so one triple $(m,w,u)$ per block holds everything down to that scale. A
// child block starts from its parent's triple and adds its own boxes:
//
// $$m'=\max\bigl(m,\max_b\ell_b\bigr),\quad w'=e^{m-m'}w+\sum_b e^{\ell_b-m'}t_b,\quad
//   u'=e^{m-m'}u+\sum_b e^{\ell_b-m'}\tilde V_b.$$
//
// At the finest scale a block is a row, and $z=u/w$. No exponent is ever positive, and $w\ge1$
// once there is any box, because the largest one contributes $e^0\,t\ge1$. (The paper's code
// keeps one maximum for the coarse and one for the fine part and reconciles them at the end,
// with $10^{-6}$ added to the normaliser; for two scales that comes to the same up to the
// $10^{-6}$.)
//
// Scales that do not count: the sparse variant (MRA-2-s) leaves out all but the finest. Then a
// row may have no box at all. Its output is defined as 0, and such rows are counted.
//
// The weights exp(logit - shift) of up to WEIGHTS boxes that follow one another in a row of
// boxes, all at once.
enum { WEIGHTS = 64 };
static int box_weights(const mra_selection_level *level, size_t first, size_t end, float shift,
                       float *weight)
{
    int count = end - first < WEIGHTS ? (int)(end - first) : WEIGHTS;
    const float *logit = level->logit + first;
#pragma omp simd
    for (int b = 0; b < count; b++) weight[b] = mra_exp(logit[b] - shift);
    return count;
}

// Adds the boxes of row x of boxes of level i to the triple (m, w, u); `sum` may be NULL.
static void add_boxes(const mra_apply *apply, int i, int x, float *largest, float *normaliser,
                      float *sum)
{
    const mra_selection_level *level = &apply->selection.level[i];
    const mra_pyramid_level *pooled = &apply->pyramid.level[i];
    size_t first = level->row_start[x], end = level->row_start[x + 1];
    int d = apply->d;
    float before = *largest, after = before;
    for (size_t b = first; b < end; b++)
        after = level->logit[b] > after ? level->logit[b] : after;
    if (after == -INFINITY) return;
    float decay = mra_exp(before - after), weight = decay * *normaliser;
    if (sum != NULL && decay < 1)
        for (int c = 0; c < d; c++) sum[c] *= decay;
    float p[WEIGHTS];
    for (size_t b = first; b < end; b += WEIGHTS) {
        int count = box_weights(level, b, end, after, p);
        for (int c = 0; c < count; c++) {
            int y = level->column[b + (size_t)c];
            weight += p[c] * (float)pooled->tokens[y];
            if (sum != NULL)
                mra_add_scaled(sum, p[c], pooled->value + (size_t)y * (size_t)d, d);
        }
    }
    *largest = after;
    *normaliser = weight;
}

// The triples of all blocks of level i, from those of level i - 1 (none if i is the first level
// that counts). sum[x, d] may be NULL.
static void descend(mra_apply *apply, int i, bool first, float *sum)
{
    const mra_pyramid_level *pooled = &apply->pyramid.level[i];
    int ratio = first ? 1 : apply->pyramid.level[i - 1].scale / pooled->scale;
    size_t d = (size_t)apply->d;
    for (int x = 0; x < pooled->blocks; x++) {
        int parent = x / ratio;
        bool nothing = first || pooled->tokens[x] == 0;
        float largest = nothing ? -INFINITY : apply->largest[i - 1][parent];
        float normaliser = nothing ? 0 : apply->normaliser[i - 1][parent];
        float *row = sum == NULL ? NULL : sum + (size_t)x * d;
        if (row != NULL && nothing) memset(row, 0, d * sizeof(float));
        if (row != NULL && !nothing)
            memcpy(row, apply->sum[i - 1] + (size_t)parent * d, d * sizeof(float));
        if (pooled->tokens[x] > 0) add_boxes(apply, i, x, &largest, &normaliser, row);
        apply->largest[i][x] = largest;
        apply->normaliser[i][x] = normaliser;
    }
}

static int first_level(const mra_apply *apply)
{
    return apply->options.sparse ? apply->options.scales - 1 : 0;
}

void mra_apply_product(mra_apply *apply, float *z)
{
    int finest = apply->options.scales - 1, first = first_level(apply);
    for (int i = first; i <= finest; i++) {
        float *sum = i == finest ? z : apply->sum[i];
        descend(apply, i, i == first, z == NULL ? NULL : sum);
    }
    const mra_pyramid_level *tokens = &apply->pyramid.level[finest];
    apply->empty_rows = 0;
    for (int row = 0; row < apply->n; row++) {
        float normaliser = apply->normaliser[finest][row];
        bool nothing = normaliser == 0;
        if (nothing && tokens->tokens[row] > 0) apply->empty_rows++;
        apply->row_lse[row] =
            nothing ? -INFINITY : apply->largest[finest][row] + logf(normaliser);
        if (z == NULL || nothing) continue;
        float inverse = 1 / normaliser, *out = z + (size_t)row * (size_t)apply->d;
        for (int c = 0; c < apply->d; c++) out[c] *= inverse;
    }
}

void mra_apply_prepare(mra_apply *apply, const float *q, const float *k, const float *v,
                       const uint8_t *mask)
{
    mra_pyramid_build(&apply->pyramid, q, k, v, mask);
    mra_select(&apply->selection, &apply->options, &apply->pyramid);
    mra_apply_product(apply, NULL);
}

void mra_apply_forward(mra_apply *apply, const float *q, const float *k, const float *v,
                       const uint8_t *mask, float *z)
{
    mra_pyramid_build(&apply->pyramid, q, k, v, mask);
    mra_select(&apply->selection, &apply->options, &apply->pyramid);
    mra_apply_product(apply, z);
}

// ## Backward
//
// Let $g_i=\partial L/\partial z_i$ be given. With $p^b_i=e^{\ell_b}/\hat D_{ii}$, the weight
// of box $b=(s,x,y)$ in row $i$, the output is $z_i=\sum_b p^b_i\tilde V_b$ with
// $\sum_b p^b_it_b=1$, and so
//
// $$\frac{\partial L}{\partial\tilde V_b}=\sum_{i\in x}p^b_i\,g_i,\qquad
//   \frac{\partial L}{\partial\ell_b}=\sum_{i\in x}p^b_i\bigl(\langle g_i,
//   \tilde V_b\rangle-t_b\langle g_i,z_i\rangle\bigr).$$
//
// The sums run over the $s$ rows of the box, but the box enters only through $e^{\ell_b}$ and
// $\tilde V_b$. So what the rows of a block ask for can be added up once for all boxes, from
// the rows *up* the pyramid, the mirror image of the forward pass:
//
// $$G_x=\sum_{i\in x}\frac{e^{M_x}}{\hat D_{ii}}\,g_i,\qquad
//   E_x=\sum_{i\in x}\frac{e^{M_x}}{\hat D_{ii}}\langle g_i,z_i\rangle,$$
//
// and then each box costs a few operations on vectors of length $d$, whatever its size:
//
// $$\frac{\partial L}{\partial\tilde V_b}\mathrel{+}=e^{\ell_b-M_x}\,G_x,\qquad
//   \frac{\partial L}{\partial\ell_b}=e^{\ell_b-M_x}\bigl(\langle G_x,
//   \tilde V_b\rangle-t_bE_x\bigr).$$
//
// The reference $M_x$ is the *smallest* of the running maxima $m_i$ of the rows in $x$: a leaf
// that covers $x$ took part in each of them, so $\ell_b\le m_i$ for all $i\in x$, and no
// exponent is positive; in $G_x$ the factors are $e^{M_x-m_i}/w_i\le1$.
//
// $\ell_b$ is the inner product of two means, so its gradient goes to $\tilde Q_x$ and
// $\tilde K_y$, and from there in equal parts to the unmasked tokens of the block: from a block
// to its children in the proportion of their tokens, all the way *down* the pyramid.
// $\partial L/\partial\tilde V$ goes to every token in full, because $\tilde V$ is a sum. The
// cost is that of the forward pass, a small factor apart.
//
// (In the paper's code the gradient comes from automatic differentiation of the same
// expressions, with custom kernels for the refined blocks.)
//
// What row i asks for: level `finest` of reference, gradient, correction.
static void gather_rows(mra_apply *apply, const float *z, const float *dz)
{
    int finest = apply->options.scales - 1, d = apply->d;
    for (int row = 0; row < apply->n; row++) {
        size_t at = (size_t)row * (size_t)d;
        float normaliser = apply->normaliser[finest][row];
        float inverse = normaliser > 0 ? 1 / normaliser : 0;
        float *gradient = apply->gradient[finest] + at;
        for (int c = 0; c < d; c++)
            gradient[c] = inverse > 0 ? inverse * dz[at + (size_t)c] : 0;
        apply->correction[finest][row] = inverse > 0 ? mra_dot(gradient, z + at, d) : 0;
    }
}

// What the rows of block x of level i ask for, from its children in level i + 1. Masked and
// empty rows have the reference -INFINITY and ask for nothing; a block of such rows passes that
// on.
static void gather_block(mra_apply *apply, int i, int x)
{
    int ratio = apply->pyramid.level[i].scale / apply->pyramid.level[i + 1].scale, d = apply->d;
    int blocks = apply->pyramid.level[i + 1].blocks, first = x * ratio;
    int end = first + ratio < blocks ? first + ratio : blocks;
    const float *child_reference = apply->reference[i + 1];
    float reference = INFINITY, correction = 0;
    for (int c = first; c < end; c++)
        if (child_reference[c] > -INFINITY) reference = fminf(reference, child_reference[c]);
    float *gradient = apply->gradient[i] + (size_t)x * (size_t)d;
    memset(gradient, 0, (size_t)d * sizeof(float));
    for (int c = first; c < end; c++) {
        if (child_reference[c] == -INFINITY) continue;
        float factor = mra_exp(reference - child_reference[c]);
        correction += factor * apply->correction[i + 1][c];
        mra_add_scaled(gradient, factor, apply->gradient[i + 1] + (size_t)c * (size_t)d, d);
    }
    apply->reference[i][x] = reference == INFINITY ? -INFINITY : reference;
    apply->correction[i][x] = correction;
}

// What one box, of weight p = exp(logit - M_x), sends to its pooled query, key and values.
static void box_gradient(const mra_apply *apply, int i, int x, int y, float p, float *dquery,
                         float *dkey, float *dvalue)
{
    const mra_pyramid_level *pooled = &apply->pyramid.level[i];
    int d = apply->d;
    size_t row = (size_t)x * (size_t)d, column = (size_t)y * (size_t)d;
    const float *gradient = apply->gradient[i] + row;
    float asked = mra_dot(gradient, pooled->value + column, d);
    float dlogit = p * (asked - (float)pooled->tokens[y] * apply->correction[i][x]);
    dlogit *= apply->pyramid.logit_scale;
    mra_add_scaled(dvalue + column, p, gradient, d);
    mra_add_scaled(dquery + row, dlogit, pooled->key + column, d);
    mra_add_scaled(dkey + column, dlogit, pooled->query + row, d);
}

// The same for all boxes of level i.
static void box_gradients(const mra_apply *apply, int i, float *dquery, float *dkey,
                          float *dvalue)
{
    const mra_selection_level *level = &apply->selection.level[i];
    for (int x = 0; x < level->blocks; x++) {
        size_t end = level->row_start[x + 1];
        float p[WEIGHTS];
        for (size_t b = level->row_start[x]; b < end; b += WEIGHTS) {
            int count = box_weights(level, b, end, apply->reference[i][x], p);
            for (int c = 0; c < count; c++)
                box_gradient(apply, i, x, level->column[b + (size_t)c], p[c], dquery, dkey,
                             dvalue);
        }
    }
}

// From the blocks of level i to their children.
static void spread_gradients(const mra_apply *apply, int i, float *dquery, float *dkey,
                             float *dvalue)
{
    const mra_pyramid_level *coarse = &apply->pyramid.level[i], *fine = coarse + 1;
    int ratio = coarse->scale / fine->scale, d = apply->d;
    for (int c = 0; c < fine->blocks; c++) {
        if (fine->tokens[c] == 0) continue;
        int x = c / ratio;
        size_t to = (size_t)c * (size_t)d, from = (size_t)x * (size_t)d;
        float share = (float)fine->tokens[c] / (float)coarse->tokens[x];
        mra_add_scaled(dquery + to, share, apply->dquery[i] + from, d);
        mra_add_scaled(dkey + to, share, apply->dkey[i] + from, d);
        mra_add_scaled(dvalue + to, 1, apply->dvalue[i] + from, d);
    }
}

// At the finest scale the pooled arrays are the caller's own, and so are their gradients.
void mra_apply_backward(mra_apply *apply, const float *z, const float *dz, float *dq, float *dk,
                        float *dv)
{
    int finest = apply->options.scales - 1, first = first_level(apply);
    gather_rows(apply, z, dz);
    for (int i = finest - 1; i >= first; i--) {
        int blocks = apply->pyramid.level[i].blocks;
        size_t bytes = (size_t)blocks * (size_t)apply->d * sizeof(float);
        for (int x = 0; x < blocks; x++) gather_block(apply, i, x);
        memset(apply->dquery[i], 0, bytes);
        memset(apply->dkey[i], 0, bytes);
        memset(apply->dvalue[i], 0, bytes);
    }
    for (int i = first; i <= finest; i++) {
        bool last = i == finest;
        box_gradients(apply, i, last ? dq : apply->dquery[i], last ? dk : apply->dkey[i],
                      last ? dv : apply->dvalue[i]);
        if (last) break;
        bool above_rows = i + 1 == finest;
        spread_gradients(apply, i, above_rows ? dq : apply->dquery[i + 1],
                         above_rows ? dk : apply->dkey[i + 1],
                         above_rows ? dv : apply->dvalue[i + 1]);
    }
}

// ## The matrix itself
//
// For pictures and for tests, where $n^2$ numbers are no hardship: $\hat A_{ij}e^{-c}$ with a
// common $c$, so that nothing overflows.
double mra_apply_largest_logit(const mra_apply *apply)
{
    double largest = -INFINITY;
    for (int i = first_level(apply); i < apply->options.scales; i++) {
        const mra_selection_level *level = &apply->selection.level[i];
        for (size_t b = 0; b < level->count; b++) largest = fmax(largest, level->logit[b]);
    }
    return largest;
}

static void fill_box(const mra_apply *apply, int scale, int x, int y, double value,
                     double *a_hat)
{
    const int32_t *tokens = apply->pyramid.level[apply->options.scales - 1].tokens;
    int n = apply->n;
    int last_row = n - x * scale < scale ? n : (x + 1) * scale;
    int last_column = n - y * scale < scale ? n : (y + 1) * scale;
    for (int i = x * scale; i < last_row; i++)
        for (int j = y * scale; j < last_column; j++)
            if (tokens[i] > 0 && tokens[j] > 0)
                a_hat[(size_t)i * (size_t)n + (size_t)j] = value;
}

void mra_apply_dense(const mra_apply *apply, double shift, double *a_hat)
{
    memset(a_hat, 0, (size_t)apply->n * (size_t)apply->n * sizeof *a_hat);
    for (int i = first_level(apply); i < apply->options.scales; i++) {
        const mra_selection_level *level = &apply->selection.level[i];
        for (int x = 0; x < level->blocks; x++)
            for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++)
                fill_box(apply, level->scale, x, level->column[b],
                         exp((double)level->logit[b] - shift), a_hat);
    }
}
