// The trained heads that every figure is drawn from.
//
// A set is a folder "<data>-<n>" with files example<i>-{q,k,v}.npy, i = 0, 1, ..., each [heads,
// n, d] with the heads of all layers one after another, as `mra dump` writes them. Any array of
// this shape and a type of float will do.
#ifndef MRA_EXPERIMENTS_COMMON_INPUTS_H
#define MRA_EXPERIMENTS_COMMON_INPUTS_H

#include "common.h"

typedef struct mra_trained_head {
    char set[64];        // name of the folder, "text-512"
    int example, number; // which example of the set, which head of all layers' heads
    int n, d;
    const float *q, *k, *v; // [n, d], owned by the inputs
} mra_trained_head;

typedef struct mra_trained_inputs {
    int count;
    mra_trained_head *head;
    int arrays;
    float **array; // what the heads point into
} mra_trained_inputs;

// Loads the heads of the first `examples` examples of every set in the experiment's input
// folder with n tokens, sets in alphabetical order, and notes the files in the stamp and the
// run record. The folder may itself be a set. MRA_ABSENT when there is none of this length;
// MRA_BAD_INPUT names the file whose shape or type is wrong.
mra_status mra_trained_inputs_load(mra_experiment *experiment, int n, int examples,
                                   mra_trained_inputs *inputs, mra_error *err);
void mra_trained_inputs_free(mra_trained_inputs *inputs);

// The head "<set>:<example>:<number>" (as settings name it) or NULL.
const mra_trained_head *mra_trained_head_find(const mra_trained_inputs *inputs,
                                              const char *name);
// The heads named by the text setting `key`: words "<set>:<example>:<number>" separated by
// blanks; a word that names no head is MRA_BAD_INPUT. With the single word "spread" it is
// `limit` heads whose entropies are spread evenly.
mra_status mra_trained_heads_named(mra_experiment *experiment, const char *key,
                                   const mra_trained_inputs *inputs, int limit,
                                   const mra_trained_head **heads, int *count, mra_error *err);

#endif
