// ScatterBrain against its definition with the features that it drew: exact weights in the window,
// <phi(q), phi(k)> outside, one normaliser. And the estimate against the softmax kernel: its mean
// over many draws. And the variant that is published, against its steps one by one.

#include "method_case.h"

enum { OPTION_WINDOW, OPTION_FEATURES, OPTION_VARIANT };

static const float *directions(const mra_attention_layer *layer, int *count)
{
    mra_method_array array[MRA_METHOD_ARRAYS];
    assert_int_equal(layer->method->drawn(layer, array), 1);
    assert_string_equal(array[0].name, "features");
    assert_int_equal(array[0].shape[1], layer->shape.d);
    *count = array[0].shape[0];
    return array[0].floats;
}

// phi[n][count]
static double *features(const mra_attention_layer *layer, const double *x, int n, int *count)
{
    const int d = layer->shape.d;
    const double root = sqrt(d), scale = pow(d, 0.25);
    const float *w = directions(layer, count);
    double *phi = malloc(sizeof *phi * (size_t)n * (size_t)*count);
    for (int i = 0; i < n; i++) {
        double squares = 0;
        for (int c = 0; c < d; c++) squares += x[i * d + c] * x[i * d + c] / root;
        for (int r = 0; r < *count; r++) {
            double dot = 0;
            for (int c = 0; c < d; c++) dot += (double)w[r * d + c] * x[i * d + c] / scale;
            phi[i * *count + r] = exp(dot - squares / 2) / sqrt(*count);
        }
    }
    return phi;
}

static double weight_of(const method_case *c, double *const x[3], const double *phi_q,
                        const double *phi_k, int count, int i, int j)
{
    const int window = (int)c->layer->option[OPTION_WINDOW].number, d = c->d;
    double dot = 0;
    if (2 * abs(i - j) <= window) {
        for (int k = 0; k < d; k++) dot += x[0][i * d + k] * x[1][j * d + k];
        return exp(dot / sqrt(d));
    }
    for (int r = 0; r < count; r++) dot += phi_q[i * count + r] * phi_k[j * count + r];
    return dot;
}

static void definition(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d;
    int count;
    double *phi_q = features(c->layer, x[0], n, &count);
    double *phi_k = features(c->layer, x[1], n, &count);
    memset(z, 0, sizeof *z * (size_t)(n * d));
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int j = 0; j < n; j++) {
            if (c->mask && (!c->mask[i] || !c->mask[j])) continue;
            const double weight = weight_of(c, x, phi_q, phi_k, count, i, j);
            sum += weight;
            for (int k = 0; k < d; k++) z[i * d + k] += weight * x[2][j * d + k];
        }
        for (int k = 0; k < d && sum > 0; k++) z[i * d + k] /= sum;
    }
    free(phi_q);
    free(phi_k);
}

static void test_definition(void **state)
{
    (void)state;
    method_report(&(method_check){
        .method = "scatterbrain", .definition = definition, .lengths = {1, 31, 33, 200, 301}});
}

static void test_options(void **state)
{
    (void)state;
    static const char *const set[][2] = {
        {"window=0", "features=32"}, {"window=7", "features=1"}, {"window=130", "features=17"}};
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        method_report(&(method_check){.method = "scatterbrain",
                                      .label = set[i][0],
                                      .options = {set[i][0], set[i][1]},
                                      .definition = definition,
                                      .lengths = {1, 2, 33, 150, 257},
                                      .shape = {.batch = 2, .heads = 1}});
}

static void exact_definition(const method_case *c, double *const x[3], double *z)
{
    dense_head(c->n, c->d, x, c->mask, z, NULL, NULL, NULL);
}

// A window that covers all is exact attention, whatever the features are.
static void test_all_within_the_window(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "scatterbrain",
                                  .label = "scatterbrain, all within",
                                  .options = {"window=600"},
                                  .definition = exact_definition,
                                  .lengths = {1, 33, 290}});
}

typedef struct run_arrays {
    mra_device *device;
    mra_tape *tape;
    dense_arrays a;
} run_arrays;

static run_arrays open_run(mra_shape shape, float deviation)
{
    run_arrays run;
    mra_error err;
    mra_blas_single_thread();
    assert_int_equal(mra_device_open(&run.device, "cpu", 2, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&run.tape, run.device, &err), MRA_OK);
    run.a = dense_make(shape, deviation, false);
    return run;
}

static void close_run(run_arrays *run)
{
    dense_release(&run->a);
    mra_tape_free(run->tape);
    mra_device_close(run->device);
}

static void run_with(run_arrays *run, uint64_t seed, const uint8_t *mask,
                     const char *const *options, int count)
{
    mra_attention_layer *layer;
    mra_error err;
    float **x = run->a.x;
    assert_int_equal(mra_attention_layer_create(&layer, "scatterbrain", run->device,
                                                run->a.shape, seed, options, count, &err),
                     MRA_OK);
    assert_int_equal(mra_attention_run(layer, run->tape, x[DENSE_Q], x[DENSE_K], x[DENSE_V],
                                       mask, x[DENSE_Z], x[DENSE_DZ], x[DENSE_DQ], x[DENSE_DK],
                                       x[DENSE_DV], &err),
                     MRA_OK);
    mra_attention_layer_free(layer);
}

// Large logits: finite, and rows with all their keys in the window do not notice.
static void test_extreme_logits(void **state)
{
    (void)state;
    run_arrays run = open_run((mra_shape){1, 1, 150, 32}, 45.0f);
    run_with(&run, 3, NULL, NULL, 0);
    for (int i = DENSE_Z; i < DENSE_ARRAYS; i++)
        for (int e = 0; e < 150 * 32; e++) assert_true(isfinite(run.a.x[i][e]));
    close_run(&run);
}

// Masking the tail is leaving it out: the features do not depend on the length.
static void test_padding_is_deletion(void **state)
{
    (void)state;
    enum { LONG = 211, SHORT = 150, D = 16 };
    run_arrays run[2] = {open_run((mra_shape){1, 1, LONG, D}, 1.0f),
                         open_run((mra_shape){1, 1, SHORT, D}, 1.0f)};
    uint8_t mask[LONG] = {0};
    memset(mask, 1, SHORT);
    for (int j = 0; j < 4; j++) memcpy(run[1].a.x[j], run[0].a.x[j], sizeof(float) * SHORT * D);
    for (int i = 0; i < 2; i++) run_with(&run[i], 7, i ? NULL : mask, NULL, 0);
    for (int j = DENSE_Z; j < DENSE_ARRAYS; j++) {
        double *want = dense_copy(run[1].a.x[j], SHORT * D);
        assert_close(run[0].a.x[j], want, SHORT * D, 5e-6);
        for (int e = SHORT * D; e < LONG * D; e++) assert_true(run[0].a.x[j][e] == 0);
        free(want);
    }
    close_run(&run[0]);
    close_run(&run[1]);
}

// The features estimate exp(<q, k>/sqrt d) without bias: the mean over 4000 draws, with q and k
// of length d^(1/4), within 5.5 standard errors of each of 6 pairs (a false alarm in 2e-7).
static void test_unbiased(void **state)
{
    (void)state;
    enum { DRAWS = 4000, D = 8, PAIRS = 6 };
    run_arrays run = open_run((mra_shape){1, 1, PAIRS, D}, 0.6f);
    double sum[PAIRS] = {0}, squares[PAIRS] = {0};
    double *q = dense_copy(run.a.x[DENSE_Q], PAIRS * D),
           *k = dense_copy(run.a.x[DENSE_K], PAIRS * D);
    for (int draw = 0; draw < DRAWS; draw++) {
        mra_attention_layer *layer;
        mra_error err;
        int count;
        assert_int_equal(mra_attention_layer_create(&layer, "scatterbrain", run.device,
                                                    run.a.shape, dense_seed() + (uint64_t)draw,
                                                    NULL, 0, &err),
                         MRA_OK);
        double *phi_q = features(layer, q, PAIRS, &count),
               *phi_k = features(layer, k, PAIRS, &count);
        for (int i = 0; i < PAIRS; i++) {
            double estimate = 0;
            for (int r = 0; r < count; r++)
                estimate += phi_q[i * count + r] * phi_k[i * count + r];
            sum[i] += estimate;
            squares[i] += estimate * estimate;
        }
        free(phi_q);
        free(phi_k);
        mra_attention_layer_free(layer);
    }
    for (int i = 0; i < PAIRS; i++) {
        double dot = 0;
        for (int c = 0; c < D; c++) dot += q[i * D + c] * k[i * D + c];
        const double mean = sum[i] / DRAWS, variance = squares[i] / DRAWS - mean * mean;
        assert_true(fabs(mean - exp(dot / sqrt(D))) <= 5.5 * sqrt(variance / DRAWS));
    }
    free(q);
    free(k);
    close_run(&run);
}

// ---- As published ---------------------------------------------------------------------------

// Features relative to the largest of their row (queries) or to `all` (keys, 0 where masked), and
// the logarithms of the factors that this takes out.
static void scaled_features(const method_case *c, const double *x, bool of_queries, double *y,
                            double *log_scale)
{
    const int n = c->n, d = c->d;
    const double root = sqrt(d), scale = pow(d, 0.25);
    int m;
    const float *w = directions(c->layer, &m);
    double all = -INFINITY;
    for (int i = 0; i < n; i++) {
        double square = 0, largest = -INFINITY;
        for (int k = 0; k < d; k++) square += x[i * d + k] * x[i * d + k] / root;
        for (int r = 0; r < m; r++) {
            double *own = y + i * m + r;
            *own = 0;
            for (int k = 0; k < d; k++) *own += w[r * d + k] * x[i * d + k] / scale;
            largest = fmax(largest, *own);
            if (!of_queries) *own -= square / 2 + log(m) / 2;
            all = fmax(all, *own);
        }
        if (!of_queries) continue;
        for (int r = 0; r < m; r++) y[i * m + r] = exp(y[i * m + r] - largest);
        log_scale[i] = largest - square / 2 - log(m) / 2;
    }
    if (of_queries) return;
    *log_scale = all; // padding included
    for (int e = 0; e < n * m; e++) y[e] = c->mask && !c->mask[e / m] ? 0 : exp(y[e] - all);
}

// Row i: log-sum-exp of the window's logits, sums over all pairs less those of the window, joined.
static void published_row(const method_case *c, double *const x[3], const double *phi_q,
                          const double *phi_k, double log_scale, int i, double *z)
{
    const int n = c->n, d = c->d, window = (int)c->layer->option[OPTION_WINDOW].number;
    int m;
    directions(c->layer, &m);
    double *logit = malloc(sizeof *logit * (size_t)n), *near = malloc(sizeof *near * (size_t)n);
    double *pair = malloc(sizeof *pair * (size_t)n);
    double most = -1e24, sum = 0, near_sum = 0, all_sum = 0;
    for (int j = 0; j < n; j++) {
        const bool there = j >= i - window / 2 && j < i - window / 2 + window;
        double dot = 0;
        logit[j] = -1e24;
        for (int r = 0; r < m; r++) dot += phi_q[i * m + r] * phi_k[j * m + r];
        pair[j] = dot;
        near[j] = there ? dot : 0;
        all_sum += dot;
        near_sum += near[j];
        if (!there || (c->mask && !c->mask[j])) continue;
        logit[j] = 0;
        for (int k = 0; k < d; k++) logit[j] += x[0][i * d + k] * x[1][j * d + k] / sqrt(d);
        most = fmax(most, logit[j]);
    }
    for (int j = 0; j < n; j++) sum += exp(logit[j] - most);
    const double inside = most + log(sum),
                 outside = log(fmax(all_sum - near_sum, 1e-24)) + log_scale;
    const double larger = fmax(inside, outside);
    const double whole = larger + log(exp(inside - larger) + exp(outside - larger));
    const double scale = exp(log_scale - whole);
    for (int j = 0; j < n; j++) {
        const double weight = exp(logit[j] - whole) - near[j] * scale + pair[j] * scale;
        for (int k = 0; k < d; k++) z[i * d + k] += weight * x[2][j * d + k];
    }
    free(logit);
    free(near);
    free(pair);
}

static void published_definition(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n;
    int m;
    directions(c->layer, &m);
    double *phi_q = malloc(sizeof *phi_q * (size_t)(n * m)), all;
    double *phi_k = malloc(sizeof *phi_k * (size_t)(n * m));
    double *log_scale = malloc(sizeof *log_scale * (size_t)n);
    scaled_features(c, x[0], true, phi_q, log_scale);
    scaled_features(c, x[1], false, phi_k, &all);
    memset(z, 0, sizeof *z * (size_t)(n * c->d));
    for (int i = 0; i < n; i++)
        if (!c->mask || c->mask[i]) published_row(c, x, phi_q, phi_k, log_scale[i] + all, i, z);
    free(phi_q);
    free(phi_k);
    free(log_scale);
}

// Windows even and odd, of one key, and of more keys than there are, where the subtraction leaves
// nothing but rounding. At a deviation of 1 what cancels outweighs what is left, and float32 differs
// from the definition by 2e-5: that is the method, so inputs are smaller here.
static void test_published(void **state)
{
    (void)state;
    static const char *const set[][2] = {{"window=64", "features=0"},
                                         {"window=1", "features=17"},
                                         {"window=2", "features=32"},
                                         {"window=7", "features=1"},
                                         {"window=130", "features=40"}};
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++) {
        char label[60];
        snprintf(label, sizeof label, "scatterbrain, pub., %s", set[i][0]);
        method_report(
            &(method_check){.method = "scatterbrain",
                            .label = label,
                            .options = {set[i][0], set[i][1], "variant=published"},
                            .definition = published_definition,
                            .deviation = 0.25,
                            .gradient_tolerance = 5e-5, // dQ is a difference of sums
                            .lengths = {i == 1 ? 1 : 2, 33, i % 2 ? 150 : 257},
                            .shape = {.batch = i == 3 ? 2 : 1, .heads = i == 3 ? 1 : 2}});
    }
}

// Where the one scale and the least value show: a masked key of zeros has the largest features by
// far, those of long keys sum to less than 1e-24 of them; and each token's own key, all that its
// window holds, is opposite to its query.
static void test_published_scale(void **state)
{
    (void)state;
    enum { N = 12, D = 32 };
    run_arrays run = open_run((mra_shape){1, 1, N, D}, 6.0f);
    uint8_t mask[N];
    const char *const options[] = {"variant=published", "window=1"};
    mra_attention_layer *layer;
    mra_error err;
    double *x[3], z[N * D];
    memset(mask, 1, N);
    mask[N - 1] = 0;
    for (int e = 0; e < N * D; e++) {
        run.a.x[DENSE_Q][e] = -2 * run.a.x[DENSE_K][e];
        if (e / D == N - 1) run.a.x[DENSE_K][e] = 0;
    }
    run_with(&run, 5, mask, options, 2);
    assert_int_equal(mra_attention_layer_create(&layer, "scatterbrain", run.device, run.a.shape,
                                                5, options, 2, &err),
                     MRA_OK);
    const method_case c = {.layer = layer, .n = N, .d = D, .mask = mask};
    for (int i = 0; i < 3; i++) x[i] = dense_copy(run.a.x[DENSE_Q + i], N * D);
    published_definition(&c, x, z);
    assert_close(run.a.x[DENSE_Z], z, N * D, 1e-3);
    for (int i = 0; i < 3; i++) free(x[i]);
    mra_attention_layer_free(layer);
    close_run(&run);
}

static void test_published_padding(void **state)
{
    (void)state;
    method_padding(&(method_check){.method = "scatterbrain",
                                   .options = {"variant=published", "window=16"}},
                   200, 133);
}

static void test_published_options(void **state)
{
    (void)state;
    mra_device *device;
    mra_attention_layer *layer;
    mra_error err;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    const mra_shape shape = {1, 1, 20, 32};
    const char *const none[] = {"variant=published", "window=0"};
    assert_int_equal(
        mra_attention_layer_create(&layer, "scatterbrain", device, shape, 1, none, 2, &err),
        MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "scatterbrain: window=0"));
    for (int published = 0; published < 2; published++) {
        const char *const odd[] = {"features=17",
                                   published ? "variant=published" : "variant=specified"};
        int count;
        assert_int_equal(
            mra_attention_layer_create(&layer, "scatterbrain", device, shape, 1, odd, 2, &err),
            MRA_OK);
        directions(layer, &count);
        assert_int_equal(count, published ? 16 : 18);
        mra_attention_layer_free(layer);
    }
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_published_scale),
        cmocka_unit_test(test_published_padding),
        cmocka_unit_test(test_published_options),
        cmocka_unit_test(test_all_within_the_window),
        cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_padding_is_deletion),
        cmocka_unit_test(test_unbiased),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
