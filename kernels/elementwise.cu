// # Entry by entry
//
// Nothing here computes enough to matter: a kernel reads its operands once and writes its result
// once. On an H200 (4.8 TB/s) an array of $N$ floats costs $4N/4.8\,\mathrm{TB/s}$ each time it
// is passed over: at batch 8, $n = 4096$, width 768 ($N = 25.2$ M, 101 MB) 21 us. Arrays passed
// over, and the time that implies there:
//
// | kernel | arrays | time |
// | --- | --- | --- |
// | `fill` | 1 | 21 us |
// | `scale`, `relu`, `gelu`, `dropout` | 2 | 42 us |
// | the same with `add` | 3 | 63 us |
// | `add`, `multiply`, `relu_backward`, `gelu_backward` | 3 | 63 us |
//
// `gelu` needs some 30 operations an entry, 0.8 GFLOP in all, or 11 us at 67 TFLOP/s: hidden.
// `dropout` needs ten rounds of Philox for four entries, about 20 integer operations an entry:
// hidden too.

#include "primitives.cuh"

namespace MRA_BACKEND
{

struct fill_each {
    float value, *y;
    __device__ void operator()(size_t i) const
    {
        y[i] = value;
    }
};
mra_status fill(mra_device *device, size_t count, float value, float *y, mra_error *err)
{
    return for_each(device, "fill", count, fill_each{value, y}, err);
}

struct scale_each {
    float factor;
    const float *x;
    float *y;
    bool add;
    __device__ void operator()(size_t i) const
    {
        y[i] = (add ? y[i] : 0.0f) + factor * x[i];
    }
};
mra_status scale(mra_device *device, size_t count, float factor, const float *x, float *y,
                 bool add, mra_error *err)
{
    return for_each(device, "scale", count, scale_each{factor, x, y, add}, err);
}

struct add_each {
    const float *a, *b;
    float *y;
    __device__ void operator()(size_t i) const
    {
        y[i] = a[i] + b[i];
    }
};
mra_status add(mra_device *device, size_t count, const float *a, const float *b, float *y,
               mra_error *err)
{
    return for_each(device, "add", count, add_each{a, b, y}, err);
}

struct multiply_each {
    const float *a, *b;
    float *y;
    bool add;
    __device__ void operator()(size_t i) const
    {
        y[i] = (add ? y[i] : 0.0f) + a[i] * b[i];
    }
};
mra_status multiply(mra_device *device, size_t count, const float *a, const float *b, float *y,
                    bool add, mra_error *err)
{
    return for_each(device, "multiply", count, multiply_each{a, b, y, add}, err);
}

// ---- ReLU: what is not below zero stays, NaN included ----------------------------------------

struct relu_each {
    const float *x;
    float *y;
    __device__ void operator()(size_t i) const
    {
        const float value = x[i];
        y[i] = value < 0.0f ? 0.0f : value;
    }
};
mra_status relu(mra_device *device, size_t count, const float *x, float *y, mra_error *err)
{
    return for_each(device, "relu", count, relu_each{x, y}, err);
}

struct relu_backward_each {
    const float *x, *dy;
    float *dx;
    bool add;
    __device__ void operator()(size_t i) const
    {
        dx[i] = (add ? dx[i] : 0.0f) + (x[i] > 0.0f ? dy[i] : 0.0f);
    }
};
mra_status relu_backward(mra_device *device, size_t count, const float *x, const float *dy,
                         float *dx, bool add, mra_error *err)
{
    return for_each(device, "relu_backward", count, relu_backward_each{x, dy, dx, add}, err);
}

// ---- GELU: x Phi(x) -------------------------------------------------------------------------

struct gelu_each {
    const float *x;
    float *y;
    __device__ void operator()(size_t i) const
    {
        const float value = x[i];
        y[i] = value * normcdff(value);
    }
};
mra_status gelu(mra_device *device, size_t count, const float *x, float *y, mra_error *err)
{
    return for_each(device, "gelu", count, gelu_each{x, y}, err);
}

struct gelu_backward_each {
    const float *x, *dy;
    float *dx;
    bool add;
    __device__ void operator()(size_t i) const
    {
        const float value = x[i];
        const float density = 0.39894228040143268f * expf(-0.5f * value * value);
        const float slope = normcdff(value) + value * density;
        dx[i] = (add ? dx[i] : 0.0f) + dy[i] * slope;
    }
};
mra_status gelu_backward(mra_device *device, size_t count, const float *x, const float *dy,
                         float *dx, bool add, mra_error *err)
{
    return for_each(device, "gelu_backward", count, gelu_backward_each{x, dy, dx, add}, err);
}

// ---- Dropout: Philox4x32-10, the numbers of mra_uniform_at() (core/random.c) ------------------

__device__ static void philox(uint64_t seed, uint64_t stream, uint64_t block, uint32_t (&x)[4])
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    x[0] = (uint32_t)block, x[1] = (uint32_t)(block >> 32);
    x[2] = (uint32_t)stream, x[3] = (uint32_t)(stream >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * x[0], b = (uint64_t)0xCD9E8D57u * x[2];
        const uint32_t y0 = (uint32_t)(b >> 32) ^ x[1] ^ key0;
        const uint32_t y2 = (uint32_t)(a >> 32) ^ x[3] ^ key1;
        x[0] = y0, x[1] = (uint32_t)b, x[2] = y2, x[3] = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

// One block of Philox decides four entries.
struct dropout_four {
    size_t count;
    float p, factor;
    uint64_t seed, stream;
    const float *x;
    float *y;
    bool add;
    __device__ void operator()(size_t block) const
    {
        uint32_t words[4];
        philox(seed, stream, block, words);
        const size_t first = 4 * block;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (first + k >= count) return;
            const float uniform = ((float)(words[k] >> 9) + 0.5f) * 1.1920928955078125e-7f;
            const float value = uniform >= p ? factor * x[first + k] : 0.0f;
            y[first + k] = add ? y[first + k] + value : value;
        }
    }
};
mra_status dropout(mra_device *device, size_t count, float p, uint64_t seed, uint64_t stream,
                   const float *x, float *y, bool add, mra_error *err)
{
    const dropout_four each = {count, p, 1.0f / (1.0f - p), seed, stream, x, y, add};
    return for_each(device, "dropout", (count + 3) / 4, each, err);
}

} // namespace MRA_BACKEND
