// Training, from settings to weights, whatever the task (nn/task.h).
#ifndef MRA_NN_TRAIN_H
#define MRA_NN_TRAIN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/record.h"
#include "nn/group.h"
#include "nn/train_options.h"
#include "nn/train_result.h"
#include "tensor/device.h"

// The circumstances of a run, as against the settings that decide its result.
// Of several processes (nn/group.h), the first one reads and writes the folder and shows progress; quiet and stop are every
// process's own, and one that is asked to stop stops all.
typedef struct mra_train_run {
    const char *folder; // receives all files; made if it is not there
    mra_device *device;
    bool quiet;                        // no progress on stderr
    const volatile sig_atomic_t *stop; // may be NULL; once not 0: write a checkpoint and return
    mra_record *record;     // may be NULL; gets inputs and results, and is written at the end
    const mra_group *group; // may be NULL: this process alone
} mra_train_run;

// Trains, or goes on from the checkpoint that it finds in the folder. Leaves there
//
//     checkpoint.safetensors   everything needed to go on (nn/checkpoint.h), every checkpoint_every steps
//     log.tsv                  loss, accuracy, learning rate and speed (nn/train_log.h)
//     weights.safetensors      at the end: the weights that did best on dev; metadata "settings" is the text of
//                              mra_train_options_text, plus what the task adds (classify: "vocabulary", "classes") and results
//     result.tsv               at the end: accuracy and loss on dev and test beside the most frequent answer
//     diverged.tsv             instead: where, why, and the best evaluation until then, of a run that went nowhere
//     run.json                 the run record, if one was given
//
// Killed at any moment and started again with the same settings and folder it ends with the same bits, for any number
// of threads and processes in either part. A run that is finished only reads its result again. The result is allowed to be NULL.
//
// MRA_BAD_INPUT: settings, data or a checkpoint of other settings; also a loss that is no longer finite, or that stays far above
// the lowest (train.diverge_factor), with the last finite state kept as the checkpoint. MRA_INTERRUPTED: *stop; the checkpoint is written.
mra_status mra_train(const mra_train_options *options, const mra_train_run *run,
                     mra_train_result *result, mra_error *err);

// Makes the network of a finished training of the task "classify" in `folder` and fills it with its weights. `settings` (empty, of the
// caller's) receives the settings of the training and must outlive `options`.
mra_status mra_train_load(const char *folder, mra_device *device, mra_settings *settings,
                          mra_train_options *options, mra_classifier **classifier,
                          mra_error *err);

#endif
