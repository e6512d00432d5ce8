// Operations that move entries: embeddings, positions, heads, masks, means, concatenation,
// views, dropout.

#include "check.h"

enum {
    BATCH = 3,
    LENGTH = 7,
    HEADS = 2,
    D = 5,
    WIDTH = HEADS * D,
    ENTRIES = BATCH * LENGTH * WIDTH
};

static const check_shape sequence = {3, {BATCH, LENGTH, WIDTH}};

// A mask with every case: all tokens, some, none.
static const uint8_t mask[BATCH * LENGTH] = {1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0};

// ---- Embedding ------------------------------------------------------------------------------

typedef struct id_list {
    int32_t ids[1100];
    size_t count;
    int rows, width;
} id_list;

static mra_tensor *apply_embedding(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const id_list *s = context;
    return mra_embedding(tape, x[0], s->ids, s->count);
}

static void exact_embedding(double *const *x, double *y, const void *context)
{
    const id_list *s = context;
    for (size_t i = 0; i < s->count; i++)
        for (int j = 0; j < s->width; j++)
            y[i * (size_t)s->width + (size_t)j] = x[0][s->ids[i] * s->width + j];
}

// 1100 indices, most of them the same one: its gradient is a sum of several runs.
static void test_embedding(void **state)
{
    (void)state;
    id_list s = {.count = 1100, .rows = 11, .width = 3};
    for (size_t i = 0; i < s.count; i++) s.ids[i] = i % 10 ? 4 : (int32_t)(i / 10 % 9);
    const check_case c = {"embedding", 1, {{2, {11, 3}}}, apply_embedding, exact_embedding,
                          &s,          0};
    check_operation(&c, s.count * 3);
    s.count = 1;
    check_operation(&c, 3);
    id_list same = {.count = 1100, .rows = 1, .width = 3};
    const check_case one = {"embedding", 1, {{2, {1, 3}}}, apply_embedding, exact_embedding,
                            &same,       0};
    check_operation(&one, same.count * 3);
}

// ---- Positions ------------------------------------------------------------------------------

static const int32_t positions[LENGTH] = {8, 0, 3, 3, 1, 8, 2};

static mra_tensor *apply_positions(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    return mra_add_positions(tape, x[0], x[1], context);
}

static void exact_positions(double *const *x, double *y, const void *context)
{
    const int32_t *at = context;
    for (int b = 0; b < BATCH; b++)
        for (int i = 0; i < LENGTH; i++)
            for (int j = 0; j < WIDTH; j++)
                y[(b * LENGTH + i) * WIDTH + j] =
                    x[0][(b * LENGTH + i) * WIDTH + j] + x[1][(at ? at[i] : i) * WIDTH + j];
}

static void test_positions(void **state)
{
    (void)state;
    check_case c = {"add_positions",
                    2,
                    {sequence, {2, {9, WIDTH}}},
                    apply_positions,
                    exact_positions,
                    NULL,
                    0};
    check_operation(&c, ENTRIES);
    c.context = positions;
    check_operation(&c, ENTRIES);
}

// ---- Heads ----------------------------------------------------------------------------------

static mra_tensor *apply_split(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_split_heads(tape, x[0], HEADS);
}

static void exact_split(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int b = 0; b < BATCH; b++)
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < LENGTH; i++)
                for (int j = 0; j < D; j++) *y++ = x[0][(b * LENGTH + i) * WIDTH + h * D + j];
}

static mra_tensor *apply_merge(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_merge_heads(tape, x[0]);
}

static void exact_merge(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int b = 0; b < BATCH; b++)
        for (int i = 0; i < LENGTH; i++)
            for (int h = 0; h < HEADS; h++)
                for (int j = 0; j < D; j++) *y++ = x[0][((b * HEADS + h) * LENGTH + i) * D + j];
}

static void test_heads(void **state)
{
    (void)state;
    const check_case split = {"split_heads", 1, {sequence}, apply_split, exact_split, NULL, 0};
    const check_case merge = {
        "merge_heads", 1, {{4, {BATCH, HEADS, LENGTH, D}}}, apply_merge, exact_merge, NULL, 0};
    check_operation(&split, ENTRIES);
    check_operation(&merge, ENTRIES);
}

// ---- Masks and means ------------------------------------------------------------------------

static mra_tensor *apply_mask(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    return mra_apply_mask(tape, x[0], context);
}

static void exact_mask(double *const *x, double *y, const void *context)
{
    const uint8_t *keep = context;
    for (int i = 0; i < ENTRIES; i++) y[i] = !keep || keep[i / WIDTH] ? x[0][i] : 0.0;
}

static mra_tensor *apply_pool(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    return mra_mean_pool(tape, x[0], context);
}

static void exact_pool(double *const *x, double *y, const void *context)
{
    const uint8_t *keep = context;
    for (int b = 0; b < BATCH; b++)
        for (int j = 0; j < WIDTH; j++) {
            double sum = 0.0;
            int count = 0;
            for (int i = 0; i < LENGTH; i++) {
                if (keep && !keep[b * LENGTH + i]) continue;
                sum += x[0][(b * LENGTH + i) * WIDTH + j];
                count++;
            }
            y[b * WIDTH + j] = count ? sum / count : 0.0;
        }
}

static void test_masks(void **state)
{
    (void)state;
    for (int masked = 0; masked < 2; masked++) {
        const uint8_t *keep = masked ? mask : NULL;
        const check_case one = {"apply_mask", 1, {sequence}, apply_mask, exact_mask, keep, 0};
        const check_case mean = {"mean_pool", 1, {sequence}, apply_pool, exact_pool, keep, 0};
        check_operation(&one, ENTRIES);
        check_operation(&mean, BATCH * WIDTH);
    }
}

// ---- Concatenation and views ----------------------------------------------------------------

static const int part_width[3] = {4, 1, 9};

static mra_tensor *apply_concat(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_concat(tape, x, 3);
}

static void exact_concat(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int row = 0; row < 10; row++)
        for (int part = 0; part < 3; part++)
            for (int j = 0; j < part_width[part]; j++)
                *y++ = x[part][row * part_width[part] + j];
}

// A tensor that is used as it is and through two views: three parts of one gradient.
static mra_tensor *apply_views(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    mra_tensor *flat = mra_reshape(tape, x[0], 1, (int[]){ENTRIES});
    mra_tensor *square = mra_multiply(tape, flat, flat);
    mra_tensor *view = mra_reshape(
        tape, mra_reshape(tape, x[0], 2, (int[]){LENGTH, BATCH * WIDTH}), 1, (int[]){ENTRIES});
    mra_tensor *sum = mra_add(tape, square, mra_gelu(tape, view));
    mra_tensor *direct = mra_scale(tape, x[0], 3.0f);
    return mra_add(tape, mra_reshape(tape, sum, 3, sequence.dim), direct);
}

static void exact_views(double *const *x, double *y, const void *context)
{
    (void)context;
    for (int i = 0; i < ENTRIES; i++) {
        const double v = x[0][i];
        y[i] = v * v + 0.5 * v * erfc(-v / sqrt(2.0)) + 3.0 * v;
    }
}

static void test_concat_and_views(void **state)
{
    (void)state;
    const check_case concat = {"concat",
                               3,
                               {{3, {2, 5, 4}}, {3, {2, 5, 1}}, {3, {2, 5, 9}}},
                               apply_concat,
                               exact_concat,
                               NULL,
                               0};
    const check_case views = {"views", 1, {sequence}, apply_views, exact_views, NULL, 0};
    check_operation(&concat, 140);
    check_operation(&views, ENTRIES);
}

// ---- Dropout --------------------------------------------------------------------------------

enum { SITE = 5, STEP = 77 };

static const float drop = 0.3f;

static mra_tensor *apply_dropout(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    mra_tape_mode(tape, true, true, 42, STEP);
    mra_tensor *y = mra_dropout(tape, x[0], drop, SITE);
    mra_tape_mode(tape, true, true, 43, STEP + 1); // must not matter for the way back
    return y;
}

static void exact_dropout(double *const *x, double *y, const void *context)
{
    (void)context;
    const uint64_t stream = mra_stream("dropout", SITE, STEP);
    for (int i = 0; i < ENTRIES; i++)
        y[i] = mra_uniform_at(42, stream, (uint64_t)i) < drop ? 0.0 : x[0][i] / (1.0 - drop);
}

static void test_dropout(void **state)
{
    (void)state;
    const check_case c = {"dropout", 1, {sequence}, apply_dropout, exact_dropout, NULL, 0};
    check_operation(&c, ENTRIES);
    mra_device *device = check_open(1);
    mra_tape *tape = check_tape(device);
    float data[4] = {1, 2, 3, 4}, grad[4];
    mra_tensor *x = mra_wrap(tape, 1, (int[]){4}, data, grad);
    mra_tape_mode(tape, false, true, 42, STEP);
    assert_ptr_equal(mra_dropout(tape, x, drop, SITE), x);
    mra_tape_mode(tape, true, true, 42, STEP);
    assert_ptr_equal(mra_dropout(tape, x, 0.0f, SITE), x);
    mra_tape_free(tape);
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_concat_and_views),
        cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
