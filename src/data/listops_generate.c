// Drawing ListOps expressions, the same whatever the number of threads.
//
// Most trees are refused: a root is a digit three times in four, and of the rest few have a
// length within the bounds. Drawing stops as soon as a tree reaches the upper bound, which
// refuses the same trees and saves the branching process from its own explosion (1/4 * 6 = 1.5
// operators below each operator, over 10 levels). Example i of a split draws tree after tree
// from a Philox stream of its own until one is kept.
//
// Duplicates. When all examples are drawn, one pass in the order train, dev, test puts them
// into a hash table; an example that is already there is drawn again from the stream of the
// next round.

#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"
#include "core/progress.h"
#include "core/random.h"
#include "data/listops.h"

// After so many refused trees, or duplicates of one example, the bounds are to blame.
enum { MOST_TREES = 2000000, MOST_ROUNDS = 200 };

// ---- One tree -------------------------------------------------------------------------------

typedef struct tree {
    mra_random *random;
    uint16_t *ids; // room for `most` tokens
    int length;    // tokens so far
    int most;      // a tree that needs more is given up
    bool given_up;
} tree;

static void put(tree *t, int id)
{
    if (t->length == t->most)
        t->given_up = true;
    else
        t->ids[t->length++] = (uint16_t)id;
}

static int apply(int operation, int *values, int count)
{
    int sum = 0;
    for (int i = 0; i < count; i++) sum += values[i];
    if (operation == MRA_LISTOPS_SM) return sum % 10;
    for (int i = 1; i < count; i++) // insertion sort of at most ten digits
        for (int j = i; j > 0 && values[j - 1] > values[j]; j--) {
            int swapped = values[j];
            values[j] = values[j - 1];
            values[j - 1] = swapped;
        }
    if (operation == MRA_LISTOPS_MIN) return values[0];
    if (operation == MRA_LISTOPS_MAX) return values[count - 1];
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

// Draws a node of the given depth; returns its value.
static int draw_node(tree *t, int depth)
{
    if (depth == MRA_LISTOPS_MAX_DEPTH || mra_random_uniform(t->random) > 0.25) {
        int digit = (int)mra_random_below(t->random, 10);
        put(t, MRA_LISTOPS_ZERO + digit);
        return digit;
    }
    int operation = MRA_LISTOPS_MIN + (int)mra_random_below(t->random, 4);
    int count = 2 + (int)mra_random_below(t->random, MRA_LISTOPS_MAX_ARGUMENTS - 1);
    int values[MRA_LISTOPS_MAX_ARGUMENTS] = {0};
    put(t, operation);
    for (int i = 0; i < count && !t->given_up; i++) values[i] = draw_node(t, depth + 1);
    put(t, MRA_LISTOPS_END);
    return t->given_up ? 0 : apply(operation, values, count);
}

// ---- One example ----------------------------------------------------------------------------

typedef struct job {
    const mra_listops_options *options;
    mra_sequence **items; // all examples of all splits, in order
    const int *split;     // of each example
    const size_t *index;  // of each example within its split
    size_t first, count;  // the examples of this loop
    mra_status *status;   // of each example of this loop
} job;

// Draws example `global` in round `round`. MRA_BAD_INPUT: nothing of the right length came.
static mra_status draw_example(const job *j, size_t global, uint64_t round)
{
    const mra_listops_options *options = j->options;
    static const char *const purpose[3] = {"listops train", "listops dev", "listops test"};
    uint64_t stream = mra_stream(purpose[j->split[global]], j->index[global], round);
    mra_random random = mra_random_open(options->seed, stream);
    int most = options->maximum_length - 1;
    uint16_t *ids = malloc((size_t)most * sizeof *ids);
    if (!ids) return MRA_NO_MEMORY;
    mra_status status = MRA_BAD_INPUT;
    for (int attempt = 0; attempt < MOST_TREES && status == MRA_BAD_INPUT; attempt++) {
        tree t = {.random = &random, .ids = ids, .most = most};
        int value = draw_node(&t, 1);
        if (t.given_up || t.length <= options->minimum_length) continue;
        bool stored = mra_sequence_set(j->items[global], ids, t.length, value);
        status = stored ? MRA_OK : MRA_NO_MEMORY;
    }
    free(ids);
    return status;
}

enum { EXAMPLES_PER_ITEM = 32 };

static void draw_chunk(void *context, size_t item, int thread)
{
    (void)thread;
    job *j = context;
    for (size_t i = item * EXAMPLES_PER_ITEM;
         i < j->count && i < (item + 1) * EXAMPLES_PER_ITEM; i++)
        j->status[i] = draw_example(j, j->first + i, 0);
}

static mra_status refuse(const mra_listops_options *options, mra_status status, mra_error *err)
{
    if (status == MRA_NO_MEMORY)
        return mra_fail(err, status, "listops: no memory for the examples");
    return mra_fail(
        err, MRA_BAD_INPUT,
        "listops: too few different expressions with more than %d and fewer than %d tokens",
        options->minimum_length, options->maximum_length);
}

// Draws all examples once, a few thousand at a time so that progress can be told between loops.
static mra_status draw_all(job *j, size_t total, mra_error *err)
{
    enum { PER_LOOP = 2048 };
    mra_status status[PER_LOOP];
    int threads = j->options->threads < 1 ? mra_default_threads() : j->options->threads;
    mra_progress progress = mra_progress_start("generating ListOps", (double)total, 0,
                                               j->options->quiet || total < 10000);
    j->status = status;
    for (j->first = 0; j->first < total; j->first += j->count) {
        j->count = total - j->first < PER_LOOP ? total - j->first : PER_LOOP;
        size_t items = (j->count + EXAMPLES_PER_ITEM - 1) / EXAMPLES_PER_ITEM;
        mra_parallel_for(threads, items, draw_chunk, j);
        for (size_t i = 0; i < j->count; i++)
            if (status[i] != MRA_OK) return refuse(j->options, status[i], err);
        mra_progress_update(&progress, (double)(j->first + j->count), "");
    }
    mra_progress_end(&progress, "");
    return MRA_OK;
}

// ---- Duplicates -----------------------------------------------------------------------------

typedef struct table {
    mra_sequence **slots; // open addressing, linear probing
    size_t mask; // number of slots less one; a power of two, at most half of them taken
} table;

static uint64_t hash_of(const mra_sequence *item)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (int i = 0; i < item->length; i++)
        hash = (hash ^ item->ids[i]) * UINT64_C(1099511628211);
    return hash ^ hash >> 32;
}

static bool equal(const mra_sequence *a, const mra_sequence *b)
{
    return a->length == b->length &&
           memcmp(a->ids, b->ids, (size_t)a->length * sizeof *a->ids) == 0;
}

// Inserts an item; false when an equal one is there.
static bool insert(table *t, mra_sequence *item)
{
    size_t slot = hash_of(item) & t->mask;
    for (; t->slots[slot]; slot = (slot + 1) & t->mask)
        if (equal(t->slots[slot], item)) return false;
    t->slots[slot] = item;
    return true;
}

static mra_status redraw_duplicates(const job *j, size_t total, mra_error *err)
{
    table t = {.mask = 15};
    while (t.mask < 2 * total) t.mask = 2 * t.mask + 1;
    t.slots = calloc(t.mask + 1, sizeof *t.slots);
    if (!t.slots) return refuse(j->options, MRA_NO_MEMORY, err);
    mra_status status = MRA_OK;
    for (size_t i = 0; i < total && status == MRA_OK; i++) {
        uint64_t round = 0;
        while (status == MRA_OK && !insert(&t, j->items[i]))
            status = ++round > MOST_ROUNDS ? MRA_BAD_INPUT : draw_example(j, i, round);
    }
    free(t.slots);
    return status == MRA_OK ? MRA_OK : refuse(j->options, status, err);
}

// ---- All splits -----------------------------------------------------------------------------

static mra_status generate(mra_sequence **items, int *split, size_t *index, size_t total,
                           mra_sequences splits[3], const mra_listops_options *options,
                           mra_error *err)
{
    size_t global = 0;
    for (int s = 0; s < 3; s++)
        for (size_t i = 0; i < splits[s].count; i++, global++) {
            items[global] = &splits[s].items[i];
            split[global] = s;
            index[global] = i;
        }
    job j = {.options = options, .items = items, .split = split, .index = index};
    mra_status status = draw_all(&j, total, err);
    return status == MRA_OK ? redraw_duplicates(&j, total, err) : status;
}

mra_status mra_listops_generate(mra_sequences splits[3], const size_t counts[3],
                                const mra_listops_options *options, mra_error *err)
{
    if (options->minimum_length < 0 || options->maximum_length - options->minimum_length < 2 ||
        options->maximum_length > 1 << 20)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "listops: lengths more than %d and fewer than %d: expected 0 <= minimum, "
            "minimum + 2 <= maximum <= 1048576",
            options->minimum_length, options->maximum_length);
    size_t total = counts[0] + counts[1] + counts[2];
    bool memory = true;
    for (int s = 0; s < 3; s++) memory = memory && mra_sequences_resize(&splits[s], counts[s]);
    mra_sequence **items = calloc(total + 1, sizeof *items);
    int *split = calloc(total + 1, sizeof *split);
    size_t *index = calloc(total + 1, sizeof *index);
    mra_status status = memory && items && split && index
                            ? generate(items, split, index, total, splits, options, err)
                            : refuse(options, MRA_NO_MEMORY, err);
    free(items);
    free(split);
    free(index);
    for (int s = 0; s < 3 && status != MRA_OK; s++) mra_sequences_free(&splits[s]);
    return status;
}
