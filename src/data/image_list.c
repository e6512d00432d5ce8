// Names come first, from all of train/ and val/: labels are places among all classes, and a subset is
// drawn from all names. What the pictures contain is of no concern here.

#include "data/image_list.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/random.h"

static const char *const split_names[MRA_LIST_SPLITS] = {"train", "val"};

// ---- Names ----------------------------------------------------------------------------------

static void free_picture(const mra_image_list *list, mra_picture *picture)
{
    free(picture->name);
    if (list->owns_data) free((void *)picture->data);
}

void mra_image_list_empty(mra_image_list *list, int split)
{
    mra_pictures *pictures = &list->split[split];
    for (size_t i = 0; i < pictures->count; i++) free_picture(list, &pictures->items[i]);
    free(pictures->items);
    *pictures = (mra_pictures){0};
}

void mra_image_list_free(mra_image_list *list)
{
    for (int s = 0; s < MRA_LIST_SPLITS; s++) mra_image_list_empty(list, s);
    for (int i = 0; i < list->classes; i++) free(list->class[i]);
    free(list->class);
    *list = (mra_image_list){0};
}

const char *mra_image_list_split(int split)
{
    return split_names[split];
}

static bool is_picture(const char *base)
{
    const char *dot = strrchr(base, '.');
    return dot && *base != '.' &&
           (strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".jpg") == 0);
}

// The split that the `length` characters at `name` name, or -1.
static int split_of(const char *name, size_t length)
{
    for (int s = 0; s < MRA_LIST_SPLITS; s++)
        if (strlen(split_names[s]) == length && strncmp(name, split_names[s], length) == 0)
            return s;
    return -1;
}

// The start of the path component that ends before `end`.
static const char *component(const char *name, const char *end)
{
    while (end > name && end[-1] != '/') end--;
    return end;
}

mra_status mra_image_list_place(const mra_image_list *list, const char *name, int *split,
                                const char **class, mra_error *err)
{
    const char *base = component(name, name + strlen(name));
    *split = -1;
    if (!is_picture(base) || base == name) return MRA_OK;
    const char *folder = component(name, base - 1);
    const char *top = folder > name ? component(name, folder - 1) : folder;
    if (folder > name) *split = split_of(top, (size_t)(folder - 1 - top));
    if (class) *class = folder;
    if (*split >= 0 || split_of(folder, (size_t)(base - 1 - folder)) < 0) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT,
                    "%s: picture %s: expected in a class folder, {train,val}/CLASS/*.JPEG",
                    list->path, name);
}

mra_status mra_image_list_add(mra_image_list *list, const char *name, mra_picture **added,
                              mra_error *err)
{
    int split;
    const char *class;
    if (added) *added = NULL;
    mra_status status = mra_image_list_place(list, name, &split, &class, err);
    if (status != MRA_OK || split < 0) return status;
    mra_pictures *pictures = &list->split[split];
    char *copy = strdup(name);
    if (copy && pictures->count == pictures->room) {
        const size_t room = pictures->room ? 2 * pictures->room : 1024;
        mra_picture *larger = realloc(pictures->items, room * sizeof *larger);
        if (larger) {
            pictures->items = larger;
            pictures->room = room;
        }
    }
    if (!copy || pictures->count == pictures->room) {
        free(copy);
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the names", list->path);
    }
    mra_picture *picture = &pictures->items[pictures->count++];
    *picture = (mra_picture){.name = copy, .class = copy + (class - name), .label = -1};
    if (added) *added = picture;
    return MRA_OK;
}

// ---- Order and labels -----------------------------------------------------------------------

static size_t class_length(const mra_picture *p)
{
    return strcspn(p->class, "/");
}

static int by_class(const mra_picture *a, const mra_picture *b)
{
    const size_t first = class_length(a), second = class_length(b);
    const int order = memcmp(a->class, b->class, first < second ? first : second);
    return order ? order : (first > second) - (first < second);
}

static int by_class_and_name(const void *a, const void *b)
{
    const int order = by_class(a, b);
    return order ? order
                 : strcmp(((const mra_picture *)a)->name, ((const mra_picture *)b)->name);
}

static mra_status sort_names(mra_image_list *list, bool val_only, mra_error *err)
{
    for (int s = 0; s < MRA_LIST_SPLITS; s++) {
        mra_pictures *pictures = &list->split[s];
        if (pictures->count == 0 && s == MRA_LIST_TRAIN && val_only) continue;
        if (pictures->count == 0)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: no pictures in %s/: expected %s/CLASS/*.JPEG", list->path,
                            split_names[s], split_names[s]);
        qsort(pictures->items, pictures->count, sizeof *pictures->items, by_class_and_name);
        for (size_t i = 1; i < pictures->count; i++)
            if (strcmp(pictures->items[i - 1].name, pictures->items[i].name) == 0)
                return mra_fail(err, MRA_BAD_INPUT, "%s: member %s is there twice", list->path,
                                pictures->items[i].name);
    }
    return MRA_OK;
}

// Numbers the classes of sorted pictures from 0 and keeps their names.
static mra_status number_classes(mra_image_list *list, mra_pictures *pictures, mra_error *err)
{
    size_t classes = 0;
    for (size_t i = 0; i < pictures->count; i++)
        if (i == 0 || by_class(&pictures->items[i - 1], &pictures->items[i]) != 0) classes++;
    list->class = calloc(classes, sizeof *list->class);
    for (size_t i = 0; list->class && i < pictures->count; i++) {
        mra_picture *p = &pictures->items[i];
        if (i == 0 || by_class(p - 1, p) != 0) {
            char *name = strndup(p->class, class_length(p));
            if (!name) break;
            list->class[list->classes++] = name;
        }
        p->label = list->classes - 1;
    }
    if (list->class && (size_t)list->classes == classes) return MRA_OK;
    return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the classes", list->path);
}

// Both lists, of pictures and of classes, are in the same order.
static mra_status label_val(mra_image_list *list, mra_error *err)
{
    int label = 0;
    for (size_t i = 0; i < list->split[MRA_LIST_VAL].count; i++) {
        mra_picture *p = &list->split[MRA_LIST_VAL].items[i];
        const size_t length = class_length(p);
        while (label < list->classes && (strlen(list->class[label]) != length ||
                                         strncmp(list->class[label], p -> class, length) != 0))
            label++;
        if (label == list->classes)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: picture %s: no picture of this class is in train/", list->path,
                            p->name);
        p->label = label;
    }
    return MRA_OK;
}

mra_status mra_image_list_order(mra_image_list *list, bool val_only, mra_error *err)
{
    mra_pictures *train = &list->split[MRA_LIST_TRAIN];
    mra_status status = sort_names(list, val_only, err);
    if (status == MRA_OK)
        status = number_classes(list, train->count ? train : &list->split[MRA_LIST_VAL], err);
    return status == MRA_OK ? label_val(list, err) : status;
}

// ---- Subsets --------------------------------------------------------------------------------

// Keeps the pictures that are marked.
static void keep_marked(mra_image_list *list, int split, const bool *keep)
{
    mra_pictures *pictures = &list->split[split];
    size_t kept = 0;
    for (size_t i = 0; i < pictures->count; i++) {
        if (keep[i])
            pictures->items[kept++] = pictures->items[i];
        else
            free_picture(list, &pictures->items[i]);
    }
    pictures->count = kept;
}

// The new label of class `label` when `most` of `all` are kept, or -1. The first class kept that is not before it is
// number ceil(label most / all).
static int label_among(int label, int all, int most)
{
    const long long place = ((long long)label * most + all - 1) / all;
    return place < most && place * all / most == label ? (int)place : -1;
}

mra_status mra_image_list_keep(mra_image_list *list, int most, mra_error *err)
{
    const int all = list->classes;
    if (most <= 0 || most >= all) return MRA_OK;
    for (int s = 0; s < MRA_LIST_SPLITS; s++) {
        mra_pictures *pictures = &list->split[s];
        bool *keep = calloc(pictures->count + 1, sizeof *keep);
        if (!keep) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory to choose", list->path);
        for (size_t i = 0; i < pictures->count; i++) {
            mra_picture *p = &pictures->items[i];
            p->label = label_among(p->label, all, most);
            keep[i] = p->label >= 0;
        }
        keep_marked(list, s, keep);
        free(keep);
    }
    for (int i = 0; i < all; i++) {
        const int place = label_among(i, all, most);
        char *name = list->class[i];
        list->class[i] = NULL;
        if (place >= 0)
            list->class[place] = name;
        else
            free(name);
    }
    list->classes = most;
    return MRA_OK;
}

mra_status mra_image_list_draw(mra_image_list *list, int split, size_t most, uint64_t seed,
                               mra_error *err)
{
    const mra_pictures *pictures = &list->split[split];
    if (most == 0 || most >= pictures->count) return MRA_OK;
    if (pictures->count > UINT32_MAX)
        return mra_fail(err, MRA_BAD_INPUT, "%s: %zu pictures, expected at most %u", list->path,
                        pictures->count, UINT32_MAX);
    bool *keep = calloc(pictures->count, sizeof *keep);
    uint32_t *chosen = calloc(most, sizeof *chosen);
    mra_status status = MRA_OK;
    if (keep && chosen) {
        mra_random_subset(chosen, pictures->count, most, seed,
                          mra_stream("image folder", (uint64_t)split, 0));
        for (size_t i = 0; i < most; i++) keep[chosen[i]] = true;
        keep_marked(list, split, keep);
    } else {
        status = mra_fail(err, MRA_NO_MEMORY, "%s: no memory to draw", list->path);
    }
    free(keep);
    free(chosen);
    return status;
}
