// A task: what a network is trained to do. The training loop (nn/train.c) knows nothing but this page.
//
// A task owns data and network and answers four questions: which examples belong to step s (prepare), what the loss on
// them is (loss), how many batches an evaluation has (batches), and what a guess without looking would get (majority).
// Everything else is the loop's: gradients, AdamW, schedule, checkpoints, log, best on dev, the final test.
//
//     [task]
//     name = classify        # the default; nn/task.c lists all kinds
//
// To add a kind: a file nn/task_NAME.c that defines an mra_task_kind, one line in the table of nn/task.c, and a member
// for its settings in mra_train_options (nn/train_options.h).
#ifndef MRA_NN_TASK_H
#define MRA_NN_TASK_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/data.h"
#include "io/safetensors.h"
#include "nn/layers.h"
#include "nn/reading.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

enum { MRA_TASK_METRICS = 2 };

typedef struct mra_train_options mra_train_options; // nn/train_options.h
typedef struct mra_train_check mra_train_check;     // nn/train_check.h
typedef struct mra_task_kind mra_task_kind;

// The head of every task; a kind puts it first in a struct of its own.
typedef struct mra_task {
    const mra_task_kind *kind;
    mra_parameters *parameters; // of the network: what is trained, stored, and tested
} mra_task;

// Which examples: of a training step, or of one batch of an evaluation.
typedef struct mra_portion {
    mra_split
        split; // MRA_TRAIN: training step `index`; MRA_DEV, MRA_TEST: evaluation batch `index`
    uint64_t index;
    int part, parts; // the step's batch comes in `parts` micro-batches; evaluation: 0 of 1
} mra_portion;

// How a network did on one portion. What is counted is what has a label: examples, or masked positions.
typedef struct mra_score {
    int64_t counted;
    int64_t right[MRA_TASK_METRICS]; // of these, right in the sense of each metric
    int64_t tokens;                  // read, without padding; for the speed in the log
    double loss;                     // mean over what is counted, nats
} mra_score;

// Sums over the batches of a split.
typedef struct mra_evaluation {
    int64_t examples; // counted
    int64_t right[MRA_TASK_METRICS];
    double metric[MRA_TASK_METRICS]; // right / examples
    double loss;                     // mean over what is counted, nats
} mra_evaluation;

// The circumstances of a run, as against its settings.
typedef struct mra_task_run {
    mra_device *device;
    bool quiet;
} mra_task_run;

struct mra_task_kind {
    const char *name;
    // Names of the metrics, shares of what is counted, in columns of the log and the result; NULL after the last.
    // The first, "accuracy", decides which weights are best on dev (among equal ones the lower loss does).
    const char *metric[MRA_TASK_METRICS + 1];
    bool lowest_loss; // the lowest loss on dev decides instead
    bool prefetch;    // preparing is work worth a thread of its own, by default

    // Settings: reads the task's sections into options->NAME, after [train] has been read; writes them as lines, every
    // one that decides the result, in a fixed order (checkpoints are compared by them).
    void (*read)(mra_reader *reader, mra_train_options *options);
    void (*write)(const mra_train_options *options, mra_writer *writer);

    // Opens data and makes the network. `options` lives as long as the task.
    mra_status (*open)(mra_task **task, const mra_train_options *options,
                       const mra_task_run *run, mra_error *err);
    void (*close)(mra_task *task); // NULL is allowed

    // Host memory for one portion. The loop has two, so that one can be filled while the other is used.
    mra_status (*batch_create)(mra_task *task, void **batch, mra_error *err);
    void (*batch_free)(void *batch); // NULL is allowed
    // Fills `batch` with a portion: a function of the settings and `portion` alone, or a run could not be resumed. It may run
    // on another thread than the rest, but never at the same time as itself; it must leave device and network alone.
    mra_status (*prepare)(mra_task *task, const mra_portion *portion, void *batch,
                          mra_error *err);
    // The loss of a prepared batch, a tensor of one element, and its score, all but score->loss. Errors are sticky in the
    // tape. Whether dropout is on, and with which seed and step, was said to the tape.
    mra_tensor *(*loss)(mra_task *task, mra_tape *tape, const void *batch, mra_score *score);

    size_t (*batches)(const mra_task *task, mra_split split); // of an evaluation on dev or test
    // The accuracy on dev or test of always giving the most frequent answer.
    double (*majority)(const mra_task *task, mra_split split);
    // The files that the data came from, for the record with checksums; index from 0 until NULL.
    const char *(*source)(const mra_task *task, int index);
    // Adds to the metadata of the weights what is needed, beside the settings, to make the network again.
    mra_status (*describe)(const mra_task *task, mra_safetensors *file, mra_error *err);
    // What a training would need (nn/train_check.h), for mra train --check and --estimate; NULL: not offered.
    mra_status (*check)(const mra_train_options *options, mra_device *device, bool timed,
                        mra_train_check *check, mra_error *err);
};

// Index from 0 until NULL: the kinds of this build, the default first.
const mra_task_kind *mra_task_known(int index);
// MRA_BAD_INPUT lists the names that exist.
mra_status mra_task_find(const mra_task_kind **kind, const char *name, mra_error *err);
// How many metrics a kind has.
int mra_task_metrics(const mra_task_kind *kind);
// Rows [*from, *to) of a batch of `rows` that are a portion's. MRA_BAD_INPUT names train.accumulate where they are none.
mra_status mra_portion_rows(const mra_portion *portion, int rows, int *from, int *to,
                            mra_error *err);

// Batches that are prepared one ahead, on a thread of its own, where `ahead` says so; when they are asked for otherwise.
typedef struct mra_prefetch mra_prefetch; // opaque
mra_status mra_prefetch_create(mra_prefetch **prefetch, mra_task *task, bool ahead,
                               mra_error *err);
void mra_prefetch_free(mra_prefetch *prefetch); // waits for the thread
// The batch of `wanted`, borrowed until the next call; then begins with that of `next` (NULL: nothing). What was begun is
// used if it is what is wanted next, and dropped otherwise.
mra_status mra_prefetch_get(mra_prefetch *prefetch, const mra_portion *wanted,
                            const mra_portion *next, const void **batch, mra_error *err);

#endif
