// JPEG data for tests, made by the library's encoder.
#ifndef MRA_TESTS_IO_JPEG_H
#define MRA_TESTS_IO_JPEG_H

#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

// Encodes width x height pixels of `channels` bytes (1 gray, 3 RGB, 4 CMYK) at the given quality; the
// caller frees the data.
static inline unsigned char *jpeg_encode(const unsigned char *pixels, int width, int height,
                                         int channels, int quality, size_t *bytes)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &size);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = channels;
    jpeg.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, quality, TRUE);
    if (channels == 3) // no colour is averaged with its neighbours
        jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < height; y++) {
        JSAMPROW row = (JSAMPROW)(pixels + (size_t)y * (size_t)width * (size_t)channels);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    *bytes = size;
    return data;
}

#endif
