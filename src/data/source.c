// Finding archives: the official name first, then the names of copies.

#include "data/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

const char *mra_data_folder(const char *folder)
{
    const char *variable = getenv("MRA_DATA");
    if (folder) return folder;
    return variable && *variable ? variable : "data";
}

mra_status mra_data_find(const char *data_set, const char *const *names, const char *folder,
                         char *path, size_t room, mra_error *err)
{
    char list[200] = "";
    int count = 0;
    folder = mra_data_folder(folder);
    for (; names[count]; count++) {
        const int length = snprintf(path, room, "%s/%s", folder, names[count]);
        if (length > 0 && (size_t)length < room && mra_file_exists(path)) return MRA_OK;
    }
    for (int i = 0; i < count; i++) {
        const char *join = i == 0 ? "" : i + 1 < count ? ", " : " nor ";
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", join, names[i]);
    }
    return mra_fail(
        err, MRA_ABSENT,
        "data set %s: %s%s is%s in the folder %.200s; put one there, or set MRA_DATA "
        "to the folder that holds it",
        data_set, count > 1 ? "neither " : "", list, count > 1 ? "" : " not", folder);
}
