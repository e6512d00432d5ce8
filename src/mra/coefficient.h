// Coefficients of the box frame from pooled queries and keys, and what pooling costs (paper,
// section "Coefficient Approximation").
#ifndef MRA_MRA_COEFFICIENT_H
#define MRA_MRA_COEFFICIENT_H

#include <stddef.h>
#include <stdint.h>

#include "mra/mra.h"

// Queries, keys and values of one head, pooled into blocks of one scale.
typedef struct mra_pyramid_level {
    int scale, blocks; // tokens in a block; ceil(n / scale) blocks, the last one may be ragged
    const int32_t *tokens; // [blocks]: unmasked tokens in each block
    const float *query; // [blocks, d]: means over the unmasked tokens; 0 where there are none
    const float *key;   // [blocks, d]: the same
    const float *value; // [blocks, d]: sums over the unmasked tokens
} mra_pyramid_level;

// All scales of R, coarsest first. The finest level (scale 1) is the caller's own q, k and v,
// except that its rows of masked tokens are unspecified and must be left alone: tokens[i] is 0
// there.
typedef struct mra_pyramid {
    int n, d, scales;
    float logit_scale; // the factor of <query, key>: options.logit_scale, or 1/sqrt(d) if that
                       // is 0
    mra_pyramid_level level[MRA_MAX_SCALES];
    // What the coarse levels point to, writable; count also for the finest one.
    int32_t *count[MRA_MAX_SCALES];
    float *mean_query[MRA_MAX_SCALES], *mean_key[MRA_MAX_SCALES], *sum_value[MRA_MAX_SCALES];
} mra_pyramid;

// Bytes that the pyramid of one head needs: O(n d / s_{k-1}) floats; and its layout in `memory`
// (64-byte aligned, kept by the caller as long as the pyramid is used; nothing to free). The
// options have been checked.
size_t mra_pyramid_bytes(const mra_options *options, int n, int d);
void mra_pyramid_place(mra_pyramid *pyramid, const mra_options *options, int n, int d,
                       void *memory);

// Pools q, k, v: [n, d], which are borrowed as long as the pyramid is used; mask[n] is 1 for
// tokens and 0 for padding, or NULL. O(n d).
void mra_pyramid_build(mra_pyramid *pyramid, const float *q, const float *k, const float *v,
                       const uint8_t *mask);

// log mu of box (x, y) of pyramid level `level`: logit_scale <query_x, key_y>, accumulated in
// float64. O(d).
double mra_box_logit(const mra_pyramid *pyramid, int level, int x, int y);

// What the box holds, entry by entry: O(scale^2 d), for figures and tests. All from logits in
// float64, over the unmasked tokens of the box (all zero if there are none, `entries` too).
typedef struct mra_box_truth {
    size_t entries;       // unmasked queries times unmasked keys
    double log_mean_exp;  // log mu*: mu* = mean of exp(P)
    double mean;          // mean of P: log mu
    double low, high;     // smallest and largest P; r = high - low
    double squared_error; // sum of (exp(P) - mu)^2 over the entries, times exp(-2 high)
} mra_box_truth;
mra_box_truth mra_box_inspect(const mra_pyramid *pyramid, int level, int x, int y);

// The paper's bound: mu* - mu <= mra_paper_bound(r) mu when the logits of a box lie in an
// interval of length r >= 0; C_r = 1 + e^r - 2 e^(r/2) = (e^(r/2) - 1)^2. INFINITY where it
// exceeds the range of double.
double mra_paper_bound(double r);
// The sharp one: mu* / mu <= S(e^r), Specht's ratio (W. Specht, Math. Z. 74, 1960), and no
// smaller constant will do; S(h) = (h-1) h^(1/(h-1)) / (e ln h), S(1) = 1. This is log S(e^r),
// r >= 0, to about 1e-14 relative for every r.
double mra_specht_log(double r);
// S(e^r) - 1, free of cancellation near r = 0 (where it is r^2/8); INFINITY beyond the range of
// double.
double mra_specht_excess(double r);

#endif
