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
// calls is a multiple of an irrational number, that is at call 0 alone), and differs in this:
//
// - Its window leaves out the last key on the right where $w$ is even: $-w/2 \le j - i < w/2$, $w$
//   keys where there are $w + 1$ here.
// - It computes features of all pairs and subtracts those inside the window. The difference of the
//   two normalisers, of which rounding can make a negative number, is kept above $10^{-24}$; that of
//   the values is taken as it comes.
// - Its keys are scaled by their one largest feature, padding included, rather than by the largest
//   of each feature: with keys of very different lengths the features of most of them underflow.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/block_lists.h"
#include "attention/features.h"
#include "attention/methods.h"
#include "core/arena.h"

enum { WINDOW, FEATURES, OPTIONS };

static const mra_option options[] = {
    [WINDOW] = {"window", MRA_OPTION_INT, "64", 0, 1 << 20, NULL,
                "tokens around each to which attention is exact, half on either side, besides "
                "itself"},
    [FEATURES] = {"features", MRA_OPTION_INT, "0", 0, 1 << 16, NULL,
                  "random features, made even (0: d log d of them)"},
};

static const char *const description[] = {
    "Pairs of tokens with |i - j| <= window/2 have their exact weight exp(<q, k>/sqrt d); all "
    "others an unbiased estimate of it from positive random features, <phi(q), phi(k)>. Both "
    "are "
    "normalised together, in logarithms.",
    "The published code computes the same estimator with a window that has one key less on the "
    "right, and by subtraction: features of all pairs less those inside the window, which "
    "loses "
    "digits where the window holds most of a row. Here the sum over the pairs outside is taken "
    "by "
    "itself.",
    NULL};

typedef struct scatterbrain {
    mra_attention_layer base;
    mra_block_lists lists; // the window
    int side, features;
    float *matrix;      // [features, d], host: directions and their negatives
    mra_tensor *scaled; // times d^(-1/4), on the device
} scatterbrain;

static int feature_count(const mra_attention_layer *base)
{
    const int d = base->shape.d, given = (int)base->option[FEATURES].number;
    const int count = given ? given : (int)(d * log(d));
    return count < 2 ? 2 : (count + 1) / 2 * 2;
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
    scatterbrain *self = calloc(1, sizeof *self);
    if (!self) return mra_fail(err, MRA_NO_MEMORY, "scatterbrain: no memory for a layer");
    self->base = *base;
    self->side = (int)base->option[WINDOW].number / 2;
    self->features = feature_count(base);
    mra_status status = mra_block_lists_window(&self->lists, base->shape.n, self->side, 0, err);
    if (status == MRA_OK) status = draw_features(self, err);
    *layer = &self->base;
    if (status == MRA_OK) return status;
    destroy(*layer);
    *layer = NULL;
    return mra_fail_within(err, "scatterbrain");
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    scatterbrain *self = (scatterbrain *)layer;
    mra_tensor *lse;
    mra_tensor *local = mra_block_lists_apply(&self->lists, tape, q, k, v, mask, &lse);
    if (self->side >= layer->shape.n - 1) return local; // no pair is outside
    const mra_feature_maps maps = mra_features_softmax(tape, self->scaled, q, k, mask);
    mra_tensor *sums =
        mra_outside_band(tape, maps.query, maps.key, mra_append_ones(tape, v), self->side);
    return mra_join(tape, local, lse, sums, maps.log_scale);
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
// pairs of the blocks at the edge, taken as 128 keys more than the window.
static double operations(const mra_attention_layer *layer)
{
    const scatterbrain *self = (const scatterbrain *)layer;
    const double n = layer->shape.n, d = layer->shape.d, m = self->features;
    const double near = fmin(n, 2.0 * self->side + 128);
    return mra_block_lists_pairs(&self->lists) * (4 * d + 2) + 2 * n * m * (2 * d + 1) +
           8 * n * m * (d + 1) + 2 * n * near * (m + d + 1);
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
