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
                                         "dimensions, its options with their defaults "
                                         "and ranges, as `--set KEY=VALUE` of the other "
                                         "subcommands takes them, and what it learns and "
                                         "draws at random, as --weights and --dump-random "
                                         "call it.",
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
        snprintf(text, room, "%s from %.12g to %.12g", kinds[option->type], option->low,
                 option->high);
}

// A name and what there is to say about it, in two columns.
static void print_item(const char *name, const char *text)
{
    int column = printf("  %s", name);
    if (column > 14) {
        printf("\n");
        column = 0;
    }
    mra_cli_wrap(stdout, text, 16, column);
}

static void print_options(const mra_method *method)
{
    printf(method->option_count > 0 ? "\noptions:\n" : "\nno options\n");
    for (int i = 0; i < method->option_count; i++) {
        const mra_option *option = &method->options[i];
        char range[200], text[1000];
        describe_range(option, range, sizeof range);
        snprintf(text, sizeof text, "%s (default %s; %s)", option->help, option->fallback,
                 range);
        print_item(option->name, text);
    }
}

// "float32 [12, 256, 4096]"
static int describe_array(char *text, size_t room, const char *type, int rank, const int *shape)
{
    int used = snprintf(text, room, "%s [", type);
    for (int i = 0; i < rank; i++)
        used += snprintf(text + used, room - (size_t)used, "%s%d", i ? ", " : "", shape[i]);
    return used + snprintf(text + used, room - (size_t)used, "]");
}

static void print_learned(const mra_method_parameter *learned, int count)
{
    printf(count > 0 ? "\nlearns, in such a layer (--weights, --save-weights):\n"
                     : "\nlearns nothing\n");
    for (int i = 0; i < count; i++) {
        char text[400];
        int used =
            describe_array(text, sizeof text, "float32", learned[i].rank, learned[i].shape);
        if (learned[i].deviation > 0)
            used += snprintf(text + used, sizeof text - (size_t)used, "; begins as N(%g, %g^2)",
                             (double)learned[i].mean, (double)learned[i].deviation);
        else
            used += snprintf(text + used, sizeof text - (size_t)used, "; begins as %g",
                             (double)learned[i].mean);
        if (learned[i].shared_by_layers)
            snprintf(text + used, sizeof text - (size_t)used,
                     "; a network has one for all its layers");
        print_item(learned[i].name, text);
    }
}

static void print_drawn(const mra_method_array *drawn, int count)
{
    printf(count > 0 ? "\ndraws with --seed, in such a layer (--dump-random):\n"
                     : "\ndraws nothing at random\n");
    for (int i = 0; i < count; i++) {
        char text[200];
        describe_array(text, sizeof text, drawn[i].ints ? "int32" : "float32", drawn[i].rank,
                       drawn[i].shape);
        print_item(drawn[i].name, text);
    }
}

// What the method learns and draws: asked of a layer of the size of the paper's efficiency
// experiment, for most of it depends on the size.
static mra_status print_layer(const mra_cli_common *common, const mra_method *method,
                              mra_error *err)
{
    const mra_shape shape = {.batch = 1, .heads = 12, .n = 4096, .d = 64};
    mra_device *device;
    mra_attention_layer *layer = NULL;
    mra_method_parameter learned[MRA_METHOD_PARAMETERS];
    mra_method_array drawn[MRA_METHOD_ARRAYS];
    mra_status status = mra_cli_device(&device, common, err);
    if (status != MRA_OK) return status;
    status = mra_attention_layer_create(&layer, method->name, device, shape, common->seed, NULL,
                                        0, err);
    if (status == MRA_OK) {
        const int parameters = method->learned ? method->learned(layer, learned) : 0;
        const int arrays = method->drawn ? method->drawn(layer, drawn) : 0;
        if (parameters + arrays > 0)
            printf("\na layer of %d heads of %d dimensions, for %d tokens:\n", shape.heads,
                   shape.d, shape.n);
        print_learned(learned, parameters);
        print_drawn(drawn, arrays);
    }
    mra_attention_layer_free(layer);
    mra_device_close(device);
    return status;
}

static mra_status print_method(const mra_cli_common *common, const mra_method *method,
                               mra_error *err)
{
    printf("%s: %s\n\n", method->name, method->summary);
    for (int i = 0; method->description && method->description[i]; i++) {
        mra_cli_wrap(stdout, method->description[i], 0, 0);
        printf("\n");
    }
    printf("time    %s\n", method->time);
    printf("memory  %s\n", method->memory);
    mra_cli_wrap(stdout, method->source, 8, printf("source  "));
    print_options(method);
    return print_layer(common, method, err);
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
    mra_error err = {0};
    if (print_method(&arguments.common, method, &err) != MRA_OK) return mra_cli_fail(&err);
    return 0;
}
