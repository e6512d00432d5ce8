// Help, printed from the tables that the command line is read by (see cli/cli.h).

#include "cli/option.h"

#include <string.h>

enum { LINE_WIDTH = 79, OPTION_COLUMN = 24 };

const char mra_cli_program_text[] =
    "multi-resolution approximate self-attention, and what it is compared with";
const char mra_cli_common_text[] =
    "Every subcommand takes --seed S, --threads N, --device NAME, --quiet, --help and "
    "--version. Results go to files or to stdout, everything else to stderr.";
const char mra_cli_exit_text[] = "0 when all went well; 2 with one line on stderr when the "
                                 "input, an option or the system is "
                                 "at fault; 1 for a defect of the program.";

void mra_cli_wrap(FILE *stream, const char *text, int indent, int column)
{
    bool fresh = true; // nothing on this line yet but the indent
    while (column < indent) {
        fputc(' ', stream);
        column++;
    }
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (!fresh && column + 1 + length > LINE_WIDTH) {
            fprintf(stream, "\n%*s", indent, "");
            column = indent;
            fresh = true;
        }
        column += fprintf(stream, "%s%.*s", fresh ? "" : " ", length, text);
        fresh = false;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', stream);
}

void mra_cli_option_text(const mra_cli_option *option, char *text, size_t room)
{
    if (option->fallback != NULL && option->kind != MRA_CLI_FLAG)
        snprintf(text, room, "%s (default: %s)", option->help, option->fallback);
    else
        snprintf(text, room, "%s%s", option->help, option->required ? " (required)" : "");
}

static void print_option(FILE *stream, const mra_cli_option *option)
{
    int column = fprintf(stream, "  --%s", option->name);
    if (option->argument != NULL) column += fprintf(stream, " %s", option->argument);
    if (column > OPTION_COLUMN - 2) {
        fputc('\n', stream);
        column = 0;
    }
    char text[1024];
    mra_cli_option_text(option, text, sizeof text);
    mra_cli_wrap(stream, text, OPTION_COLUMN, column);
}

void mra_cli_help(FILE *stream, const mra_cli_command *command)
{
    fprintf(stream, "mra %s: %s\n", command->name, command->summary);
    fprintf(stream, "\nusage:\n");
    for (int i = 0; command->synopsis[i] != NULL; i++) {
        int column = fprintf(stream, "  mra %s", command->name);
        if (command->synopsis[i][0] != '\0') column += fprintf(stream, " ");
        mra_cli_wrap(stream, command->synopsis[i], 7 + (int)strlen(command->name), column);
    }
    for (int i = 0; command->description[i] != NULL; i++) {
        fputc('\n', stream);
        mra_cli_wrap(stream, command->description[i], 0, 0);
    }
    if (command->options[0].name != NULL) {
        fprintf(stream, "\noptions:\n");
        for (int i = 0; command->options[i].name != NULL; i++)
            print_option(stream, &command->options[i]);
    }
    fprintf(stream, "\ncommon options:\n");
    for (int i = 0; mra_cli_common_options[i].name != NULL; i++)
        print_option(stream, &mra_cli_common_options[i]);
    if (command->examples != NULL) {
        fprintf(stream, "\nexamples:\n");
        for (int i = 0; command->examples[i] != NULL; i++)
            fprintf(stream, "  %s\n", command->examples[i]);
    }
}
