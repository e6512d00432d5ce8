// The file, in this order: the pictures, filled up to a multiple of eight bytes; an entry for each of
// them; their names; a foot. The list stands at the end because it is not known before the pictures have gone by, and
// an archive is read once.

#include "data/picture_pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"

static const char magic[16] = "mra pictures 1";
static const uint32_t byte_order = 0x01020304;

typedef struct entry {
    uint64_t at, bytes, name; // of the picture in the file; of its name among the names
    uint32_t crc, unused;
} entry;

typedef struct foot {
    uint64_t data, count, names; // bytes, entries, bytes
    char key[64];
    uint32_t order, crc; // of the machine; of entries, names and this foot with a 0 here
    char magic[16];
} foot;

// ---- Writing --------------------------------------------------------------------------------

struct mra_pack_writer {
    mra_output output;
    entry *entries;
    char *names;
    size_t room, names_room;
    foot foot;
};

mra_status mra_pack_begin(mra_pack_writer **writer, const char *path, mra_error *err)
{
    *writer = NULL;
    mra_pack_writer *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    mra_status status = mra_output_open(&made->output, path, err);
    if (status == MRA_OK)
        *writer = made;
    else
        free(made);
    return status;
}

static void free_writer(mra_pack_writer *writer)
{
    free(writer->entries);
    free(writer->names);
    free(writer);
}

void mra_pack_abandon(mra_pack_writer *writer)
{
    if (!writer) return;
    mra_output_abandon(&writer->output);
    free_writer(writer);
}

// Room for one more entry and `length` more bytes of names.
static bool make_room(mra_pack_writer *writer, size_t length)
{
    if (writer->foot.count == writer->room) {
        const size_t room = writer->room ? 2 * writer->room : 1024;
        entry *larger = realloc(writer->entries, room * sizeof *larger);
        if (!larger) return false;
        writer->entries = larger;
        writer->room = room;
    }
    if (writer->foot.names + length > writer->names_room) {
        const size_t room = 2 * (writer->names_room + length);
        char *larger = realloc(writer->names, room);
        if (!larger) return false;
        writer->names = larger;
        writer->names_room = room;
    }
    return true;
}

mra_status mra_pack_add(mra_pack_writer *writer, const char *name, const void *data,
                        size_t bytes, mra_error *err)
{
    const size_t length = strlen(name) + 1;
    foot *foot = &writer->foot;
    if (!make_room(writer, length))
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the names", writer->output.path);
    writer->entries[foot->count++] = (entry){.at = foot->data,
                                             .bytes = bytes,
                                             .name = foot->names,
                                             .crc = mra_crc32(0, data, bytes)};
    memcpy(writer->names + foot->names, name, length);
    foot->names += length;
    foot->data += bytes;
    // A disk that is full ends a long copy here and not only at its end.
    if (fwrite(data, 1, bytes, writer->output.stream) == bytes) return MRA_OK;
    return mra_fail(err, MRA_IO, "%s: cannot write: %s", writer->output.path, strerror(errno));
}

mra_status mra_pack_finish(mra_pack_writer *writer, const char key[65], mra_error *err)
{
    static const char zeros[8];
    foot *foot = &writer->foot;
    FILE *stream = writer->output.stream;
    const size_t filling = (8 - foot->data % 8) % 8, entries = foot->count * sizeof(entry);
    fwrite(zeros, 1, filling, stream); // a failure is told by the commit
    foot->data += filling;
    foot->order = byte_order;
    memcpy(foot->key, key, sizeof foot->key);
    memcpy(foot->magic, magic, sizeof magic);
    if (entries) {
        foot->crc = mra_crc32(0, writer->entries, entries);
        foot->crc = mra_crc32(foot->crc, writer->names, foot->names);
        fwrite(writer->entries, 1, entries, stream);
        fwrite(writer->names, 1, foot->names, stream);
    }
    struct foot whole = *foot;
    whole.crc = 0;
    whole.crc = mra_crc32(foot->crc, &whole, sizeof whole);
    fwrite(&whole, 1, sizeof whole, stream);
    const mra_status status = mra_output_commit(&writer->output, err);
    free_writer(writer);
    return status;
}

// ---- Reading --------------------------------------------------------------------------------

void mra_pack_close(mra_pack *pack)
{
    if (pack->map) munmap(pack->map, pack->bytes);
    *pack = (mra_pack){0};
}

// The foot need not be aligned.
static foot foot_of(const mra_pack *pack)
{
    foot foot;
    memcpy(&foot, (const char *)pack->map + pack->bytes - sizeof foot, sizeof foot);
    return foot;
}

static const entry *entries_of(const mra_pack *pack)
{
    return (const void *)((const char *)pack->map + foot_of(pack).data);
}

static bool map_file(mra_pack *pack, const char *path)
{
    struct stat info;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    if (fstat(file, &info) == 0 && S_ISREG(info.st_mode) &&
        info.st_size >= (off_t)sizeof(foot)) {
        pack->bytes = (size_t)info.st_size;
        pack->map = mmap(NULL, pack->bytes, PROT_READ, MAP_PRIVATE, file, 0);
        if (pack->map == MAP_FAILED) *pack = (mra_pack){0};
    }
    close(file);
    return pack->map != NULL;
}

// Whether sizes add up, the list's checksum is right and every entry lies within the file.
static bool is_whole(const mra_pack *pack)
{
    foot foot = foot_of(pack);
    const uint64_t most = pack->bytes;
    if (foot.order != byte_order || foot.data % 8 || foot.data > most || foot.names > most ||
        foot.count > most / sizeof(entry) ||
        foot.data + foot.count * sizeof(entry) + foot.names + sizeof foot != most)
        return false;
    const uint32_t stored = foot.crc;
    const size_t list = foot.count * sizeof(entry) + foot.names;
    foot.crc = 0;
    const uint32_t crc = mra_crc32(0, (const char *)pack->map + foot.data, list);
    if (mra_crc32(crc, &foot, sizeof foot) != stored) return false;
    const entry *entries = entries_of(pack);
    const char *names = (const char *)(entries + foot.count);
    if (foot.count && (foot.names == 0 || names[foot.names - 1])) return false;
    for (size_t i = 0; i < foot.count; i++)
        if (entries[i].at > foot.data || entries[i].bytes > foot.data - entries[i].at ||
            entries[i].name >= foot.names)
            return false;
    return true;
}

mra_status mra_pack_open(mra_pack *pack, const char *path, const char *key, mra_error *err)
{
    *pack = (mra_pack){0};
    mra_status status = MRA_OK;
    if (!map_file(pack, path) ||
        memcmp((char *)pack->map + pack->bytes - sizeof magic, magic, sizeof magic) != 0)
        status = mra_fail(err, MRA_ABSENT, "%s: no prepared copy of pictures", path);
    else if (!is_whole(pack))
        status = mra_fail(err, MRA_BAD_INPUT,
                          "%s: a damaged copy of pictures, or one of another machine: "
                          "delete it and prepare it again",
                          path);
    else if (key && memcmp(foot_of(pack).key, key, 64) != 0)
        status = mra_fail(err, MRA_BAD_INPUT, "%s: a copy of something else", path);
    if (status == MRA_OK)
        pack->count = foot_of(pack).count;
    else
        mra_pack_close(pack);
    return status;
}

mra_pack_picture mra_pack_get(const mra_pack *pack, size_t i)
{
    const entry *entries = entries_of(pack), *at = &entries[i];
    const char *names = (const char *)(entries + pack->count);
    return (mra_pack_picture){.name = names + at->name,
                              .data = (const unsigned char *)pack->map + at->at,
                              .bytes = at->bytes,
                              .crc = at->crc};
}
