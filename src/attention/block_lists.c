// Lists of blocks of keys on the host, and the layer of a method that is nothing but such lists.
//
// The lists are a few hundred to a few thousand numbers. They are copied to the tape's device with
// every forward pass, beside the mask: so a layer owns no memory on a device, and a method may
// change its lists between two passes while the tape still needs the earlier ones.

#include "attention/block_lists.h"

#include <math.h>
#include <stdlib.h>

static int lists_of(const mra_block_lists *lists)
{
    return lists->pattern.lists * mra_pattern_blocks(&lists->pattern);
}

mra_status mra_block_lists_create(mra_block_lists *lists, const mra_block_pattern *pattern,
                                  mra_error *err)
{
    *lists = (mra_block_lists){.pattern = *pattern};
    const size_t starts = (size_t)lists_of(lists) + 1;
    lists->capacity = 8 * lists_of(lists);
    lists->start = calloc(starts, sizeof *lists->start);
    lists->entry = calloc((size_t)lists->capacity, sizeof *lists->entry);
    lists->pattern.start = lists->start;
    lists->pattern.entry = lists->entry;
    if (lists->start && lists->entry) return MRA_OK;
    mra_block_lists_free(lists);
    return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu lists of blocks", starts - 1);
}

mra_status mra_block_lists_add(mra_block_lists *lists, int keys, bool conditional,
                               mra_error *err)
{
    if (lists->count == lists->capacity) {
        const size_t capacity = 2 * (size_t)lists->capacity;
        int32_t *entry = realloc(lists->entry, capacity * sizeof *entry);
        if (!entry)
            return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu blocks in lists", capacity);
        lists->entry = entry;
        lists->pattern.entry = entry;
        lists->capacity = (int)capacity;
    }
    lists->entry[lists->count++] = 2 * keys + conditional;
    return MRA_OK;
}

void mra_block_lists_end(mra_block_lists *lists)
{
    lists->start[++lists->ended] = lists->count;
}

void mra_block_lists_clear(mra_block_lists *lists)
{
    lists->ended = lists->count = 0;
}

void mra_block_lists_free(mra_block_lists *lists)
{
    free(lists->start);
    free(lists->entry);
    *lists = (mra_block_lists){0};
}

// ---- Counting -------------------------------------------------------------------------------

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

// Keys of [begin, end) that a conditional entry lets query i see.
static int seen_by(const mra_block_pattern *pattern, int i, int begin, int end)
{
    if (i < pattern->globals) return end - begin;
    const int globals = larger(smaller(pattern->globals, end) - begin, 0);
    const int low = larger(larger(begin, pattern->globals), i - pattern->window);
    const int high = smaller(end - 1, i + pattern->window - pattern->fewer);
    return globals + larger(high - low + 1, 0);
}

double mra_block_lists_pairs(const mra_block_lists *lists)
{
    const mra_block_pattern *pattern = &lists->pattern;
    const int n = pattern->n, block = pattern->block, blocks = mra_pattern_blocks(pattern);
    double pairs = 0;
    for (int list = 0; list < lists->ended; list++) {
        const int first = list % blocks * block, last = smaller(first + block, n);
        for (int e = lists->start[list]; e < lists->start[list + 1]; e++) {
            const int begin = lists->entry[e] / 2 * block, end = smaller(begin + block, n);
            if (lists->entry[e] % 2 == 0) {
                pairs += (double)(last - first) * (end - begin);
                continue;
            }
            for (int i = first; i < last; i++) pairs += seen_by(pattern, i, begin, end);
        }
    }
    return pairs;
}

// ---- A window -------------------------------------------------------------------------------
//
// The list of a block of queries holds the blocks that the window reaches and those of the global
// tokens. The entries are conditional unless the window covers a pair of blocks whole. A block is
// as large as one side of the window, within 16 to 64 tokens: larger ones would compute more pairs
// that do not count, smaller ones are slower to multiply.

static int block_for(int side)
{
    return side < 16 ? 16 : side > 64 ? 64 : (side + 15) / 16 * 16;
}

static mra_status list_window(mra_block_lists *lists, int x, mra_error *err)
{
    const mra_block_pattern *pattern = &lists->pattern;
    const int block = pattern->block, blocks = mra_pattern_blocks(pattern);
    const bool all = x * block < pattern->globals;
    for (int y = 0; y < blocks; y++) {
        const long apart = labs((long)x - y);
        const bool reached = (apart - 1) * block + 1 <= pattern->window;
        const bool whole = (apart + 1) * block - 1 <= pattern->window - pattern->fewer;
        if (!all && !reached && y * block >= pattern->globals) continue;
        mra_status status = mra_block_lists_add(lists, y, !whole, err);
        if (status != MRA_OK) return status;
    }
    mra_block_lists_end(lists);
    return MRA_OK;
}

mra_status mra_block_lists_window(mra_block_lists *lists, int n, int side, int fewer,
                                  int globals, mra_error *err)
{
    const mra_block_pattern pattern = {.n = n,
                                       .block = block_for(side),
                                       .lists = 1,
                                       .window = side,
                                       .fewer = fewer,
                                       .globals = globals};
    mra_status status = mra_block_lists_create(lists, &pattern, err);
    for (int x = 0; status == MRA_OK && x < mra_pattern_blocks(&pattern); x++)
        status = list_window(lists, x, err);
    return status;
}

// ---- The layer ------------------------------------------------------------------------------

mra_tensor *mra_block_lists_apply(const mra_block_lists *lists, mra_tape *tape, mra_tensor *q,
                                  mra_tensor *k, mra_tensor *v, const uint8_t *mask,
                                  mra_tensor **lse)
{
    mra_block_pattern pattern = lists->pattern;
    const size_t starts = (size_t)lists_of(lists) + 1, entries = (size_t)lists->count;
    const size_t room = entries ? entries : 1; // all may be empty
    pattern.start = mra_tape_upload(tape, lists->start, starts * sizeof *pattern.start);
    pattern.entry = mra_tape_upload(tape, lists->entry, room * sizeof *pattern.entry);
    if (!pattern.start || !pattern.entry) return NULL;
    const float scale = (float)(1.0 / sqrt(q->shape[3]));
    return mra_block_attention(tape, q, k, v, &pattern, scale, mask, lse);
}

mra_tensor *mra_block_layer_apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                                  mra_tensor *k, mra_tensor *v, const uint8_t *mask)
{
    return mra_block_lists_apply(&((mra_block_layer *)layer)->lists, tape, q, k, v, mask, NULL);
}

void mra_block_layer_destroy(mra_attention_layer *layer)
{
    mra_block_layer *self = (mra_block_layer *)layer;
    mra_block_lists_free(&self->lists);
    free(self->drawn);
    free(self);
}

double mra_block_layer_operations(const mra_attention_layer *layer)
{
    const mra_block_lists *lists = &((const mra_block_layer *)layer)->lists;
    return mra_block_lists_pairs(lists) / lists->pattern.lists * (4.0 * layer->shape.d + 2.0);
}
