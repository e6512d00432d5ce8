// IMDb reviews byte by byte (Maas et al., ACL 2011), the task "text" of the Long-Range Arena:
// does a review praise or pan its film?
//
// The archive holds one file a review, aclImdb/{train,test}/{pos,neg}/*.txt, 12,500 in each of
// the four folders. A token is a byte of the file plus one (0 is padding), nothing is lowered,
// stripped or replaced. The order is that of the members' names, so that it does not depend on
// how the archive was packed.
#ifndef MRA_DATA_IMDB_H
#define MRA_DATA_IMDB_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "data/sequences.h"

enum { MRA_IMDB_VOCABULARY = 257, MRA_IMDB_CLASSES = 2, MRA_IMDB_PER_SPLIT = 25000 };

// The path of the archive in `folder` (NULL: environment MRA_DATA, else "data"):
// aclImdb_v1.tar.gz, the official one, or imdb-labelled.tar.xz, the same without the unlabelled
// reviews. MRA_ABSENT names the folder, both names and MRA_DATA.
mra_status mra_imdb_find(const char *folder, char *path, size_t room, mra_error *err);

// Reads all labelled reviews of the archive at `path`, cut to `maximum_length` bytes; label 0
// neg, 1 pos. The lists must be empty ({0}) and are empty again after an error. A damaged
// archive, one without reviews in any of the four folders and an empty review are
// MRA_BAD_INPUT.
//
// `cache`: a folder for a copy that reads in a fraction of the time (NULL or "": none). It is
// bound to the archive by its SHA-256 and checked by its own; one that is damaged or cannot be
// written is done without.
mra_status mra_imdb_read(mra_sequences *train, mra_sequences *test, const char *path,
                         int maximum_length, const char *cache, bool quiet, mra_error *err);

// Makes that copy in the folder `cache` (made if need be) unless a whole one is there; here a
// copy that cannot be written is an error. counts[0] and counts[1] receive the number of
// training and of test reviews.
mra_status mra_imdb_prepare(const char *path, const char *cache, size_t counts[2], bool quiet,
                            mra_error *err);

#endif
