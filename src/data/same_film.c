// Pairs of IMDb reviews: line k of urls_pos.txt names the film of the review k_*.txt in pos/. The reviews of a film are brought
// together by sorting; a pair of one film is then two places of one run.

#include "data/retrieval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "core/random.h"
#include "data/imdb.h"
#include "data/source.h"
#include "io/archive.h"

// A review: where it belongs (0 train, 1 test), its number in pos or neg, its film.
typedef struct review {
    char *text;
    size_t length;
    int split, positive, number;
    uint64_t film;
} review;

typedef struct film_list { // the lines of one urls file
    uint64_t *film;
    size_t count;
} film_list;

typedef struct corpus {
    review *items;
    size_t count, room;
    film_list films[2][2]; // [split][positive]
    const char *path;
} corpus;

mra_status mra_same_film_find(const char *folder, char *reviews, char *urls, mra_error *err)
{
    static const char *const names[] = {"aclImdb_v1.tar.gz", "imdb-urls.tar.xz", NULL};
    mra_status status = mra_imdb_find(folder, reviews, 1024, err);
    if (status != MRA_OK) return status;
    return mra_data_find("same-film", names, folder, urls, 1024, err);
}

// Whether a member's name begins with aclImdb/{train,test}/, and what follows.
static const char *after_split(const char *name, int *split)
{
    if (strncmp(name, "./", 2) == 0) name += 2;
    for (*split = 0; *split < 2; ++*split) {
        const char *folder = *split ? "aclImdb/test/" : "aclImdb/train/";
        if (strncmp(name, folder, strlen(folder)) == 0) return name + strlen(folder);
    }
    return NULL;
}

// ---- Films ----------------------------------------------------------------------------------

// The lines of a urls file; a film is the hash of its line.
static bool take_lines(film_list *list, const char *text)
{
    size_t room = 0;
    while (*text) {
        const size_t length = strcspn(text, "\r\n");
        if (list->count == room) {
            room = room ? 2 * room : 4096;
            uint64_t *larger = realloc(list->film, room * sizeof *larger);
            if (!larger) return false;
            list->film = larger;
        }
        char line[200];
        snprintf(line, sizeof line, "%.*s", (int)(length < 199 ? length : 199), text);
        list->film[list->count++] = mra_stream(line, 0, 0);
        text += length;
        text += *text == '\r';
        text += *text == '\n';
    }
    return true;
}

static mra_status read_films(corpus *c, const char *path, mra_error *err)
{
    mra_archive *archive;
    mra_status status = mra_archive_open(&archive, path, err);
    int found = 0;
    while (status == MRA_OK && found < 4) {
        const char *name;
        int split;
        status = mra_archive_next(archive, &name, err);
        if (status != MRA_OK || !name) break;
        const char *rest = after_split(name, &split);
        const bool positive = rest && strcmp(rest, "urls_pos.txt") == 0;
        if (!rest || (!positive && strcmp(rest, "urls_neg.txt") != 0)) continue;
        const unsigned char *data;
        size_t bytes;
        status = mra_archive_data(archive, &data, &bytes, err);
        if (status == MRA_OK && !take_lines(&c->films[split][positive], (const char *)data))
            status = mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
        found++;
    }
    mra_archive_close(archive);
    if (status == MRA_OK && found < 4)
        status = mra_fail(err, MRA_BAD_INPUT,
                          "%s: expected urls_pos.txt and urls_neg.txt in aclImdb/train and "
                          "aclImdb/test",
                          path);
    return status;
}

// ---- Reviews --------------------------------------------------------------------------------

// Whether `rest` of a member's name is pos/NUMBER_*.txt or neg/NUMBER_*.txt.
static bool is_review(const char *rest, review *r)
{
    int used = 0;
    r->positive = strncmp(rest, "pos/", 4) == 0;
    if (!r->positive && strncmp(rest, "neg/", 4) != 0) return false;
    return sscanf(rest + 4, "%d_%*d.txt%n", &r->number, &used) == 1 && used > 0 &&
           rest[4 + used] == '\0' && r->number >= 0;
}

static mra_status take_review(corpus *c, const char *name, review r, const unsigned char *data,
                              mra_error *err)
{
    const film_list *films = &c->films[r.split][r.positive];
    if ((size_t)r.number >= films->count)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: member %s: review %d has no film: the list has %zu lines", c->path,
                        name, r.number, films->count);
    if (c->count == c->room) {
        const size_t room = c->room ? 2 * c->room : 4096;
        review *larger = realloc(c->items, room * sizeof *larger);
        if (!larger) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", c->path);
        c->items = larger;
        c->room = room;
    }
    r.film = films->film[r.number];
    r.text = malloc(r.length ? r.length : 1);
    if (!r.text) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", c->path);
    memcpy(r.text, data, r.length);
    c->items[c->count++] = r;
    return MRA_OK;
}

static mra_status read_reviews(corpus *c, bool quiet, mra_error *err)
{
    mra_archive *archive;
    mra_status status = mra_archive_open(&archive, c->path, err);
    if (status != MRA_OK) return status;
    mra_progress progress =
        mra_progress_start("unpacking IMDb", 2 * MRA_IMDB_PER_SPLIT, 0, quiet);
    for (;;) {
        const char *name;
        review r = {0};
        status = mra_archive_next(archive, &name, err);
        if (status != MRA_OK || !name) break;
        const char *rest = after_split(name, &r.split);
        if (!rest || !is_review(rest, &r)) continue;
        const unsigned char *data;
        status = mra_archive_data(archive, &data, &r.length, err);
        if (status == MRA_OK) status = take_review(c, name, r, data, err);
        if (status != MRA_OK) break;
        mra_progress_update(&progress, (double)c->count, "");
    }
    mra_archive_close(archive);
    if (status == MRA_OK) mra_progress_end(&progress, "");
    return status;
}

// ---- Pairs ----------------------------------------------------------------------------------

// Train (0), dev (1), test (2): one film in ten of the training reviews is for dev.
static int split_of(const review *r)
{
    return r->split ? 2 : r->film % 10 == 0;
}

// By split and film; within a film in an order that does not depend on the archive's.
static int by_film(const void *a, const void *b)
{
    const review *x = a, *y = b;
    const int split = split_of(x) - split_of(y);
    if (split) return split;
    if (x->film != y->film) return x->film < y->film ? -1 : 1;
    return x->positive != y->positive ? x->positive - y->positive : x->number - y->number;
}

// The half-open run of reviews of the film of review i, within [begin, end).
static void run_of(const corpus *c, size_t i, size_t begin, size_t end, size_t *first,
                   size_t *after)
{
    *first = i;
    *after = i + 1;
    while (*first > begin && c->items[*first - 1].film == c->items[i].film) --*first;
    while (*after < end && c->items[*after].film == c->items[i].film) ++*after;
}

static size_t pick(mra_random *random, size_t first, size_t after)
{
    return first + mra_random_below(random, (uint32_t)(after - first));
}

static bool add_pair(mra_sequences *list, const corpus *c, size_t begin, size_t end,
                     int maximum_length, mra_random *random, uint16_t *ids)
{
    const int label = (int)mra_random_below(random, 2);
    size_t one, other, first, after;
    do { // a film with two reviews, for either label: so a label says nothing about the first review
        one = pick(random, begin, end);
        run_of(c, one, begin, end, &first, &after);
    } while (after - first < 2);
    do other = label ? pick(random, first, after) : pick(random, begin, end);
    while (label ? other == one : other >= first && other < after);
    int length[2];
    for (int i = 0; i < 2; i++) {
        const review *r = &c->items[i ? other : one];
        length[i] = r->length < (size_t)maximum_length ? (int)r->length : maximum_length;
        for (int j = 0; j < length[i]; j++)
            ids[i * maximum_length + j] = (uint16_t)((unsigned char)r->text[j] + 1);
    }
    return mra_sequences_add_pair(list, ids, length[0], ids + maximum_length, length[1], label);
}

// Whether the reviews of a split hold a film with two of them, and a second film.
static bool can_pair(const corpus *c, size_t begin, size_t end)
{
    size_t first, after;
    for (size_t i = begin; i < end; i = after) {
        run_of(c, i, begin, end, &first, &after);
        if (after - first >= 2 && after - first < end - begin) return true;
    }
    return false;
}

static mra_status draw(mra_sequences splits[3], const size_t counts[3], const corpus *c,
                       int maximum_length, uint64_t seed, mra_error *err)
{
    uint16_t *ids = malloc(2 * (size_t)maximum_length * sizeof *ids);
    if (!ids) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", c->path);
    mra_status status = MRA_OK;
    size_t begin = 0, end = 0;
    for (int s = 0; s < 3 && status == MRA_OK; s++, begin = end) {
        while (end < c->count && split_of(&c->items[end]) == s) end++;
        if (counts[s] > 0 && !can_pair(c, begin, end))
            status = mra_fail(err, MRA_BAD_INPUT,
                              "%s: too few reviews to pair for split %d: expected a film with "
                              "two reviews and another film",
                              c->path, s);
        for (size_t i = 0; i < counts[s] && status == MRA_OK; i++) {
            mra_random random = mra_random_open(seed, mra_stream("same film", (uint64_t)s, i));
            if (!add_pair(&splits[s], c, begin, end, maximum_length, &random, ids))
                status = mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the pairs", c->path);
        }
    }
    free(ids);
    return status;
}

mra_status mra_same_film_draw(mra_sequences splits[3], const size_t counts[3],
                              const char *reviews, const char *urls, int maximum_length,
                              uint64_t seed, bool quiet, mra_error *err)
{
    corpus c = {.path = reviews};
    mra_status status = read_films(&c, urls, err);
    if (status == MRA_OK) status = read_reviews(&c, quiet, err);
    if (status == MRA_OK && c.count) qsort(c.items, c.count, sizeof *c.items, by_film);
    if (status == MRA_OK) status = draw(splits, counts, &c, maximum_length, seed, err);
    for (size_t i = 0; i < c.count; i++) free(c.items[i].text);
    free(c.items);
    for (int s = 0; s < 4; s++) free(c.films[s / 2][s % 2].film);
    for (int s = 0; s < 3 && status != MRA_OK; s++) mra_sequences_free(&splits[s]);
    return status;
}
