// Random features and normalised sums on the tape, against float64.

#include "check.h"

enum { BATCH = 2, HEADS = 2, LENGTH = 5, D = 3, FEATURES = 7, GROUPS = BATCH * HEADS };

static const check_shape rows_shape = {4, {BATCH, HEADS, LENGTH, D}};

// The second example has no token at all.
static const uint8_t mask[BATCH * LENGTH] = {1, 1, 0, 1, 0};

// What both sides of a check know. The shifts are constants to the gradient: the reference takes
// them from the inputs that it sees first, which are not moved.
typedef struct feature_case {
    mra_feature_rule rule;
    const uint8_t *mask;
    float w[FEATURES * D];
    float key_shift[GROUPS * FEATURES]; // given to kind QUERY
    bool known;
    double shift[GROUPS * LENGTH * FEATURES];
} feature_case;

static mra_tensor *apply_features(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    feature_case *s = (feature_case *)(uintptr_t)context;
    mra_tensor *w = check_constant(tape, 2, (int[]){FEATURES, D}, s->w);
    mra_tensor *shift =
        s->rule.kind == MRA_FEATURES_QUERY
            ? check_constant(tape, 3, (int[]){BATCH, HEADS, FEATURES}, s->key_shift)
            : NULL;
    return mra_features(tape, x[0], w, &s->rule, s->mask, &shift, NULL);
}

static bool shown(const feature_case *s, int group, int row)
{
    return !s->mask || s->mask[group / HEADS * LENGTH + row];
}

static double projection(const feature_case *s, const double *x, int group, int row, int r)
{
    double sum = 0;
    if (s->rule.kind == MRA_FEATURES_COMMON && !shown(s, group, row)) return 0;
    for (int c = 0; c < D; c++) sum += s->w[r * D + c] * x[(group * LENGTH + row) * D + c];
    return sum;
}

static double half_square(const feature_case *s, const double *x, int group, int row)
{
    double sum = 0;
    if (s->rule.kind == MRA_FEATURES_COMMON && !shown(s, group, row)) return 0;
    for (int c = 0; c < D; c++)
        sum += pow(s->rule.scale * x[(group * LENGTH + row) * D + c], 2);
    return sum / 2;
}

static double shift_of(const feature_case *s, const double *x, int group, int row, int r)
{
    double largest = -INFINITY;
    const float *given = s->key_shift + group * FEATURES;
    switch (s->rule.kind) {
    case MRA_FEATURES_KEY:
        for (int j = 0; j < LENGTH; j++)
            if (shown(s, group, j))
                largest =
                    fmax(largest, projection(s, x, group, j, r) - half_square(s, x, group, j));
        return largest;
    case MRA_FEATURES_KEY_ONE:
        for (int i = 0; i < LENGTH * FEATURES; i++)
            largest = fmax(largest, projection(s, x, group, i / FEATURES, i % FEATURES) -
                                        half_square(s, x, group, i / FEATURES));
        return largest;
    case MRA_FEATURES_QUERY:
        for (int f = 0; f < FEATURES; f++)
            largest = fmax(largest, projection(s, x, group, row, f) + given[f] -
                                        half_square(s, x, group, row));
        return largest - given[r];
    case MRA_FEATURES_COMMON:
        for (int i = 0; i < GROUPS * LENGTH * FEATURES; i++)
            largest = fmax(largest, projection(s, x, i / (LENGTH * FEATURES),
                                               i / FEATURES % LENGTH, i % FEATURES));
        return largest;
    default:
        for (int f = 0; f < FEATURES; f++)
            largest = fmax(largest, projection(s, x, group, row, f));
        return largest;
    }
}

static void exact_features(double *const *x, double *y, const void *context)
{
    feature_case *s = (feature_case *)(uintptr_t)context;
    for (int i = 0; i < GROUPS * LENGTH * FEATURES; i++) {
        const int group = i / (LENGTH * FEATURES), row = i / FEATURES % LENGTH;
        if (!s->known) s->shift[i] = shift_of(s, x[0], group, row, i % FEATURES);
        const bool counts = shown(s, group, row) || s->rule.kind == MRA_FEATURES_COMMON;
        y[i] = counts ? exp(projection(s, x[0], group, row, i % FEATURES) -
                            half_square(s, x[0], group, row) - s->shift[i]) +
                            s->rule.epsilon
                      : 0;
    }
    s->known = true;
}

static void test_kinds(void **state)
{
    (void)state;
    static const mra_feature_kind kinds[] = {MRA_FEATURES_KEY, MRA_FEATURES_QUERY,
                                             MRA_FEATURES_COMMON, MRA_FEATURES_ROW,
                                             MRA_FEATURES_KEY_ONE};
    for (int i = 0; i < 10; i++) {
        feature_case s = {{kinds[i / 2], 0.7f, i / 2 < 2 ? 0.0f : 0.01f},
                          i % 2 ? mask : NULL,
                          {0},
                          {0},
                          false,
                          {0}};
        mra_fill_normal(s.w, FEATURES * D, 0.7f, check_seed(), 77);
        mra_fill_normal(s.key_shift, GROUPS * FEATURES, 1.0f, check_seed(), 78);
        const check_case c = {"features", 1, {rows_shape}, apply_features, exact_features,
                              &s,         0};
        check_operation(&c, GROUPS * LENGTH * FEATURES);
    }
}

// ---- Division, ones, masks ------------------------------------------------------------------

// Of x^2 + 1, so that no divisor is near 0.
static mra_tensor *apply_divide(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    mra_tensor *ones = mra_tape_result(tape, 4, rows_shape.dim, false);
    if (!ones) return NULL;
    mra_device *device = mra_tape_device(tape);
    device->kernels->fill(device, ones->size, 1.0f, ones->data, NULL);
    return mra_divide_by_last(tape, mra_add(tape, mra_multiply(tape, x[0], x[0]), ones));
}

static void exact_divide(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int i = 0; i < GROUPS * LENGTH; i++)
        for (int j = 0; j < D - 1; j++)
            y[i * (D - 1) + j] =
                (pow(x[0][i * D + j], 2) + 1) / (pow(x[0][i * D + D - 1], 2) + 1);
}

static mra_tensor *apply_ones(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    return mra_append_ones(tape, mra_mask_tokens(tape, x[0], context));
}

static void exact_ones(double *const *x, double *y, const void *context)
{
    const uint8_t *seen = context;
    for (int i = 0; i < GROUPS * LENGTH; i++)
        for (int j = 0; j <= D; j++)
            y[i * (D + 1) + j] = j == D ? 1
                                 : seen[i / (HEADS * LENGTH) * LENGTH + i % LENGTH]
                                     ? x[0][i * D + j]
                                     : 0;
}

static void test_divide(void **state)
{
    (void)state;
    const check_case ones = {"ones", 1, {rows_shape}, apply_ones, exact_ones, mask, 0};
    check_operation(&ones, GROUPS * LENGTH * (D + 1));
    const check_case c = {"divide", 1, {rows_shape}, apply_divide, exact_divide, NULL, 0};
    check_operation(&c, GROUPS * LENGTH * (D - 1));
}

static void test_divide_by_nothing(void **state)
{
    (void)state;
    mra_device *device = check_open(1);
    mra_tape *tape = check_tape(device);
    mra_error err;
    float x[6] = {3, 4, 0, 6, 8, 2}, dx[6] = {0}, ones[4] = {1, 1, 1, 1};
    mra_tensor *y = mra_divide_by_last(tape, mra_wrap(tape, 2, (int[]){2, 3}, x, dx));
    assert_non_null(y);
    const float want[4] = {0, 0, 3, 4}, slope[6] = {0, 0, 0, 0.5f, 0.5f, -3.5f};
    assert_memory_equal(y->data, want, sizeof want);
    assert_int_equal(mra_tape_backward_from(tape, y, ones, &err), MRA_OK);
    for (int i = 0; i < 6; i++) assert_true(dx[i] == slope[i]);
    mra_tape_free(tape);
    mra_device_close(device);
}

static void test_bad_input(void **state)
{
    (void)state;
    mra_device *device = check_open(1);
    mra_tape *tape = check_tape(device);
    mra_error err;
    float data[60] = {0};
    const mra_feature_rule rule = {MRA_FEATURES_KEY, 1, 0};
    mra_tensor *x = mra_wrap(tape, 4, (int[]){1, 1, 5, 3}, data, NULL), *shift = NULL;
    mra_tensor *w = mra_wrap(tape, 2, (int[]){2, 4}, data, NULL);
    assert_null(mra_features(tape, x, w, &rule, NULL, &shift, NULL));
    assert_int_equal(mra_tape_status(tape, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "w[2,4]"));
    mra_tape_reset(tape);
    x = mra_wrap(tape, 2, (int[]){5, 1}, data, NULL);
    assert_null(mra_divide_by_last(tape, x));
    assert_int_equal(mra_tape_status(tape, &err), MRA_BAD_INPUT);
    mra_tape_free(tape);
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds), cmocka_unit_test(test_divide),
        cmocka_unit_test(test_divide_by_nothing), cmocka_unit_test(test_bad_input)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
