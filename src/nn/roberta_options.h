// The settings of RoBERTa, shared by its pretraining and its fine-tuning.
#ifndef MRA_NN_ROBERTA_OPTIONS_H
#define MRA_NN_ROBERTA_OPTIONS_H

#include "nn/reading.h"
#include "nn/roberta.h"

typedef struct mra_roberta_settings {
    mra_roberta_options model; // vocabulary, head and classes: the task's
    const char
        *init; // weights to start from (mra_roberta_load), or NULL; belongs to the settings
} mra_roberta_settings;

// Reads
//
//     [model]     size small | base (the published sizes), which dim, heads, head_dim, layers, hidden, dropout,
//                 positions (512) and embedding replace one by one; types 1; init FILE.safetensors (none: random weights)
//     [attention] method exact, and the options of that method
void mra_roberta_settings_read(mra_reader *reader, mra_roberta_settings *settings,
                               uint64_t seed);
void mra_roberta_settings_write(const mra_roberta_settings *settings, mra_writer *writer);

// Makes the model, and loads what `init` names; says so unless quiet.
mra_status mra_roberta_begin(mra_roberta **model, const mra_roberta_settings *settings,
                             mra_device *device, bool quiet, mra_error *err);

#endif
