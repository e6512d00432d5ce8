// Files that appear whole or not at all, and small things about the machine.
#ifndef MRA_CORE_FILE_H
#define MRA_CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/error.h"

// A file under construction: written as "<path>.tmp.<pid>" in the same folder, so that a run
// that is killed leaves no half file under the final name. A path that names a device or a pipe
// (/dev/stdout) is written to directly.
typedef struct mra_output {
    FILE *stream;
    char path[1024], temporary[1100]; // temporary is empty for a device
} mra_output;

// Creates the temporary file. MRA_IO names the path and the reason of the system.
mra_status mra_output_open(mra_output *output, const char *path, mra_error *err);
// Flushes, syncs and renames onto the final path. On failure (a full disk shows up here) the
// temporary file is removed and the error names the path. The output is closed either way.
mra_status mra_output_commit(mra_output *output, mra_error *err);
// Closes and removes the temporary file; does nothing after a commit.
void mra_output_abandon(mra_output *output);

// Makes a folder and its parents (mode 0777 less the umask); an existing folder is no error.
mra_status mra_make_folder(const char *path, mra_error *err);
bool mra_file_exists(const char *path);

// SHA-256 of a file as 64 hexadecimal digits and a NUL.
mra_status mra_sha256_file(const char *path, char hex[65], mra_error *err);
// SHA-256 of `bytes` bytes in memory.
void mra_sha256(const void *data, size_t bytes, char hex[65]);

double mra_seconds(void);     // a monotonic clock
size_t mra_peak_memory(void); // peak resident bytes of this process (getrusage)
uint32_t mra_crc32(uint32_t crc, const void *data, size_t bytes); // start with crc = 0

#endif
