// Tensors and the tape: reverse-mode differentiation in one header that is its own manual.
//
// A tensor is a contiguous row-major array of float32 on a device. A tape is a list of the
// operations that were carried out, in order. Running an operation computes its result at once
// and, if any operand needs a gradient, records on the tape how to go back. mra_tape_backward()
// walks the list from its end: each entry reads the gradient of its output and adds to the
// gradients of its operands (the chain rule, read right to left).
//
//     mra_tensor *h = mra_gelu(tape, mra_linear(tape, x, w1, b1));
//     mra_tensor *loss = mra_cross_entropy(tape, mra_linear(tape, h, w2, b2), labels);
//     status = mra_tape_backward(tape, loss, err);   // w1->grad, b1->grad, ... are now filled
//     mra_tape_reset(tape);                          // h, loss and their memory are forgotten
//
// Memory. Parameters and inputs are owned by whoever made them and outlive the tape's steps.
// What operations produce lives in the tape's arena until mra_tape_reset(). After the largest
// step has been seen, a step asks the system for nothing.
//
// Errors are sticky: the first failing operation stores its error in the tape and returns NULL;
// operations given a NULL operand return NULL. So a chain is written without checks and the
// caller looks once, at mra_tape_backward() or mra_tape_status().
//
// Determinism. Every result is bit-identical for any number of threads (core/parallel.h).
#ifndef MRA_TENSOR_TENSOR_H
#define MRA_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "tensor/block_pattern.h"
#include "tensor/features.h"

enum { MRA_MAX_RANK = 5 };

typedef struct mra_device mra_device; // tensor/device.h
typedef struct mra_tape mra_tape;     // below

typedef struct mra_tensor {
    int rank;
    int shape[MRA_MAX_RANK]; // shape[0] is the slowest dimension
    size_t size;             // product of shape
    float *data;             // on the device
    float *grad;             // same shape; NULL unless needs_grad
    bool needs_grad;
    bool grad_empty;            // during backward: grad holds nothing yet
    struct mra_tensor *view_of; // whose data and gradient a reshaped view shares, or NULL
} mra_tensor;

// ---- Parameters and inputs ------------------------------------------------------------------

// A tensor of its own with zeroed data (and gradient, if needs_grad). Owned by the caller.
mra_status mra_tensor_create(mra_tensor **tensor, mra_device *device, int rank,
                             const int *shape, bool needs_grad, mra_error *err);
void mra_tensor_free(mra_tensor *tensor, mra_device *device);

// A tensor header in the tape's arena around memory of the caller's (`grad` NULL: no gradient
// wanted). The memory must live until the tape is reset; nothing is copied.
mra_tensor *mra_wrap(mra_tape *tape, int rank, const int *shape, float *data, float *grad);

// ---- The tape -------------------------------------------------------------------------------

mra_status mra_tape_create(mra_tape **tape, mra_device *device, mra_error *err);
void mra_tape_free(mra_tape *tape);
void mra_tape_reset(mra_tape *tape); // forgets operations and clears the error
// `training` switches dropout on, `record` the recording of operations (off: no gradients, less
// memory); seed and step feed the random numbers of dropout. A new tape records and does not
// train. Holds until the next call.
void mra_tape_mode(mra_tape *tape, bool training, bool record, uint64_t seed, uint64_t step);
// The seed and the step that mra_tape_mode() set, and whether the tape is in training.
typedef struct mra_tape_random {
    bool training;
    uint64_t seed, step;
} mra_tape_random;

mra_tape_random mra_tape_random_of(const mra_tape *tape);

mra_status mra_tape_status(const mra_tape *tape, mra_error *err); // the sticky error
mra_device *mra_tape_device(const mra_tape *tape);
const mra_arena *mra_tape_arena(const mra_tape *tape); // for accounting

// d(loss)/d(everything that needs it), for a loss of one element. Gradients of parameters and
// wrapped tensors are added to (zero them first); gradients of intermediate results start at
// zero. Operations that the loss does not depend on are skipped; the gradients of their results
// stay undefined. MRA_BAD_INPUT when nothing that needs a gradient leads to the loss.
mra_status mra_tape_backward(mra_tape *tape, mra_tensor *loss, mra_error *err);
// The same for an output of any shape, given d(objective)/d(output) in `seed_grad`:
// output->size values on the host.
mra_status mra_tape_backward_from(mra_tape *tape, mra_tensor *output, const float *seed_grad,
                                  mra_error *err);

// ---- Writing an operation -------------------------------------------------------------------

// What an operation leaves on the tape. `saved` is whatever its backward pass needs.
typedef struct mra_node mra_node;
struct mra_node {
    mra_tensor *output;
    mra_tensor *operand[8];
    int operands;
    void *saved;
    mra_status (*backward)(mra_tape *tape, mra_node *node, mra_error *err);
    const char *name;
    // false: the gradients of all operands hold numbers when backward is called (zeros at
    // first) and it adds to them. true: backward asks mra_grad_adds() of each operand it writes
    // to, once, right before writing: that saves a pass over memory to zero a gradient and one
    // to read it.
    bool overwrites;
};

// Host memory until the next reset (uninitialised, 64-byte aligned); NULL sets the sticky
// error.
void *mra_tape_alloc(mra_tape *tape, size_t bytes);
// The same on the device, and with the bytes of `from` (host) copied into it.
void *mra_tape_device_alloc(mra_tape *tape, size_t bytes);
void *mra_tape_upload(mra_tape *tape, const void *from, size_t bytes);
// For nodes that overwrite: whether the gradient of `operand` already holds something to add
// to. The answer is given once: from then on it counts as written.
bool mra_grad_adds(mra_tensor *operand);
// A result tensor, uninitialised; it gets a gradient (zeroed when backward starts) if
// `needs_grad`.
mra_tensor *mra_tape_result(mra_tape *tape, int rank, const int *shape, bool needs_grad);
// Appends a node if its output needs a gradient and recording is on. Returns node->output.
mra_tensor *mra_tape_record(mra_tape *tape, const mra_node *node);
// Stores a sticky error (unless there is one already) and returns NULL.
mra_tensor *mra_tape_fail(mra_tape *tape, mra_status status, const char *format, ...)
    MRA_PRINTF(3, 4);

// ---- Operations: shapes in brackets, `...` any leading dimensions ---------------------------

// y[..., out] = x[..., in] W[out, in]^T + b[out]; b may be NULL.
mra_tensor *mra_linear(mra_tape *tape, mra_tensor *x, mra_tensor *w, mra_tensor *b);
// The same shape, entry by entry.
mra_tensor *mra_add(mra_tape *tape, mra_tensor *a, mra_tensor *b);
mra_tensor *mra_multiply(mra_tape *tape, mra_tensor *a, mra_tensor *b);
mra_tensor *mra_scale(mra_tape *tape, mra_tensor *x, float factor);
// GELU with the error function (Hendrycks & Gimpel): x Phi(x).
mra_tensor *mra_gelu(mra_tape *tape, mra_tensor *x);
mra_tensor *mra_relu(mra_tape *tape, mra_tensor *x);
// LayerNorm over the last dimension (Ba, Kiros & Hinton): gamma (x - mean)/sqrt(var + epsilon)
// + beta.
mra_tensor *mra_layer_norm(mra_tape *tape, mra_tensor *x, mra_tensor *gamma, mra_tensor *beta,
                           float epsilon);
// Softmax over the last dimension; keep[last] per row is the job of the caller (add -1e30
// beforehand).
mra_tensor *mra_softmax(mra_tape *tape, mra_tensor *x);
// Batched product over equal leading dimensions: [..., m, k] x [..., k, n], either operand
// transposed.
mra_tensor *mra_matmul(mra_tape *tape, mra_tensor *a, bool transpose_a, mra_tensor *b,
                       bool transpose_b);
// out[i, :] = table[ids[i], :]; ids on the host, `count` of them, each in [0, rows). Result
// [count, width], or reshaped by the caller.
mra_tensor *mra_embedding(mra_tape *tape, mra_tensor *table, const int32_t *ids, size_t count);
// x[batch, n, width] + p[position(i), :] for the rows i of each sequence; positions NULL: 0 ..
// n-1.
mra_tensor *mra_add_positions(mra_tape *tape, mra_tensor *x, mra_tensor *table,
                              const int32_t *positions);
// Inverted dropout: keeps an entry with probability 1-p and divides by it. Identity when not
// training. `site` names the place in the network, so that every place draws its own numbers.
mra_tensor *mra_dropout(mra_tape *tape, mra_tensor *x, float p, uint32_t site);
// [batch, n, heads*d] -> [batch, heads, n, d], and back.
mra_tensor *mra_split_heads(mra_tape *tape, mra_tensor *x, int heads);
mra_tensor *mra_merge_heads(mra_tape *tape, mra_tensor *x);
// y = x with its dimensions `first` and `second` swapped, where x is read as
// [outer, first, second, inner]; y gets `shape`.
mra_tensor *mra_swap_middle(mra_tape *tape, mra_tensor *x, const int dimension[4], int rank,
                            const int *shape);
// Columns first .. first + count - 1 of x[..., columns], and x with zeros appended:
// [..., width] -> [..., count], width <= count.
mra_tensor *mra_columns(mra_tape *tape, mra_tensor *x, int first, int count);
mra_tensor *mra_pad_columns(mra_tape *tape, mra_tensor *x, int count);
// A view with another shape of the same size (data and gradient shared).
mra_tensor *mra_reshape(mra_tape *tape, mra_tensor *x, int rank, const int *shape);
// x[batch, n, width] * mask[batch, n] (0 or 1, host bytes; NULL: all ones).
mra_tensor *mra_apply_mask(mra_tape *tape, mra_tensor *x, const uint8_t *mask);
// Mean over the n positions: [batch, n, width] -> [batch, width]. mask NULL: over all positions
// (the paper's LRA code averages over padding too); otherwise over the unmasked ones.
mra_tensor *mra_mean_pool(mra_tape *tape, mra_tensor *x, const uint8_t *mask);
// Concatenation along the last dimension of up to 4 tensors with equal leading dimensions.
mra_tensor *mra_concat(mra_tape *tape, mra_tensor *const *parts, int count);
// Mean over rows of -log softmax(logits)[label]: logits[rows, classes], labels on the host; a
// negative label leaves the row out (no row left: 0). One element. *correct (may be NULL)
// receives how many rows have their largest logit at the label.
mra_tensor *mra_cross_entropy(mra_tape *tape, mra_tensor *logits, const int32_t *labels,
                              int *correct);

// Softmax attention over the pairs of `pattern` (tensor/block_pattern.h): z_i = sum of
// exp(logit_ij - lse_i) v_j, logits scale <q_i, k_j>, lse_i their log-sum-exp. q, k, v and the
// result are [batch, heads, n, d]; mask[batch, n] on the host (NULL: all ones) takes rows out on
// both sides. A row that is masked or has no pair gives 0. The pattern's arrays are the caller's
// and stay as they are until the tape is reset. *lse (may be NULL) receives lse as
// [batch, heads, n], on the tape too (-infinity where z is 0 for want of pairs).
mra_tensor *mra_block_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k, mra_tensor *v,
                                const mra_block_pattern *pattern, float scale,
                                const uint8_t *mask, mra_tensor **lse);

// ---- Random features ------------------------------------------------------------------------

// y[batch, heads, n, features] of x[batch, heads, n, d] for w[features, d], which holds s w_r and
// gets no gradient (tensor/features.h). mask[batch, n] on the host, or NULL. *shift receives (kinds
// KEY and KEY_ONE, [batch, heads, features]) or gives (kind QUERY) the shift of the keys, *log_scale receives
// [batch, heads, n] (kind QUERY; may be NULL); both carry no gradient.
mra_tensor *mra_features(mra_tape *tape, mra_tensor *x, mra_tensor *w,
                         const mra_feature_rule *rule, const uint8_t *mask, mra_tensor **shift,
                         mra_tensor **log_scale);
// [..., width + 1] -> [..., width]: each row divided by its last entry, 0 where that is 0.
mra_tensor *mra_divide_by_last(mra_tape *tape, mra_tensor *x);
// x[..., width] with a column of ones appended.
mra_tensor *mra_append_ones(mra_tape *tape, mra_tensor *x);
// x[batch, heads, n, width] with the rows of mask[batch, n] == 0 (host; NULL: none) set to 0.
mra_tensor *mra_mask_tokens(mra_tape *tape, mra_tensor *x, const uint8_t *mask);

// ---- Hierarchical attention -----------------------------------------------------------------

// z[batch, heads, n, d] from q, k, v of that shape, with logits <q_i, k_j> / sqrt(d) pooled over a
// hierarchy of blocks of `block` rows, 1 to MRA_HIERARCHY_BLOCK (tensor/hierarchy.h); n is padded to
// block times the smallest power of two that reaches it (published: four at least, and one level
// less than the hierarchy has). mask[batch, n] on the host, or NULL.
mra_tensor *mra_hierarchical_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k,
                                       mra_tensor *v, int block, bool published,
                                       const uint8_t *mask);

// y_i = sum over |i - j| > window of <a_i, b_j> c_j, for a, b[..., n, width], c, y[..., n, values]:
// linear attention without the pairs near the diagonal. Exact to rounding where all terms are
// positive: nothing is subtracted.
mra_tensor *mra_outside_band(mra_tape *tape, mra_tensor *a, mra_tensor *b, mra_tensor *c,
                             int window);
// The same sum over a band, -left <= j - i <= right; left and right at least 0.
mra_tensor *mra_inside_band(mra_tape *tape, mra_tensor *a, mra_tensor *b, mra_tensor *c,
                            int left, int right);
// One attention row of two parts, z[..., d] = (e^lse local + e^scale u) / (e^lse + e^scale t) with
// local[..., d], lse[...] (perhaps -infinity), sums[..., d+1] = (u, t), scale[...]; 0 where both
// parts are empty. A t below `least`, which is 0 or more, counts as `least`, without a gradient.
// `scale` is a constant to the gradient.
mra_tensor *mra_join(mra_tape *tape, mra_tensor *local, mra_tensor *lse, mra_tensor *sums,
                     mra_tensor *scale, float least);

// ---- Along sequences: x[batch, heads, n, d] -------------------------------------------------

// Depth-wise convolution over the sequence with filter[heads, taps], taps odd, zeros outside:
// y_i = sum_t filter[h, t] x_{i + t - taps/2}.
mra_tensor *mra_convolve_sequence(mra_tape *tape, mra_tensor *x, mra_tensor *filter);
// Means over the positions with segment[batch, n] == s (host): [batch, heads, segments, d]; 0 for a
// segment without any. A position with a number outside of [0, segments) is left out.
mra_tensor *mra_segment_mean(mra_tape *tape, mra_tensor *x, const int32_t *segment,
                             int segments);
// exp(-|x_i - c_j|^2 / 2) for x[..., n, d] and c[..., m, d], as [..., n, m].
mra_tensor *mra_gaussian(mra_tape *tape, mra_tensor *x, mra_tensor *c);
// Softmax over the entries j of x[batch, heads, rows, width] with keep[batch, width] != 0 (host; NULL: all);
// 0 elsewhere.
mra_tensor *mra_softmax_kept(mra_tape *tape, mra_tensor *x, const uint8_t *keep);

// ---- Towards an inverse: x[..., m, m] -------------------------------------------------------

// factor I - x.
mra_tensor *mra_identity_minus(mra_tape *tape, float factor, mra_tensor *x);
// scale x^T; `rule` an mra_inverse_rule (tensor/kernels.h), `joint`: one scale for all matrices. The gradient
// goes through the scale too.
mra_tensor *mra_inverse_guess(mra_tape *tape, mra_tensor *x, int rule, bool joint);
// Matrix by matrix (`joint`: all together) b if its entries are at most `limit` in absolute value, otherwise a.
mra_tensor *mra_keep_bounded(mra_tape *tape, mra_tensor *a, mra_tensor *b, float limit,
                             bool joint);

#endif
