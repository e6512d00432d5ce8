// Arrays for a call of libmra's public interface, filled with fresh random numbers, and calls
// that fail the test if they fail.
#ifndef MRA_TESTS_ATTENTION_CASE_H
#define MRA_TESTS_ATTENTION_CASE_H

#include "reference.h"

#include "core/random.h"

// All arrays of an attention call.
typedef struct arrays {
    mra_shape shape;
    size_t size;
    float *q, *k, *v, *dz, *z, *dq, *dk, *dv;
    uint8_t *mask; // [batch][n] or NULL
} arrays;

typedef enum mask_kind { NO_MASK, RANDOM_MASK, TAIL_MASK, BLOCK_MASK, NOTHING } mask_kind;

static inline uint8_t *make_mask(mra_shape shape, int s, mask_kind kind, uint64_t seed)
{
    if (kind == NO_MASK) return NULL;
    uint8_t *mask = reference_alloc((size_t)shape.batch * shape.n, 1);
    mra_random random = mra_random_open(seed, mra_stream("mask", 0, 0));
    for (int b = 0; b < shape.batch; b++)
        for (int i = 0; i < shape.n; i++) {
            bool keep = kind == RANDOM_MASK && mra_random_below(&random, 3) > 0;
            keep = keep || (kind == TAIL_MASK && i <= shape.n / 2 + b);
            keep = keep || (kind == BLOCK_MASK && i / s % 3 != 1);
            mask[b * shape.n + i] = keep;
        }
    return mask;
}

static inline arrays make_arrays(mra_shape shape, int s, mask_kind kind, float deviation,
                                 uint64_t seed)
{
    arrays a = {.shape = shape};
    a.size = (size_t)shape.batch * shape.heads * shape.n * shape.d;
    float **all[] = {&a.q, &a.k, &a.v, &a.dz, &a.z, &a.dq, &a.dk, &a.dv};
    for (int i = 0; i < 8; i++) *all[i] = reference_alloc(a.size, sizeof(float));
    const float spread[] = {deviation, deviation, 1, 1};
    for (int i = 0; i < 4; i++)
        mra_fill_normal(*all[i], a.size, spread[i], seed, mra_stream("array", (uint64_t)i, 0));
    a.mask = make_mask(shape, s, kind, seed);
    return a;
}

static inline void free_arrays(arrays *a)
{
    float *all[] = {a->q, a->k, a->v, a->dz, a->z, a->dq, a->dk, a->dv};
    for (int i = 0; i < 8; i++) free(all[i]);
    free(a->mask);
}

static inline mra_attention *create(const arrays *a, const mra_options *options)
{
    mra_attention *attention;
    mra_error err = {0};
    if (mra_attention_create(&attention, a->shape, options, &err) != MRA_OK)
        fail_msg("%s", err.message);
    return attention;
}

static inline void forward(mra_attention *attention, arrays *a)
{
    mra_error err = {0};
    if (mra_attention_forward(attention, a->q, a->k, a->v, a->mask, a->z, &err) != MRA_OK)
        fail_msg("%s", err.message);
}

static inline void backward(mra_attention *attention, arrays *a)
{
    mra_error err = {0};
    if (mra_attention_backward(attention, a->q, a->k, a->v, a->mask, a->z, a->dz, a->dq, a->dk,
                               a->dv, &err) != MRA_OK)
        fail_msg("%s", err.message);
}

static inline mra_statistics run(arrays *a, const mra_options *options)
{
    mra_attention *attention = create(a, options);
    forward(attention, a);
    backward(attention, a);
    mra_statistics statistics = mra_attention_statistics(attention);
    mra_attention_free(attention);
    return statistics;
}

static inline double *to_double(const float *from, size_t count)
{
    double *to = reference_alloc(count, sizeof *to);
    for (size_t i = 0; i < count; i++) to[i] = from[i];
    return to;
}

#endif
