// mra train: trains a classifier and goes on where an earlier run of the same command stopped.

#include "cli/cli.h"

#include <signal.h>
#include <string.h>

#include "core/core.h"
#include "nn/train.h"

typedef struct train_arguments {
    mra_cli_common common;
    const char *out;
} train_arguments;

static const mra_cli_option options[] = {
    {.name = "out",
     .argument = "DIR",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(train_arguments, out),
     .help = "folder of the run: checkpoint, log, weights and result; build/train/NAME for the "
             "settings NAME.ini unless given"},
    {0}};

static const char *const synopsis[] = {"FILE.ini [SECTION.KEY=VALUE]... [--out DIR]", NULL};
static const char *const description[] = {
    "Trains a classifier of sequences with any of the attention methods. FILE.ini holds the "
    "settings in the sections [data], [model], [attention] and [train] (experiments/*.ini are "
    "examples; src/nn/train_options.h lists them all); SECTION.KEY=VALUE replaces one of them. "
    "--seed replaces train.seed.",
    "The folder receives checkpoint.safetensors, log.tsv, and at the end weights.safetensors "
    "(the "
    "weights that did best on the dev split), result.tsv (accuracy beside that of always "
    "giving "
    "the most frequent answer) and run.json. A run that was stopped, or killed, goes on from "
    "its "
    "checkpoint when the same command is given again, and ends with the same bits.",
    NULL};
static const char *const examples[] = {
    "mra train experiments/listops-laptop.ini",
    "mra train experiments/listops-laptop.ini attention.method=mra2s attention.blocks=2 "
    "--out build/train/sparse",
    NULL};

const mra_cli_command mra_cli_command_train = {.name = "train",
                                               .summary = "train a classifier of sequences",
                                               .synopsis = synopsis,
                                               .description = description,
                                               .examples = examples,
                                               .options = options,
                                               .min_operands = 1,
                                               .max_operands = 200,
                                               .run = mra_cli_train};

// Set by SIGINT and SIGTERM; the training looks at it between two steps.
static volatile sig_atomic_t stop;

static void ask_to_stop(int signal)
{
    (void)signal;
    stop = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = ask_to_stop};
    sigemptyset(&action.sa_mask);
    // A signal that comes twice (timeout(1) sends it to the process and to its group) still stops in order.
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

// The file, then the overrides, then --seed.
static mra_status read_settings(const train_arguments *arguments, mra_settings *settings,
                                mra_train_options *options, mra_error *err)
{
    const mra_cli_common *common = &arguments->common;
    mra_status status = mra_settings_read(settings, common->operands[0], err);
    for (int i = 1; i < common->operand_count && status == MRA_OK; i++)
        status = mra_settings_override(settings, common->operands[i], err);
    if (status == MRA_OK && mra_cli_given(&mra_cli_command_train, arguments, "seed")) {
        char seed[64];
        snprintf(seed, sizeof seed, "train.seed=%llu", (unsigned long long)common->seed);
        status = mra_settings_override(settings, seed, err);
    }
    return status == MRA_OK ? mra_train_options_read(options, settings, err) : status;
}

// build/train/NAME for .../NAME.ini.
static void name_folder(const char *file, char *folder, size_t room)
{
    const char *name = strrchr(file, '/');
    name = name ? name + 1 : file;
    size_t length = strlen(name);
    if (length > 4 && strcmp(name + length - 4, ".ini") == 0) length -= 4;
    snprintf(folder, room, "build/train/%.*s", (int)length, name);
}

static void show_result(const mra_train_result *result, const char *folder)
{
    printf("split\texamples\taccuracy\tmost_frequent\tloss\n");
    printf("dev\t%lld\t%.4f\t%.4f\t%.4f\n", (long long)result->dev.examples,
           result->dev.accuracy, result->dev_majority, result->dev.loss);
    printf("test\t%lld\t%.4f\t%.4f\t%.4f\n", (long long)result->test.examples,
           result->test.accuracy, result->test_majority, result->test.loss);
    printf("# step %lld of %lld, %.0f s, %zu weights, in %s\n", (long long)result->best_step,
           (long long)result->steps, result->seconds, result->weights, folder);
}

static mra_status train(const train_arguments *arguments, int argc, char **argv, mra_error *err)
{
    const mra_cli_common *common = &arguments->common;
    char folder[1024];
    name_folder(common->operands[0], folder, sizeof folder);
    mra_settings *settings = NULL;
    mra_device *device = NULL;
    mra_record *record = NULL;
    mra_train_options training;
    mra_train_result result;
    mra_status status = mra_settings_create(&settings, err);
    if (status == MRA_OK) status = read_settings(arguments, settings, &training, err);
    if (status == MRA_OK) status = mra_cli_device(&device, common, err);
    if (status == MRA_OK) status = mra_record_create(&record, argc, argv, err);
    if (status == MRA_OK) {
        mra_record_settings(record, settings);
        mra_record_number(record, "seed", (double)training.seed);
        mra_record_number(record, "threads", device->threads);
        mra_record_text(record, "device", device->name);
        mra_train_run run = {.folder = arguments->out ? arguments->out : folder,
                             .device = device,
                             .quiet = common->quiet,
                             .stop = &stop,
                             .record = record};
        catch_signals();
        status = mra_train(&training, &run, &result, err);
        if (status == MRA_OK) show_result(&result, run.folder);
    }
    mra_record_free(record);
    mra_device_close(device);
    mra_settings_free(settings);
    return status;
}

int mra_cli_train(int argc, char **argv)
{
    train_arguments arguments;
    int status;
    if (!mra_cli_parse(&mra_cli_command_train, &arguments, argc, argv, &status)) return status;
    mra_error err;
    if (train(&arguments, argc, argv, &err) != MRA_OK) return mra_cli_fail(&err);
    return 0;
}
