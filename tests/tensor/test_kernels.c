// Kernels of the table on sizes that span several items of the parallel loops, on extreme
// values, and those that no operation of the tape calls (AdamW, sum of squares).

#include "check.h"

static const mra_kernels *kernels;
static mra_device *device;
static mra_error err;

static int open_device(void **state)
{
    (void)state;
    device = check_open(CHECK_THREADS);
    kernels = device->kernels;
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    mra_device_close(device);
    return 0;
}

// ---- GELU over the whole range --------------------------------------------------------------

static void test_gelu_accuracy(void **state)
{
    (void)state;
    enum { COUNT = 60001 };
    float *x = check_normal(COUNT, 1), *y = check_normal(COUNT, 2),
          *dx = check_normal(COUNT, 3);
    float *ones = check_normal(COUNT, 4);
    for (int i = 0; i < COUNT; i++) x[i] = (float)(i - COUNT / 2) * 5e-4f; // -15 .. 15
    kernels->fill(device, COUNT, 1.0f, ones, &err);
    assert_int_equal(kernels->gelu(device, COUNT, x, y, &err), MRA_OK);
    assert_int_equal(kernels->gelu_backward(device, COUNT, x, ones, dx, false, &err), MRA_OK);
    double worst = 0.0, worst_slope = 0.0, worst_tail = 0.0;
    for (int i = 0; i < COUNT; i++) {
        const double v = x[i], phi = exp(-0.5 * v * v) / sqrt(8.0 * atan(1.0));
        const double below = 0.5 * erfc(-v / sqrt(2.0));
        const double at = fabs(v) > 1e-3 ? y[i] / v : below; // Phi as computed
        worst = fmax(worst, fabs(at - below));
        worst_slope = fmax(worst_slope, fabs(dx[i] - (below + v * phi)));
        if (v > -5.0 && v < -1.0) worst_tail = fmax(worst_tail, fabs(at / below - 1.0));
    }
    if (!(worst < 2e-7)) fail_msg("Phi is off by %.2e", worst);
    if (!(worst_slope < 4e-7)) fail_msg("the slope is off by %.2e", worst_slope);
    if (!(worst_tail < 3e-6)) fail_msg("the tail is off by a factor of 1 + %.2e", worst_tail);
    const float far[5] = {-1e4f, 1e4f, 0.0f, INFINITY, NAN};
    kernels->gelu(device, 5, far, y, &err);
    check_close(y[0], 0.0f, 0);
    check_close(y[1], 1e4f, 0);
    check_close(y[2], 0.0f, 0);
    assert_true(isinf(y[3]) && isnan(y[4]));
    mra_aligned_free(x);
    mra_aligned_free(y);
    mra_aligned_free(dx);
    mra_aligned_free(ones);
}

static void test_relu_keeps_nan(void **state)
{
    (void)state;
    const float x[4] = {NAN, -1.0f, 0.0f, 2.0f}, dy[4] = {1, 1, 1, 1};
    float y[4], dx[4];
    kernels->relu(device, 4, x, y, &err);
    kernels->relu_backward(device, 4, x, dy, dx, false, &err);
    assert_true(isnan(y[0]));
    check_close(y[1] + y[2], 0.0f, 0);
    check_close(y[3], 2.0f, 0);
    check_close(dx[1] + dx[2], 0.0f, 0);
    check_close(dx[3], 1.0f, 0);
}

// ---- Dropout: the numbers of core/random.h, on more than one item ---------------------------

static void test_dropout_numbers(void **state)
{
    (void)state;
    const size_t count = 2 * 16384 + 77;
    float *ones = check_normal(count, 1), *y = check_normal(count, 2);
    const uint64_t seed = UINT64_C(0x9876543210abcdef), stream = mra_stream("test", 1, 2);
    const float p = 0.1f;
    kernels->fill(device, count, 1.0f, ones, &err);
    kernels->dropout(device, count, p, seed, stream, ones, y, false, &err);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const bool keep = mra_uniform_at(seed, stream, i) >= p;
        if (y[i] != (keep ? 1.0f / (1.0f - p) : 0.0f))
            fail_msg("entry %zu is %g", i, (double)y[i]);
        kept += keep;
    }
    assert_true(fabs((double)kept / (double)count - 0.9) < 0.01);
    ones[3] = INFINITY; // an entry that is dropped is 0, whatever it was
    kernels->dropout(device, 4, 0.9999f, seed, stream, ones, y, false, &err);
    check_close(y[3], 0.0f, 0);
    mra_aligned_free(ones);
    mra_aligned_free(y);
}

// ---- Linear layers and sums over many rows --------------------------------------------------

typedef struct layer_size {
    int rows, in, out;
} layer_size;

static void check_layer(layer_size s)
{
    const size_t xs = (size_t)(s.rows * s.in), ys = (size_t)(s.rows * s.out);
    const size_t ws = (size_t)(s.in * s.out);
    float *x = check_normal(xs, 1), *w = check_normal(ws, 2),
          *b = check_normal((size_t)s.out, 3);
    float *y = check_normal(ys, 4), *dx = check_normal(xs, 5), *dw = check_normal(ws, 6);
    float *db = check_normal((size_t)s.out, 7);
    double *ey = calloc(ys, 8), *edx = calloc(xs, 8), *edw = calloc(ws, 8),
           *edb = calloc(ys, 8);
    for (size_t i = 0; i < ws; i++) edw[i] = dw[i];
    for (int o = 0; o < s.out; o++) edb[o] = db[o];
    kernels->linear(device, (size_t)s.rows, s.in, s.out, x, w, b, y, &err);
    for (int row = 0; row < s.rows; row++)
        for (int o = 0; o < s.out; o++) {
            double sum = b[o];
            const double dy = y[row * s.out + o]; // the result serves as its own gradient
            for (int i = 0; i < s.in; i++) {
                sum += (double)x[row * s.in + i] * (double)w[o * s.in + i];
                edx[row * s.in + i] += dy * (double)w[o * s.in + i];
                edw[o * s.in + i] += dy * (double)x[row * s.in + i];
            }
            ey[row * s.out + o] = sum;
            edb[o] += dy;
        }
    kernels->linear_backward_input(device, (size_t)s.rows, s.in, s.out, y, w, dx, false, &err);
    kernels->linear_backward_weight(device, (size_t)s.rows, s.in, s.out, y, x, dw, &err);
    kernels->add_column_sums(device, (size_t)s.rows, s.out, y, db, &err);
    check_difference("linear", "y", y, ey, ys, 1e-6);
    check_difference("linear", "dx", dx, edx, xs, 1e-6);
    check_difference("linear", "dW", dw, edw, ws, 1e-6);
    check_difference("linear", "db", db, edb, (size_t)s.out, 1e-6);
    float *const floats[] = {x, w, b, y, dx, dw, db};
    for (int i = 0; i < 7; i++) mra_aligned_free(floats[i]);
    double *const doubles[] = {ey, edx, edw, edb};
    for (int i = 0; i < 4; i++) free(doubles[i]);
}

static void test_large_linear(void **state)
{
    (void)state;
    check_layer((layer_size){9001, 16, 24});
    check_layer((layer_size){1100, 40, 3});
    check_layer((layer_size){140, 70, 300}); // two blocks of rows of dW
    check_layer((layer_size){256, 32, 64});  // widths of trained models
    check_layer((layer_size){128, 1, 1});
}

static void test_large_scatter(void **state)
{
    (void)state;
    enum { COUNT = 5000, ROWS = 700, WIDTH = 33 };
    int32_t *ids = malloc(COUNT * sizeof *ids);
    float *dy = check_normal((size_t)COUNT * WIDTH, 1), *table = check_normal(ROWS * WIDTH, 2);
    double *exact = malloc(ROWS * WIDTH * sizeof *exact);
    mra_random random = mra_random_open(check_seed(), 9);
    for (int i = 0; i < ROWS * WIDTH; i++) exact[i] = table[i];
    for (int i = 0; i < COUNT; i++) {
        ids[i] = i % 3 ? (int32_t)mra_random_below(&random, ROWS) : ROWS - 1;
        for (int j = 0; j < WIDTH; j++) exact[ids[i] * WIDTH + j] += dy[i * WIDTH + j];
    }
    kernels->scatter_add(device, COUNT, ROWS, WIDTH, ids, dy, table, &err);
    check_difference("scatter_add", "table", table, exact, ROWS * WIDTH, 1e-6);
    free(ids);
    free(exact);
    mra_aligned_free(dy);
    mra_aligned_free(table);
}

// A row that is masked is 0 even if it holds no number.
static void test_mask_stops_nan(void **state)
{
    (void)state;
    const float x[4] = {NAN, INFINITY, 1, 2};
    const uint8_t keep[2] = {0, 1};
    float y[4], mean[2];
    kernels->mask_rows(device, 2, 2, keep, x, y, false, &err);
    kernels->mean_pool(device, 1, 2, 2, keep, x, mean, &err);
    check_close(y[0] + y[1], 0.0f, 0);
    check_close(mean[0], 1.0f, 0);
    check_close(mean[1], 2.0f, 0);
}

// ---- Training -------------------------------------------------------------------------------

static void test_adamw(void **state)
{
    (void)state;
    const size_t count = 16384 + 5;
    float *w = check_normal(count, 1), *g = check_normal(count, 2);
    float *m = mra_aligned_calloc(count, sizeof *m), *v = mra_aligned_calloc(count, sizeof *v);
    double *ew = malloc(count * 8), *em = calloc(count, 8), *ev = calloc(count, 8);
    for (size_t i = 0; i < count; i++) ew[i] = w[i];
    for (uint64_t step = 1; step <= 5; step++) {
        const mra_adamw settings = {.rate = 0.01 * (double)step,
                                    .beta1 = 0.9,
                                    .beta2 = 0.999,
                                    .epsilon = 1e-6,
                                    .weight_decay = 0.02,
                                    .gradient_scale = 0.5,
                                    .step = step};
        mra_fill_normal(g, count, 0.1f, check_seed(), 100 + step);
        for (size_t i = 0; i < count; i++) {
            const double grad = 0.5 * g[i];
            em[i] = 0.9 * em[i] + 0.1 * grad;
            ev[i] = 0.999 * ev[i] + 0.001 * grad * grad;
            const double m_hat = em[i] / (1.0 - pow(0.9, (double)step));
            const double v_hat = ev[i] / (1.0 - pow(0.999, (double)step));
            ew[i] -= settings.rate * (m_hat / (sqrt(v_hat) + 1e-6) + 0.02 * ew[i]);
        }
        assert_int_equal(kernels->adamw(device, &settings, count, w, g, m, v, &err), MRA_OK);
    }
    check_difference("adamw", "weights", w, ew, count, 1e-6);
    check_difference("adamw", "first moments", m, em, count, 1e-6);
    check_difference("adamw", "second moments", v, ev, count, 1e-6);
    double sum, want = 0.0;
    for (size_t i = 0; i < count; i++) want += (double)w[i] * (double)w[i];
    assert_int_equal(kernels->sum_of_squares(device, count, w, &sum, &err), MRA_OK);
    assert_true(fabs(sum - want) < 1e-12 * want);
    kernels->sum_of_squares(device, 0, w, &sum, &err);
    assert_true(sum == 0.0);
    float *const floats[] = {w, g, m, v};
    for (int i = 0; i < 4; i++) mra_aligned_free(floats[i]);
    free(ew);
    free(em);
    free(ev);
}

// ---- Devices --------------------------------------------------------------------------------

static void test_device_names(void **state)
{
    (void)state;
    mra_device *other = device;
    mra_error message;
    assert_string_equal(mra_device_name(0), "cpu");
    assert_int_equal(mra_device_open(&other, "abacus", 1, &message), MRA_BAD_INPUT);
    assert_null(other);
    assert_non_null(strstr(message.message, "abacus"));
    assert_non_null(strstr(message.message, "cpu"));
    int count = 0;
    while (mra_device_name(count)) count++;
    assert_true(count >= 1);
    assert_null(mra_device_name(-1));
    assert_int_equal(device->threads, CHECK_THREADS);
    float from[3] = {1, 2, 3}, back[3] = {0};
    float *memory = device->allocate(device, sizeof from);
    assert_int_equal((uintptr_t)memory % 64, 0);
    check_close(memory[2], 0.0f, 0);
    assert_int_equal(device->to_device(device, memory, from, sizeof from, &err), MRA_OK);
    assert_int_equal(device->to_host(device, back, memory, sizeof from, &err), MRA_OK);
    assert_memory_equal(from, back, sizeof from);
    device->release(device, memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gelu_accuracy),   cmocka_unit_test(test_relu_keeps_nan),
        cmocka_unit_test(test_dropout_numbers), cmocka_unit_test(test_large_linear),
        cmocka_unit_test(test_large_scatter),   cmocka_unit_test(test_mask_stops_nan),
        cmocka_unit_test(test_adamw),           cmocka_unit_test(test_device_names),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
