// The wavelet view of the attention matrix: 2-D Haar, and the box frame that takes its place
// (paper, section on multiresolution analysis). Everything here works on a dense n x n float64
// matrix: it is for understanding, for figures and for tests, never on the way to Z.
#ifndef MRA_MRA_WAVELET_H
#define MRA_MRA_WAVELET_H

#include <stddef.h>

#include "core/error.h"

// The largest n for these functions: n x n float64 is 128 MiB.
enum { MRA_WAVELET_LIMIT = 4096 };

// ---- Orthonormal 2-D Haar, nonstandard form (square supports) ----

// Replaces a[n, n] by its Haar coefficients, or the coefficients by the matrix. n must be a
// power of two, at most MRA_WAVELET_LIMIT (MRA_BAD_INPUT otherwise). O(n^2). Coefficient (0, 0)
// belongs to the constant; for each m = 1, 2, 4 ... n/2 the quadrants [0,m) x [m,2m), [m,2m) x
// [0,m), [m,2m) x [m,2m) hold the functions with support of side n/m that change sign from left
// to right, from top to bottom, and in both directions.
mra_status mra_haar_forward(double *a, int n, mra_error *err);
mra_status mra_haar_inverse(double *alpha, int n, mra_error *err);

typedef enum mra_haar_kind {
    MRA_HAAR_CONSTANT,
    MRA_HAAR_LEFT_RIGHT,
    MRA_HAAR_TOP_BOTTOM,
    MRA_HAAR_CHECKER
} mra_haar_kind;

// The basis function of coefficient (row, column): +-1/support on the support x support box
// whose top left corner is (top, left), 0 elsewhere.
typedef struct mra_haar_function {
    mra_haar_kind kind;
    int support, top, left;
} mra_haar_function;
mra_haar_function mra_haar_function_at(int n, int row, int column);
// Its value at matrix entry (i, j).
double mra_haar_value(mra_haar_function function, int i, int j);

// Keeps the m coefficients of alpha[n, n] of largest magnitude (equal ones: the lower index)
// and zeroes the rest. MRA_NO_MEMORY if the n^2 indices to sort don't fit.
mra_status mra_haar_keep_largest(double *alpha, int n, size_t m, mra_error *err);
// squared_error[m], m = 0 .. n^2: || A - A_m ||_F^2 of the best m-term approximation, from the
// coefficients alone (Parseval). n^2 + 1 entries of the caller's.
mra_status mra_haar_error_curve(const double *alpha, int n, double *squared_error,
                                mra_error *err);

// ---- The box frame ----

// The constant that a box contributes.
typedef enum mra_frame_coefficient {
    MRA_FRAME_MEAN,    // mu*: the mean of A over the box, the best there is
    MRA_FRAME_EXP_MEAN // mu: exp of the mean of the logits over the box
} mra_frame_coefficient;

// Which box is refined next.
typedef enum mra_frame_order {
    MRA_FRAME_LARGEST_ERROR, // the one with the largest squared error (an oracle: it looks at
                             // A)
    MRA_FRAME_LARGEST_COEFFICIENT // the one with the largest coefficient (the paper's rule)
} mra_frame_order;

typedef struct mra_frame_point {
    size_t terms;         // boxes
    double squared_error; // || A - A-hat ||_F^2
} mra_frame_point;

// Approximates A = exp(logit - shift), logit[n, n], n a power of two up to MRA_WAVELET_LIMIT,
// by boxes of sides n, n/2,
// ..., 1: starts with a single box and refines one box into its four children until `terms`
// boxes are there (rounded down to 1, 4, 7, ...; at most n^2). `shift` is the largest logit, or
// anything near it that keeps exp in range.
//   point         NULL, or room for (terms - 1) / 3 + 1 points: the error after every
//   refinement; *points tells how many approximation NULL, or [n, n]: the final A-hat
// O(n^2 + terms log terms). MRA_BAD_INPUT names n or terms, MRA_NO_MEMORY the bytes.
mra_status mra_frame_approximate(const double *logit, int n, double shift,
                                 mra_frame_coefficient coefficient, mra_frame_order order,
                                 size_t terms, mra_frame_point *point, size_t *points,
                                 double *approximation, mra_error *err);

#endif
