// Time on a device that works behind the caller's back, and the operations of its table one by one.
#ifndef MRA_EXPERIMENTS_COMMON_DEVICE_H
#define MRA_EXPERIMENTS_COMMON_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "attention/measure.h"
#include "tensor/device.h"

// A pass over something on a device: hands work to the device and does not wait for it.
typedef mra_status (*mra_device_pass)(void *context, mra_error *err);

typedef struct mra_device_clock {
    mra_device *device;
    float *probe; // device memory of at least one float, read back to wait
    int passes;   // handed over before the device is waited for
    int repeats;  // of that, after one to warm up; the median counts
} mra_device_clock;

// Seconds of one pass: what passes of the same kind take one after another, waiting once at their
// end, over how many they are. So the time between a call and its kernel is hidden as it is in a
// training step, and the time to hand over is not counted unless it is what the device waits for.
mra_status mra_device_time(const mra_device_clock *clock, mra_device_pass pass, void *context,
                           mra_timing *timing, mra_error *err);

// What an operation is measured on: x, y, z, w of rows x columns floats each and `ids` of `rows`
// integers in [0, rows), device memory of the caller's; statistics: 2 x rows + 4 x columns floats.
typedef struct mra_operation_place {
    mra_device *device;
    size_t rows;
    int columns;
    float *x, *y, *z, *w, *statistics;
    int32_t *ids;
} mra_operation_place;

typedef struct mra_device_operation {
    const char *name;
    double bytes;      // that must be moved, for each entry of x
    double operations; // multiplications and additions, for each entry of x and column; 0: few
    mra_device_pass pass; // context: a mra_operation_place
} mra_device_operation;

// Index from 0 until NULL; the first is a copy, the second a product.
const mra_device_operation *mra_device_operation_at(int index);

#endif
