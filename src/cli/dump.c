// mra dump: the queries, keys and values of a trained network on held-out examples, as files. Of a file of weights and a
// text: dump_text.c.

#include "cli/dump.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "io/npy.h"
#include "io/tsv.h"
#include "nn/train.h"

static const mra_cli_option options[] = {
    {.name = "split",
     .argument = "NAME",
     .kind = MRA_CLI_TEXT,
     .fallback = "test",
     .offset = offsetof(dump_arguments, split),
     .help = "Which split the examples come from: train, dev or test."},
    {.name = "examples",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .fallback = "2",
     .low = 1,
     .high = 1e6,
     .offset = offsetof(dump_arguments, examples),
     .help = "How many examples."},
    {.name = "length",
     .argument = "L",
     .kind = MRA_CLI_COUNT,
     .required = true,
     .low = 1,
     .high = 1 << 20,
     .offset = offsetof(dump_arguments, length),
     .help = "How many tokens of each, at most the network's positions."},
    {.name = "out",
     .argument = "DIR",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(dump_arguments, out),
     .help = "Folder that receives the arrays."},
    {.name = "text",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(dump_arguments, text),
     .help = "With MODEL: a text file, or an archive or folder of *.txt files."},
    {.name = "tokeniser",
     .argument = "DIR",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(dump_arguments, tokeniser),
     .help = "With MODEL: folder with the tokeniser's vocab.json and merges.txt."},
    {.name = "heads",
     .argument = "H",
     .kind = MRA_CLI_COUNT,
     .fallback = "0",
     .low = 0,
     .high = 1024,
     .offset = offsetof(dump_arguments, heads),
     .help = "With MODEL: attention heads of a layer; 0: as many as have 64 dimensions."},
    {0}};

static const char *const synopsis[] = {
    "RUN --length L --out DIR [--examples N] [--split NAME]",
    "MODEL.safetensors --text FILE --tokeniser DIR --length L "
    "--out DIR [--examples N] [--heads H]",
    NULL};
static const char *const description[] = {
    "Runs the network that `mra train` left in the folder RUN over held-out examples and "
    "writes "
    "what its attention is applied to: example0-q.npy, example0-k.npy, example0-v.npy and so "
    "on, "
    "float16 arrays of shape [layers * heads, L, head_dim], heads of the first layer first. "
    "examples.tsv says which examples they are, how long they were before the cut, their "
    "labels "
    "and the network's answers; run.json is the run record.",
    "The examples are the N shortest ones of at least L tokens (in the order of the split "
    "where "
    "lengths are equal), cut to their first L: as little as possible is cut off, and nothing "
    "is "
    "padded.",
    "The second form does the same for any RoBERTa, on any text. Its weights come from a "
    "safetensors file with Hugging Face's names (as also mra train writes it for "
    "task.name=masked). The text is tokenised, and the examples are its first pieces of "
    "L - 2 tokens, between <s> and </s>. The arrays are what `mra audit` and `mra attend` "
    "take, and, in a folder of such folders, make reproduce INPUTS=.",
    NULL};
static const char *const examples[] = {
    "mra dump build/train/inputs-listops --length 512 "
    "--examples 2 --out build/inputs/listops-512",
    "mra dump roberta-base/model.safetensors --text book.txt "
    "--tokeniser roberta-base --length 512 --out mine/book-512",
    NULL};

const mra_cli_command mra_cli_command_dump = {
    .name = "dump",
    .summary = "write the queries, keys and values of a trained network",
    .synopsis = synopsis,
    .description = description,
    .examples = examples,
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
    .run = mra_cli_dump};

// Everything that the steps below share.
typedef struct dump {
    const dump_arguments *arguments;
    mra_split split;
    int n; // tokens of each example
    mra_device *device;
    mra_settings *settings;
    mra_train_options training;
    mra_classifier *model;
    mra_dataset *data;
    mra_tape *tape;
    mra_record *record;
    size_t *chosen; // examples of the split
    int32_t *ids, *answer;
} dump;

// ---- Choosing examples ----------------------------------------------------------------------------

// The shortest examples of at least n tokens, by insertion into a list that is kept sorted.
static mra_status choose(dump *dump, mra_error *err)
{
    size_t wanted = (size_t)dump->arguments->examples, found = 0;
    size_t total = mra_dataset_count(dump->data, dump->split);
    int longest = 0;
    for (size_t i = 0; i < total; i++) {
        int length = mra_dataset_get(dump->data, dump->split, i).length;
        if (length > longest) longest = length;
        if (length < dump->n) continue;
        size_t at = found;
        while (at > 0 &&
               mra_dataset_get(dump->data, dump->split, dump->chosen[at - 1]).length > length)
            at--;
        if (at == wanted) continue;
        if (found < wanted) found++;
        memmove(dump->chosen + at + 1, dump->chosen + at,
                (found - at - 1) * sizeof *dump->chosen);
        dump->chosen[at] = i;
    }
    if (found == wanted) return MRA_OK;
    return mra_fail(
        err, MRA_BAD_INPUT,
        "split %s has %zu examples of at least %d tokens (the longest has %d), expected "
        "%zu: choose a smaller --length or --examples",
        mra_split_name(dump->split), found, dump->n, longest, wanted);
}

static mra_status find_split(const char *name, mra_split *split, mra_error *err)
{
    for (int i = 0; i < MRA_SPLITS; i++) {
        *split = (mra_split)i;
        if (strcmp(name, mra_split_name(*split)) == 0) return MRA_OK;
    }
    return mra_fail(err, MRA_BAD_INPUT, "--split: %s is unknown, expected train, dev or test",
                    name);
}

// ---- Writing --------------------------------------------------------------------------------------

// Q, K or V of all layers and heads of the last pass.
static mra_status write_projection(const mra_encoder *encoder,
                                   const mra_encoder_options *options, mra_device *device,
                                   const char *out, size_t example, int n, int which,
                                   mra_error *err)
{
    size_t heads = (size_t)options->heads, width = (size_t)options->head_dim;
    size_t layer = heads * (size_t)n * width;
    float *values = malloc((size_t)options->blocks * layer * sizeof *values);
    if (!values) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", out);
    mra_status status = MRA_OK;
    for (int i = 0; i < options->blocks && status == MRA_OK; i++) {
        const mra_tensor *projection = mra_encoder_projection(encoder, i, which);
        status = device->to_host(device, values + (size_t)i * layer, projection->data,
                                 layer * sizeof *values, err);
    }
    char path[1024];
    snprintf(path, sizeof path, "%s/example%zu-%c.npy", out, example, "qkv"[which]);
    size_t shape[3] = {(size_t)options->blocks * heads, (size_t)n, width};
    if (status == MRA_OK) status = mra_npy_write_f32(path, MRA_NPY_F2, 3, shape, values, err);
    free(values);
    return status;
}

mra_status mra_dump_projections(const mra_encoder *encoder, const mra_encoder_options *options,
                                mra_device *device, const char *out, size_t example, int n,
                                mra_error *err)
{
    mra_status status = MRA_OK;
    for (int which = 0; which < 3 && status == MRA_OK; which++)
        status = write_projection(encoder, options, device, out, example, n, which, err);
    return status;
}

// The class with the largest of `classes` logits.
static mra_status read_answer(dump *dump, const mra_tensor *logits, int32_t *answer,
                              mra_error *err)
{
    float *logit = malloc(logits->size * sizeof *logit);
    if (!logit) return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu logits", logits->size);
    mra_status status = dump->device->to_host(dump->device, logit, logits->data,
                                              logits->size * sizeof *logit, err);
    *answer = 0;
    for (size_t i = 1; i < logits->size && status == MRA_OK; i++)
        if (logit[i] > logit[*answer]) *answer = (int32_t)i;
    free(logit);
    return status;
}

// Runs one example and writes its arrays.
static mra_status dump_example(dump *dump, size_t i, mra_error *err)
{
    mra_example example = mra_dataset_get(dump->data, dump->split, dump->chosen[i]);
    for (int k = 0; k < dump->n; k++) dump->ids[k] = example.ids[k];
    mra_batch batch = {.count = 1, .n = dump->n, .ids = dump->ids};
    mra_tape_mode(dump->tape, false, false, 0, 0);
    mra_tensor *logits = mra_classifier_logits(dump->model, dump->tape, &batch);
    mra_status status = mra_tape_status(dump->tape, err);
    if (status == MRA_OK) status = read_answer(dump, logits, &dump->answer[i], err);
    if (status == MRA_OK)
        status = mra_dump_projections(dump->model->encoder, &dump->model->options.encoder,
                                      dump->device, dump->arguments->out, i, dump->n, err);
    mra_tape_reset(dump->tape);
    return status;
}

static mra_status write_table(const dump *dump, mra_error *err)
{
    static const char *const columns[] = {"example", "index",  "length",
                                          "label",   "answer", NULL};
    char path[1024];
    mra_tsv *tsv;
    snprintf(path, sizeof path, "%s/examples.tsv", dump->arguments->out);
    mra_status status = mra_tsv_create(&tsv, path, columns, err);
    if (status != MRA_OK) return status;
    for (size_t i = 0; i < (size_t)dump->arguments->examples && status == MRA_OK; i++) {
        mra_example example = mra_dataset_get(dump->data, dump->split, dump->chosen[i]);
        mra_tsv_int(tsv, (int64_t)i);
        mra_tsv_int(tsv, (int64_t)dump->chosen[i]);
        mra_tsv_int(tsv, example.length);
        mra_tsv_int(tsv, example.label);
        mra_tsv_int(tsv, dump->answer[i]);
        status = mra_tsv_end_row(tsv, err);
    }
    if (status == MRA_OK) return mra_tsv_commit(tsv, err);
    mra_tsv_abandon(tsv);
    return status;
}

static mra_status write_record(dump *dump, mra_error *err)
{
    const dump_arguments *arguments = dump->arguments;
    char path[1024];
    snprintf(path, sizeof path, "%s/weights.safetensors", arguments->common.operands[0]);
    mra_status status = mra_record_input(dump->record, path, err);
    const char *source;
    for (int i = 0; status == MRA_OK && (source = mra_dataset_source(dump->data, i)); i++)
        status = mra_record_input(dump->record, source, err);
    int64_t right = 0;
    for (size_t i = 0; i < (size_t)arguments->examples; i++)
        right +=
            dump->answer[i] == mra_dataset_get(dump->data, dump->split, dump->chosen[i]).label;
    mra_record_settings(dump->record, dump->settings);
    mra_record_text(dump->record, "split", arguments->split);
    mra_record_number(dump->record, "n", dump->n);
    mra_record_number(dump->record, "examples", (double)arguments->examples);
    mra_record_number(dump->record, "accuracy_of_dumped",
                      (double)right / (double)arguments->examples);
    snprintf(path, sizeof path, "%s/run.json", arguments->out);
    return status == MRA_OK ? mra_record_write(dump->record, path, err) : status;
}

// ---- The command ----------------------------------------------------------------------------------

// The network, its data and the room for one example.
static mra_status load(dump *dump, mra_error *err)
{
    const dump_arguments *arguments = dump->arguments;
    const char *folder = arguments->common.operands[0];
    mra_status status = find_split(arguments->split, &dump->split, err);
    if (status == MRA_OK) status = mra_settings_create(&dump->settings, err);
    if (status == MRA_OK) status = mra_cli_device(&dump->device, &arguments->common, err);
    if (status == MRA_OK)
        status = mra_train_load(folder, dump->device, dump->settings, &dump->training,
                                &dump->model, err);
    if (status != MRA_OK) return status;
    if (dump->model->options.pairs)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "%s: a network for pairs of sequences: only one of single sequences can "
            "be dumped",
            folder);
    int positions = dump->model->options.encoder.positions;
    if (arguments->length > positions)
        return mra_fail(err, MRA_BAD_INPUT,
                        "--length %" PRId64 ": the network of %s takes at most %d",
                        arguments->length, folder, positions);
    dump->n = (int)arguments->length;
    mra_dataset_options data = dump->training.classify.data;
    data.threads = dump->device->threads;
    data.quiet = arguments->common.quiet;
    status = mra_dataset_open(&dump->data, &data, err);
    if (status == MRA_OK) status = mra_tape_create(&dump->tape, dump->device, err);
    dump->chosen = calloc((size_t)arguments->examples + 1, sizeof *dump->chosen);
    dump->answer = calloc((size_t)arguments->examples, sizeof *dump->answer);
    dump->ids = calloc((size_t)dump->n, sizeof *dump->ids);
    if (status == MRA_OK && (!dump->chosen || !dump->answer || !dump->ids))
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for %" PRId64 " examples",
                          arguments->examples);
    return status;
}

static mra_status run(dump *dump, mra_error *err)
{
    const dump_arguments *arguments = dump->arguments;
    mra_status status = load(dump, err);
    if (status == MRA_OK) status = choose(dump, err);
    if (status == MRA_OK) status = mra_make_folder(arguments->out, err);
    for (size_t i = 0; i < (size_t)arguments->examples && status == MRA_OK; i++)
        status = dump_example(dump, i, err);
    if (status == MRA_OK) status = write_table(dump, err);
    if (status == MRA_OK) status = write_record(dump, err);
    if (status == MRA_OK)
        mra_say(arguments->common.quiet, "%s: %" PRId64 " examples of %d tokens",
                arguments->out, arguments->examples, dump->n);
    return status;
}

// Whether the operand is a file of weights, not the folder of a training.
static bool is_file(const dump_arguments *arguments)
{
    const char *name = arguments->common.operands[0], *ending = strrchr(name, '.');
    return ending && strcmp(ending, ".safetensors") == 0;
}

// Options of the other form; NULL: none.
static const char *misplaced(const dump_arguments *arguments)
{
    const bool file = is_file(arguments);
    if (file && (!arguments->text || !arguments->tokeniser))
        return "MODEL.safetensors needs --text and --tokeniser";
    if (file && mra_cli_given(&mra_cli_command_dump, arguments, "split"))
        return "--split: a text has no splits";
    if (!file && (arguments->text || arguments->tokeniser || arguments->heads))
        return "--text, --tokeniser and --heads go with MODEL.safetensors";
    return strlen(arguments->out) > 900 ? "--out: the name is too long" : NULL;
}

int mra_cli_dump(int argc, char **argv)
{
    dump_arguments arguments;
    int exit_status;
    if (!mra_cli_parse(&mra_cli_command_dump, &arguments, argc, argv, &exit_status))
        return exit_status;
    const char *wrong = misplaced(&arguments);
    if (wrong) return mra_cli_misuse(&mra_cli_command_dump, "%s", wrong);
    mra_error err;
    dump dump = {.arguments = &arguments};
    mra_status status = mra_record_create(&dump.record, argc, argv, &err);
    if (status == MRA_OK)
        status = is_file(&arguments) ? mra_dump_text(&arguments, dump.record, &err)
                                     : run(&dump, &err);
    mra_record_free(dump.record);
    mra_tape_free(dump.tape);
    mra_dataset_free(dump.data);
    mra_classifier_free(dump.model);
    mra_settings_free(dump.settings);
    mra_device_close(dump.device);
    free(dump.chosen);
    free(dump.answer);
    free(dump.ids);
    return status == MRA_OK ? 0 : mra_cli_fail(&err);
}
