// Training on class folders: settings, what is in a batch, the same bits for any number of threads and however often a run is
// stopped, learning, and pictures that are none.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../data/picture.h"
#include "../io/jpeg.h"
#include "data/image_folder.h"
#include "nn/train.h"
#include "same_run.h"

enum { CLASSES = 6, TRAIN = 3, VAL = 2, SIDE = 16, PIXELS = 3 * SIDE * SIDE };
static mra_error err;
static char pictures[300], data_line[320];

// Pictures of a colour of its class, with noise; one class is grayscale. `broken` (may be NULL) is a file that is cut off.
static void write_pictures(const char *folder, const char *broken)
{
    mra_random random = mra_random_open(fresh_seed(), 31);
    for (int i = 0; i < CLASSES * (TRAIN + VAL); i++) {
        const int class = i % CLASSES, number = i / CLASSES;
        const char *split = number < TRAIN ? "train" : "val";
        char name[120], in[80];
        size_t bytes;
        mra_image image = noise(&random, SIDE, SIDE);
        for (int b = 0; b < PIXELS; b++)
            image.rgb[b] =
                (uint8_t)(image.rgb[b] / 4 + ((class + 1) >> (b % 3) & 1 ? 160 : 20));
        unsigned char *jpeg =
            jpeg_encode(image.rgb, SIDE, SIDE, class == 4 ? 1 : 3, 90, &bytes);
        snprintf(in, sizeof in, "%.40s/%s/c%d", folder, split, class);
        assert_int_equal(mra_make_folder(scratch_path(in), &err), MRA_OK);
        snprintf(name, sizeof name, "%s/%d.JPEG", in, number);
        const bool cut = broken && strstr(name, broken);
        scratch_write(name, jpeg, cut ? bytes / 2 : bytes);
        free(jpeg);
        mra_image_free(&image);
    }
}

static int make_pictures(void **state)
{
    if (scratch_make(state) != 0) return -1;
    write_pictures("pictures", NULL);
    snprintf(pictures, sizeof pictures, "%s", scratch_path("pictures"));
    snprintf(data_line, sizeof data_line, "data.folder=%s", pictures);
    return 0;
}

// A small training; later lines replace earlier ones.
static const char *const small[] = {"task.name=imagenet",
                                    data_line,
                                    "model.size=16",
                                    "model.patch=4",
                                    "model.stride=2",
                                    "model.padding=1",
                                    "model.dim=16",
                                    "model.head_dim=8",
                                    "model.hidden=16",
                                    "model.layers=1",
                                    "attention.method=mra2",
                                    "attention.blocks=1",
                                    "attention.grid=8x8",
                                    "train.steps=14",
                                    "train.warmup=3",
                                    "train.batch=7",
                                    "train.learning_rate=3e-3",
                                    "train.log_every=4",
                                    "train.eval_every=6",
                                    "train.checkpoint_every=5",
                                    NULL};

static mra_status read_lines(mra_settings **settings, mra_train_options *options,
                             const char *const *lines)
{
    assert_int_equal(mra_settings_create(settings, &err), MRA_OK);
    mra_status status = MRA_OK;
    for (int i = 0; small[i] && status == MRA_OK; i++)
        status = mra_settings_override(*settings, small[i], &err);
    for (int i = 0; lines && lines[i] && status == MRA_OK; i++)
        status = mra_settings_override(*settings, lines[i], &err);
    return status == MRA_OK ? mra_train_options_read(options, *settings, &err) : status;
}

static mra_status train(const char *folder, const char *const *lines, int threads,
                        const volatile sig_atomic_t *stopped, mra_train_result *result)
{
    mra_settings *settings;
    mra_train_options options;
    mra_device *device;
    if (read_lines(&settings, &options, lines) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(mra_device_open(&device, "cpu", threads, &err), MRA_OK);
    const mra_train_run run = {
        .folder = scratch_path(folder), .device = device, .quiet = true, .stop = stopped};
    const mra_status status = mra_train(&options, &run, result, &err);
    mra_device_close(device);
    mra_settings_free(settings);
    return status;
}

// ---- Settings -------------------------------------------------------------------------------------

static void settings_text(void **state)
{
    (void)state;
    static const char *const lines[] = {"data.classes=5",
                                        "data.train=17",
                                        "data.val=9",
                                        "data.seed=8",
                                        "model.heads=1",
                                        "model.dropout=0.25",
                                        "augment.area_low=0.25",
                                        "augment.area_high=0.5",
                                        "augment.aspect_low=0.5",
                                        "augment.aspect_high=2",
                                        "augment.flip=0.125",
                                        "augment.rand_augment=0",
                                        "augment.magnitude=7",
                                        "augment.deviation=0.75",
                                        "augment.jitter=0.375",
                                        "augment.jitter_always=1",
                                        "augment.crop=0.875",
                                        "model.hidden_dropout=0.5",
                                        NULL};
    char text[3000], again[3000];
    mra_settings *settings;
    mra_train_options options;
    if (read_lines(&settings, &options, lines) != MRA_OK) fail_msg("%s", err.message);
    const size_t bytes = mra_train_options_text(&options, text, sizeof text);
    assert_int_equal(bytes, strlen(text) + 1);
    for (int i = 0; lines[i]; i++)
        if (!strstr(text, lines[i])) fail_msg("no %s in\n%s", lines[i], text);
    for (int i = 0; i < 13; i++)
        if (!strstr(text, small[i])) fail_msg("no %s in\n%s", small[i], text);
    assert_non_null(strstr(text, "model.positions=64\n"));
    const mra_imagenet_options *own = &options.imagenet;
    assert_int_equal(own->augment.size, 16);
    assert_true(own->model.encoder.hidden_dropout == 0.5 && !own->augment.rand_augment);
    mra_settings_free(settings);
    assert_int_equal(mra_settings_create(&settings, &err), MRA_OK);
    assert_int_equal(mra_train_options_restore(settings, text, &err), MRA_OK);
    assert_int_equal(mra_train_options_read(&options, settings, &err), MRA_OK);
    mra_train_options_text(&options, again, sizeof again);
    assert_string_equal(text, again);
    mra_settings_free(settings);
}

static void the_published_defaults(void **state)
{
    (void)state;
    mra_settings *settings;
    mra_train_options options;
    assert_int_equal(mra_settings_create(&settings, &err), MRA_OK);
    assert_int_equal(mra_settings_override(settings, "task.name=imagenet", &err), MRA_OK);
    if (mra_train_options_read(&options, settings, &err) != MRA_OK) fail_msg("%s", err.message);
    const mra_encoder_options *e = &options.imagenet.model.encoder;
    const mra_stem *stem = &options.imagenet.model.stem;
    assert_true(e->dim == 128 && e->hidden == 512 && e->heads == 2 && e->head_dim == 64);
    assert_true(e->blocks == 4 && e->positions == 1024 && e->dropout == 0.1 &&
                e->hidden_dropout == 0.1);
    assert_true(stem->size == 224 && stem->patch == 14 && stem->stride == 7 &&
                stem->padding == 5);
    assert_int_equal(options.imagenet.augment.size, 224);
    mra_settings_free(settings);
}

static void refused_line(const char *line, const char *part)
{
    mra_settings *settings;
    mra_train_options options;
    const char *const lines[] = {line, NULL};
    assert_int_equal(read_lines(&settings, &options, lines), MRA_BAD_INPUT);
    if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part);
    mra_settings_free(settings);
}

static void bad_settings(void **state)
{
    (void)state;
    refused_line("model.positions=65", "model.positions=65: expected 8 x 8");
    refused_line("augment.crop=0", "crop 0");
    refused_line("augment.flip=2", "flip 2");
    refused_line("augment.colour=1", "augment.colour");
    refused_line("model.pooling=all", "model.pooling");
    refused_line("model.size=0", "model.size");
    static const char *const bad[][2] = {{"attention.grid=4x8", "grid"},
                                         {"model.patch=40", "patch 40, stride 2"},
                                         {"data.classes=1", "1 classes"},
                                         {"data.folder=nowhere", "nowhere"},
                                         {"train.accumulate=7", NULL}};
    for (int i = 0; i < 5; i++) {
        const char *const lines[] = {bad[i][0], i == 4 ? "data.train=5" : NULL, NULL};
        const mra_status status = train("refused", lines, 1, NULL, NULL);
        assert_int_equal(status, i == 3 ? MRA_ABSENT : MRA_BAD_INPUT);
        if (!strstr(err.message, bad[i][1] ? bad[i][1] : "fewer than one a part"))
            fail_msg("%s", err.message);
    }
}

// ---- Batches --------------------------------------------------------------------------------------

// Which training picture a row is, of those at `all`.
static int picture_of(const float *row, const float *all)
{
    for (int i = 0; i < CLASSES * TRAIN; i++)
        if (memcmp(row, all + i * PIXELS, PIXELS * sizeof *row) == 0) return i;
    fail_msg("a row is no training picture");
    return -1;
}

// All training pictures as an epoch has them: as they are, or transformed.
static void expect(const mra_image_folder *set, const mra_augment *augment, bool plain,
                   uint64_t epoch, float *all)
{
    mra_augment as_it_is = *augment;
    as_it_is.crop = 1;
    for (size_t i = 0; i < CLASSES * TRAIN; i++) {
        const mra_image_batch one = {.index = &i,
                                     .count = 1,
                                     .augment = plain ? &as_it_is : augment,
                                     .train = !plain,
                                     .epoch = epoch};
        assert_int_equal(mra_image_folder_batch(set, &one, all + i * PIXELS, NULL, &err), 0);
    }
}

enum { ROWS = 7, STEPS = 2 }; // of an epoch

// Prepares one step, whole and in three parts, and finds its rows among `all`.
static void check_step(mra_task *task, uint64_t step, const mra_image_folder *set,
                       const float *all, bool *seen, int *order)
{
    void *batch;
    assert_int_equal(task->kind->batch_create(task, &batch, &err), MRA_OK);
    const mra_image_examples *examples = batch;
    float whole[ROWS * PIXELS];
    mra_portion portion = {MRA_TRAIN, step, 0, 1};
    assert_int_equal(task->kind->prepare(task, &portion, batch, &err), MRA_OK);
    assert_int_equal(examples->count, ROWS);
    memcpy(whole, examples->pixels, sizeof whole);
    for (int row = 0; row < ROWS; row++) {
        const int i = picture_of(whole + row * PIXELS, all);
        assert_false(seen[i]);
        seen[i] = true;
        order[row] = i;
        assert_int_equal(examples->labels[row],
                         mra_image_folder_label(set, MRA_TRAIN, (size_t)i));
    }
    int row = 0;
    for (portion.parts = 3; portion.part < 3; portion.part++) {
        assert_int_equal(task->kind->prepare(task, &portion, batch, &err), MRA_OK);
        assert_memory_equal(examples->pixels, whole + row * PIXELS,
                            (size_t)examples->count * PIXELS * sizeof *whole);
        row += examples->count;
    }
    assert_int_equal(row, ROWS);
    // Of an evaluation, 12 pictures in batches of 7, the last two rows are not counted.
    assert_int_equal(task->kind->batches(task, MRA_DEV), 2);
    portion = (mra_portion){MRA_TEST, 1, 0, 1};
    assert_int_equal(task->kind->prepare(task, &portion, batch, &err), MRA_OK);
    for (row = 0; row < ROWS; row++) assert_true((examples->labels[row] < 0) == (row > 4));
    task->kind->batch_free(batch);
}

// An epoch has each training picture once, but for those that fill no batch, in an order of its own, transformed as
// its number says; parts of a step make up the step. Without a crop, a flip or a change of colour the rows are the pictures.
static void what_is_in_a_batch(void **state)
{
    (void)state;
    static const char *const as_they_are[] = {"augment.area_low=1",
                                              "augment.aspect_low=1",
                                              "augment.aspect_high=1",
                                              "augment.flip=0",
                                              "augment.rand_augment=no",
                                              "augment.jitter=0",
                                              NULL};
    for (int plain = 0; plain < 2; plain++) {
        mra_settings *settings;
        mra_train_options options;
        mra_device *device;
        mra_task *task;
        mra_image_folder *set;
        static float all[CLASSES * TRAIN * PIXELS];
        assert_int_equal(read_lines(&settings, &options, plain ? as_they_are : NULL), MRA_OK);
        assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
        const mra_task_run run = {.device = device, .quiet = true};
        assert_int_equal(options.task->open(&task, &options, &run, &err), MRA_OK);
        const mra_image_folder_options data = {.path = pictures, .quiet = true};
        assert_int_equal(mra_image_folder_open(&set, &data, &err), MRA_OK);
        int orders[2][STEPS * ROWS];
        for (int epoch = 0; epoch < 2; epoch++) {
            bool seen[CLASSES * TRAIN] = {false};
            expect(set, &options.imagenet.augment, plain, (uint64_t)epoch, all);
            for (int step = 0; step < STEPS; step++)
                check_step(task, (uint64_t)(epoch * STEPS + step), set, all, seen,
                           orders[epoch] + step * ROWS);
        }
        assert_memory_not_equal(orders[0], orders[1], sizeof orders[0]);
        mra_image_folder_free(set);
        options.task->close(task);
        mra_device_close(device);
        mra_settings_free(settings);
    }
}

// ---- Training -------------------------------------------------------------------------------------

static void the_same_bits(void **state)
{
    (void)state;
    static const char *const asked[] = {"train.prefetch=no", NULL};
    mra_train_result result;
    if (train("one", asked, 1, NULL, &result) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(result.test.examples, CLASSES * VAL);
    assert_int_equal(result.dev.examples, CLASSES * VAL);
    assert_true(result.dev.right[1] >= result.dev.right[0]);
    assert_true(result.test_majority > 0.16 && result.test_majority < 0.17);
    assert_int_equal(train("two", NULL, 2, NULL, NULL), MRA_OK);
    same_file(file_in("one", "weights.safetensors"), file_in("two", "weights.safetensors"));
    same_log(file_in("one", "log.tsv"), file_in("two", "log.tsv"));
    // Stopped wherever an alarm finds it, again and again.
    mra_status status = MRA_INTERRUPTED;
    for (int i = 0; status == MRA_INTERRUPTED; i++) {
        stop_after(i == 0 ? 1 : 7 * i);
        status = train("parts", NULL, 1 + i % 2, &stop, NULL);
    }
    stop_after(0);
    if (status != MRA_OK) fail_msg("%s", err.message);
    same_file(file_in("one", "weights.safetensors"), file_in("parts", "weights.safetensors"));
    same_log(file_in("one", "log.tsv"), file_in("parts", "log.tsv"));
    // dev and test of fewer pictures.
    static const char *const fewer[] = {"train.dev_examples=3", "train.test_examples=5",
                                        "train.steps=4", NULL};
    assert_int_equal(train("fewer", fewer, 1, NULL, &result), MRA_OK);
    assert_int_equal(result.dev.examples, 3);
    assert_int_equal(result.test.examples, 5);
}

static void colours_are_learned(void **state)
{
    (void)state;
    static const char *const lines[] = {"train.steps=90",          "train.learning_rate=1e-2",
                                        "train.batch=18",          "train.eval_every=90",
                                        "augment.rand_augment=no", "augment.jitter=0",
                                        "model.dropout=0",         NULL};
    mra_train_result result;
    if (train("colours", lines, 2, NULL, &result) != MRA_OK) fail_msg("%s", err.message);
    if (!(result.test.right[0] >= 9)) // of 12; by chance 2
        fail_msg("%d of 12 are right", (int)result.test.right[0]);
}

static void pictures_that_are_none(void **state)
{
    (void)state;
    char line[400];
    const char *const lines[] = {line, NULL};
    write_pictures("cut", "train/c3/1.JPEG");
    snprintf(line, sizeof line, "data.folder=%s", scratch_path("cut"));
    assert_int_equal(train("of-cut", lines, 2, NULL, NULL), MRA_BAD_INPUT);
    if (!strstr(err.message, "cut/train/c3/1.JPEG: no whole JPEG")) fail_msg("%s", err.message);
    assert_false(mra_file_exists(file_in("of-cut", "weights.safetensors")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_text),         cmocka_unit_test(the_published_defaults),
        cmocka_unit_test(bad_settings),          cmocka_unit_test(what_is_in_a_batch),
        cmocka_unit_test(the_same_bits),         cmocka_unit_test(colours_are_learned),
        cmocka_unit_test(pictures_that_are_none)};
    return cmocka_run_group_tests(tests, make_pictures, scratch_remove);
}
