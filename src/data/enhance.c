// Three kinds of changes: those that send each value of a channel to another one by a table, those
// that blend a pixel with a counterpart, and those that fetch a pixel from elsewhere.

#include "data/enhance.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static uint8_t blend(int other, int value, float amount)
{
    const float mixed = (float)other + amount * (float)(value - other);
    return (uint8_t)(mixed <= 0 ? 0 : mixed >= 255 ? 255 : mixed);
}

static int gray_of(const uint8_t *pixel)
{
    return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16;
}

// ---- Tables ---------------------------------------------------------------------------------

static void stretch(const size_t histogram[256], uint8_t table[256])
{
    int low = 0, high = 255;
    while (low < 255 && histogram[low] == 0) low++;
    while (high > 0 && histogram[high] == 0) high--;
    const double scale = high > low ? 255.0 / (high - low) : 1;
    const double offset = high > low ? -low * scale : 0;
    for (int v = 0; v < 256; v++) {
        const double value = v * scale + offset;
        table[v] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}

// The value v goes to the number of pixels below it, in steps of which 255 hold all but those of
// the highest value.
static void flatten(const size_t histogram[256], uint8_t table[256])
{
    size_t total = 0, highest = 0;
    for (int v = 0; v < 256; v++) {
        total += histogram[v];
        if (histogram[v]) highest = histogram[v];
    }
    const size_t step = (total - highest) / 255;
    size_t below = step / 2;
    for (int v = 0; v < 256; v++) {
        const size_t value = step ? below / step : (size_t)v;
        table[v] = (uint8_t)(value > 255 ? 255 : value);
        below += histogram[v];
    }
}

static void table_by_histogram(mra_change_kind kind, const uint8_t *rgb, size_t pixels,
                               uint8_t table[3][256])
{
    for (int c = 0; c < 3; c++) {
        size_t histogram[256] = {0};
        for (size_t i = 0; i < pixels; i++) histogram[rgb[3 * i + (size_t)c]]++;
        if (kind == MRA_EQUALIZE)
            flatten(histogram, table[c]);
        else
            stretch(histogram, table[c]);
    }
}

static int mean_gray(const uint8_t *rgb, size_t pixels)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < pixels; i++) sum += (uint64_t)gray_of(rgb + 3 * i);
    return (int)((double)sum / (double)pixels + 0.5);
}

static uint8_t table_value(const mra_change *change, int v, int mean)
{
    const int amount = (int)change->amount;
    switch (change->kind) {
    case MRA_BRIGHTNESS:
        return blend(0, v, (float)change->amount);
    case MRA_CONTRAST:
        return blend(mean, v, (float)change->amount);
    case MRA_INVERT:
        return (uint8_t)(255 - v);
    case MRA_POSTERIZE:
        return (uint8_t)(v & ~((1 << (8 - amount)) - 1));
    case MRA_SOLARIZE:
        return (uint8_t)(v < amount ? v : 255 - v);
    case MRA_SOLARIZE_ADD:
        return (uint8_t)(v >= 128 ? v : v + amount > 255 ? 255 : v + amount);
    default:
        return (uint8_t)v;
    }
}

static void change_by_table(const mra_change *change, uint8_t *rgb, size_t pixels)
{
    uint8_t table[3][256];
    if (change->kind == MRA_AUTO_CONTRAST || change->kind == MRA_EQUALIZE) {
        table_by_histogram(change->kind, rgb, pixels, table);
    } else {
        const int mean = change->kind == MRA_CONTRAST ? mean_gray(rgb, pixels) : 0;
        for (int v = 0; v < 256; v++)
            table[0][v] = table[1][v] = table[2][v] = table_value(change, v, mean);
    }
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++) rgb[3 * i + c] = table[c][rgb[3 * i + c]];
}

// ---- Pixels and their neighbours ------------------------------------------------------------

static void change_colour(uint8_t *rgb, size_t pixels, float amount)
{
    for (size_t i = 0; i < pixels; i++) {
        const int gray = gray_of(rgb + 3 * i);
        for (size_t c = 0; c < 3; c++) rgb[3 * i + c] = blend(gray, rgb[3 * i + c], amount);
    }
}

// The outermost pixels have no nine neighbours and stay as they are.
static void change_sharpness(uint8_t *rgb, int width, int height, float amount, uint8_t *copy)
{
    const size_t pitch = (size_t)width * 3;
    memcpy(copy, rgb, pitch * (size_t)height);
    for (int y = 1; y + 1 < height; y++)
        for (size_t b = 3; b + 3 < pitch; b++) {
            const size_t at = (size_t)y * pitch + b;
            int sum = 4 * copy[at];
            for (int row = -1; row <= 1; row++) {
                const uint8_t *line = copy + (size_t)(y + row) * pitch + b;
                sum += line[-3] + line[0] + line[3];
            }
            rgb[at] = blend((2 * sum + 13) / 26, copy[at], amount);
        }
}

// ---- Moving pixels --------------------------------------------------------------------------

static int clip(int at, int count)
{
    return at < 0 ? 0 : at >= count ? count - 1 : at;
}

static double cubic(double a, double b, double c, double d, double t)
{
    return b + t * (-a + c + t * (2 * (a - b) + c - d + t * (-a + b - c + d)));
}

// The value between pixels at column x + t.
static double along(const uint8_t *row, int width, int x, double t, mra_filter filter)
{
    const int b = row[3 * clip(x, width)], c = row[3 * clip(x + 1, width)];
    if (filter == MRA_BILINEAR) return b + (c - b) * t;
    return cubic(row[3 * clip(x - 1, width)], b, c, row[3 * clip(x + 2, width)], t);
}

// Channel at `in` (of the first pixel) at column x + tx, row y + ty.
static uint8_t sample(const uint8_t *in, int width, int height, int x, double tx, int y,
                      double ty, mra_filter filter)
{
    const int before = filter == MRA_BILINEAR ? 0 : 1, rows = filter == MRA_BILINEAR ? 2 : 4;
    double v[4] = {0};
    for (int i = 0; i < rows; i++) {
        const size_t row = (size_t)clip(y - before + i, height);
        v[i] = along(in + row * (size_t)width * 3, width, x, tx, filter);
    }
    const double value =
        filter == MRA_BILINEAR ? v[0] + (v[1] - v[0]) * ty : cubic(v[0], v[1], v[2], v[3], ty);
    return (uint8_t)(value <= 0 ? 0 : value >= 255 ? 255 : value);
}

// Coefficients of the affine map from a pixel's centre to where its colour is fetched:
// (m0 x + m1 y + m2, m3 x + m4 y + m5).
static void matrix_of(const mra_change *change, int width, int height, double m[6])
{
    const double amount = change->amount;
    memcpy(m, (const double[6]){1, 0, 0, 0, 1, 0}, 6 * sizeof *m);
    if (change->kind == MRA_SHEAR_X) m[1] = amount;
    if (change->kind == MRA_SHEAR_Y) m[3] = amount;
    if (change->kind == MRA_TRANSLATE_X) m[2] = amount * width;
    if (change->kind == MRA_TRANSLATE_Y) m[5] = amount * height;
    if (change->kind != MRA_ROTATE) return;
    const double turn = amount < 0 ? amount + 360 : amount;
    const double angle = -(turn * (M_PI / 180)), x = width / 2.0, y = height / 2.0;
    m[0] = m[4] = rint(cos(angle) * 1e15) / 1e15; // 15 digits, as in Pillow
    m[1] = rint(sin(angle) * 1e15) / 1e15;
    m[3] = -m[1];
    m[2] = -m[0] * x - m[1] * y + x;
    m[5] = -m[3] * x - m[4] * y + y;
}

static void move(const mra_change *change, uint8_t *rgb, int width, int height,
                 const uint8_t fill[3], uint8_t *copy)
{
    double m[6];
    matrix_of(change, width, height, m);
    memcpy(copy, rgb, (size_t)width * (size_t)height * 3);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, rgb += 3) {
            const double fx = m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2];
            const double fy = m[3] * (x + 0.5) + m[4] * (y + 0.5) + m[5];
            if (!(fx >= 0 && fx < width && fy >= 0 && fy < height)) {
                memcpy(rgb, fill, 3);
                continue;
            }
            const int column = (int)floor(fx - 0.5), row = (int)floor(fy - 0.5);
            for (int c = 0; c < 3; c++)
                rgb[c] = sample(copy + c, width, height, column, fx - 0.5 - column, row,
                                fy - 0.5 - row, change->filter);
        }
}

void mra_change_apply(const mra_change *change, uint8_t *rgb, int width, int height,
                      const uint8_t fill[3], uint8_t *scratch)
{
    const size_t pixels = (size_t)width * (size_t)height;
    if (change->kind >= MRA_ROTATE)
        move(change, rgb, width, height, fill, scratch);
    else if (change->kind == MRA_COLOUR)
        change_colour(rgb, pixels, (float)change->amount);
    else if (change->kind == MRA_SHARPNESS)
        change_sharpness(rgb, width, height, (float)change->amount, scratch);
    else
        change_by_table(change, rgb, pixels);
}
