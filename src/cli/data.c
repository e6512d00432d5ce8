// `mra data`: makes data sets, and says which are there.

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/data_imagenet.h"
#include "core/file.h"
#include "core/progress.h"
#include "data/cifar.h"
#include "data/data.h"
#include "data/imdb.h"
#include "data/listops.h"
#include "data/retrieval.h"
#include "data/source.h"

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
     .low = 1,
     .high = 1e8,
     .offset = offsetof(arguments, train),
     .help = "how many training examples to draw (listops 96000, pathfinder32 160000)"},
    {.name = "dev",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .low = 1,
     .high = 1e8,
     .offset = offsetof(arguments, dev),
     .help = "how many development examples (listops 2000, pathfinder32 20000)"},
    {.name = "test",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .low = 1,
     .high = 1e8,
     .offset = offsetof(arguments, test),
     .help = "how many test examples (listops 2000, pathfinder32 20000)"},
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
        (const char *const[]){
            "prepare listops --out DIR [--train N] [--dev N] [--test N] "
            "[--min-length N] [--max-length N] [--seed S]",
            "prepare pathfinder32 --out DIR [--train N] [--dev N] [--test N] [--seed S]",
            "prepare text|image|imagenet --out DIR [--from DIR]",
            "verify text|image|imagenet [--from DIR]", "list [--from DIR]", NULL},
    .description =
        (const char *const[]){
            "prepare listops draws ListOps as the Long-Range Arena does and writes its files "
            "basic_train.tsv, basic_val.tsv and basic_test.tsv (columns Source and Target). "
            "The "
            "same seed gives the same files for any number of threads.",
            "prepare pathfinder32 draws Pathfinder pictures as the published generator does "
            "with the "
            "settings of the Long-Range Arena, into one checksummed file that training with "
            "the same "
            "numbers and seed reads at once. They are a function of the seed for any number of "
            "threads.",
            "prepare text unpacks the IMDb reviews (aclImdb_v1.tar.gz or imdb-labelled.tar.xz) "
            "and prepare image the pictures of CIFAR-10 (cifar-10-binary.tar.gz or "
            "cifar10-jpeg.tar.xz) into one checksummed file that training reads at once.",
            "prepare imagenet packs photographs in class folders (imagenet/{train,val}/CLASS/, "
            "or the "
            "archive tiny-imagenet-100.tar.xz) into one file imagenet.bin, which training maps "
            "into "
            "memory when data.folder names its folder. Pictures stay JPEG and keep their size. "
            "The "
            "folders train as they are; a copy helps where opening a million small files is "
            "slow.",
            "verify imagenet decodes every picture and names the first that is no grayscale or "
            "RGB "
            "JPEG (some of the official training files are CMYK and one is a PNG: convert "
            "them), "
            "and compares the counts with those of ILSVRC 2012.",
            "verify reads an archive to its end, checks every member, counts the examples, and "
            "compares its SHA-256 with that of the official one; status 2 when it is damaged "
            "or "
            "holds other numbers of examples than the official one.",
            "list prints a table: each data set, whether it is there, where it is or why it is "
            "not, and where the official archive comes from. Nothing is downloaded.",
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

// The published numbers of examples, or what was asked for.
static mra_dataset_options sizes_of(const char *name, const arguments *a)
{
    mra_dataset_options options = mra_dataset_defaults(name);
    if (mra_cli_given(&mra_cli_command_data, a, "train")) options.train = (size_t)a->train;
    if (mra_cli_given(&mra_cli_command_data, a, "dev")) options.dev = (size_t)a->dev;
    if (mra_cli_given(&mra_cli_command_data, a, "test")) options.test = (size_t)a->test;
    return options;
}

static mra_status prepare_listops(const arguments *a, mra_error *err)
{
    mra_status status =
        mra_make_folder(a->out, err); // first, so that a wrong folder costs no time
    if (status != MRA_OK) return status;
    const mra_dataset_options sizes = sizes_of("listops", a);
    const size_t counts[3] = {sizes.train, sizes.dev, sizes.test};
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

static mra_status prepare_pathfinder(const arguments *a, mra_error *err)
{
    mra_dataset *data;
    mra_dataset_options options = sizes_of("pathfinder32", a);
    options.cache = a->out;
    options.seed = a->common.seed;
    options.threads = a->common.threads;
    options.quiet = a->common.quiet;
    mra_status status = mra_make_folder(a->out, err);
    if (status == MRA_OK) status = mra_dataset_open(&data, &options, err);
    if (status != MRA_OK) return status;
    mra_say(a->common.quiet, "%zu training, %zu development and %zu test pictures in %s",
            mra_dataset_count(data, MRA_TRAIN), mra_dataset_count(data, MRA_DEV),
            mra_dataset_count(data, MRA_TEST), a->out);
    mra_dataset_free(data);
    return MRA_OK;
}

static mra_status prepare_image(const arguments *a, mra_error *err)
{
    mra_dataset *data;
    mra_dataset_options options = mra_dataset_defaults("image");
    options.folder = a->from;
    options.cache = a->out;
    options.held_out = 0;
    options.quiet = a->common.quiet;
    mra_status status = mra_make_folder(a->out, err);
    if (status == MRA_OK) status = mra_dataset_open(&data, &options, err);
    if (status != MRA_OK) return status;
    mra_say(a->common.quiet, "%s: %zu training and %zu test pictures, prepared in %s",
            mra_dataset_source(data, 0), mra_dataset_count(data, MRA_TRAIN),
            mra_dataset_count(data, MRA_TEST), a->out);
    mra_dataset_free(data);
    return MRA_OK;
}

// ---- The archives ---------------------------------------------------------------------------

static mra_status read_text(mra_sequences *train, mra_sequences *test, const char *path,
                            bool quiet, mra_error *err)
{
    return mra_imdb_read(train, test, path, 4000, NULL, quiet, err);
}

typedef struct archive_row {
    const char *name, *official, *sha256, *source;
    size_t train, test;
    mra_status (*find)(const char *folder, char *path, size_t room, mra_error *err);
    mra_status (*read)(mra_sequences *train, mra_sequences *test, const char *path, bool quiet,
                       mra_error *err);
    mra_status (*prepare)(const arguments *a, mra_error *err);
} archive_row;

static const archive_row archives[] = {
    {"text", "aclImdb_v1.tar.gz",
     "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
     "ai.stanford.edu/~amaas/data/sentiment", MRA_IMDB_PER_SPLIT, MRA_IMDB_PER_SPLIT,
     mra_imdb_find, read_text, prepare_text},
    {"image", "cifar-10-binary.tar.gz",
     "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
     "www.cs.toronto.edu/~kriz/cifar.html", MRA_CIFAR_TRAIN, MRA_CIFAR_TEST, mra_cifar_find,
     mra_cifar_read, prepare_image},
};
enum { ARCHIVES = sizeof archives / sizeof archives[0] };

static const archive_row *find_archive(const char *name)
{
    for (int i = 0; i < ARCHIVES; i++)
        if (strcmp(archives[i].name, name) == 0) return &archives[i];
    return NULL;
}

static void list_pairs(const arguments *a);

static void list(const arguments *a)
{
    printf("data_set\tstate\tdetail\tofficial_source\n");
    printf("listops\tpresent\tdrawn by this program; no file is needed\t-\n");
    printf("pathfinder32\tpresent\tdrawn by this program; no file is needed\t-\n");
    for (int i = 0; i < ARCHIVES; i++) {
        char path[1024];
        mra_error err = {0};
        const bool present = archives[i].find(a->from, path, sizeof path, &err) == MRA_OK;
        printf("%s\t%s\t%s\t%s: %s\n", archives[i].name, present ? "present" : "absent",
               present ? path : err.message, archives[i].source, archives[i].official);
    }
    mra_cli_imagenet_list(a->from);
    list_pairs(a);
}

// The tasks on pairs: their files, or why they are not there.
static void list_pairs(const arguments *a)
{
    static const char *const aan[] = {"new_aan_pairs.train.tsv", NULL};
    char path[1024], urls[1024];
    mra_error err = {0};
    mra_status status = mra_data_find("retrieval", aan, a->from, path, sizeof path, &err);
    printf("retrieval\t%s\t%s\tgithub.com/google-research/long-range-arena: "
           "new_aan_pairs.{train,eval,test}.tsv\n",
           status == MRA_OK ? "present" : "absent", status == MRA_OK ? path : err.message);
    status = mra_same_film_find(a->from, path, urls, &err);
    printf("same-film\t%s\t%s\tas text; the films from imdb-urls.tar.xz where the archive has "
           "none\n",
           status == MRA_OK ? "present" : "absent", status == MRA_OK ? path : err.message);
}

static mra_status verify(const arguments *a, const archive_row *row, mra_error *err)
{
    char path[1024], sha256[65];
    mra_sequences train = {0}, test = {0};
    mra_status status = row->find(a->from, path, sizeof path, err);
    if (status == MRA_OK) status = mra_sha256_file(path, sha256, err);
    if (status == MRA_OK) status = row->read(&train, &test, path, a->common.quiet, err);
    if (status != MRA_OK) return status;
    printf("%s: %zu training and %zu test examples, every member whole\n", path, train.count,
           test.count);
    printf("SHA-256 %s: %s\n", sha256,
           strcmp(sha256, row->sha256) == 0 ? "the official archive"
                                            : "not that of the official archive");
    if (train.count != row->train || test.count != row->test)
        status = mra_fail(err, MRA_BAD_INPUT,
                          "%s: %zu training and %zu test examples: expected %zu and %zu", path,
                          train.count, test.count, row->train, row->test);
    mra_sequences_free(&train);
    mra_sequences_free(&test);
    return status;
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
    const bool listops = strcmp(name, "listops") == 0, imagenet = strcmp(name, "imagenet") == 0;
    const bool drawn = listops || strcmp(name, "pathfinder32") == 0,
               verifies = strcmp(verb, "verify") == 0;
    const archive_row *row = find_archive(name);
    if ((strcmp(verb, "prepare") != 0 && !verifies) ||
        (!row && !imagenet && (verifies || !drawn)))
        return mra_cli_misuse(&mra_cli_command_data,
                              "\"%s%s%s\": expected prepare listops or pathfinder32, "
                              "prepare or verify with text, image or imagenet, or list",
                              verb, *name ? " " : "", name);
    if (!verifies && !a.out)
        return mra_cli_misuse(&mra_cli_command_data, "prepare %s needs --out DIR", name);
    mra_error err = {0};
    const mra_cli_common *common = &a.common;
    mra_status status =
        imagenet && verifies
            ? mra_cli_imagenet_verify(a.from, common->threads, common->quiet, &err)
        : imagenet ? mra_cli_imagenet_prepare(a.from, a.out, common->quiet, &err)
        : verifies ? verify(&a, row, &err)
        : listops  ? prepare_listops(&a, &err)
        : drawn    ? prepare_pathfinder(&a, &err)
                   : row->prepare(&a, &err);
    return status == MRA_OK ? 0 : mra_cli_fail(&err);
}
