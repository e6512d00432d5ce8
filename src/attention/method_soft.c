// # SOFT
//
// Lu, Yao, Zhang, Zhu, Xu, Gao, Xu, Xiang & Zhang, "SOFT: softmax-free transformer with linear complexity" (NeurIPS 2021),
// leave the softmax out. With one projection for queries and keys, the kernel
//
// $$ S_{ij}=\exp\bigl(-\lVert q_i-q_j\rVert^2/(2\sqrt d)\bigr) $$
//
// is symmetric and positive, which is what the Nyström method asks of a matrix, and
//
// $$ Z=C\,P^{-1}C^\top V,\qquad C_{is}=\exp(-\lVert q_i-\ell_s\rVert^2/2),\quad P_{st}=\exp(-\lVert\ell_s-\ell_t\rVert^2/2), $$
//
// with $q$ already divided by $d^{1/4}$. The landmarks $\ell$ are learned: a strided convolution over the sequence (a
// window of $r$ tokens each, without overlap), LayerNorm, GELU. No row of $Z$ is normalised. The inverse is Newton's
// iteration (attention/pseudo_inverse.h). The keys $K$ that a caller hands over are not used; their gradient is 0.
// `soft-conv` adds a depth-wise convolution of $V$.
//
// This is an attention of its own, not an approximation of softmax attention: its error against that says
// how far apart the two are.
//
// **Lengths and padding.** $r=\lceil \text{positions}/m\rceil$ is fixed by the longest sequence that the convolution is made for;
// a shorter one has fewer landmarks, the last of them from a window filled up with zeros. Padding is zero in the windows
// and has no row in $C$; a landmark whose window holds no token is left out of $C$ and alone in $P$. So
// padding at the end is the same as a shorter sequence.
//
// **The published code** (`variant=published`) counts windows of padding as landmarks (all at $\mathrm{GELU}(\beta)$, several
// of them equal, which makes $P$ singular and stops the iteration early), and starts Newton's iteration where it may not move
// (attention/pseudo_inverse.c), with one scale and one decision to stop for all heads and examples of a batch. Its gradient, like ours, is that of the
// iterations; the method's paper gives the gradient of the exact inverse instead, to which it converges.

#include <math.h>
#include <string.h>

#include "attention/convolution.h"
#include "attention/methods.h"
#include "attention/plain.h"
#include "attention/pseudo_inverse.h"

enum { LANDMARKS, ITERATIONS, VARIANT, PLAIN_OPTIONS, CONV = PLAIN_OPTIONS, OPTIONS };
static const mra_option options[OPTIONS] = {
    [LANDMARKS] = {"landmarks", MRA_OPTION_INT, "64", 1, 4096, NULL,
                   "windows of the longest sequence, each a landmark"},
    [ITERATIONS] = {"iterations", MRA_OPTION_INT, "20", 1, 64, NULL,
                    "steps of Newton's iteration, at most"},
    [VARIANT] = {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
                 "published: windows of padding count, the published start of the iteration"},
    [CONV] = MRA_CONVOLUTION_OPTION,
};
enum { WINDOW, GAIN, SHIFT, FILTER }; // learned

static bool published(const mra_attention_layer *layer)
{
    return layer->option[VARIANT].number == 1;
}

static int up(int a, int b)
{
    return (a + b - 1) / b;
}

// Tokens of a window: positions / landmarks, rounded up.
static int window_of(const mra_attention_layer *layer)
{
    return up(layer->positions, (int)layer->option[LANDMARKS].number);
}

static int learned(const mra_attention_layer *base,
                   mra_method_parameter parameter[MRA_METHOD_PARAMETERS])
{
    const int d = base->shape.d, r = window_of(base);
    parameter[WINDOW] = (mra_method_parameter){.name = "window",
                                               .rank = 3,
                                               .shape = {d, r, d},
                                               .deviation = (float)(1 / sqrt(3.0 * d * r))};
    parameter[GAIN] =
        (mra_method_parameter){.name = "gain", .rank = 1, .shape = {d}, .mean = 1};
    parameter[SHIFT] = (mra_method_parameter){.name = "shift", .rank = 1, .shape = {d}};
    if (base->method->option_count <= CONV) return FILTER;
    parameter[FILTER] = mra_convolution_parameter(base);
    return FILTER + 1;
}

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    mra_status status = mra_convolution_check(base, err);
    return status == MRA_OK ? mra_plain_create(layer, base, err) : status;
}

// ---- Landmarks ------------------------------------------------------------------------------

// q[batch, heads, n, d], zero at padding, to [batch, heads, m, d]: each window of r rows times the learned
// matrix [d, r d], LayerNorm, GELU.
static mra_tensor *make_landmarks(const mra_attention_layer *layer, mra_tape *tape,
                                  mra_tensor *q, int m)
{
    const mra_shape shape = layer->shape;
    const int r = window_of(layer), d = shape.d, groups = shape.batch * shape.heads;
    mra_tensor *rows = mra_reshape(tape, q, 2, (int[]){groups, shape.n * d});
    rows = mra_pad_columns(tape, rows, m * r * d);
    rows = mra_reshape(tape, rows, 2, (int[]){groups * m, r * d});
    mra_tensor *window = mra_reshape(tape, layer->parameter[WINDOW], 2, (int[]){d, r * d});
    mra_tensor *mixed = mra_linear(tape, rows, window, NULL);
    mra_tensor *normal =
        mra_layer_norm(tape, mixed, layer->parameter[GAIN], layer->parameter[SHIFT], 1e-5f);
    return mra_reshape(tape, mra_gelu(tape, normal), 4,
                       (int[]){shape.batch, shape.heads, m, d});
}

// keep[batch, m]: whether a window holds any token; NULL where all do.
static uint8_t *kept_windows(const mra_attention_layer *layer, mra_tape *tape,
                             const uint8_t *mask, int m)
{
    const mra_shape shape = layer->shape;
    const int r = window_of(layer);
    if (!mask || published(layer)) return NULL;
    uint8_t *keep = mra_tape_alloc(tape, (size_t)shape.batch * (size_t)m);
    if (!keep) return NULL;
    memset(keep, 0, (size_t)shape.batch * (size_t)m);
    for (int b = 0; b < shape.batch; b++)
        for (int i = 0; i < shape.n; i++)
            if (mask[b * shape.n + i]) keep[b * m + i / r] = 1;
    return keep;
}

// x[batch, heads, rows, m] with 0 in the columns of landmarks that are not kept and, if `square`, in their
// rows but for a 1 on the diagonal.
static mra_tensor *leave_out(const mra_attention_layer *layer, mra_tape *tape, mra_tensor *x,
                             const uint8_t *keep, bool square)
{
    if (!x || !keep) return x;
    const int rows = x->shape[2], m = x->shape[3];
    float *inside = mra_tape_alloc(tape, x->size * sizeof *inside);
    float *alone = mra_tape_alloc(tape, x->size * sizeof *alone);
    if (!inside || !alone) return NULL;
    for (size_t e = 0; e < x->size; e++) {
        const size_t i = e / (size_t)m % (size_t)rows, j = e % (size_t)m;
        const uint8_t *kept =
            keep + e / ((size_t)m * (size_t)rows) / (size_t)layer->shape.heads * (size_t)m;
        inside[e] = kept[j] && (!square || kept[i]);
        alone[e] = square && i == j && !kept[i];
    }
    const size_t bytes = x->size * sizeof(float);
    float *inside_data = mra_tape_upload(tape, inside, bytes);
    float *alone_data = mra_tape_upload(tape, alone, bytes);
    if (!inside_data || !alone_data) return NULL;
    x = mra_multiply(tape, x, mra_wrap(tape, 4, x->shape, inside_data, NULL));
    return square && x ? mra_add(tape, x, mra_wrap(tape, 4, x->shape, alone_data, NULL)) : x;
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    (void)k; // queries serve as keys
    const int m = up(layer->shape.n, window_of(layer));
    const double scale = 1 / sqrt(sqrt(layer->shape.d));
    const uint8_t *keep = kept_windows(layer, tape, mask, m);
    q = mra_mask_heads(tape, mra_scale(tape, q, (float)scale), mask);
    mra_tensor *landmarks = make_landmarks(layer, tape, q, m);
    mra_tensor *outer = leave_out(layer, tape, mra_gaussian(tape, q, landmarks), keep, false);
    outer = mra_mask_heads(tape, outer, mask);
    mra_tensor *inner =
        leave_out(layer, tape, mra_gaussian(tape, landmarks, landmarks), keep, true);
    inner = mra_newton_inverse(tape, inner, (int)layer->option[ITERATIONS].number,
                               published(layer));
    mra_tensor *values = mra_matmul(tape, outer, true, v, false);
    mra_tensor *z =
        mra_matmul(tape, outer, false, mra_matmul(tape, inner, false, values, false), false);
    mra_tensor *filter = layer->parameters > FILTER ? layer->parameter[FILTER] : NULL;
    return mra_add_convolution(tape, z, v, filter, mask);
}

static double operations(const mra_attention_layer *layer)
{
    const double n = layer->shape.n, d = layer->shape.d,
                 m = up(layer->shape.n, window_of(layer));
    const double steps = layer->option[ITERATIONS].number;
    return 2 * n * d * d + 3 * n * m * d + n * m + 4 * n * m * d + 3 * m * m * d +
           steps * 4 * m * m * m + mra_convolution_operations(layer);
}

static const char *const description[] = {
    "Attention with a Gaussian kernel in the place of the softmax, and queries in the place of "
    "keys, by the Nystroem method: "
    "C P^-1 C^T V with C between queries and landmarks, P between landmarks. Landmarks come "
    "from windows of the sequence "
    "through a learned convolution, LayerNorm and GELU; P is inverted by at most 20 steps of "
    "Newton's iteration. Rows are "
    "not normalised. The keys that are handed over are not used.",
    "The published code counts windows of padding as landmarks and shares the iteration's "
    "scale and its end between all "
    "heads and examples of a batch (variant=published).",
    "soft-conv adds a depth-wise convolution of the values over the sequence, one learned "
    "filter a head.",
    NULL};

static const char source[] =
    "Lu, Yao, Zhang, Zhu, Xu, Gao, Xu, Xiang & Zhang, SOFT: softmax-free transformer with "
    "linear complexity, NeurIPS 2021, arXiv 2110.11945";

const mra_method mra_method_soft = {
    .name = "soft",
    .summary = "a Gaussian kernel without softmax, around learned landmarks",
    .time = "n m d + n d^2 + m^3",
    .memory = "n m + n d",
    .source = source,
    .description = description,
    .options = options,
    .option_count = PLAIN_OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = mra_plain_destroy,
    .learned = learned,
    .operations = operations,
};

const mra_method mra_method_soft_conv = {
    .name = "soft-conv",
    .summary = "soft and a depth-wise convolution of the values",
    .time = "n m d + n d^2 + m^3 + n taps d",
    .memory = "n m + n d",
    .source = source,
    .description = description,
    .options = options,
    .option_count = OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = mra_plain_destroy,
    .learned = learned,
    .operations = operations,
};
