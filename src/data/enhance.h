// Changes of colour and shape of an 8-bit RGB picture: what colour jitter and RandAugment (Cubuk et
// al., "RandAugment: Practical automated data augmentation with a reduced search space", 2020) are made
// of. Each is bit for bit what Pillow (9.3) computes.
#ifndef MRA_DATA_ENHANCE_H
#define MRA_DATA_ENHANCE_H

#include <stddef.h>
#include <stdint.h>

#include "data/resize.h"

// What a change does, and what its amount means. Gray is (19595 R + 38470 G + 7471 B) / 2^16, rounded;
// "blended with" says d + amount (v - d) for a value v and its counterpart d, cut to 0 .. 255.
typedef enum mra_change_kind {
    MRA_BRIGHTNESS, // blended with black
    MRA_CONTRAST,   // blended with the picture's mean gray
    MRA_COLOUR,     // blended with each pixel's gray (saturation)
    MRA_SHARPNESS,  // blended with the mean of 3 x 3 pixels of which the middle counts 5 times
    MRA_AUTO_CONTRAST, // each channel stretched to 0 .. 255
    MRA_EQUALIZE,      // each channel's histogram flattened
    MRA_INVERT,        // 255 - v
    MRA_POSTERIZE,     // keeps the upper `amount` bits, 0 to 8
    MRA_SOLARIZE,      // inverts values from `amount` on
    MRA_SOLARIZE_ADD,  // adds `amount` to values below 128
    MRA_ROTATE,        // by `amount` degrees counterclockwise about the centre
    MRA_SHEAR_X,       // pixel (x, y) is taken from (x + amount y, y)
    MRA_SHEAR_Y,       // from (x, y + amount x)
    MRA_TRANSLATE_X,   // from (x + amount * width, y)
    MRA_TRANSLATE_Y    // from (x, y + amount * height)
} mra_change_kind;
enum { MRA_CHANGE_KINDS = MRA_TRANSLATE_Y + 1 };

typedef struct mra_change {
    mra_change_kind kind;
    double amount;
    // Of those that move pixels: MRA_BILINEAR, or MRA_BICUBIC, which is here Keys' cubic with a = -1, as
    // Pillow has it in its transformations (not in its resizing).
    mra_filter filter;
} mra_change;

// Changes rgb[height][width][3] in place. `scratch` has room for as many bytes. Where a moved
// picture leaves a pixel bare it gets the colour `fill`.
void mra_change_apply(const mra_change *change, uint8_t *rgb, int width, int height,
                      const uint8_t fill[3], uint8_t *scratch);

#endif
