// AdamW against its definition in float64, over many steps, and its state through host memory.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "nn/optimiser.h"

enum { PARTS = 3, STEPS = 40 };
static const int sizes[PARTS] = {1, 37, 1003};

typedef struct fixture {
    mra_device *device;
    mra_parameters parameters;
    mra_optimiser *optimiser;
} fixture;

// In place: the optimiser borrows the list of parameters.
static void open_fixture(fixture *f, uint64_t seed, double weight_decay)
{
    mra_error err;
    assert_int_equal(mra_device_open(&f->device, "cpu", 2, &err), MRA_OK);
    mra_parameters_open(&f->parameters, f->device, seed);
    const char *const names[PARTS] = {"a", "b", "c"};
    mra_tensor *tensor;
    for (int i = 0; i < PARTS; i++)
        assert_int_equal(mra_parameters_add(&f->parameters, &tensor, names[i], 1, &sizes[i],
                                            MRA_INITIAL_NORMAL, 1.0f, &err),
                         MRA_OK);
    mra_optimiser_options options = mra_optimiser_defaults();
    options.weight_decay = weight_decay;
    assert_int_equal(mra_optimiser_create(&f->optimiser, &options, &f->parameters, &err),
                     MRA_OK);
}

static void close_fixture(fixture *f)
{
    mra_optimiser_free(f->optimiser);
    mra_parameters_free(&f->parameters);
    mra_device_close(f->device);
}

// The gradient of entry i at a step: of very different sizes, sometimes zero.
static float gradient(size_t i, int step)
{
    double u = (double)mra_uniform_at(5, (uint64_t)step, i) - 0.5;
    return i % 11 == 3 ? 0.0f : (float)(u * pow(10.0, (double)(i % 9) - 6.0));
}

static void set_gradients(fixture *f, int step)
{
    size_t at = 0;
    for (int p = 0; p < PARTS; p++)
        for (int i = 0; i < sizes[p]; i++)
            f->parameters.list[p].tensor->grad[i] = gradient(at++, step);
}

static void check_against_definition(double weight_decay, double scale)
{
    fixture f;
    open_fixture(&f, 3, weight_decay);
    size_t size = f.parameters.size;
    assert_int_equal(size, 1 + 37 + 1003);
    float *w32 = calloc(size, sizeof *w32);
    double *w = calloc(size, sizeof *w), *m = calloc(size, sizeof *m),
           *v = calloc(size, sizeof *v);
    mra_error err;
    mra_parameters_to_host(&f.parameters, w32, &err);
    for (size_t i = 0; i < size; i++) w[i] = (double)w32[i];
    for (int step = 1; step <= STEPS; step++) {
        double rate = 1e-2 / step;
        set_gradients(&f, step);
        for (size_t i = 0; i < size; i++) {
            double g = scale * (double)gradient(i, step);
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            double first = m[i] / (1 - pow(0.9, step)), second = v[i] / (1 - pow(0.999, step));
            w[i] -= rate * (weight_decay * w[i] + first / (sqrt(second) + 1e-6));
        }
        assert_int_equal(mra_optimiser_step(f.optimiser, step, rate, scale, &err), MRA_OK);
        for (int p = 0; p < PARTS; p++)
            for (int i = 0; i < sizes[p]; i++)
                assert_true(f.parameters.list[p].tensor->grad[i] == 0.0f);
    }
    mra_parameters_to_host(&f.parameters, w32, &err);
    for (size_t i = 0; i < size; i++)
        if (!(fabs((double)w32[i] - w[i]) <= 2e-6 * (1 + fabs(w[i]))))
            fail_msg("weight %zu: %.9g instead of %.9g", i, (double)w32[i], w[i]);
    free(w32);
    free(w);
    free(m);
    free(v);
    close_fixture(&f);
}

static void test_definition(void **state)
{
    (void)state;
    check_against_definition(0.0, 1.0);
    check_against_definition(0.1, 1.0);
    check_against_definition(0.01, 0.03125);
}

static void test_norm(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, 4, 0);
    set_gradients(&f, 7);
    double expected = 0, norm = 0;
    for (size_t i = 0; i < f.parameters.size; i++)
        expected += (double)gradient(i, 7) * (double)gradient(i, 7);
    mra_error err;
    assert_int_equal(mra_optimiser_norm(f.optimiser, &norm, &err), MRA_OK);
    assert_true(fabs(norm - sqrt(expected)) <= 1e-9 * sqrt(expected));
    f.parameters.list[1].tensor->grad[5] = NAN;
    assert_int_equal(mra_optimiser_norm(f.optimiser, &norm, &err), MRA_OK);
    assert_false(isfinite(norm));
    close_fixture(&f);
}

// Weights and moments moved into another optimiser go on to the same bits.
static void test_state(void **state)
{
    (void)state;
    fixture a, b;
    open_fixture(&a, 1, 0.1);
    open_fixture(&b, 2, 0.1);
    size_t size = a.parameters.size;
    float *values = calloc(size, sizeof *values), *other = calloc(size, sizeof *other);
    mra_error err;
    for (int step = 1; step <= 6; step++) {
        if (step == 4) {
            mra_parameters_to_host(&a.parameters, values, &err);
            mra_parameters_from_host(&b.parameters, values, &err);
            for (int moment = 1; moment <= 2; moment++) {
                mra_optimiser_to_host(a.optimiser, moment, values, &err);
                mra_optimiser_from_host(b.optimiser, moment, values, &err);
            }
        }
        set_gradients(&a, step);
        set_gradients(&b, step);
        assert_int_equal(mra_optimiser_step(a.optimiser, step, 1e-2, 1, &err), MRA_OK);
        assert_int_equal(mra_optimiser_step(b.optimiser, step, 1e-2, 1, &err), MRA_OK);
    }
    mra_parameters_to_host(&a.parameters, values, &err);
    mra_parameters_to_host(&b.parameters, other, &err);
    assert_memory_equal(values, other, size * sizeof *values);
    free(values);
    free(other);
    close_fixture(&a);
    close_fixture(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests_name("nn/optimiser", tests, NULL, NULL);
}
