// The task "imagenet": photographs into classes (data/image_folder.h, nn/image_classifier.h).
#ifndef MRA_NN_TASK_IMAGENET_H
#define MRA_NN_TASK_IMAGENET_H

#include <stddef.h>
#include <stdint.h>

#include "data/augment.h"
#include "nn/image_classifier.h"
#include "nn/task.h"

// Sections and keys; the defaults are the published settings:
//
//     [data]      folder (mra_image_folder_find; none: MRA_DATA, else "data"), classes 0 (keep so many, evenly spread; 0: all),
//                 train 0, val 0 (at most so many pictures of these, drawn; 0: all), seed 0 (of the drawing)
//     [model]     dim 128, heads 2, head_dim 64, layers 4, hidden 512, dropout 0.1, hidden_dropout (as dropout), size 224,
//                 patch 14, stride 7, padding 5, positions (what these leave; nothing else is accepted)
//     [augment]   area_low 0.08, area_high 1, aspect_low 3/4, aspect_high 4/3, flip 0.5, rand_augment yes, magnitude 9,
//                 deviation 0.5, jitter 0.4, jitter_always no, crop 0.95: see data/augment.h
//     [attention] method exact, and the options of that method; of MRA-2: grid=32x32
//     [train]     (nn/train_options.h) published: batch 256, steps 1501200 (300 epochs), warmup 50000, learning_rate 5e-4,
//                 anneal cosine, weight_decay 0.05
//
// Metrics are accuracy (top-1) and top5. The labels of ImageNet's test set are not public: dev and test are both val/, so that
// the best weights are chosen by the very pictures that they are tested on, as in the published runs.
typedef struct mra_imagenet_options {
    const char *folder; // belongs to the settings
    int classes;        // that are kept
    size_t train, val;
    uint64_t seed;
    mra_augment augment;
    mra_image_classifier_options model; // classes: from the data, once they are open
} mra_imagenet_options;

// Its batches begin with mra_image_examples.
extern const mra_task_kind mra_task_imagenet;

#endif
