// J: a partition, made of the boxes with the best scores, for any R, ranking, mask and prior.
#include "dense.h"

#include "core/arena.h"
#include "mra/selection.h"

// ---- the m largest ----

typedef struct ranked {
    float score;
    int32_t index;
} ranked;

static int by_falling_score(const void *a, const void *b)
{
    const ranked *one = a, *other = b;
    if (one->score != other->score) return one->score > other->score ? -1 : 1;
    return one->index < other->index ? -1 : 1;
}

static int by_rising_index(const void *a, const void *b)
{
    int32_t one = *(const int32_t *)a, other = *(const int32_t *)b;
    return one < other ? -1 : one > other;
}

static void check_largest(const float *score, size_t count, size_t m)
{
    ranked *sorted = test_alloc(count, sizeof *sorted);
    int32_t *index = test_alloc(count, sizeof *index),
            *scratch = test_alloc(2 * count, sizeof *scratch);
    for (size_t i = 0; i < count; i++) sorted[i] = (ranked){score[i], (int32_t)i};
    qsort(sorted, count, sizeof *sorted, by_falling_score);
    size_t expected = m < count ? m : count;
    int32_t *expected_index = test_alloc(count, sizeof *index);
    for (size_t i = 0; i < expected; i++) expected_index[i] = sorted[i].index;
    qsort(expected_index, expected, sizeof *expected_index, by_rising_index);
    assert_int_equal(mra_select_largest(score, count, m, index, scratch), expected);
    for (size_t i = 0; i < expected; i++) assert_int_equal(index[i], expected_index[i]);
    free(sorted);
    free(index);
    free(scratch);
    free(expected_index);
}

// Kinds: continuous; many ties; all equal; huge and tiny of both signs with -INFINITY and both
// zeros; narrow.
static float score_of_kind(mra_random *random, int kind)
{
    double u = mra_random_normal(random);
    switch (kind) {
    case 0:
        return (float)u;
    case 1:
        return (float)round(u);
    case 2:
        return -3.5f;
    case 3: {
        uint32_t which = mra_random_below(random, 6);
        const float special[4] = {-INFINITY, -0.0f, 0.0f, 1e38f};
        return which < 4 ? special[which] : (float)(u * exp(40 * mra_random_normal(random)));
    }
    default:
        return 1.0f + (float)mra_random_below(random, 3000) * 0x1p-23f;
    }
}

static void largest_as_by_sorting(void **state)
{
    (void)state;
    mra_random random = mra_random_open(test_seed(), mra_stream("test scores", 0, 0));
    const size_t counts[] = {1, 2, 7, 100, 1023, 5000};
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
        for (int kind = 0; kind < 5; kind++) {
            size_t count = counts[n];
            float *score = test_alloc(count, sizeof *score);
            for (size_t i = 0; i < count; i++) score[i] = score_of_kind(&random, kind);
            const size_t m[] = {0, 1, count / 3, count / 2, count - 1, count, count + 5};
            for (size_t i = 0; i < sizeof m / sizeof *m; i++) check_largest(score, count, m[i]);
            free(score);
        }
}

// ---- ranking ----

static bool named_by_prior(const mra_options *options, int x, int y)
{
    int band = options->diagonal > 0 ? (options->diagonal - 1) / 2 : -1;
    return x < options->first || y < options->first || abs(x - y) <= band;
}

// Every pair of boxes must come in the order of: not empty, prior, logit (minus the largest of
// the row); logits closer than float32 can tell apart may tie.
static void check_ranking(const mra_options *options, int rows, double deviation,
                          uint64_t which)
{
    size_t boxes = (size_t)rows * (size_t)rows;
    float *logit = test_normal(boxes, deviation, "test logits", which);
    float *score = test_alloc(boxes, sizeof *score);
    double *key = test_alloc(boxes, sizeof *key);
    int32_t *tokens = test_alloc((size_t)rows, sizeof *tokens);
    for (int x = 0; x < rows; x++) tokens[x] = which % 2 && x % 4 == 1 ? 0 : 1 + x;
    mra_rank_boxes(options, rows, logit, tokens, score);
    for (int x = 0; x < rows; x++) {
        double largest = -INFINITY;
        for (int y = 0; y < rows; y++)
            if (tokens[y] > 0) largest = fmax(largest, (double)logit[x * rows + y]);
        for (int y = 0; y < rows; y++) {
            size_t at = (size_t)(x * rows + y);
            key[at] = (double)logit[at] - (options->ranking == MRA_RANK_ROW ? largest : 0);
            if (tokens[x] == 0 || tokens[y] == 0) key[at] = -INFINITY;
            assert_true(isfinite(score[at]) || key[at] == -INFINITY);
        }
    }
    for (size_t a = 0; a < boxes; a++)
        for (size_t b = 0; b < boxes; b++) {
            if (key[a] == -INFINITY) assert_true(score[a] == -INFINITY);
            if (key[a] == -INFINITY || key[b] == -INFINITY) continue;
            bool prior_a = named_by_prior(options, (int)a / rows, (int)a % rows);
            bool prior_b = named_by_prior(options, (int)b / rows, (int)b % rows);
            if (prior_a && !prior_b) assert_true(score[a] > score[b]);
            if (prior_a != prior_b || key[a] <= key[b]) continue;
            assert_true(score[a] >= score[b]);
            if (key[a] - key[b] > 1e-6 * (deviation + fabs(key[b])))
                assert_true(score[a] > score[b]);
        }
    free(logit);
    free(score);
    free(key);
    free(tokens);
}

static void ranking_orders_boxes(void **state)
{
    (void)state;
    const int first[] = {0, 0, 2, 1, 100}, diagonal[] = {0, 3, 0, 5, 1};
    uint64_t which = 0;
    for (int ranking = 0; ranking < 2; ranking++)
        for (int prior = 0; prior < 5; prior++)
            for (int rows = 1; rows < 30; rows += 7) {
                mra_options options = {
                    .ranking = ranking, .first = first[prior], .diagonal = diagonal[prior]};
                check_ranking(&options, rows, 1, which++);
                check_ranking(&options, rows, 1e4, which++);
                check_ranking(&options, rows, 1e36, which++);
            }
    // Logits at the very ends of float32 still give finite scores.
    mra_options options = {.ranking = MRA_RANK_ROW, .diagonal = 1};
    const float logit[4] = {-3e38f, 3e38f, 0, -3e38f};
    const int32_t tokens[2] = {1, 1};
    float score[4];
    mra_rank_boxes(&options, 2, logit, tokens, score);
    for (int i = 0; i < 4; i++) assert_true(isfinite(score[i]));
    assert_true(score[0] > score[1] && score[3] > 0);
}

// ---- J ----

typedef struct made {
    void *pooled, *selected;
    mra_pyramid pyramid;
    mra_selection selection;
} made;

static made make_selection(const test_head *head, const mra_options *options)
{
    made m;
    assert_int_equal(mra_options_check(options, head->n, NULL), MRA_OK);
    m.pooled = mra_aligned_calloc(mra_pyramid_bytes(options, head->n, head->d), 1);
    m.selected = mra_aligned_calloc(mra_selection_bytes(options, head->n), 1);
    mra_pyramid_place(&m.pyramid, options, head->n, head->d, m.pooled);
    mra_selection_place(&m.selection, options, head->n, m.selected);
    mra_pyramid_build(&m.pyramid, head->q, head->k, head->v, head->mask);
    return m;
}

static void free_selection(made *m)
{
    mra_aligned_free(m->pooled);
    mra_aligned_free(m->selected);
}

// Every pair of unmasked tokens is covered once, no box lacks a query or key, rows are
// ascending, logits are those of the means.
static void check_partition(const test_head *head, const made *m)
{
    int n = head->n;
    uint8_t *covered = test_alloc((size_t)n * n, 1);
    for (int i = 0; i < m->selection.scales; i++) {
        const mra_selection_level *level = &m->selection.level[i];
        assert_int_equal(level->row_start[0], 0);
        assert_int_equal(level->row_start[level->blocks], level->count);
        assert_true(level->count <= level->capacity);
        for (int x = 0; x < level->blocks; x++)
            for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++) {
                int y = level->column[b], s = level->scale, pairs = 0;
                if (b > level->row_start[x]) assert_true(y > level->column[b - 1]);
                for (int row = x * s; row < n && row < (x + 1) * s; row++)
                    for (int column = y * s; column < n && column < (y + 1) * s; column++) {
                        assert_int_equal(covered[row * n + column]++, 0);
                        pairs += test_present(head, row) && test_present(head, column);
                    }
                assert_true(pairs > 0);
                double logit = mra_box_logit(&m->pyramid, i, x, y);
                assert_below(fabs((double)level->logit[b] - logit), 1e-5 * (1 + fabs(logit)));
            }
    }
    for (int row = 0; row < n; row++)
        for (int column = 0; column < n; column++)
            if (test_present(head, row) && test_present(head, column))
                assert_int_equal(covered[row * n + column], 1);
    free(covered);
}

// Float64 scores from the tokens themselves: mean logit of a box, minus, for the row ranking,
// the largest mean logit among the coarsest boxes of its row.
static double mean_logit(const test_head *head, int s, int x, int y)
{
    double mean = 0;
    int pairs = 0;
    for (int i = x * s; i < head->n && i < (x + 1) * s; i++)
        for (int j = y * s; j < head->n && j < (y + 1) * s; j++) {
            if (!test_present(head, i) || !test_present(head, j)) continue;
            double dot = 0;
            for (int c = 0; c < head->d; c++)
                dot += (double)head->q[(size_t)i * head->d + c] *
                       (double)head->k[(size_t)j * head->d + c];
            mean += dot / sqrt(head->d);
            pairs++;
        }
    return pairs == 0 ? -INFINITY : mean / pairs;
}

static double *row_references(const test_head *head, const mra_options *options)
{
    int s = options->scale[0], blocks = (head->n + s - 1) / s;
    double *reference = test_alloc((size_t)blocks, sizeof *reference);
    for (int x = 0; x < blocks && options->ranking == MRA_RANK_ROW; x++) {
        reference[x] = -INFINITY;
        for (int y = 0; y < blocks; y++)
            reference[x] = fmax(reference[x], mean_logit(head, s, x, y));
    }
    return reference;
}

// Was box (x, y) of scale s refined? Then a finer box of J covers its first pair of unmasked
// tokens, i.e. no coarser or equal one.
static bool is_leaf(const mra_selection_level *level, int x, int y)
{
    for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++)
        if (level->column[b] == y) return true;
    return false;
}

// Of the boxes that were there at level i-1, the refined ones have scores at least as large as
// the others, and are as many as the budget says. Boxes that were there: leaves and parents of
// what lies in level i and below.
static void check_choice(const test_head *head, const mra_options *options, const made *m,
                         int i)
{
    const mra_selection_level *level = &m->selection.level[i - 1];
    double *reference = row_references(head, options), worst = INFINITY, best = -INFINITY;
    int s = level->scale, coarsest = options->scale[0];
    size_t refined = 0, there = level->count;
    for (int x = 0; x < level->blocks; x++)
        for (int y = 0; y < level->blocks; y++) {
            double mean = mean_logit(head, s, x, y);
            if (mean == -INFINITY) continue;
            bool leaf = is_leaf(level, x, y), above = false;
            for (int a = 0; a < i - 1; a++) {
                int ratio = options->scale[a] / s;
                above = above || is_leaf(&m->selection.level[a], x / ratio, y / ratio);
            }
            if (above) continue;
            double score = mean - reference[x * s / coarsest];
            if (i == 1 && named_by_prior(options, x, y)) score += 1e6;
            if (leaf)
                best = fmax(best, score);
            else {
                worst = fmin(worst, score);
                refined++;
                there++;
            }
        }
    int rows = 0; // of coarsest boxes that count
    for (int x = 0; x < m->selection.level[0].blocks; x++)
        rows += options->count_padding || mean_logit(head, coarsest, x, x) > -INFINITY;
    double budget = floor(options->blocks[i] * rows + 0.5);
    assert_int_equal(refined, budget < (double)there ? (size_t)budget : there);
    if (refined > 0 && refined < there) assert_below(best - worst, 1e-5);
    free(reference);
}

static void boxes_are_the_best_ones(void **state)
{
    (void)state;
    const mra_options kinds[] = {
        {.scales = 2, .scale = {32, 1}, .blocks = {0, 1.5}},
        {.scales = 3, .scale = {16, 4, 1}, .blocks = {0, 3, 8}},
        {.scales = 3, .scale = {16, 4, 1}, .blocks = {0, 3, 8}, .count_padding = true},
        {.scales = 4, .scale = {24, 12, 3, 1}, .blocks = {0, 1, 2.3, 7}},
        {.scales = 3, .scale = {8, 2, 1}, .blocks = {0, 0, 4}},
        {.scales = 1, .scale = {1}},
    };
    const int lengths[] = {1, 31, 33, 100, 128};
    uint64_t which = 0;
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
        for (size_t n = 0; n < 5; n++)
            for (int variant = 0; variant < 4; variant++, which++) {
                mra_options options = kinds[kind];
                options.ranking = variant % 2 ? MRA_RANK_PLAIN : MRA_RANK_ROW;
                options.first = variant == 2 ? 1 : 0;
                options.diagonal = variant >= 2 ? 3 : 0;
                double masked = which % 3 == 0 ? 0 : which % 3 == 1 ? 0.2 : 0.95;
                test_head head = test_head_make(lengths[n], 6, 1.5, masked, which);
                made m = make_selection(&head, &options);
                mra_select(&m.selection, &options, &m.pyramid);
                check_partition(&head, &m);
                for (int i = 1; i < options.scales; i++) check_choice(&head, &options, &m, i);
                free_selection(&m);
                test_head_free(&head);
            }
}

// The list's scores at the coarsest scale are those of mra_rank_boxes.
static void list_and_matrix_rank_alike(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        mra_options options = {.scales = 2, .scale = {8, 1}, .blocks = {0, 1}};
        options.ranking = variant % 2;
        options.diagonal = variant / 2 * 3;
        test_head head = test_head_make(100, 5, 1, 0.9, 70 + (uint64_t)variant);
        made m = make_selection(&head, &options);
        mra_selection_start(&m.selection, &m.pyramid);
        const mra_selection_level *level = &m.selection.level[0];
        size_t blocks = (size_t)level->blocks;
        float *logit = test_alloc(blocks * blocks, sizeof *logit),
              *score = test_alloc(blocks * blocks, sizeof *score);
        float *listed = test_alloc(level->count, sizeof *listed);
        for (size_t x = 0; x < blocks; x++)
            for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++)
                logit[x * blocks + (size_t)level->column[b]] = level->logit[b];
        mra_rank_boxes(&options, level->blocks, logit, m.pyramid.level[0].tokens, score);
        mra_selection_rank(&m.selection, &options, 1, listed);
        size_t finite = 0;
        for (size_t i = 0; i < blocks * blocks; i++) finite += isfinite(score[i]) != 0;
        assert_int_equal(finite, level->count);
        for (size_t x = 0; x < blocks; x++)
            for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++)
                assert_true(listed[b] == score[x * blocks + (size_t)level->column[b]]);
        free(logit);
        free(score);
        free(listed);
        free_selection(&m);
        test_head_free(&head);
    }
}

static void whole_budget_refines_all(void **state)
{
    (void)state;
    mra_options options = {.scales = 3, .scale = {16, 4, 1}, .blocks = {0, 1e9, 1e9}};
    test_head head = test_head_make(45, 3, 1, 0.3, 80);
    made m = make_selection(&head, &options);
    mra_select(&m.selection, &options, &m.pyramid);
    assert_int_equal(m.selection.level[0].count + m.selection.level[1].count, 0);
    check_partition(&head, &m);
    free_selection(&m);
    test_head_free(&head);
}

// Equal scores everywhere: the first boxes win.
static void ties_go_to_the_first(void **state)
{
    (void)state;
    mra_options options = {.scales = 2, .scale = {4, 1}, .blocks = {0, 1.25}};
    test_head head = test_head_make(16, 2, 0, 0, 81);
    made m = make_selection(&head, &options);
    mra_select(&m.selection, &options, &m.pyramid);
    for (int y = 0; y < 4; y++) assert_false(is_leaf(&m.selection.level[0], 0, y));
    assert_false(is_leaf(&m.selection.level[0], 1, 0));
    assert_int_equal(m.selection.level[0].count, 11);
    free_selection(&m);
    test_head_free(&head);
}

// ---- options and images ----

static void refuse(mra_options options, int n, const char *field)
{
    mra_error err = {0};
    assert_int_equal(mra_options_check(&options, n, &err), MRA_BAD_INPUT);
    if (strstr(err.message, field) == NULL)
        fail_msg("'%s' does not name %s", err.message, field);
    assert_int_equal(mra_options_check(&options, n, NULL), MRA_BAD_INPUT);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    const mra_options good = {.scales = 3, .scale = {32, 4, 1}, .blocks = {0, 2, 4}};
    assert_int_equal(mra_options_check(&good, 77, NULL), MRA_OK);
    mra_options bad = good;
    refuse(good, 0, "n: 0");
    bad.scales = 0, refuse(bad, 9, "scales");
    bad.scales = MRA_MAX_SCALES + 1, refuse(bad, 9, "scales");
    bad = good, bad.scale[2] = 2, refuse(bad, 9, "scale[2]");
    bad = good, bad.scale[1] = 5, refuse(bad, 9, "scale[1]");
    bad = good, bad.scale[1] = 32, refuse(bad, 9, "scale[1]");
    bad = good, bad.scale[0] = -32, refuse(bad, 9, "scale[0]");
    bad = good, bad.blocks[1] = -1, refuse(bad, 9, "blocks[1]");
    bad = good, bad.blocks[2] = NAN, refuse(bad, 9, "blocks[2]");
    bad = good, bad.blocks[2] = INFINITY, refuse(bad, 9, "blocks[2]");
    bad = good, bad.diagonal = 2, refuse(bad, 9, "diagonal");
    bad = good, bad.first = -1, refuse(bad, 9, "first");
    bad = good, bad.ranking = 7, refuse(bad, 9, "ranking");
    bad = good, bad.logit_scale = NAN, refuse(bad, 9, "logit_scale");
    bad = good, bad.blocks[1] = bad.blocks[2] = 1e300, refuse(bad, 1 << 20, "boxes");
    bad = good, bad.grid_height = 8, bad.grid_width = 9, refuse(bad, 64, "grid");
    bad = good, bad.grid_height = 8, refuse(bad, 64, "grid");
    bad = good, bad.grid_height = 6, bad.grid_width = 16, refuse(bad, 96, "multiples of 4x8");
    bad = good, bad.scale[0] = 12, bad.grid_height = 6, bad.grid_width = 16,
    refuse(bad, 96, "scale[0]");
}

static void tiles_are_the_most_square(void **state)
{
    (void)state;
    const int expected[][3] = {{1, 1, 1},  {2, 1, 2},  {4, 2, 2},   {8, 2, 4},
                               {16, 4, 4}, {32, 4, 8}, {128, 8, 16}};
    int height, width;
    for (int i = 0; i < 7; i++) {
        assert_true(mra_grid_tile(expected[i][0], &height, &width));
        assert_int_equal(height, expected[i][1]);
        assert_int_equal(width, expected[i][2]);
    }
    assert_false(mra_grid_tile(12, &height, &width));
    assert_false(mra_grid_tile(0, &height, &width));
}

// At every scale, s consecutive places fill one tile; tiles of the coarsest scale follow in
// raster order.
static void blocks_are_tiles(void **state)
{
    (void)state;
    const mra_options kinds[] = {
        {.scales = 2, .scale = {32, 1}, .grid_height = 12, .grid_width = 24},
        {.scales = 4, .scale = {32, 8, 2, 1}, .grid_height = 8, .grid_width = 40},
        {.scales = 3, .scale = {16, 4, 1}, .grid_height = 16, .grid_width = 4}};
    for (int kind = 0; kind < 3; kind++) {
        const mra_options *options = &kinds[kind];
        int width = options->grid_width, n = options->grid_height * width;
        int32_t *order = test_alloc((size_t)n, sizeof *order),
                *place = test_alloc((size_t)n, sizeof *place);
        uint8_t *seen = test_alloc((size_t)n, 1);
        assert_int_equal(mra_grid_order(options, n, order, NULL), MRA_OK);
        for (int t = 0; t < n; t++) {
            assert_in_range(order[t], 0, n - 1);
            assert_int_equal(seen[order[t]]++, 0);
        }
        mra_grid_inverse(order, n, place);
        for (int t = 0; t < n; t++) assert_int_equal(order[place[t]], t);
        for (int i = 0; i < options->scales; i++) {
            int s = options->scale[i], tile_height, tile_width;
            mra_grid_tile(s, &tile_height, &tile_width);
            for (int t = 0; t < n; t++) {
                int row = order[t] / width, column = order[t] % width,
                    corner = order[t / s * s];
                assert_int_equal(row / tile_height, corner / width / tile_height);
                assert_int_equal(column / tile_width, corner % width / tile_width);
                if (i > 0) continue;
                int tile = row / tile_height * (width / tile_width) + column / tile_width;
                assert_int_equal(t / s, tile);
            }
        }
        free(order);
        free(place);
        free(seen);
    }
    mra_options none = {.scales = 2, .scale = {32, 1}};
    int32_t order[5];
    assert_int_equal(mra_grid_order(&none, 5, order, NULL), MRA_OK);
    for (int t = 0; t < 5; t++) assert_int_equal(order[t], t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(largest_as_by_sorting),
        cmocka_unit_test(ranking_orders_boxes),
        cmocka_unit_test(boxes_are_the_best_ones),
        cmocka_unit_test(list_and_matrix_rank_alike),
        cmocka_unit_test(whole_budget_refines_all),
        cmocka_unit_test(ties_go_to_the_first),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(tiles_are_the_most_square),
        cmocka_unit_test(blocks_are_tiles),
    };
    return cmocka_run_group_tests_name("selection", tests, NULL, NULL);
}
