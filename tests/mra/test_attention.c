// libmra's public interface: values and gradients against the float64 definition (reference.h)
// for every shape, mask, prior, ranking and budget.
#include "attention_case.h"

enum { FORWARD_LIMIT, BACKWARD_LIMIT };
static const double limit[] = {5e-6, 2e-5};

// Compares head h of the results with the definition; the gradients began at `start`.
static void compare_head(const arrays *a, const mra_options *options, size_t h, float start)
{
    size_t size = (size_t)a->shape.n * a->shape.d, first = h * size;
    const uint8_t *mask = a->mask ? a->mask + h / a->shape.heads * a->shape.n : NULL;
    double *q = to_double(a->q + first, size), *k = to_double(a->k + first, size);
    double *v = to_double(a->v + first, size), *dz = to_double(a->dz + first, size);
    reference r = reference_make(options, a->shape.n, a->shape.d, q, k, v, mask, dz, NULL);
    assert_true(r.gap > 1e-6); // else rounding may choose another box: take another seed
    for (size_t i = 0; i < 3 * size; i++) r.dq[i] += start;
    assert_true(reference_distance(a->z + first, r.z, size) < limit[FORWARD_LIMIT]);
    assert_true(reference_distance(a->dq + first, r.dq, size) < limit[BACKWARD_LIMIT]);
    assert_true(reference_distance(a->dk + first, r.dk, size) < limit[BACKWARD_LIMIT]);
    assert_true(reference_distance(a->dv + first, r.dv, size) < limit[BACKWARD_LIMIT]);
    reference_free(&r);
    free(q);
    free(k);
    free(v);
    free(dz);
}

typedef struct test_case {
    mra_shape shape;
    int s;
    double blocks;
    mask_kind mask;
    bool sparse;
    mra_ranking ranking;
    int first, diagonal;
    bool count_padding;
} test_case;

static mra_options options_of(const test_case *test)
{
    mra_options options = mra_options_mra2(test->blocks);
    options.scale[0] = test->s;
    options.sparse = test->sparse;
    options.ranking = test->ranking;
    options.first = test->first;
    options.diagonal = test->diagonal;
    options.count_padding = test->count_padding;
    options.threads = 2;
    return options;
}

static void check_case(const test_case *test, uint64_t seed)
{
    mra_options options = options_of(test);
    arrays a = make_arrays(test->shape, test->s, test->mask, 1, seed);
    float start = seed % 2 ? 0.25f : 0; // gradients are added to what is there
    for (size_t i = 0; i < a.size; i++) a.dq[i] = a.dk[i] = a.dv[i] = start;
    run(&a, &options);
    for (size_t h = 0; h < (size_t)test->shape.batch * test->shape.heads; h++)
        compare_head(&a, &options, h, start);
    free_arrays(&a);
}

static void lengths_agree_with_the_definition(void **state)
{
    (void)state;
    const int n[] = {1, 31, 32, 33, 100, 257, 1000};
    for (int i = 0; i < 7; i++) {
        test_case test = {.shape = {1, 1, n[i], 32}, .s = 32, .blocks = 1.5};
        check_case(&test, 10 + (uint64_t)i);
        test.sparse = true;
        check_case(&test, 20 + (uint64_t)i);
    }
}

static void widths_agree_with_the_definition(void **state)
{
    (void)state;
    const int d[] = {1, 31, 32, 64, 96, 256};
    for (int i = 0; i < 6; i++) {
        test_case test = {.shape = {1, 2, 150, d[i]}, .s = 32, .blocks = 2};
        check_case(&test, 30 + (uint64_t)i);
    }
}

static void block_sizes_agree_with_the_definition(void **state)
{
    (void)state;
    const int s[] = {2, 3, 8, 16, 17, 48, 64, 128, 200}; // 200: the general path
    for (int i = 0; i < 9; i++) {
        test_case test = {.shape = {1, 1, 300, 24}, .s = s[i], .blocks = 1.2};
        check_case(&test, 40 + (uint64_t)i);
    }
}

static void masks_agree_with_the_definition(void **state)
{
    (void)state;
    for (int kind = RANDOM_MASK; kind <= NOTHING; kind++)
        for (int sparse = 0; sparse < 2; sparse++) {
            test_case test = {.shape = {2, 2, 230, 40},
                              .s = 32,
                              .blocks = 2,
                              .mask = (mask_kind)kind,
                              .sparse = sparse};
            check_case(&test, 50 + 2 * (uint64_t)kind + (uint64_t)sparse);
            test.count_padding = true;
            check_case(&test, 60 + 2 * (uint64_t)kind + (uint64_t)sparse);
        }
}

static void rankings_and_priors_agree_with_the_definition(void **state)
{
    (void)state;
    const int prior[][2] = {{0, 0}, {1, 0}, {0, 1}, {0, 3}, {2, 5}};
    for (int i = 0; i < 5; i++)
        for (int plain = 0; plain < 2; plain++) {
            test_case test = {.shape = {1, 1, 350, 16}, .s = 16, .blocks = 4.5};
            test.ranking = plain ? MRA_RANK_PLAIN : MRA_RANK_ROW;
            test.first = prior[i][0];
            test.diagonal = prior[i][1];
            test.mask = i == 2 ? BLOCK_MASK : NO_MASK;
            check_case(&test, 70 + 2 * (uint64_t)i + (uint64_t)plain);
        }
}

static void budgets_of_nothing_and_of_everything(void **state)
{
    (void)state;
    const double blocks[] = {0, 0.2, 7, 100};
    for (int i = 0; i < 4; i++)
        for (int sparse = 0; sparse < 2; sparse++) {
            test_case test = {.shape = {1, 1, 200, 64}, .s = 32, .blocks = blocks[i]};
            test.sparse = sparse;
            test.mask = i == 3 ? RANDOM_MASK : NO_MASK;
            check_case(&test, 90 + 2 * (uint64_t)i + (uint64_t)sparse);
        }
}

// The reference's own gradients against central differences of its own values, J held fixed.
static void reference_gradients_are_derivatives(void **state)
{
    (void)state;
    for (int sparse = 0; sparse < 2; sparse++) {
        test_case test = {.s = 4, .blocks = 1.5, .sparse = sparse};
        mra_options options = options_of(&test);
        arrays a =
            make_arrays((mra_shape){1, 1, 18, 3}, 4, RANDOM_MASK, 1, 5 + (uint64_t)sparse);
        double *x[3] = {to_double(a.q, a.size), to_double(a.k, a.size), to_double(a.v, a.size)};
        double *dz = to_double(a.dz, a.size);
        reference r = reference_make(&options, 18, 3, x[0], x[1], x[2], a.mask, dz, NULL);
        double *analytic[3] = {r.dq, r.dk, r.dv};
        for (int which = 0; which < 3; which++)
            for (size_t i = 0; i < a.size; i++) {
                double value[2], step = 1e-5, kept = x[which][i];
                for (int side = 0; side < 2; side++) {
                    x[which][i] = kept + (side ? step : -step);
                    reference moved = reference_make(&options, 18, 3, x[0], x[1], x[2], a.mask,
                                                     NULL, r.refined);
                    value[side] = reference_dot(moved.z, dz, (int)a.size);
                    reference_free(&moved);
                }
                x[which][i] = kept;
                double slope = (value[1] - value[0]) / (2 * step);
                assert_true(fabs(slope - analytic[which][i]) < 1e-7 * (1 + fabs(slope)));
            }
        reference_free(&r);
        for (int which = 0; which < 3; which++) free(x[which]);
        free(dz);
        free_arrays(&a);
    }
}

static void one_scale_is_exact_attention(void **state)
{
    (void)state;
    mra_options exact = {.scales = 1, .scale = {1}, .threads = 2};
    mra_options deep = {.scales = 4, .scale = {16, 8, 4, 1}, .blocks = {0, 99, 99, 999}};
    for (int kind = NO_MASK; kind <= RANDOM_MASK; kind++) {
        arrays a = make_arrays((mra_shape){1, 2, 77, 20}, 1, (mask_kind)kind, 1, 3);
        mra_statistics statistics = run(&a, &exact);
        if (kind == NO_MASK) assert_int_equal(statistics.boxes[0], 2 * 77 * 77);
        for (size_t h = 0; h < 2; h++) compare_head(&a, &exact, h, 0);
        memset(a.dq, 0, a.size * sizeof(float));
        memset(a.dk, 0, a.size * sizeof(float));
        memset(a.dv, 0, a.size * sizeof(float));
        run(&a, &deep);
        for (size_t h = 0; h < 2; h++) compare_head(&a, &exact, h, 0);
        free_arrays(&a);
    }
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_derivatives),
        cmocka_unit_test(lengths_agree_with_the_definition),
        cmocka_unit_test(widths_agree_with_the_definition),
        cmocka_unit_test(block_sizes_agree_with_the_definition),
        cmocka_unit_test(masks_agree_with_the_definition),
        cmocka_unit_test(rankings_and_priors_agree_with_the_definition),
        cmocka_unit_test(budgets_of_nothing_and_of_everything),
        cmocka_unit_test(one_scale_is_exact_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
