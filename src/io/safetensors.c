// safetensors: named arrays and a few strings in one file.
//
// Reading trusts nothing. The header says where each array lies, and a damaged or hostile header could say
// anything: so its length is checked against the file, every range against its shape, and all ranges together must
// tile the rest of the file from its first byte to its last, without gap or overlap, as the format demands.

#include "io/safetensors.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "io/half.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little-endian; this machine is not"
#endif

struct mra_safetensors {
    mra_safetensor *tensor;
    size_t count, room;
    json_t *metadata; // an object of strings
    void *content;    // of a file that was read: all arrays
};

mra_status mra_safetensors_create(mra_safetensors **file, mra_error *err)
{
    *file = calloc(1, sizeof **file);
    if (*file) (*file)->metadata = json_object();
    if (*file && (*file)->metadata) return MRA_OK;
    free(*file);
    *file = NULL;
    return mra_fail(err, MRA_NO_MEMORY, "safetensors: no memory for an empty file");
}

void mra_safetensors_free(mra_safetensors *file)
{
    if (!file) return;
    for (size_t i = 0; i < file->count; i++) {
        free(file->tensor[i].name);
        free(file->tensor[i].widened);
    }
    free(file->tensor);
    free(file->content);
    json_decref(file->metadata);
    free(file);
}

// ---- Building -------------------------------------------------------------------------------------

enum { ELEMENT = 4 }; // bytes, of either type that is written

static mra_status add_tensor(mra_safetensors *file, const char *name, const char *type,
                             int rank, const int64_t *shape, const void *values, mra_error *err)
{
    if (mra_safetensors_find(file, name))
        return mra_fail(err, MRA_BAD_INPUT, "safetensors: two arrays named %s", name);
    if (rank < 0 || rank > MRA_SAFETENSORS_RANK)
        return mra_fail(err, MRA_BAD_INPUT, "safetensors: %s has %d dimensions, at most %d",
                        name, rank, MRA_SAFETENSORS_RANK);
    if (file->count == file->room) {
        size_t room = file->room ? 2 * file->room : 16;
        mra_safetensor *larger = realloc(file->tensor, room * sizeof *larger);
        if (!larger) return mra_fail(err, MRA_NO_MEMORY, "safetensors: no memory for %s", name);
        file->tensor = larger;
        file->room = room;
    }
    mra_safetensor tensor = {.name = strdup(name), .rank = rank, .size = 1};
    snprintf(tensor.type, sizeof tensor.type, "%.7s", type);
    if (strcmp(type, "F32") == 0) tensor.data = values;
    if (strcmp(type, "I32") == 0) tensor.ints = values;
    if (!tensor.name)
        return mra_fail(err, MRA_NO_MEMORY, "safetensors: no memory for %s", name);
    for (int i = 0; i < rank; i++) {
        tensor.shape[i] = shape[i];
        tensor.size *= (size_t)shape[i];
    }
    file->tensor[file->count++] = tensor;
    return MRA_OK;
}

mra_status mra_safetensors_add(mra_safetensors *file, const char *name, int rank,
                               const int64_t *shape, const float *data, mra_error *err)
{
    return add_tensor(file, name, "F32", rank, shape, data, err);
}

mra_status mra_safetensors_add_ints(mra_safetensors *file, const char *name, int rank,
                                    const int64_t *shape, const int32_t *ints, mra_error *err)
{
    return add_tensor(file, name, "I32", rank, shape, ints, err);
}

mra_status mra_safetensors_set(mra_safetensors *file, const char *key, const char *value,
                               mra_error *err)
{
    if (json_object_set_new(file->metadata, key, json_string(value)) == 0) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "safetensors: the value of %s is not valid UTF-8", key);
}

mra_status mra_safetensors_set_number(mra_safetensors *file, const char *key, double value,
                                      mra_error *err)
{
    char text[64];
    snprintf(text, sizeof text, "%.17g", value);
    return mra_safetensors_set(file, key, text, err);
}

// {"dtype": "F32", "shape": [...], "data_offsets": [from, to]}
static json_t *describe_tensor(const mra_safetensor *tensor, size_t from)
{
    json_t *shape = json_array();
    for (int i = 0; i < tensor->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->type, "shape", shape,
                     "data_offsets", (json_int_t)from,
                     (json_int_t)(from + tensor->size * ELEMENT));
}

// The header as text; NULL when memory ran out.
static char *compose_header(const mra_safetensors *file)
{
    json_t *header = json_object();
    if (json_object_size(file->metadata) > 0)
        json_object_set(header, "__metadata__", file->metadata);
    size_t from = 0;
    for (size_t i = 0; i < file->count; i++) {
        const mra_safetensor *tensor = &file->tensor[i];
        json_object_set_new(header, tensor->name, describe_tensor(tensor, from));
        from += tensor->size * ELEMENT;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    return text;
}

mra_status mra_safetensors_write(const mra_safetensors *file, const char *path, mra_error *err)
{
    char *header = compose_header(file);
    if (!header) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for its header", path);
    mra_output output;
    mra_status status = mra_output_open(&output, path, err);
    if (status == MRA_OK) {
        size_t length = strlen(header), padded = (length + 8 + 63) / 64 * 64 - 8;
        uint64_t stored = padded;
        fwrite(&stored, sizeof stored, 1, output.stream);
        fprintf(output.stream, "%s%*s", header, (int)(padded - length), "");
        for (size_t i = 0; i < file->count; i++) {
            const mra_safetensor *tensor = &file->tensor[i];
            const void *values = tensor->ints ? (const void *)tensor->ints : tensor->data;
            if (tensor->size) fwrite(values, ELEMENT, tensor->size, output.stream);
        }
        status = mra_output_commit(&output, err); // a failed write shows here
    }
    free(header);
    return status;
}

// ---- Reading --------------------------------------------------------------------------------------

// The number of elements of "shape", or false if it is no list of sizes whose product is sane.
static bool read_shape(const json_t *shape, mra_safetensor *tensor)
{
    if (!json_is_array(shape) || json_array_size(shape) > MRA_SAFETENSORS_RANK) return false;
    tensor->rank = (int)json_array_size(shape);
    tensor->size = 1;
    for (int i = 0; i < tensor->rank; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        json_int_t value = json_integer_value(size);
        if (!json_is_integer(size) || value < 0) return false;
        if (value > 0 && tensor->size > (SIZE_MAX >> 4) / (size_t)value) return false;
        tensor->shape[i] = value;
        tensor->size *= (size_t)value;
    }
    return true;
}

// Bytes of an element of a type of the format, or 0.
static size_t element_bytes(const char *type)
{
    static const struct {
        const char *name;
        size_t bytes;
    } types[] = {{"F32", 4}, {"I32", 4}, {"F16", 2},  {"BF16", 2},    {"F64", 8},
                 {"I64", 8}, {"U64", 8}, {"U32", 4},  {"I16", 2},     {"U16", 2},
                 {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i].name) == 0) return types[i].bytes;
    return 0;
}

// Makes floats of an array of half precision.
static mra_status widen(mra_safetensor *tensor, const char *path, const void *values,
                        mra_error *err)
{
    const bool half = strcmp(tensor->type, "F16") == 0;
    if (!half && strcmp(tensor->type, "BF16") != 0) return MRA_OK;
    tensor->widened = malloc(tensor->size * sizeof *tensor->widened + 1);
    if (!tensor->widened)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for %s", path, tensor->name);
    if (half)
        mra_halves_to_floats(tensor->widened, values, tensor->size);
    else
        mra_bfloats_to_floats(tensor->widened, values, tensor->size);
    tensor->data = tensor->widened;
    return MRA_OK;
}

// Where the bytes of an array lie: *from to *to.
static mra_status read_range(const json_t *entry, const char *path, const char *name,
                             size_t bytes, size_t *from, size_t *to, mra_error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    json_int_t begin = json_integer_value(json_array_get(offsets, 0));
    json_int_t end = json_integer_value(json_array_get(offsets, 1));
    if (json_array_size(offsets) != 2 || begin < 0 || end < begin || (size_t)end > bytes)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "%s: array %s: data_offsets lie outside the %zu bytes of data (truncated "
            "file?)",
            path, name, bytes);
    *from = (size_t)begin;
    *to = (size_t)end;
    return MRA_OK;
}

// Adds one array of the header; its bytes are *from to *to.
static mra_status read_entry(mra_safetensors *file, const char *path, const char *name,
                             const json_t *entry, size_t bytes, size_t *from, size_t *to,
                             mra_error *err)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const size_t element = element_bytes(type);
    if (element == 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: array %s has type %s, expected F32 or I32",
                        path, name, type ? type : "none");
    mra_safetensor tensor = {0};
    if (!read_shape(json_object_get(entry, "shape"), &tensor))
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: array %s: shape is not a list of at most %d sizes", path, name,
                        MRA_SAFETENSORS_RANK);
    mra_status status = read_range(entry, path, name, bytes, from, to, err);
    if (status != MRA_OK) return status;
    if (*to - *from != tensor.size * element || *from % element != 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: array %s: %zu bytes do not fit its shape",
                        path, name, *to - *from);
    const void *values = (const char *)file->content + *from;
    status = add_tensor(file, name, type, tensor.rank, tensor.shape, values, err);
    return status == MRA_OK ? widen(&file->tensor[file->count - 1], path, values, err) : status;
}

static int compare_sizes(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

// Whether the ranges [from, to) of all arrays tile [0, bytes). `range` is sorted here; pairs (from, to).
static bool tiles_exactly(size_t *range, size_t count, size_t bytes)
{
    qsort(range, count, 2 * sizeof *range, compare_sizes);
    size_t reached = 0;
    for (size_t i = 0; i < count; i++) {
        // Arrays of no elements may share their place with others.
        if (range[2 * i] == range[2 * i + 1]) continue;
        if (range[2 * i] != reached) return false;
        reached = range[2 * i + 1];
    }
    return reached == bytes;
}

static mra_status read_header(mra_safetensors *file, const char *path, json_t *header,
                              size_t bytes, mra_error *err)
{
    size_t *range = calloc(2 * json_object_size(header) + 2, sizeof *range);
    if (!range) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for its header", path);
    mra_status status = MRA_OK;
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            json_decref(file->metadata);
            file->metadata = json_incref(entry);
            continue;
        }
        size_t *at = range + 2 * file->count;
        status = read_entry(file, path, name, entry, bytes, &at[0], &at[1], err);
        if (status != MRA_OK) break;
    }
    if (status == MRA_OK && !tiles_exactly(range, file->count, bytes))
        status = mra_fail(
            err, MRA_BAD_INPUT,
            "%s: its arrays leave gaps, overlap or stop before the end of the file", path);
    free(range);
    return status;
}

// Header text and data of a file, as two allocations of the caller's.
static mra_status load(const char *path, FILE *stream, char **header, size_t *header_bytes,
                       void **content, size_t *content_bytes, mra_error *err)
{
    uint64_t length = 0;
    if (fseek(stream, 0, SEEK_END) != 0)
        return mra_fail(err, MRA_IO, "%s: cannot read: %s", path, strerror(errno));
    long end = ftell(stream);
    rewind(stream);
    if (end < 8 || fread(&length, sizeof length, 1, stream) != 1)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "%s: %ld bytes are too few for a safetensors file (empty or truncated?)", path,
            end < 0 ? 0 : end);
    size_t rest = (size_t)end - 8;
    if (length > rest)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "%s: not a safetensors file, or truncated: a header of %llu bytes does not "
            "fit into it",
            path, (unsigned long long)length);
    *header_bytes = length;
    *content_bytes = rest - length;
    *header = malloc(*header_bytes + 1);
    *content = malloc(*content_bytes + ELEMENT);
    if (!*header || !*content)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for %zu bytes", path, rest);
    if (fread(*header, 1, *header_bytes, stream) != *header_bytes ||
        fread(*content, 1, *content_bytes, stream) != *content_bytes)
        return mra_fail(err, MRA_IO, "%s: cannot read all of its %ld bytes", path, end);
    return MRA_OK;
}

mra_status mra_safetensors_read(mra_safetensors **file, const char *path, mra_error *err)
{
    mra_safetensors *read;
    *file = NULL;
    FILE *stream = fopen(path, "rb");
    if (!stream) return mra_fail(err, MRA_IO, "%s: cannot read: %s", path, strerror(errno));
    mra_status status = mra_safetensors_create(&read, err);
    char *text = NULL;
    size_t text_bytes = 0, bytes = 0;
    json_t *header = NULL;
    if (status == MRA_OK)
        status = load(path, stream, &text, &text_bytes, &read->content, &bytes, err);
    if (status == MRA_OK) {
        json_error_t reason;
        header = json_loadb(text, text_bytes, JSON_REJECT_DUPLICATES, &reason);
        if (!json_is_object(header))
            status = mra_fail(err, MRA_BAD_INPUT, "%s: its header is not a JSON object: %s",
                              path, header ? "another value" : reason.text);
    }
    if (status == MRA_OK) status = read_header(read, path, header, bytes, err);
    json_decref(header);
    free(text);
    fclose(stream);
    if (status == MRA_OK)
        *file = read;
    else
        mra_safetensors_free(read);
    return status;
}

// ---- Looking up -----------------------------------------------------------------------------------

const mra_safetensor *mra_safetensors_at(const mra_safetensors *file, size_t index)
{
    return index < file->count ? &file->tensor[index] : NULL;
}

const mra_safetensor *mra_safetensors_find(const mra_safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensor[i].name, name) == 0) return &file->tensor[i];
    return NULL;
}

// "[10, 64]"
static const char *show_shape(int rank, const int64_t *shape, char *text, size_t room)
{
    size_t used = (size_t)snprintf(text, room, "[");
    for (int i = 0; i < rank && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%lld", i ? ", " : "",
                                 (long long)shape[i]);
    if (used < room) snprintf(text + used, room - used, "]");
    return text;
}

mra_status mra_safetensors_fetch(const mra_safetensors *file, const char *path,
                                 const char *name, int rank, const int *shape,
                                 const float **values, mra_error *err)
{
    char expected[200], found[200];
    int64_t wanted[MRA_SAFETENSORS_RANK];
    for (int i = 0; i < rank; i++) wanted[i] = shape[i];
    show_shape(rank, wanted, expected, sizeof expected);
    const mra_safetensor *stored = mra_safetensors_find(file, name);
    if (!stored)
        return mra_fail(err, MRA_BAD_INPUT, "%s: no array %s; expected one of shape %s", path,
                        name, expected);
    if (stored->rank != rank ||
        memcmp(stored->shape, wanted, (size_t)rank * sizeof *wanted) != 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: array %s has shape %s, expected %s", path,
                        name, show_shape(stored->rank, stored->shape, found, sizeof found),
                        expected);
    if (!stored->data)
        return mra_fail(err, MRA_BAD_INPUT, "%s: array %s has type %s, expected F32", path,
                        name, stored->type);
    *values = stored->data;
    return MRA_OK;
}

const char *mra_safetensors_get(const mra_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(file->metadata, key));
}
