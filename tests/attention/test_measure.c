// Tests of attention/measure.h: accuracy against definitions in float64, the order of timed
// calls, peak memory of work whose memory is known, operations against a count of every box. No
// test looks at a clock.

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "attention/measure.h"
#include "core/core.h"

// ---- Relative error
// --------------------------------------------------------------------------

static void test_relative_error(void **state)
{
    (void)state;
    const float exact[] = {3, 0, -4, 0}, near[] = {3, 1, -4, 0}, zero[4] = {0};
    const float broken[] = {3, NAN, -4, 0};
    assert_true(mra_relative_error(exact, exact, 4) == 0);
    assert_true(fabs(mra_relative_error(near, exact, 4) - 0.2) < 1e-15);
    assert_true(fabs(mra_relative_error(zero, exact, 4) - 1) < 1e-15);
    assert_true(mra_relative_error(zero, zero, 4) == 0);
    assert_true(isinf(mra_relative_error(exact, zero, 4)));
    assert_true(isnan(mra_relative_error(broken, exact, 4)));
    assert_true(isnan(mra_relative_error(exact, broken, 4)));
    // Sums in float32 would overflow here, and lose the small difference there.
    const float huge[] = {1e30f, 0}, other[] = {1e30f, 1e28f};
    assert_true(fabs(mra_relative_error(other, huge, 2) - 0.01) < 1e-7);
}

// ---- Entropy
// ---------------------------------------------------------------------------------

// The definition, with the whole row of probabilities at hand.
static double entropy_by_definition(mra_shape shape, const float *q, const float *k,
                                    const uint8_t *mask, double scale)
{
    double sum = 0;
    int rows = 0;
    double *logit = calloc((size_t)shape.n, sizeof *logit);
    for (int i = 0; i < shape.n; i++) {
        if (mask != NULL && !mask[i]) continue;
        double most = -INFINITY, total = 0, entropy = 0;
        for (int j = 0; j < shape.n; j++) {
            double dot = 0;
            for (int c = 0; c < shape.d; c++)
                dot += (double)q[i * shape.d + c] * k[j * shape.d + c];
            logit[j] = mask != NULL && !mask[j] ? -INFINITY : dot * scale;
            most = fmax(most, logit[j]);
        }
        for (int j = 0; j < shape.n; j++) total += exp(logit[j] - most);
        for (int j = 0; j < shape.n; j++) {
            double p = exp(logit[j] - most) / total;
            if (p > 0) entropy -= p * log(p);
        }
        sum += entropy;
        rows++;
    }
    free(logit);
    return rows > 0 ? sum / rows : 0;
}

typedef struct heads {
    mra_shape shape;
    float *q, *k;
    uint8_t *mask;
} heads;

static heads make_heads(int batch, int count, int n, int d, float deviation, uint64_t seed)
{
    heads h = {.shape = {batch, count, n, d}};
    size_t size = (size_t)batch * (size_t)count * (size_t)n * (size_t)d;
    h.q = calloc(size, sizeof *h.q);
    h.k = calloc(size, sizeof *h.k);
    h.mask = calloc((size_t)batch * (size_t)n, 1);
    mra_fill_normal(h.q, size, deviation, seed, mra_stream("test q", 0, 0));
    mra_fill_normal(h.k, size, deviation, seed, mra_stream("test k", 0, 0));
    mra_random random = mra_random_open(seed, mra_stream("test mask", 0, 0));
    for (int i = 0; i < batch * n; i++) h.mask[i] = mra_random_uniform(&random) < 0.7;
    return h;
}

static void free_heads(heads *h)
{
    free(h->q);
    free(h->k);
    free(h->mask);
}

static void check_entropy(const heads *h, const uint8_t *mask, double scale)
{
    double entropy[12];
    double used = scale != 0 ? scale : 1 / sqrt(h->shape.d);
    size_t size = (size_t)h->shape.n * (size_t)h->shape.d;
    assert_int_equal(mra_measure_entropy(h->shape, h->q, h->k, mask, scale, 2, entropy, NULL),
                     MRA_OK);
    for (int head = 0; head < h->shape.batch * h->shape.heads; head++) {
        const uint8_t *own =
            mask == NULL ? NULL : mask + (size_t)(head / h->shape.heads) * (size_t)h->shape.n;
        double expected = entropy_by_definition(h->shape, h->q + (size_t)head * size,
                                                h->k + (size_t)head * size, own, used);
        assert_true(fabs(entropy[head] - expected) <= 1e-9 * fmax(1, expected));
    }
}

static void test_entropy_is_its_definition(void **state)
{
    (void)state;
    const int lengths[] = {1, 2, 31, 32, 33, 255, 256, 257, 300};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        heads h = make_heads(2, 3, lengths[i], 5 + (int)i, 1.5f, 40 + i);
        check_entropy(&h, NULL, 0);
        check_entropy(&h, h.mask, 0);
        check_entropy(&h, NULL, 0.07);
        free_heads(&h);
    }
}

static void test_entropy_of_extreme_heads(void **state)
{
    (void)state;
    double entropy;
    heads h = make_heads(1, 1, 300, 8, 1, 7);
    // All keys equal: every row is uniform.
    for (int i = 0; i < 300 * 8; i++) h.k[i] = h.k[i % 8];
    mra_measure_entropy(h.shape, h.q, h.k, NULL, 0, 1, &entropy, NULL);
    assert_true(fabs(entropy - log(300)) < 1e-9);
    // Logits of the order of 1e5: one key takes all, and nothing overflows.
    heads large = make_heads(1, 1, 300, 8, 300, 8);
    check_entropy(&large, NULL, 0);
    // Rising logits: the running maximum changes at every chunk.
    for (int i = 0; i < 300; i++)
        for (int c = 0; c < 8; c++) {
            h.q[i * 8 + c] = 1;
            h.k[i * 8 + c] = 0.02f * (float)i;
        }
    check_entropy(&h, NULL, 0);
    memset(h.mask, 0, 300);
    mra_measure_entropy(h.shape, h.q, h.k, h.mask, 0, 2, &entropy, NULL);
    assert_true(entropy == 0);
    h.mask[299] = 1;
    mra_measure_entropy(h.shape, h.q, h.k, h.mask, 0, 2, &entropy, NULL);
    assert_true(entropy == 0);
    free_heads(&h);
    free_heads(&large);
}

static void test_entropy_is_the_same_on_any_number_of_threads(void **state)
{
    (void)state;
    heads h = make_heads(2, 2, 129, 16, 1, 9);
    double one[4], more[4];
    mra_measure_entropy(h.shape, h.q, h.k, h.mask, 0, 1, one, NULL);
    for (int threads = 2; threads <= 4; threads += 2) {
        mra_measure_entropy(h.shape, h.q, h.k, h.mask, 0, threads, more, NULL);
        assert_memory_equal(one, more, sizeof one);
    }
    mra_shape empty = {1, 1, 0, 4};
    mra_error err;
    assert_int_equal(mra_measure_entropy(empty, h.q, h.k, NULL, 0, 1, one, &err),
                     MRA_BAD_INPUT);
    free_heads(&h);
}

// ---- Time
// ------------------------------------------------------------------------------------

typedef struct caller {
    char name, *journal;
    int fails_at; // the call that fails, from 1; 0: none
    int calls;
} caller;

static mra_status called(void *context, mra_error *err)
{
    caller *c = context;
    size_t length = strlen(c->journal);
    c->journal[length] = c->name;
    if (++c->calls == c->fails_at) return mra_fail(err, MRA_BAD_INPUT, "call %d", c->calls);
    return MRA_OK;
}

static void test_times_take_turns(void **state)
{
    (void)state;
    char journal[32] = "";
    caller a = {'a', journal, 0, 0}, b = {'b', journal, 0, 0};
    mra_work works[] = {{called, &a}, {called, &b}};
    mra_timing timing[2] = {{0}};
    assert_int_equal(mra_measure_times(works, 2, 3, timing, NULL), MRA_OK);
    assert_string_equal(journal, "abababab");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(timing[i].repeats, 3);
        assert_true(timing[i].least >= 0 && timing[i].least <= timing[i].median);
        assert_true(timing[i].median <= timing[i].most);
    }
}

static void test_times_stop_at_a_failure(void **state)
{
    (void)state;
    char journal[32] = "";
    caller a = {'a', journal, 3, 0}, b = {'b', journal, 0, 0};
    mra_work works[] = {{called, &a}, {called, &b}};
    mra_timing timing[2];
    mra_error err = {0};
    assert_int_equal(mra_measure_times(works, 2, 5, timing, &err), MRA_BAD_INPUT);
    assert_string_equal(err.message, "call 3");
    assert_string_equal(journal, "ababa");
    assert_int_equal(mra_measure_time(called, &b, 0, timing, &err), MRA_BAD_INPUT);
    assert_int_equal(mra_measure_time(called, &b, 1001, timing, &err), MRA_BAD_INPUT);
    assert_int_equal(b.calls, 2);
}

// ---- Memory
// ----------------------------------------------------------------------------------

enum { MEBIBYTE = 1 << 20, PIECE = 8192 };

static int touched; // changed by the child, to see that this process does not notice

// Touches *context MiB, a half of them at a time: the peak is a half.
static mra_status touch(void *context, mra_error *err)
{
    size_t bytes = *(size_t *)context / 2;
    for (int half = 0; half < 2; half++) {
        char *memory = malloc(bytes);
        if (memory == NULL) return mra_fail(err, MRA_NO_MEMORY, "no memory");
        for (size_t i = 0; i < bytes; i += 512) ((volatile char *)memory)[i] = 1;
        free(memory);
    }
    touched = 1;
    return MRA_OK;
}

static void test_peak_memory(void **state)
{
    (void)state;
    mra_memory memory = {0};
    size_t bytes = 128 * (size_t)MEBIBYTE;
    assert_int_equal(mra_measure_peak(touch, &bytes, &memory, NULL), MRA_OK);
    assert_int_equal(touched, 0);
    // The kernel counts in batches, and pages of libraries come back one by one.
    assert_true(memory.above >= 63 * (size_t)MEBIBYTE);
    // The sanitizers keep freed memory for a while and have a map of their own.
    size_t slack = getenv("MRA_SANITIZED") != NULL ? 100 : 8;
    assert_true(memory.above <= (64 + slack) * MEBIBYTE);
    assert_true(memory.peak >= memory.before && memory.peak - memory.before == memory.above);
}

// Touches *context bytes in pieces so small that malloc() keeps them when they are freed.
static mra_status touch_small_pieces(void *context, mra_error *err)
{
    size_t pieces = *(size_t *)context / PIECE;
    char **piece = calloc(pieces, sizeof *piece);
    if (piece == NULL) return mra_fail(err, MRA_NO_MEMORY, "no memory");
    for (size_t i = 0; i < pieces; i++) {
        piece[i] = malloc(PIECE);
        memset(piece[i], 1, PIECE);
    }
    for (size_t i = 0; i < pieces; i++) free(piece[i]);
    free(piece);
    return MRA_OK;
}

static void test_memory_that_was_freed_does_not_hide_the_peak(void **state)
{
    (void)state;
    if (getenv("MRA_SANITIZED") != NULL) return; // there free() gives nothing back at once
    size_t bytes = 32 * (size_t)MEBIBYTE;
    size_t pieces = bytes / PIECE + 1;
    char **piece = calloc(pieces, sizeof *piece);
    for (size_t i = 0; i < pieces; i++) {
        piece[i] = malloc(PIECE);
        memset(piece[i], 1, PIECE);
    }
    for (size_t i = 0; i + 1 < pieces; i++)
        free(piece[i]); // the last one holds the others' room
    mra_memory memory = {0};
    assert_int_equal(mra_measure_peak(touch_small_pieces, &bytes, &memory, NULL), MRA_OK);
    assert_true(memory.above >= 31 * (size_t)MEBIBYTE);
    free(piece[pieces - 1]);
    free(piece);
}

static mra_status refuse(void *context, mra_error *err)
{
    return mra_fail(err, MRA_BAD_INPUT, "%s", (const char *)context);
}

static mra_status die(void *context, mra_error *err)
{
    (void)context;
    (void)err;
    kill(getpid(), SIGKILL);
    return MRA_OK;
}

static void count_item(void *context, size_t item, int thread)
{
    (void)thread;
    ((int *)context)[item] = (int)item;
}

// Runs a parallel loop, as every method does.
static mra_status run_parallel(void *context, mra_error *err)
{
    int items[64] = {0};
    (void)context;
    mra_parallel_for(2, 64, count_item, items);
    for (int i = 0; i < 64; i++)
        if (items[i] != i) return mra_fail(err, MRA_INTERNAL, "item %d", i);
    return MRA_OK;
}

static void test_peak_of_work_that_fails(void **state)
{
    (void)state;
    mra_memory memory;
    mra_error err = {0};
    assert_int_equal(mra_measure_peak(refuse, "as told", &memory, &err), MRA_BAD_INPUT);
    assert_string_equal(err.message, "as told");
    assert_int_equal(mra_measure_peak(die, NULL, &memory, &err), MRA_NO_MEMORY);
    assert_non_null(strstr(err.message, "signal 9"));
}

static void test_peak_around_parallel_loops(void **state)
{
    (void)state;
    mra_memory memory;
    mra_error err = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run_parallel(NULL, &err), MRA_OK); // starts threads here ...
        alarm(30);                                          // a child that hangs ends the test
        assert_int_equal(mra_measure_peak(run_parallel, NULL, &memory, &err), MRA_OK);
        alarm(0);
    }
}

static void test_peak_of_a_method(void **state)
{
    (void)state;
    mra_device *device;
    mra_error err = {0};
    mra_memory forward = {0}, both = {0}, given = {0};
    assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
    mra_peak_request request = {
        .method = "exact", .device = device, .shape = {1, 4, 2048, 64}, .seed = 3};
    size_t array = 4 * 2048 * 64 * sizeof(float);
    assert_int_equal(mra_measure_method_peak(&request, &forward, &err), MRA_OK);
    request.backward = true;
    assert_int_equal(mra_measure_method_peak(&request, &both, &err), MRA_OK);
    float *q = calloc(array, 1);
    mra_fill_normal(q, array / sizeof *q, 1, 1, 1);
    request.q = request.k = request.v = q;
    assert_int_equal(mra_measure_method_peak(&request, &given, &err), MRA_OK);
    size_t slack = MEBIBYTE;
    assert_true(forward.above + slack >= 4 * array); // q, k, v, z
    assert_true(both.above + slack >= 8 * array);    // dz, dq, dk, dv too
    assert_true(given.above + slack >= 5 * array);   // all of them but q, k, v
    assert_true(both.above > forward.above + 2 * array);
    // What the method refuses is told as it tells it.
    request.method = "mra2";
    request.assignments = (const char *const[]){"blocks=-1"};
    request.assignment_count = 1;
    assert_int_equal(mra_measure_method_peak(&request, &given, &err), MRA_BAD_INPUT);
    free(q);
    mra_device_close(device);
}

// ---- Operations
// ------------------------------------------------------------------------------

static double operations_of(mra_device *device, const char *method, mra_shape shape,
                            const char *const *assignments, int count)
{
    mra_attention_layer *layer;
    mra_error err = {0};
    mra_status status =
        mra_attention_layer_create(&layer, method, device, shape, 1, assignments, count, &err);
    if (status != MRA_OK) fail_msg("%s", err.message);
    double operations = mra_measure_operations(layer);
    mra_attention_layer_free(layer);
    return operations;
}

static void test_operations(void **state)
{
    (void)state;
    mra_device *device;
    assert_int_equal(mra_device_open(&device, "cpu", 1, NULL), MRA_OK);
    mra_shape shape = {2, 3, 256, 16};
    double n = 256, d = 16, heads = 6;
    assert_true(operations_of(device, "exact", shape, NULL, 0) ==
                heads * (2 * n * n * d + 2 * n * n * d + 2 * n * n));
    // mra2: 8 x 8 boxes of 32 x 32, 3 a row refined. Box by box.
    const char *const three[] = {"blocks=3"};
    double sum = 0, sparse = 0, pooling = 3 * n * d + n * d;
    for (int box = 0; box < 64; box++) {
        sum += 2 * d, sparse += 2 * d;
        if (box >= 24) sum += 2 * d + 2;
        for (int entry = 0; box < 24 && entry < 1024; entry++)
            sum += 4 * d + 2, sparse += 4 * d + 2;
    }
    assert_true(operations_of(device, "mra2", shape, three, 1) == heads * (sum + pooling));
    assert_true(operations_of(device, "mra2s", shape, three, 1) == heads * (sparse + pooling));
    // Three scales, 32, 8, 1: 2 boxes a row become 16 each, of which 8 a row become 64 entries
    // each.
    const char *const scales[] = {"scales=32:8:1", "blocks=2:8"};
    sum = 64 * 2 * d + (64 - 16) * (2 * d + 2);    // the coarsest scale
    sum += 256 * 2 * d + (256 - 64) * (2 * d + 2); // the middle one
    sum += 64 * 64 * (2 * d + 2 * d + 2);          // the finest
    pooling = 4 * d * (n / 8) + 4 * d * n;         // 8 to 32, 1 to 8
    assert_true(operations_of(device, "mra", shape, scales, 2) == heads * (sum + pooling));
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relative_error),
        cmocka_unit_test(test_entropy_is_its_definition),
        cmocka_unit_test(test_entropy_of_extreme_heads),
        cmocka_unit_test(test_entropy_is_the_same_on_any_number_of_threads),
        cmocka_unit_test(test_times_take_turns),
        cmocka_unit_test(test_times_stop_at_a_failure),
        cmocka_unit_test(test_peak_memory),
        cmocka_unit_test(test_memory_that_was_freed_does_not_hide_the_peak),
        cmocka_unit_test(test_peak_of_work_that_fails),
        cmocka_unit_test(test_peak_around_parallel_loops),
        cmocka_unit_test(test_peak_of_a_method),
        cmocka_unit_test(test_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
