// # Measuring
//
// Relative error and time, as the header defines them. Time is taken with the monotonic clock
// around whole calls; the median of several repeats is robust against the odd interruption, and
// rivals that take turns see the same drift of a processor's clock, so that their *ratio* is
// steadier than either time.

#include "attention/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

double mra_relative_error(const float *approximate, const float *exact, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        double delta = (double)approximate[i] - exact[i];
        difference += delta * delta;
        norm += (double)exact[i] * exact[i];
    }
    if (difference == 0 && norm == 0) return 0;
    return sqrt(difference) / sqrt(norm);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static mra_timing summarise(double *samples, int repeats)
{
    qsort(samples, (size_t)repeats, sizeof *samples, compare_doubles);
    double low = samples[(repeats - 1) / 2], high = samples[repeats / 2];
    return (mra_timing){.median = (low + high) / 2,
                        .least = samples[0],
                        .most = samples[repeats - 1],
                        .repeats = repeats};
}

mra_status mra_measure_times(const mra_work *works, int count, int repeats, mra_timing *timing,
                             mra_error *err)
{
    if (count < 1 || repeats < 1 || repeats > 1000)
        return mra_fail(err, MRA_BAD_INPUT, "repeats: %d: expected 1 to 1000", repeats);
    double *samples = calloc((size_t)count * (size_t)repeats, sizeof *samples);
    if (samples == NULL) return mra_fail(err, MRA_NO_MEMORY, "no memory for %d timings", count);
    mra_status status = MRA_OK;
    for (int i = 0; i < count && status == MRA_OK; i++)
        status =
            works[i].run(works[i].context, err); // the first call pays for pages and caches
    for (int round = 0; round < repeats && status == MRA_OK; round++) {
        for (int i = 0; i < count && status == MRA_OK; i++) {
            double start = mra_seconds();
            status = works[i].run(works[i].context, err);
            samples[i * repeats + round] = mra_seconds() - start;
        }
    }
    for (int i = 0; i < count && status == MRA_OK; i++)
        timing[i] = summarise(samples + i * repeats, repeats);
    free(samples);
    return status;
}

mra_status mra_measure_time(mra_measured run, void *context, int repeats, mra_timing *timing,
                            mra_error *err)
{
    mra_work work = {.run = run, .context = context};
    return mra_measure_times(&work, 1, repeats, timing, err);
}

mra_status mra_instance_forward(void *context, mra_error *err)
{
    mra_instance *instance = context;
    return mra_attention_run(instance->layer, instance->tape, instance->q, instance->k,
                             instance->v, instance->mask, instance->z, NULL, NULL, NULL, NULL,
                             err);
}

mra_status mra_instance_both(void *context, mra_error *err)
{
    mra_instance *instance = context;
    return mra_attention_run(instance->layer, instance->tape, instance->q, instance->k,
                             instance->v, instance->mask, instance->z, instance->dz,
                             instance->dq, instance->dk, instance->dv, err);
}
