// Chapter "related work": every method of the comparison beside what it claims.
//
// Growth. Forward + backward of one layer with the method's default options, on Gaussian inputs, at
// several lengths; the exponent is the slope of a straight line through log time (or log peak memory)
// over log n. A method that claims O(n) should have a slope near 1, exact attention near 2 in time;
// memory is what the work needs on top of the program, its inputs and outputs counted.
//
// Errors. Each method with its default options on the trained heads; and where the published code
// departs from the method's own paper (the option `variant`), both, so that a reader sees how much
// the departure matters.
//
// Matrices. What a method does to V is (but for what it does to the result afterwards) a matrix A-hat
// times V: applied to the columns of the identity, d at a time, it shows that matrix. One
// trained head, every method, as heat maps of log10.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/measure.h"
#include "common_dense.h"
#include "common_method.h"
#include "common_rivals.h"

enum { MOST_LENGTHS = 8 };
static const double floor_log10 = -8; // what is smaller is drawn as this

typedef struct related_run {
    mra_experiment *experiment;
    mra_bench_place place;
    double lengths[MOST_LENGTHS];
    size_t length_count;
    int repeats, heads, width, n;
    mra_rival_sweep
        shown[MRA_RIVALS]; // the methods, and the value of one option for the pictures
    int methods;
} related_run;

// ---- Growth ---------------------------------------------------------------------------------

// Gaussian q, k, v, dz and room for z, dq, dk, dv in one piece of memory.
static float *make_arrays(const related_run *run, mra_shape shape, mra_instance *instance)
{
    const size_t size = (size_t)shape.heads * (size_t)shape.n * (size_t)shape.d;
    float *all = mra_aligned_calloc(8 * size, sizeof *all);
    for (uint64_t i = 0; all && i < 4; i++)
        mra_fill_normal(all + i * size, size, 1, run->experiment->seed,
                        mra_stream("related", i, 0));
    instance->q = all;
    instance->k = all + size;
    instance->v = all + 2 * size;
    instance->dz = all + 3 * size;
    instance->z = all + 4 * size;
    instance->dq = all + 5 * size;
    instance->dk = all + 6 * size;
    instance->dv = all + 7 * size;
    return all;
}

static mra_status measure_time(related_run *run, const char *method, mra_shape shape,
                               mra_timing *timing, mra_error *err)
{
    mra_instance instance = {.tape = run->place.tape};
    mra_status status = mra_attention_layer_create(&instance.layer, method, run->place.device,
                                                   shape, run->experiment->seed, NULL, 0, err);
    if (status != MRA_OK) return status;
    float *arrays = make_arrays(run, shape, &instance);
    if (arrays)
        status = mra_measure_time(mra_instance_both, &instance, run->repeats, timing, err);
    else
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for a layer of %d tokens", shape.n);
    mra_aligned_free(arrays);
    mra_attention_layer_free(instance.layer);
    return status;
}

static mra_status measure_growth(related_run *run, mra_cells *cells, const mra_method *method,
                                 int n, mra_error *err)
{
    if (mra_cells_skip(cells, 1)) return MRA_OK;
    const mra_shape shape = {.batch = 1, .heads = run->heads, .n = n, .d = run->width};
    const mra_peak_request request = {.method = method->name,
                                      .device = run->place.device,
                                      .shape = shape,
                                      .seed = run->experiment->seed,
                                      .backward = true};
    mra_memory memory;
    mra_timing timing;
    if (mra_measure_method_peak(&request, &memory, err) != MRA_OK ||
        measure_time(run, method->name, shape, &timing, err) != MRA_OK)
        return err->status;
    return mra_cells_row(cells, err, "tirr", method->name, n, 1e3 * timing.median,
                         (double)memory.above / (1 << 20));
}

// ---- Errors ---------------------------------------------------------------------------------

// The choices of the method's option `variant` in turn, or "-" where it has none. False: no more.
static bool variant_name(const mra_method *method, int index, char *name, size_t room)
{
    const char *choices = NULL;
    for (int i = 0; i < method->option_count; i++)
        if (!strcmp(method->options[i].name, "variant")) choices = method->options[i].choices;
    snprintf(name, room, "-");
    if (!choices) return index == 0;
    for (; index > 0 && choices; index--) {
        choices = strchr(choices, '|');
        if (choices) choices++;
    }
    if (!choices) return false;
    snprintf(name, room, "%.*s", (int)strcspn(choices, "|"), choices);
    return true;
}

static mra_status measure_error(related_run *run, mra_cells *cells, const mra_method *method,
                                const char *variant, const mra_trained_head *head,
                                const mra_dense_head *dense, float *z, mra_error *err)
{
    char assignment[64];
    snprintf(assignment, sizeof assignment, "variant=%s", variant);
    const char *const assignments[] = {assignment};
    mra_status status = mra_bench_output(&run->place, method->name, assignments,
                                         *variant != '-', run->experiment->seed, head, z, err);
    if (status != MRA_OK) return status;
    return mra_cells_row(cells, err, "tttiir", method->name, variant, head->set, head->example,
                         head->number, mra_dense_output_error(dense, z));
}

static mra_status measure_head(related_run *run, mra_cells *cells, const mra_trained_head *head,
                               mra_error *err)
{
    char variant[32];
    size_t rows = 0;
    for (int m = 0; m < run->methods; m++)
        for (int i = 0; variant_name(run->shown[m].method, i, variant, sizeof variant); i++)
            rows++;
    if (mra_cells_skip(cells, rows)) return MRA_OK;
    mra_dense_head dense;
    mra_status status = mra_dense_head_create(&dense, head, err);
    if (status != MRA_OK) return status;
    float *z = malloc((size_t)head->n * (size_t)head->d * sizeof *z);
    if (!z)
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for an output of %d tokens", head->n);
    for (int m = 0; m < run->methods; m++) {
        const mra_method *method = run->shown[m].method;
        for (int i = 0; status == MRA_OK && variant_name(method, i, variant, sizeof variant);
             i++)
            status = measure_error(run, cells, method, variant, head, &dense, z, err);
    }
    free(z);
    mra_dense_head_free(&dense);
    return status;
}

// ---- Matrices -------------------------------------------------------------------------------

// a_hat[n, n], column by column: the method applied to the identity in place of V.
static mra_status matrix_of(related_run *run, const mra_rival_sweep *shown,
                            const mra_trained_head *head, double *a_hat, char *options,
                            size_t room, mra_error *err)
{
    const int n = head->n, d = head->d;
    mra_trained_head part = *head;
    float *v = calloc(2 * (size_t)n * (size_t)d, sizeof *v);
    if (!v) return mra_fail(err, MRA_NO_MEMORY, "no memory for %d columns", d);
    float *z = v + (size_t)n * (size_t)d;
    part.v = v;
    const char *const assignments[] = {options};
    mra_rival_assignment(shown, 0, n, options, room);
    mra_status status = MRA_OK;
    for (int first = 0; first < n && status == MRA_OK; first += d) {
        const int columns = n - first < d ? n - first : d;
        memset(v, 0, (size_t)n * (size_t)d * sizeof *v);
        for (int c = 0; c < columns; c++) v[(size_t)(first + c) * (size_t)d + (size_t)c] = 1;
        status = mra_bench_output(&run->place, shown->method->name, assignments, *options != 0,
                                  run->experiment->seed, &part, z, err);
        for (int i = 0; i < n; i++)
            for (int c = 0; c < columns; c++)
                a_hat[(size_t)i * (size_t)n + (size_t)(first + c)] = z[(size_t)i * d + c];
    }
    free(v);
    return status;
}

static double norm_of(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += values[i] * values[i];
    return sqrt(sum);
}

static mra_status draw_matrix(related_run *run, mra_cells *cells, int panel,
                              const mra_rival_sweep *shown, const mra_trained_head *head,
                              const mra_dense_head *dense, mra_error *err)
{
    const size_t entries = (size_t)head->n * (size_t)head->n;
    char options[96], suffix[32];
    double *a_hat = malloc(entries * sizeof *a_hat);
    float *picture = malloc(entries * sizeof *picture);
    mra_status status =
        a_hat && picture
            ? matrix_of(run, shown, head, a_hat, options, sizeof options, err)
            : mra_fail(err, MRA_NO_MEMORY, "no memory for pictures of %zu entries", entries);
    if (status == MRA_OK) {
        mra_log_picture(a_hat, entries, floor_log10, picture);
        snprintf(suffix, sizeof suffix, "-%d.npy", panel);
        status =
            mra_experiment_picture(run->experiment, suffix, picture, head->n, head->n, err);
    }
    if (status == MRA_OK)
        status = mra_cells_row(cells, err, "itttiirr", panel, shown->method->name,
                               *options ? options : "-", head->set, head->example, head->number,
                               dense->entropy,
                               sqrt(mra_squared_distance(a_hat, dense->probability, entries)) /
                                   norm_of(dense->probability, entries));
    free(a_hat);
    free(picture);
    return status;
}

static mra_status draw_matrices(related_run *run, const mra_trained_head *head, mra_error *err)
{
    static const char *const columns[] = {"panel", "method",  "options",      "set", "example",
                                          "head",  "entropy", "matrix_error", NULL};
    mra_cells cells;
    mra_dense_head dense;
    mra_status status =
        mra_cells_create(run->experiment, "-matrices.tsv", columns, &cells, err);
    if (status != MRA_OK) return status;
    status = mra_dense_head_create(&dense, head, err);
    int panel = 0;
    for (int m = 0; m < run->methods && status == MRA_OK; m++)
        if (*run->shown[m].option || !run->shown[m].method->option_count)
            status = draw_matrix(run, &cells, panel++, &run->shown[m], head, &dense, err);
    mra_dense_head_free(&dense);
    if (status == MRA_OK)
        return mra_cells_commit(run->experiment, "-matrices.tsv", &cells, err);
    mra_cells_close(&cells);
    return status;
}

// ---- The table ------------------------------------------------------------------------------

// The slope of log y over log n through the rows of one method.
static mra_status slope(const mra_table *growth, const char *method, const char *column,
                        double *exponent, mra_error *err)
{
    int name, length, value;
    if (mra_table_column(growth, "method", &name, err) != MRA_OK ||
        mra_table_column(growth, "n", &length, err) != MRA_OK ||
        mra_table_column(growth, column, &value, err) != MRA_OK)
        return err->status;
    double count = 0, x = 0, y = 0, xx = 0, xy = 0;
    for (size_t row = 0; row < mra_table_rows(growth); row++) {
        double n, measured;
        if (strcmp(mra_table_text(growth, row, name), method) != 0) continue;
        if (mra_table_number(growth, row, length, &n, err) != MRA_OK ||
            mra_table_number(growth, row, value, &measured, err) != MRA_OK)
            return err->status;
        n = log(n);
        measured = log(measured);
        count++, x += n, y += measured, xx += n * n, xy += n * measured;
    }
    *exponent = (count * xy - x * y) / (count * xx - x * x);
    return MRA_OK;
}

// The mean error of a method as it is by default (the first of its variants).
static mra_status mean_error(const mra_table *errors, const char *method, double *mean,
                             mra_error *err)
{
    int name, value;
    if (mra_table_column(errors, "method", &name, err) != MRA_OK ||
        mra_table_column(errors, "mean", &value, err) != MRA_OK)
        return err->status;
    for (size_t row = 0; row < mra_table_rows(errors); row++)
        if (!strcmp(mra_table_text(errors, row, name), method))
            return mra_table_number(errors, row, value, mean, err);
    return mra_fail(err, MRA_INTERNAL, "no errors of %s", method);
}

static mra_status write_table(related_run *run, const mra_table *growth,
                              const mra_table *errors, mra_error *err)
{
    static const char *const columns[] = {
        "method",          "claimed_time", "time_exponent", "claimed_memory",
        "memory_exponent", "learned",      "error_mean",    NULL};
    mra_cells cells;
    mra_status status = mra_cells_create(run->experiment, ".tsv", columns, &cells, err);
    if (status != MRA_OK) return status;
    for (int m = 0; m < run->methods && status == MRA_OK; m++) {
        const mra_method *method = run->shown[m].method;
        double time = 0, memory = 0, error = 0;
        status = slope(growth, method->name, "both_ms", &time, err);
        if (status == MRA_OK) status = slope(growth, method->name, "peak_mib", &memory, err);
        if (status == MRA_OK) status = mean_error(errors, method->name, &error, err);
        if (status == MRA_OK)
            status =
                mra_cells_row(&cells, err, "ttrtrtr", method->name, method->time, time,
                              method->memory, memory, method->learned ? "yes" : "no", error);
    }
    if (status == MRA_OK) return mra_cells_commit(run->experiment, ".tsv", &cells, err);
    mra_cells_close(&cells);
    return status;
}

static mra_status join(related_run *run, mra_error *err)
{
    static const char *const groups[] = {"method", "variant", NULL};
    char path[1024];
    mra_table *growth = NULL, *errors = NULL;
    if (mra_experiment_summary(run->experiment, "-heads.tsv", groups, "relative_error",
                               "-errors.tsv", err) != MRA_OK)
        return err->status;
    mra_experiment_path(run->experiment, "-growth.tsv", path);
    mra_status status = mra_table_read(&growth, path, err);
    mra_experiment_path(run->experiment, "-errors.tsv", path);
    if (status == MRA_OK) status = mra_table_read(&errors, path, err);
    if (status == MRA_OK) status = write_table(run, growth, errors, err);
    mra_table_free(growth);
    mra_table_free(errors);
    return status;
}

// ---- The run --------------------------------------------------------------------------------

static mra_status measure_growths(related_run *run, mra_error *err)
{
    static const char *const columns[] = {"method", "n", "both_ms", "peak_mib", NULL};
    mra_cells cells;
    if (mra_cells_open(run->experiment, "-growth.tsv", columns, &cells, err) != MRA_OK)
        return err->status;
    double total = 0, done = 0;
    for (size_t i = 0; i < run->length_count; i++) total += run->lengths[i] * run->methods;
    mra_progress progress =
        mra_progress_start("related: growth", total, 0, run->experiment->quiet);
    mra_status status = MRA_OK;
    for (int m = 0; m < run->methods && status == MRA_OK; m++)
        for (size_t i = 0; i < run->length_count && status == MRA_OK; i++) {
            const mra_method *method = run->shown[m].method;
            status = measure_growth(run, &cells, method, (int)run->lengths[i], err);
            mra_progress_update(&progress, done += run->lengths[i], method->name);
        }
    if (status != MRA_OK) {
        mra_cells_close(&cells);
        return status;
    }
    mra_progress_end(&progress, "");
    return mra_cells_commit(run->experiment, "-growth.tsv", &cells, err);
}

static mra_status measure_errors(related_run *run, const mra_trained_inputs *inputs,
                                 mra_error *err)
{
    static const char *const columns[] = {"method", "variant",        "set", "example",
                                          "head",   "relative_error", NULL};
    mra_cells cells;
    if (mra_cells_open(run->experiment, "-heads.tsv", columns, &cells, err) != MRA_OK)
        return err->status;
    mra_progress progress =
        mra_progress_start("related: errors", inputs->count, 0, run->experiment->quiet);
    mra_status status = MRA_OK;
    for (int i = 0; i < inputs->count && status == MRA_OK; i++) {
        status = measure_head(run, &cells, &inputs->head[i], err);
        mra_progress_update(&progress, i + 1, "");
    }
    if (status != MRA_OK) {
        mra_cells_close(&cells);
        return status;
    }
    mra_progress_end(&progress, "");
    return mra_cells_commit(run->experiment, "-heads.tsv", &cells, err);
}

static mra_status read_settings(related_run *run, int *examples, mra_error *err)
{
    mra_experiment *experiment = run->experiment;
    int64_t repeats, heads, width, n, number;
    if (mra_experiment_list(experiment, "lengths", run->lengths, MOST_LENGTHS,
                            &run->length_count, err) != MRA_OK ||
        mra_experiment_int(experiment, "repeats", 1, 1000, &repeats, err) != MRA_OK ||
        mra_experiment_int(experiment, "heads", 1, 1024, &heads, err) != MRA_OK ||
        mra_experiment_int(experiment, "width", 1, 256, &width, err) != MRA_OK ||
        mra_experiment_int(experiment, "n", 1, 4096, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &number, err) != MRA_OK ||
        mra_rival_sweeps(experiment, NULL, run->shown, &run->methods, err) != MRA_OK)
        return err->status;
    if (run->length_count < 2)
        return mra_fail(err, MRA_BAD_INPUT, "%s: lengths: expected at least two",
                        experiment->settings_path);
    for (size_t i = 0; i < run->length_count; i++)
        if (run->lengths[i] < 1 || run->lengths[i] > 1 << 20 || fmod(run->lengths[i], 1) != 0)
            return mra_fail(err, MRA_BAD_INPUT, "%s: lengths: %g: expected whole numbers",
                            experiment->settings_path, run->lengths[i]);
    run->repeats = (int)repeats;
    run->heads = (int)heads;
    run->width = (int)width;
    run->n = (int)n;
    *examples = (int)number;
    mra_experiment_text(experiment, "head");
    return MRA_OK;
}

static mra_status run_related(mra_experiment *experiment, mra_error *err)
{
    static related_run run;
    run.experiment = experiment;
    int examples = 0, count;
    if (read_settings(&run, &examples, err) != MRA_OK) return err->status;
    const char *zeroed = mra_experiment_text(experiment, "zeroed");
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, run.n, examples, &inputs, err) != MRA_OK)
        return err->status;
    const mra_trained_head *head;
    bool done = false;
    mra_status status =
        mra_trained_heads_named(experiment, "head", &inputs, 1, &head, &count, err);
    if (status == MRA_OK)
        status = mra_experiment_fact(experiment, err, "threads %d", experiment->threads);
    if (status == MRA_OK) status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) {
        status = mra_bench_place_open(&run.place, experiment->threads, zeroed, err);
        if (status == MRA_OK) status = measure_growths(&run, err);
        if (status == MRA_OK) status = measure_errors(&run, &inputs, err);
        if (status == MRA_OK) status = draw_matrices(&run, head, err);
        if (status == MRA_OK) status = join(&run, err);
        mra_bench_place_close(&run.place);
    }
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "related", "1", "growth, errors and matrices of every method of the comparison"};
    return mra_experiment_main(&about, run_related, argc, argv);
}
