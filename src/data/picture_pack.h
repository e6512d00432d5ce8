// Prepared copies of pictures in class folders: one file of all of them, undecoded, that is mapped into memory.
//
// Decompressing an archive takes longer every time than decoding the pictures that are wanted of it; opening a
// million small files, each in turn and in random order, is what network disks are worst at. A copy takes one
// mapping, and any picture of it is read in any order.
//
// It carries the key of what it was made from, a checksum of its list of names, looked at when it is opened, and
// one of every picture, looked at whenever that is read: a copy of the whole of ImageNet, 150 GB, need not be read to
// its end to be used. It is of the machine that made it (numbers in its byte order) and may be deleted at any time.
#ifndef MRA_DATA_PICTURE_PACK_H
#define MRA_DATA_PICTURE_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct mra_pack_writer mra_pack_writer; // opaque

// Begins a copy that appears as `path` when it is finished.
mra_status mra_pack_begin(mra_pack_writer **writer, const char *path, mra_error *err);
mra_status mra_pack_add(mra_pack_writer *writer, const char *name, const void *data,
                        size_t bytes, mra_error *err);
// `key`: 64 characters and a NUL, e.g. mra_sha256(). The writer is freed either way; nothing is left after a failure.
mra_status mra_pack_finish(mra_pack_writer *writer, const char key[65], mra_error *err);
void mra_pack_abandon(mra_pack_writer *writer); // NULL allowed

typedef struct mra_pack { // {0}: none
    void *map;
    size_t bytes, count;
} mra_pack;

typedef struct mra_pack_picture {
    const char *name;
    const unsigned char *data;
    size_t bytes;
    uint32_t crc; // what mra_crc32(0, data, bytes) has to be
} mra_pack_picture;

// MRA_ABSENT: no such file, or one that does not end as a copy does; MRA_BAD_INPUT: a damaged one, or one of another key
// than `key` (NULL: any).
mra_status mra_pack_open(mra_pack *pack, const char *path, const char *key, mra_error *err);
void mra_pack_close(mra_pack *pack);
// Picture i < count, in the order in which they were added. Lives as long as the pack.
mra_pack_picture mra_pack_get(const mra_pack *pack, size_t i);

#endif
