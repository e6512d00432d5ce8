// # Reformer: attention within hash buckets
//
// The softmax is dominated by the keys closest to a query, and a locality-sensitive hash
// function puts those into its bucket with high probability. Reformer (Kitaev, Kaiser &
// Levskaya, ICLR 2020) attends within buckets alone. For queries and keys to be hashed alike
// there is one projection for both, and keys are brought to length one: $k_j = q_j / \|q_j\|$
// (section 2). Here $Q$ takes that part; $K$ is not read and gets no
// gradient.
//
// **Hashing.** $h(x) = \arg\max\,[xR;\,-xR]$ with a random matrix $R$ of size $d \times b/2$,
// for $b$ buckets.
//
// **Chunks.** Buckets differ in size. Tokens are sorted by bucket, and within one by position,
// and cut into chunks of $m$; with $s_i$ the place of token $i$, it attends to
//
// $$P_i = \{ j : h(j) = h(i),\ \lfloor s_i/m\rfloor - 1 \le \lfloor s_j/m\rfloor \le \lfloor
// s_i/m\rfloor \}.$$
//
// **Itself.** $\langle q_i, q_i/\|q_i\|\rangle$ would outdo all others, so the logit of a token
// with itself is $-10^5$: it attends to itself only if there is nothing else.
//
// **Rounds.** A hash may part close tokens; several functions seldom all do. The set is the
// union of $P_i^{(r)}$ over rounds. A round's softmax, weighted by its share of the whole, adds
// up to one softmax over the union if a pair that occurs in $N_{ij}$ rounds has $\log N_{ij}$
// subtracted from its logit in each (appendix A).
//
// The logit is $\langle q_i, k_j\rangle$ without a factor $1/\sqrt d$, as in the authors'
// program: the query's own length sets the temperature.
//
// The paper takes twice as many buckets as chunks, so that a bucket holds half a chunk on average
// and rarely reaches beyond the chunk before. A sequence's own tokens are counted, not the
// padding: a shorter one uses the first columns of $R$.
//
// ## The published code
//
// calls the reimplementation in the library `transformers`, whose version it does not record. In
// those that fit the call, a chunk sees all of the two chunks, also tokens of other buckets; a
// pair that meets in several rounds counts as often; and all rounds are one sequence closed to a
// ring, so that a round's first chunk looks back to the last of the round before. Masked tokens
// are not seen but sorted among the others, so that padding shifts the chunks (from 3.5 on they
// have a bucket of their own). The number of buckets is a power of two (in 2.9, 32 whatever the
// length). `variant=published` does what 2.11 to 3.0 do, except that it does not factor a hash of
// more than 128 buckets into two, and that chunks need not divide the sequence: the last one is
// shorter.

#include <stdlib.h>

#include "attention/hashing.h"
#include "attention/methods.h"
#include "tensor/hash.h"

enum { HASHES, BUCKET, BUCKETS, VARIANT, REFORMER_OPTIONS };

static const mra_option options[] = {
    [HASHES] = {"hashes", MRA_OPTION_INT, "2", 1, 16, NULL, "rounds of hashing"},
    [BUCKET] = {"bucket", MRA_OPTION_INT, "64", 1, 512, NULL, "tokens of a chunk"},
    [BUCKETS] = {"buckets", MRA_OPTION_INT, "0", 0, 4096, NULL,
                 "buckets of one round, an even number (0: twice as many as chunks)"},
    [VARIANT] = {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
                 "as in the paper, or as the published code computes it"},
};

typedef struct reformer_layer {
    mra_attention_layer base; // first
    mra_hash_directions rotations;
} reformer_layer;

static int option_of(const mra_attention_layer *layer, int which)
{
    return (int)layer->option[which].number;
}

static bool is_published(const mra_attention_layer *layer)
{
    return layer->option[VARIANT].number != 0;
}

// Buckets for a sequence of `tokens`: half a chunk in each, on average. The published code takes
// the largest power of two that is not more.
static int buckets_for(const mra_attention_layer *layer, int tokens)
{
    const int given = option_of(layer, BUCKETS), chunk = option_of(layer, BUCKET);
    if (given) return given;
    if (!is_published(layer)) return tokens > chunk ? 2 * ((tokens + chunk - 1) / chunk) : 2;
    int buckets = 2;
    while (2 * buckets <= 2 * (tokens / chunk)) buckets *= 2;
    return buckets;
}

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    const int buckets = buckets_for(base, base->shape.n);
    if (buckets % 2)
        return mra_fail(err, MRA_BAD_INPUT, "reformer: buckets: %d: expected an even number",
                        buckets);
    reformer_layer *reformer = calloc(1, sizeof *reformer);
    if (!reformer) return mra_fail(err, MRA_NO_MEMORY, "reformer: no memory");
    reformer->base = *base;
    const int shape[4] = {base->shape.heads, option_of(base, HASHES), buckets / 2,
                          base->shape.d};
    mra_status status = mra_hash_directions_create(&reformer->rotations, base->device, shape,
                                                   MRA_DIRECTIONS_NORMAL, base->seed,
                                                   "reformer rotations", err);
    if (status != MRA_OK) {
        free(reformer);
        return mra_fail_within(err, "reformer");
    }
    *layer = &reformer->base;
    return MRA_OK;
}

static void destroy(mra_attention_layer *layer)
{
    reformer_layer *reformer = (reformer_layer *)layer;
    mra_hash_directions_free(&reformer->rotations);
    free(reformer);
}

static int drawn(const mra_attention_layer *layer, mra_method_array array[MRA_METHOD_ARRAYS])
{
    array[0] =
        mra_hash_directions_array(&((const reformer_layer *)layer)->rotations, "rotations");
    return 1;
}

// Buckets / 2 of each example on the device, as its own number of tokens wants them.
static int32_t *widths_of(const mra_attention_layer *layer, mra_tape *tape, const uint8_t *mask)
{
    const int batch = layer->shape.batch, n = layer->shape.n;
    int32_t *widths = mra_tape_alloc(tape, (size_t)batch * sizeof *widths);
    if (!widths) return NULL;
    for (int b = 0; b < batch; b++) {
        int tokens = 0;
        for (int i = 0; i < n; i++) tokens += mask[b * n + i] != 0;
        widths[b] = buckets_for(layer, tokens) / 2;
    }
    return mra_tape_upload(tape, widths, (size_t)batch * sizeof *widths);
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    (void)k; // shared with q
    const reformer_layer *reformer = (const reformer_layer *)layer;
    const mra_shape shape = layer->shape;
    const int rounds = option_of(layer, HASHES), width = reformer->rotations.shape[2];
    const bool by_bucket = !is_published(layer);
    const mra_hash_form hashing = {.batch = (size_t)shape.batch,
                                   .heads = shape.heads,
                                   .n = shape.n,
                                   .d = shape.d,
                                   .hashes = rounds,
                                   .width = width,
                                   .codes = 2 * width * rounds};
    const mra_sorted_form sorting = {.batch = (size_t)shape.batch,
                                     .heads = shape.heads,
                                     .n = shape.n,
                                     .d = shape.d,
                                     .rounds = rounds,
                                     .chunk = option_of(layer, BUCKET),
                                     .by_bucket = by_bucket};
    const uint8_t *kept = NULL;
    const int32_t *widths = NULL;
    if (mask) {
        kept = mra_tape_upload(tape, mask, (size_t)shape.batch * (size_t)shape.n);
        if (by_bucket) widths = widths_of(layer, tape, mask);
        if (!kept || (by_bucket && !widths)) return NULL;
    }
    mra_tensor *shared = mra_mask_tokens(tape, q, mask);
    const int32_t *codes =
        mra_hash_by_rotations(tape, by_bucket ? shared : q, &hashing, reformer->rotations.data,
                              widths, by_bucket ? kept : NULL);
    return mra_sorted_attention(tape, shared, mra_unit_rows(tape, shared),
                                mra_mask_tokens(tape, v, mask), &sorting, codes, hashing.codes,
                                kept);
}

// Projections; per round two products of every token with two chunks, and their exponentials.
static double operations(const mra_attention_layer *layer)
{
    const double n = layer->shape.n, d = layer->shape.d, rounds = option_of(layer, HASHES);
    const double keys = 2.0 * option_of(layer, BUCKET);
    return 3 * n * d + n * d * rounds * buckets_for(layer, layer->shape.n) +
           rounds * n * keys * (4 * d + 2);
}

static const char *const description[] = {
    "Tokens are hashed by the nearest axis after a random rotation, sorted by bucket and cut "
    "into "
    "chunks of bucket tokens; each attends to the tokens of its own bucket in its chunk and "
    "the "
    "one before. hashes rounds are one softmax over the union of what they found. A token "
    "attends "
    "to itself only where there is nothing else.",
    "Queries and keys are one projection: q serves for both, keys being q / ||q||, k is not "
    "read "
    "and its gradient is 0. Logits are not divided by the root of d.",
    "Masked tokens are left out before sorting, so that padding changes nothing (with "
    "buckets=0 "
    "the number of buckets follows the length of the layer, padding included).",
    "variant=published: a token sees all of its chunk and of the one before, other buckets "
    "included; pairs count once for every round in which they meet; the rounds are one "
    "sequence "
    "closed to a ring; masked tokens are sorted with the others, though never seen. That is "
    "the "
    "reimplementation that the published code calls, which draws new rotations in each pass; "
    "here "
    "a layer keeps those that it drew from the seed when it was made.",
    NULL};

const mra_method mra_method_reformer = {
    .name = "reformer",
    .summary = "softmax attention within the buckets of locality-sensitive hashing",
    .time = "n hashes bucket d",
    .memory = "n hashes + n d",
    .source =
        "Kitaev, Kaiser & Levskaya, Reformer: the efficient transformer, ICLR 2020, arXiv "
        "2001.04451",
    .description = description,
    .options = options,
    .option_count = REFORMER_OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = destroy,
    .drawn = drawn,
    .operations = operations,
};
