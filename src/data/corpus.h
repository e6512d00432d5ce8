// Plain text for masked language modelling: documents as the tokens of a byte-level BPE, packed into sequences of n.
//
//     mra_corpus_options options = mra_corpus_defaults();
//     options.sources = "aclImdb_v1.tar.gz", options.members = "aclImdb/train/";
//     mra_corpus *corpus;
//     status = mra_corpus_open(&corpus, &options, &err);
//     mra_corpus_sequence(corpus, MRA_TRAIN, 17, 512, ids);   // of mra_corpus_sequences(corpus, MRA_TRAIN, 512)
//     mra_corpus_free(corpus);
#ifndef MRA_DATA_CORPUS_H
#define MRA_DATA_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/bpe.h"
#include "data/data.h"

enum { MRA_CORPUS_SOURCES = 8 };

typedef struct mra_corpus_options {
    const char *folder; // where the sources are; NULL: environment MRA_DATA, else "data"
    // Words separated by blanks: archives, folders and text files in `folder` (or anywhere, if they begin with "/"). Of
    // archives and folders the files named *.txt are read, folders with all that is below them.
    const char *sources;
    // Words separated by blanks: only files are read whose path in the archive, or below the folder, begins with
    // one of them; NULL or "": all.
    const char *members;
    bool blank_lines; // a blank line ends a document; otherwise a file is one document
    const char *bpe;  // folder with vocab.json and merges.txt; NULL: roberta-bpe in `folder`
    size_t dev, test; // documents held out for each, drawn by the seed
    uint64_t seed;
    const char *cache; // folder for the prepared copy, NULL: "build/cache"; "" keeps none
    bool quiet;        // no progress on stderr
} mra_corpus_options;

typedef struct mra_corpus mra_corpus; // opaque; immutable after opening

// dev and test 1000 documents each, everything else zero.
mra_corpus_options mra_corpus_defaults(void);

// Reads, tokenises and keeps a prepared copy (data/prepared.h), or maps the one that is there. A document is stripped of white
// space at its ends; one without tokens is left out. MRA_ABSENT: a source or the tokeniser is not there. MRA_BAD_INPUT:
// a source in which no document is found, a damaged archive, fewer documents than are held out and one more, a vocabulary
// of more than 65,535 tokens.
mra_status mra_corpus_open(mra_corpus **corpus, const mra_corpus_options *options,
                           mra_error *err);
void mra_corpus_free(mra_corpus *corpus); // NULL allowed

size_t mra_corpus_documents(const mra_corpus *corpus, mra_split split);
// All documents of a split in a row, each followed by </s> </s>: *count tokens.
const uint16_t *mra_corpus_stream(const mra_corpus *corpus, mra_split split, size_t *count);
// How many sequences of n tokens (n >= 3) the stream makes, and sequence i of them: <s>, the next n - 2 tokens of the stream,
// </s>. What is left at the end of the stream is not used.
size_t mra_corpus_sequences(const mra_corpus *corpus, mra_split split, int n);
void mra_corpus_sequence(const mra_corpus *corpus, mra_split split, size_t i, int n,
                         int32_t *ids);

int mra_corpus_vocabulary(const mra_corpus *corpus);
mra_bpe_special mra_corpus_special(const mra_corpus *corpus);
// The sources that are files, for run records: index from 0 until NULL.
const char *mra_corpus_source(const mra_corpus *corpus, int index);

#endif
