// `mra data`: makes data sets, and says which are there.

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "core/file.h"
#include "core/progress.h"
#include "data/data.h"
#include "data/imdb.h"
#include "data/listops.h"

typedef struct arguments {
    mra_cli_common common;
    const char *out, *from;
    int64_t train, dev, test, min_length, max_length;
} arguments;

static const mra_cli_option options[] = {
    {.name = "out",
     .argument = "DIR",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(arguments, out),
     .help = "folder that receives the files; it is made if need be"},
    {.name = "from",
     .argument = "DIR",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(arguments, from),
     .help = "folder with the archives; without it the environment variable MRA_DATA, and "
             "without that "
             "./data"},
    {.name = "train",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .fallback = "96000",
     .low = 1,
     .high = 1e8,
     .offset = offsetof(arguments, train),
     .help = "listops: how many training examples"},
    {.name = "dev",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .fallback = "2000",
     .low = 1,
     .high = 1e8,
     .offset = offsetof(arguments, dev),
     .help = "listops: how many development examples"},
    {.name = "test",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .fallback = "2000",
     .low = 1,
     .high = 1e8,
     .offset = offsetof(arguments, test),
     .help = "listops: how many test examples"},
    {.name = "min-length",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .fallback = "500",
     .low = 0,
     .high = 1 << 20,
     .offset = offsetof(arguments, min_length),
     .help = "listops: expressions have more tokens than this"},
    {.name = "max-length",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .fallback = "2000",
     .low = 2,
     .high = 1 << 20,
     .offset = offsetof(arguments, max_length),
     .help = "listops: expressions have fewer tokens than this"},
    {0}};

const mra_cli_command mra_cli_command_data = {
    .name = "data",
    .summary = "make data sets and say which are there",
    .synopsis =
        (const char *const[]){"prepare listops --out DIR [--train N] [--dev N] [--test N] "
                              "[--min-length N] [--max-length N] [--seed S]",
                              "prepare text --out DIR [--from DIR]", "list [--from DIR]", NULL},
    .description = (const char *const[]){"prepare listops draws ListOps as the Long-Range "
                                         "Arena does and writes its files basic_train.tsv, "
                                         "basic_val.tsv and basic_test.tsv (columns Source and "
                                         "Target). The same seed gives the same files "
                                         "for any number of threads.",
                                         "prepare text unpacks the IMDb reviews "
                                         "(aclImdb_v1.tar.gz or imdb-labelled.tar.xz) into one "
                                         "checksummed file that training reads at once.",
                                         "list prints a table: each data set, whether it is "
                                         "there, and where it is or why it is not.",
                                         NULL},
    .examples = (const char *const[]){"mra data prepare listops --out data/listops",
                                      "MRA_DATA=~/archives mra data list", NULL},
    .options = options,
    .min_operands = 1,
    .max_operands = 2,
    .run = mra_cli_data};

// ---- prepare --------------------------------------------------------------------------------

static mra_status write_splits(const mra_sequences splits[3], const arguments *a,
                               mra_error *err)
{
    static const char *const names[3] = {"basic_train.tsv", "basic_val.tsv", "basic_test.tsv"};
    for (int s = 0; s < 3; s++) {
        char path[1024];
        int length = snprintf(path, sizeof path, "%s/%s", a->out, names[s]);
        if (length < 0 || (size_t)length >= sizeof path)
            return mra_fail(err, MRA_BAD_INPUT, "--out: the folder's name is too long");
        mra_status status = mra_listops_write(path, &splits[s], err);
        if (status != MRA_OK) return status;
        mra_say(a->common.quiet, "%s: %zu expressions", path, splits[s].count);
    }
    return MRA_OK;
}

static mra_status prepare_listops(const arguments *a, mra_error *err)
{
    mra_status status =
        mra_make_folder(a->out, err); // first, so that a wrong folder costs no time
    if (status != MRA_OK) return status;
    const size_t counts[3] = {(size_t)a->train, (size_t)a->dev, (size_t)a->test};
    mra_listops_options drawing = {.minimum_length = (int)a->min_length,
                                   .maximum_length = (int)a->max_length,
                                   .seed = a->common.seed,
                                   .threads = a->common.threads,
                                   .quiet = a->common.quiet};
    mra_sequences splits[3] = {{0}};
    status = mra_listops_generate(splits, counts, &drawing, err);
    if (status == MRA_OK) status = write_splits(splits, a, err);
    for (int s = 0; s < 3; s++) mra_sequences_free(&splits[s]);
    return status;
}

static mra_status prepare_text(const arguments *a, mra_error *err)
{
    char path[1024];
    size_t counts[2];
    mra_status status = mra_imdb_find(a->from, path, sizeof path, err);
    if (status == MRA_OK) status = mra_imdb_prepare(path, a->out, counts, a->common.quiet, err);
    if (status != MRA_OK) return status;
    mra_say(a->common.quiet, "%s: %zu training and %zu test reviews, prepared in %s", path,
            counts[0], counts[1], a->out);
    if (counts[0] != MRA_IMDB_PER_SPLIT || counts[1] != MRA_IMDB_PER_SPLIT)
        mra_say(a->common.quiet, "note: the official archive holds %d of each",
                MRA_IMDB_PER_SPLIT);
    return MRA_OK;
}

// ---- list -----------------------------------------------------------------------------------

static void list(const arguments *a)
{
    char path[1024];
    mra_error err = {0};
    printf("data_set\tstate\tdetail\n");
    printf("listops\tpresent\tdrawn by this program; no file is needed\n");
    if (mra_imdb_find(a->from, path, sizeof path, &err) == MRA_OK)
        printf("text\tpresent\t%s\n", path);
    else
        printf("text\tabsent\t%s\n", err.message);
}

int mra_cli_data(int argc, char **argv)
{
    arguments a;
    int exit_status;
    if (!mra_cli_parse(&mra_cli_command_data, &a, argc, argv, &exit_status)) return exit_status;
    const char *verb = a.common.operands[0];
    const char *name = a.common.operand_count > 1 ? a.common.operands[1] : "";
    if (strcmp(verb, "list") == 0 && !*name) {
        list(&a);
        return 0;
    }
    bool listops = strcmp(name, "listops") == 0;
    if (strcmp(verb, "prepare") != 0 || (!listops && strcmp(name, "text") != 0))
        return mra_cli_misuse(&mra_cli_command_data,
                              "\"%s%s%s\": expected prepare listops, prepare text or list",
                              verb, *name ? " " : "", name);
    if (!a.out)
        return mra_cli_misuse(&mra_cli_command_data, "prepare %s needs --out DIR", name);
    mra_error err = {0};
    mra_status status = listops ? prepare_listops(&a, &err) : prepare_text(&a, &err);
    return status == MRA_OK ? 0 : mra_cli_fail(&err);
}
