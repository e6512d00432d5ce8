// What the two passes of hierarchical attention on the cpu share: the pooled rows of one head.
// Private to src/tensor.
#ifndef MRA_TENSOR_CPU_HIERARCHY_H
#define MRA_TENSOR_CPU_HIERARCHY_H

#include "tensor/cpu.h"
#include "tensor/hierarchy.h"

enum { MRA_HIERARCHY_LEVELS = 31 };

// Where the rows of each level begin in arrays of `rows` rows.
typedef struct mra_hierarchy_layout {
    int levels; // at least 1
    size_t first[MRA_HIERARCHY_LEVELS], count[MRA_HIERARCHY_LEVELS];
    size_t rows;
} mra_hierarchy_layout;

// One head's working memory: arrays of layout.rows rows.
typedef struct mra_hierarchy_head {
    const mra_hierarchy *form;
    const mra_hierarchy_layout *layout;
    float *q, *k, *v; // pooled; q times the scale
    float *seen;      // visible tokens of a row
    float *weight;    // of the row in the mean of the row above it
    float *logits;    // [block, block]
} mra_hierarchy_head;

mra_hierarchy_layout mra_hierarchy_layout_of(const mra_hierarchy *form);
// Floats of the arrays of mra_hierarchy_head.
size_t mra_hierarchy_head_floats(const mra_hierarchy *form, const mra_hierarchy_layout *layout);
// Points the members into `memory`; returns what follows them.
float *mra_hierarchy_head_place(mra_hierarchy_head *head, const mra_hierarchy *form,
                                const mra_hierarchy_layout *layout, float *memory);
// Fills all but the logits from head number `group` of the operands.
void mra_hierarchy_pool(mra_hierarchy_head *head, const mra_hierarchy_operands *operands,
                        size_t group);
// logits[i][j] = <q_{rows + i}, k_{keys + j}> of two blocks, given by their first rows in the
// layout; -infinity where key j has no visible token.
void mra_hierarchy_logits(const mra_hierarchy_head *head, size_t rows, size_t keys);

// Calls visit(context, level, first row of a block of queries, first row of its keys) for every block
// of every level, coarsest first, and last for the blocks of level 0 with themselves (level -1).
typedef void (*mra_hierarchy_visit)(void *context, int level, size_t rows, size_t keys);
void mra_hierarchy_walk(const mra_hierarchy_head *head, mra_hierarchy_visit visit,
                        void *context);

#endif
