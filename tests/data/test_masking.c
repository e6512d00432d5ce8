// Masking: how many, which, and what stands there afterwards, counted over many draws.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/random.h"
#include "data/masking.h"

enum { N = 41, DRAWS = 4000, VOCABULARY = 1000, MASK = 999 };

static const mra_masking masking = {
    .share = 0.15,
    .vocabulary = VOCABULARY,
    .special = {.begin = 0, .pad = 1, .end = 2, .unknown = 3, .mask = MASK}};

static uint64_t test_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
}

// <s>, tokens with a </s> </s> in their midst, </s>, padding.
static int fill(int32_t *ids, uint64_t seed)
{
    mra_random random = mra_random_open(seed, 1);
    int plain = 0;
    for (int i = 0; i < N; i++) {
        ids[i] = 4 + (int32_t)mra_random_below(&random, VOCABULARY - 5);
        if (i == 0) ids[i] = 0;
        if (i == 11 || i == 12 || i == N - 4) ids[i] = 2;
        if (i > N - 4) ids[i] = 1;
        plain += ids[i] > 2;
    }
    return plain;
}

static void check_one(const int32_t *ids, const int32_t *before, int count, int plain,
                      const int32_t *place, const int32_t *label)
{
    assert_int_equal(count, lround(0.15 * plain));
    for (int k = 0; k < count; k++) {
        assert_true(k == 0 || place[k] > place[k - 1]);
        assert_int_equal(label[k], before[place[k]]);
        assert_true(label[k] > 2);
    }
    for (int i = 0, k = 0; i < N; i++) {
        const int chosen = k < count && place[k] == i;
        k += chosen;
        if (!chosen) assert_int_equal(ids[i], before[i]);
    }
}

// |observed - expected| within five standard deviations.
static void check_share(double hits, double trials, double probability)
{
    const double deviation = sqrt(trials * probability * (1 - probability));
    if (!(fabs(hits - trials * probability) <= 5 * deviation + 1))
        fail_msg("%g of %g, expected a share of %g", hits, trials, probability);
}

static void shares(void **state)
{
    (void)state;
    int32_t before[N], ids[N], place[N], label[N];
    int chosen[N] = {0}, masked = 0, kept = 0, total = 0;
    const uint64_t seed = test_seed();
    const int plain = fill(before, seed);
    for (int draw = 0; draw < DRAWS; draw++) {
        memcpy(ids, before, sizeof ids);
        const int count = mra_mask_sequence(
            &masking, ids, N, seed, mra_stream("mask", (uint64_t)draw, 0), place, label);
        check_one(ids, before, count, plain, place, label);
        total += count;
        for (int k = 0; k < count; k++) {
            chosen[place[k]]++;
            masked += ids[place[k]] == MASK;
            kept += ids[place[k]] == label[k];
            assert_true(ids[place[k]] >= 0 && ids[place[k]] < VOCABULARY);
        }
    }
    for (int i = 0; i < N; i++)
        if (before[i] > 2) check_share(chosen[i], DRAWS, (double)total / DRAWS / plain);
    check_share(masked, total, 0.8 + 0.1 / VOCABULARY);
    check_share(kept, total, 0.1 + 0.1 / VOCABULARY);
}

static void repeats(void **state)
{
    (void)state;
    int32_t a[N], b[N], place[2][N], label[2][N];
    const uint64_t seed = test_seed();
    fill(a, seed);
    memcpy(b, a, sizeof b);
    const int count = mra_mask_sequence(&masking, a, N, seed, 7, place[0], label[0]);
    assert_int_equal(mra_mask_sequence(&masking, b, N, seed, 7, place[1], label[1]), count);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_equal(place[0], place[1], (size_t)count * sizeof(int32_t));
    fill(b, seed);
    mra_mask_sequence(&masking, b, N, seed, 8, place[1], label[1]);
    assert_true(memcmp(place[0], place[1], (size_t)count * sizeof(int32_t)) != 0 ||
                memcmp(a, b, sizeof a) != 0);
}

// One token is masked where 15 % round to none, none where there is nothing to mask, all if all are wanted.
static void edges(void **state)
{
    (void)state;
    int32_t ids[5] = {0, 17, 2, 1, 1}, place[5], label[5];
    assert_int_equal(mra_mask_sequence(&masking, ids, 5, 1, 1, place, label), 1);
    assert_int_equal(place[0], 1);
    assert_int_equal(label[0], 17);
    int32_t none[3] = {0, 2, 1};
    assert_int_equal(mra_mask_sequence(&masking, none, 3, 1, 1, place, label), 0);
    assert_int_equal(mra_mask_sequence(&masking, none, 0, 1, 1, place, label), 0);
    mra_masking all = masking;
    all.share = 1;
    int32_t some[5] = {0, 5, 6, 7, 2};
    assert_int_equal(mra_mask_sequence(&all, some, 5, 1, 1, place, label), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shares), cmocka_unit_test(repeats),
                                       cmocka_unit_test(edges)};
    return cmocka_run_group_tests_name("data/masking", tests, NULL, NULL);
}
