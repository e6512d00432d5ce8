// # The methods that these kernels are
//
// `exact`, `mra2` and `mra2s` as rows of a device's list (src/tensor/fused.h): what `mra attend
// --device ...` and a network on the device call. Arrays are float32 there; products are as
// precise as the device is set to be.

#include "attention.h"
#include "launch.cuh"

#include <stdlib.h>

#include "tensor/fused.h"

#ifdef __CUDACC__
#define MRA_RUN mra_cuda_attention
#define MRA_METHODS mra_cuda_methods
#else
#define MRA_RUN mra_simt_attention
#define MRA_METHODS mra_simt_methods
#endif

namespace MRA_BACKEND::attention
{

struct method_state {
    mra_device *device;
    mra_kernel_attention *attention;
};

// Whether launches are being recorded for later (a CUDA graph): nothing can be waited for then.
static bool recording(const mra_device *device)
{
#ifdef __CUDACC__
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaError_t error = cudaStreamIsCapturing(device_stream(device), &status);
    return error == cudaSuccess && status != cudaStreamCaptureStatusNone;
#else
    (void)device;
    return false;
#endif
}

static mra_status method_forward(void *state, const float *q, const float *k, const float *v,
                                 const uint8_t *mask, float *z, mra_error *err)
{
    method_state *self = (method_state *)state;
    mra_status status = MRA_RUN.forward(self->attention, q, k, v, mask, z, err);
    if (status != MRA_OK || recording(self->device)) return status;
    return MRA_RUN.check(self->attention, err);
}

static mra_status method_backward(void *state, const float *q, const float *k, const float *v,
                                  const uint8_t *mask, const float *z, const float *dz,
                                  float *dq, float *dk, float *dv, mra_error *err)
{
    method_state *self = (method_state *)state;
    return MRA_RUN.backward(self->attention, q, k, v, mask, z, dz, dq, dk, dv, true, err);
}

static void method_release(void *state)
{
    method_state *self = (method_state *)state;
    MRA_RUN.release(self->attention);
    free(self);
}

static void method_statistics(const void *state, void *statistics)
{
    const method_state *self = (const method_state *)state;
    mra_error ignored;
    MRA_RUN.statistics(self->attention, (mra_statistics *)statistics, &ignored);
}

static mra_status make_state(void **state, mra_device *device, const int shape[4],
                             const mra_options *options, mra_error *err)
{
    *state = NULL;
    mra_kernel_request request = {};
    request.shape = mra_shape{shape[0], shape[1], shape[2], shape[3]};
    request.options = *options;
    request.precision = device->precision;
    method_state *self = (method_state *)calloc(1, sizeof *self);
    if (!self)
        return mra_fail(err, MRA_NO_MEMORY, "attention: no memory for %zu bytes", sizeof *self);
    self->device = device;
    mra_status status = MRA_RUN.create(&self->attention, device, &request, err);
    if (status != MRA_OK) {
        free(self);
        return status;
    }
    *state = self;
    return MRA_OK;
}

static mra_status create_two_scales(void **state, mra_device *device, const int shape[4],
                                    const void *options, mra_error *err)
{
    return make_state(state, device, shape, (const mra_options *)options, err);
}

static mra_status create_exact(void **state, mra_device *device, const int shape[4],
                               const void *options, mra_error *err)
{
    mra_options exact = mra_options_mra2(0);
    exact.scales = 1;
    exact.scale[0] = 1;
    exact.logit_scale = *(const double *)options;
    return make_state(state, device, shape, &exact, err);
}

} // namespace MRA_BACKEND::attention

using namespace MRA_BACKEND::attention;

const mra_fused_method MRA_METHODS[MRA_KERNEL_METHODS] = {
    {"mra2",
     {method_forward, method_backward, method_release, method_statistics},
     create_two_scales},
    {"mra2s",
     {method_forward, method_backward, method_release, method_statistics},
     create_two_scales},
    {"exact", {method_forward, method_backward, method_release, NULL}, create_exact},
};
