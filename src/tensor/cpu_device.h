// The cpu device: host memory, OpenMP threads, BLAS.
#ifndef MRA_TENSOR_CPU_DEVICE_H
#define MRA_TENSOR_CPU_DEVICE_H

#include "tensor/device.h"

// Opens a cpu device that computes on `threads` threads (< 1: mra_default_threads()). Close it
// with mra_device_close. MRA_NO_MEMORY when there is none.
mra_status mra_cpu_open(mra_device **device, int threads, mra_error *err);

#endif
