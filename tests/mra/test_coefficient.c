// Pooling, coefficients and their bounds against float64 definitions.
#include "dense.h"

#include "core/arena.h"
#include "mra/coefficient.h"

static mra_options scales_of(int count, const int *scale)
{
    mra_options options = {.scales = count};
    memcpy(options.scale, scale, (size_t)count * sizeof *scale);
    return options;
}

// A pyramid with memory of its own; free with mra_aligned_free(*memory).
static mra_pyramid pyramid_of(const test_head *head, const mra_options *options, void **memory)
{
    mra_pyramid pyramid;
    *memory = mra_aligned_calloc(mra_pyramid_bytes(options, head->n, head->d), 1);
    assert_non_null(*memory);
    mra_pyramid_place(&pyramid, options, head->n, head->d, *memory);
    mra_pyramid_build(&pyramid, head->q, head->k, head->v, head->mask);
    return pyramid;
}

// Compares one level with sums over the tokens themselves.
static void check_level(const test_head *head, const mra_pyramid_level *level)
{
    int s = level->scale, d = head->d;
    assert_int_equal(level->blocks, (head->n + s - 1) / s);
    for (int x = 0; x < level->blocks; x++) {
        int tokens = 0;
        for (int i = x * s; i < head->n && i < (x + 1) * s; i++)
            tokens += test_present(head, i);
        assert_int_equal(level->tokens[x], tokens);
        if (tokens == 0 && s == 1) continue; // unspecified
        for (int c = 0; c < d; c++) {
            double q = 0, k = 0, v = 0;
            for (int i = x * s; i < head->n && i < (x + 1) * s; i++) {
                if (!test_present(head, i)) continue;
                q += (double)head->q[(size_t)i * d + c] / tokens;
                k += (double)head->k[(size_t)i * d + c] / tokens;
                v += (double)head->v[(size_t)i * d + c];
            }
            size_t at = (size_t)x * d + c;
            assert_below(fabs(q - (double)level->query[at]), 2e-6);
            assert_below(fabs(k - (double)level->key[at]), 2e-6);
            assert_below(fabs(v - (double)level->value[at]), 2e-5);
        }
    }
}

static void pooling_is_averaging(void **state)
{
    (void)state;
    const int lengths[] = {1, 2, 31, 32, 33, 100, 257}, widths[] = {1, 3, 32, 65, 256};
    const int r1[] = {32, 1}, r2[] = {16, 4, 1}, r3[] = {60, 12, 4, 2, 1}, r4[] = {1};
    const mra_options options[] = {scales_of(2, r1), scales_of(3, r2), scales_of(5, r3),
                                   scales_of(1, r4)};
    uint64_t which = 0;
    for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++)
        for (size_t o = 0; o < sizeof options / sizeof *options; o++, which++) {
            double masked = which % 3 == 0 ? 0 : which % 3 == 1 ? 0.3 : 0.97;
            test_head head = test_head_make(lengths[n], widths[which % 5], 1, masked, which);
            void *memory;
            mra_pyramid pyramid = pyramid_of(&head, &options[o], &memory);
            assert_int_equal(pyramid.scales, options[o].scales);
            assert_below(fabs((double)pyramid.logit_scale * sqrt(head.d) - 1), 1e-7);
            for (int i = 0; i < pyramid.scales; i++) check_level(&head, &pyramid.level[i]);
            mra_aligned_free(memory);
            test_head_free(&head);
        }
}

// Boxes of all sizes: mu and mu* by brute force, Jensen's sign, both bounds.
static void boxes_obey_the_bounds(void **state)
{
    (void)state;
    const int r[] = {16, 4, 2, 1};
    mra_options options = scales_of(4, r);
    for (uint64_t which = 0; which < 12; which++) {
        test_head head =
            test_head_make(50, 7, 0.2 + 0.3 * (double)which, which % 2 ? 0.25 : 0, which);
        void *memory;
        mra_pyramid pyramid = pyramid_of(&head, &options, &memory);
        double *q = test_widen(head.q, 350), *k = test_widen(head.k, 350);
        for (int level = 0; level < 4; level++) {
            int s = r[level], blocks = pyramid.level[level].blocks;
            for (int box = 0; box < blocks * blocks; box++) {
                int x = box / blocks, y = box % blocks;
                double sum = 0, sum_exp = 0, low = INFINITY, high = -INFINITY, error = 0;
                size_t entries = 0;
                for (int pass = 0; pass < 2; pass++)
                    for (int i = x * s; i < 50 && i < (x + 1) * s; i++)
                        for (int j = y * s; j < 50 && j < (y + 1) * s; j++) {
                            if (!test_present(&head, i) || !test_present(&head, j)) continue;
                            double p = test_logit(q, k, 7, i, j);
                            if (pass == 1) {
                                error += pow(exp(p) - exp(sum / (double)entries), 2);
                                continue;
                            }
                            entries++;
                            sum += p;
                            sum_exp += exp(p);
                            low = fmin(low, p);
                            high = fmax(high, p);
                        }
                mra_box_truth truth = mra_box_inspect(&pyramid, level, x, y);
                assert_int_equal(truth.entries, entries);
                if (entries == 0) continue;
                double mean = sum / (double)entries, best = sum_exp / (double)entries;
                double size = 1 + fabs(mean);
                assert_below(fabs(mra_box_logit(&pyramid, level, x, y) - mean), 1e-5 * size);
                assert_below(fabs(truth.mean - mean), 1e-6 * size);
                assert_below(fabs(truth.log_mean_exp - log(best)), 1e-6 * size);
                assert_below(fabs(truth.low - low) + fabs(truth.high - high), 1e-5 * size);
                assert_below(fabs(truth.squared_error * exp(2 * high) - error),
                             1e-5 * (error + 1e-9 * best));
                double range = high - low;
                assert_true(best >= exp(mean) * (1 - 1e-12));
                assert_true(best - exp(mean) <= exp(mean) * (mra_paper_bound(range) + 1e-12));
                assert_true(log(best) - mean <= mra_specht_log(range) + 1e-12);
            }
        }
        free(q);
        free(k);
        mra_aligned_free(memory);
        test_head_free(&head);
    }
}

// Specht's ratio against its definition in extended precision, and against the brute-force
// maximum of A/G over two-valued distributions: no smaller constant would do.
static void specht_is_sharp(void **state)
{
    (void)state;
    for (double r = 1e-8; r < 600; r *= 1.37) {
        long double h1 = expm1l(r), x = (long double)r;
        long double by_definition = logl(h1 / x) + x / h1 - 1;
        if (r > 1e-2)
            assert_below(fabs((double)(mra_specht_log(r) / (double)by_definition - 1)),
                         r < 1 ? 1e-12 : 1e-14);
        double most = 0;
        for (int step = 0; step <= 20000; step++) {
            double share = step / 20000.0;
            double gap =
                log1p(share * expm1(r)) - share * r; // log of arithmetic over geometric mean
            most = fmax(most, gap);
        }
        double bound = mra_specht_log(r);
        assert_true(most <= bound * (1 + 1e-7) + 1e-16);
        if (r > 1e-4) assert_true(most >= bound * (1 - 1e-4));
    }
}

static void bounds_at_the_ends(void **state)
{
    (void)state;
    assert_true(mra_specht_log(0) == 0 && mra_specht_excess(0) == 0 && mra_paper_bound(0) == 0);
    for (double r = 1e-150; r < 1e-3; r *= 1e3) {
        assert_below(fabs(mra_specht_excess(r) / (r * r / 8) - 1), r * r + 1e-14);
        assert_below(fabs(mra_paper_bound(r) / (r * r / 4) - 1), r);
    }
    // No step where the series hands over to the closed form.
    double below = mra_specht_log(1), above = mra_specht_log(nextafter(1, 2));
    assert_below(fabs(below - above), 1e-15);
    assert_below(fabs(mra_paper_bound(3) - (1 + exp(3) - 2 * exp(1.5))), 1e-13 * exp(3));
    assert_below(fabs(mra_specht_log(2e4) - (2e4 - log(2e4) - 1)), 1e-10);
    assert_true(isinf(mra_specht_excess(2e4)) && isinf(mra_paper_bound(2e4)));
    // The sharp bound is the smaller one, by a factor that tends to 2 and to e r.
    for (double r = 1e-6; r < 300; r *= 1.5)
        assert_true(mra_specht_excess(r) < mra_paper_bound(r));
    assert_below(fabs(mra_paper_bound(300) / mra_specht_excess(300) / (exp(1) * 300) - 1),
                 1e-10);
}

static void large_logits_stay_finite(void **state)
{
    (void)state;
    const int r[] = {8, 1};
    mra_options options = scales_of(2, r);
    test_head head = test_head_make(20, 4, 150, 0, 9);
    void *memory;
    mra_pyramid pyramid = pyramid_of(&head, &options, &memory);
    for (int box = 0; box < 9; box++) {
        mra_box_truth truth = mra_box_inspect(&pyramid, 0, box / 3, box % 3);
        assert_true(truth.high - truth.low > 1000);
        assert_true(isfinite(truth.log_mean_exp) && isfinite(truth.squared_error));
        assert_true(truth.log_mean_exp >= truth.mean && truth.log_mean_exp <= truth.high);
    }
    mra_aligned_free(memory);
    test_head_free(&head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pooling_is_averaging),     cmocka_unit_test(boxes_obey_the_bounds),
        cmocka_unit_test(specht_is_sharp),          cmocka_unit_test(bounds_at_the_ends),
        cmocka_unit_test(large_logits_stay_finite),
    };
    return cmocka_run_group_tests_name("coefficient", tests, NULL, NULL);
}
