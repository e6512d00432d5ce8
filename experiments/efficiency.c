// Figure "efficiency": what a relative error costs in time and memory.
//
// Time and memory are taken as the published axis is: forward + backward of one layer of 12
// heads x 64, one instance; the inputs of that layer are Gaussian, on which the work of these
// methods does not depend. Errors are those of the trained heads, whose network has other heads
// and width: relative error of Z per head, against exact attention.
//
// Three tables. efficiency-time.tsv: one row for each method, budget and length.
// efficiency-heads.tsv: the errors, head by head. efficiency.tsv: the two joined, errors as
// mean and deviation over heads: the points of the figure.
//
// Budgets are made comparable by the entries of A that a row of it has evaluated: e = 32 b,
// with b the blocks of MRA-2. For R = {s_0 > ... > s_k = 1} the last refinement gets m_k = e
// s_0 / s_{k-1}^2 boxes per row of coarsest boxes (their children are just these entries), and
// every coarser one covers twice the area of the next, m_i = 2^{k-i} e s_0 / s_{i-1}^2, as far
// as the matrix goes. The other methods have budgets of their own (features, landmarks, a window); the
// settings say which, and up to which share of n. Methods that learn something are measured with the
// values that training would start from, and the column `learned` says so.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/measure.h"
#include "common_method.h"
#include "common_rivals.h"

enum { MOST_LENGTHS = 6, MOST_BLOCKS = 16, BLOCK = 32 };
enum { MOST_CELLS = 5 * MOST_BLOCKS + MRA_RIVALS * MRA_RIVAL_VALUES };

// One point of the figure before it is measured.
typedef struct efficiency_cell {
    const char *label, *method;
    double blocks;           // e / 32; 0: exact
    char assignment[2][96];  // options of the method
    const char *assigned[2]; // the same, as the methods want them
    int assignments;
} efficiency_cell;

typedef struct efficiency_run {
    mra_experiment *experiment;
    mra_bench_place place;
    double lengths[MOST_LENGTHS], repeats[MOST_LENGTHS], blocks[MOST_BLOCKS];
    size_t length_count, block_count;
    int examples, heads, width;
    double most_blocks_of_many_scales;
    double three[MRA_MAX_SCALES], four[MRA_MAX_SCALES];
    size_t three_count, four_count;
    mra_rival_sweep sweep[MRA_RIVALS];
    const char *zeroed;
    int sweeps;
    efficiency_cell cell[MOST_CELLS]; // of the length at hand
    int cell_count;
    mra_cells times, errors;
} efficiency_run;

// ---- Methods and budgets --------------------------------------------------------------------

static efficiency_cell *add_cell(efficiency_run *run, const char *label, const char *method,
                                 double blocks)
{
    efficiency_cell *cell = &run->cell[run->cell_count++];
    *cell = (efficiency_cell){.label = label, .method = method, .blocks = blocks};
    return cell;
}

static void add_two_scales(efficiency_run *run, const char *label, double blocks)
{
    efficiency_cell *cell = add_cell(run, label, label, blocks);
    snprintf(cell->assignment[0], sizeof cell->assignment[0], "blocks=%g", blocks);
    cell->assignments = 1;
}

// The budgets of any R for e = 32 blocks entries a row, as the header of this file says.
static void add_many_scales(efficiency_run *run, const char *label, int n, const double *scale,
                            size_t scales, double blocks)
{
    efficiency_cell *cell = add_cell(run, label, "mra", blocks);
    char *names = cell->assignment[0], *budgets = cell->assignment[1];
    size_t room = sizeof cell->assignment[0];
    int name_length = snprintf(names, room, "scales=%g", scale[0]);
    int budget_length = snprintf(budgets, room, "blocks=");
    double there = ceil(n / scale[0]); // boxes per row of coarsest boxes that could be refined
    for (size_t i = 1; i < scales; i++) {
        double area = ldexp(BLOCK * blocks * scale[0], (int)(scales - 1 - i));
        double m = fmin(area / (scale[i - 1] * scale[i - 1]), there);
        double side = scale[i - 1] / scale[i];
        there = m * side * side;
        name_length +=
            snprintf(names + name_length, room - (size_t)name_length, ":%g", scale[i]);
        budget_length += snprintf(budgets + budget_length, room - (size_t)budget_length, "%s%g",
                                  i > 1 ? ":" : "", m);
    }
    cell->assignments = 2;
}

static void add_sweep(efficiency_run *run, const mra_rival_sweep *sweep, int n)
{
    char assignment[96];
    for (size_t i = 0; i == 0 || i < sweep->count; i++) {
        if (!mra_rival_assignment(sweep, i, n, assignment, sizeof assignment)) continue;
        efficiency_cell *cell = add_cell(run, sweep->method->name, sweep->method->name, 0);
        memcpy(cell->assignment[0], assignment, sizeof assignment);
        cell->assignments = *assignment != '\0';
    }
}

// The options of a cell as one text: "blocks=4", "-" for none.
static const char *options_of(const efficiency_cell *cell, char *text, size_t room)
{
    snprintf(text, room, "%s%s%s", cell->assignments ? cell->assignment[0] : "-",
             cell->assignments > 1 ? " " : "", cell->assignment[1]);
    return text;
}

static void list_cells(efficiency_run *run, int n)
{
    run->cell_count = 0;
    add_cell(run, "exact", "exact", 0);
    for (size_t i = 0; i < run->block_count; i++) {
        if (2 * BLOCK * run->blocks[i] > n) continue;
        add_two_scales(run, "mra2", run->blocks[i]);
        add_two_scales(run, "mra2s", run->blocks[i]);
        if (run->blocks[i] > run->most_blocks_of_many_scales) continue;
        add_many_scales(run, "mra3", n, run->three, run->three_count, run->blocks[i]);
        add_many_scales(run, "mra4", n, run->four, run->four_count, run->blocks[i]);
    }
    for (int s = 0; s < run->sweeps; s++) add_sweep(run, &run->sweep[s], n);
    for (int c = 0; c < run->cell_count; c++) {
        for (int a = 0; a < 2; a++) run->cell[c].assigned[a] = run->cell[c].assignment[a];
    }
}

// ---- Time and memory ------------------------------------------------------------------------

// Gaussian q, k, v and dz, and room for z, dq, dk, dv, of one instance.
static mra_status make_arrays(const efficiency_run *run, mra_shape shape,
                              mra_instance *instance, float **memory, mra_error *err)
{
    size_t size = (size_t)shape.heads * (size_t)shape.n * (size_t)shape.d;
    float *all = mra_aligned_calloc(8 * size, sizeof *all);
    if (!all)
        return mra_fail(err, MRA_NO_MEMORY, "no memory for a layer of %d tokens", shape.n);
    for (uint64_t i = 0; i < 4; i++) {
        mra_fill_normal(all + i * size, size, 1, run->experiment->seed,
                        mra_stream("layer", i, 0));
    }
    *memory = all;
    instance->q = all;
    instance->k = all + size;
    instance->v = all + 2 * size;
    instance->dz = all + 3 * size;
    instance->z = all + 4 * size;
    instance->dq = all + 5 * size;
    instance->dk = all + 6 * size;
    instance->dv = all + 7 * size;
    return MRA_OK;
}

static mra_status measure_layer(efficiency_run *run, const efficiency_cell *cell,
                                mra_shape shape, int repeats, mra_timing *timing,
                                mra_error *err)
{
    mra_instance instance = {.tape = run->place.tape};
    float *memory = NULL;
    mra_status status = mra_attention_layer_create(
        &instance.layer, cell->method, run->place.device, shape, run->experiment->seed,
        cell->assigned, cell->assignments, err);
    if (status != MRA_OK) return status;
    status = make_arrays(run, shape, &instance, &memory, err);
    if (status == MRA_OK) {
        status = mra_measure_time(mra_instance_both, &instance, repeats, timing, err);
    }
    mra_aligned_free(memory);
    mra_attention_layer_free(instance.layer);
    return status;
}

static mra_status measure_cost(efficiency_run *run, const efficiency_cell *cell, int n,
                               int repeats, mra_error *err)
{
    if (mra_cells_skip(&run->times, 1)) return MRA_OK;
    mra_shape shape = {.batch = 1, .heads = run->heads, .n = n, .d = run->width};
    mra_peak_request request = {.method = cell->method,
                                .device = run->place.device,
                                .shape = shape,
                                .seed = run->experiment->seed,
                                .assignments = cell->assigned,
                                .assignment_count = cell->assignments,
                                .backward = true};
    mra_memory memory;
    mra_timing timing;
    if (mra_measure_method_peak(&request, &memory, err) != MRA_OK ||
        measure_layer(run, cell, shape, repeats, &timing, err) != MRA_OK) {
        return err->status;
    }
    char options[208];
    // Of the entries of A; 0 where a budget is counted in something else.
    double workload = cell->blocks > 0                ? BLOCK * cell->blocks / n
                      : !strcmp(cell->label, "exact") ? 1
                                                      : 0;
    return mra_cells_row(&run->times, err, "itrtttrrrrr", n, cell->label, cell->blocks,
                         cell->method, options_of(cell, options, sizeof options),
                         mra_method_find(cell->method)->learned ? "yes" : "no", workload,
                         1e3 * timing.median, 1e3 * timing.least, 1e3 * timing.most,
                         (double)memory.above / (1 << 20));
}

// ---- Errors ---------------------------------------------------------------------------------

static mra_status measure_head_error(efficiency_run *run, const efficiency_cell *cell,
                                     const mra_trained_head *head, const float *exact, float *z,
                                     mra_error *err)
{
    if (mra_bench_output(&run->place, cell->method, cell->assigned, cell->assignments,
                         run->experiment->seed, head, z, err) != MRA_OK) {
        return err->status;
    }
    double error = mra_relative_error(z, exact, (size_t)head->n * (size_t)head->d);
    char options[208];
    return mra_cells_row(&run->errors, err, "itrttiir", head->n, cell->label, cell->blocks,
                         options_of(cell, options, sizeof options), head->set, head->example,
                         head->number, error);
}

// Every cell for one head: the exact output is computed once.
static mra_status measure_head(efficiency_run *run, const mra_trained_head *head,
                               mra_error *err)
{
    if (mra_cells_skip(&run->errors, (size_t)run->cell_count)) return MRA_OK;
    size_t values = (size_t)head->n * (size_t)head->d;
    float *exact = malloc(2 * values * sizeof *exact);
    if (!exact)
        return mra_fail(err, MRA_NO_MEMORY, "no memory for outputs of %d tokens", head->n);
    mra_status status = mra_bench_output(&run->place, "exact", NULL, 0, run->experiment->seed,
                                         head, exact, err);
    for (int c = 0; c < run->cell_count && status == MRA_OK; c++) {
        status = measure_head_error(run, &run->cell[c], head, exact, exact + values, err);
    }
    free(exact);
    return status;
}

// ---- Joining the two ------------------------------------------------------------------------

static mra_status join_tables(efficiency_run *run, const mra_table *times,
                              const mra_table *errors, mra_error *err)
{
    static const char *const columns[] = {
        "n",       "label",    "blocks",     "options",  "method", "learned", "workload",
        "both_ms", "peak_mib", "error_mean", "error_sd", "heads",  NULL};
    static const char *const keys[] = {"n", "label", "blocks", "options"};
    static const char *const left[] = {"method", "learned", "workload", "both_ms", "peak_mib"};
    static const char *const right[] = {"mean", "sd", "count"};
    int a[9], b[7];
    mra_status status = MRA_OK;
    for (int i = 0; i < 9 && status == MRA_OK; i++) {
        status = mra_table_column(times, i < 4 ? keys[i] : left[i - 4], &a[i], err);
    }
    for (int i = 0; i < 7 && status == MRA_OK; i++) {
        status = mra_table_column(errors, i < 4 ? keys[i] : right[i - 4], &b[i], err);
    }
    mra_cells cells = {0};
    if (status == MRA_OK)
        status = mra_cells_create(run->experiment, ".tsv", columns, &cells, err);
    for (size_t row = 0; row < mra_table_rows(times) && status == MRA_OK; row++) {
        const char *cell[12];
        size_t match = 0;
        for (; match < mra_table_rows(errors); match++) {
            bool same = true;
            for (int i = 0; i < 4; i++) {
                same &= !strcmp(mra_table_text(times, row, a[i]),
                                mra_table_text(errors, match, b[i]));
            }
            if (same) break;
        }
        if (match == mra_table_rows(errors)) {
            status = mra_fail(err, MRA_INTERNAL, "no errors for a measured time");
            break;
        }
        for (int i = 0; i < 9; i++) cell[i] = mra_table_text(times, row, a[i]);
        for (int i = 4; i < 7; i++) cell[i + 5] = mra_table_text(errors, match, b[i]);
        status = mra_cells_row(&cells, err, "tttttttttttt", cell[0], cell[1], cell[2], cell[3],
                               cell[4], cell[5], cell[6], cell[7], cell[8], cell[9], cell[10],
                               cell[11]);
    }
    if (status == MRA_OK) return mra_cells_commit(run->experiment, ".tsv", &cells, err);
    mra_cells_close(&cells);
    return status;
}

static mra_status join(efficiency_run *run, mra_error *err)
{
    static const char *const groups[] = {"n", "label", "blocks", "options", NULL};
    if (mra_experiment_summary(run->experiment, "-heads.tsv", groups, "relative_error",
                               "-errors.tsv", err) != MRA_OK) {
        return err->status;
    }
    char path[1024];
    mra_table *times = NULL, *errors = NULL;
    mra_experiment_path(run->experiment, "-time.tsv", path);
    mra_status status = mra_table_read(&times, path, err);
    mra_experiment_path(run->experiment, "-errors.tsv", path);
    if (status == MRA_OK) status = mra_table_read(&errors, path, err);
    if (status == MRA_OK) status = join_tables(run, times, errors, err);
    mra_table_free(times);
    mra_table_free(errors);
    return status;
}

// ---- The run --------------------------------------------------------------------------------

static mra_status measure_length(efficiency_run *run, int n, int repeats,
                                 const mra_trained_inputs *inputs, mra_progress *progress,
                                 double *done, mra_error *err)
{
    list_cells(run, n);
    mra_status status = MRA_OK;
    for (int i = 0; i < inputs->count && status == MRA_OK; i++) {
        status = measure_head(run, &inputs->head[i], err);
    }
    for (int c = 0; c < run->cell_count && status == MRA_OK; c++) {
        status = measure_cost(run, &run->cell[c], n, repeats, err);
        char detail[96];
        snprintf(detail, sizeof detail, "n = %d, %s", n, run->cell[c].label);
        mra_progress_update(progress, *done += n, detail);
    }
    return status;
}

static mra_status measure_all(efficiency_run *run, const mra_trained_inputs *inputs,
                              mra_error *err)
{
    static const char *const time_columns[] = {"n",        "label",   "blocks",   "method",
                                               "options",  "learned", "workload", "both_ms",
                                               "least_ms", "most_ms", "peak_mib", NULL};
    static const char *const error_columns[] = {
        "n", "label", "blocks", "options", "set", "example", "head", "relative_error", NULL};
    mra_experiment *experiment = run->experiment;
    if (mra_cells_open(experiment, "-time.tsv", time_columns, &run->times, err) != MRA_OK) {
        return err->status;
    }
    mra_status status =
        mra_cells_open(experiment, "-heads.tsv", error_columns, &run->errors, err);
    double total = 0, done = 0;
    for (size_t i = 0; i < run->length_count; i++) {
        list_cells(run, (int)run->lengths[i]);
        total += run->cell_count * run->lengths[i];
    }
    mra_progress progress = mra_progress_start("efficiency", total, 0, experiment->quiet);
    for (size_t i = 0; i < run->length_count && status == MRA_OK; i++) {
        status = measure_length(run, (int)run->lengths[i], (int)run->repeats[i], &inputs[i],
                                &progress, &done, err);
    }
    if (status == MRA_OK) {
        mra_progress_end(&progress, "");
        status = mra_cells_commit(experiment, "-time.tsv", &run->times, err);
    }
    if (status == MRA_OK) {
        status = mra_cells_commit(experiment, "-heads.tsv", &run->errors, err);
    }
    mra_cells_close(&run->times);
    mra_cells_close(&run->errors);
    return status == MRA_OK ? join(run, err) : status;
}

static mra_status check_lists(const efficiency_run *run, size_t repeat_count, mra_error *err)
{
    const char *path = run->experiment->settings_path;
    if (repeat_count != run->length_count) {
        return mra_fail(err, MRA_BAD_INPUT, "%s: repeats: %zu numbers for %zu lengths", path,
                        repeat_count, run->length_count);
    }
    for (size_t i = 0; i < run->length_count; i++) {
        if (run->lengths[i] < 1 || run->lengths[i] > 1 << 20 || fmod(run->lengths[i], 1) != 0 ||
            run->repeats[i] < 1 || run->repeats[i] > 1000) {
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: lengths, repeats: %g, %g, expected whole numbers >= 1", path,
                            run->lengths[i], run->repeats[i]);
        }
    }
    for (size_t i = 0; i < run->block_count; i++) {
        if (!(run->blocks[i] > 0)) {
            return mra_fail(err, MRA_BAD_INPUT, "%s: blocks: %g, expected numbers above 0",
                            path, run->blocks[i]);
        }
    }
    return MRA_OK;
}

static mra_status read_settings(efficiency_run *run, mra_error *err)
{
    mra_experiment *experiment = run->experiment;
    int64_t examples, heads, width;
    size_t repeat_count;
    if (mra_experiment_list(experiment, "lengths", run->lengths, MOST_LENGTHS,
                            &run->length_count, err) != MRA_OK ||
        mra_experiment_list(experiment, "repeats", run->repeats, MOST_LENGTHS, &repeat_count,
                            err) != MRA_OK ||
        mra_experiment_list(experiment, "blocks", run->blocks, MOST_BLOCKS, &run->block_count,
                            err) != MRA_OK ||
        mra_experiment_list(experiment, "three_scales", run->three, MRA_MAX_SCALES,
                            &run->three_count, err) != MRA_OK ||
        mra_experiment_list(experiment, "four_scales", run->four, MRA_MAX_SCALES,
                            &run->four_count, err) != MRA_OK ||
        mra_experiment_real(experiment, "most_blocks_of_many_scales", 0, 1e6,
                            &run->most_blocks_of_many_scales, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &examples, err) != MRA_OK ||
        mra_experiment_int(experiment, "heads", 1, 1024, &heads, err) != MRA_OK ||
        mra_experiment_int(experiment, "width", 1, 256, &width, err) != MRA_OK) {
        return err->status;
    }
    static const char *const shown[] = {"exact", "mra2", "mra2s", "mra", NULL};
    run->zeroed = mra_experiment_text(experiment, "zeroed");
    if (mra_rival_sweeps(experiment, shown, run->sweep, &run->sweeps, err) != MRA_OK)
        return err->status;
    run->examples = (int)examples;
    run->heads = (int)heads;
    run->width = (int)width;
    return check_lists(run, repeat_count, err);
}

static mra_status run_efficiency(mra_experiment *experiment, mra_error *err)
{
    static efficiency_run run;
    static mra_trained_inputs inputs[MOST_LENGTHS];
    run.experiment = experiment;
    mra_status status = read_settings(&run, err);
    for (size_t i = 0; i < run.length_count && status == MRA_OK; i++) {
        status = mra_trained_inputs_load(experiment, (int)run.lengths[i], run.examples,
                                         &inputs[i], err);
    }
    if (status == MRA_OK)
        status = mra_experiment_fact(experiment, err, "threads %d", experiment->threads);
    bool done = false;
    if (status == MRA_OK) status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) {
        status = mra_bench_place_open(&run.place, experiment->threads, run.zeroed, err);
        if (status == MRA_OK) status = measure_all(&run, inputs, err);
        mra_bench_place_close(&run.place);
    }
    for (size_t i = 0; i < MOST_LENGTHS; i++) mra_trained_inputs_free(&inputs[i]);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "efficiency", "2",
        "relative error on trained heads against time and memory of a layer"};
    return mra_experiment_main(&about, run_efficiency, argc, argv);
}
