// Small class folders for tests, packed and unpacked.
#ifndef MRA_TESTS_DATA_CLASS_FOLDERS_H
#define MRA_TESTS_DATA_CLASS_FOLDERS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/scratch.h"
#include "../io/jpeg.h"
#include "../io/pack.h"
#include "core/file.h"
#include "data/image_folder.h"
#include "picture.h"

enum { FILES = 8 };
static mra_error err;

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

// The members, in an order that is not that of the labels: eel 0, fox 1, foxglove 2, zebra 3. "fox" is the
// beginning of "foxglove".
static const char *const names[FILES] = {
    "train/zebra/b.JPEG", "train/fox/2.jpg",  "train/foxglove/1.JPEG", "val/foxglove/9.jpeg",
    "train/eel/a.JPEG",   "train/fox/10.JPG", "val/eel/c.JPEG",        "val/zebra/3.JPEG"};
static const int labels[FILES] = {3, 1, 2, 2, 0, 1, 0, 3};
static pack_file files[FILES + 6];
static int shape[FILES][2];

// Fresh pictures; every third is grayscale.
static inline int make_files(void **state)
{
    (void)state;
    mra_random random = mra_random_open(fresh_seed(), 11);
    for (int i = 0; i < FILES; i++) {
        shape[i][0] = 9 + (int)mra_random_below(&random, 40);
        shape[i][1] = 9 + (int)mra_random_below(&random, 40);
        mra_image image = noise(&random, shape[i][0], shape[i][1]);
        size_t bytes;
        unsigned char *jpeg =
            jpeg_encode(image.rgb, shape[i][0], shape[i][1], i % 3 ? 3 : 1, 90, &bytes);
        files[i] = (pack_file){names[i], jpeg, bytes};
        mra_image_free(&image);
    }
    return scratch_make(state);
}

static inline int free_files(void **state)
{
    for (int i = 0; i < FILES; i++) free((void *)files[i].data);
    return scratch_remove(state);
}

// The list with `count` members after the regular ones; what was there of an earlier test is dropped.
static inline const pack_file *with(const pack_file *more, int count)
{
    for (int i = 0; i < FILES; i++) files[i].name = names[i];
    for (int i = 0; i <= count; i++) files[FILES + i] = i < count ? more[i] : (pack_file){0};
    return files;
}

static inline const char *packed(const pack_file *list)
{
    const char *path = scratch_path("pictures.tar.gz");
    pack_files(path, list);
    return path;
}

static inline const char *unpacked(const char *folder, const pack_file *list)
{
    for (; list->name; list++) {
        char name[200];
        snprintf(name, sizeof name, "%s/%s", folder, list->name);
        char *slash = strrchr(name, '/');
        *slash = '\0';
        assert_int_equal(mra_make_folder(scratch_path(name), &err), MRA_OK);
        *slash = '/';
        scratch_write(name, list->data, list->bytes);
    }
    return scratch_path(folder);
}

static inline mra_image_folder *opened(const mra_image_folder_options *options)
{
    mra_image_folder *set;
    if (mra_image_folder_open(&set, options, &err) != MRA_OK) fail_msg("%s", err.message);
    return set;
}

static inline void refused(const char *path, const char *part)
{
    mra_image_folder *set;
    const mra_image_folder_options options = {.path = path, .cache = "", .quiet = true};
    const mra_status status = mra_image_folder_open(&set, &options, &err);
    assert_int_equal(status, strstr(part, "cannot read") ? MRA_ABSENT : MRA_BAD_INPUT);
    assert_null(set);
    assert_message(part);
}

// Which file of names[] a member is.
static inline int file_of(const char *name)
{
    for (int i = 0; i < FILES; i++) {
        const char *end = strstr(name, names[i]);
        if (end && strcmp(end, names[i]) == 0) return i;
    }
    fail_msg("%s is none of the pictures", name);
    return -1;
}

static inline void check_set(const mra_image_folder *set)
{
    static const char *const classes[] = {"eel", "fox", "foxglove", "zebra"};
    static const char *const order[] = {"train/eel/a.JPEG", "train/fox/10.JPG",
                                        "train/fox/2.jpg", "train/foxglove/1.JPEG",
                                        "train/zebra/b.JPEG"};
    const char *file = mra_image_folder_file(set);
    assert_true(!file || mra_file_exists(file));
    assert_int_equal(mra_image_folder_classes(set), 4);
    for (int c = 0; c < 4; c++) assert_string_equal(mra_image_folder_class(set, c), classes[c]);
    assert_int_equal(mra_image_folder_count(set, MRA_TRAIN), 5);
    assert_int_equal(mra_image_folder_count(set, MRA_DEV), 3);
    assert_int_equal(mra_image_folder_count(set, MRA_TEST), 3);
    for (int s = 0; s < MRA_SPLITS; s++)
        for (size_t i = 0; i < mra_image_folder_count(set, (mra_split)s); i++) {
            const char *name = mra_image_folder_name(set, (mra_split)s, i);
            const int f = file_of(name);
            mra_image image, expected;
            if (s == 0) assert_string_equal(names[f], order[i]);
            assert_int_equal(mra_image_folder_label(set, (mra_split)s, i), labels[f]);
            if (mra_image_folder_read(set, (mra_split)s, i, &image, &err) != MRA_OK)
                fail_msg("%s", err.message);
            assert_int_equal(image.width, shape[f][0]);
            assert_int_equal(image.height, shape[f][1]);
            const size_t pixels = (size_t)(image.width * image.height);
            assert_int_equal(
                mra_jpeg_decode(&expected, files[f].data, files[f].bytes, "", &err), MRA_OK);
            assert_memory_equal(image.rgb, expected.rgb, 3 * pixels);
            for (size_t p = 0; p < pixels && f % 3 == 0; p++)
                assert_true(image.rgb[3 * p] == image.rgb[3 * p + 1] &&
                            image.rgb[3 * p] == image.rgb[3 * p + 2]);
            mra_image_free(&image);
            mra_image_free(&expected);
        }
}

#endif
