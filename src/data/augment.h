// From a decoded photograph to the input of the image classifier: the published training and
// evaluation transforms of ImageNet.
//
//     mra_augment augment = mra_augment_defaults();
//     status = mra_augment_check(&augment, &err);
//     status = mra_augment_train(&augment, &image, epoch, index, out, &err);   // [3][224][224]
//     status = mra_augment_evaluate(&augment, &image, out, &err);
//
// Training: random resized crop, horizontal flip, RandAugment, normalisation. The published script
// asks its library (timm) for RandAugment and for colour jitter 0.4; that library leaves the jitter
// out wherever an automatic augmentation is on, so the published runs had none. The defaults
// do the same; `jitter_always` adds it before RandAugment.
//
// What is done to an example is a function of (seed, epoch, index) alone: any thread, any batch and a
// resumed run do the same. Pixels stay 8-bit until the normalisation, and each step is what Pillow
// computes (data/resize.h, data/enhance.h).
#ifndef MRA_DATA_AUGMENT_H
#define MRA_DATA_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "data/enhance.h"
#include "data/resize.h"
#include "io/image.h"

typedef struct mra_augment {
    int size;                       // side of the result, 1 .. 4096
    double area_low, area_high;     // the crop's share of the picture, 0 < low <= high <= 1
    double aspect_low, aspect_high; // its width over its height, 0 < low <= high
    double flip;                    // probability
    double jitter;      // brightness, contrast and saturation by 1 - jitter .. 1 + jitter
    bool jitter_always; // also beside RandAugment
    bool rand_augment;  // two changes, each with probability 1/2
    double magnitude, deviation; // of RandAugment: N(magnitude, deviation^2) cut to 0 .. 10
    double crop;                 // evaluation: what is kept of the shorter side, in (0, 1]
    uint64_t seed;
} mra_augment;

// 224; 0.08 to 1; 3/4 to 4/3; 0.5; 0.4, not beside RandAugment; RandAugment of magnitude 9, deviation 0.5;
// crop 0.95; seed 0.
mra_augment mra_augment_defaults(void);
// MRA_BAD_INPUT names a field out of its range.
mra_status mra_augment_check(const mra_augment *augment, mra_error *err);

// What is drawn for one example.
enum { MRA_MOST_CHANGES = 5 };
typedef struct mra_augment_plan {
    int left, top, width, height; // the crop, in pixels of the picture
    mra_filter filter;            // of its resizing, bilinear or bicubic with equal probability
    bool flip;
    int changes; // in their order
    mra_change change[MRA_MOST_CHANGES];
} mra_augment_plan;

// Draws the plan for a picture of width x height.
//
// Crop: area and the logarithm of the aspect are uniform; a crop that does not fit is drawn again, and
// after ten attempts the largest middle part within the bounds of the aspect is taken (Szegedy et
// al., 2015, as torchvision and timm draw it). RandAugment ("increasing" variant): two of 15 kinds with
// replacement, each done with probability 1/2 at level m / 10, m ~ N(magnitude, deviation^2) cut to
// 0 .. 10: rotation by up to 30 degrees, shear 0.3, translation 0.45 of the side, blending by 1 +- 0.9
// (colour, contrast, brightness, sharpness), each to either side; 4 - int(4 level) bits; inversion
// from 256 - int(256 level) on; int(110 level) added to dark values; and automatic contrast,
// equalisation and inversion, which have no level.
void mra_augment_draw(mra_augment_plan *plan, const mra_augment *augment, int width, int height,
                      uint64_t epoch, uint64_t index);

// rgb[size][size][3], the 8-bit result of a plan. MRA_NO_MEMORY.
mra_status mra_augment_apply(const mra_augment_plan *plan, int size, const mra_image *image,
                             uint8_t *rgb, mra_error *err);
// The 8-bit result for evaluation: the shorter side is brought to floor(size / crop) by the bicubic
// filter and the middle is cut out. MRA_NO_MEMORY.
mra_status mra_augment_centre(const mra_augment *augment, const mra_image *image, uint8_t *rgb,
                              mra_error *err);

// Those results as out[3][size][size] of (v / 255 - mean) / deviation, with the channels' means
// 0.485 0.456 0.406 and deviations 0.229 0.224 0.225. Pictures are at least 1 x 1. MRA_NO_MEMORY.
mra_status mra_augment_train(const mra_augment *augment, const mra_image *image, uint64_t epoch,
                             uint64_t index, float *out, mra_error *err);
mra_status mra_augment_evaluate(const mra_augment *augment, const mra_image *image, float *out,
                                mra_error *err);

#endif
