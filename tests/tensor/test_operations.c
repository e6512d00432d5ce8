// Operations that compute: entry by entry, products, LayerNorm, softmax, loss. Forward against
// float64, gradients against central differences of it, on odd sizes.

#include "check.h"

// ---- Entry by entry -------------------------------------------------------------------------

enum { M = 3, N = 37 };

static mra_tensor *apply_add(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_add(tape, x[0], x[1]);
}

static void exact_add(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int i = 0; i < M * N; i++) y[i] = x[0][i] + x[1][i];
}

static mra_tensor *apply_multiply(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_multiply(tape, x[0], x[1]);
}

static void exact_multiply(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int i = 0; i < M * N; i++) y[i] = x[0][i] * x[1][i];
}

// One operand in both places: its gradient has two parts.
static mra_tensor *apply_square(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_add(tape, mra_multiply(tape, x[0], x[0]), mra_add(tape, x[0], x[0]));
}

static void exact_square(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int i = 0; i < M * N; i++) y[i] = x[0][i] * x[0][i] + 2.0 * x[0][i];
}

static mra_tensor *apply_scale(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    return mra_scale(tape, x[0], *(const float *)context);
}

static void exact_scale(double *const *x, double *y, const void *context)
{
    for (int i = 0; i < M * N; i++) y[i] = *(const float *)context * x[0][i];
}

static mra_tensor *apply_gelu(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_gelu(tape, x[0]);
}

static void exact_gelu(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int i = 0; i < M * N; i++) y[i] = x[0][i] * 0.5 * erfc(-x[0][i] / sqrt(2.0));
}

static mra_tensor *apply_relu(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_relu(tape, x[0]);
}

static void exact_relu(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int i = 0; i < M * N; i++) y[i] = x[0][i] > 0.0 ? x[0][i] : 0.0;
}

static void test_elementwise(void **state)
{
    (void)state;
    const float factor = -1.7f;
    const check_shape shape = {2, {M, N}};
    const check_case cases[] = {
        {"add", 2, {shape, shape}, apply_add, exact_add, NULL, 0},
        {"multiply", 2, {shape, shape}, apply_multiply, exact_multiply, NULL, 0},
        {"square", 1, {shape}, apply_square, exact_square, NULL, 0},
        {"scale", 1, {shape}, apply_scale, exact_scale, &factor, 0},
        {"gelu", 1, {shape}, apply_gelu, exact_gelu, NULL, 0},
        {"relu", 1, {shape}, apply_relu, exact_relu, NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_operation(&cases[i], M * N);
}

// ---- Linear ---------------------------------------------------------------------------------

typedef struct linear_size {
    int rows, in, out;
    bool bias;
} linear_size;

static mra_tensor *apply_linear(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const linear_size *s = context;
    return mra_linear(tape, x[0], x[1], s->bias ? x[2] : NULL);
}

static void exact_linear(double *const *x, double *y, const void *context)
{
    const linear_size *s = context;
    for (int row = 0; row < s->rows; row++)
        for (int o = 0; o < s->out; o++) {
            double sum = s->bias ? x[2][o] : 0.0;
            for (int i = 0; i < s->in; i++) sum += x[0][row * s->in + i] * x[1][o * s->in + i];
            y[row * s->out + o] = sum;
        }
}

static void test_linear(void **state)
{
    (void)state;
    const linear_size sizes[] = {{1, 1, 1, true},   {5, 3, 7, true},    {130, 5, 3, true},
                                 {15, 7, 5, false}, {129, 2, 17, true}, {3, 260, 2, true}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const linear_size *s = &sizes[i];
        const bool split = s->rows % 5 == 0; // leading dimensions of rank 2
        const check_case c = {
            "linear",
            s->bias ? 3 : 2,
            {{split ? 3 : 2, {split ? 5 : s->rows, split ? s->rows / 5 : s->in, s->in}},
             {2, {s->out, s->in}},
             {1, {s->out}}},
            apply_linear,
            exact_linear,
            s,
            0};
        check_operation(&c, (size_t)(s->rows * s->out));
    }
}

// ---- Batched products -----------------------------------------------------------------------

typedef struct matmul_size {
    int batch, m, n, k;
    bool transpose_a, transpose_b;
} matmul_size;

static mra_tensor *apply_matmul(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const matmul_size *s = context;
    return mra_matmul(tape, x[0], s->transpose_a, x[1], s->transpose_b);
}

static void exact_matmul(double *const *x, double *y, const void *context)
{
    const matmul_size *s = context;
    for (int b = 0; b < s->batch; b++)
        for (int i = 0; i < s->m; i++)
            for (int j = 0; j < s->n; j++) {
                const double *a = x[0] + b * s->m * s->k, *c = x[1] + b * s->k * s->n;
                double sum = 0.0;
                for (int l = 0; l < s->k; l++)
                    sum += (s->transpose_a ? a[l * s->m + i] : a[i * s->k + l]) *
                           (s->transpose_b ? c[j * s->k + l] : c[l * s->n + j]);
                y[(b * s->m + i) * s->n + j] = sum;
            }
}

static void test_matmul(void **state)
{
    (void)state;
    for (int form = 0; form < 8; form++) {
        const matmul_size s = {form & 4 ? 6 : 1, form & 4 ? 5 : 259, 3,
                               form & 4 ? 7 : 1, form & 1,           form & 2};
        const int rank = form & 4 ? 4 : 2;
        check_case c = {"matmul", 2, {{0, {0}}}, apply_matmul, exact_matmul, &s, 0};
        for (int side = 0; side < 2; side++) {
            const bool turned = side ? s.transpose_b : s.transpose_a;
            const int rows = side ? s.k : s.m, columns = side ? s.n : s.k;
            c.shape[side] = (check_shape){rank, {2, 3}};
            c.shape[side].dim[rank - 2] = turned ? columns : rows;
            c.shape[side].dim[rank - 1] = turned ? rows : columns;
        }
        check_operation(&c, (size_t)(s.batch * s.m * s.n));
    }
}

// ---- LayerNorm and softmax ------------------------------------------------------------------

typedef struct row_size {
    int rows, width;
} row_size;

static const float epsilon = 1e-5f;

static mra_tensor *apply_norm(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_layer_norm(tape, x[0], x[1], x[2], epsilon);
}

static void exact_norm(double *const *x, double *y, const void *context)
{
    const row_size *s = context;
    for (int row = 0; row < s->rows; row++) {
        const double *from = x[0] + row * s->width;
        double mean = 0.0, variance = 0.0;
        for (int j = 0; j < s->width; j++) mean += from[j] / s->width;
        for (int j = 0; j < s->width; j++) variance += pow(from[j] - mean, 2.0) / s->width;
        for (int j = 0; j < s->width; j++)
            y[row * s->width + j] =
                (from[j] - mean) / sqrt(variance + epsilon) * x[1][j] + x[2][j];
    }
}

static mra_tensor *apply_softmax(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_softmax(tape, x[0]);
}

static void exact_softmax(double *const *x, double *y, const void *context)
{
    const row_size *s = context;
    for (int row = 0; row < s->rows; row++) {
        double sum = 0.0;
        for (int j = 0; j < s->width; j++) sum += exp(x[0][row * s->width + j]);
        for (int j = 0; j < s->width; j++)
            y[row * s->width + j] = exp(x[0][row * s->width + j]) / sum;
    }
}

static void test_rows(void **state)
{
    (void)state;
    const row_size sizes[] = {{1, 5}, {7, 17}, {33, 9}, {2, 130}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const row_size *s = &sizes[i];
        const check_shape shape = {3, {1, s->rows, s->width}}, row = {1, {s->width}};
        const check_case norm = {
            "layer_norm", 3, {shape, row, row}, apply_norm, exact_norm, s, 0};
        const check_case soft = {"softmax", 1, {shape}, apply_softmax, exact_softmax, s, 0};
        check_operation(&norm, (size_t)(s->rows * s->width));
        check_operation(&soft, (size_t)(s->rows * s->width));
    }
}

// A large mean must not eat the variance.
static void test_norm_far_from_zero(void **state)
{
    (void)state;
    enum { WIDTH = 64 };
    mra_device *device = check_open(1);
    float x[WIDTH], gamma[WIDTH], beta[WIDTH] = {0}, y[WIDTH], statistics[2];
    double exact[WIDTH], ones[WIDTH], zeros[WIDTH] = {0}, want[WIDTH];
    for (int j = 0; j < WIDTH; j++) {
        x[j] = 4096.0f + (float)(j % 7);
        exact[j] = x[j];
        gamma[j] = 1.0f;
        ones[j] = 1.0;
    }
    mra_error err;
    assert_int_equal(device->kernels->layer_norm(device, 1, WIDTH, epsilon, x, gamma, beta, y,
                                                 statistics, &err),
                     MRA_OK);
    exact_norm((double *[]){exact, ones, zeros}, want, &(row_size){1, WIDTH});
    check_difference("layer_norm", "result far from 0", y, want, WIDTH, 1e-4);
    mra_device_close(device);
}

static void test_softmax_extremes(void **state)
{
    (void)state;
    const float x[12] = {1e4f,   -1e4f, 1e4f,   -INFINITY, -INFINITY, -INFINITY,
                         -1e30f, 0.0f,  -1e30f, 3e38f,     -3e38f,    -3e38f};
    const float want[12] = {0.5f, 0, 0.5f, 0, 0, 0, 0, 1, 0, 1, 0, 0};
    for (device_turn turn = {0}; device_next(&turn);) {
        mra_device *device = turn.device;
        float y[12], *in = device_put(device, x, sizeof x),
                     *out = device_put(device, x, sizeof x);
        mra_error err;
        assert_int_equal(device->kernels->softmax(device, 4, 3, in, out, &err), MRA_OK);
        device_get(device, y, out, sizeof y);
        device_get(device, NULL, in, 0);
        for (int i = 0; i < 12; i++) check_close(y[i], want[i], 1e-7f);
    }
}

// ---- Cross-entropy --------------------------------------------------------------------------

typedef struct label_set {
    int rows, classes;
    const int32_t *labels;
} label_set;

static mra_tensor *apply_loss(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const label_set *s = context;
    return mra_cross_entropy(tape, x[0], s->labels, NULL);
}

static void exact_loss(double *const *x, double *y, const void *context)
{
    const label_set *s = context;
    double sum = 0.0;
    int count = 0;
    for (int row = 0; row < s->rows; row++) {
        if (s->labels[row] < 0) continue;
        double total = 0.0;
        for (int j = 0; j < s->classes; j++) total += exp(x[0][row * s->classes + j]);
        sum += log(total) - x[0][row * s->classes + s->labels[row]];
        count++;
    }
    y[0] = count ? sum / count : 0.0;
}

static void test_cross_entropy(void **state)
{
    (void)state;
    int32_t labels[45];
    for (int i = 0; i < 45; i++) labels[i] = i % 5 == 3 ? -1 : i * 7 % 10;
    const int32_t none[3] = {-1, -100, -1};
    const label_set sets[] = {{45, 10, labels}, {1, 10, labels}, {3, 2, none}};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        const check_case c = {
            "cross_entropy", 1, {{2, {sets[i].rows, sets[i].classes}}}, apply_loss, exact_loss,
            &sets[i],        0};
        check_operation(&c, 1);
    }
}

static void test_correct_counts(void **state)
{
    (void)state;
    mra_device *device = check_open(1);
    mra_tape *tape = check_tape(device);
    // Right; wrong; a tie that the first wins; a tie that the label loses; left out; NaN.
    float logits[18] = {0, 2, 1, 5, 1, 2, 4, 4, 1, 4, 4, 1, 9, 0, 0, 1, NAN, 0};
    const int32_t labels[6] = {1, 1, 0, 1, -1, 0};
    int correct = -1;
    mra_tensor *x = mra_wrap(tape, 2, (int[]){5, 3}, logits, NULL);
    mra_tensor *loss = mra_cross_entropy(tape, x, labels, &correct);
    assert_int_equal(correct, 2);
    assert_true(isfinite(loss->data[0]));
    x = mra_wrap(tape, 2, (int[]){6, 3}, logits, NULL);
    loss = mra_cross_entropy(tape, x, labels, &correct);
    assert_int_equal(correct, 2);
    assert_true(isnan(loss->data[0])); // a network that has diverged shows
    float far[4] = {1e4f, -1e4f, 1e4f, -1e4f}, dfar[4] = {0};
    x = mra_wrap(tape, 2, (int[]){2, 2}, far, dfar);
    loss = mra_cross_entropy(tape, x, (int32_t[]){0, 1}, &correct);
    check_close(loss->data[0], 1e4f, 1e-2f);
    mra_error err;
    assert_int_equal(mra_tape_backward(tape, loss, &err), MRA_OK);
    check_close(dfar[0], 0.0f, 1e-7f);
    check_close(dfar[2], 0.5f, 1e-7f);
    check_close(dfar[3], -0.5f, 1e-7f);
    mra_tape_free(tape);
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_norm_far_from_zero),
        cmocka_unit_test(test_softmax_extremes),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_correct_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
