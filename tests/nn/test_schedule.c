// One-cycle learning rates: the end points, monotonicity, and values computed by hand from the formula.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nn/schedule.h"

static void close_to(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12 * fabs(expected) + 1e-18))
        fail_msg("%.17g instead of %.17g", value, expected);
}

// 10 steps, warm-up 4: up over the steps 0 .. 3, down over 3 .. 9.
static void test_linear(void **state)
{
    (void)state;
    const mra_schedule schedule = {
        .peak = 1.0, .warmup = 4, .steps = 10, .anneal = MRA_ANNEAL_LINEAR};
    const double start = 0.04, end = 0.04 / 1e4;
    for (int step = 0; step <= 3; step++)
        close_to(mra_schedule_rate(&schedule, step), start + 0.96 * step / 3);
    for (int step = 3; step < 10; step++)
        close_to(mra_schedule_rate(&schedule, step), 1 + (end - 1) * (step - 3) / 6);
}

static void test_cosine(void **state)
{
    (void)state;
    const mra_schedule schedule = {
        .peak = 2.0, .warmup = 5, .steps = 21, .anneal = MRA_ANNEAL_COSINE};
    const double start = 0.08, end = 0.08 / 1e4;
    close_to(mra_schedule_rate(&schedule, 0), start);
    close_to(mra_schedule_rate(&schedule, 2), (start + 2) / 2); // half way up
    close_to(mra_schedule_rate(&schedule, 4), 2);
    close_to(mra_schedule_rate(&schedule, 12), (2 + end) / 2); // half way down
    close_to(mra_schedule_rate(&schedule, 8), end + (2 - end) * (1 + sqrt(0.5)) / 2);
    close_to(mra_schedule_rate(&schedule, 20), end);
}

static void test_shape(void **state)
{
    (void)state;
    for (int warmup = 0; warmup <= 50; warmup += 7) {
        for (int kind = 0; kind < 2; kind++) {
            const mra_schedule schedule = {3e-4, warmup, 50, (mra_anneal)kind};
            double before = 0;
            int falls = 0;
            for (int step = 0; step < 50; step++) {
                double rate = mra_schedule_rate(&schedule, step);
                assert_true(rate > 0 && rate <= 3e-4 * (1 + 1e-15));
                if (step > 0 && rate < before) falls = 1;
                if (step > 0 && falls) assert_true(rate < before);
                before = rate;
            }
        }
    }
}

// No warm-up begins at the peak; a training of one step has one rate; all warm-up ends at the peak.
static void test_edges(void **state)
{
    (void)state;
    close_to(mra_schedule_rate(&(mra_schedule){1, 0, 10, MRA_ANNEAL_LINEAR}, 0), 1);
    close_to(mra_schedule_rate(&(mra_schedule){1, 0, 1, MRA_ANNEAL_COSINE}, 0), 1);
    close_to(mra_schedule_rate(&(mra_schedule){1, 1, 1, MRA_ANNEAL_LINEAR}, 0), 1);
    close_to(mra_schedule_rate(&(mra_schedule){1, 10, 10, MRA_ANNEAL_LINEAR}, 9), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests_name("nn/schedule", tests, NULL, NULL);
}
