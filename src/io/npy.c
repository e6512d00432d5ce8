// Reading, converting and writing .npy arrays. The machine is little-endian, like the files.

#include "io/npy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/arena.h"
#include "core/file.h"
#include "io/half.h"
#include "io/npy_header.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the suite reads and writes arrays on little-endian machines only"
#endif

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

size_t mra_npy_item_size(mra_npy_type type)
{
    static const size_t sizes[] = {2, 4, 8, 4, 8, 1, 1};
    return sizes[type];
}

const char *mra_npy_type_name(mra_npy_type type)
{
    static const char *const names[] = {"f2", "f4", "f8", "i4", "i8", "u1", "bool"};
    return names[type];
}

void mra_npy_shape_text(const mra_npy *array, char *text, size_t room)
{
    size_t used = (size_t)snprintf(text, room, "(");
    for (int i = 0; i < array->rank && used < room; i++)
        used +=
            (size_t)snprintf(text + used, room - used, "%s%zu", i ? ", " : "", array->shape[i]);
    if (used < room) snprintf(text + used, room - used, array->rank == 1 ? ",)" : ")");
}

void mra_npy_free(mra_npy *array)
{
    mra_aligned_free(array->data);
    *array = (mra_npy){0};
}

// ---- Reading --------------------------------------------------------------------------------

static mra_status short_file(FILE *file, const char *path, const char *what, mra_error *err)
{
    if (ferror(file))
        return mra_fail(err, MRA_IO, "%s: cannot read: %s", path, strerror(errno));
    return mra_fail(err, MRA_BAD_INPUT, "%s: the file ends within %s", path, what);
}

// The text of the header, allocated: after the magic and the version, its length in 2 bytes
// (version 1) or 4.
static mra_status read_header_text(FILE *file, const char *path, char **text, mra_error *err)
{
    unsigned char start[8], length_bytes[4] = {0};
    *text = NULL;
    size_t got = fread(start, 1, sizeof start, file);
    if (got == 0 && !ferror(file))
        return mra_fail(err, MRA_BAD_INPUT, "%s: the file is empty", path);
    if (memcmp(start, magic, got < sizeof magic ? got : sizeof magic) != 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: expected an .npy file (it does not start with \\x93NUMPY)", path);
    if (got < sizeof start) return short_file(file, path, "its magic string and version", err);
    int version = start[6];
    if ((version != 1 && version != 2) || start[7] != 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: version %d.%d: expected 1.0 or 2.0", path,
                        version, start[7]);
    size_t count = version == 1 ? 2 : 4;
    if (fread(length_bytes, 1, count, file) != count)
        return short_file(file, path, "the length of its header", err);
    size_t length = 0;
    for (size_t i = count; i-- > 0;) length = length << 8 | length_bytes[i];
    if (length > 1 << 20)
        return mra_fail(err, MRA_BAD_INPUT, "%s: a header of %zu bytes: expected at most 1 MiB",
                        path, length);
    *text = calloc(length + 1, 1);
    if (!*text) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the header", path);
    if (fread(*text, 1, length, file) != length)
        return short_file(file, path, "its header", err);
    if (strlen(*text) != length)
        return mra_fail(err, MRA_BAD_INPUT, "%s: header: a zero byte: expected text", path);
    return MRA_OK;
}

// Compares what the shape asks for with what the file holds, before memory for it is taken.
static mra_status check_length(FILE *file, const mra_npy *array, const char *path,
                               mra_error *err)
{
    struct stat info;
    long start = ftell(file);
    if (start < 0 || fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) return MRA_OK;
    size_t held = (size_t)(info.st_size - start);
    size_t needed = array->size * mra_npy_item_size(array->type);
    if (held == needed) return MRA_OK;
    char shape[200];
    mra_npy_shape_text(array, shape, sizeof shape);
    return mra_fail(err, MRA_BAD_INPUT,
                    "%s: %zu bytes of data: expected %zu for shape %s of %s", path, held,
                    needed, shape, mra_npy_type_name(array->type));
}

static mra_status read_array(FILE *file, mra_npy *array, const char *path, mra_error *err)
{
    char *text;
    mra_status status = read_header_text(file, path, &text, err);
    if (status == MRA_OK) status = mra_npy_parse_header(array, text, path, err);
    free(text);
    if (status == MRA_OK) status = check_length(file, array, path, err);
    if (status != MRA_OK) return status;
    size_t item = mra_npy_item_size(array->type);
    array->data = mra_aligned_calloc(array->size, item);
    if (!array->data)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for %zu elements of %s", path,
                        array->size, mra_npy_type_name(array->type));
    if (fread(array->data, item, array->size, file) != array->size)
        return short_file(file, path, "its data", err);
    if (getc(file) != EOF)
        return mra_fail(err, MRA_BAD_INPUT, "%s: more data than the shape says", path);
    return MRA_OK;
}

mra_status mra_npy_read(mra_npy *array, const char *path, mra_error *err)
{
    *array = (mra_npy){0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return mra_fail(err, MRA_BAD_INPUT, "%s: cannot read: %s", path, strerror(errno));
    mra_status status = read_array(file, array, path, err);
    fclose(file);
    if (status != MRA_OK) mra_npy_free(array);
    return status;
}

// ---- Converting -----------------------------------------------------------------------------

// Puts converted data of `type` in the place of the old ones.
static void replace_data(mra_npy *array, mra_npy_type type, void *data)
{
    mra_aligned_free(array->data);
    array->data = data;
    array->type = type;
}

// "[1, 0, 37]": element number `index` of the array.
static void index_text(const mra_npy *array, size_t index, char *text, size_t room)
{
    size_t position[MRA_NPY_MAX_RANK] = {0};
    for (int i = array->rank - 1; i >= 0; i--) {
        position[i] = index % array->shape[i];
        index /= array->shape[i];
    }
    size_t used = (size_t)snprintf(text, room, "[");
    for (int i = 0; i < array->rank && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%zu", i ? ", " : "", position[i]);
    if (used < room) snprintf(text + used, room - used, "]");
}

static mra_status refuse_element(const mra_npy *array, size_t index, double value,
                                 const char *expected, const char *path, mra_error *err)
{
    char place[200];
    index_text(array, index, place, sizeof place);
    return mra_fail(err, MRA_BAD_INPUT, "%s: element %s is %g: expected %s", path, place, value,
                    expected);
}

// Element i as a double (exact but for i8 beyond 2^53).
static double element(const mra_npy *array, size_t i)
{
    switch (array->type) {
    case MRA_NPY_F2:
        return mra_half_to_float(((const uint16_t *)array->data)[i]);
    case MRA_NPY_F4:
        return ((const float *)array->data)[i];
    case MRA_NPY_F8:
        return ((const double *)array->data)[i];
    case MRA_NPY_I4:
        return ((const int32_t *)array->data)[i];
    case MRA_NPY_I8:
        return (double)((const int64_t *)array->data)[i];
    case MRA_NPY_U1:
    case MRA_NPY_BOOL:
        return ((const uint8_t *)array->data)[i];
    }
    return NAN;
}

static mra_status refuse_type(const mra_npy *array, const char *expected, const char *path,
                              mra_error *err)
{
    return mra_fail(err, MRA_BAD_INPUT, "%s: type %s: expected %s", path,
                    mra_npy_type_name(array->type), expected);
}

static mra_status to_f32(mra_npy *array, bool finite, const char *path, mra_error *err)
{
    if (array->type == MRA_NPY_U1 || array->type == MRA_NPY_BOOL)
        return refuse_type(array, "f2, f4, f8, i4 or i8", path, err);
    float *values = array->type == MRA_NPY_F4 ? array->data
                                              : mra_aligned_calloc(array->size, sizeof *values);
    if (!values) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory to convert it", path);
    if (array->type == MRA_NPY_F2)
        mra_halves_to_floats(values, array->data, array->size);
    else if (array->type != MRA_NPY_F4)
        for (size_t i = 0; i < array->size; i++) values[i] = (float)element(array, i);
    size_t first = 0;
    while (finite && first < array->size && isfinite(values[first])) first++;
    if (finite && first < array->size) {
        double value = element(array, first);
        if (array->type != MRA_NPY_F4) mra_aligned_free(values);
        return refuse_element(array, first, value, "finite float32 numbers", path, err);
    }
    if (array->type != MRA_NPY_F4) replace_data(array, MRA_NPY_F4, values);
    return MRA_OK;
}

mra_status mra_npy_read_f32(mra_npy *array, const char *path, bool finite, mra_error *err)
{
    mra_status status = mra_npy_read(array, path, err);
    if (status == MRA_OK) status = to_f32(array, finite, path, err);
    if (status != MRA_OK) mra_npy_free(array);
    return status;
}

static mra_status to_mask(mra_npy *array, const char *path, mra_error *err)
{
    if (array->type == MRA_NPY_F2 || array->type == MRA_NPY_F8)
        return refuse_type(array, "u1, bool, i4, i8 or f4", path, err);
    uint8_t *bytes = mra_aligned_calloc(array->size, 1);
    if (!bytes) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory to convert it", path);
    for (size_t i = 0; i < array->size; i++) {
        double value = element(array, i);
        if (value != 0.0 && value != 1.0) {
            mra_aligned_free(bytes);
            return refuse_element(array, i, value, "0 or 1 in a mask", path, err);
        }
        bytes[i] = value != 0.0;
    }
    replace_data(array, MRA_NPY_U1, bytes);
    return MRA_OK;
}

mra_status mra_npy_read_mask(mra_npy *array, const char *path, mra_error *err)
{
    mra_status status = mra_npy_read(array, path, err);
    if (status == MRA_OK) status = to_mask(array, path, err);
    if (status != MRA_OK) mra_npy_free(array);
    return status;
}

// ---- Writing --------------------------------------------------------------------------------

// Magic, version 1.0, length and the dictionary, padded with spaces and a newline to a multiple
// of 64.
static void write_header(FILE *stream, mra_npy_type type, int rank, const size_t *shape)
{
    static const char *const descr[] = {"<f2", "<f4", "<f8", "<i4", "<i8", "|u1", "|b1"};
    mra_npy array = {.type = type, .rank = rank};
    for (int i = 0; i < rank; i++) array.shape[i] = shape[i];
    char shape_text[200], text[300];
    mra_npy_shape_text(&array, shape_text, sizeof shape_text);
    int length =
        snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                 descr[type], shape_text);
    int padded = (10 + length + 1 + 63) / 64 * 64 - 10;
    fwrite(magic, 1, sizeof magic, stream);
    fprintf(stream, "%c%c%c%c%-*s\n", 1, 0, padded & 255, padded >> 8, padded - 1, text);
}

static mra_status check_shape(const char *path, int rank, const size_t *shape, size_t *size,
                              mra_error *err)
{
    *size = 1;
    if (rank < 0 || rank > MRA_NPY_MAX_RANK)
        return mra_fail(err, MRA_INTERNAL, "%s: rank %d: expected 0 to %d", path, rank,
                        MRA_NPY_MAX_RANK);
    for (int i = 0; i < rank; i++) *size *= shape[i];
    return MRA_OK;
}

mra_status mra_npy_write(const char *path, mra_npy_type type, int rank, const size_t *shape,
                         const void *data, mra_error *err)
{
    size_t size;
    mra_output output;
    mra_status status = check_shape(path, rank, shape, &size, err);
    if (status == MRA_OK) status = mra_output_open(&output, path, err);
    if (status != MRA_OK) return status;
    write_header(output.stream, type, rank, shape);
    fwrite(data, mra_npy_item_size(type), size,
           output.stream); // a failure is told by the commit
    return mra_output_commit(&output, err);
}

// Converts and writes a piece at a time.
static void write_converted(FILE *stream, mra_npy_type type, const float *data, size_t size)
{
    enum { PIECE = 1024 };
    uint16_t halves[PIECE];
    double doubles[PIECE];
    for (size_t start = 0; start < size; start += PIECE) {
        size_t count = size - start < PIECE ? size - start : PIECE;
        if (type == MRA_NPY_F2) {
            mra_halves_from_floats(halves, data + start, count);
            fwrite(halves, sizeof *halves, count, stream);
        } else {
            for (size_t i = 0; i < count; i++) doubles[i] = data[start + i];
            fwrite(doubles, sizeof *doubles, count, stream);
        }
    }
}

mra_status mra_npy_write_f32(const char *path, mra_npy_type type, int rank, const size_t *shape,
                             const float *data, mra_error *err)
{
    if (type == MRA_NPY_F4) return mra_npy_write(path, type, rank, shape, data, err);
    if (type != MRA_NPY_F2 && type != MRA_NPY_F8)
        return mra_fail(err, MRA_INTERNAL, "%s: floats cannot be written as %s", path,
                        mra_npy_type_name(type));
    size_t size;
    mra_output output;
    mra_status status = check_shape(path, rank, shape, &size, err);
    if (status == MRA_OK) status = mra_output_open(&output, path, err);
    if (status != MRA_OK) return status;
    write_header(output.stream, type, rank, shape);
    write_converted(output.stream, type, data, size);
    return mra_output_commit(&output, err);
}
