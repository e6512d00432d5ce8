// Pairs of sentences, from GLUE's tables or from the authors' lines of JSON.

#include "data/mnli.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/source.h"
#include "io/tsv.h"

mra_status mra_mnli_find(const char *folder, int part, char *path, size_t room, mra_error *err)
{
    static const char *const names[3][3] = {
        {"train.tsv", "multinli_1.0_train.jsonl", NULL},
        {"dev_matched.tsv", "multinli_1.0_dev_matched.jsonl", NULL},
        {"dev_mismatched.tsv", "multinli_1.0_dev_mismatched.jsonl", NULL}};
    return mra_data_find("mnli", names[part], folder, path, room, err);
}

// ---- One pair -------------------------------------------------------------------------------

typedef struct pairs {
    mra_sequences *list;
    mra_bpe *bpe;
    const char *path;
    int maximum_length;
    mra_ids first, second;
    uint16_t *ids;
} pairs;

static mra_status read_label(const pairs *pairs, size_t row, const char *text, int *label,
                             mra_error *err)
{
    static const char *const names[] = {"contradiction", "entailment", "neutral", "-"};
    for (int i = 0; i < 4; i++)
        if (text && strcmp(text, names[i]) == 0) {
            *label = i < MRA_MNLI_CLASSES ? i : -1;
            return MRA_OK;
        }
    return mra_fail(err, MRA_BAD_INPUT,
                    "%s: row %zu: gold_label \"%.40s\": expected contradiction, entailment, "
                    "neutral or -",
                    pairs->path, row, text ? text : "");
}

static mra_status take_pair(pairs *pairs, size_t row, const char *first, const char *second,
                            const char *gold, mra_error *err)
{
    int label = -1;
    mra_status status = read_label(pairs, row, gold, &label, err);
    if (status != MRA_OK || label < 0) return status;
    if (!first || !*first || !second || !*second)
        return mra_fail(err, MRA_BAD_INPUT, "%s: row %zu: no %s: expected a sentence",
                        pairs->path, row, first && *first ? "sentence2" : "sentence1");
    pairs->first.count = pairs->second.count = 0;
    status = mra_bpe_encode(pairs->bpe, first, strlen(first), &pairs->first, err);
    if (status == MRA_OK)
        status = mra_bpe_encode(pairs->bpe, second, strlen(second), &pairs->second, err);
    if (status != MRA_OK) return status;
    size_t a = pairs->first.count, b = pairs->second.count, count = 0;
    while (a + b + 4 > (size_t)pairs->maximum_length) *(a > b ? &a : &b) -= 1;
    const mra_bpe_special special = mra_bpe_special_of(pairs->bpe);
    uint16_t *ids = pairs->ids;
    ids[count++] = (uint16_t)special.begin;
    for (size_t i = 0; i < a; i++) ids[count++] = (uint16_t)pairs->first.id[i];
    ids[count++] = (uint16_t)special.end;
    ids[count++] = (uint16_t)special.end;
    for (size_t i = 0; i < b; i++) ids[count++] = (uint16_t)pairs->second.id[i];
    ids[count++] = (uint16_t)special.end;
    if (mra_sequences_add(pairs->list, ids, (int)count, label)) return MRA_OK;
    return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the pairs", pairs->path);
}

// ---- Tables ---------------------------------------------------------------------------------

static mra_status find_columns(const mra_tsv_reader *reader, const char *path, int column[3],
                               mra_error *err)
{
    static const char *const names[3] = {"sentence1", "sentence2", "gold_label"};
    for (int i = 0; i < 3; i++) {
        column[i] = -1;
        for (int c = 0; c < mra_tsv_columns(reader); c++)
            if (strcmp(mra_tsv_column_name(reader, c), names[i]) == 0) column[i] = c;
        if (column[i] < 0)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: row 1: no column %s: expected sentence1, sentence2 and "
                            "gold_label",
                            path, names[i]);
    }
    return MRA_OK;
}

static mra_status read_table(pairs *pairs, mra_error *err)
{
    mra_tsv_reader *reader;
    int column[3];
    mra_status status = mra_tsv_open(&reader, pairs->path, err);
    if (status != MRA_OK) return status;
    status = find_columns(reader, pairs->path, column, err);
    while (status == MRA_OK) {
        const char *const *cell;
        status = mra_tsv_next(reader, &cell, err);
        if (status != MRA_OK || !cell) break;
        status = take_pair(pairs, (size_t)mra_tsv_line(reader), cell[column[0]],
                           cell[column[1]], cell[column[2]], err);
    }
    mra_tsv_close(reader);
    return status;
}

// ---- Lines of JSON --------------------------------------------------------------------------

static mra_status take_line(pairs *pairs, size_t row, const char *line, mra_error *err)
{
    json_error_t reason;
    json_t *object = json_loads(line, 0, &reason);
    mra_status status;
    if (!json_is_object(object))
        status = mra_fail(err, MRA_BAD_INPUT, "%s: row %zu: %.80s: expected a JSON object",
                          pairs->path, row, object ? "another value" : reason.text);
    else
        status = take_pair(pairs, row, json_string_value(json_object_get(object, "sentence1")),
                           json_string_value(json_object_get(object, "sentence2")),
                           json_string_value(json_object_get(object, "gold_label")), err);
    json_decref(object);
    return status;
}

static mra_status read_lines(pairs *pairs, mra_error *err)
{
    FILE *file = fopen(pairs->path, "r");
    if (!file)
        return mra_fail(err, errno == ENOENT ? MRA_ABSENT : MRA_IO, "%s: cannot read: %s",
                        pairs->path, strerror(errno));
    char *line = NULL;
    size_t room = 0, row = 0;
    mra_status status = MRA_OK;
    while (status == MRA_OK && getline(&line, &room, file) > 0)
        status = take_line(pairs, ++row, line, err);
    if (status == MRA_OK && ferror(file))
        status = mra_fail(err, MRA_IO, "%s: row %zu: it cannot be read", pairs->path, row);
    free(line);
    fclose(file);
    return status;
}

// ---- Either ---------------------------------------------------------------------------------

mra_status mra_mnli_read(mra_sequences *list, const char *path, mra_bpe *bpe,
                         int maximum_length, mra_error *err)
{
    const size_t length = strlen(path);
    const bool json = length > 6 && strcmp(path + length - 6, ".jsonl") == 0;
    pairs pairs = {.list = list, .bpe = bpe, .path = path, .maximum_length = maximum_length};
    if (maximum_length < 5)
        return mra_fail(err, MRA_BAD_INPUT, "mnli: sequences of %d tokens, expected 5 or more",
                        maximum_length);
    pairs.ids = malloc((size_t)maximum_length * sizeof *pairs.ids);
    mra_status status = !pairs.ids ? mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path)
                        : json     ? read_lines(&pairs, err)
                                   : read_table(&pairs, err);
    if (status == MRA_OK && list->count == 0)
        status =
            mra_fail(err, MRA_BAD_INPUT, "%s: no pair of sentences: expected one a row", path);
    free(pairs.ids);
    mra_ids_free(&pairs.first);
    mra_ids_free(&pairs.second);
    if (status != MRA_OK) mra_sequences_free(list);
    return status;
}
