// mra train: trains a classifier and goes on where an earlier run of the same command stopped.

#include "cli/cli.h"

#include <signal.h>
#include <string.h>

#include "core/core.h"
#include "nn/seeds.h"
#include "nn/train.h"
#include "nn/train_check.h"

typedef struct train_arguments {
    mra_cli_common common;
    const char *out;
    bool check, estimate;
    mra_cli_numbers seeds;
} train_arguments;

static const mra_cli_option options[] = {
    {.name = "out",
     .argument = "DIR",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(train_arguments, out),
     .help = "folder of the run: checkpoint, log, weights and result; build/train/NAME for the "
             "settings NAME.ini unless given"},
    {.name = "seeds",
     .argument = "LIST",
     .kind = MRA_CLI_COUNTS,
     .offset = offsetof(train_arguments, seeds),
     .low = 0,
     .high = 9e15,
     .help =
         "trains once for each of these seeds, into DIR/seed1, DIR/seed2 and so on, and writes "
         "mean and standard deviation to DIR/seeds.tsv; stops at the first that fails"},
    {.name = "check",
     .kind = MRA_CLI_FLAG,
     .offset = offsetof(train_arguments, check),
     .help = "only say whether the settings are accepted and the data there, and how many "
             "weights the "
             "model has"},
    {.name = "estimate",
     .kind = MRA_CLI_FLAG,
     .offset = offsetof(train_arguments, estimate),
     .help = "--check, and time a few passes on random tokens: what the run would take here"},
    {0}};

static const char *const synopsis[] = {"FILE.ini [SECTION.KEY=VALUE]... [--out DIR]",
                                       "FILE.ini [SECTION.KEY=VALUE]... --check | --estimate",
                                       NULL};
static const char *const description[] = {
    "Trains a network for a task with any of the attention methods. FILE.ini holds the "
    "settings in the sections [task], [data], [model], [attention] and [train] "
    "(experiments/*.ini are "
    "examples; src/nn/train_options.h and src/nn/task_*.h list them all); SECTION.KEY=VALUE "
    "replaces one of them. "
    "--seed replaces train.seed.",
    "The folder receives checkpoint.safetensors, log.tsv, and at the end weights.safetensors "
    "(the "
    "weights that did best on the dev split), result.tsv (accuracy beside that of always "
    "giving "
    "the most frequent answer) and run.json. A run that was stopped, or killed, goes on from "
    "its "
    "checkpoint when the same command is given again, and ends with the same bits. A training "
    "whose loss is no longer finite, or stays above train.diverge_factor times its lowest for "
    "train.diverge_steps steps, ends with status 2, its checkpoint, and diverged.tsv.",
    "train.accumulate=P computes each batch in P parts, which needs less memory. Started by "
    "mpirun "
    "(where the program was built with MPI), several processes share the parts; P must be a "
    "multiple of their number, and the weights are, bit for bit, those of one process with the "
    "same "
    "settings. Where one process dies, mpirun ends the others; the same command goes on.",
    "--check and --estimate train nothing and write nothing but a table of two columns: "
    "weights, "
    "whether the data are there, and for --estimate the seconds of a step, of an evaluated "
    "example, "
    "and the hours of the whole run on this machine as busy as it is.",
    NULL};
static const char *const examples[] = {
    "mra train experiments/listops-laptop.ini",
    "mra train experiments/listops-laptop.ini --estimate",
    "mra train experiments/listops-laptop.ini --seeds 1,2,3",
    "mpirun -n 2 mra train experiments/listops-laptop.ini train.accumulate=2",
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

// The file, then the overrides, then the seed if it is not NULL.
static mra_status read_settings(const train_arguments *arguments, const uint64_t *seed,
                                mra_settings *settings, mra_train_options *options,
                                mra_error *err)
{
    const mra_cli_common *common = &arguments->common;
    mra_status status = mra_settings_read(settings, common->operands[0], err);
    for (int i = 1; i < common->operand_count && status == MRA_OK; i++)
        status = mra_settings_override(settings, common->operands[i], err);
    if (status == MRA_OK && seed) {
        char line[64];
        snprintf(line, sizeof line, "train.seed=%llu", (unsigned long long)*seed);
        status = mra_settings_override(settings, line, err);
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

static void show_result(const mra_task_kind *kind, const mra_train_result *result,
                        const char *folder)
{
    printf("split\texamples\t%s\tmost_frequent\tloss\n", kind->metric[0]);
    printf("dev\t%lld\t%.4f\t%.4f\t%.4f\n", (long long)result->dev.examples,
           result->dev.metric[0], result->dev_majority, result->dev.loss);
    printf("test\t%lld\t%.4f\t%.4f\t%.4f\n", (long long)result->test.examples,
           result->test.metric[0], result->test_majority, result->test.loss);
    printf("# step %lld of %lld, %.0f s, %zu weights, in %s\n", (long long)result->best_step,
           (long long)result->steps, result->seconds, result->weights, folder);
}

// --check and --estimate: a table on stdout.
static mra_status check(const train_arguments *arguments, const mra_train_options *training,
                        mra_device *device, mra_error *err)
{
    mra_train_check check;
    mra_status status = mra_train_check_run(training, device, arguments->estimate, &check, err);
    if (status != MRA_OK) return status;
    printf("what\tvalue\nweights\t%zu\n", check.weights);
    printf("data\t%s%s\n", check.present ? "present" : "absent: ", check.absent);
    if (arguments->estimate)
        printf("step_seconds\t%.6f\nevaluated_example_seconds\t%.6f\nhours\t%.4f\n",
               check.step_seconds, check.example_seconds, check.seconds / 3600);
    return MRA_OK;
}

// What all trainings of one command share.
typedef struct command {
    const train_arguments *arguments;
    const mra_group *group;
    int argc;
    char **argv;
    const mra_task_kind *kind; // known once a training has ended
} command;

// One training, or a look at it. `seed` NULL: that of the settings. Says what came out unless `one_of_many`.
static mra_status train(command *command, const uint64_t *seed, const char *folder,
                        mra_train_result *result, bool one_of_many, mra_error *err)
{
    const train_arguments *arguments = command->arguments;
    const mra_cli_common *common = &arguments->common;
    mra_settings *settings = NULL;
    mra_device *device = NULL;
    mra_record *record = NULL;
    mra_train_options training;
    mra_status status = mra_settings_create(&settings, err);
    if (status == MRA_OK) status = read_settings(arguments, seed, settings, &training, err);
    if (status == MRA_OK) status = mra_cli_device(&device, common, err);
    if (status == MRA_OK)
        status = mra_record_create(&record, command->argc, command->argv, err);
    status = mra_group_agree(command->group, status, err);
    if (status == MRA_OK && (arguments->check || arguments->estimate)) {
        status = check(arguments, &training, device, err);
    } else if (status == MRA_OK) {
        mra_record_settings(record, settings);
        mra_record_number(record, "seed", (double)training.seed);
        mra_record_number(record, "processes", command->group->count);
        mra_record_number(record, "threads", device->threads);
        mra_record_text(record, "device", device->name);
        mra_train_run run = {.folder = folder,
                             .device = device,
                             .quiet = common->quiet,
                             .stop = &stop,
                             .record = record,
                             .group = command->group};
        catch_signals();
        status = mra_train(&training, &run, result, err);
        command->kind = training.task;
        if (status == MRA_OK && !one_of_many && command->group->rank == 0)
            show_result(training.task, result, run.folder);
    }
    mra_record_free(record);
    mra_device_close(device);
    mra_settings_free(settings);
    return status;
}

static void show_seeds(const mra_task_kind *kind, const mra_train_result *results, int count,
                       const char *path)
{
    double values[MRA_SEEDS], mean, deviation;
    printf("split\tseeds\t%s\tdeviation\n", kind->metric[0]);
    for (int test = 0; test < 2; test++) {
        for (int i = 0; i < count; i++)
            values[i] = test ? results[i].test.metric[0] : results[i].dev.metric[0];
        mra_seeds_spread(values, count, &mean, &deviation);
        printf("%s\t%d\t%.4f\t%.4f\n", test ? "test" : "dev", count, mean, deviation);
    }
    printf("# %s\n", path);
}

static mra_status train_seeds(command *command, const char *folder, mra_error *err)
{
    const mra_cli_numbers *list = &command->arguments->seeds;
    mra_train_result results[MRA_SEEDS];
    uint64_t seeds[MRA_SEEDS];
    char path[1200];
    mra_status status = MRA_OK;
    for (int i = 0; i < list->count && status == MRA_OK; i++) {
        seeds[i] = (uint64_t)list->value[i];
        snprintf(path, sizeof path, "%s/seed%llu", folder, (unsigned long long)seeds[i]);
        status = train(command, &seeds[i], path, &results[i], true, err);
        if (status != MRA_OK)
            return mra_fail_within(err, "seed %llu", (unsigned long long)seeds[i]);
    }
    snprintf(path, sizeof path, "%s/seeds.tsv", folder);
    if (command->group->rank > 0) return MRA_OK;
    status = mra_seeds_write(path, command->kind, seeds, results, list->count, err);
    if (status == MRA_OK) show_seeds(command->kind, results, list->count, path);
    return status;
}

static mra_status run(const train_arguments *arguments, const mra_group *group, int argc,
                      char **argv, mra_error *err)
{
    const mra_cli_common *common = &arguments->common;
    command command = {.arguments = arguments, .group = group, .argc = argc, .argv = argv};
    char folder[1024];
    name_folder(common->operands[0], folder, sizeof folder);
    const char *out = arguments->out ? arguments->out : folder;
    const bool looks = arguments->check || arguments->estimate;
    if (arguments->seeds.count > 0 && !looks) return train_seeds(&command, out, err);
    const bool given = mra_cli_given(&mra_cli_command_train, arguments, "seed");
    mra_train_result result;
    return train(&command, given ? &common->seed : NULL, out, &result, false, err);
}

int mra_cli_train(int argc, char **argv)
{
    train_arguments arguments;
    int status;
    if (!mra_cli_parse(&mra_cli_command_train, &arguments, argc, argv, &status)) return status;
    mra_error err;
    mra_group group;
    if (mra_group_open(&group, &err) != MRA_OK) return mra_cli_fail(&err);
    const mra_status ended = run(&arguments, &group, argc, argv, &err);
    // One line, from one process; all end with the same status.
    status = mra_exit_status(ended);
    if (ended != MRA_OK && group.rank == 0) status = mra_cli_fail(&err);
    mra_group_close(&group);
    return status;
}
