// ## A block of rows, forward
//
// The $s$ queries of block $x$ attend to the keys of its refined boxes one by one, and to all
// other blocks through one coefficient each. Both parts belong to the same softmax, so one
// running maximum serves both (online softmax; Milakov & Gimelshein, "Online normalizer
// calculation for softmax", 2018): with $m_i$ the largest logit that row $i$ has met so far,
// whether of a single key or of a box,
// $$ l_i=\sum e^{\text{logit}-m_i},\qquad o_i=\sum e^{\text{logit}-m_i}\,v, $$
// and whenever $m_i$ grows to $m_i'$ both are multiplied by $e^{m_i-m_i'}\le 1$. No exponent is
// ever positive, so nothing overflows, and no row is left with a vanishing normaliser: the term
// of the maximum itself is 1.
//
// The maximum starts at $M_x$, the largest coarse logit of the row of blocks. The refined boxes
// come in chunks whose tiles of logits stay in a cache of the core; at the end the coarse part
// joins with factor $e^{M_x-m_i}$.
//
// Per box: two products of $2s^2d$ operations ($K_y Q_x^\top$, which is the tile transposed,
// and $O \mathrel{+}= P V_y$) and $s^2$ exponentials. Memory traffic is the $2sd$ numbers of
// $K_y$ and $V_y$; at $s=32$, $d=64$ that makes 16 operations for every byte read, so the
// products run at the processor's rate from the second-level cache on.

#include "mra/fused.h"

#include <math.h>
#include <string.h>

#include "core/parallel.h"
#include "mra/fused_lanes.h"

// Sets the logits of absent keys to minus infinity: their weights will be 0.
static void hide_absent_keys(const mra_fused_head *head, int y, float *tile)
{
    const mra_fused_plan *plan = head->plan;
    if (head->record->tokens[y] == plan->scale) return;
    const uint8_t *present = head->present + (size_t)y * plan->scale;
    for (int j = 0; j < plan->scale; j++) {
        if (present[j]) continue;
        for (int i = 0; i < plan->lanes; i++) tile[(size_t)j * plan->lanes + i] = -INFINITY;
    }
}

// Raises row_max[lanes] to the largest of tile[keys, lanes]; change[lanes] = exp(old - new).
static void raise_maximum(const float *tile, int keys, int lanes, float *row_max, float *change)
{
    for (int g = 0; g < lanes; g += MRA_LANES) {
        mra_lanes *held = (mra_lanes *)(row_max + g);
        mra_lanes old = *held, largest = old;
        for (int j = 0; j < keys; j++)
            mra_lanes_raise(&largest, (const mra_lanes *)(tile + (size_t)j * lanes + g));
        *held = largest;
        old -= largest;
        mra_lanes_exp(&old);
        *(mra_lanes *)(change + g) = old;
    }
}

// tile <- exp(tile - row_max), and adds the sums over keys to row_sum[lanes].
static void exponentiate(float *tile, int keys, int lanes, const float *row_max, float *row_sum)
{
    for (int g = 0; g < lanes; g += MRA_LANES) {
        mra_lanes largest = *(const mra_lanes *)(row_max + g);
        mra_lanes sum = *(const mra_lanes *)(row_sum + g);
        for (int j = 0; j < keys; j++) {
            mra_lanes *entry = (mra_lanes *)(tile + (size_t)j * lanes + g);
            mra_lanes weight = *entry - largest;
            mra_lanes_exp(&weight);
            *entry = weight;
            sum += weight;
        }
        *(mra_lanes *)(row_sum + g) = sum;
    }
}

// Multiplies row i of out[s, d] and row_sum[i] by change[i].
static void rescale(const mra_fused_plan *plan, const float *change, float *row_sum, float *out)
{
    for (int i = 0; i < plan->scale; i++) {
        if (change[i] == 1) continue;
        row_sum[i] *= change[i];
        float *row = out + (size_t)i * plan->d;
        for (int c = 0; c < plan->d; c++) row[c] *= change[i];
    }
}

// While row x is computed: where its output goes, and the queries of the next row.
static mra_fused_ahead look_past_row(const mra_fused_head *head, int x, int products)
{
    const mra_fused_plan *plan = head->plan;
    int next = x + 1 < plan->blocks ? x + 1 : x;
    const float *rows[] = {head->rows[MRA_FUSED_Q][next],
                           head->z + (size_t)x * plan->scale * plan->d};
    return mra_fused_look_ahead(plan, products, plan->order ? 1 : 2, rows);
}

// The refined boxes of row x, chunk by chunk: out[s, d], row_sum and row_max are brought up to
// date.
static void attend_fine(const mra_fused_head *head, int x, mra_fused_scratch *scratch,
                        float *row_max, float *row_sum)
{
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    int s = plan->scale, lanes = plan->lanes;
    size_t size = (size_t)s * lanes;
    _Alignas(64) float change[MRA_FUSED_LARGEST];
    mra_transpose(head->rows[MRA_FUSED_Q][x], s, plan->d, plan->logit_scale, scratch->query,
                  lanes);

    int first = record->row_start[x], end = record->row_start[x + 1];
    mra_fused_ahead ahead = look_past_row(head, x, 2 * (end - first));
    for (int start = first; start < end; start += plan->chunk) {
        const int32_t *column = record->column + start;
        int tiles = end - start < plan->chunk ? end - start : plan->chunk;
        for (int t = 0; t < tiles; t++) {
            float *tile = scratch->tile + (size_t)t * size;
            if (plan->scattered)
                ahead = mra_fused_look_ahead(plan, 1, 1, &head->rows[MRA_FUSED_V][column[t]]);
            mra_fused_multiply(&plan->inner, head->rows[MRA_FUSED_K][column[t]], scratch->query,
                               tile, &ahead);
            hide_absent_keys(head, column[t], tile);
        }
        raise_maximum(scratch->tile, tiles * s, lanes, row_max, change);
        if (start > first) rescale(plan, change, row_sum, scratch->out);
        exponentiate(scratch->tile, tiles * s, lanes, row_max, row_sum);
        for (int t = 0; t < tiles; t++) {
            // Rows follow one another in the list: keys of the next chunk or row.
            bool more = start + tiles + t < record->row_start[plan->blocks];
            const float *const *keys =
                more ? &head->rows[MRA_FUSED_K][column[tiles + t]] : NULL;
            if (plan->scattered) ahead = mra_fused_look_ahead(plan, 1, more, keys);
            mra_fused_multiply(&plan->to_row, scratch->tile + (size_t)t * size,
                               head->rows[MRA_FUSED_V][column[t]], scratch->out, &ahead);
        }
    }
}

// Joins the coarse part, divides by the normaliser, writes z and what the backward pass needs
// to know of row i.
static void finish_row(const mra_fused_head *head, int x, int i, const float *out,
                       float row_max, float row_sum)
{
    const mra_fused_plan *plan = head->plan;
    mra_fused_record *record = head->record;
    int token = mra_fused_token(plan, x, i), d = plan->d;
    size_t place = (size_t)x * plan->lanes + i;
    bool present = token >= 0 && head->present[(size_t)x * plan->scale + i];
    record->row_max[place] = record->row_inverse[place] = 0;
    if (token < 0) return;

    float *z = head->z + (size_t)token * d;
    if (!present || row_max == -INFINITY) {
        memset(z, 0, (size_t)d * sizeof *z);
        return;
    }
    float coarse = 0;
    if (record->coarse_max[x] > -INFINITY) {
        coarse = mra_exp(record->coarse_max[x] - row_max);
        row_sum += coarse * head->coarse_sum[x];
    }
    float inverse = 1 / row_sum;
    record->row_max[place] = row_max;
    record->row_inverse[place] = inverse;
    if (coarse == 0) {
        for (int c = 0; c < d; c++) z[c] = out[c] * inverse;
        return;
    }
    const float *value = head->coarse_value + (size_t)x * d;
    for (int c = 0; c < d; c++) z[c] = (out[c] + coarse * value[c]) * inverse;
}

static void attend_block(void *context, size_t item, int thread)
{
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    mra_fused_scratch *scratch = &head->scratch[thread];
    int x = (int)item, s = plan->scale, d = plan->d, lanes = plan->lanes;
    _Alignas(64) float row_max[MRA_FUSED_LARGEST], row_sum[MRA_FUSED_LARGEST];
    for (int i = 0; i < lanes; i++) {
        row_max[i] = head->record->coarse_max[x];
        row_sum[i] = 0;
    }
    memset(scratch->out, 0, (size_t)s * d * sizeof *scratch->out);
    if (head->record->tokens[x] > 0) attend_fine(head, x, scratch, row_max, row_sum);
    for (int i = 0; i < s; i++)
        finish_row(head, x, i, scratch->out + (size_t)i * d, row_max[i], row_sum[i]);
    for (int i = s; i < lanes; i++)
        head->record->row_max[item * lanes + i] = head->record->row_inverse[item * lanes + i] =
            0;
}

// Unmasked queries of row x have nothing to attend to if the row holds no refined box and no
// coarse one.
static long long count_empty_rows(const mra_fused_head *head)
{
    const mra_fused_record *record = head->record;
    long long empty = 0;
    for (int x = 0; x < head->plan->blocks; x++)
        if (record->row_start[x] == record->row_start[x + 1] &&
            record->coarse_max[x] == -INFINITY)
            empty += record->tokens[x];
    return empty;
}

bool mra_fused_forward(mra_fused_head *head, mra_fused_record *record, const float *q,
                       const float *k, const float *v, const uint8_t *mask, float *z)
{
    const mra_fused_plan *plan = head->plan;
    size_t blocks = (size_t)plan->blocks, pooled = blocks * plan->d;
    head->record = record;
    head->array[MRA_FUSED_Q] = q;
    head->array[MRA_FUSED_K] = k;
    head->array[MRA_FUSED_V] = v;
    head->mask = mask;
    head->z = z;
    mra_fused_pool(head, 3, true);
    head->finite = mra_fused_all_finite(record->query, pooled) &&
                   mra_fused_all_finite(record->key, pooled) &&
                   mra_fused_all_finite(record->value, pooled);
    if (!head->finite) return false;

    if (!plan->all_refined) mra_fused_coarse_logits(head);
    mra_fused_select(head);
    if (!head->finite) return false;
    if (mra_fused_has_coarse(head))
        mra_fused_coarse_forward(head);
    else
        for (size_t x = 0; x < blocks; x++) record->coarse_max[x] = -INFINITY;
    mra_parallel_for(head->threads, blocks, attend_block, head);
    record->empty_rows = count_empty_rows(head);
    return true;
}
