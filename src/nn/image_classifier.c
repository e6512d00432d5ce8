// The image classifier.
//
// A picture $I$ of three channels becomes tokens by one convolution: token $(r, c)$ is
//
// $$ x_{rc} = b + \sum_{k,\,u,\,v} W_{kuv}\, I_k(s r - p + u,\; s c - p + v) + e_{rc}, \qquad 0 \le u, v < w, $$
//
// with kernel $w = 14$, stride $s = 7$ and padding $p = 5$ on 224 × 224 pixels: 32 × 32 tokens, each of a patch that
// overlaps its neighbours by half; $e$ are learned positions, $N(0, 0.02^2)$. Four pre-norm blocks follow
// (nn/encoder.c), then the mean over all tokens, and Linear, ReLU, Linear to the classes. $W$ and $b$ begin uniform on
// $\pm 1/\sqrt{3 w^2}$, as PyTorch's convolution does.
//
// The convolution is a product. Written out as rows of patches, "unfolded", the pictures are a matrix of $3w^2 = 588$
// columns, and $W$ is a linear layer on it: its gradient is that layer's, and the pictures need none. Unfolding
// repeats every pixel $(w/s)^2 = 4$ times, 2.4 MB a picture, and is done on the host: to a GPU, four times the transfer of
// the pixels. It is the price of having no kernel of its own for 0.15 of the 1.8 GFLOP that stem and linear layers
// take forward.
//
// The published code drops entries inside the feed-forward net too, between GELU and the second layer, and entries of
// the softmax matrix where attention is exact. The first is `hidden_dropout` of the encoder; the second
// has no counterpart in the approximations that exact attention is compared with, and is not done here.

#include "nn/image_classifier.h"

#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"
#include "tensor/device.h"

enum { CHANNELS = 3, TOP = 5 };

// ---- Making it ------------------------------------------------------------------------------------

int mra_stem_side(const mra_stem *stem)
{
    const int64_t room = (int64_t)stem->size + 2 * (int64_t)stem->padding - stem->patch;
    return room < 0 || stem->stride < 1 ? 0 : (int)(room / stem->stride) + 1;
}

static mra_status check_options(const mra_image_classifier_options *options, mra_error *err)
{
    const mra_stem *stem = &options->stem;
    if (stem->size < 1 || stem->size > 4096)
        return mra_fail(err, MRA_BAD_INPUT, "image classifier: size %d: expected 1 to 4096",
                        stem->size);
    if (stem->patch < 1 || stem->stride < 1 || stem->padding < 0 ||
        stem->padding >= stem->patch || mra_stem_side(stem) < 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "image classifier: patch %d, stride %d, padding %d of pictures of %d "
                        "pixels: expected patch and stride of 1 or more, padding below patch, "
                        "and patch <= size + 2 padding",
                        stem->patch, stem->stride, stem->padding, stem->size);
    if (options->classes < 2)
        return mra_fail(err, MRA_BAD_INPUT, "image classifier: %d classes: expected at least 2",
                        options->classes);
    return MRA_OK;
}

static mra_status make_layers(mra_image_classifier *made, mra_error *err)
{
    const mra_encoder_options *encoder = &made->options.encoder;
    const mra_stem *stem = &made->options.stem;
    mra_parameters *parameters = &made->parameters;
    mra_status status =
        mra_linear_layer_create(&made->stem, parameters, "stem",
                                CHANNELS * stem->patch * stem->patch, encoder->dim, err);
    if (status == MRA_OK)
        status = mra_parameters_add(parameters, &made->positions, "stem.positions", 2,
                                    (int[]){encoder->positions, encoder->dim},
                                    MRA_INITIAL_NORMAL, 0.02f, err);
    if (status == MRA_OK) status = mra_encoder_create(&made->encoder, encoder, parameters, err);
    if (status == MRA_OK)
        status = mra_linear_layer_create(&made->expand, parameters, "head.expand", encoder->dim,
                                         encoder->hidden, err);
    if (status == MRA_OK)
        status = mra_linear_layer_create(&made->contract, parameters, "head.contract",
                                         encoder->hidden, made->options.classes, err);
    return status;
}

mra_status mra_image_classifier_create(mra_image_classifier **classifier,
                                       const mra_image_classifier_options *options,
                                       mra_device *device, mra_error *err)
{
    *classifier = NULL;
    mra_status status = check_options(options, err);
    if (status != MRA_OK) return status;
    mra_image_classifier *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "image classifier: no memory");
    const int side = mra_stem_side(&options->stem);
    made->options = *options;
    made->options.encoder.vocabulary = 0;
    made->options.encoder.positions = side * side;
    mra_parameters_open(&made->parameters, device, options->encoder.seed);
    status = make_layers(made, err);
    if (status == MRA_OK)
        *classifier = made;
    else
        mra_image_classifier_free(made);
    return status;
}

void mra_image_classifier_free(mra_image_classifier *classifier)
{
    if (!classifier) return;
    mra_encoder_free(classifier->encoder);
    mra_parameters_free(&classifier->parameters);
    free(classifier);
}

// ---- Patches --------------------------------------------------------------------------------------

typedef struct unfolding {
    const mra_stem *stem;
    const float *pixels;
    float *patches;
} unfolding;

// One row of a patch: `patch` pixels from column `left` on, which may lie outside.
static void copy_row(const float *row, int size, int left, int patch, float *out)
{
    for (int v = 0; v < patch; v++) {
        const int x = left + v;
        out[v] = x >= 0 && x < size ? row[x] : 0;
    }
}

// One row of tokens of one picture.
static void unfold_row(void *context, size_t item, int thread)
{
    const unfolding *work = context;
    const mra_stem *stem = work->stem;
    const int side = mra_stem_side(stem), size = stem->size, patch = stem->patch;
    const size_t picture = item / (size_t)side, plane = (size_t)size * (size_t)size;
    const int top = (int)(item % (size_t)side) * stem->stride - stem->padding;
    float *out = work->patches + item * (size_t)side * CHANNELS * (size_t)(patch * patch);
    (void)thread;
    for (int c = 0; c < side; c++)
        for (size_t k = 0; k < CHANNELS; k++)
            for (int u = 0; u < patch; u++, out += patch) {
                const float *of = work->pixels + (picture * CHANNELS + k) * plane;
                const int y = top + u, left = c * stem->stride - stem->padding;
                if (y < 0 || y >= size)
                    memset(out, 0, (size_t)patch * sizeof *out);
                else
                    copy_row(of + (size_t)y * (size_t)size, size, left, patch, out);
            }
}

void mra_stem_unfold(const mra_stem *stem, int count, const float *pixels, float *patches,
                     int threads)
{
    unfolding work = {stem, pixels, patches};
    mra_parallel_for(threads, (size_t)count * (size_t)mra_stem_side(stem), unfold_row, &work);
}

// [count, tokens, 3 patch^2] on the device.
static mra_tensor *unfold(const mra_image_classifier *classifier, mra_tape *tape,
                          const mra_image_examples *examples)
{
    const mra_stem *stem = &classifier->options.stem;
    mra_device *device = mra_tape_device(tape);
    const int shape[] = {examples->count, classifier->options.encoder.positions,
                         CHANNELS * stem->patch * stem->patch};
    const size_t size = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    float *patches = mra_tape_alloc(tape, size * sizeof *patches);
    if (!patches) return NULL;
    mra_stem_unfold(stem, examples->count, examples->pixels, patches, device->threads);
    if (!device->host_memory) patches = mra_tape_upload(tape, patches, size * sizeof *patches);
    return patches ? mra_wrap(tape, 3, shape, patches, NULL) : NULL;
}

// ---- Running it -----------------------------------------------------------------------------------

mra_tensor *mra_image_classifier_logits(mra_image_classifier *classifier, mra_tape *tape,
                                        const mra_image_examples *examples)
{
    const mra_encoder_options *encoder = &classifier->options.encoder;
    mra_tensor *x = unfold(classifier, tape, examples);
    x = mra_linear_layer_apply(&classifier->stem, tape, x);
    x = mra_add_positions(tape, x, classifier->positions, NULL);
    x = mra_dropout(tape, x, (float)encoder->dropout, 0);
    x = mra_encoder_run(classifier->encoder, tape, x, NULL, examples->count,
                        encoder->positions);
    x = mra_mean_pool(tape, x, NULL);
    x = mra_relu(tape, mra_linear_layer_apply(&classifier->expand, tape, x));
    return mra_linear_layer_apply(&classifier->contract, tape, x);
}

// How many classes come before `label`.
static int rank_of(const float *logits, int classes, int label)
{
    const float own = logits[label];
    int before = 0;
    for (int j = 0; j < classes; j++) {
        const bool tie = j >= label && logits[j] == own;
        const bool behind = logits[j] < own || tie;
        before += !behind;
    }
    return before;
}

static mra_status count_right(const mra_image_classifier *classifier, mra_device *device,
                              const mra_tensor *logits, const mra_image_examples *examples,
                              int64_t right[2], mra_error *err)
{
    const size_t classes = (size_t)classifier->options.classes;
    float *values = malloc(logits->size * sizeof *values);
    if (!values) return mra_fail(err, MRA_NO_MEMORY, "image classifier: no memory");
    const mra_status status =
        device->to_host(device, values, logits->data, logits->size * sizeof *values, err);
    for (int i = 0; i < examples->count && status == MRA_OK; i++) {
        if (examples->labels[i] < 0) continue;
        const int rank =
            rank_of(values + (size_t)i * classes, (int)classes, examples->labels[i]);
        right[0] += rank < 1;
        right[1] += rank < TOP;
    }
    free(values);
    return status;
}

mra_tensor *mra_image_classifier_loss(mra_image_classifier *classifier, mra_tape *tape,
                                      const mra_image_examples *examples, int64_t right[2])
{
    mra_error err;
    right[0] = right[1] = 0;
    mra_tensor *logits = mra_image_classifier_logits(classifier, tape, examples);
    if (!logits) return NULL;
    const mra_status status =
        count_right(classifier, mra_tape_device(tape), logits, examples, right, &err);
    if (status != MRA_OK) return mra_tape_fail(tape, status, "%s", err.message);
    return mra_cross_entropy(tape, logits, examples->labels, NULL);
}
