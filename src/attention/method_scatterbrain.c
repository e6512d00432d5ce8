// # ScatterBrain: random features, corrected near the diagonal
//
// A low-rank approximation gets smooth parts of the attention matrix right and its peaks wrong; a
// sparse one the reverse. Chen, Dao, Winsor, Song, Rudra & Ré, "Scatterbrain: unifying sparse and
// low-rank attention approximation", NeurIPS 2021, take both: random features $\phi$ of the softmax
// kernel everywhere, and on a set $S$ of pairs what the features get wrong is put right,
//
// $$\hat A = \phi(Q)\phi(K)^\top + \Sigma, \qquad
//   \Sigma_{ij} = e^{P_{ij}} - \phi(q_i)^\top\phi(k_j) \ \text{ for } (i,j)\in S,\ 0
//   \text{ elsewhere}, \qquad Z = \mathrm{diag}(\hat A\mathbf 1)^{-1}\hat A V,$$
//
// so that $\hat A$ is exact on $S$ and unbiased elsewhere. $S$ is the band $|i-j| \le \lfloor
// w/2\rfloor$ here, as in the code published with both papers. $\Sigma$ is never formed: $\hat A$
// is a matrix of two parts with separate supports, $e^{P}$ inside the band and
// $\phi(Q)\phi(K)^\top$ outside, and each is computed on its own support, so that nothing is
// subtracted (tensor/cpu_outside_band.c). Features are known up to a factor $e^{s_i}$ a row, the
// inside up to $e^{\ell_i}$; the two meet in logarithms (tensor/cpu_join.c).
//
// The features are positive, in pairs: $\phi(x) = m^{-1/2} e^{-|x|^2/2}\big(e^{\omega_r^\top x},
// e^{-\omega_r^\top x}\big)_{r \le m/2}$ of $x$ over $d^{1/4}$, with orthogonal directions
// $\omega_r$ (the hyperbolic estimator of Choromanski et al., "Rethinking attention with
// Performers", ICLR 2021, lemma 1, whose variance is below that of single exponentials). By default
// $m$ is $d\log d$ made even: 266 at $d = 64$. They are drawn once, with the layer.
//
// Cost: $4 n (w + 1) d$ operations inside, and outside what cpu_outside_band.c says, about
// $8 n m d + 2 n (w + 128)(m + d)$.
//
// ## What the published code does
//
// old_code/LRA/encoders/scatterbrain_src, after the authors' own code, computes the same estimator
// with the same kind of features, drawn once as well (they are to be redrawn whenever the number of
// calls is a multiple of an irrational number, that is at call 0 alone). It differs in what follows,
// and `variant=published` does the same, step by step:
//
// - Its window leaves out the last key on the right where $w$ is even: $-w/2 \le j - i < w/2$, $w$
//   keys where there are $w + 1$ otherwise. A window of 0 would hold no key, and is refused.
// - It computes features of all pairs and subtracts those inside the window,
//   $$t_i = \max\Big(\sum_j \langle\phi(q_i), \phi(k_j)\rangle
//         - \sum_{j\in\text{window}} \langle\phi(q_i), \phi(k_j)\rangle,\ 10^{-24}\Big), \qquad
//     u_i = \sum_j \langle\phi(q_i), \phi(k_j)\rangle v_j
//         - \sum_{j\in\text{window}} \langle\phi(q_i), \phi(k_j)\rangle v_j .$$
//   Of the difference of the normalisers rounding can make a negative number, hence the least
//   value; that of the values is taken as it comes. Where the features overestimate the window by
//   far, the rounding of what cancels outweighs what is left.
// - Its keys are scaled by their one largest feature, padding included, rather than by the largest
//   of each feature: with keys of very different lengths the features of most of them underflow.
//   The factor cancels but for that and for the least value.
// - An odd number of features is made even by leaving one out, not by adding one.
//
// Its masks are lengths: padding stands at the end. Here any mask is followed in both variants; in
// the published one a masked key has features of 0 and no place in a window, but counts in the
// maximum, so that padding at the end is a shorter sequence up to rounding, unless features of the
// padding are so large that others underflow. The gradient takes the scales of features for
// constants: they cancel, except in rows where the least value holds.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/block_lists.h"
#include "attention/features.h"
#include "attention/methods.h"
#include "core/arena.h"

enum { WINDOW, FEATURES, VARIANT, OPTIONS };

static const mra_option options[] = {
    [WINDOW] = {"window", MRA_OPTION_INT, "64", 0, 1 << 20, NULL,
                "tokens around each to which attention is exact, half on either side, besides "
                "itself"},
    [FEATURES] = {"features", MRA_OPTION_INT, "0", 0, 1 << 16, NULL,
                  "random features, made even (0: d log d of them)"},
    [VARIANT] = {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
                 "as the method's paper has it, or step by step as the published code computes "
                 "it"},
};

static const char *const description[] = {
    "Pairs of tokens with |i - j| <= window/2 have their exact weight exp(<q, k>/sqrt d); all "
    "others an unbiased estimate of it from positive random features, <phi(q), phi(k)>. Both "
    "are "
    "normalised together, in logarithms.",
    "By default the sum over the pairs outside is taken by itself, and features are scaled one "
    "by one. variant=published: the window has one key less on the right where it is even "
    "(-window/2 <= j - i < window/2); features of all pairs are summed and those inside the "
    "window subtracted, which loses digits where the window holds most of a row, and the "
    "difference of the normalisers is raised to 1e-24 where it is less; all keys of a head, "
    "padding included, are scaled by their one largest feature; an odd number of features is "
    "rounded down. Features are drawn once in both.",
    NULL};

typedef struct scatterbrain {
    mra_attention_layer base;
    mra_block_lists lists; // the window
    int side, features;
    int fewer;          // keys that the window lacks on its right
    float *matrix;      // [features, d], host: directions and their negatives
    mra_tensor *scaled; // times d^(-1/4), on the device
} scatterbrain;

static bool published(const mra_attention_layer *base)
{
    return base->option[VARIANT].number == 1;
}

static int feature_count(const mra_attention_layer *base)
{
    const int d = base->shape.d, given = (int)base->option[FEATURES].number;
    const int count = given ? given : (int)(d * log(d));
    return count < 2 ? 2 : (count + !published(base)) / 2 * 2;
}

// Directions, their negatives, and both times d^(-1/4) on the device.
static mra_status draw_features(scatterbrain *self, mra_error *err)
{
    const int d = self->base.shape.d, half = self->features / 2;
    const size_t size = (size_t)self->features * (size_t)d;
    mra_device *device = self->base.device;
    const int shape[2] = {self->features, d};
    self->matrix = mra_aligned_calloc(size, sizeof(float));
    float *scaled = mra_aligned_calloc(size, sizeof(float));
    mra_status status = MRA_OK;
    if (!self->matrix || !scaled)
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for %d features", self->features);
    if (status == MRA_OK)
        status = mra_features_draw(self->matrix, half, d, true, self->base.seed, 0, err);
    if (status == MRA_OK)
        status = mra_tensor_create(&self->scaled, device, 2, shape, false, err);
    if (status == MRA_OK) {
        for (size_t i = 0; i < size / 2; i++) self->matrix[size / 2 + i] = -self->matrix[i];
        for (size_t i = 0; i < size; i++) scaled[i] = self->matrix[i] / powf((float)d, 0.25f);
        status =
            device->to_device(device, self->scaled->data, scaled, size * sizeof(float), err);
    }
    mra_aligned_free(scaled);
    return status;
}

static void destroy(mra_attention_layer *layer)
{
    scatterbrain *self = (scatterbrain *)layer;
    if (self->scaled) mra_tensor_free(self->scaled, layer->device);
    mra_block_lists_free(&self->lists);
    mra_aligned_free(self->matrix);
    free(self);
}

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    const int window = (int)base->option[WINDOW].number;
    if (published(base) && window == 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "scatterbrain: window=0 holds no key with variant=published; expected "
                        "window=1 or more");
    scatterbrain *self = calloc(1, sizeof *self);
    if (!self) return mra_fail(err, MRA_NO_MEMORY, "scatterbrain: no memory for a layer");
    self->base = *base;
    self->side = window / 2;
    self->fewer = published(base) && window % 2 == 0;
    self->features = feature_count(base);
    mra_status status =
        mra_block_lists_window(&self->lists, base->shape.n, self->side, self->fewer, 0, err);
    if (status == MRA_OK) status = draw_features(self, err);
    *layer = &self->base;
    if (status == MRA_OK) return status;
    destroy(*layer);
    *layer = NULL;
    return mra_fail_within(err, "scatterbrain");
}

// Features of all pairs, less those inside the window.
static mra_tensor *published_rest(const scatterbrain *self, mra_tape *tape,
                                  mra_feature_maps maps, mra_tensor *values)
{
    mra_tensor *state = mra_matmul(tape, maps.key, true, values, false);
    mra_tensor *all = mra_matmul(tape, maps.query, false, state, false);
    mra_tensor *inside = mra_inside_band(tape, maps.query, maps.key, values, self->side,
                                         self->side - self->fewer);
    return mra_add(tape, all, mra_scale(tape, inside, -1.0f));
}

static mra_tensor *apply_published(scatterbrain *self, mra_tape *tape, mra_tensor *q,
                                   mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    const float least = 1e-24f;
    mra_tensor *lse, *values = mra_append_ones(tape, mra_mask_tokens(tape, v, mask));
    mra_tensor *local = mra_block_lists_apply(&self->lists, tape, q, k, v, mask, &lse);
    const mra_feature_maps maps =
        mra_features_maps(tape, self->scaled, q, k, MRA_FEATURES_KEY_ONE, mask);
    mra_tensor *rest = published_rest(self, tape, maps, values);
    return mra_mask_tokens(tape, mra_join(tape, local, lse, rest, maps.log_scale, least), mask);
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    scatterbrain *self = (scatterbrain *)layer;
    if (published(layer)) return apply_published(self, tape, q, k, v, mask);
    mra_tensor *lse;
    mra_tensor *local = mra_block_lists_apply(&self->lists, tape, q, k, v, mask, &lse);
    if (self->side >= layer->shape.n - 1) return local; // no pair is outside
    const mra_feature_maps maps = mra_features_softmax(tape, self->scaled, q, k, mask);
    mra_tensor *sums =
        mra_outside_band(tape, maps.query, maps.key, mra_append_ones(tape, v), self->side);
    return mra_join(tape, local, lse, sums, maps.log_scale, 0.0f);
}

static int drawn(const mra_attention_layer *layer, mra_method_array array[MRA_METHOD_ARRAYS])
{
    const scatterbrain *self = (const scatterbrain *)layer;
    array[0] = (mra_method_array){.name = "features",
                                  .rank = 2,
                                  .shape = {self->features, layer->shape.d},
                                  .floats = self->matrix};
    return 1;
}

// Inside as counted pair by pair; features of Q and K; outside two states, built and used, and the
// pairs of the blocks at the edge, taken as 128 keys more than the window; as published, one state
// and the pairs of the blocks that the window touches.
static double operations(const mra_attention_layer *layer)
{
    const scatterbrain *self = (const scatterbrain *)layer;
    const double n = layer->shape.n, d = layer->shape.d, m = self->features;
    const double near = fmin(n, 2.0 * self->side + 128);
    return mra_block_lists_pairs(&self->lists) * (4 * d + 2) + 2 * n * m * (2 * d + 1) +
           (published(layer) ? 4 : 8) * n * m * (d + 1) + 2 * n * near * (m + d + 1);
}

const mra_method mra_method_scatterbrain = {
    .name = "scatterbrain",
    .summary = "random features, with the exact weights near the diagonal in their place",
    .time = "n (window + features) d",
    .memory = "n (d + features)",
    .source = "Chen, Dao, Winsor, Song, Rudra & Re, Scatterbrain: unifying sparse and low-rank "
              "attention approximation, NeurIPS 2021, arXiv 2110.15343",
    .description = description,
    .options = options,
    .option_count = OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = destroy,
    .drawn = drawn,
    .operations = operations,
};
