// Figure "datasets": Pathfinder-32 and ListOps, as the generators of this suite draw them.
//
// Two of the five tasks of the Long-Range Arena are drawn by programs, and drawn anew here. Whether a generator is right shows in its
// tests, but whether a task is the one that one had in mind shows best to the eye: hence a contact sheet of both classes. The
// distribution of the labels says what always giving the most frequent answer reaches, the lengths what a batch costs.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "data/data.h"
#include "data/pathfinder.h"

enum { SIDE = MRA_PATHFINDER_SIDE, GAP = 2, MOST_LABELS = 10, MOST_BINS = 64 };

typedef struct datasets_run {
    mra_experiment *experiment;
    int64_t listops, pathfinder, minimum, maximum, bin, rows, columns;
    mra_dataset *data[2];
    mra_cells cells;
} datasets_run;

static mra_status read_settings(datasets_run *run, mra_error *err)
{
    mra_experiment *experiment = run->experiment;
    if (mra_experiment_int(experiment, "listops", 1, 1000000, &run->listops, err) != MRA_OK ||
        mra_experiment_int(experiment, "pathfinder32", 1, 1000000, &run->pathfinder, err) !=
            MRA_OK ||
        mra_experiment_int(experiment, "minimum_length", 0, 100000, &run->minimum, err) !=
            MRA_OK ||
        mra_experiment_int(experiment, "maximum_length", 2, 100000, &run->maximum, err) !=
            MRA_OK ||
        mra_experiment_int(experiment, "bin", 1 + run->maximum / MOST_BINS, 100000, &run->bin,
                           err) != MRA_OK ||
        mra_experiment_int(experiment, "rows", 1, 100, &run->rows, err) != MRA_OK)
        return err->status;
    return mra_experiment_int(experiment, "columns", 1, 100, &run->columns, err);
}

static mra_status open_data(datasets_run *run, mra_error *err)
{
    static const char *const names[2] = {"listops", "pathfinder32"};
    for (int i = 0; i < 2; i++) {
        mra_dataset_options options = mra_dataset_defaults(names[i]);
        options.train = (size_t)(i == 0 ? run->listops : run->pathfinder);
        options.dev = options.test = 0;
        if (i == 0) {
            options.minimum_length = (int)run->minimum;
            options.maximum_length = (int)run->maximum;
        }
        options.cache = "";
        options.seed = run->experiment->seed;
        options.threads = run->experiment->threads;
        options.quiet = run->experiment->quiet;
        if (mra_dataset_open(&run->data[i], &options, err) != MRA_OK) return err->status;
    }
    return MRA_OK;
}

// ---- Distributions --------------------------------------------------------------------------

static mra_status count_labels(datasets_run *run, mra_error *err)
{
    static const char *const columns[] = {"data_set", "label", "count", "share", NULL};
    if (mra_cells_create(run->experiment, "-labels.tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    for (int d = 0; d < 2; d++) {
        const mra_dataset *data = run->data[d];
        const size_t examples = mra_dataset_count(data, MRA_TRAIN);
        int counts[MOST_LABELS] = {0};
        for (size_t i = 0; i < examples; i++)
            counts[mra_dataset_get(data, MRA_TRAIN, i).label]++;
        for (int label = 0; label < mra_dataset_classes(data); label++)
            if (mra_cells_row(&run->cells, err, "tiir", mra_dataset_name(data), label,
                              counts[label], counts[label] / (double)examples) != MRA_OK)
                return err->status;
    }
    return mra_cells_commit(run->experiment, "-labels.tsv", &run->cells, err);
}

static mra_status count_lengths(datasets_run *run, mra_error *err)
{
    static const char *const columns[] = {"data_set", "from", "below", "count", "share", NULL};
    const mra_dataset *data = run->data[0];
    const size_t examples = mra_dataset_count(data, MRA_TRAIN);
    int counts[MOST_BINS + 1] = {0};
    for (size_t i = 0; i < examples; i++)
        counts[mra_dataset_get(data, MRA_TRAIN, i).length / run->bin]++;
    if (mra_cells_create(run->experiment, "-lengths.tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    for (int64_t b = run->minimum / run->bin; b * run->bin < run->maximum; b++)
        if (mra_cells_row(&run->cells, err, "tiiir", "listops", (int)(b * run->bin),
                          (int)((b + 1) * run->bin), counts[b],
                          counts[b] / (double)examples) != MRA_OK)
            return err->status;
    return mra_cells_commit(run->experiment, "-lengths.tsv", &run->cells, err);
}

static mra_status summarise(datasets_run *run, mra_error *err)
{
    static const char *const columns[] = {"data_set", "examples", "classes",       "least",
                                          "mean",     "most",     "most_frequent", NULL};
    if (mra_cells_create(run->experiment, ".tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    for (int d = 0; d < 2; d++) {
        const mra_dataset *data = run->data[d];
        const size_t examples = mra_dataset_count(data, MRA_TRAIN);
        int least = INT32_MAX, most = 0;
        double total = 0;
        for (size_t i = 0; i < examples; i++) {
            const int length = mra_dataset_get(data, MRA_TRAIN, i).length;
            least = length < least ? length : least;
            most = length > most ? length : most;
            total += length;
        }
        if (mra_cells_row(&run->cells, err, "tiiirir", mra_dataset_name(data), (int)examples,
                          mra_dataset_classes(data), least, total / (double)examples, most,
                          mra_dataset_majority(data, MRA_TRAIN)) != MRA_OK)
            return err->status;
    }
    return mra_cells_commit(run->experiment, ".tsv", &run->cells, err);
}

// ---- Contact sheet --------------------------------------------------------------------------

// The first pictures of a class, row by row, with gaps of NaN between them; cells without one stay empty.
static mra_status draw_sheet(datasets_run *run, int label, float *sheet, mra_error *err)
{
    const mra_dataset *data = run->data[1];
    const int width = (int)run->columns * (SIDE + GAP) - GAP,
              height = (int)run->rows * (SIDE + GAP) - GAP;
    for (int i = 0; i < width * height; i++) sheet[i] = NAN;
    int64_t place = 0;
    for (size_t i = 0; i < mra_dataset_count(data, MRA_TRAIN); i++) {
        const mra_example example = mra_dataset_get(data, MRA_TRAIN, i);
        if (example.label != label) continue;
        if (place == run->rows * run->columns) break;
        const int64_t top = place / run->columns * (SIDE + GAP),
                      left = place % run->columns * (SIDE + GAP);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                sheet[(top + y) * width + left + x] = (float)(example.ids[y * SIDE + x] - 1);
        place++;
    }
    char suffix[32];
    snprintf(suffix, sizeof suffix, "-%d.npy", label);
    return mra_experiment_picture(run->experiment, suffix, sheet, height, width, err);
}

static mra_status draw_sheets(datasets_run *run, mra_error *err)
{
    float *sheet = malloc((size_t)run->rows * (size_t)run->columns * (SIDE + GAP) *
                          (SIDE + GAP) * sizeof *sheet);
    if (!sheet) return mra_fail(err, MRA_NO_MEMORY, "no memory for the contact sheet");
    mra_status status = draw_sheet(run, 0, sheet, err);
    if (status == MRA_OK) status = draw_sheet(run, 1, sheet, err);
    free(sheet);
    return status;
}

static mra_status run_datasets(mra_experiment *experiment, mra_error *err)
{
    datasets_run run = {.experiment = experiment};
    bool done = false;
    mra_status status = read_settings(&run, err);
    if (status == MRA_OK) status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) {
        status = open_data(&run, err);
        if (status == MRA_OK) status = count_labels(&run, err);
        if (status == MRA_OK) status = count_lengths(&run, err);
        if (status == MRA_OK) status = draw_sheets(&run, err);
        if (status == MRA_OK) status = summarise(&run, err);
        if (status != MRA_OK) mra_cells_close(&run.cells);
    }
    for (int i = 0; i < 2; i++) mra_dataset_free(run.data[i]);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "datasets", "1", "the generated data sets: pictures, labels and lengths"};
    return mra_experiment_main(&about, run_datasets, argc, argv);
}
