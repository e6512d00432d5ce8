// mra dump MODEL.safetensors: the queries, keys and values of anybody's RoBERTa on anybody's text.
//
// The file says how large the network is but for its heads: their number is nowhere in the shapes. In all published sizes of
// RoBERTa a head has 64 dimensions, which is what is assumed unless --heads says otherwise. Text is packed as for training
// (data/corpus.h): documents in a row with </s> </s> after each, cut into <s>, length - 2 tokens, </s>.

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/dump.h"
#include "core/core.h"
#include "data/bpe.h"
#include "data/corpus_read.h"
#include "io/tsv.h"
#include "nn/roberta.h"

enum { HEAD_DIM = 64 };

typedef struct text_dump {
    const dump_arguments *arguments;
    mra_device *device;
    mra_roberta *model;
    mra_tape *tape;
    mra_bpe *bpe;
    mra_ids stream; // of the whole text
    int32_t *ids;   // of one example
} text_dump;

static mra_status take_document(void *context, const char *name, const char *text, size_t bytes,
                                mra_error *err)
{
    text_dump *dump = context;
    const int32_t end = mra_bpe_special_of(dump->bpe).end;
    (void)name;
    mra_status status = mra_bpe_encode(dump->bpe, text, bytes, &dump->stream, err);
    for (int i = 0; i < 2 && status == MRA_OK; i++)
        status = mra_ids_add(&dump->stream, end, err);
    return status;
}

static mra_status read_text(text_dump *dump, mra_error *err)
{
    const dump_arguments *arguments = dump->arguments;
    const mra_document_reader reader = {.take = take_document, .context = dump};
    mra_status status = mra_bpe_open(&dump->bpe, arguments->tokeniser, err);
    if (status == MRA_OK) status = mra_documents_read(arguments->text, &reader, err);
    if (status != MRA_OK) return status;
    const int64_t needed = arguments->examples * (arguments->length - 2);
    if ((int64_t)dump->stream.count >= needed) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT,
                    "%s: %zu tokens, expected at least %" PRId64 " for %" PRId64
                    " examples of %" PRId64 ": choose a smaller --length or --examples",
                    arguments->text, dump->stream.count, needed, arguments->examples,
                    arguments->length);
}

static mra_status load_model(text_dump *dump, mra_error *err)
{
    const dump_arguments *arguments = dump->arguments;
    const char *path = arguments->common.operands[0];
    mra_roberta_options options;
    mra_status status = mra_roberta_sizes(&options, path, err);
    if (status != MRA_OK) return status;
    mra_encoder_options *encoder = &options.encoder;
    const int inner = encoder->head_dim; // of all heads together
    encoder->heads = arguments->heads ? (int)arguments->heads : inner / HEAD_DIM;
    if (encoder->heads < 1 || inner % encoder->heads != 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: queries of %d dimensions: expected --heads that divides them",
                        path, inner);
    encoder->head_dim = inner / encoder->heads;
    if (arguments->length < 3 || arguments->length > encoder->positions)
        return mra_fail(err, MRA_BAD_INPUT, "--length %" PRId64 ": %s takes 3 to %d tokens",
                        arguments->length, path, encoder->positions);
    if (mra_bpe_size(dump->bpe) > encoder->vocabulary)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: a tokeniser of %d tokens, expected at most the "
                        "%d of %s",
                        arguments->tokeniser, mra_bpe_size(dump->bpe), encoder->vocabulary,
                        path);
    status = mra_roberta_create(&dump->model, &options, dump->device, err);
    return status == MRA_OK ? mra_roberta_load(dump->model, path, NULL, err) : status;
}

static mra_status dump_example(text_dump *dump, size_t i, mra_error *err)
{
    const dump_arguments *arguments = dump->arguments;
    const mra_bpe_special special = mra_bpe_special_of(dump->bpe);
    const size_t n = (size_t)arguments->length;
    const mra_roberta_batch batch = {.count = 1, .n = (int)n, .ids = dump->ids};
    dump->ids[0] = special.begin;
    memcpy(dump->ids + 1, dump->stream.id + i * (n - 2), (n - 2) * sizeof *dump->ids);
    dump->ids[n - 1] = special.end;
    mra_tape_mode(dump->tape, false, false, 0, 0);
    mra_roberta_hidden(dump->model, dump->tape, &batch);
    mra_status status = mra_tape_status(dump->tape, err);
    if (status == MRA_OK)
        status = mra_dump_projections(dump->model->encoder, &dump->model->options.encoder,
                                      dump->device, arguments->out, i, (int)n, err);
    mra_tape_reset(dump->tape);
    return status;
}

// Which tokens of the text the examples are.
static mra_status write_table(const text_dump *dump, mra_error *err)
{
    static const char *const columns[] = {"example", "first_token", "tokens", NULL};
    const int64_t step = dump->arguments->length - 2;
    char path[1024];
    mra_tsv *tsv;
    snprintf(path, sizeof path, "%s/examples.tsv", dump->arguments->out);
    mra_status status = mra_tsv_create(&tsv, path, columns, err);
    if (status != MRA_OK) return status;
    for (int64_t i = 0; i < dump->arguments->examples && status == MRA_OK; i++) {
        mra_tsv_int(tsv, i);
        mra_tsv_int(tsv, i * step);
        mra_tsv_int(tsv, step);
        status = mra_tsv_end_row(tsv, err);
    }
    if (status == MRA_OK) return mra_tsv_commit(tsv, err);
    mra_tsv_abandon(tsv);
    return status;
}

static mra_status write_record(const text_dump *dump, mra_record *record, mra_error *err)
{
    const dump_arguments *arguments = dump->arguments;
    const mra_encoder_options *encoder = &dump->model->options.encoder;
    char path[1024], sum[65];
    mra_status status = mra_record_input(record, arguments->common.operands[0], err);
    if (status == MRA_OK) status = mra_documents_checksum(arguments->text, sum, err);
    if (status != MRA_OK) return status;
    mra_record_text(record, "text", arguments->text);
    mra_record_text(record, "text_sha256", sum);
    mra_record_number(record, "n", (double)arguments->length);
    mra_record_number(record, "examples", (double)arguments->examples);
    mra_record_number(record, "layers", encoder->blocks);
    mra_record_number(record, "heads", encoder->heads);
    snprintf(path, sizeof path, "%s/run.json", arguments->out);
    return mra_record_write(record, path, err);
}

static mra_status run(text_dump *dump, mra_record *record, mra_error *err)
{
    const dump_arguments *arguments = dump->arguments;
    mra_status status = read_text(dump, err);
    if (status == MRA_OK) status = mra_cli_device(&dump->device, &arguments->common, err);
    if (status == MRA_OK) status = load_model(dump, err);
    if (status == MRA_OK) status = mra_tape_create(&dump->tape, dump->device, err);
    if (status != MRA_OK) return status;
    dump->ids = calloc((size_t)arguments->length, sizeof *dump->ids);
    if (!dump->ids) return mra_fail(err, MRA_NO_MEMORY, "no memory for an example");
    status = mra_make_folder(arguments->out, err);
    for (size_t i = 0; i < (size_t)arguments->examples && status == MRA_OK; i++)
        status = dump_example(dump, i, err);
    if (status == MRA_OK) status = write_table(dump, err);
    if (status == MRA_OK) status = write_record(dump, record, err);
    if (status == MRA_OK)
        mra_say(arguments->common.quiet, "%s: %" PRId64 " examples of %" PRId64 " tokens",
                arguments->out, arguments->examples, arguments->length);
    return status;
}

mra_status mra_dump_text(const dump_arguments *arguments, mra_record *record, mra_error *err)
{
    text_dump dump = {.arguments = arguments};
    const mra_status status = run(&dump, record, err);
    mra_tape_free(dump.tape);
    mra_roberta_free(dump.model);
    mra_bpe_free(dump.bpe);
    mra_ids_free(&dump.stream);
    mra_device_close(dump.device);
    free(dump.ids);
    return status;
}
