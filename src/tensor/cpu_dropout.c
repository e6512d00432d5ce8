// Dropout on the cpu: Philox4x32-10 on many counters at once.
//
// Whether entry i is kept is a function of (seed, stream, i) alone (core/random.h), so nothing
// is stored for the backward pass. The price is ten rounds of Philox for four entries, twice.
// It is small only if many blocks go through the rounds side by side: a few registers of 8
// lanes, so that the products of one hide the latency of the others. The numbers are those of
// mra_uniform_at(), which tests/tensor checks entry by entry.

#include "tensor/cpu.h"

enum {
    LANES = 32,        // blocks of Philox that go side by side
    GROUP = 4 * LANES, // entries that they decide
    DRAWN = 64 * GROUP // entries whose numbers are drawn before any is used
};

typedef struct dropout_context {
    size_t count;
    float p;
    uint64_t seed, stream;
    const float *x;
    float *y;
    bool add;
} dropout_context;

// The four words of LANES counters. Each 32-bit word has a lane of 64 bits, where its product
// is made: nothing has to change lanes between rounds.
typedef struct philox_lanes {
    uint64_t x0[LANES], x1[LANES], x2[LANES], x3[LANES];
} philox_lanes;

// One round of Philox on every lane; see core/random.c.
static inline void philox_round(philox_lanes *lanes, uint64_t key0, uint64_t key1)
{
    const uint64_t word = UINT64_C(0xFFFFFFFF);
#pragma omp simd
    for (int lane = 0; lane < LANES; lane++) {
        const uint64_t a = UINT64_C(0xD2511F53) * lanes->x0[lane];
        const uint64_t b = UINT64_C(0xCD9E8D57) * lanes->x2[lane];
        lanes->x0[lane] = b >> 32 ^ lanes->x1[lane] ^ key0;
        lanes->x1[lane] = b & word;
        lanes->x2[lane] = a >> 32 ^ lanes->x3[lane] ^ key1;
        lanes->x3[lane] = a & word;
    }
}

// The middle of one of 2^23 cells of (0, 1), as mra_uniform_at() has it.
static inline float open_uniform(uint64_t word)
{
    return ((float)(int32_t)(word >> 9) + 0.5f) * 0x1p-23f;
}

// uniform[0 .. GROUP): mra_uniform_at(seed, stream, 4 block + 0, 1, ...).
static inline void uniform_group(uint64_t seed, uint64_t stream, uint64_t block,
                                 float uniform[GROUP])
{
    philox_lanes lanes;
    for (int lane = 0; lane < LANES; lane++) {
        const uint64_t counter = block + (uint64_t)lane;
        lanes.x0[lane] = (uint32_t)counter;
        lanes.x1[lane] = counter >> 32;
        lanes.x2[lane] = (uint32_t)stream;
        lanes.x3[lane] = stream >> 32;
    }
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        philox_round(&lanes, key0, key1);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    for (int lane = 0; lane < LANES; lane++) {
        uniform[4 * lane + 0] = open_uniform(lanes.x0[lane]);
        uniform[4 * lane + 1] = open_uniform(lanes.x1[lane]);
        uniform[4 * lane + 2] = open_uniform(lanes.x2[lane]);
        uniform[4 * lane + 3] = open_uniform(lanes.x3[lane]);
    }
}

// Apart from drawing, so that x and y are passed over in long runs, which memory likes.
static void drop_entries(const dropout_context *c, mra_range range, const float *uniform)
{
    const float p = c->p, factor = 1.0f / (1.0f - p);
    const float *x = c->x + range.begin;
    float *y = c->y + range.begin;
    const size_t count = range.end - range.begin;
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
    float uniform[DRAWN];
    for (size_t begin = range.begin; begin < range.end; begin += DRAWN) {
        const size_t end = range.end - begin < DRAWN ? range.end : begin + DRAWN;
        for (size_t i = begin; i < end; i += GROUP)
            uniform_group(c->seed, c->stream, i / 4, uniform + (i - begin));
        drop_entries(c, (mra_range){begin, end}, uniform);
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
