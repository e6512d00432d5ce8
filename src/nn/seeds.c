// The results of one training under several seeds.
//
// A single accuracy does not say whether a difference between two methods is one: initial values, the order of the
// examples and dropout move it by more than many papers' margins. The deviation over seeds is the scale to hold a
// difference against.

#include "nn/seeds.h"

#include <math.h>
#include <stdio.h>

#include "io/tsv.h"

// Numbers of a row: the metrics, then these.
enum { LOSS = MRA_TASK_METRICS, MAJORITY, STEP, SECONDS, NUMBERS };

void mra_seeds_spread(const double *values, int count, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    // From the first value on, so that equal values have exactly no deviation.
    for (int i = 0; i < count; i++) sum += values[i] - values[0];
    *mean = values[0] + sum / count;
    for (int i = 0; i < count; i++) squares += (values[i] - *mean) * (values[i] - *mean);
    *deviation = count > 1 ? sqrt(squares / (count - 1)) : 0.0;
}

static void numbers_of(const mra_train_result *result, bool test, double numbers[NUMBERS])
{
    const mra_evaluation *evaluation = test ? &result->test : &result->dev;
    for (int k = 0; k < MRA_TASK_METRICS; k++) numbers[k] = evaluation->metric[k];
    numbers[LOSS] = evaluation->loss;
    numbers[MAJORITY] = test ? result->test_majority : result->dev_majority;
    numbers[STEP] = (double)result->best_step;
    numbers[SECONDS] = result->seconds;
}

static mra_status write_row(mra_tsv *tsv, int metrics, bool test, const char *seed,
                            const double numbers[NUMBERS], mra_error *err)
{
    mra_tsv_text(tsv, test ? "test" : "dev");
    mra_tsv_text(tsv, seed);
    for (int k = 0; k < NUMBERS; k++)
        if (k < metrics || k >= LOSS) mra_tsv_real(tsv, numbers[k]);
    return mra_tsv_end_row(tsv, err);
}

static mra_status write_split(mra_tsv *tsv, int metrics, bool test, const uint64_t *seeds,
                              const mra_train_result *results, int count, mra_error *err)
{
    double mean[NUMBERS], deviation[NUMBERS], numbers[NUMBERS];
    mra_status status = MRA_OK;
    for (int i = 0; i < count && status == MRA_OK; i++) {
        char seed[40];
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)seeds[i]);
        numbers_of(&results[i], test, numbers);
        status = write_row(tsv, metrics, test, seed, numbers, err);
    }
    for (int k = 0; k < NUMBERS; k++) {
        double column[MRA_SEEDS];
        for (int i = 0; i < count; i++) {
            numbers_of(&results[i], test, numbers);
            column[i] = numbers[k];
        }
        mra_seeds_spread(column, count, &mean[k], &deviation[k]);
    }
    if (status == MRA_OK) status = write_row(tsv, metrics, test, "mean", mean, err);
    if (status == MRA_OK) status = write_row(tsv, metrics, test, "deviation", deviation, err);
    return status;
}

mra_status mra_seeds_write(const char *path, const mra_task_kind *kind, const uint64_t *seeds,
                           const mra_train_result *results, int count, mra_error *err)
{
    const int metrics = mra_task_metrics(kind);
    const char *columns[2 + NUMBERS + 1];
    int used = 0;
    columns[used++] = "split";
    columns[used++] = "seed";
    for (int k = 0; k < metrics; k++) columns[used++] = kind->metric[k];
    columns[used++] = "loss";
    columns[used++] = "majority";
    columns[used++] = "step";
    columns[used++] = "seconds";
    columns[used] = NULL;
    if (count < 1 || count > MRA_SEEDS)
        return mra_fail(err, MRA_BAD_INPUT, "%s: %d seeds, expected 1 to %d", path, count,
                        MRA_SEEDS);
    mra_tsv *tsv;
    mra_status status = mra_tsv_create(&tsv, path, columns, err);
    if (status != MRA_OK) return status;
    for (int test = 0; test < 2 && status == MRA_OK; test++)
        status = write_split(tsv, metrics, test == 1, seeds, results, count, err);
    if (status == MRA_OK) return mra_tsv_commit(tsv, err);
    mra_tsv_abandon(tsv);
    return status;
}
