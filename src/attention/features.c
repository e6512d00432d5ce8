// # Random features of the softmax kernel
//
// For $w \sim N(0, I_d)$ (Choromanski et al. 2021, lemma 1)
// $$ e^{\langle x, y\rangle} = \mathbb{E}\left[e^{\langle w, x\rangle - \|x\|^2/2}\,
//    e^{\langle w, y\rangle - \|y\|^2/2}\right], $$
// so with $m$ draws and $\phi_r(x) = e^{\langle w_r, x\rangle - \|x\|^2/2} / \sqrt m$ the product
// $\langle\phi(x), \phi(y)\rangle$ estimates the kernel without bias, and, all terms being
// positive, never with the wrong sign. Softmax attention has $x = d^{-1/4} q$, $y = d^{-1/4} k$.
// Drawing the $w_r$ orthogonal to one another leaves each one's distribution, hence the mean, as it
// is, and lowers the variance (theorem 2 there): for that their directions are the rows of a
// uniformly distributed orthogonal matrix and their lengths are drawn apart, as the lengths of
// Gaussian vectors.
//
// ## Which maxima to subtract
//
// The exponents $a_{ir}$ of queries and $b_{jr}$ of keys may have any size. Per-row maxima can be
// taken out of queries, as they cancel in $z_i$; those of keys do not cancel, which is why
// published code takes one maximum over all keys and features out, adds a small number, and loses
// whatever lies far below the largest exponent: the divisor of a query that prefers other features
// than that key does underflows. But the sum over $r$ allows a constant for every feature,
// $$ \sum_r e^{a_{ir}} e^{b_{jr}} = e^{A_i} \sum_r e^{a_{ir} + c_r - A_i}\, e^{b_{jr} - c_r},
//    \qquad c_r = \max_j b_{jr},\quad A_i = \max_r (a_{ir} + c_r). $$
// Now every key feature is at most 1 and each feature has a key where it is 1; every query has a
// feature where it is 1. The divisor $\sum_{jr}$ is at least 1, and what underflows, below
// $e^{-86}$, is smaller than the rounding of what stays, for finite exponents of any size. It costs
// the maximum over the keys per feature instead of over all.

#include "attention/features.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/random.h"
#include "tensor/device.h"

static double inner(const double *a, const double *b, int d)
{
    double sum = 0.0;
    for (int i = 0; i < d; i++) sum += a[i] * b[i];
    return sum;
}

// Row by row, what the earlier rows of the block span is taken out of a Gaussian vector, twice (once
// leaves rounding errors along them), and the rest is given length 1: Gram & Schmidt. Rows of the
// result are uniformly distributed, as the Gaussian vector's distribution prefers no direction.
static void orthonormalise(double *block, int rows, int d)
{
    for (int row = 0; row < rows; row++) {
        double *own = block + (size_t)row * (size_t)d;
        for (int pass = 0; pass < 2; pass++)
            for (int other = 0; other < row; other++) {
                const double *basis = block + (size_t)other * (size_t)d;
                const double along = inner(own, basis, d);
                for (int i = 0; i < d; i++) own[i] -= along * basis[i];
            }
        const double length = sqrt(inner(own, own, d));
        for (int i = 0; i < d; i++) own[i] /= length;
    }
}

static void fill(mra_random *random, double *values, int count)
{
    for (int i = 0; i < count; i++) values[i] = mra_random_normal(random);
}

mra_status mra_features_draw(float *matrix, int count, int d, bool orthogonal, uint64_t seed,
                             uint64_t draw, mra_error *err)
{
    double *block = malloc((size_t)d * (size_t)d * sizeof *block);
    double *other = malloc((size_t)d * sizeof *other);
    if (!block || !other) {
        free(block);
        free(other);
        return mra_fail(err, MRA_NO_MEMORY, "random features: no memory for %d x %d numbers", d,
                        d);
    }
    for (int first = 0; first < count; first += d) {
        const int rows = count - first < d ? count - first : d;
        mra_random random =
            mra_random_open(seed, mra_stream("random features", draw, (uint64_t)(first / d)));
        fill(&random, block, rows * d);
        if (orthogonal) orthonormalise(block, rows, d);
        for (int row = 0; row < rows; row++) {
            double length = 1.0;
            if (orthogonal) {
                fill(&random, other, d);
                length = sqrt(inner(other, other, d));
            }
            for (int i = 0; i < d; i++)
                matrix[(size_t)(first + row) * (size_t)d + (size_t)i] =
                    (float)(length * block[row * d + i]);
        }
    }
    free(block);
    free(other);
    return MRA_OK;
}

// scale * matrix in memory of its own; NULL: none left.
static float *scaled_copy(const mra_feature_set *set, float scale)
{
    const size_t size = (size_t)set->count * (size_t)set->d;
    float *copy = malloc(size * sizeof *copy);
    for (size_t i = 0; copy && i < size; i++) copy[i] = scale * set->matrix[i];
    return copy;
}

mra_status mra_feature_set_create(mra_feature_set *set, mra_device *device, int count, int d,
                                  float scale, uint64_t seed, mra_error *err)
{
    const size_t size = (size_t)count * (size_t)d;
    *set = (mra_feature_set){.count = count, .d = d};
    set->matrix = mra_aligned_calloc(size, sizeof *set->matrix);
    if (!set->matrix)
        return mra_fail(err, MRA_NO_MEMORY, "random features: no memory for %d x %d numbers",
                        count, d);
    mra_status status = mra_features_draw(set->matrix, count, d, true, seed, 0, err);
    if (status == MRA_OK)
        status = mra_tensor_create(&set->scaled, device, 2, (int[]){count, d}, false, err);
    if (status != MRA_OK) return status;
    float *copy = scaled_copy(set, scale);
    if (!copy) return mra_fail(err, MRA_NO_MEMORY, "random features: no memory for a copy");
    status = device->to_device(device, set->scaled->data, copy, size * sizeof *copy, err);
    free(copy);
    return status;
}

void mra_feature_set_free(mra_feature_set *set, mra_device *device)
{
    mra_aligned_free(set->matrix);
    if (set->scaled) mra_tensor_free(set->scaled, device);
    *set = (mra_feature_set){0};
}

mra_tensor *mra_feature_set_redraw(mra_feature_set *set, mra_tape *tape, float scale,
                                   uint64_t seed, uint64_t draw)
{
    const size_t bytes = (size_t)set->count * (size_t)set->d * sizeof(float);
    mra_error err;
    mra_status status =
        mra_features_draw(set->matrix, set->count, set->d, true, seed, draw, &err);
    if (status != MRA_OK) return mra_tape_fail(tape, status, "%s", err.message);
    float *copy = scaled_copy(set, scale);
    if (!copy)
        return mra_tape_fail(tape, MRA_NO_MEMORY, "random features: no memory for a copy");
    float *uploaded = mra_tape_upload(tape, copy, bytes);
    free(copy);
    return uploaded ? mra_wrap(tape, 2, (int[]){set->count, set->d}, uploaded, NULL) : NULL;
}

mra_feature_maps mra_features_softmax(mra_tape *tape, mra_tensor *scaled, mra_tensor *q,
                                      mra_tensor *k, const uint8_t *mask)
{
    return mra_features_maps(tape, scaled, q, k, MRA_FEATURES_KEY, mask);
}

mra_feature_maps mra_features_maps(mra_tape *tape, mra_tensor *scaled, mra_tensor *q,
                                   mra_tensor *k, mra_feature_kind keys, const uint8_t *mask)
{
    mra_feature_maps maps = {0};
    if (!q || !k) return maps;
    mra_feature_rule rule = {.kind = keys, .scale = (float)pow(q->shape[q->rank - 1], -0.25)};
    mra_tensor *shift = NULL;
    maps.key = mra_features(tape, k, scaled, &rule, mask, &shift, NULL);
    rule.kind = MRA_FEATURES_QUERY;
    if (maps.key)
        maps.query = mra_features(tape, q, scaled, &rule, mask, &shift, &maps.log_scale);
    return maps;
}
