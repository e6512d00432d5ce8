// A stand-in for OpenMP in the browser, where there is one thread: what src/ asks the runtime.
#ifndef MRA_PAPER_STANDIN_OMP_H
#define MRA_PAPER_STANDIN_OMP_H

#include <time.h>

static inline int omp_in_parallel(void)
{
    return 0;
}
static inline int omp_get_thread_num(void)
{
    return 0;
}
static inline int omp_get_max_threads(void)
{
    return 1;
}
static inline double omp_get_wtime(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
