// What the definitions of the methods around landmarks share: products and softmax of small float64 matrices, and the
// convolution of the values.
#ifndef MRA_TESTS_ATTENTION_LOW_RANK_H
#define MRA_TESTS_ATTENTION_LOW_RANK_H

#include "method_case.h"

static inline double *low_rank_zeros(int rows, int columns)
{
    double *x = calloc((size_t)rows * (size_t)columns + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

// a[m, k] b[k, n], or with b given as [n, k] if `transposed`.
static inline double *low_rank_product(const double *a, const double *b, int m, int k, int n,
                                       bool transposed)
{
    double *c = low_rank_zeros(m, n);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
            for (int e = 0; e < k; e++)
                c[i * n + j] += a[i * k + e] * (transposed ? b[j * k + e] : b[e * n + j]);
    return c;
}

// The softmax of each row over the columns with keep[j] (NULL: all), in place.
static inline void low_rank_softmax(double *x, int rows, int columns, const uint8_t *keep)
{
    for (int i = 0; i < rows; i++) {
        double largest = -INFINITY, sum = 0, *row = x + i * columns;
        for (int j = 0; j < columns; j++)
            if (!keep || keep[j]) largest = fmax(largest, row[j]);
        for (int j = 0; j < columns; j++)
            sum += row[j] = !keep || keep[j] ? exp(row[j] - largest) : 0;
        for (int j = 0; j < columns && sum > 0; j++) row[j] /= sum;
    }
}

// z += filter * v for one head, padding being 0; then rows of padding are set to 0.
static inline void low_rank_convolve(const method_case *c, const mra_tensor *filter,
                                     const double *v, double *z)
{
    const int taps = filter ? filter->shape[1] : 0;
    for (int i = 0; i < c->n; i++)
        for (int e = 0; e < c->d; e++) {
            for (int t = 0; t < taps; t++) {
                const int j = i + t - taps / 2;
                if (j >= 0 && j < c->n && (!c->mask || c->mask[j]))
                    z[i * c->d + e] += filter->data[c->head * taps + t] * v[j * c->d + e];
            }
            if (c->mask && !c->mask[i]) z[i * c->d + e] = 0;
        }
}

#endif
