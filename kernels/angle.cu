// # Attention whose weights are powers of an angle
//
// src/tensor/cpu_angle.c says what it is; all $n^2$ pairs of a head count. The cosines are a
// product, the weights replace them entry by entry, and the result is a second product; backward
// there are two products, one pass over both, and one product for each gradient. Products belong to
// the library (in the precision of the device: an angle near 0 is known to about the root of the
// rounding of its cosine, $2^{-12}$ in float32 but $2^{-6}$ in TF32).
//
// A slice of at most four million pairs, 16 MB of cosines (backward 32 MB), is finished before the
// next one begins: it stays in the second-level cache of an H200, 50 MB. At 12 heads of 64, batch
// 8, $n=4096$: $4 n^2 d$ operations a head, 412 GFLOP, 6.2 ms in float32 at 67 TFLOP/s, 0.83 ms in
// TF32 at 495; the slices cross the cache four times, 25.8 GB, 4.7 ms at 5.5 TB/s. Forward 11 ms
// and 5.5 ms; backward, for all three gradients, two calls of three and of four products, 15
// crossings, 39 ms and 20 ms.

#include "angle.cuh"
#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { MOST_PAIRS = 4 << 20 }; // of a slice

// The cosines of a slice become weights; backward, inner[.] = <r_i, t_j> is multiplied by their
// slopes.
struct angle_each {
    int power;
    float shrink;
    float *cosine, *inner; // inner: backward, or NULL
    __device__ void operator()(size_t at) const
    {
        const float c = shrink * cosine[at], share = angle_share(c);
        const float below = integer_power(share, power - 1);
        cosine[at] = below * share;
        if (inner) inner[at] *= shrink * angle_slope(c, power, below);
    }
};

// a, b, r, t as angular_attention_backward has them; forward: da and r NULL.
struct angle_arrays {
    const float *a, *b, *r, *t;
    float *da, *dr;
    bool add_a, add_r;
};

// Whole matrices, or `rows` rows of one: `batch` matrices from entry `at` of a, r, da, dr and entry
// `across` of b and t.
static mra_status run_slice(mra_device *device, const mra_angle_form *form,
                            const angle_arrays &x, size_t batch, int rows, size_t at,
                            size_t across, float *cosine, float *inner, mra_error *err)
{
    const mra_product pairs = {batch, rows, form->n, form->d, false, true, 1.0f};
    const mra_product sums = {batch, rows, form->d, form->n, false, false, 1.0f};
    mra_status status = gemm(device, &pairs, x.a + at, x.b + across, cosine, false, err);
    if (!status && inner)
        status = gemm(device, &pairs, x.r + at, x.t + across, inner, false, err);
    if (!status)
        status = for_each(device, "angular_attention", batch * (size_t)rows * (size_t)form->n,
                          angle_each{form->power, form->shrink, cosine, inner}, err);
    if (!status && x.dr)
        status = gemm(device, &sums, cosine, x.t + across, x.dr + at, x.add_r, err);
    if (!status && inner)
        status = gemm(device, &sums, inner, x.b + across, x.da + at, x.add_a, err);
    return status;
}

static mra_status run(mra_device *device, const mra_angle_form *form, const angle_arrays &x,
                      mra_error *err)
{
    const size_t n = (size_t)form->n, matrices = form->matrices, size = n * (size_t)form->d;
    if (!matrices || !n) return MRA_OK;
    const size_t most = slice_of(device, sizeof(float), MOST_PAIRS);
    const size_t batch = most / n / n < 1 ? 1 : min(most / n / n, matrices);
    const size_t rows = min(most / n < 1 ? 1 : most / n, n), pairs = batch * rows * n;
    mra_status status = working_begin(
        device, (x.da ? 2 : 1) * working_size(pairs * sizeof(float)), "angular_attention", err);
    if (status) return status;
    float *cosine = working_piece<float>(device, pairs);
    float *inner = x.da ? working_piece<float>(device, pairs) : NULL;
    for (size_t first = 0; first < matrices && !status; first += batch)
        for (size_t row = 0; row < n && !status; row += rows) {
            const size_t many = min(batch, matrices - first);
            status = run_slice(device, form, x, many, (int)min(rows, n - row),
                               first * size + row * (size_t)form->d, first * size, cosine,
                               inner, err);
        }
    return status;
}

mra_status angular_attention(mra_device *device, const mra_angle_form *form, const float *q,
                             const float *k, const float *v, float *y, mra_error *err)
{
    return run(device, form, angle_arrays{q, k, NULL, v, NULL, y, false, false}, err);
}

mra_status angular_attention_backward(mra_device *device, const mra_angle_form *form,
                                      const float *a, const float *b, const float *r,
                                      const float *t, float *da, bool add_a, float *dr,
                                      bool add_r, mra_error *err)
{
    return run(device, form, angle_arrays{a, b, r, t, da, dr, add_a, add_r}, err);
}

} // namespace MRA_BACKEND
