// A corpus: documents to tokens, tokens to a stream, the stream to sequences.
//
// The published preparation concatenates the documents, two </s> after each, cuts the result into pieces of equal length
// without regard to where documents end, and drops what is left at the end. So does this one, with one difference: the
// published code turns the pieces back into text without the </s>, tokenises that again, and cuts or pads it to n - 2; here the pieces are n - 2
// tokens to begin with, the </s> between documents stay, and there is no padding.
//
// The prepared copy holds one entry a document, so the mapped file is the stream itself, and any n can be
// cut from it. Its key is made of the checksums of the sources and of the tokeniser, and of the settings.

#include "data/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/progress.h"
#include "core/random.h"
#include "data/corpus_read.h"
#include "data/prepared.h"
#include "data/sequences.h"
#include "data/source.h"

struct mra_corpus {
    int vocabulary;
    mra_bpe_special special;
    mra_prepared prepared;
    mra_sequences splits[MRA_SPLITS]; // documents with their </s> </s>
    uint16_t *copy[MRA_SPLITS];       // their streams, where there is no mapped one
    const uint16_t *stream[MRA_SPLITS];
    size_t tokens[MRA_SPLITS];
    char source[MRA_CORPUS_SOURCES][1024];
    int sources;
};

mra_corpus_options mra_corpus_defaults(void)
{
    return (mra_corpus_options){.dev = 1000, .test = 1000};
}

// ---- Names ----------------------------------------------------------------------------------

static mra_status find_sources(mra_corpus *corpus, const mra_corpus_options *options,
                               mra_error *err)
{
    const char *folder = mra_data_folder(options->folder);
    for (const char *word = options->sources; word && *(word += strspn(word, " "));) {
        const int length = (int)strcspn(word, " ");
        if (corpus->sources == MRA_CORPUS_SOURCES)
            return mra_fail(err, MRA_BAD_INPUT, "corpus: more than %d sources",
                            MRA_CORPUS_SOURCES);
        char *path = corpus->source[corpus->sources++];
        const size_t room = sizeof corpus->source[0];
        const int used = *word == '/' ? snprintf(path, room, "%.*s", length, word)
                                      : snprintf(path, room, "%s/%.*s", folder, length, word);
        if (used >= (int)room)
            return mra_fail(err, MRA_BAD_INPUT, "corpus: the name %.60s... is too long", word);
        if (!mra_file_exists(path))
            return mra_fail(err, MRA_ABSENT,
                            "corpus: %.*s is not in the folder %.200s; put it there, or set "
                            "MRA_DATA to the folder that holds it",
                            length, word, folder);
        word += length;
    }
    if (corpus->sources > 0) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT,
                    "corpus: no sources; expected names of archives, folders or text files");
}

static void name_tokeniser(const mra_corpus_options *options, char *folder, size_t room)
{
    if (options->bpe)
        snprintf(folder, room, "%s", options->bpe);
    else
        snprintf(folder, room, "%s/roberta-bpe", mra_data_folder(options->folder));
}

// The key of the prepared copy.
static mra_status make_key(const mra_corpus *corpus, const mra_corpus_options *options,
                           const char *tokeniser, char key[65], mra_error *err)
{
    static const char *const names[2] = {"vocab.json", "merges.txt"};
    char text[1024 + 66 * (MRA_CORPUS_SOURCES + 2)], path[1100];
    size_t used =
        (size_t)snprintf(text, sizeof text, "corpus 1 %zu %zu %llu %d %.800s", options->dev,
                         options->test, (unsigned long long)options->seed, options->blank_lines,
                         options->members ? options->members : "");
    for (int i = 0; i < corpus->sources + 2; i++) {
        char sum[65];
        const int of_tokeniser = i - corpus->sources;
        if (of_tokeniser >= 0)
            snprintf(path, sizeof path, "%.1000s/%s", tokeniser, names[of_tokeniser]);
        const mra_status status = of_tokeniser >= 0
                                      ? mra_sha256_file(path, sum, err)
                                      : mra_documents_checksum(corpus->source[i], sum, err);
        if (status != MRA_OK) return status;
        used += (size_t)snprintf(text + used, sizeof text - used, " %s", sum);
    }
    mra_sha256(text, used, key);
    return MRA_OK;
}

// ---- Reading documents ----------------------------------------------------------------------

typedef struct document {
    char *name;
    int source;
    size_t number; // among those of its file
    uint16_t *ids;
    size_t count;
} document;

typedef struct gathering {
    mra_bpe *bpe;
    mra_ids ids; // of the document at hand
    document *list;
    size_t count, room;
    int source;
    mra_progress progress;
} gathering;

static mra_status take_document(void *context, const char *name, const char *text, size_t bytes,
                                mra_error *err)
{
    gathering *all = context;
    const int32_t end = mra_bpe_special_of(all->bpe).end;
    all->ids.count = 0;
    const mra_status status = mra_bpe_encode(all->bpe, text, bytes, &all->ids, err);
    if (status != MRA_OK || all->ids.count == 0) return status;
    if (all->count == all->room) {
        const size_t room = all->room ? 2 * all->room : 1024;
        document *larger = realloc(all->list, room * sizeof *larger);
        if (!larger) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", name);
        all->list = larger;
        all->room = room;
    }
    document made = {.source = all->source, .number = all->count, .count = all->ids.count + 2};
    made.name = strdup(name);
    made.ids = malloc(made.count * sizeof *made.ids);
    if (!made.name || !made.ids || made.count > INT32_MAX) {
        free(made.name);
        free(made.ids);
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for its tokens", name);
    }
    for (size_t i = 0; i + 2 < made.count; i++) made.ids[i] = (uint16_t)all->ids.id[i];
    made.ids[made.count - 2] = made.ids[made.count - 1] = (uint16_t)end;
    all->list[all->count++] = made;
    char detail[40];
    snprintf(detail, sizeof detail, "%zu documents", all->count);
    mra_progress_update(&all->progress, all->source, detail);
    return MRA_OK;
}

// The order of names does not depend on how an archive was packed.
static int by_name(const void *a, const void *b)
{
    const document *x = a, *y = b;
    if (x->source != y->source) return x->source < y->source ? -1 : 1;
    const int order = strcmp(x->name, y->name);
    return order ? order : x->number < y->number ? -1 : 1;
}

static mra_status gather(gathering *all, const mra_corpus *corpus,
                         const mra_corpus_options *options, mra_error *err)
{
    const mra_document_reader reader = {.take = take_document,
                                        .context = all,
                                        .members = options->members,
                                        .blank_lines = options->blank_lines};
    all->progress = mra_progress_start("tokenising", corpus->sources, 0, options->quiet);
    for (all->source = 0; all->source < corpus->sources; all->source++) {
        const size_t before = all->count;
        const char *path = corpus->source[all->source];
        const mra_status status = mra_documents_read(path, &reader, err);
        if (status != MRA_OK) return status;
        if (all->count == before)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: no documents: expected *.txt%s%.100s with text in them", path,
                            options->members && *options->members ? " below " : "",
                            options->members ? options->members : "");
    }
    mra_progress_end(&all->progress, "");
    qsort(all->list, all->count, sizeof *all->list, by_name);
    return MRA_OK;
}

// ---- Splits ---------------------------------------------------------------------------------

// split[i] of each document: dev and test are drawn, the rest is for training.
static uint8_t *draw_splits(size_t count, const mra_corpus_options *options)
{
    uint8_t *split = calloc(count + 1, sizeof *split);
    size_t left[MRA_SPLITS] = {0, options->dev, options->test};
    mra_random random = mra_random_open(options->seed, mra_stream("held-out documents", 0, 0));
    for (size_t i = 0; split && i < count; i++) {
        // Document i is any of those that are still to be given away, with equal probability.
        const size_t rank = mra_random_below(&random, (uint32_t)(count - i));
        if (rank < left[MRA_DEV])
            split[i] = MRA_DEV;
        else if (rank < left[MRA_DEV] + left[MRA_TEST])
            split[i] = MRA_TEST;
        if (split[i]) left[split[i]]--;
    }
    return split;
}

static mra_status divide(mra_corpus *corpus, const gathering *all,
                         const mra_corpus_options *options, mra_error *err)
{
    if (all->count <= options->dev + options->test || all->count > UINT32_MAX)
        return mra_fail(err, MRA_BAD_INPUT,
                        "corpus: %zu documents, of which %zu are held out for dev and %zu for "
                        "test: expected at least one more",
                        all->count, options->dev, options->test);
    uint8_t *split = draw_splits(all->count, options);
    bool room = split != NULL;
    for (size_t i = 0; room && i < all->count; i++)
        room = mra_sequences_add(&corpus->splits[split[i]], all->list[i].ids,
                                 (int)all->list[i].count, 0);
    free(split);
    return room ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "corpus: no memory for the splits");
}

static mra_status read_sources(mra_corpus *corpus, const mra_corpus_options *options,
                               mra_bpe *bpe, mra_error *err)
{
    gathering all = {.bpe = bpe};
    mra_status status = gather(&all, corpus, options, err);
    if (status == MRA_OK) status = divide(corpus, &all, options, err);
    for (size_t i = 0; i < all.count; i++) {
        free(all.list[i].name);
        free(all.list[i].ids);
    }
    free(all.list);
    mra_ids_free(&all.ids);
    return status;
}

// ---- Opening --------------------------------------------------------------------------------

// The streams: where the documents are mapped they lie one after another as they are.
static mra_status make_streams(mra_corpus *corpus, mra_error *err)
{
    for (int s = 0; s < MRA_SPLITS; s++) {
        const mra_sequences *documents = &corpus->splits[s];
        size_t total = 0;
        for (size_t i = 0; i < documents->count; i++)
            total += (size_t)documents->items[i].length;
        corpus->tokens[s] = total;
        if (total == 0) continue;
        if (corpus->prepared.map) {
            corpus->stream[s] = documents->items[0].ids;
            continue;
        }
        uint16_t *at = corpus->copy[s] = malloc(total * sizeof *at);
        if (!at) return mra_fail(err, MRA_NO_MEMORY, "corpus: no memory for %zu tokens", total);
        for (size_t i = 0; i < documents->count; i++) {
            const size_t length = (size_t)documents->items[i].length;
            memcpy(at, documents->items[i].ids, length * sizeof *at);
            at += length;
        }
        corpus->stream[s] = corpus->copy[s];
    }
    return MRA_OK;
}

// Maps the prepared copy, or reads the sources and leaves one.
static mra_status fill(mra_corpus *corpus, const mra_corpus_options *options,
                       const char *tokeniser, mra_bpe *bpe, mra_error *err)
{
    const char *cache = options->cache ? options->cache : "build/cache";
    char key[65], copy[1100];
    if (!*cache) return read_sources(corpus, options, bpe, err);
    mra_status status = make_key(corpus, options, tokeniser, key, err);
    if (status != MRA_OK) return status;
    snprintf(copy, sizeof copy, "%.1000s/corpus-%.16s.bin", cache, key);
    if (mra_prepared_open(&corpus->prepared, copy, key, corpus->splits)) return MRA_OK;
    status = read_sources(corpus, options, bpe, err);
    if (status != MRA_OK) return status;
    mra_error reason = {0};
    mra_status kept = mra_make_folder(cache, &reason);
    if (kept == MRA_OK) kept = mra_prepared_write(copy, key, corpus->splits, &reason);
    if (kept != MRA_OK)
        mra_say(options->quiet, "going on without a prepared copy of the corpus: %s",
                reason.message);
    return MRA_OK;
}

mra_status mra_corpus_open(mra_corpus **corpus, const mra_corpus_options *options,
                           mra_error *err)
{
    char tokeniser[1024];
    mra_bpe *bpe = NULL;
    *corpus = NULL;
    mra_corpus *opened = calloc(1, sizeof *opened);
    if (!opened) return mra_fail(err, MRA_NO_MEMORY, "corpus: no memory");
    name_tokeniser(options, tokeniser, sizeof tokeniser);
    mra_status status = find_sources(opened, options, err);
    if (status == MRA_OK) status = mra_bpe_open(&bpe, tokeniser, err);
    if (status == MRA_OK) {
        opened->vocabulary = mra_bpe_size(bpe);
        opened->special = mra_bpe_special_of(bpe);
        if (opened->vocabulary > UINT16_MAX)
            status =
                mra_fail(err, MRA_BAD_INPUT, "%s/vocab.json: %d tokens, expected at most %d",
                         tokeniser, opened->vocabulary, UINT16_MAX);
    }
    if (status == MRA_OK) status = fill(opened, options, tokeniser, bpe, err);
    if (status == MRA_OK) status = make_streams(opened, err);
    mra_bpe_free(bpe);
    if (status == MRA_OK)
        *corpus = opened;
    else
        mra_corpus_free(opened);
    return status;
}

void mra_corpus_free(mra_corpus *corpus)
{
    if (!corpus) return;
    for (int s = 0; s < MRA_SPLITS; s++) {
        mra_sequences_free(&corpus->splits[s]);
        free(corpus->copy[s]);
    }
    mra_prepared_close(&corpus->prepared);
    free(corpus);
}

// ---- Looking ----------------------------------------------------------------------------------

size_t mra_corpus_documents(const mra_corpus *corpus, mra_split split)
{
    return corpus->splits[split].count;
}

const uint16_t *mra_corpus_stream(const mra_corpus *corpus, mra_split split, size_t *count)
{
    *count = corpus->tokens[split];
    return corpus->stream[split];
}

size_t mra_corpus_sequences(const mra_corpus *corpus, mra_split split, int n)
{
    return n < 3 ? 0 : corpus->tokens[split] / (size_t)(n - 2);
}

void mra_corpus_sequence(const mra_corpus *corpus, mra_split split, size_t i, int n,
                         int32_t *ids)
{
    const uint16_t *from = corpus->stream[split] + i * (size_t)(n - 2);
    ids[0] = corpus->special.begin;
    for (int k = 0; k < n - 2; k++) ids[k + 1] = from[k];
    ids[n - 1] = corpus->special.end;
}

int mra_corpus_vocabulary(const mra_corpus *corpus)
{
    return corpus->vocabulary;
}

mra_bpe_special mra_corpus_special(const mra_corpus *corpus)
{
    return corpus->special;
}

// A folder is no input that a run record could give a checksum of.
const char *mra_corpus_source(const mra_corpus *corpus, int index)
{
    for (int i = 0; i < corpus->sources; i++) {
        struct stat info;
        const bool folder = stat(corpus->source[i], &info) == 0 && S_ISDIR(info.st_mode);
        if (!folder && index-- == 0) return corpus->source[i];
    }
    return NULL;
}
