// Where pictures come from. A folder is listed; an archive is copied once into a file that can be mapped, or,
// without a place for that, its chosen members are kept in memory. After that all of them are one
// list (data/image_list.h).

#include "data/image_source.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/progress.h"
#include "data/image_folder.h"
#include "io/archive.h"

enum { PATH = MRA_IMAGE_PATH };

void mra_image_source_close(mra_image_source *source)
{
    mra_image_list_free(&source->list);
    mra_pack_close(&source->pack);
}

// ---- Folders --------------------------------------------------------------------------------

// "first/second" in `path`.
mra_status mra_join_path(char *path, size_t room, const char *first, const char *second,
                         mra_error *err)
{
    const int length = snprintf(path, room, "%s/%s", first, second);
    if (length >= 0 && (size_t)length < room) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%.200s/%.100s: the name is too long", first, second);
}

bool mra_is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

// The names in path/below/, of which those of folders are listed in turn, `depth` levels deep.
static mra_status list_folder(mra_image_source *source, const char *below, int depth,
                              mra_error *err)
{
    char path[PATH], name[PATH];
    mra_status status = mra_join_path(path, sizeof path, source->path, below, err);
    if (status != MRA_OK) return status;
    DIR *folder = opendir(path);
    if (!folder)
        return mra_fail(err, MRA_IO, "%s: cannot list the folder: %s", path, strerror(errno));
    for (struct dirent *entry; status == MRA_OK && (entry = readdir(folder));) {
        if (*entry->d_name == '.') continue;
        status = mra_join_path(name, sizeof name, below, entry->d_name, err);
        if (status == MRA_OK)
            status = mra_join_path(path, sizeof path, source->path, name, err);
        if (status != MRA_OK) break;
        if (depth > 0 && mra_is_folder(path))
            status = list_folder(source, name, depth - 1, err);
        else
            status = mra_image_list_add(&source->list, name, NULL, err);
    }
    closedir(folder);
    return status;
}

static mra_status list_folders(mra_image_source *source, mra_error *err)
{
    mra_status status = MRA_OK;
    for (int s = 0; s < MRA_LIST_SPLITS && status == MRA_OK; s++) {
        char path[PATH];
        status = mra_join_path(path, sizeof path, source->path, mra_image_list_split(s), err);
        if (status == MRA_OK && mra_is_folder(path)) // otherwise missed if it is needed
            status = list_folder(source, mra_image_list_split(s), 1, err);
    }
    return status;
}

// The whole file, to be freed.
mra_status mra_image_read_file(const char *path, unsigned char **data, size_t *bytes,
                               mra_error *err)
{
    errno = 0;
    FILE *file = fopen(path, "rb");
    struct stat about;
    *data = NULL;
    bool whole = file && fstat(fileno(file), &about) == 0;
    if (whole) {
        *bytes = (size_t)about.st_size;
        *data = malloc(*bytes + 1);
        whole = *data && fread(*data, 1, *bytes, file) == *bytes;
    }
    const char *reason = errno ? strerror(errno) : "it ended early";
    if (file) fclose(file);
    if (whole) return MRA_OK;
    free(*data);
    *data = NULL;
    return mra_fail(err, MRA_IO, "%s: cannot read: %s", path, reason);
}

// ---- Prepared copies ------------------------------------------------------------------------

static mra_status list_pack(mra_image_source *source, mra_error *err)
{
    mra_status status = MRA_OK;
    for (size_t i = 0; i < source->pack.count && status == MRA_OK; i++) {
        const mra_pack_picture from = mra_pack_get(&source->pack, i);
        mra_picture *picture;
        status = mra_image_list_add(&source->list, from.name, &picture, err);
        if (status != MRA_OK || !picture) continue;
        picture->data = from.data;
        picture->bytes = from.bytes;
        picture->crc = from.crc;
    }
    return status;
}

// The pictures of an archive, as they come.
static mra_status copy_members(const mra_image_list *list, mra_pack_writer *writer,
                               size_t count, bool quiet, mra_error *err)
{
    mra_archive *archive;
    mra_status status = mra_archive_open(&archive, list->path, err);
    if (status != MRA_OK) return status;
    mra_progress progress = mra_progress_start("preparing pictures", (double)count, 0, quiet);
    const char *name;
    double done = 0;
    while ((status = mra_archive_next(archive, &name, err)) == MRA_OK && name) {
        const unsigned char *data;
        size_t bytes;
        int split;
        status = mra_image_list_place(list, name, &split, NULL, err);
        if (status == MRA_OK && split < 0) continue;
        if (status == MRA_OK) status = mra_archive_data(archive, &data, &bytes, err);
        if (status == MRA_OK) status = mra_pack_add(writer, name, data, bytes, err);
        if (status != MRA_OK) break;
        mra_progress_update(&progress, ++done, "");
    }
    if (status == MRA_OK) mra_progress_end(&progress, "");
    mra_archive_close(archive);
    return status;
}

// Names alone.
static mra_status list_archive(mra_image_list *list, mra_error *err)
{
    mra_archive *archive;
    mra_status status = mra_archive_open(&archive, list->path, err);
    if (status != MRA_OK) return status;
    const char *name;
    while ((status = mra_archive_next(archive, &name, err)) == MRA_OK && name)
        if ((status = mra_image_list_add(list, name, NULL, err)) != MRA_OK) break;
    mra_archive_close(archive);
    return status;
}

static size_t count_of(const mra_image_list *list)
{
    return list->split[MRA_LIST_TRAIN].count + list->split[MRA_LIST_VAL].count;
}

// Names come first, so that what is wrong with them shows before much is written.
static mra_status copy_archive(const char *path, const char *copy, const char key[65],
                               size_t *count, bool quiet, mra_error *err)
{
    mra_image_list list = {.path = path};
    mra_pack_writer *writer = NULL;
    mra_status status = list_archive(&list, err);
    *count = count_of(&list);
    if (status == MRA_OK && *count == 0)
        status = mra_fail(err, MRA_BAD_INPUT,
                          "%s: no pictures in it: expected {train,val}/CLASS/*.JPEG", path);
    if (status == MRA_OK) status = mra_pack_begin(&writer, copy, err);
    if (status == MRA_OK) status = copy_members(&list, writer, *count, quiet, err);
    if (status == MRA_OK)
        status = mra_pack_finish(writer, key, err);
    else
        mra_pack_abandon(writer);
    mra_image_list_free(&list);
    return status;
}

// Opens the copy of an archive in the folder for copies, or makes it first. Without a copy, for want of
// a place for it, source->pack is empty and that is no failure.
static mra_status open_copy(mra_image_source *source, const char *folder, bool quiet,
                            mra_error *err)
{
    char key[65], copy[PATH];
    size_t count;
    mra_error reason = {0};
    mra_status status = mra_sha256_file(source->path, key, err);
    if (status != MRA_OK) return status;
    snprintf(copy, sizeof copy, "%.1900s/imagenet-%.16s.bin", folder, key);
    if (mra_pack_open(&source->pack, copy, key, &reason) == MRA_OK) return MRA_OK;
    status = mra_make_folder(folder, &reason);
    if (status == MRA_OK)
        status = copy_archive(source->path, copy, key, &count, quiet, &reason);
    if (status == MRA_OK) status = mra_pack_open(&source->pack, copy, key, &reason);
    if (status == MRA_BAD_INPUT) return mra_fail(err, status, "%s", reason.message);
    if (status != MRA_OK)
        mra_say(quiet, "going on without a prepared copy of %s: %s", source->path,
                reason.message);
    return MRA_OK;
}

// ---- Members in memory ----------------------------------------------------------------------

static int by_name(const void *a, const void *b)
{
    return strcmp((*(mra_picture *const *)a)->name, (*(mra_picture *const *)b)->name);
}

static mra_status load_members(const mra_image_list *list, mra_archive *archive,
                               mra_picture **sorted, size_t count, mra_progress *progress,
                               mra_error *err)
{
    for (size_t found = 0; found < count;) {
        const char *name;
        mra_status status = mra_archive_next(archive, &name, err);
        if (status != MRA_OK) return status;
        if (!name) return mra_fail(err, MRA_IO, "%s: changed while it was read", list->path);
        mra_picture key = {.name = (char *)name}, *wanted = &key;
        mra_picture **at = bsearch(&wanted, sorted, count, sizeof(mra_picture *), by_name);
        if (!at || (*at)->data) continue;
        const unsigned char *data;
        status = mra_archive_data(archive, &data, &(*at)->bytes, err);
        if (status != MRA_OK) return status;
        unsigned char *kept = malloc((*at)->bytes + 1);
        if (!kept)
            return mra_fail(err, MRA_NO_MEMORY, "%s: member %s: no memory to keep it",
                            list->path, name);
        (*at)->data = memcpy(kept, data, (*at)->bytes + 1);
        mra_progress_update(progress, (double)++found, "");
    }
    return MRA_OK;
}

// Reads the listed members in a second pass over the archive.
mra_status mra_image_source_load(mra_image_list *list, bool quiet, mra_error *err)
{
    const size_t count = count_of(list);
    mra_picture **sorted = malloc((count + 1) * sizeof(mra_picture *));
    mra_archive *archive;
    if (!sorted) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the names", list->path);
    size_t used = 0;
    for (int s = 0; s < MRA_LIST_SPLITS; s++)
        for (size_t i = 0; i < list->split[s].count; i++)
            sorted[used++] = &list->split[s].items[i];
    qsort(sorted, count, sizeof(mra_picture *), by_name);
    list->owns_data = true;
    mra_status status = mra_archive_open(&archive, list->path, err);
    if (status == MRA_OK) {
        mra_progress progress = mra_progress_start("reading pictures", (double)count, 0, quiet);
        status = load_members(list, archive, sorted, count, &progress, err);
        if (status == MRA_OK) mra_progress_end(&progress, "");
        mra_archive_close(archive);
    }
    free(sorted);
    return status;
}

// ---- Any of them --------------------------------------------------------------------------------

mra_status mra_image_source_list(mra_image_source *source, const char *copies, bool quiet,
                                 mra_error *err)
{
    struct stat about;
    if (stat(source->path, &about) != 0)
        return mra_fail(err, errno == ENOENT ? MRA_ABSENT : MRA_IO, "%s: cannot read: %s",
                        source->path, strerror(errno));
    source->file = !S_ISDIR(about.st_mode);
    if (!source->file) return list_folders(source, err);
    mra_status status = mra_pack_open(&source->pack, source->path, NULL, err);
    if (status == MRA_ABSENT) status = *copies ? open_copy(source, copies, quiet, err) : MRA_OK;
    if (status != MRA_OK) return status;
    return source->pack.map ? list_pack(source, err) : list_archive(&source->list, err);
}

// ---- Preparing ------------------------------------------------------------------------------

// The key of a folder's copy says nothing: a folder may be too large to be read again for the sake of one.
static mra_status copy_folder(const mra_image_source *source, const char *copy, bool quiet,
                              mra_error *err)
{
    char key[65], path[PATH];
    const mra_image_list *list = &source->list;
    mra_pack_writer *writer = NULL;
    size_t done = 0;
    memset(key, '0', sizeof key - 1);
    key[64] = '\0';
    mra_progress progress =
        mra_progress_start("preparing pictures", (double)count_of(list), 0, quiet);
    mra_status status = mra_pack_begin(&writer, copy, err);
    for (int s = 0; s < MRA_LIST_SPLITS; s++)
        for (size_t i = 0; i < list->split[s].count && status == MRA_OK; i++) {
            const char *name = list->split[s].items[i].name;
            unsigned char *data = NULL;
            size_t bytes = 0;
            status = mra_join_path(path, sizeof path, source->path, name, err);
            if (status == MRA_OK) status = mra_image_read_file(path, &data, &bytes, err);
            if (status == MRA_OK) status = mra_pack_add(writer, name, data, bytes, err);
            free(data);
            mra_progress_update(&progress, (double)++done, "");
        }
    if (status == MRA_OK)
        status = mra_pack_finish(writer, key, err);
    else
        mra_pack_abandon(writer);
    if (status == MRA_OK) mra_progress_end(&progress, "");
    return status;
}

mra_status mra_image_folder_prepare(const char *path, const char *copy, size_t *count,
                                    bool quiet, mra_error *err)
{
    char key[65];
    mra_image_source source = {.path = path, .list = {.path = path}};
    if (!mra_is_folder(path)) {
        mra_status status = mra_sha256_file(path, key, err);
        return status == MRA_OK ? copy_archive(path, copy, key, count, quiet, err) : status;
    }
    mra_status status = mra_image_source_list(&source, "", quiet, err);
    if (status == MRA_OK) status = mra_image_list_order(&source.list, false, err);
    *count = count_of(&source.list);
    if (status == MRA_OK) status = copy_folder(&source, copy, quiet, err);
    mra_image_source_close(&source);
    return status;
}
