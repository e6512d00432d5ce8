// Where the pictures of class folders come from. Used by data/image_folder.c alone.
#ifndef MRA_DATA_IMAGE_SOURCE_H
#define MRA_DATA_IMAGE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "data/image_list.h"
#include "data/picture_pack.h"

enum { MRA_IMAGE_PATH = 2048 };

typedef struct mra_image_source {
    const char *path; // borrowed
    bool file;        // an archive or a prepared copy; otherwise a folder
    mra_pack pack;    // {0}: there is no copy
    mra_image_list list;
} mra_image_source;

// Fills source->list with the names of all pictures, in no order, and with their bytes where they are mapped: of a
// prepared copy, or of an archive whose copy is in the folder `copies`, or is made there ("": no copy is looked for).
// Errors as of mra_image_folder_open().
mra_status mra_image_source_list(mra_image_source *source, const char *copies, bool quiet,
                                 mra_error *err);
// Reads the listed members of an archive into memory, in a second pass over it.
mra_status mra_image_source_load(mra_image_list *list, bool quiet, mra_error *err);
void mra_image_source_close(mra_image_source *source);

// The whole of a file, to be freed; data are NULL after a failure.
mra_status mra_image_read_file(const char *path, unsigned char **data, size_t *bytes,
                               mra_error *err);

// "first/second" in `path`; MRA_BAD_INPUT when it is too long.
mra_status mra_join_path(char *path, size_t room, const char *first, const char *second,
                         mra_error *err);
bool mra_is_folder(const char *path);

#endif
