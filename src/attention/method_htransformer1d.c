// # The row `htransformer1d`: attention through a hierarchy of blocks
//
// Near the diagonal the matrix of logits is taken as it is; farther away, where it is expected to be
// of low rank, a block of it is replaced by that of pooled queries and keys (Zhu & Soricut 2021,
// sections 4 and 6). With $\tilde Q^{(0)} = Q$ and, level by level,
// $$ \tilde Q^{(l+1)}_I = \tfrac12(\tilde Q^{(l)}_{2I} + \tilde Q^{(l)}_{2I+1}),\quad
//    \tilde K^{(l+1)} \text{ likewise},\quad
//    \tilde V^{(l+1)}_J = \tilde V^{(l)}_{2J} + \tilde V^{(l)}_{2J+1}, $$
// the $n$ tokens are cut into blocks of $b$ rows at each level. A block attends to itself at level 0,
// and at each level to its sibling, the other half of the block above; together these cover each pair
// of tokens once, at a level that grows with their distance. The matrices
// $e^{\tilde Q\tilde K^\top/\sqrt d}$ of all levels multiply the summed values, and, for the divisor,
// summed ones: the number of tokens under a key. Rows are handed from coarse levels to the tokens
// under them. A row's exponents are taken relative to the largest over all its levels, so that levels
// add up as they stand. Cost: $b$ keys a row and level, $2n + n/2 + n/4 + \dots$ rows.
//
// The paper's own scheme has level 0 tridiagonal: a block sees both neighbours exactly. The pairs of
// siblings are the simplification of the public code that the compared results were made with; a token
// at the edge of a block may then see a token beside it pooled with many others.
//
// A mean is taken over visible tokens, a masked token adds nothing to sums and counts; what is padded
// to reach $b\,2^M$ rows is masked.
//
// **As published** (`variant=published`) four things differ. The exponents of each level are taken
// relative to that level's own maximum and the levels added without undoing it: each level has a
// weight of about one whatever its logits. The divisor counts a pooled key once while its values are
// summed, so $z$ grows with the level. The levels end two short of the top instead of one: the two
// halves of the sequence never see one another. And a block of keys that is all padding adds $b$ to the
// divisor. (To which $10^{-8}$ is added besides.)
//
// One thing the public code does is not done in either variant. It masks values in the sums of
// levels 1 and up, but not those of level 0: a block of keys that is all padding, all of whose logits
// are equally low, hands the sum of its $b$ padding values to the tokens of its sibling. What these
// values are is the network's affair (the projection of the padding's embedding, or the projection's
// bias where the code itself padded), and an output that depends on them does not belong to the
// tokens. Here a masked value is 0 at level 0 as well: such a block adds to the divisor alone. Outputs
// differ from the public code's in blocks whose sibling is all padding.

#include <stdlib.h>

#include "attention/methods.h"
#include "tensor/hierarchy.h"

enum { BLOCK, VARIANT, OPTIONS };

static const mra_option options[] = {
    [BLOCK] = {"block", MRA_OPTION_INT, "16", 1, MRA_HIERARCHY_BLOCK, NULL,
               "rows of a block at every level"},
    [VARIANT] =
        {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
         "the formulas of the method's paper on pairs of siblings, or as the public code "
         "computes it"},
};

static const char *const description[] = {
    "Cuts the sequence into blocks of `block` rows. A block attends to itself exactly; at each "
    "level of a hierarchy, whose rows stand for 1, 2, 4, ... tokens, a block attends to its "
    "sibling through pooled queries and keys (means) and summed values. Every pair of tokens "
    "is "
    "covered once, the more coarsely the farther apart. Exponents are relative to a row's "
    "largest "
    "over all levels. n is padded to block times a power of two with tokens that nobody sees; "
    "means are over visible tokens.",
    "Level 0 pairs siblings, as the public code does; in the method's paper a block of level 0 "
    "sees both of its neighbours.",
    "variant=published: the public code subtracts each level's own maximum and adds the levels "
    "without undoing it; the divisor counts a pooled key once although its values are summed; "
    "the "
    "coarsest level is left out, so that the two halves of a sequence never see one another; a "
    "block of keys without a visible token adds `block` to the divisor; 1e-8 is added to it. "
    "The "
    "public code refuses fewer than four blocks; here such a sequence is padded to four. And "
    "one thing is left out: the public code does not mask values at level 0, so that a block "
    "of keys without a visible token adds the values of its padding to the tokens of its "
    "sibling; here masked values are 0 at every level, in both variants.",
    NULL};

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    *layer = malloc(sizeof **layer);
    if (!*layer) return mra_fail(err, MRA_NO_MEMORY, "htransformer1d: no memory for a layer");
    **layer = *base;
    return MRA_OK;
}

static void destroy(mra_attention_layer *layer)
{
    free(layer);
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    return mra_hierarchical_attention(tape, q, k, v, (int)layer->option[BLOCK].number,
                                      layer->option[VARIANT].number != 0, mask);
}

// Each row of a level has `block` logits, 2d each, exponentials, additions to the divisor, and
// products with values, 2d. A level's rows cost 4d each to make from two of Q, K and V (an addition
// for all, a factor for Q and K: 5d) and 2d to hand down.
static double operations(const mra_attention_layer *layer)
{
    const double d = layer->shape.d, block = layer->option[BLOCK].number;
    const bool published = layer->option[VARIANT].number != 0;
    double rows = block * (published ? 4 : 1), sum = 0;
    while (rows < layer->shape.n) rows *= 2;
    sum = rows * block * (4 * d + 2);
    for (double level = rows; level >= (published ? 4 : 2) * block; level /= 2)
        sum += level * block * (4 * d + 2) + (level < rows ? level * 7 * d : 0);
    return sum;
}

const mra_method mra_method_htransformer1d = {
    .name = "htransformer1d",
    .summary = "hierarchical attention: exact near the diagonal, pooled farther away",
    .time = "n block d",
    .memory = "n d",
    .source =
        "Zhu & Soricut, H-Transformer-1D: Fast one-dimensional hierarchical attention for "
        "sequences, ACL 2021",
    .description = description,
    .options = options,
    .option_count = OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = destroy,
    .operations = operations,
};
