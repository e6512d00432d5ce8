// From the archive to token sequences: gather the reviews, sort them by name, cut and shift the
// bytes.

#include "data/imdb.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "data/imdb_cache.h"
#include "data/source.h"
#include "io/archive.h"

// ---- Finding the archive --------------------------------------------------------------------

mra_status mra_imdb_find(const char *folder, char *path, size_t room, mra_error *err)
{
    static const char *const names[] = {"aclImdb_v1.tar.gz", "imdb-labelled.tar.xz", NULL};
    return mra_data_find("text", names, folder, path, room, err);
}

// ---- Gathering the reviews ------------------------------------------------------------------

// Whether a member is a labelled review, and which split and label its folder says.
static bool is_review(const char *name, int *split, int *label)
{
    static const char *const folders[4] = {"aclImdb/train/neg/", "aclImdb/train/pos/",
                                           "aclImdb/test/neg/", "aclImdb/test/pos/"};
    if (strncmp(name, "./", 2) == 0) name += 2;
    for (int i = 0; i < 4; i++) {
        size_t length = strlen(folders[i]);
        if (strncmp(name, folders[i], length) != 0) continue;
        const char *dot = strrchr(name + length, '.');
        *split = i / 2;
        *label = i % 2;
        return !strchr(name + length, '/') && dot && strcmp(dot, ".txt") == 0;
    }
    return false;
}

static mra_status take_members(mra_reviews *list, mra_archive *archive, const char *path,
                               mra_progress *progress, mra_error *err)
{
    for (;;) {
        const char *name;
        int split, label;
        mra_status status = mra_archive_next(archive, &name, err);
        if (status != MRA_OK || !name) return status;
        if (!is_review(name, &split, &label)) continue;
        const unsigned char *bytes;
        size_t length;
        status = mra_archive_data(archive, &bytes, &length, err);
        if (status != MRA_OK) return status;
        if (length == 0 || length > UINT32_MAX)
            return mra_fail(err, MRA_BAD_INPUT, "%s: member %s: %zu bytes: expected a review",
                            path, name, length);
        if (!mra_reviews_add(list, name, bytes, length, split, label))
            return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the reviews", path);
        mra_progress_update(progress, (double)list->count, "");
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const mra_review *)a)->name, ((const mra_review *)b)->name);
}

static mra_status check_folders(const mra_reviews *list, const char *path, mra_error *err)
{
    static const char *const split_names[2] = {"train", "test"}, *const label_names[2] = {
                                                                     "neg", "pos"};
    size_t counts[2][2] = {{0}};
    for (size_t i = 0; i < list->count; i++)
        counts[list->items[i].split][list->items[i].label]++;
    for (int split = 0; split < 2; split++)
        for (int label = 0; label < 2; label++)
            if (counts[split][label] == 0)
                return mra_fail(err, MRA_BAD_INPUT, "%s: no reviews in aclImdb/%s/%s/", path,
                                split_names[split], label_names[label]);
    return MRA_OK;
}

static mra_status unpack_archive(mra_reviews *list, const char *path, bool quiet,
                                 mra_error *err)
{
    mra_archive *archive;
    mra_status status = mra_archive_open(&archive, path, err);
    if (status != MRA_OK) return status;
    mra_progress progress =
        mra_progress_start("unpacking IMDb", 2 * MRA_IMDB_PER_SPLIT, 0, quiet);
    status = take_members(list, archive, path, &progress, err);
    mra_archive_close(archive);
    if (status != MRA_OK) return status;
    mra_progress_end(&progress, "");
    if (list->count) qsort(list->items, list->count, sizeof *list->items, by_name);
    return check_folders(list, path, err);
}

// ---- Reviews as tokens ----------------------------------------------------------------------

static bool tokenise(mra_sequences *splits[2], const mra_reviews *list, int maximum_length)
{
    uint16_t *ids = malloc((size_t)maximum_length * sizeof *ids);
    bool ok = ids != NULL;
    for (size_t i = 0; i < list->count && ok; i++) {
        const mra_review *review = &list->items[i];
        size_t limit = (size_t)maximum_length;
        size_t length = review->length < limit ? review->length : limit;
        for (size_t j = 0; j < length; j++) ids[j] = (uint16_t)(review->bytes[j] + 1);
        ok = mra_sequences_add(splits[review->split], ids, (int)length, review->label);
    }
    free(ids);
    return ok;
}

// Fills the list from the copy under `cache` or, where that is not there or not whole, from the
// archive, and then makes the copy. *copy_status and *copy_err say what became of making it.
static mra_status gather(mra_reviews *list, const char *path, const char *cache, bool quiet,
                         mra_status *copy_status, mra_error *copy_err, mra_error *err)
{
    char sha256[65], copy[1100];
    *copy_status = MRA_OK;
    mra_status status = mra_sha256_file(path, sha256, err);
    if (status != MRA_OK) return status;
    snprintf(copy, sizeof copy, "%.1000s/imdb-%.16s.bin", cache, sha256);
    if (mra_imdb_cache_read(list, copy, sha256)) return MRA_OK;
    status = unpack_archive(list, path, quiet, err);
    if (status != MRA_OK) return status;
    *copy_status = mra_make_folder(cache, copy_err);
    if (*copy_status == MRA_OK)
        *copy_status = mra_imdb_cache_write(list, copy, sha256, copy_err);
    return MRA_OK;
}

mra_status mra_imdb_prepare(const char *path, const char *cache, size_t counts[2], bool quiet,
                            mra_error *err)
{
    mra_reviews list = {0};
    mra_status copy_status;
    mra_error copy_err = {0};
    mra_status status = gather(&list, path, cache, quiet, &copy_status, &copy_err, err);
    if (status == MRA_OK && copy_status != MRA_OK)
        status = mra_fail(err, copy_status, "%s", copy_err.message);
    counts[0] = counts[1] = 0;
    for (size_t i = 0; i < list.count; i++) counts[list.items[i].split]++;
    mra_reviews_free(&list);
    return status;
}

static mra_status gather_for_reading(mra_reviews *list, const char *path, const char *cache,
                                     bool quiet, mra_error *err)
{
    if (!cache || !*cache) return unpack_archive(list, path, quiet, err);
    mra_status copy_status;
    mra_error copy_err = {0};
    mra_status status = gather(list, path, cache, quiet, &copy_status, &copy_err, err);
    if (status == MRA_OK && copy_status != MRA_OK)
        mra_say(quiet, "going on without a prepared copy of the reviews: %s", copy_err.message);
    return status;
}

mra_status mra_imdb_read(mra_sequences *train, mra_sequences *test, const char *path,
                         int maximum_length, const char *cache, bool quiet, mra_error *err)
{
    if (maximum_length < 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "data set text: maximum length %d: expected 1 or more", maximum_length);
    mra_reviews list = {0};
    mra_sequences *splits[2] = {train, test};
    mra_status status = gather_for_reading(&list, path, cache, quiet, err);
    if (status == MRA_OK && !tokenise(splits, &list, maximum_length))
        status = mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the reviews", path);
    mra_reviews_free(&list);
    if (status == MRA_OK) return MRA_OK;
    mra_sequences_free(train);
    mra_sequences_free(test);
    return status;
}
