// The prepared copy of the reviews. Used by data/imdb.c alone.
#ifndef MRA_DATA_IMDB_CACHE_H
#define MRA_DATA_IMDB_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

// A review as it stands in the archive.
typedef struct mra_review {
    char *name; // the member's name; NULL when read from the cache
    unsigned char *bytes;
    size_t length;
    int split, label; // split 0 train, 1 test; label 0 neg, 1 pos
} mra_review;

typedef struct mra_reviews {
    mra_review *items;
    size_t count, room;
} mra_reviews;

// Copies a review to the end of the list (`name` may be NULL); false when there is no memory.
bool mra_reviews_add(mra_reviews *list, const char *name, const unsigned char *bytes,
                     size_t length, int split, int label);
void mra_reviews_free(mra_reviews *list);

// Reads the copy at `path` if it is whole and was made from the archive with this SHA-256;
// false (and an empty list) otherwise.
bool mra_imdb_cache_read(mra_reviews *list, const char *path, const char archive_sha256[65]);
// Writes it atomically.
mra_status mra_imdb_cache_write(const mra_reviews *list, const char *path,
                                const char archive_sha256[65], mra_error *err);

#endif
