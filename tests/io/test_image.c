// JPEG: what the encoder was given comes back within what its quality loses, and everything that is no
// whole picture is refused with its name.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/core.h"
#include "io/image.h"
#include "jpeg.h"

enum { WIDTH = 37, HEIGHT = 21 };
static mra_error err;

// Smooth, so that quality 100 loses little.
static void paint(unsigned char *pixels, int channels)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < channels; c++)
                pixels[(y * WIDTH + x) * channels + c] =
                    (unsigned char)(20 + 4 * x + (c - 1) * 3 * y + 60 * (c == 2));
}

static void colours_come_back(void **state)
{
    (void)state;
    static const int channels[] = {1, 3};
    for (int i = 0; i < 2; i++) {
        unsigned char pixels[WIDTH * HEIGHT * 3];
        size_t bytes;
        mra_image image;
        paint(pixels, channels[i]);
        unsigned char *data = jpeg_encode(pixels, WIDTH, HEIGHT, channels[i], 100, &bytes);
        if (mra_jpeg_decode(&image, data, bytes, "picture", &err) != MRA_OK)
            fail_msg("%s", err.message);
        assert_int_equal(image.width, WIDTH);
        assert_int_equal(image.height, HEIGHT);
        for (int p = 0; p < WIDTH * HEIGHT; p++)
            for (int c = 0; c < 3; c++) {
                const int expected = pixels[p * channels[i] + (i ? c : 0)];
                assert_in_range(image.rgb[3 * p + c] + 4, expected, expected + 8);
            }
        mra_image_free(&image);
        free(data);
    }
}

static void refuse(const unsigned char *data, size_t bytes, const char *message)
{
    mra_image image;
    assert_int_equal(mra_jpeg_decode(&image, data, bytes, "a.jpg", &err), MRA_BAD_INPUT);
    if (!strstr(err.message, message) || !strstr(err.message, "a.jpg"))
        fail_msg("\"%s\" lacks \"%s\"", err.message, message);
    assert_null(image.rgb);
}

static void no_whole_picture(void **state)
{
    (void)state;
    unsigned char pixels[WIDTH * HEIGHT * 4];
    size_t bytes;
    paint(pixels, 3);
    unsigned char *data = jpeg_encode(pixels, WIDTH, HEIGHT, 3, 90, &bytes);
    for (size_t cut = 0; cut < bytes - 2; cut += 1 + bytes / 40) {
        unsigned char *part = malloc(cut + 1); // so that the sanitizers see a byte too far
        memcpy(part, data, cut);
        refuse(part, cut, "no whole JPEG");
        free(part);
    }
    free(data);
    refuse((const unsigned char *)"GIF89a......", 12, "no whole JPEG");
    paint(pixels, 4);
    data = jpeg_encode(pixels, WIDTH, HEIGHT, 4, 90, &bytes);
    refuse(data, bytes, "4 colour components (CMYK)");
    free(data);
}

static void luminance(void **state)
{
    (void)state;
    assert_int_equal(mra_gray(0, 0, 0), 0);
    assert_int_equal(mra_gray(255, 255, 255), 255);
    assert_int_equal(mra_gray(255, 0, 0), 76);  // 76.37
    assert_int_equal(mra_gray(0, 255, 0), 149); // 149.98
    assert_int_equal(mra_gray(0, 0, 255), 29);  // 29.13
    assert_int_equal(mra_gray(100, 100, 100), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(colours_come_back),
                                       cmocka_unit_test(no_whole_picture),
                                       cmocka_unit_test(luminance)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
