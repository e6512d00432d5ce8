// # Hashing tokens
//
// A locality-sensitive hash function gives two vectors the same code with a probability that
// falls with the angle between them. All the functions here begin with projections on random
// directions; what they make of them (signs, the nearest axis) is the kernels' part.
//
// With independent normal directions the projections of a vector are independent of each other.
// A structured product of Hadamard matrices and random signs costs $d \log d$ instead of $d^2$
// for $d$ directions, but these are at right angles to each other, so that the bits of one
// product are not independent and two vectors agree in $\tau$ of them with a probability that
// is only close to $(1 - \theta/\pi)^\tau$. Here the product is written out once as rows of a
// matrix, so that one kernel serves both.

#include "attention/hashing.h"

#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/random.h"

enum { LARGEST = 256 }; // order of a Hadamard matrix

// In place on x[0 .. d): the Walsh-Hadamard transform, entries +-1.
static void hadamard(int d, float *x)
{
    for (int stride = 1; stride < d; stride *= 2)
        for (int i = 0; i < d; i++)
            if (!(i & stride)) {
                const float a = x[i], b = x[i + stride];
                x[i] = a + b;
                x[i + stride] = a - b;
            }
}

// One rotation: row r of H D3 H D2 H D1 is what the transposed product makes of the r-th axis.
static void rotation_row(int d, int row, const float *signs, float *y)
{
    memset(y, 0, (size_t)d * sizeof *y);
    y[row] = 1.0f;
    for (int step = 2; step >= 0; step--) {
        hadamard(d, y);
        for (int i = 0; i < d; i++) y[i] *= signs[step * d + i];
    }
}

static void draw_hadamard(const int shape[4], uint64_t seed, uint64_t stream, float *rows)
{
    const int hashes = shape[1], width = shape[2], d = shape[3];
    int order = 1;
    while (order < d || order < width) order *= 2;
    float signs[3 * LARGEST], row[LARGEST];
    mra_random random = mra_random_open(seed, stream);
    const int each = order / width; // functions of one product
    for (int h = 0; h < hashes; h++) {
        if (h % each == 0)
            for (int i = 0; i < 3 * order; i++)
                signs[i] = mra_random_below(&random, 2) ? 1.0f : -1.0f;
        for (int b = 0; b < width; b++, rows += d) {
            rotation_row(order, h % each * width + b, signs, row);
            memcpy(rows, row, (size_t)d * sizeof *rows);
        }
    }
}

static void draw_head(const mra_hash_directions *directions, mra_directions kind, int head,
                      uint64_t seed, const char *purpose)
{
    const int hashes = directions->shape[1];
    const size_t each = (size_t)directions->shape[2] * (size_t)directions->shape[3];
    float *rows = directions->host + (size_t)head * (size_t)hashes * each;
    if (kind == MRA_DIRECTIONS_HADAMARD) {
        draw_hadamard(directions->shape, seed, mra_stream(purpose, (uint64_t)head, 0), rows);
        return;
    }
    for (int h = 0; h < hashes; h++)
        mra_fill_normal(rows + (size_t)h * each, each, 1.0f, seed,
                        mra_stream(purpose, (uint64_t)head, (uint64_t)h));
}

mra_status mra_hash_directions_create(mra_hash_directions *directions, mra_device *device,
                                      const int shape[4], mra_directions kind, uint64_t seed,
                                      const char *purpose, mra_error *err)
{
    const size_t each = (size_t)shape[1] * (size_t)shape[2] * (size_t)shape[3];
    const size_t bytes = (size_t)shape[0] * each * sizeof(float);
    *directions = (mra_hash_directions){.device = device};
    memcpy(directions->shape, shape, sizeof directions->shape);
    if (kind == MRA_DIRECTIONS_HADAMARD && (shape[2] > LARGEST || shape[3] > LARGEST))
        return mra_fail(err, MRA_BAD_INPUT, "%d directions in %d dimensions: expected up to %d",
                        shape[2], shape[3], LARGEST);
    directions->host = mra_aligned_calloc(bytes, 1);
    directions->data = device->allocate(device, bytes);
    mra_status status = MRA_OK;
    if (!directions->host || !directions->data)
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for the directions of a hash");
    for (int head = 0; head < shape[0] && status == MRA_OK; head++)
        draw_head(directions, kind, head, seed, purpose);
    if (status == MRA_OK)
        status = device->to_device(device, directions->data, directions->host, bytes, err);
    if (status != MRA_OK) mra_hash_directions_free(directions);
    return status;
}

void mra_hash_directions_free(mra_hash_directions *directions)
{
    mra_aligned_free(directions->host);
    if (directions->data) directions->device->release(directions->device, directions->data);
    directions->host = directions->data = NULL;
}

mra_method_array mra_hash_directions_array(const mra_hash_directions *directions,
                                           const char *name)
{
    mra_method_array array = {.name = name, .rank = 4, .floats = directions->host};
    memcpy(array.shape, directions->shape, sizeof directions->shape);
    return array;
}
