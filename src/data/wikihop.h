// WikiHop (Welbl, Stenetorp & Riedel, TACL 2018): which of several candidates answers a query, given a stack of documents?
#ifndef MRA_DATA_WIKIHOP_H
#define MRA_DATA_WIKIHOP_H

#include <stdbool.h>

#include "core/error.h"
#include "data/bpe.h"
#include "data/sequences.h"

// Four tokens are added to the tokeniser's, with these ids from its size on.
enum {
    MRA_WIKIHOP_ANSWER,       // <answer>
    MRA_WIKIHOP_ANSWER_END,   // </answer>
    MRA_WIKIHOP_QUESTION,     // <question>
    MRA_WIKIHOP_QUESTION_END, // </question>
    MRA_WIKIHOP_TOKENS
};

// The label of a sequence: the place of the right candidate's <answer>, plus this where it goes on with the documents of the
// question before it.
enum { MRA_WIKIHOP_CONTINUES = 1 << 20 };

// The path of part 0 (train.json) or 1 (dev.json) in `folder` (NULL: environment MRA_DATA, else "data"). MRA_ABSENT.
mra_status mra_wikihop_find(const char *folder, int part, char *path, size_t room,
                            mra_error *err);

// Reads a list of objects with id, query, candidates, answer and supports. A question becomes
//
//     <question> query </question> <answer> candidate </answer> ... </s> document </s> document </s> ...
//
// in as many sequences of at most `maximum_length` tokens as its documents need, each beginning with question and candidates:
// a candidate's place is that of its token <answer>. A document too long for a sequence of its own is cut. `published`: a
// document that does not fit into the sequence at hand is left out altogether, as by the published code. The list must be empty ({0}) and
// is empty again after an error. MRA_BAD_INPUT names file, question (from 1) and what was expected; so does a question whose candidates
// alone are too long.
mra_status mra_wikihop_read(mra_sequences *list, const char *path, mra_bpe *bpe,
                            int maximum_length, bool published, mra_error *err);

#endif
