// # YOSO: attention by sampling collisions
//
// You Only Sample (Almost) Once (Zeng, Xiong, Ravi, Acharya, Fung & Singh, ICML 2021) replaces
// $\exp(q^\top k)$ of unit vectors by the probability that $\tau$ random hyperplanes leave both
// on the same side,
//
// $$w(q, k) = \Big(1 - \frac{\arccos\langle q, k\rangle}{\pi}\Big)^\tau,$$
//
// which rises with $\langle q, k\rangle$ in much the same way, and which never has to be
// computed: the event itself can be drawn. A hash function is $\tau$ hyperplanes, its code the
// $\tau$ signs; $B_{ij} \in \{0, 1\}$ says whether the codes of $q_i$ and $k_j$ agree, and
// $E\,B_{ij} = w(q_i, k_j)$. Averaged over $m$ functions,
//
// $$x_i = \frac1m \sum_{h=1}^m \sum_j B^{(h)}_{ij} v_j, \qquad z_i = x_i / \|x_i\|,$$
//
// in time $O(n m (\tau + 1) d)$: each function adds the rows of $V$ into a table by the codes
// of $K$, and looks the codes of $Q$ up. There is no row sum to divide by; the length of the
// result is set to one instead.
//
// ## The way back
//
// $\partial x/\partial V$ is $B$ again, with the roles of queries and keys exchanged. Codes
// have no derivative. What is estimated is that of their expectation,
//
// $$w'(c) = \frac{\tau\,(1 - \arccos(c)/\pi)^{\tau-1}}{\pi\sqrt{1-c^2}},$$
//
// which is infinite at $c = 1$, where most collisions are. The paper goes back with a
// bound below it, $\frac\tau2 w(c) \le w'(c)$ (with $\varphi = \pi - \theta$ it says $\varphi
// \sin\varphi \le 2$). Being a multiple of $w$ it is estimated by the same collisions, with
// less variance:
//
// $$dq_i = \frac{\tau}{2m}\sum_{h,j} B^{(h)}_{ij}\,\langle dx_i, v_j\rangle\, k_j, \qquad
// dk_j = \frac{\tau}{2m}\sum_{h,i} B^{(h)}_{ij}\,\langle dx_i, v_j\rangle\, q_i .$$
//
// So the expectation of the gradient is not the gradient of the expectation (which
// `estimate=expectation` computes), but has $\frac\tau2 w$ in the place of $w'$: smaller, and
// of the same sign.
//
// ## The published code
//
// draws the hyperplanes from products of Hadamard matrices, anew in each pass, and goes back in
// another way: each pair that met in at least one of the $m$ functions counts *once*, with
// $w'(0.99\,c)$, whatever the probability that it met was. The expectation of that is $(1 - (1
// - w)^m)\,w'$, close to $w'$ itself where $w \gg 1/m$. (It also reads $w'$ from tables of 32
// numbers, which cap it at about $10\,\tau/\pi$, and where $n > 1024$ keeps one pair, drawn by
// chance, of those whose numbers agree modulo 1024; `variant=published` does neither.) Its
// expectation kernel uses $0.98\,c$, to stay clear of the slope at 1.

#include <math.h>
#include <stdlib.h>

#include "attention/convolution.h"
#include "attention/hashing.h"
#include "attention/methods.h"
#include "tensor/hash.h"

enum { HASHES, BITS, ESTIMATE, VARIANT, PLAIN_OPTIONS, CONV = PLAIN_OPTIONS, OPTIONS };
enum { SAMPLED, EXPECTATION };
enum { SPECIFIED, PUBLISHED };

static const mra_option options[] = {
    [HASHES] = {"hashes", MRA_OPTION_INT, "16", 1, 256, NULL, "hash functions to average over"},
    [BITS] = {"bits", MRA_OPTION_INT, "9", 1, 16, NULL,
              "hyperplanes of one function (tau of the paper)"},
    [ESTIMATE] = {"estimate", MRA_OPTION_CHOICE, "sampled", 0, 0, "sampled|expectation",
                  "draw collisions, or compute their probability for every pair"},
    [VARIANT] = {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
                 "as in the paper, or as the published code computes it"},
    [CONV] = MRA_CONVOLUTION_OPTION,
};

typedef struct yoso_layer {
    mra_attention_layer base; // first
    mra_hash_directions planes;
} yoso_layer;

static int option_of(const mra_attention_layer *layer, int which)
{
    return (int)layer->option[which].number;
}

static int learned(const mra_attention_layer *base,
                   mra_method_parameter parameter[MRA_METHOD_PARAMETERS])
{
    parameter[0] = mra_convolution_parameter(base);
    return 1;
}

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    mra_status status = mra_convolution_check(base, err);
    if (status != MRA_OK) return status;
    yoso_layer *yoso = calloc(1, sizeof *yoso);
    if (!yoso) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", base->method->name);
    yoso->base = *base;
    const int shape[4] = {base->shape.heads, option_of(base, HASHES), option_of(base, BITS),
                          base->shape.d};
    if (option_of(base, ESTIMATE) == SAMPLED)
        status = mra_hash_directions_create(&yoso->planes, base->device, shape,
                                            option_of(base, VARIANT) == PUBLISHED
                                                ? MRA_DIRECTIONS_HADAMARD
                                                : MRA_DIRECTIONS_NORMAL,
                                            base->seed, "yoso planes", err);
    if (status != MRA_OK) {
        free(yoso);
        return mra_fail_within(err, "%s", base->method->name);
    }
    *layer = &yoso->base;
    return MRA_OK;
}

static void destroy(mra_attention_layer *layer)
{
    yoso_layer *yoso = (yoso_layer *)layer;
    mra_hash_directions_free(&yoso->planes);
    free(yoso);
}

static int drawn(const mra_attention_layer *layer, mra_method_array array[MRA_METHOD_ARRAYS])
{
    const yoso_layer *yoso = (const yoso_layer *)layer;
    if (!yoso->planes.host) return 0;
    array[0] = mra_hash_directions_array(&yoso->planes, "planes");
    return 1;
}

// x of the equations above from masked q, k, v.
static mra_tensor *sampled(const yoso_layer *yoso, mra_tape *tape, mra_tensor *const x[3],
                           const uint8_t *mask)
{
    const mra_shape shape = yoso->base.shape;
    const bool published = option_of(&yoso->base, VARIANT) == PUBLISHED;
    const int bits = option_of(&yoso->base, BITS);
    const mra_hash_form form = {.batch = (size_t)shape.batch,
                                .heads = shape.heads,
                                .n = shape.n,
                                .d = shape.d,
                                .hashes = option_of(&yoso->base, HASHES),
                                .width = bits,
                                .codes = 1 << bits};
    const mra_collision_rule rule = {
        .derivative = published, .power = bits, .shrink = published ? 0.99f : 1.0f};
    const uint8_t *kept =
        mask ? mra_tape_upload(tape, mask, (size_t)shape.batch * (size_t)shape.n) : NULL;
    if (mask && !kept) return NULL;
    const int32_t *code[2];
    for (int i = 0; i < 2; i++)
        code[i] = mra_hash_by_signs(tape, x[i], &form, yoso->planes.data, kept);
    return mra_collision_attention(tape, mra_unit_rows(tape, x[0]), mra_unit_rows(tape, x[1]),
                                   x[2], &form, &rule, code[0], code[1]);
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    const yoso_layer *yoso = (const yoso_layer *)layer;
    mra_tensor *const given[3] = {q, k, v};
    mra_tensor *x[3];
    for (int i = 0; i < 3; i++) x[i] = mra_mask_tokens(tape, given[i], mask);
    mra_tensor *sum;
    if (option_of(layer, ESTIMATE) == SAMPLED) {
        sum = sampled(yoso, tape, x, mask);
    } else {
        const float shrink = option_of(layer, VARIANT) == PUBLISHED ? 0.98f : 1.0f;
        sum = mra_angular_attention(tape, mra_unit_rows(tape, x[0]), mra_unit_rows(tape, x[1]),
                                    x[2], option_of(layer, BITS), shrink);
        sum = mra_mask_tokens(tape, sum, mask);
    }
    mra_tensor *z = mra_unit_rows(tape, sum);
    if (!layer->parameters) return z;
    return mra_add_convolution(tape, z, x[2], layer->parameter[0], mask);
}

// Unit rows three times; projections of q and k and two row additions a function, or two
// products over all pairs, an arc cosine and a power.
static double operations(const mra_attention_layer *layer)
{
    const double n = layer->shape.n, d = layer->shape.d;
    const double hashes = option_of(layer, HASHES), bits = option_of(layer, BITS);
    const double unit = 3 * 3 * n * d + mra_convolution_operations(layer);
    if (option_of(layer, ESTIMATE) == SAMPLED)
        return unit + 4 * n * d * hashes * bits + 2 * n * d * hashes;
    return unit + n * n * (4 * d + 1 + bits);
}

static const char *const description[] = {
    "The weight of a pair of tokens is the probability that random hyperplanes (bits of them) "
    "leave "
    "the unit vectors q and k on the same side, (1 - arccos(q.k)/pi)^bits. estimate=sampled "
    "draws "
    "the hyperplanes hashes times and averages over the collisions of the codes; "
    "estimate=expectation computes the probabilities, in quadratic time. The result is divided "
    "by its Euclidean norm; a token whose code no key shares gets 0.",
    "Gradients of q and k: with estimate=sampled the paper's estimate from the pairs that "
    "collided, whose expectation has bits/2 times the weight in the place of its derivative; "
    "with "
    "estimate=expectation the exact gradient.",
    "variant=published: hyperplanes from three rounds of signs and Hadamard matrices (vectors "
    "padded with zeros to a power of two), whose bits are not independent; each pair that "
    "collided at least once "
    "contributes to the gradients of q and k once, with the derivative of the weight at 0.99 "
    "q.k. "
    "With estimate=expectation, the weights are those of 0.98 q.k.",
    "yoso-conv adds a depth-wise convolution of the values over the sequence, one learned "
    "filter a "
    "head, after the division by the norm.",
    "The published code draws new hyperplanes in each pass; here a layer draws its own when it "
    "is "
    "made, from the seed, and keeps them. Its kernels also interpolate the derivative in a "
    "table "
    "that caps it and, for n > 1024, leave out pairs at random; neither is done here.",
    NULL};

static const char source[] =
    "Zeng, Xiong, Ravi, Acharya, Fung & Singh, You only sample (almost) once: linear cost "
    "self-attention via Bernoulli sampling, ICML 2021, arXiv 2111.09714";

const mra_method mra_method_yoso = {
    .name = "yoso",
    .summary = "Bernoulli sampling of attention weights by hash collisions",
    .time = "n hashes bits d",
    .memory = "n hashes + n d",
    .source = source,
    .description = description,
    .options = options,
    .option_count = PLAIN_OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = destroy,
    .drawn = drawn,
    .operations = operations,
};

const mra_method mra_method_yoso_conv = {
    .name = "yoso-conv",
    .summary = "yoso and a depth-wise convolution of the values",
    .time = "n hashes bits d + n taps d",
    .memory = "n hashes + n d",
    .source = source,
    .description = description,
    .options = options,
    .option_count = OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = destroy,
    .learned = learned,
    .drawn = drawn,
    .operations = operations,
};
