// Nyströmformer against its definition: segments counted over the tokens that are there, three softmax matrices, six steps of
// the pseudo-inverse in float64.

#include "low_rank.h"

#include "attention/measure.h"
#include "attention/pseudo_inverse.h"

static double option_of(const method_case *c, const char *name)
{
    return mra_layer_option(c->layer, name)->number;
}

// The tokens of segment s of m, as the description says: from floor(s T / m) to floor((s + 1) T / m).
static double *means(const method_case *c, const double *x, int m, uint8_t *keep)
{
    double *mean = low_rank_zeros(m, c->d);
    const bool published = option_of(c, "variant") == 1;
    int tokens = 0;
    for (int i = 0; i < c->n; i++) tokens += !c->mask || c->mask[i];
    for (int s = 0; s < m; s++) {
        const int first = s * tokens / m, end = (s + 1) * tokens / m;
        int seen = 0, count = published ? c->n / m : end - first;
        keep[s] = count > 0;
        for (int i = 0; i < c->n; i++) {
            const bool token = !c->mask || c->mask[i];
            const bool inside =
                published ? i / (c->n / m) == s : token && seen >= first && seen < end;
            for (int e = 0; e < c->d && inside && token; e++)
                mean[s * c->d + e] += x[i * c->d + e] / count;
            seen += token;
        }
    }
    return mean;
}

static double *subtract_from(double factor, double *x, int m)
{
    for (int i = 0; i < m * m; i++) x[i] = (i / m == i % m ? factor : 0) - x[i];
    return x;
}

// The iteration as it stands in the paper.
static double *pseudo_inverse(const double *a, int m, int steps)
{
    double rows = 0, columns = 0, *z = low_rank_zeros(m, m);
    for (int i = 0; i < m; i++) {
        double row = 0, column = 0;
        for (int j = 0; j < m; j++) row += fabs(a[i * m + j]), column += fabs(a[j * m + i]);
        rows = fmax(rows, row);
        columns = fmax(columns, column);
    }
    for (int i = 0; i < m * m; i++) z[i] = a[i % m * m + i / m] / (rows * columns);
    for (int k = 0; k < steps; k++) {
        double *az = low_rank_product(a, z, m, m, m, false), *inner = low_rank_zeros(m, m);
        memcpy(inner, az, sizeof *az * (size_t)(m * m));
        subtract_from(7, inner, m);
        for (int factor = 15; factor >= 13; factor -= 2) {
            double *next = low_rank_product(az, inner, m, m, m, false);
            free(inner);
            inner = subtract_from(factor, next, m);
        }
        double *next = low_rank_product(z, inner, m, m, m, false);
        for (int i = 0; i < m * m; i++) next[i] /= 4;
        free(z);
        free(az);
        free(inner);
        z = next;
    }
    return z;
}

static void definition(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d, wanted = (int)option_of(c, "landmarks");
    const int m = wanted < n ? wanted : n;
    const bool published = option_of(c, "variant") == 1;
    if (published && m == n) {
        dense_head(n, d, x, c->mask, z, NULL, NULL, NULL);
        low_rank_convolve(c, c->layer->parameter[0], x[2], z);
        return;
    }
    uint8_t *keep = calloc(1, (size_t)m);
    double *q = low_rank_zeros(n, d), *k = low_rank_zeros(n, d);
    for (int i = 0; i < n * d; i++) {
        const bool token = !c->mask || c->mask[i / d];
        q[i] = token ? x[0][i] / sqrt(d) : 0;
        k[i] = token ? x[1][i] : 0;
    }
    double *queries = means(c, q, m, keep), *keys = means(c, k, m, keep);
    if (published) memset(keep, 1, (size_t)m);
    double *left = low_rank_product(q, keys, n, d, m, true);
    double *inner = low_rank_product(queries, keys, m, d, m, true);
    double *right = low_rank_product(queries, k, m, d, n, true);
    low_rank_softmax(left, n, m, keep);
    low_rank_softmax(inner, m, m, keep);
    low_rank_softmax(right, m, n, c->mask);
    for (int i = 0; i < m * m; i++)
        if (!keep[i / m]) inner[i] = i / m == i % m;
    double *inverse = pseudo_inverse(inner, m, (int)option_of(c, "iterations"));
    double *values = low_rank_product(right, x[2], m, n, d, false);
    double *mixed = low_rank_product(inverse, values, m, m, d, false);
    double *result = low_rank_product(left, mixed, n, m, d, false);
    memcpy(z, result, sizeof *z * (size_t)(n * d));
    low_rank_convolve(c, c->layer->parameter[0], x[2], z);
    double *const all[] = {q,     k,       queries, keys,  left,  inner,
                           right, inverse, values,  mixed, result};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    free(keep);
}

static void test_nystromformer(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "nystromformer", .definition = definition});
    method_report(&(method_check){.method = "nystromformer-conv",
                                  .options = {"landmarks=16", "conv=5"},
                                  .definition = definition,
                                  .shape = {.batch = 2}});
    // One example and one head: the batch's scale is the matrix's own.
    method_report(&(method_check){.method = "nystromformer",
                                  .options = {"landmarks=8", "variant=published"},
                                  .label = "nystromformer published",
                                  .definition = definition,
                                  .lengths = {8, 64, 200},
                                  .shape = {.batch = 1, .heads = 1}});
}

static void test_padding(void **state)
{
    (void)state;
    method_padding(&(method_check){.method = "nystromformer", .options = {"landmarks=16"}}, 100,
                   71);
    method_padding(&(method_check){.method = "nystromformer-conv", .options = {"landmarks=64"}},
                   100, 23); // fewer tokens than landmarks
}

// With as many landmarks as tokens and enough steps the method is exact attention.
static void test_all_landmarks(void **state)
{
    (void)state;
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    mra_attention_layer *layer;
    const mra_shape shape = {1, 1, 24, 32};
    const char *const options[] = {"landmarks=24", "iterations=20"};
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    assert_int_equal(
        mra_attention_layer_create(&layer, "nystromformer", device, shape, 1, options, 2, &err),
        MRA_OK);
    dense_arrays a = dense_make(shape, 1.5f, false);
    assert_int_equal(mra_attention_run(layer, tape, a.x[DENSE_Q], a.x[DENSE_K], a.x[DENSE_V],
                                       NULL, a.x[DENSE_Z], NULL, NULL, NULL, NULL, &err),
                     MRA_OK);
    double *x[3], z[24 * 32];
    for (int i = 0; i < 3; i++) x[i] = dense_copy(a.x[i], 24 * 32);
    dense_head(24, 32, x, NULL, z, NULL, NULL, NULL);
    assert_close(a.x[DENSE_Z], z, 24 * 32, 1e-2);
    for (int i = 0; i < 3; i++) free(x[i]);
    dense_release(&a);
    mra_attention_layer_free(layer);
    mra_tape_free(tape);
    mra_device_close(device);
}

static void test_refusals(void **state)
{
    (void)state;
    const struct {
        const char *method, *option[2], *names;
    } bad[] = {
        {"nystromformer", {"landmarks=7", "variant=published"}, "n = 40 is not a multiple"},
        {"nystromformer", {"landmarks=0", "iterations=6"}, "a whole number from 1 to 4096"},
        {"nystromformer", {"conv=5", "iterations=6"}, "unknown option 'conv'"},
        {"nystromformer-conv", {"conv=4", "landmarks=7"}, "conv=4: expected an odd number"},
    };
    mra_device *device;
    mra_error err;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mra_attention_layer *layer;
        assert_int_equal(mra_attention_layer_create(&layer, bad[i].method, device,
                                                    (mra_shape){1, 1, 40, 8}, 1, bad[i].option,
                                                    2, &err),
                         MRA_BAD_INPUT);
        if (!strstr(err.message, bad[i].names)) fail_msg("%s", err.message);
    }
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nystromformer), cmocka_unit_test(test_padding),
        cmocka_unit_test(test_all_landmarks), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
