// # What may be asked for, and images
//
// The method has few knobs: the scales $R$, one budget a refinement, a ranking, two priors.
// This file says which settings make sense, and lays images out so that a block of tokens is
// compact.
#include <limits.h>
#include <math.h>
#include <stdint.h>

#include "mra/selection.h"

enum { LARGEST_SPREAD = 128 }; // blocks of the fused path, where the ranking by spread is

// ## Scales and budgets
//
// $R$ ends with 1, for refinement ends at single entries, and each scale is a multiple of the
// next, so that boxes nest. The first one may exceed $n$: then there is a single, ragged block.
// Positions of boxes are stored in 32 bits, which bounds the number of boxes of one scale.
static mra_status check_scales(const mra_options *options, mra_error *err)
{
    int scales = options->scales;
    if (scales < 1 || scales > MRA_MAX_SCALES)
        return mra_fail(err, MRA_BAD_INPUT, "scales: %d given, expected 1 to %d", scales,
                        MRA_MAX_SCALES);
    for (int i = 0; i < scales; i++) {
        if (options->scale[i] < 1)
            return mra_fail(err, MRA_BAD_INPUT, "scale[%d]: %d, expected at least 1", i,
                            options->scale[i]);
        if (i == 0) continue;
        int coarse = options->scale[i - 1], fine = options->scale[i];
        if (fine >= coarse || coarse % fine != 0)
            return mra_fail(err, MRA_BAD_INPUT,
                            "scale[%d]: %d after %d, expected a smaller number that divides it",
                            i, fine, coarse);
    }
    if (options->scale[scales - 1] != 1)
        return mra_fail(err, MRA_BAD_INPUT, "scale[%d]: %d, expected the last scale to be 1",
                        scales - 1, options->scale[scales - 1]);
    return MRA_OK;
}

static mra_status check_budgets(const mra_options *options, int n, mra_error *err)
{
    double blocks = ceil((double)n / options->scale[0]), boxes = blocks * blocks;
    for (int i = 0; i < options->scales; i++) {
        if (i > 0) {
            double budget = options->blocks[i];
            if (!(budget >= 0) || isinf(budget))
                return mra_fail(err, MRA_BAD_INPUT,
                                "blocks[%d]: %g, expected a finite number, at least 0", i,
                                budget);
            double ratio = options->scale[i - 1] / options->scale[i];
            double refined = fmin(boxes, floor(budget * blocks + 0.5));
            boxes = fmin(refined * ratio * ratio, pow(ceil((double)n / options->scale[i]), 2));
        }
        if (boxes > INT_MAX)
            return mra_fail(
                err, MRA_BAD_INPUT,
                "scale[%d]: %.0f boxes of scale %d for %d tokens, expected at most %d: "
                "take coarser scales or smaller budgets",
                i, boxes, options->scale[i], n, INT_MAX);
    }
    return MRA_OK;
}

static mra_status check_ranking(const mra_options *options, mra_error *err)
{
    const int ranking = (int)options->ranking, last = (int)MRA_RANK_SPREAD;
    if (ranking < 0 || ranking > last)
        return mra_fail(err, MRA_BAD_INPUT,
                        "ranking: %d, expected row (%d), plain (%d) or spread (%d)", ranking,
                        (int)MRA_RANK_ROW, (int)MRA_RANK_PLAIN, last);
    if (ranking == last &&
        (options->scales > 2 || (options->scales == 2 && options->scale[0] > LARGEST_SPREAD)))
        return mra_fail(err, MRA_BAD_INPUT,
                        "ranking: spread, expected two scales, the first at most %d",
                        LARGEST_SPREAD);
    if (options->first < 0)
        return mra_fail(err, MRA_BAD_INPUT, "first: %d, expected at least 0", options->first);
    if (options->diagonal < 0 || (options->diagonal > 0 && options->diagonal % 2 == 0))
        return mra_fail(err, MRA_BAD_INPUT, "diagonal: %d, expected 0 or an odd number",
                        options->diagonal);
    if (!isfinite(options->logit_scale))
        return mra_fail(err, MRA_BAD_INPUT, "logit_scale: %g, expected a finite number",
                        options->logit_scale);
    return MRA_OK;
}

// ## Tiles
//
// An image becomes a sequence row by row. Then 32 consecutive tokens are a strip one pixel
// high, and their mean mixes things far apart. Pooling wants blocks whose tokens are alike, and
// in images likeness falls with distance in *both* directions. So the tokens are permuted:
// block after block of 32 tokens is a tile of 4 x 8 pixels. In general a block of $2^p$ tokens
// is a tile $2^{\lfloor p/2\rfloor}$ high and $2^{\lceil p/2\rceil}$ wide. With several scales
// the tiles nest: the sides of a smaller tile divide those of a larger one, and inside a tile
// of scale $s_{i-1}$ the tiles of scale $s_i$ follow one another row by row. Attention itself
// does not care: permuting queries, keys and values permutes the output.
bool mra_grid_tile(int scale, int *tile_height, int *tile_width)
{
    *tile_height = *tile_width = 1;
    if (scale < 1 || (scale & (scale - 1)) != 0) return false;
    int p = 0;
    while (scale >> p > 1) p++;
    *tile_height = 1 << (p / 2);
    *tile_width = 1 << ((p + 1) / 2);
    return true;
}

static mra_status check_grid(const mra_options *options, int n, mra_error *err)
{
    int height = options->grid_height, width = options->grid_width;
    if (height == 0 && width == 0) return MRA_OK;
    if (height < 1 || width < 1 || (int64_t)height * width != n)
        return mra_fail(err, MRA_BAD_INPUT,
                        "grid: %dx%d given, expected height times width to be n = %d", height,
                        width, n);
    int tile_height, tile_width;
    for (int i = 0; i < options->scales; i++)
        if (!mra_grid_tile(options->scale[i], &tile_height, &tile_width))
            return mra_fail(err, MRA_BAD_INPUT,
                            "scale[%d]: %d, expected a power of two when there is a grid", i,
                            options->scale[i]);
    mra_grid_tile(options->scale[0], &tile_height, &tile_width);
    if (height % tile_height != 0 || width % tile_width != 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "grid: %dx%d given, expected multiples of %dx%d, the tile of scale %d",
                        height, width, tile_height, tile_width, options->scale[0]);
    return MRA_OK;
}

mra_status mra_options_check(const mra_options *options, int n, mra_error *err)
{
    if (n < 1) return mra_fail(err, MRA_BAD_INPUT, "n: %d, expected at least 1", n);
    if (check_scales(options, err) != MRA_OK || check_ranking(options, err) != MRA_OK ||
        check_budgets(options, n, err) != MRA_OK)
        return err == NULL ? MRA_BAD_INPUT : err->status;
    return check_grid(options, n, err);
}

// Where a place of the sequence lies in the image: the image is cut into tiles of scale $s_0$
// in raster order, each of them into tiles of scale $s_1$, and so on down to single pixels. The
// place, written in the mixed radix of the numbers of tiles, says at each level which tile it
// is.
static int raster_of_place(const mra_options *options, int place)
{
    int row = 0, column = 0;
    int across_pixels = options->grid_width; // width of the area that is being cut
    for (int i = 0; i < options->scales; i++) {
        int tile_height, tile_width;
        mra_grid_tile(options->scale[i], &tile_height, &tile_width);
        int tile = place / options->scale[i], across = across_pixels / tile_width;
        place %= options->scale[i];
        row += tile / across * tile_height;
        column += tile % across * tile_width;
        across_pixels = tile_width;
    }
    return row * options->grid_width + column;
}

mra_status mra_grid_order(const mra_options *options, int n, int32_t *order, mra_error *err)
{
    mra_status status = mra_options_check(options, n, err);
    if (status != MRA_OK) return status;
    for (int t = 0; t < n; t++)
        order[t] = options->grid_height == 0 ? t : raster_of_place(options, t);
    return MRA_OK;
}

void mra_grid_inverse(const int32_t *order, int n, int32_t *place)
{
    for (int t = 0; t < n; t++) place[order[t]] = t;
}
