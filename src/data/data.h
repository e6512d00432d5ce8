// Classification data sets behind one interface: token sequences with a label, in three splits.
//
//     mra_dataset_options options = mra_dataset_defaults("listops");
//     options.train = 2000, options.maximum_length = 256;
//     mra_dataset *data;
//     status = mra_dataset_open(&data, &options, &err);
//     mra_example example = mra_dataset_get(data, MRA_TRAIN, 17); // .ids, .length, .label
//     mra_dataset_free(data);
//
// A data set is immutable after opening and may be read by any number of threads. Token 0 is
// padding in every data set and never occurs inside a sequence; the reader of a batch pads with
// it.
//
// The data sets are tasks of the Long-Range Arena (Tay et al., ICLR 2021), on which the paper
// compares its attention: "listops" (data/listops.h), "text", IMDb reviews byte by byte
// (data/imdb.h), "image", CIFAR-10 pixel by pixel (data/cifar.h), "pathfinder32", drawn curves pixel
// by pixel (data/pathfinder.h), and "retrieval", pairs of papers (data/retrieval.h), with
// "same-film", a stand-in for it from IMDb.
#ifndef MRA_DATA_DATA_H
#define MRA_DATA_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef enum mra_split { MRA_TRAIN, MRA_DEV, MRA_TEST } mra_split;
enum { MRA_SPLITS = 3 };

typedef struct mra_example {
    const uint16_t *ids; // length token ids in [1, vocabulary); borrowed from the data set
    int length;          // 1 <= length <= maximum_length of the data set
    // Tasks on pairs (retrieval): the second sequence, as long as that; otherwise NULL and 0.
    const uint16_t *second;
    int second_length;
    int label; // in [0, classes)
} mra_example;

typedef struct mra_dataset mra_dataset; // opaque

typedef struct mra_dataset_options {
    const char *name; // "listops", "text", "image", "pathfinder32", "retrieval" or "same-film"
    // listops: folder with basic_{train,val,test}.tsv, NULL: generate the examples.
    // Others: folder with the archive, NULL: environment MRA_DATA, else "data".
    const char *folder;
    // Folder for the prepared copy (not of listops), NULL: "build/cache"; "" keeps none.
    const char *cache;
    // Generated: how many examples of each split (LRA: listops 96000, 2000, 2000; pathfinder32
    // 160000, 20000, 20000); train >= 1.
    // Data from files or an archive: at most so many, 0 for all of them; those of an archive are
    // drawn by the seed.
    size_t train, dev, test;
    // Archives: dev is made of so many training examples, drawn by the seed; 0: dev is the test split,
    // as in LRA's text.
    size_t held_out;
    // Generated listops: kept if minimum_length < tokens < maximum_length, tokens counted as
    // LRA counts them (data/listops.h). Data from files or an archive: cut to maximum_length
    // (pictures are not cut: expected to be 1024).
    int minimum_length, maximum_length;
    uint64_t seed;     // of the generator and of the drawing
    int threads;       // for generating; < 1: the default number. The data do not depend on it.
    bool check_labels; // listops from files: evaluate each expression, compare with its label
    bool quiet;        // no progress on stderr
} mra_dataset_options;

// The published settings of a data set: listops 96000/2000/2000, 500 < length < 2000; text all
// reviews, cut to 4000 bytes, dev = test; image 45000/5000/10000; pathfinder32 160000/20000/20000.
// Unknown names give the fields of "listops" under that
// name; mra_dataset_open refuses them.
mra_dataset_options mra_dataset_defaults(const char *name);

// MRA_BAD_INPUT: unknown name, a malformed file (named with row and column); MRA_ABSENT: no
// files or archive there, naming the folder, the files looked for and MRA_DATA. *data is NULL
// after a failure.
mra_status mra_dataset_open(mra_dataset **data, const mra_dataset_options *options,
                            mra_error *err);
void mra_dataset_free(mra_dataset *data);

// Whether what mra_dataset_open() would read is there, without reading it: MRA_ABSENT as there, MRA_BAD_INPUT for an
// unknown name. What is generated always is. Whether the files are whole is not looked at.
mra_status mra_dataset_find(const mra_dataset_options *options, mra_error *err);

size_t mra_dataset_count(const mra_dataset *data, mra_split split);
// Example i of a split, i < count. The pointer lives as long as the data set.
mra_example mra_dataset_get(const mra_dataset *data, mra_split split, size_t i);

const char *mra_dataset_name(const mra_dataset *data);
int mra_dataset_vocabulary(const mra_dataset *data); // ids are below this; padding included
int mra_dataset_classes(
    const mra_dataset *data); // listops and image 10, text and pathfinder32 2
// Vocabulary and classes of a data set by its name, as above, without opening it; MRA_BAD_INPUT: unknown name.
mra_status mra_dataset_about(const char *name, int *vocabulary, int *classes, mra_error *err);
// Whether the examples of a data set have two sequences, by its name (false for unknown names).
bool mra_dataset_pairs(const char *name);
int mra_dataset_maximum_length(const mra_dataset *data); // no example is longer
// The accuracy of always giving the split's most frequent label.
double mra_dataset_majority(const mra_dataset *data, mra_split split);
// The files that the data were read from, for run records: index from 0 until NULL (generated
// data: none).
const char *mra_dataset_source(const mra_dataset *data, int index);

// "train", "dev" or "test".
const char *mra_split_name(mra_split split);
// Index from 0 until NULL: the names of the data sets.
const char *mra_dataset_known(int index);

#endif
