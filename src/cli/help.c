// Help, printed from the tables that the command line is read by (see cli/cli.h).

#include "cli/option.h"

#include <string.h>

enum { LINE_WIDTH = 79, OPTION_COLUMN = 24 };

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

static void print_option(FILE *stream, const mra_cli_option *option)
{
    int column = fprintf(stream, "  --%s", option->name);
    if (option->argument != NULL) column += fprintf(stream, " %s", option->argument);
    if (column > OPTION_COLUMN - 2) {
        fputc('\n', stream);
        column = 0;
    }
    char text[1024];
    const char *note = option->required ? " (required)" : "";
    if (option->fallback != NULL && option->kind != MRA_CLI_FLAG)
        snprintf(text, sizeof text, "%s (default: %s)", option->help, option->fallback);
    else
        snprintf(text, sizeof text, "%s%s", option->help, note);
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
