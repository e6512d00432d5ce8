// One head in full; see common_dense.h. The products are OpenBLAS's, in float64.

#include "common_dense.h"

#include <gsl/gsl_eigen.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double *widen(const float *values, size_t count)
{
    double *wide = mra_aligned_calloc(count, sizeof *wide);
    for (size_t i = 0; wide && i < count; i++) wide[i] = values[i];
    return wide;
}

// Row by row: softmax with the row's largest logit taken out, the log of its normaliser, and
// the entropy H = log D - sum_j p_j (P_j) (the same as -sum p log p, without logarithms of tiny
// numbers).
static void normalise_logits(mra_dense_head *dense)
{
    int n = dense->n;
    double entropy = 0;
    dense->largest = -INFINITY;
    for (int i = 0; i < n; i++) {
        const double *logit = dense->logit + (size_t)i * n;
        double *probability = dense->probability + (size_t)i * n;
        double row_max = logit[0];
        for (int j = 1; j < n; j++) row_max = fmax(row_max, logit[j]);
        double sum = 0;
        for (int j = 0; j < n; j++) sum += probability[j] = exp(logit[j] - row_max);
        double mean_logit = 0;
        for (int j = 0; j < n; j++) {
            probability[j] /= sum;
            mean_logit += probability[j] * (logit[j] - row_max);
        }
        const double log_sum = sum > 0 ? log(sum) : -INFINITY; // never 0: the largest term is 1
        dense->row_lse[i] = row_max + log_sum;
        dense->largest = fmax(dense->largest, row_max);
        entropy += log_sum - mean_logit;
    }
    dense->entropy = entropy / n;
}

mra_status mra_dense_head_create(mra_dense_head *dense, const mra_trained_head *head,
                                 mra_error *err)
{
    int n = head->n, d = head->d;
    size_t values = (size_t)n * d, entries = (size_t)n * n;
    *dense = (mra_dense_head){.n = n, .d = d};
    double *q = widen(head->q, values), *k = widen(head->k, values),
           *v = widen(head->v, values);
    dense->logit = mra_aligned_calloc(entries, sizeof(double));
    dense->probability = mra_aligned_calloc(entries, sizeof(double));
    dense->row_lse = mra_aligned_calloc((size_t)n, sizeof(double));
    dense->z = mra_aligned_calloc(values, sizeof(double));
    mra_status status = MRA_OK;
    if (q && k && v && dense->logit && dense->probability && dense->row_lse && dense->z) {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, 1 / sqrt(d), q, d, k, d,
                    0, dense->logit, n);
        normalise_logits(dense);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, d, n, 1, dense->probability,
                    n, v, d, 0, dense->z, d);
    } else {
        mra_dense_head_free(dense);
        status = mra_fail(err, MRA_NO_MEMORY,
                          "a head of %d tokens written out in full needs %zu bytes", n,
                          2 * entries * sizeof(double));
    }
    mra_aligned_free(q);
    mra_aligned_free(k);
    mra_aligned_free(v);
    return status;
}

void mra_dense_head_free(mra_dense_head *dense)
{
    mra_aligned_free(dense->logit);
    mra_aligned_free(dense->probability);
    mra_aligned_free(dense->row_lse);
    mra_aligned_free(dense->z);
    *dense = (mra_dense_head){0};
}

double mra_dense_output_error(const mra_dense_head *dense, const float *approximation)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < (size_t)dense->n * dense->d; i++) {
        double difference = approximation[i] - dense->z[i];
        error += difference * difference;
        norm += dense->z[i] * dense->z[i];
    }
    return sqrt(error / norm);
}

double mra_squared_distance(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

void mra_normalise_rows(double *a_hat, int n)
{
    for (int i = 0; i < n; i++) {
        double *row = a_hat + (size_t)i * n, sum = 0;
        for (int j = 0; j < n; j++) sum += row[j];
        for (int j = 0; sum > 0 && j < n; j++) row[j] /= sum;
    }
}

void mra_log_picture(const double *values, size_t count, double floor, float *picture)
{
    for (size_t i = 0; i < count; i++) picture[i] = (float)fmax(log10(values[i]), floor);
}

// ---- Best approximations -------------------------------------------------------------------

static int descending(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first < second) - (first > second);
}

void mra_tail_sums(double *squares, size_t count, double *squared_error)
{
    qsort(squares, count, sizeof *squares, descending);
    squared_error[count] = 0;
    for (size_t m = count; m-- > 0;) squared_error[m] = squared_error[m + 1] + squares[m];
}

mra_status mra_squared_singular_values(const double *a, int n, double *squares, mra_error *err)
{
    gsl_matrix *gram = gsl_matrix_alloc((size_t)n, (size_t)n);
    gsl_vector_view values = gsl_vector_view_array(squares, (size_t)n);
    gsl_eigen_symm_workspace *workspace = gsl_eigen_symm_alloc((size_t)n);
    mra_status status = MRA_OK;
    if (gram && workspace) {
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, n, n, 1, a, n, 0, gram->data,
                    (int)gram->tda);
        if (gsl_eigen_symm(gram, &values.vector, workspace)) {
            status = mra_fail(err, MRA_INTERNAL, "the eigenvalues of A^T A did not converge");
        }
    } else {
        status = mra_fail(err, MRA_NO_MEMORY,
                          "no memory for the eigenvalues of a %d x %d matrix", n, n);
    }
    if (workspace) gsl_eigen_symm_free(workspace);
    if (gram) gsl_matrix_free(gram);
    for (int i = 0; i < n; i++) squares[i] = fmax(squares[i], 0);
    return status;
}
