// The task "masked": masked language modelling with RoBERTa on plain text.
#ifndef MRA_NN_TASK_MASKED_H
#define MRA_NN_TASK_MASKED_H

#include "data/corpus.h"
#include "nn/roberta_options.h"
#include "nn/task.h"

// Sections and keys, beside those of nn/roberta_options.h:
//
//     [data]      sources (archives, folders, text files), members, documents files | blank_lines, folder, tokeniser,
//                 dev 1000, test 1000 (documents held out), seed: see data/corpus.h
//     [train]     mask 0.15 (the share of tokens that is to be guessed), length (tokens of a sequence; model.positions)
//
// "accuracy" is the share of masked tokens that are guessed, the majority that of always guessing the most frequent
// of them. The weights with the lowest loss on dev are the best. On dev and test the same tokens are masked every time.
typedef struct mra_masked_options {
    mra_corpus_options data; // its strings belong to the settings
    mra_roberta_settings roberta;
    double share;
    int length;
} mra_masked_options;

extern const mra_task_kind mra_task_masked;

#endif
