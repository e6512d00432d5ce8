// The documents of a corpus, from archives, folders and files (for data/corpus.c).
#ifndef MRA_DATA_CORPUS_READ_H
#define MRA_DATA_CORPUS_READ_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

// Is given one document at a time: `name` the path of its file in the source, `bytes` of text, both borrowed.
typedef struct mra_document_reader {
    mra_status (*take)(void *context, const char *name, const char *text, size_t bytes,
                       mra_error *err);
    void *context;
    const char *members; // words: prefixes of paths; NULL or "": all
    bool blank_lines;    // a blank line ends a document
} mra_document_reader;

// Reads all *.txt of the archive, folder (sorted by name) or the text file at `path`. Documents arrive in the order of the
// archive. MRA_ABSENT: there is no such thing.
mra_status mra_documents_read(const char *path, const mra_document_reader *reader,
                              mra_error *err);

// A checksum of all that mra_documents_read() would look at: of a file its SHA-256, of a folder that of the names and
// contents of its files.
mra_status mra_documents_checksum(const char *path, char hex[65], mra_error *err);

#endif
