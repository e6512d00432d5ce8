// The host runner itself: correct kernels give the right result in every order and no report;
// each planted defect is found, in a line that names the kernel.
//
// A defect that the sanitizers see ends the program: it is run in a process of its own, whose last
// words are read.

#include "planted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/random.h"

enum { ORDERS = 6 };

#ifdef __SANITIZE_ADDRESS__
enum { WATCHED = 0 };
#else
enum { WATCHED = 1 };
#endif

static uint64_t test_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20220711;
}

static void expect_no_error(simt_runner *runner)
{
    const char *error = simt_runner_take_error(runner);
    if (error) fail_msg("%s", error);
}

static float *normal(size_t count, uint64_t stream)
{
    float *x = calloc(count, sizeof *x);
    assert_non_null(x);
    mra_fill_normal(x, count, 1.0f, test_seed(), stream);
    return x;
}

// ---- Correct kernels ------------------------------------------------------------------------

static void test_barriers_and_shuffles(void **state)
{
    (void)state;
    enum { COUNT = 333 };
    float *x = normal(COUNT, 1), y[COUNT];
    for (uint64_t seed = 0; seed < ORDERS; seed++) {
        simt_runner *runner = simt_runner_create(seed);
        planted_reverse(runner, COUNT, x, y);
        expect_no_error(runner);
        for (int i = 0; i < COUNT; i++) {
            int first = i / 128 * 128, here = COUNT - first < 128 ? COUNT - first : 128;
            assert_true(y[i] == x[first + here - 1 - (i - first)]);
        }
        planted_scan(runner, COUNT, x, y);
        expect_no_error(runner);
        for (int i = 0; i < COUNT; i++) {
            double sum = 0;
            for (int j = i / 32 * 32; j <= i; j++) sum += x[j];
            assert_true(fabs(y[i] - sum) < 1e-5);
        }
        planted_copies(runner, 332, x, y);
        expect_no_error(runner);
        for (int i = 0; i < 332; i++) assert_true(y[i] == 2 * x[i]);
        simt_runner_free(runner);
    }
    free(x);
}

static void test_last_block(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    float *x = normal(COUNT, 2);
    double sum = 0;
    for (int i = 0; i < COUNT; i++) sum += x[i];
    for (uint64_t seed = 0; seed < ORDERS; seed++) {
        simt_runner *runner = simt_runner_create(seed);
        float y;
        planted_last_block(runner, COUNT, x, &y, true);
        expect_no_error(runner);
        assert_true(fabs(y - sum) < 1e-3);
        planted_last_block(runner, COUNT, x, &y, false);
        const char *error = simt_runner_take_error(runner);
        if (WATCHED) {
            assert_non_null(error);
            assert_non_null(strstr(error, "race: "));
        }
        simt_runner_free(runner);
    }
    free(x);
}

// The value that a product sees of x: 8 or 11 bits of significand.
static double rounded(float x, bool bf16)
{
    int exponent;
    double fraction = frexp((double)x, &exponent);
    double scale = bf16 ? 256 : 2048, scaled = fraction * scale;
    // bf16: ties to even; TF32: ties away from zero.
    return ldexp((bf16 ? nearbyint(scaled) : round(scaled)) / scale, exponent);
}

static void test_products(void **state)
{
    (void)state;
    enum { DEPTH = 48 };
    float *a = normal(16 * DEPTH, 3), *b = normal(8 * DEPTH, 4), c[16 * 8];
    a[5] = 1.0f + 0x1p-8f; // ties of bf16
    a[6] = 1.0f + 0x1.8p-7f;
    a[7] = 1.0f + 0x1p-11f; // and of TF32
    simt_runner *runner = simt_runner_create(test_seed());
    for (int bf16 = 0; bf16 < 2; bf16++) {
        planted_product(runner, bf16, DEPTH, a, b, c);
        expect_no_error(runner);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                double sum = 0;
                for (int k = 0; k < DEPTH; k++)
                    sum += rounded(a[i * DEPTH + k], bf16) * rounded(b[j * DEPTH + k], bf16);
                assert_true(fabs(c[i * 8 + j] - sum) < 2e-5);
            }
    }
    simt_runner_free(runner);
    free(a);
    free(b);
}

static void test_warp_functions(void **state)
{
    (void)state;
    int x[32];
    unsigned y[32 * 8];
    simt_runner *runner = simt_runner_create(test_seed());
    for (int lanes = 32; lanes >= 24; lanes -= 8) {
        unsigned ballot = 0, sum = 0, largest = 0;
        bool seven = false;
        for (int i = 0; i < lanes; i++) {
            x[i] = (int)(1000 * mra_uniform_at(test_seed(), 5, (uint64_t)i)) % 9;
            ballot |= (unsigned)(x[i] & 1) << i;
            sum += (unsigned)x[i];
            largest = (unsigned)x[i] > largest ? (unsigned)x[i] : largest;
            seven = seven || x[i] == 7;
        }
        planted_warp(runner, lanes, x, y);
        expect_no_error(runner);
        for (int i = 0; i < lanes; i++) {
            unsigned match = 0;
            for (int j = 0; j < lanes; j++) match |= (unsigned)(x[j] == x[i]) << j;
            const unsigned want[8] = {ballot,
                                      match,
                                      sum,
                                      largest,
                                      (unsigned)x[i / 8 * 8 + 3],
                                      (unsigned)x[i % 4 == 3 ? i : i + 1],
                                      seven,
                                      1};
            for (int k = 0; k < 8; k++) assert_int_equal(y[8 * i + k], want[k]);
        }
    }
    simt_runner_free(runner);
}

static void test_orders(void **state)
{
    (void)state;
    int order[3][96];
    for (int run = 0; run < 3; run++) { // seeds 8, 8, 9
        simt_runner *runner = simt_runner_create((uint64_t)(8 + run / 2));
        planted_order(runner, 96, order[run]);
        expect_no_error(runner);
        simt_runner_free(runner);
    }
    assert_memory_equal(order[0], order[1], sizeof order[0]);
    assert_memory_not_equal(order[0], order[2], sizeof order[0]);
}

// ---- Defects --------------------------------------------------------------------------------

// Runs a defect in a process of its own and returns what it said.
static void last_words(const planted *defect, uint64_t seed, char *text, size_t size)
{
    int end[2];
    assert_int_equal(pipe(end), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(end[1], 2);
        close(end[0]);
        simt_runner *runner = simt_runner_create(seed);
        defect->run(runner, defect->kernel);
        const char *error = simt_runner_take_error(runner);
        if (error) fprintf(stderr, "%s\n", error);
        _exit(0);
    }
    close(end[1]);
    size_t used = 0;
    for (ssize_t got; (got = read(end[0], text + used, size - 1 - used)) > 0;)
        used += (size_t)got;
    text[used] = '\0';
    close(end[0]);
    waitpid(child, NULL, 0);
}

static void test_defects(void **state)
{
    (void)state;
    static char text[1 << 16];
    for (int i = 0; i < planted_defect_count; i++) {
        const planted *defect = &planted_defects[i];
        if (!WATCHED && defect->seen == SEEN_BY_WATCH) continue;
        for (uint64_t seed = 0; seed < 3; seed++) {
            last_words(defect, seed, text, sizeof text);
            char name[80];
            snprintf(name, sizeof name, "kernel %s, block (", defect->kernel);
            const char *message = defect->message;
            if (!WATCHED && defect->seen == SEEN_BY_BOTH)
                message = strstr(text, "AddressSanitizer") ? "AddressSanitizer"
                                                           : "misaligned address";
            if (!strstr(text, message) ||
                (strcmp(message, "misaligned address") && !strstr(text, name)))
                fail_msg("%s, order %d: '%s' is not in '%s'", defect->kernel, (int)seed,
                         message, text);
        }
    }
}

// An error ends the launch and those that follow, until it is taken; then all is well again.
static void test_after_an_error(void **state)
{
    (void)state;
    simt_runner *runner = simt_runner_create(test_seed());
    const planted *defect = &planted_defects[4];
    float x[64] = {0}, y[64];
    x[63] = 3;
    for (int turn = 0; turn < 3; turn++) {
        defect->run(runner, defect->kernel);
        assert_non_null(simt_runner_take_error(runner));
        assert_null(simt_runner_take_error(runner));
        planted_reverse(runner, 64, x, y);
        expect_no_error(runner);
        assert_true(y[0] == 3);
    }
    simt_runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barriers_and_shuffles),
        cmocka_unit_test(test_last_block),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_warp_functions),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_defects),
        cmocka_unit_test(test_after_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
