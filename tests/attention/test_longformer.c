// Longformer against its definition, forward and backward: windows and numbers of global tokens
// that do not divide anything, larger than the sequence, and zero; padding at the end is deletion;
// logits of 1e4; operations as counted pair by pair.

#include "method_case.h"

static double option(const mra_attention_layer *layer, int index)
{
    return layer->option[index].number;
}

static bool attends(const mra_attention_layer *layer, int i, int j)
{
    const int window = (int)option(layer, 0), global = (int)option(layer, 1);
    return 2 * abs(i - j) <= window || i < global || j < global;
}

static void definition(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d;
    double *logit = malloc(sizeof *logit * (size_t)n);
    memset(z, 0, sizeof *z * (size_t)(n * d));
    for (int i = 0; i < n; i++) {
        double largest = -INFINITY, sum = 0;
        for (int j = 0; j < n; j++) {
            logit[j] = -INFINITY;
            if (!attends(c->layer, i, j) || (c->mask && (!c->mask[i] || !c->mask[j]))) continue;
            double dot = 0;
            for (int k = 0; k < d; k++) dot += x[0][i * d + k] * x[1][j * d + k];
            logit[j] = dot / sqrt(d);
            largest = fmax(largest, logit[j]);
        }
        for (int j = 0; j < n && largest > -INFINITY; j++) {
            const double weight = exp(logit[j] - largest);
            sum += weight;
            for (int k = 0; k < d; k++) z[i * d + k] += weight * x[2][j * d + k];
        }
        for (int k = 0; k < d && sum > 0; k++) z[i * d + k] /= sum;
    }
    free(logit);
}

static void test_definition(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "longformer", .definition = definition});
}

static void test_options(void **state)
{
    (void)state;
    static const char *const set[][2] = {
        {"window=0", "global=0"},   {"window=7", "global=40"},  {"window=200", "global=0"},
        {"window=33", "global=3"},  {"window=5000", NULL},      {"window=130", "global=0"},
        {"window=252", "global=1"}, {"window=1", "global=5000"}};
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        method_report(&(method_check){.method = "longformer",
                                      .label = set[i][0],
                                      .options = {set[i][0], set[i][1]},
                                      .definition = definition,
                                      // a window of 0: dQ and dK are 0 but for rounding
                                      .gradient_tolerance = i == 0 ? 5e-5 : 0,
                                      .lengths = {1, 31, 33, 150, 301},
                                      .shape = {.batch = 2, .heads = 1}});
}

// n tokens of which the tail is masked, and the shorter sequence without it: z and gradients.
static void test_padding_is_deletion(void **state)
{
    (void)state;
    enum { LONG = 133, SHORT = 101, D = 24 };
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    mra_blas_single_thread();
    assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    dense_arrays a[2];
    for (int i = 0; i < 2; i++) {
        mra_attention_layer *layer;
        const mra_shape shape = {1, 1, i ? SHORT : LONG, D};
        a[i] = dense_make(shape, 1.0f, false);
        for (int j = 0; j < 4 && i; j++)
            memcpy(a[1].x[j], a[0].x[j], sizeof(float) * SHORT * D);
        uint8_t mask[LONG] = {0};
        memset(mask, 1, SHORT);
        assert_int_equal(
            mra_attention_layer_create(&layer, "longformer", device, shape, 1, NULL, 0, &err),
            MRA_OK);
        float **x = a[i].x;
        assert_int_equal(mra_attention_run(layer, tape, x[DENSE_Q], x[DENSE_K], x[DENSE_V],
                                           i ? NULL : mask, x[DENSE_Z], x[DENSE_DZ],
                                           x[DENSE_DQ], x[DENSE_DK], x[DENSE_DV], &err),
                         MRA_OK);
        mra_attention_layer_free(layer);
    }
    for (int j = DENSE_Z; j < DENSE_ARRAYS; j++) {
        double *want = dense_copy(a[1].x[j], SHORT * D);
        assert_close(a[0].x[j], want, SHORT * D, 2e-6);
        for (int e = SHORT * D; e < LONG * D; e++) assert_true(a[0].x[j][e] == 0);
        free(want);
    }
    dense_release(&a[0]);
    dense_release(&a[1]);
    mra_tape_free(tape);
    mra_device_close(device);
}

// Of logits near 1e4 a float knows the third decimal, so weights agree to about 1e-3; what is
// checked is that nothing overflows and that the right pairs win.
static void test_extreme_logits(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "longformer",
                                  .label = "longformer, logits of 1e4",
                                  .definition = definition,
                                  .deviation = 60,
                                  .tolerance = 5e-3,
                                  .without_gradient = true,
                                  .lengths = {33, 200}});
}

static void test_operations(void **state)
{
    (void)state;
    mra_device *device;
    mra_error err;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    static const char *const set[][2] = {
        {"window=64", "global=1"}, {"window=9", "global=37"}, {"window=300", "global=0"}};
    for (int s = 0; s < 3; s++) {
        mra_attention_layer *layer;
        const mra_shape shape = {1, 2, 211, 8};
        assert_int_equal(
            mra_attention_layer_create(&layer, "longformer", device, shape, 1, set[s], 2, &err),
            MRA_OK);
        double pairs = 0;
        for (int i = 0; i < 211; i++)
            for (int j = 0; j < 211; j++) pairs += attends(layer, i, j);
        assert_true(layer->method->operations(layer) == pairs * (4 * 8 + 2));
        mra_attention_layer_free(layer);
    }
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),          cmocka_unit_test(test_options),
        cmocka_unit_test(test_padding_is_deletion), cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
