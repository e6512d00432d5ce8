// # The device `simt`
//
// The kernels of `cuda` on the host runner. Where cuda calls libraries of NVIDIA's, this device has
// plain functions of the host: for products the BLAS of the cpu device, with operands rounded to the
// precision that was asked for, and for sorting a counting sort.

#include <stdlib.h>
#include <string.h>

#include "primitives.cuh"
#include "tensor/kernel_device.h"

extern "C" {
#include "tensor/gemm.h"
}

namespace MRA_BACKEND
{

void *own_allocate(mra_device *device, size_t bytes, bool zeroed)
{
    return simt_malloc(stream_of(device), bytes, zeroed);
}

void own_release(mra_device *device, void *memory)
{
    simt_free(stream_of(device), memory);
}

size_t own_free_bytes(mra_device *device)
{
    return simt_free_bytes(stream_of(device));
}

mra_status own_to_device(mra_device *device, void *to, const void *from, size_t bytes,
                         mra_error *err)
{
    (void)err;
    simt_copy(stream_of(device), to, from, bytes);
    return MRA_OK;
}

mra_status own_to_host(mra_device *device, void *to, const void *from, size_t bytes,
                       mra_error *err)
{
    (void)device, (void)err;
    if (bytes) memcpy(to, from, bytes);
    return MRA_OK;
}

// ---- Products -------------------------------------------------------------------------------

static float rounded(float x, mra_precision precision)
{
    if (precision == MRA_BF16) return to_float(to_bf16(x));
    return precision == MRA_TF32 ? __uint_as_float(to_tf32(x)) : x;
}

static float *rounded_copy(const float *x, size_t count, mra_precision precision)
{
    float *copy = (float *)malloc((count ? count : 1) * sizeof *copy);
    for (size_t i = 0; copy && i < count; i++) copy[i] = rounded(x[i], precision);
    return copy;
}

mra_status own_product(mra_device *device, const mra_product *product, const float *a,
                       const float *b, const float *bias, float *c, bool add, mra_error *err)
{
    const size_t m = (size_t)product->m, n = (size_t)product->n, k = (size_t)product->k;
    const size_t batch = product->batch, size = batch * m * n;
    float *left = rounded_copy(a, batch * m * k, device->precision);
    float *right = rounded_copy(b, batch * k * n, device->precision);
    float *sum = (float *)calloc(size ? size : 1, sizeof *sum);
    mra_status status = MRA_OK;
    if (!left || !right || !sum)
        status = mra_fail(err, MRA_NO_MEMORY, "product: no memory for %zu entries", size);
    for (size_t i = 0; i < batch && !status; i++) {
        float *to = sum + i * m * n;
        if (m && n && k)
            mra_gemm(product->transpose_a, product->transpose_b, product->m, product->n,
                     product->k, product->alpha, left + i * m * k,
                     product->transpose_a ? product->m : product->k, right + i * k * n,
                     product->transpose_b ? product->k : product->n, 0.0f, to, product->n);
        for (size_t j = 0; j < m * n; j++) {
            if (bias) to[j] += bias[j % n];
            if (add) to[j] += c[i * m * n + j];
        }
    }
    if (!status) simt_copy(stream_of(device), c, sum, size * sizeof *sum);
    free(left);
    free(right);
    free(sum);
    return status;
}

// ---- Sorting --------------------------------------------------------------------------------

size_t own_sort_bytes(mra_device *device, size_t count, int bound)
{
    (void)device, (void)count, (void)bound;
    return 0;
}

struct sort_entry {
    int32_t key, place;
};

static int by_key_and_place(const void *a, const void *b)
{
    const sort_entry *x = (const sort_entry *)a, *y = (const sort_entry *)b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

mra_status own_sort(mra_device *device, size_t count, int bound, const int32_t *keys,
                    int32_t *sorted, int32_t *place, mra_error *err)
{
    (void)bound;
    sort_entry *entry = (sort_entry *)malloc((count ? count : 1) * sizeof *entry);
    int32_t *column = (int32_t *)malloc((count ? count : 1) * sizeof *column);
    if (!entry || !column) {
        free(entry);
        free(column);
        return mra_fail(err, MRA_NO_MEMORY, "sort: no memory for %zu entries", count);
    }
    for (size_t i = 0; i < count; i++) entry[i] = sort_entry{keys[i], (int32_t)i};
    qsort(entry, count, sizeof *entry, by_key_and_place);
    for (size_t i = 0; i < count; i++) column[i] = entry[i].key;
    simt_copy(stream_of(device), sorted, column, count * sizeof *column);
    for (size_t i = 0; i < count; i++) column[i] = entry[i].place;
    simt_copy(stream_of(device), place, column, count * sizeof *column);
    free(entry);
    free(column);
    return MRA_OK;
}

// ---- Opening --------------------------------------------------------------------------------

static void close_device(mra_device *device)
{
    device_state *state = state_of(device);
    own_release(device, state->working);
    simt_runner_free(state->stream);
    free(state);
    free(device);
}

} // namespace MRA_BACKEND

using namespace MRA_BACKEND;

mra_status mra_simt_open(mra_device **device, int threads, mra_error *err)
{
    (void)threads;
    *device = NULL;
    mra_device *made = (mra_device *)calloc(1, sizeof *made);
    device_state *state = (device_state *)calloc(1, sizeof *state);
    simt_runner *runner = made && state ? simt_runner_create(0) : NULL;
    if (!runner) {
        free(made);
        free(state);
        return mra_fail(err, MRA_NO_MEMORY, "device 'simt': no memory for its fibers");
    }
    state->stream = runner;
    make_device(made, "simt", state);
    made->close = close_device;
    *device = made;
    return MRA_OK;
}

void mra_simt_schedule(mra_device *device, uint64_t seed)
{
    simt_runner_seed(stream_of(device), seed);
}

void mra_simt_slices(mra_device *device, size_t bytes)
{
    state_of(device)->slice_bytes = bytes;
}
