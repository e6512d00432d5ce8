// The page with the sliders: what the browser calls. One head at a time; its arrays stay here and
// the page reads them from the module's memory.
//
// The attention matrix and its errors come from experiments/common_dense.c, the boxes and their
// matrix from src/mra/apply.c, the output from the library's own entry, src/mra/attention.c: the
// same sources that draw the figures, compiled to WebAssembly (build.sh). Nothing is rewritten
// for the browser but the matrix product (standin/cblas.c).
#include <math.h>
#include <string.h>

#include "common_dense.h"
#include "core/arena.h"
#include "io/half.h"
#include "mra/apply.h"

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(#name)))
#else
#define EXPORT(name) // the page's test compiles this file for the machine that it runs on
#endif

// What explorer_run leaves in explorer_numbers().
enum {
    MATRIX_ERROR,
    OUTPUT_ERROR,
    ENTROPY,
    EMPTY_ROWS,
    BOXES,
    NUMBERS = BOXES + MRA_MAX_SCALES
};

static struct {
    int n, d;
    uint16_t *half;        // [3, n, d]: Q, K, V as they are stored
    float *q, *k, *v;      // [n, d]; Q and K times sqrt(t)
    float *z;              // [n, d]: the approximation of the output
    float *exact, *approx; // [n, n]: rows of softmax, and of D-hat^-1 A-hat
    double *a_hat;         // [n, n]
    int32_t *side;         // [n, n]: side of the box of J that covers an entry, 0 for none
    mra_options options;
    double number[NUMBERS];
    mra_error err;
} explorer;

// Memory for a head of n tokens and width d; returns where its 3 n d halves go (Q, K, V), or NULL.
EXPORT(explorer_create) uint16_t *explorer_create(int n, int d)
{
    size_t values = (size_t)n * (size_t)d, entries = (size_t)n * (size_t)n;
    explorer.n = n;
    explorer.d = d;
    explorer.half = mra_aligned_calloc(3 * values, sizeof *explorer.half);
    explorer.q = mra_aligned_calloc(4 * values, sizeof(float));
    explorer.exact = mra_aligned_calloc(2 * entries, sizeof(float));
    explorer.a_hat = mra_aligned_calloc(entries, sizeof(double));
    explorer.side = mra_aligned_calloc(entries, sizeof(int32_t));
    if (!explorer.half || !explorer.q || !explorer.exact || !explorer.a_hat || !explorer.side)
        return NULL;
    explorer.k = explorer.q + values;
    explorer.v = explorer.k + values;
    explorer.z = explorer.v + values;
    explorer.approx = explorer.exact + entries;
    return explorer.half;
}

// Where the page puts R and the budgets (blocks[i]: boxes of scale i-1 refined, per row of boxes).
EXPORT(explorer_scale) int *explorer_scale(void)
{
    return explorer.options.scale;
}
EXPORT(explorer_blocks) double *explorer_blocks(void)
{
    return explorer.options.blocks;
}
EXPORT(explorer_exact) const float *explorer_exact(void)
{
    return explorer.exact;
}
EXPORT(explorer_approximation) const float *explorer_approximation(void)
{
    return explorer.approx;
}
EXPORT(explorer_side) const int32_t *explorer_side(void)
{
    return explorer.side;
}
EXPORT(explorer_output) const float *explorer_output(void)
{
    return explorer.z;
}
EXPORT(explorer_numbers) const double *explorer_numbers(void)
{
    return explorer.number;
}
EXPORT(explorer_message) const char *explorer_message(void)
{
    return explorer.err.message;
}

// Which box of J covers an entry.
static void mark_sides(const mra_apply *apply)
{
    size_t n = (size_t)explorer.n;
    memset(explorer.side, 0, n * n * sizeof *explorer.side);
    int first = apply->options.sparse ? apply->options.scales - 1 : 0;
    for (int i = first; i < apply->options.scales; i++) {
        const mra_selection_level *level = &apply->selection.level[i];
        size_t side = (size_t)level->scale;
        for (size_t x = 0; x < (size_t)level->blocks; x++)
            for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++)
                for (size_t row = x * side; row < n && row < (x + 1) * side; row++)
                    for (size_t at = 0, y = (size_t)level->column[b] * side;
                         at < side && y + at < n; at++)
                        explorer.side[row * n + y + at] = level->scale;
    }
}

// J, A-hat and its error.
static mra_status approximate(const mra_dense_head *dense)
{
    int n = explorer.n, d = explorer.d;
    size_t entries = (size_t)n * (size_t)n;
    mra_apply *apply;
    if (mra_apply_create(&apply, &explorer.options, n, d, &explorer.err) != MRA_OK)
        return explorer.err.status;
    mra_apply_forward(apply, explorer.q, explorer.k, explorer.v, NULL, explorer.z);
    mra_apply_dense(apply, fmax(dense->largest, mra_apply_largest_logit(apply)),
                    explorer.a_hat);
    mra_normalise_rows(explorer.a_hat, n);
    mark_sides(apply);
    double norm = 0;
    for (size_t i = 0; i < entries; i++) {
        norm += dense->probability[i] * dense->probability[i];
        explorer.exact[i] = (float)dense->probability[i];
        explorer.approx[i] = (float)explorer.a_hat[i];
    }
    explorer.number[MATRIX_ERROR] =
        sqrt(mra_squared_distance(explorer.a_hat, dense->probability, entries) / norm);
    mra_apply_free(apply);
    return MRA_OK;
}

// The output, by the library's entry.
static mra_status attend(const mra_dense_head *dense)
{
    mra_attention *attention;
    mra_shape shape = {.batch = 1, .heads = 1, .n = explorer.n, .d = explorer.d};
    if (mra_attention_create(&attention, shape, &explorer.options, &explorer.err) != MRA_OK)
        return explorer.err.status;
    mra_status status = mra_attention_forward(attention, explorer.q, explorer.k, explorer.v,
                                              NULL, explorer.z, &explorer.err);
    mra_statistics statistics = mra_attention_statistics(attention);
    mra_attention_free(attention);
    explorer.number[OUTPUT_ERROR] = mra_dense_output_error(dense, explorer.z);
    explorer.number[EMPTY_ROWS] = (double)statistics.empty_rows;
    for (int i = 0; i < MRA_MAX_SCALES; i++)
        explorer.number[BOXES + i] = (double)statistics.boxes[i];
    return status;
}

// Everything for the halves, scales and budgets that the page wrote: Q and K times sqrt(t), so that
// the logits are multiplied by the temperature's inverse t (the paper's sweep of entropy). 0, or an
// mra_status with a line in explorer_message().
EXPORT(explorer_run) int explorer_run(int scales, int sparse, int ranking, double t)
{
    size_t values = (size_t)explorer.n * (size_t)explorer.d;
    explorer.options.scales = scales;
    explorer.options.sparse = sparse != 0;
    explorer.options.ranking = ranking == 0 ? MRA_RANK_ROW : MRA_RANK_PLAIN;
    explorer.options.threads = 1;
    mra_halves_to_floats(explorer.q, explorer.half, 3 * values);
    for (size_t i = 0; i < 2 * values; i++) explorer.q[i] *= (float)sqrt(t);
    mra_trained_head head = {
        .n = explorer.n, .d = explorer.d, .q = explorer.q, .k = explorer.k, .v = explorer.v};
    mra_dense_head dense;
    mra_status status = mra_dense_head_create(&dense, &head, &explorer.err);
    if (status != MRA_OK) return (int)status;
    explorer.number[ENTROPY] = dense.entropy;
    status = approximate(&dense);
    if (status == MRA_OK) status = attend(&dense);
    mra_dense_head_free(&dense);
    return (int)status;
}
