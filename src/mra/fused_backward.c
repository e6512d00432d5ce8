// ## Backward
//
// With $p_{ij}=A_{ij}/D_i$ and $d_{ij}=\langle dz_i,v_j\rangle$, the gradient of a softmax row
// is $dP_{ij}=p_{ij}\,(d_{ij}- \langle dz_i,z_i\rangle)$: the sum over $j$ that the derivative
// of the normaliser brings in is a product with the output itself. So nothing of size $n\times$
// anything has to be kept from the forward pass; tiles are computed again from $m_i$ and
// $1/D_i$. A refined box costs five products of $2s^2d$ operations:
// $$ S^\top=K_yQ_x^\top,\quad d^\top=V_y\,dZ_x^\top,\quad dV_y\mathrel{+}=P^\top dZ_x,\quad
//    dK_y\mathrel{+}=dS^\top Q_x,\quad dQ_x\mathrel{+}=dS\,K_y. $$
// Since the tiles are transposed all along, only the queries and $dZ$ of a block are ever
// rearranged.
//
// $m_i$ and $1/D_i$ are kept as two numbers, not as the one logarithm $m_i+\ln D_i$: at logits
// of $10^4$ the logarithm would lose the last three digits.
//
// **Who adds to what.** $dQ_x$ belongs to a row of boxes, $dK_y$ and $dV_y$ to a column. If one
// thread has the whole head, it walks the rows and adds to keys and values as it goes. If
// several threads share a head, they first walk the rows for $dQ$ and then the columns for $dK$
// and $dV$, computing tiles twice (seven products instead of five), and nobody writes what
// another owns. A column lists its rows in ascending order, so each $dK_y$ is the same sum in
// the same order either way: the result does not depend on the number of threads, down to the
// last bit.

#include "mra/fused.h"

#include <math.h>
#include <string.h>

#include "core/parallel.h"
#include "mra/dot.h"
#include "mra/fused_lanes.h"

// ### What the rows ask of their coarse boxes
//
// $\langle dz_i,z_i\rangle$ for every row, and the sums $G_x$ and $h_x$ of the coarse part over
// the rows of the block.
static void prepare_block(void *context, size_t item, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    int x = (int)item, d = plan->d, lanes = plan->lanes;
    const float *inverse = record->row_inverse + item * lanes;
    const float *row_max = record->row_max + item * lanes;
    float *product = head->row_product + item * lanes, *pull = head->pull + item * d;
    float coarse_max = record->coarse_max[x], pull_product = 0;

    memset(product, 0, (size_t)lanes * sizeof *product);
    memset(pull, 0, (size_t)d * sizeof *pull);
    for (int i = 0; i < plan->scale; i++) {
        if (inverse[i] == 0) continue;
        const float *dz = head->rows[MRA_FUSED_DZ][x] + (size_t)i * d;
        product[i] = mra_dot(dz, head->z_read + (size_t)mra_fused_token(plan, x, i) * d, d);
        if (coarse_max == -INFINITY) continue;
        float share = mra_exp(coarse_max - row_max[i]) * inverse[i];
        pull_product += share * product[i];
        mra_add_scaled(pull, share, dz, d);
    }
    head->pull_product[x] = pull_product;
}

// ### One tile
//
// From transposed logits and transposed <dz_i, v_j> to the weights and the gradients of the
// logits, in place.
static void differentiate(const mra_fused_head *head, int x, int y, float *tile,
                          float *tile_grad)
{
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    int s = plan->scale, lanes = plan->lanes;
    bool whole = record->tokens[y] == s;
    const uint8_t *present = head->present + (size_t)y * s;
    size_t row = (size_t)x * lanes;
    for (int g = 0; g < lanes; g += MRA_LANES) {
        mra_lanes row_max = *(const mra_lanes *)(record->row_max + row + g);
        mra_lanes inverse = *(const mra_lanes *)(record->row_inverse + row + g);
        mra_lanes product = *(const mra_lanes *)(head->row_product + row + g);
        for (int j = 0; j < s; j++) {
            mra_lanes *weight = (mra_lanes *)(tile + (size_t)j * lanes + g);
            mra_lanes *gradient = (mra_lanes *)(tile_grad + (size_t)j * lanes + g);
            if (!whole && !present[j]) {
                *weight = *gradient = (mra_lanes){0};
                continue;
            }
            mra_lanes p = *weight - row_max;
            mra_lanes_exp(&p);
            p *= inverse;
            *weight = p;
            *gradient = p * (*gradient - product) * plan->logit_scale;
        }
    }
}

// The transposed queries and gradients of block x: its own place where threads share the head,
// else the one place.
static float *transposed(const mra_fused_head *head, float *buffer, int x)
{
    const mra_fused_plan *plan = head->plan;
    size_t pack = head->packs > 1 ? (size_t)x : 0;
    return buffer + pack * plan->d * plan->lanes;
}

static void pack_block(const mra_fused_head *head, int x)
{
    const mra_fused_plan *plan = head->plan;
    mra_transpose(head->rows[MRA_FUSED_Q][x], plan->scale, plan->d, plan->logit_scale,
                  transposed(head, head->query_transposed, x), plan->lanes);
    mra_transpose(head->rows[MRA_FUSED_DZ][x], plan->scale, plan->d, 1,
                  transposed(head, head->dz_transposed, x), plan->lanes);
}

static void compute_tile(const mra_fused_head *head, int x, int y, mra_fused_scratch *scratch,
                         mra_fused_ahead *ahead)
{
    const mra_fused_plan *plan = head->plan;
    mra_fused_multiply(&plan->inner, head->rows[MRA_FUSED_K][y],
                       transposed(head, head->query_transposed, x), scratch->tile, ahead);
    mra_fused_multiply(&plan->inner, head->rows[MRA_FUSED_V][y],
                       transposed(head, head->dz_transposed, x), scratch->tile_grad, ahead);
    differentiate(head, x, y, scratch->tile, scratch->tile_grad);
}

// What a tile gives to the keys and values of its column.
static void give_to_keys(const mra_fused_head *head, int x, const mra_fused_scratch *scratch,
                         float *dkey, float *dvalue, mra_fused_ahead *ahead)
{
    const mra_fused_plan *plan = head->plan;
    mra_fused_multiply(&plan->to_key, scratch->tile, head->rows[MRA_FUSED_DZ][x], dvalue,
                       ahead);
    mra_fused_multiply(&plan->to_key, scratch->tile_grad, head->rows[MRA_FUSED_Q][x], dkey,
                       ahead);
}

// ### Adding up
//
// Adds to the caller's gradient, for the present tokens of block x: the rows of the fine part
// (NULL: none) and share times the one row of the coarse part (NULL: none).
static void add_block(const mra_fused_head *head, int x, const float *fine, const float *coarse,
                      float share, float *gradient)
{
    const mra_fused_plan *plan = head->plan;
    const uint8_t *present = head->present + (size_t)x * plan->scale;
    int d = plan->d;
    for (int r = 0; r < plan->scale; r++) {
        if (!present[r]) continue;
        float *to = gradient + (size_t)mra_fused_token(plan, x, r) * d;
        const float *from = fine + (size_t)r * d;
        if (coarse)
            for (int c = 0; c < d; c++) to[c] += from[c] + share * coarse[c];
        else
            for (int c = 0; c < d; c++) to[c] += from[c];
    }
}

static void add_queries(const mra_fused_head *head, int x, const float *fine)
{
    int count = head->record->tokens[x];
    const float *coarse =
        mra_fused_has_coarse(head) ? head->dquery + (size_t)x * head->plan->d : NULL;
    if (count > 0) add_block(head, x, fine, coarse, 1 / (float)count, head->dq);
}

static void add_keys(const mra_fused_head *head, int y, const float *dkey, const float *dvalue)
{
    int count = head->record->tokens[y];
    bool coarse = mra_fused_has_coarse(head);
    size_t place = (size_t)y * head->plan->d;
    if (count == 0) return;
    add_block(head, y, dkey, coarse ? head->dkey + place : NULL, 1 / (float)count, head->dk);
    add_block(head, y, dvalue, coarse ? head->dvalue + place : NULL, 1, head->dv);
}

// What the next tile is going to need: entry e of the list of rows, which is in the same row of
// boxes or begins the next one, or of the list of columns.
static mra_fused_ahead look_along_row(const mra_fused_head *head, int32_t e)
{
    const mra_fused_plan *plan = head->plan;
    if (e >= head->record->row_start[plan->blocks])
        return mra_fused_look_ahead(plan, 0, 0, NULL);
    size_t y = (size_t)head->record->column[e], first = y * plan->scale * plan->d;
    const float *rows[4] = {head->rows[MRA_FUSED_K][y], head->rows[MRA_FUSED_V][y]};
    if (!head->dkey_fine) return mra_fused_look_ahead(plan, 3, 2, rows);
    rows[2] = head->dkey_fine + first;
    rows[3] = head->dvalue_fine + first;
    return mra_fused_look_ahead(plan, 5, 4, rows);
}

static mra_fused_ahead look_down_column(const mra_fused_head *head, int32_t e)
{
    const mra_fused_plan *plan = head->plan;
    if (!plan->scattered || e >= head->column_start[plan->blocks])
        return mra_fused_look_ahead(plan, 0, 0, NULL);
    int x = head->column_row[e];
    const float *rows[4] = {head->rows[MRA_FUSED_Q][x], head->rows[MRA_FUSED_DZ][x],
                            transposed(head, head->query_transposed, x),
                            transposed(head, head->dz_transposed, x)};
    return mra_fused_look_ahead(plan, 4, 4, rows);
}

// While row x is computed: where the gradient of its queries goes, and what the next row begins
// with.
static mra_fused_ahead look_past_row(const mra_fused_head *head, int x, int products)
{
    const mra_fused_plan *plan = head->plan;
    int next = x + 1 < plan->blocks ? x + 1 : x;
    const float *rows[] = {head->rows[MRA_FUSED_Q][next], head->rows[MRA_FUSED_DZ][next],
                           head->dq + (size_t)x * plan->scale * plan->d};
    return mra_fused_look_ahead(plan, products, plan->order ? 2 : 3, rows);
}

// A row of boxes: gradients of its queries; and of keys and values too if one thread has the
// whole head.
static void backward_row(void *context, size_t item, int thread)
{
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    mra_fused_scratch *scratch = &head->scratch[thread];
    size_t size = (size_t)plan->scale * plan->d;
    int x = (int)item;
    if (record->tokens[x] == 0) return;
    pack_block(head, x);
    memset(scratch->out, 0, size * sizeof *scratch->out);
    int boxes = record->row_start[x + 1] - record->row_start[x];
    mra_fused_ahead ahead = look_past_row(head, x, (head->dkey_fine ? 5 : 3) * boxes);
    for (int32_t e = record->row_start[x]; e < record->row_start[x + 1]; e++) {
        int y = record->column[e];
        if (plan->scattered) ahead = look_along_row(head, e + 1);
        compute_tile(head, x, y, scratch, &ahead);
        mra_fused_multiply(&plan->to_row, scratch->tile_grad, head->rows[MRA_FUSED_K][y],
                           scratch->out, &ahead);
        if (head->dkey_fine)
            give_to_keys(head, x, scratch, head->dkey_fine + (size_t)y * size,
                         head->dvalue_fine + (size_t)y * size, &ahead);
    }
    add_queries(head, x, scratch->out);
}

// A column of boxes: gradients of its keys and values.
static void backward_column(void *context, size_t item, int thread)
{
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    mra_fused_scratch *scratch = &head->scratch[thread];
    size_t bytes = (size_t)plan->scale * plan->d * sizeof(float);
    int y = (int)item;
    memset(scratch->out, 0, bytes);
    memset(scratch->out_key, 0, bytes);
    for (int32_t e = head->column_start[y]; e < head->column_start[y + 1]; e++) {
        int x = head->column_row[e];
        mra_fused_ahead ahead = look_down_column(head, e + 1);
        compute_tile(head, x, y, scratch, &ahead);
        give_to_keys(head, x, scratch, scratch->out_key, scratch->out, &ahead);
    }
    add_keys(head, y, scratch->out_key, scratch->out);
}

// The refined boxes by columns: a counting sort, so rows stay ascending within a column.
static void list_columns(mra_fused_head *head)
{
    const mra_fused_record *record = head->record;
    int blocks = head->plan->blocks;
    int32_t *start = head->column_start;
    memset(start, 0, ((size_t)blocks + 1) * sizeof *start);
    for (int32_t e = 0; e < record->row_start[blocks]; e++) start[record->column[e] + 1]++;
    for (int y = 0; y < blocks; y++) start[y + 1] += start[y];
    for (int x = 0; x < blocks; x++)
        for (int32_t e = record->row_start[x]; e < record->row_start[x + 1]; e++)
            head->column_row[start[record->column[e]]++] = x;
    // Every start has moved to its column's end, which is where the next column starts.
    memmove(start + 1, start, (size_t)blocks * sizeof *start);
    start[0] = 0;
}

static void backward_fine(mra_fused_head *head)
{
    const mra_fused_plan *plan = head->plan;
    size_t blocks = (size_t)plan->blocks, size = (size_t)plan->scale * plan->d;
    if (head->threads > 1) {
        list_columns(head);
        mra_parallel_for(head->threads, blocks, backward_row, head);
        mra_parallel_for(head->threads, blocks, backward_column, head);
        return;
    }
    memset(head->dkey_fine, 0, blocks * size * sizeof(float));
    memset(head->dvalue_fine, 0, blocks * size * sizeof(float));
    for (size_t x = 0; x < blocks; x++) backward_row(head, x, 0);
    for (size_t y = 0; y < blocks; y++)
        add_keys(head, (int)y, head->dkey_fine + y * size, head->dvalue_fine + y * size);
}

void mra_fused_backward(mra_fused_head *head, mra_fused_record *record, const float *q,
                        const float *k, const float *v, const uint8_t *mask, const float *z,
                        const float *dz, float *dq, float *dk, float *dv)
{
    head->record = record;
    head->array[MRA_FUSED_Q] = q;
    head->array[MRA_FUSED_K] = k;
    head->array[MRA_FUSED_V] = v;
    head->array[MRA_FUSED_DZ] = dz;
    head->mask = mask;
    head->z_read = z;
    head->dq = dq;
    head->dk = dk;
    head->dv = dv;
    mra_fused_pool(head, MRA_FUSED_ARRAYS, false);
    mra_parallel_for(head->threads, (size_t)head->plan->blocks, prepare_block, head);
    if (mra_fused_has_coarse(head)) mra_fused_coarse_backward(head);
    backward_fine(head);
}
