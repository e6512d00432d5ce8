// A device: where tensors live and who computes on them.
//
// Nothing above src/tensor knows which device it runs on: operations call the functions of this
// table with device pointers. `cpu` (tensor/cpu_*.c) is the first implementation; every
// function of the table states its contract here, so that another device can be written, and
// tested, against this page alone.
#ifndef MRA_TENSOR_DEVICE_H
#define MRA_TENSOR_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mra_kernels mra_kernels; // the table of operations, tensor/kernels.h

// How a device forms products of matrices: in float32, or with operands rounded to the 11
// significant bits of TF32 or the 8 of bf16, for tensor cores; sums are float32 in every case.
typedef enum mra_precision { MRA_FLOAT32, MRA_TF32, MRA_BF16 } mra_precision;

typedef struct mra_device {
    const char *name;           // "cpu"
    int threads;                // for devices that run on host threads
    const mra_kernels *kernels; // how to compute
    void *state;                // private to the device
    // Device memory is the host's own: host code may read and write it, and kernels take any
    // memory of the host.
    bool host_memory;
    mra_precision precision; // of products; the cpu has float32 alone

    void *(*allocate)(struct mra_device *device,
                      size_t bytes); // zeroed, 64-byte aligned; NULL: none left
    // The same, uninitialised: for results, which are written before they are read. Given back
    // by release; a device keeps what it has for the next request.
    void *(*scratch)(struct mra_device *device, size_t bytes);
    void (*release)(struct mra_device *device, void *memory);
    mra_status (*to_device)(struct mra_device *device, void *to, const void *from, size_t bytes,
                            mra_error *err);
    mra_status (*to_host)(struct mra_device *device, void *to, const void *from, size_t bytes,
                          mra_error *err);
    void (*close)(struct mra_device *device);
} mra_device;

// Opens a device by name: "cpu", "cuda" (kernels/cuda) or "simt" (the kernels of cuda on the
// host, for tests: kernels/simt/runner.h). The last two take a precision, "cuda:bf16",
// "cuda:tf32", "cuda:float32" (without: float32). `threads` < 1 means the default number.
// MRA_BAD_INPUT lists the names that exist; MRA_ABSENT says why one that exists cannot be used
// here.
mra_status mra_device_open(mra_device **device, const char *name, int threads, mra_error *err);
void mra_device_close(mra_device *device);
// Index from 0 until NULL: the names of all devices of this build.
const char *mra_device_name(int index);

#ifdef __cplusplus
}
#endif
#endif
