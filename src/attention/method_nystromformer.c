// # Nyströmformer
//
// Xiong, Zeng, Chakraborty, Tan, Fung, Li & Singh, "Nyströmformer: a Nyström-based algorithm for approximating
// self-attention" (AAAI 2021). A matrix of rank $m$ is known from $m$ of its rows and columns. Softmax attention is not
// such a matrix, and its rows cannot be had without the whole of it; but with *landmarks*
// $\tilde Q,\tilde K$, the means of $m$ segments of the sequence, three small softmax matrices can:
//
// $$ Z=\underbrace{\operatorname{softmax}\bigl(Q\tilde K^\top/\sqrt d\bigr)}_{n\times m}\;
//    \Bigl[\underbrace{\operatorname{softmax}\bigl(\tilde Q\tilde K^\top/\sqrt d\bigr)}_{m\times m}\Bigr]^{+}\;
//    \underbrace{\operatorname{softmax}\bigl(\tilde QK^\top/\sqrt d\bigr)}_{m\times n}\;V , $$
//
// multiplied from the right, $O(nmd)$. The pseudo-inverse is six steps of an iteration
// (attention/pseudo_inverse.h). `nystromformer-conv` adds a depth-wise convolution of $V$ over the sequence, one filter
// a head: it passes on what is local, which segment means blur.
//
// **Lengths and padding.** Segment $s$ of an example of $\nu$ tokens holds its tokens $\lfloor s\nu/m\rfloor$ to
// $\lfloor(s+1)\nu/m\rfloor-1$, padding not counted: as even as can be, and the same as if the padding was deleted. An
// example with fewer tokens than landmarks has segments without any; such a landmark gets no weight in the
// outer two matrices, and in the middle one stands alone, $I$ on its own, where the pseudo-inverse
// leaves it.
//
// **The published code** (`variant=published`) reshapes the sequence into $m$ equal segments, padding included as zeros:
// $n$ must be a multiple of $m$, and short examples have landmarks near 0 which take
// weight. Its pseudo-inverse starts from one scale for all heads and examples of a batch, so that
// an output depends on what else is in the batch. With as many landmarks as positions it leaves the
// method and computes softmax attention. It takes $10^9$ from the logits of masked keys, where here
// they are left out: the same in float32 unless logits are as large.

#include <math.h>
#include <string.h>

#include "attention/convolution.h"
#include "attention/methods.h"
#include "attention/plain.h"
#include "attention/pseudo_inverse.h"

enum { LANDMARKS, ITERATIONS, VARIANT, PLAIN_OPTIONS, CONV = PLAIN_OPTIONS, OPTIONS };
static const mra_option options[OPTIONS] = {
    [LANDMARKS] = {"landmarks", MRA_OPTION_INT, "64", 1, 4096, NULL,
                   "segments whose means stand for the sequence (at most n)"},
    [ITERATIONS] = {"iterations", MRA_OPTION_INT, "6", 1, 64, NULL,
                    "steps of the pseudo-inverse"},
    [VARIANT] = {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
                 "published: equal segments of n with padding, one scale for the batch"},
    [CONV] = MRA_CONVOLUTION_OPTION,
};

static bool published(const mra_attention_layer *layer)
{
    return layer->option[VARIANT].number == 1;
}

static int landmarks_of(const mra_attention_layer *layer)
{
    const int wanted = (int)layer->option[LANDMARKS].number;
    return wanted < layer->shape.n ? wanted : layer->shape.n;
}

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    const int n = base->shape.n, m = landmarks_of(base);
    if (published(base) && n % m != 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: landmarks=%d, variant=published: n = %d is not a multiple of it",
                        base->method->name, m, n);
    mra_status status = mra_convolution_check(base, err);
    return status == MRA_OK ? mra_plain_create(layer, base, err) : status;
}

// Which segment each token belongs to, segment[batch, n]: -1 for padding.
static int32_t *segments_of(const mra_attention_layer *layer, mra_tape *tape,
                            const uint8_t *mask, const int *tokens, int m)
{
    const mra_shape shape = layer->shape;
    int32_t *segment =
        mra_tape_alloc(tape, (size_t)shape.batch * (size_t)shape.n * sizeof *segment);
    for (int b = 0; segment && b < shape.batch; b++) {
        int64_t seen = 0;
        for (int i = 0; i < shape.n; i++) {
            int32_t *at = &segment[b * shape.n + i];
            const bool token = !mask || mask[b * shape.n + i];
            // The s with floor(s tokens / m) <= seen < floor((s + 1) tokens / m).
            *at = (int32_t)(((seen + 1) * m - 1) / (tokens[b] ? tokens[b] : 1));
            if (published(layer)) *at = i / (shape.n / m);
            if (!token && !published(layer)) *at = -1;
            seen += token;
        }
    }
    return segment;
}

// keep[batch, m]: whether a landmark stands for any token; NULL where all do.
static uint8_t *kept_landmarks(const mra_attention_layer *layer, mra_tape *tape,
                               const int32_t *segment, int m)
{
    const mra_shape shape = layer->shape;
    uint8_t *keep = mra_tape_alloc(tape, (size_t)shape.batch * (size_t)m);
    int count = 0;
    if (!keep || !segment) return NULL;
    memset(keep, 0, (size_t)shape.batch * (size_t)m);
    for (int i = 0; i < shape.batch * shape.n; i++)
        if (segment[i] >= 0) {
            uint8_t *at = &keep[i / shape.n * m + segment[i]];
            count += !*at;
            *at = 1;
        }
    return count == shape.batch * m ? NULL : keep;
}

// The softmax between landmarks. One that stands for no token is alone with itself.
static mra_tensor *middle(const mra_attention_layer *layer, mra_tape *tape, mra_tensor *logits,
                          const uint8_t *keep, int m)
{
    mra_tensor *weights = mra_softmax_kept(tape, logits, keep);
    if (!keep || !weights) return weights;
    const int heads = layer->shape.heads, groups = layer->shape.batch * heads;
    const size_t size = (size_t)groups * (size_t)m * (size_t)m;
    float *inside = mra_tape_alloc(tape, size * sizeof *inside);
    float *alone = mra_tape_alloc(tape, size * sizeof *alone);
    if (!inside || !alone) return NULL;
    for (size_t e = 0; e < size; e++) {
        const size_t i = e / (size_t)m % (size_t)m, j = e % (size_t)m;
        const uint8_t *kept = keep + e / ((size_t)m * (size_t)m) / (size_t)heads * (size_t)m;
        inside[e] = kept[i] && kept[j];
        alone[e] = i == j && !kept[i];
    }
    const int *shape = weights->shape;
    float *inside_data = mra_tape_upload(tape, inside, size * sizeof *inside);
    float *alone_data = mra_tape_upload(tape, alone, size * sizeof *alone);
    if (!inside_data || !alone_data) return NULL;
    weights = mra_multiply(tape, weights, mra_wrap(tape, 4, shape, inside_data, NULL));
    return mra_add(tape, weights, mra_wrap(tape, 4, shape, alone_data, NULL));
}

// softmax(q k^T / sqrt d) v, and the convolution; q is scaled.
static mra_tensor *apply_exactly(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                                 mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    mra_tensor *weights = mra_softmax_kept(tape, mra_matmul(tape, q, false, k, true), mask);
    mra_tensor *z = mra_matmul(tape, weights, false, v, false);
    return mra_add_convolution(tape, z, v, layer->parameter[0], mask);
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    const int m = landmarks_of(layer);
    int *tokens = mra_tape_alloc(tape, sizeof *tokens * (size_t)layer->shape.batch);
    if (!tokens) return NULL;
    mra_count_tokens(layer->shape, mask, tokens);
    const int32_t *segment = segments_of(layer, tape, mask, tokens, m);
    if (!segment) return NULL;
    const uint8_t *keep = kept_landmarks(layer, tape, segment, m);
    q = mra_mask_heads(tape, mra_scale(tape, q, (float)(1 / sqrt(layer->shape.d))), mask);
    k = mra_mask_heads(tape, k, mask);
    if (published(layer) && m == layer->shape.n)
        return apply_exactly(layer, tape, q, k, v, mask);
    mra_tensor *queries = mra_segment_mean(tape, q, segment, m);
    mra_tensor *keys = mra_segment_mean(tape, k, segment, m);
    mra_tensor *left = mra_softmax_kept(tape, mra_matmul(tape, q, false, keys, true), keep);
    mra_tensor *inner =
        middle(layer, tape, mra_matmul(tape, queries, false, keys, true), keep, m);
    mra_tensor *right = mra_softmax_kept(tape, mra_matmul(tape, queries, false, k, true), mask);
    mra_tensor *values = mra_matmul(tape, right, false, v, false);
    inner = mra_pseudo_inverse(tape, inner, (int)layer->option[ITERATIONS].number,
                               published(layer));
    mra_tensor *z =
        mra_matmul(tape, left, false, mra_matmul(tape, inner, false, values, false), false);
    return mra_add_convolution(tape, z, v, layer->parameter[0], mask);
}

static double operations(const mra_attention_layer *layer)
{
    const double n = layer->shape.n, d = layer->shape.d, m = landmarks_of(layer);
    const double steps = layer->option[ITERATIONS].number;
    if (published(layer) && m == n)
        return n * n * (4 * d + 2) + mra_convolution_operations(layer);
    return 8 * n * m * d + 4 * n * m + 4 * m * m * d + steps * 8 * m * m * m +
           mra_convolution_operations(layer);
}

static int learned(const mra_attention_layer *base,
                   mra_method_parameter parameter[MRA_METHOD_PARAMETERS])
{
    parameter[0] = mra_convolution_parameter(base);
    return 1;
}

static const char *const description[] = {
    "The Nystroem method with the means of m segments of the sequence as landmarks: three "
    "softmax matrices, of all "
    "queries with the landmarks, of the landmarks with each other (pseudo-inverted by six "
    "steps of an iteration of third "
    "order), and of the landmarks with all keys. Segments are as even as can be over the "
    "tokens of an example, "
    "padding left out; with fewer tokens than landmarks some landmarks are left out too.",
    "The published code cuts n, padding included, into m equal segments, and starts all "
    "pseudo-inverses of a batch "
    "from one scale; with as many landmarks as positions it computes softmax attention "
    "(variant=published).",
    "nystromformer-conv adds a depth-wise convolution of the values over the sequence, one "
    "learned filter a head.",
    NULL};

static const char source[] =
    "Xiong, Zeng, Chakraborty, Tan, Fung, Li & Singh, Nystroemformer: a Nystroem-based "
    "algorithm for approximating self-attention, AAAI 2021, arXiv 2102.03902";

const mra_method mra_method_nystromformer = {
    .name = "nystromformer",
    .summary = "three softmax matrices around the means of m segments",
    .time = "n m d + m^3",
    .memory = "n m + n d",
    .source = source,
    .description = description,
    .options = options,
    .option_count = PLAIN_OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = mra_plain_destroy,
    .operations = operations,
};

const mra_method mra_method_nystromformer_conv = {
    .name = "nystromformer-conv",
    .summary = "nystromformer and a depth-wise convolution of the values",
    .time = "n m d + m^3 + n taps d",
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
