// # Products
//
// `cuda` leaves them to cuBLASLt, with the precision that the device is set to; `simt` to the host's
// BLAS, with operands rounded as the tensor cores would round them. Here is only how the functions
// of the table come down to one product.
//
// A product of $m \times k$ and $k \times n$ costs $2mnk$ operations. On an H200 a layer of width 768
// over 8 x 4096 rows, $2 \cdot 32768 \cdot 768^2 = 38.7$ GFLOP, takes 39 us in bf16 (989 TFLOP/s
// dense), 78 us in TF32 (495), 0.58 ms in float32 (67); its 203 MB of float32 operands take 42 us to
// move, so that bf16 products of arrays that stay in float32 are bound by memory.

#include "primitives.cuh"

namespace MRA_BACKEND
{

mra_status gemm(mra_device *device, const mra_product *product, const float *a, const float *b,
                float *c, bool add, mra_error *err)
{
    const size_t size = product->batch * (size_t)product->m * (size_t)product->n;
    if (!size) return MRA_OK;
    if (product->k == 0) return add ? MRA_OK : fill(device, size, 0.0f, c, err);
    return own_product(device, product, a, b, NULL, c, add, err);
}

static mra_product one(size_t m, int n, size_t k, bool transpose_a, bool transpose_b)
{
    mra_product product;
    product.batch = 1;
    product.m = (int)m, product.n = n, product.k = (int)k;
    product.transpose_a = transpose_a, product.transpose_b = transpose_b;
    product.alpha = 1.0f;
    return product;
}

mra_status linear(mra_device *device, size_t rows, int in, int out, const float *x,
                  const float *w, const float *b, float *y, mra_error *err)
{
    if (!rows || !out) return MRA_OK;
    const mra_product product = one(rows, out, (size_t)in, false, true);
    return own_product(device, &product, x, w, b, y, false, err);
}

mra_status linear_backward_input(mra_device *device, size_t rows, int in, int out,
                                 const float *dy, const float *w, float *dx, bool add,
                                 mra_error *err)
{
    const mra_product product = one(rows, in, (size_t)out, false, false);
    return gemm(device, &product, dy, w, dx, add, err);
}

mra_status linear_backward_weight(mra_device *device, size_t rows, int in, int out,
                                  const float *dy, const float *x, float *dw, mra_error *err)
{
    const mra_product product = one((size_t)out, in, rows, true, false);
    return gemm(device, &product, dy, x, dw, true, err);
}

} // namespace MRA_BACKEND
