// The rows `mra2`, `mra2s` and `mra`: the paper's method with two scales, its sparse twin, and
// with any scales.
//
// All three are src/mra behind the common interface; they differ in which options they offer.

#include <math.h>
#include <stdlib.h>

#include "attention/fused_layer.h"
#include "attention/methods.h"

// ---- Options
// ------------------------------------------------------------------------------------

// Positions that the tables share, so that one function reads both.
enum {
    BLOCKS,
    RANKING,
    FIRST,
    DIAGONAL,
    GRID,
    ROWS,
    TWO_SCALE_OPTIONS,
    SCALES = TWO_SCALE_OPTIONS,
    SPARSE
};

static const char help_ranking[] =
    "rank boxes by logit less the largest of their row of boxes, or by the logit itself";
static const char help_ranking_two[] =
    "rank boxes by logit less the largest of their row, by the logit itself, or by the error "
    "that the spread of their logits suggests (beyond the paper)";
static const char help_first[] =
    "refine the boxes of so many first rows and columns of boxes before all others";
static const char help_diagonal[] =
    "refine a diagonal band of so many boxes before all others (an odd number, or 0)";
static const char help_grid[] =
    "tokens are an image of this size in raster order (none: a sequence)";

static const char help_rows[] =
    "rows of boxes that `blocks` is counted for: those that hold a token, or all, padding "
    "included, as the published code counts";

static const mra_option two_scale_options[] = {
    [BLOCKS] = {"blocks", MRA_OPTION_REAL, "8", 0, 1 << 20, NULL,
                "refined blocks of 32 x 32 per row of blocks"},
    [RANKING] = {"ranking", MRA_OPTION_CHOICE, "row", 0, 0, "row|plain|spread",
                 help_ranking_two},
    [FIRST] = {"first", MRA_OPTION_INT, "0", 0, 1 << 20, NULL, help_first},
    [DIAGONAL] = {"diagonal", MRA_OPTION_INT, "0", 0, 1 << 20, NULL, help_diagonal},
    [GRID] = {"grid", MRA_OPTION_GRID, "none", 1, 1 << 20, NULL, help_grid},
    [ROWS] = {"rows", MRA_OPTION_CHOICE, "tokens", 0, 0, "tokens|all", help_rows},
};

static const mra_option any_scale_options[] = {
    [BLOCKS] = {"blocks", MRA_OPTION_LIST, "8:16", 0, 1 << 20, NULL,
                "boxes refined at each step, per row of boxes of the coarsest scale"},
    [RANKING] = {"ranking", MRA_OPTION_CHOICE, "row", 0, 0, "row|plain", help_ranking},
    [FIRST] = {"first", MRA_OPTION_INT, "0", 0, 1 << 20, NULL, help_first},
    [DIAGONAL] = {"diagonal", MRA_OPTION_INT, "0", 0, 1 << 20, NULL, help_diagonal},
    [GRID] = {"grid", MRA_OPTION_GRID, "none", 1, 1 << 20, NULL, help_grid},
    [ROWS] = {"rows", MRA_OPTION_CHOICE, "tokens", 0, 0, "tokens|all", help_rows},
    [SCALES] = {"scales", MRA_OPTION_LIST, "32:16:1", 1, 1 << 20, NULL,
                "sides of the boxes, coarsest first, each a multiple of the next, the last 1"},
    [SPARSE] = {"sparse", MRA_OPTION_BOOL, "no", 0, 1, NULL, "keep the finest boxes only"},
};

static mra_status read_scales(const mra_attention_layer *base, mra_options *options,
                              mra_error *err)
{
    const mra_option_value *scales = &base->option[SCALES], *blocks = &base->option[BLOCKS];
    if (blocks->count != scales->count - 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "mra: blocks: %d numbers for %d scales: expected one for each "
                        "refinement, that is %d",
                        blocks->count, scales->count, scales->count - 1);
    options->scales = scales->count;
    options->sparse = base->option[SPARSE].number != 0;
    for (int i = 0; i < scales->count; i++) {
        if (scales->list[i] != floor(scales->list[i]))
            return mra_fail(err, MRA_BAD_INPUT, "mra: scales: %g: expected whole numbers",
                            scales->list[i]);
        options->scale[i] = (int)scales->list[i];
        options->blocks[i] = i ? blocks->list[i - 1] : 0;
    }
    return MRA_OK;
}

static mra_status read_options(const mra_attention_layer *base, mra_options *options,
                               mra_error *err)
{
    const mra_option_value *value = base->option;
    *options = mra_options_mra2(value[BLOCKS].number);
    if (base->method == &mra_method_mra) {
        mra_status status = read_scales(base, options, err);
        if (status != MRA_OK) return status;
    }
    if (base->method == &mra_method_mra2s) options->sparse = true;
    options->ranking = (mra_ranking)value[RANKING].number; // in the order of the choices
    options->first = (int)value[FIRST].number;
    options->diagonal = (int)value[DIAGONAL].number;
    if (value[GRID].count == 2) {
        options->grid_height = (int)value[GRID].list[0];
        options->grid_width = (int)value[GRID].list[1];
    }
    options->count_padding = value[ROWS].number != 0;
    options->threads = base->device->threads;
    return MRA_OK;
}

// A budget that was asked for has to fit: no more boxes than the scale before has. A default is
// cut to what is there.
static mra_status check(const mra_attention_layer *layer, mra_error *err)
{
    mra_options options;
    mra_status status = read_options(layer, &options, err);
    if (status != MRA_OK || !layer->option[BLOCKS].given) return status;
    const double rows = ceil((double)layer->shape.n / options.scale[0]);
    double available = rows * rows;
    for (int i = 1; i < options.scales; i++) {
        const double wanted = round(options.blocks[i] * rows);
        if (wanted > available)
            return mra_fail(
                err, MRA_BAD_INPUT,
                "%s: blocks=%g: a budget larger than the matrix: n = %d has %g boxes "
                "a row to refine at scale %d",
                layer->method->name, options.blocks[i], layer->shape.n, available / rows,
                options.scale[i - 1]);
        const double ratio = (double)options.scale[i - 1] / options.scale[i];
        available = fmin(wanted * ratio * ratio,
                         pow(ceil((double)layer->shape.n / options.scale[i]), 2));
    }
    return MRA_OK;
}

// ---- The layer
// ----------------------------------------------------------------------------------

static mra_status forward(void *state, const float *q, const float *k, const float *v,
                          const uint8_t *mask, float *z, mra_error *err)
{
    return mra_attention_forward(state, q, k, v, mask, z, err);
}

static mra_status backward(void *state, const float *q, const float *k, const float *v,
                           const uint8_t *mask, const float *z, const float *dz, float *dq,
                           float *dk, float *dv, mra_error *err)
{
    return mra_attention_backward(state, q, k, v, mask, z, dz, dq, dk, dv, err);
}

static void release(void *state)
{
    mra_attention_free(state);
}

static void fill_statistics(const void *state, void *statistics)
{
    *(mra_statistics *)statistics = mra_attention_statistics(state);
}

static const mra_fused_rule rule = {.forward = forward,
                                    .backward = backward,
                                    .release = release,
                                    .statistics = fill_statistics};

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    mra_options options;
    mra_attention *attention;
    mra_status status = read_options(base, &options, err);
    if (status != MRA_OK) return status;
    if (!base->device->host_memory && options.ranking == MRA_RANK_SPREAD)
        return mra_fail(err, MRA_BAD_INPUT, "%s: ranking=spread: on the device cpu only",
                        base->method->name);
    if (!base->device->host_memory)
        return mra_fused_layer_on_device(layer, base, &options, err);
    status = mra_attention_create(&attention, base->shape, &options, err);
    if (status != MRA_OK) return mra_fail_within(err, "%s", base->method->name);
    return mra_fused_layer_create(layer, base, &rule, attention, err);
}

static mra_statistics statistics(const mra_attention_layer *layer)
{
    const mra_fused_layer *self = (const mra_fused_layer *)layer;
    mra_statistics statistics = {0};
    if (self->rule->statistics) self->rule->statistics(self->state, &statistics);
    return statistics;
}

static mra_status certify(const mra_attention_layer *layer, const float *q, const float *k,
                          const float *v, const uint8_t *mask, const float *z, double *row,
                          mra_certificate *certificate, mra_error *err)
{
    if (!layer->device->host_memory)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: certificates are computed on the device cpu only",
                        layer->method->name);
    return mra_attention_certify(((const mra_fused_layer *)layer)->state, q, k, v, mask, z, row,
                                 certificate, err);
}

// ---- The rows
// -----------------------------------------------------------------------------------

static const char source[] =
    "Zeng, Pal, Kline, Fung & Singh, Multi resolution analysis (MRA) for approximate "
    "self-attention, ICML 2022, arXiv 2207.10284";

static const char two_scales[] =
    "The matrix exp(Q K^T / sqrt(d)) is approximated by boxes of 32 x 32 tokens. A coarse box "
    "has "
    "the constant value exp(mean of its logits), which takes one product of the pooled queries "
    "and keys; the boxes with the largest values, `blocks` for each row of boxes on average, "
    "are computed entry by entry. No gradient flows through the choice.";
static const char code_differs[] =
    "The published code computes the same but for this: 1e-6 is added to the divisors of rows "
    "and "
    "block means, in units of a row's largest weight, for which masked keys and empty blocks "
    "count with logits of 0 (a row whose logits are all below -14 then shrinks towards 0); 1e4 "
    "is taken from logits that are left out here; boxes that tie for the last place all lose "
    "their coarse part though some are not refined; an empty block takes part in the maximum "
    "that its row is ranked by; among the boxes of the priors `first` and `diagonal` those "
    "named "
    "twice come first; `blocks` is counted for the rows of padding too, all to the good of the "
    "tokens (rows=all does so here); n has to be a multiple of 32.";
static const char *const mra2_description[] = {
    two_scales, "Both parts together, normalised by their row sums.", code_differs, NULL};
static const char *const mra2s_description[] = {
    two_scales,
    "The coarse part only decides what is refined: the result is a block-sparse softmax. A row "
    "without a refined box has nothing to attend to and gives 0.",
    code_differs, NULL};
static const char *const mra_description[] = {
    "Boxes of several sides, `scales`. All begin at the coarsest; at each step those with the "
    "largest values, as many as `blocks` says for that step and each row of coarsest boxes, "
    "are "
    "cut into boxes of the next side. An entry of the matrix has the value of the smallest "
    "box that covers it, exp(mean of the box's logits).",
    NULL};

const mra_method mra_method_mra2 = {
    .name = "mra2",
    .summary = "two scales, {32, 1}: a coarse matrix with its largest blocks refined",
    .time = "n d + (n/32)^2 d + 32 blocks n d",
    .memory = "n d + (n/32)^2",
    .source = source,
    .description = mra2_description,
    .options = two_scale_options,
    .option_count = TWO_SCALE_OPTIONS,
    .create = create,
    .check = check,
    .apply = mra_fused_apply,
    .destroy = mra_fused_destroy,
    .run = mra_fused_run,
    .statistics = statistics,
    .certify = certify,
    .operations = mra_multiresolution_operations,
};

const mra_method mra_method_mra2s = {
    .name = "mra2s",
    .summary = "MRA-2 with the refined blocks alone (s for sparse)",
    .time = "n d + (n/32)^2 d + 32 blocks n d",
    .memory = "n d + (n/32)^2",
    .source = source,
    .description = mra2s_description,
    .options = two_scale_options,
    .option_count = TWO_SCALE_OPTIONS,
    .create = create,
    .check = check,
    .apply = mra_fused_apply,
    .destroy = mra_fused_destroy,
    .run = mra_fused_run,
    .statistics = statistics,
    .certify = certify,
    .operations = mra_multiresolution_operations,
};

const mra_method mra_method_mra = {
    .name = "mra",
    .summary = "multi-resolution attention with any scales and budgets",
    .time = "n d + (n/s0)^2 d + boxes d",
    .memory = "n d + (n/s0)^2 + boxes",
    .source = source,
    .description = mra_description,
    .options = any_scale_options,
    .option_count = sizeof any_scale_options / sizeof any_scale_options[0],
    .create = create,
    .check = check,
    .apply = mra_fused_apply,
    .destroy = mra_fused_destroy,
    .run = mra_fused_run,
    .statistics = statistics,
    .certify = certify,
    .operations = mra_multiresolution_operations,
};
