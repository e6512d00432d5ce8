// `htransformer1d` against its definition in float64, token pair by token pair; masks; logits of any
// size; a matrix that the hierarchy represents exactly.

#include "method_case.h"

// What the layer was told.
typedef struct settings {
    int block;
    bool published;
} settings;

// The segment of 2^level tokens that token i belongs to begins at (i >> level) << level. Its pooled
// query or key: the mean over visible tokens, or, published, of the halves' means.
static void segment_mean(const method_case *c, const double *x, bool published, int level,
                         int row, double *mean, int *seen)
{
    memset(mean, 0, sizeof *mean * (size_t)c->d);
    *seen = 0;
    if (level == 0) {
        *seen = row < c->n && (!c->mask || c->mask[row]);
        for (int e = 0; e < c->d && *seen; e++) mean[e] = x[row * c->d + e];
        return;
    }
    double half[2][256];
    int count[2];
    for (int side = 0; side < 2; side++)
        segment_mean(c, x, published, level - 1, 2 * row + side, half[side], &count[side]);
    *seen = count[0] + count[1];
    for (int side = 0; side < 2 && *seen; side++) {
        const double share = published
                                 ? (count[side] > 0) / (double)((count[0] > 0) + (count[1] > 0))
                                 : (double)count[side] / *seen;
        for (int e = 0; e < c->d; e++) mean[e] += share * half[side][e];
    }
}

// One row of sums, as the definition adds them up.
typedef struct row_sum {
    double divisor, sum[256], largest;
} row_sum;

// The logits of one row with a block of keys, and how many tokens each key has.
static void block_logits(const method_case *c, double *const x[2], const settings *s, int level,
                         int token, int other, double *logit, int *counts)
{
    double query[256], key[256];
    int seen;
    segment_mean(c, x[0], s->published, level, token >> level, query, &seen);
    for (int j = 0; j < s->block; j++) {
        segment_mean(c, x[1], s->published, level, other * s->block + j, key, &counts[j]);
        logit[j] = 0;
        for (int e = 0; e < c->d; e++) logit[j] += query[e] * key[e] / sqrt(c->d);
    }
}

// The largest logit of a key with a token. Which key that is follows from the inputs that are not
// moved: a difference quotient does not step from one key to another.
static double largest_logit(const method_case *c, const settings *s, int level, int token,
                            int other, const double *logit, const int *counts)
{
    const float *from[2] = {c->q, c->k};
    double still[512], *x[2] = {NULL, NULL};
    int same[512], top = -1;
    if (s->published)
        for (int i = 0; i < 2; i++) x[i] = dense_copy(from[i], (size_t)c->n * (size_t)c->d);
    if (s->published) block_logits(c, x, s, level, token, other, still, same);
    const double *rank = s->published ? still : logit;
    for (int j = 0; j < s->block; j++)
        if (counts[j] && (top < 0 || rank[j] > rank[top])) top = j;
    free(x[0]);
    free(x[1]);
    return top < 0 ? -INFINITY : logit[top];
}

// Adds the keys of block `other` at `level` (the whole block, in tokens: block * 2^level) to row.
// Specified: relative to row->largest, which the first pass finds (`measure`).
static void add_block(const method_case *c, double *const x[3], const settings *s, int level,
                      int token, int other, bool measure, row_sum *row)
{
    double logit[512];
    int counts[512];
    block_logits(c, x, s, level, token, other, logit, counts);
    const double own = largest_logit(c, s, level, token, other, logit, counts);
    if (measure) {
        row->largest = fmax(row->largest, own);
        return;
    }
    if (own == -INFINITY && s->published) row->divisor += s->block;
    for (int j = 0; j < s->block; j++) {
        if (!counts[j]) continue;
        const double weight = exp(logit[j] - (s->published ? own : row->largest));
        row->divisor += s->published ? weight : weight * counts[j];
        const int first = (other * s->block + j) << level;
        for (int t = first; t < first + (1 << level) && t < c->n; t++)
            for (int e = 0; e < c->d && (!c->mask || c->mask[t]); e++)
                row->sum[e] += weight * x[2][t * c->d + e];
    }
}

static void definition(const method_case *c, double *const x[3], double *z)
{
    const settings *s = c->context;
    int doublings = s->published ? 2 : 0;
    while (s->block << doublings < c->n) doublings++;
    const int levels = s->published ? doublings - 1 : doublings;
    for (int i = 0; i < c->n; i++) {
        memset(z + i * c->d, 0, sizeof *z * (size_t)c->d);
        if (c->mask && !c->mask[i]) continue;
        row_sum row = {.largest = -INFINITY};
        for (int pass = s->published ? 1 : 0; pass < 2; pass++) {
            add_block(c, x, s, 0, i, i / s->block, pass == 0, &row);
            for (int level = 0; level < levels; level++)
                add_block(c, x, s, level, i, ((i >> level) / s->block) ^ 1, pass == 0, &row);
        }
        if (s->published) row.divisor += 1e-8;
        for (int e = 0; e < c->d; e++) z[i * c->d + e] = row.sum[e] / row.divisor;
    }
}

static void test_definition(void **state)
{
    (void)state;
    static const settings specified = {16, false}, published = {16, true};
    static const settings small = {5, false}, small_published = {3, true};
    method_report(&(method_check){.method = "htransformer1d",
                                  .definition = definition,
                                  .context = &specified,
                                  .lengths = {31, 33, 200}});
    // With one token z = v: the gradients of Q and K are 0, a difference of equal numbers whose
    // rounding is measured against a twentieth of the gradient of V.
    method_report(&(method_check){.method = "htransformer1d",
                                  .label = "htransformer1d, n = 1",
                                  .definition = definition,
                                  .context = &specified,
                                  .gradient_tolerance = 1e-4,
                                  .lengths = {1}});
    method_report(&(method_check){.method = "htransformer1d",
                                  .options = {"block=5"},
                                  .label = "htransformer1d block=5",
                                  .definition = definition,
                                  .context = &small,
                                  .lengths = {4, 33, 100}});
    method_report(&(method_check){.method = "htransformer1d",
                                  .options = {"variant=published"},
                                  .label = "htransformer1d published",
                                  .definition = definition,
                                  .context = &published,
                                  .lengths = {1, 31, 33, 200}});
    method_report(&(method_check){.method = "htransformer1d",
                                  .options = {"variant=published", "block=3"},
                                  .label = "htransformer1d published block=3",
                                  .definition = definition,
                                  .context = &small_published,
                                  .lengths = {7, 33, 100}});
    method_report(&(method_check){.method = "htransformer1d",
                                  .definition = definition,
                                  .context = &specified,
                                  .lengths = {1000},
                                  .without_gradient = true,
                                  .shape = {.heads = 1}});
}

static void run(const char *method, const char *option, dense_arrays *a)
{
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    mra_attention_layer *layer;
    assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    if (mra_attention_layer_create(&layer, method, device, a->shape, 1, &option, option ? 1 : 0,
                                   &err) != MRA_OK)
        fail_msg("%s", err.message);
    if (mra_attention_run(layer, tape, a->x[DENSE_Q], a->x[DENSE_K], a->x[DENSE_V], a->mask,
                          a->x[DENSE_Z], a->x[DENSE_DZ], a->x[DENSE_DQ], a->x[DENSE_DK],
                          a->x[DENSE_DV], &err) != MRA_OK)
        fail_msg("%s", err.message);
    mra_attention_layer_free(layer);
    mra_tape_free(tape);
    mra_device_close(device);
}

// Two blocks, or queries and keys that are constant along segments of 16: nothing is lost, so the
// result is softmax attention's.
static void test_exact_where_nothing_is_pooled(void **state)
{
    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        const mra_shape shape = {2, 2, turn ? 256 : 29, 32};
        dense_arrays a = dense_make(shape, 1, turn == 0);
        const size_t size = dense_size(shape), row = (size_t)shape.d;
        for (size_t i = 0; i < size && turn; i++)
            for (int which = DENSE_Q; which <= DENSE_K; which++)
                a.x[which][i] = a.x[which][i / (16 * row) * 16 * row + i % row];
        run("exact", NULL, &a);
        double *want = dense_copy(a.x[DENSE_Z], size);
        run("htransformer1d", "block=16", &a);
        assert_close(a.x[DENSE_Z], want, size, 2e-6);
        free(want);
        dense_release(&a);
    }
}

// Logits of +-1e4: finite, and values of 1 give 1.
static void test_extreme(void **state)
{
    (void)state;
    static const char *const option[] = {"variant=specified", "variant=published"};
    for (int turn = 0; turn < 4; turn++) {
        dense_arrays a = dense_make((mra_shape){1, 2, 150, 16}, 60, turn >= 2);
        for (size_t i = 0; i < dense_size(a.shape); i++) a.x[DENSE_V][i] = 1;
        run("htransformer1d", option[turn % 2], &a);
        for (int j = DENSE_Z; j < DENSE_ARRAYS; j++)
            for (size_t i = 0; i < dense_size(a.shape); i++) assert_true(isfinite(a.x[j][i]));
        for (size_t i = 0; i < dense_size(a.shape) && turn % 2 == 0; i++) {
            const bool seen = !a.mask || a.mask[i / 16 % 150];
            assert_true(fabsf(a.x[DENSE_Z][i] - (float)seen) < 1e-5f);
        }
        dense_release(&a);
    }
}

// A masked tail is as if it were not there, whatever it holds and however long the padded sequence
// becomes; a head with no token gives 0.
static void test_mask_is_deletion(void **state)
{
    (void)state;
    enum { LONG = 150, D = 32 };
    static const int lengths[] = {1, 31, 33, 64, 100};
    for (int turn = 0; turn < 5; turn++) {
        const int shorter = lengths[turn];
        dense_arrays whole = dense_make((mra_shape){1, 1, LONG, D}, 1, false);
        dense_arrays part = dense_make((mra_shape){1, 1, shorter, D}, 1, false);
        whole.mask = calloc(LONG, 1);
        assert_non_null(whole.mask);
        memset(whole.mask, 1, (size_t)shorter);
        const size_t size = (size_t)shorter * D;
        for (int i = 0; i < DENSE_Z; i++) memcpy(part.x[i], whole.x[i], size * sizeof(float));
        for (int which = DENSE_Q; which <= DENSE_V; which++)
            for (size_t i = size; i < LONG * D; i++) whole.x[which][i] = NAN;
        run("htransformer1d", NULL, &whole);
        run("htransformer1d", NULL, &part);
        for (int j = DENSE_Z; j < DENSE_ARRAYS; j++) {
            double *want = dense_copy(part.x[j], size);
            assert_close(whole.x[j], want, size, 1e-5);
            free(want);
            for (size_t i = size; i < LONG * D; i++) assert_true(whole.x[j][i] == 0);
        }
        memset(whole.mask, 0, LONG);
        run("htransformer1d", NULL, &whole);
        for (int j = DENSE_Z; j < DENSE_ARRAYS; j++)
            for (size_t i = 0; i < LONG * D; i++) assert_true(whole.x[j][i] == 0);
        dense_release(&whole);
        dense_release(&part);
    }
}

// As published, the second half of a sequence does not reach the first.
static void test_published_halves_do_not_meet(void **state)
{
    (void)state;
    enum { N = 128, D = 8 };
    static const char *const option[] = {"variant=specified", "variant=published"};
    for (int turn = 0; turn < 2; turn++) {
        dense_arrays a = dense_make((mra_shape){1, 1, N, D}, 1, false);
        memset(a.x[DENSE_DZ], 0, N * D / 2 * sizeof(float)); // the second half's tokens alone
        run("htransformer1d", option[turn], &a);
        double reached = 0;
        for (int i = 0; i < N * D / 2; i++) reached += fabs(a.x[DENSE_DV][i]);
        assert_true(turn ? reached == 0 : reached > 0);
        dense_release(&a);
    }
}

// Bit by bit the same on one thread and on two.
static void test_threads(void **state)
{
    (void)state;
    const int shape[4] = {2, 3, 77, 24};
    const size_t size = (size_t)2 * 3 * 77 * 24;
    float *result[2], *x = dense_normal(size, 1, 5);
    for (int threads = 1; threads <= 2; threads++) {
        mra_device *device;
        mra_tape *tape;
        mra_error err;
        float *gradient = mra_aligned_calloc(size, sizeof *gradient);
        result[threads - 1] = mra_aligned_calloc(2 * size, sizeof *x);
        assert_non_null(gradient);
        assert_int_equal(mra_device_open(&device, "cpu", threads, &err), MRA_OK);
        assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
        mra_tensor *t = mra_wrap(tape, 4, shape, x, gradient);
        mra_tensor *z = mra_hierarchical_attention(tape, t, t, t, 16, false, NULL);
        assert_non_null(z);
        assert_int_equal(mra_tape_backward_from(tape, z, x, &err), MRA_OK);
        memcpy(result[threads - 1], z->data, size * sizeof *x);
        memcpy(result[threads - 1] + size, gradient, size * sizeof *x);
        mra_aligned_free(gradient);
        mra_tape_free(tape);
        mra_device_close(device);
    }
    assert_memory_equal(result[0], result[1], 2 * size * sizeof *x);
    mra_aligned_free(result[0]);
    mra_aligned_free(result[1]);
    mra_aligned_free(x);
}

static void test_bad_input(void **state)
{
    (void)state;
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    float x[24] = {0};
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    mra_tensor *a = mra_wrap(tape, 4, (int[]){1, 1, 4, 6}, x, NULL);
    mra_tensor *b = mra_wrap(tape, 4, (int[]){1, 1, 3, 8}, x, NULL);
    assert_null(mra_hierarchical_attention(tape, a, b, a, 16, false, NULL));
    assert_int_equal(mra_tape_status(tape, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "k[1,1,3,8]"));
    mra_tape_free(tape);
    mra_attention_layer *layer;
    const char *const option = "block=0";
    assert_int_equal(mra_attention_layer_create(&layer, "htransformer1d", device,
                                                (mra_shape){1, 1, 64, 8}, 1, &option, 1, &err),
                     MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "block"));
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_definition),
                                       cmocka_unit_test(test_exact_where_nothing_is_pooled),
                                       cmocka_unit_test(test_extreme),
                                       cmocka_unit_test(test_mask_is_deletion),
                                       cmocka_unit_test(test_published_halves_do_not_meet),
                                       cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_bad_input)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
