// CIFAR-10 from archives packed here in both layouts, through the prepared copy, into splits; the real archive
// where MRA_DATA has it.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "../io/jpeg.h"
#include "../io/pack.h"
#include "core/file.h"
#include "data/cifar.h"
#include "data/data.h"
#include "data/prepared.h"
#include "io/image.h"

enum { RECORD = 3073, PER_BATCH = 3 };
static mra_error err;
static unsigned char batches[6][PER_BATCH * RECORD];

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

static unsigned char channel(int picture, int c, int pixel)
{
    return (unsigned char)(picture * 31 + c * 57 + pixel * (c + 1) + pixel / 32);
}

static const char *const batch_names[6] = {
    "cifar-10-batches-bin/data_batch_1.bin", "cifar-10-batches-bin/data_batch_2.bin",
    "cifar-10-batches-bin/data_batch_3.bin", "cifar-10-batches-bin/data_batch_4.bin",
    "cifar-10-batches-bin/data_batch_5.bin", "cifar-10-batches-bin/test_batch.bin"};

// Picture b * PER_BATCH + r in record r of batch b, label (picture % 10); members in reverse order.
static void pack_official(size_t bytes_of_first)
{
    pack_file members[8] = {{"cifar-10-batches-bin/readme.html", "no pictures", 11}};
    for (int b = 0; b < 6; b++) {
        for (int r = 0; r < PER_BATCH; r++) {
            unsigned char *record = batches[b] + r * RECORD;
            const int picture = b * PER_BATCH + r;
            record[0] = (unsigned char)(picture % 10);
            for (int c = 0; c < 3; c++)
                for (int p = 0; p < 1024; p++)
                    record[1 + 1024 * c + p] = channel(picture, c, p);
        }
        members[6 - b] = (pack_file){batch_names[b], batches[b],
                                     b == 0 ? bytes_of_first : sizeof batches[b]};
    }
    pack_files(scratch_path("cifar-10-binary.tar.gz"), members);
}

static mra_dataset_options image_options(void)
{
    mra_dataset_options options = mra_dataset_defaults("image");
    options.folder = scratch_folder;
    options.cache = "";
    options.quiet = true;
    options.held_out = 0;
    return options;
}

static void assert_picture(const mra_example *example, int picture)
{
    assert_int_equal(example->length, 1024);
    assert_int_equal(example->label, picture % 10);
    for (int p = 0; p < 1024; p++) {
        const double gray = (0.2989 * channel(picture, 0, p) + 0.5870 * channel(picture, 1, p) +
                             0.1140 * channel(picture, 2, p)) *
                            255.5 / 255;
        assert_int_equal(example->ids[p], 1 + (int)gray);
    }
}

static void check_pictures(const mra_dataset *data)
{
    assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 5 * PER_BATCH);
    assert_int_equal(mra_dataset_count(data, MRA_TEST), PER_BATCH);
    for (int i = 0; i < 5 * PER_BATCH; i++) {
        const mra_example example = mra_dataset_get(data, MRA_TRAIN, (size_t)i);
        assert_picture(&example, i);
    }
    for (int i = 0; i < PER_BATCH; i++) {
        const mra_example example = mra_dataset_get(data, MRA_TEST, (size_t)i);
        assert_picture(&example, 5 * PER_BATCH + i);
    }
}

static void the_official_layout(void **state)
{
    (void)state;
    pack_official(sizeof batches[0]);
    mra_dataset *data;
    const mra_dataset_options options = image_options();
    if (mra_dataset_open(&data, &options, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(mra_dataset_vocabulary(data), 257);
    assert_int_equal(mra_dataset_classes(data), 10);
    check_pictures(data);
    mra_dataset_free(data);
}

static void held_out_pictures(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = image_options();
    assert_int_equal(mra_dataset_defaults("image").held_out, 5000);
    options.held_out = 4;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 5 * PER_BATCH - 4);
    assert_int_equal(mra_dataset_count(data, MRA_DEV), 4);
    assert_int_equal(mra_dataset_count(data, MRA_TEST), PER_BATCH);
    mra_dataset_free(data);
    options.maximum_length = 1000;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("maximum length 1000: expected 1024");
}

// The copy is read in place of the archive, and one that is damaged is made again.
static void the_prepared_copy(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = image_options();
    char cache[400], path[700], sha256[65];
    snprintf(cache, sizeof cache, "%s", scratch_path("cache"));
    options.cache = cache;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    check_pictures(data);
    mra_dataset_free(data);
    assert_int_equal(mra_sha256_file(scratch_path("cifar-10-binary.tar.gz"), sha256, &err),
                     MRA_OK);
    snprintf(path, sizeof path, "%s/image-%.16s.bin", cache, sha256);
    for (int damage = 0; damage < 4; damage++) {
        size_t bytes = 0;
        char *copy = scratch_read(path, &bytes);
        mra_prepared prepared;
        mra_sequences splits[3] = {{0}};
        assert_true(mra_prepared_open(&prepared, path, sha256, splits));
        assert_int_equal(splits[0].count, 5 * PER_BATCH);
        assert_true(splits[0].items[0].borrowed);
        for (int s = 0; s < 3; s++) mra_sequences_free(&splits[s]);
        mra_prepared_close(&prepared);
        FILE *file = fopen(path, "wb");
        if (damage == 0) copy[bytes / 2] ^= 1; // a bit of an id
        if (damage == 1) copy[100] ^= 64;      // of a count
        if (damage == 2) copy[20] ^= 1;        // of the key
        fwrite(copy, 1, damage == 3 ? bytes - 7 : bytes, file);
        fclose(file);
        free(copy);
        assert_false(mra_prepared_open(&prepared, path, sha256, splits));
        assert_null(splits[0].items);
        assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
        check_pictures(data);
        mra_dataset_free(data);
    }
    // A folder that cannot be made is done without.
    options.cache = "/dev/null/no";
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    check_pictures(data);
    mra_dataset_free(data);
}

static void pairs_survive_the_copy(void **state)
{
    (void)state;
    const uint16_t first[] = {3, 1, 4}, second[] = {1, 5};
    mra_sequences splits[3] = {{0}}, read[3] = {{0}};
    mra_prepared prepared;
    char key[65];
    mra_sha256("pairs", 5, key);
    assert_true(mra_sequences_add_pair(&splits[1], first, 3, second, 2, 7));
    assert_int_equal(mra_prepared_write(scratch_path("pairs"), key, splits, &err), MRA_OK);
    assert_true(mra_prepared_open(&prepared, scratch_path("pairs"), key, read));
    assert_int_equal(read[0].count, 0);
    assert_int_equal(read[1].count, 1);
    assert_int_equal(read[1].items[0].length, 3);
    assert_int_equal(read[1].items[0].second, 2);
    assert_int_equal(read[1].items[0].label, 7);
    assert_memory_equal(read[1].items[0].ids, splits[1].items[0].ids, 5 * sizeof(uint16_t));
    mra_sequences_free(&splits[1]);
    mra_sequences_free(&read[1]);
    mra_prepared_close(&prepared);
}

static void damaged_records(void **state)
{
    (void)state;
    mra_dataset *data;
    const mra_dataset_options options = image_options();
    pack_official(sizeof batches[0] - 5);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("data_batch_1.bin: 9214 bytes: expected records of 3073 bytes");
    pack_official(sizeof batches[0]);
    batches[2][RECORD] = 10;
    pack_file members[2] = {{batch_names[2], batches[2], sizeof batches[2]}};
    pack_files(scratch_path("cifar-10-binary.tar.gz"), members);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("data_batch_3.bin: record 2: label 10: expected 0 to 9");
    batches[2][RECORD] = 9;
    pack_files(scratch_path("cifar-10-binary.tar.gz"), members);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("no pictures of CIFAR-10 for test");
    unlink(scratch_path("cifar-10-binary.tar.gz"));
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_ABSENT);
    assert_message("neither cifar-10-binary.tar.gz nor cifar10-jpeg.tar.xz");
}

// ---- Folders of JPEG ------------------------------------------------------------------------

static void pack_folders(const pack_file *members)
{
    pack_files(scratch_path("cifar10-jpeg.tar.xz"), members);
}

static void the_folders(void **state)
{
    (void)state;
    unsigned char pixels[1024 * 3];
    size_t bytes, wide_bytes;
    for (int i = 0; i < 1024 * 3; i++) pixels[i] = (unsigned char)(40 + i / 3 % 32 * 4);
    unsigned char *gray = jpeg_encode(pixels, 32, 32, 3, 100, &bytes);
    unsigned char *wide = jpeg_encode(pixels, 64, 16, 3, 100, &wide_bytes);
    pack_file members[5] = {{"cifar10-jpeg/train/truck/2.jpg", gray, bytes},
                            {"cifar10-jpeg/train/bird/1.jpg", gray, bytes},
                            {"cifar10-jpeg/README.md", "no picture", 10},
                            {"cifar10-jpeg/test/cat/7.jpg", gray, bytes}};
    mra_dataset *data;
    const mra_dataset_options options = image_options();
    pack_folders(members);
    if (mra_dataset_open(&data, &options, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 2);
    assert_int_equal(mra_dataset_get(data, MRA_TRAIN, 0).label, 2);
    assert_int_equal(mra_dataset_get(data, MRA_TRAIN, 1).label, 9);
    assert_int_equal(mra_dataset_get(data, MRA_TEST, 0).label, 3);
    for (int p = 0; p < 1024; p++) {
        const int expected = 41 + p % 32 * 4;
        assert_in_range(mra_dataset_get(data, MRA_TEST, 0).ids[p] + 3, expected, expected + 6);
    }
    mra_dataset_free(data);

    members[0].name = "cifar10-jpeg/train/lorry/2.jpg";
    pack_folders(members);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("train/lorry/2.jpg: expected a folder airplane");
    members[0] = (pack_file){"cifar10-jpeg/train/truck/2.jpg", wide, wide_bytes};
    pack_folders(members);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("truck/2.jpg: 64 x 16 pixels: expected 32 x 32");
    members[0] = (pack_file){"cifar10-jpeg/train/truck/2.jpg", gray, bytes / 2};
    pack_folders(members);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("truck/2.jpg: no whole JPEG");
    free(gray);
    free(wide);
}

static void the_real_archive(void **state)
{
    (void)state;
    char path[1024];
    mra_sequences train = {0}, test = {0};
    size_t counts[10] = {0};
    if (getenv("MRA_SANITIZED")) return;
    if (mra_cifar_find(NULL, path, sizeof path, &err) != MRA_OK) {
        printf("# not checked here: %s\n", err.message);
        return;
    }
    if (mra_cifar_read(&train, &test, path, true, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(train.count, MRA_CIFAR_TRAIN);
    assert_int_equal(test.count, MRA_CIFAR_TEST);
    for (size_t i = 0; i < train.count; i++) counts[train.items[i].label]++;
    for (int label = 0; label < 10; label++) assert_int_equal(counts[label], 5000);
    mra_sequences_free(&train);
    mra_sequences_free(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_official_layout), cmocka_unit_test(held_out_pictures),
        cmocka_unit_test(the_prepared_copy),   cmocka_unit_test(pairs_survive_the_copy),
        cmocka_unit_test(damaged_records),     cmocka_unit_test(the_folders),
        cmocka_unit_test(the_real_archive)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
