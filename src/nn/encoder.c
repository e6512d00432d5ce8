// The encoder of all experiments.
//
// The paper compares attention methods inside one fixed network, so that nothing but the attention differs. With
// $x_i$ the embedding of token $i$ plus the embedding of position $i$, both drawn from $N(0, 0.02^2)$, every
// block computes (pre-norm: the residual stream itself is never normalised)
//
// $$ x \leftarrow x + \mathrm{drop}(W_o\,\mathrm{Attention}(W_q \bar x, W_k \bar x, W_v \bar x)), \qquad
//    x \leftarrow x + \mathrm{drop}(W_2\,\mathrm{GELU}(W_1 \bar x)), $$
//
// where $\bar x$ is LayerNorm of $x$ at that place. (The published code drops entries after GELU too; `hidden_dropout`, which is
// 0 for the Long-Range Arena here.) After the last block comes one more LayerNorm, multiplied by
// the mask, so that padding leaves nothing behind.
//
// RoBERTa is older than the habit of normalising first. Its blocks are post-norm (Vaswani et al., 2017),
//
// $$ x \leftarrow \mathrm{LN}(x + \mathrm{drop}(W_o\,\mathrm{Attention}(W_q x, W_k x, W_v x))), \qquad
//    x \leftarrow \mathrm{LN}(x + \mathrm{drop}(W_2\,\mathrm{GELU}(W_1 x))), $$
//
// and nothing is left to normalise at the end. Both kinds have the same layers under the same names, so that one
// function serves either: it normalises where the options say.
//
// An attention layer is made for one shape (batch, n), because it holds workspace for it. Batches of sequences of
// different lengths come in several shapes, and each block therefore keeps a small cache of layers: the one for
// a shape is made when the shape is first seen and reused afterwards. A block needs layers of its own, since the
// backward pass returns to what the forward pass left in them. When the cache is full the layer
// that has been idle longest is given up.
//
// What an attention method learns belongs to the network, not to a layer that may be given up: it is made
// once, for the longest sequence, joins the list that the optimiser updates and a checkpoint stores, and
// is lent to the layers of every shape. Most of it is a block's own (`encoder.block0.attention.filter`); what
// a method shares between layers, as Linformer's $E$ in the published code, is there once
// (`encoder.attention.projection`), and the gradients of all blocks add up in it.

#include "nn/encoder.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHAPES_PER_BLOCK = 40 };

typedef struct attention_cache {
    mra_attention_layer *layer[SHAPES_PER_BLOCK];
    uint64_t last_use[SHAPES_PER_BLOCK];
    int count;
} attention_cache;

typedef struct encoder_block {
    mra_norm_layer attention_norm, feed_forward_norm;
    mra_linear_layer query, key, value, out, expand, contract;
    mra_tensor *learned[MRA_METHOD_PARAMETERS]; // what the attention method learns
    attention_cache attention;
    mra_tensor *projection[3]; // of the last pass
} encoder_block;

struct mra_encoder {
    mra_encoder_options options;
    mra_device *device;
    mra_tensor *tokens, *positions;
    mra_norm_layer final_norm;
    uint64_t passes; // the clock of the caches
    encoder_block block[MRA_MAX_BLOCKS];
};

// ---- Making it ------------------------------------------------------------------------------------

static mra_status check_options(const mra_encoder_options *options, mra_error *err)
{
    if (options->blocks < 1 || options->blocks > MRA_MAX_BLOCKS)
        return mra_fail(err, MRA_BAD_INPUT, "encoder: %d blocks, expected 1 to %d",
                        options->blocks, MRA_MAX_BLOCKS);
    if (options->vocabulary < 0)
        return mra_fail(err, MRA_BAD_INPUT, "encoder: vocabulary %d, expected 0 or more",
                        options->vocabulary);
    if (options->positions < 1 || options->dim < 1 || options->heads < 1 ||
        options->head_dim < 1 || options->hidden < 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "encoder: positions, dim, heads, head_dim and hidden must be at least "
                        "1");
    if (!(options->dropout >= 0 && options->dropout < 1))
        return mra_fail(err, MRA_BAD_INPUT, "encoder: dropout %g, expected 0 <= dropout < 1",
                        options->dropout);
    if (!(options->hidden_dropout >= 0 && options->hidden_dropout < 1))
        return mra_fail(err, MRA_BAD_INPUT,
                        "encoder: hidden_dropout %g, expected 0 <= hidden_dropout < 1",
                        options->hidden_dropout);
    return MRA_OK;
}

// One part of a block: `part` of block `index` as a linear layer from `in` to `out`.
static mra_status add_linear(mra_linear_layer *layer, mra_parameters *parameters, int index,
                             const char *part, int in, int out, mra_error *err)
{
    char name[MRA_PARAMETER_NAME];
    snprintf(name, sizeof name, "encoder.block%d.%s", index, part);
    return mra_linear_layer_create(layer, parameters, name, in, out, err);
}

static mra_status add_norm(mra_norm_layer *layer, mra_parameters *parameters, int index,
                           const char *part, int width, mra_error *err)
{
    char name[MRA_PARAMETER_NAME];
    snprintf(name, sizeof name, "encoder.block%d.%s", index, part);
    return mra_norm_layer_create(layer, parameters, name, width, err);
}

// What an attention layer of block `block` for batches of this shape is made from. `assignment` has room for
// MRA_ATTENTION_SETTINGS strings and is used as long as the request is.
static mra_attention_request request_attention(const mra_encoder *encoder, int block, int batch,
                                               int n, const char **assignment)
{
    const mra_encoder_options *options = &encoder->options;
    for (int i = 0; i < options->settings; i++) assignment[i] = options->setting[i];
    return (mra_attention_request){
        .method = options->method,
        .device = encoder->device,
        .shape = {.batch = batch, .heads = options->heads, .n = n, .d = options->head_dim},
        .seed = options->seed + (uint64_t)block,
        .assignments = assignment,
        .assignment_count = options->settings,
        .positions = options->positions,
        .parameters = encoder->block[block].learned};
}

// Adds one parameter of an attention method to the network, with its first values.
static mra_status add_learned(mra_tensor **tensor, mra_parameters *parameters, const char *name,
                              const mra_method_parameter *learned, uint64_t seed,
                              mra_error *err)
{
    mra_status status = mra_parameters_add(parameters, tensor, name, learned->rank,
                                           learned->shape, MRA_INITIAL_ZERO, 0, err);
    if (status != MRA_OK) return status;
    const size_t bytes = (*tensor)->size * sizeof(float);
    float *values = malloc(bytes);
    if (!values) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", name);
    mra_method_parameter_draw(learned, seed, values);
    status =
        parameters->device->to_device(parameters->device, (*tensor)->data, values, bytes, err);
    free(values);
    return status;
}

// Everything that the attention method of block `index` learns: the block's own, or, for what
// all layers share, that of the first block.
static mra_status add_attention(mra_encoder *encoder, mra_parameters *parameters, int index,
                                mra_error *err)
{
    const char *assignment[MRA_ATTENTION_SETTINGS];
    mra_method_parameter learned[MRA_METHOD_PARAMETERS];
    mra_tensor **own = encoder->block[index].learned;
    const mra_attention_request request =
        request_attention(encoder, index, 1, encoder->options.positions, assignment);
    int count;
    mra_status status = mra_attention_learned(&request, learned, &count, err);
    for (int i = 0; i < count && status == MRA_OK; i++) {
        char name[MRA_PARAMETER_NAME];
        const bool shared = learned[i].shared_by_layers;
        if (shared && index > 0) {
            own[i] = encoder->block[0].learned[i];
            continue;
        }
        if (shared)
            snprintf(name, sizeof name, "encoder.attention.%s", learned[i].name);
        else
            snprintf(name, sizeof name, "encoder.block%d.attention.%s", index, learned[i].name);
        status = add_learned(&own[i], parameters, name, &learned[i], request.seed, err);
    }
    return status;
}

static mra_status create_block(mra_encoder *encoder, mra_parameters *parameters, int index,
                               mra_error *err)
{
    const mra_encoder_options *options = &encoder->options;
    encoder_block *block = &encoder->block[index];
    int dim = options->dim, inner = options->heads * options->head_dim,
        hidden = options->hidden;
    mra_status status =
        add_norm(&block->attention_norm, parameters, index, "attention_norm", dim, err);
    if (status == MRA_OK)
        status = add_linear(&block->query, parameters, index, "query", dim, inner, err);
    if (status == MRA_OK)
        status = add_linear(&block->key, parameters, index, "key", dim, inner, err);
    if (status == MRA_OK)
        status = add_linear(&block->value, parameters, index, "value", dim, inner, err);
    if (status == MRA_OK) status = add_attention(encoder, parameters, index, err);
    if (status == MRA_OK)
        status = add_linear(&block->out, parameters, index, "out", inner, dim, err);
    if (status == MRA_OK)
        status = add_norm(&block->feed_forward_norm, parameters, index, "feed_forward_norm",
                          dim, err);
    if (status == MRA_OK)
        status = add_linear(&block->expand, parameters, index, "expand", dim, hidden, err);
    if (status == MRA_OK)
        status = add_linear(&block->contract, parameters, index, "contract", hidden, dim, err);
    return status;
}

static mra_status make_attention(const mra_encoder *encoder, int block, int batch, int n,
                                 mra_attention_layer **layer, mra_error *err)
{
    const char *assignment[MRA_ATTENTION_SETTINGS];
    const mra_attention_request request =
        request_attention(encoder, block, batch, n, assignment);
    return mra_attention_layer_make(layer, &request, err);
}

// Makes a layer for the longest sequence once and gives it back: what is wrong with the options shows now.
static mra_status try_attention(const mra_encoder *encoder, mra_error *err)
{
    mra_attention_layer *layer;
    mra_status status = make_attention(encoder, 0, 1, encoder->options.positions, &layer, err);
    if (status == MRA_OK) mra_attention_layer_free(layer);
    return status;
}

static mra_status create_embeddings(mra_encoder *encoder, mra_parameters *parameters,
                                    mra_error *err)
{
    const mra_encoder_options *options = &encoder->options;
    const int dim = options->dim;
    mra_status status =
        mra_parameters_add(parameters, &encoder->tokens, "encoder.tokens", 2,
                           (int[]){options->vocabulary, dim}, MRA_INITIAL_NORMAL, 0.02f, err);
    if (status != MRA_OK) return status;
    return mra_parameters_add(parameters, &encoder->positions, "encoder.positions", 2,
                              (int[]){options->positions, dim}, MRA_INITIAL_NORMAL, 0.02f, err);
}

mra_status mra_encoder_create(mra_encoder **encoder, const mra_encoder_options *options,
                              mra_parameters *parameters, mra_error *err)
{
    *encoder = NULL;
    mra_status status = check_options(options, err);
    if (status != MRA_OK) return status;
    mra_encoder *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "encoder: no memory");
    made->options = *options;
    made->device = parameters->device;
    if (options->vocabulary > 0) status = create_embeddings(made, parameters, err);
    for (int i = 0; i < options->blocks && status == MRA_OK; i++)
        status = create_block(made, parameters, i, err);
    if (status == MRA_OK && !options->post_norm)
        status = mra_norm_layer_create(&made->final_norm, parameters, "encoder.final_norm",
                                       options->dim, err);
    if (status == MRA_OK) status = try_attention(made, err);
    if (status == MRA_OK)
        *encoder = made;
    else
        mra_encoder_free(made);
    return status;
}

void mra_encoder_free(mra_encoder *encoder)
{
    if (!encoder) return;
    for (int i = 0; i < MRA_MAX_BLOCKS; i++)
        for (int k = 0; k < encoder->block[i].attention.count; k++)
            mra_attention_layer_free(encoder->block[i].attention.layer[k]);
    free(encoder);
}

// ---- Running it -----------------------------------------------------------------------------------

// The attention layer of a block for a shape, from its cache or made now. NULL stores the error in *err.
static mra_attention_layer *attention_for(mra_encoder *encoder, int block, int batch, int n,
                                          mra_error *err)
{
    attention_cache *cache = &encoder->block[block].attention;
    int idle = 0;
    for (int i = 0; i < cache->count; i++) {
        if (cache->layer[i]->shape.batch == batch && cache->layer[i]->shape.n == n) {
            cache->last_use[i] = encoder->passes;
            return cache->layer[i];
        }
        if (cache->last_use[i] < cache->last_use[idle]) idle = i;
    }
    mra_attention_layer *layer;
    if (make_attention(encoder, block, batch, n, &layer, err) != MRA_OK) return NULL;
    if (cache->count < SHAPES_PER_BLOCK)
        idle = cache->count++;
    else
        mra_attention_layer_free(cache->layer[idle]);
    cache->layer[idle] = layer;
    cache->last_use[idle] = encoder->passes;
    return layer;
}

// x + y after a LayerNorm, if blocks are post-norm.
static mra_tensor *add_residual(const mra_encoder *encoder, mra_tape *tape,
                                const mra_norm_layer *norm, mra_tensor *x, mra_tensor *y)
{
    mra_tensor *sum = mra_add(tape, x, y);
    return encoder->options.post_norm ? mra_norm_layer_apply(norm, tape, sum) : sum;
}

// What a layer is applied to: x, or its LayerNorm if blocks are pre-norm.
static mra_tensor *layer_input(const mra_encoder *encoder, mra_tape *tape,
                               const mra_norm_layer *norm, mra_tensor *x)
{
    return encoder->options.post_norm ? x : mra_norm_layer_apply(norm, tape, x);
}

// x + drop(W_o Attention(...)). Dropout sites: 0 is the embedding; block i has 2 i + 1 and 2 i + 2.
static mra_tensor *attend(mra_encoder *encoder, int index, mra_tape *tape, mra_tensor *x,
                          const uint8_t *mask, int batch, int n)
{
    encoder_block *block = &encoder->block[index];
    mra_error err;
    mra_attention_layer *layer = attention_for(encoder, index, batch, n, &err);
    if (!layer) return mra_tape_fail(tape, err.status, "%s", err.message);
    int heads = encoder->options.heads;
    mra_tensor *input = layer_input(encoder, tape, &block->attention_norm, x);
    mra_tensor *q = mra_linear_layer_apply(&block->query, tape, input);
    mra_tensor *k = mra_linear_layer_apply(&block->key, tape, input);
    mra_tensor *v = mra_linear_layer_apply(&block->value, tape, input);
    q = block->projection[0] = mra_split_heads(tape, q, heads);
    k = block->projection[1] = mra_split_heads(tape, k, heads);
    v = block->projection[2] = mra_split_heads(tape, v, heads);
    mra_tensor *z = mra_attention_apply(layer, tape, q, k, v, mask);
    z = mra_linear_layer_apply(&block->out, tape, mra_merge_heads(tape, z));
    z = mra_dropout(tape, z, (float)encoder->options.dropout, 2 * (uint32_t)index + 1);
    return add_residual(encoder, tape, &block->attention_norm, x, z);
}

// x + drop(W_2 GELU(W_1 ...)).
static mra_tensor *feed_forward(mra_encoder *encoder, int index, mra_tape *tape, mra_tensor *x)
{
    encoder_block *block = &encoder->block[index];
    mra_tensor *h = layer_input(encoder, tape, &block->feed_forward_norm, x);
    h = mra_gelu(tape, mra_linear_layer_apply(&block->expand, tape, h));
    h = mra_dropout(tape, h, (float)encoder->options.hidden_dropout,
                    MRA_HIDDEN_SITE + (uint32_t)index);
    h = mra_linear_layer_apply(&block->contract, tape, h);
    h = mra_dropout(tape, h, (float)encoder->options.dropout, 2 * (uint32_t)index + 2);
    return add_residual(encoder, tape, &block->feed_forward_norm, x, h);
}

static bool fits(const mra_encoder *encoder, mra_tape *tape, int n)
{
    const int positions = encoder->options.positions;
    if (n <= positions) return true;
    mra_tape_fail(tape, MRA_BAD_INPUT,
                  "encoder: a sequence of %d tokens, at most %d (positions)", n, positions);
    return false;
}

mra_tensor *mra_encoder_run(mra_encoder *encoder, mra_tape *tape, mra_tensor *x,
                            const uint8_t *mask, int batch, int n)
{
    if (!fits(encoder, tape, n)) return NULL;
    encoder->passes++;
    for (int i = 0; i < encoder->options.blocks; i++) {
        x = attend(encoder, i, tape, x, mask, batch, n);
        x = feed_forward(encoder, i, tape, x);
    }
    if (!encoder->options.post_norm) x = mra_norm_layer_apply(&encoder->final_norm, tape, x);
    return mra_apply_mask(tape, x, mask);
}

mra_tensor *mra_encoder_apply(mra_encoder *encoder, mra_tape *tape, const int32_t *ids,
                              const uint8_t *mask, int batch, int n)
{
    const mra_encoder_options *options = &encoder->options;
    if (!fits(encoder, tape, n)) return NULL;
    if (!encoder->tokens)
        return mra_tape_fail(tape, MRA_BAD_INPUT,
                             "encoder: token ids, but it was made without embeddings");
    mra_tensor *x = mra_embedding(tape, encoder->tokens, ids, (size_t)batch * (size_t)n);
    x = mra_reshape(tape, x, 3, (int[]){batch, n, options->dim});
    x = mra_add_positions(tape, x, encoder->positions, NULL);
    x = mra_dropout(tape, x, (float)options->dropout, 0);
    return mra_encoder_run(encoder, tape, x, mask, batch, n);
}

const mra_tensor *mra_encoder_projection(const mra_encoder *encoder, int block, int which)
{
    return encoder->block[block].projection[which];
}
