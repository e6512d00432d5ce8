// # Pathfinder
//
// A curve is a row of *dashes* (the generator calls them paddles): straight strokes of 2 pixels, each turned a
// little against the one before it. Two such curves of 14 dashes start 7 pixels apart; one end of
// each may carry a disk. The label says whether the two disks of the picture are on one curve. Five short
// curves of 4 dashes distract. To answer one has to follow a curve through 1,024 pixels, which is
// why the task is in the Long-Range Arena.
//
// How the generator keeps curves apart: a *mask* holds, beside every dash, the dash made thicker by
// the margin. A new dash may start or end only where the mask, made thicker once more, is free. The
// mask lags one dash behind the picture, so that a curve may touch its own last dash.
//
// Three things of the public generator are kept that one would not expect, since the published pictures have
// them. The two long curves are drawn with contrast $0.75\cdot2$ and the distractors with contrast 2, so
// that distractors are brighter. The start of the second curve is not tested against the mask. And
// a curve can only start in about one direction of ten: the test for a free place looks from each pixel at
// the few pixels that a dash would cover; where all of these lie outside of the picture, as they
// do in some corner for most directions, the library that takes the maximum over them returns its
// least number, and the generator takes that for a picture without any free place. So first dashes point to the upper
// left, and of five distractors about two come about.
//
// Coordinates are (row, column); angles are measured from the column axis to the row axis, in
// whole degrees where they are drawn at random.

#include "data/pathfinder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "data/resize.h"

enum {
    SIDE = MRA_PATHFINDER_SIDE,
    PADDING = 1,
    STROKE = 2, // length of a dash
    MARGIN = 1,
    FINE = 2, // pictures are drawn finer by this factor
    CURVE = MRA_PATHFINDER_DASHES,
    DISTRACTORS = 5,
    DISTRACTOR = 4,
    SEED_DISTANCE = 7,
    CURVE_RETRIALS = 4, // of a distractor
    DASH_RETRIALS = 2,
    // A dash is drawn into a square of PATCH pixels around its tail, HALF to each side: its length, its
    // thickness (0.5, rounded up) and the margin. In fine pixels: FINE_PATCH, with the tail in the middle.
    HALF = STROKE + 1 + MARGIN,
    PATCH = 2 * HALF + 1,
    FINE_PATCH = 2 * HALF * FINE + 1,
    FINE_REACH = STROKE * FINE, // from tail to head in fine pixels
    HEADS = 2 * FINE_REACH + 1, // places of a head in either direction
    STRUCT = 2 * (STROKE + MARGIN) + 1
};
static const double marker_radius = 1.5, curve_contrast = 1.5, distractor_contrast = 2.0;
static const double least_free = 0.01; // distractors stop when less of the mask is free

typedef struct point {
    int y, x;
} point;

// A dash and its mask, 255 for full.
typedef struct patch {
    uint8_t line[PATCH * PATCH], mask[PATCH * PATCH];
} patch;

struct mra_pathfinder {
    patch patch[HEADS][HEADS]; // by where the head is, seen from the tail, in fine pixels
    mra_resize disk;           // from fine pixels to pixels
};

// ---- Dashes ---------------------------------------------------------------------------------

// A line of one fine pixel's width from the middle to `head` (Bresenham's algorithm, both ends drawn).
static void draw_line(uint8_t *picture, point head)
{
    const int middle = HALF * FINE;
    const int dy = abs(head.y), dx = abs(head.x), steps = dx > dy ? dx : dy;
    const int sy = head.y < 0 ? -1 : 1, sx = head.x < 0 ? -1 : 1;
    const int minor = 2 * (dx > dy ? dy : dx);
    int y = middle, x = middle, error = minor - steps;
    for (int i = 0; i < steps; i++) {
        picture[y * FINE_PATCH + x] = 255;
        const bool both = error >= 0;
        if (dx > dy || both) x += sx;
        if (dx <= dy || both) y += sy;
        error += minor - (both ? 2 * steps : 0);
    }
    picture[y * FINE_PATCH + x] = 255;
}

// Everything within MARGIN pixels of what is drawn.
static void thicken(const uint8_t *picture, uint8_t *thick)
{
    const int radius = MARGIN * FINE;
    memset(thick, 0, FINE_PATCH * FINE_PATCH);
    for (int y = 0; y < FINE_PATCH; y++)
        for (int x = 0; x < FINE_PATCH; x++)
            for (int b = -radius; b <= radius && picture[y * FINE_PATCH + x]; b++)
                for (int a = -radius; a <= radius; a++)
                    if (a * a + b * b <= radius * radius && y + b >= 0 && y + b < FINE_PATCH &&
                        x + a >= 0 && x + a < FINE_PATCH)
                        thick[(y + b) * FINE_PATCH + x + a] = 255;
}

static void make_patch(patch *patch, const mra_resize *resize, point head)
{
    uint8_t picture[FINE_PATCH * FINE_PATCH] = {0}, thick[FINE_PATCH * FINE_PATCH];
    draw_line(picture, head);
    thicken(picture, thick);
    mra_resize_run(resize, picture, patch->line);
    mra_resize_run(resize, thick, patch->mask);
}

mra_pathfinder *mra_pathfinder_create(void)
{
    mra_pathfinder *tables = malloc(sizeof *tables);
    mra_resize *resize = malloc(sizeof *resize);
    if (tables && resize) {
        mra_resize_plan(resize, FINE_PATCH, PATCH);
        mra_resize_plan(&tables->disk, SIDE * FINE, SIDE);
        for (int y = 0; y < HEADS; y++)
            for (int x = 0; x < HEADS; x++)
                make_patch(&tables->patch[y][x], resize,
                           (point){y - FINE_REACH, x - FINE_REACH});
        free(resize);
        return tables;
    }
    free(tables);
    free(resize);
    return NULL;
}

void mra_pathfinder_free(mra_pathfinder *tables)
{
    free(tables);
}

// The point `distance` away from `from`, rounded up.
static point translate(point from, double angle, double distance)
{
    return (point){(int)ceil(from.y + distance * sin(angle)),
                   (int)ceil(from.x + distance * cos(angle))};
}

static const patch *patch_of(const mra_pathfinder *tables, double angle)
{
    const int middle = HALF * FINE;
    const point head = translate((point){middle, middle}, angle, FINE_REACH);
    return &tables->patch[head.y - middle + FINE_REACH][head.x - middle + FINE_REACH];
}

static bool inside(point p)
{
    return p.y >= 0 && p.y < SIDE && p.x >= 0 && p.x < SIDE;
}

// field = max(field, factor * patch / 255) around `tail`.
static void stamp(float *field, const uint8_t *patch, point tail, double factor)
{
    for (int y = 0; y < PATCH; y++)
        for (int x = 0; x < PATCH; x++) {
            const point at = {tail.y - HALF + y, tail.x - HALF + x};
            const float value = (float)(factor * (patch[y * PATCH + x] / 255.0));
            if (inside(at) && field[at.y * SIDE + at.x] < value)
                field[at.y * SIDE + at.x] = value;
        }
}

// ---- Curves ---------------------------------------------------------------------------------

typedef struct canvas {
    const mra_pathfinder *tables;
    mra_random *random;
    float image[SIDE * SIDE], mask[SIDE * SIDE];
} canvas;

// The end of a curve: where its last dash is joined, which way it points, and the dash itself, whose mask is
// not in the canvas yet.
typedef struct curve {
    point pivot, tail; // tail: of the last dash, where its mask belongs
    double angle;
    const patch *last;
} curve;

static double opposite(double angle)
{
    return angle < 0 ? angle + M_PI : angle - M_PI;
}

static void settle(canvas *c, const curve *curve)
{
    stamp(c->mask, curve->last->mask, curve->tail, 1);
}

// Whether a place may be used: the mask at it, rounded.
static bool is_free(float mask)
{
    return mask <= 0.3f;
}

// The free places for the tail of a first dash in direction `angle`: those from which the dash, made thicker,
// meets neither mask nor a border of `border` pixels. Returns how many; place[] lists them row by row.
// (None, if from some corner of the picture every pixel that the dash would cover lies outside.)
static int free_places(const canvas *c, double angle, int border, int place[SIDE * SIDE])
{
    enum { REACH = STRUCT / 2, WIDE = SIDE + 2 * REACH };
    float kernel[SIDE * SIDE] = {0}, field[WIDE][WIDE] = {{0}}, most[SIDE][SIDE] = {{0}};
    // The dash starts one pixel off the middle of the structuring element, as in the generator.
    stamp(kernel, patch_of(c->tables, angle)->mask, (point){REACH + 1, REACH + 1}, 1);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const bool edge =
                y < border || y >= SIDE - border || x < border || x >= SIDE - border;
            field[y + REACH][x + REACH] = edge ? 1 : c->mask[y * SIDE + x];
        }
    bool covers[2][2] = {{false}}; // corners: lower or upper, right or left
    for (int b = 0; b < STRUCT; b++)
        for (int a = 0; a < STRUCT; a++)
            for (int corner = 0; corner < 4 && kernel[b * SIDE + a] >= 1; corner++)
                if ((corner / 2 ? b >= REACH : b <= REACH) &&
                    (corner % 2 ? a >= REACH : a <= REACH))
                    covers[corner / 2][corner % 2] = true;
    if (!covers[0][0] || !covers[0][1] || !covers[1][0] || !covers[1][1]) return 0;
    for (int b = 0; b < STRUCT; b++)
        for (int a = 0; a < STRUCT; a++)
            for (int y = 0; y < SIDE && kernel[b * SIDE + a] >= 1; y++)
                for (int x = 0; x < SIDE; x++)
                    most[y][x] =
                        most[y][x] > field[y + b][x + a] ? most[y][x] : field[y + b][x + a];
    int count = 0;
    for (int i = 0; i < SIDE * SIDE; i++)
        if (is_free(most[i / SIDE][i % SIDE])) place[count++] = i;
    return count;
}

static double random_angle(canvas *c)
{
    return ((int)mra_random_below(c->random, 360) - 180) * M_PI / 180;
}

// Whether a dash from `tail` has its head, and the point that its successor turns around, in the picture.
static bool start_curve(canvas *c, point tail, double angle, curve *curve)
{
    const point head = translate(tail, angle, STROKE);
    const double back = angle + M_PI < M_PI ? angle + M_PI : angle - M_PI;
    *curve = (struct curve){.pivot = translate(head, back, STROKE + MARGIN),
                            .tail = tail,
                            .angle = angle,
                            .last = patch_of(c->tables, angle)};
    // The generator turns the pivot back through the tail: the next dash continues from there.
    return inside(head) && inside(curve->pivot);
}

// A first dash at a random free place. False: there is none, or the trials are used up.
static bool seed_curve(canvas *c, int border, curve *curve)
{
    int place[SIDE * SIDE];
    for (int trial = 0; trial <= DASH_RETRIALS; trial++) {
        const double angle = random_angle(c);
        const int count = free_places(c, angle, border, place);
        if (count == 0) return false;
        const int at = place[mra_random_below(c->random, (uint32_t)count)];
        if (start_curve(c, (point){at / SIDE, at % SIDE}, angle, curve)) return true;
    }
    return false;
}

// The first dash of the second long curve, SEED_DISTANCE from the first one's tail.
static bool seed_second(canvas *c, point first, curve *curve)
{
    for (int trial = 0; trial <= DASH_RETRIALS; trial++) {
        const double angle = random_angle(c);
        const double around = mra_random_below(c->random, 360) * M_PI / 180;
        const point tail = {(int)nearbyint(first.y + SEED_DISTANCE * sin(around)),
                            (int)nearbyint(first.x + SEED_DISTANCE * cos(around))};
        if (start_curve(c, tail, angle, curve)) return true;
    }
    return false;
}

// ---- Continuing a curve ---------------------------------------------------------------------

enum { SAMPLES = 19 }; // pixels of a circle of radius STROKE + MARGIN: 2 pi 3 = 18.8

typedef struct choices {
    point head[SAMPLES];
    double angle[SAMPLES], cumulative[SAMPLES];
    int count;
} choices;

static int by_place(const void *a, const void *b)
{
    const point *p = a, *q = b;
    return p->y != q->y ? p->y - q->y : p->x - q->x;
}

// The mask made thicker by MARGIN (the point and its four neighbours), at one place.
static float thickened(const canvas *c, point p)
{
    static const point around[] = {{0, 0}, {-1, 0}, {1, 0}, {0, -1}, {0, 1}};
    float most = 0;
    for (int i = 0; i < 5; i++) {
        const point at = {p.y + around[i].y, p.x + around[i].x};
        if (inside(at) && c->mask[at.y * SIDE + at.x] > most)
            most = c->mask[at.y * SIDE + at.x];
    }
    return most;
}

// Where the next dash may end: the pixels of a circle around `pivot`, each with a weight cos^2 of its
// turn against `angle`, less where the mask is. False: a dead end.
static bool list_choices(const canvas *c, point pivot, double angle, choices *list)
{
    const double radius = STROKE + MARGIN, step = 360.0 / (2 * radius * M_PI);
    double total = 0;
    list->count = 0;
    for (int i = 0; i < SAMPLES; i++) {
        const double around = i * step * M_PI / 180;
        const double y = pivot.y + radius * sin(around), x = pivot.x + radius * cos(around);
        if (y >= SIDE || y < 0 || x >= SIDE || x < 0) continue;
        list->head[list->count++] = (point){(int)y, (int)x};
    }
    qsort(list->head, (size_t)list->count, sizeof *list->head, by_place);
    int unique = 0;
    for (int i = 0; i < list->count; i++)
        if (i == 0 || by_place(&list->head[i], &list->head[unique - 1]) != 0)
            list->head[unique++] = list->head[i];
    list->count = unique;
    for (int i = 0; i < unique; i++) {
        list->angle[i] = atan2(list->head[i].y - pivot.y, list->head[i].x - pivot.x);
        const double difference = fabs(list->angle[i] - angle);
        const double turn = fmin(fmin(difference, 2 * M_PI - difference), M_PI / 2);
        total += pow(cos(turn), 2) * (1 - thickened(c, list->head[i]));
        list->cumulative[i] = total;
    }
    return total >= 1e-4;
}

// Whether the masks of a dash and of the canvas overlap anywhere.
static bool crosses(const canvas *c, const patch *patch, point tail)
{
    for (int y = 0; y < PATCH; y++)
        for (int x = 0; x < PATCH; x++) {
            const point at = {tail.y - HALF + y, tail.x - HALF + x};
            if (inside(at) &&
                c->mask[at.y * SIDE + at.x] + patch->mask[y * PATCH + x] / 255.0f >= 1.8f)
                return true;
        }
    return false;
}

// Adds one dash to a curve and settles the one before it. False: a dead end, or every trial met the mask.
static bool extend(canvas *c, curve *curve, double contrast)
{
    choices list;
    const point pivot = translate(curve->pivot, curve->angle, STROKE + 2 * MARGIN);
    if (!list_choices(c, pivot, curve->angle, &list)) return false;
    for (int trial = 0; trial <= DASH_RETRIALS; trial++) {
        const double drawn = mra_random_uniform(c->random) * list.cumulative[list.count - 1];
        int chosen = 0;
        while (chosen + 1 < list.count && list.cumulative[chosen] <= drawn) chosen++;
        // Drawn from its far end back, so that the gap is at the pivot.
        const point head = list.head[chosen];
        const patch *patch = patch_of(c->tables, opposite(list.angle[chosen]));
        if (crosses(c, patch, head)) continue;
        settle(c, curve);
        stamp(c->image, patch->line, head, contrast);
        *curve = (struct curve){
            .pivot = pivot, .tail = head, .angle = list.angle[chosen], .last = patch};
        return true;
    }
    return false;
}

// ---- Pictures -------------------------------------------------------------------------------

static void clear(canvas *c)
{
    memset(c->image, 0, sizeof c->image);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            c->mask[y * SIDE + x] =
                y < PADDING || y >= SIDE - PADDING || x < PADDING || x >= SIDE - PADDING;
}

// Two long curves from two near starts, one dash of each in turn; dash[i] receives the tails of curve
// i. False: one of them got stuck.
static bool draw_curves(canvas *c, point dash[2][CURVE])
{
    curve curve[2];
    clear(c);
    if (!seed_curve(c, 2 * SEED_DISTANCE, &curve[0]) ||
        !seed_second(c, curve[0].tail, &curve[1]))
        return false;
    for (int i = 0; i < 2; i++) {
        dash[i][0] = curve[i].tail;
        stamp(c->image, curve[i].last->line, curve[i].tail, curve_contrast);
    }
    for (int d = 1; d < CURVE; d++)
        for (int i = 0; i < 2; i++) {
            if (!extend(c, &curve[i], curve_contrast)) return false;
            dash[i][d] = curve[i].tail;
        }
    settle(c, &curve[1]); // the generator settles the last dash of the second curve only
    return true;
}

static bool is_full(const canvas *c)
{
    int count = 0;
    for (int i = 0; i < SIDE * SIDE; i++) count += is_free(c->mask[i]);
    return count < least_free * SIDE * SIDE;
}

// One distractor; the canvas is as before if it got stuck.
static bool draw_distractor(canvas *c)
{
    const canvas before = *c;
    curve curve;
    bool drawn = !is_full(c) && seed_curve(c, 1, &curve);
    if (drawn) stamp(c->image, curve.last->line, curve.tail, distractor_contrast);
    for (int dash = 1; drawn && dash < DISTRACTOR; dash++)
        drawn = extend(c, &curve, distractor_contrast);
    if (drawn)
        settle(c, &curve);
    else
        *c = before;
    return drawn;
}

// image = max(image, disk).
static void draw_disk(canvas *c, point centre)
{
    enum { FINE_SIDE = SIDE * FINE };
    uint8_t fine[FINE_SIDE * FINE_SIDE] = {0}, disk[SIDE * SIDE];
    const double radius = marker_radius * FINE;
    for (int y = 0; y < FINE_SIDE; y++)
        for (int x = 0; x < FINE_SIDE; x++)
            if (pow(x - centre.x * FINE, 2) + pow(y - centre.y * FINE, 2) <= radius * radius)
                fine[y * FINE_SIDE + x] = 255;
    mra_resize_run(&c->tables->disk, fine, disk);
    for (int i = 0; i < SIDE * SIDE; i++) c->image[i] = fmaxf(c->image[i], disk[i] / 255.0f);
}

// Stored as the generator stores it: the least value black, the largest white.
static void store(const canvas *c, uint8_t pixels[SIDE * SIDE])
{
    float least = c->image[0], most = c->image[0];
    for (int i = 1; i < SIDE * SIDE; i++) {
        least = fminf(least, c->image[i]);
        most = fmaxf(most, c->image[i]);
    }
    for (int i = 0; i < SIDE * SIDE; i++)
        pixels[i] = (uint8_t)((c->image[i] - least) * (255.0 / (most - least)) + 0.5);
}

int mra_pathfinder_draw(const mra_pathfinder *tables, uint64_t seed, uint64_t index,
                        uint8_t pixels[MRA_PATHFINDER_LENGTH], mra_pathfinder_trace *trace)
{
    mra_random random = mra_random_open(seed, mra_stream("pathfinder", index, 0));
    canvas c = {.tables = tables, .random = &random};
    point dash[2][CURVE];
    const int label = (int)mra_random_below(&random, 2);
    while (!draw_curves(&c, dash)) continue;
    for (int i = 0; i < DISTRACTORS; i++)
        for (int trial = 0; trial <= CURVE_RETRIALS; trial++)
            if (draw_distractor(&c)) break;
    const int first = (int)mra_random_below(&random, 2), last = label ? first : 1 - first;
    draw_disk(&c, dash[first][0]);
    draw_disk(&c, dash[last][CURVE - 1]);
    store(&c, pixels);
    if (!trace) return label;
    *trace = (mra_pathfinder_trace){.first_disk = first, .last_disk = last};
    for (int i = 0; i < 2; i++)
        for (int d = 0; d < CURVE; d++) {
            trace->dash[i][d][0] = dash[i][d].y;
            trace->dash[i][d][1] = dash[i][d].x;
        }
    return label;
}
