// The header of an .npy file: a Python dictionary literal, read without Python. Used by
// io/npy.c alone.
#ifndef MRA_IO_NPY_HEADER_H
#define MRA_IO_NPY_HEADER_H

#include "io/npy.h"

// Fills type, rank, shape and size of *array from the text of a header. Errors name `path` and
// the field.
mra_status mra_npy_parse_header(mra_npy *array, const char *text, const char *path,
                                mra_error *err);

#endif
