// The prepared copy: what unpacking 50,000 files costs is paid once.
//
//     "MRAIMDB1"                     8 bytes
//     SHA-256 of the archive         64 hexadecimal digits
//     number of reviews              8 bytes, little-endian
//     per review: split, label       1 byte each
//                 length             4 bytes, little-endian
//                 the bytes
//     CRC-32 of all that             4 bytes, little-endian

#include "data/imdb_cache.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"

static const char magic[8] = {'M', 'R', 'A', 'I', 'M', 'D', 'B', '1'};
enum { HEADER = 8 + 64 + 8, PER_REVIEW = 1 + 1 + 4 };

bool mra_reviews_add(mra_reviews *list, const char *name, const unsigned char *bytes,
                     size_t length, int split, int label)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 1024;
        mra_review *larger = realloc(list->items, room * sizeof *larger);
        if (!larger) return false;
        list->items = larger;
        list->room = room;
    }
    mra_review review = {.length = length, .split = split, .label = label};
    review.bytes = malloc(length ? length : 1);
    if (name) review.name = strdup(name);
    if (!review.bytes || (name && !review.name)) {
        free(review.bytes);
        free(review.name);
        return false;
    }
    memcpy(review.bytes, bytes, length);
    list->items[list->count++] = review;
    return true;
}

void mra_reviews_free(mra_reviews *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        free(list->items[i].bytes);
    }
    free(list->items);
    *list = (mra_reviews){0};
}

static uint64_t get_number(const unsigned char *at, int bytes)
{
    uint64_t number = 0;
    for (int i = bytes; i-- > 0;) number = number << 8 | at[i];
    return number;
}

static void put_number(unsigned char *at, int bytes, uint64_t number)
{
    for (int i = 0; i < bytes; i++) at[i] = (unsigned char)(number >> 8 * i);
}

// ---- Reading --------------------------------------------------------------------------------

// The whole file in memory, or NULL.
static unsigned char *load(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    struct stat info;
    unsigned char *data = NULL;
    if (!file) return NULL;
    if (fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode) &&
        info.st_size >= HEADER + 4) {
        *size = (size_t)info.st_size;
        data = malloc(*size);
        if (data && fread(data, 1, *size, file) != *size) {
            free(data);
            data = NULL;
        }
    }
    fclose(file);
    return data;
}

// Takes the reviews out of `size` bytes that have passed the checksum.
static bool unpack(mra_reviews *list, const unsigned char *data, size_t size)
{
    uint64_t count = get_number(data + 8 + 64, 8);
    const unsigned char *at = data + HEADER, *end = data + size - 4;
    for (uint64_t i = 0; i < count; i++) {
        if (end - at < PER_REVIEW) return false;
        int split = at[0], label = at[1];
        size_t length = (size_t)get_number(at + 2, 4);
        at += PER_REVIEW;
        if (split > 1 || label > 1 || (size_t)(end - at) < length) return false;
        if (!mra_reviews_add(list, NULL, at, length, split, label)) return false;
        at += length;
    }
    return at == end;
}

bool mra_imdb_cache_read(mra_reviews *list, const char *path, const char archive_sha256[65])
{
    size_t size;
    unsigned char *data = load(path, &size);
    if (!data) return false;
    bool whole = memcmp(data, magic, sizeof magic) == 0 &&
                 memcmp(data + sizeof magic, archive_sha256, 64) == 0 &&
                 mra_crc32(0, data, size - 4) == get_number(data + size - 4, 4) &&
                 unpack(list, data, size);
    free(data);
    if (!whole) mra_reviews_free(list);
    return whole;
}

// ---- Writing --------------------------------------------------------------------------------

// Writes bytes and takes them into the checksum; a failure is told by the commit.
static uint32_t write_summed(FILE *stream, uint32_t crc, const void *bytes, size_t count)
{
    fwrite(bytes, 1, count, stream);
    return mra_crc32(crc, bytes, count);
}

mra_status mra_imdb_cache_write(const mra_reviews *list, const char *path,
                                const char archive_sha256[65], mra_error *err)
{
    mra_output output;
    mra_status status = mra_output_open(&output, path, err);
    if (status != MRA_OK) return status;
    unsigned char field[8];
    uint32_t crc = write_summed(output.stream, 0, magic, sizeof magic);
    crc = write_summed(output.stream, crc, archive_sha256, 64);
    put_number(field, 8, list->count);
    crc = write_summed(output.stream, crc, field, 8);
    for (size_t i = 0; i < list->count; i++) {
        const mra_review *review = &list->items[i];
        field[0] = (unsigned char)review->split;
        field[1] = (unsigned char)review->label;
        put_number(field + 2, 4, review->length);
        crc = write_summed(output.stream, crc, field, PER_REVIEW);
        crc = write_summed(output.stream, crc, review->bytes, review->length);
    }
    put_number(field, 4, crc);
    fwrite(field, 1, 4, output.stream);
    return mra_output_commit(&output, err);
}
