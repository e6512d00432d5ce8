// Reading tables, row by row or whole.
//
// The row reader holds one line at a time, so that a file of hundreds of megabytes (the
// training split of ListOps) costs a few kilobytes. A whole table keeps its cells in one arena.

#include "io/tsv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"

struct mra_tsv_reader {
    FILE *file;
    char *path;
    char *header; // the header line, tabs replaced by NULs
    const char **names, **cells;
    int columns, line_number;
    char *line;
    size_t room;
};

// Reads a line without its end into r->line. *length is -1 at the end of the file.
static mra_status read_line(mra_tsv_reader *r, ssize_t *length, mra_error *err)
{
    errno = 0;
    *length = getline(&r->line, &r->room, r->file);
    if (*length < 0) {
        if (ferror(r->file) || errno == ENOMEM)
            return mra_fail(err, MRA_IO, "%s: cannot read: %s", r->path, strerror(errno));
        return MRA_OK;
    }
    r->line_number++;
    if (strlen(r->line) != (size_t)*length)
        return mra_fail(err, MRA_BAD_INPUT, "%s:%d: a zero byte: expected a text file", r->path,
                        r->line_number);
    if (*length && r->line[*length - 1] == '\n') r->line[--*length] = '\0';
    if (*length && r->line[*length - 1] == '\r') r->line[--*length] = '\0';
    return MRA_OK;
}

// Cuts a line at its tabs; stores at most `limit` cells and returns how many there are.
static int split(char *line, const char **cells, int limit)
{
    int count = 0;
    for (;;) {
        if (count < limit) cells[count] = line;
        count++;
        line = strchr(line, '\t');
        if (!line) return count;
        *line++ = '\0';
    }
}

static mra_status check_names(const mra_tsv_reader *r, mra_error *err)
{
    for (int i = 0; i < r->columns; i++) {
        if (!*r->names[i])
            return mra_fail(err, MRA_BAD_INPUT, "%s:1: column %d has no name", r->path, i + 1);
        for (int j = 0; j < i; j++)
            if (strcmp(r->names[i], r->names[j]) == 0)
                return mra_fail(err, MRA_BAD_INPUT, "%s:1: two columns are named %s", r->path,
                                r->names[i]);
    }
    return MRA_OK;
}

static mra_status read_header(mra_tsv_reader *r, mra_error *err)
{
    ssize_t length;
    mra_status status = read_line(r, &length, err);
    if (status != MRA_OK) return status;
    if (length < 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: the file is empty: expected a header line",
                        r->path);
    r->columns = 1;
    for (const char *c = r->line; *c; c++) r->columns += *c == '\t';
    r->header = strdup(r->line);
    r->names = calloc((size_t)r->columns, sizeof *r->names);
    r->cells = calloc((size_t)r->columns, sizeof *r->cells);
    if (!r->header || !r->names || !r->cells)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the header", r->path);
    split(r->header, r->names, r->columns);
    return check_names(r, err);
}

mra_status mra_tsv_open(mra_tsv_reader **reader, const char *path, mra_error *err)
{
    *reader = NULL;
    mra_tsv_reader *r = calloc(1, sizeof *r);
    if (r) r->path = strdup(path);
    if (!r || !r->path) {
        mra_tsv_close(r);
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for a reader", path);
    }
    r->file = fopen(path, "rb");
    mra_status status = r->file ? read_header(r, err)
                                : mra_fail(err, errno == ENOENT ? MRA_ABSENT : MRA_IO,
                                           "%s: cannot read: %s", path, strerror(errno));
    if (status != MRA_OK) {
        mra_tsv_close(r);
        return status;
    }
    *reader = r;
    return MRA_OK;
}

void mra_tsv_close(mra_tsv_reader *reader)
{
    if (!reader) return;
    if (reader->file) fclose(reader->file);
    free(reader->path);
    free(reader->header);
    free(reader->names);
    free(reader->cells);
    free(reader->line);
    free(reader);
}

int mra_tsv_columns(const mra_tsv_reader *reader)
{
    return reader->columns;
}

const char *mra_tsv_column_name(const mra_tsv_reader *reader, int column)
{
    return reader->names[column];
}

int mra_tsv_line(const mra_tsv_reader *reader)
{
    return reader->line_number;
}

mra_status mra_tsv_next(mra_tsv_reader *reader, const char *const **cells, mra_error *err)
{
    *cells = NULL;
    ssize_t length;
    mra_status status = read_line(reader, &length, err);
    if (status != MRA_OK || length < 0) return status;
    int count = split(reader->line, reader->cells, reader->columns);
    if (count != reader->columns)
        return mra_fail(err, MRA_BAD_INPUT, "%s:%d: %d cells: expected %d as in the header",
                        reader->path, reader->line_number, count, reader->columns);
    *cells = reader->cells;
    return MRA_OK;
}

// ---- Whole tables ---------------------------------------------------------------------------

struct mra_table {
    mra_arena arena; // names and cells
    char *path;
    int columns;
    const char **names;
    const char ***rows; // rows[row][column]
    size_t row_count, room;
};

// A copy of `count` texts in the arena, or NULL.
static const char **copy_texts(mra_arena *arena, const char *const *texts, int count)
{
    size_t bytes = (size_t)count * sizeof(char *);
    for (int i = 0; i < count; i++) bytes += strlen(texts[i]) + 1;
    const char **copy = mra_arena_alloc(arena, bytes);
    if (!copy) return NULL;
    char *at = (char *)(copy + count);
    for (int i = 0; i < count; i++) {
        copy[i] = at;
        at = stpcpy(at, texts[i]) + 1;
    }
    return copy;
}

static bool append_row(mra_table *table, const char *const *cells)
{
    if (table->row_count == table->room) {
        size_t room = table->room ? 2 * table->room : 64;
        const char ***larger = realloc(table->rows, room * sizeof *larger);
        if (!larger) return false;
        table->rows = larger;
        table->room = room;
    }
    const char **row = copy_texts(&table->arena, cells, table->columns);
    if (!row) return false;
    table->rows[table->row_count++] = row;
    return true;
}

static mra_status read_rows(mra_table *table, mra_tsv_reader *reader, mra_error *err)
{
    table->columns = reader->columns;
    table->path = strdup(reader->path);
    table->names = copy_texts(&table->arena, reader->names, reader->columns);
    bool memory = table->path && table->names;
    while (memory) {
        const char *const *cells;
        mra_status status = mra_tsv_next(reader, &cells, err);
        if (status != MRA_OK || !cells) return status;
        memory = append_row(table, cells);
    }
    return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the table", reader->path);
}

mra_status mra_table_read(mra_table **table, const char *path, mra_error *err)
{
    *table = NULL;
    mra_tsv_reader *reader;
    mra_status status = mra_tsv_open(&reader, path, err);
    if (status != MRA_OK) return status;
    mra_table *t = calloc(1, sizeof *t);
    status = t ? read_rows(t, reader, err)
               : mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the table", path);
    mra_tsv_close(reader);
    if (status == MRA_OK)
        *table = t;
    else
        mra_table_free(t);
    return status;
}

void mra_table_free(mra_table *table)
{
    if (!table) return;
    mra_arena_free(&table->arena);
    free(table->path);
    free(table->rows);
    free(table);
}

size_t mra_table_rows(const mra_table *table)
{
    return table->row_count;
}

int mra_table_columns(const mra_table *table)
{
    return table->columns;
}

const char *mra_table_column_name(const mra_table *table, int column)
{
    return table->names[column];
}

mra_status mra_table_column(const mra_table *table, const char *name, int *column,
                            mra_error *err)
{
    for (int i = 0; i < table->columns; i++) {
        if (strcmp(table->names[i], name) != 0) continue;
        *column = i;
        return MRA_OK;
    }
    return mra_fail(err, MRA_BAD_INPUT, "%s: there is no column %s", table->path, name);
}

const char *mra_table_text(const mra_table *table, size_t row, int column)
{
    return table->rows[row][column];
}

mra_status mra_table_number(const mra_table *table, size_t row, int column, double *value,
                            mra_error *err)
{
    const char *text = table->rows[row][column];
    char *end;
    *value = strtod(text, &end);
    if (end != text && !*end) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%s:%zu: column %s: \"%.80s\": expected a number",
                    table->path, row + 2, table->names[column], text);
}
