// Attention over listed blocks against its definition: lists drawn at random (entries twice,
// empty lists and conditional entries among them), masks, blocks that do not divide the length,
// the log-sum-exp as a second result, extreme logits, any number of threads.

#include "check.h"

#include "core/arena.h"

// A pattern in host memory (the device of these tests is the host), and what goes with it.
typedef struct block_case {
    mra_block_pattern pattern;
    int batch, heads, d;
    float scale;
    int32_t *start, *entry;
    uint8_t *mask;  // [batch, n] or NULL
    bool with_lse;  // the result is [batch, heads, n, d + 1], lse last
    bool every_row; // no list is empty and nothing is masked: lse is finite
} block_case;

// Lists drawn at random: each entry is in with probability 1/2, and perhaps twice.
static void draw_lists(block_case *c, uint64_t stream)
{
    mra_block_pattern *pattern = &c->pattern;
    const int blocks = mra_pattern_blocks(pattern);
    mra_random random = mra_random_open(check_seed(), stream);
    c->start = calloc((size_t)(pattern->lists * blocks + 1), sizeof *c->start);
    c->entry = calloc((size_t)(pattern->lists * blocks * blocks * 2 + 1), sizeof *c->entry);
    int count = 0;
    for (int row = 0; row < pattern->lists * blocks; row++) {
        const bool empty = !c->every_row && mra_random_below(&random, 6) == 0;
        for (int y = 0; y < blocks && !empty; y++) {
            const bool own = y == row % blocks && c->every_row;
            const int times = own ? 1 : (int)mra_random_below(&random, 7) / 3;
            for (int t = 0; t < times; t++)
                c->entry[count++] = 2 * y + (mra_random_below(&random, 2) > 0);
        }
        c->start[row + 1] = count;
    }
    pattern->start = c->start;
    pattern->entry = c->entry;
}

static void draw_mask(block_case *c, uint64_t stream)
{
    const size_t tokens = (size_t)c->batch * (size_t)c->pattern.n;
    mra_random random = mra_random_open(check_seed(), stream);
    c->mask = calloc(tokens, 1);
    for (size_t i = 0; i < tokens; i++) c->mask[i] = mra_random_below(&random, 3) > 0;
    for (int i = 0; i < c->pattern.block && i < c->pattern.n; i++)
        c->mask[i] = 0; // a whole block
}

static void release(block_case *c)
{
    free(c->start);
    free(c->entry);
    free(c->mask);
}

// How often pair (i, j) of a head counts.
static int times_of(const block_case *c, int head, int i, int j)
{
    const mra_block_pattern *pattern = &c->pattern;
    const int row = head % pattern->lists * mra_pattern_blocks(pattern) + i / pattern->block;
    const bool condition =
        (i - j <= pattern->window && j - i <= pattern->window - pattern->fewer) ||
        i < pattern->globals || j < pattern->globals;
    int times = 0;
    for (int e = c->start[row]; e < c->start[row + 1]; e++)
        if (c->entry[e] / 2 == j / pattern->block) times += c->entry[e] % 2 == 0 || condition;
    return times;
}

static void reference_row(const block_case *c, double *const *x, int head, int i, double *z,
                          double *lse)
{
    const int n = c->pattern.n, d = c->d;
    const size_t at = (size_t)head * (size_t)n * (size_t)d;
    const uint8_t *mask = c->mask ? c->mask + head / c->heads * n : NULL;
    double *logit = malloc(sizeof *logit * (size_t)n), largest = -INFINITY, sum = 0;
    memset(z, 0, sizeof *z * (size_t)d);
    for (int j = 0; j < n; j++) {
        double dot = 0;
        for (int k = 0; k < d; k++)
            dot += x[0][at + (size_t)(i * d + k)] * x[1][at + (size_t)(j * d + k)];
        logit[j] = mask && (!mask[i] || !mask[j]) ? -INFINITY : c->scale * dot;
        if (!times_of(c, head, i, j)) logit[j] = -INFINITY;
        if (logit[j] > largest) largest = logit[j];
    }
    for (int j = 0; j < n && largest > -INFINITY; j++) {
        const double weight = times_of(c, head, i, j) * exp(logit[j] - largest);
        sum += weight;
        for (int k = 0; k < d; k++) z[k] += weight * x[2][at + (size_t)(j * d + k)];
    }
    for (int k = 0; k < d && sum > 0; k++) z[k] /= sum;
    *lse = largest + log(sum);
    free(logit);
}

static void reference(double *const *x, double *y, const void *context)
{
    const block_case *c = context;
    double lse, z[64];
    for (int head = 0; head < c->batch * c->heads; head++)
        for (int i = 0; i < c->pattern.n; i++) {
            reference_row(c, x, head, i, z, &lse);
            for (int k = 0; k < c->d; k++) *y++ = z[k];
            if (c->with_lse) *y++ = lse;
        }
}

// The lists on the device.
static mra_block_pattern pattern_on(mra_tape *tape, const block_case *c)
{
    mra_block_pattern pattern = c->pattern;
    const int rows = pattern.lists * mra_pattern_blocks(&pattern);
    pattern.start = mra_tape_upload(tape, c->start, ((size_t)rows + 1) * sizeof *c->start);
    pattern.entry = mra_tape_upload(tape, c->entry, (size_t)c->start[rows] * sizeof *c->entry);
    return pattern;
}

static mra_tensor *apply(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const block_case *c = context;
    const mra_block_pattern pattern = pattern_on(tape, c);
    mra_tensor *lse, *z = mra_block_attention(tape, x[0], x[1], x[2], &pattern, c->scale,
                                              c->mask, c->with_lse ? &lse : NULL);
    if (!c->with_lse || !z) return z;
    const int shape[4] = {c->batch, c->heads, c->pattern.n, 1};
    return mra_concat(tape, (mra_tensor *const[]){z, mra_reshape(tape, lse, 4, shape)}, 2);
}

static mra_tensor *apply_lse(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const block_case *c = context;
    const mra_block_pattern pattern = pattern_on(tape, c);
    mra_tensor *lse;
    mra_block_attention(tape, x[0], x[1], x[2], &pattern, c->scale, c->mask, &lse);
    return lse;
}

static void reference_lse(double *const *x, double *y, const void *context)
{
    const block_case *c = context;
    double z[64];
    for (int head = 0; head < c->batch * c->heads; head++)
        for (int i = 0; i < c->pattern.n; i++) reference_row(c, x, head, i, z, y++);
}

static void check_blocks(block_case *c, uint64_t stream, bool masked)
{
    const check_shape shape = {4, {c->batch, c->heads, c->pattern.n, c->d}};
    draw_lists(c, stream);
    if (masked) draw_mask(c, stream + 1);
    const size_t rows = (size_t)c->batch * (size_t)c->heads * (size_t)c->pattern.n;
    check_operation(&(check_case){.name = "block_attention",
                                  .inputs = 3,
                                  .shape = {shape, shape, shape},
                                  .apply = apply,
                                  .reference = reference,
                                  .context = c,
                                  .tolerance = 5e-6},
                    rows * (size_t)(c->d + c->with_lse));
    if (c->with_lse)
        check_operation(&(check_case){.name = "block_attention, lse alone",
                                      .inputs = 3,
                                      .shape = {shape, shape, shape},
                                      .apply = apply_lse,
                                      .reference = reference_lse,
                                      .context = c,
                                      .tolerance = 5e-6},
                        rows);
    release(c);
}

static void test_random_lists(void **state)
{
    (void)state;
    static const int size[][4] = {
        // n, block, window, globals
        {1, 4, 0, 0},   {13, 4, 2, 0},  {13, 5, 1, 3}, {16, 4, 3, 1}, {17, 17, 4, 2},
        {19, 32, 6, 1}, {23, 3, 30, 0}, {23, 1, 3, 1}}; // the last: more than 256 entries
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++)
        for (int masked = 0; masked < (size[i][1] > 1 ? 2 : 1); masked++)
            check_blocks(
                &(block_case){.pattern = {.n = size[i][0],
                                          .block = size[i][1],
                                          .lists = i % 2 == 0        ? 1
                                                   : masked && i % 3 ? 4
                                                                     : 2,
                                          .window = size[i][2],
                                          .fewer = (int)(i % 3) < size[i][2] ? (int)(i % 3) : 0,
                                          .globals = size[i][3]},
                              .batch = masked ? 2 : 1,
                              .heads = 2,
                              .d = 3 + (int)i,
                              .scale = 0.7f},
                10 * i, masked);
}

static void test_log_sum_exp(void **state)
{
    (void)state;
    for (int n = 1; n <= 21; n += 10)
        check_blocks(&(block_case){.pattern = {.n = n, .block = 4, .lists = 1, .window = 2},
                                   .batch = 1,
                                   .heads = 2,
                                   .d = 5,
                                   .scale = 0.5f,
                                   .with_lse = true,
                                   .every_row = true},
                     200 + (uint64_t)n, false);
}

// One forward and backward pass; results [z, dq, dk, dv] of `size` numbers each.
static void run_once(const block_case *c, const float *const x[3], const float *dz, int threads,
                     float *result[4], size_t size)
{
    mra_device *device = check_open(threads);
    mra_tape *tape = check_tape(device);
    mra_error err;
    mra_tensor *operand[3];
    const int shape[4] = {c->batch, c->heads, c->pattern.n, c->d};
    for (int i = 0; i < 3; i++) {
        memset(result[i + 1], 0, size * sizeof(float));
        float *data = mra_tape_upload(tape, x[i], size * sizeof(float));
        operand[i] = mra_wrap(tape, 4, shape, data, result[i + 1]);
    }
    mra_tensor *z = mra_block_attention(tape, operand[0], operand[1], operand[2], &c->pattern,
                                        c->scale, c->mask, NULL);
    assert_non_null(z);
    memcpy(result[0], z->data, size * sizeof(float));
    assert_int_equal(mra_tape_backward_from(tape, z, dz, &err), MRA_OK);
    mra_tape_free(tape);
    mra_device_close(device);
}

// Heads 1 and 3 (the queries of a head in several runs) and 9 (in one).
static void test_any_number_of_threads(void **state)
{
    (void)state;
    for (int heads = 1; heads <= 9; heads = heads == 1 ? 3 : heads * 3) {
        block_case c = {
            .pattern = {.n = 201, .block = 16, .lists = heads, .window = 9, .globals = 1},
            .batch = 1,
            .heads = heads,
            .d = 20,
            .scale = 0.2f};
        const size_t size = (size_t)heads * 201 * 20;
        draw_lists(&c, 300);
        draw_mask(&c, 301);
        float *x[4], *result[2][4];
        for (int i = 0; i < 4; i++) {
            x[i] = check_normal(size, 310 + (uint64_t)i);
            for (int r = 0; r < 2; r++) result[r][i] = check_normal(size, 1);
        }
        const float *const input[3] = {x[0], x[1], x[2]};
        for (int r = 0; r < 2; r++) run_once(&c, input, x[3], r ? 3 : 1, result[r], size);
        for (int i = 0; i < 4; i++) {
            assert_memory_equal(result[0][i], result[1][i], size * sizeof(float));
            mra_aligned_free(x[i]);
            for (int r = 0; r < 2; r++) mra_aligned_free(result[r][i]);
        }
        release(&c);
    }
}

// Logits up to 1e4 in size: finite, and equal to the definition where rounding of the logits
// themselves (a float near 1e4 is known to 1e-3) does not decide; whole numbers are exact.
static void test_extreme_logits(void **state)
{
    (void)state;
    block_case c = {.pattern = {.n = 37, .block = 8, .lists = 1, .window = 5, .globals = 1},
                    .batch = 1,
                    .heads = 1,
                    .d = 4,
                    .scale = 1.0f};
    const size_t size = 37 * 4;
    draw_lists(&c, 400);
    float *x[4], *result[4];
    double *exact[3], *want = malloc(size * sizeof *want);
    for (int i = 0; i < 4; i++) {
        x[i] = check_normal(size, 410 + (uint64_t)i);
        result[i] = check_normal(size, 1);
        for (size_t e = 0; e < size && i < 2; e++) x[i][e] = rintf(25 * x[i][e]);
    }
    for (size_t e = 0; e < 4; e++) x[0][e] = x[1][e] = 50; // 1e4 exactly
    for (int i = 0; i < 3; i++) {
        exact[i] = malloc(size * sizeof *exact[i]);
        for (size_t e = 0; e < size; e++) exact[i][e] = x[i][e];
    }
    const float *const input[3] = {x[0], x[1], x[2]};
    run_once(&c, input, x[3], 2, result, size);
    reference(exact, want, &c);
    check_difference("block_attention", "extreme logits", result[0], want, size, 2e-6);
    for (int i = 1; i < 4; i++)
        for (size_t e = 0; e < size; e++) assert_true(isfinite(result[i][e]));
    for (int i = 0; i < 4; i++) {
        mra_aligned_free(x[i]);
        mra_aligned_free(result[i]);
        if (i < 3) free(exact[i]);
    }
    free(want);
    release(&c);
}

static void test_bad_shapes(void **state)
{
    (void)state;
    mra_device *device = check_open(1);
    mra_tape *tape = check_tape(device);
    float data[2 * 5 * 3] = {0};
    mra_error err;
    const mra_block_pattern good = {.n = 5, .block = 2, .lists = 2};
    for (int i = 0; i < 6; i++) {
        mra_block_pattern pattern = good;
        if (i == 0) pattern.n = 4;
        if (i == 1) pattern.block = MRA_BLOCK_LARGEST + 1;
        if (i == 2) pattern.lists = 3;
        if (i == 3) pattern.window = -1;
        if (i == 5) pattern.fewer = 1; // of a window of 0
        mra_tensor *x = mra_wrap(tape, 4, (int[]){1, 2, 5, 3}, data, NULL);
        mra_tensor *y = mra_wrap(tape, 4, (int[]){1, 2, 3, 5}, data, NULL);
        mra_tensor *k = i == 4 ? y : x;
        assert_null(mra_block_attention(tape, x, k, x, &pattern, 1.0f, NULL, NULL));
        assert_int_equal(mra_tape_status(tape, &err), MRA_BAD_INPUT);
        assert_non_null(strstr(err.message, "block_attention: q[1,2,5,3]"));
        mra_tape_reset(tape);
    }
    mra_tape_free(tape);
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lists),
        cmocka_unit_test(test_log_sum_exp),
        cmocka_unit_test(test_any_number_of_threads),
        cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_bad_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
