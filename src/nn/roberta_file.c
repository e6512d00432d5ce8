// Weights of RoBERTa in files: the names of Hugging Face's implementation, and models of other sizes.
//
// Everybody's RoBERTa weights are in Hugging Face's names, so the parameters simply carry these names: what is written
// anywhere can be read by others, and what others have written here, without a second vocabulary.
//
// A model for more tokens than the file's starts with the file's positions repeated, $P_{2+i} \leftarrow P'_{2 + i \bmod m}$
// (Beltagy et al., "Longformer", 2020): attention has learned what nearby positions mean to each
// other, and that stays true within each copy.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/roberta.h"

// ---- Names ----------------------------------------------------------------------------------------

static const char *const block_names[][2] = {
    {"query", "attention.self.query"},
    {"key", "attention.self.key"},
    {"value", "attention.self.value"},
    {"out", "attention.output.dense"},
    {"attention_norm", "attention.output.LayerNorm"},
    {"expand", "intermediate.dense"},
    {"contract", "output.dense"},
    {"feed_forward_norm", "output.LayerNorm"},
    {"attention", "attention.self"}, // what the attention method learns
};

// "gain" and "shift" of a LayerNorm are called weight and bias.
static const char *rename_last(const char *last)
{
    if (strcmp(last, "gain") == 0) return "weight";
    return strcmp(last, "shift") == 0 ? "bias" : last;
}

static void rename_one(char *name)
{
    char renamed[2 * MRA_PARAMETER_NAME];
    int block, used = 0;
    const char *last = strrchr(name, '.');
    if (!last) return;
    snprintf(renamed, sizeof renamed, "%.*s.%s", (int)(last - name), name,
             rename_last(last + 1));
    if (sscanf(name, "encoder.block%d.%n", &block, &used) == 1 && used > 0) {
        const size_t length = strcspn(name + used, ".");
        for (size_t i = 0; i < sizeof block_names / sizeof *block_names; i++)
            if (strlen(block_names[i][0]) == length &&
                memcmp(name + used, block_names[i][0], length) == 0)
                snprintf(renamed, sizeof renamed, "roberta.encoder.layer.%d.%s.%s", block,
                         block_names[i][1], rename_last(last + 1));
    } else if (strncmp(name, "encoder.", 8) == 0) {
        snprintf(renamed, sizeof renamed, "roberta.%s", name);
    }
    snprintf(name, MRA_PARAMETER_NAME, "%.*s", MRA_PARAMETER_NAME - 1, renamed);
}

void mra_roberta_rename(mra_parameters *parameters)
{
    for (int i = 0; i < parameters->count; i++) rename_one(parameters->list[i].name);
}

// ---- Reading --------------------------------------------------------------------------------------

// Where a file's table may have other rows than the model's.
typedef enum rows { ROWS_EQUAL, ROWS_TOKENS, ROWS_POSITIONS } rows;

static rows rows_of(const mra_roberta *model, const mra_tensor *tensor)
{
    if (tensor == model->positions) return ROWS_POSITIONS;
    const bool decoder = model->options.head == MRA_ROBERTA_MASKED;
    return tensor == model->tokens || (decoder && tensor == model->out.bias) ? ROWS_TOKENS
                                                                             : ROWS_EQUAL;
}

// Whether the model may start without this array.
static bool may_be_absent(const mra_roberta *model, const mra_parameter *parameter)
{
    const char *name = parameter->name;
    if (strncmp(name, "roberta.encoder.attention.", 26) == 0) return true;
    const char *own = strstr(name, ".attention.self.");
    if (own)
        return strncmp(own + 16, "query.", 6) != 0 && strncmp(own + 16, "key.", 4) != 0 &&
               strncmp(own + 16, "value.", 6) != 0;
    return model->options.head != MRA_ROBERTA_MASKED && strncmp(name, "roberta.", 8) != 0;
}

// The rows of a table that the file has, at most those that the model needs; 0 where they do not fit.
static int stored_rows(const mra_safetensor *stored, const mra_tensor *tensor, rows kind)
{
    if (!stored || stored->rank != tensor->rank || tensor->rank < 1 || stored->shape[0] < 1)
        return 0;
    for (int i = 1; i < tensor->rank; i++)
        if (stored->shape[i] != tensor->shape[i]) return 0;
    const int64_t have = stored->shape[0], want = tensor->shape[0];
    const int first = MRA_ROBERTA_FIRST_POSITION;
    if (have == want) return (int)have;
    if (kind == ROWS_TOKENS && have < want) return (int)have;
    if (kind != ROWS_POSITIONS || have <= first) return 0;
    if (have > want) return (int)want;
    return (want - first) % (have - first) == 0 ? (int)have : 0;
}

static void copy_positions(float *values, const mra_tensor *table, const float *stored,
                           int have)
{
    const int first = MRA_ROBERTA_FIRST_POSITION, span = have - first;
    const size_t width = (size_t)table->shape[1];
    for (int row = 0; row < table->shape[0]; row++) {
        const int from = row < have ? row : first + (row - first) % span;
        memcpy(values + (size_t)row * width, stored + (size_t)from * width,
               width * sizeof *values);
    }
}

// Fetches one parameter into `values`, which hold what the model has; *left counts what the file lacks.
static mra_status fetch(const mra_roberta *model, const mra_parameter *parameter,
                        const mra_safetensors *file, const char *path, float *values, int *left,
                        mra_error *err)
{
    const mra_tensor *tensor = parameter->tensor;
    const char *name = parameter->name;
    if (!mra_safetensors_find(file, name) && strcmp(name, "lm_head.bias") == 0)
        name = "lm_head.decoder.bias"; // as older versions wrote it
    const mra_safetensor *stored = mra_safetensors_find(file, name);
    if (!stored && may_be_absent(model, parameter)) {
        ++*left;
        return MRA_OK;
    }
    if (!stored) name = parameter->name;
    const rows kind = rows_of(model, tensor);
    const int have = stored_rows(stored, tensor, kind);
    int shape[MRA_MAX_RANK];
    memcpy(shape, tensor->shape, sizeof shape);
    if (have > 0) shape[0] = (int)stored->shape[0];
    const float *found;
    mra_status status =
        mra_safetensors_fetch(file, path, name, tensor->rank, shape, &found, err);
    if (status != MRA_OK) return status;
    if (kind == ROWS_POSITIONS) {
        copy_positions(values, tensor, found, have);
        return MRA_OK;
    }
    const size_t width = tensor->size / (size_t)tensor->shape[0];
    const size_t size = (size_t)have * width;
    memcpy(values, found, size * sizeof *values);
    if (kind == ROWS_TOKENS && tensor->rank == 1)
        memset(values + size, 0, (tensor->size - size) * sizeof *values);
    return MRA_OK;
}

mra_status mra_roberta_load(mra_roberta *model, const char *path, int *left, mra_error *err)
{
    mra_parameters *parameters = &model->parameters;
    int unwanted;
    if (!left) left = &unwanted;
    *left = 0;
    mra_safetensors *file;
    mra_status status = mra_safetensors_read(&file, path, err);
    if (status != MRA_OK) return status;
    float *values = malloc(parameters->size * sizeof *values), *at = values;
    status = values ? mra_parameters_to_host(parameters, values, err)
                    : mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    for (int i = 0; i < parameters->count && status == MRA_OK; i++) {
        status = fetch(model, &parameters->list[i], file, path, at, left, err);
        at += parameters->list[i].tensor->size;
    }
    if (status == MRA_OK) status = mra_parameters_from_host(parameters, values, err);
    free(values);
    mra_safetensors_free(file);
    return status;
}

// ---- Sizes ----------------------------------------------------------------------------------------

// The shape of a matrix of the file.
static mra_status matrix_of(const mra_safetensors *file, const char *path, const char *name,
                            int *rows, int *columns, mra_error *err)
{
    const mra_safetensor *stored = mra_safetensors_find(file, name);
    if (!stored || stored->rank != 2 || stored->shape[0] < 1 || stored->shape[1] < 1 ||
        stored->shape[0] > INT32_MAX || stored->shape[1] > INT32_MAX)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: %s is %s, expected a matrix: weights of RoBERTa", path, name,
                        stored ? "no matrix" : "not there");
    *rows = (int)stored->shape[0];
    *columns = (int)stored->shape[1];
    return MRA_OK;
}

static mra_status read_sizes(mra_roberta_options *options, const mra_safetensors *file,
                             const char *path, mra_error *err)
{
    mra_encoder_options *encoder = &options->encoder;
    char name[MRA_PARAMETER_NAME];
    int table = 0, width = 0;
    mra_status status = matrix_of(file, path, "roberta.embeddings.word_embeddings.weight",
                                  &encoder->vocabulary, &options->embedding, err);
    if (status == MRA_OK)
        status = matrix_of(file, path, "roberta.embeddings.position_embeddings.weight", &table,
                           &width, err);
    if (status == MRA_OK)
        status = matrix_of(file, path, "roberta.embeddings.token_type_embeddings.weight",
                           &options->types, &width, err);
    if (status == MRA_OK)
        status = matrix_of(file, path, "roberta.encoder.layer.0.attention.self.query.weight",
                           &encoder->head_dim, &encoder->dim, err);
    if (status == MRA_OK)
        status = matrix_of(file, path, "roberta.encoder.layer.0.intermediate.dense.weight",
                           &encoder->hidden, &width, err);
    if (status != MRA_OK) return status;
    encoder->positions = table - MRA_ROBERTA_FIRST_POSITION;
    for (encoder->blocks = 1; encoder->blocks < MRA_MAX_BLOCKS; encoder->blocks++) {
        snprintf(name, sizeof name, "roberta.encoder.layer.%d.attention.self.query.weight",
                 encoder->blocks);
        if (!mra_safetensors_find(file, name)) break;
    }
    return MRA_OK;
}

mra_status mra_roberta_sizes(mra_roberta_options *options, const char *path, mra_error *err)
{
    *options = mra_roberta_base();
    options->head = MRA_ROBERTA_CANDIDATES;
    options->encoder.heads = 1;
    options->encoder.dropout = 0;
    mra_safetensors *file;
    mra_status status = mra_safetensors_read(&file, path, err);
    if (status != MRA_OK) return status;
    status = read_sizes(options, file, path, err);
    mra_safetensors_free(file);
    return status;
}

// ---- Writing --------------------------------------------------------------------------------------

mra_status mra_roberta_save(const mra_roberta *model, const char *path, mra_error *err)
{
    const mra_parameters *parameters = &model->parameters;
    mra_safetensors *file = NULL;
    float *values = malloc(parameters->size * sizeof *values);
    mra_status status = values ? mra_parameters_to_host(parameters, values, err)
                               : mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    if (status == MRA_OK) status = mra_safetensors_create(&file, err);
    // What Hugging Face's reader looks for before it reads the arrays.
    if (status == MRA_OK) status = mra_safetensors_set(file, "format", "pt", err);
    if (status == MRA_OK) status = mra_parameters_store(parameters, "", values, file, err);
    if (status == MRA_OK) status = mra_safetensors_write(file, path, err);
    mra_safetensors_free(file);
    free(values);
    return status;
}
