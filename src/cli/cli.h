// What all subcommands of the program `mra` share: reading a command line, printing help,
// ending.
//
// A subcommand is one file and one table. The table (mra_cli_command) says what the subcommand
// is for, how it is called and which options it takes; `--help` is printed from it, a manual
// page can be, and the command line is read by it. So what is documented is what is accepted. A
// subcommand's file looks like this:
//
//     struct arguments {
//         mra_cli_common common;          // must be the first member
//         const char *out;
//         int64_t train;
//         bool force;
//     };
//
//     static const mra_cli_option options[] = {
//         {.name = "out", .argument = "DIR", .kind = MRA_CLI_TEXT, .required = true,
//          .offset = offsetof(struct arguments, out),
//          .help = "folder that receives the files"},
//         {.name = "train", .argument = "N", .kind = MRA_CLI_COUNT, .fallback = "2k",
//          .low = 1, .high = 1e7, .offset = offsetof(struct arguments, train),
//          .help = "how many training examples"},
//         {.name = "force", .kind = MRA_CLI_FLAG, .offset = offsetof(struct arguments, force),
//          .help = "replace files that are there"},
//         {0}};
//
//     const mra_cli_command mra_cli_command_data = {
//         .name = "data", .summary = "prepare data sets", .options = options,
//         .synopsis = (const char *const[]){"prepare listops --out DIR", "list", NULL},
//         .description = (const char *const[]){"A paragraph.", "Another paragraph.", NULL},
//         .min_operands = 1, .max_operands = 2, .run = mra_cli_data};
//
//     int mra_cli_data(int argc, char **argv)
//     {
//         struct arguments arguments;
//         int status;
//         if (!mra_cli_parse(&mra_cli_command_data, &arguments, argc, argv, &status))
//             return status;
//         ... arguments.common.operands[0] is "prepare" or "list" ...
//         mra_error err;
//         if (work(&err) != MRA_OK) return mra_cli_fail(&err);
//         return 0;
//     }
//
// Every subcommand takes the common options --seed, --threads, --device, --quiet, --help and
// --version without naming them in its table. `--option=value` and `--option value` mean the
// same; `--` ends the options.
#ifndef MRA_CLI_CLI_H
#define MRA_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/error.h"
#include "tensor/device.h"

typedef enum mra_cli_kind {
    MRA_CLI_FLAG,   // takes no argument; the member is a bool
    MRA_CLI_TEXT,   // const char *; NULL when absent and without fallback
    MRA_CLI_COUNT,  // int64_t in [low, high]; the suffixes k and M multiply by 1024 and 1024^2:
                    // 4k is 4096
    MRA_CLI_REAL,   // double in [low, high]
    MRA_CLI_COUNTS, // mra_cli_numbers: counts separated by commas
    MRA_CLI_REALS,  // mra_cli_numbers: numbers separated by commas
    MRA_CLI_WORDS,  // mra_cli_words: words separated by commas
    MRA_CLI_REPEAT  // mra_cli_words: one whole argument each time the option is given
} mra_cli_kind;

enum { MRA_CLI_MAX_ITEMS = 64, MRA_CLI_MAX_OPTIONS = 40 };

typedef struct mra_cli_numbers {
    double value[MRA_CLI_MAX_ITEMS];
    int count;
} mra_cli_numbers;

typedef struct mra_cli_words {
    const char *word[MRA_CLI_MAX_ITEMS]; // point into `text` (WORDS) or into argv (REPEAT)
    int count;
    char text[1024];
} mra_cli_words;

typedef struct mra_cli_option {
    const char *name;     // long name without dashes; the table ends with a NULL name
    const char *argument; // what help calls the value, e.g. "FILE"; NULL for a flag
    const char *help;     // one sentence or more
    const char *fallback; // the default as a user would write it, parsed when the option is
                          // absent; NULL: none
    mra_cli_kind kind;
    bool required;
    double low, high; // allowed range of each number; both 0: no limits
    size_t offset;    // of the member in the subcommand's arguments
} mra_cli_option;

// The common options and what is left after the options. First member of every subcommand's
// arguments.
typedef struct mra_cli_common {
    uint64_t seed;      // --seed, default 1
    int threads;        // --threads, default what OMP_NUM_THREADS or the machine offers
    const char *device; // --device, default "cpu"
    bool quiet;         // --quiet: nothing on stderr but errors
    uint64_t given;     // which options stood on the command line; read it with mra_cli_given()
    char **operands;    // arguments that are not options, in their order (part of argv)
    int operand_count;
} mra_cli_common;

typedef struct mra_cli_command {
    const char *name;               // e.g. "attend"
    const char *summary;            // one line, no full stop
    const char *const *synopsis;    // one line per form, without "mra NAME"; NULL-terminated
    const char *const *description; // paragraphs, NULL-terminated; help wraps them
    const char *const *examples;    // command lines, NULL-terminated; may be NULL
    const mra_cli_option *options;  // ends with a NULL name
    int min_operands, max_operands;
    // argv[0] is the subcommand's name; returns the exit status.
    int (*run)(int argc, char **argv);
} mra_cli_command;

// Reads the command line into *arguments, a struct that begins with mra_cli_common: sets
// defaults first, then what was given. True: go on. False: end with *exit_status, because help
// or the version was printed (0), or because the command line was wrong (2; one line on stderr
// says why). Strings point into argv.
bool mra_cli_parse(const mra_cli_command *command, void *arguments, int argc, char **argv,
                   int *exit_status);
// Whether `option` stood on the command line (as against its default being used).
bool mra_cli_given(const mra_cli_command *command, const void *arguments, const char *option);
// The help text, from the tables.
void mra_cli_help(FILE *stream, const mra_cli_command *command);

// Prints "mra: <message>" on stderr, one line, and returns the exit status that belongs to the
// error.
int mra_cli_fail(const mra_error *err);
// The same for a message of the subcommand's own about its command line; returns 2. Suggests
// --help.
int mra_cli_misuse(const mra_cli_command *command, const char *format, ...) MRA_PRINTF(2, 3);

// Opens the device that --device and --threads name.
mra_status mra_cli_device(mra_device **device, const mra_cli_common *common, mra_error *err);

// Reads a count with an optional suffix k or M; false when `text` is something else.
bool mra_cli_count(const char *text, double *value);

// The subcommands. Each file defines its function and its table (not static: main.c lists
// them).
int mra_cli_attend(int argc, char **argv);
int mra_cli_audit(int argc, char **argv);
int mra_cli_bench(int argc, char **argv);
int mra_cli_data(int argc, char **argv);
int mra_cli_dump(int argc, char **argv);
int mra_cli_grad(int argc, char **argv);
int mra_cli_methods(int argc, char **argv);
int mra_cli_train(int argc, char **argv);
extern const mra_cli_command mra_cli_command_attend;
extern const mra_cli_command mra_cli_command_audit;
extern const mra_cli_command mra_cli_command_bench;
extern const mra_cli_command mra_cli_command_data;
extern const mra_cli_command mra_cli_command_dump;
extern const mra_cli_command mra_cli_command_grad;
extern const mra_cli_command mra_cli_command_methods;
extern const mra_cli_command mra_cli_command_train;

#endif
