// The settings of a training: from an ini file to numbers, and back to text.
#ifndef MRA_NN_TRAIN_OPTIONS_H
#define MRA_NN_TRAIN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/settings.h"
#include "nn/optimiser.h"
#include "nn/schedule.h"
#include "nn/task.h"
#include "nn/task_classify.h"
#include "nn/task_imagenet.h"
#include "nn/task_masked.h"

// Sections and keys of every training. Defaults are those of the published Long-Range Arena settings where they are
// the same for all of its tasks (paper/published/lra_tasks.tsv):
//
//     [task]      name classify | masked | imagenet; what it reads beside is in its header (nn/task_classify.h, ...)
//     [train]     steps 5000, batch 32 (sequences of one update), accumulate 1 (the parts that a batch is computed in),
//                 learning_rate 1e-4, warmup 1000, anneal linear | cosine, weight_decay 0,
//                 clip 0 (largest norm of the gradient; 0: no clipping), log_every 50, eval_every 500,
//                 dev_examples 0, test_examples 0 (0: all of the split; else drawn), checkpoint_every 200, seed 1,
//                 prefetch (yes: batches are prepared one ahead by a thread; the default depends on the task),
//                 diverge_factor 0, diverge_steps 100 (the run ends when the loss has been above diverge_factor times the
//                 lowest loss so far for diverge_steps steps in a row; 0: never)
//
// How often checkpoints are written and who prepares a batch decides nothing about the result.
struct mra_train_options {
    const mra_task_kind *task;
    union { // the task's own settings, by its name
        mra_classify_options classify;
        mra_masked_options masked;
        mra_imagenet_options imagenet;
    };
    mra_schedule schedule;
    mra_optimiser_options optimiser;
    double clip;
    int batch, accumulate;
    int64_t log_every, eval_every, checkpoint_every;
    size_t dev_examples, test_examples;
    double diverge_factor;
    int64_t diverge_steps;
    uint64_t seed;
    bool prefetch;
};

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
