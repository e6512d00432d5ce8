// Half precision: every half, and floats around every rounding boundary, against arithmetic on
// doubles.
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "io/half.h"

// The value of a half by its definition.
static double definition(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double sign = half >> 15 ? -1 : 1;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static void every_half_has_its_value(void **state)
{
    (void)state;
    for (unsigned h = 0; h <= 0xffff; h++) {
        double expected = definition((uint16_t)h);
        float value = mra_half_to_float((uint16_t)h);
        if (isnan(expected)) {
            assert_true(isnan(value));
            assert_true(isnan(mra_half_to_float(mra_half_from_float(value))));
            continue;
        }
        assert_true((double)value == expected && !signbit(value) == !(h >> 15));
        assert_int_equal(mra_half_from_float(value), h);
    }
}

// The nearest half of a finite float, ties to even: by comparing distances to both neighbours.
static uint16_t nearest(float value)
{
    double magnitude = fabs((double)value);
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    if (magnitude >= 65520) return sign | 0x7c00; // half-way between 65504 and 2^16
    unsigned low = 0, high = 0x7c00;              // low <= magnitude < high
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (definition((uint16_t)middle) <= magnitude)
            low = middle;
        else
            high = middle;
    }
    double above = high == 0x7c00 ? 65536 : definition((uint16_t)high);
    double down = magnitude - definition((uint16_t)low), up = above - magnitude;
    if (down < up || (down == up && low % 2 == 0)) return (uint16_t)(sign | low);
    return (uint16_t)(sign | high);
}

static void rounding_is_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) { // the boundary above each half, and its neighbours
        double above = h == 0x7bff ? 65536 : definition((uint16_t)(h + 1));
        float middle = (float)((definition((uint16_t)h) + above) / 2);
        const float around[] = {middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)};
        for (int i = 0; i < 3; i++) {
            assert_int_equal(mra_half_from_float(around[i]), nearest(around[i]));
            assert_int_equal(mra_half_from_float(-around[i]), nearest(-around[i]));
        }
    }
    mra_random random = mra_random_open(1, mra_stream("half", 0, 0));
    for (int i = 0; i < 100000; i++) {
        uint32_t bits = mra_random_u32(&random);
        float value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) assert_int_equal(mra_half_from_float(value), nearest(value));
    }
}

static void the_ends_of_the_range(void **state)
{
    (void)state;
    assert_int_equal(mra_half_from_float(0.0f), 0);
    assert_int_equal(mra_half_from_float(-0.0f), 0x8000);
    assert_int_equal(mra_half_from_float(INFINITY), 0x7c00);
    assert_int_equal(mra_half_from_float(-INFINITY), 0xfc00);
    assert_int_equal(mra_half_from_float(FLT_MAX), 0x7c00);
    assert_int_equal(mra_half_from_float(65504), 0x7bff);
    assert_int_equal(mra_half_from_float(0x1p-24f), 1);
    assert_int_equal(mra_half_from_float(0x1p-25f), 0);
    assert_int_equal(mra_half_from_float(FLT_TRUE_MIN), 0);
    assert_int_equal(mra_half_from_float(1.0f), 0x3c00);
    assert_true(isnan(mra_half_to_float(mra_half_from_float(NAN))));
}

// Arrays (by the processor's instructions, if there are any) give bit by bit what single
// numbers give.
static void arrays_equal_single_numbers(void **state)
{
    (void)state;
    enum { COUNT = 65536 + 5 };
    uint16_t *halves = malloc(COUNT * sizeof *halves);
    float *values = malloc(COUNT * sizeof *values);
    for (int i = 0; i < COUNT; i++) halves[i] = (uint16_t)i;
    mra_halves_to_floats(values, halves, COUNT);
    for (int i = 0; i < COUNT; i++) {
        float single = mra_half_to_float((uint16_t)i);
        assert_memory_equal(&values[i], &single, sizeof single);
    }
    mra_random random = mra_random_open(2, mra_stream("half", 0, 0));
    for (int i = 0; i < COUNT; i++) {
        uint32_t bits = mra_random_u32(&random);
        if (i % 3) bits = (bits & 0x87ffffffu) | 0x30000000u; // mostly in the range of halves
        memcpy(&values[i], &bits, sizeof bits);
    }
    mra_halves_from_floats(halves, values, COUNT);
    for (int i = 0; i < COUNT; i++) assert_int_equal(halves[i], mra_half_from_float(values[i]));
    free(halves);
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_has_its_value),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(the_ends_of_the_range),
        cmocka_unit_test(arrays_equal_single_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
