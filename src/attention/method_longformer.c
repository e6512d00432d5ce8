// # Longformer: a sliding window and a few global tokens
//
// Most of what a token attends to is near it, and a few tokens have to see, and be seen by, all
// (Beltagy, Peters & Cohan, "Longformer: the long-document transformer", 2020, arXiv 2004.05150,
// sections 3.1 and 3.2). With a window of $w$ and $g$ global tokens, which are the first ones, row
// $i$ of the attention matrix is a softmax over
//
// $$S_i = \{\, j : |i - j| \le \lfloor w/2\rfloor \ \text{or}\ i < g\ \text{or}\ j < g \,\},$$
//
// so that every token sees $w/2$ tokens on either side and itself. The cost is $n(w + 1 + g) + gn$
// pairs instead of $n^2$.
//
// The pairs are those of lists of blocks of queries and keys (block_lists.c), at the usual $w = 64$
// blocks of 32, of which a block of queries meets four: 128 logits a query, of which 66 count.
//
// ## What the published code does
//
// The code published with the MRA paper (old_code/LRA/encoders/longformer.py) sets up
// LongformerSelfAttention of the library `transformers` with attention_window = window_size, of
// which that library gives half to each side: the same $S_i$, with the first token global where
// first_token_view is set, as it is in all its settings. Differences that remain:
//
// - Longformer has a second set of projections for the queries, keys and values of global tokens.
//   The published code makes them the same parameters as the first set, so that they are no second
//   set. Attention here is given one Q, K, V, and computes the same.
// - That library adds $-10^4$ to the logit of a pair that is masked, where here the pair is left
//   out: the same number in float32 unless logits differ by thousands. It treats the first token
//   as global even where it is padding, which does not happen.
// - It drops weights of the attention matrix with probability 0.1 in training (the library's
//   default, which the published code does not change). Of the other methods of the comparison
//   exact attention alone has that (method_exact.c); it is not done here.
// - It requires a length that is a multiple of the window; here any will do.

#include <math.h>
#include <stdlib.h>

#include "attention/block_lists.h"
#include "attention/methods.h"

enum { WINDOW, GLOBAL, OPTIONS };

static const mra_option options[] = {
    [WINDOW] = {"window", MRA_OPTION_INT, "64", 0, 1 << 20, NULL,
                "tokens around each that it attends to, half on either side, besides itself"},
    [GLOBAL] = {"global", MRA_OPTION_INT, "1", 0, 1 << 20, NULL,
                "first tokens that attend to all and are attended to by all"},
};

static const char *const description[] = {
    "Token i attends to the tokens j with |i - j| <= window/2, and the first `global` tokens "
    "attend to all and are attended to by all: softmax(QK^T/sqrt d) over those pairs.",
    "The published code computes the same: window_size is the width of the whole window, half "
    "on "
    "either side, and the separate projections of global tokens that Longformer has are tied "
    "to "
    "the usual ones. In training it also drops attention weights with probability 0.1 (a "
    "default "
    "of the library that it calls), which is not done here; and it wants lengths that are "
    "multiples of the window, which are not needed here.",
    NULL};

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    const int side = (int)base->option[WINDOW].number / 2;
    mra_block_layer *self = calloc(1, sizeof *self);
    if (!self) return mra_fail(err, MRA_NO_MEMORY, "longformer: no memory for a layer");
    self->base = *base;
    mra_status status = mra_block_lists_window(&self->lists, base->shape.n, side, 0,
                                               (int)base->option[GLOBAL].number, err);
    *layer = &self->base;
    if (status == MRA_OK) return status;
    mra_block_layer_destroy(*layer);
    *layer = NULL;
    return mra_fail_within(err, "longformer");
}

const mra_method mra_method_longformer = {
    .name = "longformer",
    .summary = "a sliding window, and a few first tokens that see and are seen by all",
    .time = "n (window + global) d",
    .memory = "n d",
    .source = "Beltagy, Peters & Cohan, Longformer: the long-document transformer, 2020, "
              "arXiv 2004.05150",
    .description = description,
    .options = options,
    .option_count = OPTIONS,
    .create = create,
    .apply = mra_block_layer_apply,
    .destroy = mra_block_layer_destroy,
    .operations = mra_block_layer_operations,
};
