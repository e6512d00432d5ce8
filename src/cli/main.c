// The program `mra`: finds the subcommand and runs it.

#include "cli/option.h"

#include <errno.h>
#include <string.h>

#include "core/core.h"
#include "tensor/gemm.h"

static const mra_cli_command *const commands[] = {
    &mra_cli_command_methods, &mra_cli_command_attend, &mra_cli_command_grad,
    &mra_cli_command_audit,   &mra_cli_command_bench,  &mra_cli_command_train,
    &mra_cli_command_dump,    &mra_cli_command_data,   NULL};

static void print_help(FILE *stream)
{
    fprintf(stream,
            "mra: %s\n\nusage:\n  mra SUBCOMMAND [options]\n  mra SUBCOMMAND --help\n"
            "  mra --help | --version | --manual [SUBCOMMAND]\n\nsubcommands:\n",
            mra_cli_program_text);
    for (int i = 0; commands[i] != NULL; i++)
        fprintf(stream, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(stream, "\n");
    mra_cli_wrap(stream, mra_cli_common_text, 0, 0);
    fprintf(stream, "\n");
    mra_cli_wrap(stream, mra_cli_exit_text, 0, fprintf(stream, "Exit status: "));
}

static const mra_cli_command *find_command(const char *name)
{
    for (int i = 0; commands[i] != NULL; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "mra: a subcommand is missing (see mra --help)\n");
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("mra %s\n", MRA_VERSION);
        return 0;
    }
    const mra_cli_command *command = find_command(argv[1]);
    const bool manual = strcmp(argv[1], "--manual") == 0;
    if (manual || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        if (argc == 2) {
            if (manual)
                mra_cli_manual_program(stdout, commands);
            else
                print_help(stdout);
            return 0;
        }
        command = find_command(argv[2]);
        if (command != NULL) {
            (manual ? mra_cli_manual : mra_cli_help)(stdout, command);
            return 0;
        }
        argv++;
    }
    if (command == NULL) {
        mra_error err;
        mra_fail(&err, MRA_BAD_INPUT, "unknown subcommand '%s' (see mra --help)", argv[1]);
        return mra_cli_fail(&err);
    }
    return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    // OpenMP threads share the work; a BLAS that starts threads of its own inside them would
    // only be in the way.
    mra_blas_single_thread();
    int status = run(argc, argv);
    // What was printed may not have arrived: a full disk shows when the buffer is written.
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        mra_error err;
        mra_fail(&err, MRA_IO, "standard output: %s", strerror(errno != 0 ? errno : EIO));
        return mra_cli_fail(&err);
    }
    return status;
}
