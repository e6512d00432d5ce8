// Masked tokens: which tokens of a sequence a language model has to guess, and what it sees in their place
// (Devlin et al., "BERT", 2019; drawn anew at every step: Liu et al., "RoBERTa", 2019).
#ifndef MRA_DATA_MASKING_H
#define MRA_DATA_MASKING_H

#include <stdint.h>

#include "data/bpe.h"

typedef struct mra_masking {
    double share; // of the tokens that are not special, 0 < share <= 1; published: 0.15
    int vocabulary;
    mra_bpe_special special;
} mra_masking;

// Chooses round(share t) of the t tokens of ids[n] that are not <s>, </s> or <pad>, at least one if there is any, every
// choice equally probable. A chosen token becomes <mask> (probability 0.8), a token drawn from the whole vocabulary
// (0.1), or stays (0.1). place[k] and label[k] receive where the k-th one is (ascending) and what it was; both have room for
// n. Returns how many. The draw is a function of (seed, stream) and the sequence alone.
int mra_mask_sequence(const mra_masking *masking, int32_t *ids, int n, uint64_t seed,
                      uint64_t stream, int32_t *place, int32_t *label);

#endif
