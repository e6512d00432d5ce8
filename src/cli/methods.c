// `mra methods`: what there is to compare, and what each method can be told. Printed from the
// table of methods alone.

#include "cli/option.h"

#include <string.h>

#include "attention/attention.h"

struct arguments {
    mra_cli_common common;
};

static const mra_cli_option options[] = {{0}};

const mra_cli_command mra_cli_command_methods = {
    .name = "methods",
    .summary = "list the attention methods and their options",
    .synopsis = (const char *const[]){"", "NAME", NULL},
    .description = (const char *const[]){"Without a name: one line for each method. With a "
                                         "name: what the method does, where it was "
                                         "published, what it costs for n tokens of d "
                                         "dimensions, and its options with their defaults "
                                         "and ranges, as `--set KEY=VALUE` of the other "
                                         "subcommands takes them.",
                                         NULL},
    .examples = (const char *const[]){"mra methods mra2", NULL},
    .options = options,
    .max_operands = 1,
    .run = mra_cli_methods};

static void print_table(void)
{
    int name_width = 6, time_width = 4, memory_width = 6;
    for (int i = 0; mra_method_at(i) != NULL; i++) {
        const mra_method *method = mra_method_at(i);
        int name = (int)strlen(method->name), time = (int)strlen(method->time);
        int memory = (int)strlen(method->memory);
        if (name > name_width) name_width = name;
        if (time > time_width) time_width = time;
        if (memory > memory_width) memory_width = memory;
    }
    printf("%-*s  %-*s  %-*s  summary\n", name_width, "method", time_width, "time",
           memory_width, "memory");
    for (int i = 0; mra_method_at(i) != NULL; i++) {
        const mra_method *method = mra_method_at(i);
        printf("%-*s  %-*s  %-*s  %s\n", name_width, method->name, time_width, method->time,
               memory_width, method->memory, method->summary);
    }
}

// What an option may be, in words: "a whole number from 0 to 65536".
static void describe_range(const mra_option *option, char *text, size_t room)
{
    static const char *const kinds[] = {[MRA_OPTION_INT] = "a whole number",
                                        [MRA_OPTION_REAL] = "a number",
                                        [MRA_OPTION_LIST] = "numbers separated by ':', each"};
    if (option->type == MRA_OPTION_BOOL)
        snprintf(text, room, "yes or no");
    else if (option->type == MRA_OPTION_CHOICE)
        snprintf(text, room, "one of %s", option->choices);
    else if (option->type == MRA_OPTION_GRID)
        snprintf(text, room, "none or HEIGHTxWIDTH");
    else
        snprintf(text, room, "%s from %.9g to %.9g", kinds[option->type], option->low,
                 option->high);
}

static void print_method(const mra_method *method)
{
    printf("%s: %s\n\n", method->name, method->summary);
    printf("time    %s\n", method->time);
    printf("memory  %s\n", method->memory);
    mra_cli_wrap(stdout, method->source, 8, printf("source  "));
    printf(method->option_count > 0 ? "\noptions:\n" : "\nno options\n");
    for (int i = 0; i < method->option_count; i++) {
        const mra_option *option = &method->options[i];
        char range[200], text[1000];
        describe_range(option, range, sizeof range);
        snprintf(text, sizeof text, "%s (default %s; %s)", option->help, option->fallback,
                 range);
        int column = printf("  %s", option->name);
        if (column > 14) {
            printf("\n");
            column = 0;
        }
        mra_cli_wrap(stdout, text, 16, column);
    }
}

int mra_cli_methods(int argc, char **argv)
{
    struct arguments arguments;
    int exit_status;
    if (!mra_cli_parse(&mra_cli_command_methods, &arguments, argc, argv, &exit_status))
        return exit_status;
    if (arguments.common.operand_count == 0) {
        print_table();
        return 0;
    }
    const mra_method *method = mra_method_find(arguments.common.operands[0]);
    if (method == NULL)
        return mra_cli_misuse(&mra_cli_command_methods,
                              "unknown method '%s': `mra methods` lists those that exist",
                              arguments.common.operands[0]);
    print_method(method);
    return 0;
}
