// Archives for tests, packed by libarchive's writer.
#ifndef MRA_TESTS_IO_PACK_H
#define MRA_TESTS_IO_PACK_H

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

typedef struct pack_member {
    const char *name, *data; // data NULL: a folder
} pack_member;

// Packs members (ended by a NULL name) into `path`; the suffix says how: .tar, .tar.gz,
// .tar.bz2, .tar.xz, .zip.
static inline void pack(const char *path, const pack_member *members)
{
    struct archive *a = archive_write_new();
    if (!a || archive_write_set_format_filter_by_ext(a, path) != ARCHIVE_OK ||
        archive_write_open_filename(a, path) != ARCHIVE_OK)
        abort();
    for (; members->name; members++) {
        struct archive_entry *entry = archive_entry_new();
        size_t bytes = members->data ? strlen(members->data) : 0;
        archive_entry_set_pathname(entry, members->name);
        archive_entry_set_filetype(entry, members->data ? AE_IFREG : AE_IFDIR);
        archive_entry_set_perm(entry, members->data ? 0644 : 0755);
        archive_entry_set_size(entry, (la_int64_t)bytes);
        if (archive_write_header(a, entry) != ARCHIVE_OK) abort();
        if (bytes && archive_write_data(a, members->data, bytes) != (la_ssize_t)bytes) abort();
        archive_entry_free(entry);
    }
    if (archive_write_free(a) != ARCHIVE_OK) abort();
}

#endif
