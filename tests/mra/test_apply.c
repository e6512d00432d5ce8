// Z and its gradients for a given J, against the definition in float64: every entry of A-hat
// from the box that covers it.
#include "dense.h"

#include "core/arena.h"
#include "mra/apply.h"

// J as a plain list.
typedef struct box {
    int scale, x, y;
} box;

static box *boxes_of(const mra_apply *apply, size_t *count)
{
    *count = 0;
    for (int i = 0; i < apply->options.scales; i++) *count += apply->selection.level[i].count;
    box *list = test_alloc(*count, sizeof *list);
    size_t next = 0;
    for (int i = 0; i < apply->options.scales; i++) {
        const mra_selection_level *level = &apply->selection.level[i];
        for (int x = 0; x < level->blocks; x++)
            for (size_t b = level->row_start[x]; b < level->row_start[x + 1]; b++)
                list[next++] = (box){level->scale, x, level->column[b]};
    }
    assert_int_equal(next, *count);
    return list;
}

// ---- the definition ----

// log A-hat [n, n]: the mean logit, over the unmasked pairs, of the box that covers (i, j);
// -INFINITY where none does, where the box is left out (sparse), and for masked tokens.
static double *log_a_hat(const test_head *head, const double *q, const double *k,
                         const box *list, size_t count, bool sparse)
{
    int n = head->n;
    double *log_a = test_alloc((size_t)n * n, sizeof *log_a);
    for (int i = 0; i < n * n; i++) log_a[i] = -INFINITY;
    for (size_t b = 0; b < count; b++) {
        int s = list[b].scale, top = list[b].x * s, left = list[b].y * s;
        if (sparse && s > 1) continue;
        double mean = 0;
        int pairs = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int i = top; i < n && i < top + s; i++)
                for (int j = left; j < n && j < left + s; j++) {
                    if (!test_present(head, i) || !test_present(head, j)) continue;
                    if (pass == 1) {
                        log_a[i * n + j] = mean / pairs;
                        continue;
                    }
                    mean += test_logit(q, k, head->d, i, j);
                    pairs++;
                }
    }
    return log_a;
}

// Z = D^-1 A-hat V, rows with nothing to attend to 0.
static double *define_z(const test_head *head, const double *q, const double *k,
                        const double *v, const box *list, size_t count, bool sparse)
{
    int n = head->n, d = head->d;
    double *log_a = log_a_hat(head, q, k, list, count, sparse);
    double *z = test_alloc((size_t)n * d, sizeof *z);
    for (int i = 0; i < n; i++) {
        double largest = -INFINITY, sum = 0;
        for (int j = 0; j < n; j++) largest = fmax(largest, log_a[i * n + j]);
        if (largest == -INFINITY) continue;
        for (int j = 0; j < n; j++) sum += exp(log_a[i * n + j] - largest);
        for (int j = 0; j < n; j++) {
            double p = exp(log_a[i * n + j] - largest) / sum;
            for (int c = 0; c < d; c++) z[i * d + c] += p == 0 ? 0 : p * v[(size_t)j * d + c];
        }
    }
    free(log_a);
    return z;
}

// ---- comparing ----

static mra_apply *apply_of(const test_head *head, const mra_options *options)
{
    mra_apply *apply;
    mra_error err;
    if (mra_apply_create(&apply, options, head->n, head->d, &err) != MRA_OK)
        fail_msg("%s", err.message);
    return apply;
}

static double forward_difference(const test_head *head, const mra_options *options)
{
    size_t elements = (size_t)head->n * head->d, count;
    mra_apply *apply = apply_of(head, options);
    float *z = test_alloc(elements, sizeof *z);
    for (size_t i = 0; i < elements; i++) z[i] = NAN; // must be overwritten
    mra_apply_forward(apply, head->q, head->k, head->v, head->mask, z);
    box *list = boxes_of(apply, &count);
    double *q = test_widen(head->q, elements), *k = test_widen(head->k, elements);
    double *v = test_widen(head->v, elements);
    double *expected = define_z(head, q, k, v, list, count, options->sparse);
    double difference = test_difference(z, expected, elements);
    size_t empty = 0;
    for (int i = 0; i < head->n; i++) {
        bool nothing = true;
        for (int c = 0; c < head->d; c++) nothing = nothing && expected[i * head->d + c] == 0;
        if (nothing && test_present(head, i)) empty++;
    }
    assert_int_equal(apply->empty_rows, empty);
    free(q), free(k), free(v), free(z), free(list), free(expected);
    mra_apply_free(apply);
    return difference;
}

static const mra_options kinds[] = {
    {.scales = 2, .scale = {32, 1}, .blocks = {0, 1.5}},
    {.scales = 3, .scale = {16, 4, 1}, .blocks = {0, 3, 8}},
    {.scales = 3, .scale = {16, 4, 1}, .blocks = {0, 3, 8}, .sparse = true},
    {.scales = 4, .scale = {24, 12, 3, 1}, .blocks = {0, 1, 2.3, 7}, .ranking = MRA_RANK_PLAIN},
    {.scales = 2, .scale = {8, 1}, .blocks = {0, 0.6}, .sparse = true, .diagonal = 1},
    {.scales = 3, .scale = {64, 8, 1}, .blocks = {0, 2, 9}, .first = 1},
    {.scales = 1, .scale = {1}},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void forward_is_the_definition(void **state)
{
    (void)state;
    const int lengths[] = {1, 2, 31, 32, 33, 100}, widths[] = {1, 7, 32, 64, 256};
    uint64_t which = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int n = 0; n < 6; n++, which++) {
            double masked = which % 3 == 0 ? 0 : which % 3 == 1 ? 0.3 : 0.9;
            test_head head = test_head_make(lengths[n], widths[which % 5], 1, masked, which);
            assert_below(forward_difference(&head, &kinds[kind]), 2e-6);
            test_head_free(&head);
        }
}

// Logits in the thousands, of both signs: one key takes it all in most rows, and rounding of
// the logits (1e-3 at 1e4) shows.
static void large_logits_do_not_overflow(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        test_head head = test_head_make(50, 16, 60, kind % 2 ? 0.2 : 0, 200 + (uint64_t)kind);
        size_t elements = 50 * 16;
        double *q = test_widen(head.q, elements), *k = test_widen(head.k, elements), most = 0;
        for (int i = 0; i < 2500; i++)
            most = fmax(most, fabs(test_logit(q, k, 16, i / 50, i % 50)));
        assert_true(most > 5e3);
        assert_below(forward_difference(&head, &kinds[kind]), 1e-2);
        mra_apply *apply = apply_of(&head, &kinds[kind]);
        float *z = test_alloc(elements, sizeof *z), *gradient[3];
        for (int g = 0; g < 3; g++) gradient[g] = test_alloc(elements, sizeof **gradient);
        mra_apply_forward(apply, head.q, head.k, head.v, head.mask, z);
        mra_apply_backward(apply, z, head.v, gradient[0], gradient[1], gradient[2]);
        for (int g = 0; g < 3; g++) {
            for (size_t i = 0; i < elements; i++) assert_true(isfinite(gradient[g][i]));
            free(gradient[g]);
        }
        free(z), free(q), free(k);
        mra_apply_free(apply);
        test_head_free(&head);
    }
}

// ---- gradients ----

// <dz, Z> by the definition, with J fixed.
static double define_loss(const test_head *head, double *const input[3], const box *list,
                          size_t count, bool sparse, const float *dz)
{
    double *z = define_z(head, input[0], input[1], input[2], list, count, sparse), loss = 0;
    for (int i = 0; i < head->n * head->d; i++) loss += z[i] * (double)dz[i];
    free(z);
    return loss;
}

static void check_gradients(const test_head *head, const mra_options *options, uint64_t which)
{
    size_t elements = (size_t)head->n * head->d, count;
    mra_apply *apply = apply_of(head, options);
    float *z = test_alloc(elements, sizeof *z), *gradient[3];
    float *dz = test_normal(elements, 1, "test dz", which);
    mra_apply_forward(apply, head->q, head->k, head->v, head->mask, z);
    // Gradients are added to what is there.
    for (int g = 0; g < 3; g++) gradient[g] = test_normal(elements, 1, "test before", which);
    mra_apply_backward(apply, z, dz, gradient[0], gradient[1], gradient[2]);
    float *before = test_normal(elements, 1, "test before", which);
    for (int g = 0; g < 3; g++)
        for (size_t i = 0; i < elements; i++) gradient[g][i] -= before[i];
    box *list = boxes_of(apply, &count);
    double *input[3] = {test_widen(head->q, elements), test_widen(head->k, elements),
                        test_widen(head->v, elements)};
    double *numeric = test_alloc(elements, sizeof *numeric);
    for (int g = 0; g < 3; g++) {
        double norm = 0, gap = 0;
        for (size_t i = 0; i < elements; i++) {
            const double h = 1e-5, value = input[g][i];
            input[g][i] = value + h;
            double above = define_loss(head, input, list, count, options->sparse, dz);
            input[g][i] = value - h;
            double below = define_loss(head, input, list, count, options->sparse, dz);
            input[g][i] = value;
            numeric[i] = (above - below) / (2 * h);
            norm += numeric[i] * numeric[i];
            gap += pow(numeric[i] - (double)gradient[g][i], 2);
            if (!test_present(head, (int)i / head->d)) assert_true(gradient[g][i] == 0);
        }
        assert_below(sqrt(gap), 5e-6 * (sqrt(norm) + sqrt((double)elements) * 0.2));
    }
    for (int g = 0; g < 3; g++) free(input[g]), free(gradient[g]);
    free(z), free(dz), free(before), free(list), free(numeric);
    mra_apply_free(apply);
}

static void backward_is_the_derivative(void **state)
{
    (void)state;
    const int lengths[] = {1, 9, 33, 40}, widths[] = {1, 3, 5, 2};
    uint64_t which = 300;
    for (int kind = 0; kind < KINDS; kind++)
        for (int n = 0; n < 4; n++, which++) {
            test_head head =
                test_head_make(lengths[n], widths[n], 1.2, which % 2 ? 0.3 : 0, which);
            check_gradients(&head, &kinds[kind], which);
            test_head_free(&head);
        }
}

// A second backward pass, and one after mra_apply_prepare, give the same bits.
static void backward_can_be_repeated(void **state)
{
    (void)state;
    enum { N = 70, D = 8, ELEMENTS = N * D };
    test_head head = test_head_make(N, D, 1, 0.1, 400), other = test_head_make(N, D, 1, 0, 401);
    mra_options options = kinds[1];
    mra_apply *apply = apply_of(&head, &options);
    float *z = test_alloc(ELEMENTS, sizeof *z), *ignored = test_alloc(ELEMENTS, sizeof *z);
    float *dz = test_normal(ELEMENTS, 1, "test dz", 400), *gradient[3];
    for (int pass = 0; pass < 3; pass++) {
        gradient[pass] = test_alloc(3 * ELEMENTS, sizeof **gradient);
        if (pass == 0) mra_apply_forward(apply, head.q, head.k, head.v, head.mask, z);
        if (pass == 2) {
            mra_apply_forward(apply, other.q, other.k, other.v, other.mask, ignored);
            mra_apply_prepare(apply, head.q, head.k, head.v, head.mask);
        }
        float *to = gradient[pass];
        mra_apply_backward(apply, z, dz, to, to + ELEMENTS, to + 2 * ELEMENTS);
        assert_memory_equal(gradient[0], to, 3 * ELEMENTS * sizeof *to);
    }
    for (int pass = 0; pass < 3; pass++) free(gradient[pass]);
    free(z), free(ignored), free(dz);
    mra_apply_free(apply);
    test_head_free(&head);
    test_head_free(&other);
}

// ---- properties ----

// Exact attention in float64.
static double *exact_z(const test_head *head)
{
    size_t elements = (size_t)head->n * head->d, pairs = (size_t)head->n * head->n;
    double *q = test_widen(head->q, elements), *k = test_widen(head->k, elements);
    double *v = test_widen(head->v, elements);
    box *list = test_alloc(pairs, sizeof *list);
    for (size_t i = 0; i < pairs; i++)
        list[i] = (box){1, (int)(i / (size_t)head->n), (int)(i % (size_t)head->n)};
    double *z = define_z(head, q, k, v, list, pairs, false);
    free(q), free(k), free(v), free(list);
    return z;
}

static double error_of(const test_head *head, const mra_options *options)
{
    size_t elements = (size_t)head->n * head->d;
    mra_apply *apply = apply_of(head, options);
    float *z = test_alloc(elements, sizeof *z);
    mra_apply_forward(apply, head->q, head->k, head->v, head->mask, z);
    double *exact = exact_z(head), difference = test_difference(z, exact, elements);
    free(z), free(exact);
    mra_apply_free(apply);
    return difference;
}

static void all_refined_is_exact(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        mra_options options = kinds[kind];
        for (int i = 1; i < options.scales; i++) options.blocks[i] = 1e6;
        test_head head = test_head_make(75, 12, 1, kind % 2 ? 0.3 : 0, 500 + (uint64_t)kind);
        assert_below(error_of(&head, &options), 2e-6);
        test_head_free(&head);
    }
}

static void error_falls_with_the_budget(void **state)
{
    (void)state;
    const double budget[] = {0, 1, 2, 4, 8};
    double last = INFINITY;
    for (int b = 0; b < 5; b++) {
        mra_options options = {
            .scales = 3, .scale = {16, 4, 1}, .blocks = {0, budget[b], 16 * budget[b]}};
        double mean = 0;
        for (uint64_t which = 0; which < 8; which++) {
            test_head head = test_head_make(128, 8, 1.2, 0, 600 + which);
            mean += error_of(&head, &options) / 8;
            test_head_free(&head);
        }
        assert_true(mean < last);
        last = mean;
    }
    assert_below(last, 1e-5); // 8 of 8 boxes a row and their 16 children each: everything
}

// Masking whole coarsest blocks is the same as leaving the tokens out, for the same number of
// refined boxes.
static void masked_blocks_are_deleted_tokens(void **state)
{
    (void)state;
    enum { N = 96, D = 6, S = 16 };
    for (int kind = 0; kind < 4; kind++) {
        mra_options options = {
            .scales = 3, .scale = {S, 4, 1}, .blocks = {0, 2, 6}, .sparse = kind % 2};
        options.ranking = kind / 2 ? MRA_RANK_PLAIN : MRA_RANK_ROW;
        test_head head = test_head_make(N, D, 1, 0.2, 700 + (uint64_t)kind), less = {.d = D};
        less.q = test_alloc(N * D, sizeof(float));
        less.k = test_alloc(N * D, sizeof(float));
        less.v = test_alloc(N * D, sizeof(float));
        less.mask = test_alloc(N, 1);
        for (int i = 0; i < N; i++) {
            if (i / S == 1 || i / S == 4) {
                head.mask[i] = 0; // and what stands there must not matter
                head.q[i * D] = head.k[i * D + 1] = head.v[i * D + 2] = NAN;
                continue;
            }
            memcpy(less.q + less.n * D, head.q + i * D, D * sizeof(float));
            memcpy(less.k + less.n * D, head.k + i * D, D * sizeof(float));
            memcpy(less.v + less.n * D, head.v + i * D, D * sizeof(float));
            less.mask[less.n++] = head.mask[i];
        }
        float *z = test_alloc(N * D, sizeof *z), *expected = test_alloc(N * D, sizeof *z);
        mra_apply *apply = apply_of(&head, &options);
        mra_apply_forward(apply, head.q, head.k, head.v, head.mask, z);
        mra_apply_free(apply);
        apply = apply_of(&less, &options);
        mra_apply_forward(apply, less.q, less.k, less.v, less.mask, expected);
        mra_apply_free(apply);
        for (int i = 0, kept = 0; i < N; i++) {
            bool gone = i / S == 1 || i / S == 4;
            for (int c = 0; c < D; c++) {
                double want = gone ? 0 : (double)expected[kept * D + c];
                assert_below(fabs((double)z[i * D + c] - want), 2e-6);
            }
            kept += !gone;
        }
        free(z), free(expected);
        test_head_free(&head);
        test_head_free(&less);
    }
}

static void everything_masked_gives_zero(void **state)
{
    (void)state;
    test_head head = test_head_make(20, 3, 1, 1.5, 800);
    for (int kind = 0; kind < KINDS; kind++)
        assert_true(forward_difference(&head, &kinds[kind]) == 0);
    test_head_free(&head);
}

// The dense writer and row_lse against the definition; the largest logit.
static void dense_matrix_is_the_definition(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        enum { N = 61, D = 4 };
        test_head head = test_head_make(N, D, 8, kind % 2 ? 0.2 : 0, 900 + (uint64_t)kind);
        mra_apply *apply = apply_of(&head, &kinds[kind]);
        mra_apply_prepare(apply, head.q, head.k, head.v, head.mask);
        size_t count;
        box *list = boxes_of(apply, &count);
        double *q = test_widen(head.q, N * D), *k = test_widen(head.k, N * D),
               largest = -INFINITY;
        double *log_a = log_a_hat(&head, q, k, list, count, kinds[kind].sparse);
        double *a_hat = test_alloc(N * N, sizeof *a_hat);
        for (int i = 0; i < N * N; i++) largest = fmax(largest, log_a[i]);
        assert_below(fabs(mra_apply_largest_logit(apply) - largest), 1e-4);
        mra_apply_dense(apply, largest, a_hat);
        for (int i = 0; i < N * N; i++)
            assert_below(fabs(a_hat[i] - exp(log_a[i] - largest)), 1e-4);
        for (int i = 0; i < N; i++) {
            double sum = 0, row_largest = -INFINITY;
            for (int j = 0; j < N; j++) row_largest = fmax(row_largest, log_a[i * N + j]);
            for (int j = 0; j < N; j++)
                sum += log_a[i * N + j] > -INFINITY ? exp(log_a[i * N + j] - row_largest) : 0;
            if (sum == 0)
                assert_true(apply->row_lse[i] == -INFINITY);
            else
                assert_below(fabs((double)apply->row_lse[i] - row_largest - log(sum)), 1e-3);
        }
        free(list), free(q), free(k), free(log_a), free(a_hat);
        mra_apply_free(apply);
        test_head_free(&head);
    }
}

// One's own J: refine what one likes, then the product.
static void own_selection_can_be_applied(void **state)
{
    (void)state;
    enum { N = 40, D = 3 };
    mra_options options = {.scales = 2, .scale = {8, 1}, .blocks = {0, 2}};
    test_head head = test_head_make(N, D, 1, 0, 950);
    mra_apply *apply = apply_of(&head, &options);
    float *z = test_alloc(N * D, sizeof *z);
    const int32_t chosen[] = {0, 3, 7, 24};
    size_t count;
    mra_pyramid_build(&apply->pyramid, head.q, head.k, head.v, head.mask);
    mra_selection_start(&apply->selection, &apply->pyramid);
    mra_selection_refine(&apply->selection, &apply->pyramid, 1, chosen, 4);
    mra_apply_product(apply, z);
    box *list = boxes_of(apply, &count);
    assert_int_equal(count, 25 - 4 + 4 * 64);
    assert_true(list[0].x == 0 && list[0].y == 1); // (0, 0) was refined
    double *q = test_widen(head.q, N * D), *k = test_widen(head.k, N * D),
           *v = test_widen(head.v, N * D);
    double *expected = define_z(&head, q, k, v, list, count, false);
    assert_below(test_difference(z, expected, N * D), 2e-6);
    free(z), free(list), free(q), free(k), free(v), free(expected);
    mra_apply_free(apply);
    test_head_free(&head);
}

// The size is known beforehand, and forward and backward stay inside it.
static void memory_is_what_was_promised(void **state)
{
    (void)state;
    enum { N = 53, D = 5 };
    for (int kind = 0; kind < KINDS; kind++) {
        test_head head = test_head_make(N, D, 1, 0.1, 960);
        size_t bytes = mra_apply_bytes(&kinds[kind], N, D, true);
        assert_true(bytes > mra_apply_bytes(&kinds[kind], N, D, false));
        unsigned char *memory = mra_aligned_calloc(bytes + 64, 1);
        memset(memory, 0x55, bytes + 64);
        mra_apply apply;
        mra_apply_place(&apply, &kinds[kind], N, D, true, memory);
        float *z = test_alloc(4 * N * D, sizeof *z);
        mra_apply_forward(&apply, head.q, head.k, head.v, head.mask, z);
        mra_apply_backward(&apply, z, head.v, z + N * D, z + 2 * N * D, z + 3 * N * D);
        for (int i = 0; i < 64; i++) assert_int_equal(memory[bytes + (size_t)i], 0x55);
        free(z);
        mra_aligned_free(memory);
        test_head_free(&head);
    }
}

static void wrong_shapes_are_refused(void **state)
{
    (void)state;
    mra_apply *apply;
    mra_error err;
    assert_int_equal(mra_apply_create(&apply, &kinds[0], 10, 257, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "d: 257"));
    assert_null(apply);
    assert_int_equal(mra_apply_create(&apply, &kinds[0], 10, 0, NULL), MRA_BAD_INPUT);
    assert_int_equal(mra_apply_create(&apply, &kinds[0], 0, 8, &err), MRA_BAD_INPUT);
    mra_apply_free(apply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_definition),
        cmocka_unit_test(large_logits_do_not_overflow),
        cmocka_unit_test(backward_is_the_derivative),
        cmocka_unit_test(backward_can_be_repeated),
        cmocka_unit_test(all_refined_is_exact),
        cmocka_unit_test(error_falls_with_the_budget),
        cmocka_unit_test(masked_blocks_are_deleted_tokens),
        cmocka_unit_test(everything_masked_gives_zero),
        cmocka_unit_test(dense_matrix_is_the_definition),
        cmocka_unit_test(own_selection_can_be_applied),
        cmocka_unit_test(memory_is_what_was_promised),
        cmocka_unit_test(wrong_shapes_are_refused),
    };
    return cmocka_run_group_tests_name("apply", tests, NULL, NULL);
}
