// What `mra data` does with ImageNet. Used by cli/data.c alone.
#ifndef MRA_CLI_DATA_IMAGENET_H
#define MRA_CLI_DATA_IMAGENET_H

#include <stdbool.h>

#include "core/error.h"

// `from`: the folder to look in, as of mra_image_folder_find().

// Prints the row of the table.
void mra_cli_imagenet_list(const char *from);
// Decodes every picture and counts; MRA_BAD_INPUT when one is no RGB or grayscale JPEG, or there are other numbers than in
// ILSVRC 2012.
mra_status mra_cli_imagenet_verify(const char *from, int threads, bool quiet, mra_error *err);
// Writes imagenet.bin into the folder `out`.
mra_status mra_cli_imagenet_prepare(const char *from, const char *out, bool quiet,
                                    mra_error *err);

#endif
