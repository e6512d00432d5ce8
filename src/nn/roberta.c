// RoBERTa: embeddings, post-norm encoder, heads.
//
// Token $t$ at place $i$ (from 0) is embedded as the sum of three rows, of the tokens' table, of the positions' and of the
// token types' (of which RoBERTa has one),
//
// $$ e_i = E_{t} + P_{i+2} + T_0, \qquad x_i = \mathrm{drop}(\mathrm{LN}(W e_i + b)), $$
//
// where the linear layer is there only if embeddings are narrower than the encoder: 50,265 rows of 384 would be five times
// the weights of the small encoder itself, of 128 they are as many (Lan et al., "ALBERT", ICLR 2020).
// Positions begin with 2 because RoBERTa counts them from the id of padding, 1: row 1 is that of padding, row 0 is never
// used. Sequences are padded at their ends and padding is masked, so that counting every place
// (as the published code does) and counting only tokens (as Hugging Face does) give the same to every token.
//
// The masked-token head predicts a token from the encoder's output $h$ at its place,
//
// $$ y = \mathrm{LN}(\mathrm{GELU}(W h + b)), \qquad \mathrm{logit}_t = \langle E_t, y \rangle + c_t, $$
//
// with the tokens' table as its decoder: one matrix in two places, whose gradients add up on the tape. The decoder is the dear part:
// with 15 % of tokens masked, logits for all of them would cost seven times what is needed, and 100 MB a sequence. The rows of the masked
// tokens are therefore gathered first. The published code computes all rows and multiplies
// the losses of the others by zero.
//
// Where this differs from the published code: that drops attention probabilities too in its exact attention (not in the other methods),
// here no method does; and its masked model and its MNLI classifier let tokens attend to padding,
// here padding is masked everywhere.

#include "nn/roberta.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static mra_roberta_options published_sizes(int blocks, int dim, int heads, int hidden,
                                           int embedding)
{
    return (mra_roberta_options){.encoder = {.vocabulary = 50265,
                                             .positions = 512,
                                             .dim = dim,
                                             .heads = heads,
                                             .head_dim = 64,
                                             .hidden = hidden,
                                             .blocks = blocks,
                                             .dropout = 0.1,
                                             .method = "exact"},
                                 .embedding = embedding,
                                 .types = 1};
}

mra_roberta_options mra_roberta_base(void)
{
    return published_sizes(12, 768, 12, 3072, 768);
}

mra_roberta_options mra_roberta_small(void)
{
    return published_sizes(4, 384, 6, 1536, 128);
}

// ---- Making it ------------------------------------------------------------------------------------

static mra_status check_options(const mra_roberta_options *options, mra_error *err)
{
    const mra_encoder_options *encoder = &options->encoder;
    if (encoder->vocabulary < 1 || options->embedding < 1 || options->types < 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "roberta: vocabulary %d, embedding %d, types %d: expected at least 1",
                        encoder->vocabulary, options->embedding, options->types);
    if (options->head == MRA_ROBERTA_CLASSES && options->classes < 2)
        return mra_fail(err, MRA_BAD_INPUT, "roberta: %d classes, expected at least 2",
                        options->classes);
    return MRA_OK;
}

static mra_status add_table(mra_roberta *model, mra_tensor **table, const char *name, int rows,
                            mra_error *err)
{
    return mra_parameters_add(&model->parameters, table, name, 2,
                              (int[]){rows, model->options.embedding}, MRA_INITIAL_NORMAL,
                              0.02f, err);
}

static mra_status create_embeddings(mra_roberta *model, mra_error *err)
{
    const mra_roberta_options *options = &model->options;
    const mra_encoder_options *encoder = &options->encoder;
    mra_status status =
        add_table(model, &model->tokens, "roberta.embeddings.word_embeddings.weight",
                  encoder->vocabulary, err);
    if (status == MRA_OK)
        status =
            add_table(model, &model->positions, "roberta.embeddings.position_embeddings.weight",
                      encoder->positions + MRA_ROBERTA_FIRST_POSITION, err);
    if (status == MRA_OK)
        status =
            add_table(model, &model->types, "roberta.embeddings.token_type_embeddings.weight",
                      options->types, err);
    if (status == MRA_OK && options->embedding != encoder->dim)
        status = mra_linear_layer_create(&model->project, &model->parameters,
                                         "roberta.embeddings.dense", options->embedding,
                                         encoder->dim, err);
    if (status == MRA_OK)
        status = mra_norm_layer_create(&model->norm, &model->parameters,
                                       "roberta.embeddings.LayerNorm", encoder->dim, err);
    return status;
}

// The bias of the decoder starts as that of any linear layer from `embedding`.
static mra_status create_masked_head(mra_roberta *model, mra_error *err)
{
    const mra_roberta_options *options = &model->options;
    const int width = options->embedding;
    mra_status status = mra_linear_layer_create(
        &model->dense, &model->parameters, "lm_head.dense", options->encoder.dim, width, err);
    if (status == MRA_OK)
        status = mra_norm_layer_create(&model->head_norm, &model->parameters,
                                       "lm_head.layer_norm", width, err);
    model->out.weight = model->tokens;
    if (status == MRA_OK)
        status = mra_parameters_add(&model->parameters, &model->out.bias, "lm_head.bias", 1,
                                    &options->encoder.vocabulary, MRA_INITIAL_UNIFORM,
                                    1.0f / sqrtf((float)width), err);
    return status;
}

static mra_status create_head(mra_roberta *model, mra_error *err)
{
    const mra_roberta_options *options = &model->options;
    const int dim = options->encoder.dim;
    if (options->head == MRA_ROBERTA_MASKED) return create_masked_head(model, err);
    if (options->head == MRA_ROBERTA_CANDIDATES)
        return mra_linear_layer_create(&model->out, &model->parameters, "qa_outputs", dim, 1,
                                       err);
    mra_status status = mra_linear_layer_create(&model->dense, &model->parameters,
                                                "classifier.dense", dim, dim, err);
    if (status == MRA_OK)
        status = mra_linear_layer_create(&model->out, &model->parameters, "classifier.out_proj",
                                         dim, options->classes, err);
    return status;
}

mra_status mra_roberta_create(mra_roberta **model, const mra_roberta_options *options,
                              mra_device *device, mra_error *err)
{
    *model = NULL;
    mra_status status = check_options(options, err);
    if (status != MRA_OK) return status;
    mra_roberta *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "roberta: no memory");
    made->options = *options;
    made->options.encoder.post_norm = true;
    mra_encoder_options encoder = made->options.encoder;
    encoder.vocabulary = 0; // embeddings are in here
    mra_parameters_open(&made->parameters, device, encoder.seed);
    status = create_embeddings(made, err);
    if (status == MRA_OK)
        status = mra_encoder_create(&made->encoder, &encoder, &made->parameters, err);
    if (status == MRA_OK) status = create_head(made, err);
    if (status != MRA_OK) {
        mra_roberta_free(made);
        return status;
    }
    mra_roberta_rename(&made->parameters);
    *model = made;
    return MRA_OK;
}

void mra_roberta_free(mra_roberta *model)
{
    if (!model) return;
    mra_encoder_free(model->encoder);
    mra_parameters_free(&model->parameters);
    free(model);
}

// ---- Embeddings and encoder -----------------------------------------------------------------------

// The rows of the table of positions that n tokens use: 2, 3, ...
static int32_t *number_positions(mra_tape *tape, int n)
{
    int32_t *row = mra_tape_alloc(tape, (size_t)n * sizeof *row);
    for (int i = 0; row && i < n; i++) row[i] = i + MRA_ROBERTA_FIRST_POSITION;
    return row;
}

mra_tensor *mra_roberta_hidden(mra_roberta *model, mra_tape *tape,
                               const mra_roberta_batch *batch)
{
    const mra_roberta_options *options = &model->options;
    const int count = batch->count, n = batch->n;
    if (n > options->encoder.positions)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "roberta: a sequence of %d tokens, at most %d", n,
                             options->encoder.positions);
    const size_t tokens = (size_t)count * (size_t)n;
    int32_t *row = number_positions(tape, n);
    int32_t *type = mra_tape_alloc(tape, (size_t)n * sizeof *type);
    if (!row || !type) return NULL;
    memset(type, 0, (size_t)n * sizeof *type);
    mra_tensor *x = mra_embedding(tape, model->tokens, batch->ids, tokens);
    x = mra_reshape(tape, x, 3, (int[]){count, n, options->embedding});
    x = mra_add_positions(tape, x, model->positions, row);
    x = mra_add_positions(tape, x, model->types, type);
    if (model->project.weight) x = mra_linear_layer_apply(&model->project, tape, x);
    x = mra_norm_layer_apply(&model->norm, tape, x);
    x = mra_dropout(tape, x, (float)options->encoder.dropout, 0);
    return mra_encoder_run(model->encoder, tape, x, batch->mask, count, n);
}

// ---- Heads ----------------------------------------------------------------------------------------

// Dropout of a head at its first (0) or second (1) site, after those of the blocks.
static mra_tensor *head_dropout(const mra_roberta *model, mra_tape *tape, mra_tensor *x,
                                uint32_t which)
{
    const mra_encoder_options *encoder = &model->options.encoder;
    return mra_dropout(tape, x, (float)encoder->dropout,
                       2 * (uint32_t)encoder->blocks + 1 + which);
}

// tanh by the softmax of two: tanh x = s - (1 - s) with s = 1 / (1 + exp(-2 x)). The heads that need it are small.
static mra_tensor *hyperbolic_tangent(mra_tape *tape, mra_tensor *x)
{
    if (!x) return NULL;
    const int rank = x->rank;
    int shape[MRA_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    mra_tensor *column = mra_reshape(tape, x, 2, (int[]){(int)x->size, 1});
    mra_tensor *parts[] = {column, mra_scale(tape, column, -1.0f)};
    mra_tensor *both = mra_softmax(tape, mra_concat(tape, parts, 2));
    mra_tensor *up = mra_columns(tape, both, 0, 1), *down = mra_columns(tape, both, 1, 1);
    return mra_reshape(tape, mra_add(tape, up, mra_scale(tape, down, -1.0f)), rank, shape);
}

// Rows `place` of x [count, n, dim] as [places, dim].
static mra_tensor *gather_rows(mra_tape *tape, mra_tensor *x, const int32_t *place, int places)
{
    if (!x) return NULL;
    const int rows = x->shape[0] * x->shape[1];
    x = mra_reshape(tape, x, 2, (int[]){rows, x->shape[2]});
    return mra_embedding(tape, x, place, (size_t)places);
}

static mra_tensor *masked_logits(mra_roberta *model, mra_tape *tape, mra_tensor *hidden,
                                 const mra_roberta_batch *batch)
{
    mra_tensor *y = gather_rows(tape, hidden, batch->place, batch->targets);
    y = mra_gelu(tape, mra_linear_layer_apply(&model->dense, tape, y));
    y = mra_norm_layer_apply(&model->head_norm, tape, y);
    return mra_linear_layer_apply(&model->out, tape, y);
}

static mra_tensor *class_logits(mra_roberta *model, mra_tape *tape, mra_tensor *hidden,
                                const mra_roberta_batch *batch)
{
    int32_t *first = mra_tape_alloc(tape, (size_t)batch->count * sizeof *first);
    if (!first) return NULL;
    for (int i = 0; i < batch->count; i++) first[i] = i * batch->n;
    mra_tensor *y = gather_rows(tape, hidden, first, batch->count);
    y = mra_linear_layer_apply(&model->dense, tape, head_dropout(model, tape, y, 0));
    y = head_dropout(model, tape, hyperbolic_tangent(tape, y), 1);
    return mra_linear_layer_apply(&model->out, tape, y);
}

static mra_tensor *candidate_logits(mra_roberta *model, mra_tape *tape, mra_tensor *hidden,
                                    const mra_roberta_batch *batch)
{
    const int shape[2] = {batch->count, batch->n};
    const size_t places = (size_t)batch->count * (size_t)batch->n;
    float *bar = mra_tape_alloc(tape, places * sizeof *bar);
    if (!bar) return NULL;
    for (size_t i = 0; i < places; i++) bar[i] = batch->candidate[i] ? 0.0f : -1e9f;
    float *there = mra_tape_upload(tape, bar, places * sizeof *bar);
    if (!there) return NULL;
    mra_tensor *score = mra_linear_layer_apply(&model->out, tape, hidden);
    score = mra_reshape(tape, score, 2, shape);
    return mra_add(tape, score, mra_wrap(tape, 2, shape, there, NULL));
}

mra_tensor *mra_roberta_logits(mra_roberta *model, mra_tape *tape,
                               const mra_roberta_batch *batch)
{
    mra_tensor *hidden = mra_roberta_hidden(model, tape, batch);
    switch (model->options.head) {
    case MRA_ROBERTA_MASKED:
        return masked_logits(model, tape, hidden, batch);
    case MRA_ROBERTA_CLASSES:
        return class_logits(model, tape, hidden, batch);
    case MRA_ROBERTA_CANDIDATES:
        return candidate_logits(model, tape, hidden, batch);
    }
    return NULL;
}

mra_tensor *mra_roberta_loss(mra_roberta *model, mra_tape *tape, const mra_roberta_batch *batch,
                             int *correct)
{
    mra_tensor *logits = mra_roberta_logits(model, tape, batch);
    return mra_cross_entropy(tape, logits, batch->label, correct);
}
