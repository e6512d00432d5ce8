// MRA-2 and MRA-2-s, and exact attention, by the kernels of this directory: the same functions on
// a GPU (`mra_cuda_attention`) and under the host runner (`mra_simt_attention`).
//
//     const mra_attention_kernels *run = &mra_simt_attention;
//     mra_kernel_request request = {.shape = {8, 12, 4096, 64}, .options = mra_options_mra2(8),
//                                   .precision = MRA_BF16};
//     mra_kernel_attention *attention;
//     run->create(&attention, device, &request, &err);
//     run->forward(attention, q, k, v, mask, z, &err);
//     run->backward(attention, q, k, v, mask, z, dz, dq, dk, dv, false, &err);
//     run->release(attention);
//
// All arrays are device memory, [batch][heads][n][d] without gaps, 16-byte aligned; the mask is
// [batch][n] bytes, 1 for a token, or NULL. Calls come back before the work is done: it is in
// order with other work of the device. Nothing is allocated after create, so forward and backward
// may be captured into a CUDA graph. Results are the same bits in every run.
#ifndef MRA_KERNELS_ATTENTION_H
#define MRA_KERNELS_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mra/mra.h"
#include "tensor/device.h"
#include "tensor/fused.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mra_kernel_request {
    mra_shape shape;     // d: 32, 64 or 128; any n
    mra_options options; // scales {32, 1}; or {1}: exact attention. `threads` is not looked at
    // How refined boxes are multiplied. Sums are float32 in all three; the choice of boxes is made
    // in float32 and does not depend on it.
    mra_precision precision;
    // Parts of the batch that overlap on streams of their own, at most 4; 0: as many as pay.
    int parts;
    // q, k, v, z, dz, dq, dk, dv are bf16 (with MRA_BF16), else float32.
    bool bf16_arrays;
} mra_kernel_request;

typedef struct mra_kernel_attention mra_kernel_attention; // opaque

typedef struct mra_attention_kernels {
    // Checks the request and allocates all that forward and backward need. MRA_BAD_INPUT names
    // the field and what was expected; MRA_NO_MEMORY the bytes asked for.
    mra_status (*create)(mra_kernel_attention **attention, mra_device *device,
                         const mra_kernel_request *request, mra_error *err);
    void (*release)(mra_kernel_attention *attention);
    // z is overwritten; padded keys are invisible, padded query rows get 0, and so do rows that
    // have nothing to attend to.
    mra_status (*forward)(mra_kernel_attention *attention, const void *q, const void *k,
                          const void *v, const uint8_t *mask, void *z, mra_error *err);
    // Gradients of <dz, z>, the choice of boxes held fixed; follows a forward pass with the same
    // arrays. `add`: added to dq, dk, dv; else they are overwritten.
    mra_status (*backward)(mra_kernel_attention *attention, const void *q, const void *k,
                           const void *v, const uint8_t *mask, const void *z, const void *dz,
                           void *dq, void *dk, void *dv, bool add, mra_error *err);
    // Waits, and says whether a forward pass since the last check met NaN, an infinity or logits
    // beyond the range of float32 (MRA_BAD_INPUT names the head).
    mra_status (*check)(mra_kernel_attention *attention, mra_error *err);
    // Waits; what the last forward pass did.
    mra_status (*statistics)(mra_kernel_attention *attention, mra_statistics *statistics,
                             mra_error *err);
    // Waits; the boxes that the last forward pass refined: chosen[batch heads][blocks][blocks].
    mra_status (*chosen)(mra_kernel_attention *attention, bool *chosen, mra_error *err);
} mra_attention_kernels;

extern const mra_attention_kernels mra_simt_attention;
extern const mra_attention_kernels mra_cuda_attention; // in builds with CUDA

// The rows of a device's list: mra2, mra2s, exact.
enum { MRA_KERNEL_METHODS = 3 };
extern const mra_fused_method mra_simt_methods[MRA_KERNEL_METHODS];
extern const mra_fused_method mra_cuda_methods[MRA_KERNEL_METHODS]; // in builds with CUDA

#ifdef __cplusplus
}
#endif
#endif
