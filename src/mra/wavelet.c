// # The wavelet view
//
// An attention matrix $A=\exp(P)$ is large in few places and nearly constant over wide areas.
// That is what multiresolution analysis was made for: describe a signal by averages over coarse
// cells, and add detail only where there is some.
//
// ## Haar in two dimensions
//
// In one dimension, Haar's basis of $\mathbb R^n$, $n=2^p$, consists of the constant and, for
// every dyadic interval of length $s\ge2$, of a step: $+1/\sqrt s$ on its left half,
// $-1/\sqrt s$ on the right one. In two dimensions, take for every dyadic *square* of side $s$
// the three products of average and step: a step from left to right, one from top to bottom,
// one in both directions,
//
// $$\phi=\frac1s\begin{pmatrix}+&-\\+&-\end{pmatrix},\quad
//   \frac1s\begin{pmatrix}+&+\\-&-\end{pmatrix},\quad
//   \frac1s\begin{pmatrix}+&-\\-&+\end{pmatrix},$$
//
// and once the constant $1/n$. (This is the *nonstandard* form. The standard form transforms
// all rows and then all columns, and has oblong supports.) These $n^2$ functions are
// orthonormal, so $A=\sum_k\alpha_k\phi_k$ with $\alpha_k=\langle A,\phi_k\rangle$, and the
// best approximation by $m$ of them keeps the $m$ largest $|\alpha_k|$: its squared error is
// what was left out,
//
// $$\|A-A_m\|_F^2=\sum_{k\ \text{left out}}\alpha_k^2.$$
//
// ## Why the method does not use it
//
// Two reasons. Every $\alpha_k$ is an integral over $A$: to know which ones are large one has
// to compute $A$ first. And the functions change sign, so that $A_m$ may have negative entries,
// rows whose sum is zero, and no $D^{-1}$.
//
// The paper therefore drops the wavelets and keeps only the *scaling function*: the indicator
// of a box, dilated and translated,
//
// $$B^s_{x,y}(i,j)=\begin{cases}
//   1&\lfloor i/s\rfloor=x,\;\lfloor j/s\rfloor=y\\0&\text{else}\end{cases}$$
//
// These are more than $n^2$ functions, linearly dependent: a frame, not a basis. What one
// chooses is a set $J$ of boxes, and $\hat A_{ij}$ is the coefficient of the smallest box of
// $J$ that covers $(i,j)$. A coefficient is a local mean, positive, and can be estimated
// without $A$ (the next chapter).
//
// Little is lost. Replace one box of side $s$ by its four quarters, with true means as
// coefficients: the squared error falls by exactly the sum of the squares of the three Haar
// coefficients of that box, and the number of terms grows by three. So refining $t$ boxes is an
// approximation by $1+3t$ Haar functions that form a *tree*: whoever is in has all larger ones
// above it in. The best tree is not better than the best set, and, for matrices whose details
// lie inside one another, not much worse.
#include "mra/wavelet.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static mra_status check_side(int n, mra_error *err)
{
    if (n < 1 || (n & (n - 1)) != 0 || n > MRA_WAVELET_LIMIT)
        return mra_fail(err, MRA_BAD_INPUT, "n: %d, expected a power of two, at most %d", n,
                        MRA_WAVELET_LIMIT);
    return MRA_OK;
}

static mra_status no_memory(size_t bytes, int n, mra_error *err)
{
    return mra_fail(err, MRA_NO_MEMORY, "wavelets of a %d x %d matrix: no %zu bytes", n, n,
                    bytes);
}

// ## The transform
//
// One step takes the upper left corner of side $2m$, looks at its $2\times2$ cells
// $\begin{pmatrix}a&b\\c&d\end{pmatrix}$ and puts
//
// $$\tfrac12(a+b+c+d),\quad\tfrac12(a-b+c-d),\quad\tfrac12(a+b-c-d),\quad\tfrac12(a-b-c+d)$$
//
// into the four quadrants of the corner. The next step does the same with the averages. The
// $4\times4$ matrix of signs is orthogonal and symmetric up to the factor $\frac12$, so it is
// its own inverse, and the inverse transform runs the same steps from small to large with
// reading and writing exchanged. The cost is $n^2(1+\frac14+\dotsb)$.
//
// The four entries of a cell, or of the four quadrants.
typedef struct quad {
    double first, second, third, fourth;
} quad;

static quad mix(quad v)
{
    return (quad){(v.first + v.second + v.third + v.fourth) / 2,
                  (v.first - v.second + v.third - v.fourth) / 2,
                  (v.first + v.second - v.third - v.fourth) / 2,
                  (v.first - v.second - v.third + v.fourth) / 2};
}

// One step on the corner of side 2m of a[n, n], through corner[2m, 2m]: from cells to
// quadrants, or back.
static void haar_step(double *a, int n, int m, bool inverse, double *corner)
{
    size_t stride = (size_t)n, half = (size_t)m, side = 2 * half;
    for (size_t x = 0; x < half; x++) {
        for (size_t y = 0; y < half; y++) {
            size_t cell_step = inverse ? half : 1;
            size_t top = inverse ? x : 2 * x, left = inverse ? y : 2 * y;
            const double *upper = a + top * stride + left, *lower = upper + cell_step * stride;
            quad v = mix((quad){upper[0], upper[cell_step], lower[0], lower[cell_step]});
            size_t out_step = inverse ? 1 : half;
            double *out = corner + (inverse ? 2 * x * side + 2 * y : x * side + y);
            out[0] = v.first;
            out[out_step] = v.second;
            out[out_step * side] = v.third;
            out[out_step * side + out_step] = v.fourth;
        }
    }
    for (size_t row = 0; row < side; row++)
        memcpy(a + row * stride, corner + row * side, side * sizeof *a);
}

static mra_status haar_transform(double *a, int n, bool inverse, mra_error *err)
{
    mra_status status = check_side(n, err);
    if (status != MRA_OK) return status;
    size_t bytes = (size_t)n * (size_t)n * sizeof(double);
    double *corner = malloc(bytes);
    if (corner == NULL) return no_memory(bytes, n, err);
    if (inverse)
        for (int m = 1; m < n; m *= 2) haar_step(a, n, m, true, corner);
    else
        for (int m = n / 2; m >= 1; m /= 2) haar_step(a, n, m, false, corner);
    free(corner);
    return MRA_OK;
}

mra_status mra_haar_forward(double *a, int n, mra_error *err)
{
    return haar_transform(a, n, false, err);
}

mra_status mra_haar_inverse(double *alpha, int n, mra_error *err)
{
    return haar_transform(alpha, n, true, err);
}

// ## A single basis function
//
// The larger of row and column tells the size: $m\le\max<2m$ belongs to squares of side $n/m$.
// Which of the two reaches beyond $m$ tells the kind.
mra_haar_function mra_haar_function_at(int n, int row, int column)
{
    if (row == 0 && column == 0) return (mra_haar_function){MRA_HAAR_CONSTANT, n, 0, 0};
    int larger = row > column ? row : column, m = 1;
    while (2 * m <= larger) m *= 2;
    mra_haar_function function = {.support = n / m};
    if (row < m)
        function.kind = MRA_HAAR_LEFT_RIGHT;
    else
        function.kind = column < m ? MRA_HAAR_TOP_BOTTOM : MRA_HAAR_CHECKER;
    function.top = row % m * function.support;
    function.left = column % m * function.support;
    return function;
}

double mra_haar_value(mra_haar_function function, int i, int j)
{
    int down = i - function.top, right = j - function.left, s = function.support;
    if (down < 0 || down >= s || right < 0 || right >= s) return 0;
    double value = 1.0 / s;
    bool lower = 2 * down >= s, righter = 2 * right >= s;
    if (function.kind == MRA_HAAR_LEFT_RIGHT || function.kind == MRA_HAAR_CHECKER)
        value = righter ? -value : value;
    if (function.kind == MRA_HAAR_TOP_BOTTOM || function.kind == MRA_HAAR_CHECKER)
        value = lower ? -value : value;
    return value;
}

// ## The best $m$ terms
//
// One sort gives the error for every $m$ at once, by Parseval's equation. The sums run from the
// smallest coefficient up, so that the tail of the curve is as accurate as its beginning.
typedef struct ranked_coefficient {
    double magnitude;
    size_t index;
} ranked_coefficient;

static int by_falling_magnitude(const void *a, const void *b)
{
    const ranked_coefficient *one = a, *other = b;
    if (one->magnitude != other->magnitude) return one->magnitude > other->magnitude ? -1 : 1;
    return one->index < other->index ? -1 : one->index > other->index;
}

static mra_status rank_coefficients(const double *alpha, int n, ranked_coefficient **ranked,
                                    mra_error *err)
{
    mra_status status = check_side(n, err);
    if (status != MRA_OK) return status;
    size_t count = (size_t)n * (size_t)n;
    *ranked = malloc(count * sizeof **ranked);
    if (*ranked == NULL) return no_memory(count * sizeof **ranked, n, err);
    for (size_t i = 0; i < count; i++) (*ranked)[i] = (ranked_coefficient){fabs(alpha[i]), i};
    qsort(*ranked, count, sizeof **ranked, by_falling_magnitude);
    return MRA_OK;
}

mra_status mra_haar_keep_largest(double *alpha, int n, size_t m, mra_error *err)
{
    ranked_coefficient *ranked;
    mra_status status = rank_coefficients(alpha, n, &ranked, err);
    if (status != MRA_OK) return status;
    for (size_t i = m; i < (size_t)n * (size_t)n; i++) alpha[ranked[i].index] = 0;
    free(ranked);
    return MRA_OK;
}

mra_status mra_haar_error_curve(const double *alpha, int n, double *squared_error,
                                mra_error *err)
{
    ranked_coefficient *ranked;
    mra_status status = rank_coefficients(alpha, n, &ranked, err);
    if (status != MRA_OK) return status;
    size_t m = (size_t)n * (size_t)n;
    squared_error[m] = 0;
    while (m-- > 0)
        squared_error[m] = squared_error[m + 1] + ranked[m].magnitude * ranked[m].magnitude;
    free(ranked);
    return MRA_OK;
}
