// `mra data` and ImageNet: photographs in class folders, of which no one archive has a checksum.

#include "cli/data_imagenet.h"

#include <stdio.h>

#include "core/file.h"
#include "core/progress.h"
#include "data/image_folder.h"

// ILSVRC 2012.
enum { CLASSES = 1000, TRAIN = 1281167, VAL = 50000 };

void mra_cli_imagenet_list(const char *from)
{
    char path[1024];
    mra_error err = {0};
    const bool present = mra_image_folder_find(from, path, sizeof path, &err) == MRA_OK;
    printf(
        "imagenet\t%s\t%s\twww.image-net.org: ILSVRC2012_img_train.tar and _val.tar, unpacked "
        "to imagenet/{train,val}/CLASS/\n",
        present ? "present" : "absent", present ? path : err.message);
}

mra_status mra_cli_imagenet_verify(const char *from, int threads, bool quiet, mra_error *err)
{
    char path[1024];
    mra_image_folder *set;
    mra_status status = mra_image_folder_find(from, path, sizeof path, err);
    if (status != MRA_OK) return status;
    const mra_image_folder_options options = {.path = path, .cache = "", .quiet = quiet};
    status = mra_image_folder_open(&set, &options, err);
    if (status != MRA_OK) return status;
    status = mra_image_folder_verify(set, threads, quiet, err);
    const size_t train = mra_image_folder_count(set, MRA_TRAIN),
                 val = mra_image_folder_count(set, MRA_TEST);
    const int classes = mra_image_folder_classes(set);
    mra_image_folder_free(set);
    if (status != MRA_OK) return status;
    printf("%s: %zu training and %zu validation pictures of %d classes, every one decodes\n",
           path, train, val, classes);
    if (train == TRAIN && val == VAL && classes == CLASSES) return MRA_OK;
    return mra_fail(
        err, MRA_BAD_INPUT,
        "%s: %zu training and %zu validation pictures of %d classes: expected %d and "
        "%d of %d, as in ILSVRC 2012 (a part of it trains all the same)",
        path, train, val, classes, TRAIN, VAL, CLASSES);
}

mra_status mra_cli_imagenet_prepare(const char *from, const char *out, bool quiet,
                                    mra_error *err)
{
    char path[1024], copy[1024];
    size_t count;
    mra_status status = mra_image_folder_find(from, path, sizeof path, err);
    if (status != MRA_OK) return status;
    const int length = snprintf(copy, sizeof copy, "%s/imagenet.bin", out);
    if (length < 0 || (size_t)length >= sizeof copy)
        return mra_fail(err, MRA_BAD_INPUT, "--out: the folder's name is too long");
    status = mra_make_folder(out, err);
    if (status == MRA_OK) status = mra_image_folder_prepare(path, copy, &count, quiet, err);
    if (status == MRA_OK) mra_say(quiet, "%s: %zu pictures of %s", copy, count, path);
    return status;
}
