// MRA-2 against the float64 definition on the trained heads that the figures are drawn from: real logits are larger and
// less regular than random ones.
#include "attention_case.h"

#include <stdio.h>

#include "io/npy.h"

static const double forward_limit = 5e-6, backward_limit = 2e-5;

static float *load(const char *set, char letter, mra_shape *shape)
{
    char path[1024];
    const char *root = getenv("MRA_ROOT");
    mra_npy array = {0};
    mra_error err = {0};
    snprintf(path, sizeof path, "%s/paper/inputs/%s/example0-%c.npy", root ? root : ".", set,
             letter);
    if (mra_npy_read_f32(&array, path, true, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(array.rank, 3);
    *shape = (mra_shape){1, (int)array.shape[0], (int)array.shape[1], (int)array.shape[2]};
    float *copy = reference_alloc(array.size, sizeof *copy);
    memcpy(copy, array.data, array.size * sizeof *copy);
    mra_npy_free(&array);
    return copy;
}

// Prints and checks the largest relative difference of z and of the three gradients of one head.
static void check_head(const arrays *a, int head, const mra_options *options)
{
    const size_t size = (size_t)a->shape.n * a->shape.d, first = (size_t)head * size;
    double *x[4] = {to_double(a->q + first, size), to_double(a->k + first, size),
                    to_double(a->v + first, size), to_double(a->dz + first, size)};
    reference r =
        reference_make(options, a->shape.n, a->shape.d, x[0], x[1], x[2], NULL, x[3], NULL);
    assert_true(r.gap > 1e-6); // the choice of boxes is beyond rounding
    const double z = reference_distance(a->z + first, r.z, size);
    double gradient = reference_distance(a->dq + first, r.dq, size);
    gradient = fmax(gradient, reference_distance(a->dk + first, r.dk, size));
    gradient = fmax(gradient, reference_distance(a->dv + first, r.dv, size));
    printf("# head %d: z %.1e, gradients %.1e\n", head, z, gradient);
    assert_true(z < forward_limit);
    assert_true(gradient < backward_limit);
    reference_free(&r);
    for (int i = 0; i < 4; i++) free(x[i]);
}

static void check_set(const char *set)
{
    mra_shape shape;
    float *q = load(set, 'q', &shape), *k = load(set, 'k', &shape), *v = load(set, 'v', &shape);
    arrays a = make_arrays(shape, 32, NO_MASK, 1, 7);
    memcpy(a.q, q, a.size * sizeof *q);
    memcpy(a.k, k, a.size * sizeof *k);
    memcpy(a.v, v, a.size * sizeof *v);
    mra_options options = mra_options_mra2(4);
    options.threads = 2;
    run(&a, &options);
    for (int head = 0; head < shape.heads; head++) check_head(&a, head, &options);
    free_arrays(&a);
    free(q);
    free(k);
    free(v);
}

static void test_text(void **state)
{
    (void)state;
    check_set("text-512");
}

static void test_listops(void **state)
{
    (void)state;
    check_set("listops-512");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text),
                                       cmocka_unit_test(test_listops)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
