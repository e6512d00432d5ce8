// ## A certificate for every head
//
// The fused path keeps no logits of refined entries, and a certificate needs none: which boxes
// were refined and how large each row's normaliser was is all that is left of them in the bound.
// The rest (pooled rows, coarse logits) is computed anew, for it costs as little as it did.

#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "mra/certificate.h"
#include "mra/layout.h"

// What certifying one head takes.
typedef struct workspace {
    mra_pyramid pyramid;
    mra_selection selection;
    mra_apply *apply;            // the general path's
    float *q, *k, *v, *z;        // [n, d] in tile order; only with a grid
    uint8_t *mask;               // [n]; the same
    float *row_max, *normaliser; // [n]
    int32_t *refined;            // [n]
    double *row;                 // [n] in tile order
    void *memory;
} workspace;

// The scales of the fused path: {s, 1}, with blocks of its loops where all is refined (R = {1}).
static mra_options coarse_options(const mra_attention_view *view)
{
    mra_options options = *view->options;
    if (!view->plan) return options;
    options.scales = 2;
    options.scale[0] = view->plan->scale;
    options.scale[1] = 1;
    options.ranking = MRA_RANK_ROW;
    options.blocks[1] = 0; // the selection needs no room for refined entries
    return options;
}

static void lay_out(workspace *w, const mra_attention_view *view, mra_layout *layout)
{
    const size_t n = (size_t)view->shape.n, size = n * (size_t)view->shape.d;
    w->row = mra_layout_take(layout, n, sizeof *w->row);
    if (view->order) {
        float **array[] = {&w->q, &w->k, &w->v, &w->z};
        for (int a = 0; a < 4; a++) *array[a] = mra_layout_take(layout, size, sizeof(float));
        w->mask = mra_layout_take(layout, n, 1);
    }
    if (!view->plan) return;
    const mra_options options = coarse_options(view);
    w->row_max = mra_layout_take(layout, n, sizeof(float));
    w->normaliser = mra_layout_take(layout, n, sizeof(float));
    w->refined = mra_layout_take(layout, n, sizeof(int32_t));
    void *part =
        mra_layout_take(layout, mra_pyramid_bytes(&options, view->shape.n, view->shape.d), 1);
    if (layout->memory)
        mra_pyramid_place(&w->pyramid, &options, view->shape.n, view->shape.d, part);
    part = mra_layout_take(layout, mra_selection_bytes(&options, view->shape.n), 1);
    if (layout->memory) mra_selection_place(&w->selection, &options, view->shape.n, part);
}

static mra_status make_workspace(workspace *w, const mra_attention_view *view, mra_error *err)
{
    mra_layout count = {0};
    *w = (workspace){0};
    lay_out(w, view, &count);
    w->memory = mra_aligned_calloc(count.used, 1);
    if (!w->memory)
        return mra_fail(err, MRA_NO_MEMORY, "certificate: no memory for %zu bytes", count.used);
    mra_layout layout = {.memory = w->memory};
    lay_out(w, view, &layout);
    if (view->plan) return MRA_OK;
    return mra_apply_create(&w->apply, view->options, view->shape.n, view->shape.d, err);
}

static void free_workspace(workspace *w)
{
    mra_apply_free(w->apply);
    mra_aligned_free(w->memory);
}

// The arrays of one head.
typedef struct head_arrays {
    const float *q, *k, *v, *z;
    const uint8_t *mask;
} head_arrays;

static head_arrays to_tiles(const workspace *w, const mra_attention_view *view, head_arrays a)
{
    if (!view->order) return a;
    const size_t d = (size_t)view->shape.d;
    const float *from[] = {a.q, a.k, a.v, a.z};
    float *to[] = {w->q, w->k, w->v, w->z};
    for (int t = 0; t < view->shape.n; t++) {
        const size_t place = (size_t)t * d, raster = (size_t)view->order[t] * d;
        for (int i = 0; i < 4; i++) memcpy(to[i] + place, from[i] + raster, d * sizeof(float));
        if (a.mask) w->mask[t] = a.mask[view->order[t]];
    }
    return (head_arrays){w->q, w->k, w->v, w->z, a.mask ? w->mask : NULL};
}

// J of the fused path at its coarse scale: all boxes but those that the record lists.
static void leave_coarse(workspace *w, const mra_fused_record *record)
{
    mra_selection_level *boxes = &w->selection.level[0];
    size_t kept = 0, b = 0;
    for (int x = 0; x < boxes->blocks; x++) {
        const size_t end = boxes->row_start[x + 1];
        int32_t next = record->row_start[x];
        boxes->row_start[x] = kept;
        for (; b < end; b++) {
            if (next < record->row_start[x + 1] && record->column[next] == boxes->column[b]) {
                next++;
                continue;
            }
            boxes->column[kept] = boxes->column[b];
            boxes->logit[kept++] = boxes->logit[b];
        }
    }
    boxes->row_start[boxes->blocks] = boxes->count = kept;
}

static void read_rows(workspace *w, const mra_fused_plan *plan, const mra_fused_record *record)
{
    for (int t = 0; t < plan->n; t++) {
        const int x = t / plan->scale;
        const size_t place = (size_t)x * (size_t)plan->lanes + (size_t)(t % plan->scale);
        const float inverse = record->row_inverse[place];
        w->row_max[t] = record->row_max[place];
        w->normaliser[t] = inverse > 0 ? 1 / inverse : 0;
        w->refined[t] = 0;
        for (int32_t e = record->row_start[x]; e < record->row_start[x + 1]; e++)
            w->refined[t] += record->tokens[record->column[e]];
    }
}

static mra_status certify_head(workspace *w, const mra_attention_view *view, head_arrays a,
                               mra_certificate *certificate, mra_error *err)
{
    a = to_tiles(w, view, a);
    if (!view->plan) {
        mra_apply_prepare(w->apply, a.q, a.k, a.v, a.mask);
        return mra_certify_apply(w->apply, a.z, w->row, certificate, err);
    }
    mra_pyramid_build(&w->pyramid, a.q, a.k, a.v, a.mask);
    mra_selection_start(&w->selection, &w->pyramid);
    leave_coarse(w, view->record);
    read_rows(w, view->plan, view->record);
    const mra_cover cover = {.pyramid = &w->pyramid,
                             .selection = &w->selection,
                             .sparse = view->options->sparse,
                             .row_max = w->row_max,
                             .normaliser = w->normaliser,
                             .refined = w->refined};
    return mra_certify(&cover, a.z, w->row, certificate, err);
}

mra_status mra_attention_certify(const mra_attention *attention, const float *q, const float *k,
                                 const float *v, const uint8_t *mask, const float *z,
                                 double *row, mra_certificate *certificate, mra_error *err)
{
    mra_attention_view view = mra_attention_look(attention, 0);
    if (!q || !k || !v || !z || !row || !certificate)
        return mra_fail(err, MRA_BAD_INPUT,
                        "certify: an array is missing, expected q, k, v, z, row, certificate");
    if (!view.done)
        return mra_fail(err, MRA_BAD_INPUT,
                        "certify: no forward pass to certify; expected one that succeeded");
    workspace w;
    mra_status status = make_workspace(&w, &view, err);
    const size_t n = (size_t)view.shape.n, size = n * (size_t)view.shape.d;
    const size_t heads = (size_t)view.shape.batch * (size_t)view.shape.heads;
    for (size_t h = 0; h < heads && status == MRA_OK; h++) {
        view = mra_attention_look(attention, h);
        const size_t first = h * size, batch = h / (size_t)view.shape.heads;
        const head_arrays a = {q + first, k + first, v + first, z + first,
                               mask ? mask + batch * n : NULL};
        status = certify_head(&w, &view, a, &certificate[h], err);
        for (size_t t = 0; t < n && status == MRA_OK; t++)
            row[h * n + (view.order ? (size_t)view.order[t] : t)] = w.row[t];
    }
    free_workspace(&w);
    return status;
}
