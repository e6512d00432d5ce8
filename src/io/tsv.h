// Tables as text: one header line with column names, one line a row, cells separated by tabs.
// No quoting: a cell holds no tab and no newline. Every result of the suite is such a table.
#ifndef MRA_IO_TSV_H
#define MRA_IO_TSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

// ---- Writing --------------------------------------------------------------------------------
//
//     const char *const columns[] = {"method", "n", "error", NULL};
//     mra_tsv *tsv;
//     status = mra_tsv_journal(&tsv, "build/results/efficiency.tsv", stamp, columns, err);
//     for each cell:
//         // Done by an earlier run?
//         if (mra_tsv_have(tsv, (const char *const[]){"mra2", "512", NULL})) continue;
//         mra_tsv_text(tsv, "mra2");
//         mra_tsv_int(tsv, 512);
//         mra_tsv_real(tsv, 0.153);
//         status = mra_tsv_end_row(tsv, err);                         // on disk from here on
//     status = mra_tsv_commit(tsv, err);

typedef struct mra_tsv mra_tsv; // opaque

// A table that appears whole under `path` at the commit (core/file.h). `columns` ends with
// NULL.
mra_status mra_tsv_create(mra_tsv **tsv, const char *path, const char *const *columns,
                          mra_error *err);

// A table that survives being killed: each row is appended to "<path>.part" as it ends. Opening
// it again reads back the whole rows that are there, less a torn last line. `stamp` (one line,
// "" for none) says what the rows depend on, e.g. a checksum of settings and inputs: a journal
// of another stamp or of other columns is started afresh. MRA_BAD_INPUT when another process is
// writing the same journal. Commit writes the table, without the stamp, under `path` and
// removes the journal.
mra_status mra_tsv_journal(mra_tsv **tsv, const char *path, const char *stamp,
                           const char *const *columns, mra_error *err);

// Whether a row is there whose first cells equal `keys` (ends with NULL; texts as they stand in
// the file). Journals only: rows of this run and of earlier ones.
bool mra_tsv_have(const mra_tsv *tsv, const char *const *keys);
size_t mra_tsv_rows(const mra_tsv *tsv); // rows so far, those of earlier runs included

// The cells of a row, in the order of the columns. Errors (a tab or newline in a text, no
// memory) are kept and told at the end of the row. A real number is written with 9 significant
// digits.
void mra_tsv_text(mra_tsv *tsv, const char *value);
void mra_tsv_int(mra_tsv *tsv, int64_t value);
void mra_tsv_real(mra_tsv *tsv, double value);
// MRA_INTERNAL when the number of cells is not that of the columns; MRA_IO when the disk is
// full.
mra_status mra_tsv_end_row(mra_tsv *tsv, mra_error *err);

// Both free `tsv`. Abandoning removes a created table and keeps a journal for the next run.
mra_status mra_tsv_commit(mra_tsv *tsv, mra_error *err);
void mra_tsv_abandon(mra_tsv *tsv); // NULL allowed

// ---- Reading row by row ---------------------------------------------------------------------

typedef struct mra_tsv_reader mra_tsv_reader; // opaque

// Opens a table and reads its header. An empty file, or a header with an empty or repeated
// name, is MRA_BAD_INPUT.
mra_status mra_tsv_open(mra_tsv_reader **reader, const char *path, mra_error *err);
void mra_tsv_close(mra_tsv_reader *reader); // NULL allowed
int mra_tsv_columns(const mra_tsv_reader *reader);
const char *mra_tsv_column_name(const mra_tsv_reader *reader, int column);
// The next row's cells, borrowed until the next call; *cells is NULL at the end. A row with
// another number of cells than the header, or with a zero byte, is MRA_BAD_INPUT naming file
// and line. "\r\n" ends a line as "\n" does.
mra_status mra_tsv_next(mra_tsv_reader *reader, const char *const **cells, mra_error *err);
int mra_tsv_line(const mra_tsv_reader *reader); // of the row read last; the header is line 1

// ---- Reading a whole table ------------------------------------------------------------------

typedef struct mra_table mra_table; // opaque

mra_status mra_table_read(mra_table **table, const char *path, mra_error *err);
void mra_table_free(mra_table *table); // NULL allowed
size_t mra_table_rows(const mra_table *table);
int mra_table_columns(const mra_table *table);
const char *mra_table_column_name(const mra_table *table, int column);
// The position of a column; MRA_BAD_INPUT names the file and the missing column.
mra_status mra_table_column(const mra_table *table, const char *name, int *column,
                            mra_error *err);
// A cell as text (borrowed from the table), row from 0.
const char *mra_table_text(const mra_table *table, size_t row, int column);
// A cell as a number ("nan" and "inf" are numbers); MRA_BAD_INPUT names file, line, column and
// the text.
mra_status mra_table_number(const mra_table *table, size_t row, int column, double *value,
                            mra_error *err);

#endif
