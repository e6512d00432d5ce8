// Runs of trainings in the scratch folder: their files, whether two of them are the same, and stopping one by an alarm.
#ifndef MRA_TESTS_NN_SAME_RUN_H
#define MRA_TESTS_NN_SAME_RUN_H

#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

#include "../core/scratch.h"
#include "core/file.h"
#include "io/tsv.h"

static inline const char *file_in(const char *folder, const char *file)
{
    static char names[4][100];
    static int turn;
    char *name = names[turn++ % 4];
    snprintf(name, sizeof names[0], "%s/%s", folder, file);
    return scratch_path(name);
}

static inline void same_file(const char *a, const char *b)
{
    char first[65], second[65];
    assert_int_equal(mra_sha256_file(a, first, NULL), MRA_OK);
    assert_int_equal(mra_sha256_file(b, second, NULL), MRA_OK);
    assert_string_equal(first, second);
}

// The logs without their two columns of time.
static inline void same_log(const char *a, const char *b)
{
    mra_table *one, *two;
    assert_int_equal(mra_table_read(&one, a, NULL), MRA_OK);
    assert_int_equal(mra_table_read(&two, b, NULL), MRA_OK);
    assert_int_equal(mra_table_rows(one), mra_table_rows(two));
    assert_string_equal(mra_table_column_name(one, 4), "learning_rate");
    for (size_t row = 0; row < mra_table_rows(one); row++)
        for (int column = 0; column <= 4; column++)
            assert_string_equal(mra_table_text(one, row, column),
                                mra_table_text(two, row, column));
    mra_table_free(one);
    mra_table_free(two);
}

static volatile sig_atomic_t stop;

static inline void on_alarm(int signal)
{
    (void)signal;
    stop = 1;
}

// Asks the next run to stop after so many milliseconds; 0: no more.
static inline void stop_after(int milliseconds)
{
    stop = 0;
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {
        .it_value = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

#endif
