// Lists of blocks of keys, made on the host: the pattern of a method (tensor/block_pattern.h)
// while it is being written down, and the layer of a method that is such a pattern and no more.
#ifndef MRA_ATTENTION_BLOCK_LISTS_H
#define MRA_ATTENTION_BLOCK_LISTS_H

#include "attention/attention.h"
#include "tensor/block_pattern.h"

typedef struct mra_block_lists {
    mra_block_pattern pattern; // start and entry: the arrays below, on the host
    int32_t *start, *entry;
    int ended;           // lists that are complete
    int count, capacity; // entries
} mra_block_lists;

// Prepares for the lists of `pattern` (whose start and entry are ignored), the first of which is
// begun. MRA_NO_MEMORY. Free with mra_block_lists_free.
mra_status mra_block_lists_create(mra_block_lists *lists, const mra_block_pattern *pattern,
                                  mra_error *err);
// Adds a block of keys to the list that is begun. MRA_NO_MEMORY.
mra_status mra_block_lists_add(mra_block_lists *lists, int keys, bool conditional,
                               mra_error *err);
// Ends the list and begins that of the next block of queries (or, after the last, of the next
// head).
void mra_block_lists_end(mra_block_lists *lists);
// Forgets all lists and begins the first again.
void mra_block_lists_clear(mra_block_lists *lists);
void mra_block_lists_free(mra_block_lists *lists);

// The complete lists of a window, the same for all heads: pairs with -side <= j - i <= side -
// fewer, or i < globals, or j < globals. MRA_NO_MEMORY; free the lists then too.
mra_status mra_block_lists_window(mra_block_lists *lists, int n, int side, int fewer,
                                  int globals, mra_error *err);

// Pairs (query, key) of all lists that attend, an entry that is listed twice counted twice.
double mra_block_lists_pairs(const mra_block_lists *lists);

// softmax(q k^T / sqrt d) v over the pairs of complete lists: copies them to the tape's device,
// then mra_block_attention.
mra_tensor *mra_block_lists_apply(const mra_block_lists *lists, mra_tape *tape, mra_tensor *q,
                                  mra_tensor *k, mra_tensor *v, const uint8_t *mask,
                                  mra_tensor **lse);

// A method's layer that consists of lists.
typedef struct mra_block_layer {
    mra_attention_layer base;
    mra_block_lists lists;
    int32_t *drawn; // the method's own, freed with the layer; or NULL
    int sets; // of lists, for a method whose lists follow masks: 1, or one for each example
    bool shortened; // such lists are those of a mask
    uint64_t pass;  // forward passes, for a method that draws anew in each
} mra_block_layer;

mra_tensor *mra_block_layer_apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                                  mra_tensor *k, mra_tensor *v, const uint8_t *mask);
void mra_block_layer_destroy(mra_attention_layer *layer);
// Per head and pair: 2 d in either product, an exponential and an addition.
double mra_block_layer_operations(const mra_attention_layer *layer);

#endif
