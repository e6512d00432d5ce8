// Pictures in class folders: what is chosen of them, and batches that are read, decoded and transformed
// picture by picture.

#include "data/image_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/parallel.h"
#include "core/progress.h"
#include "data/image_list.h"
#include "data/image_source.h"
#include "data/source.h"

enum { PATH = MRA_IMAGE_PATH };

struct mra_image_folder {
    char *path;
    mra_image_source source;
};

void mra_image_folder_free(mra_image_folder *set)
{
    if (!set) return;
    mra_image_source_close(&set->source);
    free(set->path);
    free(set);
}

// ---- Opening -------------------------------------------------------------------------------

mra_status mra_image_folder_open(mra_image_folder **result,
                                 const mra_image_folder_options *options, mra_error *err)
{
    *result = NULL;
    mra_image_folder *set = calloc(1, sizeof *set);
    if (set) set->path = strdup(options->path);
    if (!set || !set->path) {
        mra_image_folder_free(set);
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", options->path);
    }
    mra_image_source *source = &set->source;
    mra_image_list *list = &source->list;
    source->path = list->path = set->path;
    const char *copies = options->cache ? options->cache : "build/cache";
    mra_status status = mra_image_source_list(source, copies, options->quiet, err);
    if (status == MRA_OK) status = mra_image_list_order(list, options->val_only, err);
    if (options->val_only) mra_image_list_empty(list, MRA_LIST_TRAIN);
    if (status == MRA_OK) status = mra_image_list_keep(list, options->classes, err);
    if (status == MRA_OK)
        status = mra_image_list_draw(list, MRA_LIST_TRAIN, options->train, options->seed, err);
    if (status == MRA_OK)
        status = mra_image_list_draw(list, MRA_LIST_VAL, options->val, options->seed, err);
    if (status == MRA_OK && source->file && !source->pack.map)
        status = mra_image_source_load(list, options->quiet, err);
    if (status == MRA_OK)
        *result = set;
    else
        mra_image_folder_free(set);
    return status;
}

// ---- Finding ------------------------------------------------------------------

mra_status mra_image_folder_find(const char *folder, char *path, size_t room, mra_error *err)
{
    static const char *const names[] = {"imagenet", "imagenet.bin", "tiny-imagenet-100.tar.xz",
                                        NULL};
    char train[PATH];
    const char *place = mra_data_folder(folder);
    struct stat about;
    mra_status status = mra_join_path(train, sizeof train, place, "train", err);
    if (status != MRA_OK) return status;
    const bool is_file = stat(place, &about) == 0 && !S_ISDIR(about.st_mode);
    if (!is_file && !mra_is_folder(train))
        return mra_data_find("imagenet", names, folder, path, room, err);
    const int length = snprintf(path, room, "%s", place);
    if (length >= 0 && (size_t)length < room) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%.200s: the name is too long", place);
}

// ---- Pictures -------------------------------------------------------------------------------

static const mra_pictures *list_of(const mra_image_folder *set, mra_split split)
{
    return &set->source.list.split[split == MRA_TRAIN ? MRA_LIST_TRAIN : MRA_LIST_VAL];
}

int mra_image_folder_classes(const mra_image_folder *set)
{
    return set->source.list.classes;
}

const char *mra_image_folder_class(const mra_image_folder *set, int label)
{
    return set->source.list.class[label];
}

const char *mra_image_folder_file(const mra_image_folder *set)
{
    return set->source.file ? set->path : NULL;
}

size_t mra_image_folder_count(const mra_image_folder *set, mra_split split)
{
    return list_of(set, split)->count;
}

int mra_image_folder_label(const mra_image_folder *set, mra_split split, size_t i)
{
    return list_of(set, split)->items[i].label;
}

const char *mra_image_folder_name(const mra_image_folder *set, mra_split split, size_t i)
{
    return list_of(set, split)->items[i].name;
}

// What messages call a picture: also the path of one in a folder.
static void call(const mra_image_folder *set, const mra_picture *p, char what[2 * PATH])
{
    snprintf(what, 2 * PATH, set->source.file ? "%s: member %s" : "%s/%s", set->path, p->name);
}

mra_status mra_image_folder_read(const mra_image_folder *set, mra_split split, size_t i,
                                 mra_image *image, mra_error *err)
{
    const mra_picture *p = &list_of(set, split)->items[i];
    char what[2 * PATH];
    *image = (mra_image){0};
    call(set, p, what);
    if (set->source.pack.map && mra_crc32(0, p->data, p->bytes) != p->crc)
        return mra_fail(err, MRA_BAD_INPUT, "%.300s: its prepared copy is damaged: delete it",
                        what);
    if (set->source.file) return mra_jpeg_decode(image, p->data, p->bytes, what, err);
    unsigned char *data;
    size_t bytes = 0;
    mra_status status = mra_image_read_file(what, &data, &bytes, err);
    if (status == MRA_OK) status = mra_jpeg_decode(image, data, bytes, what, err);
    free(data);
    return status;
}

// ---- Batches --------------------------------------------------------------------------------

typedef struct batch_work {
    const mra_image_folder *set;
    const mra_image_batch *batch;
    float *pixels;
    mra_error *errors; // [count], each status MRA_OK or why the picture failed
} batch_work;

static void make_picture(void *context, size_t item, int thread)
{
    const batch_work *work = context;
    const mra_image_batch *b = work->batch;
    const size_t index = b->index[item], size = (size_t)b->augment->size;
    float *out = work->pixels + item * 3 * size * size;
    mra_error *err = &work->errors[item];
    mra_image image;
    (void)thread;
    err->status = mra_image_folder_read(work->set, b->split, index, &image, err);
    if (err->status != MRA_OK) return;
    if (b->train)
        err->status = mra_augment_train(b->augment, &image, b->epoch, index, out, err);
    else
        err->status = mra_augment_evaluate(b->augment, &image, out, err);
    mra_image_free(&image);
    if (err->status == MRA_OK) return;
    char what[2 * PATH];
    call(work->set, &list_of(work->set, b->split)->items[index], what);
    mra_fail_within(err, "%.300s", what);
}

mra_status mra_image_folder_batch(const mra_image_folder *set, const mra_image_batch *batch,
                                  float *pixels, int32_t *labels, mra_error *err)
{
    mra_status status = MRA_OK;
    batch_work work = {.set = set, .batch = batch, .pixels = pixels};
    work.errors = calloc(batch->count ? batch->count : 1, sizeof *work.errors);
    if (!work.errors) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", set->path);
    mra_parallel_for(batch->threads, batch->count, make_picture, &work);
    for (size_t i = 0; i < batch->count && status == MRA_OK; i++) {
        const mra_error *of = &work.errors[i];
        if (of->status != MRA_OK) status = mra_fail(err, of->status, "%s", of->message);
        if (labels) labels[i] = mra_image_folder_label(set, batch->split, batch->index[i]);
    }
    free(work.errors);
    return status;
}

// ---- Verifying ------------------------------------------------------------------------------

enum { CHUNK = 256 };

typedef struct verify_work {
    const mra_image_folder *set;
    mra_split split;
    size_t first;
    mra_error *errors; // [CHUNK]
} verify_work;

static void verify_picture(void *context, size_t item, int thread)
{
    const verify_work *work = context;
    mra_image image;
    (void)thread;
    mra_error *err = &work->errors[item];
    err->status =
        mra_image_folder_read(work->set, work->split, work->first + item, &image, err);
    mra_image_free(&image);
}

mra_status mra_image_folder_verify(const mra_image_folder *set, int threads, bool quiet,
                                   mra_error *err)
{
    static const mra_split splits[] = {MRA_TRAIN, MRA_TEST};
    mra_status status = MRA_OK;
    verify_work work = {.set = set};
    work.errors = calloc(CHUNK, sizeof *work.errors);
    if (!work.errors) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", set->path);
    const size_t train = mra_image_folder_count(set, MRA_TRAIN);
    mra_progress progress = mra_progress_start(
        "decoding pictures", (double)(train + mra_image_folder_count(set, MRA_TEST)), 0, quiet);
    for (int s = 0; s < 2 && status == MRA_OK; s++) {
        const size_t count = mra_image_folder_count(set, splits[s]);
        work.split = splits[s];
        for (work.first = 0; work.first < count && status == MRA_OK; work.first += CHUNK) {
            const size_t items = count - work.first < CHUNK ? count - work.first : CHUNK;
            mra_parallel_for(threads, items, verify_picture, &work);
            for (size_t i = 0; i < items && status == MRA_OK; i++)
                if (work.errors[i].status != MRA_OK)
                    status = mra_fail(err, work.errors[i].status, "%s", work.errors[i].message);
            mra_progress_update(&progress, (double)(work.first + items + (s ? train : 0)), "");
        }
    }
    if (status == MRA_OK) mra_progress_end(&progress, "");
    free(work.errors);
    return status;
}
