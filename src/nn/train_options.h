// The settings of a training: from an ini file to numbers, and back to text.
#ifndef MRA_NN_TRAIN_OPTIONS_H
#define MRA_NN_TRAIN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/settings.h"
#include "data/data.h"
#include "nn/classifier.h"
#include "nn/optimiser.h"
#include "nn/schedule.h"

// Sections and keys, with the defaults of the published Long-Range Arena settings where these are the same for
// all of its tasks (paper/published/lra_tasks.tsv):
//
//     [data]      name (listops | text), folder, train, dev, test, held_out, minimum_length, maximum_length, seed:
//                 see data/data.h for their meaning and defaults
//     [model]     dim 64, heads 2, head_dim 32, layers 2, hidden 128, dropout 0.1, pooling all | tokens,
//                 positions (the power of two at or above maximum_length)
//     [attention] method exact, and the options of that method (`mra methods NAME`)
//     [train]     steps 5000, batch 32, batching padded | bucketed, multiple 32, learning_rate 1e-4, warmup 1000,
//                 anneal linear | cosine, weight_decay 0, clip 0 (largest norm of the gradient; 0: no clipping),
//                 log_every 50, eval_every 500, dev_examples 0, test_examples 0 (0: all of the split; else drawn),
//                 checkpoint_every 200, seed 1,
//                 evaluate held_out | training (training: dev and test are the training examples, to see them learned by heart)
typedef struct mra_train_options {
    mra_dataset_options data;     // its strings belong to the settings
    mra_classifier_options model; // vocabulary and classes: from the data, once they are open
    mra_schedule schedule;
    mra_optimiser_options optimiser;
    double clip;
    int batch, multiple;
    bool bucketed;
    bool memorise; // evaluate on the training examples, in place of dev and test
    int64_t log_every, eval_every, checkpoint_every;
    size_t dev_examples, test_examples;
    uint64_t seed;
} mra_train_options;

// Reads every setting and refuses unknown ones. `settings` must outlive the options.
mra_status mra_train_options_read(mra_train_options *options, mra_settings *settings,
                                  mra_error *err);
// All settings that decide the result, one "section.key=value" a line, complete and in a fixed order: what a
// checkpoint is compared by, and what rebuilds a model from its weights. Returns how many bytes the text needs, its
// NUL included; writes at most `room`.
size_t mra_train_options_text(const mra_train_options *options, char *text, size_t room);
// The inverse: adds the lines of such a text to `settings`.
mra_status mra_train_options_restore(mra_settings *settings, const char *text, mra_error *err);

#endif
