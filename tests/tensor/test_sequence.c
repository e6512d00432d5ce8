// Operations along sequences and towards an inverse: forward against float64, gradients against central differences of
// it, on odd sizes.

#include "check.h"

enum { BATCH = 2, HEADS = 3, N = 7, D = 5, GROUPS = BATCH * HEADS };

// ---- Convolution ----------------------------------------------------------------------------

static mra_tensor *apply_convolve(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_convolve_sequence(tape, x[0], x[1]);
}

static void exact_convolve(double *const *x, double *y, const void *context)
{
    const int taps = *(const int *)context;
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < N * D; i++) {
            y[g * N * D + i] = 0;
            for (int t = 0; t < taps; t++) {
                const int from = i / D + t - taps / 2;
                if (from >= 0 && from < N)
                    y[g * N * D + i] +=
                        x[1][g % HEADS * taps + t] * x[0][g * N * D + from * D + i % D];
            }
        }
}

static void test_convolve(void **state)
{
    (void)state;
    static const int all[] = {1, 3, 9, 33}; // 33: longer than the sequence
    for (int k = 0; k < 4; k++) {
        const check_case c = {.name = "convolve_sequence",
                              .inputs = 2,
                              .shape = {{4, {BATCH, HEADS, N, D}}, {2, {HEADS, all[k]}}},
                              .apply = apply_convolve,
                              .reference = exact_convolve,
                              .context = &all[k]};
        check_operation(&c, GROUPS * N * D);
    }
}

// ---- Means of segments ----------------------------------------------------------------------

enum { SEGMENTS = 4 };
// Segment 2 of the first example is empty, positions left out have other numbers.
static const int32_t segment[BATCH * N] = {0, 0, -1, 3, 3, 1, 0, 2, 1, 0, 4, 3, 3, 3};

static mra_tensor *apply_segments(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_segment_mean(tape, x[0], segment, SEGMENTS);
}

static void exact_segments(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int g = 0; g < GROUPS; g++)
        for (int s = 0; s < SEGMENTS; s++)
            for (int e = 0; e < D; e++) {
                double sum = 0;
                int count = 0;
                for (int i = 0; i < N; i++)
                    if (segment[g / HEADS * N + i] == s) {
                        sum += x[0][(g * N + i) * D + e];
                        count++;
                    }
                y[(g * SEGMENTS + s) * D + e] = count ? sum / count : 0;
            }
}

// ---- Gaussian -------------------------------------------------------------------------------

enum { CENTRES = 3 };

static mra_tensor *apply_gaussian(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    return mra_gaussian(tape, x[0], context ? x[0] : x[1]);
}

static void exact_gaussian(double *const *x, double *y, const void *context)
{
    const int m = context ? N : CENTRES;
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < N * m; i++) {
            double sum = 0;
            for (int e = 0; e < D; e++)
                sum += pow(x[0][(g * N + i / m) * D + e] -
                               (context ? x[0][(g * N + i % m) * D + e]
                                        : x[1][(g * m + i % m) * D + e]),
                           2);
            y[g * N * m + i] = exp(-sum / 2);
        }
}

// ---- Softmax over what is kept --------------------------------------------------------------

static const uint8_t keep[BATCH * D] = {1, 0, 1, 1, 0, 0, 0, 0, 0, 0}; // the second: none

static mra_tensor *apply_kept(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_softmax_kept(tape, x[0], keep);
}

static void exact_kept(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int row = 0; row < GROUPS * N; row++) {
        const uint8_t *k = keep + row / N / HEADS * D;
        double sum = 0;
        for (int e = 0; e < D; e++) sum += k[e] ? exp(x[0][row * D + e]) : 0;
        for (int e = 0; e < D; e++) y[row * D + e] = k[e] ? exp(x[0][row * D + e]) / sum : 0;
    }
}

// Logits of 1e4 and more, where exp without the largest of the kept ones overflows; the largest of all is not kept.
static void test_kept_extremes(void **state)
{
    (void)state;
    enum { COLUMNS = 4, SIZE = 4 * COLUMNS };
    static const uint8_t kept[COLUMNS] = {1, 1, 0, 1};
    static const float x[SIZE] = {1e4f, 1e4f, 2e4f, -1e4f, -1e30f, 0,     3e38f, -1e30f,
                                  200,  0,    1e4f, 200,   -1e4f,  -1e4f, 0,     -1e4f};
    static const float want[SIZE] = {0.5f, 0.5f, 0, 0,    0,        1,        0, 0,
                                     0.5f, 0,    0, 0.5f, 1 / 3.0f, 1 / 3.0f, 0, 1 / 3.0f};
    for (device_turn turn = {0}; device_next(&turn);) {
        mra_device *device = turn.device;
        float y[SIZE], *in = device_put(device, x, sizeof x),
                       *out = device_put(device, x, sizeof x);
        uint8_t *keeps = device_put(device, kept, sizeof kept);
        mra_error err;
        assert_int_equal(device->kernels->softmax_kept(device, 1, 1, SIZE / COLUMNS, COLUMNS,
                                                       keeps, in, out, &err),
                         MRA_OK);
        device_get(device, y, out, sizeof y);
        device_get(device, NULL, in, 0);
        device_get(device, NULL, keeps, 0);
        for (int i = 0; i < SIZE; i++) check_close(y[i], want[i], 1e-6f);
    }
}

static void test_sequences(void **state)
{
    (void)state;
    const check_shape x = {4, {BATCH, HEADS, N, D}};
    const check_case segments = {"segment_mean", 1,    {x}, apply_segments,
                                 exact_segments, NULL, 0};
    const check_case gaussian = {
        "gaussian", 2, {x, {4, {BATCH, HEADS, CENTRES, D}}}, apply_gaussian, exact_gaussian,
        NULL,       0};
    const check_case itself = {"gaussian of one", 1,  {x}, apply_gaussian,
                               exact_gaussian,    "", 0};
    const check_case kept = {"softmax_kept", 1, {x}, apply_kept, exact_kept, NULL, 0};
    check_operation(&segments, GROUPS * SEGMENTS * D);
    check_operation(&gaussian, GROUPS * N * CENTRES);
    check_operation(&itself, GROUPS * N * N);
    check_operation(&kept, GROUPS * N * D);
}

// Near points far from the origin: from |x|^2 + |c|^2 - 2 <x, c> nothing would be left.
static void test_gaussian_far_away(void **state)
{
    (void)state;
    mra_error err;
    enum { W = 70, M = 67 }; // not multiples of the strips
    float *x = check_normal(W, 1), *c = check_normal(M * W, 2), *y = check_normal(M, 3);
    for (int i = 0; i < W; i++) x[i] = 1000 + x[i] / 16;
    for (int i = 0; i < M * W; i++) c[i] = 1000 + c[i] / 16;
    for (device_turn turn = {0}; device_next(&turn);) {
        mra_device *device = turn.device;
        float *from = device_put(device, x, W * sizeof *x);
        float *centres = device_put(device, c, M * W * sizeof *c);
        float *out = device_put(device, y, M * sizeof *y);
        assert_int_equal(
            device->kernels->gaussian(device, 1, 1, M, W, from, centres, out, &err), MRA_OK);
        device_get(device, y, out, M * sizeof *y);
        device_get(device, NULL, from, 0);
        device_get(device, NULL, centres, 0);
        for (int j = 0; j < M; j++) {
            double sum = 0;
            for (int e = 0; e < W; e++) sum += pow((double)x[e] - c[j * W + e], 2);
            check_close(y[j], exp(-sum / 2), 1e-6 * exp(-sum / 2));
        }
    }
    mra_aligned_free(x);
    mra_aligned_free(c);
    mra_aligned_free(y);
}

// ---- Towards an inverse ---------------------------------------------------------------------

typedef struct guess_rule {
    int rule;
    bool joint;
} guess_rule;

static mra_tensor *apply_minus(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_identity_minus(tape, 7, x[0]);
}

static void exact_minus(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int i = 0; i < GROUPS * D * D; i++) y[i] = 7 * (i / D % D == i % D) - x[0][i];
}

static mra_tensor *apply_guess(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const guess_rule *rule = context;
    return mra_inverse_guess(tape, x[0], rule->rule, rule->joint);
}

// Sums of absolute values: the largest of a row and of a column, of groups first .. end.
static void largest_sums(const double *x, int first, int end, double sums[2])
{
    sums[0] = sums[1] = 0;
    for (int g = first; g < end; g++)
        for (int i = 0; i < D; i++) {
            double row = 0, column = 0;
            for (int j = 0; j < D; j++) {
                row += fabs(x[(g * D + i) * D + j]);
                column += fabs(x[(g * D + j) * D + i]);
            }
            sums[0] = fmax(sums[0], row);
            sums[1] = fmax(sums[1], column);
        }
}

static double distance(const double *x, double scale)
{
    double most = 0;
    for (int j = 0; j < D; j++) {
        double sum = 0;
        for (int i = 0; i < D; i++) {
            double square = 0;
            for (int e = 0; e < D; e++) square += x[i * D + e] * x[e * D + j];
            sum += fabs((i == j) - scale * square);
        }
        most = fmax(most, sum);
    }
    return most;
}

static void exact_guess(double *const *x, double *y, const void *context)
{
    const guess_rule *rule = context;
    for (int g = 0; g < GROUPS; g++) {
        const int first = rule->joint ? 0 : g, end = rule->joint ? GROUPS : g + 1;
        double sums[2];
        largest_sums(x[0], first, end, sums);
        double scale = rule->rule == MRA_INVERSE_NORMS    ? 1 / (sums[0] * sums[1])
                       : rule->rule == MRA_INVERSE_SQUARE ? 1 / (sums[0] * sums[0])
                                                          : 2 / (sums[0] * sums[0]);
        for (int k = 0; k < 10 && rule->rule == MRA_INVERSE_HALVED; k++) {
            double worst = 0;
            for (int h = first; h < end; h++)
                worst = fmax(worst, distance(x[0] + h * D * D, scale));
            if (worst <= 1.01) break;
            scale /= 2;
        }
        for (int i = 0; i < D * D; i++)
            y[g * D * D + i] = scale * x[0][g * D * D + i % D * D + i / D];
    }
}

static mra_tensor *apply_bounded(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    return mra_keep_bounded(tape, x[0], x[1], 1.9f, *(const bool *)context);
}

static void exact_bounded(double *const *x, double *y, const void *context)
{
    bool bounded[GROUPS], all = true;
    for (int g = 0; g < GROUPS; g++) {
        bounded[g] = true;
        for (int i = 0; i < D * D; i++) bounded[g] &= fabs(x[1][g * D * D + i]) <= 1.9f;
        all &= bounded[g];
    }
    for (int i = 0; i < GROUPS * D * D; i++) {
        const bool second = *(const bool *)context ? all : bounded[i / (D * D)];
        y[i] = x[second][i];
    }
}

static void test_inverse(void **state)
{
    (void)state;
    const check_shape x = {4, {BATCH, HEADS, D, D}};
    const check_case minus = {"identity_minus", 1, {x}, apply_minus, exact_minus, NULL, 0};
    check_operation(&minus, GROUPS * D * D);
    for (int rule = 0; rule < 3; rule++)
        for (int joint = 0; joint < 2; joint++) {
            const guess_rule which = {rule, joint};
            const check_case guess = {"inverse_guess", 1,      {x}, apply_guess,
                                      exact_guess,     &which, 0};
            check_operation(&guess, GROUPS * D * D);
            const bool together = joint;
            const check_case bounded = {"keep_bounded", 2,         {x, x}, apply_bounded,
                                        exact_bounded,  &together, 0};
            check_operation(&bounded, GROUPS * D * D);
        }
}

// ---- Columns --------------------------------------------------------------------------------

static mra_tensor *apply_columns(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const int count = *(const int *)context;
    return count < D ? mra_columns(tape, x[0], D - count - 1, count)
                     : mra_pad_columns(tape, x[0], count);
}

static void exact_columns(double *const *x, double *y, const void *context)
{
    const int count = *(const int *)context;
    for (int row = 0; row < N; row++)
        for (int j = 0; j < count; j++)
            y[row * count + j] = count < D ? x[0][row * D + D - count - 1 + j]
                                 : j < D   ? x[0][row * D + j]
                                           : 0;
}

static mra_tensor *apply_swap(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_swap_middle(tape, x[0], (int[]){BATCH, HEADS, N, D}, 3,
                           (int[]){BATCH * N, HEADS, D});
}

static void exact_swap(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int b = 0; b < BATCH; b++)
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < N; i++)
                for (int e = 0; e < D; e++)
                    y[((b * N + i) * HEADS + h) * D + e] =
                        x[0][((b * HEADS + h) * N + i) * D + e];
}

static void test_columns(void **state)
{
    (void)state;
    static const int counts[] = {1, 3, 9};
    for (int i = 0; i < 3; i++) {
        const check_case c = {.name = "columns",
                              .inputs = 1,
                              .shape = {{2, {N, D}}},
                              .apply = apply_columns,
                              .reference = exact_columns,
                              .context = &counts[i]};
        check_operation(&c, (size_t)(N * counts[i]));
    }
    const check_case swap = {
        "swap_middle", 1, {{4, {BATCH, HEADS, N, D}}}, apply_swap, exact_swap, NULL, 0};
    check_operation(&swap, GROUPS * N * D);
}

// ---- Shapes that do not fit -----------------------------------------------------------------

static void test_refusals(void **state)
{
    (void)state;
    mra_device *device = check_open(1);
    mra_tape *tape = check_tape(device);
    static float data[64];
    mra_error err;
    for (int i = 0; i < 7; i++) {
        mra_tensor *a = mra_wrap(tape, 4, (int[]){1, 2, 4, 3}, data, NULL);
        mra_tensor *even = mra_wrap(tape, 2, (int[]){2, 4}, data, NULL);
        mra_tensor *b = mra_wrap(tape, 4, (int[]){1, 2, 4, 2}, data, NULL);
        mra_tensor *y = i == 0   ? mra_convolve_sequence(tape, a, even)
                        : i == 1 ? mra_segment_mean(tape, even, segment, 2)
                        : i == 2 ? mra_gaussian(tape, a, b)
                        : i == 3 ? mra_identity_minus(tape, 1, a)
                        : i == 4 ? mra_inverse_guess(tape, a, MRA_INVERSE_NORMS, false)
                        : i == 5 ? mra_columns(tape, a, 1, 3)
                                 : mra_pad_columns(tape, a, 2);
        assert_null(y);
        assert_int_equal(mra_tape_status(tape, &err), MRA_BAD_INPUT);
        mra_tape_reset(tape);
    }
    mra_tape_free(tape);
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolve),          cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_gaussian_far_away), cmocka_unit_test(test_kept_extremes),
        cmocka_unit_test(test_inverse),           cmocka_unit_test(test_columns),
        cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
