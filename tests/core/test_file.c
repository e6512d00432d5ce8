// Files that appear whole or not at all; checksums against published vectors.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/file.h"
#include "scratch.h"

static void nothing_before_the_commit_everything_after(void **state)
{
    (void)state;
    mra_error err = {0};
    mra_output output;
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_write_text("result", "old"));
    assert_int_equal(mra_output_open(&output, path, &err), MRA_OK);
    fputs("new and longer", output.stream);
    fflush(output.stream);
    char *text = scratch_read(path, NULL);
    assert_string_equal(text, "old");
    free(text);
    assert_int_equal(mra_output_commit(&output, &err), MRA_OK);
    text = scratch_read(path, NULL);
    assert_string_equal(text, "new and longer");
    free(text);
    mra_output_abandon(&output); // does nothing now
    assert_true(mra_file_exists(path));
    assert_int_equal(scratch_count(), 1);
    remove(path);
}

static void abandoning_leaves_nothing(void **state)
{
    (void)state;
    mra_output output;
    assert_int_equal(mra_output_open(&output, scratch_path("result"), NULL), MRA_OK);
    assert_int_equal(scratch_count(), 1);
    fputs("half", output.stream);
    mra_output_abandon(&output);
    assert_int_equal(scratch_count(), 0);
}

static void a_killed_writer_leaves_the_old_file(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_write_text("result", "old"));
    pid_t child = fork();
    if (child == 0) {
        mra_output output;
        mra_output_open(&output, path, NULL);
        fputs("half", output.stream);
        fflush(output.stream);
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    char *text = scratch_read(path, NULL);
    assert_string_equal(text, "old");
    free(text);
    remove(path);
    char temporary[600];
    snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)child);
    assert_int_equal(remove(temporary), 0);
}

// /dev/full takes every write and fails it, as a full disk does; a short text fails only at the
// flush.
static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    for (int length = 1; length <= 1000000; length *= 1000) {
        mra_error err = {0};
        mra_output output;
        assert_int_equal(mra_output_open(&output, "/dev/full", &err), MRA_OK);
        for (int i = 0; i < length; i++) fputc('x', output.stream);
        assert_int_equal(mra_output_commit(&output, &err), MRA_IO);
        assert_string_equal(err.message, "/dev/full: cannot write: No space left on device");
        assert_null(output.stream);
    }
    struct stat info;
    assert_int_equal(stat("/dev/full", &info), 0);
    assert_true(S_ISCHR(info.st_mode)); // not replaced by a file
}

// A stream that fails under a temporary name: the temporary file goes, the old file stays.
static void a_failed_commit_keeps_the_old_file(void **state)
{
    (void)state;
    mra_error err = {0};
    mra_output output;
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_write_text("result", "old"));
    assert_int_equal(mra_output_open(&output, path, &err), MRA_OK);
    FILE *full = freopen("/dev/full", "wb", output.stream);
    assert_non_null(full);
    fputs("new", output.stream);
    assert_int_equal(mra_output_commit(&output, &err), MRA_IO);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "No space left"));
    assert_int_equal(scratch_count(), 1);
    char *text = scratch_read(path, NULL);
    assert_string_equal(text, "old");
    free(text);
    remove(path);
}

// A write that failed once makes the whole file wrong, even if the disk has room again at the
// end.
static void a_disk_that_was_full_for_a_while(void **state)
{
    (void)state;
    mra_error err = {0};
    mra_output output;
    struct rlimit unlimited, limit;
    assert_int_equal(mra_output_open(&output, scratch_path("result"), &err), MRA_OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &unlimited);
    limit = unlimited;
    limit.rlim_cur = 100;
    setrlimit(RLIMIT_FSIZE, &limit);
    for (int i = 0; i < 200; i++) fputc('x', output.stream);
    assert_int_not_equal(fflush(output.stream), 0);
    setrlimit(RLIMIT_FSIZE, &unlimited);
    assert_int_equal(mra_output_commit(&output, &err), MRA_IO);
    assert_int_equal(scratch_count(), 0);
}

static void places_that_cannot_be_written(void **state)
{
    (void)state;
    mra_error err = {0};
    mra_output output;
    scratch_write_text("file", "x");
    const char *const paths[] = {scratch_path("absent/result"), scratch_path("file/result"),
                                 scratch_folder, "/proc/result"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mra_output_open(&output, paths[i], &err), MRA_IO);
        assert_memory_equal(err.message, paths[i], strlen(paths[i]));
    }
    assert_int_equal(mra_output_open(&output, "", &err), MRA_BAD_INPUT);
    char name[3000];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(mra_output_open(&output, name, &err), MRA_BAD_INPUT);
    assert_int_equal(mra_make_folder(name, &err), MRA_BAD_INPUT);
    assert_int_equal(mra_make_folder("", &err), MRA_BAD_INPUT);
    assert_int_equal(mra_make_folder(scratch_path("file/a/b"), &err), MRA_IO);
    assert_non_null(strstr(err.message, "file/a/b"));
    assert_int_equal(mra_make_folder(scratch_path("file"), &err), MRA_IO);
    assert_int_equal(scratch_count(), 1);
    remove(scratch_path("file"));
}

static void folders_and_their_parents(void **state)
{
    (void)state;
    assert_int_equal(mra_make_folder(scratch_path("a/b//c/"), NULL), MRA_OK);
    assert_int_equal(mra_make_folder(scratch_path("a/b/c"), NULL), MRA_OK);
    assert_true(mra_file_exists(scratch_path("a/b/c")));
    assert_false(mra_file_exists(scratch_path("a/b/d")));
    assert_int_equal(mra_make_folder("/", NULL), MRA_OK);
    rmdir(scratch_path("a/b/c"));
    rmdir(scratch_path("a/b"));
    rmdir(scratch_path("a"));
}

static void sha256_vectors(void **state)
{
    (void)state; // FIPS 180-2, appendix B
    char hex[65];
    mra_sha256("abc", 3, hex);
    assert_string_equal(hex,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    mra_sha256(NULL, 0, hex);
    assert_string_equal(hex,
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    char *million = malloc(1000000);
    memset(million, 'a', 1000000);
    mra_error err = {0};
    assert_int_equal(mra_sha256_file(scratch_write("a", million, 1000000), hex, &err), MRA_OK);
    free(million);
    assert_string_equal(hex,
                        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    remove(scratch_path("a"));
    assert_int_equal(mra_sha256_file(scratch_path("absent"), hex, &err), MRA_IO);
    assert_non_null(strstr(err.message, "absent"));
    assert_int_equal(mra_sha256_file(scratch_folder, hex, &err), MRA_IO); // a folder
}

static void crc32_vectors(void **state)
{
    (void)state;
    assert_int_equal(mra_crc32(0, "123456789", 9), 0xcbf43926);
    assert_int_equal(mra_crc32(mra_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
    assert_int_equal(mra_crc32(17, NULL, 0), 17);
}

static void the_machine(void **state)
{
    (void)state;
    double before = mra_seconds();
    assert_true(mra_seconds() >= before);
    size_t peak = mra_peak_memory(), bytes = (size_t)64 << 20;
    assert_true(peak > 0);
    volatile char *memory = malloc(bytes);
    for (size_t i = 0; i < bytes; i += 1024) memory[i] = 1;
    assert_true(mra_peak_memory() >= bytes);
    free((void *)memory);
    assert_true(mra_peak_memory() >= bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_before_the_commit_everything_after),
        cmocka_unit_test(abandoning_leaves_nothing),
        cmocka_unit_test(a_killed_writer_leaves_the_old_file),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(a_failed_commit_keeps_the_old_file),
        cmocka_unit_test(a_disk_that_was_full_for_a_while),
        cmocka_unit_test(places_that_cannot_be_written),
        cmocka_unit_test(folders_and_their_parents),
        cmocka_unit_test(sha256_vectors),
        cmocka_unit_test(crc32_vectors),
        cmocka_unit_test(the_machine),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
