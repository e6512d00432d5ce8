// The stages of attention on a device, and how they are launched. Each is one file; the host side
// (mra_attention.cu) calls them in order. `exact`: float32 throughout, else TF32 where the
// stage works on float32 numbers.
#ifndef MRA_KERNELS_LAUNCH_CUH
#define MRA_KERNELS_LAUNCH_CUH

#include "plan.cuh"
#include "tensor/device.h"

namespace MRA_BACKEND::attention
{

// The stream of a device: the state of `simt` and of `cuda` begins with it.
inline stream_t device_stream(const mra_device *device)
{
    return *(stream_t *)device->state;
}

// pool.cu: present, query, key, value. `copy` [3, heads, n, d] receives q, k, v in bf16; or NULL.
void pool_float(const plan &p, const float *q, const float *k, const float *v, bfloat16 *copy,
                stream_t stream);
void pool_bf16(const plan &p, const bfloat16 *q, const bfloat16 *k, const bfloat16 *v,
               stream_t stream);
// coarse.cu: logit, row_largest; coarse_sum, coarse_value.
void coarse_logits(const plan &p, stream_t stream);
void coarse_values(const plan &p, bool exact, stream_t stream);
// select.cu: chosen, rows, coarse_max; columns.
void select_boxes(const plan &p, stream_t stream);
void list_columns(const plan &p, stream_t stream);
// coarse_backward.cu: dquery, dkey, dvalue from pull, pull_product.
void coarse_backward(const plan &p, bool exact, stream_t stream);

// What the refined part multiplies and where it writes. Element of q, k, v, dz: that of the path;
// Io: of z and the gradients, the caller's.
struct operands {
    mra_precision precision;
    bool bf16_io;          // z, dz, dq, dk, dv of the caller are bf16
    const void *q, *k, *v; // [heads, n, d]
    const void *dz;        // as the path wants it
    void *z;               // forward: written; backward: read
    const void *caller_dz; // backward: of the caller's type
    void *dz_copy;         // backward: bf16 copy of dz to make, or NULL
    void *dq, *dk, *dv;
    bool add; // gradients are added to what is there
};
// fine.cu: z, row_max, row_inverse.
void attend_boxes(const plan &p, const operands &o, stream_t stream);
// fine_backward.cu: row_product, pull, pull_product (and dz_copy); then dq, dk, dv.
void prepare_backward(const plan &p, const operands &o, stream_t stream);
void fine_backward(const plan &p, const operands &o, stream_t stream);

// exact.cu: exact attention. z, row_max, row_inverse; after prepare_backward dq, dk, dv.
void exact_forward(const plan &p, const operands &o, stream_t stream);
void exact_backward(const plan &p, const operands &o, stream_t stream);

} // namespace MRA_BACKEND::attention
#endif
