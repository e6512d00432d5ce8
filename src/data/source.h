// Finding what a data set is read from.
#ifndef MRA_DATA_SOURCE_H
#define MRA_DATA_SOURCE_H

#include <stddef.h>

#include "core/error.h"

// The folder that holds archives: `folder`, or where that is NULL the environment variable
// MRA_DATA, or "data".
const char *mra_data_folder(const char *folder);

// The path of the first of `names` (NULL-terminated, at most 4) that is in mra_data_folder(folder).
// MRA_ABSENT names the data set, the folder, all names and MRA_DATA.
mra_status mra_data_find(const char *data_set, const char *const *names, const char *folder,
                         char *path, size_t room, mra_error *err);

#endif
