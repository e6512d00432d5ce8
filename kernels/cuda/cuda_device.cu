// # The device `cuda`
//
// One GPU, one stream: kernels, copies and allocations follow one another in the order of the
// calls. Memory comes from a pool of the driver's that keeps what it is given back, so that after
// the first step of a training run no allocation reaches the system; being in order, memory that
// is released may be handed out again at once although the kernel that used it has not run yet.
//
// What the driver reports late (a kernel that failed) is reported by the call that finds out, with
// its name. Nothing is printed.

#include <stdlib.h>

#include "cuda_own.cuh"
#include "tensor/kernel_device.h"

namespace MRA_BACKEND
{

mra_status cuda_status(cudaError_t error, const char *what, mra_error *err)
{
    if (error == cudaSuccess) return MRA_OK;
    return mra_fail(err, error == cudaErrorMemoryAllocation ? MRA_NO_MEMORY : MRA_INTERNAL,
                    "device 'cuda': %s: %s (%s)", what, cudaGetErrorString(error),
                    cudaGetErrorName(error));
}

// ---- Memory ---------------------------------------------------------------------------------

void *own_allocate(mra_device *device, size_t bytes, bool zeroed)
{
    stream_t stream = stream_of(device);
    void *memory = NULL;
    if (!bytes) bytes = 1;
    if (cudaMallocFromPoolAsync(&memory, bytes, state_of(device)->own->pool, stream) !=
        cudaSuccess) {
        cudaGetLastError(); // told by NULL
        return NULL;
    }
    if (zeroed && cudaMemsetAsync(memory, 0, bytes, stream) != cudaSuccess) {
        cudaFreeAsync(memory, stream);
        return NULL;
    }
    return memory;
}

void own_release(mra_device *device, void *memory)
{
    if (memory) cudaFreeAsync(memory, stream_of(device));
}

size_t own_free_bytes(mra_device *device)
{
    (void)device;
    size_t left = 0, all = 0;
    return cudaMemGetInfo(&left, &all) == cudaSuccess ? left : 0;
}

mra_status own_to_device(mra_device *device, void *to, const void *from, size_t bytes,
                         mra_error *err)
{
    if (!bytes) return MRA_OK;
    // From memory that is not pinned: the driver has copied it away when the call returns.
    return cuda_status(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(device)),
        "copying to the device", err);
}

mra_status own_to_host(mra_device *device, void *to, const void *from, size_t bytes,
                       mra_error *err)
{
    if (!bytes) return MRA_OK;
    cudaError_t error =
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(device));
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream_of(device));
    return cuda_status(error, "copying to the host", err);
}

// ---- Opening --------------------------------------------------------------------------------

static void close_device(mra_device *device)
{
    device_state *state = state_of(device);
    own_state *own = state->own;
    if (state->stream) {
        own_release(device, state->working);
        own_release(device, own->workspace);
        cudaStreamSynchronize(state->stream);
    }
    if (own->products) own->lt.destroy(own->products);
    unload_products(&own->lt);
    if (own->pool) cudaMemPoolDestroy(own->pool);
    if (state->stream) cudaStreamDestroy(state->stream);
    free(own);
    free(state);
    free(device);
}

__global__ static void probe_kernel()
{
}

// Why there is no GPU, in words that say what to do. The runtime calls a driver that is absent one
// that is too old.
static mra_status no_gpu(cudaError_t error, mra_error *err)
{
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cudaGetLastError(); // what failed is told here
    if (driver == 0)
        return mra_fail(err, MRA_ABSENT, "device 'cuda': no NVIDIA driver is installed");
    if (driver < runtime)
        return mra_fail(
            err, MRA_ABSENT,
            "device 'cuda': the driver supports CUDA %d.%d, this build needs %d.%d: %s",
            driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10,
            cudaGetErrorString(error));
    return mra_fail(err, MRA_ABSENT, "device 'cuda': %s",
                    error == cudaSuccess ? "no GPU is there" : cudaGetErrorString(error));
}

// Whether there is a GPU for which kernels were compiled (sm_80 and later).
static mra_status find_gpu(mra_error *err)
{
    int count = 0, major = 0, minor = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) return no_gpu(error, err);
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    if (error != cudaSuccess)
        return mra_fail(err, MRA_ABSENT, "device 'cuda': %s", cudaGetErrorString(error));
    cudaFuncAttributes attributes;
    if (major < 8 || cudaFuncGetAttributes(&attributes, probe_kernel) != cudaSuccess) {
        cudaGetLastError();
        return mra_fail(err, MRA_ABSENT,
                        "device 'cuda': the GPU has compute capability %d.%d; the kernels of "
                        "this build need 8.0 or later",
                        major, minor);
    }
    return MRA_OK;
}

static mra_status make_own(device_state *state, mra_error *err)
{
    own_state *own = state->own;
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    uint64_t keep = UINT64_MAX; // give nothing back to the system
    mra_status status = cuda_status(
        cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking), "a stream", err);
    if (!status)
        status = cuda_status(cudaMemPoolCreate(&own->pool, &properties), "a memory pool", err);
    if (!status)
        status = cuda_status(
            cudaMemPoolSetAttribute(own->pool, cudaMemPoolAttrReleaseThreshold, &keep),
            "a memory pool", err);
    if (!status) status = load_products(&own->lt, err);
    if (!status && own->lt.create(&own->products) != CUBLAS_STATUS_SUCCESS)
        status = mra_fail(err, MRA_ABSENT, "device 'cuda': cuBLASLt cannot be started");
    return status;
}

} // namespace MRA_BACKEND

using namespace MRA_BACKEND;

mra_status mra_cuda_open(mra_device **device, int threads, mra_error *err)
{
    (void)threads;
    *device = NULL;
    mra_status status = find_gpu(err);
    if (status) return status;
    mra_device *made = (mra_device *)calloc(1, sizeof *made);
    device_state *state = (device_state *)calloc(1, sizeof *state);
    own_state *own = (own_state *)calloc(1, sizeof *own);
    if (!made || !state || !own) {
        free(made);
        free(state);
        free(own);
        return mra_fail(err, MRA_NO_MEMORY, "device 'cuda': no memory for its state");
    }
    state->own = own;
    make_device(made, "cuda", state);
    made->close = close_device;
    status = make_own(state, err);
    if (!status) {
        own->workspace = own_allocate(made, CUDA_PRODUCT_WORKSPACE, false);
        if (!own->workspace)
            status =
                mra_fail(err, MRA_NO_MEMORY,
                         "device 'cuda': no memory for %d bytes of its products (%zu free)",
                         CUDA_PRODUCT_WORKSPACE, own_free_bytes(made));
    }
    if (status) {
        close_device(made);
        return status;
    }
    *device = made;
    return MRA_OK;
}
