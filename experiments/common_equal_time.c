// At equal time. A better ranking costs time of its own, and a method that spends that time on
// more boxes may be as good. Budgets are few and times are what they are, so the rival's error at
// the reference's time is read off the line between its two nearest measurements.

#include "common_equal_time.h"

#include <math.h>
#include <string.h>

typedef struct time_point {
    double ms, blocks, error;
} time_point;

enum { SET, N, RANKING, BLOCKS, MS, ERROR, COLUMNS };

static mra_status read_point(const mra_table *table, const int *column, size_t row,
                             time_point *point, mra_error *err)
{
    if (mra_table_number(table, row, column[BLOCKS], &point->blocks, err) != MRA_OK ||
        mra_table_number(table, row, column[MS], &point->ms, err) != MRA_OK)
        return err->status;
    return mra_table_number(table, row, column[ERROR], &point->error, err);
}

static bool same(const mra_table *table, const int *column, size_t a, size_t b)
{
    return !strcmp(mra_table_text(table, a, column[SET]),
                   mra_table_text(table, b, column[SET])) &&
           !strcmp(mra_table_text(table, a, column[N]), mra_table_text(table, b, column[N]));
}

// The rival at point->ms: where its curve of the set of `row` first takes that time, its last point
// where all of it is cheaper; *found: false where all of it is dearer.
static mra_status meet(const mra_table *table, const int *column, size_t row, const char *rival,
                       time_point *point, bool *found, mra_error *err)
{
    time_point before = {0}, here = {0};
    int seen = 0;
    bool crossed = false;
    for (size_t r = 0; r < mra_table_rows(table) && !crossed; r++) {
        if (strcmp(mra_table_text(table, r, column[RANKING]), rival) ||
            !same(table, column, row, r))
            continue;
        before = here;
        if (read_point(table, column, r, &here, err) != MRA_OK) return err->status;
        crossed = seen++ > 0 && (before.ms - point->ms) * (here.ms - point->ms) <= 0;
    }
    *found = crossed || (seen > 0 && here.ms < point->ms);
    const double across = here.ms - before.ms;
    const double share = !crossed ? 1 : across != 0 ? (point->ms - before.ms) / across : 0;
    point->blocks = before.blocks + share * (here.blocks - before.blocks);
    point->error = before.error > 0 && here.error > 0
                       ? before.error * pow(here.error / before.error, share)
                       : before.error + share * (here.error - before.error);
    return MRA_OK;
}

static mra_status write_rows(const mra_table *table, const int *column, const char *reference,
                             const char *rival, mra_tsv *out, mra_error *err)
{
    for (size_t row = 0; row < mra_table_rows(table); row++) {
        time_point point;
        bool found = false;
        if (strcmp(mra_table_text(table, row, column[RANKING]), reference)) continue;
        if (read_point(table, column, row, &point, err) != MRA_OK) return err->status;
        mra_tsv_text(out, mra_table_text(table, row, column[SET]));
        mra_tsv_text(out, mra_table_text(table, row, column[N]));
        mra_tsv_real(out, point.blocks);
        mra_tsv_real(out, point.ms);
        mra_tsv_real(out, point.error);
        if (meet(table, column, row, rival, &point, &found, err) != MRA_OK) return err->status;
        if (found) {
            mra_tsv_real(out, point.blocks);
            mra_tsv_real(out, point.error);
        } else {
            mra_tsv_text(out, "-");
            mra_tsv_text(out, "-");
        }
        if (mra_tsv_end_row(out, err) != MRA_OK) return err->status;
    }
    return MRA_OK;
}

mra_status mra_experiment_equal_time(mra_experiment *experiment, const char *from,
                                     const char *to, const char *reference, const char *rival,
                                     mra_error *err)
{
    static const char *const names[] = {"set", "n", "ranking", "blocks", "both_ms", "error"};
    static const char *const header[] = {
        "set", "n", "blocks", "both_ms", "error", "rival_blocks", "rival_error", NULL};
    char path[1024];
    mra_table *table = NULL;
    mra_tsv *out = NULL;
    int column[COLUMNS];
    mra_experiment_path(experiment, from, path);
    mra_status status = mra_table_read(&table, path, err);
    for (int c = 0; c < COLUMNS && status == MRA_OK; c++)
        status = mra_table_column(table, names[c], &column[c], err);
    mra_experiment_path(experiment, to, path);
    if (status == MRA_OK) status = mra_tsv_create(&out, path, header, err);
    if (status == MRA_OK) status = write_rows(table, column, reference, rival, out, err);
    mra_table_free(table);
    if (status != MRA_OK) {
        mra_tsv_abandon(out);
        return status;
    }
    status = mra_tsv_commit(out, err);
    return status == MRA_OK ? mra_experiment_output(experiment, to, err) : status;
}
