// Reducing a picture with the Lanczos filter on 8-bit samples.
#ifndef MRA_DATA_RESIZE_H
#define MRA_DATA_RESIZE_H

#include <stdint.h>

enum { MRA_RESIZE_SIDE = 128, MRA_RESIZE_TAPS = 32 };

// The weights of one output sample: of samples first .. first + count - 1.
typedef struct mra_resize_window {
    int first, count;
    int32_t weight[MRA_RESIZE_TAPS];
} mra_resize_window;

typedef struct mra_resize {
    int from, to; // sides of the square pictures
    mra_resize_window window[MRA_RESIZE_SIDE];
} mra_resize;

// Weights for reducing pictures of side `from` to side `to`; to <= from <= MRA_RESIZE_SIDE and
// from <= 4 to. The window is sinc(x) sinc(x/3), stretched by from/to (so that it is a low-pass filter), cut at the
// border and normalised.
void mra_resize_plan(mra_resize *resize, int from, int to);

// out[to][to] from in[from][from]: rows first, then columns, each result rounded to 8 bits and
// clipped, with weights of 22 fractional bits: bit for bit what Pillow computes.
void mra_resize_run(const mra_resize *resize, const uint8_t *in, uint8_t *out);

#endif
