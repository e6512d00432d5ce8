// Settings: ini files, overrides, typed access, and the errors that name file and line.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/settings.h"
#include "scratch.h"

static mra_settings *settings;
static mra_error err;

static int fresh(void **state)
{
    (void)state;
    err = (mra_error){0};
    return mra_settings_create(&settings, &err) == MRA_OK ? 0 : -1;
}

static int discard(void **state)
{
    (void)state;
    mra_settings_free(settings);
    return 0;
}

static mra_status read_text(const char *text)
{
    return mra_settings_read(settings, scratch_write_text("s.ini", text), &err);
}

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

static void files_and_overrides(void **state)
{
    (void)state;
    assert_int_equal(
        read_text("top = 1\n; comment\n# comment\n\n[train]\nsteps = 100 ; inline\n"
                  "  rate=1e-3\n[data]\r\nname = listops\r\nempty =\n"),
        MRA_OK);
    assert_int_equal(mra_settings_override(settings, "train.steps = 7", &err), MRA_OK);
    assert_int_equal(mra_settings_override(settings, "a=b=c", &err), MRA_OK);
    int64_t whole;
    double real;
    assert_int_equal(mra_settings_int(settings, "top", 0, 0, 9, &whole, &err), MRA_OK);
    assert_int_equal(whole, 1);
    assert_int_equal(mra_settings_int(settings, "train.steps", 0, 0, 9, &whole, &err), MRA_OK);
    assert_int_equal(whole, 7);
    assert_int_equal(mra_settings_real(settings, "train.rate", 0, 0, 1, &real, &err), MRA_OK);
    assert_true(real == 1e-3);
    assert_string_equal(mra_settings_text(settings, "data.name", NULL), "listops");
    assert_string_equal(mra_settings_text(settings, "data.empty", "x"), "");
    assert_string_equal(mra_settings_text(settings, "a", NULL), "b=c");
    assert_null(mra_settings_text(settings, "absent", NULL));
    assert_int_equal(mra_settings_finish(settings, &err), MRA_OK);
    static const char *const keys[] = {"a",   "data.empty", "data.name",
                                       "top", "train.rate", "train.steps"};
    for (size_t i = 0; i < 6; i++) assert_string_equal(mra_settings_key(settings, i), keys[i]);
    assert_string_equal(mra_settings_value(settings, 5), "7");
    assert_null(mra_settings_key(settings, 6));
    assert_null(mra_settings_value(settings, 6));
}

static void later_files_replace_earlier_ones(void **state)
{
    (void)state;
    assert_int_equal(read_text("[a]\nx = 1\ny = 2\n"), MRA_OK);
    assert_int_equal(read_text("[a]\nx = 3"), MRA_OK); // no newline at the end
    int64_t x, y;
    mra_settings_int(settings, "a.x", 0, 0, 9, &x, &err);
    mra_settings_int(settings, "a.y", 0, 0, 9, &y, &err);
    assert_int_equal(x, 3);
    assert_int_equal(y, 2);
}

static void fallbacks(void **state)
{
    (void)state;
    static const char *const choices[] = {"one", "two", NULL};
    int64_t whole;
    double real, list[3];
    bool yes;
    int index;
    size_t count;
    assert_int_equal(mra_settings_int(settings, "i", -5, 0, 1, &whole, &err), MRA_OK);
    assert_int_equal(whole, -5);
    assert_int_equal(mra_settings_real(settings, "r", 2.5, 0, 1, &real, &err), MRA_OK);
    assert_true(real == 2.5);
    assert_int_equal(mra_settings_bool(settings, "b", true, &yes, &err), MRA_OK);
    assert_true(yes);
    assert_int_equal(mra_settings_choice(settings, "c", "two", choices, &index, &err), MRA_OK);
    assert_int_equal(index, 1);
    assert_int_equal(mra_settings_list(settings, "l", "1, 2.5", list, 3, &count, &err), MRA_OK);
    assert_int_equal(count, 2);
    assert_true(list[0] == 1 && list[1] == 2.5);
}

static void words_and_lists(void **state)
{
    (void)state;
    assert_int_equal(read_text("t1=yes\nt2=TRUE\nt3=on\nt4=1\nf1=no\nf2=False\nf3=off\nf4=0\n"
                               "c=one\nl=1,2 3 ,\t4e1\n"),
                     MRA_OK);
    static const char *const keys[] = {"t1", "t2", "t3", "t4", "f1", "f2", "f3", "f4"};
    for (int i = 0; i < 8; i++) {
        bool value;
        assert_int_equal(mra_settings_bool(settings, keys[i], i >= 4, &value, &err), MRA_OK);
        assert_int_equal(value, i < 4);
    }
    static const char *const choices[] = {"zero", "one", NULL};
    int index;
    assert_int_equal(mra_settings_choice(settings, "c", "zero", choices, &index, &err), MRA_OK);
    assert_int_equal(index, 1);
    double list[4];
    size_t count;
    assert_int_equal(mra_settings_list(settings, "l", "", list, 4, &count, &err), MRA_OK);
    assert_int_equal(count, 4);
    assert_true(list[0] == 1 && list[1] == 2 && list[2] == 3 && list[3] == 40);
}

static void wrong_values_name_file_line_and_key(void **state)
{
    (void)state;
    static const char *const choices[] = {"zero", "one", NULL};
    assert_int_equal(
        read_text("\n[x]\ni = 12a\nbig = 99999999999999999999\nr = nan\nb = perhaps\n"
                  "c = two\nl = 1,two\nlong = 1 2 3\nnone =\n"),
        MRA_OK);
    int64_t whole = 0;
    double real, list[2];
    bool yes;
    int index;
    size_t count;
    assert_int_equal(mra_settings_int(settings, "x.i", 0, 1, 9, &whole, &err), MRA_BAD_INPUT);
    assert_message("s.ini:3: x.i = 12a: expected a whole number from 1 to 9");
    assert_int_equal(mra_settings_int(settings, "x.big", 0, 0, INT64_MAX, &whole, &err),
                     MRA_BAD_INPUT);
    assert_message("s.ini:4: x.big");
    assert_int_equal(mra_settings_real(settings, "x.r", 0, 0, 1, &real, &err), MRA_BAD_INPUT);
    assert_message("s.ini:5: x.r = nan: expected a number from 0 to 1");
    assert_int_equal(mra_settings_bool(settings, "x.b", 0, &yes, &err), MRA_BAD_INPUT);
    assert_message("s.ini:6: x.b = perhaps: expected yes or no");
    assert_int_equal(mra_settings_choice(settings, "x.c", "one", choices, &index, &err),
                     MRA_BAD_INPUT);
    assert_message("s.ini:7: x.c = two: expected one of zero, one");
    assert_int_equal(mra_settings_list(settings, "x.l", "", list, 2, &count, &err),
                     MRA_BAD_INPUT);
    assert_message("s.ini:8: x.l = 1,two: expected 1 to 2 numbers");
    assert_int_equal(mra_settings_list(settings, "x.long", "", list, 2, &count, &err),
                     MRA_BAD_INPUT);
    assert_int_equal(mra_settings_list(settings, "x.none", "", list, 2, &count, &err),
                     MRA_BAD_INPUT);
    mra_settings_override(settings, "x.i=10", &err);
    assert_int_equal(mra_settings_int(settings, "x.i", 0, 1, 9, &whole, &err), MRA_BAD_INPUT);
    assert_message("argument x.i=10: expected a whole number from 1 to 9");
}

static void a_misspelt_key_does_not_pass(void **state)
{
    (void)state;
    assert_int_equal(read_text("[train]\nsteps = 3\n\nsetps = 4\n"), MRA_OK);
    int64_t whole;
    mra_settings_int(settings, "train.rate", 0, 0, 9, &whole, &err);
    mra_settings_int(settings, "train.steps", 0, 0, 9, &whole, &err);
    mra_settings_int(settings, "data.steps", 0, 0, 9, &whole, &err);
    assert_int_equal(mra_settings_finish(settings, &err), MRA_BAD_INPUT);
    assert_message("s.ini:4: unknown key train.setps (the closest known key is train.steps)");
}

static void a_misspelt_override_does_not_pass(void **state)
{
    (void)state;
    assert_int_equal(mra_settings_override(settings, "modle.dim=3", &err), MRA_OK);
    assert_int_equal(mra_settings_finish(settings, &err), MRA_BAD_INPUT);
    assert_message("argument modle.dim=3: unknown key modle.dim");
    mra_settings_text(settings, "model.dim", NULL);
    mra_settings_text(settings, "m", NULL);
    assert_int_equal(mra_settings_finish(settings, &err), MRA_BAD_INPUT);
    assert_message("(the closest known key is model.dim)");
}

static void files_that_are_no_settings(void **state)
{
    (void)state;
    assert_int_equal(mra_settings_read(settings, scratch_path("absent.ini"), &err),
                     MRA_BAD_INPUT);
    assert_message("absent.ini: cannot read");
    assert_int_equal(mra_settings_read(settings, scratch_folder, &err), MRA_BAD_INPUT);
    assert_int_equal(read_text("a = 1\n[x\nb = 2\n"), MRA_BAD_INPUT);
    assert_message("s.ini:2: expected [section]");
    assert_int_equal(read_text("a = 1\n\njust words\n"), MRA_BAD_INPUT);
    assert_message("s.ini:3: expected");
    char text[1000];
    memset(text, 'a', sizeof text);
    memcpy(text, "x = 1\nlong = ", 13);
    strcpy(text + 900, "\ny = 2\n");
    assert_int_equal(read_text(text), MRA_BAD_INPUT);
    assert_message("s.ini:2: the line is too long");
    const char *path = scratch_write("s.ini", "a = 1\nb\0 = 2\n", 13);
    assert_int_equal(mra_settings_read(settings, path, &err), MRA_BAD_INPUT);
    assert_message("s.ini:2: a zero byte");
    assert_int_equal(read_text(""), MRA_OK);
}

static void overrides_that_are_none(void **state)
{
    (void)state;
    const char *const wrong[] = {"key", "=3", " = 3", ""};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mra_settings_override(settings, wrong[i], &err), MRA_BAD_INPUT);
        assert_message("expected section.key=value");
    }
    char text[2000];
    memset(text, 'v', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(mra_settings_override(settings, text, &err), MRA_BAD_INPUT);
    text[1] = '=';
    assert_int_equal(mra_settings_override(settings, text, &err), MRA_BAD_INPUT);
    assert_int_equal(mra_settings_override(settings, "k=", &err), MRA_OK);
    assert_string_equal(mra_settings_text(settings, "k", "x"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_and_overrides, fresh, discard),
        cmocka_unit_test_setup_teardown(later_files_replace_earlier_ones, fresh, discard),
        cmocka_unit_test_setup_teardown(fallbacks, fresh, discard),
        cmocka_unit_test_setup_teardown(words_and_lists, fresh, discard),
        cmocka_unit_test_setup_teardown(wrong_values_name_file_line_and_key, fresh, discard),
        cmocka_unit_test_setup_teardown(a_misspelt_key_does_not_pass, fresh, discard),
        cmocka_unit_test_setup_teardown(a_misspelt_override_does_not_pass, fresh, discard),
        cmocka_unit_test_setup_teardown(files_that_are_no_settings, fresh, discard),
        cmocka_unit_test_setup_teardown(overrides_that_are_none, fresh, discard),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
