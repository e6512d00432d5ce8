// SOFT against its definition: learned landmarks from windows, a Gaussian kernel, Newton's iteration in float64.

#include "low_rank.h"

#include "attention/measure.h"

static double option_of(const method_case *c, const char *name)
{
    return mra_layer_option(c->layer, name)->number;
}

// One landmark: GELU(LayerNorm(W window)).
static void landmark(const method_case *c, const double *q, int s, int r, double *out)
{
    const float *w = c->layer->parameter[0]->data, *gain = c->layer->parameter[1]->data;
    const float *shift = c->layer->parameter[2]->data;
    const int d = c->d;
    double mean = 0, variance = 0;
    for (int o = 0; o < d; o++) {
        out[o] = 0;
        for (int t = 0; t < r && s * r + t < c->n; t++)
            for (int i = 0; i < d; i++)
                out[o] += w[(o * r + t) * d + i] * q[(s * r + t) * d + i];
        mean += out[o] / d;
    }
    for (int o = 0; o < d; o++) variance += pow(out[o] - mean, 2) / d;
    for (int o = 0; o < d; o++) {
        const double y = (out[o] - mean) / sqrt(variance + 1e-5f) * gain[o] + shift[o];
        out[o] = y * 0.5 * erfc(-y / sqrt(2));
    }
}

static double *gaussian(const double *a, const double *b, int n, int m, int d)
{
    double *y = low_rank_zeros(n, m);
    for (int i = 0; i < n * m; i++) {
        double sum = 0;
        for (int e = 0; e < d; e++) sum += pow(a[i / m * d + e] - b[i % m * d + e], 2);
        y[i] = exp(-sum / 2);
    }
    return y;
}

static double distance_from_identity(const double *p, const double *z, int m)
{
    double most = 0, *pz = low_rank_product(p, z, m, m, m, false);
    for (int j = 0; j < m; j++) {
        double sum = 0;
        for (int i = 0; i < m; i++) sum += fabs((i == j) - pz[i * m + j]);
        most = fmax(most, sum);
    }
    free(pz);
    return most;
}

static double *newton(const double *p, int m, int steps, bool published)
{
    double rows = 0, *z = low_rank_zeros(m, m);
    for (int i = 0; i < m; i++) {
        double sum = 0;
        for (int j = 0; j < m; j++) sum += p[i * m + j];
        rows = fmax(rows, sum);
    }
    double alpha = (published ? 2 : 1) / (rows * rows);
    for (int k = 0; k <= 10; k++, alpha /= 2) {
        for (int i = 0; i < m * m; i++) z[i] = alpha * p[i];
        if (!published || distance_from_identity(p, z, m) <= 1.01) break;
    }
    for (int k = 0; k < steps; k++) {
        double *zp = low_rank_product(z, p, m, m, m, false);
        double *zpz = low_rank_product(zp, z, m, m, m, false);
        bool bounded = true;
        for (int i = 0; i < m * m; i++) {
            zpz[i] = 2 * z[i] - zpz[i];
            bounded = bounded && fabs(zpz[i]) <= 1e4;
        }
        if (bounded) memcpy(z, zpz, sizeof *z * (size_t)(m * m));
        free(zp);
        free(zpz);
        if (!bounded) break;
    }
    return z;
}

static void definition(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d, wanted = (int)option_of(c, "landmarks");
    const int r = (c->layer->positions + wanted - 1) / wanted, m = (n + r - 1) / r;
    const bool published = option_of(c, "variant") == 1;
    uint8_t *keep = calloc(1, (size_t)m);
    double *q = low_rank_zeros(n, d), *centre = low_rank_zeros(m, d);
    for (int i = 0; i < n * d; i++) {
        const bool token = !c->mask || c->mask[i / d];
        q[i] = token ? x[0][i] / sqrt(sqrt(d)) : 0;
        keep[i / d / r] |= token || published;
    }
    for (int s = 0; s < m; s++) landmark(c, q, s, r, centre + s * d);
    double *outer = gaussian(q, centre, n, m, d), *inner = gaussian(centre, centre, m, m, d);
    for (int i = 0; i < n * m; i++)
        if (!keep[i % m] || (c->mask && !c->mask[i / m])) outer[i] = 0;
    for (int i = 0; i < m * m; i++)
        if (!keep[i / m] || !keep[i % m]) inner[i] = i / m == i % m;
    double *inverse = newton(inner, m, (int)option_of(c, "iterations"), published);
    double *turned = low_rank_zeros(m, n);
    for (int i = 0; i < n * m; i++) turned[i % m * n + i / m] = outer[i];
    double *values = low_rank_product(turned, x[2], m, n, d, false);
    double *mixed = low_rank_product(inverse, values, m, m, d, false);
    double *result = low_rank_product(outer, mixed, n, m, d, false);
    memcpy(z, result, sizeof *z * (size_t)(n * d));
    low_rank_convolve(c, c->layer->parameters > 3 ? c->layer->parameter[3] : NULL, x[2], z);
    double *const all[] = {q, centre, outer, inner, inverse, turned, values, mixed, result};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    free(keep);
}

static void test_soft(void **state)
{
    (void)state;
    // A Gaussian's relative error is the squared distance times that of the points: at d = 64 queries and
    // landmarks are about 6 apart, 36 units of rounding, and the gradient has the kernel twice. The
    // kernels for a GPU, whose LayerNorm is float32 throughout, have been seen at 1.3e-5.
    method_report(
        &(method_check){.method = "soft", .definition = definition, .kernel_factor = 3});
    method_report(&(method_check){.method = "soft-conv",
                                  .options = {"landmarks=8", "conv=7"},
                                  .definition = definition,
                                  .shape = {.batch = 2}});
    method_report(&(method_check){.method = "soft",
                                  .options = {"landmarks=8", "variant=published"},
                                  .label = "soft published",
                                  .definition = definition,
                                  .lengths = {64, 200},
                                  .shape = {.batch = 1, .heads = 1, .d = 8}}); // near landmarks
}

static void test_padding(void **state)
{
    (void)state;
    method_padding(&(method_check){.method = "soft", .options = {"landmarks=16"}}, 100, 71);
    method_padding(&(method_check){.method = "soft-conv", .options = {"landmarks=16"}}, 100, 9);
}

// Keys are not used, and their gradient is 0.
static void test_keys(void **state)
{
    (void)state;
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    mra_attention_layer *layer;
    const mra_shape shape = {1, 2, 65, 16};
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    assert_int_equal(
        mra_attention_layer_create(&layer, "soft", device, shape, 1, NULL, 0, &err), MRA_OK);
    dense_arrays a = dense_make(shape, 1.0f, false);
    a.x[DENSE_K][5] = 1e30f;
    assert_int_equal(mra_attention_run(layer, tape, a.x[DENSE_Q], a.x[DENSE_K], a.x[DENSE_V],
                                       NULL, a.x[DENSE_Z], a.x[DENSE_DZ], a.x[DENSE_DQ],
                                       a.x[DENSE_DK], a.x[DENSE_DV], &err),
                     MRA_OK);
    for (int i = 0; i < 2 * 65 * 16; i++) {
        assert_true(isfinite(a.x[DENSE_Z][i]));
        assert_true(a.x[DENSE_DK][i] == 0);
    }
    dense_release(&a);
    mra_attention_layer_free(layer);
    mra_tape_free(tape);
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_soft),
                                       cmocka_unit_test(test_padding),
                                       cmocka_unit_test(test_keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
