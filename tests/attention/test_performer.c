// `performer` and its random features: against the definition in float64 with the features that
// the layer drew; the mean and the variance of the kernel's estimate over many draws; masks; logits
// of any size.

#include "method_case.h"

#include "attention/features.h"

static const float *matrix_of(const mra_attention_layer *layer, int *count)
{
    mra_method_array array[MRA_METHOD_ARRAYS];
    assert_int_equal(layer->method->drawn(layer, array), 1);
    assert_string_equal(array[0].name, "features");
    assert_int_equal(array[0].shape[1], layer->shape.d);
    *count = array[0].shape[0];
    return array[0].floats;
}

// sum over c of w_c x_c and |x|^2 / 2, of x times `scale`.
static void exponents(int d, double scale, const float *w, const double *x, double *p,
                      double *h)
{
    *p = *h = 0;
    for (int c = 0; c < d; c++) {
        *p += scale * w[c] * x[c];
        *h += scale * scale * x[c] * x[c] / 2;
    }
}

// z = phi(Q) (phi(K)^T V) / (phi(Q) phi(K)^T 1) with phi_r(x) = exp(<w_r, x> - |x|^2 / 2).
static void specified(const method_case *c, double *const x[3], double *z)
{
    int m;
    const float *w = matrix_of(c->layer, &m);
    const double scale = pow(c->d, -0.25);
    double *phi[2], *sums = calloc((size_t)(m * (c->d + 1)), sizeof *sums);
    for (int side = 0; side < 2; side++) {
        phi[side] = malloc(sizeof(double) * (size_t)(c->n * m));
        for (int i = 0; i < c->n; i++)
            for (int r = 0; r < m; r++) {
                double p, h;
                exponents(c->d, scale, w + r * c->d, x[side] + i * c->d, &p, &h);
                phi[side][i * m + r] = c->mask && !c->mask[i] ? 0 : exp(p - h);
            }
    }
    for (int j = 0; j < c->n; j++)
        for (int r = 0; r < m; r++)
            for (int e = 0; e <= c->d; e++)
                sums[r * (c->d + 1) + e] +=
                    phi[1][j * m + r] * (e < c->d ? x[2][j * c->d + e] : 1);
    for (int i = 0; i < c->n; i++) {
        double divisor = 0;
        for (int r = 0; r < m; r++) divisor += phi[0][i * m + r] * sums[r * (c->d + 1) + c->d];
        for (int e = 0; e < c->d; e++) {
            double sum = 0;
            for (int r = 0; r < m; r++) sum += phi[0][i * m + r] * sums[r * (c->d + 1) + e];
            z[i * c->d + e] = divisor > 0 ? sum / divisor : 0;
        }
    }
    free(phi[0]);
    free(phi[1]);
    free(sums);
}

static double float_projection(int d, double scale, const float *w, const float *x)
{
    double sum = 0;
    for (int c = 0; c < d; c++) sum += scale * w[c] * x[c];
    return sum;
}

// As the published code has it. The maxima are constants to the gradient: they are taken from the
// inputs that are not moved.
static void published(const method_case *c, double *const x[3], double *z)
{
    int m;
    const float *w = matrix_of(c->layer, &m);
    const double scale = pow(c->d, -0.5), epsilon = 1e-4;
    const int heads = c->layer->shape.heads;
    // The keys of all heads lie one after another; this case's are those of head c->head.
    const float *first = c->k - (size_t)c->head * (size_t)c->n * (size_t)c->d;
    double largest = -INFINITY;
    for (int j = 0; j < heads * c->n; j++)
        for (int r = 0; r < m; r++)
            largest = fmax(largest, c->mask && !c->mask[j % c->n]
                                        ? 0
                                        : float_projection(c->d, scale, w + r * c->d,
                                                           first + (size_t)j * (size_t)c->d));
    double *sums = calloc((size_t)(m * (c->d + 1)), sizeof *sums);
    for (int j = 0; j < c->n; j++)
        for (int r = 0; r < m; r++) {
            double p, h;
            exponents(c->d, scale, w + r * c->d, x[1] + j * c->d, &p, &h);
            const bool seen = !c->mask || c->mask[j];
            const double value = (seen ? exp(p - h - largest) : exp(-largest)) + epsilon;
            for (int e = 0; e < c->d; e++)
                sums[r * (c->d + 1) + e] += seen ? value * x[2][j * c->d + e] : 0;
            sums[r * (c->d + 1) + c->d] += value;
        }
    for (int i = 0; i < c->n; i++) {
        double row = -INFINITY, divisor = 0;
        memset(z + i * c->d, 0, sizeof *z * (size_t)c->d);
        if (c->mask && !c->mask[i]) continue;
        for (int r = 0; r < m; r++)
            row = fmax(row, float_projection(c->d, scale, w + r * c->d,
                                             c->q + (size_t)i * (size_t)c->d));
        for (int r = 0; r < m; r++) {
            double p, h;
            exponents(c->d, scale, w + r * c->d, x[0] + i * c->d, &p, &h);
            const double value = exp(p - h - row) + epsilon;
            for (int e = 0; e < c->d; e++) z[i * c->d + e] += value * sums[r * (c->d + 1) + e];
            divisor += value * sums[r * (c->d + 1) + c->d];
        }
        for (int e = 0; e < c->d; e++) z[i * c->d + e] /= divisor;
    }
    free(sums);
}

// With one token z = v whatever Q and K are: their gradients are 0, computed as a difference of two
// sums over all features, whose rounding is measured against a twentieth of the gradient of V.
static void test_definition(void **state)
{
    (void)state;
    method_check check = {.method = "performer",
                          .options = {"features=70"},
                          .label = "performer features=70",
                          .definition = specified,
                          .lengths = {31, 33, 300}};
    method_report(&check);
    check.label = "performer published";
    check.options[1] = "variant=published";
    check.definition = published;
    method_report(&check);
    check.lengths[0] = 1, check.lengths[1] = 0;
    check.gradient_tolerance = 1e-4;
    check.label = "performer published, n = 1";
    method_report(&check);
    check.options[1] = NULL;
    check.definition = specified;
    check.label = "performer, n = 1";
    method_report(&check);
    method_report(&(method_check){.method = "performer",
                                  .definition = specified,
                                  .lengths = {512},
                                  .without_gradient = true,
                                  .shape = {.heads = 1}});
}

// ---- The draw -------------------------------------------------------------------------------

static void test_orthogonal(void **state)
{
    (void)state;
    enum { D = 24, COUNT = 60 };
    float w[COUNT * D], again[COUNT * D];
    mra_error err;
    assert_int_equal(mra_features_draw(w, COUNT, D, true, dense_seed(), 3, &err), MRA_OK);
    assert_int_equal(mra_features_draw(again, COUNT, D, true, dense_seed(), 3, &err), MRA_OK);
    assert_memory_equal(w, again, sizeof w);
    assert_int_equal(mra_features_draw(again, COUNT, D, true, dense_seed(), 4, &err), MRA_OK);
    assert_memory_not_equal(w, again, sizeof w);
    for (int a = 0; a < COUNT; a++)
        for (int b = a / D * D; b < a; b++) {
            double inner = 0, first = 0, second = 0;
            for (int c = 0; c < D; c++) {
                inner += (double)w[a * D + c] * w[b * D + c];
                first += pow(w[a * D + c], 2);
                second += pow(w[b * D + c], 2);
            }
            assert_true(fabs(inner) <= 1e-6 * sqrt(first * second));
        }
}

// Sample mean and variance of the estimate of E exp(<w, u>) = exp(|u|^2 / 2) from D directions, and
// the fourth central moment.
typedef struct moments {
    double mean, variance, fourth;
    int count;
} moments;

enum { STAT_D = 8 };

static moments sample(bool orthogonal, int draws, const double *u)
{
    double *value = malloc(sizeof *value * (size_t)draws);
    moments result = {.count = draws};
    for (int t = 0; t < draws; t++) {
        float w[STAT_D * STAT_D];
        mra_error err;
        assert_int_equal(
            mra_features_draw(w, STAT_D, STAT_D, orthogonal, dense_seed(), (uint64_t)t, &err),
            MRA_OK);
        value[t] = 0;
        for (int r = 0; r < STAT_D; r++) {
            double inner = 0;
            for (int c = 0; c < STAT_D; c++) inner += w[r * STAT_D + c] * u[c];
            value[t] += exp(inner) / STAT_D;
        }
        result.mean += value[t] / draws;
    }
    for (int t = 0; t < draws; t++) {
        result.variance += pow(value[t] - result.mean, 2) / draws;
        result.fourth += pow(value[t] - result.mean, 4) / draws;
    }
    free(value);
    return result;
}

// Standard scores of mean and variance against their expectations.
static void scores(const moments *m, double mean, double variance, double score[2])
{
    score[0] = (m->mean - mean) / sqrt(m->variance / m->count);
    score[1] = (m->variance - variance) / sqrt((m->fourth - pow(m->variance, 2)) / m->count);
}

// With v = |u|^2, one direction has mean e^(v/2) and variance e^(2v) - e^v. Two orthogonal ones add up
// to an isotropic vector whose squared length is chi-squared with 2d degrees of freedom, so
// E exp(<w_1 + w_2, u>) = sum_k (v/2)^k (d)_k / (k! (d/2)_k), rising factorials, where independent
// ones have e^v; the covariance is the difference to e^v, and negative. |z| > 5 in any of the four
// scores has probability 4 * 5.7e-7 (normal approximation, 60000 draws).
static void test_unbiased_and_variance(void **state)
{
    (void)state;
    const int draws = getenv("MRA_SANITIZED") ? 5000 : 60000;
    const double v = 0.5;
    double u[STAT_D], length = 0, pair = 0, term = 1;
    mra_random random = mra_random_open(dense_seed(), 7);
    for (int c = 0; c < STAT_D; c++) {
        u[c] = mra_random_normal(&random);
        length += u[c] * u[c];
    }
    for (int c = 0; c < STAT_D; c++) u[c] *= sqrt(v / length);
    for (int k = 0; k < 40; k++) {
        pair += term;
        term *= v / 2 * (STAT_D + k) / ((k + 1) * (STAT_D / 2.0 + k));
    }
    const double one = exp(2 * v) - exp(v), covariance = pair - exp(v);
    const moments independent = sample(false, draws, u), orthogonal = sample(true, draws, u);
    double score[4];
    scores(&independent, exp(v / 2), one / STAT_D, score);
    scores(&orthogonal, exp(v / 2), (one + (STAT_D - 1) * covariance) / STAT_D, score + 2);
    printf("# kernel estimate, %d draws: independent z = %.2f, variance %.5f (theory %.5f, "
           "z = %.2f); orthogonal z = %.2f, variance %.5f (theory %.5f, z = %.2f)\n",
           draws, score[0], independent.variance, one / STAT_D, score[1], score[2],
           orthogonal.variance, (one + (STAT_D - 1) * covariance) / STAT_D, score[3]);
    assert_true(covariance < 0);
    for (int i = 0; i < 4; i++) assert_true(fabs(score[i]) < 5);
    if (draws > 50000) assert_true(orthogonal.variance < independent.variance);
}

// ---- The maps on the tape -------------------------------------------------------------------

// exp(log_scale_i) <query_i, key_j> is the mean over r of exp(<w_r, x + y> - |x|^2/2 - |y|^2/2).
static void test_estimate(void **state)
{
    (void)state;
    enum { N = 9, D = 6, M = 14 };
    static const uint8_t mask[N] = {1, 1, 0, 1, 1, 1, 1, 0, 0};
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    mra_feature_set set;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    const double scale = pow(D, -0.25);
    assert_int_equal(mra_feature_set_create(&set, device, M, D, (float)scale, 5, &err), MRA_OK);
    float *q = dense_normal(N * D, 2, 21), *k = dense_normal(N * D, 2, 22);
    const int shape[4] = {1, 1, N, D};
    const mra_feature_maps maps =
        mra_features_softmax(tape, set.scaled, mra_wrap(tape, 4, shape, q, NULL),
                             mra_wrap(tape, 4, shape, k, NULL), mask);
    assert_non_null(maps.query);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double want = 0, have = 0;
            for (int r = 0; r < M; r++) {
                double exponent = 0;
                for (int c = 0; c < D; c++) {
                    const double x = scale * q[i * D + c], y = scale * k[j * D + c];
                    exponent += set.matrix[r * D + c] * (x + y) - x * x / 2 - y * y / 2;
                }
                want += exp(exponent) / M;
                have += (double)maps.query->data[i * M + r] * maps.key->data[j * M + r];
            }
            have *= exp((double)maps.log_scale->data[i]);
            if (!mask[i] || !mask[j])
                assert_true(have == 0);
            else if (fabs(have - want) > 2e-5 * want)
                fail_msg("kernel %d, %d: %.9g, expected %.9g", i, j, have, want);
        }
    mra_aligned_free(q);
    mra_aligned_free(k);
    mra_feature_set_free(&set, device);
    mra_tape_free(tape);
    mra_device_close(device);
}

// ---- Extremes and masks ---------------------------------------------------------------------

static void run(const char *const *options, int count, dense_arrays *a)
{
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    mra_attention_layer *layer;
    assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    assert_int_equal(mra_attention_layer_create(&layer, "performer", device, a->shape, 1,
                                                options, count, &err),
                     MRA_OK);
    if (mra_attention_run(layer, tape, a->x[DENSE_Q], a->x[DENSE_K], a->x[DENSE_V], a->mask,
                          a->x[DENSE_Z], a->x[DENSE_DZ], a->x[DENSE_DQ], a->x[DENSE_DK],
                          a->x[DENSE_DV], &err) != MRA_OK)
        fail_msg("%s", err.message);
    mra_attention_layer_free(layer);
    mra_tape_free(tape);
    mra_device_close(device);
}

// Queries and keys so long that logits reach +-1e4: everything stays finite, and values of 1 give
// 1, because no divisor underflows.
static void test_extreme(void **state)
{
    (void)state;
    static const char *const options[2][2] = {{"features=64", "variant=specified"},
                                              {"features=64", "variant=published"}};
    for (int turn = 0; turn < 2; turn++) {
        dense_arrays a = dense_make((mra_shape){1, 1, 70, 16}, 60, turn == 1);
        for (size_t i = 0; i < dense_size(a.shape); i++) a.x[DENSE_V][i] = 1;
        run(options[turn], 2, &a);
        for (int j = DENSE_Z; j < DENSE_ARRAYS; j++)
            for (size_t i = 0; i < dense_size(a.shape); i++) assert_true(isfinite(a.x[j][i]));
        for (size_t i = 0; i < dense_size(a.shape) && turn == 0; i++)
            assert_true(fabsf(a.x[DENSE_Z][i] - 1) < 1e-5f);
        dense_release(&a);
    }
}

// A masked tail is as if it were not there, whatever it holds; a head with no token gives 0.
static void test_mask_is_deletion(void **state)
{
    (void)state;
    enum { LONG = 45, SHORT = 33, D = 32 };
    static const char *const options[] = {"features=40"};
    dense_arrays whole = dense_make((mra_shape){1, 1, LONG, D}, 1, false);
    dense_arrays part = dense_make((mra_shape){1, 1, SHORT, D}, 1, false);
    whole.mask = calloc(LONG, 1);
    memset(whole.mask, 1, SHORT);
    for (int i = 0; i < DENSE_Z; i++) memcpy(part.x[i], whole.x[i], SHORT * D * sizeof(float));
    for (int i = SHORT * D; i < LONG * D; i++) {
        whole.x[DENSE_K][i] *= 1e3f;
        whole.x[DENSE_V][i] = NAN;
    }
    run(options, 1, &whole);
    run(options, 1, &part);
    for (int j = DENSE_Z; j < DENSE_ARRAYS; j++) {
        double want[SHORT * D];
        for (int i = 0; i < SHORT * D; i++) want[i] = part.x[j][i];
        assert_close(whole.x[j], want, SHORT * D, 1e-6);
        for (int i = SHORT * D; i < LONG * D; i++) assert_true(whole.x[j][i] == 0);
    }
    memset(whole.mask, 0, LONG);
    run(options, 1, &whole);
    for (int j = DENSE_Z; j < DENSE_ARRAYS; j++)
        for (int i = 0; i < LONG * D; i++) assert_true(whole.x[j][i] == 0);
    dense_release(&whole);
    dense_release(&part);
}

// ---- Redrawing ------------------------------------------------------------------------------

static void test_redraw(void **state)
{
    (void)state;
    static const char *const every_two[] = {"features=8", "redraw=2"};
    static const char *const as_published[] = {"features=8", "variant=published"};
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    float x[4 * 8] = {0};
    for (int turn = 0; turn < 2; turn++) {
        mra_attention_layer *layer;
        assert_int_equal(mra_attention_layer_create(&layer, "performer", device,
                                                    (mra_shape){1, 1, 4, 8}, 1,
                                                    turn ? as_published : every_two, 2, &err),
                         MRA_OK);
        // At training steps 1 .. 4, and then outside of training.
        const uint64_t want[2][5] = {{0, 1, 1, 2, 0}, {1, 2, 3, 4, 0}};
        for (uint64_t step = 1; step <= 5; step++) {
            mra_tape_reset(tape);
            mra_tape_mode(tape, step < 5, false, 9, step);
            mra_tensor *t = mra_wrap(tape, 4, (int[]){1, 1, 4, 8}, x, NULL);
            assert_non_null(mra_attention_apply(layer, tape, t, t, t, NULL));
            float expected[64];
            int count;
            assert_int_equal(
                mra_features_draw(expected, 8, 8, true, 1, want[turn][step - 1], &err), MRA_OK);
            assert_memory_equal(matrix_of(layer, &count), expected, sizeof expected);
        }
        mra_attention_layer_free(layer);
    }
    mra_tape_free(tape);
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_definition),
                                       cmocka_unit_test(test_orthogonal),
                                       cmocka_unit_test(test_unbiased_and_variance),
                                       cmocka_unit_test(test_estimate),
                                       cmocka_unit_test(test_extreme),
                                       cmocka_unit_test(test_mask_is_deletion),
                                       cmocka_unit_test(test_redraw)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
