// Choosing and replacing tokens.
//
// The number of masked tokens is fixed, as in the published code, not drawn token by token: every step then
// costs the same. Which ones: selection sampling, one pass (Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S).

#include "data/masking.h"

#include <math.h>
#include <stdbool.h>

#include "core/random.h"

static bool is_special(const mra_bpe_special *special, int32_t id)
{
    return id == special->begin || id == special->end || id == special->pad;
}

static int32_t replacement(const mra_masking *masking, mra_random *random, int32_t id)
{
    const double u = mra_random_uniform(random);
    if (u < 0.8) return masking->special.mask;
    if (u < 0.9) return (int32_t)mra_random_below(random, (uint32_t)masking->vocabulary);
    return id;
}

int mra_mask_sequence(const mra_masking *masking, int32_t *ids, int n, uint64_t seed,
                      uint64_t stream, int32_t *place, int32_t *label)
{
    int left = 0, wanted, count = 0;
    for (int i = 0; i < n; i++) left += !is_special(&masking->special, ids[i]);
    wanted = (int)lround(masking->share * left);
    if (wanted == 0 && left > 0) wanted = 1;
    mra_random random = mra_random_open(seed, stream);
    for (int i = 0; i < n && wanted > 0; i++) {
        if (is_special(&masking->special, ids[i])) continue;
        const bool chosen = mra_random_below(&random, (uint32_t)left--) < (uint32_t)wanted;
        if (!chosen) continue;
        wanted--;
        place[count] = i;
        label[count++] = ids[i];
        ids[i] = replacement(masking, &random, ids[i]);
    }
    return count;
}
