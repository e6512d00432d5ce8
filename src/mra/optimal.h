// The best quadtree of boxes for a budget, by dynamic programming: what no choice of boxes can
// beat. For figures and tests; it has to know what every box costs.
#ifndef MRA_MRA_OPTIMAL_H
#define MRA_MRA_OPTIMAL_H

#include <stddef.h>

#include "core/error.h"

// Boxes of levels 0 (coarsest) .. levels - 1, each the side of the one before halved: level l has
// (coarse << l)^2 of them, cost[l][x * (coarse << l) + y] >= 0 is what box (x, y) costs if it is a
// leaf. least[j], j = 0 .. most: the least sum of costs over all trees with exactly j refinements
// (a box into its four quarters), INFINITY where there is no such tree. A tree with j refinements
// has coarse^2 + 3 j boxes. O(N most) operations for the N boxes that can be refined, O(most +
// 4^levels) memory. MRA_BAD_INPUT for levels outside 1 .. 12 or coarse < 1; MRA_NO_MEMORY.
mra_status mra_optimal_trees(int coarse, int levels, const double *const *cost, size_t most,
                             double *least, mra_error *err);

#endif
