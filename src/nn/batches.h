// Batches of a data set: which examples come together at which step, and how they are padded.
#ifndef MRA_NN_BATCHES_H
#define MRA_NN_BATCHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/data.h"
#include "nn/classifier.h"

typedef struct mra_batches_options {
    int batch;     // sequences in a batch
    int positions; // the longest sequence; longer ones are cut
    bool
        bucketed; // batches of similar lengths, padded as little as they need; otherwise padded to `positions`
    int multiple;  // bucketed: padded to a multiple of this (at most `positions`)
    uint64_t seed; // of the order
} mra_batches_options;

typedef struct mra_batches mra_batches; // opaque

// Prepares batches of one split; `limit` > 0: of so many of its examples, drawn at random
// but always the same. `data` is borrowed. An empty split is
// MRA_BAD_INPUT.
mra_status mra_batches_create(mra_batches **batches, const mra_dataset *data, mra_split split,
                              size_t limit, const mra_batches_options *options, mra_error *err);
void mra_batches_free(mra_batches *batches);

// The batch of training step `step`, a function of (seed, step) alone. Every epoch visits the examples in a new
// random order; what is left over at its end (fewer than a batch) is skipped. The batch is borrowed until the
// next call.
const mra_batch *mra_batches_training(mra_batches *batches, uint64_t step);

// For evaluation: every example once, in `mra_batches_count()` batches. The last one is filled up with copies labelled
// -1, so that its shape is like the others'.
size_t mra_batches_count(const mra_batches *batches);
const mra_batch *mra_batches_evaluation(mra_batches *batches, size_t index);

// Examples that evaluation visits, and the accuracy on them of always giving their most frequent label.
size_t mra_batches_examples(const mra_batches *batches);
double mra_batches_majority(const mra_batches *batches);

#endif
