// Tables: written whole, as a journal that survives a kill, and read with errors that name the
// place.
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "core/file.h"
#include "io/tsv.h"

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

static mra_error err;
static const char *const columns[] = {"method", "n", "error", NULL};

static mra_status add_row(mra_tsv *tsv, const char *method, int n, double error)
{
    mra_tsv_text(tsv, method);
    mra_tsv_int(tsv, n);
    mra_tsv_real(tsv, error);
    return mra_tsv_end_row(tsv, &err);
}

static void assert_file(const char *name, const char *expected)
{
    char *text = scratch_read(scratch_path(name), NULL);
    if (!text) fail_msg("no file %s", name);
    assert_string_equal(text, expected);
    free(text);
}

static bool have(const mra_tsv *tsv, const char *a, const char *b)
{
    const char *const keys[] = {a, b, NULL};
    return mra_tsv_have(tsv, keys);
}

static void a_table_appears_whole(void **state)
{
    (void)state;
    mra_tsv *tsv;
    assert_int_equal(mra_tsv_create(&tsv, scratch_path("t.tsv"), columns, &err), MRA_OK);
    assert_int_equal(add_row(tsv, "mra2", 512, 0.1), MRA_OK);
    assert_int_equal(add_row(tsv, "", -4096, 1.0 / 3), MRA_OK);
    assert_int_equal(add_row(tsv, "a b", 1, NAN), MRA_OK);
    assert_int_equal(mra_tsv_rows(tsv), 3);
    assert_false(mra_file_exists(scratch_path("t.tsv")));
    assert_int_equal(mra_tsv_commit(tsv, &err), MRA_OK);
    assert_file("t.tsv",
                "method\tn\terror\nmra2\t512\t0.1\n\t-4096\t0.333333333\na b\t1\tnan\n");
    assert_int_equal(mra_tsv_create(&tsv, scratch_path("t.tsv"), columns, &err), MRA_OK);
    mra_tsv_abandon(tsv);
    mra_tsv_abandon(NULL);
    assert_int_equal(scratch_count(), 1);
}

static void wrong_rows_are_told_and_dropped(void **state)
{
    (void)state;
    mra_tsv *tsv;
    assert_int_equal(mra_tsv_create(&tsv, scratch_path("t.tsv"), columns, &err), MRA_OK);
    mra_tsv_text(tsv, "short");
    assert_int_equal(mra_tsv_end_row(tsv, &err), MRA_INTERNAL);
    assert_message("t.tsv: row 1: 1 cells: expected 3");
    assert_int_equal(add_row(tsv, "tab\there", 1, 2), MRA_BAD_INPUT);
    assert_message("row 1: cell 1 holds a tab or a newline");
    assert_int_equal(add_row(tsv, "line\n", 1, 2), MRA_BAD_INPUT);
    assert_int_equal(add_row(tsv, "good", 1, 2), MRA_OK);
    assert_int_equal(mra_tsv_commit(tsv, &err), MRA_OK);
    assert_file("t.tsv", "method\tn\terror\ngood\t1\t2\n");
}

static void a_journal_keeps_its_rows(void **state)
{
    (void)state;
    mra_tsv *tsv;
    const char *path = "j.tsv";
    assert_int_equal(mra_tsv_journal(&tsv, scratch_path(path), "s1", columns, &err), MRA_OK);
    assert_int_equal(mra_tsv_rows(tsv), 0);
    assert_int_equal(add_row(tsv, "mra2", 512, 0.1), MRA_OK);
    assert_file("j.tsv.part", "# s1\nmethod\tn\terror\nmra2\t512\t0.1\n"); // at once
    assert_true(have(tsv, "mra2", "512"));
    mra_tsv_abandon(tsv);
    assert_int_equal(mra_tsv_journal(&tsv, scratch_path(path), "s1", columns, &err), MRA_OK);
    assert_int_equal(mra_tsv_rows(tsv), 1);
    assert_true(have(tsv, "mra2", "512"));
    assert_true(have(tsv, "mra2", NULL));
    assert_false(have(tsv, "mra2", "51"));
    assert_false(have(tsv, "mra", "512"));
    assert_false(have(tsv, "mra2s", "512"));
    const char *const beyond[] = {"mra2", "512", "0.1", "", NULL};
    assert_false(mra_tsv_have(tsv, beyond));
    assert_int_equal(add_row(tsv, "exact", 512, 0), MRA_OK);
    assert_int_equal(mra_tsv_commit(tsv, &err), MRA_OK);
    assert_file("j.tsv", "method\tn\terror\nmra2\t512\t0.1\nexact\t512\t0\n");
    assert_false(mra_file_exists(scratch_path("j.tsv.part")));
}

static void a_torn_line_is_cut_off(void **state)
{
    (void)state;
    const char *const whole = "# s\nmethod\tn\terror\nmra2\t512\t0.1\n";
    const char *const tails[] = {"m", "mra2\t1024\t0.", "mra2\t1024\n",
                                 "a\tb\tc\td\nmra2\t1\t2\n"};
    for (int i = 0; i < 4; i++) {
        char text[200];
        snprintf(text, sizeof text, "%s%s", whole, tails[i]);
        scratch_write_text("j.tsv.part", text);
        mra_tsv *tsv;
        assert_int_equal(mra_tsv_journal(&tsv, scratch_path("j.tsv"), "s", columns, &err),
                         MRA_OK);
        assert_int_equal(mra_tsv_rows(tsv), 1);
        assert_file("j.tsv.part", whole);
        assert_int_equal(add_row(tsv, "x", 1, 2), MRA_OK);
        snprintf(text, sizeof text, "%sx\t1\t2\n", whole);
        assert_file("j.tsv.part", text);
        mra_tsv_abandon(tsv);
    }
}

static void another_stamp_or_header_starts_afresh(void **state)
{
    (void)state;
    const char *const others[] = {"# other\nmethod\tn\terror\nmra2\t512\t0.1\n",
                                  "# s\nmethod\tn\nmra2\t512\n",
                                  "# s",
                                  "",
                                  "\n\n",
                                  "# s\nmethod"};
    for (int i = 0; i < 6; i++) {
        scratch_write_text("j.tsv.part", others[i]);
        mra_tsv *tsv;
        assert_int_equal(mra_tsv_journal(&tsv, scratch_path("j.tsv"), "s", columns, &err),
                         MRA_OK);
        assert_int_equal(mra_tsv_rows(tsv), 0);
        assert_file("j.tsv.part", "# s\nmethod\tn\terror\n");
        mra_tsv_abandon(tsv);
    }
    mra_tsv *tsv;
    assert_int_equal(mra_tsv_journal(&tsv, scratch_path("j.tsv"), "a\nb", columns, &err),
                     MRA_INTERNAL);
}

static void rows_survive_a_kill(void **state)
{
    (void)state;
    remove(scratch_path("k.tsv.part"));
    pid_t child = fork();
    if (child == 0) {
        mra_tsv *tsv;
        mra_tsv_journal(&tsv, scratch_path("k.tsv"), "", columns, NULL);
        for (int i = 0; i < 10; i++) add_row(tsv, "mra2", i, i);
        mra_tsv_text(tsv, "unfinished");
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    mra_tsv *tsv;
    assert_int_equal(mra_tsv_journal(&tsv, scratch_path("k.tsv"), "", columns, &err), MRA_OK);
    assert_int_equal(mra_tsv_rows(tsv), 10);
    // Two writers at once would mix their rows.
    mra_tsv *second;
    assert_int_equal(mra_tsv_journal(&second, scratch_path("k.tsv"), "", columns, &err),
                     MRA_BAD_INPUT);
    assert_message("another process is writing");
    assert_null(second);
    mra_tsv_abandon(tsv);
}

static void places_that_cannot_be_written(void **state)
{
    (void)state;
    mra_tsv *tsv;
    assert_int_equal(mra_tsv_create(&tsv, scratch_path("absent/t.tsv"), columns, &err), MRA_IO);
    assert_null(tsv);
    assert_int_equal(mra_tsv_journal(&tsv, scratch_path("absent/t.tsv"), "", columns, &err),
                     MRA_IO);
    assert_message("absent/t.tsv.part: cannot write: No such file");
    assert_int_equal(mra_tsv_create(&tsv, "/dev/full", columns, &err), MRA_OK);
    assert_int_equal(add_row(tsv, "mra2", 1, 2), MRA_OK); // still in the buffer
    assert_int_equal(mra_tsv_commit(tsv, &err), MRA_IO);
    assert_message("No space left");
    if (symlink("/dev/full", scratch_path("full.tsv.part")) != 0) fail();
    assert_int_equal(mra_tsv_journal(&tsv, scratch_path("full.tsv"), "", columns, &err),
                     MRA_IO);
    assert_message("it is no regular file");
}

// A file that may not grow beyond 100 bytes: rows are told to fail as they are written, and
// what was whole before stays.
static void a_journal_on_a_full_disk(void **state)
{
    (void)state;
    mra_tsv *tsv;
    struct rlimit unlimited, limit;
    assert_int_equal(mra_tsv_journal(&tsv, scratch_path("f.tsv"), "", columns, &err), MRA_OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &unlimited);
    limit = unlimited;
    limit.rlim_cur = 100;
    setrlimit(RLIMIT_FSIZE, &limit);
    mra_status status = MRA_OK;
    size_t rows = 0;
    while (rows < 20 && (status = add_row(tsv, "mra2", 512, 0.5)) == MRA_OK) rows++;
    setrlimit(RLIMIT_FSIZE, &unlimited);
    assert_int_equal(status, MRA_IO);
    assert_message("f.tsv: cannot write: File too large");
    mra_tsv_abandon(tsv);
    assert_int_equal(mra_tsv_journal(&tsv, scratch_path("f.tsv"), "", columns, &err), MRA_OK);
    assert_in_range(mra_tsv_rows(tsv), rows, rows + 1);
    mra_tsv_abandon(tsv);
}

static void reading_rows(void **state)
{
    (void)state;
    mra_tsv_reader *reader;
    const char *path = scratch_write_text("r.tsv", "a\tb\r\n1\t\r\n\t x \nlast\t4");
    assert_int_equal(mra_tsv_open(&reader, path, &err), MRA_OK);
    assert_int_equal(mra_tsv_columns(reader), 2);
    assert_string_equal(mra_tsv_column_name(reader, 1), "b");
    static const char *const expected[3][2] = {{"1", ""}, {"", " x "}, {"last", "4"}};
    const char *const *cells;
    for (int row = 0; row < 3; row++) {
        assert_int_equal(mra_tsv_next(reader, &cells, &err), MRA_OK);
        assert_int_equal(mra_tsv_line(reader), row + 2);
        for (int i = 0; i < 2; i++) assert_string_equal(cells[i], expected[row][i]);
    }
    assert_int_equal(mra_tsv_next(reader, &cells, &err), MRA_OK);
    assert_null(cells);
    mra_tsv_close(reader);
}

static void reading_tables(void **state)
{
    (void)state;
    mra_table *table;
    const char *path = scratch_write_text("r.tsv", "name\tvalue\nx\t1.5\ny\tnan\nz\t2 \n");
    assert_int_equal(mra_table_read(&table, path, &err), MRA_OK);
    assert_int_equal(mra_table_rows(table), 3);
    assert_int_equal(mra_table_columns(table), 2);
    assert_string_equal(mra_table_column_name(table, 0), "name");
    int column = -1;
    double value;
    assert_int_equal(mra_table_column(table, "value", &column, &err), MRA_OK);
    assert_int_equal(column, 1);
    assert_string_equal(mra_table_text(table, 2, 0), "z");
    assert_int_equal(mra_table_number(table, 0, 1, &value, &err), MRA_OK);
    assert_true(value == 1.5);
    assert_int_equal(mra_table_number(table, 1, 1, &value, &err), MRA_OK);
    assert_true(isnan(value));
    assert_int_equal(mra_table_number(table, 2, 1, &value, &err), MRA_BAD_INPUT);
    assert_message("r.tsv:4: column value: \"2 \": expected a number");
    assert_int_equal(mra_table_column(table, "Value", &column, &err), MRA_BAD_INPUT);
    assert_message("r.tsv: there is no column Value");
    mra_table_free(table);
    mra_table_free(NULL);
}

static void tables_that_are_wrong(void **state)
{
    (void)state;
    mra_table *table;
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"", "the file is empty"},
        {"a\t\n", "column 2 has no name"},
        {"a\tb\ta\n", "two columns are named a"},
        {"\n", "column 1 has no name"},
        {"a\tb\n1\t2\n3\n", "r.tsv:3: 1 cells: expected 2"},
        {"a\tb\n1\t2\t3\n", "r.tsv:2: 3 cells: expected 2"},
        {"a\tb\n\n", "r.tsv:2: 1 cells: expected 2"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *path = scratch_write_text("r.tsv", wrong[i].text);
        assert_int_equal(mra_table_read(&table, path, &err), MRA_BAD_INPUT);
        assert_null(table);
        assert_message("r.tsv:");
        assert_message(wrong[i].message);
    }
    const char *path = scratch_write("r.tsv", "a\n1\n\0002\n", 7);
    assert_int_equal(mra_table_read(&table, path, &err), MRA_BAD_INPUT);
    assert_message("r.tsv:3: a zero byte");
    assert_int_equal(mra_table_read(&table, scratch_path("absent.tsv"), &err), MRA_ABSENT);
    assert_message("absent.tsv: cannot read");
    assert_int_equal(mra_table_read(&table, scratch_folder, &err), MRA_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_appears_whole),
        cmocka_unit_test(wrong_rows_are_told_and_dropped),
        cmocka_unit_test(a_journal_keeps_its_rows),
        cmocka_unit_test(a_torn_line_is_cut_off),
        cmocka_unit_test(another_stamp_or_header_starts_afresh),
        cmocka_unit_test(rows_survive_a_kill),
        cmocka_unit_test(places_that_cannot_be_written),
        cmocka_unit_test(a_journal_on_a_full_disk),
        cmocka_unit_test(reading_rows),
        cmocka_unit_test(reading_tables),
        cmocka_unit_test(tables_that_are_wrong),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
