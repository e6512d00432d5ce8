// Figure "coefficient": mu = exp(mean of P) against mu* = mean of exp(P) over boxes of trained
// heads.
//
// For boxes drawn at random from every head and scale: the range r of the box's logits, mu,
// mu*, the relative gap mu*/mu - 1, and the two bounds on it that depend on r alone: the
// paper's C_r = 1 + e^r - 2 e^(r/2), and the sharp S(e^r) - 1 (Specht's ratio). A gap above its
// bound would be an error of the text or of the code; the second table counts such boxes (there
// must be none) and tells how tight the bounds are.

#include <math.h>
#include <stdlib.h>

#include "common_bounds.h"
#include "common_inputs.h"
#include "mra/coefficient.h"
#include "mra/selection.h"

enum { MOST_SCALES = MRA_MAX_SCALES - 1, MOST_BUDGETS = 16 };

typedef struct coefficient_run {
    mra_experiment *experiment;
    mra_options options; // R = the scales of the settings and 1; nothing is refined
    int n, boxes, block;
    double budgets[MOST_BUDGETS]; // boxes refined per row of boxes, for the whole matrix
    size_t budget_count;
    mra_cells cells;
} coefficient_run;

static mra_status measure_box(coefficient_run *run, const mra_trained_head *head,
                              const mra_pyramid *pyramid, int level, int x, int y,
                              mra_error *err)
{
    mra_box_truth truth = mra_box_inspect(pyramid, level, x, y);
    double range = truth.high - truth.low;
    return mra_cells_row(&run->cells, err, "tiiiiirrrrrr", head->set, head->example,
                         head->number, run->options.scale[level], x, y, range, truth.mean,
                         truth.log_mean_exp, expm1(truth.log_mean_exp - truth.mean),
                         mra_paper_bound(range), mra_specht_excess(range));
}

// The boxes of a head are a function of the seed and the head's place alone.
static mra_status measure_head(coefficient_run *run, const mra_trained_head *head, int place,
                               mra_error *err)
{
    void *memory = mra_aligned_calloc(1, mra_pyramid_bytes(&run->options, head->n, head->d));
    if (!memory)
        return mra_fail(err, MRA_NO_MEMORY, "no memory to pool a head of %d tokens", head->n);
    mra_pyramid pyramid;
    mra_pyramid_place(&pyramid, &run->options, head->n, head->d, memory);
    mra_pyramid_build(&pyramid, head->q, head->k, head->v, NULL);
    mra_status status = MRA_OK;
    for (int level = 0; level + 1 < run->options.scales; level++) {
        mra_random random = mra_random_open(
            run->experiment->seed,
            mra_stream("boxes", (uint64_t)place, (uint64_t)run->options.scale[level]));
        uint32_t blocks = (uint32_t)pyramid.level[level].blocks;
        for (int i = 0; i < run->boxes && status == MRA_OK; i++) {
            int x = (int)mra_random_below(&random, blocks),
                y = (int)mra_random_below(&random, blocks);
            status = measure_box(run, head, &pyramid, level, x, y, err);
        }
    }
    mra_aligned_free(memory);
    return status;
}

static mra_status measure_heads(coefficient_run *run, const mra_trained_inputs *inputs,
                                mra_error *err)
{
    static const char *const columns[] = {
        "set",    "example",     "head", "scale",       "x",           "y", "range",
        "log_mu", "log_mu_star", "gap",  "paper_bound", "sharp_bound", NULL};
    mra_experiment *experiment = run->experiment;
    if (mra_cells_open(experiment, ".tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    size_t rows = (size_t)(run->options.scales - 1) * (size_t)run->boxes;
    mra_progress progress = mra_progress_start(
        "coefficient", inputs->count, (double)(run->cells.already / rows), experiment->quiet);
    mra_status status = MRA_OK;
    for (int i = 0; i < inputs->count && status == MRA_OK; i++) {
        if (!mra_cells_skip(&run->cells, rows))
            status = measure_head(run, &inputs->head[i], i, err);
        mra_progress_update(&progress, i + 1, "");
    }
    if (status != MRA_OK) {
        mra_cells_close(&run->cells);
        return status;
    }
    mra_progress_end(&progress, "");
    return mra_cells_commit(experiment, ".tsv", &run->cells, err);
}

// ---- How tight the bounds are ---------------------------------------------------------------

enum { SCALE, RANGE, GAP, PAPER_BOUND, SHARP_BOUND, BOX_CELLS };
typedef struct box_row {
    double cell[BOX_CELLS];
} box_row;

static int ascending(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

// A gap counts as above its bound when it is by more than rounding (1e-9 of 1 + bound).
static bool above(double gap, double bound)
{
    return gap > bound + 1e-9 * (1 + bound);
}

// One row of "-bounds.tsv": the boxes of one scale.
static mra_status write_scale(mra_cells *cells, const box_row *boxes, size_t count, int scale,
                              double *scratch, mra_error *err)
{
    size_t members = 0;
    int below_mu = 0, above_paper = 0, above_sharp = 0;
    double paper = 0, sharp = 0, *range = scratch, *gap = scratch + count;
    for (size_t i = 0; i < count; i++) {
        if ((int)boxes[i].cell[SCALE] != scale) continue;
        range[members] = boxes[i].cell[RANGE];
        gap[members++] = boxes[i].cell[GAP];
        below_mu += boxes[i].cell[GAP] < -1e-9;
        above_paper += above(boxes[i].cell[GAP], boxes[i].cell[PAPER_BOUND]);
        above_sharp += above(boxes[i].cell[GAP], boxes[i].cell[SHARP_BOUND]);
        if (boxes[i].cell[RANGE] > 0) {
            paper = fmax(paper, boxes[i].cell[GAP] / boxes[i].cell[PAPER_BOUND]);
            sharp = fmax(sharp, boxes[i].cell[GAP] / boxes[i].cell[SHARP_BOUND]);
        }
    }
    return mra_cells_row(cells, err, "iirriiirr", scale, (int)members, median(range, members),
                         median(gap, members), below_mu, above_paper, above_sharp, paper,
                         sharp);
}

static mra_status read_boxes(const mra_table *table, box_row *boxes, mra_error *err)
{
    static const char *const names[] = {"scale", "range", "gap", "paper_bound", "sharp_bound"};
    for (int c = 0; c < BOX_CELLS; c++) {
        int column;
        if (mra_table_column(table, names[c], &column, err) != MRA_OK) return err->status;
        for (size_t row = 0; row < mra_table_rows(table); row++) {
            double *cell = &boxes[row].cell[c];
            if (mra_table_number(table, row, column, cell, err) != MRA_OK) return err->status;
        }
    }
    return MRA_OK;
}

static mra_status write_bounds(coefficient_run *run, const mra_table *table, mra_error *err)
{
    static const char *const columns[] = {"scale",
                                          "boxes",
                                          "median_range",
                                          "median_gap",
                                          "below_mu",
                                          "above_paper_bound",
                                          "above_sharp_bound",
                                          "largest_share_of_paper_bound",
                                          "largest_share_of_sharp_bound",
                                          NULL};
    size_t count = mra_table_rows(table);
    box_row *boxes = calloc(count, sizeof *boxes);
    double *scratch = calloc(2 * count, sizeof *scratch);
    mra_cells cells = {0};
    mra_status status = boxes && scratch
                            ? read_boxes(table, boxes, err)
                            : mra_fail(err, MRA_NO_MEMORY, "no memory for %zu boxes", count);
    if (status == MRA_OK)
        status = mra_cells_create(run->experiment, "-bounds.tsv", columns, &cells, err);
    for (int level = 0; status == MRA_OK && level + 1 < run->options.scales; level++) {
        status = write_scale(&cells, boxes, count, run->options.scale[level], scratch, err);
    }
    if (status == MRA_OK) {
        status = mra_cells_commit(run->experiment, "-bounds.tsv", &cells, err);
    } else {
        mra_cells_close(&cells);
    }
    free(boxes);
    free(scratch);
    return status;
}

// ---- The whole matrix -----------------------------------------------------------------------
//
// "-global.tsv": how far above the error of the whole matrix the bounds of common_bounds.c are, as
// log10 of bound over error; `violated` is 1 where one is below, and must be 0.

static mra_status write_global(coefficient_run *run, const mra_trained_head *head,
                               mra_cells *cells, mra_error *err)
{
    static const char *const names[MRA_GLOBAL_BOUNDS] = {"paper", "boxes", "sharp"};
    const double rows = ceil((double)run->n / run->block);
    mra_global_error error[MOST_BUDGETS];
    size_t refined[MOST_BUDGETS];
    for (size_t i = 0; i < run->budget_count; i++)
        refined[i] = (size_t)(run->budgets[i] * rows + 0.5);
    mra_status status =
        mra_global_errors(head, run->block, refined, run->budget_count, error, err);
    for (size_t i = 0; i < run->budget_count && status == MRA_OK; i++)
        for (int b = 0; b < MRA_GLOBAL_BOUNDS && status == MRA_OK; b++) {
            const double slack = error[i].log_bound[b] - error[i].log_error;
            status = mra_cells_row(cells, err, "tiitrrri", head->set, head->example,
                                   head->number, names[b], run->budgets[i],
                                   exp(error[i].log_error), slack / log(10), slack < -1e-9);
        }
    return status;
}

static mra_status measure_global(coefficient_run *run, const mra_trained_inputs *inputs,
                                 mra_error *err)
{
    static const char *const columns[] = {"set",         "example",  "head",
                                          "bound",       "blocks",   "matrix_error",
                                          "log10_slack", "violated", NULL};
    static const char *const groups[] = {"bound", "blocks", NULL};
    mra_cells cells;
    mra_status status = mra_cells_create(run->experiment, "-global.tsv", columns, &cells, err);
    if (status != MRA_OK) return status;
    for (int i = 0; i < inputs->count && status == MRA_OK; i++)
        status = write_global(run, &inputs->head[i], &cells, err);
    if (status != MRA_OK) {
        mra_cells_close(&cells);
        return status;
    }
    status = mra_cells_commit(run->experiment, "-global.tsv", &cells, err);
    if (status != MRA_OK) return status;
    return mra_experiment_summary(run->experiment, "-global.tsv", groups, "log10_slack",
                                  "-global-mean.tsv", err);
}

static mra_status measure_all(coefficient_run *run, const mra_trained_inputs *inputs,
                              mra_error *err)
{
    if (measure_heads(run, inputs, err) != MRA_OK) return err->status;
    char path[1024];
    mra_experiment_path(run->experiment, ".tsv", path);
    mra_table *table;
    if (mra_table_read(&table, path, err) != MRA_OK) return err->status;
    mra_status status = write_bounds(run, table, err);
    mra_table_free(table);
    if (status == MRA_OK) status = measure_global(run, inputs, err);
    return status;
}

// R = {the settings' scales, 1}.
static mra_status read_scales(coefficient_run *run, mra_error *err)
{
    double scales[MOST_SCALES];
    size_t count;
    if (mra_experiment_list(run->experiment, "scales", scales, MOST_SCALES, &count, err) !=
        MRA_OK) {
        return err->status;
    }
    run->options = (mra_options){.scales = (int)count + 1, .threads = 1};
    for (size_t i = 0; i < count; i++) run->options.scale[i] = (int)scales[i];
    run->options.scale[count] = 1;
    if (mra_options_check(&run->options, run->n, err) != MRA_OK) {
        return mra_fail_within(err, "%s: scales", run->experiment->settings_path);
    }
    return MRA_OK;
}

static mra_status run_coefficient(mra_experiment *experiment, mra_error *err)
{
    int64_t n, examples, boxes, block;
    static coefficient_run run;
    run.experiment = experiment;
    if (mra_experiment_int(experiment, "n", 1, 1 << 20, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &examples, err) != MRA_OK ||
        mra_experiment_int(experiment, "boxes", 1, 100000, &boxes, err) != MRA_OK ||
        mra_experiment_int(experiment, "block", 2, 1024, &block, err) != MRA_OK ||
        mra_experiment_list(experiment, "budgets", run.budgets, MOST_BUDGETS, &run.budget_count,
                            err) != MRA_OK) {
        return err->status;
    }
    run.n = (int)n;
    run.boxes = (int)boxes;
    run.block = (int)block;
    if (read_scales(&run, err) != MRA_OK) return err->status;
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, run.n, (int)examples, &inputs, err) != MRA_OK) {
        return err->status;
    }
    bool done;
    mra_status status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) status = measure_all(&run, &inputs, err);
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "coefficient", "2",
        "exp(mean) against mean(exp) over boxes, and the bounds on the gap"};
    return mra_experiment_main(&about, run_coefficient, argc, argv);
}
