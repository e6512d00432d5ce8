// The parts of the fused path that the public interface does not show: exponentials in lanes,
// transposition, the shortlist of the selection, the coarse products in squares, and one thread
// against several on the same head.
#include "reference.h"

#include "core/random.h"
#include "mra/fused.h"
#include "mra/fused_lanes.h"
#include "mra/selection.h"

// Memory for one head, placed.
typedef struct bench {
    mra_fused_plan plan;
    mra_fused_record record;
    mra_fused_head head;
    void *memory[2];
    float *array[8]; // q, k, v, dz, z, dq, dk, dv
    size_t size;
} bench;

static void *aligned(size_t bytes)
{
    void *memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0xff, bytes); // NaN: what is read must have been written
    return memory;
}

static bench open_bench(int n, int d, mra_options options, int threads, uint64_t seed)
{
    bench b = {.size = (size_t)n * d};
    mra_error err = {0};
    mra_shape shape = {1, 1, n, d};
    assert_int_equal(mra_fused_plan_make(&b.plan, shape, &options, NULL, &err), MRA_OK);
    b.memory[0] = aligned(mra_fused_record_place(&b.record, &b.plan, NULL));
    mra_fused_record_place(&b.record, &b.plan, b.memory[0]);
    b.memory[1] = aligned(mra_fused_head_place(&b.head, &b.plan, threads, NULL));
    mra_fused_head_place(&b.head, &b.plan, threads, b.memory[1]);
    for (int a = 0; a < 8; a++) {
        b.array[a] = reference_alloc(b.size, sizeof(float));
        if (a < 4)
            mra_fill_normal(b.array[a], b.size, 1, seed, mra_stream("bench", (uint64_t)a, 0));
    }
    return b;
}

static void close_bench(bench *b)
{
    for (int i = 0; i < 2; i++) free(b->memory[i]);
    for (int i = 0; i < 8; i++) free(b->array[i]);
}

// The placed heads hold pointers into the struct: pass by address only.
static void run_bench(bench *b)
{
    float **a = b->array;
    b->head.plan = &b->plan;
    assert_true(mra_fused_forward(&b->head, &b->record, a[0], a[1], a[2], NULL, a[4]));
    mra_fused_backward(&b->head, &b->record, a[0], a[1], a[2], NULL, a[4], a[3], a[5], a[6],
                       a[7]);
}

static void lanes_compute_exponentials_and_maxima(void **state)
{
    (void)state;
    _Alignas(64) float x[MRA_LANES], e[MRA_LANES];
    mra_random random = mra_random_open(1, 2);
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < MRA_LANES; i++) x[i] = -86.0f * (float)mra_random_uniform(&random);
        if (round % 2) x[round / 2 % MRA_LANES] = -INFINITY;
        memcpy(e, x, sizeof e);
        mra_lanes_exp((mra_lanes *)e);
        for (int i = 0; i < MRA_LANES; i++) {
            double truth = exp(x[i]);
            assert_true(fabs(e[i] - truth) <= 2e-7 * truth);
        }
        for (int i = 0; i < MRA_LANES; i++) e[i] = x[(i + 3) % MRA_LANES];
        mra_lanes_raise((mra_lanes *)e, (mra_lanes *)x);
        for (int i = 0; i < MRA_LANES; i++)
            assert_true(e[i] == fmaxf(x[i], x[(i + 3) % MRA_LANES]));
    }
}

static void transposition_pads_with_zeros(void **state)
{
    (void)state;
    const int count[] = {1, 2, 15, 16, 17, 32, 33, 64}, d[] = {1, 3, 16, 31, 40, 64};
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 6; j++)
            for (int pad = 0; pad < 32; pad += 16) {
                int stride = (count[i] + 15) / 16 * 16 + pad;
                float *rows = reference_alloc((size_t)count[i] * d[j], sizeof *rows);
                float *to = aligned((size_t)stride * d[j] * sizeof *to);
                mra_fill_normal(rows, (size_t)count[i] * d[j], 1, 3, 4);
                mra_transpose(rows, count[i], d[j], 0.5f, to, stride);
                for (int c = 0; c < d[j]; c++)
                    for (int r = 0; r < stride; r++)
                        assert_true(to[c * stride + r] ==
                                    (r < count[i] ? 0.5f * rows[r * d[j] + c] : 0));
                free(rows);
                free(to);
            }
}

// With few boxes wanted among many, the selection goes by a shortlist; with equal scores the
// shortlist grows too long.
static void the_shortlist_changes_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        mra_options options = mra_options_mra2(kind == 1 ? 0.5 : 1.9);
        options.scale[0] = 2;
        if (kind == 1) options.ranking = MRA_RANK_PLAIN;
        if (kind == 3) options.first = 1;
        bench b = open_bench(401, 4, options, 1, 7 + (uint64_t)kind);
        if (kind == 2) // a few values only: ties everywhere
            for (int a = 0; a < 2; a++)
                for (size_t i = 0; i < b.size; i++) b.array[a][i] = (float)((i / 8 + a) % 3);
        b.head.plan = &b.plan;
        assert_true(mra_fused_forward(&b.head, &b.record, b.array[0], b.array[1], b.array[2],
                                      NULL, b.array[4]));
        int blocks = b.plan.blocks;
        size_t all = (size_t)blocks * blocks, m = b.plan.budget;
        assert_true(all / 32 > 2 * m);
        mra_fused_coarse_logits(&b.head);
        float *score = reference_alloc(all, sizeof *score);
        int32_t *index = reference_alloc(m, sizeof *index);
        int32_t *scratch = reference_alloc(2 * all, sizeof *scratch);
        mra_rank_boxes(&options, blocks, b.head.logit, b.record.tokens, score);
        assert_int_equal(mra_select_largest(score, all, m, index, scratch), m);
        size_t next = 0;
        for (int x = 0; x < blocks; x++)
            for (int32_t e = b.record.row_start[x]; e < b.record.row_start[x + 1]; e++)
                assert_int_equal(x * blocks + b.record.column[e], index[next++]);
        assert_int_equal(next, m);
        free(score);
        free(index);
        free(scratch);
        close_bench(&b);
    }
}

// The coarse logits for numbers of blocks around multiples of the square.
static void coarse_logits_are_inner_products(void **state)
{
    (void)state;
    const int blocks[] = {1, 5, 63, 64, 65, 130};
    for (int i = 0; i < 6; i++) {
        mra_options options = mra_options_mra2(1);
        options.scale[0] = 4;
        int n = 4 * blocks[i] - 1, d = 10;
        bench b = open_bench(n, d, options, 1, 5);
        run_bench(&b);
        mra_fused_coarse_logits(&b.head);
        for (int x = 0; x < blocks[i]; x++)
            for (int y = 0; y < blocks[i]; y++) {
                double sum = 0, size = 0;
                for (int c = 0; c < d; c++) {
                    double q = b.record.query[x * d + c], k = b.record.key[y * d + c];
                    sum += q * k / sqrt(d);
                    size += fabs(q * k);
                }
                assert_true(fabs(b.head.logit[x * blocks[i] + y] - sum) <= 1e-6 * size);
            }
        close_bench(&b);
    }
}

// As for a head that exceeds the cache, whatever its size: products in pieces, blocks asked for
// ahead.
static void scatter(bench *b)
{
    b->plan.scattered = true;
    mra_fused_products_prepare(&b->plan);
}

static void pieces_change_nothing(void **state)
{
    (void)state;
    assert_true(mra_fused_scattered(65536, 64) && !mra_fused_scattered(4096, 64));
    for (int threads = 1; threads < 3; threads++)
        for (int s = 30; s <= 32; s += 2) {
            mra_options options = mra_options_mra2(3);
            options.scale[0] = s;
            bench whole = open_bench(500, 64, options, threads, 15);
            bench pieces = open_bench(500, 64, options, threads, 15);
            scatter(&pieces);
            assert_int_equal(pieces.plan.to_key.pieces, s == 32 ? 4 : 1);
            run_bench(&whole);
            run_bench(&pieces);
            for (int a = 4; a < 8; a++) {
                double *wanted = reference_alloc(whole.size, sizeof *wanted);
                for (size_t i = 0; i < whole.size; i++) wanted[i] = whole.array[a][i];
                assert_true(reference_distance(pieces.array[a], wanted, whole.size) < 1e-6);
                free(wanted);
            }
            close_bench(&whole);
            close_bench(&pieces);
        }
}

// One thread walks the rows and gives to the keys on the way; several walk rows, then columns.
// Same sums, same order.
static void both_ways_back_agree_to_the_last_bit(void **state)
{
    (void)state;
    const int n[] = {70, 333, 1100};
    for (int i = 0; i < 3; i++)
        for (int kind = 0; kind < 4; kind++) {
            mra_options options = mra_options_mra2(3);
            options.sparse = kind % 2;
            bench alone = open_bench(n[i], 33, options, 1, 9),
                  shared = open_bench(n[i], 33, options, 3, 9);
            if (kind / 2) {
                scatter(&alone);
                scatter(&shared);
            }
            run_bench(&alone);
            run_bench(&shared);
            assert_non_null(alone.head.dkey_fine);
            assert_null(shared.head.dkey_fine);
            for (int a = 4; a < 8; a++)
                assert_memory_equal(alone.array[a], shared.array[a],
                                    alone.size * sizeof(float));
            close_bench(&alone);
            close_bench(&shared);
        }
}

// A row with more refined boxes than a chunk of tiles holds, its maximum in the last chunk and
// in the first.
static void long_rows_rescale_their_sums(void **state)
{
    (void)state;
    for (int rising = 0; rising < 2; rising++) {
        mra_options options = mra_options_mra2(40);
        int n = 32 * 40, d = 4;
        bench b = open_bench(n, d, options, 1, 11);
        for (int i = 0; i < n * d; i++) b.array[0][i] = 1;
        for (int i = 0; i < n * d; i++)
            b.array[1][i] += 20.0f * (float)(rising ? i : n * d - i) / (float)(n * d);
        run_bench(&b);
        assert_true(b.record.row_start[1] > 2 * b.plan.chunk);
        double *x[3];
        for (int a = 0; a < 3; a++) {
            x[a] = reference_alloc(b.size, sizeof(double));
            for (size_t i = 0; i < b.size; i++) x[a][i] = b.array[a][i];
        }
        reference r = reference_make(&options, n, d, x[0], x[1], x[2], NULL, NULL, NULL);
        assert_true(reference_distance(b.array[4], r.z, b.size) < 1e-5);
        reference_free(&r);
        for (int a = 0; a < 3; a++) free(x[a]);
        close_bench(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_compute_exponentials_and_maxima),
        cmocka_unit_test(transposition_pads_with_zeros),
        cmocka_unit_test(the_shortlist_changes_nothing),
        cmocka_unit_test(coarse_logits_are_inner_products),
        cmocka_unit_test(pieces_change_nothing),
        cmocka_unit_test(both_ways_back_agree_to_the_last_bit),
        cmocka_unit_test(long_rows_rescale_their_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
