// # The row `performer`: softmax attention through random features
//
// With the feature maps of attention/features.c, $\hat Q$ for the queries and $\hat K$ for the keys,
// $$ z_i = \frac{\sum_r \hat Q_{ir} \left(\sum_j \hat K_{jr} v_j\right)}
//               {\sum_r \hat Q_{ir} \sum_j \hat K_{jr}}, $$
// and taking the inner sums first makes the cost $n m d$. A column of ones beside the values makes
// the divisor one more column of the same two products. Numerator and divisor estimate theirs
// without bias; their ratio is consistent, not unbiased. A masked key has features 0.
//
// **As published** (`variant=published`) the code scales queries and keys by $d^{-1/4}$ and hands
// them to a library that scales them by $d^{-1/4}$ once more: the kernel is
// $e^{\langle q, k\rangle/d}$, much flatter than softmax attention. It subtracts the largest
// projection (without the $\|x\|^2/2$) of each query and, for the keys, of the whole batch with
// all its heads, then adds $10^{-4}$ to each feature. Masked keys are zeros, whose features are
// not: they count in the divisor. Maxima are constants to the gradient here and in the library's
// later versions; in its earlier ones a gradient ran through them.

#include <math.h>
#include <stdlib.h>

#include "attention/features.h"
#include "attention/methods.h"

enum { FEATURES, VARIANT, REDRAW, OPTIONS };
enum { SPECIFIED, PUBLISHED };

static const mra_option options[] = {
    [FEATURES] = {"features", MRA_OPTION_INT, "256", 1, 1 << 14, NULL,
                  "random features of the kernel"},
    [VARIANT] = {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
                 "as the method's paper has it, or as the published code computes it"},
    [REDRAW] = {"redraw", MRA_OPTION_INT, "0", 0, 1 << 30, NULL,
                "draw new features after so many training steps (0: never; default of "
                "variant=published: 1)"},
};

static const char *const description[] = {
    "Estimates the softmax kernel by positive random features (FAVOR+): exp(<x, y>) is the "
    "mean "
    "over Gaussian w of exp(<w, x> - |x|^2 / 2) exp(<w, y> - |y|^2 / 2), for x = q / d^(1/4) "
    "and "
    "y = k / d^(1/4). The directions w are drawn orthogonal to one another, in blocks of d, "
    "with "
    "the lengths of Gaussian vectors, which leaves the estimate unbiased and lowers its "
    "variance. One set of directions serves all heads and examples of a layer.",
    "Exponents are taken relative to the largest of each feature over the keys and of each row "
    "over the features, which cancels: logits of any size stay finite.",
    "Redrawing: the directions follow from the seed and stay as they are, unless redraw=R asks "
    "for new ones after every R training steps; they are then a function of seed and step, so "
    "that a resumed training sees the same. Outside of training it is the first draw.",
    "variant=published: the published code divides q and k by d^(1/4) and calls a library that "
    "does so again, so that the kernel is exp(<q, k> / d); the library subtracts the largest "
    "projection of each query and one maximum over all keys of the batch and adds 1e-4 to "
    "every "
    "feature; masked keys count in the divisor as keys of zeros; new directions are drawn at "
    "every call (here: at every training step).",
    NULL};

typedef struct performer {
    mra_attention_layer base; // first
    mra_feature_set set;
    float scale; // of queries and keys
    int redraw;  // training steps between draws; 0: never
    uint64_t draw;
} performer;

static void destroy(mra_attention_layer *layer)
{
    performer *self = (performer *)layer;
    mra_feature_set_free(&self->set, layer->device);
    free(self);
}

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    performer *self = calloc(1, sizeof *self);
    if (!self) return mra_fail(err, MRA_NO_MEMORY, "performer: no memory for a layer");
    self->base = *base;
    const mra_option_value *option = base->option;
    const bool published = option[VARIANT].number == PUBLISHED;
    self->scale = (float)pow(base->shape.d, published ? -0.5 : -0.25);
    self->redraw = published && !option[REDRAW].given ? 1 : (int)option[REDRAW].number;
    mra_status status =
        mra_feature_set_create(&self->set, base->device, (int)option[FEATURES].number,
                               base->shape.d, self->scale, base->seed, err);
    if (status != MRA_OK) {
        destroy(&self->base);
        return mra_fail_within(err, "performer");
    }
    *layer = &self->base;
    return MRA_OK;
}

// The directions, times the scale, for the step that the tape is at.
static mra_tensor *directions(performer *self, mra_tape *tape)
{
    const mra_tape_random random = mra_tape_random_of(tape);
    const uint64_t draw =
        self->redraw && random.training ? random.step / (uint64_t)self->redraw : 0;
    if (draw == 0 && self->draw == 0) return self->set.scaled;
    self->draw = draw;
    return mra_feature_set_redraw(&self->set, tape, self->scale, self->base.seed, draw);
}

// The features as the published code computes them.
static mra_feature_maps published_features(const performer *self, mra_tape *tape,
                                           mra_tensor *scaled, mra_tensor *q, mra_tensor *k,
                                           const uint8_t *mask)
{
    mra_feature_rule rule = {MRA_FEATURES_COMMON, self->scale, 1e-4f};
    mra_feature_maps maps = {0};
    maps.key = mra_features(tape, k, scaled, &rule, mask, NULL, NULL);
    rule.kind = MRA_FEATURES_ROW;
    maps.query = mra_features(tape, q, scaled, &rule, mask, NULL, NULL);
    return maps;
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    performer *self = (performer *)layer;
    mra_tensor *scaled = directions(self, tape);
    const mra_feature_maps maps = layer->option[VARIANT].number == PUBLISHED
                                      ? published_features(self, tape, scaled, q, k, mask)
                                      : mra_features_softmax(tape, scaled, q, k, mask);
    mra_tensor *values = mra_append_ones(tape, mra_mask_tokens(tape, v, mask));
    mra_tensor *sums = mra_matmul(tape, maps.key, true, values, false);
    return mra_divide_by_last(tape, mra_matmul(tape, maps.query, false, sums, false));
}

static int drawn(const mra_attention_layer *layer, mra_method_array array[MRA_METHOD_ARRAYS])
{
    const performer *self = (const performer *)layer;
    array[0] = (mra_method_array){.name = "features",
                                  .rank = 2,
                                  .shape = {self->set.count, self->set.d},
                                  .floats = self->set.matrix};
    return 1;
}

// Per feature of a query or key: its projection, 2d, two shifts and an exponential; per feature and
// token: the products with values and ones, on both sides, 2 (d + 1) each. Norms, 2d, and the
// division, d, per token.
static double operations(const mra_attention_layer *layer)
{
    const double n = layer->shape.n, d = layer->shape.d, m = layer->option[FEATURES].number;
    return 2 * n * m * (2 * d + 3) + 2 * n * m * 2 * (d + 1) + n * (4 * d + d);
}

const mra_method mra_method_performer = {
    .name = "performer",
    .summary = "positive orthogonal random features of the softmax kernel (FAVOR+)",
    .time = "n m d",
    .memory = "n m",
    .source = "Choromanski et al., Rethinking attention with Performers, ICLR 2021",
    .description = description,
    .options = options,
    .option_count = OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = destroy,
    .drawn = drawn,
    .operations = operations,
};
