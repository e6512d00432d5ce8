// Whole attention methods as one operation of a device.
//
// Most methods are chains of the primitives of tensor/kernels.h and run wherever those do. A few
// are one operation, forward and backward: on the cpu that code is in src/mra and
// src/attention, on other devices it belongs to the device, which lists what it has in its
// table. Nothing above looks at a device's name: a method asks mra_device_fused().
#ifndef MRA_TENSOR_FUSED_H
#define MRA_TENSOR_FUSED_H

#include <stdint.h>

#include "core/error.h"
#include "tensor/device.h"

#ifdef __cplusplus
extern "C" {
#endif

// What can be done with the state of such a method; the three know it by its true type.
//
// q, k, v, z and their gradients are [batch, heads, n, d] and, like mask[batch, n] (1 for a token, 0
// for padding; or NULL), device memory. forward overwrites z. backward adds to dq, dk and dv and
// must follow a forward pass of the same state with the same arrays.
typedef struct mra_fused_rule {
    mra_status (*forward)(void *state, const float *q, const float *k, const float *v,
                          const uint8_t *mask, float *z, mra_error *err);
    mra_status (*backward)(void *state, const float *q, const float *k, const float *v,
                           const uint8_t *mask, const float *z, const float *dz, float *dq,
                           float *dk, float *dv, mra_error *err);
    void (*release)(void *state);
    // May be NULL. What the last forward pass did: for mra2 and mra2s fills a mra_statistics.
    void (*statistics)(const void *state, void *statistics);
} mra_fused_rule;

// A row of a device's list.
typedef struct mra_fused_method {
    const char *name; // as in the table of methods, "mra2"
    mra_fused_rule rule;
    // Checks shape {batch, heads, n, d} and options and makes a state. `options` (host) is what
    // the method's own object on the cpu is made from: `const mra_options *` for mra2 and mra2s
    // (mra/mra.h), `const double *` for exact, the factor of the logits (0: 1 / sqrt(d)).
    // MRA_BAD_INPUT for what the device cannot do ("d = 48: expected 32, 64 or 128"),
    // MRA_NO_MEMORY with the bytes asked for.
    mra_status (*create)(void **state, mra_device *device, const int shape[4],
                         const void *options, mra_error *err);
} mra_fused_method;

// The device's row for a method; MRA_ABSENT says which device has no code for which method.
mra_status mra_device_fused(const mra_fused_method **method, mra_device *device,
                            const char *name, mra_error *err);

#ifdef __cplusplus
}
#endif
#endif
