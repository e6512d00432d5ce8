// JPEG by libjpeg-turbo. The library reports errors by a callback that must not return; a jump
// brings it back here. What it calls a warning (data that end early, extraneous bytes) is an error
// too: a training set should not hold half pictures that nobody mentioned.

#include "io/image.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

static const double most_pixels = 268435456.0; // 2^28

typedef struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf back;
    char reason[JMSG_LENGTH_MAX];
} decoder;

static void give_up(j_common_ptr jpeg)
{
    decoder *d = jpeg->client_data;
    jpeg->err->format_message(jpeg, d->reason);
    longjmp(d->back, 1);
}

static void take_warning(j_common_ptr jpeg, int level)
{
    if (level < 0) give_up(jpeg);
}

static void say_nothing(j_common_ptr jpeg)
{
    (void)jpeg;
}

// Header, size and colours. False: `reason` says what is wrong.
static bool begin(decoder *d, const unsigned char *data, size_t bytes)
{
    jpeg_mem_src(&d->jpeg, data, (unsigned long)bytes);
    jpeg_read_header(&d->jpeg, TRUE);
    const int components = d->jpeg.num_components;
    if (components != 1 && components != 3) {
        snprintf(d->reason, sizeof d->reason,
                 "%d colour components%s: expected grayscale or RGB", components,
                 components == 4 ? " (CMYK)" : "");
        return false;
    }
    if ((double)d->jpeg.image_width * d->jpeg.image_height > most_pixels) {
        snprintf(d->reason, sizeof d->reason, "%u x %u pixels: expected at most 2^28",
                 d->jpeg.image_width, d->jpeg.image_height);
        return false;
    }
    d->jpeg.out_color_space = JCS_RGB;
    d->jpeg.dct_method = JDCT_ISLOW;
    jpeg_start_decompress(&d->jpeg);
    return true;
}

static void read_rows(decoder *d, mra_image *image)
{
    while (d->jpeg.output_scanline < d->jpeg.output_height) {
        JSAMPROW row = image->rgb + (size_t)d->jpeg.output_scanline * (size_t)image->width * 3;
        jpeg_read_scanlines(&d->jpeg, &row, 1);
    }
    jpeg_finish_decompress(&d->jpeg);
}

mra_status mra_jpeg_decode(mra_image *image, const unsigned char *data, size_t bytes,
                           const char *name, mra_error *err)
{
    decoder d = {.reason = ""};
    *image = (mra_image){0};
    d.jpeg.err = jpeg_std_error(&d.errors);
    d.errors.error_exit = give_up;
    d.errors.emit_message = take_warning;
    d.errors.output_message = say_nothing;
    d.jpeg.client_data = &d;
    if (setjmp(d.back) != 0) {
        jpeg_destroy_decompress(&d.jpeg);
        mra_image_free(image);
        return mra_fail(err, MRA_BAD_INPUT, "%s: no whole JPEG: %s", name, d.reason);
    }
    jpeg_create_decompress(&d.jpeg);
    if (!begin(&d, data, bytes)) {
        jpeg_destroy_decompress(&d.jpeg);
        return mra_fail(err, MRA_BAD_INPUT, "%s: %s", name, d.reason);
    }
    image->width = (int)d.jpeg.output_width;
    image->height = (int)d.jpeg.output_height;
    image->rgb = malloc((size_t)image->width * (size_t)image->height * 3);
    if (!image->rgb) {
        jpeg_destroy_decompress(&d.jpeg);
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for %d x %d pixels", name,
                        image->width, image->height);
    }
    read_rows(&d, image);
    jpeg_destroy_decompress(&d.jpeg);
    return MRA_OK;
}

void mra_image_free(mra_image *image)
{
    free(image->rgb);
    *image = (mra_image){0};
}
