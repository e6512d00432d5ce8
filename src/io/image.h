// Photographs: JPEG to 8-bit RGB, by libjpeg-turbo.
#ifndef MRA_IO_IMAGE_H
#define MRA_IO_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct mra_image {
    int width, height;
    uint8_t *rgb; // [height][width][3], owned; grayscale images have three equal channels
} mra_image;

// Decodes a JPEG in memory, baseline or progressive, colour or grayscale, with the decoder's exact
// integer transform (so that the result does not depend on the processor). `name` is what
// messages call it. MRA_BAD_INPUT: no JPEG, truncated or corrupt data, four colour components
// (CMYK), more than 2^28 pixels. *image is empty after a failure.
mra_status mra_jpeg_decode(mra_image *image, const unsigned char *data, size_t bytes,
                           const char *name, mra_error *err);
void mra_image_free(mra_image *image);

// Luminance of one pixel as TensorFlow's rgb_to_grayscale gives it for 8-bit images, which is what the
// Long-Range Arena uses: 0.2989 R + 0.5870 G + 0.1140 B, scaled by 255.5 / 255 and cut.
static inline uint8_t mra_gray(uint8_t red, uint8_t green, uint8_t blue)
{
    const double gray = (0.2989 * red + 0.5870 * green + 0.1140 * blue) * (255.5 / 255.0);
    return gray >= 255.0 ? 255 : (uint8_t)gray;
}

#endif
