// libmra's public interface: values and gradients against the float64 definition (reference.h), for every shape, mask,
// prior and ranking; what has to agree bit for bit; what has to be refused.
#include "reference.h"

#include <malloc.h>
#include <stdio.h>

#include "core/random.h"

enum { FORWARD_LIMIT, BACKWARD_LIMIT };
static const double limit[] = {5e-6, 2e-5};

// All arrays of an attention call.
typedef struct arrays {
    mra_shape shape;
    size_t size;
    float *q, *k, *v, *dz, *z, *dq, *dk, *dv;
    uint8_t *mask; // [batch][n] or NULL
} arrays;

typedef enum mask_kind { NO_MASK, RANDOM_MASK, TAIL_MASK, BLOCK_MASK, NOTHING } mask_kind;

static uint8_t *make_mask(mra_shape shape, int s, mask_kind kind, uint64_t seed)
{
    if (kind == NO_MASK) return NULL;
    uint8_t *mask = reference_alloc((size_t)shape.batch * shape.n, 1);
    mra_random random = mra_random_open(seed, mra_stream("mask", 0, 0));
    for (int b = 0; b < shape.batch; b++)
        for (int i = 0; i < shape.n; i++) {
            bool keep = kind == RANDOM_MASK && mra_random_below(&random, 3) > 0;
            keep = keep || (kind == TAIL_MASK && i <= shape.n / 2 + b);
            keep = keep || (kind == BLOCK_MASK && i / s % 3 != 1);
            mask[b * shape.n + i] = keep;
        }
    return mask;
}

static arrays make_arrays(mra_shape shape, int s, mask_kind kind, float deviation,
                          uint64_t seed)
{
    arrays a = {.shape = shape};
    a.size = (size_t)shape.batch * shape.heads * shape.n * shape.d;
    float **all[] = {&a.q, &a.k, &a.v, &a.dz, &a.z, &a.dq, &a.dk, &a.dv};
    for (int i = 0; i < 8; i++) *all[i] = reference_alloc(a.size, sizeof(float));
    const float spread[] = {deviation, deviation, 1, 1};
    for (int i = 0; i < 4; i++)
        mra_fill_normal(*all[i], a.size, spread[i], seed, mra_stream("array", (uint64_t)i, 0));
    a.mask = make_mask(shape, s, kind, seed);
    return a;
}

static void free_arrays(arrays *a)
{
    float *all[] = {a->q, a->k, a->v, a->dz, a->z, a->dq, a->dk, a->dv};
    for (int i = 0; i < 8; i++) free(all[i]);
    free(a->mask);
}

static mra_attention *create(const arrays *a, const mra_options *options)
{
    mra_attention *attention;
    mra_error err = {0};
    if (mra_attention_create(&attention, a->shape, options, &err) != MRA_OK)
        fail_msg("%s", err.message);
    return attention;
}

static void forward(mra_attention *attention, arrays *a)
{
    mra_error err = {0};
    if (mra_attention_forward(attention, a->q, a->k, a->v, a->mask, a->z, &err) != MRA_OK)
        fail_msg("%s", err.message);
}

static void backward(mra_attention *attention, arrays *a)
{
    mra_error err = {0};
    if (mra_attention_backward(attention, a->q, a->k, a->v, a->mask, a->z, a->dz, a->dq, a->dk,
                               a->dv, &err) != MRA_OK)
        fail_msg("%s", err.message);
}

static mra_statistics run(arrays *a, const mra_options *options)
{
    mra_attention *attention = create(a, options);
    forward(attention, a);
    backward(attention, a);
    mra_statistics statistics = mra_attention_statistics(attention);
    mra_attention_free(attention);
    return statistics;
}

static double *to_double(const float *from, size_t count)
{
    double *to = reference_alloc(count, sizeof *to);
    for (size_t i = 0; i < count; i++) to[i] = from[i];
    return to;
}

// Compares head h of the results with the definition; the gradients began at `start`.
static void compare_head(const arrays *a, const mra_options *options, size_t h, float start)
{
    size_t size = (size_t)a->shape.n * a->shape.d, first = h * size;
    const uint8_t *mask = a->mask ? a->mask + h / a->shape.heads * a->shape.n : NULL;
    double *q = to_double(a->q + first, size), *k = to_double(a->k + first, size);
    double *v = to_double(a->v + first, size), *dz = to_double(a->dz + first, size);
    reference r = reference_make(options, a->shape.n, a->shape.d, q, k, v, mask, dz, NULL);
    assert_true(r.gap > 1e-6); // else rounding may choose another box: take another seed
    for (size_t i = 0; i < 3 * size; i++) r.dq[i] += start;
    assert_true(reference_distance(a->z + first, r.z, size) < limit[FORWARD_LIMIT]);
    assert_true(reference_distance(a->dq + first, r.dq, size) < limit[BACKWARD_LIMIT]);
    assert_true(reference_distance(a->dk + first, r.dk, size) < limit[BACKWARD_LIMIT]);
    assert_true(reference_distance(a->dv + first, r.dv, size) < limit[BACKWARD_LIMIT]);
    reference_free(&r);
    free(q);
    free(k);
    free(v);
    free(dz);
}

typedef struct test_case {
    mra_shape shape;
    int s;
    double blocks;
    mask_kind mask;
    bool sparse;
    mra_ranking ranking;
    int first, diagonal;
} test_case;

static mra_options options_of(const test_case *test)
{
    mra_options options = mra_options_mra2(test->blocks);
    options.scale[0] = test->s;
    options.sparse = test->sparse;
    options.ranking = test->ranking;
    options.first = test->first;
    options.diagonal = test->diagonal;
    options.threads = 2;
    return options;
}

static void check_case(const test_case *test, uint64_t seed)
{
    mra_options options = options_of(test);
    arrays a = make_arrays(test->shape, test->s, test->mask, 1, seed);
    float start = seed % 2 ? 0.25f : 0; // gradients are added to what is there
    for (size_t i = 0; i < a.size; i++) a.dq[i] = a.dk[i] = a.dv[i] = start;
    run(&a, &options);
    for (size_t h = 0; h < (size_t)test->shape.batch * test->shape.heads; h++)
        compare_head(&a, &options, h, start);
    free_arrays(&a);
}

static void lengths_agree_with_the_definition(void **state)
{
    (void)state;
    const int n[] = {1, 31, 32, 33, 100, 257, 1000};
    for (int i = 0; i < 7; i++) {
        test_case test = {.shape = {1, 1, n[i], 32}, .s = 32, .blocks = 1.5};
        check_case(&test, 10 + (uint64_t)i);
        test.sparse = true;
        check_case(&test, 20 + (uint64_t)i);
    }
}

static void widths_agree_with_the_definition(void **state)
{
    (void)state;
    const int d[] = {1, 31, 32, 64, 96, 256};
    for (int i = 0; i < 6; i++) {
        test_case test = {.shape = {1, 2, 150, d[i]}, .s = 32, .blocks = 2};
        check_case(&test, 30 + (uint64_t)i);
    }
}

static void block_sizes_agree_with_the_definition(void **state)
{
    (void)state;
    const int s[] = {2, 3, 8, 16, 17, 48, 64, 128, 200}; // 200: the general path
    for (int i = 0; i < 9; i++) {
        test_case test = {.shape = {1, 1, 300, 24}, .s = s[i], .blocks = 1.2};
        check_case(&test, 40 + (uint64_t)i);
    }
}

static void masks_agree_with_the_definition(void **state)
{
    (void)state;
    for (int kind = RANDOM_MASK; kind <= NOTHING; kind++)
        for (int sparse = 0; sparse < 2; sparse++) {
            test_case test = {.shape = {2, 2, 230, 40},
                              .s = 32,
                              .blocks = 2,
                              .mask = (mask_kind)kind,
                              .sparse = sparse};
            check_case(&test, 50 + 2 * (uint64_t)kind + (uint64_t)sparse);
        }
}

static void rankings_and_priors_agree_with_the_definition(void **state)
{
    (void)state;
    const int prior[][2] = {{0, 0}, {1, 0}, {0, 1}, {0, 3}, {2, 5}};
    for (int i = 0; i < 5; i++)
        for (int plain = 0; plain < 2; plain++) {
            test_case test = {.shape = {1, 1, 350, 16}, .s = 16, .blocks = 4.5};
            test.ranking = plain ? MRA_RANK_PLAIN : MRA_RANK_ROW;
            test.first = prior[i][0];
            test.diagonal = prior[i][1];
            test.mask = i == 2 ? BLOCK_MASK : NO_MASK;
            check_case(&test, 70 + 2 * (uint64_t)i + (uint64_t)plain);
        }
}

static void budgets_of_nothing_and_of_everything(void **state)
{
    (void)state;
    const double blocks[] = {0, 0.2, 7, 100};
    for (int i = 0; i < 4; i++)
        for (int sparse = 0; sparse < 2; sparse++) {
            test_case test = {.shape = {1, 1, 200, 64}, .s = 32, .blocks = blocks[i]};
            test.sparse = sparse;
            test.mask = i == 3 ? RANDOM_MASK : NO_MASK;
            check_case(&test, 90 + 2 * (uint64_t)i + (uint64_t)sparse);
        }
}

// The reference's own gradients against central differences of its own values, J held fixed.
static void reference_gradients_are_derivatives(void **state)
{
    (void)state;
    for (int sparse = 0; sparse < 2; sparse++) {
        test_case test = {.s = 4, .blocks = 1.5, .sparse = sparse};
        mra_options options = options_of(&test);
        arrays a =
            make_arrays((mra_shape){1, 1, 18, 3}, 4, RANDOM_MASK, 1, 5 + (uint64_t)sparse);
        double *x[3] = {to_double(a.q, a.size), to_double(a.k, a.size), to_double(a.v, a.size)};
        double *dz = to_double(a.dz, a.size);
        reference r = reference_make(&options, 18, 3, x[0], x[1], x[2], a.mask, dz, NULL);
        double *analytic[3] = {r.dq, r.dk, r.dv};
        for (int which = 0; which < 3; which++)
            for (size_t i = 0; i < a.size; i++) {
                double value[2], step = 1e-5, kept = x[which][i];
                for (int side = 0; side < 2; side++) {
                    x[which][i] = kept + (side ? step : -step);
                    reference moved = reference_make(&options, 18, 3, x[0], x[1], x[2], a.mask,
                                                     NULL, r.refined);
                    value[side] = reference_dot(moved.z, dz, (int)a.size);
                    reference_free(&moved);
                }
                x[which][i] = kept;
                double slope = (value[1] - value[0]) / (2 * step);
                assert_true(fabs(slope - analytic[which][i]) < 1e-7 * (1 + fabs(slope)));
            }
        reference_free(&r);
        for (int which = 0; which < 3; which++) free(x[which]);
        free(dz);
        free_arrays(&a);
    }
}

static void one_scale_is_exact_attention(void **state)
{
    (void)state;
    mra_options exact = {.scales = 1, .scale = {1}, .threads = 2};
    mra_options deep = {.scales = 4, .scale = {16, 8, 4, 1}, .blocks = {0, 99, 99, 999}};
    for (int kind = NO_MASK; kind <= RANDOM_MASK; kind++) {
        arrays a = make_arrays((mra_shape){1, 2, 77, 20}, 1, (mask_kind)kind, 1, 3);
        mra_statistics statistics = run(&a, &exact);
        if (kind == NO_MASK) assert_int_equal(statistics.boxes[0], 2 * 77 * 77);
        for (size_t h = 0; h < 2; h++) compare_head(&a, &exact, h, 0);
        memset(a.dq, 0, a.size * sizeof(float));
        memset(a.dk, 0, a.size * sizeof(float));
        memset(a.dv, 0, a.size * sizeof(float));
        run(&a, &deep);
        for (size_t h = 0; h < 2; h++) compare_head(&a, &exact, h, 0);
        free_arrays(&a);
    }
}

// Three of the four diagonal boxes are refined: the ragged one is among them, or it is not.
static bool counts_three_of_diagonal(mra_statistics statistics)
{
    bool without = statistics.boxes[1] == 3 * 32 * 32 && statistics.empty_rows == 4;
    bool with = statistics.boxes[1] == 2 * 32 * 32 + 4 * 4 && statistics.empty_rows == 32;
    return without || with;
}

static void statistics_count_boxes_and_empty_rows(void **state)
{
    (void)state;
    arrays a = make_arrays((mra_shape){1, 2, 100, 8}, 32, NO_MASK, 1, 4);
    mra_options options = mra_options_mra2(1);
    options.diagonal = 1; // four boxes of four: the diagonal
    mra_statistics statistics = run(&a, &options);
    assert_int_equal(statistics.boxes[0], 2 * 12);
    assert_int_equal(statistics.boxes[1], 2 * (3 * 32 * 32 + 4 * 4));
    assert_int_equal(statistics.empty_rows, 0);
    assert_true(statistics.workspace > 0);
    free_arrays(&a);

    a = make_arrays((mra_shape){1, 1, 100, 8}, 32, NO_MASK, 1, 4);
    options.sparse = true;
    options.blocks[1] = 0.75;
    statistics = run(&a, &options);
    assert_int_equal(statistics.boxes[0], 0);
    assert_true(counts_three_of_diagonal(statistics));
    free_arrays(&a);
}

// With the budget spent on the first row and column, other rows have no box: they give nothing and get nothing.
static void empty_rows_give_zero(void **state)
{
    (void)state;
    arrays a = make_arrays((mra_shape){1, 1, 128, 8}, 32, NO_MASK, 1, 4);
    mra_options options = mra_options_mra2(0.5);
    options.sparse = true;
    options.first = 1; // of the first row and column, two boxes: rows elsewhere stay empty
    mra_statistics statistics = run(&a, &options);
    assert_true(statistics.empty_rows >= 64);
    long long zero = 0;
    for (int i = 0; i < 128; i++) {
        double z = 0, dq = 0;
        for (int c = 0; c < 8; c++) z += fabsf(a.z[i * 8 + c]), dq += fabsf(a.dq[i * 8 + c]);
        zero += z == 0 && dq == 0;
    }
    assert_int_equal(zero, statistics.empty_rows);
    free_arrays(&a);
}

static void assert_same(const float *a, const float *b, size_t count)
{
    assert_memory_equal(a, b, count * sizeof(float));
}

static void assert_same_arrays(const arrays *a, const arrays *b)
{
    assert_same(a->z, b->z, a->size);
    assert_same(a->dq, b->dq, a->size);
    assert_same(a->dk, b->dk, a->size);
    assert_same(a->dv, b->dv, a->size);
}

static void threads_agree_to_the_last_bit(void **state)
{
    (void)state;
    const int heads[] = {1, 3};
    for (int i = 0; i < 2; i++)
        for (int sparse = 0; sparse < 2; sparse++)
            for (int kind = NO_MASK; kind <= RANDOM_MASK; kind++) {
                mra_shape shape = {1, heads[i], 333, 48};
                mra_options options = mra_options_mra2(2.5);
                options.sparse = sparse;
                options.scale[0] = kind == NO_MASK ? 4 : 32;
                arrays one = make_arrays(shape, 32, (mask_kind)kind, 1, 8);
                options.threads = 1;
                run(&one, &options);
                for (int threads = 2; threads <= 4; threads += 2) {
                    arrays more = make_arrays(shape, 32, (mask_kind)kind, 1, 8);
                    options.threads = threads;
                    run(&more, &options);
                    assert_same_arrays(&one, &more);
                    free_arrays(&more);
                }
                free_arrays(&one);
            }
}

// Heads of a batch do not know of each other, in the fused and in the general path.
static void a_batch_is_its_heads(void **state)
{
    (void)state;
    for (int general = 0; general < 2; general++) {
        mra_options options = mra_options_mra2(2);
        if (general)
            options = (mra_options){.scales = 3, .scale = {16, 4, 1}, .blocks = {0, 3, 20}};
        options.threads = 2;
        arrays all = make_arrays((mra_shape){3, 2, 90, 16}, 16, RANDOM_MASK, 1, 6);
        run(&all, &options);
        arrays one = make_arrays((mra_shape){1, 1, 90, 16}, 16, RANDOM_MASK, 1, 6);
        for (size_t h = 0; h < 6; h++) {
            size_t first = h * one.size, bytes = one.size * sizeof(float);
            memcpy(one.q, all.q + first, bytes);
            memcpy(one.k, all.k + first, bytes);
            memcpy(one.v, all.v + first, bytes);
            memcpy(one.dz, all.dz + first, bytes);
            memcpy(one.mask, all.mask + h / 2 * 90, 90);
            memset(one.dq, 0, bytes);
            memset(one.dk, 0, bytes);
            memset(one.dv, 0, bytes);
            run(&one, &options);
            arrays part = all;
            part.size = one.size;
            part.z += first, part.dq += first, part.dk += first, part.dv += first;
            assert_same_arrays(&one, &part);
        }
        free_arrays(&one);
        free_arrays(&all);
    }
}

// Place of raster token (row, column) of an image of the given width when 32 tokens are a tile of 4 x 8.
static int tile_place(int row, int column, int width)
{
    int tile = row / 4 * (width / 8) + column / 8;
    return tile * 32 + row % 4 * 8 + column % 8;
}

static void a_grid_is_a_permutation(void **state)
{
    (void)state;
    enum { HEIGHT = 12, WIDTH = 16, N = HEIGHT * WIDTH, D = 8 };
    for (int general = 0; general < 2; general++) {
        mra_options options = mra_options_mra2(2);
        if (general)
            options = (mra_options){.scales = 3, .scale = {32, 8, 1}, .blocks = {0, 2, 9}};
        arrays image = make_arrays((mra_shape){1, 1, N, D}, 32, RANDOM_MASK, 1, 9);
        arrays tiled = make_arrays((mra_shape){1, 1, N, D}, 32, RANDOM_MASK, 1, 9);
        for (int t = 0; t < N; t++) {
            int row = t / WIDTH, column = t % WIDTH, place = tile_place(row, column, WIDTH);
            if (general) { // tiles of 8 tokens are 2 x 4 inside the tile of 32
                int r = row % 4, c = column % 8;
                place = place / 32 * 32 + (r / 2 * 2 + c / 4) * 8 + r % 2 * 4 + c % 4;
            }
            memcpy(tiled.q + place * D, image.q + t * D, D * sizeof(float));
            memcpy(tiled.k + place * D, image.k + t * D, D * sizeof(float));
            memcpy(tiled.v + place * D, image.v + t * D, D * sizeof(float));
            memcpy(tiled.dz + place * D, image.dz + t * D, D * sizeof(float));
            tiled.mask[place] = image.mask[t];
            memset(image.z + t * D, 0, D * sizeof(float));
        }
        run(&tiled, &options);
        options.grid_height = HEIGHT;
        options.grid_width = WIDTH;
        run(&image, &options);
        for (int t = 0; t < N; t++) {
            int row = t / WIDTH, column = t % WIDTH, place = tile_place(row, column, WIDTH);
            if (general) {
                int r = row % 4, c = column % 8;
                place = place / 32 * 32 + (r / 2 * 2 + c / 4) * 8 + r % 2 * 4 + c % 4;
            }
            assert_same(image.z + t * D, tiled.z + place * D, D);
            assert_same(image.dq + t * D, tiled.dq + place * D, D);
            assert_same(image.dk + t * D, tiled.dk + place * D, D);
            assert_same(image.dv + t * D, tiled.dv + place * D, D);
        }
        free_arrays(&image);
        free_arrays(&tiled);
    }
}

// Logits of about 10^4 in absolute value: finite everywhere, and near the definition as far as a float32 logit of that size is
// known (to about 1e-3).
static void huge_logits_stay_finite(void **state)
{
    (void)state;
    for (int sparse = 0; sparse < 2; sparse++) {
        mra_options options = mra_options_mra2(2);
        options.sparse = sparse;
        arrays a = make_arrays((mra_shape){1, 2, 200, 64}, 32, RANDOM_MASK, 100, 2);
        run(&a, &options);
        for (size_t i = 0; i < a.size; i++) {
            assert_true(isfinite(a.z[i]) && isfinite(a.dq[i]));
            assert_true(isfinite(a.dk[i]) && isfinite(a.dv[i]));
        }
        double *q = to_double(a.q, a.size), *k = to_double(a.k, a.size),
               *v = to_double(a.v, a.size);
        reference r = reference_make(&options, 200, 64, q, k, v, a.mask, NULL, NULL);
        assert_true(reference_distance(a.z, r.z, a.size / 2) < 5e-3);
        reference_free(&r);
        free(q);
        free(k);
        free(v);
        free_arrays(&a);
    }
}

static void padding_may_hold_anything(void **state)
{
    (void)state;
    mra_shape shape = {1, 2, 150, 16};
    mra_options options = mra_options_mra2(2);
    arrays clean = make_arrays(shape, 32, RANDOM_MASK, 1, 7);
    arrays dirty = make_arrays(shape, 32, RANDOM_MASK, 1, 7);
    for (size_t i = 0; i < dirty.size; i++)
        if (!dirty.mask[i / 16 % 150]) dirty.q[i] = dirty.k[i] = dirty.v[i] = dirty.dz[i] = NAN;
    run(&clean, &options);
    run(&dirty, &options);
    assert_same_arrays(&clean, &dirty);
    for (size_t i = 0; i < clean.size; i++)
        if (!clean.mask[i / 16 % 150]) assert_true(clean.z[i] == 0 && clean.dk[i] == 0);
    free_arrays(&clean);
    free_arrays(&dirty);
}

static void passes_allocate_nothing(void **state)
{
    (void)state;
    if (getenv("MRA_SANITIZED")) skip(); // another allocator
    arrays a = make_arrays((mra_shape){1, 2, 300, 32}, 32, NO_MASK, 1, 7);
    mra_options options = mra_options_mra2(2);
    options.threads = 1;
    mra_attention *attention = create(&a, &options);
    forward(attention, &a);
    backward(attention, &a);
    size_t before = mallinfo2().uordblks;
    forward(attention, &a);
    backward(attention, &a);
    assert_int_equal(mallinfo2().uordblks, before);
    mra_attention_free(attention);
    free_arrays(&a);
}

static void refuse_creation(mra_shape shape, mra_options options, const char *names)
{
    mra_attention *attention = NULL;
    mra_error err = {0};
    assert_int_equal(mra_attention_create(&attention, shape, &options, &err), MRA_BAD_INPUT);
    assert_null(attention);
    assert_non_null(strstr(err.message, names));
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    mra_shape shape = {1, 1, 64, 8};
    mra_options good = mra_options_mra2(1), bad = good;
    refuse_creation((mra_shape){0, 1, 64, 8}, good, "batch");
    refuse_creation((mra_shape){1, 1, 0, 8}, good, "n:");
    refuse_creation((mra_shape){1, 1, 64, 257}, good, "d:");
    bad.blocks[1] = NAN;
    refuse_creation(shape, bad, "blocks[1]");
    bad = good, bad.scale[1] = 3;
    refuse_creation(shape, bad, "scale[1]");
    bad = good, bad.grid_height = 8, bad.grid_width = 7;
    refuse_creation(shape, bad, "grid");
    bad = good, bad.diagonal = 2;
    refuse_creation(shape, bad, "diagonal");

    arrays a = make_arrays(shape, 32, NO_MASK, 1, 1);
    mra_error err = {0};
    for (int general = 0; general < 2; general++) {
        mra_options options = good;
        if (general)
            options = (mra_options){.scales = 3, .scale = {8, 4, 1}, .blocks = {0, 1, 1}};
        mra_attention *attention = create(&a, &options);
        assert_int_equal(mra_attention_backward(attention, a.q, a.k, a.v, NULL, a.z, a.dz, a.dq,
                                                a.dk, a.dv, &err),
                         MRA_BAD_INPUT);
        assert_int_equal(mra_attention_forward(attention, a.q, NULL, a.v, NULL, a.z, &err),
                         MRA_BAD_INPUT);
        assert_non_null(strstr(err.message, "k:"));
        float kept = a.v[100];
        a.v[100] = NAN;
        assert_int_equal(mra_attention_forward(attention, a.q, a.k, a.v, NULL, a.z, &err),
                         MRA_BAD_INPUT);
        assert_non_null(strstr(err.message, "NaN"));
        a.v[100] = kept;
        forward(attention, &a);
        mra_attention_free(attention);
    }
    free_arrays(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients_are_derivatives),
        cmocka_unit_test(lengths_agree_with_the_definition),
        cmocka_unit_test(widths_agree_with_the_definition),
        cmocka_unit_test(block_sizes_agree_with_the_definition),
        cmocka_unit_test(masks_agree_with_the_definition),
        cmocka_unit_test(rankings_and_priors_agree_with_the_definition),
        cmocka_unit_test(budgets_of_nothing_and_of_everything),
        cmocka_unit_test(one_scale_is_exact_attention),
        cmocka_unit_test(statistics_count_boxes_and_empty_rows),
        cmocka_unit_test(empty_rows_give_zero),
        cmocka_unit_test(threads_agree_to_the_last_bit),
        cmocka_unit_test(a_batch_is_its_heads),
        cmocka_unit_test(a_grid_is_a_permutation),
        cmocka_unit_test(huge_logits_stay_finite),
        cmocka_unit_test(padding_may_hold_anything),
        cmocka_unit_test(passes_allocate_nothing),
        cmocka_unit_test(bad_input_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
