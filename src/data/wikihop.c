// Questions with their documents.
//
// The published code fills a sequence with documents until one does not fit, emits it, and begins the next with the question
// alone: the document that did not fit is in neither. Nothing is said about it, and the answer may be in it, so here it begins the next
// sequence; `published` leaves it out again.

#include "data/wikihop.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/source.h"

mra_status mra_wikihop_find(const char *folder, int part, char *path, size_t room,
                            mra_error *err)
{
    static const char *const names[2][2] = {{"train.json", NULL}, {"dev.json", NULL}};
    return mra_data_find("wikihop", names[part], folder, path, room, err);
}

typedef struct questions {
    mra_sequences *list;
    mra_bpe *bpe;
    const char *path;
    size_t number; // of the question at hand, from 1
    int maximum_length;
    bool published;
    mra_ids prefix, sequence, document;
    uint16_t *ids;
    int answer;     // place of the right candidate
    bool continues; // a sequence of this question is in the list
} questions;

static mra_status refuse(const questions *all, const char *field, const char *expected,
                         mra_error *err)
{
    return mra_fail(err, MRA_BAD_INPUT, "%s: question %zu: %s: expected %s", all->path,
                    all->number, field, expected);
}

// ---- Tokens ---------------------------------------------------------------------------------

static mra_status append_all(mra_ids *ids, const mra_ids *more, mra_error *err)
{
    mra_status status = MRA_OK;
    for (size_t i = 0; i < more->count && status == MRA_OK; i++)
        status = mra_ids_add(ids, more->id[i], err);
    return status;
}

// before text after; `before` and `after` are the added tokens.
static mra_status append_marked(questions *all, int before, const char *text, int after,
                                mra_error *err)
{
    const int32_t first = mra_bpe_size(all->bpe);
    mra_status status = mra_ids_add(&all->prefix, first + before, err);
    if (status == MRA_OK)
        status = mra_bpe_encode(all->bpe, text, strlen(text), &all->prefix, err);
    return status == MRA_OK ? mra_ids_add(&all->prefix, first + after, err) : status;
}

// ---- A question -----------------------------------------------------------------------------

// Question and candidates, the beginning of each of its sequences.
static mra_status make_prefix(questions *all, const char *query, const json_t *candidates,
                              const char *answer, mra_error *err)
{
    all->prefix.count = 0;
    all->answer = -1;
    mra_status status =
        append_marked(all, MRA_WIKIHOP_QUESTION, query, MRA_WIKIHOP_QUESTION_END, err);
    for (size_t i = 0; i < json_array_size(candidates) && status == MRA_OK; i++) {
        const char *candidate = json_string_value(json_array_get(candidates, i));
        if (!candidate) return refuse(all, "candidates", "a list of texts", err);
        if (all->answer < 0 && strcmp(candidate, answer) == 0)
            all->answer = (int)all->prefix.count;
        status = append_marked(all, MRA_WIKIHOP_ANSWER, candidate, MRA_WIKIHOP_ANSWER_END, err);
    }
    if (status == MRA_OK)
        status = mra_ids_add(&all->prefix, mra_bpe_special_of(all->bpe).end, err);
    if (status == MRA_OK && all->answer < 0)
        return refuse(all, "answer", "one of the candidates", err);
    if (status == MRA_OK && all->prefix.count > (size_t)all->maximum_length)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: question %zu: question and candidates are %zu tokens: expected at "
                        "most %d",
                        all->path, all->number, all->prefix.count, all->maximum_length);
    return status;
}

// Puts the sequence at hand into the list, and begins the next.
static mra_status emit(questions *all, mra_error *err)
{
    const size_t count = all->sequence.count;
    for (size_t i = 0; i < count; i++) all->ids[i] = (uint16_t)all->sequence.id[i];
    const int label = all->answer + (all->continues ? MRA_WIKIHOP_CONTINUES : 0);
    all->continues = true;
    if (!mra_sequences_add(all->list, all->ids, (int)count, label))
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the questions", all->path);
    all->sequence.count = 0;
    return append_all(&all->sequence, &all->prefix, err);
}

static mra_status take_document(questions *all, const char *text, mra_error *err)
{
    const size_t room = (size_t)all->maximum_length;
    all->document.count = 0;
    mra_status status = mra_bpe_encode(all->bpe, text, strlen(text), &all->document, err);
    if (status == MRA_OK)
        status = mra_ids_add(&all->document, mra_bpe_special_of(all->bpe).end, err);
    if (status != MRA_OK) return status;
    if (all->sequence.count + all->document.count > room) {
        const bool empty = all->sequence.count == all->prefix.count;
        if (all->published || !empty) status = emit(all, err);
        if (status != MRA_OK || all->published) return status;
        if (all->sequence.count + all->document.count > room)
            all->document.count = room - all->sequence.count;
    }
    return append_all(&all->sequence, &all->document, err);
}

static mra_status take_question(questions *all, const json_t *object, mra_error *err)
{
    const char *query = json_string_value(json_object_get(object, "query"));
    const char *answer = json_string_value(json_object_get(object, "answer"));
    const json_t *candidates = json_object_get(object, "candidates");
    const json_t *supports = json_object_get(object, "supports");
    if (!json_is_object(object)) return refuse(all, "no object", "one", err);
    if (!query) return refuse(all, "query", "a text", err);
    if (!answer) return refuse(all, "answer", "a text", err);
    if (json_array_size(candidates) == 0)
        return refuse(all, "candidates", "a list of texts", err);
    if (!json_is_array(supports)) return refuse(all, "supports", "a list of texts", err);
    mra_status status = make_prefix(all, query, candidates, answer, err);
    all->sequence.count = 0;
    all->continues = false;
    if (status == MRA_OK) status = append_all(&all->sequence, &all->prefix, err);
    for (size_t i = 0; i < json_array_size(supports) && status == MRA_OK; i++) {
        const char *text = json_string_value(json_array_get(supports, i));
        status = text ? take_document(all, text, err)
                      : refuse(all, "supports", "a list of texts", err);
    }
    const bool rest = all->sequence.count > all->prefix.count || !all->continues;
    return status == MRA_OK && rest ? emit(all, err) : status;
}

mra_status mra_wikihop_read(mra_sequences *list, const char *path, mra_bpe *bpe,
                            int maximum_length, bool published, mra_error *err)
{
    json_error_t reason;
    questions all = {.list = list,
                     .bpe = bpe,
                     .path = path,
                     .maximum_length = maximum_length,
                     .published = published};
    json_t *content = json_load_file(path, 0, &reason);
    mra_status status = MRA_OK;
    if (json_array_size(content) == 0)
        status =
            mra_fail(err, MRA_BAD_INPUT, "%s: line %d: %.80s: expected a list of questions",
                     path, content ? 1 : reason.line, content ? "another value" : reason.text);
    all.ids = calloc((size_t)(maximum_length > 0 ? maximum_length : 1), sizeof *all.ids);
    if (status == MRA_OK && !all.ids)
        status = mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    for (size_t i = 0; i < json_array_size(content) && status == MRA_OK; i++) {
        all.number = i + 1;
        status = take_question(&all, json_array_get(content, i), err);
    }
    json_decref(content);
    free(all.ids);
    mra_ids_free(&all.prefix);
    mra_ids_free(&all.sequence);
    mra_ids_free(&all.document);
    if (status != MRA_OK) mra_sequences_free(list);
    return status;
}
