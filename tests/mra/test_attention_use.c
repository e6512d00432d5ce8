// What libmra's public interface promises beyond the right numbers: what has to agree bit for
// bit (threads, batches, grids), what is counted, what survives (huge logits, anything in
// padding), what is allocated and what is refused.
#include "attention_case.h"

#include <malloc.h>

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

// With the budget spent on the first row and column, other rows have no box: they give nothing
// and get nothing.
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

// Place of raster token (row, column) of an image of the given width when 32 tokens are a tile
// of 4 x 8.
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

// Logits of about 10^4 in absolute value: finite everywhere, and near the definition as far as
// a float32 logit of that size is known (to about 1e-3).
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
    if (getenv("MRA_SANITIZED")) return; // another allocator
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
