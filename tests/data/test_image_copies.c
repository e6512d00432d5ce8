// Prepared copies of class folders: made once, used, damaged, and found.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "class_folders.h"

// A path of the scratch folder that stays (scratch_path() has few buffers).
static const char *lasting(const char *path)
{
    static char paths[16][600];
    static int used;
    assert_true(used < 16);
    return strcpy(paths[used++], path);
}

// ---- Prepared copies ------------------------------------------------------------------------

// The one copy in the folder for them.
static const char *the_copy(void)
{
    static char path[600];
    int count = 0;
    DIR *folder = opendir(scratch_path("kept"));
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (*entry->d_name == '.') continue;
        snprintf(path, sizeof path, "%s/%s", scratch_path("kept"), entry->d_name);
        count++;
    }
    if (folder) closedir(folder);
    assert_int_equal(count, 1);
    return path;
}

enum { FOOT = 3 * 8 + 64 + 2 * 4 + 16 }; // bytes (data/picture_pack.c)

static void copies_of_archives(void **state)
{
    (void)state;
    const mra_image_folder_options options = {.path = lasting(packed(with(NULL, 0))),
                                              .cache = lasting(scratch_path("kept")),
                                              .quiet = true};
    size_t bytes = 0;
    char *first = NULL;
    for (int time = 0; time < 2; time++) { // made, then used
        mra_image_folder *set = opened(&options);
        check_set(set);
        assert_int_equal(mra_image_folder_verify(set, 2, true, &err), MRA_OK);
        mra_image_folder_free(set);
        if (!first) first = scratch_read(the_copy(), &bytes);
    }
    // Of every damage to it either a new copy is made, or the picture says so. Truncated ones are new.
    mra_random random = mra_random_open(fresh_seed(), 12);
    char *copy = malloc(bytes);
    for (int i = 0; i < 250; i++) {
        // First all bits of the three sizes at the end, which say how much there is to be read.
        const bool size = i < 24 * 8;
        const size_t at =
            size ? bytes - FOOT + (size_t)i / 8 : mra_random_below(&random, (uint32_t)bytes);
        memcpy(copy, first, bytes);
        copy[at] = (char)(copy[at] ^ (1 << (size ? i % 8 : (int)mra_random_below(&random, 8))));
        const size_t length = !size && i % 10 == 9 ? at : bytes;
        FILE *file = fopen(the_copy(), "wb");
        assert_int_equal(fwrite(copy, 1, length, file), length);
        fclose(file);
        mra_image_folder *set = opened(&options);
        if (mra_image_folder_verify(set, 1, true, &err) == MRA_OK)
            check_set(set);
        else
            assert_message("its prepared copy is damaged: delete it");
        mra_image_folder_free(set);
    }
    free(copy);
    free(first);
    // Where no copy can be written the pictures are there all the same.
    mra_image_folder_options other = options;
    other.cache = lasting(scratch_path("pictures.tar.gz/copies"));
    mra_image_folder *set = opened(&other);
    check_set(set);
    mra_image_folder_free(set);
}

static void prepared(void **state)
{
    (void)state;
    const char *copy = lasting(scratch_path("imagenet.bin"));
    char path[600];
    size_t count = 0;
    for (int folder = 0; folder < 2; folder++) {
        with(NULL, 0);
        const char *from = lasting(folder ? unpacked("to-prepare", files) : packed(files));
        assert_int_equal(mra_image_folder_prepare(from, copy, &count, true, &err), MRA_OK);
        assert_int_equal(count, FILES);
        const mra_image_folder_options options = {.path = copy, .cache = "", .quiet = true};
        mra_image_folder *set = opened(&options);
        check_set(set);
        mra_image_folder_free(set);
    }
    // What is found in a folder: the copy, before it the folder imagenet, and a folder with train/ itself.
    assert_int_equal(mra_image_folder_find(scratch_folder, path, sizeof path, &err), MRA_OK);
    assert_string_equal(path, copy);
    assert_int_equal(mra_image_folder_find(copy, path, sizeof path, &err), MRA_OK);
    assert_string_equal(path, copy);
    const char *named = lasting(unpacked("imagenet", files));
    assert_int_equal(mra_image_folder_find(scratch_folder, path, sizeof path, &err), MRA_OK);
    assert_string_equal(path, named);
    assert_int_equal(mra_image_folder_find(named, path, sizeof path, &err), MRA_OK);
    assert_string_equal(path, named);
    assert_int_equal(mra_image_folder_find(scratch_path("nowhere"), path, sizeof path, &err),
                     MRA_ABSENT);
    assert_message("tiny-imagenet-100.tar.xz");
    assert_message("MRA_DATA");
    // Nothing is left of one that fails.
    size_t bytes = 0;
    char *whole = scratch_read(packed(files), &bytes);
    const char *half = lasting(scratch_write("half.tar.gz", whole, bytes / 2));
    free(whole);
    const char *none = lasting(scratch_path("none.bin"));
    assert_int_equal(mra_image_folder_prepare(half, none, &count, true, &err), MRA_BAD_INPUT);
    assert_false(mra_file_exists(none));
    size_t end = 0;
    char *text = scratch_read(copy, &end);
    text[end - 100] ^= 1;
    refused(scratch_write("damaged.bin", text, end), "damaged.bin: a damaged copy of pictures");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_of_archives),
                                       cmocka_unit_test(prepared)};
    return cmocka_run_group_tests(tests, make_files, free_files);
}
