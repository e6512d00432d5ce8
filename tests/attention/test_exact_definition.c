// The row `exact` of the table of differences: softmax attention against its definition, as every
// other method of the comparison is checked.

#include "method_case.h"

static void definition(const method_case *c, double *const x[3], double *z)
{
    dense_head(c->n, c->d, x, c->mask, z, NULL, NULL, NULL);
}

static void test_exact(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "exact", .definition = definition});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
