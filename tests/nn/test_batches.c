// Batches: every example once an epoch, the same batch for the same (seed, step), right padding, honest evaluation.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nn/batches.h"

enum { TRAIN = 203, DEV = 21, POSITIONS = 128 };

static mra_dataset *data;

static int open_data(void **state)
{
    (void)state;
    mra_dataset_options options = mra_dataset_defaults("listops");
    options.train = TRAIN;
    options.dev = DEV;
    options.test = 5;
    options.minimum_length = 4;
    options.maximum_length = 120;
    options.quiet = true;
    return mra_dataset_open(&data, &options, NULL) == MRA_OK ? 0 : -1;
}

static int close_data(void **state)
{
    (void)state;
    mra_dataset_free(data);
    return 0;
}

static mra_batches *make(mra_split split, size_t limit, int batch, bool bucketed, uint64_t seed)
{
    mra_batches *batches;
    mra_batches_options options = {batch, POSITIONS, bucketed, 8, seed};
    assert_int_equal(mra_batches_create(&batches, data, split, limit, &options, NULL), MRA_OK);
    return batches;
}

// Which example of the split a row of a batch is: ListOps has no duplicates.
static int identify(const mra_batch *batch, int row, mra_split split)
{
    for (size_t i = 0; i < mra_dataset_count(data, split); i++) {
        mra_example example = mra_dataset_get(data, split, i);
        bool same = example.length <= batch->n;
        for (int k = 0; same && k < batch->n; k++) {
            int32_t expected = k < example.length ? example.ids[k] : 0;
            same = batch->ids[row * batch->n + k] == expected &&
                   batch->mask[row * batch->n + k] == (k < example.length);
        }
        if (same && (batch->labels[row] == -1 || batch->labels[row] == example.label))
            return (int)i;
    }
    fail_msg("a row of the batch is no example");
    return -1;
}

static void check_epochs(bool bucketed, int width)
{
    mra_batches *batches = make(MRA_TRAIN, 0, width, bucketed, 17);
    int per_epoch = TRAIN / width, order[2][TRAIN];
    for (int epoch = 0; epoch < 2; epoch++) {
        int seen[TRAIN] = {0};
        for (int i = 0; i < per_epoch; i++) {
            const mra_batch *batch =
                mra_batches_training(batches, (uint64_t)(epoch * per_epoch + i));
            assert_int_equal(batch->count, width);
            for (int row = 0; row < width; row++) {
                int example = identify(batch, row, MRA_TRAIN);
                assert_true(batch->labels[row] >= 0);
                assert_int_equal(seen[example]++, 0);
                order[epoch][i * width + row] = example;
            }
        }
    }
    assert_memory_not_equal(order[0], order[1], (size_t)(per_epoch * width) * sizeof(int));
    mra_batches_free(batches);
}

static void test_epochs(void **state)
{
    (void)state;
    check_epochs(false, 8);
    check_epochs(true, 8);
    check_epochs(true, 1);
    check_epochs(false, TRAIN);
}

static void copy_batch(const mra_batch *batch, int32_t *ids)
{
    memset(ids, 0, (size_t)batch->count * POSITIONS * sizeof *ids);
    for (int row = 0; row < batch->count; row++)
        memcpy(ids + row * POSITIONS, batch->ids + row * batch->n,
               (size_t)batch->n * sizeof *ids);
}

// The batch of a step does not depend on what was asked for before, only on the seed.
static void test_function_of_step(void **state)
{
    (void)state;
    static int32_t a[16 * POSITIONS], b[16 * POSITIONS];
    for (int bucketed = 0; bucketed < 2; bucketed++) {
        mra_batches *one = make(MRA_TRAIN, 0, 16, bucketed, 3);
        mra_batches *two = make(MRA_TRAIN, 0, 16, bucketed, 3);
        mra_batches *other = make(MRA_TRAIN, 0, 16, bucketed, 4);
        int differ = 0;
        for (uint64_t step = 0; step < 30; step++)
            copy_batch(mra_batches_training(one, step), a);
        copy_batch(mra_batches_training(two, 29), b);
        assert_memory_equal(a, b, sizeof a);
        copy_batch(mra_batches_training(one, 2), a);
        copy_batch(mra_batches_training(two, 2), b);
        assert_memory_equal(a, b, sizeof a);
        copy_batch(mra_batches_training(other, 2), b);
        differ = memcmp(a, b, sizeof a) != 0;
        assert_true(differ);
        mra_batches_free(one);
        mra_batches_free(two);
        mra_batches_free(other);
    }
}

// Padded batches are all of full width; bucketed ones are no wider than their longest sequence needs, and less padded.
static void test_padding(void **state)
{
    (void)state;
    long padding[2] = {0, 0};
    for (int bucketed = 0; bucketed < 2; bucketed++) {
        mra_batches *batches = make(MRA_TRAIN, 0, 16, bucketed, 3);
        for (uint64_t step = 0; step < 12; step++) {
            const mra_batch *batch = mra_batches_training(batches, step);
            int longest = 0;
            for (int row = 0; row < 16; row++) {
                int length = 0;
                for (int k = 0; k < batch->n; k++) length += batch->mask[row * batch->n + k];
                padding[bucketed] += batch->n - length;
                if (length > longest) longest = length;
            }
            assert_int_equal(batch->n, bucketed ? (longest + 7) / 8 * 8 : POSITIONS);
        }
        mra_batches_free(batches);
    }
    assert_true(4 * padding[1] < padding[0]);
}

static void check_evaluation(bool bucketed, size_t limit, size_t expected)
{
    mra_batches *batches = make(MRA_DEV, limit, 8, bucketed, 3);
    assert_int_equal(mra_batches_examples(batches), expected);
    assert_int_equal(mra_batches_count(batches), (expected + 7) / 8);
    int seen[DEV] = {0};
    size_t counted = 0, tally[10] = {0}, most = 0, beyond = 0;
    for (size_t i = 0; i < mra_batches_count(batches); i++) {
        const mra_batch *batch = mra_batches_evaluation(batches, i);
        assert_int_equal(batch->count, 8);
        for (int row = 0; row < 8; row++) {
            int example = identify(batch, row, MRA_DEV);
            if (batch->labels[row] < 0) continue;
            assert_int_equal(seen[example]++, 0);
            beyond += (size_t)example >= expected;
            counted++;
            if (++tally[batch->labels[row]] > most) most = tally[batch->labels[row]];
        }
    }
    assert_int_equal(counted, expected);
    if (expected < DEV) assert_in_range(beyond, 1, expected - 1); // drawn, not the first ones
    assert_true(mra_batches_majority(batches) == (double)most / (double)expected);
    mra_batches_free(batches);
}

static void test_evaluation(void **state)
{
    (void)state;
    check_evaluation(false, 0, DEV);
    check_evaluation(true, 0, DEV);
    check_evaluation(true, 13, 13);
    check_evaluation(true, 1000, DEV);
}

// More rows than examples: batches of all examples.
static void test_small_split(void **state)
{
    (void)state;
    mra_batches *batches = make(MRA_TEST, 0, 64, true, 3);
    assert_int_equal(mra_batches_training(batches, 3)->count, 5);
    assert_int_equal(mra_batches_count(batches), 1);
    mra_batches_free(batches);
}

// Sequences longer than the positions are cut.
static void test_cut(void **state)
{
    (void)state;
    mra_batches *batches;
    mra_batches_options options = {16, 10, true, 8, 1};
    assert_int_equal(mra_batches_create(&batches, data, MRA_TRAIN, 0, &options, NULL), MRA_OK);
    for (uint64_t step = 0; step < 12; step++)
        assert_in_range(mra_batches_training(batches, step)->n, 1, 10);
    mra_batches_free(batches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epochs),      cmocka_unit_test(test_function_of_step),
        cmocka_unit_test(test_padding),     cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_small_split), cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests_name("nn/batches", tests, open_data, close_data);
}
