// Positive random features of the softmax kernel: which constant the exponents are relative to.
// src/attention/features.h draws the directions w_r and says where the formulas come from.
//
// With the logit l_ir = <w_r, s x_i> - |s x_i|^2 / 2 of row i and feature r,
//
//     y_ir = exp(l_ir - shift) + epsilon
//
// where the shift, a constant to the gradient, depends on `kind`:
//
//     MRA_FEATURES_KEY     c_r = the largest l_jr of the group's visible rows j, feature by
//                          feature (0 where there is none); shift[groups, features] is written
//     MRA_FEATURES_QUERY   A_i - c_r with A_i = the largest l_ir + c_r of the row: c is read, and
//                          log_scale[groups, n] = A_i - log(features) is written, so that
//                          exp(log_scale_i) <y_i, y_j> is the estimate of exp(s^2 <q_i, k_j>)
//     MRA_FEATURES_KEY_ONE c_r = the largest l_js of all rows j of the group, visible or not, and
//                          all features s: one number, written to shift for every feature
//     MRA_FEATURES_COMMON  the largest <w_r, s x_j> of all groups, rows and features at once,
//                          invisible rows counting as zeros
//     MRA_FEATURES_ROW     the largest <w_r, s x_i> of the row
//
// Rows that the mask leaves out give 0; of kind COMMON, which reads them as rows of zeros, what
// zeros give. They pass no gradient on.
#ifndef MRA_TENSOR_FEATURES_H
#define MRA_TENSOR_FEATURES_H

#include <stddef.h>

typedef enum mra_feature_kind {
    MRA_FEATURES_KEY,
    MRA_FEATURES_QUERY,
    MRA_FEATURES_COMMON,
    MRA_FEATURES_ROW,
    MRA_FEATURES_KEY_ONE
} mra_feature_kind;

typedef struct mra_feature_rule {
    mra_feature_kind kind;
    float scale;   // s; directions are given as s w_r
    float epsilon; // added to every feature of a visible row
} mra_feature_rule;

// groups = batch * heads matrices x[n, d] and their projections [n, features].
typedef struct mra_feature_form {
    mra_feature_rule rule;
    size_t batch;
    int heads, n, d, features;
} mra_feature_form;

#endif
