// Manual pages, printed from the tables that the command line is read by and --help is printed
// from (see cli/cli.h): what a page documents is what the program accepts.
//
// The pages are roff with the macros of man(7). Text of the tables is escaped: a backslash, a
// hyphen (which roff would otherwise break lines at and print as a typographic one, so that a
// copied option does not work) and a point or an apostrophe that begins a line.

#include "cli/option.h"

#include <ctype.h>
#include <string.h>

static void print_text(FILE *stream, const char *text)
{
    if (*text == '.' || *text == '\'') fputs("\\&", stream);
    bool code = false; // between two backquotes
    for (; *text != '\0'; text++) {
        if (*text == '`') {
            code = !code;
            fputs(code ? "\\fB" : "\\fR", stream);
        } else if (*text == '\\') {
            fputs("\\e", stream);
        } else if (*text == '-') {
            fputs("\\-", stream);
        } else {
            fputc(*text, stream);
        }
    }
    fputc('\n', stream);
}

// "mra-attend" as a title: MRA-ATTEND.
static void print_head(FILE *stream, const char *name, const char *summary)
{
    fputs(".TH \"", stream);
    for (const char *at = name; *at != '\0'; at++) {
        if (*at == '-') fputc('\\', stream);
        fputc(toupper((unsigned char)*at), stream);
    }
    fprintf(stream, "\" 1 \"\" \"mra %s\" \"User Commands\"\n.SH NAME\n", MRA_VERSION);
    for (const char *at = name; *at != '\0'; at++) {
        if (*at == '-') fputc('\\', stream);
        fputc(*at, stream);
    }
    fputs(" \\- ", stream);
    print_text(stream, summary);
}

static void print_paragraphs(FILE *stream, const char *const *paragraphs)
{
    for (int i = 0; paragraphs[i] != NULL; i++) {
        if (i > 0) fputs(".PP\n", stream);
        print_text(stream, paragraphs[i]);
    }
}

static void print_options(FILE *stream, const mra_cli_option *options)
{
    for (int i = 0; options[i].name != NULL; i++) {
        const mra_cli_option *option = &options[i];
        fputs(".TP\n\\fB", stream);
        char name[80];
        snprintf(name, sizeof name, "--%s", option->name);
        for (const char *at = name; *at != '\0'; at++)
            fprintf(stream, *at == '-' ? "\\-" : "%c", *at);
        fputs("\\fR", stream);
        if (option->argument != NULL) fprintf(stream, " \\fI%s\\fR", option->argument);
        fputc('\n', stream);
        char text[1024];
        mra_cli_option_text(option, text, sizeof text);
        print_text(stream, text);
    }
}

// Common to all pages: how the program ends.
static void print_status(FILE *stream)
{
    fputs(".SH EXIT STATUS\n", stream);
    print_text(stream, mra_cli_exit_text);
}

void mra_cli_manual(FILE *stream, const mra_cli_command *command)
{
    char name[80];
    snprintf(name, sizeof name, "mra-%s", command->name);
    print_head(stream, name, command->summary);
    fputs(".SH SYNOPSIS\n", stream);
    for (int i = 0; command->synopsis[i] != NULL; i++) {
        char line[1024];
        if (i > 0) fputs(".br\n", stream);
        snprintf(line, sizeof line, "`mra %s` %s", command->name, command->synopsis[i]);
        print_text(stream, line);
    }
    fputs(".SH DESCRIPTION\n", stream);
    print_paragraphs(stream, command->description);
    fputs(".SH OPTIONS\n", stream);
    print_options(stream, command->options);
    print_options(stream, mra_cli_common_options);
    print_status(stream);
    if (command->examples != NULL) {
        fputs(".SH EXAMPLES\n.nf\n", stream);
        for (int i = 0; command->examples[i] != NULL; i++)
            print_text(stream, command->examples[i]);
        fputs(".fi\n", stream);
    }
    fputs(".SH SEE ALSO\n", stream);
    print_text(stream, "`mra`(1)");
}

void mra_cli_manual_program(FILE *stream, const mra_cli_command *const *commands)
{
    print_head(stream, "mra", mra_cli_program_text);
    fputs(".SH SYNOPSIS\n", stream);
    print_text(stream, "`mra` SUBCOMMAND [options]");
    fputs(".br\n", stream);
    print_text(stream, "`mra` --help | --version | --manual [SUBCOMMAND]");
    fputs(".SH DESCRIPTION\n", stream);
    print_text(stream, mra_cli_common_text);
    fputs(".SH SUBCOMMANDS\n", stream);
    for (int i = 0; commands[i] != NULL; i++) {
        fprintf(stream, ".TP\n\\fBmra\\-%s\\fR(1)\n", commands[i]->name);
        print_text(stream, commands[i]->summary);
    }
    print_status(stream);
}
