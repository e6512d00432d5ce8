// Files that appear whole or not at all.
//
// POSIX promises that rename() replaces a name in one step, so a result is written under a
// temporary name in the same folder and renamed once every byte is on the disk (fflush, fsync,
// and only then rename). A process that is killed leaves a temporary file, never half a result.

#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

mra_status mra_output_open(mra_output *output, const char *path, mra_error *err)
{
    *output = (mra_output){0};
    if (!*path) return mra_fail(err, MRA_BAD_INPUT, "the name of the file to write is empty");
    if (strlen(path) >= sizeof output->path)
        return mra_fail(err, MRA_BAD_INPUT, "%.60s...: name longer than %zu bytes", path,
                        sizeof output->path - 1);
    struct stat info;
    bool exists = stat(path, &info) == 0;
    if (exists && S_ISDIR(info.st_mode))
        return mra_fail(err, MRA_IO, "%s: cannot write: it is a folder", path);
    snprintf(output->path, sizeof output->path, "%s", path);
    // A device or a pipe is written to, not replaced.
    if (!exists || S_ISREG(info.st_mode))
        snprintf(output->temporary, sizeof output->temporary, "%s.tmp.%ld", path,
                 (long)getpid());
    output->stream = fopen(*output->temporary ? output->temporary : path, "wb");
    if (!output->stream)
        return mra_fail(err, MRA_IO, "%s: cannot write: %s", path, strerror(errno));
    return MRA_OK;
}

// Makes the new name itself durable; some file systems cannot sync a folder, which loses
// nothing but that.
static void sync_folder_of(const char *path)
{
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    int descriptor = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return;
    fsync(descriptor);
    close(descriptor);
}

// Everything out of our buffers and onto the disk. Streams that cannot be synced (a device)
// only report EINVAL or EROFS for fsync; any other refusal is a lost write. Returns 0 or an
// errno.
static int flush_to_disk(FILE *stream)
{
    int failed_before = ferror(stream);
    if (fflush(stream) != 0) return errno ? errno : EIO;
    if (failed_before) return EIO;
    if (fsync(fileno(stream)) != 0 && errno != EINVAL && errno != EROFS) return errno;
    return 0;
}

mra_status mra_output_commit(mra_output *output, mra_error *err)
{
    if (!output->stream)
        return mra_fail(err, MRA_INTERNAL, "an output was committed that is not open");
    int reason = flush_to_disk(output->stream);
    if (fclose(output->stream) != 0 && !reason) reason = errno;
    output->stream = NULL;
    bool renames = *output->temporary != '\0';
    if (!reason && renames && rename(output->temporary, output->path) != 0) reason = errno;
    if (reason) {
        if (renames) unlink(output->temporary);
        return mra_fail(err, MRA_IO, "%s: cannot write: %s", output->path, strerror(reason));
    }
    if (renames) sync_folder_of(output->path);
    return MRA_OK;
}

void mra_output_abandon(mra_output *output)
{
    if (!output->stream) return;
    fclose(output->stream);
    output->stream = NULL;
    if (*output->temporary) unlink(output->temporary);
}

// ---- Folders --------------------------------------------------------------------------------

static mra_status make_one_folder(const char *folder, const char *path, mra_error *err)
{
    if (mkdir(folder, 0777) == 0) return MRA_OK;
    int reason = errno;
    struct stat info;
    if (stat(folder, &info) == 0 && S_ISDIR(info.st_mode)) return MRA_OK;
    return mra_fail(err, MRA_IO, "%s: cannot make the folder: %s", path, strerror(reason));
}

mra_status mra_make_folder(const char *path, mra_error *err)
{
    char folder[1024];
    size_t length = strlen(path);
    if (length == 0) return mra_fail(err, MRA_BAD_INPUT, "the name of the folder is empty");
    if (length >= sizeof folder)
        return mra_fail(err, MRA_BAD_INPUT, "%.60s...: name longer than %zu bytes", path,
                        sizeof folder - 1);
    memcpy(folder, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (folder[i] != '/' && folder[i] != '\0') continue;
        char end = folder[i];
        folder[i] = '\0';
        mra_status status = make_one_folder(folder, path, err);
        if (status != MRA_OK) return status;
        folder[i] = end;
    }
    return MRA_OK;
}

bool mra_file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

// ---- Checksums ------------------------------------------------------------------------------

static void sha256_end(SHA2_CTX *context, char hex[65])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256Final(digest, context);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

mra_status mra_sha256_file(const char *path, char hex[65], mra_error *err)
{
    enum { BUFFER = 1 << 16 };
    hex[0] = '\0';
    FILE *file = fopen(path, "rb");
    if (!file) return mra_fail(err, MRA_IO, "%s: cannot read: %s", path, strerror(errno));
    unsigned char *buffer = malloc(BUFFER);
    if (!buffer) {
        fclose(file);
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for a buffer", path);
    }
    SHA2_CTX context;
    SHA256Init(&context);
    size_t got;
    errno = 0;
    while ((got = fread(buffer, 1, BUFFER, file)) > 0) SHA256Update(&context, buffer, got);
    int failed = ferror(file), reason = errno;
    free(buffer);
    fclose(file);
    if (failed)
        return mra_fail(err, MRA_IO, "%s: cannot read: %s", path,
                        strerror(reason ? reason : EIO));
    sha256_end(&context, hex);
    return MRA_OK;
}

void mra_sha256(const void *data, size_t bytes, char hex[65])
{
    SHA2_CTX context;
    SHA256Init(&context);
    if (bytes) SHA256Update(&context, data, bytes);
    sha256_end(&context, hex);
}

uint32_t mra_crc32(uint32_t crc, const void *data, size_t bytes)
{
    return bytes ? (uint32_t)crc32_z(crc, data, bytes) : crc;
}

// ---- The machine ----------------------------------------------------------------------------

double mra_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

size_t mra_peak_memory(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
    return (size_t)usage.ru_maxrss * 1024; // Linux counts in KiB
}
