// Figure "wavelet": the two families of functions, and how well m of their terms do on trained
// attention matrices.
//
// For A = exp(P) of a trained head, ||A - A_m||_F / ||A||_F against the number m of numbers
// that are kept:
//
//   haar        the best m terms of the orthonormal 2-D Haar basis (Parseval: the m largest
//               coefficients);
//   frame-mean  m boxes of the frame with the true means mu*, refined greedily where the error
//               is largest: what the frame could do if coefficients were free;
//   frame-exp   m boxes with mu = exp(mean of P), refined where mu is largest: what the paper's
//               rule does;
//   sparse      the m largest entries of A: the best that any sparse approximation can do;
//   rank        the best approximation of rank k, from the singular values (Eckart & Young), at
//               m = 2 n k numbers: the best that any low-rank approximation can do.
//
// Every curve but the last costs a sort of n^2 numbers; the singular values are the square
// roots of the eigenvalues of A^T A (GSL), of which the error needs only the squares.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common_dense.h"
#include "mra/wavelet.h"

enum { MOST_POINTS = 400, CURVES = 4 };

typedef struct wavelet_run {
    mra_experiment *experiment;
    int n, points;
    size_t terms[MOST_POINTS]; // the grid of m
    mra_cells cells;
} wavelet_run;

// m = 1, 4, 7, ... are the numbers of boxes that a quadtree can have; the grid takes the
// nearest ones to an even spacing in log m.
static void make_grid(wavelet_run *run, int64_t wanted)
{
    double last = 2 * log((double)run->n);
    run->points = 0;
    for (int64_t i = 0; i < wanted; i++) {
        double terms = exp(last * (double)i / (double)(wanted - 1));
        size_t m = 1 + 3 * (size_t)((terms - 1) / 3 + 0.5);
        if (run->points == 0 || m > run->terms[run->points - 1]) run->terms[run->points++] = m;
    }
}

static mra_status write_point(wavelet_run *run, const mra_trained_head *head,
                              const char *series, size_t terms, double error, mra_error *err)
{
    double entries = (double)run->n * run->n;
    return mra_cells_row(&run->cells, err, "tiitirr", head->set, head->example, head->number,
                         series, (int)terms, (double)terms / entries, error);
}

static mra_status write_curve(wavelet_run *run, const mra_trained_head *head,
                              const char *series, const double *squared_error,
                              double squared_norm, mra_error *err)
{
    for (int i = 0; i < run->points; i++) {
        double error = sqrt(fmax(squared_error[run->terms[i]], 0) / squared_norm);
        if (write_point(run, head, series, run->terms[i], error, err) != MRA_OK)
            return err->status;
    }
    return MRA_OK;
}

// ---- The four curves and the singular values ------------------------------------------------

// squared_error[m] of the two families of boxes; m that no quadtree has keep the error of the
// next smaller one.
static mra_status frame_curve(const mra_dense_head *dense, mra_frame_coefficient coefficient,
                              mra_frame_order order, double *squared_error, mra_error *err)
{
    size_t entries = (size_t)dense->n * dense->n, count = 0;
    mra_frame_point *point = calloc((entries - 1) / 3 + 1, sizeof *point);
    if (!point) return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu boxes", entries);
    mra_status status =
        mra_frame_approximate(dense->logit, dense->n, dense->largest, coefficient, order,
                              entries, point, &count, NULL, err);
    for (size_t i = 0; status == MRA_OK && i < count; i++) {
        size_t next = i + 1 < count ? point[i + 1].terms : entries + 1;
        for (size_t m = point[i].terms; m < next; m++)
            squared_error[m] = point[i].squared_error;
    }
    free(point);
    return status;
}

// Ranks 1, 2, 4, ... up to n/2, where 2 n k numbers are as many as the matrix has.
static mra_status rank_curve(wavelet_run *run, const mra_trained_head *head, const double *a,
                             double squared_norm, mra_error *err)
{
    int n = run->n;
    double *squares = calloc(2 * (size_t)n + 1, sizeof *squares);
    if (!squares) return mra_fail(err, MRA_NO_MEMORY, "no memory for %d singular values", n);
    double *tail = squares + n;
    mra_status status = mra_squared_singular_values(a, n, squares, err);
    if (status == MRA_OK) mra_tail_sums(squares, (size_t)n, tail);
    for (int rank = 1; status == MRA_OK && rank <= n / 2; rank *= 2) {
        status = write_point(run, head, "rank", (size_t)2 * n * rank,
                             sqrt(tail[rank] / squared_norm), err);
    }
    free(squares);
    return status;
}

static mra_status haar_curve(const double *a, int n, double *squared_error, mra_error *err)
{
    size_t entries = (size_t)n * n;
    double *alpha = malloc(entries * sizeof *alpha);
    if (!alpha) return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu coefficients", entries);
    memcpy(alpha, a, entries * sizeof *alpha);
    mra_status status = mra_haar_forward(alpha, n, err);
    if (status == MRA_OK) status = mra_haar_error_curve(alpha, n, squared_error, err);
    free(alpha);
    return status;
}

// All curves of A, which is overwritten; `curve` has n^2 + 1 entries.
static mra_status draw_curves(wavelet_run *run, const mra_trained_head *head,
                              const mra_dense_head *dense, double *a, double *curve,
                              mra_error *err)
{
    size_t entries = (size_t)dense->n * dense->n;
    double norm = 0;
    for (size_t i = 0; i < entries; i++) {
        a[i] = exp(dense->logit[i] - dense->largest);
        norm += a[i] * a[i];
    }
    mra_status status = haar_curve(a, dense->n, curve, err);
    if (status == MRA_OK) status = write_curve(run, head, "haar", curve, norm, err);
    if (status == MRA_OK) {
        status = frame_curve(dense, MRA_FRAME_MEAN, MRA_FRAME_LARGEST_ERROR, curve, err);
    }
    if (status == MRA_OK) status = write_curve(run, head, "frame-mean", curve, norm, err);
    if (status == MRA_OK) {
        status =
            frame_curve(dense, MRA_FRAME_EXP_MEAN, MRA_FRAME_LARGEST_COEFFICIENT, curve, err);
    }
    if (status == MRA_OK) status = write_curve(run, head, "frame-exp", curve, norm, err);
    if (status == MRA_OK) status = rank_curve(run, head, a, norm, err);
    if (status != MRA_OK) return status;
    for (size_t i = 0; i < entries; i++) a[i] *= a[i];
    mra_tail_sums(a, entries, curve);
    return write_curve(run, head, "sparse", curve, norm, err);
}

static mra_status measure_head(wavelet_run *run, const mra_trained_head *head, mra_error *err)
{
    size_t entries = (size_t)run->n * run->n;
    mra_dense_head dense;
    if (mra_dense_head_create(&dense, head, err) != MRA_OK) return err->status;
    double *a = malloc((2 * entries + 1) * sizeof *a);
    mra_status status =
        a ? draw_curves(run, head, &dense, a, a + entries, err)
          : mra_fail(err, MRA_NO_MEMORY, "no memory for %zu entries", 2 * entries);
    free(a);
    mra_dense_head_free(&dense);
    return status;
}

// ---- Pictures of the functions --------------------------------------------------------------

enum { SIDE = 4, CELL = SIDE + 1, MOSAIC = SIDE * CELL + 1 };

// One SIDE x SIDE function into place (row, column) of a mosaic of this width whose gaps are
// NaN.
static void put(float *mosaic, int width, int row, int column, int i, int j, double value)
{
    mosaic[(row * CELL + 1 + i) * width + column * CELL + 1 + j] = (float)value;
}

// All 16 functions of the Haar basis of 4 x 4 matrices, where their coefficients stand.
static mra_status draw_basis(mra_experiment *experiment, mra_error *err)
{
    float mosaic[MOSAIC * MOSAIC];
    for (int i = 0; i < MOSAIC * MOSAIC; i++) mosaic[i] = NAN;
    for (int place = 0; place < SIDE * SIDE; place++) {
        mra_haar_function function = mra_haar_function_at(SIDE, place / SIDE, place % SIDE);
        for (int at = 0; at < SIDE * SIDE; at++) {
            double value = mra_haar_value(function, at / SIDE, at % SIDE);
            put(mosaic, MOSAIC, place / SIDE, place % SIDE, at / SIDE, at % SIDE, value);
        }
    }
    return mra_experiment_picture(experiment, "-basis.npy", mosaic, MOSAIC, MOSAIC, err);
}

// The (4/s)^2 boxes of one scale s of the frame, as a mosaic.
static mra_status draw_frame(mra_experiment *experiment, int scale, mra_error *err)
{
    float mosaic[MOSAIC * MOSAIC];
    int across = SIDE / scale, width = across * CELL + 1;
    for (int i = 0; i < width * width; i++) mosaic[i] = NAN;
    for (int box = 0; box < across * across; box++) {
        int x = box / across, y = box % across;
        for (int at = 0; at < SIDE * SIDE; at++) {
            int i = at / SIDE, j = at % SIDE;
            put(mosaic, width, x, y, i, j, i / scale == x && j / scale == y);
        }
    }
    char suffix[32];
    snprintf(suffix, sizeof suffix, "-frame%d.npy", scale);
    return mra_experiment_picture(experiment, suffix, mosaic, width, width, err);
}

// ---- The run --------------------------------------------------------------------------------

static mra_status measure_heads(wavelet_run *run, const mra_trained_inputs *inputs,
                                mra_error *err)
{
    static const char *const columns[] = {"set",   "example",  "head",           "series",
                                          "terms", "fraction", "relative_error", NULL};
    mra_experiment *experiment = run->experiment;
    if (mra_cells_open(experiment, ".tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    size_t rows = CURVES * (size_t)run->points;
    for (int rank = 1; rank <= run->n / 2; rank *= 2) rows++;
    mra_progress progress = mra_progress_start(
        "wavelet", inputs->count, (double)(run->cells.already / rows), experiment->quiet);
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
    return mra_cells_commit(experiment, ".tsv", &run->cells, err);
}

static mra_status draw_all(wavelet_run *run, const mra_trained_inputs *inputs, mra_error *err)
{
    static const char *const groups[] = {"series", "terms", "fraction", NULL};
    mra_status status = measure_heads(run, inputs, err);
    if (status == MRA_OK) {
        status = mra_experiment_summary(run->experiment, ".tsv", groups, "relative_error",
                                        "-mean.tsv", err);
    }
    if (status == MRA_OK) status = draw_basis(run->experiment, err);
    for (int scale = SIDE; scale >= 1 && status == MRA_OK; scale /= 2) {
        status = draw_frame(run->experiment, scale, err);
    }
    return status;
}

static mra_status run_wavelet(mra_experiment *experiment, mra_error *err)
{
    int64_t n, examples, points;
    if (mra_experiment_int(experiment, "n", 2, 2048, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &examples, err) != MRA_OK ||
        mra_experiment_int(experiment, "points", 2, MOST_POINTS, &points, err) != MRA_OK) {
        return err->status;
    }
    if (n & (n - 1)) {
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: n = %d, but the Haar basis wants a power of two",
                        experiment->settings_path, (int)n);
    }
    static wavelet_run run;
    run.experiment = experiment;
    run.n = (int)n;
    make_grid(&run, points);
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, (int)n, (int)examples, &inputs, err) != MRA_OK) {
        return err->status;
    }
    bool done;
    mra_status status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) status = draw_all(&run, &inputs, err);
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {"wavelet", "1",
                                               "basis pictures, and error against number of "
                                               "terms for Haar, boxes, sparse and low rank"};
    return mra_experiment_main(&about, run_wavelet, argc, argv);
}
