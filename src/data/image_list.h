// The list of pictures in class folders, whatever they are read from: which names are pictures, which
// class each is of, and which of them are used. Used by data/image_folder.c and data/picture_pack.c alone.
#ifndef MRA_DATA_IMAGE_LIST_H
#define MRA_DATA_IMAGE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

enum { MRA_LIST_TRAIN, MRA_LIST_VAL, MRA_LIST_SPLITS };

typedef struct mra_picture {
    char *name;                // of the member, or the path below the folder
    const char *class;         // in `name`, up to the next '/'
    int label;                 // -1: not known yet
    const unsigned char *data; // the file, where it is in memory; otherwise NULL
    size_t bytes;
    uint32_t crc; // of a prepared copy: CRC-32 of the file
} mra_picture;

typedef struct mra_pictures {
    mra_picture *items;
    size_t count, room;
} mra_pictures;

typedef struct mra_image_list {
    const char *path; // what messages name; borrowed
    mra_pictures split[MRA_LIST_SPLITS];
    char **class; // sorted
    int classes;
    bool owns_data; // the files in memory are the list's, from malloc()
} mra_image_list;

void mra_image_list_free(mra_image_list *list);
// Gives up the pictures of one split.
void mra_image_list_empty(mra_image_list *list, int split);

// "train" or "val".
const char *mra_image_list_split(int split);
// Which split a path is a picture of, by its last three components {train,val}/CLASS/PICTURE; -1: of none, to be passed
// over. *class (may be NULL) points to CLASS in it. MRA_BAD_INPUT: a picture right in train/ or val/.
mra_status mra_image_list_place(const mra_image_list *list, const char *name, int *split,
                                const char **class, mra_error *err);
// Adds a path unless it is to be passed over. *added (may be NULL) is the picture, valid until the next call, or NULL.
mra_status mra_image_list_add(mra_image_list *list, const char *name, mra_picture **added,
                              mra_error *err);

// Sorts by class and name, numbers the classes and labels all pictures. train/ may be empty if `val_only`. Errors as of
// mra_image_folder_open().
mra_status mra_image_list_order(mra_image_list *list, bool val_only, mra_error *err);
// Keeps `most` classes (0 or more than there are: all), evenly spread over the sorted ones: number i of them is number
// floor(i classes / most) of all.
mra_status mra_image_list_keep(mra_image_list *list, int most, mra_error *err);
// Keeps `most` pictures of a split (0: all) in their order, drawn by the seed.
mra_status mra_image_list_draw(mra_image_list *list, int split, size_t most, uint64_t seed,
                               mra_error *err);

#endif
