// Certificates against the truth in float64: on a million boxes and ten thousand matrices, random ones and such as
// were made to break a bound, no certificate may be violated.
#include "dense.h"

#include <stdio.h>

#include "core/arena.h"
#include "core/random.h"
#include "mra/certificate.h"

// How inputs are made; each kind goes to an edge of the bounds.
enum {
    GAUSSIAN, // as it comes
    TIGHT,    // blocks whose rows hardly differ
    TWO_POINT, // rows at two opposite points of their block: the ends of the interval are reached
    ALIGNED,   // deviations along the pooled vectors of the other side
    HUGE_LOGIT,
    KINDS
};

static void fill(mra_random *random, int kind, int rows, int d, int block, float *x)
{
    const double scale = kind == HUGE_LOGIT ? 30 : exp(mra_random_normal(random));
    const double radius = kind == TIGHT ? 1e-3 : exp(1.5 * mra_random_normal(random) - 1);
    double centre[64] = {0}, direction[64];
    for (int i = 0; i < rows; i++) {
        if (i % block == 0)
            for (int c = 0; c < d; c++) {
                centre[c] = kind == ALIGNED ? scale : scale * mra_random_normal(random);
                direction[c] = kind == ALIGNED ? 1 : mra_random_normal(random);
            }
        const double side = mra_random_below(random, 2) ? radius : -radius;
        for (int c = 0; c < d; c++) {
            const double off = kind == TWO_POINT || kind == ALIGNED
                                   ? side * direction[c]
                                   : radius * mra_random_normal(random);
            x[(size_t)i * d + c] = (float)(centre[c] + off);
        }
    }
}

// ---- Boxes ----------------------------------------------------------------------------------

typedef struct box_count {
    long boxes, violated;
    double tightest; // the largest share of an interval that was used
} box_count;

static double norm_of(const double *x, int d)
{
    double sum = 0;
    for (int c = 0; c < d; c++) sum += x[c] * x[c];
    return sqrt(sum);
}

// Pooled vector (as the library pools: float32 means), its norm and the radius of its block.
static void pool(const float *x, int rows, int d, double *mean, double *norm, double *radius)
{
    for (int c = 0; c < d; c++) {
        double sum = 0;
        for (int i = 0; i < rows; i++) sum += x[i * d + c];
        mean[c] = (float)(sum / rows);
    }
    *norm = norm_of(mean, d);
    *radius = 0;
    for (int i = 0; i < rows; i++) {
        double off[64];
        for (int c = 0; c < d; c++) off[c] = x[i * d + c] - mean[c];
        *radius = fmax(*radius, norm_of(off, d));
    }
}

static void check_box(const float *q, const float *k, int s, int d, box_count *count)
{
    double query[64], key[64], norm[2], radius[2];
    mra_pyramid pyramid = {
        .d = d, .logit_scale = (float)(1 / sqrt(d)), .level = {{.scale = s}, {.scale = 1}}};
    pool(q, s, d, query, &norm[0], &radius[0]);
    pool(k, s, d, key, &norm[1], &radius[1]);
    const mra_box_radius box =
        mra_box_radius_of(&pyramid, 0, norm[0], radius[0], norm[1], radius[1]);
    double log_mu = 0, used = 0;
    for (int c = 0; c < d; c++) log_mu += pyramid.logit_scale * query[c] * key[c];
    bool violated = false;
    for (int i = 0; i < s; i++) {
        double mean = 0, least = INFINITY, most = -INFINITY, mass = 0;
        for (int j = 0; j < s; j++) {
            double logit = 0;
            for (int c = 0; c < d; c++)
                logit += (double)pyramid.logit_scale * q[i * d + c] * k[j * d + c];
            mean += logit / s;
            least = fmin(least, logit);
            most = fmax(most, logit);
            mass += exp(logit - log_mu) / s;
        }
        violated |= !(fabs(mean - log_mu) <= box.shift);
        violated |=
            !(most - mean <= box.spread + box.shift && mean - least <= box.spread + box.shift);
        violated |= !(most - log_mu <= box.spread + box.shift);
        violated |= !(log_mu - least <= box.spread + box.shift);
        violated |= mass > 0 && !(log(mass) >= -box.shift - 1e-12);
        violated |= isfinite(mass) &&
                    !(log(mass) <= box.shift + mra_specht_log(2 * box.spread) + 1e-12);
        used = fmax(used, fmax(most - log_mu, log_mu - least) / (box.spread + box.shift));
    }
    count->boxes++;
    count->violated += violated;
    count->tightest = fmax(count->tightest, used);
}

static void test_boxes(void **state)
{
    (void)state;
    const long wanted = getenv("MRA_SANITIZED") ? 50000 : 1000000;
    box_count count = {0};
    mra_random random = mra_random_open(test_seed(), mra_stream("boxes", 0, 0));
    float q[8 * 16], k[8 * 16];
    for (long i = 0; i < wanted; i++) {
        const int s = 2 << mra_random_below(&random, 2),
                  d = 1 + (int)mra_random_below(&random, 8);
        fill(&random, (int)(i % KINDS), s, d, s, q);
        fill(&random, (int)(i % KINDS), s, d, s, k);
        check_box(q, k, s, d, &count);
    }
    printf("# %ld boxes, %ld violated; the tightest used %.4f of its interval\n", count.boxes,
           count.violated, count.tightest);
    assert_int_equal(count.violated, 0);
    assert_true(count.tightest > 0.99); // the bound cannot be made smaller
}

// ---- Whole matrices -------------------------------------------------------------------------

typedef struct matrix_case {
    int n, d;
    float *q, *k, *v, *z;
    uint8_t *mask;
    double *exact, *row;
} matrix_case;

static matrix_case make_case(mra_random *random, int kind, int s)
{
    matrix_case a = {.n = 1 + (int)mra_random_below(random, 48),
                     .d = 1 + (int)mra_random_below(random, 12)};
    const size_t size = (size_t)a.n * (size_t)a.d;
    a.q = test_alloc(size, sizeof *a.q);
    a.k = test_alloc(size, sizeof *a.k);
    a.v = test_alloc(size, sizeof *a.v);
    a.z = test_alloc(size, sizeof *a.z);
    a.exact = test_alloc(size, sizeof *a.exact);
    a.row = test_alloc((size_t)a.n, sizeof *a.row);
    fill(random, kind, a.n, a.d, s, a.q);
    fill(random, kind, a.n, a.d, s, a.k);
    fill(random, (int)mra_random_below(random, HUGE_LOGIT), a.n, a.d, s, a.v);
    if (mra_random_below(random, 3) > 0) return a;
    a.mask = test_alloc((size_t)a.n, 1);
    for (int i = 0; i < a.n; i++) a.mask[i] = mra_random_below(random, 4) > 0;
    return a;
}

static void free_case(matrix_case *a)
{
    free(a->q);
    free(a->k);
    free(a->v);
    free(a->z);
    free(a->exact);
    free(a->row);
    free(a->mask);
}

// Softmax attention in float64, and ||A||, ||A - A-hat|| times exp(-shift) from A-hat (NULL: not wanted).
static double exact_attention(const matrix_case *a, const double *a_hat, double shift)
{
    double error = 0;
    double *p = test_alloc((size_t)a->n, sizeof *p);
    for (int i = 0; i < a->n; i++) {
        double largest = -INFINITY, sum = 0;
        if (a->mask && !a->mask[i]) continue;
        for (int j = 0; j < a->n; j++) {
            p[j] = 0;
            for (int c = 0; c < a->d; c++)
                p[j] += (double)a->q[i * a->d + c] * a->k[j * a->d + c];
            p[j] *= (float)(1 / sqrt(a->d));
            if (a->mask && !a->mask[j]) p[j] = -INFINITY;
            largest = fmax(largest, p[j]);
            if (a_hat) error += pow(exp(p[j] - shift) - a_hat[i * a->n + j], 2);
        }
        for (int j = 0; j < a->n; j++) sum += p[j] = exp(p[j] - largest);
        for (int j = 0; j < a->n; j++)
            for (int c = 0; c < a->d && sum > 0; c++)
                a->exact[i * a->d + c] += p[j] / sum * a->v[j * a->d + c];
    }
    free(p);
    return sqrt(error);
}

typedef struct matrix_count {
    long matrices, rows, violated, trivial;
    double tightest;
} matrix_count;

static void compare_case(const matrix_case *a, const mra_certificate *certificate,
                         double matrix_error, matrix_count *count)
{
    double error = 0, size = 0;
    bool violated = false;
    for (int i = 0; i < a->n; i++) {
        double off = 0;
        for (int c = 0; c < a->d; c++) {
            off += pow(a->z[i * a->d + c] - a->exact[i * a->d + c], 2);
            size += pow(a->exact[i * a->d + c], 2);
        }
        violated |= !(sqrt(off) <= a->row[i]);
        if (a->row[i] > 0) count->tightest = fmax(count->tightest, sqrt(off) / a->row[i]);
        error += off;
    }
    violated |= !(sqrt(error) <= certificate->output);
    violated |= size > 0 && !(sqrt(error / size) <= certificate->relative);
    violated |= !(matrix_error <= certificate->matrix);
    count->matrices++;
    count->rows += a->n;
    count->trivial += (long)certificate->trivial;
    count->violated += violated;
}

static mra_options random_options(mra_random *random, int *s)
{
    mra_options options = mra_options_mra2(mra_random_uniform(random) * 3);
    *s = 2 << mra_random_below(random, 3);
    options.scale[0] = *s;
    options.sparse = mra_random_below(random, 4) == 0;
    if (*s > 2 && mra_random_below(random, 3) == 0) {
        options.scales = 3;
        options.scale[1] = 2;
        options.scale[2] = 1;
        options.blocks[2] = mra_random_uniform(random) * 8;
    }
    return options;
}

static void test_matrices(void **state)
{
    (void)state;
    const long wanted = getenv("MRA_SANITIZED") ? 1000 : 10000;
    matrix_count count = {0};
    mra_error err;
    mra_random random = mra_random_open(test_seed(), mra_stream("matrices", 0, 0));
    for (long m = 0; m < wanted; m++) {
        int s;
        mra_options options = random_options(&random, &s);
        matrix_case a = make_case(&random, (int)(m % KINDS), s);
        mra_apply *apply;
        mra_certificate certificate;
        if (mra_apply_create(&apply, &options, a.n, a.d, &err) != MRA_OK)
            fail_msg("%s", err.message);
        mra_apply_forward(apply, a.q, a.k, a.v, a.mask, a.z);
        if (mra_certify_apply(apply, a.z, a.row, &certificate, &err) != MRA_OK)
            fail_msg("%s", err.message);
        double *a_hat = test_alloc((size_t)a.n * (size_t)a.n, sizeof *a_hat);
        mra_apply_dense(apply, certificate.shift, a_hat);
        const double matrix_error = exact_attention(&a, a_hat, certificate.shift);
        compare_case(&a, &certificate, matrix_error, &count);
        free(a_hat);
        mra_apply_free(apply);
        free_case(&a);
    }
    printf(
        "# %ld matrices, %ld violated; %ld of %ld rows trivial; the tightest row used %.4f\n",
        count.matrices, count.violated, count.trivial, count.rows, count.tightest);
    assert_int_equal(count.violated, 0);
    assert_true(count.trivial < count.rows * 9 / 10);
    assert_true(count.tightest > 0.5);
}

// ---- Through the library: heads, masks, grids, both paths -------------------------------------

static mra_options library_options(mra_random *random, mra_shape shape, int which)
{
    mra_options options = mra_options_mra2(mra_random_uniform(random) * 4);
    options.threads = 1 + which % 2;
    options.sparse = which % 3 == 0;
    if (which % 4 == 1) options.scale[0] = 8;
    if (which % 5 == 2) {
        options.grid_height = 8;
        options.grid_width = shape.n / 8;
    }
    if (which % 7 == 3) {
        options.scales = 3;
        options.scale[1] = 4;
        options.scale[2] = 1;
        options.blocks[2] = 8;
    }
    if (which % 11 == 4) options.scales = options.scale[0] = 1;
    return options;
}

// Bounds of all heads against the truth in float64; returns whether one is violated.
static bool check_library(mra_random *random, int which, matrix_count *count)
{
    mra_error err = {0};
    const mra_shape shape = {1 + which % 2, 2, 64 + 64 * (which % 3), 1 + which % 16};
    const mra_options options = library_options(random, shape, which);
    const size_t size = (size_t)shape.n * (size_t)shape.d;
    const size_t heads = (size_t)shape.batch * (size_t)shape.heads;
    float *array[4];
    for (int a = 0; a < 4; a++) array[a] = test_alloc(heads * size, sizeof(float));
    for (int a = 0; a < 3; a++)
        fill(random, which % KINDS, (int)heads * shape.n, shape.d, 32, array[a]);
    uint8_t *mask = which % 3 == 1 ? test_alloc((size_t)shape.batch * shape.n, 1) : NULL;
    for (int i = 0; mask && i < shape.batch * shape.n; i++)
        mask[i] = mra_random_below(random, 4) > 0 || i % shape.n == 0;
    double *row = test_alloc(heads * (size_t)shape.n, sizeof *row);
    mra_certificate *certificate = test_alloc(heads, sizeof *certificate);
    mra_attention *attention;
    if (mra_attention_create(&attention, shape, &options, &err) != MRA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(mra_attention_certify(attention, array[0], array[1], array[2], mask,
                                           array[3], row, certificate, &err),
                     MRA_BAD_INPUT); // before any forward pass
    if (mra_attention_forward(attention, array[0], array[1], array[2], mask, array[3], &err) !=
            MRA_OK ||
        mra_attention_certify(attention, array[0], array[1], array[2], mask, array[3], row,
                              certificate, &err) != MRA_OK)
        fail_msg("%s", err.message);
    const long before = count->violated;
    for (size_t h = 0; h < heads; h++) {
        matrix_case a = {shape.n,
                         shape.d,
                         array[0] + h * size,
                         array[1] + h * size,
                         array[2] + h * size,
                         array[3] + h * size,
                         mask ? mask + h / 2 * (size_t)shape.n : NULL,
                         test_alloc(size, sizeof(double)),
                         row + h * (size_t)shape.n};
        exact_attention(&a, NULL, 0);
        compare_case(&a, &certificate[h], 0, count);
        free(a.exact);
    }
    mra_attention_free(attention);
    for (int a = 0; a < 4; a++) free(array[a]);
    free(mask);
    free(row);
    free(certificate);
    return count->violated > before;
}

static void test_library(void **state)
{
    (void)state;
    const int wanted = getenv("MRA_SANITIZED") ? 24 : 240;
    mra_random random = mra_random_open(test_seed(), mra_stream("library", 0, 0));
    matrix_count count = {0};
    for (int which = 0; which < wanted; which++)
        if (check_library(&random, which, &count)) printf("# case %d is violated\n", which);
    printf("# %ld heads, %ld violated; %ld of %ld rows trivial\n", count.matrices,
           count.violated, count.trivial, count.rows);
    assert_int_equal(count.violated, 0);
}

// ---- A promise ------------------------------------------------------------------------------

static void test_tolerance(void **state)
{
    (void)state;
    mra_error err;
    mra_random random = mra_random_open(test_seed(), mra_stream("tolerance", 0, 0));
    for (int m = 0; m < 200; m++) {
        mra_options options = mra_options_mra2(1);
        options.scale[0] = 8;
        matrix_case a = make_case(&random, m % HUGE_LOGIT, 8);
        const double tolerance = pow(10, -3 * mra_random_uniform(&random));
        mra_certificate certificate;
        double blocks;
        if (mra_attend_within(&options, a.n, a.d, a.q, a.k, a.v, a.mask, tolerance, a.z, a.row,
                              &certificate, &blocks, &err) != MRA_OK)
            fail_msg("%s", err.message);
        matrix_count count = {0};
        exact_attention(&a, NULL, 0);
        compare_case(&a, &certificate, 0, &count);
        assert_int_equal(count.violated, 0);
        if (!(certificate.relative <= tolerance)) // all refined: only rounding is left
            assert_true(certificate.relative < 0.05 || certificate.output_norm == 0 ||
                        certificate.relative == INFINITY);
        free_case(&a);
    }
    mra_options options = mra_options_mra2(1);
    mra_certificate certificate;
    double blocks;
    float x[4] = {0};
    assert_int_equal(mra_attend_within(&options, 4, 1, x, x, x, NULL, 0, x, NULL, &certificate,
                                       &blocks, &err),
                     MRA_BAD_INPUT);
    options.sparse = true;
    assert_int_equal(mra_attend_within(&options, 4, 1, x, x, x, NULL, 0.1, x, NULL,
                                       &certificate, &blocks, &err),
                     MRA_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boxes), cmocka_unit_test(test_matrices),
        cmocka_unit_test(test_library), cmocka_unit_test(test_tolerance)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
