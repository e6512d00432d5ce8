// The image classifier of the ImageNet experiments: a convolution makes tokens of patches, the encoder's pre-norm blocks
// look at them, and two linear layers classify their mean.
#ifndef MRA_NN_IMAGE_CLASSIFIER_H
#define MRA_NN_IMAGE_CLASSIFIER_H

#include <stdint.h>

#include "nn/encoder.h"

// A picture of size x size is cut into side x side patches, side = floor((size + 2 padding - patch) / stride) + 1, each of
// which is a token. Published: size 224, patch 14, stride 7, padding 5: 32 x 32 tokens. Where patch = 2 stride, padding =
// stride / 2 and stride divides size, side = size / stride: pictures of 64 x 64 give 32 x 32 tokens with patch 4, stride
// 2, padding 1 and 16 x 16 with patch 8, stride 4, padding 2.
typedef struct mra_stem {
    int size, patch, stride, padding; // pixels
} mra_stem;

// side, 0 where no patch fits.
int mra_stem_side(const mra_stem *stem);

typedef struct mra_image_classifier_options {
    // vocabulary and positions are set from the stem. For MRA-2 the options of the method should say that tokens are an
    // image, grid=SIDExSIDE.
    mra_encoder_options encoder;
    mra_stem stem;
    int classes;
} mra_image_classifier_options;

typedef struct mra_image_classifier {
    mra_image_classifier_options options;
    mra_parameters parameters; // of stem, encoder and head
    mra_encoder *encoder;
    mra_linear_layer stem, expand, contract;
    mra_tensor *positions; // [tokens, dim]
} mra_image_classifier;

// Pictures and their labels, on the host.
typedef struct mra_image_examples {
    int count;
    float *pixels;   // [count][3][size][size]
    int32_t *labels; // [count]; -1: the picture is filling, not counted
} mra_image_examples;

// MRA_BAD_INPUT: a stem that leaves no patch or whose padding is not below its patch, sizes that do not fit together, fewer
// than 2 classes, and what the encoder refuses.
mra_status mra_image_classifier_create(mra_image_classifier **classifier,
                                       const mra_image_classifier_options *options,
                                       mra_device *device, mra_error *err);
void mra_image_classifier_free(mra_image_classifier *classifier);

// Patches [count][side][side][3][patch][patch] of pixels [count][3][size][size], zeros outside of the picture. O(count side^2
// 3 patch^2), in parallel.
void mra_stem_unfold(const mra_stem *stem, int count, const float *pixels, float *patches,
                     int threads);

// logits [count, classes].
mra_tensor *mra_image_classifier_logits(mra_image_classifier *classifier, mra_tape *tape,
                                        const mra_image_examples *examples);
// Mean cross-entropy over the labelled pictures. right[0] counts those whose label has the largest logit, right[1]
// those where it is among the 5 largest (of equal ones the first count; a logit that is NaN is never right).
mra_tensor *mra_image_classifier_loss(mra_image_classifier *classifier, mra_tape *tape,
                                      const mra_image_examples *examples, int64_t right[2]);

#endif
