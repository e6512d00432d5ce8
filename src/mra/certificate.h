// Certificates: how far an approximation can be from exact attention, from block radii alone, for
// one head. mra.h has the call for a whole batch, mra_attention_certify; certificate.c the derivation.
#ifndef MRA_MRA_CERTIFICATE_H
#define MRA_MRA_CERTIFICATE_H

#include "mra/apply.h"
#include "mra/fused.h"

// What a certificate has to know of one head after its forward pass. Everything is borrowed.
typedef struct mra_cover {
    const mra_pyramid *pyramid;
    const mra_selection *selection; // J at the coarse scales; the finest one is not looked at
    bool sparse;                    // the coarse boxes of J were left out
    // [n]: row i of A-hat sums to normaliser[i] exp(row_max[i]), refined[i] of its entries are those
    // of the finest scale; normaliser 0: a row with nothing to attend to.
    const float *row_max, *normaliser;
    const int32_t *refined;
} mra_cover;

// Certifies z[n, d], the output for this J. row[n] receives the bound on the Euclidean distance
// of row i from exact attention (0 for masked rows). O(n d + b^2 d) time and O(n + b d) memory, b
// the blocks of the coarse scales. MRA_NO_MEMORY.
mra_status mra_certify(const mra_cover *cover, const float *z, double *row,
                       mra_certificate *certificate, mra_error *err);
// The same for z as mra_apply_forward or mra_apply_product left it, before any backward pass.
mra_status mra_certify_apply(const mra_apply *apply, const float *z, double *row,
                             mra_certificate *certificate, mra_error *err);

// The half-widths of the intervals in which the logits of a box lie: the mean of row i over
// the box is within `shift` of log mu, and every entry within `spread` of its row's mean, so that
// |P_ij - log mu| <= shift + spread. `slack` is the rounding of float32, which shift includes.
typedef struct mra_box_radius {
    double shift, spread, slack;
} mra_box_radius;

// From the norms of the pooled query and key of a box of level `level` and the radii of their
// blocks, the largest distance of a row from its mean.
mra_box_radius mra_box_radius_of(const mra_pyramid *pyramid, int level, double query_norm,
                                 double query_radius, double key_norm, double key_radius);

// score[selection->level[0].count]: the logarithm of what each coarsest box adds to the bound of
// its rows, for J with nothing refined and z its output. MRA_NO_MEMORY.
mra_status mra_certificate_scores(const mra_apply *apply, const float *z, float *score,
                                  mra_error *err);

// The parts of an mra_attention that certify.c asks for (attention.c).
typedef struct mra_attention_view {
    mra_shape shape;
    const mra_options *options;
    const int32_t *order; // [n], or NULL: see mra_grid_order
    // Of one head of the last forward pass where the fused path took it; else NULL.
    const mra_fused_plan *plan;
    const mra_fused_record *record;
    bool done; // a forward pass has succeeded
} mra_attention_view;
mra_attention_view mra_attention_look(const mra_attention *attention, size_t head);

#endif
