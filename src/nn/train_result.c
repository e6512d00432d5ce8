// The result of a training, as a table.
//
// An accuracy says little by itself: of ten classes one may be far more frequent than the others. So the accuracy of
// always giving the most frequent answer stands in the same row.

#include "nn/train_result.h"

#include <math.h>

#include "io/tsv.h"

enum { OTHERS = 8, COLUMNS = OTHERS + 1 + MRA_TASK_METRICS };

// The columns for a kind of task; NULL after the last.
static void name_columns(const mra_task_kind *kind, const char *columns[COLUMNS])
{
    const char *const fixed[] = {"split", "examples", kind->metric[0], "loss",   "majority",
                                 "step",  "steps",    "weights",       "seconds"};
    int count = 0;
    while (count <= OTHERS) {
        columns[count] = fixed[count];
        count++;
    }
    for (int k = 1; kind->metric[k]; k++) columns[count++] = kind->metric[k];
    columns[count] = NULL;
}

static mra_status write_row(mra_tsv *tsv, const mra_task_kind *kind, const char *split,
                            const mra_evaluation *evaluation, double majority,
                            const mra_train_result *result, mra_error *err)
{
    mra_tsv_text(tsv, split);
    mra_tsv_int(tsv, evaluation->examples);
    mra_tsv_real(tsv, evaluation->metric[0]);
    mra_tsv_real(tsv, evaluation->loss);
    mra_tsv_real(tsv, majority);
    mra_tsv_int(tsv, result->best_step);
    mra_tsv_int(tsv, result->steps);
    mra_tsv_int(tsv, (int64_t)result->weights);
    mra_tsv_real(tsv, result->seconds);
    for (int k = 1; kind->metric[k]; k++) mra_tsv_real(tsv, evaluation->metric[k]);
    return mra_tsv_end_row(tsv, err);
}

mra_status mra_train_result_write(const char *path, const mra_task_kind *kind,
                                  const mra_train_result *result, mra_error *err)
{
    mra_tsv *tsv;
    const char *columns[COLUMNS];
    name_columns(kind, columns);
    mra_status status = mra_tsv_create(&tsv, path, columns, err);
    if (status != MRA_OK) return status;
    status = write_row(tsv, kind, "dev", &result->dev, result->dev_majority, result, err);
    if (status == MRA_OK)
        status =
            write_row(tsv, kind, "test", &result->test, result->test_majority, result, err);
    if (status == MRA_OK) return mra_tsv_commit(tsv, err);
    mra_tsv_abandon(tsv);
    return status;
}

// Row 0 (dev) or 1 (test) of a result that an earlier run left.
static mra_status read_row(const mra_table *table, size_t row, const char *const *columns,
                           double *value, mra_error *err)
{
    mra_status status = MRA_OK;
    for (int i = 1; columns[i] && status == MRA_OK; i++) {
        int column = 0;
        status = mra_table_column(table, columns[i], &column, err);
        if (status == MRA_OK) status = mra_table_number(table, row, column, &value[i], err);
    }
    return status;
}

static mra_evaluation evaluation_of(const mra_task_kind *kind, const double *value)
{
    mra_evaluation evaluation = {.examples = (int64_t)value[1], .loss = value[3]};
    for (int k = 0; kind->metric[k]; k++) {
        evaluation.metric[k] = k == 0 ? value[2] : value[OTHERS + k];
        evaluation.right[k] = (int64_t)llround(evaluation.metric[k] * value[1]);
    }
    return evaluation;
}

mra_status mra_train_result_read(const char *path, const mra_task_kind *kind,
                                 mra_train_result *result, mra_error *err)
{
    mra_table *table;
    mra_status status = mra_table_read(&table, path, err);
    if (status != MRA_OK) return status;
    double value[2][COLUMNS] = {{0}};
    const char *columns[COLUMNS];
    name_columns(kind, columns);
    if (mra_table_rows(table) != 2)
        status = mra_fail(err, MRA_BAD_INPUT, "%s: %zu rows, expected 2", path,
                          mra_table_rows(table));
    for (size_t row = 0; row < 2 && status == MRA_OK; row++)
        status = read_row(table, row, columns, value[row], err);
    mra_table_free(table);
    result->dev = evaluation_of(kind, value[0]);
    result->test = evaluation_of(kind, value[1]);
    result->dev_majority = value[0][4];
    result->test_majority = value[1][4];
    result->best_step = (int64_t)value[0][5];
    result->steps = (int64_t)value[0][6];
    result->weights = (size_t)value[0][7];
    result->seconds = value[0][8];
    return status;
}
