// Figure "illustration": one trained head, coarse at first, then with more and more boxes
// refined.
//
// For each budget: D-hat^-1 A-hat of R = {b, 1} as a heat map of log10 p, beside the exact
// softmax matrix, and what the picture costs and is worth: boxes, entries evaluated, relative
// error of the matrix and of the output Z.

#include <math.h>
#include <stdlib.h>

#include "common_dense.h"
#include "common_method.h"
#include "mra/apply.h"

enum { MOST_BUDGETS = 11 };
static const double floor_log10 = -8; // what is smaller is drawn as this

typedef struct illustration_run {
    mra_experiment *experiment;
    int n, block;
    double budgets[MOST_BUDGETS];
    size_t budget_count;
    mra_dense_head dense;
    double *a_hat; // [n, n]
    float *map;    // [n, n]
    float *z;      // [n, d]
    mra_cells cells;
} illustration_run;

static mra_status write_map(illustration_run *run, int panel, const double *probability,
                            mra_error *err)
{
    char suffix[32];
    size_t entries = (size_t)run->n * run->n;
    snprintf(suffix, sizeof suffix, "-%d.npy", panel);
    mra_log_picture(probability, entries, floor_log10, run->map);
    return mra_experiment_picture(run->experiment, suffix, run->map, run->n, run->n, err);
}

// Panel 0: the exact matrix, all n^2 entries evaluated.
static mra_status draw_exact(illustration_run *run, const mra_trained_head *head,
                             mra_error *err)
{
    if (write_map(run, 0, run->dense.probability, err) != MRA_OK) return err->status;
    return mra_cells_row(&run->cells, err, "ittiiriirr", 0, "exact", head->set, head->example,
                         head->number, run->dense.entropy, 0, run->n * run->n, 0.0, 0.0);
}

static mra_status draw_budget(illustration_run *run, const mra_trained_head *head, int panel,
                              double blocks, mra_error *err)
{
    mra_options options = mra_options_mra2(blocks);
    options.scale[0] = run->block;
    mra_apply *apply;
    if (mra_apply_create(&apply, &options, head->n, head->d, err) != MRA_OK) return err->status;
    mra_apply_forward(apply, head->q, head->k, head->v, NULL, run->z);
    mra_apply_dense(apply, run->dense.largest, run->a_hat);
    mra_normalise_rows(run->a_hat, run->n);
    size_t entries = (size_t)run->n * run->n;
    double norm = 0;
    for (size_t i = 0; i < entries; i++) {
        norm += run->dense.probability[i] * run->dense.probability[i];
    }
    double matrix_error =
        sqrt(mra_squared_distance(run->a_hat, run->dense.probability, entries) / norm);
    int coarse = (int)apply->selection.level[0].count,
        fine = (int)apply->selection.level[1].count;
    mra_apply_free(apply);
    char name[32];
    snprintf(name, sizeof name, "%g", blocks);
    if (write_map(run, panel, run->a_hat, err) != MRA_OK) return err->status;
    return mra_cells_row(&run->cells, err, "ittiiriirr", panel, name, head->set, head->example,
                         head->number, run->dense.entropy, coarse, fine, matrix_error,
                         mra_dense_output_error(&run->dense, run->z));
}

static mra_status draw_panels(illustration_run *run, const mra_trained_head *head,
                              mra_error *err)
{
    static const char *const columns[] = {"panel",        "blocks",         "set",   "example",
                                          "head",         "entropy",        "boxes", "entries",
                                          "matrix_error", "relative_error", NULL};
    size_t entries = (size_t)run->n * run->n;
    if (mra_cells_create(run->experiment, ".tsv", columns, &run->cells, err) != MRA_OK) {
        return err->status;
    }
    run->a_hat = malloc(entries * sizeof *run->a_hat);
    run->map = malloc(entries * sizeof *run->map);
    run->z = malloc((size_t)head->n * (size_t)head->d * sizeof *run->z);
    mra_status status =
        run->a_hat && run->map && run->z
            ? mra_dense_head_create(&run->dense, head, err)
            : mra_fail(err, MRA_NO_MEMORY, "no memory for pictures of %zu entries", entries);
    if (status == MRA_OK) status = draw_exact(run, head, err);
    for (size_t i = 0; i < run->budget_count && status == MRA_OK; i++) {
        status = draw_budget(run, head, (int)i + 1, run->budgets[i], err);
    }
    mra_dense_head_free(&run->dense);
    free(run->a_hat);
    free(run->map);
    free(run->z);
    if (status == MRA_OK) return mra_cells_commit(run->experiment, ".tsv", &run->cells, err);
    mra_cells_close(&run->cells);
    return status;
}

static mra_status run_illustration(mra_experiment *experiment, mra_error *err)
{
    static illustration_run run;
    int64_t n, examples, block;
    if (mra_experiment_int(experiment, "n", 1, 4096, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &examples, err) != MRA_OK ||
        mra_experiment_int(experiment, "block", 2, n, &block, err) != MRA_OK ||
        mra_experiment_list(experiment, "budgets", run.budgets, MOST_BUDGETS, &run.budget_count,
                            err) != MRA_OK) {
        return err->status;
    }
    run.experiment = experiment;
    run.n = (int)n;
    run.block = (int)block;
    mra_experiment_text(experiment, "heads");
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, run.n, (int)examples, &inputs, err) != MRA_OK) {
        return err->status;
    }
    bool done = false;
    int count;
    const mra_trained_head *head;
    mra_status status =
        mra_trained_heads_named(experiment, "heads", &inputs, 1, &head, &count, err);
    if (status == MRA_OK) status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) status = draw_panels(&run, head, err);
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {"illustration", "1",
                                               "one trained head refined step by step"};
    return mra_experiment_main(&about, run_illustration, argc, argv);
}
