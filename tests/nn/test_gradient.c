// Gradients in parts: the sum of the parts is the gradient of the whole batch, taken in the stated order, and batches that are
// prepared ahead are the same as batches that are not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "nn/evaluate.h"
#include "nn/gradient.h"
#include "nn/train_options.h"

typedef struct bench {
    mra_settings *settings;
    mra_train_options options;
    mra_device *device;
    mra_task *task;
    mra_tape *tape;
} bench;

static void set_up(bench *bench, const char *const *more)
{
    static const char *const lines[] = {"data.train=60",
                                        "data.dev=7",
                                        "data.test=7",
                                        "data.minimum_length=4",
                                        "data.maximum_length=40",
                                        "model.dim=16",
                                        "model.head_dim=8",
                                        "model.hidden=16",
                                        "model.dropout=0",
                                        "train.batch=11",
                                        "train.batching=bucketed",
                                        "train.multiple=8",
                                        NULL};
    mra_error err;
    assert_int_equal(mra_settings_create(&bench->settings, &err), MRA_OK);
    for (int i = 0; lines[i]; i++)
        assert_int_equal(mra_settings_override(bench->settings, lines[i], &err), MRA_OK);
    const char *given = getenv("MRA_TEST_SEED");
    char seed[64];
    snprintf(seed, sizeof seed, "train.seed=%s%ld", given ? given : "",
             given ? 0L : (long)time(NULL));
    assert_int_equal(mra_settings_override(bench->settings, seed, &err), MRA_OK);
    print_message("# %s\n", seed);
    for (int i = 0; more && more[i]; i++)
        assert_int_equal(mra_settings_override(bench->settings, more[i], &err), MRA_OK);
    if (mra_train_options_read(&bench->options, bench->settings, &err) != MRA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(mra_device_open(&bench->device, "cpu", 1, &err), MRA_OK);
    const mra_task_run run = {.device = bench->device, .quiet = true};
    assert_int_equal(bench->options.task->open(&bench->task, &bench->options, &run, &err),
                     MRA_OK);
    assert_int_equal(mra_tape_create(&bench->tape, bench->device, &err), MRA_OK);
}

static void tear_down(bench *bench)
{
    mra_tape_free(bench->tape);
    bench->task->kind->close(bench->task);
    mra_device_close(bench->device);
    mra_settings_free(bench->settings);
}

static size_t weights_of(const bench *bench)
{
    return bench->task->parameters->size;
}

// All gradients on the host, which are then set to zero.
static void take_gradient(const bench *bench, float *values)
{
    const mra_parameters *parameters = bench->task->parameters;
    for (int i = 0; i < parameters->count; i++) {
        const mra_tensor *tensor = parameters->list[i].tensor;
        memcpy(values, tensor->grad, tensor->size * sizeof *values);
        memset(tensor->grad, 0, tensor->size * sizeof *values);
        values += tensor->size;
    }
}

// Leaves weight times the gradient of the mean loss of a portion with the parameters; returns how many labels it has.
static int64_t differentiate(bench *bench, const mra_portion *portion, bool weighted)
{
    mra_error err;
    void *batch;
    mra_score score;
    const mra_task_kind *kind = bench->task->kind;
    assert_int_equal(kind->batch_create(bench->task, &batch, &err), MRA_OK);
    assert_int_equal(kind->prepare(bench->task, portion, batch, &err), MRA_OK);
    mra_tape_mode(bench->tape, true, true, 1, portion->index);
    mra_tensor *loss = kind->loss(bench->task, bench->tape, batch, &score);
    const float weight = weighted ? (float)score.counted : 1.0f;
    assert_int_equal(mra_tape_backward_from(bench->tape, loss, &weight, &err), MRA_OK);
    mra_tape_reset(bench->tape);
    kind->batch_free(batch);
    return score.counted;
}

// `parts` parts against the whole, and against sums that are taken here in double and in the stated order.
static void check_parts(bench *bench, int parts)
{
    const size_t size = weights_of(bench);
    float *whole = calloc(size, sizeof *whole), *part = calloc(size, sizeof *part);
    float *ordered = calloc(size, sizeof *ordered);
    double *exact = calloc(size, sizeof *exact);
    mra_gradient *gradient;
    const mra_group alone = {.count = 1};
    mra_error err;
    assert_int_equal(
        mra_gradient_create(&gradient, bench->task->parameters, parts, &alone, &err), MRA_OK);
    const mra_portion all = {MRA_TRAIN, 3, 0, 1};
    assert_int_equal(differentiate(bench, &all, false), 11);
    take_gradient(bench, whole);
    int64_t counted = 0;
    for (int p = 0; p < parts; p++) {
        const mra_portion portion = {MRA_TRAIN, 3, p, parts};
        differentiate(bench, &portion, true);
        take_gradient(bench, part);
        for (size_t i = 0; i < size; i++) {
            exact[i] += (double)part[i];
            ordered[i] = p == 0 ? part[i] : ordered[i] + part[i];
        }
        counted += differentiate(bench, &portion, true);
        assert_int_equal(mra_gradient_add(gradient, p, &err), MRA_OK);
    }
    assert_int_equal(counted, 11);
    take_gradient(bench, part); // nothing is left behind by adding
    for (size_t i = 0; i < size; i++) assert_true(part[i] == 0.0f);
    assert_int_equal(mra_gradient_finish(gradient, &err), MRA_OK);
    take_gradient(bench, part);
    assert_memory_equal(part, ordered, size * sizeof *part);
    double off = 0, length = 0;
    for (size_t i = 0; i < size; i++) {
        const double mean = exact[i] / 11.0;
        off += (mean - (double)whole[i]) * (mean - (double)whole[i]);
        length += (double)whole[i] * (double)whole[i];
    }
    if (sqrt(off / length) > 1e-5) fail_msg("%d parts: off by %g", parts, sqrt(off / length));
    mra_gradient_free(gradient);
    free(whole);
    free(part);
    free(ordered);
    free(exact);
}

static void test_parts(void **state)
{
    (void)state;
    const char *const methods[] = {"attention.method=exact", "attention.method=mra2", NULL};
    for (int i = 0; methods[i]; i++) {
        bench bench;
        const char *const lines[] = {methods[i], NULL};
        set_up(&bench, lines);
        check_parts(&bench, 2);
        check_parts(&bench, 3); // 3 + 4 + 4 examples
        check_parts(&bench, 11);
        tear_down(&bench);
    }
}

// More parts than examples, where the split is smaller than the batch that was asked for.
static void test_too_many_parts(void **state)
{
    (void)state;
    bench bench;
    const char *const lines[] = {"data.train=4", NULL};
    set_up(&bench, lines);
    mra_error err = {0};
    void *batch;
    assert_int_equal(bench.task->kind->batch_create(bench.task, &batch, &err), MRA_OK);
    const mra_portion portion = {MRA_TRAIN, 0, 0, 11};
    assert_int_equal(bench.task->kind->prepare(bench.task, &portion, batch, &err),
                     MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "train.accumulate=11"));
    bench.task->kind->batch_free(batch);
    tear_down(&bench);
}

static void same_batch(const mra_batch *a, const mra_batch *b)
{
    const size_t cells = (size_t)a->count * (size_t)a->n;
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, cells * sizeof *a->ids);
    assert_memory_equal(a->mask, b->mask, cells);
    assert_memory_equal(a->labels, b->labels, (size_t)a->count * sizeof *a->labels);
}

// Whatever was announced, kept or changed in between, the batch is that of its portion.
static void test_prefetch(void **state)
{
    (void)state;
    bench bench;
    set_up(&bench, NULL);
    mra_error err;
    mra_prefetch *ahead, *asked;
    assert_int_equal(mra_prefetch_create(&ahead, bench.task, true, &err), MRA_OK);
    assert_int_equal(mra_prefetch_create(&asked, bench.task, false, &err), MRA_OK);
    for (int i = 0; i < 60; i++) {
        const mra_portion here = i % 7 == 6
                                     ? (mra_portion){MRA_DEV, 0, 0, 1}
                                     : (mra_portion){MRA_TRAIN, (uint64_t)i / 2, i % 2, 2};
        const mra_portion next = {MRA_TRAIN, (uint64_t)(i + 1) / 2, (i + 1) % 2, 2};
        const void *one, *two;
        // The thread must be idle while the other object uses the same data set.
        assert_int_equal(mra_prefetch_get(ahead, &here, NULL, &one, &err), MRA_OK);
        assert_int_equal(mra_prefetch_get(asked, &here, &next, &two, &err), MRA_OK);
        same_batch(one, two);
        assert_int_equal(mra_prefetch_get(ahead, &here, i % 5 ? &next : NULL, &one, &err),
                         MRA_OK);
        const void *kept = one;
        assert_int_equal(mra_prefetch_get(ahead, &next, NULL, &one, &err), MRA_OK);
        assert_true(kept != one);
        assert_int_equal(mra_prefetch_get(asked, &next, NULL, &two, &err), MRA_OK);
        same_batch(one, two);
    }
    mra_prefetch_free(ahead);
    mra_prefetch_free(asked);
    tear_down(&bench);
}

// An error on the thread is the error of the call that asks for that batch.
static void test_prefetch_error(void **state)
{
    (void)state;
    bench bench;
    const char *const lines[] = {"data.train=4", NULL};
    set_up(&bench, lines);
    mra_error err = {0};
    mra_prefetch *ahead;
    const void *batch;
    const mra_portion good = {MRA_TRAIN, 0, 0, 1}, bad = {MRA_TRAIN, 0, 0, 9};
    assert_int_equal(mra_prefetch_create(&ahead, bench.task, true, &err), MRA_OK);
    assert_int_equal(mra_prefetch_get(ahead, &good, &bad, &batch, &err), MRA_OK);
    assert_int_equal(mra_prefetch_get(ahead, &bad, NULL, &batch, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "train.accumulate=9"));
    assert_int_equal(mra_prefetch_get(ahead, &good, &bad, &batch, &err), MRA_OK);
    mra_prefetch_free(ahead); // while the thread may still be at work
    tear_down(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_too_many_parts),
        cmocka_unit_test(test_prefetch),
        cmocka_unit_test(test_prefetch_error),
    };
    return cmocka_run_group_tests_name("nn/gradient", tests, NULL, NULL);
}
