// A sequence classifier: encoder, pooling, and a head of two linear layers.
#ifndef MRA_NN_CLASSIFIER_H
#define MRA_NN_CLASSIFIER_H

#include <stdint.h>

#include "nn/encoder.h"

// What is averaged into one vector per sequence.
typedef enum mra_pooling {
    MRA_POOL_ALL,   // all `positions`, padding (zeros) included: the published LRA experiments
    MRA_POOL_TOKENS // the unmasked ones
} mra_pooling;

typedef struct mra_classifier_options {
    mra_encoder_options encoder;
    int classes;
    mra_pooling pooling;
    // Examples are pairs of sequences: both go through the same encoder, and the head sees
    // [a, b, a b, a - b] of their means a and b (entry by entry), as in the published experiments.
    bool pairs;
} mra_classifier_options;

typedef struct mra_classifier {
    mra_classifier_options options;
    mra_parameters parameters; // of the encoder and the head
    mra_encoder *encoder;
    mra_linear_layer expand, contract;
} mra_classifier;

// Sequences of one shape, padded at their ends. Of pairs, rows 2 i and 2 i + 1 are those of example i.
typedef struct mra_batch {
    int count, n;    // examples; positions
    int32_t *ids;    // [count, n] or, of pairs, [2 count, n]; 0 at padding
    uint8_t *mask;   // the same shape, 1 for a token
    int32_t *labels; // [count]; -1: the row is filling, not counted
} mra_batch;

mra_status mra_classifier_create(mra_classifier **classifier,
                                 const mra_classifier_options *options, mra_device *device,
                                 mra_error *err);
void mra_classifier_free(mra_classifier *classifier);

// logits [count, classes] of a batch, which must live until the tape is reset.
mra_tensor *mra_classifier_logits(mra_classifier *classifier, mra_tape *tape,
                                  const mra_batch *batch);
// Mean cross-entropy over the labelled rows; *correct counts the right answers.
mra_tensor *mra_classifier_loss(mra_classifier *classifier, mra_tape *tape,
                                const mra_batch *batch, int *correct);

#endif
