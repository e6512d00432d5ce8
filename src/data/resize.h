// Resampling 8-bit pictures as Pillow does: separable filters that are stretched when a picture is
// reduced (antialiasing), weights of 22 fractional bits, a rounding to 8 bits after each axis.
#ifndef MRA_DATA_RESIZE_H
#define MRA_DATA_RESIZE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

// With x in units of the coarser of the two grids:
typedef enum mra_filter {
    MRA_BILINEAR, // 1 - |x| on [-1, 1]
    MRA_BICUBIC,  // Keys' cubic convolution with a = -1/2 on [-2, 2]
    MRA_LANCZOS   // sinc(x) sinc(x/3) on [-3, 3)
} mra_filter;

// ---- Colour pictures of any size ------------------------------------------------------------

// A picture (or a part of one: rows lie `pitch` bytes apart) is brought to width x height, of
// which the part at (left, top) of part_width x part_height is wanted.
typedef struct mra_resize_rgb_job {
    const uint8_t *in; // [in_height] rows of in_width RGB pixels
    size_t pitch;      // bytes from row to row, >= 3 in_width
    int in_width, in_height;
    int width, height;                      // >= 1, may be larger or smaller than the picture
    int left, top, part_width, part_height; // 0 <= left, left + part_width <= width, ...
    mra_filter filter;
} mra_resize_rgb_job;

// out[part_height][part_width][3]: bit for bit what Image.resize() followed by crop() gives in Pillow
// 9.3, rows first and then columns (later versions begin with the columns where that is less
// work, and differ in the last bit there). Rows and columns that the part does not need are not computed. O(rows needed x
// part_width x taps); MRA_NO_MEMORY.
mra_status mra_resize_rgb(uint8_t *out, const mra_resize_rgb_job *job, mra_error *err);

// ---- Small square gray pictures, without allocation -----------------------------------------

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

// Weights of MRA_LANCZOS for reducing pictures of side `from` to side `to`; to <= from <=
// MRA_RESIZE_SIDE and from <= 4 to.
void mra_resize_plan(mra_resize *resize, int from, int to);

// out[to][to] from in[from][from]: rows first, then columns, bit for bit what Pillow computes.
void mra_resize_run(const mra_resize *resize, const uint8_t *in, uint8_t *out);

#endif
