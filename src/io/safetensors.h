// safetensors: named arrays of float32 or int32 and a few strings in one file.
//
//     mra_safetensors *file;
//     status = mra_safetensors_create(&file, &err);
//     status = mra_safetensors_add(file, "head.weight", 2, (int64_t[]){10, 64}, weights, &err);
//     status = mra_safetensors_set(file, "step", "412", &err);
//     status = mra_safetensors_write(file, "weights.safetensors", &err);
//     mra_safetensors_free(file);
//
// The format (github.com/huggingface/safetensors) is as plain as a format can be: eight bytes with the
// length of a header, the header (JSON: for every name its type, shape and the range of its bytes, and
// a table of strings under "__metadata__"), then the arrays themselves, little-endian, row-major, one after
// another. Every framework reads it and nothing in it can be executed. Written are F32 and I32; read as floats are F16 and
// BF16 too. Arrays of other types (a checkpoint may hold a buffer of I64 that nobody needs) are listed with their shape,
// without values.
#ifndef MRA_IO_SAFETENSORS_H
#define MRA_IO_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

enum { MRA_SAFETENSORS_RANK = 8 };

typedef struct mra_safetensor {
    char *name;
    int rank;
    int64_t shape[MRA_SAFETENSORS_RANK];
    size_t size;  // product of shape
    char type[8]; // "F32", "I32", ...: as the file has it
    // One of the two is set, or neither (an array of another type). Of a file that was read: owned by it; of one to be
    // written: borrowed.
    const float *data;
    const int32_t *ints;
    float *widened; // the floats of an F16 or BF16 array, of the file's; otherwise NULL
} mra_safetensor;

typedef struct mra_safetensors mra_safetensors; // opaque: the content of one file

mra_status mra_safetensors_create(mra_safetensors **file, mra_error *err); // empty
void mra_safetensors_free(mra_safetensors *file);

// Adds an array; `data` (the product of `shape` floats) is borrowed until the file is written. A name that is
// there already is MRA_BAD_INPUT.
mra_status mra_safetensors_add(mra_safetensors *file, const char *name, int rank,
                               const int64_t *shape, const float *data, mra_error *err);
// The same for int32.
mra_status mra_safetensors_add_ints(mra_safetensors *file, const char *name, int rank,
                                    const int64_t *shape, const int32_t *ints, mra_error *err);
// Sets a string of the metadata; key and value are copied.
mra_status mra_safetensors_set(mra_safetensors *file, const char *key, const char *value,
                               mra_error *err);
// The same for a number, in as many digits as a double needs.
mra_status mra_safetensors_set_number(mra_safetensors *file, const char *key, double value,
                                      mra_error *err);
// Writes the file atomically (core/file.h). The header is padded with spaces so that the arrays begin at a
// multiple of 64 bytes.
mra_status mra_safetensors_write(const mra_safetensors *file, const char *path, mra_error *err);

// Reads a whole file. A truncated or damaged one, arrays that overlap, leave gaps or do not fit their
// shape, and types that the format does not have are MRA_BAD_INPUT naming the file and the array; MRA_IO when it
// cannot be read. F16 and BF16 become float32 here, exactly.
mra_status mra_safetensors_read(mra_safetensors **file, const char *path, mra_error *err);
// Index from 0 until NULL, in the order of the header; and by name (NULL: not there).
const mra_safetensor *mra_safetensors_at(const mra_safetensors *file, size_t index);
const mra_safetensor *mra_safetensors_find(const mra_safetensors *file, const char *name);
// The floats of the array `name`, which belong to the file. One that is missing, is not of float or has another shape
// than `shape` is MRA_BAD_INPUT naming `path`, the array, what was found and what was expected.
mra_status mra_safetensors_fetch(const mra_safetensors *file, const char *path,
                                 const char *name, int rank, const int *shape,
                                 const float **values, mra_error *err);
// A string of the metadata, NULL if it is not there.
const char *mra_safetensors_get(const mra_safetensors *file, const char *key);

#endif
