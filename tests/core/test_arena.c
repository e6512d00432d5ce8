// The arena: alignment, disjoint pieces, settling to one chunk, overflow.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/arena.h"
#include "core/random.h"

enum { PIECES = 300 };

// Fills PIECES pieces of pseudo-random size, each with its own byte, and looks at the end
// whether all of them still hold it.
static void use(mra_arena *arena, uint64_t seed)
{
    unsigned char *piece[PIECES];
    size_t bytes[PIECES];
    mra_random random = mra_random_open(seed, 1);
    for (int i = 0; i < PIECES; i++) {
        bytes[i] = mra_random_below(&random, i % 50 == 0 ? 100000 : 300);
        piece[i] = mra_arena_alloc(arena, bytes[i]);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % 64, 0);
        memset(piece[i], i & 255, bytes[i]);
    }
    for (int i = 0; i < PIECES; i++)
        for (size_t j = 0; j < bytes[i]; j++)
            if (piece[i][j] != (i & 255)) fail_msg("piece %d was overwritten at %zu", i, j);
}

static void pieces_are_aligned_and_disjoint(void **state)
{
    (void)state;
    mra_arena arena = {0};
    for (uint64_t seed = 0; seed < 5; seed++) {
        use(&arena, seed);
        mra_arena_reset(&arena);
        assert_int_equal(arena.used, 0);
    }
    mra_arena_free(&arena);
}

static void a_repeated_step_asks_for_nothing(void **state)
{
    (void)state;
    mra_arena arena = {0};
    use(&arena, 9);
    assert_true(arena.requests > 1); // several chunks at first
    size_t peak = arena.peak;
    assert_int_equal(arena.used, peak);
    mra_arena_reset(&arena);
    use(&arena, 9); // merges
    size_t requests = arena.requests, reserved = arena.reserved;
    for (int step = 0; step < 10; step++) {
        mra_arena_reset(&arena);
        use(&arena, 9);
    }
    assert_int_equal(arena.requests, requests);
    assert_int_equal(arena.reserved, reserved);
    assert_int_equal(arena.peak, peak);
    assert_true(reserved >= peak && reserved <= 4 * peak);
    mra_arena_free(&arena);
    assert_int_equal(arena.reserved, 0);
    assert_non_null(mra_arena_alloc(&arena, 10)); // usable again
    mra_arena_free(&arena);
}

static void a_piece_larger_than_everything_before(void **state)
{
    (void)state;
    mra_arena arena = {0};
    mra_arena_alloc(&arena, 1000);
    mra_arena_reset(&arena);
    char *large = mra_arena_alloc(&arena, 10000000);
    assert_non_null(large);
    memset(large, 1, 10000000);
    mra_arena_free(&arena);
}

static void zeroed_and_empty_pieces(void **state)
{
    (void)state;
    mra_arena arena = {0};
    memset(mra_arena_alloc(&arena, 5000), 0xff, 5000);
    mra_arena_reset(&arena);
    unsigned char *zeroed = mra_arena_calloc(&arena, 1000, 5);
    for (int i = 0; i < 5000; i++) assert_int_equal(zeroed[i], 0);
    void *a = mra_arena_alloc(&arena, 0), *b = mra_arena_alloc(&arena, 0);
    assert_non_null(a);
    assert_ptr_not_equal(a, b);
    assert_non_null(mra_arena_calloc(&arena, 0, 8));
    mra_arena_free(&arena);
}

static void what_cannot_be_had_is_null(void **state)
{
    (void)state;
    mra_arena arena = {0};
    assert_null(mra_arena_calloc(&arena, SIZE_MAX / 2, 3));
    assert_null(mra_arena_alloc(&arena, SIZE_MAX));
    assert_null(mra_arena_alloc(&arena, SIZE_MAX - 63));
    assert_null(mra_aligned_calloc(SIZE_MAX, 2));
    assert_null(mra_aligned_calloc(SIZE_MAX, 1));
    assert_non_null(mra_arena_alloc(&arena, 100)); // and the arena lives on
    mra_arena_free(&arena);
}

static void aligned_memory_is_zeroed(void **state)
{
    (void)state;
    unsigned char *memory = mra_aligned_calloc(77, 3);
    assert_int_equal((uintptr_t)memory % 64, 0);
    for (int i = 0; i < 231; i++) assert_int_equal(memory[i], 0);
    mra_aligned_free(memory);
    mra_aligned_free(mra_aligned_calloc(0, 4));
    mra_aligned_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_disjoint),
        cmocka_unit_test(a_repeated_step_asks_for_nothing),
        cmocka_unit_test(a_piece_larger_than_everything_before),
        cmocka_unit_test(zeroed_and_empty_pieces),
        cmocka_unit_test(what_cannot_be_had_is_null),
        cmocka_unit_test(aligned_memory_is_zeroed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
