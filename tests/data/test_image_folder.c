// Class folders of photographs, packed and unpacked: labels, subsets, batches, and what is refused; the
// copies of ImageNet where MRA_DATA has them.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "class_folders.h"
#include "data/source.h"

enum { SIZE = 12 };

static void archive_and_folder(void **state)
{
    (void)state;
    const pack_file more[] = {{"train/eel/._a.JPEG", "of another system", 17},
                              {"classes.tsv", "no picture", 10},
                              {"train/eel/notes.txt", "no picture", 10},
                              {"other/eel/x.JPEG", "no split", 8},
                              {"train/fox/images/y.JPEG", "too deep", 8}};
    mra_image_folder_options options = {.cache = "", .quiet = true};
    options.path = packed(with(more, 5));
    mra_image_folder *set = opened(&options);
    check_set(set);
    mra_image_folder_free(set);
    options.path = unpacked("set", files);
    set = opened(&options);
    check_set(set);
    mra_image_folder_free(set);
    // Other folders above.
    char above[FILES][100];
    with(NULL, 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(above[i], sizeof above[i], "./ILSVRC/Data/%s", names[i]);
        files[i].name = above[i];
    }
    options.path = packed(files);
    set = opened(&options);
    check_set(set);
    mra_image_folder_free(set);
}

static void subsets(void **state)
{
    (void)state;
    int seen[FILES] = {0}, differ = 0;
    mra_image_folder_options options = {
        .path = packed(with(NULL, 0)), .train = 2, .val = 1, .cache = "", .quiet = true};
    for (uint64_t seed = 0; seed < 40; seed++) {
        options.seed = fresh_seed() + seed;
        mra_image_folder *set = opened(&options), *again = opened(&options);
        assert_int_equal(mra_image_folder_classes(set), 4);
        assert_int_equal(mra_image_folder_count(set, MRA_TRAIN), 2);
        assert_int_equal(mra_image_folder_count(set, MRA_TEST), 1);
        for (int s = 0; s < 2; s++)
            for (size_t i = 0; i < mra_image_folder_count(set, (mra_split)s); i++) {
                const char *name = mra_image_folder_name(set, (mra_split)s, i);
                const int f = file_of(name);
                mra_image image;
                seen[f]++;
                assert_string_equal(name, mra_image_folder_name(again, (mra_split)s, i));
                assert_int_equal(mra_image_folder_label(set, (mra_split)s, i), labels[f]);
                assert_int_equal(mra_image_folder_read(set, (mra_split)s, i, &image, &err),
                                 MRA_OK);
                assert_int_equal(image.width, shape[f][0]);
                mra_image_free(&image);
            }
        mra_image_folder_free(set);
        mra_image_folder_free(again);
    }
    for (int i = 0; i < FILES; i++) differ += seen[i] > 0;
    assert_int_equal(differ,
                     FILES); // a picture is missed by all 40 with probability below 1e-6
    // More than there are: all of them.
    options.train = 50, options.val = 3;
    mra_image_folder *set = opened(&options);
    check_set(set);
    mra_image_folder_free(set);
}

// Of four classes, two: eel and foxglove, numbers 0 and 2.
static void fewer_classes(void **state)
{
    (void)state;
    mra_image_folder_options options = {
        .path = packed(with(NULL, 0)), .cache = "", .classes = 2, .quiet = true};
    for (int cached = 0; cached < 2; cached++) {
        if (cached) options.cache = scratch_path("copies");
        mra_image_folder *set = opened(&options);
        assert_int_equal(mra_image_folder_classes(set), 2);
        assert_string_equal(mra_image_folder_class(set, 0), "eel");
        assert_string_equal(mra_image_folder_class(set, 1), "foxglove");
        assert_int_equal(mra_image_folder_count(set, MRA_TRAIN), 2);
        assert_int_equal(mra_image_folder_count(set, MRA_TEST), 2);
        for (int s = 0; s < 2; s++)
            for (size_t i = 0; i < 2; i++) {
                const int f = file_of(mra_image_folder_name(set, (mra_split)s, i));
                assert_int_equal(labels[f], i == 0 ? 0 : 2);
                assert_int_equal(mra_image_folder_label(set, (mra_split)s, i), i);
            }
        mra_image_folder_free(set);
    }
    // Any number of them: in order, evenly spread, each once.
    char many[30][40];
    pack_file list[31] = {{0}};
    for (int i = 0; i < 30; i++) {
        snprintf(many[i], sizeof many[i], "%s/c%02d/p.JPEG", i < 15 ? "train" : "val", i % 15);
        list[i] = (pack_file){many[i], files[0].data, files[0].bytes};
    }
    options = (mra_image_folder_options){.path = packed(list), .cache = "", .quiet = true};
    for (options.classes = 0; options.classes < 18; options.classes++) {
        mra_image_folder *set = opened(&options);
        const int kept = mra_image_folder_classes(set);
        assert_int_equal(kept, options.classes && options.classes < 15 ? options.classes : 15);
        for (int i = 0; i < kept; i++) {
            snprintf(many[0], sizeof many[0], "c%02d", i * 15 / kept);
            assert_string_equal(mra_image_folder_class(set, i), many[0]);
            for (int s = 0; s < 2; s++) {
                const char *name = mra_image_folder_name(set, (mra_split)s, (size_t)i);
                assert_non_null(strstr(name, many[0]));
                assert_int_equal(mra_image_folder_label(set, (mra_split)s, (size_t)i), i);
            }
        }
        mra_image_folder_free(set);
    }
}

static void only_val(void **state)
{
    (void)state;
    pack_file some[4] = {{0}};
    int count = 0;
    with(NULL, 0);
    for (int i = 0; i < FILES; i++)
        if (strncmp(names[i], "val", 3) == 0) some[count++] = files[i];
    const char *path = packed(some);
    refused(path, "no pictures in train/: expected train/CLASS/*.JPEG");
    mra_image_folder_options options = {
        .path = path, .val_only = true, .cache = "", .quiet = true};
    mra_image_folder *set = opened(&options);
    assert_int_equal(mra_image_folder_classes(set), 3);
    assert_int_equal(mra_image_folder_count(set, MRA_TRAIN), 0);
    assert_int_equal(mra_image_folder_label(set, MRA_TEST, 2), 2);
    mra_image_folder_free(set);
    // With train/ there, its classes count.
    options.path = packed(with(NULL, 0));
    set = opened(&options);
    assert_int_equal(mra_image_folder_classes(set), 4);
    assert_int_equal(mra_image_folder_count(set, MRA_TRAIN), 0);
    assert_int_equal(mra_image_folder_label(set, MRA_TEST, 2), 3);
    mra_image_folder_free(set);
}

static void what_is_refused(void **state)
{
    (void)state;
    const pack_file stranger = {"val/newt/1.JPEG", files[0].data, files[0].bytes};
    const pack_file loose = {"val/ILSVRC2012_val_00000001.JPEG", files[0].data, files[0].bytes};
    const pack_file twice = {"train/fox/2.jpg", files[0].data, files[0].bytes};
    refused(packed(with(&stranger, 1)),
            "pictures.tar.gz: picture val/newt/1.JPEG: no picture of this class is in train/");
    refused(unpacked("stranger", with(&stranger, 1)),
            "stranger: picture val/newt/1.JPEG: no picture of this class is in train/");
    refused(packed(with(&loose, 1)),
            "pictures.tar.gz: picture val/ILSVRC2012_val_00000001.JPEG: "
            "expected in a class folder");
    refused(unpacked("loose", with(&loose, 1)), "expected in a class folder");
    refused(packed(with(&twice, 1)), "member train/fox/2.jpg is there twice");
    with(NULL, 0);
    const pack_file trains[3] = {files[0], files[1]};
    refused(packed(trains), "no pictures in val/");
    refused(unpacked("trains", trains), "no pictures in val/");
    refused(scratch_path("nowhere"), "nowhere: cannot read");
    refused(scratch_write_text("text", "this is no archive"), "text: ");
    size_t bytes = 0;
    char *whole = scratch_read(packed(with(NULL, 0)), &bytes);
    refused(scratch_write("half.tar.gz", whole, bytes / 2), "half.tar.gz: ");
    free(whole);
}

// ---- Batches --------------------------------------------------------------------------------

static void batches(void **state)
{
    (void)state;
    const mra_image_folder_options options = {
        .path = packed(with(NULL, 0)), .cache = "", .quiet = true};
    mra_image_folder *set = opened(&options);
    mra_augment augment = mra_augment_defaults();
    augment.size = SIZE;
    augment.seed = fresh_seed();
    const size_t index[] = {4, 0, 2, 2, 1, 3}, each = 3 * SIZE * SIZE;
    static float one[6 * 3 * SIZE * SIZE], many[6 * 3 * SIZE * SIZE], alone[3 * SIZE * SIZE];
    int32_t label[6];
    for (int train = 0; train < 2; train++) {
        mra_image_batch batch = {.index = index, .count = 6, .augment = &augment, .threads = 1};
        batch.train = train;
        batch.epoch = 5;
        assert_int_equal(mra_image_folder_batch(set, &batch, one, label, &err), MRA_OK);
        batch.threads = 3;
        assert_int_equal(mra_image_folder_batch(set, &batch, many, NULL, &err), MRA_OK);
        assert_memory_equal(one, many, sizeof one);
        for (size_t i = 0; i < 6; i++) {
            mra_image image;
            assert_int_equal(label[i], mra_image_folder_label(set, MRA_TRAIN, index[i]));
            assert_int_equal(mra_image_folder_read(set, MRA_TRAIN, index[i], &image, &err),
                             MRA_OK);
            if (train)
                mra_augment_train(&augment, &image, 5, index[i], alone, &err);
            else
                mra_augment_evaluate(&augment, &image, alone, &err);
            assert_memory_equal(alone, one + i * each, sizeof alone);
            mra_image_free(&image);
        }
        batch.epoch = 6;
        assert_int_equal(mra_image_folder_batch(set, &batch, many, NULL, &err), MRA_OK);
        assert_int_equal(memcmp(one, many, sizeof one) != 0, train);
    }
    mra_image_folder_free(set);
}

static void batch_refused(const char *path, const char *first, const char *second)
{
    const mra_image_folder_options options = {.path = path, .cache = "", .quiet = true};
    mra_image_folder *set = opened(&options);
    mra_augment augment = mra_augment_defaults();
    augment.size = SIZE;
    // Of train/eel: a.JPEG is whole, the next three are not.
    const size_t index[] = {0, 2, 0, 1, 3};
    static float pixels[5 * 3 * SIZE * SIZE];
    mra_image_batch batch = {
        .index = index, .count = 5, .augment = &augment, .train = true, .threads = 2};
    assert_int_equal(mra_image_folder_batch(set, &batch, pixels, NULL, &err), MRA_BAD_INPUT);
    assert_message(second);
    batch.index = index + 2;
    batch.count = 2;
    assert_int_equal(mra_image_folder_batch(set, &batch, pixels, NULL, &err), MRA_BAD_INPUT);
    assert_message(first);
    batch.index = index + 4;
    batch.count = 1;
    assert_int_equal(mra_image_folder_batch(set, &batch, pixels, NULL, &err), MRA_BAD_INPUT);
    assert_message("eel/d.JPEG: no whole JPEG");
    mra_image_folder_free(set);
}

static void pictures_that_are_none(void **state)
{
    (void)state;
    static unsigned char ink[20 * 20 * 4];
    size_t bytes;
    unsigned char *cmyk = jpeg_encode(ink, 20, 20, 4, 90, &bytes);
    const pack_file more[] = {{"train/eel/b.JPEG", cmyk, bytes},
                              {"train/eel/c.JPEG", files[1].data, files[1].bytes * 2 / 3},
                              {"train/eel/d.JPEG", "", 0}};
    batch_refused(packed(with(more, 3)),
                  "pictures.tar.gz: member train/eel/b.JPEG: 4 colour components (CMYK)",
                  "pictures.tar.gz: member train/eel/c.JPEG: no whole JPEG");
    batch_refused(unpacked("broken", with(more, 3)),
                  "broken/train/eel/b.JPEG: 4 colour components (CMYK)",
                  "broken/train/eel/c.JPEG: no whole JPEG");
    free(cmyk);
    // A file that is gone when it is asked for.
    const mra_image_folder_options options = {
        .path = unpacked("gone", with(NULL, 0)), .cache = "", .quiet = true};
    mra_image_folder *set = opened(&options);
    mra_image image;
    unlink(scratch_path("gone/train/eel/a.JPEG"));
    assert_int_equal(mra_image_folder_read(set, MRA_TRAIN, 0, &image, &err), MRA_IO);
    assert_message("gone/train/eel/a.JPEG: cannot read: No such file");
    assert_null(image.rgb);
    mra_image_folder_free(set);
}

// ---- The real archives ----------------------------------------------------------------------

static const char *real(const char *const *archive)
{
    static char path[1024];
    if (getenv("MRA_SANITIZED")) return NULL;
    if (mra_data_find("imagenet", archive, NULL, path, sizeof path, &err) == MRA_OK)
        return path;
    printf("# not checked here: %s\n", err.message);
    return NULL;
}

// Full-size photographs, some gray: every one decodes and comes out centred and scaled.
static void the_sample(void **state)
{
    (void)state;
    static const char *const archive[] = {"imagenet-sample.tar", NULL};
    const mra_image_folder_options options = {
        .path = real(archive), .val_only = true, .cache = "", .quiet = true};
    if (!options.path) return;
    mra_image_folder *set = opened(&options);
    const mra_augment augment = mra_augment_defaults();
    enum { COUNT = 66, PIXELS = 3 * 224 * 224 };
    size_t index[COUNT];
    int32_t label[COUNT];
    float *pixels = malloc((size_t)COUNT * PIXELS * sizeof *pixels);
    assert_int_equal(mra_image_folder_count(set, MRA_TEST), COUNT);
    assert_int_equal(mra_image_folder_classes(set), COUNT);
    assert_string_equal(mra_image_folder_class(set, 0), "n01440764");
    for (size_t i = 0; i < COUNT; i++) index[i] = i;
    const mra_image_batch batch = {
        .split = MRA_TEST, .index = index, .count = COUNT, .augment = &augment, .threads = 2};
    if (mra_image_folder_batch(set, &batch, pixels, label, &err) != MRA_OK)
        fail_msg("%s", err.message);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < (size_t)COUNT * PIXELS; i++) {
        sum += (double)pixels[i];
        squares += (double)pixels[i] * (double)pixels[i];
    }
    const double mean = sum / COUNT / PIXELS;
    assert_true(fabs(mean) < 0.3);
    assert_true(fabs(sqrt(squares / COUNT / PIXELS - mean * mean) - 1) < 0.3);
    for (int i = 0; i < COUNT; i++) assert_int_equal(label[i], i);
    free(pixels);
    mra_image_folder_free(set);
}

static void the_small_copy(void **state)
{
    (void)state;
    static const char *const archive[] = {"tiny-imagenet-100.tar.xz", NULL};
    const mra_image_folder_options options = {
        .path = real(archive), .cache = scratch_path("copies"), .train = 200, .quiet = true};
    if (!options.path) return;
    mra_image_folder *set = opened(&options);
    assert_int_equal(mra_image_folder_classes(set), 101);
    assert_int_equal(mra_image_folder_count(set, MRA_TRAIN), 200);
    assert_int_equal(mra_image_folder_count(set, MRA_TEST), 5050);
    for (int c = 0; c < 5050; c++)
        assert_int_equal(mra_image_folder_label(set, MRA_TEST, (size_t)c), c / 50);
    for (size_t i = 0; i < 200; i++) {
        mra_image image;
        if (mra_image_folder_read(set, MRA_TRAIN, i, &image, &err) != MRA_OK)
            fail_msg("%s", err.message);
        assert_true(image.width == 64 && image.height == 64);
        mra_image_free(&image);
    }
    mra_image_folder_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(archive_and_folder),     cmocka_unit_test(subsets),
        cmocka_unit_test(fewer_classes),          cmocka_unit_test(only_val),
        cmocka_unit_test(what_is_refused),        cmocka_unit_test(batches),
        cmocka_unit_test(pictures_that_are_none), cmocka_unit_test(the_sample),
        cmocka_unit_test(the_small_copy)};
    return cmocka_run_group_tests(tests, make_files, free_files);
}
