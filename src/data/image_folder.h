// Photographs in class folders, the layout of ImageNet (ILSVRC 2012):
//
//     train/n01440764/n01440764_18.JPEG      val/n01440764/ILSVRC2012_val_00000293.JPEG
//
//     mra_image_folder *set;
//     mra_image_folder_options options = {.path = "data/imagenet", .seed = 1};
//     status = mra_image_folder_open(&set, &options, &err);
//     status = mra_image_folder_batch(set, &batch, pixels, labels, &err);
//     mra_image_folder_free(set);
//
// They are read from a folder that holds train/ and val/, from an archive of them (any folders
// may lie above train/ and val/ in it) or from a prepared copy (data/picture_pack.h). Pictures are files *.JPEG, *.jpeg, *.jpg in any case; names that begin with a
// dot and everything else is passed over. A class is a folder of train/ with at least one picture; its label is its
// place among all of them (or among those that `classes` keeps) by name, in byte order, whatever subset is drawn.
//
// A folder's pictures are read when a batch asks for them, with memory for their names alone: this is the
// way for the 1.28 million of ImageNet, and a prepared copy where opening as many files is slow. An archive, which may be
// compressed as a whole, is copied once into a file of that kind; where no copy is wanted, the pictures that are used are
// kept in memory as they are, undecoded. Official archives are not of this layout (training pictures: one archive a class
// within another; validation: one folder for all classes, with the labels in the development kit) and are to
// be unpacked into it first. Some of the official training files are CMYK and one is a PNG under another name;
// a batch that meets one says which, and it is to be converted to an RGB JPEG.
#ifndef MRA_DATA_IMAGE_FOLDER_H
#define MRA_DATA_IMAGE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/augment.h"
#include "data/data.h"
#include "io/image.h"

typedef struct mra_image_folder
    mra_image_folder; // opaque, immutable: any number of threads read it

typedef struct mra_image_folder_options {
    const char *path; // of the folder or the archive
    // Of archives: folder for the prepared copy, NULL: "build/cache"; "" makes none.
    const char *cache;
    // 0, or keep so many of the classes, evenly spread by name: number i of c becomes that of floor(i c / classes). (The
    // numbers of ImageNet follow WordNet, so that these are of many kinds.)
    int classes;
    size_t train, val; // at most so many pictures of these, drawn by the seed; 0: all of them
    uint64_t seed;
    // Only val/ will be used: train/ may be missing (then the folders of val/ are the classes), and no
    // picture of it is kept.
    bool val_only;
    bool quiet;
} mra_image_folder_options;

// MRA_ABSENT: nothing at the path. MRA_BAD_INPUT: a damaged archive or copy; no picture in train/ or val/; a class that is in val/
// only; a picture in train/ or val/ outside a class folder; a member twice (archive, member). *set is NULL
// after a failure. Pictures are not decoded here.
mra_status mra_image_folder_open(mra_image_folder **set,
                                 const mra_image_folder_options *options, mra_error *err);
void mra_image_folder_free(mra_image_folder *set);

// What is there to be opened: `folder` (NULL: environment MRA_DATA, else "data") itself if it has a folder train/ or is a
// file, otherwise imagenet/, imagenet.bin (a prepared copy) or tiny-imagenet-100.tar.xz in it. MRA_ABSENT names them.
mra_status mra_image_folder_find(const char *folder, char *path, size_t room, mra_error *err);
// Makes a prepared copy of all pictures of a folder or an archive, which is a path to be opened like them. *count: how
// many. A copy appears whole or not at all. Pictures are not decoded.
mra_status mra_image_folder_prepare(const char *path, const char *copy, size_t *count,
                                    bool quiet, mra_error *err);

int mra_image_folder_classes(const mra_image_folder *set);
// The folder of class `label`.
const char *mra_image_folder_class(const mra_image_folder *set, int label);
// The file that it was opened from, an archive or a prepared copy; NULL for a folder.
const char *mra_image_folder_file(const mra_image_folder *set);
// MRA_TRAIN is train/; MRA_DEV and MRA_TEST are both val/: the labels of ImageNet's own test set are not public.
size_t mra_image_folder_count(const mra_image_folder *set, mra_split split);
// Picture i of a split, i < count, in the order of class and name.
int mra_image_folder_label(const mra_image_folder *set, mra_split split, size_t i);
const char *mra_image_folder_name(const mra_image_folder *set, mra_split split, size_t i);

// Reads and decodes picture i; grayscale gets three equal channels. MRA_BAD_INPUT: no JPEG, CMYK, corrupt; MRA_IO: the file cannot be read. Both name folder or
// archive and the picture. *image is empty after a failure, otherwise freed by mra_image_free().
mra_status mra_image_folder_read(const mra_image_folder *set, mra_split split, size_t i,
                                 mra_image *image, mra_error *err);

// Reads and decodes every picture. Errors as above, of the first picture of a split that fails.
mra_status mra_image_folder_verify(const mra_image_folder *set, int threads, bool quiet,
                                   mra_error *err);

typedef struct mra_image_batch {
    mra_split split;
    const size_t *index; // [count] pictures of the split
    size_t count;
    const mra_augment *augment; // checked
    bool train;                 // the training transform, otherwise that of evaluation
    uint64_t epoch;             // of the training transform, beside augment->seed and the index
    int threads; // one picture at a time each; the result does not depend on them
} mra_image_batch;

// Reads, decodes and transforms a batch: pixels[count][3][size][size] and labels[count] (may be NULL).
// Of several pictures that cannot be read the first of the batch is named; then the contents of `pixels` are undefined.
mra_status mra_image_folder_batch(const mra_image_folder *set, const mra_image_batch *batch,
                                  float *pixels, int32_t *labels, mra_error *err);

#endif
