// What the methods that hash tokens share: the random directions of their hash functions.
#ifndef MRA_ATTENTION_HASHING_H
#define MRA_ATTENTION_HASHING_H

#include "attention/attention.h"

typedef enum mra_directions {
    // Independent N(0, 1) entries.
    MRA_DIRECTIONS_NORMAL,
    // Rows of H D3 H D2 H D1, H a Hadamard matrix (entries +-1), D diagonal with random signs:
    // as many functions as fit share one product, each with `width` rows of its own (Andoni et
    // al., "Practical and optimal LSH for angular distance", NIPS 2015). The order is the
    // smallest power of two that is not below d nor width; vectors end in zeros there. At most
    // 256.
    MRA_DIRECTIONS_HADAMARD
} mra_directions;

// Directions on which tokens are projected: [heads, hashes, width, d], on the host and on a
// device.
typedef struct mra_hash_directions {
    mra_device *device;
    int shape[4];
    float *host, *data;
} mra_hash_directions;

// Draws them: functions of (seed, purpose, head) alone, normal ones of (seed, purpose, head,
// hash, entry), so that a smaller width has the first of the same directions. MRA_BAD_INPUT
// where MRA_DIRECTIONS_HADAMARD does not fit; nothing is held after a failure.
mra_status mra_hash_directions_create(mra_hash_directions *directions, mra_device *device,
                                      const int shape[4], mra_directions kind, uint64_t seed,
                                      const char *purpose, mra_error *err);
void mra_hash_directions_free(mra_hash_directions *directions);
// What a method's drawn() says of them.
mra_method_array mra_hash_directions_array(const mra_hash_directions *directions,
                                           const char *name);

#endif
