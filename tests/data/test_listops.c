// ListOps: meaning and text against definitions written anew from LRA's nesting of pairs, the
// generator against its own promises, the files both ways.
#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "core/file.h"
#include "core/random.h"
#include "data/listops.h"

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

static mra_error err;

// ---- Definitions ----------------------------------------------------------------------------

// LRA's own way to a value: the text is a tree of pairs "( left right )", a pair of an operator
// (or of an operator with arguments) and a value gathers an argument, a pair with "]" applies
// the operator.
typedef struct term {
    char operation[8]; // "" for a plain value
    double argument[32];
    int count;
} term;

static double median(const double *x, int count)
{
    double sorted[32];
    memcpy(sorted, x, (size_t)count * sizeof *x);
    for (int i = 0; i < count; i++)
        for (int j = i + 1; j < count; j++)
            if (sorted[j] < sorted[i]) {
                double swapped = sorted[i];
                sorted[i] = sorted[j];
                sorted[j] = swapped;
            }
    return count % 2 ? sorted[count / 2] : 0.5 * (sorted[count / 2 - 1] + sorted[count / 2]);
}

static double applied(const term *t)
{
    double least = 9, most = 0, sum = 0;
    for (int i = 0; i < t->count; i++) {
        least = fmin(least, t->argument[i]);
        most = fmax(most, t->argument[i]);
        sum += t->argument[i];
    }
    if (strcmp(t->operation, "[MIN") == 0) return least;
    if (strcmp(t->operation, "[MAX") == 0) return most;
    if (strcmp(t->operation, "[MED") == 0) return trunc(median(t->argument, t->count));
    return fmod(sum, 10);
}

static term parse(const char **at)
{
    term t = {.count = 1};
    if (**at == '(') {
        *at += 2; // "( "
        term left = parse(at);
        ++*at; // " "
        if (**at == ']') {
            t.argument[0] = applied(&left);
            *at += 1;
        } else {
            term right = parse(at);
            t = left;
            t.argument[t.count++] = right.argument[0];
        }
        *at += 2; // " )"
    } else if (**at == '[') {
        t.count = 0;
        memcpy(t.operation, *at, strcspn(*at, " "));
        *at += strlen(t.operation);
    } else {
        t.argument[0] = **at - '0';
        ++*at;
    }
    return t;
}

static char *printed(const mra_sequence *item, bool parentheses)
{
    char *text;
    size_t bytes;
    FILE *stream = open_memstream(&text, &bytes);
    mra_listops_print(stream, item->ids, item->length, parentheses);
    fclose(stream);
    return text;
}

static mra_listops_options lengths(int minimum, int maximum, uint64_t seed)
{
    return (mra_listops_options){.minimum_length = minimum,
                                 .maximum_length = maximum,
                                 .seed = seed,
                                 .threads = 2,
                                 .quiet = true};
}

static void free_all(mra_sequences splits[3])
{
    for (int s = 0; s < 3; s++) mra_sequences_free(&splits[s]);
}

// ---- Meaning and text -----------------------------------------------------------------------

static void values_by_hand(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int value;
    } cases[] = {
        {"7", 7},
        {"[MIN 4 2 9 ]", 2},
        {"[MAX 4 2 9 ]", 9},
        {"[MED 4 2 9 ]", 4},
        {"[MED 4 2 9 5 ]", 4}, // 4.5 truncated
        {"[MED 0 1 ]", 0},
        {"[SM 4 2 9 ]", 5},
        {"[SM 9 9 9 9 9 9 9 9 9 9 ]", 0},
        {"[MAX 2 [MIN 9 [SM 8 8 ] ] 3 ]", 6},
        {"( ( ( [MAX 4 ) 7 ) ] )", 7},
        {"( ( ( [SM ( ( ( [MAX 4 ) 7 ) ] ) ) 6 ) ] )", 3},
    };
    char text[2000] = "Source\tTarget\n";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s\t%d\n", cases[i].text, cases[i].value);
    }
    mra_sequences list = {0};
    const char *path = scratch_write_text("x.tsv", text);
    assert_int_equal(mra_listops_read(&list, path, 0, 2000, true, &err), MRA_OK);
    for (size_t i = 0; i < list.count; i++)
        assert_int_equal(mra_listops_evaluate(list.items[i].ids, list.items[i].length),
                         cases[i].value);
    mra_sequences_free(&list);
}

static void what_is_no_expression(void **state)
{
    (void)state;
    enum { Z = MRA_LISTOPS_ZERO, MIN = MRA_LISTOPS_MIN, END = MRA_LISTOPS_END };
    static const uint16_t wrong[][5] = {
        {MIN, END},       {MIN, Z},           {END}, {Z, Z}, {MIN, Z, END, END},
        {MIN, Z, END, Z}, {MIN, MIN, Z, END}, {0},   {16}};
    static const int length[] = {2, 2, 1, 2, 4, 4, 4, 1, 1};
    for (int i = 0; i < 9; i++) assert_int_equal(mra_listops_evaluate(wrong[i], length[i]), -1);
    assert_int_equal(mra_listops_evaluate(wrong[0], 0), -1);
    uint16_t deep[5000];
    for (int i = 0; i < 5000; i++) deep[i] = MIN;
    assert_int_equal(mra_listops_evaluate(deep, 5000), -1);
}

static void text_as_the_arena_writes_it(void **state)
{
    (void)state;
    const uint16_t ids[] = {MRA_LISTOPS_SM, 1 + 5,           MRA_LISTOPS_MED, 1 + 1,
                            1 + 2,          MRA_LISTOPS_END, 1 + 0,           MRA_LISTOPS_END};
    const mra_sequence item = {.ids = (uint16_t *)ids, .length = 8};
    char *text = printed(&item, true);
    assert_string_equal(text, "( ( ( ( [SM 5 ) ( ( ( [MED 1 ) 2 ) ] ) ) 0 ) ] )");
    free(text);
    text = printed(&item, false);
    assert_string_equal(text, "[SM 5 [MED 1 2 ] 0 ]");
    free(text);
    text = printed(&(const mra_sequence){.ids = (uint16_t[]){1 + 3}, .length = 1}, true);
    assert_string_equal(text, "3");
    free(text);
}

static void generated_labels_are_true(void **state)
{
    (void)state;
    mra_sequences splits[3] = {{0}};
    const mra_listops_options options = lengths(20, 400, 7);
    const size_t counts[3] = {300, 5, 5};
    assert_int_equal(mra_listops_generate(splits, counts, &options, &err), MRA_OK);
    for (size_t i = 0; i < 300; i++) {
        const mra_sequence *item = &splits[0].items[i];
        assert_in_range(item->length, 21, 399);
        char *text = printed(item, true);
        const char *at = text;
        term value = parse(&at);
        assert_string_equal(at, ""); // parsed to its end
        assert_int_equal(value.count, 1);
        assert_int_equal((int)value.argument[0], item->label);
        assert_int_equal(mra_listops_evaluate(item->ids, item->length), item->label);
        free(text);
    }
    free_all(splits);
}

// ---- The generator --------------------------------------------------------------------------

static bool same(const mra_sequence *a, const mra_sequence *b)
{
    return a->length == b->length && a->label == b->label &&
           memcmp(a->ids, b->ids, (size_t)a->length * sizeof *a->ids) == 0;
}

static void threads_and_counts_change_nothing(void **state)
{
    (void)state;
    mra_sequences splits[4][3] = {{{0}}};
    for (int run = 0; run < 4; run++) {
        mra_listops_options options = lengths(10, 80, 3);
        options.threads = 1 << run % 3;
        const size_t counts[3] = {run == 3 ? 1000 : 500, 100, 100};
        assert_int_equal(mra_listops_generate(splits[run], counts, &options, &err), MRA_OK);
    }
    for (int s = 0; s < 3; s++)
        for (size_t i = 0; i < splits[0][s].count; i++)
            for (int run = 1; run < (s == 0 ? 4 : 3); run++)
                assert_true(same(&splits[0][s].items[i], &splits[run][s].items[i]));
    for (int run = 0; run < 4; run++) free_all(splits[run]);
}

// The same seed gives the same file on every machine: this checksum may never change.
static void a_seed_pins_the_file(void **state)
{
    (void)state;
    mra_sequences splits[3] = {{0}};
    const mra_listops_options options = lengths(500, 2000, 1);
    const size_t counts[3] = {20, 1, 1};
    assert_int_equal(mra_listops_generate(splits, counts, &options, &err), MRA_OK);
    assert_int_equal(mra_listops_write(scratch_path("x.tsv"), &splits[0], &err), MRA_OK);
    char hex[65];
    assert_int_equal(mra_sha256_file(scratch_path("x.tsv"), hex, &err), MRA_OK);
    assert_string_equal(hex,
                        "56a29f040877fa91a383bc21024bd22e0dfc503f21e85495b528160436bbb2d4");
    free_all(splits);
    const mra_listops_options other = lengths(500, 2000, 2);
    assert_int_equal(mra_listops_generate(splits, counts, &other, &err), MRA_OK);
    assert_int_equal(mra_listops_write(scratch_path("x.tsv"), &splits[0], &err), MRA_OK);
    char other_hex[65];
    assert_int_equal(mra_sha256_file(scratch_path("x.tsv"), other_hex, &err), MRA_OK);
    assert_string_not_equal(hex, other_hex);
    free_all(splits);
}

// Operators and digits do not change the size of a tree, so they stay uniform after the
// selection by length.
static void tokens_are_uniform_and_trees_within_bounds(void **state)
{
    (void)state;
    mra_sequences splits[3] = {{0}};
    const mra_listops_options options = lengths(500, 2000, 11);
    const size_t counts[3] = {200, 1, 1};
    assert_int_equal(mra_listops_generate(splits, counts, &options, &err), MRA_OK);
    double tally[MRA_LISTOPS_VOCABULARY] = {0};
    int deepest = 0, most = 0, least = 99;
    for (size_t i = 0; i < 200; i++) {
        const mra_sequence *item = &splits[0].items[i];
        assert_in_range(item->length, 501, 1999);
        int arguments[64] = {0}, depth = 1;
        for (int j = 0; j < item->length; j++) {
            uint16_t id = item->ids[j];
            tally[id]++;
            if (depth > deepest) deepest = depth;
            if (id == MRA_LISTOPS_END) {
                depth--;
                if (arguments[depth] > most) most = arguments[depth];
                if (arguments[depth] < least) least = arguments[depth];
            } else if (id >= MRA_LISTOPS_MIN) {
                arguments[depth - 1]++;
                arguments[depth++] = 0;
                continue;
            }
            if (id != MRA_LISTOPS_END) arguments[depth - 1]++;
        }
    }
    assert_int_equal(tally[0], 0);
    assert_int_equal(most, MRA_LISTOPS_MAX_ARGUMENTS);
    assert_int_equal(least, 2);
    assert_int_equal(deepest, MRA_LISTOPS_MAX_DEPTH);
    double digits = 0, operators = 0, chi_digits = 0, chi_operators = 0;
    for (int v = 0; v < 10; v++) digits += tally[MRA_LISTOPS_ZERO + v];
    for (int o = 0; o < 4; o++) operators += tally[MRA_LISTOPS_MIN + o];
    for (int v = 0; v < 10; v++)
        chi_digits += pow(tally[MRA_LISTOPS_ZERO + v] - digits / 10, 2) / (digits / 10);
    for (int o = 0; o < 4; o++)
        chi_operators += pow(tally[MRA_LISTOPS_MIN + o] - operators / 4, 2) / (operators / 4);
    assert_true(chi_digits < 9 + 5 * sqrt(18));
    assert_true(chi_operators < 3 + 5 * sqrt(6));
    assert_int_equal(operators, tally[MRA_LISTOPS_END]);
    free_all(splits);
}

// Trees of up to 5 tokens come with the probabilities of the branching process: with q = 3/4
// for a digit and 1/9 for each number of arguments, a root of m digits has q^m / 9 / 4.
static void small_trees_have_their_probabilities(void **state)
{
    (void)state;
    mra_sequences splits[3] = {{0}};
    const mra_listops_options options = lengths(3, 6, 5); // 4 or 5 tokens: 400 + 4000 trees
    const size_t counts[3] = {300, 1, 1};
    assert_int_equal(mra_listops_generate(splits, counts, &options, &err), MRA_OK);
    // Of the first draws, before repetitions matter: P(4 tokens) = 1 / (1 + 3/4).
    int four = 0;
    for (size_t i = 0; i < 100; i++) four += splits[0].items[i].length == 4;
    assert_in_range(four, 57 - 25, 57 + 25);
    free_all(splits);
}

static void no_expression_twice(void **state)
{
    (void)state;
    mra_sequences splits[3] = {{0}};
    const mra_listops_options options = lengths(3, 5, 5); // 4 tokens: 400 different trees
    const size_t counts[3] = {250, 50, 50};
    assert_int_equal(mra_listops_generate(splits, counts, &options, &err), MRA_OK);
    bool seen[4][10][10] = {{{false}}};
    for (int s = 0; s < 3; s++)
        for (size_t i = 0; i < splits[s].count; i++) {
            const uint16_t *ids = splits[s].items[i].ids;
            bool *cell = &seen[ids[0] - MRA_LISTOPS_MIN][ids[1] - 1][ids[2] - 1];
            assert_false(*cell);
            *cell = true;
        }
    free_all(splits);
    const size_t too_many[3] = {399, 1, 1};
    assert_int_equal(mra_listops_generate(splits, too_many, &options, &err), MRA_BAD_INPUT);
    assert_message("too few different expressions with more than 3 and fewer than 5 tokens");
    for (int s = 0; s < 3; s++) assert_null(splits[s].items);
}

static void bounds_that_leave_nothing(void **state)
{
    (void)state;
    mra_sequences splits[3] = {{0}};
    const size_t counts[3] = {1, 1, 1};
    const int wrong[][2] = {{5, 6}, {5, 5}, {9, 2}, {-1, 9}, {0, 1 << 21}};
    for (int i = 0; i < 5; i++) {
        const mra_listops_options options = lengths(wrong[i][0], wrong[i][1], 1);
        assert_int_equal(mra_listops_generate(splits, counts, &options, &err), MRA_BAD_INPUT);
        assert_message("listops: ");
    }
}

// ---- Files ----------------------------------------------------------------------------------

static void files_both_ways(void **state)
{
    (void)state;
    mra_sequences splits[3] = {{0}}, back = {0};
    const mra_listops_options options = lengths(30, 200, 2);
    const size_t counts[3] = {50, 1, 1};
    assert_int_equal(mra_listops_generate(splits, counts, &options, &err), MRA_OK);
    const char *path = scratch_path("basic_train.tsv");
    assert_int_equal(mra_listops_write(path, &splits[0], &err), MRA_OK);
    char *text = scratch_read(path, NULL);
    assert_memory_equal(text, "Source\tTarget\r\n( ", 17);
    free(text);
    assert_int_equal(mra_listops_read(&back, path, 0, 2000, true, &err), MRA_OK);
    assert_int_equal(back.count, 50);
    for (size_t i = 0; i < 50; i++) assert_true(same(&back.items[i], &splits[0].items[i]));
    mra_sequences_free(&back);
    assert_int_equal(mra_listops_read(&back, path, 7, 25, true, &err), MRA_OK);
    assert_int_equal(back.count, 7); // at most so many, cut after their labels were checked
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(back.items[i].length, 25);
        assert_memory_equal(back.items[i].ids, splits[0].items[i].ids, 50);
    }
    mra_sequences_free(&back);
    assert_int_equal(mra_listops_write("/dev/full", &splits[0], &err), MRA_IO);
    free_all(splits);
}

static void files_that_are_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"", "the file is empty"},
        {"Source\tTarget\n", "there are no rows"},
        {"Source\tLabel\n3\t3\n", "there is no column Target"},
        {"Source\tTarget\n3\t3\n[MIN 2 3 ]\n", "x.tsv:3: 1 cells: expected 2"},
        {"Source\tTarget\n[MIN 2 x ]\t2\n", "x.tsv:2: column Source: \"x\": expected [MIN"},
        {"Source\tTarget\n[MIN 2 12 ]\t2\n", "x.tsv:2: column Source: \"12\""},
        {"Source\tTarget\n[FIRST 2 1 ]\t2\n", "x.tsv:2: column Source: \"[FIRST\""},
        {"Source\tTarget\n\t2\n", "x.tsv:2: column Source: expected an expression"},
        {"Source\tTarget\n( )\t2\n", "x.tsv:2: column Source: expected an expression"},
        {"Source\tTarget\n[MIN 2 3 ]\t12\n",
         "x.tsv:2: column Target: \"12\": expected a digit"},
        {"Source\tTarget\n[MIN 2 3 ]\t\n", "x.tsv:2: column Target: \"\": expected a digit"},
        {"Source\tTarget\n3\t3\n[MIN 2 3 ]\t3\n",
         "x.tsv:3: column Target is 3: the expression has the "
         "value 2"},
        {"Source\tTarget\n[MIN 2 3\t2\n",
         "x.tsv:2: column Source: expected one whole expression"},
        {"Source\tTarget\n[MIN 2 3 ] ]\t2\n", "expected one whole expression"},
    };
    mra_sequences list = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *path = scratch_write_text("x.tsv", wrong[i].text);
        assert_int_equal(mra_listops_read(&list, path, 0, 2000, true, &err), MRA_BAD_INPUT);
        assert_message(wrong[i].message);
        assert_null(list.items);
    }
    const char *path = scratch_write_text("x.tsv", "Source\tTarget\n[MIN 2 3 ]\t3\n");
    assert_int_equal(mra_listops_read(&list, path, 0, 2000, false, &err), MRA_OK); // unchecked
    mra_sequences_free(&list);
    assert_int_equal(mra_listops_read(&list, scratch_path("absent.tsv"), 0, 9, true, &err),
                     MRA_ABSENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_by_hand),
        cmocka_unit_test(what_is_no_expression),
        cmocka_unit_test(text_as_the_arena_writes_it),
        cmocka_unit_test(generated_labels_are_true),
        cmocka_unit_test(threads_and_counts_change_nothing),
        cmocka_unit_test(a_seed_pins_the_file),
        cmocka_unit_test(tokens_are_uniform_and_trees_within_bounds),
        cmocka_unit_test(small_trees_have_their_probabilities),
        cmocka_unit_test(no_expression_twice),
        cmocka_unit_test(bounds_that_leave_nothing),
        cmocka_unit_test(files_both_ways),
        cmocka_unit_test(files_that_are_wrong),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
