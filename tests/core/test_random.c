// Random numbers: the known answers published with Random123, the layout of streams, and the
// moments of the distributions.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"

static void known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        mra_philox(vectors[i].counter, vectors[i].key, out);
        assert_memory_equal(out, vectors[i].expected, sizeof out);
    }
}

// The words of a stream are those of counters (index, stream) under key (seed).
static void a_cursor_walks_the_counters(void **state)
{
    (void)state;
    uint64_t seed = UINT64_C(0x0123456789abcdef), stream = UINT64_C(0xfedcba9876543210);
    mra_random random = mra_random_open(seed, stream);
    const uint32_t key[2] = {0x89abcdef, 0x01234567};
    for (uint32_t block = 0; block < 5; block++) {
        const uint32_t counter[4] = {block, 0, 0x76543210, 0xfedcba98};
        uint32_t expected[4];
        mra_philox(counter, key, expected);
        for (int i = 0; i < 4; i++) assert_int_equal(mra_random_u32(&random), expected[i]);
    }
    mra_random fork = random;
    assert_int_equal(mra_random_u32(&fork), mra_random_u32(&random));
}

// FNV-1a, 64 bits, with its published offset and prime: over the name, a zero byte and the
// numbers.
static void streams_differ_by_purpose_and_numbers(void **state)
{
    (void)state;
    const unsigned char bytes[] = {'a', 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0};
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof bytes; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    assert_true(mra_stream("a", 1, 258) == hash);
    uint64_t streams[] = {mra_stream("a", 0, 0), mra_stream("a", 1, 0), mra_stream("a", 0, 1),
                          mra_stream("b", 0, 0), mra_stream("", 0, 0),  mra_stream("aa", 0, 0)};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < i; j++) assert_true(streams[i] != streams[j]);
}

static void uniform_numbers(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    mra_random random = mra_random_open(3, mra_stream("uniform", 0, 0));
    double sum = 0, squares = 0, lag = 0, before = 0.5;
    for (int i = 0; i < COUNT; i++) {
        double u = mra_random_uniform(&random);
        assert_true(u >= 0 && u < 1 && u * 0x1p53 == floor(u * 0x1p53));
        sum += u;
        squares += u * u;
        lag += (u - 0.5) * (before - 0.5);
        before = u;
    }
    assert_true(fabs(sum / COUNT - 0.5) < 5 * sqrt(1.0 / 12 / COUNT));
    assert_true(fabs(squares / COUNT - 1.0 / 3) < 5 * sqrt(4.0 / 45 / COUNT));
    assert_true(fabs(lag / COUNT) < 5.0 / 12 / sqrt(COUNT));
}

// Chi-square over n classes; 5 standard deviations above its mean would be a defect.
static void below_is_unbiased(void **state)
{
    (void)state;
    const uint32_t sizes[] = {1, 2, 3, 7, 10, 1000};
    mra_random random = mra_random_open(4, mra_stream("below", 0, 0));
    for (int s = 0; s < 6; s++) {
        enum { COUNT = 100000 };
        uint32_t n = sizes[s], tally[1000] = {0};
        for (int i = 0; i < COUNT; i++) {
            uint32_t x = mra_random_below(&random, n);
            assert_true(x < n);
            tally[x]++;
        }
        double expected = (double)COUNT / n, chi = 0;
        for (uint32_t x = 0; x < n; x++) chi += pow(tally[x] - expected, 2) / expected;
        assert_true(chi <= (n - 1) + 5 * sqrt(2.0 * (n - 1)) + 1e-9);
    }
    // 3/4 of 2^32: scaling 2^32 words to it gives every third value twice, unless some are
    // refused.
    uint32_t n = 3221225472u, thirds = 0;
    for (int i = 0; i < 100000; i++) thirds += mra_random_below(&random, n) % 3 == 0;
    assert_true(fabs(thirds / 100000.0 - 1.0 / 3) < 0.01);
}

// All 24 orders of four blocks, and all 10 subsets of two of five, equally often.
static void orders_and_subsets(void **state)
{
    (void)state;
    enum { COUNT = 24000 };
    uint32_t orders[256] = {0}, subsets[32] = {0}, chosen[9];
    for (int i = 0; i < COUNT; i++) {
        uint32_t items[] = {10, 11, 20, 21, 30, 31, 40, 41}, code = 0, seen = 0;
        mra_random_shuffle(items, 4, 2, 7, mra_stream("orders", (uint64_t)i, 0));
        for (int b = 0; b < 4; b++) {
            assert_int_equal(items[2 * b] + 1, items[2 * b + 1]);
            code = code * 4 + items[2 * b] / 10 - 1;
            seen |= 1u << (items[2 * b] / 10);
        }
        assert_int_equal(seen, 30);
        orders[code]++;
        mra_random_subset(chosen, 5, 2, 7, mra_stream("subsets", (uint64_t)i, 0));
        assert_true(chosen[0] < chosen[1] && chosen[1] < 5);
        subsets[1u << chosen[0] | 1u << chosen[1]]++;
    }
    double chi = 0;
    for (int i = 0; i < 256; i++)
        if (orders[i]) chi += pow(orders[i] - COUNT / 24.0, 2) / (COUNT / 24.0);
    assert_true(chi <= 23 + 5 * sqrt(2.0 * 23));
    chi = 0;
    for (int i = 0; i < 32; i++)
        if (subsets[i]) chi += pow(subsets[i] - COUNT / 10.0, 2) / (COUNT / 10.0);
    assert_true(chi <= 9 + 5 * sqrt(2.0 * 9));
    mra_random_subset(chosen, 9, 9, 7, 1);
    for (uint32_t i = 0; i < 9; i++) assert_int_equal(chosen[i], i);
    mra_random_subset(NULL, 9, 0, 7, 1);
}

static void check_normal(const double *x, int count)
{
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0, within = 0;
    for (int i = 0; i < count; i++) {
        assert_true(isfinite(x[i]));
        m1 += x[i];
        m2 += x[i] * x[i];
        m3 += x[i] * x[i] * x[i];
        m4 += x[i] * x[i] * x[i] * x[i];
        within += fabs(x[i]) < 0.6744897501960817; // the quartile
    }
    double n = count;
    assert_true(fabs(m1 / n) < 5 / sqrt(n));
    assert_true(fabs(m2 / n - 1) < 5 * sqrt(2 / n));
    assert_true(fabs(m3 / n) < 5 * sqrt(15 / n));
    assert_true(fabs(m4 / n - 3) < 5 * sqrt(96 / n));
    assert_true(fabs(within / n - 0.5) < 5 * 0.5 / sqrt(n));
}

static void normal_numbers(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    static double x[COUNT];
    static float filled[COUNT];
    mra_random random = mra_random_open(5, mra_stream("normal", 0, 0));
    for (int i = 0; i < COUNT; i++) x[i] = mra_random_normal(&random);
    check_normal(x, COUNT);
    mra_fill_normal(filled, COUNT, 2.5f, 5, mra_stream("fill", 0, 0));
    for (int i = 0; i < COUNT; i++) x[i] = filled[i] / 2.5;
    check_normal(x, COUNT);
    double pairs = 0; // neighbours of one Box-Muller pair are uncorrelated
    for (int i = 0; i < COUNT; i += 2) pairs += x[i] * x[i + 1];
    assert_true(fabs(pairs / (COUNT / 2)) < 5 / sqrt(COUNT / 2));
}

// A shorter fill is a prefix of a longer one: an element depends on its index alone.
static void elements_stand_alone(void **state)
{
    (void)state;
    float a[101], b[101], c[101];
    uint64_t stream = mra_stream("elements", 1, 2);
    mra_fill_normal(a, 101, 1, 6, stream);
    mra_fill_uniform(c, 101, 0, 1, 6, stream);
    for (size_t count = 0; count < 101; count += 7) {
        b[count] = 99;
        mra_fill_normal(b, count, 1, 6, stream);
        assert_memory_equal(a, b, count * sizeof *a);
        assert_true(b[count] == 99);
    }
    for (uint64_t i = 0; i < 101; i++) {
        float u = mra_uniform_at(6, stream, i);
        assert_true(u > 0 && u < 1 && u == c[i]);
    }
    mra_fill_uniform(b, 101, -3, 5, 6, stream);
    for (int i = 0; i < 101; i++) assert_true(fabsf(b[i] - (-3 + 8 * c[i])) < 1e-5f);
    assert_true(mra_uniform_at(6, stream, 0) != mra_uniform_at(7, stream, 0));
    assert_true(mra_uniform_at(6, stream, 0) != mra_uniform_at(6, stream + 1, 0));
    assert_true(mra_uniform_at(6, stream, 0) != mra_uniform_at(6, stream, UINT64_C(1) << 34));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(a_cursor_walks_the_counters),
        cmocka_unit_test(streams_differ_by_purpose_and_numbers),
        cmocka_unit_test(uniform_numbers),
        cmocka_unit_test(below_is_unbiased),
        cmocka_unit_test(orders_and_subsets),
        cmocka_unit_test(normal_numbers),
        cmocka_unit_test(elements_stand_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
