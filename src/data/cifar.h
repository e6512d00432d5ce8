// CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009) as the task "image"
// of the Long-Range Arena: a grayscale picture of 32 x 32, read row by row as 1,024 tokens.
//
// A token is a pixel's luminance (io/image.h) plus one, 1 .. 256; 0 is padding. Labels are 0
// airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.
#ifndef MRA_DATA_CIFAR_H
#define MRA_DATA_CIFAR_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "data/sequences.h"

enum {
    MRA_CIFAR_SIDE = 32,
    MRA_CIFAR_LENGTH = 1024,
    MRA_CIFAR_VOCABULARY = 257,
    MRA_CIFAR_CLASSES = 10,
    MRA_CIFAR_TRAIN = 50000,
    MRA_CIFAR_TEST = 10000
};

// The path of the archive: cifar-10-binary.tar.gz, the official one (records of a label and three planes
// of 1,024 bytes), or cifar10-jpeg.tar.xz, the same pictures as JPEG in {train,test}/CLASS/.
mra_status mra_cifar_find(const char *folder, char *path, size_t room, mra_error *err);

// Appends the pictures: of the official archive in its order, of folders in the order of class and
// name, so that the order does not depend on how the archive was packed. MRA_BAD_INPUT: a damaged
// archive, a label or class that does not exist, a record that ends early, a picture of another
// size (archive, member, record). Lists are empty again after a failure.
mra_status mra_cifar_read(mra_sequences *train, mra_sequences *test, const char *path,
                          bool quiet, mra_error *err);

#endif
