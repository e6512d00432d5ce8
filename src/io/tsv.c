// Writing tables: whole at once, or as a journal that survives being killed.
//
// A journal is "<path>.part": a line "# stamp", the header, and the rows, each flushed as it
// ends. A kill can tear only the last line, which the next run cuts off. The rows are also kept
// in memory, so that commit can write the finished table to a fresh file and rename it: at no
// moment does `path` hold half a table. The journal is locked (flock) while a process writes
// it.

#include "io/tsv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"

struct mra_tsv {
    char *header; // the names joined by tabs
    int columns;
    mra_output output; // a created table
    FILE *part;        // a journal, or NULL
    char *path, *part_path;
    char *row; // the row under construction
    size_t row_length, row_room;
    int cells;
    mra_error wrong; // what went wrong in this row
    char **rows;     // journal: all rows
    size_t row_count, rows_room;
};

static void tsv_free(mra_tsv *tsv)
{
    for (size_t i = 0; tsv->rows && i < tsv->row_count; i++) free(tsv->rows[i]);
    free(tsv->rows);
    free(tsv->header);
    free(tsv->path);
    free(tsv->part_path);
    free(tsv->row);
    free(tsv);
}

static int count_cells(const char *line)
{
    int cells = 1;
    for (; *line; line++) cells += *line == '\t';
    return cells;
}

// The names joined by tabs, or NULL for want of memory.
static char *join_columns(const char *const *columns)
{
    size_t length = 1;
    for (int i = 0; columns[i]; i++) length += strlen(columns[i]) + 1;
    char *header = malloc(length), *end = header;
    if (!header) return NULL;
    *end = '\0';
    for (int i = 0; columns[i]; i++) {
        if (i) *end++ = '\t';
        end = stpcpy(end, columns[i]);
    }
    return header;
}

static mra_tsv *tsv_new(const char *path, const char *const *columns)
{
    mra_tsv *tsv = calloc(1, sizeof *tsv);
    if (!tsv) return NULL;
    tsv->header = join_columns(columns);
    tsv->path = strdup(path);
    tsv->part_path = malloc(strlen(path) + sizeof ".part");
    if (!tsv->header || !tsv->path || !tsv->part_path) {
        tsv_free(tsv);
        return NULL;
    }
    sprintf(tsv->part_path, "%s.part", path);
    tsv->columns = count_cells(tsv->header);
    return tsv;
}

mra_status mra_tsv_create(mra_tsv **tsv, const char *path, const char *const *columns,
                          mra_error *err)
{
    *tsv = NULL;
    mra_tsv *t = tsv_new(path, columns);
    if (!t) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the table", path);
    mra_status status = mra_output_open(&t->output, path, err);
    if (status != MRA_OK) {
        tsv_free(t);
        return status;
    }
    fprintf(t->output.stream, "%s\n", t->header); // a failure is told by the commit
    *tsv = t;
    return MRA_OK;
}

// ---- Opening a journal ----------------------------------------------------------------------

// Takes over `row` (from malloc); false when there is no memory.
static bool keep_row(mra_tsv *tsv, char *row)
{
    if (tsv->row_count == tsv->rows_room) {
        size_t room = tsv->rows_room ? 2 * tsv->rows_room : 64;
        char **larger = realloc(tsv->rows, room * sizeof *larger);
        if (!larger) return false;
        tsv->rows = larger;
        tsv->rows_room = room;
    }
    tsv->rows[tsv->row_count++] = row;
    return true;
}

// The next whole line without its newline, allocated; NULL at the end or before a torn line.
static char *whole_line(FILE *file)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length = getline(&line, &room, file);
    if (length < 1 || line[length - 1] != '\n' || strlen(line) != (size_t)length) {
        free(line);
        return NULL;
    }
    line[length - 1] = '\0';
    return line;
}

static bool next_line_is(FILE *file, const char *prefix, const char *rest)
{
    char *line = whole_line(file);
    size_t skip = strlen(prefix);
    bool same = line && strncmp(line, prefix, skip) == 0 && strcmp(line + skip, rest) == 0;
    free(line);
    return same;
}

// Reads back the whole rows and leaves the journal ready for the next one, without a torn line;
// a journal of other columns or another stamp is emptied.
static mra_status resume(mra_tsv *tsv, const char *stamp, mra_error *err)
{
    long end = 0;
    if (next_line_is(tsv->part, "# ", stamp) && next_line_is(tsv->part, "", tsv->header)) {
        end = ftell(tsv->part);
        for (char *row; (row = whole_line(tsv->part)); end = ftell(tsv->part)) {
            bool right = count_cells(row) == tsv->columns;
            if (right && keep_row(tsv, row)) continue;
            free(row);
            if (right) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", tsv->part_path);
            break;
        }
    }
    if (end < 0 || fflush(tsv->part) != 0 || ftruncate(fileno(tsv->part), end) != 0 ||
        fseek(tsv->part, end, SEEK_SET) != 0)
        return mra_fail(err, MRA_IO, "%s: cannot write: %s", tsv->part_path, strerror(errno));
    if (end == 0) fprintf(tsv->part, "# %s\n%s\n", stamp, tsv->header);
    if (fflush(tsv->part) != 0)
        return mra_fail(err, MRA_IO, "%s: cannot write: %s", tsv->part_path, strerror(errno));
    return MRA_OK;
}

static mra_status open_locked(mra_tsv *tsv, mra_error *err)
{
    int descriptor = open(tsv->part_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
        return mra_fail(err, MRA_IO, "%s: cannot write: %s", tsv->part_path, strerror(errno));
    struct stat info;
    if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(descriptor);
        return mra_fail(err, MRA_IO, "%s: cannot write: it is no regular file", tsv->part_path);
    }
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        close(descriptor);
        return mra_fail(err, MRA_BAD_INPUT, "%s: another process is writing this table",
                        tsv->part_path);
    }
    tsv->part = fdopen(descriptor, "r+b");
    if (tsv->part) return MRA_OK;
    close(descriptor);
    return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for a stream", tsv->part_path);
}

mra_status mra_tsv_journal(mra_tsv **tsv, const char *path, const char *stamp,
                           const char *const *columns, mra_error *err)
{
    *tsv = NULL;
    if (strpbrk(stamp, "\r\n"))
        return mra_fail(err, MRA_INTERNAL, "%s: the stamp of a journal is one line", path);
    mra_tsv *t = tsv_new(path, columns);
    if (!t) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the table", path);
    mra_status status = open_locked(t, err);
    if (status == MRA_OK) status = resume(t, stamp, err);
    if (status != MRA_OK) {
        mra_tsv_abandon(t);
        return status;
    }
    *tsv = t;
    return MRA_OK;
}

// Whether the first cells of `row` are `keys`.
static bool starts_with(const char *row, const char *const *keys)
{
    for (; *keys; keys++) {
        size_t length = row ? strcspn(row, "\t") : 0;
        if (!row || strlen(*keys) != length || memcmp(row, *keys, length) != 0) return false;
        row = row[length] ? row + length + 1 : NULL; // NULL: no cell is left
    }
    return true;
}

bool mra_tsv_have(const mra_tsv *tsv, const char *const *keys)
{
    for (size_t i = 0; i < tsv->row_count; i++)
        if (starts_with(tsv->rows[i], keys)) return true;
    return false;
}

size_t mra_tsv_rows(const mra_tsv *tsv)
{
    return tsv->row_count;
}

// ---- Rows -----------------------------------------------------------------------------------

static void add_bytes(mra_tsv *tsv, const char *bytes, size_t count)
{
    if (tsv->row_length + count + 1 > tsv->row_room) {
        size_t room = 2 * tsv->row_room + count + 64;
        char *larger = realloc(tsv->row, room);
        if (!larger) {
            mra_fail(&tsv->wrong, MRA_NO_MEMORY, "%s: no memory for a row", tsv->path);
            return;
        }
        tsv->row = larger;
        tsv->row_room = room;
    }
    memcpy(tsv->row + tsv->row_length, bytes, count);
    tsv->row_length += count;
    tsv->row[tsv->row_length] = '\0';
}

void mra_tsv_text(mra_tsv *tsv, const char *value)
{
    if (strpbrk(value, "\t\r\n"))
        mra_fail(&tsv->wrong, MRA_BAD_INPUT, "%s: row %zu: cell %d holds a tab or a newline",
                 tsv->path, tsv->row_count + 1, tsv->cells + 1);
    if (tsv->cells++) add_bytes(tsv, "\t", 1);
    add_bytes(tsv, value, strlen(value));
}

void mra_tsv_int(mra_tsv *tsv, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    mra_tsv_text(tsv, text);
}

void mra_tsv_real(mra_tsv *tsv, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.9g", value);
    mra_tsv_text(tsv, text);
}

static mra_status finish_row(mra_tsv *tsv, mra_error *err)
{
    if (tsv->wrong.status != MRA_OK)
        return mra_fail(err, tsv->wrong.status, "%s", tsv->wrong.message);
    if (tsv->cells != tsv->columns)
        return mra_fail(err, MRA_INTERNAL, "%s: row %zu: %d cells: expected %d", tsv->path,
                        tsv->row_count + 1, tsv->cells, tsv->columns);
    add_bytes(tsv, "\n", 1);
    FILE *stream = tsv->part ? tsv->part : tsv->output.stream;
    bool written = fwrite(tsv->row, 1, tsv->row_length, stream) == tsv->row_length;
    if (tsv->part && fflush(stream) != 0) written = false;
    if (!written)
        return mra_fail(err, MRA_IO, "%s: cannot write: %s", tsv->path, strerror(errno));
    if (!tsv->part) {
        tsv->row_count++;
        return MRA_OK;
    }
    char *copy = strndup(tsv->row, tsv->row_length - 1);
    if (copy && keep_row(tsv, copy)) return MRA_OK;
    free(copy);
    return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for a row", tsv->path);
}

mra_status mra_tsv_end_row(mra_tsv *tsv, mra_error *err)
{
    mra_status status = finish_row(tsv, err);
    tsv->wrong = (mra_error){0};
    tsv->row_length = 0;
    tsv->cells = 0;
    return status;
}

// ---- The end --------------------------------------------------------------------------------

static mra_status commit_journal(mra_tsv *tsv, mra_error *err)
{
    mra_status status = mra_output_open(&tsv->output, tsv->path, err);
    if (status != MRA_OK) return status;
    fprintf(tsv->output.stream, "%s\n", tsv->header);
    for (size_t i = 0; i < tsv->row_count; i++)
        fprintf(tsv->output.stream, "%s\n", tsv->rows[i]);
    status = mra_output_commit(&tsv->output, err);
    if (status == MRA_OK) unlink(tsv->part_path);
    return status;
}

mra_status mra_tsv_commit(mra_tsv *tsv, mra_error *err)
{
    mra_status status =
        tsv->part ? commit_journal(tsv, err) : mra_output_commit(&tsv->output, err);
    mra_tsv_abandon(tsv);
    return status;
}

void mra_tsv_abandon(mra_tsv *tsv)
{
    if (!tsv) return;
    if (tsv->part) {
        fclose(tsv->part);
    } else if (tsv->output.stream) {
        mra_output_abandon(&tsv->output);
    }
    tsv_free(tsv);
}
