// A growing list of labelled token sequences: one split of a data set (data/data.h).
#ifndef MRA_DATA_SEQUENCES_H
#define MRA_DATA_SEQUENCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mra_sequence {
    uint16_t *ids; // owned by the list unless `borrowed`; length + second ids
    int length;
    int second; // tasks on pairs: ids of the second sequence, which follow those of the first; else 0
    int label;
    bool borrowed; // ids lie in somebody else's memory (data/prepared.h)
} mra_sequence;

typedef struct mra_sequences {
    mra_sequence *items;
    size_t count, room;
} mra_sequences;

// Copies `length` ids to the end of the list; false when there is no memory. An empty list is
// {0}.
bool mra_sequences_add(mra_sequences *list, const uint16_t *ids, int length, int label);
// The same for a pair: `length` ids of the first sequence and `second` of the other.
bool mra_sequences_add_pair(mra_sequences *list, const uint16_t *ids, int length,
                            const uint16_t *second_ids, int second, int label);
// Puts a copy in the place of item `index`; false when there is no memory.
bool mra_sequence_set(mra_sequence *item, const uint16_t *ids, int length, int label);
// `count` empty items (ids NULL) to be set later; false when there is no memory.
bool mra_sequences_resize(mra_sequences *list, size_t count);
void mra_sequences_free(mra_sequences *list);
// Drops all but the first `count`.
void mra_sequences_truncate(mra_sequences *list, size_t count);
// A random order (Fisher-Yates on the Philox stream `purpose` of `seed`).
void mra_sequences_shuffle(mra_sequences *list, uint64_t seed, const char *purpose);
// Moves the first `count` items (at most all) of `from` to the end of `to`; false when there is
// no memory.
bool mra_sequences_move(mra_sequences *to, mra_sequences *from, size_t count);

#endif
