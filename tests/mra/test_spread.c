// The ranking by spread: output and gradients against the float64 definition, masks and priors
// included; the same bits for any number of threads.
#include "attention_case.h"

#include <stdio.h>

#include "dense.h"

static const double forward_limit = 5e-6, backward_limit = 2e-5;

// Heads whose scores lie too close at the last place are left out: the library takes rough logarithms.
static bool check_heads(const arrays *a, const mra_options *options)
{
    const size_t size = (size_t)a->shape.n * (size_t)a->shape.d;
    bool checked = false;
    for (int h = 0; h < a->shape.batch * a->shape.heads; h++) {
        const size_t first = (size_t)h * size;
        double *x[4] = {to_double(a->q + first, size), to_double(a->k + first, size),
                        to_double(a->v + first, size), to_double(a->dz + first, size)};
        const uint8_t *mask =
            a->mask ? a->mask + (size_t)(h / a->shape.heads) * (size_t)a->shape.n : NULL;
        reference r =
            reference_make(options, a->shape.n, a->shape.d, x[0], x[1], x[2], mask, x[3], NULL);
        if (r.gap > 0.05) {
            checked = true;
            assert_true(reference_distance(a->z + first, r.z, size) < forward_limit);
            assert_true(reference_distance(a->dq + first, r.dq, size) < backward_limit);
            assert_true(reference_distance(a->dk + first, r.dk, size) < backward_limit);
            assert_true(reference_distance(a->dv + first, r.dv, size) < backward_limit);
        }
        reference_free(&r);
        for (int i = 0; i < 4; i++) free(x[i]);
    }
    return checked;
}

static void test_definition(void **state)
{
    (void)state;
    const int wanted = getenv("MRA_SANITIZED") ? 20 : 100;
    int checked = 0;
    for (int i = 0; i < wanted; i++) {
        const mra_shape shape = {1 + i % 2, 1 + i % 3, 40 + 37 * (i % 5), 4 + 4 * (i % 4)};
        arrays a = make_arrays(shape, 16, (mask_kind)(i % 4), 0.3f + 0.3f * (float)(i % 4),
                               test_seed() + (uint64_t)i);
        mra_options options = mra_options_mra2(0.5 + i % 3);
        options.scale[0] = 16;
        options.ranking = MRA_RANK_SPREAD;
        options.sparse = i % 5 == 4;
        options.first = i % 7 == 6;
        options.threads = 1;
        run(&a, &options);
        checked += check_heads(&a, &options);
        float *z = a.z;
        a.z = reference_alloc(a.size, sizeof *a.z);
        options.threads = 3;
        run(&a, &options);
        assert_memory_equal(z, a.z, a.size * sizeof *z);
        free(z);
        free_arrays(&a);
    }
    printf("# %d of %d cases with a clear choice\n", checked, wanted);
    assert_true(checked > wanted / 2);
}

// Large logits, blocks without tokens and constant blocks leave the output finite.
static void test_extremes(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        const mra_shape shape = {1, 2, 200, 8};
        arrays a = make_arrays(shape, 32, (mask_kind)(i % 5), i % 2 ? 200 : 0,
                               test_seed() + 1000 + (uint64_t)i);
        mra_options options = mra_options_mra2(2);
        options.ranking = MRA_RANK_SPREAD;
        run(&a, &options);
        for (size_t e = 0; e < a.size; e++) assert_true(isfinite(a.z[e]));
        free_arrays(&a);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    mra_error err;
    mra_attention *attention;
    const mra_shape shape = {1, 1, 300, 4};
    mra_options options = mra_options_mra2(1);
    options.ranking = MRA_RANK_SPREAD;
    options.scale[0] = 256;
    assert_int_equal(mra_attention_create(&attention, shape, &options, &err), MRA_BAD_INPUT);
    options = (mra_options){
        .scales = 3, .scale = {32, 4, 1}, .blocks = {0, 1, 1}, .ranking = MRA_RANK_SPREAD};
    assert_int_equal(mra_attention_create(&attention, shape, &options, &err), MRA_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_definition),
                                       cmocka_unit_test(test_extremes),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
