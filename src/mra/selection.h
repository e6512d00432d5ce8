// Component selection: which boxes of the frame make up J (paper, section "Component
// Selection").
//
// For one head, R = {s_0 > s_1 > ... > s_k = 1}: J starts as all boxes of scale s_0, and at
// each next scale the m_i boxes with the best scores are replaced by their (s_{i-1}/s_i)^2
// children. What is not refined stays in J as a leaf. A box without an unmasked query or
// without an unmasked key never enters J; the boxes of J are disjoint and cover every pair of
// unmasked tokens once.
#ifndef MRA_MRA_SELECTION_H
#define MRA_MRA_SELECTION_H

#include <stddef.h>
#include <stdint.h>

#include "mra/coefficient.h"
#include "mra/mra.h"

// Marks the m largest of score[0 .. count): their indices, ascending, land in index[0 .. min(m,
// count)). Equal scores: the lower index wins, so that the result does not depend on the
// algorithm. `scratch` holds 2 * count int32_t. O(count) in the worst case too. Scores may be
// -INFINITY (never chosen before a finite one), not NaN; -0 and +0 are equal. Returns how many
// were chosen.
size_t mra_select_largest(const float *score, size_t count, size_t m, int32_t *index,
                          int32_t *scratch);

// The score by which boxes of the coarsest scale compete, for one head: logit[rows * rows] of
// the boxes (row-major; as many rows of boxes as columns), row_tokens[rows] the unmasked tokens
// of each block. Writes score[rows * rows]:
//   MRA_RANK_PLAIN  the logit (the coefficient is its exponential, which has the same order);
//   MRA_RANK_ROW    the logit minus the largest logit of its row of boxes, empty boxes left
//   aside: <= 0.
// Empty boxes (no unmasked query or no unmasked key) get -INFINITY, whatever the priors say.
// With priors (options->first, options->diagonal) the boxes that a prior names come before all
// others and keep their order among themselves, and so do the others; for that the scores are
// shifted to <= 0 and those of prior boxes mapped to (0, 1].
void mra_rank_boxes(const mra_options *options, int rows, const float *logit,
                    const int32_t *row_tokens, float *score);

// The priors alone: score[rows * rows] of any sign, -INFINITY for empty boxes; afterwards the boxes that a
// prior names come first and all keep their order among themselves. Without priors nothing changes.
void mra_raise_priors(const mra_options *options, int rows, float *score);

// How many boxes are refined from scale i-1 into scale i, 1 <= i < scales, where `rows` rows of
// boxes of scale s_0 count: round(blocks[i] * rows), never more than `there`, the number of boxes
// that could be.
size_t mra_refinement_budget(const mra_options *options, int rows, int i, size_t there);

// The rows that count, of `rows` rows of coarsest boxes with row_tokens[rows] unmasked tokens:
// those with a token, or, with options->count_padding, all.
int mra_budget_rows(const mra_options *options, const int32_t *row_tokens, int rows);

// Checks scales, budgets, ranking, priors and grid for a sequence of n tokens: scales strictly
// decreasing, each a multiple of the next, the last 1; budgets finite and >= 0; diagonal odd or
// 0; grid as mra_grid_order wants it. MRA_BAD_INPUT names the field, its value and what was
// expected.
mra_status mra_options_check(const mra_options *options, int n, mra_error *err);

// The boxes of J that have one scale, by rows of boxes (compressed rows, as in a sparse
// matrix).
typedef struct mra_selection_level {
    int scale, blocks; // side of a box; blocks in a row, ceil(n / scale)
    size_t count;      // boxes
    size_t capacity;   // room for boxes
    size_t *row_start; // [blocks + 1]: the boxes of row x are row_start[x] .. row_start[x+1]-1
    int32_t *column;   // [count]: the box's y, ascending within a row
    float *logit;      // [count]: log mu, logit_scale <mean query, mean key>
} mra_selection_level;

typedef struct mra_selection {
    int n, scales;
    mra_selection_level level[MRA_MAX_SCALES]; // coarsest first
    float *row_largest;        // [level[0].blocks]: largest logit of a coarsest row of boxes
    float *score;              // scratch, as large as the largest level
    int32_t *chosen, *scratch; // scratch
} mra_selection;

// Bytes that a selection for these (checked) options and n needs, and its layout in `memory`
// (64-byte aligned, kept by the caller as long as the selection is used; nothing to free).
size_t mra_selection_bytes(const mra_options *options, int n);
void mra_selection_place(mra_selection *selection, const mra_options *options, int n,
                         void *memory);

// J of the paper: start, then rank and refine at each scale. One head; no allocation.
void mra_select(mra_selection *selection, const mra_options *options,
                const mra_pyramid *pyramid);

// The steps, for those who want to rank by something else (an oracle, chance):
// all boxes of the coarsest scale that are not empty, with their logits; the other levels are
// emptied.
void mra_selection_start(mra_selection *selection, const mra_pyramid *pyramid);
// The paper's ranking of the boxes now in level i-1: score[level[i-1].count]. At the coarsest
// scale that of mra_rank_boxes. Deeper, MRA_RANK_PLAIN compares the logits and MRA_RANK_ROW the
// logits minus the largest coarsest logit of the row of coarsest boxes that the box lies in;
// the priors act at the coarsest scale only.
void mra_selection_rank(const mra_selection *selection, const mra_options *options, int i,
                        float *score);
// Replaces boxes chosen[0 .. m) of level i-1 (ascending positions in that level) by their
// children in level i. Level i must be empty and m at most mra_refinement_budget(...) of the
// options that it was placed with.
void mra_selection_refine(mra_selection *selection, const mra_pyramid *pyramid, int i,
                          const int32_t *chosen, size_t m);

// ---- Images ----

// The sides of the tile that a block of `scale` raster tokens covers: the most square shape
// with sides that are powers of two, 2^floor(p/2) high and 2^ceil(p/2) wide for scale = 2^p
// (32: 4 x 8). False if scale is no power of two.
bool mra_grid_tile(int scale, int *tile_height, int *tile_width);

// order[t], t in [0, n), n = height * width: the raster position (row * width + column) of the
// token that takes place t when tokens are permuted to tiles, nested at every scale of
// options->scale. Permuted token t is raster token order[t]. MRA_BAD_INPUT if height * width !=
// n, if a scale is no power of two, or if the image is not made of whole tiles of scale s_0. A
// grid of 0 x 0 gives the identity.
mra_status mra_grid_order(const mra_options *options, int n, int32_t *order, mra_error *err);
// place[order[t]] = t: where a raster token went.
void mra_grid_inverse(const int32_t *order, int n, int32_t *place);

#endif
