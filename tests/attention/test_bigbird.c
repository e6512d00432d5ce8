// BigBird against its definition, forward and backward, with the random blocks that the layer says
// it drew; and those blocks against what the paper says of them (outside window and global blocks,
// without replacement, all alike) and against the blocks that the published code draws from.

#include "method_case.h"

enum { OPTION_BLOCK, OPTION_RANDOM };

static int block_of(const mra_attention_layer *layer)
{
    return (int)layer->option[OPTION_BLOCK].number;
}

static int blocks_of(const mra_attention_layer *layer)
{
    return (layer->shape.n + block_of(layer) - 1) / block_of(layer);
}

// The blocks that block x of a head drew, -1 for none.
static const int32_t *drawn_of(const mra_attention_layer *layer, int head, int x)
{
    mra_method_array array[MRA_METHOD_ARRAYS];
    assert_int_equal(layer->method->drawn(layer, array), 1);
    assert_string_equal(array[0].name, "blocks");
    assert_int_equal(array[0].shape[0], layer->shape.heads);
    assert_int_equal(array[0].shape[1], blocks_of(layer));
    assert_int_equal(array[0].shape[2], (int)layer->option[OPTION_RANDOM].number);
    return array[0].ints +
           ((size_t)head * (size_t)array[0].shape[1] + (size_t)x) * (size_t)array[0].shape[2];
}

static bool fixed(int x, int y, int blocks)
{
    return x == 0 || y == 0 || x == blocks - 1 || y == blocks - 1 || abs(x - y) < 2;
}

// How often block x attends to block y.
static int times_of(const mra_attention_layer *layer, int head, int x, int y)
{
    const int32_t *drawn = drawn_of(layer, head, x);
    int times = fixed(x, y, blocks_of(layer));
    for (int r = 0; r < (int)layer->option[OPTION_RANDOM].number; r++) times += drawn[r] == y;
    return times;
}

static void definition(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d, block = block_of(c->layer);
    double *logit = malloc(sizeof *logit * (size_t)n);
    int *times = malloc(sizeof *times * (size_t)n);
    memset(z, 0, sizeof *z * (size_t)(n * d));
    for (int i = 0; i < n; i++) {
        double largest = -INFINITY, sum = 0;
        for (int j = 0; j < n; j++) {
            if (i % block == 0 && j % block == 0)
                for (int y = j; y < j + block && y < n; y++)
                    times[y] = times_of(c->layer, c->head, i / block, j / block);
            logit[j] = -INFINITY;
            if (!times[j] || (c->mask && (!c->mask[i] || !c->mask[j]))) continue;
            double dot = 0;
            for (int k = 0; k < d; k++) dot += x[0][i * d + k] * x[1][j * d + k];
            logit[j] = dot / sqrt(d);
            largest = fmax(largest, logit[j]);
        }
        for (int j = 0; j < n && largest > -INFINITY; j++) {
            const double weight = times[j] * exp(logit[j] - largest);
            sum += weight;
            for (int k = 0; k < d; k++) z[i * d + k] += weight * x[2][j * d + k];
        }
        for (int k = 0; k < d && sum > 0; k++) z[i * d + k] /= sum;
    }
    free(logit);
    free(times);
}

static void test_definition(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "bigbird", .definition = definition});
}

static void test_options(void **state)
{
    (void)state;
    static const char *const set[][2] = {
        {"block=16", "random=3"}, {"block=7", "random=0"}, {"block=50", "random=1000"},
        {"block=512", NULL},      {"block=1", "random=2"},
    };
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        method_report(&(method_check){.method = "bigbird",
                                      .label = set[i][0],
                                      .options = {set[i][0], set[i][1]},
                                      .definition = definition,
                                      .lengths = {1, 2, 31, 33, 150, 201},
                                      .shape = {.batch = 2, .heads = 2}});
}

// 1024: the library's rule for three lengths; 480 and 248: its others.
static void test_published(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "bigbird",
                                  .label = "bigbird, published",
                                  .options = {"variant=published"},
                                  .definition = definition,
                                  .lengths = {1, 33, 248, 480, 1024},
                                  .shape = {.heads = 1}});
}

static mra_attention_layer *open_layer(mra_device **device, int heads, int n, uint64_t seed,
                                       const char *const options[3])
{
    mra_attention_layer *layer;
    mra_error err;
    mra_blas_single_thread();
    assert_int_equal(mra_device_open(device, "cpu", 1, &err), MRA_OK);
    if (mra_attention_layer_create(&layer, "bigbird", *device, (mra_shape){1, heads, n, 2},
                                   seed, options, 3, &err) != MRA_OK)
        fail_msg("%s", err.message);
    return layer;
}

// Outside window and global blocks, no block twice, as many as asked for or as there are; every
// candidate equally often: 2 of 7 in 4000 heads, within 6 standard deviations (a false alarm in
// 7 counts: 1.4e-8).
static void test_what_is_drawn(void **state)
{
    (void)state;
    enum { HEADS = 4000, N = 12, ROW = 5 };
    mra_device *device;
    mra_attention_layer *layer =
        open_layer(&device, HEADS, N, dense_seed(),
                   (const char *[]){"block=1", "random=2", "variant=specified"});
    int count[N] = {0};
    for (int head = 0; head < HEADS; head++)
        for (int x = 0; x < N; x++) {
            const int32_t *drawn = drawn_of(layer, head, x);
            int candidates = 0;
            for (int y = 0; y < N; y++) candidates += !fixed(x, y, N);
            for (int r = 0; r < 2; r++) {
                assert_true((drawn[r] >= 0) == (r < candidates));
                if (drawn[r] >= 0) assert_false(fixed(x, drawn[r], N));
                if (x == ROW) count[drawn[r]]++;
            }
            assert_true(drawn[0] < 0 || drawn[0] != drawn[1]);
        }
    for (int y = 0; y < N; y++) {
        const double p = fixed(ROW, y, N) ? 0 : 2.0 / 7;
        assert_true(fabs(count[y] - HEADS * p) <= 6 * sqrt(HEADS * p * (1 - p)));
    }
    mra_attention_layer_free(layer);
    mra_device_close(device);
}

// The same seed draws the same, another does not; heads differ.
static void test_seed(void **state)
{
    (void)state;
    mra_device *device[3];
    mra_attention_layer *layer[3];
    const char *const options[3] = {"block=8", "random=3", "variant=specified"};
    for (int i = 0; i < 3; i++)
        layer[i] = open_layer(&device[i], 2, 400, i == 2 ? 5 : 4, options);
    const size_t bytes = 50 * 3 * sizeof(int32_t);
    assert_memory_equal(drawn_of(layer[0], 0, 0), drawn_of(layer[1], 0, 0), 2 * bytes);
    assert_memory_not_equal(drawn_of(layer[0], 0, 0), drawn_of(layer[2], 0, 0), bytes);
    assert_memory_not_equal(drawn_of(layer[0], 0, 0), drawn_of(layer[0], 1, 0), bytes);
    for (int i = 0; i < 3; i++) {
        mra_attention_layer_free(layer[i]);
        mra_device_close(device[i]);
    }
}

// Which blocks the published code draws from: sets found by calling the library's own functions
// 3000 times. Blocks of queries that are not listed draw by the same rule.
typedef struct support {
    int n, block, random, x;
    const char *drawn; // ranges of blocks
} support;

static const support published[] = {
    {1024, 32, 2, 1, "3-30"},
    {1024, 32, 2, 2, "4-30"},
    {1024, 32, 2, 3, "1-1 5-30"},
    {1024, 32, 2, 15, "1-13 17-30"},
    {1024, 32, 2, 28, "1-26 30-30"},
    {1024, 32, 2, 29, "1-30"},
    {1024, 32, 2, 30, "1-30"},
    {4096, 64, 2, 1, "3-15"},
    {4096, 64, 2, 2, "4-15"},
    {4096, 64, 2, 8, "1-6 10-15"},
    {4096, 64, 2, 15, "1-13"},
    {4096, 64, 2, 17, "1-15"},
    {4096, 64, 2, 18, "1-15"},
    {4096, 64, 2, 19, "1-15"},
    {4096, 64, 2, 40, "1-15"},
    {4096, 64, 2, 61, "1-15"},
    {4096, 64, 2, 62, "1-15"},
    {3072, 32, 3, 1, "3-31"},
    {3072, 32, 3, 30, "1-28"},
    {3072, 32, 3, 31, "1-29"},
    {3072, 32, 3, 33, "1-31"},
    {3072, 32, 3, 34, "1-31"},
    {3072, 32, 3, 93, "1-31"},
    {480, 32, 2, 1, "3-6"},
    {480, 32, 2, 4, "1-2 6-7"},
    {480, 32, 2, 7, "2-5"},
    {480, 32, 2, 8, "1-6"},
    {480, 32, 2, 9, "1-7"},
    {480, 32, 2, 13, "1-7"},
    {100, 4, 10, 1, "3-12 15-22"},
    {100, 4, 10, 4, "1-2 6-13 15-23"},
    {100, 4, 10, 14, "1-12 16-23"},
    {100, 4, 10, 17, "1-13 15-15 19-23"},
    {100, 4, 10, 23, "1-13 15-21"},
    {512, 64, 1, 1, "3-4"},
    {512, 64, 1, 5, "2-3"},
    {512, 64, 1, 6, "1-4"},
    {224, 32, 2, 1, "3-4"},
    {224, 32, 2, 3, "1-1 5-5"},
    {224, 32, 2, 5, "2-3"},
    {2048, 64, 3, 2, "4-9"},
    {2048, 64, 3, 9, "2-7"},
    {2048, 64, 3, 10, "1-8"},
    {2048, 64, 3, 20, "1-9"},
};

static bool listed(const char *ranges, int y)
{
    int first, last, used;
    while (sscanf(ranges, "%d-%d%n", &first, &last, &used) == 2) {
        if (y >= first && y <= last) return true;
        ranges += used;
        if (*ranges == ' ') ranges++;
    }
    return false;
}

static void test_published_candidates(void **state)
{
    (void)state;
    enum { HEADS = 500 };
    for (size_t s = 0; s < sizeof published / sizeof published[0]; s++) {
        const support *p = &published[s];
        char block[20], random[20];
        snprintf(block, sizeof block, "block=%d", p->block);
        snprintf(random, sizeof random, "random=%d", p->random);
        mra_device *device;
        mra_attention_layer *layer =
            open_layer(&device, HEADS, p->n, dense_seed(),
                       (const char *[]){block, random, "variant=published"});
        for (int y = 0; y < blocks_of(layer); y++) {
            bool seen = false;
            for (int head = 0; head < HEADS && !seen; head++)
                for (int r = 0; r < p->random; r++)
                    seen = seen || drawn_of(layer, head, p->x)[r] == y;
            if (seen != listed(p->drawn, y))
                fail_msg("n = %d, block %d, random %d: block %d of the queries %s %d", p->n,
                         p->block, p->random, p->x, seen ? "draws" : "never draws", y);
        }
        mra_attention_layer_free(layer);
        mra_device_close(device);
    }
}

// Masking the tail within the last block is the same as leaving it out; the number of blocks,
// and so what is drawn, stays.
static void test_padding_is_deletion(void **state)
{
    (void)state;
    enum { LONG = 256, SHORT = 231, D = 16 };
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
            mra_attention_layer_create(&layer, "bigbird", device, shape, 1, NULL, 0, &err),
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

// The published code draws anew in every forward pass; as specified a layer keeps its blocks.
static void test_when_it_draws(void **state)
{
    (void)state;
    for (int variant = 0; variant < 2; variant++) {
        mra_device *device;
        mra_tape *tape;
        mra_error err;
        mra_attention_layer *layer =
            open_layer(&device, 1, 400, 4,
                       (const char *[]){"block=8", "random=3",
                                        variant ? "variant=published" : "variant=specified"});
        assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
        float x[400 * 2] = {0}, z[400 * 2];
        int32_t before[150];
        memcpy(before, drawn_of(layer, 0, 0), sizeof before);
        assert_int_equal(
            mra_attention_run(layer, tape, x, x, x, NULL, z, NULL, NULL, NULL, NULL, &err),
            MRA_OK);
        const bool same = memcmp(before, drawn_of(layer, 0, 0), sizeof before) == 0;
        assert_true(same == (variant == 0));
        mra_attention_layer_free(layer);
        mra_tape_free(tape);
        mra_device_close(device);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_what_is_drawn),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_published_candidates),
        cmocka_unit_test(test_padding_is_deletion),
        cmocka_unit_test(test_when_it_draws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
