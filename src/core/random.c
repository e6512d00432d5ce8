// Philox4x32-10 (Salmon, Moraes, Dror & Shaw, SC'11, section 3.3).
//
// A round multiplies two of the four words by constants, keeps both halves of each 64-bit
// product, and mixes the high halves with the other two words and the key; the key is raised by
// Weyl constants after each round. Ten rounds pass every test of TestU01's BigCrush.
//
// The layout of the suite: key = (seed low, seed high); counter = (block low, block high,
// stream low, stream high). Element i of a stream is word i mod 4 of block floor(i / 4).

#include "core/random.h"

#include <math.h>
#include <string.h>

static const double two_pi = 6.283185307179586476925286766559;

static void philox_round(uint32_t x[4], uint32_t key0, uint32_t key1)
{
    uint64_t a = (uint64_t)0xD2511F53u * x[0];
    uint64_t b = (uint64_t)0xCD9E8D57u * x[2];
    uint32_t y0 = (uint32_t)(b >> 32) ^ x[1] ^ key0;
    uint32_t y2 = (uint32_t)(a >> 32) ^ x[3] ^ key1;
    x[0] = y0;
    x[1] = (uint32_t)b;
    x[2] = y2;
    x[3] = (uint32_t)a;
}

void mra_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t x[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t key0 = key[0], key1 = key[1];
    for (int round = 0; round < 10; round++) {
        philox_round(x, key0, key1);
        key0 += 0x9E3779B9u; // the golden ratio
        key1 += 0xBB67AE85u; // sqrt(3) - 1
    }
    memcpy(out, x, sizeof x);
}

static void block_of(uint64_t seed, uint64_t stream, uint64_t block, uint32_t out[4])
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream,
                                 (uint32_t)(stream >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    mra_philox(counter, key, out);
}

// ---- Streams --------------------------------------------------------------------------------

static uint64_t fnv1a_byte(uint64_t hash, unsigned byte)
{
    return (hash ^ byte) * UINT64_C(1099511628211);
}

static uint64_t fnv1a_number(uint64_t hash, uint64_t number)
{
    for (int i = 0; i < 8; i++) hash = fnv1a_byte(hash, (unsigned)(number >> 8 * i) & 255u);
    return hash;
}

uint64_t mra_stream(const char *purpose, uint64_t a, uint64_t b)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *purpose; purpose++) hash = fnv1a_byte(hash, (unsigned char)*purpose);
    hash = fnv1a_byte(hash, 0); // so that a name cannot run on into a number
    return fnv1a_number(fnv1a_number(hash, a), b);
}

// ---- A cursor over one stream ---------------------------------------------------------------

mra_random mra_random_open(uint64_t seed, uint64_t stream)
{
    return (mra_random){.seed = seed, .stream = stream};
}

uint32_t mra_random_u32(mra_random *random)
{
    if (random->left == 0) {
        block_of(random->seed, random->stream, random->index++, random->words);
        random->left = 4;
    }
    return random->words[4 - random->left--];
}

double mra_random_uniform(mra_random *random)
{
    uint64_t high = mra_random_u32(random) >> 5; // 27 bits
    uint64_t low = mra_random_u32(random) >> 6;  // 26 bits
    return (double)(high << 26 | low) * 0x1p-53;
}

// Lemire's method ("Fast random integer generation in an interval", 2019): the high half of
// word * n is uniform once the 2^32 mod n low halves that one value has too many of are
// refused.
uint32_t mra_random_below(mra_random *random, uint32_t n)
{
    if (n <= 1) return 0;
    uint32_t surplus = -n % n; // 2^32 mod n
    uint64_t product;
    do {
        product = (uint64_t)mra_random_u32(random) * n;
    } while ((uint32_t)product < surplus);
    return (uint32_t)(product >> 32);
}

double mra_random_normal(mra_random *random)
{
    double u = 1.0 - mra_random_uniform(random); // in (0, 1], so that the logarithm is finite
    double v = mra_random_uniform(random);
    return sqrt(-2.0 * log(u)) * cos(two_pi * v);
}

// ---- Elements on their own ------------------------------------------------------------------

// The middle of one of 2^23 equal cells: strictly inside (0, 1), exact in float32.
static float open_uniform(uint32_t word)
{
    return ((float)(word >> 9) + 0.5f) * 0x1p-23f;
}

float mra_uniform_at(uint64_t seed, uint64_t stream, uint64_t i)
{
    uint32_t words[4];
    block_of(seed, stream, i / 4, words);
    return open_uniform(words[i % 4]);
}

// Box-Muller in double precision on the two pairs of words of a block: element 4b and 4b + 1
// are the cosine and the sine of the first pair, 4b + 2 and 4b + 3 of the second.
static void block_normal(const uint32_t words[4], double normal[4])
{
    for (int pair = 0; pair < 4; pair += 2) {
        double u = (words[pair] + 0.5) * 0x1p-32, v = (words[pair + 1] + 0.5) * 0x1p-32;
        double radius = sqrt(-2.0 * log(u));
        normal[pair] = radius * cos(two_pi * v);
        normal[pair + 1] = radius * sin(two_pi * v);
    }
}

void mra_fill_normal(float *out, size_t count, float deviation, uint64_t seed, uint64_t stream)
{
    for (size_t i = 0; i < count; i += 4) {
        uint32_t words[4];
        double normal[4];
        block_of(seed, stream, i / 4, words);
        block_normal(words, normal);
        for (size_t j = i; j < count && j < i + 4; j++)
            out[j] = (float)(deviation * normal[j - i]);
    }
}

void mra_fill_uniform(float *out, size_t count, float low, float high, uint64_t seed,
                      uint64_t stream)
{
    for (size_t i = 0; i < count; i += 4) {
        uint32_t words[4];
        block_of(seed, stream, i / 4, words);
        for (size_t j = i; j < count && j < i + 4; j++)
            out[j] = low + (high - low) * open_uniform(words[j - i]);
    }
}

// Exchanges two blocks of `width` entries.
static void exchange(uint32_t *list, size_t a, size_t b, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        uint32_t kept = list[a * width + i];
        list[a * width + i] = list[b * width + i];
        list[b * width + i] = kept;
    }
}

void mra_random_shuffle(uint32_t *list, size_t count, size_t width, uint64_t seed,
                        uint64_t stream)
{
    mra_random random = mra_random_open(seed, stream);
    for (size_t i = count; i > 1; i--)
        exchange(list, i - 1, mra_random_below(&random, (uint32_t)i), width);
}

void mra_random_subset(uint32_t *chosen, size_t total, size_t wanted, uint64_t seed,
                       uint64_t stream)
{
    mra_random random = mra_random_open(seed, stream);
    size_t count = 0;
    for (size_t i = 0; i < total && count < wanted; i++)
        if (mra_random_below(&random, (uint32_t)(total - i)) < wanted - count)
            chosen[count++] = (uint32_t)i;
}
