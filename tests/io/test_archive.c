// Archives: every format, members skipped and read, and damage of every kind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "core/random.h"
#include "io/archive.h"
#include "pack.h"

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

static mra_error err;
static char large[200001]; // text that does not compress

static const char *const suffixes[] = {".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip"};

static const char *packed(const char *suffix)
{
    char name[40];
    snprintf(name, sizeof name, "a%s", suffix);
    const char *path = scratch_path(name);
    pack(path, (const pack_member[]){{"d/", NULL},
                                     {"d/one.txt", "first"},
                                     {"d/skipped", "not wanted"},
                                     {"d/large", large},
                                     {"d/empty", ""},
                                     {"d/last.txt", "x"},
                                     {NULL, NULL}});
    return path;
}

static int fill_large(void **state)
{
    mra_random random = mra_random_open(1, 2);
    for (size_t i = 0; i + 1 < sizeof large; i++)
        large[i] = (char)('!' + mra_random_below(&random, 90));
    return scratch_make(state);
}

static void members_in_order(void **state)
{
    (void)state;
    static const struct {
        const char *name, *data;
    } expected[] = {{"d/one.txt", "first"},
                    {"d/skipped", NULL},
                    {"d/large", large},
                    {"d/empty", ""},
                    {"d/last.txt", "x"}};
    for (int s = 0; s < 5; s++) {
        mra_archive *archive;
        const char *name;
        const unsigned char *data;
        size_t bytes = 0;
        assert_int_equal(mra_archive_open(&archive, packed(suffixes[s]), &err), MRA_OK);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(mra_archive_next(archive, &name, &err), MRA_OK);
            assert_string_equal(name, expected[i].name);
            if (!expected[i].data) continue;
            assert_int_equal(mra_archive_data(archive, &data, &bytes, &err), MRA_OK);
            assert_int_equal(bytes, strlen(expected[i].data));
            assert_memory_equal(data, expected[i].data, bytes + 1);
        }
        assert_int_equal(mra_archive_next(archive, &name, &err), MRA_OK);
        assert_null(name);
        mra_archive_close(archive);
    }
    mra_archive_close(NULL);
}

// Reads an archive to its end.
static mra_status read_all(const char *path)
{
    mra_archive *archive;
    mra_status status = mra_archive_open(&archive, path, &err);
    if (status != MRA_OK) return status;
    const char *name = "";
    while (status == MRA_OK) {
        const unsigned char *data;
        size_t bytes = 0;
        status = mra_archive_next(archive, &name, &err);
        if (status != MRA_OK || !name) break;
        status = mra_archive_data(archive, &data, &bytes, &err);
    }
    mra_archive_close(archive);
    return status;
}

static void truncated_archives(void **state)
{
    (void)state;
    for (int s = 0; s < 5; s++) {
        size_t bytes = 0;
        char *whole = scratch_read(packed(suffixes[s]), &bytes);
        // In the middle of the large member, at the very start, and nothing at all.
        const size_t cuts[] = {bytes / 2, 700, 100, 1, 0};
        for (int i = 0; i < 5; i++) {
            char name[40];
            snprintf(name, sizeof name, "cut%s", suffixes[s]);
            assert_int_equal(read_all(scratch_write(name, whole, cuts[i])), MRA_BAD_INPUT);
            assert_message(name);
        }
        free(whole);
    }
}

// A tar file cut exactly between two members looks whole but for the zeros at its end.
static void truncated_between_members(void **state)
{
    (void)state;
    size_t bytes = 0;
    char *whole = scratch_read(packed(".tar"), &bytes);
    // The folder's header, one header and block, another one: 5 blocks of 512 bytes.
    assert_int_equal(read_all(scratch_write("cut.tar", whole, 5 * 512)), MRA_BAD_INPUT);
    assert_message("cut.tar: truncated after member d/skipped");
    assert_int_equal(read_all(scratch_write("cut.tar", whole, 6 * 512)), MRA_BAD_INPUT);
    assert_message("member d/large: truncated");
    assert_int_equal(read_all(scratch_write("cut.tar", whole, bytes)), MRA_OK);
    free(whole);
}

static void damaged_archives(void **state)
{
    (void)state;
    for (int s = 1; s < 5; s++) { // each of these has a checksum
        size_t bytes = 0;
        char *whole = scratch_read(packed(suffixes[s]), &bytes);
        for (size_t i = bytes / 2; i < bytes / 2 + 64; i++) whole[i] = (char)~whole[i];
        char name[40];
        snprintf(name, sizeof name, "bad%s", suffixes[s]);
        assert_int_equal(read_all(scratch_write(name, whole, bytes)), MRA_BAD_INPUT);
        assert_message(name);
        free(whole);
    }
    assert_int_equal(read_all(scratch_write("text.tar", large, 50000)), MRA_BAD_INPUT);
    assert_message("text.tar: truncated, damaged or no archive");
}

static void absent_archives(void **state)
{
    (void)state;
    mra_archive *archive;
    assert_int_equal(mra_archive_open(&archive, scratch_path("absent.tar"), &err), MRA_ABSENT);
    assert_message("absent.tar: cannot read");
    assert_null(archive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_in_order),          cmocka_unit_test(truncated_archives),
        cmocka_unit_test(truncated_between_members), cmocka_unit_test(damaged_archives),
        cmocka_unit_test(absent_archives),
    };
    return cmocka_run_group_tests(tests, fill_large, scratch_remove);
}
