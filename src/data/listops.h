// ListOps (Nangia & Bowman 2018) as the Long-Range Arena draws it: nested operations on lists
// of digits, long enough that the answer hangs on hierarchy over thousands of tokens. Ten
// classes: the value of the expression.
//
//     expression = digit | operator expression ... expression ]        2 to 10 arguments
//     operator   = [MIN | [MAX | [MED (median, truncated to an integer) | [SM (sum modulo 10)
//
// The distribution of LRA (google-research/long-range-arena, lra_benchmarks/data/listops.py). A
// node is an operator with probability 1/4 and otherwise one of the ten digits, each as likely;
// the root has depth 1 and a node of depth 10 is always a digit. An operator has 2 to 10
// arguments, each number as likely, and is one of the four, each as likely. A tree is kept if
// minimum < length < maximum (500 and 2000), and if it was not drawn before. The length counts
// operators, digits and closing brackets: the tokens that a network sees, without parentheses.
//
// As text, LRA's files write the binary nesting (((op a) b) ]): "( ( ( [MAX 4 ) 7 ) ] )".
// Tokens are separated by one space; the tokeniser drops the parentheses.
#ifndef MRA_DATA_LISTOPS_H
#define MRA_DATA_LISTOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/error.h"
#include "data/sequences.h"

enum {
    MRA_LISTOPS_ZERO = 1, // digit v is token 1 + v; token 0 is padding
    MRA_LISTOPS_MIN = 11,
    MRA_LISTOPS_MAX,
    MRA_LISTOPS_MED,
    MRA_LISTOPS_SM,
    MRA_LISTOPS_END,        // the closing bracket
    MRA_LISTOPS_VOCABULARY, // 16 (LRA's models reserve 32 rows)
    MRA_LISTOPS_CLASSES = 10,
    MRA_LISTOPS_MAX_DEPTH = 10,
    MRA_LISTOPS_MAX_ARGUMENTS = 10
};

// The value (0 to 9) of an expression, by a stack machine that shares nothing with the
// generator; -1 when the tokens are not exactly one expression. Operators with any number of
// arguments >= 1 are understood.
int mra_listops_evaluate(const uint16_t *ids, int length);

// Writes an expression with (LRA's form) or without parentheses; no newline. The tokens must be
// one expression of depth at most 64. A failed write stays with the stream.
void mra_listops_print(FILE *stream, const uint16_t *ids, int length, bool parentheses);

typedef struct mra_listops_options {
    int minimum_length, maximum_length; // kept if minimum < length < maximum
    uint64_t seed;
    int threads;
    bool quiet;
} mra_listops_options;

// Draws counts[s] expressions for each of the three splits, all of them different. Expression i
// of a split is a function of (seed, split, i), save that one that was drawn before (in the
// order train, dev, test) is drawn again; threads change nothing. splits[] must be empty ({0})
// and is empty again after an error. MRA_BAD_INPUT when the bounds leave no length, or too few
// different expressions.
mra_status mra_listops_generate(mra_sequences splits[3], const size_t counts[3],
                                const mra_listops_options *options, mra_error *err);

// Writes and reads LRA's TSV: columns Source and Target, rows ending in "\r\n" (as LRA's own
// files do). Writing is atomic. Reading takes at most `limit` rows (0: all) in either form,
// with or without parentheses, and cuts sequences to maximum_length; check_labels evaluates
// each expression first. Errors name file, line and column.
mra_status mra_listops_write(const char *path, const mra_sequences *list, mra_error *err);
mra_status mra_listops_read(mra_sequences *list, const char *path, size_t limit,
                            int maximum_length, bool check_labels, mra_error *err);

#endif
