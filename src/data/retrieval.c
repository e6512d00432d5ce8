// Pairs from the files of the ACL Anthology Network.

#include "data/retrieval.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 5, LABEL = 0, FIRST = 3, SECOND = 4 };

// Cuts a line into cells at its tabs, in place; returns how many. Quotes around a cell are taken off.
static int cut(char *line, char *cell[COLUMNS + 1], size_t length[COLUMNS + 1])
{
    int count = 0;
    for (char *at = line; at && count <= COLUMNS; count++) {
        char *tab = strchr(at, '\t');
        if (tab) *tab = '\0';
        cell[count] = at;
        length[count] = strlen(at);
        if (length[count] >= 2 && at[0] == '"' && at[length[count] - 1] == '"') {
            size_t kept = 0;
            for (size_t i = 1; i + 1 < length[count]; i++) {
                at[kept++] = at[i];
                if (at[i] == '"' && at[i + 1] == '"' && i + 2 < length[count]) i++;
            }
            length[count] = kept;
        }
        at = tab ? tab + 1 : NULL;
    }
    return count;
}

static int read_label(const char *cell, size_t length)
{
    static const char *const names[] = {"0", "0.0", "1", "1.0"};
    for (int i = 0; i < 4; i++)
        if (strlen(names[i]) == length && strncmp(cell, names[i], length) == 0) return i / 2;
    return -1;
}

static int tokens_of(const char *text, size_t length, int maximum_length, uint16_t *ids)
{
    const int count = length < (size_t)maximum_length ? (int)length : maximum_length;
    for (int i = 0; i < count; i++) ids[i] = (uint16_t)((unsigned char)text[i] + 1);
    return count;
}

static mra_status take_row(mra_sequences *list, const char *path, size_t row, char *line,
                           int maximum_length, uint16_t *ids, mra_error *err)
{
    char *cell[COLUMNS + 1];
    size_t length[COLUMNS + 1];
    const int columns = cut(line, cell, length);
    if (columns != COLUMNS)
        return mra_fail(err, MRA_BAD_INPUT, "%s: row %zu: %s%d columns: expected %d", path, row,
                        columns > COLUMNS ? "more than " : "",
                        columns > COLUMNS ? COLUMNS : columns, COLUMNS);
    const int label = read_label(cell[LABEL], length[LABEL]);
    if (label < 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: row %zu: label \"%.20s\": expected 0 or 1",
                        path, row, cell[LABEL]);
    if (length[FIRST] == 0 || length[SECOND] == 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: row %zu: an empty text", path, row);
    uint16_t *second = ids + maximum_length;
    const int first_count = tokens_of(cell[FIRST], length[FIRST], maximum_length, ids);
    const int second_count = tokens_of(cell[SECOND], length[SECOND], maximum_length, second);
    if (!mra_sequences_add_pair(list, ids, first_count, second, second_count, label))
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the pairs", path);
    return MRA_OK;
}

mra_status mra_aan_read(mra_sequences *list, const char *path, size_t limit, int maximum_length,
                        mra_error *err)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return mra_fail(err, errno == ENOENT ? MRA_ABSENT : MRA_IO, "%s: cannot read: %s", path,
                        strerror(errno));
    uint16_t *ids = malloc(2 * (size_t)maximum_length * sizeof *ids);
    mra_status status = ids ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    char *line = NULL;
    size_t room = 0, row = 0;
    ssize_t length;
    while (status == MRA_OK && (limit == 0 || row < limit) &&
           (length = getline(&line, &room, file)) > 0) {
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        status = take_row(list, path, ++row, line, maximum_length, ids, err);
    }
    if (status == MRA_OK && ferror(file))
        status = mra_fail(err, MRA_IO, "%s: row %zu: it cannot be read", path, row);
    free(line);
    free(ids);
    fclose(file);
    if (status != MRA_OK) mra_sequences_free(list);
    return status;
}
