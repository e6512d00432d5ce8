// Figure "approximation": A and A-hat side by side, for heads from concentrated to diffuse.
//
// Both are drawn as row-normalised matrices, D^-1 A and D-hat^-1 A-hat, on one logarithmic
// scale; the table beside the pictures holds each head's entropy, and the relative errors of
// the matrix and of the output Z.

#include <math.h>
#include <stdlib.h>

#include "common_dense.h"
#include "common_method.h"
#include "mra/apply.h"

enum { MOST_PICTURES = 8 };
static const double floor_log10 = -8; // what is smaller is drawn as this

typedef struct approximation_run {
    mra_experiment *experiment;
    int n, pictures;
    mra_options options;
    mra_cells cells;
} approximation_run;

static mra_status write_map(approximation_run *run, const char *which, int panel,
                            const double *probability, float *map, mra_error *err)
{
    char suffix[32];
    snprintf(suffix, sizeof suffix, "-%s%d.npy", which, panel);
    mra_log_picture(probability, (size_t)run->n * run->n, floor_log10, map);
    return mra_experiment_picture(run->experiment, suffix, map, run->n, run->n, err);
}

// Pictures and row of one head; a_hat and map have n^2 elements, z has n d.
static mra_status draw_pair(approximation_run *run, const mra_trained_head *head, int panel,
                            const mra_dense_head *dense, double *a_hat, float *map, float *z,
                            mra_error *err)
{
    mra_apply *apply;
    if (mra_apply_create(&apply, &run->options, head->n, head->d, err) != MRA_OK)
        return err->status;
    mra_apply_forward(apply, head->q, head->k, head->v, NULL, z);
    mra_apply_dense(apply, dense->largest, a_hat);
    mra_apply_free(apply);
    mra_normalise_rows(a_hat, run->n);
    size_t entries = (size_t)run->n * run->n;
    double norm = 0;
    for (size_t i = 0; i < entries; i++) norm += dense->probability[i] * dense->probability[i];
    double matrix_error = sqrt(mra_squared_distance(a_hat, dense->probability, entries) / norm);
    if (write_map(run, "a", panel, dense->probability, map, err) != MRA_OK ||
        write_map(run, "hat", panel, a_hat, map, err) != MRA_OK) {
        return err->status;
    }
    return mra_cells_row(&run->cells, err, "itiirrr", panel, head->set, head->example,
                         head->number, dense->entropy, matrix_error,
                         mra_dense_output_error(dense, z));
}

static mra_status draw_head(approximation_run *run, const mra_trained_head *head, int panel,
                            mra_error *err)
{
    size_t entries = (size_t)run->n * run->n;
    mra_dense_head dense;
    if (mra_dense_head_create(&dense, head, err) != MRA_OK) return err->status;
    double *a_hat = malloc(entries * sizeof *a_hat);
    float *map = malloc(entries * sizeof *map);
    float *z = malloc((size_t)head->n * (size_t)head->d * sizeof *z);
    mra_status status =
        a_hat && map && z
            ? draw_pair(run, head, panel, &dense, a_hat, map, z, err)
            : mra_fail(err, MRA_NO_MEMORY, "no memory for pictures of %zu entries", entries);
    free(a_hat);
    free(map);
    free(z);
    mra_dense_head_free(&dense);
    return status;
}

static mra_status draw_heads(approximation_run *run, const mra_trained_head *const *heads,
                             int count, mra_error *err)
{
    static const char *const columns[] = {"panel",   "set",          "example",        "head",
                                          "entropy", "matrix_error", "relative_error", NULL};
    mra_status status = mra_cells_create(run->experiment, ".tsv", columns, &run->cells, err);
    if (status != MRA_OK) return status;
    for (int i = 0; i < count && status == MRA_OK; i++)
        status = draw_head(run, heads[i], i, err);
    if (status == MRA_OK) return mra_cells_commit(run->experiment, ".tsv", &run->cells, err);
    mra_cells_close(&run->cells);
    return status;
}

static mra_status run_approximation(mra_experiment *experiment, mra_error *err)
{
    static approximation_run run;
    int64_t n, examples, pictures;
    if (mra_experiment_int(experiment, "n", 1, 4096, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &examples, err) != MRA_OK ||
        mra_experiment_int(experiment, "pictures", 1, MOST_PICTURES, &pictures, err) !=
            MRA_OK ||
        mra_experiment_options(experiment, "scales", "blocks", (int)n, &run.options, err) !=
            MRA_OK) {
        return err->status;
    }
    run.experiment = experiment;
    run.n = (int)n;
    run.pictures = (int)pictures;
    mra_experiment_text(experiment, "heads");
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, run.n, (int)examples, &inputs, err) != MRA_OK) {
        return err->status;
    }
    bool done = false;
    int count = 0;
    const mra_trained_head *heads[MOST_PICTURES];
    mra_status status =
        mra_trained_heads_named(experiment, "heads", &inputs, run.pictures, heads, &count, err);
    if (status == MRA_OK) status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) {
        status = draw_heads(&run, heads, count, err);
    }
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "approximation", "1", "A and A-hat side by side for several trained heads"};
    return mra_experiment_main(&about, run_approximation, argc, argv);
}
