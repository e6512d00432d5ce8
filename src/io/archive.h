// Reading archives (.tar, .tar.gz, .tar.bz2, .tar.xz, .zip) member by member, by libarchive,
// without unpacking them to disk.
//
//     mra_archive *archive;
//     status = mra_archive_open(&archive, path, err);
//     const char *name;
//     while ((status = mra_archive_next(archive, &name, err)) == MRA_OK && name) {
//         if (!wanted(name)) continue;                              // its data are skipped
//         status = mra_archive_data(archive, &data, &bytes, err);
//     }
//     mra_archive_close(archive);
#ifndef MRA_IO_ARCHIVE_H
#define MRA_IO_ARCHIVE_H

#include <stddef.h>

#include "core/error.h"

typedef struct mra_archive mra_archive; // opaque

// MRA_ABSENT when there is no such file, MRA_IO when it cannot be read. A file that is no
// archive shows up here or at the first member.
mra_status mra_archive_open(mra_archive **archive, const char *path, mra_error *err);
void mra_archive_close(mra_archive *archive); // NULL allowed

// Goes to the next regular file; *name is NULL at the end, otherwise borrowed until the next
// call. A truncated or damaged archive is MRA_BAD_INPUT naming the archive and the member
// before the damage.
mra_status mra_archive_next(mra_archive *archive, const char **name, mra_error *err);

// The bytes of the current member, followed by a NUL that is not counted; borrowed until the
// next call. To be called once a member. Truncated or damaged data are MRA_BAD_INPUT naming
// archive and member.
mra_status mra_archive_data(mra_archive *archive, const unsigned char **data, size_t *bytes,
                            mra_error *err);

#endif
