// The result of a training, as a table.
//
// An accuracy says little by itself: of ten classes one may be far more frequent than the others. So the accuracy of
// always giving the most frequent answer stands in the same row.

#include "nn/train_result.h"

#include <math.h>

#include "io/tsv.h"

static const char *const result_columns[] = {"split",    "examples", "accuracy", "loss",
                                             "majority", "step",     "steps",    "weights",
                                             "seconds",  NULL};

static mra_status write_result_row(mra_tsv *tsv, const char *split,
                                   const mra_evaluation *evaluation, double majority,
                                   const mra_train_result *result, mra_error *err)
{
    mra_tsv_text(tsv, split);
    mra_tsv_int(tsv, evaluation->examples);
    mra_tsv_real(tsv, evaluation->accuracy);
    mra_tsv_real(tsv, evaluation->loss);
    mra_tsv_real(tsv, majority);
    mra_tsv_int(tsv, result->best_step);
    mra_tsv_int(tsv, result->steps);
    mra_tsv_int(tsv, (int64_t)result->weights);
    mra_tsv_real(tsv, result->seconds);
    return mra_tsv_end_row(tsv, err);
}

mra_status mra_train_result_write(const char *path, const mra_train_result *result,
                                  mra_error *err)
{
    mra_tsv *tsv;
    mra_status status = mra_tsv_create(&tsv, path, result_columns, err);
    if (status != MRA_OK) return status;
    status = write_result_row(tsv, "dev", &result->dev, result->dev_majority, result, err);
    if (status == MRA_OK)
        status =
            write_result_row(tsv, "test", &result->test, result->test_majority, result, err);
    if (status == MRA_OK) return mra_tsv_commit(tsv, err);
    mra_tsv_abandon(tsv);
    return status;
}

// Row 0 (dev) or 1 (test) of a result that an earlier run left.
static mra_status read_result_row(const mra_table *table, size_t row, double value[9],
                                  mra_error *err)
{
    mra_status status = MRA_OK;
    for (int i = 1; result_columns[i] && status == MRA_OK; i++) {
        int column = 0;
        status = mra_table_column(table, result_columns[i], &column, err);
        if (status == MRA_OK) status = mra_table_number(table, row, column, &value[i], err);
    }
    return status;
}

mra_status mra_train_result_read(const char *path, mra_train_result *result, mra_error *err)
{
    mra_table *table;
    mra_status status = mra_table_read(&table, path, err);
    if (status != MRA_OK) return status;
    double value[2][9] = {{0}};
    if (mra_table_rows(table) != 2)
        status = mra_fail(err, MRA_BAD_INPUT, "%s: %zu rows, expected 2", path,
                          mra_table_rows(table));
    for (size_t row = 0; row < 2 && status == MRA_OK; row++)
        status = read_result_row(table, row, value[row], err);
    mra_table_free(table);
    for (int row = 0; row < 2; row++) {
        mra_evaluation *evaluation = row == 0 ? &result->dev : &result->test;
        evaluation->examples = (int64_t)value[row][1];
        evaluation->accuracy = value[row][2];
        evaluation->correct = (int64_t)llround(value[row][2] * value[row][1]);
        evaluation->loss = value[row][3];
    }
    result->dev_majority = value[0][4];
    result->test_majority = value[1][4];
    result->best_step = (int64_t)value[0][5];
    result->steps = (int64_t)value[0][6];
    result->weights = (size_t)value[0][7];
    result->seconds = value[0][8];
    return status;
}
