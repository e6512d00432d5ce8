// What is drawn for training, and the pixels of both transforms against the filters in float64.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/augment.h"
#include "picture.h"

static mra_error err;

// ---- Drawing --------------------------------------------------------------------------------

static bool amount_is_possible(const mra_change *change)
{
    const double a = change->amount;
    switch (change->kind) {
    case MRA_BRIGHTNESS:
    case MRA_CONTRAST:
    case MRA_COLOUR:
    case MRA_SHARPNESS:
        return fabs(fabs(a - 1) - 0.81) < 0.09 + 0.2;
    case MRA_POSTERIZE:
        return a >= 0 && a <= 2 && a == floor(a);
    case MRA_SOLARIZE:
        return a >= 0 && a <= 103 && a == floor(a);
    case MRA_SOLARIZE_ADD:
        return a >= 66 && a <= 110 && a == floor(a);
    case MRA_ROTATE:
        return fabs(a) > 18 && fabs(a) <= 30;
    case MRA_SHEAR_X:
    case MRA_SHEAR_Y:
        return fabs(a) > 0.18 && fabs(a) <= 0.3;
    case MRA_TRANSLATE_X:
    case MRA_TRANSLATE_Y:
        return fabs(a) > 0.27 && fabs(a) <= 0.45;
    default:
        return a == 0;
    }
}

static void near(double share, double expected, double draws)
{
    const double six_deviations = 6 * sqrt(expected * (1 - expected) / draws);
    if (!(fabs(share - expected) <= six_deviations))
        fail_msg("%.4f of %.0f draws: expected %.4f", share, draws, expected);
}

// How a change grows with the level, 0 .. 1: the amount at level 1, or its distance from doing nothing; 0: in steps too
// coarse for a mean, or not at all.
static double strongest(mra_change_kind kind)
{
    if (kind <= MRA_SHARPNESS) return 0.9;
    if (kind == MRA_SOLARIZE) return 256;
    if (kind == MRA_SOLARIZE_ADD) return 110;
    if (kind == MRA_ROTATE) return 30;
    if (kind == MRA_SHEAR_X || kind == MRA_SHEAR_Y) return 0.3;
    return kind == MRA_TRANSLATE_X || kind == MRA_TRANSLATE_Y ? 0.45 : 0;
}

// N(9, 0.5^2) cut at 10 has mean 8.996 and a deviation below 0.5. Solarize and its like lose up to a step of 1.
static void check_levels(const double *sum, const int *positive, const int *kinds)
{
    for (int k = 0; k < MRA_CHANGE_KINDS; k++) {
        const double most = strongest((mra_change_kind)k), draws = kinds[k];
        if (most == 0) continue;
        const double level = sum[k] / draws / most;
        if (!(fabs(level - 0.8996) <= 6 * 0.05 / sqrt(draws) + (most > 100 ? 1 / most : 0)))
            fail_msg("changes %d of mean level %.4f in %.0f draws", k, level, draws);
        const bool one_sided = k == MRA_SOLARIZE || k == MRA_SOLARIZE_ADD;
        if (!one_sided) near(positive[k] / draws, 0.5, draws);
    }
}

static void the_published_draws(void **state)
{
    (void)state;
    enum { DRAWS = 6000, W = 500, H = 375 };
    mra_augment augment = mra_augment_defaults();
    augment.seed = fresh_seed();
    assert_int_equal(mra_augment_check(&augment, &err), MRA_OK);
    int kinds[MRA_CHANGE_KINDS] = {0}, positive[MRA_CHANGE_KINDS] = {0};
    double sum[MRA_CHANGE_KINDS] = {0};
    int flips = 0, cubic = 0, changes = 0, small = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        mra_augment_plan p, again;
        mra_augment_draw(&p, &augment, W, H, 3, i);
        mra_augment_draw(&again, &augment, W, H, 3, i);
        assert_memory_equal(&p, &again, sizeof p);
        assert_true(p.left >= 0 && p.top >= 0 && p.width >= 1 && p.height >= 1);
        assert_true(p.left + p.width <= W && p.top + p.height <= H);
        const double area = (double)p.width * p.height / (W * H);
        const double aspect = (double)p.width / p.height;
        assert_true(area > 0.079 && area <= 1 && aspect > 0.74 && aspect < 1.35);
        small += area < 0.25;
        flips += p.flip, cubic += p.filter == MRA_BICUBIC, changes += p.changes;
        assert_true(p.changes <= 2);
        for (int c = 0; c < p.changes; c++) {
            kinds[p.change[c].kind]++;
            if (!amount_is_possible(&p.change[c]))
                fail_msg("change %d by %g", p.change[c].kind, p.change[c].amount);
            const mra_change_kind kind = p.change[c].kind;
            const double amount = p.change[c].amount - (kind <= MRA_SHARPNESS);
            positive[kind] += amount > 0;
            sum[kind] += kind == MRA_SOLARIZE ? 256 - amount : fabs(amount);
        }
    }
    near(flips / (double)DRAWS, 0.5, DRAWS);
    near(cubic / (double)DRAWS, 0.5, DRAWS);
    near(changes / (2.0 * DRAWS), 0.5, 2.0 * DRAWS);
    check_levels(sum, positive, kinds);
    for (int k = 0; k < MRA_CHANGE_KINDS; k++)
        near(kinds[k] / (double)changes, 1.0 / MRA_CHANGE_KINDS, changes);
    // Crops above 3/4 of the area rarely fit; those below 1/4 always do.
    assert_true(small > 0.17 * DRAWS && small < 0.3 * DRAWS);
}

// Another seed, epoch or index is another plan; jitter stays out beside RandAugment unless asked for.
static void what_the_draw_depends_on(void **state)
{
    (void)state;
    mra_augment augment = mra_augment_defaults(), other = augment;
    mra_augment_plan p, q;
    augment.seed = fresh_seed();
    other.seed = augment.seed + 1;
    mra_augment_draw(&p, &augment, 400, 300, 1, 2);
    mra_augment_draw(&q, &other, 400, 300, 1, 2);
    assert_memory_not_equal(&p, &q, sizeof p);
    mra_augment_draw(&q, &augment, 400, 300, 2, 1);
    assert_memory_not_equal(&p, &q, sizeof p);
    augment.rand_augment = false;
    int orders[3][3] = {{0}};
    for (uint64_t i = 0; i < 600; i++) {
        mra_augment_draw(&p, &augment, 400, 300, 0, i);
        assert_int_equal(p.changes, 3);
        for (int c = 0; c < 3; c++) {
            assert_in_range(p.change[c].kind, MRA_BRIGHTNESS, MRA_COLOUR);
            assert_true(fabs(p.change[c].amount - 1) <= 0.4);
            orders[c][p.change[c].kind]++;
        }
    }
    for (int c = 0; c < 9; c++) near(orders[c / 3][c % 3] / 600.0, 1 / 3.0, 600);
    augment.rand_augment = augment.jitter_always = true;
    mra_augment_draw(&p, &augment, 400, 300, 0, 0);
    assert_in_range(p.changes, 3, 5);
}

static void pictures_of_extreme_shape(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 700}, {700, 1}, {2, 3}, {16, 500}};
    mra_random random = mra_random_open(fresh_seed(), 3);
    mra_augment augment = mra_augment_defaults();
    augment.size = 16;
    static float out[3 * 16 * 16];
    for (int s = 0; s < 5; s++) {
        mra_image in = noise(&random, sizes[s][0], sizes[s][1]);
        for (uint64_t i = 0; i < 40; i++) {
            mra_augment_plan p;
            mra_augment_draw(&p, &augment, in.width, in.height, 0, i);
            assert_true(p.left >= 0 && p.top >= 0 && p.width >= 1 && p.height >= 1);
            assert_true(p.left + p.width <= in.width && p.top + p.height <= in.height);
            assert_int_equal(mra_augment_train(&augment, &in, 0, i, out, &err), MRA_OK);
        }
        assert_int_equal(mra_augment_evaluate(&augment, &in, out, &err), MRA_OK);
        for (int i = 0; i < 3 * 16 * 16; i++) assert_true(fabsf(out[i]) < 3);
        free(in.rgb);
    }
}

// ---- Whole transforms -----------------------------------------------------------------------

// A plan's crop and flip against the filter on the cut-out picture, and the normalisation.
static void training_pixels(void **state)
{
    (void)state;
    enum { SIZE = 24 };
    mra_random random = mra_random_open(fresh_seed(), 4);
    mra_augment augment = mra_augment_defaults();
    augment.size = SIZE;
    augment.seed = fresh_seed();
    augment.rand_augment = false;
    augment.jitter = 0;
    const double mean[3] = {0.485, 0.456, 0.406}, deviation[3] = {0.229, 0.224, 0.225};
    static float out[3 * SIZE * SIZE];
    for (uint64_t i = 0; i < 6; i++) {
        mra_image in = noise(&random, 57, 43), part = {0};
        mra_augment_plan p;
        mra_augment_draw(&p, &augment, in.width, in.height, 7, i);
        assert_int_equal(p.changes, 0);
        part = (mra_image){p.width, p.height, malloc((size_t)(p.width * p.height * 3))};
        for (int y = 0; y < p.height; y++)
            memcpy(part.rgb + 3 * y * p.width, in.rgb + 3 * ((y + p.top) * in.width + p.left),
                   (size_t)p.width * 3);
        double *across = weights(p.filter, p.width, SIZE),
               *down = weights(p.filter, p.height, SIZE);
        assert_int_equal(mra_augment_train(&augment, &in, 7, i, out, &err), MRA_OK);
        for (int at = 0; at < 3 * SIZE * SIZE; at++) {
            const int c = at / (SIZE * SIZE), y = at / SIZE % SIZE, x = at % SIZE;
            const double want = resized(&part, across, down, p.flip ? SIZE - 1 - x : x, y, c);
            const double got = (out[at] * deviation[c] + mean[c]) * 255;
            assert_true(fabs(got - want) <= two_roundings);
            assert_true(fabs(got - rint(got)) < 1e-4);
        }
        free(across);
        free(down);
        free(part.rgb);
        free(in.rgb);
    }
}

// The shorter side becomes floor(size / 0.95), the longer one in proportion, and the middle is kept.
static void evaluation_pixels(void **state)
{
    (void)state;
    enum { SIZE = 20, SHORTER = 21 };
    static const int sizes[][2] = {{50, 33}, {30, 61}, {21, 21}, {9, 14}};
    mra_random random = mra_random_open(fresh_seed(), 5);
    mra_augment augment = mra_augment_defaults();
    assert_int_equal((int)floor(augment.size / augment.crop), 235);
    augment.size = SIZE;
    static uint8_t rgb[SIZE * SIZE * 3];
    for (int s = 0; s < 4; s++) {
        mra_image in = noise(&random, sizes[s][0], sizes[s][1]);
        const bool wide = in.width > in.height;
        const int longer =
            wide ? SHORTER * in.width / in.height : SHORTER * in.height / in.width;
        const int width = wide ? longer : SHORTER, height = wide ? SHORTER : longer;
        // Half a pixel goes to the even side.
        const int left = (int)rint((width - SIZE) / 2.0),
                  top = (int)rint((height - SIZE) / 2.0);
        double *across = weights(MRA_BICUBIC, in.width, width);
        double *down = weights(MRA_BICUBIC, in.height, height);
        assert_int_equal(mra_augment_centre(&augment, &in, rgb, &err), MRA_OK);
        for (int i = 0; i < SIZE * SIZE * 3; i++) {
            const int x = i / 3 % SIZE, y = i / 3 / SIZE;
            const double want = resized(&in, across, down, x + left, y + top, i % 3);
            assert_true(fabs(rgb[i] - want) <= two_roundings);
        }
        free(across);
        free(down);
        free(in.rgb);
    }
}

static void bad_settings(void **state)
{
    (void)state;
    mra_augment a = mra_augment_defaults();
    const struct {
        double *field;
        double value;
        const char *part;
    } cases[] = {{&a.area_low, 0, "area 0 to 1"},      {&a.area_high, 1.5, "area"},
                 {&a.aspect_low, 2, "aspect 2 to"},    {&a.aspect_high, INFINITY, "aspect"},
                 {&a.flip, -0.1, "flip -0.1"},         {&a.jitter, 1.1, "jitter 1.1"},
                 {&a.magnitude, 11, "magnitude 11"},   {&a.deviation, NAN, "deviation"},
                 {&a.crop, 0, "crop 0: expected 1/64"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        a = mra_augment_defaults();
        *cases[i].field = cases[i].value;
        assert_int_equal(mra_augment_check(&a, &err), MRA_BAD_INPUT);
        if (!strstr(err.message, cases[i].part)) fail_msg("%s", err.message);
    }
    a = mra_augment_defaults();
    a.size = 0;
    assert_int_equal(mra_augment_check(&a, &err), MRA_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_draws),       cmocka_unit_test(what_the_draw_depends_on),
        cmocka_unit_test(pictures_of_extreme_shape), cmocka_unit_test(training_pixels),
        cmocka_unit_test(evaluation_pixels),         cmocka_unit_test(bad_settings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
