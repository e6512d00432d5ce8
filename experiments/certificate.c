// Figure "certificate": what a certificate promises beside what is true.
//
// For every trained head, its logits multiplied by t (Q and K by sqrt(t)), and every budget: the
// relative error of MRA-2's output and the certified one, the median over rows of the certified
// over the true error of the row, and the share of rows whose certificate is trivial (nothing is
// known but that both outputs are means of values). And how many boxes have to be refined until a
// given relative error is certain, beside the error that is there then.
//
// A certificate below the true error would be an error of the text or of the code; `violated`
// counts such rows and must be 0.

#include <math.h>
#include <stdlib.h>

#include "common_dense.h"
#include "common_method.h"
#include "mra/certificate.h"

enum { MOST = 32 };

typedef struct certificate_run {
    mra_experiment *experiment;
    double t[MOST], budgets[MOST], tolerance;
    size_t t_count, budget_count;
    mra_cells cells, within;
} certificate_run;

// One head with scaled logits, and room for its outputs.
typedef struct scaled_head {
    mra_trained_head head;
    mra_dense_head dense;
    float *q, *k, *z;
    double *row, *ratio;
} scaled_head;

static void free_head(scaled_head *scaled)
{
    mra_dense_head_free(&scaled->dense);
    mra_aligned_free(scaled->q);
    mra_aligned_free(scaled->row);
}

static mra_status make_head(scaled_head *scaled, const mra_trained_head *head, double t,
                            mra_error *err)
{
    const size_t n = (size_t)head->n, size = n * (size_t)head->d;
    *scaled = (scaled_head){.head = *head};
    scaled->q = mra_aligned_calloc(3 * size, sizeof *scaled->q);
    scaled->row = mra_aligned_calloc(2 * n, sizeof *scaled->row);
    if (!scaled->q || !scaled->row) {
        free_head(scaled);
        return mra_fail(err, MRA_NO_MEMORY, "no memory for a head of %d tokens", head->n);
    }
    scaled->k = scaled->q + size;
    scaled->z = scaled->k + size;
    scaled->ratio = scaled->row + n;
    for (size_t i = 0; i < size; i++) {
        scaled->q[i] = (float)(sqrt(t) * head->q[i]);
        scaled->k[i] = (float)(sqrt(t) * head->k[i]);
    }
    scaled->head.q = scaled->q;
    scaled->head.k = scaled->k;
    mra_status status = mra_dense_head_create(&scaled->dense, &scaled->head, err);
    if (status != MRA_OK) free_head(scaled);
    return status;
}

static int ascending(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

// The median over rows of bound / true error; *violated counts rows where it is below 1 by more
// than the rounding of the reference.
static double compare_rows(scaled_head *scaled, int *violated)
{
    const int n = scaled->head.n, d = scaled->head.d;
    *violated = 0;
    for (int i = 0; i < n; i++) {
        double off = 0, size = 0;
        for (int c = 0; c < d; c++) {
            const double exact = scaled->dense.z[(size_t)i * d + c];
            const double difference = scaled->z[(size_t)i * d + c] - exact;
            off += difference * difference;
            size += exact * exact;
        }
        *violated += sqrt(off) > scaled->row[i] + 1e-12 * sqrt(size);
        scaled->ratio[i] = scaled->row[i] / fmax(sqrt(off), 1e-12 * sqrt(size));
    }
    qsort(scaled->ratio, (size_t)n, sizeof *scaled->ratio, ascending);
    return n % 2 ? scaled->ratio[n / 2] : (scaled->ratio[n / 2 - 1] + scaled->ratio[n / 2]) / 2;
}

static mra_status certify_budget(certificate_run *run, scaled_head *scaled, double t,
                                 double blocks, mra_error *err)
{
    const mra_trained_head *head = &scaled->head;
    mra_options options = mra_options_mra2(blocks);
    mra_shape shape = {1, 1, head->n, head->d};
    mra_attention *attention;
    mra_certificate certificate;
    options.threads = run->experiment->threads;
    mra_status status = mra_attention_create(&attention, shape, &options, err);
    if (status != MRA_OK) return status;
    status = mra_attention_forward(attention, head->q, head->k, head->v, NULL, scaled->z, err);
    if (status == MRA_OK)
        status = mra_attention_certify(attention, head->q, head->k, head->v, NULL, scaled->z,
                                       scaled->row, &certificate, err);
    mra_attention_free(attention);
    if (status != MRA_OK) return status;
    int violated;
    const double ratio = compare_rows(scaled, &violated);
    return mra_cells_row(
        &run->cells, err, "tiirrrrrrri", head->set, head->example, head->number, t, blocks,
        scaled->dense.entropy, mra_dense_output_error(&scaled->dense, scaled->z),
        certificate.relative, ratio, (double)certificate.trivial / head->n, violated);
}

static mra_status find_budget(certificate_run *run, scaled_head *scaled, double t,
                              mra_error *err)
{
    const mra_trained_head *head = &scaled->head;
    const mra_options options = mra_options_mra2(1);
    mra_certificate certificate;
    double blocks;
    mra_status status =
        mra_attend_within(&options, head->n, head->d, head->q, head->k, head->v, NULL,
                          run->tolerance, scaled->z, NULL, &certificate, &blocks, err);
    if (status != MRA_OK) return status;
    return mra_cells_row(&run->within, err, "tiirrrr", head->set, head->example, head->number,
                         t, blocks, mra_dense_output_error(&scaled->dense, scaled->z),
                         certificate.relative);
}

static mra_status measure_head(certificate_run *run, const mra_trained_head *head, double t,
                               mra_error *err)
{
    // The two skips go together: both tables have their rows of a head or it is done again.
    const bool certified = mra_cells_skip(&run->cells, run->budget_count);
    const bool found = mra_cells_skip(&run->within, 1);
    if (certified && found) return MRA_OK;
    scaled_head scaled;
    mra_status status = make_head(&scaled, head, t, err);
    if (status != MRA_OK) return status;
    for (size_t b = 0; b < run->budget_count && status == MRA_OK && !certified; b++)
        status = certify_budget(run, &scaled, t, run->budgets[b], err);
    if (status == MRA_OK && !found) status = find_budget(run, &scaled, t, err);
    free_head(&scaled);
    return status;
}

static mra_status commit(certificate_run *run, mra_error *err)
{
    static const char *const groups[] = {"t", "blocks", NULL}, *const by_t[] = {"t", NULL};
    mra_experiment *experiment = run->experiment;
    mra_status status = mra_cells_commit(experiment, "-tolerance.tsv", &run->within, err);
    if (status == MRA_OK) status = mra_cells_commit(experiment, ".tsv", &run->cells, err);
    if (status == MRA_OK)
        status = mra_experiment_summary(experiment, ".tsv", groups, "median_ratio", "-mean.tsv",
                                        err);
    if (status == MRA_OK)
        status = mra_experiment_summary(experiment, ".tsv", groups, "trivial_share",
                                        "-trivial.tsv", err);
    if (status == MRA_OK)
        status = mra_experiment_summary(experiment, "-tolerance.tsv", by_t, "blocks",
                                        "-blocks.tsv", err);
    return status;
}

static mra_status measure_heads(certificate_run *run, const mra_trained_inputs *inputs,
                                mra_error *err)
{
    static const char *const columns[] = {
        "set",          "example",       "head",           "t",
        "blocks",       "entropy",       "relative_error", "certified_error",
        "median_ratio", "trivial_share", "violated",       NULL};
    static const char *const within[] = {
        "set", "example", "head", "t", "blocks", "relative_error", "certified_error", NULL};
    mra_experiment *experiment = run->experiment;
    if (mra_cells_open(experiment, ".tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    mra_status status = mra_cells_open(experiment, "-tolerance.tsv", within, &run->within, err);
    if (status != MRA_OK) {
        mra_cells_close(&run->cells);
        return status;
    }
    mra_progress progress =
        mra_progress_start("certificate", inputs->count, 0, experiment->quiet);
    for (int i = 0; i < inputs->count && status == MRA_OK; i++) {
        for (size_t t = 0; t < run->t_count && status == MRA_OK; t++)
            status = measure_head(run, &inputs->head[i], run->t[t], err);
        mra_progress_update(&progress, i + 1, "");
    }
    if (status != MRA_OK) {
        mra_cells_close(&run->cells);
        mra_cells_close(&run->within);
        return status;
    }
    mra_progress_end(&progress, "");
    return commit(run, err);
}

static mra_status run_certificate(mra_experiment *experiment, mra_error *err)
{
    static certificate_run run;
    int64_t n, examples;
    run.experiment = experiment;
    if (mra_experiment_int(experiment, "n", 1, 4096, &n, err) != MRA_OK ||
        mra_experiment_int(experiment, "examples", 1, 1000, &examples, err) != MRA_OK ||
        mra_experiment_list(experiment, "t", run.t, MOST, &run.t_count, err) != MRA_OK ||
        mra_experiment_list(experiment, "budgets", run.budgets, MOST, &run.budget_count, err) !=
            MRA_OK ||
        mra_experiment_real(experiment, "tolerance", 1e-9, 1, &run.tolerance, err) != MRA_OK)
        return err->status;
    mra_trained_inputs inputs;
    if (mra_trained_inputs_load(experiment, (int)n, (int)examples, &inputs, err) != MRA_OK)
        return err->status;
    bool done = false;
    mra_status status = mra_experiment_begin(experiment, &done, err);
    if (status == MRA_OK && !done) status = measure_heads(&run, &inputs, err);
    mra_trained_inputs_free(&inputs);
    return status;
}

int main(int argc, char **argv)
{
    static const mra_experiment_about about = {
        "certificate", "1", "certified against true errors on trained heads, by budget"};
    return mra_experiment_main(&about, run_certificate, argc, argv);
}
