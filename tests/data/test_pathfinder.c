// Pathfinder pictures: the curves are what the task says they are, checked against the trace of how a picture came
// about and against properties of the picture alone; and a data set of them is a function of its seed.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "core/core.h"
#include "data/data.h"
#include "data/pathfinder.h"
#include "data/resize.h"

enum { SIDE = 32 };
static mra_error err;

static uint64_t test_seed(void)
{
    const char *seed = getenv("MRA_TEST_SEED");
    const uint64_t number = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    printf("# MRA_TEST_SEED=%llu\n", (unsigned long long)number);
    return number;
}

static int pictures(void)
{
    return getenv("MRA_SANITIZED") ? 100 : 1000;
}

// Successive dashes of a curve: the end of one is three pixels (2 long, a margin of 1) from the pivot, which is
// four from the pivot before it; so ends lie within 1 to 7 pixels of each other, rounding included, and the curve
// never turns back on itself.
static void check_curve(int dash[MRA_PATHFINDER_DASHES][2])
{
    for (int d = 0; d < MRA_PATHFINDER_DASHES; d++) {
        assert_in_range(dash[d][0], 0, SIDE - 1);
        assert_in_range(dash[d][1], 0, SIDE - 1);
    }
    for (int d = 2; d < MRA_PATHFINDER_DASHES; d++) {
        const double step = hypot(dash[d][0] - dash[d - 1][0], dash[d][1] - dash[d - 1][1]);
        assert_true(step >= 1 && step <= 8);
    }
}

static double brightness(const uint8_t *pixels, const int at[2])
{
    return pixels[at[0] * SIDE + at[1]];
}

static void labels_say_what_the_curves_do(void **state)
{
    (void)state;
    mra_pathfinder *tables = mra_pathfinder_create();
    const uint64_t seed = test_seed();
    uint8_t pixels[SIDE * SIDE];
    int ones = 0;
    for (int i = 0; i < pictures(); i++) {
        mra_pathfinder_trace trace;
        const int label = mra_pathfinder_draw(tables, seed, (uint64_t)i, pixels, &trace);
        ones += label;
        assert_int_equal(label, trace.first_disk == trace.last_disk);
        for (int curve = 0; curve < 2; curve++) check_curve(trace.dash[curve]);
        // The starts are SEED_DISTANCE apart, rounded.
        assert_in_range(lround(10 * hypot(trace.dash[0][0][0] - trace.dash[1][0][0],
                                          trace.dash[0][0][1] - trace.dash[1][0][1])),
                        62, 78);
        // Disks are of the brightness of 1 in a picture whose brightest is up to 2 x the dash's own.
        const int *first = trace.dash[trace.first_disk][0];
        const int *last = trace.dash[trace.last_disk][MRA_PATHFINDER_DASHES - 1];
        assert_true(brightness(pixels, first) >= 120);
        assert_true(brightness(pixels, last) >= 120);
        int least = 255, most = 0, lit = 0;
        for (int p = 0; p < SIDE * SIDE; p++) {
            least = pixels[p] < least ? pixels[p] : least;
            most = pixels[p] > most ? pixels[p] : most;
            lit += pixels[p] > 60;
        }
        assert_int_equal(least, 0);
        assert_int_equal(most, 255);
        assert_in_range(lit, 60, 400); // 28 dashes and two disks at least
    }
    // Six standard deviations: a false alarm in 5e8 runs.
    assert_true(fabs(ones - pictures() / 2.0) < 6 * sqrt(pictures()) / 2);
    mra_pathfinder_free(tables);
    mra_pathfinder_free(NULL);
}

// The two long curves keep apart: a dash's far end never lies on the other curve's.
static void curves_do_not_meet(void **state)
{
    (void)state;
    mra_pathfinder *tables = mra_pathfinder_create();
    const uint64_t seed = test_seed();
    uint8_t pixels[SIDE * SIDE];
    for (int i = 0; i < pictures(); i++) {
        mra_pathfinder_trace t;
        mra_pathfinder_draw(tables, seed, (uint64_t)i, pixels, &t);
        // The first dash of the second curve is not tested, and each curve's mask lags one dash behind.
        for (int a = 1; a < MRA_PATHFINDER_DASHES; a++)
            for (int b = 1; b + 1 < a; b++)
                for (int c = 0; c < 2; c++)
                    assert_true(hypot(t.dash[c][a][0] - t.dash[1 - c][b][0],
                                      t.dash[c][a][1] - t.dash[1 - c][b][1]) >= 1.4);
    }
    mra_pathfinder_free(tables);
}

static mra_dataset *open_set(uint64_t seed, int threads, const char *cache)
{
    mra_dataset *data;
    mra_dataset_options options = mra_dataset_defaults("pathfinder32");
    assert_int_equal(options.train, 160000);
    assert_int_equal(options.dev, 20000);
    assert_int_equal(options.test, 20000);
    options.train = 600, options.dev = 3, options.test = 40;
    options.seed = seed;
    options.threads = threads;
    options.cache = cache;
    options.quiet = true;
    if (mra_dataset_open(&data, &options, &err) != MRA_OK) fail_msg("%s", err.message);
    return data;
}

static bool equal_sets(const mra_dataset *a, const mra_dataset *b)
{
    for (int s = 0; s < MRA_SPLITS; s++)
        for (size_t i = 0; i < mra_dataset_count(a, (mra_split)s); i++) {
            const mra_example x = mra_dataset_get(a, (mra_split)s, i);
            const mra_example y = mra_dataset_get(b, (mra_split)s, i);
            if (x.label != y.label || memcmp(x.ids, y.ids, 1024 * sizeof *x.ids) != 0)
                return false;
        }
    return true;
}

static void a_set_is_a_function_of_its_seed(void **state)
{
    (void)state;
    mra_dataset *one = open_set(5, 1, ""), *two = open_set(5, 2, ""),
                *other = open_set(6, 2, "");
    assert_int_equal(mra_dataset_count(one, MRA_TRAIN), 600);
    assert_int_equal(mra_dataset_count(one, MRA_DEV), 3);
    assert_int_equal(mra_dataset_count(one, MRA_TEST), 40);
    assert_int_equal(mra_dataset_vocabulary(one), 257);
    assert_int_equal(mra_dataset_classes(one), 2);
    assert_true(equal_sets(one, two));
    assert_false(equal_sets(one, other));
    const mra_example example = mra_dataset_get(one, MRA_DEV, 2);
    assert_int_equal(example.length, 1024);
    for (int p = 0; p < 1024; p++) assert_in_range(example.ids[p], 1, 256);
    // Through the prepared copy, twice: made, then mapped.
    char cache[500];
    snprintf(cache, sizeof cache, "%s", scratch_path("cache"));
    for (int turn = 0; turn < 2; turn++) {
        mra_dataset *kept = open_set(5, 2, cache);
        assert_true(equal_sets(one, kept));
        mra_dataset_free(kept);
    }
    mra_dataset_free(one);
    mra_dataset_free(two);
    mra_dataset_free(other);
}

// The resampling keeps what is constant, and is the float64 definition rounded after each pass.
static void lanczos(void **state)
{
    (void)state;
    static mra_resize resize;
    uint8_t in[64 * 64], out[32 * 32];
    mra_random random = mra_random_open(test_seed(), 1);
    mra_resize_plan(&resize, 64, 32);
    memset(in, 200, sizeof in);
    mra_resize_run(&resize, in, out);
    for (int i = 0; i < 32 * 32; i++) assert_int_equal(out[i], 200);
    for (int i = 0; i < 64 * 64; i++) in[i] = (uint8_t)mra_random_below(&random, 256);
    mra_resize_run(&resize, in, out);
    double weight[32][64] = {{0}};
    for (int at = 0; at < 32; at++) {
        double sum = 0;
        for (int i = 0; i < 64; i++) {
            const double x = (i + 0.5 - 2 * (at + 0.5)) / 2, p = M_PI * x;
            if (fabs(x) < 3)
                sum += weight[at][i] = x == 0 ? 1 : 3 * sin(p) * sin(p / 3) / (p * p);
        }
        for (int i = 0; i < 64; i++) weight[at][i] /= sum;
    }
    int ties = 0; // a row's value that lies within the weights' rounding of a half
    for (int y = 0; y < 32; y++)
        for (int x = 0; x < 32; x++) {
            double value = 0;
            for (int b = 0; b < 64; b++) {
                double row = 0;
                for (int a = 0; a < 64; a++) row += weight[x][a] * in[b * 64 + a];
                value += weight[y][b] * fmin(fmax(floor(row + 0.5), 0), 255);
            }
            const double off = fabs(fmin(fmax(value, 0), 255) - out[y * 32 + x]);
            assert_true(off < 1.01);
            ties += off >= 0.51;
        }
    assert_in_range(ties, 0, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_say_what_the_curves_do), cmocka_unit_test(curves_do_not_meet),
        cmocka_unit_test(a_set_is_a_function_of_its_seed), cmocka_unit_test(lanczos)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
