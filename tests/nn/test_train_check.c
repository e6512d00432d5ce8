// What a training would need, said before it begins: against the training itself.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "nn/train.h"
#include "nn/train_check.h"

static const char *const small[] = {"data.train=20",
                                    "data.dev=8",
                                    "data.test=8",
                                    "data.minimum_length=4",
                                    "data.maximum_length=40",
                                    "model.dim=16",
                                    "model.heads=2",
                                    "model.head_dim=8",
                                    "model.hidden=16",
                                    "model.pooling=tokens",
                                    "train.steps=3",
                                    "train.warmup=1",
                                    "train.batch=8",
                                    "train.batching=bucketed",
                                    "train.eval_every=2",
                                    NULL};

// Checks the small setup with two more lines.
static mra_status check(const char *more, const char *another, bool timed, size_t *trained,
                        mra_train_check *result, mra_error *err)
{
    mra_settings *settings;
    mra_device *device;
    mra_train_options options;
    assert_int_equal(mra_settings_create(&settings, err), MRA_OK);
    for (int i = 0; small[i]; i++)
        assert_int_equal(mra_settings_override(settings, small[i], err), MRA_OK);
    if (more) assert_int_equal(mra_settings_override(settings, more, err), MRA_OK);
    if (another) assert_int_equal(mra_settings_override(settings, another, err), MRA_OK);
    assert_int_equal(mra_train_options_read(&options, settings, err), MRA_OK);
    assert_int_equal(mra_device_open(&device, "cpu", 1, err), MRA_OK);
    mra_status status = mra_train_check_run(&options, device, timed, result, err);
    if (status == MRA_OK && trained) {
        mra_train_result training;
        mra_train_run run = {.folder = scratch_path("run"), .device = device, .quiet = true};
        assert_int_equal(mra_train(&options, &run, &training, err), MRA_OK);
        *trained = training.weights;
    }
    mra_device_close(device);
    mra_settings_free(settings);
    return status;
}

static void test_same_weights(void **state)
{
    (void)state;
    mra_train_check result;
    mra_error err;
    size_t trained = 0;
    assert_int_equal(
        check("attention.method=linformer", "attention.k=7", false, &trained, &result, &err),
        MRA_OK);
    assert_int_equal(result.weights, trained);
    assert_true(result.present && result.step_seconds == 0.0 && result.seconds == 0.0);
}

// Steps, two evaluations of 8 and a test of 8: the sum that the estimate is.
static void test_estimate(void **state)
{
    (void)state;
    mra_train_check result;
    mra_error err;
    assert_int_equal(check("attention.method=mra2", NULL, true, NULL, &result, &err), MRA_OK);
    assert_true(result.step_seconds > 0.0 && result.example_seconds > 0.0);
    const double expected = 3.0 * result.step_seconds + 24.0 * result.example_seconds;
    assert_true(result.seconds > 0.999 * expected && result.seconds < 1.001 * expected);
}

// Where the data of any known name are looked for, and that of an unknown one.
static void test_data(void **state)
{
    (void)state;
    mra_train_check result;
    mra_error err;
    char folder[1200];
    snprintf(folder, sizeof folder, "data.folder=%s", scratch_path("nothing"));
    for (int i = 0; mra_dataset_known(i); i++) {
        char name[80];
        int vocabulary = 0, classes = 0;
        snprintf(name, sizeof name, "%s", mra_dataset_known(i));
        assert_int_equal(mra_dataset_about(name, &vocabulary, &classes, &err), MRA_OK);
        assert_true(vocabulary > classes && classes >= 2);
        mra_dataset_options options = mra_dataset_defaults(name);
        options.folder = folder + strlen("data.folder=");
        const bool drawn = strcmp(name, "pathfinder32") == 0;
        assert_int_equal(mra_dataset_find(&options, &err), drawn ? MRA_OK : MRA_ABSENT);
    }
    assert_int_equal(check("data.name=text", folder, false, NULL, &result, &err), MRA_OK);
    assert_true(!result.present && strstr(result.absent, "nothing"));
    assert_int_equal(check("data.name=nosuch", NULL, false, NULL, &result, &err),
                     MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "nosuch"));
    assert_int_equal(check("attention.method=nosuch", NULL, false, NULL, &result, &err),
                     MRA_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_weights),
        cmocka_unit_test(test_estimate),
        cmocka_unit_test(test_data),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
