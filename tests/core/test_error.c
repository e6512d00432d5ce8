// Errors: messages are one line, never overflow, and keep their status while callers add to
// them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

static void message_and_status(void **state)
{
    (void)state;
    mra_error err = {0};
    assert_int_equal(mra_fail(&err, MRA_BAD_INPUT, "%s: %d rows", "x.tsv", 3), MRA_BAD_INPUT);
    assert_int_equal(err.status, MRA_BAD_INPUT);
    assert_string_equal(err.message, "x.tsv: 3 rows");
    assert_int_equal(mra_fail(NULL, MRA_IO, "nobody listens"), MRA_IO);
}

static void callers_add_what_they_know(void **state)
{
    (void)state;
    mra_error err = {0};
    mra_fail(&err, MRA_ABSENT, "no such file");
    assert_int_equal(mra_fail_within(&err, "example %d", 7), MRA_ABSENT);
    assert_int_equal(mra_fail_within(&err, "%s", "train"), MRA_ABSENT);
    assert_string_equal(err.message, "train: example 7: no such file");
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    struct {
        mra_error err;
        char guard[8];
    } box;
    memset(&box, 'g', sizeof box);
    char text[2000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    mra_fail(&box.err, MRA_IO, "%s", text);
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    mra_fail_within(&box.err, "%s", "prefix");
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    assert_memory_equal(box.err.message, "prefix: aaaa", 12);
    mra_fail_within(&box.err, "%s", text);
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    assert_memory_equal(box.guard, "gggggggg", 8);
}

static void messages_stay_on_one_line(void **state)
{
    (void)state;
    mra_error err = {0};
    mra_fail(&err, MRA_IO, "a\nb\tc\x1b[2J\x7f.");
    assert_string_equal(err.message, "a b c [2J .");
    mra_fail_within(&err, "x\ry");
    assert_string_equal(err.message, "x y: a b c [2J .");
}

static void exit_statuses(void **state)
{
    (void)state;
    assert_int_equal(mra_exit_status(MRA_OK), 0);
    assert_int_equal(mra_exit_status(MRA_INTERNAL), 1);
    const mra_status mendable[] = {MRA_BAD_INPUT, MRA_ABSENT, MRA_IO, MRA_NO_MEMORY,
                                   MRA_INTERRUPTED};
    for (size_t i = 0; i < 5; i++) assert_int_equal(mra_exit_status(mendable[i]), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_and_status),    cmocka_unit_test(callers_add_what_they_know),
        cmocka_unit_test(long_messages_are_cut), cmocka_unit_test(messages_stay_on_one_line),
        cmocka_unit_test(exit_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
