// Run records and progress: the JSON that is written, read back by jansson; what stderr shows.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/file.h"
#include "core/progress.h"
#include "core/record.h"
#include "scratch.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text) fail_msg("no text %s", key);
    return text;
}

static void fill(mra_record *record)
{
    mra_error err = {0};
    mra_settings *settings;
    assert_int_equal(mra_settings_create(&settings, &err), MRA_OK);
    mra_settings_override(settings, "train.steps=7", &err);
    mra_record_settings(record, settings);
    mra_settings_free(settings);
    mra_record_text(record, "profile", "smoke");
    mra_record_text(record, "bytes", "\xff\xfe!");
    mra_record_number(record, "threads", 2);
    mra_record_number(record, "error", 0.125);
    mra_record_number(record, "nothing", NAN);
    const char *input = scratch_write_text("input", "abc");
    assert_int_equal(mra_record_input(record, input, &err), MRA_OK);
    assert_int_equal(mra_record_input(record, scratch_path("absent"), &err), MRA_IO);
    assert_non_null(strstr(err.message, "absent"));
}

static void check_facts(const json_t *root)
{
    assert_string_equal(text_of(root, "profile"), "smoke");
    assert_string_equal(text_of(root, "bytes"), "?"
                                                "?!");
    assert_int_equal(json_integer_value(json_object_get(root, "threads")), 2);
    assert_true(json_real_value(json_object_get(root, "error")) == 0.125);
    assert_true(json_is_null(json_object_get(root, "nothing")));
    assert_string_equal(text_of(json_object_get(root, "settings"), "train.steps"), "7");
    const json_t *inputs = json_object_get(root, "inputs");
    assert_int_equal(json_array_size(inputs), 1);
    assert_string_equal(text_of(json_array_get(inputs, 0), "sha256"),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void check_surroundings(const json_t *root)
{
    const json_t *command = json_object_get(root, "command");
    assert_int_equal(json_array_size(command), 3);
    assert_string_equal(json_string_value(json_array_get(command, 2)), "--out=x y");
    assert_true(strlen(text_of(root, "commit")) > 0);
    const char *started = text_of(root, "started");
    assert_int_equal(strlen(started), strlen("2022-07-17T12:00:00Z"));
    assert_true(started[4] == '-' && started[10] == 'T' && started[19] == 'Z');
    const json_t *machine = json_object_get(root, "machine");
    assert_true(strlen(text_of(machine, "processor")) > 0);
    assert_true(json_integer_value(json_object_get(machine, "cores")) >= 1);
    assert_true(json_integer_value(json_object_get(machine, "memory_bytes")) > 1 << 20);
    const json_t *libraries = json_object_get(root, "libraries");
    assert_non_null(strstr(text_of(libraries, "openblas"), "OpenBLAS"));
    assert_true(atof(text_of(libraries, "gsl")) > 1);
#ifdef MRA_HAVE_LIBXSMM
    assert_true(atof(text_of(libraries, "libxsmm")) > 1);
#endif
    assert_true(json_number_value(json_object_get(root, "wall_seconds")) >= 0);
    assert_true(json_integer_value(json_object_get(root, "peak_memory_bytes")) > 1 << 16);
    assert_null(json_object_get(machine, "host"));
}

static void a_record_reads_back(void **state)
{
    (void)state;
    char *argv[] = {"mra", "train", "--out=x y", NULL};
    mra_error err = {0};
    mra_record *record;
    assert_int_equal(mra_record_create(&record, 3, argv, &err), MRA_OK);
    fill(record);
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_path("x.run.json"));
    assert_int_equal(mra_record_write(record, path, &err), MRA_OK);
    assert_int_equal(mra_record_write(record, path, &err), MRA_OK); // and again, later
    json_error_t why;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!root) fail_msg("%s", why.text);
    check_facts(root);
    check_surroundings(root);
    json_decref(root);
    assert_int_equal(mra_record_write(record, "/dev/full", &err), MRA_IO);
    assert_int_equal(mra_record_write(record, scratch_path("absent/x"), &err), MRA_IO);
    mra_record_free(record);
    mra_record_free(NULL);
}

// What a function prints on stderr, which is a file here and so no terminal.
static char *stderr_of(void (*print)(void))
{
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_path("stderr"));
    FILE *file = fopen(path, "wb");
    dup2(fileno(file), STDERR_FILENO);
    print();
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    fclose(file);
    return scratch_read(path, NULL);
}

static void loud(void)
{
    mra_progress progress = mra_progress_start("work", 10, 4, false);
    mra_progress_update(&progress, 5, "");
    progress.last_shown -= 100; // as if 100 seconds had gone by
    progress.started -= 100;
    mra_progress_update(&progress, 8, "loss 1.5");
    mra_progress_update(&progress, 9, "too soon");
    mra_progress_end(&progress, "loss 1.25");
    mra_say(false, "%d files", 3);
}

static void quiet(void)
{
    mra_progress progress = mra_progress_start("work", 10, 0, true);
    progress.last_shown -= 100;
    mra_progress_update(&progress, 5, "");
    mra_progress_end(&progress, "");
    mra_say(true, "%d files", 3);
}

static void progress_in_a_log(void **state)
{
    (void)state;
    char *text = stderr_of(loud);
    assert_string_equal(text, "work: 80.0%, loss 1.5, 1m40s elapsed, 50s left\n"
                              "work: done, loss 1.25 in 1m40s\n3 files\n");
    free(text);
    text = stderr_of(quiet);
    assert_string_equal(text, "");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_record_reads_back),
                                       cmocka_unit_test(progress_in_a_log)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
