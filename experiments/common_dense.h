// One head written out in full, in float64: what the figures compare with. O(n^2) memory, O(n^2
// d) time.
#ifndef MRA_EXPERIMENTS_COMMON_DENSE_H
#define MRA_EXPERIMENTS_COMMON_DENSE_H

#include "common_inputs.h"

typedef struct mra_dense_head {
    int n, d;
    double *logit;       // [n, n]: P = Q K^T / sqrt(d)
    double *probability; // [n, n]: D^-1 exp(P), rows sum to one
    double *row_lse;     // [n]: log of D's diagonal
    double *z;           // [n, d]: D^-1 exp(P) V
    double largest;      // largest logit
    double entropy;      // mean over rows of -sum p ln p, nats
} mra_dense_head;

// MRA_NO_MEMORY names the bytes; free with mra_dense_head_free (which takes a zeroed struct
// too).
mra_status mra_dense_head_create(mra_dense_head *dense, const mra_trained_head *head,
                                 mra_error *err);
void mra_dense_head_free(mra_dense_head *dense);

// || approximation - z ||_F / || z ||_F of n * d float32 values against the head's exact
// output.
double mra_dense_output_error(const mra_dense_head *dense, const float *approximation);
// squared_error[m], m = 0 .. count: the sum of all but the m largest of `count` squares, which are
// sorted in place, largest first; smallest first in the sum, so that small tails keep their digits.
void mra_tail_sums(double *squares, size_t count, double *squared_error);
// squares[n]: the squared singular values of a[n, n], as eigenvalues of A^T A, in no order.
mra_status mra_squared_singular_values(const double *a, int n, double *squares, mra_error *err);
// || a - b ||_F^2 over `count` values.
double mra_squared_distance(const double *a, const double *b, size_t count);
// Divides every row of a_hat[n, n] by its sum (rows without anything stay 0): D-hat^-1 A-hat.
void mra_normalise_rows(double *a_hat, int n);
// log10 of each value as float32 for a heat map; values below 10^floor become `floor`.
void mra_log_picture(const double *values, size_t count, double floor, float *picture);

#endif
