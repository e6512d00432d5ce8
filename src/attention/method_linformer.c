// # Linformer
//
// Wang, Li, Khabsa, Fang & Ma, "Linformer: self-attention with linear complexity" (2020), observe that softmax
// attention matrices are near to low rank, and learn the rows that matter: a projection $E\in\mathbb R^{k\times n}$ mixes
// the $n$ keys (and values) into $k$,
//
// $$ Z=\operatorname{softmax}\bigl(Q\,(EK)^\top/\sqrt d\bigr)\,EV , $$
//
// at a cost of $O(nkd)$ time and $O(nk)$ memory. The paper allows projections of their own for keys and values, for heads and
// layers, and finds little difference; here each head has one, shared by its keys and values.
//
// $E$ belongs to *positions*: a network that was trained with $n$ positions serves shorter sequences with the first columns
// of $E$, and none that are longer. Padding is set to zero before it is mixed; so padding at the end
// is the same as a shorter sequence.
//
// The published code shares one $E$ between all layers as well (`variant=published`); what a layer computes
// is the same. Both start from $N(0,1/k)$.

#include <math.h>

#include "attention/methods.h"
#include "attention/plain.h"

enum { K, VARIANT, OPTIONS };
static const mra_option options[OPTIONS] = {
    [K] = {"k", MRA_OPTION_INT, "256", 1, 65536, NULL,
           "rows that keys and values are mixed into"},
    [VARIANT] = {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
                 "published: a network's layers share one projection"},
};

static int learned(const mra_attention_layer *base,
                   mra_method_parameter parameter[MRA_METHOD_PARAMETERS])
{
    const int k = (int)base->option[K].number;
    parameter[0] =
        (mra_method_parameter){.name = "projection",
                               .rank = 3,
                               .shape = {base->shape.heads, k, base->positions},
                               .deviation = (float)(1 / sqrt(k)),
                               .shared_by_layers = base->option[VARIANT].number == 1};
    return 1;
}

// E x for all examples at once: x[batch, heads, n, d] becomes [heads, n, batch d], so that E is multiplied once.
static mra_tensor *project(mra_tape *tape, mra_shape shape, mra_tensor *projection,
                           mra_tensor *x)
{
    const int k = projection ? projection->shape[1] : 0;
    const int heads = shape.heads, n = shape.n, d = shape.d, batch = shape.batch;
    mra_tensor *wide = mra_swap_middle(tape, x, (int[]){1, batch, heads * n, d}, 3,
                                       (int[]){heads, n, batch * d});
    mra_tensor *mixed = mra_matmul(tape, projection, false, wide, false);
    return mra_swap_middle(tape, mixed, (int[]){1, heads * k, batch, d}, 4,
                           (int[]){batch, heads, k, d});
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    const mra_shape shape = layer->shape;
    mra_tensor *projection = mra_columns(tape, layer->parameter[0], 0, shape.n);
    mra_tensor *keys = project(tape, shape, projection, mra_mask_heads(tape, k, mask));
    mra_tensor *values = project(tape, shape, projection, mra_mask_heads(tape, v, mask));
    mra_tensor *scaled = mra_scale(tape, keys, (float)(1 / sqrt(shape.d)));
    mra_tensor *weights = mra_softmax(tape, mra_matmul(tape, q, false, scaled, true));
    return mra_mask_heads(tape, mra_matmul(tape, weights, false, values, false), mask);
}

// The projection twice, logits, exponentials and sums, and the product with the values.
static double operations(const mra_attention_layer *layer)
{
    const double n = layer->shape.n, d = layer->shape.d, k = layer->option[K].number;
    return 4 * k * n * d + 4 * n * k * d + 2 * n * k;
}

static const char *const description[] = {
    "Keys and values are mixed over positions by a learned matrix E (k x n) of each head, and "
    "every query "
    "attends to the k mixed keys: softmax(Q (E K)^T / sqrt(d)) E V. E serves sequences up to "
    "the length it was "
    "made for.",
    "The published code shares one E between all layers of a network (variant=published).",
    NULL};

const mra_method mra_method_linformer = {
    .name = "linformer",
    .summary = "keys and values mixed over positions by a learned projection",
    .time = "n k d",
    .memory = "n k",
    .source = "Wang, Li, Khabsa, Fang & Ma, Linformer: self-attention with linear complexity, "
              "2020, arXiv 2006.04768",
    .description = description,
    .options = options,
    .option_count = OPTIONS,
    .create = mra_plain_create,
    .apply = apply,
    .destroy = mra_plain_destroy,
    .learned = learned,
    .operations = operations,
};
