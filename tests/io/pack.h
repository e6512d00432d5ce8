// Archives for tests, packed by libarchive's writer.
#ifndef MRA_TESTS_IO_PACK_H
#define MRA_TESTS_IO_PACK_H

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

typedef struct pack_member {
    const char *name, *data; // data NULL: a folder; otherwise a text
} pack_member;

typedef struct pack_file {
    const char *name;
    const void *data;
    size_t bytes;
} pack_file;

// The suffix says how: .tar, .tar.gz, .tar.bz2, .tar.xz, .zip.
static inline struct archive *pack_open(const char *path)
{
    struct archive *a = archive_write_new();
    if (!a || archive_write_set_format_filter_by_ext(a, path) != ARCHIVE_OK ||
        archive_write_open_filename(a, path) != ARCHIVE_OK)
        abort();
    return a;
}

// data NULL: a folder.
static inline void pack_one(struct archive *a, const char *name, const void *data, size_t bytes)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, data ? AE_IFREG : AE_IFDIR);
    archive_entry_set_perm(entry, data ? 0644 : 0755);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    if (archive_write_header(a, entry) != ARCHIVE_OK) abort();
    if (bytes && archive_write_data(a, data, bytes) != (la_ssize_t)bytes) abort();
    archive_entry_free(entry);
}

static inline void pack_close(struct archive *a)
{
    if (archive_write_free(a) != ARCHIVE_OK) abort();
}

// Packs members, ended by a NULL name, into `path`.
static inline void pack(const char *path, const pack_member *members)
{
    struct archive *a = pack_open(path);
    for (; members->name; members++)
        pack_one(a, members->name, members->data, members->data ? strlen(members->data) : 0);
    pack_close(a);
}

// The same for files of any bytes.
static inline void pack_files(const char *path, const pack_file *files)
{
    struct archive *a = pack_open(path);
    for (; files->name; files++) pack_one(a, files->name, files->data, files->bytes);
    pack_close(a);
}

#endif
