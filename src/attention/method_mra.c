// The rows `mra2`, `mra2s` and `mra`: the paper's method as two scales, as its sparse twin, and with any scales.
//
// All three are src/mra behind the common interface; they differ in which options they offer.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/methods.h"

typedef struct mra_layer {
    mra_attention_layer base;
    mra_attention *attention;
} mra_layer;

typedef struct mra_saved {
    mra_layer *layer;
    const uint8_t *mask;
} mra_saved;

// Options in common come first, so that one function reads them for all three methods.
enum { RANKING, FIRST, DIAGONAL, GRID, BLOCKS, SCALES, SPARSE };

#define MRA_COMMON_OPTIONS                                                                         \
    [RANKING] = {"ranking", MRA_OPTION_CHOICE, "row",  0,                                          \
                 0,         "row|plain",       "rank boxes by logit less their row's largest, or " \
                                               "by the logit itself"},                             \
    [FIRST] = {"first", MRA_OPTION_INT, "0", 0, 1 << 20, NULL,                                     \
               "refine the boxes of the first rows and columns of boxes before all others"},      \
    [DIAGONAL] = {"diagonal", MRA_OPTION_INT, "0", 0, 1 << 20, NULL,                               \
                  "refine a diagonal band of so many boxes before all others (odd, or 0)"},       \
    [GRID] = {"grid", MRA_OPTION_CHOICE, "none", 1, 1 << 20, "HxW",                                \
              "tokens are an image of this size in raster order; none: a sequence"}

static const mra_option mra2_options[] = {
    MRA_COMMON_OPTIONS,
    [BLOCKS] = {"blocks", MRA_OPTION_REAL, "8", 0, 1 << 20, NULL,
                "refined blocks of 32 x 32 per row of blocks"},
};

static const mra_option mra_any_options[] = {
    MRA_COMMON_OPTIONS,
    [BLOCKS] = {"blocks", MRA_OPTION_LIST, "8:16", 0, 1 << 20, NULL,
                "boxes refined at each step, per row of boxes of the coarsest scale"},
    [SCALES] = {"scales", MRA_OPTION_LIST, "32:16:1", 1, 1 << 20, NULL,
                "sides of the boxes, coarsest first, each a multiple of the next, ending in 1"},
    [SPARSE] = {"sparse", MRA_OPTION_BOOL, "no", 0, 1, NULL, "keep the finest boxes only"},
};
enum { COMMON_COUNT = BLOCKS };

// "Budget larger than the matrix": more boxes asked for than the scale before has.
static mra_status check_budgets(const char *method, const mra_options *options, int n,
                                mra_error *err)
{
    const double rows = ceil((double)n / options->scale[0]);
    double available = rows * rows;
    for (int i = 1; i < options->scales; i++) {
        const double wanted = round(options->blocks[i] * rows);
        if (wanted > available)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: blocks=%g: a budget larger than the matrix: n = %d has %g boxes "
                            "a row to refine at scale %d",
                            method, options->blocks[i], n, available / rows, options->scale[i - 1]);
        const double ratio = (double)options->scale[i - 1] / options->scale[i];
        available = wanted * ratio * ratio;
    }
    return MRA_OK;
}

static mra_status read_scales(const mra_attention_layer *base, mra_options *options, mra_error *err)
{
    const mra_option_value *scales = &base->option[SCALES], *blocks = &base->option[BLOCKS];
    if (blocks->count != scales->count - 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "mra: blocks: %d numbers for %d scales: expected one for each refinement, "
                        "that is %d",
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
    options->ranking = value[RANKING].number == 0 ? MRA_RANK_ROW : MRA_RANK_PLAIN;
    options->first = (int)value[FIRST].number;
    options->diagonal = (int)value[DIAGONAL].number;
    if (value[GRID].count == 2) {
        options->grid_height = (int)value[GRID].list[0];
        options->grid_width = (int)value[GRID].list[1];
    }
    options->threads = base->device->threads;
    return MRA_OK;
}

static mra_status check(const mra_attention_layer *layer, mra_error *err)
{
    mra_options options;
    mra_status status = read_options(layer, &options, err);
    if (status != MRA_OK) return status;
    return check_budgets(layer->method->name, &options, layer->shape.n, err);
}

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    mra_options options;
    mra_status status = mra_method_require_cpu(base, err);
    if (status == MRA_OK) status = read_options(base, &options, err);
    if (status != MRA_OK) return status;
    mra_layer *self = calloc(1, sizeof *self);
    if (!self) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for a layer", base->method->name);
    self->base = *base;
    status = mra_attention_create(&self->attention, base->shape, &options, err);
    if (status != MRA_OK) {
        free(self);
        return mra_fail_within(err, "%s", base->method->name);
    }
    *layer = &self->base;
    return MRA_OK;
}

static void destroy(mra_attention_layer *layer)
{
    mra_layer *self = (mra_layer *)layer;
    mra_attention_free(self->attention);
    free(self);
}

static mra_status backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    (void)tape;
    const mra_saved *saved = node->saved;
    mra_tensor **x = node->operand;
    return mra_attention_backward(saved->layer->attention, x[0]->data, x[1]->data, x[2]->data,
                                  saved->mask, node->output->data, node->output->grad, x[0]->grad,
                                  x[1]->grad, x[2]->grad, err);
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q, mra_tensor *k,
                         mra_tensor *v, const uint8_t *mask)
{
    mra_layer *self = (mra_layer *)layer;
    mra_error err;
    const bool needs_grad = q->needs_grad || k->needs_grad || v->needs_grad;
    mra_tensor *z = mra_tape_result(tape, 4, q->shape, needs_grad);
    mra_saved *saved = mra_tape_alloc(tape, sizeof *saved);
    if (!z || !saved) return NULL;
    *saved = (mra_saved){self, mask};
    if (mra_attention_forward(self->attention, q->data, k->data, v->data, mask, z->data, &err) !=
        MRA_OK)
        return mra_tape_fail(tape, err.status, "%s", err.message);
    return mra_tape_record(tape, &(mra_node){.output = z,
                                             .operand = {q, k, v},
                                             .operands = 3,
                                             .saved = saved,
                                             .backward = backward,
                                             .name = layer->method->name});
}

#define MRA_SOURCE                                                                                 \
    "Zeng, Pal, Kline, Fung & Singh, Multi resolution analysis (MRA) for approximate "             \
    "self-attention, ICML 2022, arXiv 2207.10284"

const mra_method mra_method_mra2 = {
    .name = "mra2",
    .summary = "two scales, {32, 1}: a coarse matrix with its largest blocks refined",
    .time = "n d + (n/32)^2 d + 32 blocks n d",
    .memory = "n d + (n/32)^2",
    .source = MRA_SOURCE,
    .options = mra2_options,
    .option_count = COMMON_COUNT + 1,
    .create = create,
    .check = check,
    .apply = apply,
    .destroy = destroy,
};

const mra_method mra_method_mra2s = {
    .name = "mra2s",
    .summary = "MRA-2 with the refined blocks alone (s for sparse)",
    .time = "n d + (n/32)^2 d + 32 blocks n d",
    .memory = "n d + (n/32)^2",
    .source = MRA_SOURCE,
    .options = mra2_options,
    .option_count = COMMON_COUNT + 1,
    .create = create,
    .check = check,
    .apply = apply,
    .destroy = destroy,
};

const mra_method mra_method_mra = {
    .name = "mra",
    .summary = "multi-resolution attention with any scales and budgets",
    .time = "n d + (n/s0)^2 d + boxes d",
    .memory = "n d + (n/s0)^2 + boxes",
    .source = MRA_SOURCE,
    .options = mra_any_options,
    .option_count = COMMON_COUNT + 3,
    .create = create,
    .check = check,
    .apply = apply,
    .destroy = destroy,
};
