// # BigBird: window, global and random blocks
//
// A sparse graph that keeps paths between tokens short (Zaheer et al., "Big Bird: transformers for
// longer sequences", NeurIPS 2020, section 2 and appendix D): tokens are cut into blocks of $b$,
// and block $x$ of the $m = \lceil n/b\rceil$ blocks attends to
//
// - its neighbours and itself, $x-1, x, x+1$;
// - the first and the last block, which in turn attend to all blocks (the variant with internal
//   global tokens, "ITC");
// - $r$ further blocks, drawn at random, anew for each head and block.
//
// The random blocks are drawn without replacement among those that are in neither the window nor
// the global blocks; where fewer than $r$ are left, all of them are taken. So with $m \le r + 4$
// blocks every block attends to all: exact attention. The cost is $(5 + r)\, b\, n$ pairs, and
// twice $b n$ for the two global blocks.
//
// The draw is a function of the layer's seed, the head and the block (core/random.h): it is made
// once, when the layer is, and stays. With a mask it is made again for each example, from the blocks
// up to that of the example's last token, which is its last block: padding at the end is then the
// same as a shorter sequence. Drawing costs $O(m^2)$ numbers a head, little beside attention.
//
// ## What the published code does
//
// The code published with the MRA paper (old_code/LRA/encoders/bigbird.py) calls
// BigBirdBlockSparseAttention of the library `transformers`. Which block meets which agrees with
// the above for window and global blocks; the random blocks do not (`variant=published`):
//
// - *They are drawn anew in every forward pass*, in evaluation too: the layer is made without a
//   seed, so that the library seeds its generator from the operating system each time. A model's
//   output for one input varies between calls.
// - *They all lie near the beginning.* For $n$ of 1024, 3072 or 4096 the library draws from the
//   blocks before token 1024 alone, and for any other length with more than $2r + 5$ blocks from
//   the first $2r + 5$: nine blocks at $r = 2$. With $r + 5 < m \le 2r + 5$ blocks, half come from the
//   first $r + 5$ and the rest from those behind. At $n = 4096$ three quarters of the sequence are
//   never drawn.
// - At $n = 1024$ the blocks $m - 3$ and $m - 2$ may draw blocks of their own window. Such a block
//   then stands twice among the keys, and its weights count twice.
// - Padding counts as tokens when blocks are made: it is drawn, and the last block is that of the
//   padded sequence, so that an example's output depends on how far its batch is padded.
// - A masked pair has $10^4$ subtracted from its logit, where here it is left out: the same number
//   in float32 unless logits differ by thousands.
//
// Where its rules leave fewer than $r$ candidates the library stops with an error (at $r = 2$ with
// 8 or 9 blocks, among others); here all there are are taken. Versions of the library from the end
// of 2022 on draw in training alone: in evaluation block 0 takes the place of every random block.
//
// The library itself goes over to full attention at up to $(5 + 2r)b$ tokens, in a layer above the
// one that the published code calls; and it wants $n$ a multiple of $b$.

#include <math.h>
#include <stdlib.h>

#include "attention/block_lists.h"
#include "attention/methods.h"
#include "core/random.h"

enum { BLOCK, RANDOM, VARIANT, OPTIONS };

static const mra_option options[] = {
    [BLOCK] = {"block", MRA_OPTION_INT, "32", 1, MRA_BLOCK_LARGEST, NULL, "tokens of a block"},
    [RANDOM] = {"random", MRA_OPTION_INT, "2", 0, 1024, NULL,
                "random blocks that each block attends to"},
    [VARIANT] = {"variant", MRA_OPTION_CHOICE, "specified", 0, 0, "specified|published",
                 "random blocks from the whole sequence, once; or as the published code draws"},
};

static const char *const description[] = {
    "The sequence is cut into blocks. A block of queries attends to itself and its two "
    "neighbours, "
    "to the first and the last block, which attend to all, and to `random` further blocks, "
    "drawn "
    "for each head without replacement among those that are left: softmax(QK^T/sqrt d) over "
    "these "
    "pairs. With no more than random + 4 blocks that is all pairs. With a mask, blocks are "
    "those "
    "up to the example's last token, drawn for each example.",
    "variant=published draws the random blocks as the published code (through the library that "
    "it "
    "calls) does: anew in every forward pass, and near the beginning of the sequence alone: "
    "from "
    "the first 1024 tokens at n = 1024, 3072 or 4096, otherwise from the first 2 random + 5 "
    "blocks "
    "where there are more than that. At n = 1024 a random block may be one of the window, "
    "whose "
    "weights then count twice. Padding counts as tokens: it is drawn, and the last block is "
    "that "
    "of "
    "the padded sequence.",
    NULL};

// ---- Candidates -----------------------------------------------------------------------------

// Blocks among which a block of queries draws.
typedef struct candidates {
    int *block; // room for one of each
    int count;
} candidates;

// Adds first .. last.
static void add_range(candidates *set, int first, int last)
{
    for (int y = first; y <= last; y++) set->block[set->count++] = y;
}

// Blocks begin .. end-1 but for the window of x, block 0, the last of the range, and a further
// one for the second block at either end: the library's rule, which knows the range only.
static void add_legal(candidates *set, int x, int begin, int end)
{
    for (int y = begin; y < end; y++) {
        const bool window = abs(x - y) <= 1, global = y == 0 || y == end - 1;
        const bool corner = (x == 1 && y == end - 2) || (x == end - 2 && y == 1);
        if (!window && !global && !corner) set->block[set->count++] = y;
    }
}

// The library's rule for n of 1024, 3072 and 4096, for block x of `blocks`: blocks of the first 1024
// tokens. The last two blocks that draw do not leave their window out.
static void add_before(candidates *set, int x, int blocks, int block)
{
    const int last = 1024 > 2 * block ? 1024 / block - 1 : blocks - 1;
    const int most = last < blocks - 2 ? last : blocks - 2;
    if (x >= blocks - 3 || x - 2 > last) {
        add_range(set, 1, most);
    } else {
        add_range(set, 1, x - 2);
        add_range(set, x + 2, most);
    }
}

// Up to `wanted` of the candidates, each as likely as any other, to drawn[0 ..]; returns how many.
static int draw(mra_random *random, candidates *set, int wanted, int32_t *drawn)
{
    const int count = wanted < set->count ? wanted : set->count;
    for (int i = 0; i < count; i++) {
        const int at = i + (int)mra_random_below(random, (uint32_t)(set->count - i));
        drawn[i] = set->block[at];
        set->block[at] = set->block[i];
    }
    set->count = 0;
    return count;
}

static int draw_published(mra_random *random, candidates *set, int x, int n, int block,
                          int wanted, int32_t *drawn)
{
    const int blocks = (n + block - 1) / block, half = wanted / 2;
    if (n == 1024 || n == 3072 || n == 4096) {
        add_before(set, x, blocks, block);
        return draw(random, set, wanted, drawn);
    }
    if (wanted + 5 < blocks && blocks <= 2 * wanted + 5) {
        add_legal(set, x, 0, wanted + 5);
        const int count = draw(random, set, half, drawn);
        add_legal(set, x, wanted + 5, blocks);
        return count + draw(random, set, wanted - half, drawn + count);
    }
    add_legal(set, x, 0, blocks > 2 * wanted + 5 ? 2 * wanted + 5 : blocks);
    return draw(random, set, wanted, drawn);
}

// ---- Lists ----------------------------------------------------------------------------------

// The random blocks of block x of the queries, of `blocks`; the rest of drawn[0 .. random) becomes
// -1.
static int draw_row(const mra_block_layer *self, mra_random *random, candidates *set, int x,
                    int blocks, int32_t *drawn)
{
    const mra_option_value *option = self->base.option;
    const int wanted = (int)option[RANDOM].number;
    int count = 0;
    if (x > 0 && x < blocks - 1) {
        if (option[VARIANT].number != 0) {
            count = draw_published(random, set, x, self->base.shape.n,
                                   self->lists.pattern.block, wanted, drawn);
        } else {
            add_range(set, 1, x - 2);
            add_range(set, x + 2, blocks - 2);
            count = draw(random, set, wanted, drawn);
        }
    }
    for (int i = count; i < wanted; i++) drawn[i] = -1;
    return count;
}

// Whether every list holds block y of the keys for block x of the queries.
static bool always(int x, int y, int blocks)
{
    return abs(x - y) <= 1 || x == 0 || y == 0 || x == blocks - 1 || y == blocks - 1;
}

// The lists of one head for the first `used` blocks; those of the blocks behind are empty.
static mra_status fill_head(mra_block_layer *self, candidates *set, int head, int used,
                            int32_t *drawn, mra_error *err)
{
    const int wanted = (int)self->base.option[RANDOM].number;
    const int blocks = mra_pattern_blocks(&self->lists.pattern);
    mra_random random = mra_random_open(
        self->base.seed, mra_stream("bigbird blocks", (uint64_t)head, self->pass));
    mra_status status = MRA_OK;
    for (int x = 0; x < blocks && status == MRA_OK; x++, drawn += wanted) {
        const int count = draw_row(self, &random, set, x, used, drawn);
        for (int y = 0; x < used && y < used && status == MRA_OK; y++)
            if (always(x, y, used)) status = mra_block_lists_add(&self->lists, y, false, err);
        for (int i = 0; i < count && status == MRA_OK; i++)
            status = mra_block_lists_add(&self->lists, drawn[i], false, err);
        mra_block_lists_end(&self->lists);
    }
    return status;
}

// Blocks up to that of the last token.
static int blocks_used(const uint8_t *mask, int n, int block)
{
    while (mask && n > 0 && !mask[n - 1]) n--;
    return (n + block - 1) / block;
}

// Lists for a mask (NULL: none): one set for all examples where they have equally many blocks.
static mra_status fill_lists(mra_block_layer *self, candidates *set, const uint8_t *mask,
                             mra_error *err)
{
    const mra_shape shape = self->base.shape;
    const int block = self->lists.pattern.block;
    const size_t each = (size_t)mra_pattern_blocks(&self->lists.pattern) *
                        (size_t)self->base.option[RANDOM].number;
    const int first = blocks_used(mask, shape.n, block);
    int32_t *drawn = self->drawn;
    self->sets = 1;
    for (int b = 1; b < shape.batch && mask; b++)
        if (blocks_used(mask + (size_t)b * (size_t)shape.n, shape.n, block) != first)
            self->sets = shape.batch;
    self->lists.pattern.lists = self->sets * shape.heads;
    mra_block_lists_clear(&self->lists);
    for (int b = 0; b < self->sets; b++) {
        const int used =
            b ? blocks_used(mask + (size_t)b * (size_t)shape.n, shape.n, block) : first;
        for (int head = 0; head < shape.heads; head++, drawn += each) {
            mra_status status = fill_head(self, set, head, used, drawn, err);
            if (status != MRA_OK) return status;
        }
    }
    return MRA_OK;
}

static mra_status make_lists(mra_block_layer *self, const uint8_t *mask, mra_error *err)
{
    candidates set = {
        .block = calloc((size_t)mra_pattern_blocks(&self->lists.pattern), sizeof *set.block)};
    if (!set.block) return mra_fail(err, MRA_NO_MEMORY, "no memory to draw blocks");
    mra_status status = fill_lists(self, &set, mask, err);
    self->shortened = mask != NULL;
    free(set.block);
    return status;
}

// ---- The layer ------------------------------------------------------------------------------

static mra_status create(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err)
{
    mra_block_layer *self = calloc(1, sizeof *self);
    if (!self) return mra_fail(err, MRA_NO_MEMORY, "bigbird: no memory for a layer");
    self->base = *base;
    // Room for lists of each example.
    const mra_block_pattern pattern = {.n = base->shape.n,
                                       .block = (int)base->option[BLOCK].number,
                                       .lists = base->shape.batch * base->shape.heads};
    const size_t drawn = (size_t)pattern.lists * (size_t)mra_pattern_blocks(&pattern) *
                         (size_t)base->option[RANDOM].number;
    mra_status status = mra_block_lists_create(&self->lists, &pattern, err);
    if (status == MRA_OK) self->drawn = calloc(drawn ? drawn : 1, sizeof *self->drawn);
    if (status == MRA_OK && !self->drawn)
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for %zu random blocks", drawn);
    if (status == MRA_OK) status = make_lists(self, NULL, err);
    *layer = &self->base;
    if (status == MRA_OK) return status;
    mra_block_layer_destroy(*layer);
    *layer = NULL;
    return mra_fail_within(err, "bigbird");
}

static mra_tensor *apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    mra_block_layer *self = (mra_block_layer *)layer;
    mra_error err;
    const bool published = layer->option[VARIANT].number != 0;
    if (published || mask || self->shortened) {
        if (published) self->pass++;
        const mra_status status = make_lists(self, published ? NULL : mask, &err);
        if (status != MRA_OK) return mra_tape_fail(tape, status, "bigbird: %s", err.message);
    }
    return mra_block_layer_apply(layer, tape, q, k, v, mask);
}

static int drawn(const mra_attention_layer *layer, mra_method_array array[MRA_METHOD_ARRAYS])
{
    const mra_block_layer *self = (const mra_block_layer *)layer;
    array[0] = (mra_method_array){.name = "blocks", .ints = self->drawn};
    int *size = array[0].shape;
    if (self->sets > 1) *size++ = self->sets; // examples that differ in their number of blocks
    *size++ = layer->shape.heads;
    *size++ = mra_pattern_blocks(&self->lists.pattern);
    *size++ = (int)layer->option[RANDOM].number;
    array[0].rank = (int)(size - array[0].shape);
    return 1;
}

const mra_method mra_method_bigbird = {
    .name = "bigbird",
    .summary = "blocks that attend to their neighbours, to the first and last block, and to "
               "random ones",
    .time = "n (5 + random) block d",
    .memory = "n d",
    .source = "Zaheer et al., Big Bird: transformers for longer sequences, NeurIPS 2020, "
              "arXiv 2007.14062",
    .description = description,
    .options = options,
    .option_count = OPTIONS,
    .create = create,
    .apply = apply,
    .destroy = mra_block_layer_destroy,
    .drawn = drawn,
    .operations = mra_block_layer_operations,
};
