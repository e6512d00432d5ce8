// The task "classify": sequences, or pairs of them, into classes, as in the Long-Range Arena.
#ifndef MRA_NN_TASK_CLASSIFY_H
#define MRA_NN_TASK_CLASSIFY_H

#include <stdbool.h>

#include "data/data.h"
#include "nn/classifier.h"
#include "nn/task.h"

// Sections and keys:
//
//     [data]      name (listops | text | image | pathfinder32 | retrieval | same-film), folder, train, dev, test, held_out,
//                 minimum_length, maximum_length, seed: see data/data.h for their meaning and defaults
//     [model]     dim 64, heads 2, head_dim 32, layers 2, hidden 128, dropout 0.1, pooling all | tokens,
//                 positions (the power of two at or above maximum_length)
//     [attention] method exact, and the options of that method (`mra methods NAME`)
//     [train]     batching padded | bucketed, multiple 32,
//                 evaluate held_out | training (training: dev and test are the training examples, to see them learned by heart)
typedef struct mra_classify_options {
    mra_dataset_options data;     // its strings belong to the settings
    mra_classifier_options model; // vocabulary and classes: from the data, once they are open
    int multiple;
    bool bucketed;
    bool memorise; // evaluate on the training examples, in place of dev and test
} mra_classify_options;

extern const mra_task_kind mra_task_classify;

#endif
