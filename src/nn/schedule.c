// One-cycle learning rates.
//
// AdamW divides by a running estimate of the gradient's size that is poor in its first steps, so the rate
// starts small, rises to its peak while the estimate settles, and then falls until the weights come to rest.
// The formula stands in the header.

#include "nn/schedule.h"

#include <math.h>

static double anneal(mra_anneal kind, double from, double to, double x)
{
    if (kind == MRA_ANNEAL_LINEAR) return from + (to - from) * x;
    return to + (from - to) * (1.0 + cos(3.14159265358979323846 * x)) / 2.0;
}

double mra_schedule_rate(const mra_schedule *schedule, int64_t step)
{
    double start = schedule->peak / 25.0, end = start / 1e4;
    int64_t top = schedule->warmup > 1 ? schedule->warmup - 1 : 0, last = schedule->steps - 1;
    if (step < top)
        return anneal(schedule->anneal, start, schedule->peak, (double)step / (double)top);
    if (step <= top || last <= top) return schedule->peak;
    double x = (double)(step - top) / (double)(last - top);
    return anneal(schedule->anneal, schedule->peak, end, x < 1.0 ? x : 1.0);
}
