// MNLI (Williams, Nangia & Bowman, NAACL 2018): does a premise entail a hypothesis, contradict it, or neither?
#ifndef MRA_DATA_MNLI_H
#define MRA_DATA_MNLI_H

#include "core/error.h"
#include "data/bpe.h"
#include "data/sequences.h"

enum { MRA_MNLI_CLASSES = 3 }; // 0 contradiction, 1 entailment, 2 neutral

// Where train (0), the matched (1) and the mismatched (2) dev set are in `folder` (NULL: environment MRA_DATA, else "data"):
// train.tsv, dev_matched.tsv and dev_mismatched.tsv as GLUE lays them out, or multinli_1.0_train.jsonl and so on as their authors do.
// MRA_ABSENT names the folder and both names.
mra_status mra_mnli_find(const char *folder, int part, char *path, size_t room, mra_error *err);

// Reads a file of either kind, by its suffix: a table with columns sentence1, sentence2 and gold_label among others, or
// one JSON object a line with these fields. A pair becomes <s> sentence1 </s> </s> sentence2 </s>, cut to `maximum_length`
// tokens (at least 5) by taking from the end of the longer sentence (of sentence2 where they are equal). Rows whose gold_label is "-", on
// which the annotators did not agree, are left out, as in GLUE. The list must be empty ({0}) and is empty again after an error.
// MRA_BAD_INPUT names file, row and what was expected.
mra_status mra_mnli_read(mra_sequences *list, const char *path, mra_bpe *bpe,
                         int maximum_length, mra_error *err);

#endif
