// What the forward and the backward pass of exact attention share: how the problem is cut, and
// each thread's tile (tensor/softmax_tile.h). Inner to exact.c and exact_backward.c.
#ifndef MRA_ATTENTION_EXACT_TILES_H
#define MRA_ATTENTION_EXACT_TILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attention/exact.h"
#include "tensor/softmax_tile.h"

// Largest tile: 128 queries by 64 keys of logits are 32 KiB, and with the tiles of Q, K, V and
// O that they meet (16 or 32 KiB each at d = 64) they stay in a level-two cache of 256 KiB or
// more.
enum { MRA_EXACT_ROWS = 128, MRA_EXACT_KEYS = 64 };

struct mra_exact {
    mra_shape shape;
    float logit_scale;
    int threads;
    int rows, keys;           // height and width of a tile; rows is a multiple of 16
    int row_tiles, key_tiles; // per head
    int chunks;               // backward: the key tiles of a head are cut into so many parts
    mra_tile_products products;
    float *row_max, *row_sum, *row_lse; // [batch][heads][n], of the last forward pass
    float *partial;                     // [chunks - 1][batch][heads][n][d], backward only
    float *tile_memory;
    mra_softmax_tile *tile; // [threads]
};

// How many parts the keys of a head are cut into for the backward pass.
int mra_exact_chunks(const mra_exact *exact);

#endif
