// Drawing and applying are kept apart: a plan can be looked at, and its pixels be checked against a
// definition, without knowing how it was drawn.

#include "data/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"

static const double channel_mean[3] = {0.485, 0.456, 0.406};
static const double channel_deviation[3] = {0.229, 0.224, 0.225};
// What a moved picture leaves bare: the mean colour in 8 bits.
static const uint8_t mean_colour[3] = {124, 116, 104};

mra_augment mra_augment_defaults(void)
{
    return (mra_augment){.size = 224,
                         .area_low = 0.08,
                         .area_high = 1,
                         .aspect_low = 3.0 / 4,
                         .aspect_high = 4.0 / 3,
                         .flip = 0.5,
                         .jitter = 0.4,
                         .rand_augment = true,
                         .magnitude = 9,
                         .deviation = 0.5,
                         .crop = 0.95};
}

mra_status mra_augment_check(const mra_augment *a, mra_error *err)
{
    if (a->size < 1 || a->size > 4096)
        return mra_fail(err, MRA_BAD_INPUT, "augmentation: size %d: expected 1 to 4096",
                        a->size);
    if (!(a->area_low > 0 && a->area_low <= a->area_high && a->area_high <= 1))
        return mra_fail(err, MRA_BAD_INPUT,
                        "augmentation: area %g to %g: expected 0 < low <= high <= 1",
                        a->area_low, a->area_high);
    if (!(a->aspect_low > 0 && a->aspect_low <= a->aspect_high && isfinite(a->aspect_high)))
        return mra_fail(err, MRA_BAD_INPUT,
                        "augmentation: aspect %g to %g: expected 0 < low <= high",
                        a->aspect_low, a->aspect_high);
    const struct {
        const char *name;
        double value, most;
    } field[] = {{"flip", a->flip, 1},
                 {"jitter", a->jitter, 1},
                 {"magnitude", a->magnitude, 10},
                 {"deviation", a->deviation, 10},
                 {"crop", a->crop, 1}};
    for (size_t i = 0; i < sizeof field / sizeof *field; i++)
        if (!(field[i].value >= 0 && field[i].value <= field[i].most))
            return mra_fail(err, MRA_BAD_INPUT, "augmentation: %s %g: expected 0 to %g",
                            field[i].name, field[i].value, field[i].most);
    if (!(a->crop * 64 >= 1))
        return mra_fail(err, MRA_BAD_INPUT, "augmentation: crop %g: expected 1/64 to 1",
                        a->crop);
    return MRA_OK;
}

// ---- Drawing --------------------------------------------------------------------------------

static double between(mra_random *random, double low, double high)
{
    return low + (high - low) * mra_random_uniform(random);
}

// The middle part of width x height.
static void take_middle(mra_augment_plan *plan, int width, int height, int full_width,
                        int full_height)
{
    plan->width = width < 1 ? 1 : width;
    plan->height = height < 1 ? 1 : height;
    plan->left = (full_width - plan->width) / 2;
    plan->top = (full_height - plan->height) / 2;
}

static void draw_crop(mra_augment_plan *plan, const mra_augment *a, int width, int height,
                      mra_random *random)
{
    for (int attempt = 0; attempt < 10; attempt++) {
        const double share = between(random, a->area_low, a->area_high);
        const double area = share * ((double)width * height);
        const double aspect = exp(between(random, log(a->aspect_low), log(a->aspect_high)));
        const double w = rint(sqrt(area * aspect)), h = rint(sqrt(area / aspect));
        if (!(w >= 1 && h >= 1 && w <= width && h <= height)) continue;
        plan->width = (int)w;
        plan->height = (int)h;
        plan->top = (int)mra_random_below(random, (uint32_t)(height - plan->height + 1));
        plan->left = (int)mra_random_below(random, (uint32_t)(width - plan->width + 1));
        return;
    }
    const double aspect = (double)width / height;
    if (aspect < a->aspect_low)
        take_middle(plan, width, (int)rint(width / a->aspect_low), width, height);
    else if (aspect > a->aspect_high)
        take_middle(plan, (int)rint(height * a->aspect_high), height, width, height);
    else
        take_middle(plan, width, height, width, height);
}

static mra_filter draw_filter(mra_random *random)
{
    return mra_random_below(random, 2) ? MRA_BICUBIC : MRA_BILINEAR;
}

// Brightness, contrast and saturation in a random order (as torchvision does it).
static void draw_jitter(mra_augment_plan *plan, double jitter, mra_random *random)
{
    mra_change change[3] = {
        {.kind = MRA_BRIGHTNESS}, {.kind = MRA_CONTRAST}, {.kind = MRA_COLOUR}};
    for (uint32_t i = 0; i < 3; i++) {
        const uint32_t j = i + mra_random_below(random, 3 - i);
        const mra_change chosen = change[j];
        change[j] = change[i];
        plan->change[plan->changes] = chosen;
        plan->change[plan->changes++].amount = between(random, 1 - jitter, 1 + jitter);
    }
}

// The amount of a change at a level in [0, 1].
static double amount_at(mra_change_kind kind, double level, double sign)
{
    switch (kind) {
    case MRA_BRIGHTNESS:
    case MRA_CONTRAST:
    case MRA_COLOUR:
    case MRA_SHARPNESS:
        return 1 + sign * 0.9 * level;
    case MRA_POSTERIZE:
        return 4 - floor(4 * level);
    case MRA_SOLARIZE:
        return 256 - floor(256 * level);
    case MRA_SOLARIZE_ADD:
        return floor(110 * level);
    case MRA_ROTATE:
        return sign * 30 * level;
    case MRA_SHEAR_X:
    case MRA_SHEAR_Y:
        return sign * 0.3 * level;
    case MRA_TRANSLATE_X:
    case MRA_TRANSLATE_Y:
        return sign * 0.45 * level;
    default:
        return 0; // no level
    }
}

static void draw_rand_augment(mra_augment_plan *plan, const mra_augment *a, mra_random *random)
{
    for (int i = 0; i < 2; i++) {
        mra_change change = {.kind =
                                 (mra_change_kind)mra_random_below(random, MRA_CHANGE_KINDS)};
        const bool done = mra_random_uniform(random) < 0.5;
        const double drawn = a->magnitude + a->deviation * mra_random_normal(random);
        const double sign = mra_random_below(random, 2) ? 1 : -1;
        change.amount = amount_at(change.kind, fmin(10, fmax(0, drawn)) / 10, sign);
        change.filter = draw_filter(random);
        if (done) plan->change[plan->changes++] = change;
    }
}

void mra_augment_draw(mra_augment_plan *plan, const mra_augment *augment, int width, int height,
                      uint64_t epoch, uint64_t index)
{
    mra_random random = mra_random_open(augment->seed, mra_stream("augment", epoch, index));
    *plan = (mra_augment_plan){0};
    draw_crop(plan, augment, width, height, &random);
    plan->filter = draw_filter(&random);
    plan->flip = mra_random_uniform(&random) < augment->flip;
    if (augment->jitter > 0 && (augment->jitter_always || !augment->rand_augment))
        draw_jitter(plan, augment->jitter, &random);
    if (augment->rand_augment) draw_rand_augment(plan, augment, &random);
}

// ---- Applying -------------------------------------------------------------------------------

static void mirror(uint8_t *rgb, int size)
{
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size / 2; x++) {
            uint8_t *left = rgb + 3 * ((size_t)y * (size_t)size + (size_t)x), pixel[3];
            uint8_t *right = rgb + 3 * ((size_t)y * (size_t)size + (size_t)(size - 1 - x));
            memcpy(pixel, left, 3);
            memcpy(left, right, 3);
            memcpy(right, pixel, 3);
        }
}

mra_status mra_augment_apply(const mra_augment_plan *plan, int size, const mra_image *image,
                             uint8_t *rgb, mra_error *err)
{
    const size_t pitch = (size_t)image->width * 3, bytes = (size_t)size * (size_t)size * 3;
    const mra_resize_rgb_job job = {.in = image->rgb + (size_t)plan->top * pitch +
                                          (size_t)plan->left * 3,
                                    .pitch = pitch,
                                    .in_width = plan->width,
                                    .in_height = plan->height,
                                    .width = size,
                                    .height = size,
                                    .part_width = size,
                                    .part_height = size,
                                    .filter = plan->filter};
    uint8_t *scratch = malloc(bytes);
    if (!scratch)
        return mra_fail(err, MRA_NO_MEMORY, "no memory for a picture of %d x %d", size, size);
    const mra_status status = mra_resize_rgb(rgb, &job, err);
    if (status == MRA_OK) {
        if (plan->flip) mirror(rgb, size);
        for (int i = 0; i < plan->changes; i++)
            mra_change_apply(&plan->change[i], rgb, size, size, mean_colour, scratch);
    }
    free(scratch);
    return status;
}

mra_status mra_augment_centre(const mra_augment *augment, const mra_image *image, uint8_t *rgb,
                              mra_error *err)
{
    const int size = augment->size, shorter = (int)floor(size / augment->crop);
    const int least = image->width < image->height ? image->width : image->height;
    mra_resize_rgb_job job = {.in = image->rgb,
                              .pitch = (size_t)image->width * 3,
                              .in_width = image->width,
                              .in_height = image->height,
                              .part_width = size,
                              .part_height = size,
                              .filter = MRA_BICUBIC};
    const double width = (double)shorter * image->width / least;
    const double height = (double)shorter * image->height / least;
    if (width > INT32_MAX || height > INT32_MAX)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%d x %d pixels: too narrow to be brought to %d on the shorter side",
                        image->width, image->height, shorter);
    job.width = (int)width;
    job.height = (int)height;
    job.left = (int)rint((job.width - size) / 2.0);
    job.top = (int)rint((job.height - size) / 2.0);
    return mra_resize_rgb(rgb, &job, err);
}

static void normalise(const uint8_t *rgb, int size, float *out)
{
    const size_t pixels = (size_t)size * (size_t)size;
    for (size_t c = 0; c < 3; c++) {
        float table[256];
        for (int v = 0; v < 256; v++)
            table[v] = (float)((v / 255.0 - channel_mean[c]) / channel_deviation[c]);
        for (size_t i = 0; i < pixels; i++) out[c * pixels + i] = table[rgb[3 * i + c]];
    }
}

static mra_status finish(mra_status status, uint8_t *rgb, int size, float *out)
{
    if (status == MRA_OK) normalise(rgb, size, out);
    free(rgb);
    return status;
}

static uint8_t *picture_of(int size, mra_error *err)
{
    uint8_t *rgb = malloc((size_t)size * (size_t)size * 3);
    if (!rgb) mra_fail(err, MRA_NO_MEMORY, "no memory for a picture of %d x %d", size, size);
    return rgb;
}

mra_status mra_augment_train(const mra_augment *augment, const mra_image *image, uint64_t epoch,
                             uint64_t index, float *out, mra_error *err)
{
    mra_augment_plan plan;
    uint8_t *rgb = picture_of(augment->size, err);
    if (!rgb) return MRA_NO_MEMORY;
    mra_augment_draw(&plan, augment, image->width, image->height, epoch, index);
    return finish(mra_augment_apply(&plan, augment->size, image, rgb, err), rgb, augment->size,
                  out);
}

mra_status mra_augment_evaluate(const mra_augment *augment, const mra_image *image, float *out,
                                mra_error *err)
{
    uint8_t *rgb = picture_of(augment->size, err);
    if (!rgb) return MRA_NO_MEMORY;
    return finish(mra_augment_centre(augment, image, rgb, err), rgb, augment->size, out);
}
