// Between the files that make up the shared part of the program: option.c reads, help.c
// explains, cli.c ends. Subcommands include cli/cli.h alone.
#ifndef MRA_CLI_OPTION_H
#define MRA_CLI_OPTION_H

#include "cli/cli.h"

// The options that every subcommand takes; the last one has a NULL name.
extern const mra_cli_option mra_cli_common_options[];

// Sets defaults and reads argv into *arguments; sets *help or *version and returns at once when
// that was asked for. MRA_BAD_INPUT names the option and what was expected.
mra_status mra_cli_read(const mra_cli_command *command, void *arguments, int argc, char **argv,
                        bool *help, bool *version, mra_error *err);

// Prints `text` wrapped at 79 columns, every line indented by `indent` blanks; the first line
// starts where the cursor is, in column `column`.
void mra_cli_wrap(FILE *stream, const char *text, int indent, int column);

// An option's help with its default, or that it is required: one text for help and manual.
void mra_cli_option_text(const mra_cli_option *option, char *text, size_t room);

// What the program is, what every subcommand takes, and how the program ends.
extern const char mra_cli_program_text[], mra_cli_common_text[], mra_cli_exit_text[];

// The manual page mra-NAME(1) of a subcommand, and mra(1) of the program with its subcommands
// (NULL-terminated), in the roff of man(7).
void mra_cli_manual(FILE *stream, const mra_cli_command *command);
void mra_cli_manual_program(FILE *stream, const mra_cli_command *const *commands);

#endif
