// Training: settings, learning by heart, the same bits for any number of threads and however often a run is stopped,
// and everything that can be wrong with a checkpoint.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/file.h>
#include <unistd.h>
#include <fcntl.h>

#include <cmocka.h>

#include "nn/evaluate.h"
#include "nn/train.h"
#include "same_run.h"

// A small training; later lines replace earlier ones.
static const char *const small[] = {"data.train=40",
                                    "data.dev=10",
                                    "data.test=10",
                                    "data.minimum_length=4",
                                    "data.maximum_length=40",
                                    "model.dim=16",
                                    "model.heads=2",
                                    "model.head_dim=8",
                                    "model.hidden=16",
                                    "model.pooling=tokens",
                                    "train.steps=24",
                                    "train.warmup=5",
                                    "train.batch=8",
                                    "train.batching=bucketed",
                                    "train.multiple=8",
                                    "train.learning_rate=3e-3",
                                    "train.log_every=5",
                                    "train.eval_every=10",
                                    "train.checkpoint_every=7",
                                    NULL};

typedef struct setup {
    mra_settings *settings;
    mra_train_options options;
} setup;

static mra_status read_setup(setup *setup, const char *const *lines, mra_error *err)
{
    assert_int_equal(mra_settings_create(&setup->settings, err), MRA_OK);
    mra_status status = MRA_OK;
    for (int i = 0; small[i] && status == MRA_OK; i++)
        status = mra_settings_override(setup->settings, small[i], err);
    for (int i = 0; lines && lines[i] && status == MRA_OK; i++)
        status = mra_settings_override(setup->settings, lines[i], err);
    return status == MRA_OK ? mra_train_options_read(&setup->options, setup->settings, err)
                            : status;
}

// Trains the small setup with more lines in a folder of the scratch folder.
static mra_status train(const char *folder, const char *const *lines, int threads,
                        const volatile sig_atomic_t *stop, mra_train_result *result,
                        mra_error *err)
{
    setup setup;
    mra_device *device;
    mra_status status = read_setup(&setup, lines, err);
    assert_int_equal(status, MRA_OK);
    assert_int_equal(mra_device_open(&device, "cpu", threads, err), MRA_OK);
    mra_train_run run = {
        .folder = scratch_path(folder), .device = device, .quiet = true, .stop = stop};
    status = mra_train(&setup.options, &run, result, err);
    mra_device_close(device);
    mra_settings_free(setup.settings);
    return status;
}

// ---- Settings -------------------------------------------------------------------------------------

// The text of the settings, read back, gives the same text; and it has every setting.
static void test_settings_text(void **state)
{
    (void)state;
    const char *const lines[] = {
        "attention.method=mra2",    "attention.blocks=3",     "model.dropout=0.125",
        "train.anneal=cosine",      "train.weight_decay=0.3", "train.clip=0.7",
        "model.pooling=all",        "data.seed=99",           "train.seed=123456789012345",
        "train.evaluate=training",  "data.folder=some where", "train.accumulate=4",
        "train.diverge_factor=2.5", "train.diverge_steps=7",  NULL};
    char text[2000], again[2000];
    mra_error err;
    setup one, two = {0};
    assert_int_equal(read_setup(&one, lines, &err), MRA_OK);
    size_t bytes = mra_train_options_text(&one.options, text, sizeof text);
    assert_int_equal(bytes, strlen(text) + 1);
    assert_int_equal(bytes, mra_train_options_text(&one.options, NULL, 0));
    for (int i = 0; lines[i]; i++)
        if (!strstr(text, lines[i]) && !strstr(lines[i], "0.")) fail_msg("no %s", lines[i]);
    assert_int_equal(mra_settings_create(&two.settings, &err), MRA_OK);
    assert_int_equal(mra_train_options_restore(two.settings, text, &err), MRA_OK);
    assert_int_equal(mra_train_options_read(&two.options, two.settings, &err), MRA_OK);
    mra_train_options_text(&two.options, again, sizeof again);
    assert_string_equal(text, again);
    assert_true(two.options.clip == 0.7 && two.options.classify.model.encoder.dropout == 0.125);
    assert_string_equal(two.options.classify.model.encoder.setting[0], "blocks=3");
    mra_settings_free(one.settings);
    mra_settings_free(two.settings);
}

static void refuse_setting(const char *line, const char *expected)
{
    const char *const lines[] = {line, NULL};
    setup setup;
    mra_error err = {0};
    assert_int_equal(read_setup(&setup, lines, &err), MRA_BAD_INPUT);
    if (!strstr(err.message, expected)) fail_msg("'%s' without %s", err.message, expected);
    mra_settings_free(setup.settings);
}

static void test_bad_settings(void **state)
{
    (void)state;
    refuse_setting("train.stepz=3", "train.steps");
    refuse_setting("train.steps=0", "train.steps");
    refuse_setting("train.batch=many", "train.batch");
    refuse_setting("model.pooling=max", "tokens");
    refuse_setting("train.warmup=25", "train.warmup");
    refuse_setting("model.positions=39", "model.positions=39");
    refuse_setting("model.dropout=1", "model.dropout");
    refuse_setting("train.accumulate=9", "train.accumulate"); // of a batch of 8
    refuse_setting("task.name=juggle", "expected one of classify");
}

static void refuse_run(const char *line, const char *expected)
{
    const char *const lines[] = {line, NULL};
    mra_error err = {0};
    assert_int_equal(train("refused", lines, 1, NULL, NULL, &err), MRA_BAD_INPUT);
    if (!strstr(err.message, expected)) fail_msg("'%s' without %s", err.message, expected);
    assert_false(mra_file_exists(scratch_path("refused")));
}

// What only the data or the attention method can refuse; no folder is made for such a run.
static void test_bad_runs(void **state)
{
    (void)state;
    refuse_run("data.name=poems", "poems");
    refuse_run("attention.method=none", "none");
    refuse_run("attention.colour=red", "colour");
}

// ---- Learning -------------------------------------------------------------------------------------

static void learn_by_heart(const char *folder, const char *method)
{
    const char *const lines[] = {method,
                                 "data.train=16",
                                 "model.dim=32",
                                 "model.head_dim=16",
                                 "model.hidden=64",
                                 "model.dropout=0",
                                 "train.evaluate=training",
                                 "train.steps=150",
                                 "train.warmup=20",
                                 "train.eval_every=50",
                                 "train.clip=1",
                                 NULL};
    mra_error err;
    mra_train_result result;
    if (train(folder, lines, 2, NULL, &result, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(result.test.examples, 16);
    assert_int_equal(result.test.right[0], 16);
    assert_true(result.test.metric[0] == 1.0 && result.test.loss < 0.1);
    assert_true(result.test_majority < 0.8);
}

static void test_learning(void **state)
{
    (void)state;
    learn_by_heart("exact", "attention.method=exact");
    learn_by_heart("mra2", "attention.method=mra2");
}

// ---- The same bits --------------------------------------------------------------------------------

static void test_threads(void **state)
{
    (void)state;
    mra_error err;
    assert_int_equal(train("one", NULL, 1, NULL, NULL, &err), MRA_OK);
    assert_int_equal(train("two", NULL, 2, NULL, NULL, &err), MRA_OK);
    assert_int_equal(train("four", NULL, 4, NULL, NULL, &err), MRA_OK);
    same_file(file_in("one", "weights.safetensors"), file_in("two", "weights.safetensors"));
    same_file(file_in("one", "weights.safetensors"), file_in("four", "weights.safetensors"));
    same_log(file_in("one", "log.tsv"), file_in("two", "log.tsv"));
    const char *const other[] = {"train.seed=2", NULL};
    assert_int_equal(train("other", other, 1, NULL, NULL, &err), MRA_OK);
    char a[65], b[65];
    mra_sha256_file(file_in("one", "weights.safetensors"), a, NULL);
    mra_sha256_file(file_in("other", "weights.safetensors"), b, NULL);
    assert_string_not_equal(a, b);
}

// A run that is stopped wherever an alarm finds it, again and again, ends like one that is not.
static void test_stopped(void **state)
{
    (void)state;
    mra_error err = {0};
    const char *const lines[] = {"train.steps=100", NULL};
    assert_int_equal(train("whole", lines, 2, NULL, NULL, &err), MRA_OK);
    mra_status status = MRA_INTERRUPTED;
    for (int i = 0; status == MRA_INTERRUPTED; i++) {
        stop_after(i == 0 ? 1 : 5 * i);
        status = train("parts", lines, 1 + i % 2, &stop, NULL, &err);
        if (status == MRA_INTERRUPTED) assert_non_null(strstr(err.message, "goes on"));
    }
    stop_after(0);
    if (status != MRA_OK) fail_msg("%s", err.message);
    same_file(file_in("whole", "weights.safetensors"), file_in("parts", "weights.safetensors"));
    same_log(file_in("whole", "log.tsv"), file_in("parts", "log.tsv"));
}

// A stop before the first step leaves a checkpoint of step 0; rows written after a checkpoint by a run that was
// then killed are cut off.
static void test_cut_log(void **state)
{
    (void)state;
    mra_error err;
    volatile sig_atomic_t at_once = 1;
    assert_int_equal(train("cut", NULL, 1, &at_once, NULL, &err), MRA_INTERRUPTED);
    FILE *log = fopen(file_in("cut", "log.tsv"), "a");
    fputs("5\ttrain\t0.1\t1.0\t0.1\t9\t9\n6\ttra", log);
    fclose(log);
    assert_int_equal(train("cut", NULL, 1, NULL, NULL, &err), MRA_OK);
    assert_int_equal(train("uncut", NULL, 1, NULL, NULL, &err), MRA_OK);
    same_log(file_in("cut", "log.tsv"), file_in("uncut", "log.tsv"));
    same_file(file_in("cut", "weights.safetensors"), file_in("uncut", "weights.safetensors"));
}

// A run that died after its last checkpoint evaluates on dev no second time, tests again, and ends the same.
static void test_died_at_the_end(void **state)
{
    (void)state;
    mra_error err;
    const char *const lines[] = {"train.eval_every=8", "train.checkpoint_every=8", NULL};
    assert_int_equal(train("lived", lines, 1, NULL, NULL, &err), MRA_OK);
    assert_int_equal(train("died", lines, 1, NULL, NULL, &err), MRA_OK);
    assert_int_equal(unlink(file_in("died", "result.tsv")), 0);
    assert_int_equal(unlink(file_in("died", "weights.safetensors")), 0);
    assert_int_equal(train("died", lines, 1, NULL, NULL, &err), MRA_OK);
    same_log(file_in("lived", "log.tsv"), file_in("died", "log.tsv"));
    same_file(file_in("lived", "weights.safetensors"), file_in("died", "weights.safetensors"));
}

// ---- The end of a run -----------------------------------------------------------------------------

static void test_finished(void **state)
{
    (void)state;
    mra_error err;
    mra_train_result first, second;
    char before[65], after[65];
    assert_int_equal(train("finished", NULL, 1, NULL, &first, &err), MRA_OK);
    mra_sha256_file(file_in("finished", "log.tsv"), before, NULL);
    assert_int_equal(train("finished", NULL, 1, NULL, &second, &err), MRA_OK);
    mra_sha256_file(file_in("finished", "log.tsv"), after, NULL);
    assert_string_equal(before, after);
    assert_int_equal(first.test.right[0], second.test.right[0]);
    assert_int_equal(first.best_step, second.best_step);
    assert_int_equal(first.weights, second.weights);
    assert_int_equal(first.dev.right[0], second.dev.right[0]);

    // The weights that are left behind are those that were tested.
    setup loaded = {0};
    mra_device *device;
    mra_classifier *model;
    mra_task *task;
    mra_prefetch *prefetch;
    mra_tape *tape;
    mra_evaluation evaluation;
    assert_int_equal(mra_settings_create(&loaded.settings, &err), MRA_OK);
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    if (mra_train_load(scratch_path("finished"), device, loaded.settings, &loaded.options,
                       &model, &err) != MRA_OK)
        fail_msg("%s", err.message);
    const mra_task_run run = {.device = device, .quiet = true};
    assert_int_equal(loaded.options.task->open(&task, &loaded.options, &run, &err), MRA_OK);
    assert_int_equal(mra_prefetch_create(&prefetch, task, true, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    float *weights = calloc(task->parameters->size, sizeof *weights);
    assert_int_equal(mra_parameters_to_host(&model->parameters, weights, &err), MRA_OK);
    assert_int_equal(mra_parameters_from_host(task->parameters, weights, &err), MRA_OK);
    free(weights);
    assert_int_equal(
        mra_evaluate(task, tape, prefetch, NULL, MRA_TEST, NULL, NULL, NULL, &evaluation, &err),
        MRA_OK);
    assert_int_equal(evaluation.examples, first.test.examples);
    assert_int_equal(evaluation.right[0], first.test.right[0]);
    mra_tape_free(tape);
    mra_prefetch_free(prefetch);
    task->kind->close(task);
    mra_classifier_free(model);
    mra_device_close(device);
    mra_settings_free(loaded.settings);
}

static void test_divergence(void **state)
{
    (void)state;
    mra_error err = {0};
    const char *const lines[] = {"train.learning_rate=1e9", NULL};
    assert_int_equal(train("diverged", lines, 1, NULL, NULL, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "diverged"));
    assert_non_null(strstr(err.message, "step"));
    assert_true(mra_file_exists(file_in("diverged", "checkpoint.safetensors")));
    assert_false(mra_file_exists(file_in("diverged", "weights.safetensors")));
    mra_error again = {0}; // it goes on from the same state to the same end
    assert_int_equal(train("diverged", lines, 2, NULL, NULL, &again), MRA_BAD_INPUT);
    assert_string_equal(err.message, again.message);
}

// A loss that stays above a multiple of its lowest ends the run at the same step, however often it is stopped before.
static void test_going_nowhere(void **state)
{
    (void)state;
    mra_error err = {0}, again = {0};
    mra_table *table;
    double step = 0;
    const char *const lines[] = {"train.learning_rate=3", "train.diverge_factor=1.2",
                                 "train.diverge_steps=4", NULL};
    assert_int_equal(train("nowhere", lines, 1, NULL, NULL, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "above 1.2 times its lowest"));
    assert_int_equal(mra_table_read(&table, file_in("nowhere", "diverged.tsv"), NULL), MRA_OK);
    assert_int_equal(mra_table_number(table, 0, 0, &step, NULL), MRA_OK);
    assert_true(step >= 5 && step < 24);
    mra_table_free(table);
    assert_false(mra_file_exists(file_in("nowhere", "result.tsv")));
    assert_int_equal(train("nowhere", lines, 2, NULL, NULL, &again), MRA_BAD_INPUT);
    assert_string_equal(err.message, again.message);
    const char *const patient[] = {"train.diverge_factor=1.2", "train.diverge_steps=24", NULL};
    assert_int_equal(train("patient", patient, 1, NULL, NULL, &err), MRA_OK);
}

// Batches that a thread prepares, and a step in parts that is stopped now and then, change nothing.
static void test_parts(void **state)
{
    (void)state;
    mra_error err;
    const char *const asked[] = {"train.accumulate=3", NULL};
    const char *const ahead[] = {"train.accumulate=3", "train.prefetch=yes", NULL};
    assert_int_equal(train("asked", asked, 1, NULL, NULL, &err), MRA_OK);
    mra_status status = MRA_INTERRUPTED;
    for (int i = 0; status == MRA_INTERRUPTED; i++) {
        stop_after(1 + 5 * i);
        status = train("ahead", ahead, 2, &stop, NULL, &err);
    }
    stop_after(0);
    if (status != MRA_OK) fail_msg("%s", err.message);
    same_file(file_in("asked", "weights.safetensors"), file_in("ahead", "weights.safetensors"));
    same_log(file_in("asked", "log.tsv"), file_in("ahead", "log.tsv"));
}

// ---- Checkpoints that cannot be used --------------------------------------------------------------

static void refuse_folder(const char *folder, const char *const *lines, const char *expected)
{
    mra_error err = {0};
    assert_int_equal(train(folder, lines, 1, NULL, NULL, &err), MRA_BAD_INPUT);
    if (!strstr(err.message, expected)) fail_msg("'%s' without %s", err.message, expected);
}

static void test_foreign_checkpoints(void **state)
{
    (void)state;
    mra_error err;
    volatile sig_atomic_t at_once = 1;
    assert_int_equal(train("foreign", NULL, 1, &at_once, NULL, &err), MRA_INTERRUPTED);
    refuse_folder("foreign", (const char *const[]){"train.steps=25", NULL},
                  "there train.steps=24, here train.steps=25");
    refuse_folder("foreign", (const char *const[]){"model.dim=8", NULL}, "model.dim=16");
    refuse_folder("foreign", (const char *const[]){"train.seed=9", NULL}, "train.seed=1");
    // The number of steps between checkpoints decides nothing and may change.
    const char *const lines[] = {"train.checkpoint_every=3", NULL};
    assert_int_equal(train("foreign", lines, 1, NULL, NULL, &err), MRA_OK);
}

static void test_damaged_checkpoints(void **state)
{
    (void)state;
    mra_error err;
    size_t bytes = 0;
    volatile sig_atomic_t at_once = 1;
    assert_int_equal(train("damaged", NULL, 1, &at_once, NULL, &err), MRA_INTERRUPTED);
    char *whole = scratch_read(file_in("damaged", "checkpoint.safetensors"), &bytes);
    scratch_write("damaged/checkpoint.safetensors", whole, bytes - 100);
    refuse_folder("damaged", NULL, "checkpoint.safetensors");
    char *step = memmem(whole, bytes, "\"step\":\"0\"", 10);
    assert_non_null(step);
    step[8] = 'x';
    scratch_write("damaged/checkpoint.safetensors", whole, bytes);
    refuse_folder("damaged", NULL, "metadata step");
    step[8] = '0';
    char *name = memmem(whole, bytes, "moment1/head", 12);
    name[6] = '3';
    scratch_write("damaged/checkpoint.safetensors", whole, bytes);
    refuse_folder("damaged", NULL, "no array moment1/head");
    name[6] = '1';
    scratch_write("damaged/checkpoint.safetensors", "nonsense", 8);
    refuse_folder("damaged", NULL, "checkpoint.safetensors");
    scratch_write("damaged/checkpoint.safetensors", whole, bytes);
    scratch_write_text("damaged/log.tsv", "step\n");
    refuse_folder("damaged", NULL, "log.tsv has 5 bytes");
    free(whole);
}

// Two processes cannot train in one folder.
static void test_locked(void **state)
{
    (void)state;
    mra_error err;
    volatile sig_atomic_t at_once = 1;
    assert_int_equal(train("locked", NULL, 1, &at_once, NULL, &err), MRA_INTERRUPTED);
    int log = open(file_in("locked", "log.tsv"), O_RDWR);
    assert_int_equal(flock(log, LOCK_EX), 0);
    refuse_folder("locked", NULL, "another process");
    close(log);
    assert_int_equal(train("locked", NULL, 1, NULL, NULL, &err), MRA_OK);
}

static void test_bad_weights(void **state)
{
    (void)state;
    mra_error err = {0};
    mra_device *device;
    mra_settings *settings;
    mra_train_options options;
    mra_classifier *model;
    assert_int_equal(train("weights", NULL, 1, NULL, NULL, &err), MRA_OK);
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    size_t bytes = 0;
    char *whole = scratch_read(file_in("weights", "weights.safetensors"), &bytes);
    char *name = memmem(whole, bytes, "head.expand.bias", 16);
    name[0] = 'H';
    scratch_write("weights/weights.safetensors", whole, bytes);
    assert_int_equal(mra_settings_create(&settings, &err), MRA_OK);
    assert_int_equal(
        mra_train_load(scratch_path("weights"), device, settings, &options, &model, &err),
        MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "no array head.expand.bias"));
    assert_null(model);
    mra_settings_free(settings);
    assert_int_equal(mra_settings_create(&settings, &err), MRA_OK);
    assert_int_equal(
        mra_train_load(scratch_path("nowhere"), device, settings, &options, &model, &err),
        MRA_IO);
    mra_settings_free(settings);
    mra_device_close(device);
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_text),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_bad_runs),
        cmocka_unit_test(test_learning),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_cut_log),
        cmocka_unit_test(test_died_at_the_end),
        cmocka_unit_test(test_finished),
        cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_going_nowhere),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_foreign_checkpoints),
        cmocka_unit_test(test_damaged_checkpoints),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_bad_weights),
    };
    return cmocka_run_group_tests_name("nn/train", tests, scratch_make, scratch_remove);
}
