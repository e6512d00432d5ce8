// Reading a command line by a subcommand's table (see cli/cli.h).
//
// getopt_long finds the options; this file turns their arguments into values. Defaults go
// through the very same code as what the user writes, so a default that help shows is the
// default that holds.

#include "cli/option.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

// Above all characters, so that getopt_long's answers for long options and for letters differ.
enum { FIRST_OPTION = 256 };

// The common options, offsets counted from the start of the arguments like all others. Seed and
// threads are read apart: a seed has 64 bits, more than a double holds.
const mra_cli_option mra_cli_common_options[] = {
    {.name = "seed",
     .argument = "S",
     .kind = MRA_CLI_TEXT,
     .help = "Seed of all random numbers, 0 to 2^64-1 (default: 1)."},
    {.name = "threads",
     .argument = "N",
     .kind = MRA_CLI_TEXT,
     .help = "Threads to compute with; results do not depend on it (default: what "
             "OMP_NUM_THREADS says, or all processors)."},
    {.name = "device",
     .argument = "NAME",
     .kind = MRA_CLI_TEXT,
     .fallback = "cpu",
     .offset = offsetof(mra_cli_common, device),
     .help =
         "Where to compute: cpu; cuda, the first GPU; or simt, the GPU's kernels on the host "
         "(slow, for tests). The last two take a precision of their products: cuda:float32, "
         "cuda:tf32, cuda:bf16."},
    {.name = "quiet",
     .kind = MRA_CLI_FLAG,
     .offset = offsetof(mra_cli_common, quiet),
     .help = "Say nothing on stderr but errors."},
    {.name = "help", .kind = MRA_CLI_FLAG, .help = "Show this text and end."},
    {.name = "version", .kind = MRA_CLI_FLAG, .help = "Show the version and end."},
    {0}};

static int option_count(const mra_cli_option *options)
{
    int count = 0;
    while (options[count].name != NULL) count++;
    return count;
}

// Option i of the subcommand, followed by the common ones.
static const mra_cli_option *option_at(const mra_cli_command *command, int index)
{
    int own = option_count(command->options);
    return index < own ? &command->options[index] : &mra_cli_common_options[index - own];
}

static int options_of(const mra_cli_command *command)
{
    return option_count(command->options) + option_count(mra_cli_common_options);
}

// ---- Values
// ----------------------------------------------------------------------------------

bool mra_cli_count(const char *text, double *value)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') return false;
    errno = 0;
    unsigned long long whole = strtoull(text, &end, 10);
    double factor = 1;
    if (*end == 'k' || *end == 'K') factor = 1024;
    if (*end == 'm' || *end == 'M') factor = 1024.0 * 1024.0;
    if (factor > 1) end++;
    *value = (double)whole * factor;
    return errno == 0 && *end == '\0' &&
           *value <= 9007199254740992.0; // 2^53: exact in a double
}

static bool read_real(const char *text, double *value)
{
    char *end;
    if (text[0] == '\0') return false;
    *value = strtod(text, &end);
    return *end == '\0' && isfinite(*value);
}

static mra_status read_number(const mra_cli_option *option, const char *text, bool count,
                              double *value, mra_error *err)
{
    bool limited = option->low != 0 || option->high != 0;
    bool good = count ? mra_cli_count(text, value) : read_real(text, value);
    if (good && (!limited || (*value >= option->low && *value <= option->high))) return MRA_OK;
    const char *what = count ? "a whole number (suffix k: 1024, M: 1024^2)" : "a number";
    if (!limited)
        return mra_fail(err, MRA_BAD_INPUT, "--%s: '%s': expected %s", option->name, text,
                        what);
    return mra_fail(err, MRA_BAD_INPUT, "--%s: '%s': expected %s from %.15g to %.15g",
                    option->name, text, what, option->low, option->high);
}

// Cuts `text` at commas into words->text. Empty words are errors: "a,,b" is a slip, not a list
// of three.
static mra_status read_words(const mra_cli_option *option, const char *text,
                             mra_cli_words *words, mra_error *err)
{
    if (strlen(text) >= sizeof words->text)
        return mra_fail(err, MRA_BAD_INPUT, "--%s: longer than %zu characters", option->name,
                        sizeof words->text - 1);
    memcpy(words->text, text, strlen(text) + 1);
    words->count = 0;
    char *word = words->text;
    for (;;) {
        char *comma = strchr(word, ',');
        if (comma != NULL) *comma = '\0';
        if (*word == '\0')
            return mra_fail(err, MRA_BAD_INPUT, "--%s: '%s': expected %s separated by commas",
                            option->name, text, option->argument);
        if (words->count == MRA_CLI_MAX_ITEMS)
            return mra_fail(err, MRA_BAD_INPUT, "--%s: more than %d values", option->name,
                            MRA_CLI_MAX_ITEMS);
        words->word[words->count++] = word;
        if (comma == NULL) return MRA_OK;
        word = comma + 1;
    }
}

static mra_status read_numbers(const mra_cli_option *option, const char *text,
                               mra_cli_numbers *numbers, mra_error *err)
{
    mra_cli_words words;
    mra_status status = read_words(option, text, &words, err);
    bool count = option->kind == MRA_CLI_COUNTS;
    for (int i = 0; i < words.count && status == MRA_OK; i++)
        status = read_number(option, words.word[i], count, &numbers->value[i], err);
    numbers->count = words.count;
    return status;
}

static mra_status append_word(const mra_cli_option *option, const char *text,
                              mra_cli_words *words, mra_error *err)
{
    if (words->count == MRA_CLI_MAX_ITEMS)
        return mra_fail(err, MRA_BAD_INPUT, "--%s: given more than %d times", option->name,
                        MRA_CLI_MAX_ITEMS);
    words->word[words->count++] = text;
    return MRA_OK;
}

// Stores the argument `text` (NULL for a flag) of an option in the arguments.
static mra_status set_option(const mra_cli_option *option, const char *text, void *arguments,
                             mra_error *err)
{
    void *member = (char *)arguments + option->offset;
    double number = 0;
    mra_status status = MRA_OK;
    switch (option->kind) {
    case MRA_CLI_FLAG:
        *(bool *)member = true;
        return MRA_OK;
    case MRA_CLI_TEXT:
        *(const char **)member = text;
        return MRA_OK;
    case MRA_CLI_COUNT:
        status = read_number(option, text, true, &number, err);
        *(int64_t *)member = (int64_t)number;
        return status;
    case MRA_CLI_REAL:
        return read_number(option, text, false, (double *)member, err);
    case MRA_CLI_COUNTS:
    case MRA_CLI_REALS:
        return read_numbers(option, text, member, err);
    case MRA_CLI_WORDS:
        return read_words(option, text, member, err);
    case MRA_CLI_REPEAT:
        return append_word(option, text, member, err);
    }
    return mra_fail(err, MRA_INTERNAL, "--%s: unknown kind of option", option->name);
}

// ---- The common options
// ----------------------------------------------------------------------

static mra_status read_seed(const char *text, uint64_t *seed, mra_error *err)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return mra_fail(err, MRA_BAD_INPUT, "--seed: '%s': expected a whole number below 2^64",
                        text);
    *seed = value;
    return MRA_OK;
}

static mra_status read_threads(const char *text, int *threads, mra_error *err)
{
    mra_cli_option option = {.name = "threads", .low = 1, .high = 1024};
    double number = 0;
    mra_status status = read_number(&option, text, true, &number, err);
    *threads = (int)number;
    return status;
}

// --help and --version have no member: that they were given is all there is to know.
static bool common_flag(const mra_cli_option *option)
{
    return strcmp(option->name, "help") == 0 || strcmp(option->name, "version") == 0;
}

static mra_status set_common(const mra_cli_option *option, const char *text,
                             mra_cli_common *common, mra_error *err)
{
    if (strcmp(option->name, "seed") == 0) return read_seed(text, &common->seed, err);
    if (strcmp(option->name, "threads") == 0) return read_threads(text, &common->threads, err);
    if (common_flag(option)) return MRA_OK;
    return set_option(option, text, common, err);
}

// ---- The command line
// ------------------------------------------------------------------------

// The state before anything is read: nothing given, every member empty.
static void clear_arguments(const mra_cli_command *command, void *arguments)
{
    mra_cli_common *common = arguments;
    *common = (mra_cli_common){.seed = 1, .threads = mra_default_threads()};
    for (const mra_cli_option *option = command->options; option->name != NULL; option++) {
        void *member = (char *)arguments + option->offset;
        switch (option->kind) {
        case MRA_CLI_FLAG:
            *(bool *)member = false;
            break;
        case MRA_CLI_TEXT:
            *(const char **)member = NULL;
            break;
        case MRA_CLI_COUNT:
            *(int64_t *)member = 0;
            break;
        case MRA_CLI_REAL:
            *(double *)member = 0;
            break;
        case MRA_CLI_COUNTS:
        case MRA_CLI_REALS:
            ((mra_cli_numbers *)member)->count = 0;
            break;
        case MRA_CLI_WORDS:
        case MRA_CLI_REPEAT:
            ((mra_cli_words *)member)->count = 0;
            break;
        }
    }
}

static mra_status set_defaults(const mra_cli_command *command, void *arguments, mra_error *err)
{
    mra_cli_common *common = arguments;
    mra_status status = MRA_OK;
    for (int i = 0; i < options_of(command) && status == MRA_OK; i++) {
        const mra_cli_option *option = option_at(command, i);
        bool given = common->given >> i & 1;
        if (!given && option->fallback != NULL && option->kind != MRA_CLI_FLAG)
            status = set_option(option, option->fallback, arguments, err);
    }
    return status;
}

// Fills getopt_long's own table; entry i is known by FIRST_OPTION + i.
static void describe_options(const mra_cli_command *command, struct option *table)
{
    int count = options_of(command);
    for (int i = 0; i < count; i++) {
        const mra_cli_option *option = option_at(command, i);
        table[i] = (struct option){.name = option->name,
                                   .has_arg = option->kind == MRA_CLI_FLAG ? no_argument
                                                                           : required_argument,
                                   .val = FIRST_OPTION + i};
    }
    table[count] = (struct option){0};
}

static mra_status check_complete(const mra_cli_command *command, const mra_cli_common *common,
                                 mra_error *err)
{
    for (int i = 0; i < option_count(command->options); i++) {
        const mra_cli_option *option = &command->options[i];
        if (option->required && !(common->given >> i & 1))
            return mra_fail(err, MRA_BAD_INPUT, "--%s %s is missing", option->name,
                            option->argument != NULL ? option->argument : "");
    }
    if (common->operand_count < command->min_operands)
        return mra_fail(err, MRA_BAD_INPUT, "an argument is missing: mra %s %s", command->name,
                        command->synopsis[0]);
    if (common->operand_count > command->max_operands)
        return mra_fail(err, MRA_BAD_INPUT, "unexpected argument '%s'",
                        common->operands[command->max_operands]);
    return MRA_OK;
}

// What getopt_long found wrong with the option it just stopped at.
static mra_status explain_option(const mra_cli_command *command, int found, char **argv,
                                 mra_error *err)
{
    if (optopt > 0 && optopt < FIRST_OPTION)
        return mra_fail(err, MRA_BAD_INPUT, "unknown option '-%c'", optopt);
    if (optopt == 0)
        return mra_fail(err, MRA_BAD_INPUT, "unknown or ambiguous option '%s'",
                        argv[optind - 1]);
    const mra_cli_option *option = option_at(command, optopt - FIRST_OPTION);
    if (found == ':')
        return mra_fail(err, MRA_BAD_INPUT, "--%s needs %s", option->name, option->argument);
    return mra_fail(err, MRA_BAD_INPUT, "--%s takes no value", option->name);
}

// One option that getopt_long found: number `index` of the command.
static mra_status take_option(const mra_cli_command *command, void *arguments, int index,
                              mra_error *err)
{
    mra_cli_common *common = arguments;
    const mra_cli_option *option = option_at(command, index);
    bool repeatable = option->kind == MRA_CLI_REPEAT || option->kind == MRA_CLI_FLAG;
    if (common->given >> index & 1 && !repeatable)
        return mra_fail(err, MRA_BAD_INPUT, "--%s is given twice", option->name);
    common->given |= (uint64_t)1 << index;
    if (index < option_count(command->options))
        return set_option(option, optarg, arguments, err);
    return set_common(option, optarg, common, err);
}

mra_status mra_cli_read(const mra_cli_command *command, void *arguments, int argc, char **argv,
                        bool *help, bool *version, mra_error *err)
{
    struct option table[MRA_CLI_MAX_OPTIONS + 1];
    mra_cli_common *common = arguments;
    if (options_of(command) > MRA_CLI_MAX_OPTIONS)
        return mra_fail(err, MRA_INTERNAL, "mra %s has too many options", command->name);
    clear_arguments(command, arguments);
    describe_options(command, table);
    opterr = 0; // the messages are ours
    optind = 0; // glibc: start afresh
    mra_status status = MRA_OK;
    while (status == MRA_OK) {
        int found = getopt_long(argc, argv, ":", table, NULL);
        if (found == -1) break;
        if (found < FIRST_OPTION) return explain_option(command, found, argv, err);
        status = take_option(command, arguments, found - FIRST_OPTION, err);
        *help = mra_cli_given(command, arguments, "help");
        *version = mra_cli_given(command, arguments, "version");
        if (*help || *version) return MRA_OK;
    }
    common->operands = argv + optind;
    common->operand_count = argc - optind;
    if (status == MRA_OK) status = check_complete(command, common, err);
    if (status == MRA_OK) status = set_defaults(command, arguments, err);
    return status;
}

bool mra_cli_given(const mra_cli_command *command, const void *arguments, const char *name)
{
    const mra_cli_common *common = arguments;
    for (int i = 0; i < options_of(command); i++)
        if (strcmp(option_at(command, i)->name, name) == 0) return common->given >> i & 1;
    return false;
}
