// Figure "entropy": the error of every method against the entropy of attention.
//
// Concentrated attention (low entropy) is close to sparse, diffuse attention (high entropy)
// close to low rank; the paper's claim is that a multiresolution approximation does well in
// between too. To sweep the entropy, Q and K of every trained head are both scaled by sqrt(t),
// so that the logits are scaled by t.
//
// Tables of MRA-2. entropy.tsv: every head, scale t and budget. entropy-bins.tsv: means over bins
// of entropy, as the published data are. entropy-blocks.tsv: the mean error over heads as they
// are (t = 1) at each budget, beside the published numbers for RoBERTa-base, which are read
// from the settings' folder and not from this program. And of every method that the settings
// name, at one budget each: entropy-methods.tsv, every head and scale, and
// entropy-methods-bins.tsv, the means by bin.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common_dense.h"
#include "common_method.h"
#include "common_rivals.h"

enum { MOST_T = 32, MOST_BLOCKS = 8 };

typedef struct entropy_run {
    mra_experiment *experiment;
    mra_bench_place place;
    int n;
    double t[MOST_T], blocks[MOST_BLOCKS], table_blocks[MOST_BLOCKS], bin;
    size_t t_count, block_count, table_count;
    const char *published, *zeroed;
    mra_rival_sweep rival[MRA_RIVALS];
    int rivals;
    mra_cells cells;
} entropy_run;

// z-hat of a method with one assignment ("": its defaults), and its relative error.
static mra_status measure_error(entropy_run *run, const mra_trained_head *head,
                                const mra_dense_head *dense, const char *method,
                                const char *assignment, double *error, mra_error *err)
{
    const char *const assignments[] = {assignment};
    float *z = malloc((size_t)head->n * (size_t)head->d * sizeof *z);
    if (!z)
        return mra_fail(err, MRA_NO_MEMORY, "no memory for an output of %d tokens", head->n);
    mra_status status = mra_bench_output(&run->place, method, assignments, *assignment != '\0',
                                         run->experiment->seed, head, z, err);
    if (status == MRA_OK) *error = mra_dense_output_error(dense, z);
    free(z);
    return status;
}

// The head with Q and K times sqrt(t), in memory of its own (free head->q).
static mra_status scale_head(mra_trained_head *head, double t, mra_error *err)
{
    size_t values = (size_t)head->n * (size_t)head->d;
    float *scaled = malloc(2 * values * sizeof *scaled), factor = (float)sqrt(t);
    if (!scaled)
        return mra_fail(err, MRA_NO_MEMORY, "no memory to scale a head of %d tokens", head->n);
    for (size_t i = 0; i < values; i++) {
        scaled[i] = factor * head->q[i];
        scaled[values + i] = factor * head->k[i];
    }
    head->q = scaled;
    head->k = scaled + values;
    return MRA_OK;
}

// The rows of one head at one t: every budget of the figure, or of the table where t is 1.
static mra_status measure_scaled(entropy_run *run, const mra_trained_head *original, double t,
                                 const double *blocks, size_t count, mra_error *err)
{
    if (mra_cells_skip(&run->cells, count)) return MRA_OK;
    mra_trained_head head = *original;
    if (scale_head(&head, t, err) != MRA_OK) return err->status;
    mra_dense_head dense;
    mra_status status = mra_dense_head_create(&dense, &head, err);
    for (size_t b = 0; b < count && status == MRA_OK; b++) {
        double error = 0;
        char assignment[48];
        snprintf(assignment, sizeof assignment, "blocks=%g", blocks[b]);
        status = measure_error(run, &head, &dense, "mra2", assignment, &error, err);
        if (status == MRA_OK) {
            status = mra_cells_row(&run->cells, err, "tiirrrrr", head.set, head.example,
                                   head.number, t, blocks[b], dense.entropy,
                                   run->bin * floor(dense.entropy / run->bin), error);
        }
    }
    mra_dense_head_free(&dense);
    free((void *)head.q);
    return status;
}

static mra_status sweep(entropy_run *run, const mra_trained_inputs *inputs, const char *suffix,
                        const double *t, size_t t_count, const double *blocks,
                        size_t block_count, mra_error *err)
{
    static const char *const columns[] = {"set",         "example",        "head",
                                          "t",           "blocks",         "entropy",
                                          "entropy_bin", "relative_error", NULL};
    mra_experiment *experiment = run->experiment;
    if (mra_cells_open(experiment, suffix, columns, &run->cells, err) != MRA_OK)
        return err->status;
    double total = (double)inputs->count * (double)t_count;
    mra_progress progress = mra_progress_start(
        "entropy", total, (double)(run->cells.already / block_count), experiment->quiet);
    mra_status status = MRA_OK;
    for (int i = 0; i < inputs->count && status == MRA_OK; i++) {
        for (size_t j = 0; j < t_count && status == MRA_OK; j++) {
            status = measure_scaled(run, &inputs->head[i], t[j], blocks, block_count, err);
            mra_progress_update(&progress, (double)i * (double)t_count + (double)j + 1, "");
        }
    }
    if (status != MRA_OK) {
        mra_cells_close(&run->cells);
        return status;
    }
    mra_progress_end(&progress, "");
    return mra_cells_commit(experiment, suffix, &run->cells, err);
}

// ---- Every method ---------------------------------------------------------------------------

// The rows of one head at one t: every method.
static mra_status compare_scaled(entropy_run *run, const mra_trained_head *original, double t,
                                 mra_error *err)
{
    if (mra_cells_skip(&run->cells, (size_t)run->rivals)) return MRA_OK;
    mra_trained_head head = *original;
    if (scale_head(&head, t, err) != MRA_OK) return err->status;
    mra_dense_head dense;
    mra_status status = mra_dense_head_create(&dense, &head, err);
    for (int m = 0; m < run->rivals && status == MRA_OK; m++) {
        const mra_method *method = run->rival[m].method;
        double error = 0;
        char assignment[96];
        mra_rival_assignment(&run->rival[m], 0, run->n, assignment, sizeof assignment);
        status = measure_error(run, &head, &dense, method->name, assignment, &error, err);
        if (status == MRA_OK)
            status = mra_cells_row(&run->cells, err, "tttiirrrr", method->name,
                                   *assignment ? assignment : "-", head.set, head.example,
                                   head.number, t, dense.entropy,
                                   run->bin * floor(dense.entropy / run->bin), error);
    }
    mra_dense_head_free(&dense);
    free((void *)head.q);
    return status;
}

static mra_status compare_methods(entropy_run *run, const mra_trained_inputs *inputs,
                                  mra_error *err)
{
    static const char *const columns[] = {"method",         "options", "set",     "example",
                                          "head",           "t",       "entropy", "entropy_bin",
                                          "relative_error", NULL};
    static const char *const groups[] = {"method", "options", "entropy_bin", NULL};
    mra_experiment *experiment = run->experiment;
    if (mra_cells_open(experiment, "-methods.tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    mra_progress progress =
        mra_progress_start("entropy: methods", inputs->count, 0, experiment->quiet);
    mra_status status = MRA_OK;
    for (int i = 0; i < inputs->count && status == MRA_OK; i++) {
        for (size_t j = 0; j < run->t_count && status == MRA_OK; j++)
            status = compare_scaled(run, &inputs->head[i], run->t[j], err);
        mra_progress_update(&progress, i + 1, "");
    }
    if (status != MRA_OK) {
        mra_cells_close(&run->cells);
        return status;
    }
    mra_progress_end(&progress, "");
    status = mra_cells_commit(experiment, "-methods.tsv", &run->cells, err);
    return status != MRA_OK
               ? status
               : mra_experiment_summary(experiment, "-methods.tsv", groups, "relative_error",
                                        "-methods-bins.tsv", err);
}

// ---- Beside the published numbers -----------------------------------------------------------

// The cell `want` of the row of efficiency.tsv for mra-2 at this n and number of blocks; "-"
// where there is none.
static const char *published_cell(const mra_table *table, const int columns[4], int n,
                                  double blocks, int want)
{
    char length[16], value[32];
    snprintf(length, sizeof length, "%d", n);
    snprintf(value, sizeof value, "%g", blocks);
    for (size_t row = 0; row < mra_table_rows(table); row++) {
        if (!strcmp(mra_table_text(table, row, columns[0]), length) &&
            !strcmp(mra_table_text(table, row, columns[1]), "mra-2") &&
            !strcmp(mra_table_text(table, row, columns[2]), value)) {
            return mra_table_text(table, row, want);
        }
    }
    return "-";
}

static mra_status write_beside(entropy_run *run, const mra_table *ours,
                               const mra_table *published, mra_error *err)
{
    static const char *const columns[] = {"blocks",         "mean",         "sd", "heads",
                                          "published_mean", "published_sd", NULL};
    static const char *const our_names[] = {"blocks", "mean", "sd", "count"};
    static const char *const their_names[] = {"n", "method", "value", "relative_error_mean",
                                              "relative_error_sd"};
    int mine[4], theirs[5];
    for (int c = 0; c < 4; c++) {
        if (mra_table_column(ours, our_names[c], &mine[c], err) != MRA_OK) return err->status;
    }
    for (int c = 0; c < 5; c++) {
        if (mra_table_column(published, their_names[c], &theirs[c], err) != MRA_OK)
            return err->status;
    }
    mra_cells cells;
    mra_status status = mra_cells_create(run->experiment, "-blocks.tsv", columns, &cells, err);
    if (status != MRA_OK) return status;
    for (size_t row = 0; row < mra_table_rows(ours) && status == MRA_OK; row++) {
        double blocks;
        status = mra_table_number(ours, row, mine[0], &blocks, err);
        if (status != MRA_OK) break;
        status = mra_cells_row(&cells, err, "tttttt", mra_table_text(ours, row, mine[0]),
                               mra_table_text(ours, row, mine[1]),
                               mra_table_text(ours, row, mine[2]),
                               mra_table_text(ours, row, mine[3]),
                               published_cell(published, theirs, run->n, blocks, theirs[3]),
                               published_cell(published, theirs, run->n, blocks, theirs[4]));
    }
    if (status == MRA_OK) return mra_cells_commit(run->experiment, "-blocks.tsv", &cells, err);
    mra_cells_close(&cells);
    return status;
}

static mra_status compare(entropy_run *run, mra_error *err)
{
    char path[1024];
    mra_table *ours = NULL, *published = NULL;
    mra_experiment_path(run->experiment, "-budgets.tsv", path);
    mra_status status = mra_table_read(&ours, path, err);
    snprintf(path, sizeof path, "%s/efficiency.tsv", run->published);
    if (status == MRA_OK) status = mra_table_read(&published, path, err);
    if (status == MRA_OK) status = write_beside(run, ours, published, err);
    mra_table_free(ours);
    mra_table_free(published);
    return status;
}

// ---- The run --------------------------------------------------------------------------------

static mra_status measure_all(entropy_run *run, const mra_trained_inputs *inputs,
                              mra_error *err)
{
    static const char *const bins[] = {"blocks", "entropy_bin", NULL};
    static const char *const budgets[] = {"blocks", NULL};
    static const double as_they_are[] = {1};
    mra_experiment *experiment = run->experiment;
    if (sweep(run, inputs, "-heads.tsv", as_they_are, 1, run->table_blocks, run->table_count,
              err) != MRA_OK ||
        sweep(run, inputs, ".tsv", run->t, run->t_count, run->blocks, run->block_count, err) !=
            MRA_OK ||
        compare_methods(run, inputs, err) != MRA_OK ||
        mra_experiment_summary(experiment, ".tsv", bins, "relative_error", "-bins.tsv", err) !=
            MRA_OK ||
        mra_experiment_summary(experiment, "-heads.tsv", budgets, "relative_error",
                               "-budgets.tsv", err) != MRA_OK) {
        return err->status;
    }
    return compare(run, err);
}

static mra_status read_settings(entropy_run *run, int *examples, mra_error *err)
{
    mra_experiment *experiment = run->experiment;
    int64_t n, number;
    if (mra_experiment_int(experiment, "n", 1, 4096, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &number, err) != MRA_OK ||
        mra_experiment_real(experiment, "bin", 1e-3, 10, &run->bin, err) != MRA_OK ||
        mra_experiment_list(experiment, "t", run->t, MOST_T, &run->t_count, err) != MRA_OK ||
        mra_experiment_list(experiment, "blocks", run->blocks, MOST_BLOCKS, &run->block_count,
                            err) != MRA_OK ||
        mra_experiment_list(experiment, "table_blocks", run->table_blocks, MOST_BLOCKS,
                            &run->table_count, err) != MRA_OK) {
        return err->status;
    }
    for (size_t i = 0; i < run->t_count; i++) {
        if (!(run->t[i] > 0)) {
            return mra_fail(err, MRA_BAD_INPUT, "%s: t: %g, expected numbers above 0",
                            experiment->settings_path, run->t[i]);
        }
    }
    run->zeroed = mra_experiment_text(experiment, "zeroed");
    if (mra_rival_sweeps(experiment, NULL, run->rival, &run->rivals, err) != MRA_OK)
        return err->status;
    run->published = mra_experiment_text(experiment, "published");
    run->n = (int)n;
    *examples = (int)number;
    return run->published ? MRA_OK
                          : mra_fail(err, MRA_BAD_INPUT, "%s: no setting 'published'",
                                     experiment->settings_path);
}

static mra_status run_entropy(mra_experiment *experiment, mra_error *err)
{
    static entropy_run run;
    run.experiment = experiment;
    int examples = 0;
    if (read_settings(&run, &examples, err) != MRA_OK) return err->status;
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, run.n, examples, &inputs, err) != MRA_OK) {
        return err->status;
    }
    char path[1024];
    snprintf(path, sizeof path, "%s/efficiency.tsv", run.published);
    bool done = false;
    mra_status status = mra_experiment_input(experiment, path, err);
    if (status == MRA_OK) status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) {
        status = mra_bench_place_open(&run.place, experiment->threads, run.zeroed, err);
        if (status == MRA_OK) status = measure_all(&run, &inputs, err);
        mra_bench_place_close(&run.place);
    }
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "entropy", "2",
        "error against attention entropy, and mean errors beside the published ones"};
    return mra_experiment_main(&about, run_entropy, argc, argv);
}
