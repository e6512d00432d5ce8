// How a subcommand begins and ends (see cli/cli.h): one place that prints errors, so that every
// failure is one line on stderr and one of two exit statuses.

#include "cli/option.h"

#include <stdarg.h>
#include <string.h>

// One line whatever the message holds: a file's name may contain any character.
static void print_line(const char *text)
{
    char line[700];
    size_t length = 0;
    for (; *text != '\0' && length < sizeof line - 1; text++)
        line[length++] = (unsigned char)*text < ' ' ? '?' : *text;
    line[length] = '\0';
    fflush(stdout);
    fprintf(stderr, "mra: %s\n", line);
}

int mra_cli_fail(const mra_error *err)
{
    print_line(err->message);
    return mra_exit_status(err->status);
}

int mra_cli_misuse(const mra_cli_command *command, const char *format, ...)
{
    char message[500], line[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(line, sizeof line, "%s: %s (see mra %s --help)", command->name, message,
             command->name);
    print_line(line);
    return 2;
}

bool mra_cli_parse(const mra_cli_command *command, void *arguments, int argc, char **argv,
                   int *exit_status)
{
    bool help = false, version = false;
    mra_error err = {0};
    mra_status status = mra_cli_read(command, arguments, argc, argv, &help, &version, &err);
    *exit_status = 0;
    if (status != MRA_OK)
        *exit_status = mra_cli_misuse(command, "%s", err.message);
    else if (help)
        mra_cli_help(stdout, command);
    else if (version)
        printf("mra %s\n", MRA_VERSION);
    return status == MRA_OK && !help && !version;
}

mra_status mra_cli_device(mra_device **device, const mra_cli_common *common, mra_error *err)
{
    mra_status status = mra_device_open(device, common->device, common->threads, err);
    return status == MRA_OK ? MRA_OK : mra_fail_within(err, "--device");
}
