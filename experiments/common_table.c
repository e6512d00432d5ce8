// Tables of an experiment: rows as they are measured, and means over heads.

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

// ---- Rows, one by one -----------------------------------------------------------------------

mra_status mra_cells_open(mra_experiment *experiment, const char *suffix,
                          const char *const *columns, mra_cells *cells, mra_error *err)
{
    char path[1024];
    mra_experiment_path(experiment, suffix, path);
    *cells = (mra_cells){0};
    mra_status status = mra_tsv_journal(&cells->tsv, path, experiment->stamp, columns, err);
    if (status == MRA_OK) cells->already = mra_tsv_rows(cells->tsv);
    return status;
}

mra_status mra_cells_create(mra_experiment *experiment, const char *suffix,
                            const char *const *columns, mra_cells *cells, mra_error *err)
{
    char path[1024];
    mra_experiment_path(experiment, suffix, path);
    *cells = (mra_cells){0};
    return mra_tsv_create(&cells->tsv, path, columns, err);
}

bool mra_cells_skip(mra_cells *cells, size_t rows)
{
    if (cells->next + rows > cells->already) return false;
    cells->next += rows;
    return true;
}

mra_status mra_cells_row(mra_cells *cells, mra_error *err, const char *types, ...)
{
    if (cells->next++ < cells->already) return MRA_OK;
    va_list arguments;
    va_start(arguments, types);
    for (; *types; types++) {
        if (*types == 't') mra_tsv_text(cells->tsv, va_arg(arguments, const char *));
        if (*types == 'i') mra_tsv_int(cells->tsv, va_arg(arguments, int));
        if (*types == 'r') mra_tsv_real(cells->tsv, va_arg(arguments, double));
    }
    va_end(arguments);
    return mra_tsv_end_row(cells->tsv, err);
}

mra_status mra_cells_commit(mra_experiment *experiment, const char *suffix, mra_cells *cells,
                            mra_error *err)
{
    mra_status status = mra_tsv_commit(cells->tsv, err);
    cells->tsv = NULL;
    return status == MRA_OK ? mra_experiment_output(experiment, suffix, err) : status;
}

void mra_cells_close(mra_cells *cells)
{
    mra_tsv_abandon(cells->tsv);
    cells->tsv = NULL;
}

// ---- Means over heads: rows of a finished table, grouped by some of their cells -------------

enum { MOST_GROUPS = 8 };

typedef struct group {
    size_t row; // of the first member: its cells name the group
    double sum, sum_squares, least, most, pivot;
    int64_t count;
} group;

static bool same_cells(const mra_table *table, size_t a, size_t b, const int *columns,
                       int count)
{
    for (int c = 0; c < count; c++) {
        if (strcmp(mra_table_text(table, a, columns[c]),
                   mra_table_text(table, b, columns[c]))) {
            return false;
        }
    }
    return true;
}

// Sums are taken about the group's first value, so that the variance does not cancel.
static void add_value(group *to, double value)
{
    if (to->count == 0) to->pivot = to->least = to->most = value;
    double shifted = value - to->pivot;
    to->sum += shifted;
    to->sum_squares += shifted * shifted;
    to->least = fmin(to->least, value);
    to->most = fmax(to->most, value);
    to->count++;
}

static mra_status collect(const mra_table *table, const int *columns, int count, int value,
                          group *groups, size_t *group_count, mra_error *err)
{
    for (size_t row = 0; row < mra_table_rows(table); row++) {
        double number;
        if (mra_table_number(table, row, value, &number, err) != MRA_OK) return err->status;
        size_t g = *group_count; // neighbours mostly belong together: look from the end
        while (g > 0 && !same_cells(table, groups[g - 1].row, row, columns, count)) g--;
        if (g == 0) {
            g = ++*group_count;
            groups[g - 1] = (group){.row = row};
        }
        add_value(&groups[g - 1], number);
    }
    return MRA_OK;
}

static void write_group(mra_tsv *out, const mra_table *table, const group *from,
                        const int *columns, int count)
{
    double n = (double)from->count, mean = from->sum / n;
    double variance = n > 1 ? (from->sum_squares - n * mean * mean) / (n - 1) : 0;
    for (int c = 0; c < count; c++)
        mra_tsv_text(out, mra_table_text(table, from->row, columns[c]));
    mra_tsv_real(out, from->pivot + mean);
    mra_tsv_real(out, sqrt(fmax(variance, 0)));
    mra_tsv_real(out, from->least);
    mra_tsv_real(out, from->most);
    mra_tsv_int(out, from->count);
}

static mra_status write_groups(mra_experiment *experiment, const mra_table *table,
                               const char *const *names, const int *columns, int count,
                               const group *groups, size_t group_count, const char *to,
                               mra_error *err)
{
    static const char *const statistics[] = {"mean", "sd", "least", "most", "count"};
    const char *header[MOST_GROUPS + 6] = {0};
    for (int c = 0; c < count; c++) header[c] = names[c];
    for (int s = 0; s < 5; s++) header[count + s] = statistics[s];
    char path[1024];
    mra_experiment_path(experiment, to, path);
    mra_tsv *out;
    if (mra_tsv_create(&out, path, header, err) != MRA_OK) return err->status;
    for (size_t g = 0; g < group_count; g++) {
        write_group(out, table, &groups[g], columns, count);
        if (mra_tsv_end_row(out, err) != MRA_OK) {
            mra_tsv_abandon(out);
            return err->status;
        }
    }
    if (mra_tsv_commit(out, err) != MRA_OK) return err->status;
    return mra_experiment_output(experiment, to, err);
}

mra_status mra_experiment_summary(mra_experiment *experiment, const char *from,
                                  const char *const *names, const char *value, const char *to,
                                  mra_error *err)
{
    char path[1024];
    mra_experiment_path(experiment, from, path);
    mra_table *table = NULL;
    mra_status status = mra_table_read(&table, path, err);
    if (status != MRA_OK) return status;
    int columns[MOST_GROUPS], count = 0, value_column = 0;
    for (; count < MOST_GROUPS && names[count] && status == MRA_OK; count++) {
        status = mra_table_column(table, names[count], &columns[count], err);
    }
    if (status == MRA_OK) status = mra_table_column(table, value, &value_column, err);
    group *groups = calloc(mra_table_rows(table) + 1, sizeof *groups);
    size_t group_count = 0;
    if (status == MRA_OK && !groups) {
        status = mra_fail(err, MRA_NO_MEMORY, "no memory to summarise %s", path);
    }
    if (status == MRA_OK) {
        status = collect(table, columns, count, value_column, groups, &group_count, err);
    }
    if (status == MRA_OK) {
        status = write_groups(experiment, table, names, columns, count, groups, group_count, to,
                              err);
    }
    free(groups);
    mra_table_free(table);
    return status;
}
