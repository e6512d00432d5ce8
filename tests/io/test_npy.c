// .npy: golden bytes as NumPy writes them, every type both ways, and each way a file can be
// wrong.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "core/random.h"
#include "io/half.h"
#include "io/npy.h"

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

static mra_error err;
static mra_npy array;

// A file of the given version with this header (padded as NumPy does) and these data.
static const char *make(int version, const char *dictionary, const void *data, size_t bytes)
{
    static char file[4096];
    size_t start = version == 1 ? 10 : 12, length = strlen(dictionary);
    size_t padded = (start + length + 1 + 63) / 64 * 64 - start;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (char)version;
    file[7] = 0;
    for (size_t i = 8; i < start; i++) file[i] = (char)(padded >> 8 * (i - 8));
    memset(file + start, ' ', padded);
    memcpy(file + start, dictionary, length);
    file[start + padded - 1] = '\n';
    memcpy(file + start + padded, data, bytes);
    return scratch_write("a.npy", file, start + padded + bytes);
}

static mra_status read_made(int version, const char *dictionary, const void *data, size_t bytes)
{
    err = (mra_error){0};
    return mra_npy_read(&array, make(version, dictionary, data, bytes), &err);
}

// numpy.save of numpy.array([[1, -2, 0.5]], dtype='<f4').
static const char golden[] =
    "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': "
    "(1, 3), }                                                          \n"
    "\x00\x00\x80\x3f\x00\x00\x00\xc0\x00\x00\x00\x3f";

static void golden_file_both_ways(void **state)
{
    (void)state;
    assert_int_equal(sizeof golden - 1, 128 + 12);
    const char *path = scratch_write("golden.npy", golden, sizeof golden - 1);
    assert_int_equal(mra_npy_read(&array, path, &err), MRA_OK);
    assert_int_equal(array.type, MRA_NPY_F4);
    assert_int_equal(array.rank, 2);
    assert_int_equal(array.shape[0], 1);
    assert_int_equal(array.shape[1], 3);
    assert_int_equal(array.size, 3);
    const float expected[] = {1, -2, 0.5f};
    assert_memory_equal(array.data, expected, sizeof expected);
    path = scratch_path("written.npy");
    assert_int_equal(mra_npy_write(path, MRA_NPY_F4, 2, array.shape, array.data, &err), MRA_OK);
    mra_npy_free(&array);
    size_t bytes;
    char *written = scratch_read(path, &bytes);
    assert_int_equal(bytes, sizeof golden - 1);
    assert_memory_equal(written, golden, bytes);
    free(written);
}

static void every_type_and_rank_round_trips(void **state)
{
    (void)state;
    const size_t shape[8] = {2, 3, 1, 2, 1, 1, 2, 1};
    mra_random random = mra_random_open(1, mra_stream("npy", 0, 0));
    for (mra_npy_type type = MRA_NPY_F2; type <= MRA_NPY_BOOL; type++)
        for (int rank = 0; rank <= 8; rank++) {
            size_t size = 1;
            for (int i = 0; i < rank; i++) size *= shape[i];
            unsigned char data[24 * 8];
            size_t bytes = size * mra_npy_item_size(type);
            for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)mra_random_u32(&random);
            const char *path = scratch_path("round.npy");
            assert_int_equal(mra_npy_write(path, type, rank, shape, data, &err), MRA_OK);
            assert_int_equal(mra_npy_read(&array, path, &err), MRA_OK);
            assert_int_equal(array.type, type);
            assert_int_equal(array.rank, rank);
            assert_int_equal(array.size, size);
            assert_memory_equal(array.shape, shape, (size_t)rank * sizeof *shape);
            assert_memory_equal(array.data, data, bytes);
            mra_npy_free(&array);
        }
}

static void headers_as_other_programs_write_them(void **state)
{
    (void)state;
    const int32_t data[] = {1, 2, 3};
    const char *const headers[] = {
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }",
        "{\"shape\":(3,),\"fortran_order\":False,\"descr\":\"<i4\"}",
        " { 'fortran_order' : False ,\n'shape': ( 3L , ) , 'descr': '<i4' } ",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3)}",
    };
    for (int i = 0; i < 4; i++)
        for (int version = 1; version <= 2; version++) {
            assert_int_equal(read_made(version, headers[i], data, 12), MRA_OK);
            assert_int_equal(array.rank, 1);
            assert_memory_equal(array.data, data, 12);
            mra_npy_free(&array);
        }
    assert_int_equal(
        read_made(1, "{'descr':'<f8','fortran_order':False,'shape':(4,0,7)}", "", 0), 0);
    assert_int_equal(array.size, 0);
    assert_non_null(array.data);
    mra_npy_free(&array);
}

static void headers_that_are_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *header, *message;
    } wrong[] = {
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (3,), }",
         "fortran_order is True: expected"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }",
         "descr is '>f4': expected little"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (3,), }", "descr is '<c8'"},
        {"{'descr': '|S3', 'fortran_order': False, 'shape': (3,), }", "descr is '|S3'"},
        {"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (3,), }",
         "expected descr as"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (3,), }", "expected fortran_order as"},
        {"{'descr': '<f4', 'shape': (3,), }", "fortran_order is missing"},
        {"{'fortran_order': False, 'shape': (3,), }", "descr is missing"},
        {"{'descr': '<f4', 'fortran_order': False}", "shape is missing"},
        {"{'descr': '<f4', 'descr': '<f4', 'shape': (3,), }", "descr is there twice"},
        {"{'descr': '<f4', 'order': 'C', 'shape': (3,), }", "unknown key order"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 3, }", "expected shape as a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", "a dimension of shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3 3), }", "a comma or )"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,", "a dimension of shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,3), }",
         "more than 8"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
         "dimension"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296,4294967296), }",
         "overflows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296,4294967296,0), }",
         "overflows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), } x",
         "the end of the header"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (3,), }", "a comma or }"},
        {"{'descr' '<f4', 'fortran_order': False, 'shape': (3,), }", "a colon"},
        {"['descr', '<f4']", "expected {"},
        {"{'descr: <f4}", "a quoted key"},
        {"", "expected {"},
    };
    const float data[3] = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(read_made(1, wrong[i].header, data, sizeof data), MRA_BAD_INPUT);
        assert_message("a.npy: ");
        assert_message(wrong[i].message);
        assert_null(array.data);
    }
}

static void files_that_are_wrong(void **state)
{
    (void)state;
    // Every proper prefix of a file, the empty one included, is refused; so is a longer file.
    for (size_t bytes = 0; bytes < sizeof golden - 1; bytes++) {
        const char *path = scratch_write("a.npy", golden, bytes);
        assert_int_equal(mra_npy_read(&array, path, &err), MRA_BAD_INPUT);
        assert_message("a.npy: ");
        assert_null(array.data);
        if (bytes == 0) assert_message("the file is empty");
        if (bytes == 130) assert_message("2 bytes of data: expected 12 for shape (1, 3) of f4");
    }
    assert_int_equal(mra_npy_read(&array, scratch_write("a.npy", golden, sizeof golden), &err),
                     MRA_BAD_INPUT); // with the NUL of the literal
    assert_message("13 bytes of data: expected 12");
    assert_int_equal(
        mra_npy_read(&array, scratch_write_text("a.npy", "PK\003\004 not an array"), &err),
        MRA_BAD_INPUT);
    assert_message("expected an .npy file");
    char other[sizeof golden];
    memcpy(other, golden, sizeof golden);
    other[6] = 3;
    assert_int_equal(
        mra_npy_read(&array, scratch_write("a.npy", other, sizeof golden - 1), &err),
        MRA_BAD_INPUT);
    assert_message("version 3.0: expected 1.0 or 2.0");
    assert_int_equal(mra_npy_read(&array, scratch_path("absent.npy"), &err), MRA_BAD_INPUT);
    assert_message("absent.npy: cannot read: No such file");
    assert_int_equal(mra_npy_read(&array, scratch_folder, &err), MRA_IO);
    // A shape that asks for more than the file holds must not ask the system for memory.
    assert_int_equal(
        read_made(2, "{'descr':'<f8','fortran_order':False,'shape':(999999999999,)}", "", 0),
        MRA_BAD_INPUT);
    assert_message("0 bytes of data: expected 7999999999992");
}

static void reading_as_float(void **state)
{
    (void)state;
    const uint16_t halves[] = {0x3c00, 0xc000, 1};
    const double doubles[] = {1, -2, 0x1p-24};
    const int32_t ints[] = {7, -8, 1 << 24};
    const int64_t longs[] = {7, -8, INT64_C(1) << 40};
    static const float expected[4][3] = {
        {1, -2, 0x1p-24f}, {1, -2, 0x1p-24f}, {7, -8, 0x1p24f}, {7, -8, 0x1p40f}};
    const mra_npy_type types[] = {MRA_NPY_F2, MRA_NPY_F8, MRA_NPY_I4, MRA_NPY_I8};
    const void *const data[] = {halves, doubles, ints, longs};
    const size_t shape[] = {3};
    for (int i = 0; i < 4; i++) {
        const char *path = scratch_path("f.npy");
        assert_int_equal(mra_npy_write(path, types[i], 1, shape, data[i], &err), MRA_OK);
        assert_int_equal(mra_npy_read_f32(&array, path, true, &err), MRA_OK);
        assert_int_equal(array.type, MRA_NPY_F4);
        assert_memory_equal(array.data, expected[i], 12);
        assert_int_equal((uintptr_t)array.data % 64, 0);
        mra_npy_free(&array);
    }
    const char *path = scratch_path("f.npy");
    mra_npy_write(path, MRA_NPY_U1, 1, shape, "\1\0\1", &err);
    assert_int_equal(mra_npy_read_f32(&array, path, true, &err), MRA_BAD_INPUT);
    assert_message("f.npy: type u1: expected f2, f4, f8, i4 or i8");
}

static void numbers_that_are_not_finite(void **state)
{
    (void)state;
    float values[12] = {0};
    const size_t shape[] = {2, 3, 2};
    const char *path = scratch_path("f.npy");
    for (int i = 0; i < 3; i++) {
        const float wrong[] = {NAN, INFINITY, -INFINITY};
        values[7] = wrong[i];
        values[9] = NAN;
        mra_npy_write(path, MRA_NPY_F4, 3, shape, values, &err);
        assert_int_equal(mra_npy_read_f32(&array, path, true, &err), MRA_BAD_INPUT);
        assert_message("f.npy: element [1, 0, 1] is ");
        assert_message("expected finite");
        assert_null(array.data);
        assert_int_equal(mra_npy_read_f32(&array, path, false, &err), MRA_OK);
        mra_npy_free(&array);
    }
    const double large = 1e300;
    mra_npy_write(path, MRA_NPY_F8, 0, NULL, &large, &err);
    assert_int_equal(mra_npy_read_f32(&array, path, true, &err), MRA_BAD_INPUT);
    assert_message("element [] is 1e+300");
}

static void masks(void **state)
{
    (void)state;
    const uint8_t expected[] = {1, 0, 1};
    const float floats[] = {1, 0, 1};
    const int32_t ints[] = {1, 0, 1};
    const int64_t longs[] = {1, 0, 1};
    const mra_npy_type types[] = {MRA_NPY_U1, MRA_NPY_BOOL, MRA_NPY_F4, MRA_NPY_I4, MRA_NPY_I8};
    const void *const data[] = {expected, expected, floats, ints, longs};
    const size_t shape[] = {3};
    const char *path = scratch_path("m.npy");
    for (int i = 0; i < 5; i++) {
        mra_npy_write(path, types[i], 1, shape, data[i], &err);
        assert_int_equal(mra_npy_read_mask(&array, path, &err), MRA_OK);
        assert_int_equal(array.type, MRA_NPY_U1);
        assert_memory_equal(array.data, expected, 3);
        mra_npy_free(&array);
    }
    const uint8_t wrong[] = {1, 2, 0};
    mra_npy_write(path, MRA_NPY_U1, 1, shape, wrong, &err);
    assert_int_equal(mra_npy_read_mask(&array, path, &err), MRA_BAD_INPUT);
    assert_message("m.npy: element [1] is 2: expected 0 or 1");
    const double doubles[] = {1, 0, 1};
    mra_npy_write(path, MRA_NPY_F8, 1, shape, doubles, &err);
    assert_int_equal(mra_npy_read_mask(&array, path, &err), MRA_BAD_INPUT);
    assert_message("type f8: expected u1, bool");
}

static void writing_floats_converted(void **state)
{
    (void)state;
    enum { COUNT = 2500 };
    static float values[COUNT];
    mra_fill_normal(values, COUNT, 3, 1, 2);
    const size_t shape[] = {50, 50};
    const char *path = scratch_path("w.npy");
    assert_int_equal(mra_npy_write_f32(path, MRA_NPY_F2, 2, shape, values, &err), MRA_OK);
    assert_int_equal(mra_npy_read(&array, path, &err), MRA_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(((uint16_t *)array.data)[i], mra_half_from_float(values[i]));
    mra_npy_free(&array);
    assert_int_equal(mra_npy_write_f32(path, MRA_NPY_F8, 2, shape, values, &err), MRA_OK);
    assert_int_equal(mra_npy_read(&array, path, &err), MRA_OK);
    for (int i = 0; i < COUNT; i++) assert_true(((double *)array.data)[i] == values[i]);
    mra_npy_free(&array);
    assert_int_equal(mra_npy_write_f32(path, MRA_NPY_F4, 2, shape, values, &err), MRA_OK);
    assert_int_equal(mra_npy_read_f32(&array, path, true, &err), MRA_OK);
    assert_memory_equal(array.data, values, sizeof values);
    mra_npy_free(&array);
    assert_int_equal(mra_npy_write_f32(path, MRA_NPY_I4, 2, shape, values, &err), MRA_INTERNAL);
    assert_int_equal(mra_npy_write_f32("/dev/full", MRA_NPY_F2, 2, shape, values, &err),
                     MRA_IO);
    assert_message("/dev/full: cannot write: No space left");
    assert_int_equal(mra_npy_write(path, MRA_NPY_F4, 9, shape, values, &err), MRA_INTERNAL);
}

static void shapes_as_text(void **state)
{
    (void)state;
    char text[40];
    mra_npy a = {.rank = 0, .shape = {2, 12, 512, 64}};
    const char *const expected[] = {"()", "(2,)", "(2, 12)", "(2, 12, 512)",
                                    "(2, 12, 512, 64)"};
    for (; a.rank <= 4; a.rank++) {
        mra_npy_shape_text(&a, text, sizeof text);
        assert_string_equal(text, expected[a.rank]);
    }
    a.rank = 4;
    mra_npy_shape_text(&a, text, 8);
    assert_string_equal(text, "(2, 12,");
    assert_string_equal(mra_npy_type_name(MRA_NPY_BOOL), "bool");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_file_both_ways),
        cmocka_unit_test(every_type_and_rank_round_trips),
        cmocka_unit_test(headers_as_other_programs_write_them),
        cmocka_unit_test(headers_that_are_wrong),
        cmocka_unit_test(files_that_are_wrong),
        cmocka_unit_test(reading_as_float),
        cmocka_unit_test(numbers_that_are_not_finite),
        cmocka_unit_test(masks),
        cmocka_unit_test(writing_floats_converted),
        cmocka_unit_test(shapes_as_text),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
