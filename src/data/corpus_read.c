// Where documents come from: members of an archive, files below a folder, or one file.

#include "data/corpus_read.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "io/archive.h"

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

// Whether `name` begins with one of the words of `members`.
static bool is_member(const char *members, const char *name)
{
    if (!members || !members[strspn(members, " ")]) return true;
    for (const char *word = members; *(word += strspn(word, " "));) {
        const size_t length = strcspn(word, " ");
        if (strncmp(name, word, length) == 0) return true;
        word += length;
    }
    return false;
}

// ---- From a file's text to documents --------------------------------------------------------

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static mra_status take_stripped(const mra_document_reader *reader, const char *name,
                                const char *text, size_t bytes, mra_error *err)
{
    while (bytes > 0 && is_blank(text[bytes - 1])) bytes--;
    while (bytes > 0 && is_blank(*text)) text++, bytes--;
    return bytes ? reader->take(reader->context, name, text, bytes, err) : MRA_OK;
}

static bool line_is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!is_blank(line[i])) return false;
    return true;
}

static mra_status take_text(const mra_document_reader *reader, const char *name,
                            const char *text, size_t bytes, mra_error *err)
{
    if (!reader->blank_lines) return take_stripped(reader, name, text, bytes, err);
    size_t begin = 0, at = 0;
    mra_status status = MRA_OK;
    while (at < bytes && status == MRA_OK) {
        const char *end = memchr(text + at, '\n', bytes - at);
        const size_t length = end ? (size_t)(end - text) - at : bytes - at;
        if (line_is_blank(text + at, length)) {
            status = take_stripped(reader, name, text + begin, at - begin, err);
            begin = at;
        }
        at += length + (end != NULL);
    }
    return status == MRA_OK ? take_stripped(reader, name, text + begin, bytes - begin, err)
                            : status;
}

// ---- Files and folders ----------------------------------------------------------------------

static mra_status read_text(const char *path, const char *name,
                            const mra_document_reader *reader, mra_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file) return mra_fail(err, MRA_IO, "%s: cannot read: %s", path, strerror(errno));
    struct stat info;
    const size_t bytes = fstat(fileno(file), &info) == 0 ? (size_t)info.st_size : 0;
    char *text = malloc(bytes + 1);
    mra_status status = MRA_OK;
    if (!text)
        status = mra_fail(err, MRA_NO_MEMORY, "%s: no memory for %zu bytes", path, bytes);
    else if (fread(text, 1, bytes, file) != bytes)
        status = mra_fail(err, MRA_IO, "%s: it cannot be read to its end", path);
    fclose(file);
    if (status == MRA_OK) status = take_text(reader, name, text, bytes, err);
    free(text);
    return status;
}

// Visits every *.txt below `path`, in the order of names; `name` is its path below the first folder.
typedef mra_status visit(void *context, const char *path, const char *name, mra_error *err);

static mra_status walk(const char *path, const char *name, visit *visit, void *context,
                       mra_error *err)
{
    struct dirent **entry;
    const int count = scandir(path, &entry, NULL, alphasort);
    if (count < 0) return mra_fail(err, MRA_IO, "%s: cannot read: %s", path, strerror(errno));
    mra_status status = MRA_OK;
    for (int i = 0; i < count; i++) {
        const char *own = entry[i]->d_name;
        char below[1024], below_name[1024];
        struct stat info;
        const int used = snprintf(below, sizeof below, "%s/%s", path, own);
        snprintf(below_name, sizeof below_name, "%s%s%s", name, *name ? "/" : "", own);
        if (status == MRA_OK && own[0] != '.') {
            if (used >= (int)sizeof below)
                status = mra_fail(err, MRA_BAD_INPUT, "%.60s...: the name is too long", below);
            else if (stat(below, &info) == 0 && S_ISDIR(info.st_mode))
                status = walk(below, below_name, visit, context, err);
            else if (ends_with(own, ".txt"))
                status = visit(context, below, below_name, err);
        }
        free(entry[i]);
    }
    free(entry);
    return status;
}

static mra_status visit_to_read(void *context, const char *path, const char *name,
                                mra_error *err)
{
    const mra_document_reader *reader = context;
    return is_member(reader->members, name) ? read_text(path, name, reader, err) : MRA_OK;
}

// ---- Archives -------------------------------------------------------------------------------

static mra_status read_archive(const char *path, const mra_document_reader *reader,
                               mra_error *err)
{
    mra_archive *archive;
    mra_status status = mra_archive_open(&archive, path, err);
    if (status != MRA_OK) return status;
    while (status == MRA_OK) {
        const char *name;
        const unsigned char *bytes;
        size_t count;
        status = mra_archive_next(archive, &name, err);
        if (status != MRA_OK || !name) break;
        if (strncmp(name, "./", 2) == 0) name += 2;
        if (!ends_with(name, ".txt") || !is_member(reader->members, name)) continue;
        status = mra_archive_data(archive, &bytes, &count, err);
        if (status == MRA_OK) status = take_text(reader, name, (const char *)bytes, count, err);
    }
    mra_archive_close(archive);
    return status;
}

static mra_status kind_of(const char *path, bool *folder, mra_error *err)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return mra_fail(err, errno == ENOENT ? MRA_ABSENT : MRA_IO, "%s: cannot read: %s", path,
                        strerror(errno));
    *folder = S_ISDIR(info.st_mode);
    return MRA_OK;
}

mra_status mra_documents_read(const char *path, const mra_document_reader *reader,
                              mra_error *err)
{
    bool folder = false;
    const mra_status status = kind_of(path, &folder, err);
    if (status != MRA_OK) return status;
    if (folder) return walk(path, "", visit_to_read, (void *)(uintptr_t)reader, err);
    if (!ends_with(path, ".txt")) return read_archive(path, reader, err);
    const char *name = strrchr(path, '/');
    return read_text(path, name ? name + 1 : path, reader, err);
}

// ---- Checksums ------------------------------------------------------------------------------

// Each file's sum is made of the sum so far, its name and its own.
static mra_status visit_to_sum(void *context, const char *path, const char *name,
                               mra_error *err)
{
    char *sum = context, own[65], text[65 + 65 + 1024];
    const mra_status status = mra_sha256_file(path, own, err);
    if (status != MRA_OK) return status;
    const int length = snprintf(text, sizeof text, "%s %s %s", sum, own, name);
    mra_sha256(text, (size_t)length, sum);
    return MRA_OK;
}

mra_status mra_documents_checksum(const char *path, char hex[65], mra_error *err)
{
    bool folder = false;
    const mra_status status = kind_of(path, &folder, err);
    if (status != MRA_OK) return status;
    if (!folder) return mra_sha256_file(path, hex, err);
    snprintf(hex, 65, "folder");
    return walk(path, "", visit_to_sum, hex, err);
}
