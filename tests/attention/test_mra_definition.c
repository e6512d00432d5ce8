// The rows `mra2` and `mra2s` of the table of differences: the paper's method against its
// definition, as every other method of the comparison is checked. (tests/mra has the tests of its
// parts.)

#include "method_case.h"

#include "../mra/reference.h"

// Which boxes are refined is chosen from the unperturbed inputs.
static void definition(const method_case *c, double *const x[3], double *z)
{
    const size_t size = (size_t)c->n * (size_t)c->d;
    mra_options options = mra_options_mra2(c->layer->option[0].number);
    options.sparse = strcmp(c->layer->method->name, "mra2s") == 0;
    double *still[3] = {dense_copy(c->q, size), dense_copy(c->k, size), dense_copy(c->v, size)};
    reference chosen =
        reference_make(&options, c->n, c->d, still[0], still[1], still[2], c->mask, NULL, NULL);
    reference moved =
        reference_make(&options, c->n, c->d, x[0], x[1], x[2], c->mask, NULL, chosen.refined);
    memcpy(z, moved.z, size * sizeof *z);
    reference_free(&chosen);
    reference_free(&moved);
    for (int i = 0; i < 3; i++) free(still[i]);
}

static void test_mra2(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "mra2", .definition = definition});
    method_report(&(method_check){.method = "mra2",
                                  .options = {"blocks=1"},
                                  .label = "mra2 blocks=1",
                                  .definition = definition,
                                  .lengths = {33, 301}});
}

static void test_mra2s(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "mra2s", .definition = definition});
    method_report(&(method_check){.method = "mra2s",
                                  .options = {"blocks=1"},
                                  .label = "mra2s blocks=1",
                                  .definition = definition,
                                  .lengths = {33, 301}});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mra2),
                                       cmocka_unit_test(test_mra2s)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
