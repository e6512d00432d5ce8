// The table of primitive operations that a device offers.
//
// A device is this table and the memory functions of tensor/device.h; whoever writes another
// device implements the functions below and passes the tests of tests/tensor.
//
// Conventions.
//
// Every pointer is device memory unless its comment says "host". Matrices are row-major and
// have no gaps. Arrays that are written may not overlap with arrays that are read, except
// where a comment says "in place".
//
// `add`: true adds the result to what the output holds, false overwrites it (whose content then
// does not matter, NaN included).
//
// Results depend on the arguments alone, bit for bit, never on the number of threads or on what
// ran before. Sums are over parts fixed by the shape, added in a fixed order.
//
// Counts may be 0: nothing happens, and sums over nothing are 0.
//
// MRA_NO_MEMORY when there is no working memory; a device with asynchronous errors reports its
// own. The functions check no argument: the operations of tensor/tensor.h do. One thread at a
// time calls the functions of one device.
#ifndef MRA_TENSOR_KERNELS_H
#define MRA_TENSOR_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "tensor/block_pattern.h"
#include "tensor/device.h"
#include "tensor/features.h"
#include "tensor/fused.h"
#include "tensor/hierarchy.h"

#ifdef __cplusplus
extern "C" {
#endif

// AdamW (Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2).
typedef struct mra_adamw {
    double rate;           // learning rate of this step, schedule included
    double beta1, beta2;   // decay of the two moments, usually 0.9 and 0.999
    double epsilon;        // added to the root of the second moment, usually 1e-6
    double weight_decay;   // decoupled: the weight shrinks by rate * weight_decay
    double gradient_scale; // factor of the gradient (clipping); 1 leaves it as it is
    uint64_t step;         // 1 at the first update: for the correction of the moments' bias
} mra_adamw;

// One of `batch` equal products C_i = alpha op(A_i) op(B_i), op(A) m x k, op(B) k x n.
typedef struct mra_product {
    size_t batch;
    int m, n, k;
    bool transpose_a, transpose_b; // A is stored k x m, B is stored n x k
    float alpha;
} mra_product;

// Softmax attention over listed blocks of pairs (tensor/block_pattern.h).
typedef struct mra_block_form {
    size_t batch;
    int heads, d; // and n = pattern.n
    float scale;  // logits are scale <q_i, k_j>
    mra_block_pattern pattern;
} mra_block_form;

typedef struct mra_block_operands {
    const float *q, *k, *v; // [batch, heads, n, d]
    const uint8_t *mask;    // [batch, n] or NULL; 0: a row that neither sees nor is seen
    float *z;               // [batch, heads, n, d]
    float *statistics;      // [2, batch, heads, n]: largest logit of a row, sum relative to it
    float *lse;             // [batch, heads, n]: log-sum-exp of the row's logits; may be NULL
    const float *dz;        // backward only, as are the next
    const float *dlse;      // [batch, heads, n] or NULL: 0
    float *dq, *dk, *dv;    // added to; any may be NULL
} mra_block_operands;

// Sums over pairs (i, j) of `matrices` equal problems: those of a band, -left <= j - i <= right, or
// those outside it.
typedef struct mra_band_form {
    size_t matrices;
    int n, left, right; // left and right at least 0
    int width;          // of a and b
    int values;         // width of c and y
    bool inside;
} mra_band_form;

// What join and its backward pass read and write; one number a row where no width is given.
typedef struct mra_join_operands {
    const float *local, *lse; // [rows, d]; log of the normaliser of `local`, or -infinity
    const float *sums,
        *scale;      // [rows, d + 1], the last column the sum of the weights; log factor
    float least;     // the sum of the weights counts as at least this; 0 or more
    float *z;        // [rows, d]
    const float *dz; // backward only, as are the next
    float *dlocal, *dlse, *dsums; // added to; any may be NULL
} mra_join_operands;

// How an iteration towards the inverse of a matrix x begins (src/attention/pseudo_inverse.h): with the
// largest sums of absolute values over a column, |x|_1, and over a row, |x|_inf,
enum mra_inverse_rule {
    MRA_INVERSE_NORMS,  // scale = 1 / (|x|_1 |x|_inf)
    MRA_INVERSE_SQUARE, // scale = 1 / |x|_inf^2; x symmetric
    // scale = 2^(1 - k) / |x|_inf^2 with the least k of 0 .. 10 for which |I - x y|_1 <= 1.01 (10 if
    // there is none); x symmetric
    MRA_INVERSE_HALVED
};

// Hash functions of the rows of x[batch, heads, n, d]: each head has `hashes` of them, the same
// in all examples of the batch. Codes are [batch, heads, hashes, n].
typedef struct mra_hash_form {
    size_t batch;
    int heads, n, d;
    int hashes; // functions per head
    int width;  // projections on which one function decides
    int codes;  // codes lie in [0, codes), or are -1: a row that is left out
} mra_hash_form;

// Weight of a pair of unit vectors at an angle theta, c = cos theta: w(c) = (1 - arccos(shrink
// c) / pi)^power, with shrink 1 unless somebody wants to stay clear of the infinite slope at c
// = 1. Vectors are [matrices, n, d].
typedef struct mra_angle_form {
    size_t matrices;
    int n, d;
    int power;
    float shrink;
} mra_angle_form;

// How a pair (i, j) that meets in N of the form's hashes counts in collision_backward.
typedef struct mra_collision_rule {
    // false: power / 2 N / hashes. true: pairs with N >= 1 count as
    // power (1 - arccos(c) / pi)^(power - 1) / (pi sqrt(1 - c^2)), c = shrink <q_i, k_j>.
    bool derivative;
    int power;
    float shrink;
} mra_collision_rule;

// Attention among rows that were sorted by their codes and cut into chunks, in several rounds.
typedef struct mra_sorted_form {
    size_t batch;
    int heads, n, d;
    int rounds, chunk;
    // true: each round is sorted by itself; a row sees the rows of its own bucket in its chunk
    // and the one before; a pair that meets in several rounds counts once. false: the rounds
    // follow one another in a single sequence, closed to a ring; a row sees all of its chunk
    // and of the one before, whatever the bucket, and pairs count as often as they meet.
    bool by_bucket;
} mra_sorted_form;

// What sorted_attention reads and writes. Codes and order as hash_rotations and sort_by_code
// left them: lists of n per round (by_bucket), or of rounds * n.
typedef struct mra_sorted_operands {
    const float *q, *k, *v; // [batch, heads, n, d]
    const int32_t *codes;   // [batch, heads, rounds, n], -1: left out
    const int32_t *order;   // [batch, heads, rounds * n]
    const int32_t *start;   // of sort_by_code
    int range;              // of sort_by_code
    const uint8_t *mask;    // [batch, n] or NULL: rows that see nothing and are not seen
    float *z;               // [batch, heads, n, d]
    float *statistics;      // [batch, heads, n, 2]: largest logit, sum relative to it
    const float *dz;        // backward only, as are the next
    float *dq, *dk, *dv;    // any may be NULL; written in this order, so two may be one array
    bool add_q, add_k, add_v;
} mra_sorted_operands;

struct mra_kernels {
    // ---- Entry by entry: `count` entries ----------------------------------------------------

    mra_status (*fill)(mra_device *device, size_t count, float value, float *y, mra_error *err);
    // y = factor x; in place allowed. With factor 1 it is copy, and with `add` y += x.
    mra_status (*scale)(mra_device *device, size_t count, float factor, const float *x,
                        float *y, bool add, mra_error *err);
    // y = a + b; in place allowed.
    mra_status (*add)(mra_device *device, size_t count, const float *a, const float *b,
                      float *y, mra_error *err);
    // y = a b; a == b allowed.
    mra_status (*multiply)(mra_device *device, size_t count, const float *a, const float *b,
                           float *y, bool add, mra_error *err);
    // y = max(x, 0); dx = dy where x > 0, else 0. NaN stays NaN.
    mra_status (*relu)(mra_device *device, size_t count, const float *x, float *y,
                       mra_error *err);
    mra_status (*relu_backward)(mra_device *device, size_t count, const float *x,
                                const float *dy, float *dx, bool add, mra_error *err);
    // y = x Phi(x), Phi the normal distribution function; dx = dy (Phi(x) + x phi(x)). Absolute
    // error of Phi below 2e-7.
    mra_status (*gelu)(mra_device *device, size_t count, const float *x, float *y,
                       mra_error *err);
    mra_status (*gelu_backward)(mra_device *device, size_t count, const float *x,
                                const float *dy, float *dx, bool add, mra_error *err);
    // y_i = x_i / (1 - p) where mra_uniform_at(seed, stream, i) >= p, else 0; 0 <= p < 1. Being
    // a function of (seed, stream, i) the choice is not stored: the backward pass is the same
    // call with dy for x.
    mra_status (*dropout)(mra_device *device, size_t count, float p, uint64_t seed,
                          uint64_t stream, const float *x, float *y, bool add, mra_error *err);

    // ---- Products ---------------------------------------------------------------------------

    // C_i (+)= alpha op(A_i) op(B_i) for matrices that follow one another without gaps.
    mra_status (*gemm)(mra_device *device, const mra_product *product, const float *a,
                       const float *b, float *c, bool add, mra_error *err);
    // y[rows, out] = x[rows, in] w[out, in]^T + b[out]; b may be NULL.
    mra_status (*linear)(mra_device *device, size_t rows, int in, int out, const float *x,
                         const float *w, const float *b, float *y, mra_error *err);
    // dx[rows, in] = dy[rows, out] w[out, in].
    mra_status (*linear_backward_input)(mra_device *device, size_t rows, int in, int out,
                                        const float *dy, const float *w, float *dx, bool add,
                                        mra_error *err);
    // dw[out, in] += dy^T x.
    mra_status (*linear_backward_weight)(mra_device *device, size_t rows, int in, int out,
                                         const float *dy, const float *x, float *dw,
                                         mra_error *err);
    // y[width] += sum over the rows of x[rows, width].
    mra_status (*add_column_sums)(mra_device *device, size_t rows, int width, const float *x,
                                  float *y, mra_error *err);

    // ---- Along rows -------------------------------------------------------------------------

    // y = gamma (x - mean) inverse + beta per row of x[rows, width]; statistics[rows, 2]
    // receives mean and inverse = 1 / sqrt(variance + epsilon), with the variance over `width`
    // entries.
    mra_status (*layer_norm)(mra_device *device, size_t rows, int width, float epsilon,
                             const float *x, const float *gamma, const float *beta, float *y,
                             float *statistics, mra_error *err);
    // With g = dy gamma and x^ = (x - mean) inverse: dx = inverse (g - mean(g) - x^ mean(g
    // x^)); dgamma += column sums of dy x^, dbeta += column sums of dy. Any of dx, dgamma,
    // dbeta may be NULL; `add` speaks of dx.
    mra_status (*layer_norm_backward)(mra_device *device, size_t rows, int width,
                                      const float *x, const float *gamma,
                                      const float *statistics, const float *dy, float *dx,
                                      bool add, float *dgamma, float *dbeta, mra_error *err);
    // y = exp(x - max) / sum per row of x[rows, width] (0 in a row of -infinity alone);
    // dx = y (dy - <y, dy>).
    mra_status (*softmax)(mra_device *device, size_t rows, int width, const float *x, float *y,
                          mra_error *err);
    mra_status (*softmax_backward)(mra_device *device, size_t rows, int width, const float *y,
                                   const float *dy, float *dx, bool add, mra_error *err);

    // The softmax of x[groups, rows, width] over the entries j with keep[group / heads, j] != 0; the
    // others are 0, and so is a row without any. softmax_backward is its way back.
    mra_status (*softmax_kept)(mra_device *device, size_t groups, int heads, int rows,
                               int width, const uint8_t *keep, const float *x, float *y,
                               mra_error *err);

    // ---- Loss -------------------------------------------------------------------------------

    // Over the rows of logits[rows, classes] with labels[row] >= 0: *loss = mean of
    // lse[row] - logits[row, label], where lse is log-sum-exp (0 if there is no such row);
    // counts[0] = how many such rows, counts[1] = in how many of them no other logit is larger
    // than, nor an earlier one equal to, the label's. Writes lse[rows], *loss, counts[2].
    mra_status (*cross_entropy)(mra_device *device, size_t rows, int classes,
                                const float *logits, const int32_t *labels, float *lse,
                                float *loss, int32_t *counts, mra_error *err);
    // dlogits = (softmax - one-hot label) * *dloss / counts[0]; 0 in rows without a label.
    mra_status (*cross_entropy_backward)(mra_device *device, size_t rows, int classes,
                                         const float *logits, const int32_t *labels,
                                         const float *lse, const int32_t *counts,
                                         const float *dloss, float *dlogits, bool add,
                                         mra_error *err);

    // ---- Gathering and moving ---------------------------------------------------------------

    // y[i, :] = table[ids[i], :] for i < count; table[rows, width].
    mra_status (*gather)(mra_device *device, size_t count, int width, const float *table,
                         const int32_t *ids, float *y, mra_error *err);
    // dtable[ids[i], :] += dy[i, :], ids in [0, rows), count < 2^31.
    mra_status (*scatter_add)(mra_device *device, size_t count, int rows, int width,
                              const int32_t *ids, const float *dy, float *dtable,
                              mra_error *err);
    // y[b, i, :] = x[b, i, :] + table[positions[i], :] for x[batch, n, width]; positions NULL:
    // i.
    mra_status (*add_positions)(mra_device *device, size_t batch, int n, int width,
                                const float *x, const float *table, const int32_t *positions,
                                float *y, mra_error *err);
    // dtable[positions[i], :] += sum over b of dy[b, i, :].
    mra_status (*add_positions_backward)(mra_device *device, size_t batch, int n, int width,
                                         const float *dy, const int32_t *positions,
                                         float *dtable, mra_error *err);
    // y[a, j, i, :] = x[a, i, j, :] for x[outer, first, second, inner].
    mra_status (*swap_middle)(mra_device *device, size_t outer, int first, int second,
                              int inner, const float *x, float *y, bool add, mra_error *err);
    // y[i, 0 .. width) = x[i, 0 .. width) for rows that lie x_stride and y_stride floats apart.
    mra_status (*copy_columns)(mra_device *device, size_t rows, int width, const float *x,
                               size_t x_stride, float *y, size_t y_stride, bool add,
                               mra_error *err);

    // ---- Masks and means over positions -----------------------------------------------------

    // y[i, :] = x[i, :] where mask[i] != 0, else 0 (also where x is not finite); x[rows,
    // width].
    mra_status (*mask_rows)(mra_device *device, size_t rows, int width, const uint8_t *mask,
                            const float *x, float *y, bool add, mra_error *err);
    // y[b, :] = mean of x[b, i, :] over the i with mask[b, i] != 0 (0 if there is none); mask
    // NULL: over all n. x[batch, n, width].
    mra_status (*mean_pool)(mra_device *device, size_t batch, int n, int width,
                            const uint8_t *mask, const float *x, float *y, mra_error *err);
    // dx[b, i, :] = dy[b, :] / (number of such i) for those i, 0 for the others.
    mra_status (*mean_pool_backward)(mra_device *device, size_t batch, int n, int width,
                                     const uint8_t *mask, const float *dy, float *dx, bool add,
                                     mra_error *err);

    // ---- Attention over listed blocks -------------------------------------------------------

    // z_i = sum over the pairs (i, j) of the pattern of exp(logit_ij - lse_i) v_j. Writes z,
    // statistics (infinity and 0 in a row that is masked or has no pair: there z is 0 and lse
    // -infinity) and, unless NULL, lse. Logits of any finite size are allowed.
    mra_status (*block_attention)(mra_device *device, const mra_block_form *form,
                                  const mra_block_operands *operands, mra_error *err);
    // Adds the gradients of <dz, z> + <dlse, lse> to dq, dk, dv, given what the forward pass read
    // and wrote. Where lse is -infinity dlse counts as 0.
    mra_status (*block_attention_backward)(mra_device *device, const mra_block_form *form,
                                           const mra_block_operands *operands, mra_error *err);

    // ---- Random features (tensor/features.h) ------------------------------------------------

    // y[groups, n, features] of x[groups, n, d], with w[features, d] holding s w_r. shift and
    // log_scale: written or read as the kind says, otherwise not touched.
    mra_status (*features)(mra_device *device, const mra_feature_form *form, const float *x,
                           const float *w, const uint8_t *mask, float *shift, float *log_scale,
                           float *y, mra_error *err);
    // With dp = (y - epsilon) dy: dx_i (+)= sum over r of dp_ir (s w_r - s^2 x_i); 0 in rows left
    // out. dp is written over dy.
    mra_status (*features_backward)(mra_device *device, const mra_feature_form *form,
                                    const float *x, const float *w, const uint8_t *mask,
                                    const float *y, float *dy, float *dx, bool add,
                                    mra_error *err);
    // y[i, 0 .. width) = x[i, 0 .. width) / x[i, width] for x[rows, width + 1]; 0 where the
    // divisor is 0.
    mra_status (*divide_by_last)(mra_device *device, size_t rows, int width, const float *x,
                                 float *y, mra_error *err);
    mra_status (*divide_by_last_backward)(mra_device *device, size_t rows, int width,
                                          const float *x, const float *y, const float *dy,
                                          float *dx, bool add, mra_error *err);

    // ---- Hierarchical attention (tensor/hierarchy.h) ----------------------------------------

    // Writes z and divisor.
    mra_status (*hierarchy)(mra_device *device, const mra_hierarchy *form,
                            const mra_hierarchy_operands *operands, mra_error *err);
    // The gradients of <dz, z>, given what the forward pass read and wrote.
    mra_status (*hierarchy_backward)(mra_device *device, const mra_hierarchy *form,
                                     const mra_hierarchy_operands *operands, mra_error *err);

    // ---- A band and the rest ----------------------------------------------------------------

    // y_i (+)= sum over the pairs (i, j) of the form of <a_i, b_j> c_j; a, b[matrices, n, width],
    // c, y[matrices, n, values]. Terms are added, never subtracted.
    mra_status (*band_sum)(mra_device *device, const mra_band_form *form, const float *a,
                           const float *b, const float *c, float *y, bool add, mra_error *err);
    // z = (e^lse local + e^scale sums) / (e^lse + e^scale max(sums[d], least)) in logarithms that
    // may be of any size; 0 where lse is -infinity and the maximum is 0.
    mra_status (*join)(mra_device *device, size_t rows, int d,
                       const mra_join_operands *operands, mra_error *err);
    // The gradients of <dz, z>; `scale` is a constant, and so is sums[d] where it is below `least`.
    mra_status (*join_backward)(mra_device *device, size_t rows, int d,
                                const mra_join_operands *operands, mra_error *err);

    // ---- Along sequences: x[groups, n, width], a group for each example and head ------------

    // y[g, i, :] = sum over t in [0, taps) of filter[g % heads, t] x[g, i + t - taps / 2, :], x being 0
    // outside of the sequence; taps odd. `flipped` reads the filter from its end: with dy for
    // x, that is the gradient of x.
    mra_status (*convolve)(mra_device *device, size_t groups, int heads, int n, int width,
                           int taps, const float *x, const float *filter, bool flipped,
                           float *y, bool add, mra_error *err);
    // dfilter[h, t] += sum over the groups g of head h, and i, of <dy[g, i, :], x[g, i + t - taps /
    // 2, :]>.
    mra_status (*convolve_backward_filter)(mra_device *device, size_t groups, int heads, int n,
                                           int width, int taps, const float *x, const float *dy,
                                           float *dfilter, mra_error *err);
    // y[g, s, :] = mean of x[g, i, :] over the i with segment[g / heads, i] == s, for s < segments (0
    // where there is none). Entries of `segment` outside of [0, segments) belong to no segment.
    mra_status (*segment_mean)(mra_device *device, size_t groups, int heads, int n,
                               int segments, int width, const int32_t *segment, const float *x,
                               float *y, mra_error *err);
    // dx[g, i, :] = dy[g, segment[g / heads, i], :] / (number of i in that segment), or 0.
    mra_status (*segment_mean_backward)(mra_device *device, size_t groups, int heads, int n,
                                        int segments, int width, const int32_t *segment,
                                        const float *dy, float *dx, bool add, mra_error *err);
    // y[g, i, j] = exp(-|x[g, i, :] - c[g, j, :]|^2 / 2) for x[groups, n, width], c[groups, m, width],
    // from the differences, so that near points lose nothing to cancellation.
    mra_status (*gaussian)(mra_device *device, size_t groups, int n, int m, int width,
                           const float *x, const float *c, float *y, mra_error *err);
    // With g_ij = dy_ij y_ij: dx_i (+)= sum_j g_ij (c_j - x_i) and dc_j (+)= sum_i g_ij (x_i - c_j). dx
    // or dc may be NULL.
    mra_status (*gaussian_backward)(mra_device *device, size_t groups, int n, int m, int width,
                                    const float *x, const float *c, const float *y,
                                    const float *dy, float *dx, bool add_x, float *dc,
                                    bool add_c, mra_error *err);

    // ---- Square matrices a[groups, m, m], for iterations towards an inverse -----------------

    // y = factor I - x.
    mra_status (*identity_minus)(mra_device *device, size_t groups, int m, float factor,
                                 const float *x, float *y, mra_error *err);
    // A first guess y = scale x^T; `rule` says which scale (mra_inverse_rule above). `joint`: one scale
    // for all groups, from the largest sums of any. scale[groups] receives it, and places[groups, 4]
    // what decided: group and row of the largest row sum, group and column of the largest
    // column sum.
    mra_status (*inverse_guess)(mra_device *device, int rule, bool joint, size_t groups, int m,
                                const float *x, float *y, float *scale, int32_t *places,
                                mra_error *err);
    // dx += the gradient through y = scale(x) x^T, the deciding places and k held fixed.
    mra_status (*inverse_guess_backward)(mra_device *device, int rule, size_t groups, int m,
                                         const float *x, const float *scale,
                                         const int32_t *places, const float *dy, float *dx,
                                         mra_error *err);
    // y[g] = b[g] where every entry of b[g] is at most `limit` in absolute value, otherwise a[g];
    // `joint`: of all groups together. chosen[groups]: whether b was.
    mra_status (*keep_bounded)(mra_device *device, bool joint, size_t groups, size_t count,
                               float limit, const float *a, const float *b, float *y,
                               int32_t *chosen, mra_error *err);
    // y[g, :] (+)= x[g, :] in the groups with chosen[g] == wanted, 0 in the others; count entries a
    // group.
    mra_status (*copy_chosen)(mra_device *device, size_t groups, size_t count,
                              const int32_t *chosen, int wanted, const float *x, float *y,
                              bool add, mra_error *err);

    // ---- Unit rows and angles ---------------------------------------------------------------

    // y = x / ||x|| per row of x[rows, width], 0 where ||x|| <= 1e-12; norm[rows] receives
    // ||x||, or 0 in such a row.
    mra_status (*unit_rows)(mra_device *device, size_t rows, int width, const float *x,
                            float *y, float *norm, mra_error *err);
    // dx = (dy - y <y, dy>) / norm; 0 where norm is 0.
    mra_status (*unit_rows_backward)(mra_device *device, size_t rows, int width, const float *y,
                                     const float *norm, const float *dy, float *dx, bool add,
                                     mra_error *err);
    // y_i = sum over j of w(<q_i, k_j>) v_j for unit rows q, k (zero rows allowed).
    mra_status (*angular_attention)(mra_device *device, const mra_angle_form *form,
                                    const float *q, const float *k, const float *v, float *y,
                                    mra_error *err);
    // da_i = sum over j of w'(<a_i, b_j>) <r_i, t_j> b_j, and unless dr is NULL dr_i = sum over
    // j of w(<a_i, b_j>) t_j. The gradient of angular_attention with respect to q is that with
    // (a, b, r, t) = (q, k, dy, v); with respect to k and v, (k, q, v, dy). Where |shrink c| =
    // 1 the slope is infinite; 1 - (shrink c)^2 is held at 2^-22 or more.
    mra_status (*angular_attention_backward)(mra_device *device, const mra_angle_form *form,
                                             const float *a, const float *b, const float *r,
                                             const float *t, float *da, bool add_a, float *dr,
                                             bool add_r, mra_error *err);

    // ---- Hashing ----------------------------------------------------------------------------

    // Codes by the sides of hyperplanes: code = sum over b of 2^b [<plane_b, x> > 0], for
    // planes[heads, hashes, width, d] and codes = 2^width. Rows with mask[batch, n] = 0 (mask
    // may be NULL) get -1.
    mra_status (*hash_signs)(mra_device *device, const mra_hash_form *form, const float *x,
                             const float *planes, const uint8_t *mask, int32_t *codes,
                             mra_error *err);
    // Codes by the nearest axis after a rotation: with p = <rotation_b, x>, b < width, function
    // h gives 2 width h + the position of the largest of p_0, ..., -p_0, ... (the first of
    // equal ones), for rotations[heads, hashes, width, d] and codes = 2 width hashes. An example
    // uses the first widths[example] rotations of each function (widths NULL: all of them), and
    // the negative ones come right after those. Mask as above.
    mra_status (*hash_rotations)(mra_device *device, const mra_hash_form *form, const float *x,
                                 const float *rotations, const int32_t *widths,
                                 const uint8_t *mask, int32_t *codes, mra_error *err);
    // Sorts each of `lists` lists of `length` codes, stably: order[list, start[list, c] ..
    // start[list, c + 1]) are the positions that hold code c, ascending, for c < range. Codes
    // -1 are left out; the places after start[list, range] are not written. order[lists,
    // length], start[lists, range + 1].
    mra_status (*sort_by_code)(mra_device *device, size_t lists, int length, int range,
                               const int32_t *codes, int32_t *order, int32_t *start,
                               mra_error *err);
    // y_i = 1 / hashes sum over the functions h and over the j with from[h, j] = to[h, i] of
    // x_j; 0 where to is -1. x, y [batch, heads, n, d].
    mra_status (*collision_sum)(mra_device *device, const mra_hash_form *form,
                                const int32_t *from, const int32_t *to, const float *x,
                                float *y, bool add, mra_error *err);
    // With g_ij what `rule` says of the pair: dq_i = sum over j of g_ij <dy_i, v_j> k_j and
    // dk_j = sum over i of g_ij <dy_i, v_j> q_i. dq or dk may be NULL; dq is written first, so
    // they may be one array.
    mra_status (*collision_backward)(mra_device *device, const mra_hash_form *form,
                                     const mra_collision_rule *rule, const int32_t *q_codes,
                                     const int32_t *k_codes, const float *const qkv[3],
                                     const float *dy, float *dq, bool add_q, float *dk,
                                     bool add_k, mra_error *err);
    // z_i = sum of p_ij v_j over the pairs (round, j) that row i meets, p the softmax over all
    // of them together of <q_i, k_j>, which in a pair of a row with itself is replaced by -1e5:
    // it counts where there is nothing else. 0 where nothing is met.
    mra_status (*sorted_attention)(mra_device *device, const mra_sorted_form *form,
                                   const mra_sorted_operands *operands, mra_error *err);
    // Its gradients, from z and statistics as written forward.
    mra_status (*sorted_attention_backward)(mra_device *device, const mra_sorted_form *form,
                                            const mra_sorted_operands *operands,
                                            mra_error *err);

    // ---- Training ---------------------------------------------------------------------------

    // One AdamW update of `count` weights with gradient g and moments m, v (both zero before
    // the first). With g' = gradient_scale g: m = beta1 m + (1 - beta1) g'; v = beta2 v + (1 -
    // beta2) g'^2; w -= rate (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon) +
    // weight_decay w). The gradient is left as it is.
    mra_status (*adamw)(mra_device *device, const mra_adamw *settings, size_t count, float *w,
                        const float *g, float *m, float *v, mra_error *err);
    // *sum (host) = sum of x_i^2, in double precision.
    mra_status (*sum_of_squares)(mra_device *device, size_t count, const float *x, double *sum,
                                 mra_error *err);

    // ---- Whole methods (tensor/fused.h) ------------------------------------------------------

    const mra_fused_method *fused; // fused_count of them; the cpu has its own in src/mra
    int fused_count;
    // The same with all that the kernels can be asked for (arrays of bf16, parts of a batch that
    // overlap): kernels/attention.h. NULL on the cpu.
    const struct mra_attention_kernels *attention;
};

#ifdef __cplusplus
}
#endif
#endif
