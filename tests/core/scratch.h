// A folder of its own for each test program, removed at the end, and whole files in one call.
#ifndef MRA_TESTS_CORE_SCRATCH_H
#define MRA_TESTS_CORE_SCRATCH_H

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch_folder[256];

static int scratch_make(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(scratch_folder, sizeof scratch_folder, "%s/mra-test-XXXXXX", base ? base : "/tmp");
    return mkdtemp(scratch_folder) ? 0 : -1;
}

static inline int scratch_remove_one(const char *path, const struct stat *info, int type,
                                     struct FTW *at)
{
    (void)info, (void)type, (void)at;
    return remove(path);
}

static int scratch_remove(void **state)
{
    (void)state;
    return nftw(scratch_folder, scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

// The path of `name` in the scratch folder; one of four buffers taken in turn.
static inline const char *scratch_path(const char *name)
{
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

static inline const char *scratch_write(const char *name, const void *data, size_t bytes)
{
    const char *path = scratch_path(name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) abort();
    return path;
}

static inline const char *scratch_write_text(const char *name, const char *text)
{
    return scratch_write(name, text, strlen(text));
}

// The file's bytes, NUL-terminated, in a buffer to be freed; *bytes may be NULL.
static inline char *scratch_read(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *data = NULL;
    size_t used = 0, room = 0, got = 1;
    while (got > 0) {
        if (room - used < 2) {
            room = 2 * room + 4096;
            char *larger = realloc(data, room);
            if (!larger) abort();
            data = larger;
        }
        got = fread(data + used, 1, room - used - 1, file);
        used += got;
    }
    data[used] = '\0';
    if (bytes) *bytes = used;
    fclose(file);
    return data;
}

// How many entries the scratch folder has.
static inline int scratch_count(void)
{
    DIR *folder = opendir(scratch_folder);
    int count = 0;
    while (folder && readdir(folder)) count++;
    if (folder) closedir(folder);
    return count - 2;
}

#endif
