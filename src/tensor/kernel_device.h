// The devices that are made of kernels/: `cuda` and, with the same kernels on the host, `simt`.
#ifndef MRA_TENSOR_KERNEL_DEVICE_H
#define MRA_TENSOR_KERNEL_DEVICE_H

#include "tensor/device.h"

#ifdef __cplusplus
extern "C" {
#endif

// Opens the first GPU. MRA_ABSENT says what is missing: CUDA in this build, a driver, a GPU, one
// that the kernels were compiled for. MRA_NO_MEMORY: no room for its state. (`threads` is not
// used.)
mra_status mra_cuda_open(mra_device **device, int threads, mra_error *err);

// Opens the host runner of the kernels. Its schedule is that of seed 0 until
// mra_simt_schedule(). MRA_NO_MEMORY: no address space for its fibers and for what it knows of
// every byte.
mra_status mra_simt_open(mra_device **device, int threads, mra_error *err);
// The order in which blocks and threads run from now on (kernels/simt/runner.h); `device` is one that
// mra_simt_open made.
void mra_simt_schedule(mra_device *device, uint64_t seed);
// How much working memory an operation that can work in slices takes at once from now on, in bytes (1
// GiB before the first call): what makes a small test go through several slices.
void mra_simt_slices(mra_device *device, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
