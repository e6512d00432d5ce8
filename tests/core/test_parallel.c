// Parallel loops: every item once, whatever the number of threads; nested loops stay serial.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <omp.h>

#include "core/parallel.h"

enum { ITEMS = 1000 };

typedef struct tally {
    atomic_int done[ITEMS];
    atomic_int highest; // thread number seen
    int nested_threads[ITEMS];
} tally;

static void count(void *context, size_t item, int thread)
{
    tally *t = context;
    atomic_fetch_add(&t->done[item], 1);
    int highest = atomic_load(&t->highest);
    while (thread > highest && !atomic_compare_exchange_weak(&t->highest, &highest, thread)) {
    }
}

static void every_item_once(void **state)
{
    (void)state;
    const int threads[] = {-1, 0, 1, 2, 4, 7};
    const size_t items[] = {0, 1, 2, 3, ITEMS};
    for (int t = 0; t < 6; t++)
        for (int n = 0; n < 5; n++) {
            static tally seen;
            for (int i = 0; i < ITEMS; i++) atomic_store(&seen.done[i], 0);
            atomic_store(&seen.highest, 0);
            mra_parallel_for(threads[t], items[n], count, &seen);
            for (size_t i = 0; i < ITEMS; i++)
                assert_int_equal(atomic_load(&seen.done[i]), i < items[n]);
            assert_true(atomic_load(&seen.highest) < (threads[t] > 1 ? threads[t] : 1));
        }
}

static void inner(void *context, size_t item, int thread)
{
    (void)item;
    int *highest = context;
    if (thread > *highest) *highest = thread;
}

static void outer(void *context, size_t item, int thread)
{
    (void)thread;
    tally *t = context;
    mra_parallel_for(4, 50, inner, &t->nested_threads[item]); // a race, if it were parallel
}

static void nested_loops_are_serial(void **state)
{
    (void)state;
    static tally seen;
    omp_set_max_active_levels(3); // so that OpenMP itself would nest them
    mra_parallel_for(2, 20, outer, &seen);
    for (int i = 0; i < 20; i++) assert_int_equal(seen.nested_threads[i], 0);
    assert_true(mra_default_threads() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_item_once),
                                       cmocka_unit_test(nested_loops_are_serial)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
