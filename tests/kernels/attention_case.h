// Runs the attention kernels on a device and holds them against the definition in float64
// (tests/mra/reference.h) and against the CPU's fused path.
#ifndef MRA_TESTS_KERNELS_ATTENTION_CASE_H
#define MRA_TESTS_KERNELS_ATTENTION_CASE_H

#include "../mra/attention_case.h"

#include <stdio.h>

#include "tensor/gemm.h"
#include "mra/fused.h"
#include "mra/selection.h"
#include "tensor/device.h"

#include "attention.h"

typedef struct kernel_case {
    const char *name;
    mra_shape shape;
    mra_options options;
    mra_precision precision;
    bool bf16_arrays;
    mask_kind mask;
    float deviation; // of q and k; 0: small whole numbers, so that scores tie
} kernel_case;

typedef struct kernel_result {
    float *z, *dq, *dk, *dv;
    bool *chosen; // [heads, blocks, blocks]
    mra_statistics statistics;
} kernel_result;

static inline uint64_t kernel_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20220720;
}

// Whether a device with kernels can be used here, and is one that MRA_TEST_DEVICE leaves; the log says
// why not, once.
static inline bool kernels_are_there(const char *name)
{
    static bool said;
    const char *only = getenv("MRA_TEST_DEVICE");
    if (only && strcmp(only, name) != 0) return false;
    mra_device *device;
    mra_error err;
    const mra_status status = mra_device_open(&device, name, 1, &err);
    if (status == MRA_OK) mra_device_close(device);
    if (status != MRA_ABSENT) return true; // what else is wrong with it a test will say
    if (!said) printf("# passed over: %s\n", err.message);
    said = true;
    return false;
}

static inline int case_blocks(const kernel_case *c)
{
    return (c->shape.n + 31) / 32;
}

// x to the nearest bf16, ties to even.
static inline float round_to_bf16(float x)
{
    union {
        float number;
        uint32_t bits;
    } value = {x};
    value.bits = (value.bits + 0x7fffu + (value.bits >> 16 & 1)) & 0xffff0000u;
    return value.number;
}

// Inputs; where arrays are bf16 they hold numbers of that kind. Absent tokens hold NaN.
static inline arrays case_arrays(const kernel_case *c, uint64_t seed)
{
    arrays a = make_arrays(c->shape, 32, c->mask, c->deviation, seed);
    float *all[] = {a.q, a.k, a.v, a.dz};
    for (int i = 0; i < 4; i++)
        for (size_t j = 0; j < a.size; j++) {
            size_t token = j / (size_t)c->shape.d % (size_t)c->shape.n;
            size_t batch = j / ((size_t)c->shape.d * c->shape.n * c->shape.heads);
            if (c->bf16_arrays) all[i][j] = round_to_bf16(all[i][j]);
            if (c->deviation == 0 && i < 2)
                all[i][j] = j % 8 ? 0 : (float)((token / 32 * 7 + batch + (size_t)i) % 3);
            if (a.mask && !a.mask[batch * (size_t)c->shape.n + token]) all[i][j] = NAN;
        }
    return a;
}

static inline void *upload(mra_device *device, const void *from, size_t bytes)
{
    mra_error err;
    void *to = device->allocate(device, bytes);
    assert_non_null(to);
    if (device->to_device(device, to, from, bytes, &err) != MRA_OK) fail_msg("%s", err.message);
    return to;
}

// An array on the device in the case's type.
static inline void *upload_array(mra_device *device, const kernel_case *c, const float *from,
                                 size_t count)
{
    if (!c->bf16_arrays) return upload(device, from, count * sizeof *from);
    uint16_t *half = reference_alloc(count, sizeof *half);
    for (size_t i = 0; i < count; i++) {
        union {
            float number;
            uint32_t bits;
        } value = {round_to_bf16(from[i])};
        half[i] = (uint16_t)(value.bits >> 16);
    }
    void *to = upload(device, half, count * sizeof *half);
    free(half);
    return to;
}

static inline float *download_array(mra_device *device, const kernel_case *c, void *from,
                                    size_t count)
{
    mra_error err;
    float *to = reference_alloc(count, sizeof *to);
    size_t bytes = count * (c->bf16_arrays ? 2 : 4);
    if (device->to_host(device, to, from, bytes, &err) != MRA_OK) fail_msg("%s", err.message);
    device->release(device, from);
    for (size_t i = count; c->bf16_arrays && i > 0; i--) {
        union {
            uint32_t bits;
            float number;
        } value = {(uint32_t)((const uint16_t *)to)[i - 1] << 16};
        memcpy(to + i - 1, &value.number, sizeof value.number);
    }
    return to;
}

static inline void check_ok(const kernel_case *c, mra_status status, const mra_error *err)
{
    if (status != MRA_OK) fail_msg("%s: %s", c->name, err->message);
}

// Forward and backward. With `add` the gradients are added to ones.
static inline kernel_result run_case(const mra_attention_kernels *run, mra_device *device,
                                     const kernel_case *c, const arrays *a, bool add)
{
    mra_error err = {0};
    mra_kernel_attention *attention;
    mra_kernel_request request = {
        .shape = c->shape,
        .options = c->options,
        .precision = c->precision,
        .parts = (c->shape.batch + 1) / 2, // so that some run in several
        .bf16_arrays = c->bf16_arrays,
    };
    check_ok(c, run->create(&attention, device, &request, &err), &err);
    const float *from[] = {a->q, a->k, a->v, a->dz};
    void *array[8];
    float *ones = reference_alloc(a->size, sizeof *ones);
    for (size_t i = 0; i < a->size; i++) ones[i] = add ? 1 : NAN;
    for (int i = 0; i < 8; i++)
        array[i] = upload_array(device, c, i < 4 ? from[i] : ones, a->size);
    uint8_t *mask =
        a->mask ? upload(device, a->mask, (size_t)c->shape.batch * c->shape.n) : NULL;
    free(ones);

    kernel_result r = {0};
    check_ok(c, run->forward(attention, array[0], array[1], array[2], mask, array[4], &err),
             &err);
    check_ok(c,
             run->backward(attention, array[0], array[1], array[2], mask, array[4], array[3],
                           array[5], array[6], array[7], add, &err),
             &err);
    check_ok(c, run->check(attention, &err), &err);
    check_ok(c, run->statistics(attention, &r.statistics, &err), &err);
    size_t boxes = (size_t)case_blocks(c) * case_blocks(c);
    r.chosen = reference_alloc((size_t)c->shape.batch * c->shape.heads * boxes, 1);
    if (c->options.scales == 2) check_ok(c, run->chosen(attention, r.chosen, &err), &err);
    float **result[] = {&r.z, &r.dq, &r.dk, &r.dv};
    for (int i = 0; i < 4; i++) {
        device->release(device, array[i]);
        *result[i] = download_array(device, c, array[4 + i], a->size);
    }
    if (mask) device->release(device, mask);
    run->release(attention);
    return r;
}

static inline void free_result(kernel_result *r)
{
    float *all[] = {r->z, r->dq, r->dk, r->dv};
    for (int i = 0; i < 4; i++) free(all[i]);
    free(r->chosen);
}

// One head in float64, in tile order if the options have a grid; absent tokens become 0.
static inline double *head_in_double(const kernel_case *c, const arrays *a, const float *from,
                                     size_t head, const int32_t *order)
{
    size_t n = (size_t)c->shape.n, d = (size_t)c->shape.d;
    const uint8_t *mask = a->mask ? a->mask + head / (size_t)c->shape.heads * n : NULL;
    double *to = reference_alloc(n * d, sizeof *to);
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < d && (!mask || mask[order[t]]); i++)
            to[t * d + i] = from[(head * n + (size_t)order[t]) * d + i];
    return to;
}

// The same of a result, whose absent rows have to be 0 (`base`: what they were before).
static inline float *head_result(const kernel_case *c, const float *from, size_t head,
                                 const int32_t *order, float base)
{
    size_t n = (size_t)c->shape.n, d = (size_t)c->shape.d;
    float *to = reference_alloc(n * d, sizeof *to);
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < d; i++)
            to[t * d + i] = from[(head * n + (size_t)order[t]) * d + i] - base;
    return to;
}

typedef struct differences {
    double worst[4]; // z, dq, dk, dv: largest relative distance over the heads
} differences;

// Compares all heads with the definition, J taken from the kernels.
static inline differences compare_with_definition(const kernel_case *c, const arrays *a,
                                                  const kernel_result *r, float base)
{
    differences found = {{0}};
    size_t n = (size_t)c->shape.n, boxes = (size_t)case_blocks(c) * case_blocks(c);
    int32_t *order = reference_alloc(n, sizeof *order);
    mra_error err;
    mra_options options = c->options;
    if (options.scales == 1) options.scale[0] = 32;
    check_ok(c, mra_grid_order(&c->options, c->shape.n, order, &err), &err);
    for (size_t head = 0; head < (size_t)c->shape.batch * c->shape.heads; head++) {
        double *in[4];
        const float *from[] = {a->q, a->k, a->v, a->dz};
        for (int i = 0; i < 4; i++) in[i] = head_in_double(c, a, from[i], head, order);
        uint8_t *mask = NULL;
        if (a->mask) {
            mask = reference_alloc(n, 1);
            for (size_t t = 0; t < n; t++)
                mask[t] = a->mask[head / (size_t)c->shape.heads * n + (size_t)order[t]];
        }
        reference want =
            reference_make(&options, c->shape.n, c->shape.d, in[0], in[1], in[2], mask, in[3],
                           c->options.scales == 2 ? r->chosen + head * boxes : NULL);
        const float *have[] = {r->z, r->dq, r->dk, r->dv};
        const double *exact[] = {want.z, want.dq, want.dk, want.dv};
        for (int i = 0; i < 4; i++) {
            float *rows = head_result(c, have[i], head, order, i ? base : 0);
            double distance = reference_distance(rows, exact[i], n * (size_t)c->shape.d);
            if (!(distance <= found.worst[i])) found.worst[i] = distance;
            free(rows);
        }
        for (int i = 0; i < 4; i++) free(in[i]);
        reference_free(&want);
        free(mask);
    }
    free(order);
    return found;
}

#endif
