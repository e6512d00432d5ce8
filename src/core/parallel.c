// Parallel loops on OpenMP.
//
// Items are handed out one at a time (schedule(dynamic, 1)): items of block attention differ in
// cost, and an item is large enough (a row of blocks, a head) for the hand-out to cost nothing
// beside it.

#include "core/parallel.h"

#include <omp.h>

static void serial_loop(size_t items, mra_loop_body body, void *context)
{
    for (size_t item = 0; item < items; item++) body(context, item, 0);
}

void mra_parallel_for(int threads, size_t items, mra_loop_body body, void *context)
{
    if (threads > 1 && items < (size_t)threads) threads = (int)items;
    if (threads <= 1 || omp_in_parallel()) {
        serial_loop(items, body, context);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (size_t item = 0; item < items; item++) body(context, item, omp_get_thread_num());
}

int mra_default_threads(void)
{
    int threads = omp_get_max_threads();
    return threads > 0 ? threads : 1;
}
