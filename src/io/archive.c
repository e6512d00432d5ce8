// Archives through libarchive, which recognises format and compression by their content.

#include "io/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mra_archive {
    struct archive *reader;
    char *path;
    char *name; // of the current member; before the first one, ""
    unsigned char *data;
    size_t room;
};

// libarchive's message as an error about the archive.
static mra_status damaged(const mra_archive *archive, const char *where, mra_error *err)
{
    const char *reason = archive_error_string(archive->reader);
    if (archive_errno(archive->reader) == ENOMEM)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory to unpack", archive->path);
    return mra_fail(err, MRA_BAD_INPUT, "%s: %s%s%struncated, damaged or no archive (%s)",
                    archive->path, where, archive->name, *where ? ": " : "",
                    reason ? reason : "no reason given");
}

static struct archive *reader_new(void)
{
    struct archive *reader = archive_read_new();
    if (!reader) return NULL;
    archive_read_support_filter_gzip(reader);
    archive_read_support_filter_bzip2(reader);
    archive_read_support_filter_xz(reader);
    archive_read_support_format_tar(reader);
    archive_read_support_format_zip(reader);
    return reader;
}

mra_status mra_archive_open(mra_archive **archive, const char *path, mra_error *err)
{
    *archive = NULL;
    if (access(path, R_OK) != 0)
        return mra_fail(err, errno == ENOENT ? MRA_ABSENT : MRA_IO, "%s: cannot read: %s", path,
                        strerror(errno));
    mra_archive *a = calloc(1, sizeof *a);
    if (a) {
        a->reader = reader_new();
        a->path = strdup(path);
        a->name = strdup("");
    }
    if (!a || !a->reader || !a->path || !a->name) {
        mra_archive_close(a);
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory to read the archive", path);
    }
    if (archive_read_open_filename(a->reader, path, 1 << 18) != ARCHIVE_OK) {
        mra_status status = damaged(a, "", err);
        mra_archive_close(a);
        return status;
    }
    *archive = a;
    return MRA_OK;
}

void mra_archive_close(mra_archive *archive)
{
    if (!archive) return;
    if (archive->reader) archive_read_free(archive->reader);
    free(archive->path);
    free(archive->name);
    free(archive->data);
    free(archive);
}

// An uncompressed tar ends with a block of 512 zeros. libarchive takes a file that was cut
// between two members for a whole one; the missing block tells them apart.
static mra_status check_end(const mra_archive *archive, mra_error *err)
{
    bool tar =
        (archive_format(archive->reader) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_TAR;
    if (!tar || archive_filter_code(archive->reader, 0) != ARCHIVE_FILTER_NONE) return MRA_OK;
    unsigned char block[512];
    FILE *file = fopen(archive->path, "rb");
    bool whole = file && fseek(file, -(long)sizeof block, SEEK_END) == 0 &&
                 fread(block, 1, sizeof block, file) == sizeof block;
    if (file) fclose(file);
    for (size_t i = 0; whole && i < sizeof block; i++) whole = block[i] == 0;
    if (whole) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%s: truncated after member %s", archive->path,
                    archive->name);
}

mra_status mra_archive_next(mra_archive *archive, const char **name, mra_error *err)
{
    *name = NULL;
    struct archive_entry *entry;
    for (;;) {
        int result = archive_read_next_header(archive->reader, &entry);
        if (result == ARCHIVE_EOF) return check_end(archive, err);
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
            return damaged(archive, *archive->name ? "after member " : "", err);
        if (archive_entry_filetype(entry) == AE_IFREG) break;
    }
    const char *pathname = archive_entry_pathname(entry);
    if (!pathname) pathname = archive_entry_pathname_utf8(entry);
    char *copy = strdup(pathname ? pathname : "");
    if (!copy) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory to unpack", archive->path);
    free(archive->name);
    *name = archive->name = copy;
    return MRA_OK;
}

mra_status mra_archive_data(mra_archive *archive, const unsigned char **data, size_t *bytes,
                            mra_error *err)
{
    size_t used = 0;
    for (;;) {
        if (archive->room - used < 2) {
            size_t room = archive->room ? 2 * archive->room : 1 << 14;
            unsigned char *larger = realloc(archive->data, room);
            if (!larger)
                return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for member %s",
                                archive->path, archive->name);
            archive->data = larger;
            archive->room = room;
        }
        la_ssize_t got =
            archive_read_data(archive->reader, archive->data + used, archive->room - used - 1);
        if (got < 0) return damaged(archive, "member ", err);
        if (got == 0) break;
        used += (size_t)got;
    }
    archive->data[used] = '\0';
    *data = archive->data;
    *bytes = used;
    return MRA_OK;
}
