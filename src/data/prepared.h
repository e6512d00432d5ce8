// Prepared copies of data sets: unpacking an archive of images takes a minute, mapping the tokens
// that were in it takes none.
//
// A prepared copy is one file that is mapped into memory. It carries the key of what it was made
// from (checksums of the sources and the settings that matter) and a checksum of its own: a
// copy of something else, a half one or a damaged one is as good as none. It is of the machine
// that made it (numbers in its byte order) and may be deleted at any time.
#ifndef MRA_DATA_PREPARED_H
#define MRA_DATA_PREPARED_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "data/sequences.h"

enum { MRA_PREPARED_SPLITS = 3 };

typedef struct mra_prepared { // {0}: none
    void *map;
    size_t bytes;
} mra_prepared;

// Writes the splits under `path`, atomically. `key`: 64 characters and a NUL, e.g. mra_sha256().
mra_status mra_prepared_write(const char *path, const char key[65],
                              const mra_sequences splits[MRA_PREPARED_SPLITS], mra_error *err);
// Whether `path` is a whole copy of what `key` says. Then the splits (empty before) are filled
// with borrowed sequences, which live until mra_prepared_close().
bool mra_prepared_open(mra_prepared *prepared, const char *path, const char key[65],
                       mra_sequences splits[MRA_PREPARED_SPLITS]);
void mra_prepared_close(mra_prepared *prepared);

#endif
