// Operations on the tape that hash: unit rows, attention by collisions of codes, attention by
// the angle that collisions estimate, attention among rows sorted by their codes.
//
// Codes are integers in device memory, functions of the data through which no gradient flows.
// The forms and the contracts of the kernels are in tensor/kernels.h. Errors as in
// tensor/tensor.h.
#ifndef MRA_TENSOR_HASH_H
#define MRA_TENSOR_HASH_H

#include "tensor/kernels.h"
#include "tensor/tensor.h"

// x / ||x|| over the last dimension, 0 (and no gradient) where ||x|| <= 1e-12.
mra_tensor *mra_unit_rows(mra_tape *tape, mra_tensor *x);

// y[..., n, d], y_i = sum over j of (1 - arccos(shrink <q_i, k_j>) / pi)^power v_j, for q, k, v
// of one shape [..., n, d], the rows of q and k unit vectors or 0 (Zeng et al., "You only
// sample (almost) once", ICML 2021). Exact gradients; see the kernel for 1 - c^2 near 0.
mra_tensor *mra_angular_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k, mra_tensor *v,
                                  int power, float shrink);

// Codes of the rows of x[batch, heads, n, d] on the tape's device, valid until it is reset:
// [batch, heads, hashes, n], by the signs of `planes` or by the nearest axis after `rotations`
// (kernels hash_signs and hash_rotations). Pointers to device memory; `widths` and `mask` may
// be NULL.
int32_t *mra_hash_by_signs(mra_tape *tape, const mra_tensor *x, const mra_hash_form *form,
                           const float *planes, const uint8_t *mask);
int32_t *mra_hash_by_rotations(mra_tape *tape, const mra_tensor *x, const mra_hash_form *form,
                               const float *rotations, const int32_t *widths,
                               const uint8_t *mask);

// y_i = sum over j of N_ij / hashes v_j, N_ij the number of functions in which the codes of q_i
// and k_j agree; q, k, v [batch, heads, n, d]. The gradient of v is exact, that of q and k what
// `rule` says of the pairs that met (Zeng et al.).
mra_tensor *mra_collision_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k, mra_tensor *v,
                                    const mra_hash_form *form, const mra_collision_rule *rule,
                                    const int32_t *q_codes, const int32_t *k_codes);

// Attention among the rows that sorting by `codes` brings together, as `form` says; codes in
// [0, range) or -1, as mra_hash_by_rotations left them. q, k, v [batch, heads, n, d] (Kitaev,
// Kaiser & Levskaya, "Reformer: the efficient transformer", ICLR 2020, section 2). `mask` as
// above.
mra_tensor *mra_sorted_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k, mra_tensor *v,
                                 const mra_sorted_form *form, const int32_t *codes, int range,
                                 const uint8_t *mask);

#endif
