// Dropout on the cpu: Philox4x32-10 on sixteen counters at once.
//
// Whether entry i is kept is a function of (seed, stream, i) alone (core/random.h), so nothing is
// stored for the backward pass. The price is ten rounds of Philox for four entries, twice; it is small only if
// sixteen blocks go through the rounds side by side, one in each lane of a 512-bit register. The numbers are those of
// mra_uniform_at(), which tests/tensor checks entry by entry.

#include "tensor/cpu.h"

enum {
    LANES = 16,
    GROUP = 4 * LANES
}; // blocks of four words side by side; entries they decide

typedef struct dropout_context {
    size_t count;
    float p;
    uint64_t seed, stream;
    const float *x;
    float *y;
    bool add;
} dropout_context;

// One round of Philox on every lane; see core/random.c.
static inline void philox_round(uint32_t x0[LANES], uint32_t x1[LANES], uint32_t x2[LANES],
                                uint32_t x3[LANES], uint32_t key0, uint32_t key1)
{
#pragma omp simd
    for (int lane = 0; lane < LANES; lane++) {
        const uint64_t a = (uint64_t)0xD2511F53u * x0[lane];
        const uint64_t b = (uint64_t)0xCD9E8D57u * x2[lane];
        x0[lane] = (uint32_t)(b >> 32) ^ x1[lane] ^ key0;
        x1[lane] = (uint32_t)b;
        x2[lane] = (uint32_t)(a >> 32) ^ x3[lane] ^ key1;
        x3[lane] = (uint32_t)a;
    }
}

// uniform[0 .. GROUP): mra_uniform_at(seed, stream, 4 block + 0, 1, ...).
static void uniform_group(uint64_t seed, uint64_t stream, uint64_t block, float uniform[GROUP])
{
    uint32_t x0[LANES], x1[LANES], x2[LANES], x3[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        const uint64_t counter = block + (uint64_t)lane;
        x0[lane] = (uint32_t)counter;
        x1[lane] = (uint32_t)(counter >> 32);
        x2[lane] = (uint32_t)stream;
        x3[lane] = (uint32_t)(stream >> 32);
    }
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        philox_round(x0, x1, x2, x3, key0, key1);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    for (int lane = 0; lane < LANES; lane++) {
        uniform[4 * lane + 0] = ((float)(int32_t)(x0[lane] >> 9) + 0.5f) * 0x1p-23f;
        uniform[4 * lane + 1] = ((float)(int32_t)(x1[lane] >> 9) + 0.5f) * 0x1p-23f;
        uniform[4 * lane + 2] = ((float)(int32_t)(x2[lane] >> 9) + 0.5f) * 0x1p-23f;
        uniform[4 * lane + 3] = ((float)(int32_t)(x3[lane] >> 9) + 0.5f) * 0x1p-23f;
    }
}

static inline void drop_entries(const dropout_context *c, size_t first, size_t count,
                                const float uniform[GROUP])
{
    const float p = c->p, factor = 1.0f / (1.0f - p);
    const float *x = c->x + first;
    float *y = c->y + first;
    if (c->add) {
#pragma omp simd
        for (size_t i = 0; i < count; i++) y[i] += uniform[i] >= p ? factor * x[i] : 0.0f;
    } else {
#pragma omp simd
        for (size_t i = 0; i < count; i++) y[i] = uniform[i] >= p ? factor * x[i] : 0.0f;
    }
}

static void dropout_item(void *context, size_t item, int thread)
{
    (void)thread;
    const dropout_context *c = context;
    const mra_range range = mra_range_of(item, MRA_CPU_ENTRIES, c->count);
    for (size_t i = range.begin; i < range.end; i += GROUP) {
        float uniform[GROUP];
        uniform_group(c->seed, c->stream, i / 4, uniform);
        drop_entries(c, i, range.end - i < GROUP ? range.end - i : GROUP, uniform);
    }
}

mra_status mra_cpu_dropout(mra_device *device, size_t count, float p, uint64_t seed,
                           uint64_t stream, const float *x, float *y, bool add, mra_error *err)
{
    (void)err;
    dropout_context context = {count, p, seed, stream, x, y, add};
    mra_cpu_loop(device, mra_items(count, MRA_CPU_ENTRIES), dropout_item, &context);
    return MRA_OK;
}
