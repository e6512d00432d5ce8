// Errors are values: a function that can fail returns a status and fills a message.
//
// No function of the suite prints or ends the process on its own; only the programs (src/cli,
// experiments) do, in one place, by turning a status into one line on stderr and an exit
// status: 2 for anything that the user can mend (bad input, absent data, a full disk), 1 for a
// defect of the program itself.
#ifndef MRA_CORE_ERROR_H
#define MRA_CORE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MRA_API __attribute__((visibility("default")))
#define MRA_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define MRA_API
#define MRA_PRINTF(text, first)
#endif

typedef enum mra_status {
    MRA_OK = 0,
    MRA_BAD_INPUT,   // a value, file, shape or option that cannot be used as given
    MRA_ABSENT,      // something optional (a data set, a device) is not there
    MRA_IO,          // the operating system refused: full disk, no permission, ...
    MRA_NO_MEMORY,   // an allocation failed
    MRA_INTERRUPTED, // a signal asked the program to stop
    MRA_INTERNAL     // a defect of this program
} mra_status;

// Filled by the function that fails. The message is one line without a newline that names the
// file or argument, the field and what was expected.
typedef struct mra_error {
    mra_status status;
    char message[500];
} mra_error;

// Stores `status` and the formatted message in *err (which may be NULL) and returns `status`,
// so that a failing function can end with `return mra_fail(err, ...)`.
MRA_API mra_status mra_fail(mra_error *err, mra_status status, const char *format, ...)
    MRA_PRINTF(3, 4);

// Puts "<prefix>: " before the message already in *err and returns its status. A caller uses it
// to add what it knows (which file, which example) to what its callee knew.
MRA_API mra_status mra_fail_within(mra_error *err, const char *format, ...) MRA_PRINTF(2, 3);

// The exit status of a program that ends with `status`: 0, 1 (MRA_INTERNAL) or 2.
MRA_API int mra_exit_status(mra_status status);

#ifdef __cplusplus
}
#endif
#endif
