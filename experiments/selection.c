// Figure "selection": pictures of J for trained heads, and the share of the error that
// refinement removes.
//
// With R = {b, 1}, refining a box removes exactly its own squared error, so any order of the
// boxes gives a curve: the share of ||A - A-hat||_F^2 (of the coarse approximation) that is
// gone after m boxes. Four orders are compared:
//
//   row     by coarse logit minus the largest of its row of boxes (the paper's code);
//   plain   by coefficient (the paper's text);
//   oracle  by the true error of the box: the best order there is;
//   random  by chance: a share of m / (number of boxes) on average.
//
// The share is taken in two measures. `matrix`: the entries of A as they are, where the rows
// with large logits outweigh all others. `softmax`: the entries of D^-1 A, every row with the
// weight that it has in the output. The two rankings of the paper differ in just this respect.

#include <math.h>
#include <stdlib.h>

#include "common_dense.h"
#include "common_method.h"
#include "mra/apply.h"

enum { MOST_BUDGETS = 32, MOST_PICTURES = 6, ORDERS = 4, MEASURES = 2 };
static const char *const order_names[ORDERS] = {"row", "plain", "oracle", "random"};
static const char *const measure_names[MEASURES] = {"matrix", "softmax"};
enum { ROW, PLAIN, ORACLE, RANDOM };
enum { MATRIX, SOFTMAX };

typedef struct selection_run {
    mra_experiment *experiment;
    int n, block, pictures;
    double budgets[MOST_BUDGETS]; // boxes refined per row of boxes
    size_t budget_count;
    mra_options picture_options; // R and budgets of the pictures
    mra_cells cells;
} selection_run;

// ---- The share of the error removed ---------------------------------------------------------

// What is known of the boxes of one head.
typedef struct box_list {
    size_t count;
    float *score[ORDERS - 1]; // [count]: by row, plain, random
    float *error[MEASURES];   // [count]: what refining the box removes; also the oracle's score
    int32_t *chosen, *scratch; // of mra_select_largest
    void *memory;
} box_list;

static mra_status make_box_list(box_list *list, size_t count, mra_error *err)
{
    size_t arrays = ORDERS - 1 + MEASURES;
    float *memory = mra_aligned_calloc((arrays + 3) * count, sizeof *memory);
    if (!memory) return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu boxes", count);
    *list = (box_list){.count = count, .memory = memory};
    for (int i = 0; i < ORDERS - 1; i++) list->score[i] = memory + (size_t)i * count;
    for (int i = 0; i < MEASURES; i++)
        list->error[i] = memory + (size_t)(ORDERS - 1 + i) * count;
    list->chosen = (int32_t *)(void *)(memory + arrays * count);
    list->scratch = list->chosen + count;
    return MRA_OK;
}

// sum over box (x, y) of (w_i (exp(P_ij) - mu))^2 with row weights w_i = exp(-largest) (matrix)
// or 1/D_ii (softmax).
static void box_error(const mra_dense_head *dense, int block, int x, int y, double log_mu,
                      double error[MEASURES])
{
    int n = dense->n;
    error[MATRIX] = error[SOFTMAX] = 0;
    for (int i = x * block; i < (x + 1) * block && i < n; i++) {
        double row = 0;
        for (int j = y * block; j < (y + 1) * block && j < n; j++) {
            double difference = exp(dense->logit[(size_t)i * n + j] - dense->largest) -
                                exp(log_mu - dense->largest);
            row += difference * difference;
        }
        error[MATRIX] += row;
        error[SOFTMAX] += row * exp(2 * (dense->largest - dense->row_lse[i]));
    }
}

static void fill_box_list(box_list *list, const mra_selection *selection,
                          const mra_options *options, const mra_dense_head *dense,
                          uint64_t seed, uint64_t place)
{
    const mra_selection_level *level = &selection->level[0];
    mra_options ranked = *options;
    ranked.ranking = MRA_RANK_ROW;
    mra_selection_rank(selection, &ranked, 1, list->score[0]);
    ranked.ranking = MRA_RANK_PLAIN;
    mra_selection_rank(selection, &ranked, 1, list->score[1]);
    mra_fill_uniform(list->score[2], list->count, 0, 1, seed,
                     mra_stream("random order", place, 0));
    for (int x = 0; x < level->blocks; x++) {
        for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++) {
            double error[MEASURES];
            box_error(dense, level->scale, x, level->column[b], level->logit[b], error);
            for (int m = 0; m < MEASURES; m++) list->error[m][b] = (float)error[m];
        }
    }
}

static double share_removed(box_list *list, const float *score, const float *error, size_t m)
{
    double total = 0, removed = 0;
    for (size_t b = 0; b < list->count; b++) total += error[b];
    size_t chosen = mra_select_largest(score, list->count, m, list->chosen, list->scratch);
    for (size_t i = 0; i < chosen; i++) removed += error[list->chosen[i]];
    return total > 0 ? removed / total : 1;
}

static mra_status write_shares(selection_run *run, const mra_trained_head *head, box_list *list,
                               mra_error *err)
{
    int rows = (run->n + run->block - 1) / run->block;
    for (int measure = 0; measure < MEASURES; measure++) {
        for (int order = 0; order < ORDERS; order++) {
            const float *score = order == ORACLE   ? list->error[measure]
                                 : order == RANDOM ? list->score[2]
                                                   : list->score[order];
            for (size_t i = 0; i < run->budget_count; i++) {
                size_t m = (size_t)(run->budgets[i] * rows + 0.5);
                double share = share_removed(list, score, list->error[measure], m);
                if (mra_cells_row(&run->cells, err, "tiittrr", head->set, head->example,
                                  head->number, measure_names[measure], order_names[order],
                                  run->budgets[i], share) != MRA_OK) {
                    return err->status;
                }
            }
        }
    }
    return MRA_OK;
}

static mra_status measure_head(selection_run *run, const mra_trained_head *head, int place,
                               mra_error *err)
{
    mra_options options = mra_options_mra2(0);
    options.scale[0] = run->block;
    mra_dense_head dense;
    if (mra_dense_head_create(&dense, head, err) != MRA_OK) return err->status;
    mra_apply *apply = NULL;
    box_list list = {0};
    mra_status status = mra_apply_create(&apply, &options, head->n, head->d, err);
    if (status == MRA_OK) {
        mra_apply_prepare(apply, head->q, head->k, head->v, NULL);
        status = make_box_list(&list, apply->selection.level[0].count, err);
    }
    if (status == MRA_OK) {
        fill_box_list(&list, &apply->selection, &options, &dense, run->experiment->seed,
                      (uint64_t)place);
        status = write_shares(run, head, &list, err);
    }
    mra_aligned_free(list.memory);
    mra_apply_free(apply);
    mra_dense_head_free(&dense);
    return status;
}

static mra_status measure_heads(selection_run *run, const mra_trained_inputs *inputs,
                                mra_error *err)
{
    static const char *const columns[] = {"set",   "example", "head",  "measure",
                                          "order", "blocks",  "share", NULL};
    static const char *const groups[] = {"measure", "order", "blocks", NULL};
    mra_experiment *experiment = run->experiment;
    if (mra_cells_open(experiment, ".tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    size_t rows = MEASURES * ORDERS * run->budget_count;
    mra_progress progress = mra_progress_start(
        "selection", inputs->count, (double)(run->cells.already / rows), experiment->quiet);
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
    if (mra_cells_commit(experiment, ".tsv", &run->cells, err) != MRA_OK) return err->status;
    return mra_experiment_summary(experiment, ".tsv", groups, "share", "-mean.tsv", err);
}

// ---- Pictures of J --------------------------------------------------------------------------

// map[i, j] = the position in R of the smallest box of J that covers (i, j).
static void draw_levels(const mra_selection *selection, float *map)
{
    int n = selection->n;
    for (int l = 0; l < selection->scales; l++) {
        const mra_selection_level *level = &selection->level[l];
        int s = level->scale;
        for (int x = 0; x < level->blocks; x++) {
            for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++) {
                int left = level->column[b] * s;
                for (int i = x * s; i < (x + 1) * s && i < n; i++) {
                    for (int j = left; j < left + s && j < n; j++)
                        map[(size_t)i * n + j] = (float)l;
                }
            }
        }
    }
}

static mra_status write_pictures(selection_run *run, const mra_trained_head *head, int panel,
                                 const mra_dense_head *dense, const mra_apply *apply, float *z,
                                 float *map, mra_error *err)
{
    char suffix[48];
    size_t entries = (size_t)head->n * head->n;
    mra_log_picture(dense->probability, entries, -8, map);
    snprintf(suffix, sizeof suffix, "-a%d.npy", panel);
    if (mra_experiment_picture(run->experiment, suffix, map, head->n, head->n, err) != MRA_OK) {
        return err->status;
    }
    draw_levels(&apply->selection, map);
    snprintf(suffix, sizeof suffix, "-j%d.npy", panel);
    if (mra_experiment_picture(run->experiment, suffix, map, head->n, head->n, err) != MRA_OK) {
        return err->status;
    }
    char boxes[128] = "";
    for (int l = 0, at = 0; l < apply->selection.scales; l++) {
        at += snprintf(boxes + at, sizeof boxes - (size_t)at, "%s%zu", l ? " + " : "",
                       apply->selection.level[l].count);
    }
    return mra_cells_row(&run->cells, err, "itiirrt", panel, head->set, head->example,
                         head->number, dense->entropy, mra_dense_output_error(dense, z), boxes);
}

static mra_status draw_head(selection_run *run, const mra_trained_head *head, int panel,
                            mra_error *err)
{
    size_t entries = (size_t)head->n * head->n;
    mra_dense_head dense;
    if (mra_dense_head_create(&dense, head, err) != MRA_OK) return err->status;
    mra_apply *apply = NULL;
    float *z = malloc((size_t)head->n * (size_t)head->d * sizeof *z);
    float *map = malloc(entries * sizeof *map);
    mra_status status =
        z && map ? mra_apply_create(&apply, &run->picture_options, head->n, head->d, err)
                 : mra_fail(err, MRA_NO_MEMORY, "no memory for a picture");
    if (status == MRA_OK) {
        mra_apply_forward(apply, head->q, head->k, head->v, NULL, z);
        status = write_pictures(run, head, panel, &dense, apply, z, map, err);
    }
    free(z);
    free(map);
    mra_apply_free(apply);
    mra_dense_head_free(&dense);
    return status;
}

static mra_status draw_heads(selection_run *run, const mra_trained_head *const *heads,
                             int count, mra_error *err)
{
    static const char *const columns[] = {
        "panel", "set", "example", "head", "entropy", "relative_error", "boxes", NULL};
    mra_status status =
        mra_cells_create(run->experiment, "-pictures.tsv", columns, &run->cells, err);
    if (status != MRA_OK) return status;
    for (int i = 0; i < count && status == MRA_OK; i++)
        status = draw_head(run, heads[i], i, err);
    if (status == MRA_OK)
        return mra_cells_commit(run->experiment, "-pictures.tsv", &run->cells, err);
    mra_cells_close(&run->cells);
    return status;
}

// ---- The run --------------------------------------------------------------------------------

static mra_status read_settings(selection_run *run, int *examples, mra_error *err)
{
    mra_experiment *experiment = run->experiment;
    int64_t n, number, block, pictures;
    if (mra_experiment_int(experiment, "n", 1, 4096, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &number, err) != MRA_OK ||
        mra_experiment_int(experiment, "block", 2, n, &block, err) != MRA_OK ||
        mra_experiment_int(experiment, "pictures", 1, MOST_PICTURES, &pictures, err) !=
            MRA_OK ||
        mra_experiment_list(experiment, "budgets", run->budgets, MOST_BUDGETS,
                            &run->budget_count, err) != MRA_OK ||
        mra_experiment_options(experiment, "scales", "blocks", (int)n, &run->picture_options,
                               err) != MRA_OK) {
        return err->status;
    }
    run->n = (int)n;
    run->block = (int)block;
    run->pictures = (int)pictures;
    *examples = (int)number;
    return MRA_OK;
}

static mra_status run_selection(mra_experiment *experiment, mra_error *err)
{
    static selection_run run;
    run.experiment = experiment;
    int examples = 0, count = 0;
    if (read_settings(&run, &examples, err) != MRA_OK) return err->status;
    mra_experiment_text(experiment, "heads");
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, run.n, examples, &inputs, err) != MRA_OK) {
        return err->status;
    }
    bool done = false;
    const mra_trained_head *heads[MOST_PICTURES];
    mra_status status =
        mra_trained_heads_named(experiment, "heads", &inputs, run.pictures, heads, &count, err);
    if (status == MRA_OK) status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) {
        status = measure_heads(&run, &inputs, err);
        if (status == MRA_OK) status = draw_heads(&run, heads, count, err);
    }
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "selection", "1",
        "pictures of the boxes chosen, and the share of the error that they remove"};
    return mra_experiment_main(&about, run_selection, argc, argv);
}
