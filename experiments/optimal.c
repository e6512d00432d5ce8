// Figure "optimal": what greedy selection and the exponential of the mean cost, beside the best
// that boxes, sparse matrices, wavelets and low rank can do with as many numbers.
//
// Everything is measured on the softmax matrix D^-1 A, where every row has the weight that it has
// in the output: a box with coefficient c stands for c / D_ii in row i. With m of the 32 x 32 boxes
// refined MRA-2 has b^2 + 1023 m boxes (b rows of boxes), and all others get as many numbers:
//
//   row, plain     MRA-2 with the paper's two rankings
//   spread         MRA-2, boxes ranked by the error that the spread of their logits suggests
//   oracle         MRA-2, boxes ranked by their true squared error
//   tree           the best quadtree of boxes of sides 32, 16, ..., 1, by dynamic programming
//   haar           the largest coefficients of the orthonormal Haar basis
//   sparse         the largest entries
//   rank           the best matrix of rank k, with 2 n k numbers (k rounded down, at least 1)
//
// with the coefficient `mu` (exp of the mean), `corrected` (below) or `best` (the constant with the
// least error on the box).
//
// The spread. The logits of a box have a variance that needs no entry of it: with the covariances
// of the rows of the two blocks, var P = (k' C_q k + q' C_k q + tr C_q C_k) / d for the mean query
// q and key k; with only the diagonals of C_q and C_k these are three inner products. If the N
// logits of a box were drawn from a normal distribution of variance v, the mean of exp(l (P - mean
// P)) over them would be about exp(l^2 v / 2) while l sqrt(v) <= sqrt(2 ln N), and beyond that,
// where the largest of N decides, exp(l sqrt(2 v ln N)) / N (Derrida's random energy model, 1981). `corrected`
// multiplies mu by this for l = 1; `spread` is the option ranking=spread of the method
// (src/mra/fused_spread.c).

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/measure.h"
#include "common_dense.h"
#include "common_equal_time.h"
#include "common_method.h"
#include "mra/apply.h"
#include "mra/optimal.h"
#include "mra/wavelet.h"

enum { MOST = 16, LEVELS = 6, BLOCK = 32 };
enum { MU, CORRECTED, BEST, COEFFICIENTS };
static const char *const coefficient_names[] = {"mu", "corrected", "best"};

typedef struct optimal_run {
    mra_experiment *experiment;
    int n;
    double budgets[MOST];
    size_t budget_count;
    double time_budgets[MOST];
    size_t time_count;
    int repeats;
    mra_cells cells, times;
} optimal_run;

// The boxes of one head. Level l has boxes of side 32 >> l.
typedef struct box_costs {
    mra_dense_head dense;
    int coarse;              // boxes in a row at level 0
    size_t count;            // boxes of level 0
    double norm;             // sum of the squares of the softmax matrix
    double *weight;          // [n]: exp(reference - log D_ii), at most 1
    double reference;        // log D_ii of the row with the smallest one
    double *cost[2][LEVELS]; // squared error of each box, for mu and for the best constant
    double *corrected;       // [count]: for the corrected coefficient, level 0
    double *variance;        // [count]: of the logits, from diagonals
    float *logit;            // [count]: log mu
    float *score;            // [count]
    int32_t *order, *scratch;
    mra_arena memory;
} box_costs;

// ---- Costs ----------------------------------------------------------------------------------

// Sums over a box: of the squared weights of its rows times its side, of weight times
// probability, of squared probability, and of logits.
typedef struct box_sums {
    double weights, cross, squares, logits;
} box_sums;

static box_sums sum_box(const box_costs *costs, int side, int x, int y)
{
    const mra_dense_head *dense = &costs->dense;
    box_sums sums = {0};
    for (int i = x * side; i < (x + 1) * side; i++) {
        const double *p = dense->probability + (size_t)i * dense->n;
        const double *logit = dense->logit + (size_t)i * dense->n;
        const double weight = costs->weight[i];
        double cross = 0;
        for (int j = y * side; j < (y + 1) * side; j++) {
            cross += p[j];
            sums.squares += p[j] * p[j];
            sums.logits += logit[j];
        }
        sums.cross += weight * cross;
        sums.weights += side * weight * weight;
    }
    return sums;
}

// sum (p_ij - c weight_i)^2 from the sums; c in units of exp(reference).
static double cost_of(const box_sums *sums, double c)
{
    const double cost = sums->squares - 2 * c * sums->cross + c * c * sums->weights;
    return fmax(cost, 0);
}

// The mean of exp(l (P - mean P)) over N normal logits of this variance, as a logarithm.
static double log_mean_exp(double l, double variance, double logits)
{
    const double edge = sqrt(2 * log(logits)), scaled = l * sqrt(variance);
    return scaled <= edge ? scaled * scaled / 2 : scaled * edge - log(logits);
}

static void fill_level(box_costs *costs, int level)
{
    const int side = BLOCK >> level, across = costs->coarse << level;
    for (int x = 0; x < across; x++)
        for (int y = 0; y < across; y++) {
            const size_t at = (size_t)x * (size_t)across + (size_t)y;
            const box_sums sums = sum_box(costs, side, x, y);
            const double log_mu = sums.logits / side / side - costs->reference;
            const double best = sums.weights > 0 ? sums.cross / sums.weights : 0;
            // A single entry is exact either way.
            costs->cost[0][level][at] = side == 1 ? 0 : cost_of(&sums, exp(log_mu));
            costs->cost[1][level][at] = side == 1 ? 0 : cost_of(&sums, best);
            if (level > 0) continue;
            const double gain = log_mean_exp(1, costs->variance[at], BLOCK * BLOCK);
            costs->corrected[at] = cost_of(&sums, exp(log_mu + gain));
            costs->logit[at] = (float)(log_mu + costs->reference);
        }
}

// mean[d] and variance[d] of the rows of a block.
static void moments(const float *rows, int d, double *mean, double *variance)
{
    for (int c = 0; c < d; c++) {
        double sum = 0, squares = 0;
        for (int i = 0; i < BLOCK; i++) sum += rows[(size_t)i * d + c] / (double)BLOCK;
        for (int i = 0; i < BLOCK; i++) {
            const double off = rows[(size_t)i * d + c] - sum;
            squares += off * off / BLOCK;
        }
        mean[c] = sum;
        variance[c] = squares;
    }
}

static mra_status fill_variances(box_costs *costs, const mra_trained_head *head, mra_error *err)
{
    const size_t d = (size_t)head->d, size = (size_t)costs->coarse * d;
    double *q = mra_arena_alloc(&costs->memory, 4 * size * sizeof *q);
    if (!q) return mra_fail(err, MRA_NO_MEMORY, "no memory for variances");
    double *q_variance = q + size, *k = q_variance + size, *k_variance = k + size;
    for (size_t x = 0; x < (size_t)costs->coarse; x++) {
        moments(head->q + x * BLOCK * d, head->d, q + x * d, q_variance + x * d);
        moments(head->k + x * BLOCK * d, head->d, k + x * d, k_variance + x * d);
    }
    for (size_t x = 0; x < (size_t)costs->coarse; x++)
        for (size_t y = 0; y < (size_t)costs->coarse; y++) {
            double sum = 0;
            for (size_t c = 0; c < d; c++) {
                const double qc = q[x * d + c], kc = k[y * d + c];
                const double qv = q_variance[x * d + c], kv = k_variance[y * d + c];
                sum += qv * (kc * kc + kv) + qc * qc * kv;
            }
            costs->variance[x * (size_t)costs->coarse + y] = sum / (double)d;
        }
    return MRA_OK;
}

static void *take(box_costs *costs, size_t count, size_t size, bool *complete)
{
    void *memory = mra_arena_calloc(&costs->memory, count, size);
    *complete = *complete && memory != NULL;
    return memory;
}

static void free_costs(box_costs *costs)
{
    mra_dense_head_free(&costs->dense);
    mra_arena_free(&costs->memory);
}

static mra_status make_costs(box_costs *costs, const mra_trained_head *head, mra_error *err)
{
    *costs = (box_costs){.coarse = head->n / BLOCK, .reference = INFINITY};
    mra_status status = mra_dense_head_create(&costs->dense, head, err);
    if (status != MRA_OK) return status;
    const size_t n = (size_t)head->n;
    costs->count = (size_t)costs->coarse * (size_t)costs->coarse;
    bool complete = true;
    costs->weight = take(costs, n, sizeof(double), &complete);
    costs->corrected = take(costs, costs->count, sizeof(double), &complete);
    costs->variance = take(costs, costs->count, sizeof(double), &complete);
    costs->logit = take(costs, costs->count, sizeof(float), &complete);
    costs->score = take(costs, costs->count, sizeof(float), &complete);
    costs->order = take(costs, costs->count, sizeof(int32_t), &complete);
    costs->scratch = take(costs, 2 * costs->count, sizeof(int32_t), &complete);
    for (int kind = 0; kind < 2; kind++)
        for (int l = 0; l < LEVELS; l++)
            costs->cost[kind][l] =
                take(costs, costs->count << (2 * l), sizeof(double), &complete);
    if (!complete) {
        free_costs(costs);
        return mra_fail(err, MRA_NO_MEMORY, "no memory for the boxes of %d tokens", head->n);
    }
    for (size_t i = 0; i < n; i++)
        costs->reference = fmin(costs->reference, costs->dense.row_lse[i]);
    for (size_t i = 0; i < n; i++)
        costs->weight[i] = exp(costs->reference - costs->dense.row_lse[i]);
    for (size_t i = 0; i < n * n; i++)
        costs->norm += costs->dense.probability[i] * costs->dense.probability[i];
    status = fill_variances(costs, head, err);
    for (int l = 0; l < LEVELS && status == MRA_OK; l++) fill_level(costs, l);
    if (status != MRA_OK) free_costs(costs);
    return status;
}

// ---- Rankings -------------------------------------------------------------------------------

static void score_row(box_costs *costs, int ranking, size_t x)
{
    const size_t across = (size_t)costs->coarse;
    const double entries = BLOCK * BLOCK;
    float *score = costs->score + x * across;
    const float *logit = costs->logit + x * across;
    const double *variance = costs->variance + x * across;
    double largest = -INFINITY, raised = -INFINITY;
    for (size_t y = 0; y < across; y++) {
        largest = fmax(largest, logit[y]);
        raised = fmax(raised, logit[y] + log_mean_exp(1, variance[y], entries));
    }
    for (size_t y = 0; y < across; y++) {
        if (ranking == 0) score[y] = (float)(logit[y] - largest);
        if (ranking == 1) score[y] = logit[y];
        if (ranking != 2) continue;
        const double square = log_mean_exp(2, variance[y], entries);
        score[y] = (float)(2 * (logit[y] - raised) + square +
                           log(variance[y] / (1 + variance[y]) + 1e-38));
    }
}

// The squared error that is left after the m boxes of the largest scores are refined.
static double left_after(box_costs *costs, const double *cost, size_t m)
{
    double left = 0;
    const size_t chosen =
        mra_select_largest(costs->score, costs->count, m, costs->order, costs->scratch);
    size_t next = 0;
    for (size_t b = 0; b < costs->count; b++) {
        if (next < chosen && (size_t)costs->order[next] == b)
            next++;
        else
            left += cost[b];
    }
    return left;
}

// ---- One head -------------------------------------------------------------------------------

static size_t boxes_refined(const box_costs *costs, double blocks)
{
    const size_t m = (size_t)(blocks * costs->coarse + 0.5);
    return m < costs->count ? m : costs->count;
}

static mra_status write_row(optimal_run *run, const mra_trained_head *head,
                            const box_costs *costs, const char *approach, int coefficient,
                            double blocks, size_t numbers, double squared_error, mra_error *err)
{
    return mra_cells_row(&run->cells, err, "tiirttrir", head->set, head->example, head->number,
                         costs->dense.entropy, approach,
                         coefficient < 0 ? "-" : coefficient_names[coefficient], blocks,
                         (int)numbers, sqrt(fmax(squared_error, 0) / costs->norm));
}

static mra_status write_two_scales(optimal_run *run, const mra_trained_head *head,
                                   box_costs *costs, mra_error *err)
{
    static const char *const names[] = {"row", "plain", "spread", "oracle"};
    for (int ranking = 0; ranking < 4; ranking++)
        for (int coefficient = 0; coefficient < COEFFICIENTS; coefficient++) {
            const double *cost = coefficient == MU          ? costs->cost[0][0]
                                 : coefficient == CORRECTED ? costs->corrected
                                                            : costs->cost[1][0];
            for (size_t x = 0; x < (size_t)costs->coarse; x++) score_row(costs, ranking, x);
            for (size_t b = 0; b < costs->count && ranking == 3; b++)
                costs->score[b] = (float)(cost[b] / costs->norm);
            for (size_t i = 0; i < run->budget_count; i++) {
                const size_t m = boxes_refined(costs, run->budgets[i]);
                if (write_row(run, head, costs, names[ranking], coefficient, run->budgets[i],
                              costs->count + 1023 * m, left_after(costs, cost, m),
                              err) != MRA_OK)
                    return err->status;
            }
        }
    return MRA_OK;
}

static mra_status write_trees(optimal_run *run, const mra_trained_head *head, box_costs *costs,
                              mra_error *err)
{
    const size_t most = 341 * boxes_refined(costs, run->budgets[run->budget_count - 1]);
    double *least = mra_aligned_calloc(most + 1, sizeof *least);
    if (!least) return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu trees", most);
    mra_status status = MRA_OK;
    for (int kind = 0; kind < 2 && status == MRA_OK; kind++) {
        status = mra_optimal_trees(costs->coarse, LEVELS,
                                   (const double *const *)costs->cost[kind], most, least, err);
        for (size_t i = 0; i < run->budget_count && status == MRA_OK; i++) {
            const size_t refinements = 341 * boxes_refined(costs, run->budgets[i]);
            double best = INFINITY; // with mu a refinement may do harm: at most so many
            for (size_t j = 0; j <= refinements; j++) best = fmin(best, least[j]);
            status = write_row(run, head, costs, "tree", kind ? BEST : MU, run->budgets[i],
                               costs->count + 3 * refinements, best, err);
        }
    }
    mra_aligned_free(least);
    return status;
}

static mra_status write_rivals(optimal_run *run, const mra_trained_head *head,
                               const box_costs *costs, mra_error *err)
{
    const size_t n = (size_t)costs->dense.n, entries = n * n;
    double *a = mra_aligned_calloc(2 * entries + 1, sizeof *a);
    if (!a) return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu entries", entries);
    double *curve = a + entries;
    mra_status status = MRA_OK;
    for (int rival = 0; rival < 3 && status == MRA_OK; rival++) {
        static const char *const names[] = {"haar", "sparse", "rank"};
        memcpy(a, costs->dense.probability, entries * sizeof *a);
        if (rival == 0) status = mra_haar_forward(a, (int)n, err);
        if (rival == 0 && status == MRA_OK)
            status = mra_haar_error_curve(a, (int)n, curve, err);
        for (size_t i = 0; i < entries && rival == 1; i++) a[i] *= a[i];
        if (rival == 1) mra_tail_sums(a, entries, curve);
        if (rival == 2)
            status = mra_squared_singular_values(costs->dense.probability, (int)n, a, err);
        if (rival == 2) mra_tail_sums(a, n, curve);
        for (size_t i = 0; i < run->budget_count && status == MRA_OK; i++) {
            size_t numbers = costs->count + 1023 * boxes_refined(costs, run->budgets[i]);
            const size_t rank = numbers < 4 * n ? 1 : numbers / 2 / n;
            if (rival == 2) numbers = rank;
            status = write_row(run, head, costs, names[rival], -1, run->budgets[i],
                               rival == 2 ? 2 * n * rank : numbers, curve[numbers], err);
        }
    }
    mra_aligned_free(a);
    return status;
}

static mra_status measure_head(optimal_run *run, const mra_trained_head *head, mra_error *err)
{
    box_costs costs;
    mra_status status = make_costs(&costs, head, err);
    if (status != MRA_OK) return status;
    status = write_two_scales(run, head, &costs, err);
    if (status == MRA_OK) status = write_trees(run, head, &costs, err);
    if (status == MRA_OK) status = write_rivals(run, head, &costs, err);
    free_costs(&costs);
    return status;
}

// ---- At equal time --------------------------------------------------------------------------
//
// MRA-2 with each ranking on whole layers of trained heads: forward and backward, the two taking
// turns, and the mean over heads of the relative error of the output.

enum { RANKINGS = 2 };
static const char *const rankings[RANKINGS] = {"row", "spread"};

typedef struct layer_arrays {
    float *memory, *q, *k, *v, *z, *dz, *dq, *dk, *dv;
} layer_arrays;

// The first `heads` heads from `head` on, side by side.
static mra_status gather(layer_arrays *arrays, const mra_trained_head *head, int heads,
                         uint64_t seed, mra_error *err)
{
    const size_t size = (size_t)head->n * (size_t)head->d, all = (size_t)heads * size;
    arrays->memory = mra_aligned_calloc(8 * all, sizeof(float));
    if (!arrays->memory)
        return mra_fail(err, MRA_NO_MEMORY, "no memory for a layer of %d tokens", head->n);
    float **array[] = {&arrays->q,  &arrays->k,  &arrays->v,  &arrays->z,
                       &arrays->dz, &arrays->dq, &arrays->dk, &arrays->dv};
    for (int a = 0; a < 8; a++) *array[a] = arrays->memory + (size_t)a * all;
    for (int h = 0; h < heads; h++) {
        memcpy(arrays->q + (size_t)h * size, head[h].q, size * sizeof(float));
        memcpy(arrays->k + (size_t)h * size, head[h].k, size * sizeof(float));
        memcpy(arrays->v + (size_t)h * size, head[h].v, size * sizeof(float));
    }
    mra_fill_normal(arrays->dz, all, 1, seed, mra_stream("dz", 0, 0));
    return MRA_OK;
}

static mra_status mean_error(const layer_arrays *arrays, const mra_trained_head *head,
                             int heads, double *mean, mra_error *err)
{
    const size_t size = (size_t)head->n * (size_t)head->d;
    mra_status status = MRA_OK;
    *mean = 0;
    for (int h = 0; h < heads && status == MRA_OK; h++) {
        mra_dense_head dense;
        status = mra_dense_head_create(&dense, &head[h], err);
        if (status != MRA_OK) break;
        *mean += mra_dense_output_error(&dense, arrays->z + (size_t)h * size) / heads;
        mra_dense_head_free(&dense);
    }
    return status;
}

// Both rankings at one budget.
static mra_status time_budget(optimal_run *run, mra_bench_place *place,
                              const mra_trained_head *head, int heads, layer_arrays *a,
                              double blocks, mra_error *err)
{
    mra_instance instance[RANKINGS] = {{0}};
    mra_work work[RANKINGS];
    mra_timing timing[RANKINGS];
    const mra_shape shape = {1, heads, head->n, head->d};
    mra_status status = MRA_OK;
    for (int r = 0; r < RANKINGS && status == MRA_OK; r++) {
        char budget[32], ranking[32];
        snprintf(budget, sizeof budget, "blocks=%g", blocks);
        snprintf(ranking, sizeof ranking, "ranking=%s", rankings[r]);
        const char *const assignments[] = {budget, ranking};
        instance[r] = (mra_instance){.tape = place->tape,
                                     .q = a->q,
                                     .k = a->k,
                                     .v = a->v,
                                     .z = a->z,
                                     .dz = a->dz,
                                     .dq = a->dq,
                                     .dk = a->dk,
                                     .dv = a->dv};
        work[r] = (mra_work){mra_instance_both, &instance[r]};
        status = mra_attention_layer_create(&instance[r].layer, "mra2", place->device, shape, 1,
                                            assignments, 2, err);
    }
    if (status == MRA_OK) status = mra_measure_times(work, RANKINGS, run->repeats, timing, err);
    for (int r = 0; r < RANKINGS && status == MRA_OK; r++) {
        double error = 0;
        status = mra_instance_forward(&instance[r], err);
        if (status == MRA_OK) status = mean_error(a, head, heads, &error, err);
        if (status == MRA_OK)
            status = mra_cells_row(&run->times, err, "tiitrrr", head->set, head->n, heads,
                                   rankings[r], blocks, 1e3 * timing[r].least, error);
    }
    for (int r = 0; r < RANKINGS; r++)
        if (instance[r].layer) mra_attention_layer_free(instance[r].layer);
    return status;
}

// One layer for each set: the heads of its first example.
static mra_status time_sets(optimal_run *run, mra_bench_place *place,
                            const mra_trained_inputs *inputs, mra_error *err)
{
    mra_status status = MRA_OK;
    for (int first = 0, next; first < inputs->count && status == MRA_OK; first = next) {
        const mra_trained_head *head = &inputs->head[first];
        for (next = first; next < inputs->count && !strcmp(inputs->head[next].set, head->set);)
            next++;
        if (mra_cells_skip(&run->times, RANKINGS * run->time_count)) continue;
        layer_arrays arrays = {0};
        status = gather(&arrays, head, next - first, run->experiment->seed, err);
        if (status != MRA_OK) break;
        for (size_t i = 0; i < run->time_count && status == MRA_OK; i++)
            status =
                time_budget(run, place, head, next - first, &arrays, run->time_budgets[i], err);
        mra_aligned_free(arrays.memory);
    }
    return status;
}

static mra_status measure_times(optimal_run *run, const mra_trained_inputs *inputs,
                                mra_error *err)
{
    static const char *const columns[] = {"set",    "n",       "heads", "ranking",
                                          "blocks", "both_ms", "error", NULL};
    mra_status status = mra_cells_open(run->experiment, "-time.tsv", columns, &run->times, err);
    if (status != MRA_OK) return status;
    mra_bench_place place = {0};
    status = mra_bench_place_open(&place, run->experiment->threads, NULL, err);
    if (status == MRA_OK) status = time_sets(run, &place, inputs, err);
    mra_bench_place_close(&place);
    if (status != MRA_OK) {
        mra_cells_close(&run->times);
        return status;
    }
    status = mra_cells_commit(run->experiment, "-time.tsv", &run->times, err);
    if (status != MRA_OK) return status;
    return mra_experiment_equal_time(run->experiment, "-time.tsv", "-equal-time.tsv",
                                     rankings[0], rankings[1], err);
}

// ---- The run --------------------------------------------------------------------------------

static mra_status measure_heads(optimal_run *run, const mra_trained_inputs *inputs,
                                mra_error *err)
{
    static const char *const columns[] = {
        "set",         "example", "head",    "entropy",        "approach",
        "coefficient", "blocks",  "numbers", "relative_error", NULL};
    static const char *const groups[] = {"approach", "coefficient", "blocks", NULL};
    mra_experiment *experiment = run->experiment;
    if (mra_cells_open(experiment, ".tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    const size_t rows = (4 * COEFFICIENTS + 2 + 3) * run->budget_count;
    mra_progress progress = mra_progress_start(
        "optimal", inputs->count, (double)(run->cells.already / rows), experiment->quiet);
    mra_status status = MRA_OK;
    for (int i = 0; i < inputs->count && status == MRA_OK; i++) {
        if (!mra_cells_skip(&run->cells, rows))
            status = measure_head(run, &inputs->head[i], err);
        mra_progress_update(&progress, i + 1, "");
    }
    if (status != MRA_OK) {
        mra_cells_close(&run->cells);
        return status;
    }
    mra_progress_end(&progress, "");
    status = mra_cells_commit(experiment, ".tsv", &run->cells, err);
    if (status == MRA_OK)
        status = mra_experiment_summary(experiment, ".tsv", groups, "relative_error",
                                        "-mean.tsv", err);
    return status;
}

static mra_status run_optimal(mra_experiment *experiment, mra_error *err)
{
    static optimal_run run;
    int64_t n, examples, repeats;
    run.experiment = experiment;
    if (mra_experiment_int(experiment, "n", BLOCK, 1024, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &examples, err) != MRA_OK ||
        mra_experiment_list(experiment, "budgets", run.budgets, MOST, &run.budget_count, err) !=
            MRA_OK ||
        mra_experiment_list(experiment, "time_budgets", run.time_budgets, MOST, &run.time_count,
                            err) != MRA_OK ||
        mra_experiment_int(experiment, "repeats", 1, 1000, &repeats, err) != MRA_OK ||
        mra_experiment_fact(experiment, err, "threads %d", experiment->threads) != MRA_OK)
        return err->status;
    run.repeats = (int)repeats;
    if (n % BLOCK != 0 || (n & (n - 1)) != 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: n: %d, expected a power of two",
                        experiment->settings_path, (int)n);
    for (size_t i = 1; i < run.budget_count; i++)
        if (run.budgets[i] <= run.budgets[i - 1])
            return mra_fail(err, MRA_BAD_INPUT, "%s: budgets: expected ascending numbers",
                            experiment->settings_path);
    run.n = (int)n;
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, run.n, (int)examples, &inputs, err) != MRA_OK)
        return err->status;
    bool done = false;
    mra_status status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) {
        status = measure_times(&run, &inputs, err);
        if (status == MRA_OK) status = measure_heads(&run, &inputs, err);
    }
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "optimal", "2", "greedy selection against the best boxes, wavelets, entries and ranks"};
    return mra_experiment_main(&about, run_optimal, argc, argv);
}
