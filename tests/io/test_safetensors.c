// safetensors: a golden file byte by byte, round trips, and everything that can be wrong with a file.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "core/file.h"
#include "io/safetensors.h"

// What the format prescribes for two arrays and one string, written by hand.
static size_t golden(char *bytes)
{
    const char header[] = "{\"__metadata__\":{\"step\":\"7\"},"
                          "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                          "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[24,28]}}";
    const float values[7] = {1, -2, 0.5f, 0, 3e38f, -1e-40f, 42};
    size_t length = sizeof header - 1, padded = (length + 8 + 63) / 64 * 64 - 8;
    memset(bytes, ' ', 8 + padded);
    for (int i = 0; i < 8; i++) bytes[i] = (char)(padded >> (8 * i) & 255);
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + padded, values, sizeof values);
    return 8 + padded + sizeof values;
}

static void test_golden_write(void **state)
{
    (void)state;
    const float b[6] = {1, -2, 0.5f, 0, 3e38f, -1e-40f}, a[1] = {42};
    mra_safetensors *file;
    assert_int_equal(mra_safetensors_create(&file, NULL), MRA_OK);
    assert_int_equal(mra_safetensors_add(file, "b", 2, (int64_t[]){2, 3}, b, NULL), MRA_OK);
    assert_int_equal(mra_safetensors_add(file, "a", 0, NULL, a, NULL), MRA_OK);
    assert_int_equal(mra_safetensors_add(file, "a", 0, NULL, a, NULL), MRA_BAD_INPUT);
    assert_int_equal(mra_safetensors_set(file, "step", "6", NULL), MRA_OK);
    assert_int_equal(mra_safetensors_set(file, "step", "7", NULL), MRA_OK);
    const char *path = scratch_path("written.safetensors");
    assert_int_equal(mra_safetensors_write(file, path, NULL), MRA_OK);
    mra_safetensors_free(file);
    char expected[1024];
    size_t bytes = golden(expected), found = 0;
    char *content = scratch_read(path, &found);
    assert_int_equal(found, bytes);
    assert_memory_equal(content, expected, bytes);
    free(content);
}

static void test_golden_read(void **state)
{
    (void)state;
    char bytes[1024];
    const char *path = scratch_write("golden.safetensors", bytes, golden(bytes));
    mra_safetensors *file;
    assert_int_equal(mra_safetensors_read(&file, path, NULL), MRA_OK);
    const mra_safetensor *b = mra_safetensors_at(file, 0), *a = mra_safetensors_find(file, "a");
    assert_ptr_equal(b, mra_safetensors_find(file, "b"));
    assert_ptr_equal(a, mra_safetensors_at(file, 1));
    assert_null(mra_safetensors_at(file, 2));
    assert_null(mra_safetensors_find(file, "c"));
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->size, 6);
    assert_true(b->data[0] == 1 && b->data[4] == 3e38f && b->data[5] == -1e-40f);
    assert_int_equal(a->rank, 0);
    assert_true(a->data[0] == 42);
    assert_string_equal(mra_safetensors_get(file, "step"), "7");
    assert_null(mra_safetensors_get(file, "steps"));
    mra_safetensors_free(file);
}

// Headers in another order, without metadata and with an empty array, as other programs write them.
static void test_other_writers(void **state)
{
    (void)state;
    const char header[] =
        "{ \"late\": {\"data_offsets\":[4,8],\"shape\":[1,1],\"dtype\":\"F32\"},\n"
        "\"none\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[4,4]},"
        "\"early\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    char bytes[512] = {(char)(sizeof header - 1)};
    const float values[2] = {5, 6};
    memcpy(bytes + 8, header, sizeof header - 1);
    bytes[0] = (char)((sizeof header - 1) & 255);
    memcpy(bytes + 8 + sizeof header - 1, values, sizeof values);
    const char *path = scratch_write("other", bytes, 8 + sizeof header - 1 + sizeof values);
    mra_safetensors *file;
    assert_int_equal(mra_safetensors_read(&file, path, NULL), MRA_OK);
    assert_true(mra_safetensors_find(file, "early")->data[0] == 5);
    assert_true(mra_safetensors_find(file, "late")->data[0] == 6);
    assert_int_equal(mra_safetensors_find(file, "none")->size, 0);
    mra_safetensors_free(file);
}

// int32 beside float32: the bits come back, and each array knows its type.
static void test_ints(void **state)
{
    (void)state;
    const int32_t ints[4] = {0, -1, INT32_MAX, INT32_MIN};
    const float floats[3] = {1, 2, 3};
    mra_safetensors *file;
    const char *path = scratch_path("ints.safetensors");
    assert_int_equal(mra_safetensors_create(&file, NULL), MRA_OK);
    assert_int_equal(mra_safetensors_add_ints(file, "blocks", 2, (int64_t[]){2, 2}, ints, NULL),
                     MRA_OK);
    assert_int_equal(mra_safetensors_add(file, "x", 1, (int64_t[]){3}, floats, NULL), MRA_OK);
    assert_int_equal(mra_safetensors_write(file, path, NULL), MRA_OK);
    mra_safetensors_free(file);
    size_t bytes;
    char *content = scratch_read(path, &bytes);
    const char entry[] =
        "\"blocks\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}";
    assert_non_null(strstr(content + 8, entry));
    free(content);
    assert_int_equal(mra_safetensors_read(&file, path, NULL), MRA_OK);
    const mra_safetensor *blocks = mra_safetensors_find(file, "blocks");
    assert_null(blocks->data);
    assert_memory_equal(blocks->ints, ints, sizeof ints);
    const mra_safetensor *x = mra_safetensors_find(file, "x");
    assert_null(x->ints);
    assert_memory_equal(x->data, floats, sizeof floats);
    mra_safetensors_free(file);
}

static void refuse_fetch(const mra_safetensors *file, const char *name, int rank,
                         const int *shape, const char *expected)
{
    mra_error err = {0};
    const float *values;
    assert_int_equal(
        mra_safetensors_fetch(file, "w.safetensors", name, rank, shape, &values, &err),
        MRA_BAD_INPUT);
    assert_string_equal(err.message, expected);
}

static void test_fetch(void **state)
{
    (void)state;
    const int32_t ints[2] = {1, 2};
    const float floats[6] = {1, 2, 3, 4, 5, 6}, *values;
    mra_safetensors *file;
    assert_int_equal(mra_safetensors_create(&file, NULL), MRA_OK);
    assert_int_equal(mra_safetensors_add_ints(file, "i", 1, (int64_t[]){2}, ints, NULL),
                     MRA_OK);
    assert_int_equal(mra_safetensors_add(file, "x", 2, (int64_t[]){2, 3}, floats, NULL),
                     MRA_OK);
    assert_int_equal(mra_safetensors_fetch(file, "w", "x", 2, (int[]){2, 3}, &values, NULL),
                     MRA_OK);
    assert_ptr_equal(values, floats);
    refuse_fetch(file, "y", 1, (int[]){4},
                 "w.safetensors: no array y; expected one of shape [4]");
    refuse_fetch(file, "x", 2, (int[]){3, 2},
                 "w.safetensors: array x has shape [2, 3], expected [3, 2]");
    refuse_fetch(file, "x", 1, (int[]){2},
                 "w.safetensors: array x has shape [2, 3], expected [2]");
    refuse_fetch(file, "i", 1, (int[]){2}, "w.safetensors: array i has type I32, expected F32");
    mra_safetensors_free(file);
}

// Half precision is read as floats, bit for bit what the formats define; an array of another type is listed, not read.
static void test_other_types(void **state)
{
    (void)state;
    const char *header =
        "{\"ids\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},"
        "\"half\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[16,22]},"
        "\"brain\":{\"dtype\":\"BF16\",\"shape\":[3,1],\"data_offsets\":[22,28]},"
        "\"whole\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[28,32]}}";
    const uint16_t halves[3] = {0x3c00, 0xc500, 0x0001}; // 1, -5, 2^-24
    const uint16_t brains[3] = {0x3fc0, 0xc2f7, 0x7f80}; // 1.5, -123.5, infinity
    const float whole = 0.1f, *values;
    char bytes[1024] = {0};
    const uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    memcpy(bytes + 8 + length + 16, halves, 6);
    memcpy(bytes + 8 + length + 22, brains, 6);
    memcpy(bytes + 8 + length + 28, &whole, 4);
    mra_error err;
    mra_safetensors *file;
    const char *path = scratch_write("types", bytes, 8 + length + 32);
    assert_int_equal(mra_safetensors_read(&file, path, &err), MRA_OK);
    assert_int_equal(mra_safetensors_fetch(file, "w", "half", 1, (int[]){3}, &values, NULL),
                     MRA_OK);
    assert_true(values[0] == 1 && values[1] == -5 && values[2] == 0x1p-24f);
    assert_int_equal(mra_safetensors_fetch(file, "w", "brain", 2, (int[]){3, 1}, &values, NULL),
                     MRA_OK);
    assert_true(values[0] == 1.5f && values[1] == -123.5f && values[2] > 1e38f);
    assert_int_equal(mra_safetensors_fetch(file, "w", "whole", 1, (int[]){1}, &values, NULL),
                     MRA_OK);
    assert_true(values[0] == whole);
    const mra_safetensor *ids = mra_safetensors_find(file, "ids");
    assert_true(ids && !ids->data && !ids->ints && ids->size == 2);
    refuse_fetch(file, "ids", 1, (int[]){2},
                 "w.safetensors: array ids has type I64, expected F32");
    mra_safetensors_free(file);
}

static void refuse_bytes(const void *bytes, size_t count, const char *expected)
{
    mra_error err = {0};
    mra_safetensors *file;
    const char *path = scratch_write("bad", bytes, count);
    assert_int_equal(mra_safetensors_read(&file, path, &err), MRA_BAD_INPUT);
    assert_null(file);
    if (!strstr(err.message, path) || !strstr(err.message, expected) ||
        strchr(err.message, '\n'))
        fail_msg("'%s' instead of %s: ... %s", err.message, path, expected);
}

// A file with this header and eight bytes of data.
static void refuse_header(const char *header, const char *expected)
{
    char bytes[1024] = {0};
    size_t length = strlen(header);
    bytes[0] = (char)(length & 255);
    bytes[1] = (char)(length >> 8);
    memcpy(bytes + 8, header, length);
    refuse_bytes(bytes, 8 + length + 8, expected);
}

static void test_bad_headers(void **state)
{
    (void)state;
    refuse_header("[1,2]", "not a JSON object");
    refuse_header("{\"a\":", "not a JSON object");
    refuse_header("{\"a\":3}", "array a has type none");
    refuse_header("{\"a\":{\"dtype\":\"F12\",\"shape\":[4],\"data_offsets\":[0,8]}}",
                  "array a has type F12, expected F32 or I32");
    refuse_header("{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                  "do not fit its shape");
    refuse_header("{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[1,3]}}", "fit");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "shape");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}",
                  "shape");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],"
                  "\"data_offsets\":[0,8]}}",
                  "shape");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",
                  "do not fit its shape");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
                  "outside the 8 bytes");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}",
                  "outside");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "gaps");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "gaps");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                  "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                  "overlap");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}", "fit");
    refuse_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                  "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
                  "JSON");
}

// Every proper prefix of a good file is refused, and so is one byte too many.
static void test_truncated(void **state)
{
    (void)state;
    char bytes[1024] = {0};
    size_t whole = golden(bytes);
    for (size_t count = 0; count < whole; count++) refuse_bytes(bytes, count, "");
    refuse_bytes(bytes, whole + 1, "stop before the end");
    refuse_bytes("", 0, "empty or truncated");
}

static void test_cannot_read_or_write(void **state)
{
    (void)state;
    mra_error err;
    mra_safetensors *file;
    assert_int_equal(mra_safetensors_read(&file, scratch_path("absent"), &err), MRA_IO);
    assert_non_null(strstr(err.message, "absent"));
    assert_int_equal(mra_safetensors_create(&file, &err), MRA_OK);
    assert_int_equal(mra_safetensors_write(file, scratch_path("no/such/folder"), &err), MRA_IO);
    assert_int_equal(mra_safetensors_set(file, "key", "\xff\xfe", &err), MRA_BAD_INPUT);
    mra_safetensors_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_write),
        cmocka_unit_test(test_golden_read),
        cmocka_unit_test(test_other_writers),
        cmocka_unit_test(test_other_types),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_cannot_read_or_write),
        cmocka_unit_test(test_ints),
        cmocka_unit_test(test_fetch),
    };
    return cmocka_run_group_tests_name("io/safetensors", tests, scratch_make, scratch_remove);
}
