// CIFAR-10 from either of its two layouts to sequences of gray pixels. The pictures are brought
// into order after all have been read: an archive may hold its members in any.

#include "data/cifar.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "data/source.h"
#include "io/archive.h"
#include "io/image.h"

enum { RECORD = 1 + 3 * MRA_CIFAR_LENGTH, NAME = 80 };

// A picture under its sorting key: where it comes from, which picture it is there.
typedef struct picture {
    char key[NAME];
    int index, label;
    bool test;
    uint8_t gray[MRA_CIFAR_LENGTH];
} picture;

typedef struct gathering {
    picture *items;
    size_t count, room;
    const char *path;
} gathering;

static const char *const classes[MRA_CIFAR_CLASSES] = {
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};

mra_status mra_cifar_find(const char *folder, char *path, size_t room, mra_error *err)
{
    static const char *const names[] = {"cifar-10-binary.tar.gz", "cifar10-jpeg.tar.xz", NULL};
    return mra_data_find("image", names, folder, path, room, err);
}

// The next picture of the list, to be filled; NULL: no memory.
static picture *append(gathering *g)
{
    if (g->count == g->room) {
        const size_t room = g->room ? 2 * g->room : 1024;
        picture *larger = realloc(g->items, room * sizeof *larger);
        if (!larger) return NULL;
        g->items = larger;
        g->room = room;
    }
    return &g->items[g->count++];
}

// ---- The official layout --------------------------------------------------------------------

// Whether a member is one of data_batch_1.bin .. data_batch_5.bin (train) and test_batch.bin.
static bool is_batch(const char *name, bool *test)
{
    const char *base = strrchr(name, '/');
    base = base ? base + 1 : name;
    *test = strcmp(base, "test_batch.bin") == 0;
    return *test || (strlen(base) == strlen("data_batch_1.bin") &&
                     strncmp(base, "data_batch_", 11) == 0 && base[11] >= '1' &&
                     base[11] <= '5' && strcmp(base + 12, ".bin") == 0);
}

static mra_status take_batch(gathering *g, const char *name, const unsigned char *data,
                             size_t bytes, bool test, mra_error *err)
{
    if (bytes == 0 || bytes % RECORD != 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: member %s: %zu bytes: expected records of %d bytes", g->path, name,
                        bytes, RECORD);
    for (size_t r = 0; r < bytes / RECORD; r++) {
        const unsigned char *record = data + r * RECORD, *pixel = record + 1;
        if (record[0] >= MRA_CIFAR_CLASSES)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: member %s: record %zu: label %d: expected 0 to %d", g->path,
                            name, r + 1, record[0], MRA_CIFAR_CLASSES - 1);
        picture *p = append(g);
        if (!p) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the pictures", g->path);
        snprintf(p->key, sizeof p->key, "%s", name);
        p->index = (int)r;
        p->label = record[0];
        p->test = test;
        for (int i = 0; i < MRA_CIFAR_LENGTH; i++)
            p->gray[i] = mra_gray(pixel[i], pixel[MRA_CIFAR_LENGTH + i],
                                  pixel[2 * MRA_CIFAR_LENGTH + i]);
    }
    return MRA_OK;
}

// ---- Folders of JPEG ------------------------------------------------------------------------

// Whether a member is TOP/{train,test}/CLASS/*.jpg, and which. *label is -1 for a class that does not exist.
static bool is_jpeg(const char *name, bool *test, int *label)
{
    char split[8], class[32];
    const char *dot = strrchr(name, '.');
    if (strncmp(name, "./", 2) == 0) name += 2;
    if (!dot || (strcmp(dot, ".jpg") != 0 && strcmp(dot, ".jpeg") != 0)) return false;
    if (sscanf(name, "%*[^/]/%7[^/]/%31[^/]/", split, class) != 2) return false;
    *test = strcmp(split, "test") == 0;
    if (!*test && strcmp(split, "train") != 0) return false;
    *label = -1;
    for (int i = 0; i < MRA_CIFAR_CLASSES; i++)
        if (strcmp(class, classes[i]) == 0) *label = i;
    return true;
}

static mra_status take_jpeg(gathering *g, const char *name, const unsigned char *data,
                            size_t bytes, bool test, int label, mra_error *err)
{
    char what[1200];
    mra_image image;
    snprintf(what, sizeof what, "%.1000s: member %.150s", g->path, name);
    if (label < 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: expected a folder airplane, ... or truck",
                        what);
    mra_status status = mra_jpeg_decode(&image, data, bytes, what, err);
    if (status != MRA_OK) return status;
    picture *p = append(g);
    if (!p)
        status = mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the pictures", g->path);
    else if (image.width != MRA_CIFAR_SIDE || image.height != MRA_CIFAR_SIDE)
        status = mra_fail(err, MRA_BAD_INPUT, "%s: %d x %d pixels: expected 32 x 32", what,
                          image.width, image.height);
    for (int i = 0; status == MRA_OK && i < MRA_CIFAR_LENGTH; i++)
        p->gray[i] = mra_gray(image.rgb[3 * i], image.rgb[3 * i + 1], image.rgb[3 * i + 2]);
    if (status == MRA_OK) {
        snprintf(p->key, sizeof p->key, "%s", name);
        p->index = 0;
        p->label = label;
        p->test = test;
    }
    mra_image_free(&image);
    return status;
}

// ---- The whole archive ----------------------------------------------------------------------

static mra_status gather(gathering *g, mra_archive *archive, mra_progress *progress,
                         mra_error *err)
{
    for (;;) {
        const char *name;
        mra_status status = mra_archive_next(archive, &name, err);
        if (status != MRA_OK || !name) return status;
        bool test;
        int label = 0;
        const bool batch = is_batch(name, &test);
        if (!batch && !is_jpeg(name, &test, &label)) continue;
        if (strlen(name) >= NAME)
            return mra_fail(err, MRA_BAD_INPUT, "%s: member %.100s...: the name is too long",
                            g->path, name);
        const unsigned char *data;
        size_t bytes;
        status = mra_archive_data(archive, &data, &bytes, err);
        if (status == MRA_OK)
            status = batch ? take_batch(g, name, data, bytes, test, err)
                           : take_jpeg(g, name, data, bytes, test, label, err);
        if (status != MRA_OK) return status;
        mra_progress_update(progress, (double)g->count, "");
    }
}

static int by_key(const void *a, const void *b)
{
    const picture *first = a, *second = b;
    const int order = strcmp(first->key, second->key);
    return order ? order : first->index - second->index;
}

static mra_status distribute(const gathering *g, mra_sequences *train, mra_sequences *test,
                             mra_error *err)
{
    uint16_t ids[MRA_CIFAR_LENGTH];
    for (size_t i = 0; i < g->count; i++) {
        const picture *p = &g->items[i];
        for (int j = 0; j < MRA_CIFAR_LENGTH; j++) ids[j] = (uint16_t)(p->gray[j] + 1);
        if (!mra_sequences_add(p->test ? test : train, ids, MRA_CIFAR_LENGTH, p->label))
            return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the pictures", g->path);
    }
    if (train->count == 0 || test->count == 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: no pictures of CIFAR-10 for %s", g->path,
                        train->count == 0 ? "training" : "test");
    return MRA_OK;
}

mra_status mra_cifar_read(mra_sequences *train, mra_sequences *test, const char *path,
                          bool quiet, mra_error *err)
{
    mra_archive *archive;
    gathering g = {.path = path};
    mra_status status = mra_archive_open(&archive, path, err);
    if (status != MRA_OK) return status;
    mra_progress progress =
        mra_progress_start("unpacking CIFAR-10", MRA_CIFAR_TRAIN + MRA_CIFAR_TEST, 0, quiet);
    status = gather(&g, archive, &progress, err);
    mra_archive_close(archive);
    if (status == MRA_OK) {
        mra_progress_end(&progress, "");
        if (g.count) qsort(g.items, g.count, sizeof *g.items, by_key);
        status = distribute(&g, train, test, err);
    }
    free(g.items);
    if (status == MRA_OK) return MRA_OK;
    mra_sequences_free(train);
    mra_sequences_free(test);
    return status;
}
