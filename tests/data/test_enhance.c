// Resizing and changes of pictures against definitions in float64, and bit for bit against what
// Pillow 9.3 gives for a formula.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/file.h"
#include "data/enhance.h"
#include "picture.h"

static mra_error err;
static const uint8_t fill[3] = {124, 116, 104};

// The formula whose pictures Pillow was given: 61 x 47.
enum { WIDTH = 61, HEIGHT = 47, BYTES = WIDTH * HEIGHT * 3 };
static void formula(uint8_t rgb[BYTES])
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++)
                *rgb++ =
                    (uint8_t)((40 + x * x / 9 + y * 3 + c * 25 + ((x * 5) ^ (y * 7)) % 31) %
                                  200 +
                              20);
}

// ---- Resizing -------------------------------------------------------------------------------

static void check_resize(mra_random *random, int width, int height, int to_width, int to_height)
{
    for (int f = 0; f < 2; f++) {
        mra_image in = noise(random, width, height);
        mra_resize_rgb_job job = {.in = in.rgb,
                                  .pitch = (size_t)width * 3,
                                  .in_width = width,
                                  .in_height = height,
                                  .width = to_width,
                                  .height = to_height,
                                  .filter = f ? MRA_BICUBIC : MRA_BILINEAR};
        job.left = (int)mra_random_below(random, (uint32_t)to_width);
        job.top = (int)mra_random_below(random, (uint32_t)to_height);
        job.part_width = 1 + (int)mra_random_below(random, (uint32_t)(to_width - job.left));
        job.part_height = 1 + (int)mra_random_below(random, (uint32_t)(to_height - job.top));
        uint8_t *out = malloc((size_t)job.part_width * (size_t)job.part_height * 3);
        double *across = weights(job.filter, width, to_width);
        double *down = weights(job.filter, height, to_height);
        assert_int_equal(mra_resize_rgb(out, &job, &err), MRA_OK);
        for (int i = 0; i < job.part_width * job.part_height * 3; i++) {
            const int x = i / 3 % job.part_width, y = i / 3 / job.part_width;
            const double want = resized(&in, across, down, job.left + x, job.top + y, i % 3);
            if (!(fabs(out[i] - want) <= two_roundings))
                fail_msg("%d x %d to %d x %d, filter %d, (%d, %d): %d, expected %.3f", width,
                         height, to_width, to_height, f, job.left + x, job.top + y, out[i],
                         want);
        }
        free(across);
        free(down);
        free(out);
        free(in.rgb);
    }
}

static void resizing_is_the_filter(void **state)
{
    (void)state;
    static const int sizes[][4] = {{1, 1, 5, 3},     {40, 1, 7, 9},  {3, 50, 11, 4},
                                   {37, 29, 37, 29}, {64, 48, 9, 7}, {17, 13, 40, 31},
                                   {90, 8, 13, 24}};
    mra_random random = mra_random_open(fresh_seed(), 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_resize(&random, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
    for (int i = 0; i < 6; i++) {
        const int width = 1 + (int)mra_random_below(&random, 60);
        const int height = 1 + (int)mra_random_below(&random, 60);
        check_resize(&random, width, height, 1 + (int)mra_random_below(&random, 30),
                     1 + (int)mra_random_below(&random, 30));
    }
}

static void resizing_as_pillow(void **state)
{
    (void)state;
    static const struct {
        int width, height;
        mra_filter filter;
        uint32_t crc;
    } cases[] = {{40, 40, MRA_BILINEAR, 0x9f3ebda1},
                 {23, 90, MRA_BICUBIC, 0x0baea59e},
                 {150, 31, MRA_BILINEAR, 0x7bb4443a},
                 {61, 20, MRA_BICUBIC, 0xbb38ac5d},
                 {90, 80, MRA_BICUBIC, 0xcf58a7b9}};
    static uint8_t in[BYTES], out[150 * 90 * 3];
    formula(in);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int width = cases[i].width, height = cases[i].height;
        const mra_resize_rgb_job job = {in, WIDTH * 3, WIDTH, HEIGHT, width,          height,
                                        0,  0,         width, height, cases[i].filter};
        assert_int_equal(mra_resize_rgb(out, &job, &err), MRA_OK);
        assert_int_equal(mra_crc32(0, out, (size_t)(width * height * 3)), cases[i].crc);
    }
}

// ---- Changes --------------------------------------------------------------------------------

static void changes_as_pillow(void **state)
{
    (void)state;
    static const struct {
        mra_change change;
        uint32_t crc;
    } cases[] = {{{MRA_BRIGHTNESS, 1.81, MRA_BILINEAR}, 0x3fcd89c2},
                 {{MRA_CONTRAST, 0.19, MRA_BILINEAR}, 0x09b37426},
                 {{MRA_COLOUR, 1.7, MRA_BILINEAR}, 0xac29dc3f},
                 {{MRA_SHARPNESS, 1.85, MRA_BILINEAR}, 0xbfab87d7},
                 {{MRA_AUTO_CONTRAST, 0, MRA_BILINEAR}, 0xc4d87042},
                 {{MRA_EQUALIZE, 0, MRA_BILINEAR}, 0x0f022174},
                 {{MRA_INVERT, 0, MRA_BILINEAR}, 0x27d106b5},
                 {{MRA_POSTERIZE, 2, MRA_BILINEAR}, 0xb26e2642},
                 {{MRA_SOLARIZE, 77, MRA_BILINEAR}, 0x23920018},
                 {{MRA_SOLARIZE_ADD, 99, MRA_BILINEAR}, 0x03d8809a},
                 {{MRA_ROTATE, -27.5, MRA_BILINEAR}, 0x08eb41b2},
                 {{MRA_ROTATE, 26.25, MRA_BICUBIC}, 0xc2ce4bc4},
                 {{MRA_SHEAR_X, 0.28, MRA_BICUBIC}, 0xe2aea4d4},
                 {{MRA_SHEAR_Y, -0.26, MRA_BILINEAR}, 0x40413e54},
                 {{MRA_TRANSLATE_X, -0.41, MRA_BILINEAR}, 0x7b500175},
                 {{MRA_TRANSLATE_Y, 0.39, MRA_BICUBIC}, 0x816a18e0}};
    static uint8_t rgb[BYTES], scratch[BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        formula(rgb);
        mra_change_apply(&cases[i].change, rgb, WIDTH, HEIGHT, fill, scratch);
        if (mra_crc32(0, rgb, BYTES) != cases[i].crc)
            fail_msg("change %d by %g", cases[i].change.kind, cases[i].change.amount);
    }
}

static double gray_at(const mra_image *in, int i)
{
    const uint8_t *p = in->rgb + 3 * i;
    return floor((19595.0 * p[0] + 38470.0 * p[1] + 7471.0 * p[2]) / 65536 + 0.5);
}

// The counterpart that brightness, contrast, colour and sharpness blend with.
static double counterpart(const mra_image *in, mra_change_kind kind, int x, int y, int c)
{
    const int width = in->width, pixels = width * in->height;
    double sum = 0;
    if (kind == MRA_BRIGHTNESS) return 0;
    if (kind == MRA_COLOUR) return gray_at(in, y * width + x);
    if (kind == MRA_CONTRAST) {
        for (int i = 0; i < pixels; i++) sum += gray_at(in, i);
        return floor(sum / pixels + 0.5);
    }
    if (x == 0 || y == 0 || x == width - 1 || y == in->height - 1)
        return in->rgb[3 * (y * width + x) + c];
    for (int v = y - 1; v <= y + 1; v++)
        for (int u = x - 1; u <= x + 1; u++)
            sum += (u == x && v == y ? 5 : 1) * in->rgb[3 * (v * width + u) + c];
    return floor(sum / 13 + 0.5);
}

static double by_histogram(const mra_image *in, mra_change_kind kind, int value, int c)
{
    const int pixels = in->width * in->height;
    int low = 255, high = 0, below = 0, top = 0;
    for (int i = 0; i < pixels; i++) {
        const int v = in->rgb[3 * i + c];
        low = v < low ? v : low, high = v > high ? v : high;
        below += v < value;
    }
    for (int i = 0; i < pixels; i++) top += in->rgb[3 * i + c] == high;
    if (kind == MRA_AUTO_CONTRAST)
        return high > low ? 255.0 * (value - low) / (high - low) : value;
    const int step = (pixels - top) / 255;
    return step == 0 ? value : fmin(255, floor((step / 2 + below) / (double)step));
}

static double moved(const mra_image *in, const mra_change *change, int x, int y, int c)
{
    const double a = change->amount, turn = a * M_PI / 180;
    const double mx = in->width / 2.0, my = in->height / 2.0;
    double u = x + 0.5, v = y + 0.5, value = 0;
    if (change->kind == MRA_SHEAR_X) u += a * v;
    if (change->kind == MRA_SHEAR_Y) v += a * (x + 0.5);
    if (change->kind == MRA_TRANSLATE_X) u += a * in->width;
    if (change->kind == MRA_TRANSLATE_Y) v += a * in->height;
    if (change->kind ==
        MRA_ROTATE) { // what is fetched lies clockwise of the pixel on a picture
        const double dx = x + 0.5 - mx, dy = y + 0.5 - my;
        u = mx + cos(turn) * dx - sin(turn) * dy;
        v = my + sin(turn) * dx + cos(turn) * dy;
    }
    if (u < 0 || v < 0 || u >= in->width || v >= in->height) return fill[c];
    u -= 0.5, v -= 0.5;
    for (int row = (int)floor(v) - 1; row <= (int)floor(v) + 2; row++)
        for (int column = (int)floor(u) - 1; column <= (int)floor(u) + 2; column++) {
            const int at_row = row < 0 ? 0 : row >= in->height ? in->height - 1 : row;
            const int at = column < 0 ? 0 : column >= in->width ? in->width - 1 : column;
            value += kernel(change->filter, v - row, -1) *
                     kernel(change->filter, u - column, -1) *
                     in->rgb[3 * (at_row * in->width + at) + c];
        }
    return value;
}

static double changed(const mra_image *in, const mra_change *change, int x, int y, int c)
{
    const int v = in->rgb[3 * (y * in->width + x) + c];
    const double a = change->amount;
    switch (change->kind) {
    case MRA_AUTO_CONTRAST:
    case MRA_EQUALIZE:
        return by_histogram(in, change->kind, v, c);
    case MRA_INVERT:
        return 255 - v;
    case MRA_POSTERIZE:
        return floor(v / exp2(8 - a)) * exp2(8 - a);
    case MRA_SOLARIZE:
        return v < a ? v : 255 - v;
    case MRA_SOLARIZE_ADD:
        return v < 128 ? fmin(255, v + a) : v;
    case MRA_BRIGHTNESS:
    case MRA_CONTRAST:
    case MRA_COLOUR:
    case MRA_SHARPNESS: {
        const double other = counterpart(in, change->kind, x, y, c);
        return other + a * (v - other);
    }
    default:
        return moved(in, change, x, y, c);
    }
}

static double random_amount(mra_random *random, mra_change_kind kind)
{
    if (kind <= MRA_SHARPNESS) return 1.9 * mra_random_uniform(random);
    if (kind == MRA_POSTERIZE) return mra_random_below(random, 9);
    if (kind == MRA_SOLARIZE) return mra_random_below(random, 257);
    if (kind == MRA_SOLARIZE_ADD) return mra_random_below(random, 111);
    return (kind == MRA_ROTATE ? 60 : 0.9) * (mra_random_uniform(random) - 0.5);
}

// Every change cuts off the fraction: it lies below the real value by less than one. Where a picture is
// moved, a pixel whose source lies on the border to the last bit may fall on either side.
static void changes_are_their_definitions(void **state)
{
    (void)state;
    mra_random random = mra_random_open(fresh_seed(), 2);
    for (int k = 0; k < 4 * MRA_CHANGE_KINDS; k++) {
        const int width = k == 0 ? 1 : 1 + (int)mra_random_below(&random, 40);
        const int height = k == 0 ? 1 : 1 + (int)mra_random_below(&random, 40);
        mra_image in = noise(&random, width, height);
        mra_change change = {.kind = (mra_change_kind)(k % MRA_CHANGE_KINDS)};
        change.amount = random_amount(&random, change.kind);
        change.filter = mra_random_below(&random, 2) ? MRA_BICUBIC : MRA_BILINEAR;
        const size_t bytes = (size_t)(width * height * 3);
        uint8_t *rgb = malloc(bytes), *scratch = malloc(bytes);
        memcpy(rgb, in.rgb, bytes);
        mra_change_apply(&change, rgb, width, height, fill, scratch);
        for (int i = 0; i < width * height * 3; i++) {
            const double value = changed(&in, &change, i / 3 % width, i / 3 / width, i % 3);
            const double want = fmin(255, fmax(0, value));
            if (!(rgb[i] <= want + 1e-3 && rgb[i] > want - 1 - 1e-3))
                fail_msg("change %d by %g of %d x %d: byte %d is %d, expected %.4f",
                         change.kind, change.amount, width, height, i, rgb[i], want);
        }
        free(rgb);
        free(scratch);
        free(in.rgb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resizing_is_the_filter), cmocka_unit_test(resizing_as_pillow),
        cmocka_unit_test(changes_as_pillow), cmocka_unit_test(changes_are_their_definitions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
