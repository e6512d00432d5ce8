// Every device that is there, one after another: what makes a test a test of all of them.
//
//     for (device_turn turn = {0}; device_next(&turn);) { ... turn.device ... turn.label ... }
//
// gives the cpu once, `simt` in three orders of its blocks and threads (drawn from the test's
// seed; in the second and the third, operations that can work in slices do so), and `cuda` once in
// float32. A device that cannot be used here is passed over, and the log
// says why. MRA_TEST_DEVICE=simt (or cpu, cuda) leaves one.
#ifndef MRA_TESTS_TENSOR_DEVICES_H
#define MRA_TESTS_TENSOR_DEVICES_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/device.h"
#include "tensor/gemm.h"
#include "tensor/kernel_device.h"

enum { DEVICE_ORDERS = 3, DEVICE_THREADS = 2 };

typedef struct device_turn {
    mra_device *device;
    bool slow;      // simt: sizes should be small
    char label[24]; // "simt, order 2"
    int index, order;
} device_turn;

static inline uint64_t device_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20220711;
}

// Closes the device of the turn and opens the next one; false: that was the last.
static inline bool device_next(device_turn *turn)
{
    const char *only = getenv("MRA_TEST_DEVICE"), *name;
    static bool said; // why a device is absent
    if (turn->device && turn->slow && ++turn->order < DEVICE_ORDERS) {
        mra_simt_schedule(turn->device, device_seed() + (uint64_t)turn->order);
        mra_simt_slices(turn->device, turn->order == 1 ? 65536 : 4096);
        snprintf(turn->label, sizeof turn->label, "simt, order %d", turn->order + 1);
        return true;
    }
    mra_device_close(turn->device);
    turn->device = NULL;
    mra_blas_single_thread();
    while ((name = mra_device_name(turn->index))) {
        mra_error err;
        turn->index++;
        if (only && strcmp(only, name) != 0) continue;
        const mra_status status = mra_device_open(&turn->device, name, DEVICE_THREADS, &err);
        if (status == MRA_ABSENT) {
            if (!said) printf("# passed over: %s\n", err.message);
            said = true;
            continue;
        }
        if (status != MRA_OK) fail_msg("%s", err.message);
        turn->slow = strcmp(name, "simt") == 0;
        turn->order = 0;
        if (turn->slow) mra_simt_schedule(turn->device, device_seed());
        snprintf(turn->label, sizeof turn->label, "%s%s", name, turn->slow ? ", order 1" : "");
        return true;
    }
    return false;
}

// A copy of `bytes` of the host in memory of the device, for a test that calls its table directly.
static inline void *device_put(mra_device *device, const void *from, size_t bytes)
{
    mra_error err;
    void *to = device->allocate(device, bytes ? bytes : 1);
    assert_non_null(to);
    if (bytes && device->to_device(device, to, from, bytes, &err)) fail_msg("%s", err.message);
    return to;
}

// Copies it back (`to` NULL: does not) and releases it.
static inline void device_get(mra_device *device, void *to, void *from, size_t bytes)
{
    mra_error err;
    if (to && bytes && device->to_host(device, to, from, bytes, &err))
        fail_msg("%s", err.message);
    device->release(device, from);
}

// Adds a line to the table of the whole run (MRA_PARITY_TABLE names the file). One write of one
// line: tests run side by side.
static inline void device_log(const char *what, const char *label, double forward,
                              double backward)
{
    char line[160];
    snprintf(line, sizeof line, "%-32s %-14s forward %.1e  backward %.1e\n", what, label,
             forward, backward);
    const char *path = getenv("MRA_PARITY_TABLE");
    FILE *table = path ? fopen(path, "a") : NULL;
    if (!table) return;
    fputs(line, table);
    fclose(table);
}

#endif
