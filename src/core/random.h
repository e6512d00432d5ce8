// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC'11).
//
// A counter-based generator is a function from (key, counter) to four random words, with no
// state that one number hands to the next. So the number that element i of tensor t of step s
// gets does not depend on which thread, device or order computes it: dropout, initialisation,
// hashes and projections are the same everywhere, and a resumed run continues the very same
// stream.
//
// The convention of the suite: key = the user's seed; counter = (index, stream), where a stream
// is a number derived from a purpose ("dropout of layer 1 at step 412") by mra_stream().
#ifndef MRA_CORE_RANDOM_H
#define MRA_CORE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

// The four 32-bit words of Philox4x32-10 for a 128-bit counter and a 64-bit key.
void mra_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// A stream identifier for a named purpose and up to two numbers (layer, step, ...). FNV-1a over
// the name and the numbers: the same on every machine.
uint64_t mra_stream(const char *purpose, uint64_t a, uint64_t b);

// A cursor over one stream, for code that draws numbers one after another. Copying the struct
// forks it.
typedef struct mra_random {
    uint64_t seed, stream, index; // index: how many blocks of four words were drawn
    uint32_t words[4];
    int left; // unread words of the block
} mra_random;

mra_random mra_random_open(uint64_t seed, uint64_t stream);
uint32_t mra_random_u32(mra_random *random);
// Uniform in [0, 1), a multiple of 2^-53.
double mra_random_uniform(mra_random *random);
// Uniform on {0, ..., n-1} without modulo bias; n >= 1.
uint32_t mra_random_below(mra_random *random, uint32_t n);
// Standard normal (Box-Muller, one value a call).
double mra_random_normal(mra_random *random);

// A random order of `count` blocks of `width` entries of a list (Fisher-Yates), a function of (seed, stream).
void mra_random_shuffle(uint32_t *list, size_t count, size_t width, uint64_t seed,
                        uint64_t stream);
// chosen[wanted]: `wanted` of the numbers 0 .. total - 1, ascending, every subset equally likely (selection sampling: Knuth,
// The Art of Computer Programming 2, 3.4.2, algorithm S), a function of (seed, stream). wanted <= total < 2^32.
void mra_random_subset(uint32_t *chosen, size_t total, size_t wanted, uint64_t seed,
                       uint64_t stream);

// Element i of a stream on its own: uniform in (0, 1) as a float, exactly a function of
// (seed, stream, i). Elements 4b .. 4b+3 share one Philox block.
float mra_uniform_at(uint64_t seed, uint64_t stream, uint64_t i);
// out[i] for i in [0, count): N(0, deviation^2), element by element as above.
void mra_fill_normal(float *out, size_t count, float deviation, uint64_t seed, uint64_t stream);
void mra_fill_uniform(float *out, size_t count, float low, float high, uint64_t seed,
                      uint64_t stream);

#endif
