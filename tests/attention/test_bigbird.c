// BigBird against its definition, forward and backward, with the random blocks that the layer says
// it drew; and those blocks against what the paper says of them (outside window and global blocks,
// without replacement, all alike) and against the blocks that the published code draws from.

#include "method_case.h"

enum { OPTION_BLOCK, OPTION_RANDOM, OPTION_VARIANT };

static int block_of(const mra_attention_layer *layer)
{
    return (int)layer->option[OPTION_BLOCK].number;
}

static int blocks_of(const mra_attention_layer *layer)
{
    return (layer->shape.n + block_of(layer) - 1) / block_of(layer);
}

// The blocks that block x of a head of an example drew, -1 for none.
static const int32_t *drawn_by(const mra_attention_layer *layer, int example, int head, int x)
{
    mra_method_array array[MRA_METHOD_ARRAYS];
    const int heads = layer->shape.heads, blocks = blocks_of(layer),
              random = (int)layer->option[OPTION_RANDOM].number;
    assert_int_equal(layer->method->drawn(layer, array), 1);
    assert_string_equal(array[0].name, "blocks");
    const bool each = array[0].rank == 4; // examples have different masks
    assert_true(each ? array[0].shape[0] == layer->shape.batch : array[0].rank == 3);
    assert_int_equal(array[0].shape[each], heads);
    assert_int_equal(array[0].shape[each + 1], blocks);
    assert_int_equal(array[0].shape[each + 2], random);
    return array[0].ints +
           (((size_t)(each ? example : 0) * (size_t)heads + (size_t)head) * (size_t)blocks +
            (size_t)x) *
               (size_t)random;
}

static const int32_t *drawn_of(const mra_attention_layer *layer, int head, int x)
{
    return drawn_by(layer, 0, head, x);
}

static bool fixed(int x, int y, int blocks)
{
    return x == 0 || y == 0 || x == blocks - 1 || y == blocks - 1 || abs(x - y) < 2;
}

// How often the queries of block x attend to block y, of `blocks`.
static void count_times(const method_case *c, int x, int blocks, int *times)
{
    const int32_t *drawn = drawn_by(c->layer, c->example, c->head, x);
    for (int y = 0; y < blocks; y++) {
        times[y] = fixed(x, y, blocks);
        for (int r = 0; r < (int)c->layer->option[OPTION_RANDOM].number; r++)
            times[y] += drawn[r] == y;
    }
}

// Blocks of an example: as specified up to its last token, as published all.
static int blocks_seen(const method_case *c)
{
    int n = c->n;
    while (c->mask && n > 0 && !c->mask[n - 1] && !c->layer->option[OPTION_VARIANT].number) n--;
    return (n + block_of(c->layer) - 1) / block_of(c->layer);
}

static void definition(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d, block = block_of(c->layer), blocks = blocks_seen(c);
    double *logit = malloc(sizeof *logit * (size_t)n);
    int *times = calloc((size_t)n, sizeof *times); // of a block
    memset(z, 0, sizeof *z * (size_t)(n * d));
    for (int i = 0; i < n && i < blocks * block; i++) {
        double largest = -INFINITY, sum = 0;
        if (i % block == 0) count_times(c, i / block, blocks, times);
        for (int j = 0; j < n; j++) {
            logit[j] = -INFINITY;
            if (j / block >= blocks || !times[j / block]) continue;
            if (c->mask && (!c->mask[i] || !c->mask[j])) continue;
            double dot = 0;
            for (int k = 0; k < d; k++) dot += x[0][i * d + k] * x[1][j * d + k];
            logit[j] = dot / sqrt(d);
            largest = fmax(largest, logit[j]);
        }
        for (int j = 0; j < n; j++) {
            if (logit[j] == -INFINITY) continue;
            const double weight = times[j / block] * exp(logit[j] - largest);
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
    for (int i = 0; i < (int)(sizeof set / sizeof set[0]); i++)
        method_report(&(method_check){.method = "bigbird",
                                      .label = set[i][0],
                                      .options = {set[i][0], set[i][1]},
                                      .definition = definition,
                                      .lengths = {1, 2, i % 2 ? 33 : 17, 201},
                                      .shape = {.batch = 2, .heads = 1 + i % 2}});
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

// Examples of different lengths draw as many blocks as each has, of its own; a mask of another pass
// leaves nothing behind; without a token nothing is drawn and nothing comes out.
static void test_masks_and_draws(void **state)
{
    (void)state;
    enum { N = 96, SIZE = 3 * N * 2 };
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    mra_attention_layer *layer;
    uint8_t mask[3 * N] = {0};
    const int length[3] = {N, 61, 0};
    for (int b = 0; b < 3; b++) memset(mask + b * N, 1, (size_t)length[b]);
    mra_blas_single_thread();
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    assert_int_equal(mra_attention_layer_create(&layer, "bigbird", device,
                                                (mra_shape){3, 1, N, 2}, 4,
                                                (const char *[]){"block=4"}, 1, &err),
                     MRA_OK);
    float x[SIZE], z[SIZE];
    int32_t before[24 * 2];
    for (int e = 0; e < SIZE; e++) x[e] = (float)(e % 7);
    memcpy(before, drawn_by(layer, 0, 0, 0), sizeof before);
    assert_int_equal(
        mra_attention_run(layer, tape, x, x, x, mask, z, NULL, NULL, NULL, NULL, &err), MRA_OK);
    for (int b = 0; b < 3; b++)
        for (int row = 0; row < N / 4; row++)
            for (int r = 0; r < 2; r++) {
                const int y = drawn_by(layer, b, 0, row)[r], blocks = (length[b] + 3) / 4;
                const bool drawn = row > 0 && row < blocks - 1;
                assert_true(drawn ? y > 0 && y < blocks - 1 && abs(y - row) > 1 : y == -1);
            }
    assert_memory_equal(before, drawn_by(layer, 0, 0, 0), sizeof before);
    for (int e = 0; e < N * 2; e++) assert_true(z[2 * N * 2 + e] == 0);
    assert_int_equal(
        mra_attention_run(layer, tape, x, x, x, NULL, z, NULL, NULL, NULL, NULL, &err), MRA_OK);
    assert_memory_equal(before, drawn_by(layer, 1, 0, 0), sizeof before);
    memset(mask, 0, sizeof mask);
    assert_int_equal(
        mra_attention_run(layer, tape, x, x, x, mask, z, NULL, NULL, NULL, NULL, &err), MRA_OK);
    for (int e = 0; e < SIZE; e++) assert_true(z[e] == 0);
    mra_attention_layer_free(layer);
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
        cmocka_unit_test(test_masks_and_draws),
        cmocka_unit_test(test_when_it_draws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
