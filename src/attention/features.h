// Random features of the softmax kernel (FAVOR+): Choromanski, Likhosherstov, Dohan, Song, Gane,
// Sarlos, Hawkins, Davis, Mohiuddin, Kaiser, Belanger, Colwell, Weller, "Rethinking attention with
// Performers", ICLR 2021, sections 2.3 and 2.4 and lemma 1.
#ifndef MRA_ATTENTION_FEATURES_H
#define MRA_ATTENTION_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "tensor/tensor.h"

// Fills matrix[count][d] with directions w_r, each N(0, I_d) on its own, a function of (seed, draw)
// alone. `orthogonal`: the rows of each run of d are orthogonal to one another (a uniformly
// distributed orthogonal matrix whose rows get independent lengths with the chi distribution of
// d degrees of freedom); otherwise they are independent. MRA_NO_MEMORY.
mra_status mra_features_draw(float *matrix, int count, int d, bool orthogonal, uint64_t seed,
                             uint64_t draw, mra_error *err);

// A layer's matrix of directions, on the host (for `drawn`) and on the device.
typedef struct mra_feature_set {
    int count, d;
    float *matrix;      // [count][d], host: the directions w_r
    mra_tensor *scaled; // [count, d], device: d^(-1/4) w_r, for mra_features_softmax
} mra_feature_set;

// Draws `count` orthogonal directions (draw 0) and uploads them times `scale`. What was made before
// a failure is given back by mra_feature_set_free, which may be called on a zeroed set.
mra_status mra_feature_set_create(mra_feature_set *set, mra_device *device, int count, int d,
                                  float scale, uint64_t seed, mra_error *err);
void mra_feature_set_free(mra_feature_set *set, mra_device *device);
// The directions of another draw, times `scale`, as a tensor that lives until the tape is reset
// (NULL and a sticky error in the tape if it cannot). set->matrix becomes that draw.
mra_tensor *mra_feature_set_redraw(mra_feature_set *set, mra_tape *tape, float scale,
                                   uint64_t seed, uint64_t draw);

// Features of queries and keys: for the kernel of softmax attention, exp(<q_i, k_j> / sqrt(d)),
//
//     exp(log_scale_i) <query_i, key_j>   is an unbiased estimate (over the draw of w),
//
// with every entry of query and key in [0, 1], the largest of each row of `query` and of each
// column of `key` being exactly 1. So the sum over j of <query_i, key_j> is at least 1 in every row
// that is visible and has a visible key: a ratio of sums over the keys needs no log_scale and never
// divides by something that underflowed, whatever the size of the logits. log_scale is a constant
// to the gradient; expressions that do not change when a row of `query` and exp(-log_scale) are
// multiplied by the same number (as all normalised attention) get their exact gradient.
typedef struct mra_feature_maps {
    mra_tensor *query, *key; // [batch, heads, n, count]; rows that the mask leaves out are 0
    mra_tensor *log_scale;   // [batch, heads, n]
} mra_feature_maps;

// q, k: [batch, heads, n, d], `scaled`: [count, d] holding d^(-1/4) w_r; mask[batch, n] on the host
// or NULL. Members are NULL after an error, which the tape keeps.
mra_feature_maps mra_features_softmax(mra_tape *tape, mra_tensor *scaled, mra_tensor *q,
                                      mra_tensor *k, const uint8_t *mask);
// The same with the constants of the keys that `keys` chooses, MRA_FEATURES_KEY or
// MRA_FEATURES_KEY_ONE. With the latter the largest entry of all of `key` is 1 or, where it belongs
// to a row that the mask leaves out, every entry less.
mra_feature_maps mra_features_maps(mra_tape *tape, mra_tensor *scaled, mra_tensor *q,
                                   mra_tensor *k, mra_feature_kind keys, const uint8_t *mask);

#endif
