// Masked language modelling in the training loop: it learns a language, it is the same however it is cut up, stopped or
// computed, and what it leaves is a model of Hugging Face's names.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "../data/tokeniser.h"
#include "core/file.h"
#include "io/safetensors.h"
#include "io/tsv.h"
#include "nn/roberta.h"
#include "nn/train.h"

static const char *const small[] = {"task.name=masked",
                                    "data.sources=text.txt",
                                    "data.documents=blank_lines",
                                    "data.dev=6",
                                    "data.test=6",
                                    "model.dim=24",
                                    "model.heads=2",
                                    "model.head_dim=8",
                                    "model.layers=1",
                                    "model.hidden=24",
                                    "model.embedding=8",
                                    "model.positions=20",
                                    "train.steps=12",
                                    "train.warmup=2",
                                    "train.batch=4",
                                    "train.learning_rate=3e-2",
                                    "train.log_every=5",
                                    "train.eval_every=6",
                                    "train.checkpoint_every=5",
                                    NULL};

// Documents of one letter each, one of seven: the neighbours say what a token is.
static int set_up(void **state)
{
    if (scratch_make(state) != 0) return -1;
    mkdir(scratch_path("roberta-bpe"), 0777);
    tokeniser_of_bytes(scratch_path("roberta-bpe/vocab.json"),
                       scratch_path("roberta-bpe/merges.txt"));
    FILE *file = fopen(scratch_path("text.txt"), "w");
    for (int document = 0; document < 60; document++) {
        for (int i = 0; i < 40; i++) fputc('a' + document * 3 % 7, file);
        fputs("\n\n", file);
    }
    return fclose(file);
}

typedef struct setup {
    mra_settings *settings;
    mra_train_options options;
    char folder[300];
} setup;

static mra_status read_setup(setup *setup, const char *const *lines, mra_error *err)
{
    assert_int_equal(mra_settings_create(&setup->settings, err), MRA_OK);
    snprintf(setup->folder, sizeof setup->folder, "data.folder=%s", scratch_folder);
    mra_status status = mra_settings_override(setup->settings, setup->folder, err);
    for (int i = 0; small[i] && status == MRA_OK; i++)
        status = mra_settings_override(setup->settings, small[i], err);
    for (int i = 0; lines && lines[i] && status == MRA_OK; i++)
        status = mra_settings_override(setup->settings, lines[i], err);
    if (status == MRA_OK)
        status = mra_train_options_read(&setup->options, setup->settings, err);
    if (status == MRA_OK) setup->options.masked.data.cache = "";
    return status;
}

static mra_status train(const char *folder, const char *const *lines, int threads,
                        const volatile sig_atomic_t *stop, mra_train_result *result,
                        mra_error *err)
{
    setup setup;
    mra_device *device;
    if (read_setup(&setup, lines, err) != MRA_OK) fail_msg("%s", err->message);
    assert_int_equal(mra_device_open(&device, "cpu", threads, err), MRA_OK);
    const mra_train_run run = {
        .folder = scratch_path(folder), .device = device, .quiet = true, .stop = stop};
    const mra_status status = mra_train(&setup.options, &run, result, err);
    mra_device_close(device);
    mra_settings_free(setup.settings);
    return status;
}

static void must_train(const char *folder, const char *const *lines, int threads,
                       mra_train_result *result)
{
    mra_error err;
    if (train(folder, lines, threads, NULL, result, &err) != MRA_OK)
        fail_msg("%s", err.message);
}

static const char *weights_of(const char *folder)
{
    char name[100];
    snprintf(name, sizeof name, "%s/weights.safetensors", folder);
    return scratch_path(name);
}

static void same_weights(const char *a, const char *b)
{
    char first[65], second[65];
    assert_int_equal(mra_sha256_file(weights_of(a), first, NULL), MRA_OK);
    assert_int_equal(mra_sha256_file(weights_of(b), second, NULL), MRA_OK);
    assert_string_equal(first, second);
}

// The neighbours tell nearly everything; the most frequent token little.
static void test_learns(void **state)
{
    (void)state;
    const char *const lines[] = {"train.steps=400",
                                 "train.eval_every=100",
                                 "train.learning_rate=5e-3",
                                 "train.clip=1",
                                 "train.batch=8",
                                 "train.warmup=30",
                                 "model.dropout=0",
                                 "model.dim=32",
                                 "model.embedding=32",
                                 "model.heads=4",
                                 NULL};
    mra_train_result result;
    must_train("learns", lines, 2, &result);
    if (!(result.test.metric[0] > 0.6 && result.test.loss < 1.2))
        fail_msg("accuracy %g, loss %g", result.test.metric[0], result.test.loss);
    assert_true(result.test_majority > 1.0 / 7.5 && result.test_majority < 0.5);
    assert_true(result.test.examples > 20);
}

static void test_same_bits(void **state)
{
    (void)state;
    mra_train_result result;
    must_train("whole", NULL, 1, &result);
    must_train("threads", NULL, 3, NULL);
    same_weights("whole", "threads");
    const char *const ahead[] = {"train.prefetch=yes", NULL};
    must_train("ahead", ahead, 1, NULL);
    same_weights("whole", "ahead");
    // Stopped before its first step, between steps by a checkpoint of a shorter run, and continued.
    mra_error err;
    volatile sig_atomic_t stop = 1;
    assert_int_equal(train("stopped", NULL, 2, &stop, NULL, &err), MRA_INTERRUPTED);
    must_train("stopped", NULL, 2, NULL);
    same_weights("whole", "stopped");
    const char *const other[] = {"train.seed=2", NULL};
    mra_train_result second;
    must_train("other", other, 1, &second);
    assert_true(second.test.loss != result.test.loss);
    assert_int_equal(second.test.examples, result.test.examples); // the same tokens are masked
    assert_true(second.test_majority == result.test_majority);
}

// The parts of a step hold the masked tokens of the whole, in order.
static void test_parts(void **state)
{
    (void)state;
    mra_error err;
    setup setup;
    mra_device *device;
    mra_task *task;
    void *whole, *part;
    assert_int_equal(read_setup(&setup, NULL, &err), MRA_OK);
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    const mra_task_run run = {.device = device, .quiet = true};
    const mra_task_kind *kind = setup.options.task;
    assert_int_equal(kind->open(&task, &setup.options, &run, &err), MRA_OK);
    assert_int_equal(kind->batch_create(task, &whole, &err), MRA_OK);
    assert_int_equal(kind->batch_create(task, &part, &err), MRA_OK);
    const mra_roberta_batch *all = whole, *some = part; // a batch begins with its view
    for (uint64_t step = 0; step < 40; step++) {
        const mra_portion portion = {MRA_TRAIN, step, 0, 1};
        int row = 0, target = 0;
        assert_int_equal(kind->prepare(task, &portion, whole, &err), MRA_OK);
        for (int p = 0; p < 3; p++) {
            const mra_portion third = {MRA_TRAIN, step, p, 3};
            assert_int_equal(kind->prepare(task, &third, part, &err), MRA_OK);
            assert_memory_equal(some->ids, all->ids + row * all->n,
                                (size_t)(some->count * some->n) * sizeof(int32_t));
            for (int k = 0; k < some->targets; k++, target++) {
                assert_int_equal(some->label[k], all->label[target]);
                assert_int_equal(some->place[k] + row * all->n, all->place[target]);
            }
            row += some->count;
        }
        assert_int_equal(row, 4);
        assert_int_equal(target, all->targets);
    }
    const mra_portion five = {MRA_TRAIN, 0, 0, 5};
    assert_int_equal(kind->prepare(task, &five, part, &err), MRA_BAD_INPUT);
    kind->batch_free(whole);
    kind->batch_free(part);
    kind->close(task);
    mra_device_close(device);
    mra_settings_free(setup.settings);
}

// What a training leaves is the start of another, and of a longer model.
static void test_init(void **state)
{
    (void)state;
    mra_train_result result, again;
    must_train("first", NULL, 1, &result);
    char init[400];
    snprintf(init, sizeof init, "model.init=%s", weights_of("first"));
    const char *const lines[] = {init,
                                 "train.steps=1",
                                 "train.warmup=0",
                                 "train.seed=9",
                                 "train.batch=4",
                                 "train.learning_rate=0",
                                 NULL};
    must_train("second", lines, 1, &again);
    assert_true(again.test.loss == result.test.loss);
    const char *const longer[] = {init, "model.positions=40", "train.steps=2", NULL};
    must_train("longer", longer, 1, &again);
    mra_safetensors *file;
    mra_error err;
    const float *values;
    assert_int_equal(mra_safetensors_read(&file, weights_of("longer"), &err), MRA_OK);
    assert_int_equal(mra_safetensors_fetch(file, "w",
                                           "roberta.embeddings.position_embeddings.weight", 2,
                                           (int[]){42, 8}, &values, &err),
                     MRA_OK);
    mra_safetensors_free(file);
    const char *const wrong[] = {init, "model.hidden=25", NULL};
    assert_int_equal(train("wrong", wrong, 1, NULL, NULL, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "intermediate.dense.weight has shape [24, 24]"));
}

static void test_settings(void **state)
{
    (void)state;
    mra_error err;
    setup setup, again;
    const char *const lines[] = {"model.size=base", "attention.method=mra2", "train.mask=0.2",
                                 "train.length=15", "data.members=a/ b/",    NULL};
    assert_int_equal(read_setup(&setup, lines, &err), MRA_OK);
    assert_int_equal(setup.options.masked.roberta.model.encoder.dim, 24);
    char text[4000], second[4000];
    assert_true(mra_train_options_text(&setup.options, text, sizeof text) < sizeof text);
    assert_int_equal(mra_settings_create(&again.settings, &err), MRA_OK);
    assert_int_equal(mra_train_options_restore(again.settings, text, &err), MRA_OK);
    assert_int_equal(mra_train_options_read(&again.options, again.settings, &err), MRA_OK);
    mra_train_options_text(&again.options, second, sizeof second);
    assert_string_equal(text, second);
    assert_non_null(strstr(text, "task.name=masked\n"));
    assert_non_null(strstr(text, "train.length=15\n"));
    mra_settings_free(setup.settings);
    mra_settings_free(again.settings);
    const char *const few[] = {"data.dev=58", NULL};
    assert_int_equal(train("few", few, 1, NULL, NULL, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "60 documents, of which 58 are held out"));
    const char *const batch[] = {"train.batch=2000", NULL};
    assert_int_equal(train("batch", batch, 1, NULL, NULL, &err), MRA_BAD_INPUT);
    assert_non_null(
        strstr(err.message, "sequences of 20 tokens in split train, expected 2000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_parts), cmocka_unit_test(test_init),
        cmocka_unit_test(test_settings)};
    return cmocka_run_group_tests_name("nn/task_masked", tests, set_up, scratch_remove);
}
