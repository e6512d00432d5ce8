// The optimal tree against all trees, enumerated.
#include "dense.h"

#include "mra/optimal.h"

typedef struct tree {
    int refinements;
    double cost;
} tree;

// All trees below box (x, y) of level l, into list; returns how many.
static size_t enumerate(const double *const *cost, int coarse, int levels, int l, int x, int y,
                        tree *list)
{
    const int side = coarse << l;
    list[0] = (tree){0, cost[l][x * side + y]};
    if (l + 1 == levels) return 1;
    tree below[4][32];
    size_t many[4], count = 1;
    for (int c = 0; c < 4; c++)
        many[c] =
            enumerate(cost, coarse, levels, l + 1, 2 * x + c / 2, 2 * y + c % 2, below[c]);
    for (size_t a = 0; a < many[0]; a++)
        for (size_t b = 0; b < many[1]; b++)
            for (size_t c = 0; c < many[2]; c++)
                for (size_t d = 0; d < many[3]; d++)
                    list[count++] =
                        (tree){1 + below[0][a].refinements + below[1][b].refinements +
                                   below[2][c].refinements + below[3][d].refinements,
                               below[0][a].cost + below[1][b].cost + below[2][c].cost +
                                   below[3][d].cost};
    return count;
}

static double *random_costs(mra_random *random, int coarse, int levels, const double **cost)
{
    size_t total = 0, at = 0;
    for (int l = 0; l < levels; l++) total += (size_t)(coarse << l) * (size_t)(coarse << l);
    double *memory = test_alloc(total, sizeof *memory);
    for (size_t i = 0; i < total; i++) memory[i] = mra_random_uniform(random);
    for (int l = 0; l < levels; l++) {
        cost[l] = memory + at;
        at += (size_t)(coarse << l) * (size_t)(coarse << l);
    }
    return memory;
}

static void check(const double *expected, const double *found, size_t most)
{
    for (size_t j = 0; j <= most; j++) {
        if (isinf(expected[j]))
            assert_true(isinf(found[j]));
        else
            assert_true(fabs(expected[j] - found[j]) < 1e-12);
    }
}

// One root with three levels below: 1 + 17^4 trees.
static void test_deep(void **state)
{
    (void)state;
    mra_random random = mra_random_open(test_seed(), mra_stream("deep", 0, 0));
    tree *list = test_alloc(1 + 17 * 17 * 17 * 17, sizeof *list);
    for (int round = 0; round < 3; round++) {
        const double *cost[4];
        double *memory = random_costs(&random, 1, 4, cost);
        double expected[30], found[30];
        for (int j = 0; j < 30; j++) expected[j] = INFINITY;
        const size_t count = enumerate(cost, 1, 4, 0, 0, 0, list);
        for (size_t t = 0; t < count; t++)
            expected[list[t].refinements] = fmin(expected[list[t].refinements], list[t].cost);
        for (size_t most = 0; most < 30; most += 7) {
            mra_error err;
            assert_int_equal(mra_optimal_trees(1, 4, cost, most, found, &err), MRA_OK);
            check(expected, found, most);
        }
        free(memory);
    }
    free(list);
}

// Nine roots of two levels: the refinements that gain most, one root each.
static void test_wide(void **state)
{
    (void)state;
    mra_random random = mra_random_open(test_seed(), mra_stream("wide", 0, 0));
    const double *cost[2];
    double *memory = random_costs(&random, 3, 2, cost), gain[9], found[12], expected[12];
    expected[0] = 0;
    for (int x = 0; x < 3; x++)
        for (int y = 0; y < 3; y++) {
            double below = 0;
            for (int c = 0; c < 4; c++) below += cost[1][(2 * x + c / 2) * 6 + 2 * y + c % 2];
            gain[3 * x + y] = cost[0][3 * x + y] - below;
            expected[0] += cost[0][3 * x + y];
        }
    for (int a = 0; a < 9; a++)
        for (int b = a + 1; b < 9; b++)
            if (gain[b] > gain[a]) {
                const double other = gain[a];
                gain[a] = gain[b];
                gain[b] = other;
            }
    for (int j = 1; j < 12; j++)
        expected[j] = j <= 9 ? expected[j - 1] - gain[j - 1] : INFINITY;
    mra_error err;
    assert_int_equal(mra_optimal_trees(3, 2, cost, 11, found, &err), MRA_OK);
    check(expected, found, 11);
    assert_int_equal(mra_optimal_trees(3, 1, cost, 2, found, &err), MRA_OK);
    assert_true(isinf(found[1]));
    assert_int_equal(mra_optimal_trees(3, 0, cost, 2, found, &err), MRA_BAD_INPUT);
    assert_int_equal(mra_optimal_trees(0, 2, cost, 2, found, &err), MRA_BAD_INPUT);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_deep),
                                       cmocka_unit_test(test_wide)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
