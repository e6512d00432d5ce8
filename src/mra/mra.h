// libmra: multi-resolution approximate self-attention, forward and backward, on the CPU.
//
//     mra_shape shape = {.batch = 1, .heads = 12, .n = 4096, .d = 64};
//     mra_options options = mra_options_mra2(8);
//     mra_attention *attention;
//     mra_error err;
//     if (mra_attention_create(&attention, shape, &options, &err) != MRA_OK) ...
//     mra_attention_forward(attention, q, k, v, NULL, z, &err);
//     mra_attention_backward(attention, q, k, v, NULL, z, dz, dq, dk, dv, &err);
//     mra_attention_free(attention);
//
// Arrays are float32, row-major, [batch][heads][n][d], without gaps. Z = D^-1 A V with A = exp(Q K^T / sqrt(d))
// approximated as in Zeng, Pal, Kline, Fung & Singh, "Multi Resolution Analysis (MRA) for Approximate
// Self-Attention", ICML 2022 (arXiv 2207.10284).
//
// The library keeps no global state, prints nothing and never ends the process. An mra_attention may be used by one
// thread at a time; different ones are independent. Internally it runs options.threads OpenMP threads and
// calls BLAS from them; a program that links a multi-threaded BLAS should limit that one to one thread.
#ifndef MRA_MRA_H
#define MRA_MRA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mra_shape {
    int batch, heads, n, d; // n >= 1 any; 1 <= d <= 256
} mra_shape;

enum { MRA_MAX_SCALES = 8 };

// How boxes compete for refinement (the paper, component selection).
typedef enum mra_ranking {
    MRA_RANK_ROW,   // coarse logit minus the largest of its row of boxes (the paper's code)
    MRA_RANK_PLAIN, // the coefficient itself
    // The squared error that the variance of a box's logits suggests (beyond the paper; fused_spread.c). For
    // R = {s, 1} with s at most 128.
    MRA_RANK_SPREAD
} mra_ranking;

typedef struct mra_options {
    // R: how many scales, 2 .. MRA_MAX_SCALES (1: R = {1}, exact), and s_0 > s_1 > ... > s_k = 1, each a
    // multiple of the next.
    int scales;
    int scale[MRA_MAX_SCALES];
    // blocks[i], i >= 1: how many boxes of scale s_{i-1} are refined into scale s_i, per row of boxes of scale
    // s_0: m_i = round(blocks[i] * rows) per head, at most all that are there. rows = ceil(n/s_0), less those of
    // padding alone: a sequence with padding at its end is treated as one without.
    double blocks[MRA_MAX_SCALES];
    // Count rows of padding too, as the paper's code does: then padding buys boxes for the tokens.
    bool count_padding;
    // Keep the finest boxes only (MRA-2-s).
    bool sparse;
    mra_ranking ranking;
    // Priors: boxes in the first `first` rows and columns of boxes are refined before all others, and so are those on
    // a diagonal band of `diagonal` boxes (0 none, 1 the diagonal itself, 3 one neighbour to each side, ...; odd).
    int first, diagonal;
    // Tokens are a raster image of this size (0: a sequence), n = height * width: they are permuted to tiles, so that a
    // box is compact in two dimensions.
    int grid_height, grid_width;
    // Factor of Q K^T; 0: 1/sqrt(d).
    double logit_scale;
    // OpenMP threads; < 1: OpenMP's default.
    int threads;
} mra_options;

// R = {32, 1} with `blocks` blocks a row: the paper's MRA-2; set .sparse for MRA-2-s.
MRA_API mra_options mra_options_mra2(double blocks);

typedef struct mra_attention mra_attention;

// What the last forward pass did.
typedef struct mra_statistics {
    long long boxes[MRA_MAX_SCALES]; // boxes of J per scale, over all heads
    long long empty_rows; // unmasked query rows with nothing to attend to (sparse): output 0
    size_t workspace;     // bytes held by the object
} mra_statistics;

// Checks shape and options and allocates everything that forward and backward need.
// MRA_BAD_INPUT names the field and what was expected; MRA_NO_MEMORY the bytes asked for.
MRA_API mra_status mra_attention_create(mra_attention **attention, mra_shape shape,
                                        const mra_options *options, mra_error *err);
MRA_API void mra_attention_free(mra_attention *attention);

// z = approximate attention. `mask` is [batch][n], 1 for a token and 0 for padding, or NULL for none: padded
// keys are invisible and padded query rows get z = 0. Logits of any finite size are allowed.
MRA_API mra_status mra_attention_forward(mra_attention *attention, const float *q,
                                         const float *k, const float *v, const uint8_t *mask,
                                         float *z, mra_error *err);
// Gradients of <dz, z> with the choice of boxes held fixed, *added* to dq, dk, dv. Must follow a forward pass of the
// same object with the same arrays; `z` is that pass's result.
MRA_API mra_status mra_attention_backward(mra_attention *attention, const float *q,
                                          const float *k, const float *v, const uint8_t *mask,
                                          const float *z, const float *dz, float *dq, float *dk,
                                          float *dv, mra_error *err);
MRA_API mra_statistics mra_attention_statistics(const mra_attention *attention);

// ---- Certificates: bounds on the error, without exact attention ----

// What is certain about one head against exact attention in real numbers on the same float32
// inputs, rounding included. Norms are Frobenius norms over unmasked rows.
typedef struct mra_certificate {
    double output;      // bound on || Z-hat - Z ||
    double output_norm; // || Z-hat ||
    double relative;    // bound on || Z-hat - Z || / || Z ||; INFINITY where nothing is certain
    double matrix;      // bound on || A-hat - A || exp(-shift)
    double matrix_norm; // at most || A-hat || exp(-shift)
    double shift;       // the largest logit met
    long long trivial;  // rows where nothing is known but that both outputs are means of values
} mra_certificate;

// Certifies the last forward pass of this object; same arrays, `z` its result. row[batch][heads][n] receives the
// bound on the Euclidean distance of every row of z from exact attention (0 for masked rows),
// certificate[batch][heads] the rest. O(n d + (n/s)^2 d) a head, on the calling thread. certificate.c has the derivation.
MRA_API mra_status mra_attention_certify(const mra_attention *attention, const float *q,
                                         const float *k, const float *v, const uint8_t *mask,
                                         const float *z, double *row,
                                         mra_certificate *certificate, mra_error *err);

// Attention with a promise: refines boxes of R = {s, 1}, those that contribute most to the certificate
// first, until the certified relative error is at most `tolerance` > 0 or every box is refined. One head: q, k, v: [n, d],
// mask [n] or NULL; z[n, d] and row[n] (may be NULL) are overwritten. *blocks receives the boxes refined per row of
// boxes. Budgets, ranking and priors of the options are not looked at. MRA_BAD_INPUT for other
// scales, MRA-2-s or a grid.
MRA_API mra_status mra_attend_within(const mra_options *options, int n, int d, const float *q,
                                     const float *k, const float *v, const uint8_t *mask,
                                     double tolerance, float *z, double *row,
                                     mra_certificate *certificate, double *blocks,
                                     mra_error *err);

#ifdef __cplusplus
}
#endif
#endif
