// Tasks on pairs of documents, byte by byte: do the two belong together?
//
// "retrieval" is the task of the Long-Range Arena: does one paper of the ACL Anthology Network (Radev et al., 2013) cite
// the other? Its files are not redistributed; who has them puts new_aan_pairs.train.tsv, .eval.tsv
// and .test.tsv into the data folder.
//
// "same-film" stands in for it where only the IMDb reviews are at hand: are two reviews about one film? It is not the
// published task, and its accuracy says nothing about that one; it has the same form, lengths of the same
// order, and cannot be answered from one document.
//
// A token is a byte plus one (0 is padding); documents are cut to the maximum length.
#ifndef MRA_DATA_RETRIEVAL_H
#define MRA_DATA_RETRIEVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/sequences.h"

enum { MRA_RETRIEVAL_VOCABULARY = 257, MRA_RETRIEVAL_CLASSES = 2 };

// Reads at most `limit` rows (0: all) of one of the AAN files: no header, five columns separated by tabs,
// label (0 or 1, also written 0.0 and 1.0), two identifiers, two texts; a cell may stand in double quotes, with quotes
// inside doubled. MRA_ABSENT; MRA_BAD_INPUT names file, row and what was expected.
mra_status mra_aan_read(mra_sequences *list, const char *path, size_t limit, int maximum_length,
                        mra_error *err);

// The archives of "same-film": reviews[1024] as mra_imdb_find, urls[1024] the one that holds
// aclImdb/{train,test}/urls_{pos,neg}.txt: the same archive if it is the official one, otherwise imdb-urls.tar.xz.
mra_status mra_same_film_find(const char *folder, char *reviews, char *urls, mra_error *err);

// Draws counts[s] pairs for train, dev and test, half of each kind on average. Pair i of a split is a function of (seed,
// split, i). The films of train and dev differ (one film in ten is for dev), and the archive's test reviews are of
// other films again. MRA_BAD_INPUT: damaged archives, a review without a film.
mra_status mra_same_film_draw(mra_sequences splits[3], const size_t counts[3],
                              const char *reviews, const char *urls, int maximum_length,
                              uint64_t seed, bool quiet, mra_error *err);

#endif
