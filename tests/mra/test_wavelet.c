// Haar against GSL's wavelets, and the box frame against its definition.
#include "dense.h"

#include <gsl/gsl_wavelet2d.h>

#include "mra/wavelet.h"

static double *random_matrix(int n, uint64_t which)
{
    mra_random random =
        mra_random_open(test_seed(), mra_stream("test matrix", which, (uint64_t)n));
    double *a = test_alloc((size_t)n * n, sizeof *a);
    for (int i = 0; i < n * n; i++) a[i] = mra_random_normal(&random);
    return a;
}

static double *copy_of(const double *a, size_t count)
{
    double *copy = test_alloc(count, sizeof *copy);
    memcpy(copy, a, count * sizeof *copy);
    return copy;
}

static void haar_is_gsl_nonstandard(void **state)
{
    (void)state;
    gsl_wavelet *haar = gsl_wavelet_alloc(gsl_wavelet_haar, 2);
    for (int n = 1; n <= 64; n *= 2) {
        double *mine = random_matrix(n, 1), *theirs = copy_of(mine, (size_t)n * n);
        gsl_wavelet_workspace *work = gsl_wavelet_workspace_alloc((size_t)n);
        assert_int_equal(mra_haar_forward(mine, n, NULL), 0);
        gsl_wavelet2d_nstransform_forward(haar, theirs, (size_t)n, (size_t)n, (size_t)n, work);
        for (int i = 0; i < n * n; i++) assert_below(fabs(mine[i] - theirs[i]), 1e-12);
        gsl_wavelet_workspace_free(work);
        free(mine);
        free(theirs);
    }
    gsl_wavelet_free(haar);
}

static void inverse_undoes_forward(void **state)
{
    (void)state;
    for (int n = 1; n <= 128; n *= 4) {
        double *a = random_matrix(n, 2), *b = copy_of(a, (size_t)n * n);
        assert_int_equal(mra_haar_forward(a, n, NULL), 0);
        assert_int_equal(mra_haar_inverse(a, n, NULL), 0);
        for (int i = 0; i < n * n; i++) assert_below(fabs(a[i] - b[i]), 1e-13);
        free(a);
        free(b);
    }
}

// A coefficient is the inner product with the function that mra_haar_value draws; and these are
// orthonormal.
static void functions_are_the_basis(void **state)
{
    (void)state;
    enum { N = 8 };
    double *a = random_matrix(N, 3), *alpha = copy_of(a, N * N);
    assert_int_equal(mra_haar_forward(alpha, N, NULL), 0);
    for (int k = 0; k < N * N; k++) {
        mra_haar_function one = mra_haar_function_at(N, k / N, k % N);
        double product = 0;
        for (int e = 0; e < N * N; e++) product += a[e] * mra_haar_value(one, e / N, e % N);
        assert_below(fabs(product - alpha[k]), 1e-13);
        for (int l = 0; l < N * N; l++) {
            mra_haar_function other = mra_haar_function_at(N, l / N, l % N);
            product = 0;
            for (int e = 0; e < N * N; e++)
                product +=
                    mra_haar_value(one, e / N, e % N) * mra_haar_value(other, e / N, e % N);
            assert_below(fabs(product - (k == l)), 1e-13);
        }
    }
    free(a);
    free(alpha);
}

static void error_curve_is_the_error(void **state)
{
    (void)state;
    enum { N = 16 };
    double *a = random_matrix(N, 4), *alpha = copy_of(a, N * N), curve[N * N + 1],
           last = INFINITY;
    assert_int_equal(mra_haar_forward(alpha, N, NULL), 0);
    assert_int_equal(mra_haar_error_curve(alpha, N, curve, NULL), 0);
    for (size_t m = 0; m <= N * N; m += 37) {
        double *kept = copy_of(alpha, N * N), error = 0;
        assert_int_equal(mra_haar_keep_largest(kept, N, m, NULL), 0);
        size_t terms = 0;
        for (int i = 0; i < N * N; i++) terms += kept[i] != 0;
        assert_int_equal(terms, m);
        assert_int_equal(mra_haar_inverse(kept, N, NULL), 0);
        for (int i = 0; i < N * N; i++) error += (kept[i] - a[i]) * (kept[i] - a[i]);
        assert_below(fabs(error - curve[m]), 1e-11);
        assert_true(curve[m] <= last);
        last = curve[m];
        free(kept);
    }
    assert_true(curve[N * N] == 0);
    free(a);
    free(alpha);
}

static void wrong_sizes_are_refused(void **state)
{
    (void)state;
    double a[9] = {0};
    const int wrong[] = {0, -4, 3, 6, 2 * MRA_WAVELET_LIMIT};
    mra_error err;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err.message[0] = 0;
        assert_int_equal(mra_haar_forward(a, wrong[i], &err), MRA_BAD_INPUT);
        assert_non_null(strstr(err.message, "power of two"));
        assert_int_equal(mra_haar_inverse(a, wrong[i], NULL), MRA_BAD_INPUT);
        assert_int_equal(mra_haar_keep_largest(a, wrong[i], 1, NULL), MRA_BAD_INPUT);
        assert_int_equal(mra_frame_approximate(a, wrong[i], 0, MRA_FRAME_MEAN,
                                               MRA_FRAME_LARGEST_ERROR, 1, NULL, NULL, NULL,
                                               NULL),
                         MRA_BAD_INPUT);
    }
    assert_int_equal(mra_frame_approximate(a, 2, 0, MRA_FRAME_MEAN, MRA_FRAME_LARGEST_ERROR, 5,
                                           NULL, NULL, NULL, &err),
                     MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "terms"));
}

// The frame's curve for all four combinations against the approximation that it draws, by
// direct summation; the drawing itself must be constant on boxes with the right coefficient.
static void frame_error_is_the_error(void **state)
{
    (void)state;
    enum { N = 16 };
    double *logit = random_matrix(N, 5), drawn[N * N];
    mra_frame_point point[(N * N - 1) / 3 + 1];
    for (int variant = 0; variant < 4; variant++) {
        mra_frame_coefficient coefficient = variant % 2 ? MRA_FRAME_EXP_MEAN : MRA_FRAME_MEAN;
        mra_frame_order order =
            variant / 2 ? MRA_FRAME_LARGEST_COEFFICIENT : MRA_FRAME_LARGEST_ERROR;
        for (size_t terms = 1; terms <= N * N; terms += 15) {
            size_t points = 0;
            assert_int_equal(mra_frame_approximate(logit, N, 1.5, coefficient, order, terms,
                                                   point, &points, drawn, NULL),
                             MRA_OK);
            assert_int_equal(points, (terms - 1) / 3 + 1);
            assert_int_equal(point[points - 1].terms, 1 + 3 * ((terms - 1) / 3));
            double error = 0;
            for (int i = 0; i < N * N; i++) error += pow(drawn[i] - exp(logit[i] - 1.5), 2);
            assert_below(fabs(error - point[points - 1].squared_error), 1e-12 * (1 + error));
        }
        assert_true(point[(N * N - 1) / 3].squared_error == 0);
    }
    free(logit);
}

static void first_box_is_the_mean(void **state)
{
    (void)state;
    enum { N = 8 };
    double *logit = random_matrix(N, 6), drawn[N * N], mean = 0, mean_logit = 0;
    for (int i = 0; i < N * N; i++) {
        mean += exp(logit[i]) / (N * N);
        mean_logit += logit[i] / (N * N);
    }
    for (int variant = 0; variant < 2; variant++) {
        assert_int_equal(mra_frame_approximate(logit, N, 0, variant, MRA_FRAME_LARGEST_ERROR, 3,
                                               NULL, NULL, drawn, NULL),
                         MRA_OK);
        double expected = variant == MRA_FRAME_MEAN ? mean : exp(mean_logit);
        for (int i = 0; i < N * N; i++) assert_below(fabs(drawn[i] - expected), 1e-13);
    }
    free(logit);
}

// With true means, refining a box takes away the energy of its three Haar coefficients: so
// every fall of the curve is the sum of three squared coefficients of one place, and the curve
// lies on or above the one of the best m terms.
static void refining_spends_haar_coefficients(void **state)
{
    (void)state;
    enum { N = 16, STEPS = (N * N - 1) / 3 };
    double *logit = random_matrix(N, 7), alpha[N * N], best[N * N + 1];
    mra_frame_point point[STEPS + 1];
    for (int i = 0; i < N * N; i++) alpha[i] = exp(logit[i]);
    assert_int_equal(mra_haar_forward(alpha, N, NULL), 0);
    assert_int_equal(mra_haar_error_curve(alpha, N, best, NULL), 0);
    assert_int_equal(mra_frame_approximate(logit, N, 0, MRA_FRAME_MEAN, MRA_FRAME_LARGEST_ERROR,
                                           N * N, point, NULL, NULL, NULL),
                     MRA_OK);
    for (int t = 1; t <= STEPS; t++) {
        double fall = point[t - 1].squared_error - point[t].squared_error, nearest = INFINITY;
        for (int m = 1; m < N; m *= 2)
            for (int x = 0; x < m; x++)
                for (int y = 0; y < m; y++) {
                    double a = alpha[x * N + y + m], b = alpha[(x + m) * N + y];
                    double c = alpha[(x + m) * N + y + m];
                    nearest = fmin(nearest, fabs(a * a + b * b + c * c - fall));
                }
        assert_below(nearest, 1e-11);
        assert_true(point[t].squared_error >= best[1 + 3 * t] - 1e-9);
    }
    free(logit);
}

static void oracle_beats_the_rule_on_average(void **state)
{
    (void)state;
    enum { N = 32, TERMS = 256 };
    double ratio = 0;
    for (uint64_t which = 0; which < 20; which++) {
        double *logit = random_matrix(N, 100 + which), error[2];
        mra_frame_point point[(TERMS - 1) / 3 + 1];
        size_t points;
        for (int order = 0; order < 2; order++) {
            assert_int_equal(mra_frame_approximate(logit, N, 0, MRA_FRAME_MEAN, order, TERMS,
                                                   point, &points, NULL, NULL),
                             MRA_OK);
            error[order] = point[points - 1].squared_error;
        }
        ratio += error[MRA_FRAME_LARGEST_ERROR] / error[MRA_FRAME_LARGEST_COEFFICIENT] / 20;
        free(logit);
    }
    assert_below(ratio, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(haar_is_gsl_nonstandard),
        cmocka_unit_test(inverse_undoes_forward),
        cmocka_unit_test(functions_are_the_basis),
        cmocka_unit_test(error_curve_is_the_error),
        cmocka_unit_test(wrong_sizes_are_refused),
        cmocka_unit_test(frame_error_is_the_error),
        cmocka_unit_test(first_box_is_the_mean),
        cmocka_unit_test(refining_spends_haar_coefficients),
        cmocka_unit_test(oracle_beats_the_rule_on_average),
    };
    return cmocka_run_group_tests_name("wavelet", tests, NULL, NULL);
}
