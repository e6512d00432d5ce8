// Pathfinder-32, the task "pathfinder32" of the Long-Range Arena (Tay et al., ICLR 2021): are the two disks at the
// ends of one dashed curve, or of two?
//
// The pictures are those of Linsley et al., "Learning long-range spatial dependencies with
// horizontal gated recurrent units", NeurIPS 2018, as their public generator draws them with the settings
// of the Long-Range Arena's hard split: window 32 x 32, curves of 14 dashes, 5 distractors of 4. They
// are drawn anew here: the distribution is the generator's, the pictures are not the published ones.
#ifndef MRA_DATA_PATHFINDER_H
#define MRA_DATA_PATHFINDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/sequences.h"

enum {
    MRA_PATHFINDER_SIDE = 32,
    MRA_PATHFINDER_LENGTH = 1024, // pixels, row by row
    MRA_PATHFINDER_VOCABULARY = 257,
    MRA_PATHFINDER_CLASSES = 2 // 1: the disks are on one curve
};

typedef struct mra_pathfinder mra_pathfinder; // tables for drawing, opaque

// Tables that all pictures share: the dashes in every direction. Immutable; NULL: no memory.
mra_pathfinder *mra_pathfinder_create(void);
void mra_pathfinder_free(mra_pathfinder *tables);

// How a picture came about: where the two long curves run, as (row, column) of the start of each of
// their 14 dashes (of the first, the end that may carry a disk; of the others, the far end), and which
// curve the disks at a first and at a last dash belong to.
enum { MRA_PATHFINDER_DASHES = 14 };
typedef struct mra_pathfinder_trace {
    int dash[2][MRA_PATHFINDER_DASHES][2];
    int first_disk, last_disk; // 0 or 1
} mra_pathfinder_trace;

// Draws picture `index` of the stream of `seed`, 8-bit gray, and returns its label. A function of
// (seed, index) alone, on any machine with the same rounding of sine and cosine. `trace` may be NULL.
int mra_pathfinder_draw(const mra_pathfinder *tables, uint64_t seed, uint64_t index,
                        uint8_t pixels[MRA_PATHFINDER_LENGTH], mra_pathfinder_trace *trace);

// Draws counts[s] pictures for each of three splits, picture i of all having index i, as tokens
// pixel + 1. The lists must be empty ({0}) and are empty again after an error. Threads change
// nothing. MRA_NO_MEMORY.
mra_status mra_pathfinder_generate(mra_sequences splits[3], const size_t counts[3],
                                   uint64_t seed, int threads, bool quiet, mra_error *err);

#endif
