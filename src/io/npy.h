// Arrays in NumPy's .npy format (NEP 1), versions 1.0 and 2.0.
//
// A magic string, a version, the length of a header, the header (a Python dictionary literal
// with the keys descr, fortran_order and shape, padded so that the data start at a multiple of
// 64), and the data. Read are little-endian arrays in C order of the types below, of any rank
// up to 8, rank 0 included.
//
// Errors name the file, the field and what was expected: a short or foreign file, Fortran
// order, big-endian or other types, a shape that overflows, data shorter or longer than the
// shape says.
#ifndef MRA_IO_NPY_H
#define MRA_IO_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef enum mra_npy_type {
    MRA_NPY_F2,  // IEEE half precision (io/half.h)
    MRA_NPY_F4,  // float
    MRA_NPY_F8,  // double
    MRA_NPY_I4,  // int32_t
    MRA_NPY_I8,  // int64_t
    MRA_NPY_U1,  // uint8_t
    MRA_NPY_BOOL // one byte, 0 or 1
} mra_npy_type;

enum { MRA_NPY_MAX_RANK = 8 };

typedef struct mra_npy {
    mra_npy_type type;
    int rank;
    size_t shape[MRA_NPY_MAX_RANK]; // shape[0] is the slowest dimension
    size_t size;                    // product of shape; 1 for rank 0
    void *data;                     // `size` elements, 64-byte aligned; never NULL after a read
} mra_npy;

// Reads an array as it is stored. After an error *array is empty. Free it with mra_npy_free.
mra_status mra_npy_read(mra_npy *array, const char *path, mra_error *err);
void mra_npy_free(mra_npy *array);

// Reads f2, f4, f8, i4 or i8 as float32 (type F4 afterwards). `finite`: a NaN, an infinity or a
// value beyond float32 is MRA_BAD_INPUT naming the index of the first one.
mra_status mra_npy_read_f32(mra_npy *array, const char *path, bool finite, mra_error *err);
// Reads u1, bool, i4, i8 or f4 as bytes 0 and 1 (type U1 afterwards); other values are
// MRA_BAD_INPUT.
mra_status mra_npy_read_mask(mra_npy *array, const char *path, mra_error *err);

// Writes `data`, elements of `type`, atomically (core/file.h). rank <= 8.
mra_status mra_npy_write(const char *path, mra_npy_type type, int rank, const size_t *shape,
                         const void *data, mra_error *err);
// The same from float32, converted to F2 (nearest, ties to even), F4 or F8.
mra_status mra_npy_write_f32(const char *path, mra_npy_type type, int rank, const size_t *shape,
                             const float *data, mra_error *err);

size_t mra_npy_item_size(mra_npy_type type);      // bytes of an element
const char *mra_npy_type_name(mra_npy_type type); // "f4", "bool", ...
// "(2, 12, 512, 64)", for messages; at most room - 1 characters.
void mra_npy_shape_text(const mra_npy *array, char *text, size_t room);

#endif
