// The encoder of all experiments: embeddings, then blocks of attention and a feed-forward net.
//
// The Long-Range Arena classifiers and the image classifier are pre-norm, RoBERTa (nn/roberta.h) is post-norm. A model
// with embeddings of another kind makes an encoder of vocabulary 0 and hands it vectors.
#ifndef MRA_NN_ENCODER_H
#define MRA_NN_ENCODER_H

#include <stdbool.h>
#include <stdint.h>

#include "attention/attention.h"
#include "core/error.h"
#include "nn/layers.h"
#include "tensor/tensor.h"

enum {
    MRA_MAX_BLOCKS = 48,
    MRA_ATTENTION_SETTINGS = MRA_METHOD_OPTIONS,
    MRA_HIDDEN_SITE = 2 * MRA_MAX_BLOCKS + 1
};

typedef struct mra_encoder_options {
    int vocabulary; // token ids are below this; 0: no embeddings in here (mra_encoder_run)
    int positions;  // the longest sequence (rows of the table of positions)
    int dim;        // width of the residual stream
    int heads, head_dim;
    int hidden; // width of the feed-forward net
    int blocks; // how many
    bool
        post_norm; // LayerNorm after each residual sum, none at the end; otherwise before, and at the end
    double dropout;
    double hidden_dropout; // of the feed-forward net's hidden units, after GELU
    uint64_t seed;         // of initial values and of attention methods that draw

    char method[40];                          // of attention (attention/attention.h)
    char setting[MRA_ATTENTION_SETTINGS][80]; // its options as "name=value"
    int settings;
} mra_encoder_options;

typedef struct mra_encoder mra_encoder; // opaque

// Adds its parameters ("encoder....") to `parameters`, which must live as long as the encoder; what the attention
// method learns is among them, "encoder.block0.attention.NAME" for each block or, where the method shares it
// between layers, "encoder.attention.NAME" once. Sizes that do not fit together and attention options that the
// method refuses are MRA_BAD_INPUT.
mra_status mra_encoder_create(mra_encoder **encoder, const mra_encoder_options *options,
                              mra_parameters *parameters, mra_error *err);
void mra_encoder_free(mra_encoder *encoder);

// Hidden states [batch, n, dim] of `ids` [batch, n] (host), zero at masked positions. `mask` [batch, n]: 1 for a
// token, 0 for padding; NULL for no padding. Both must live until the tape is reset.
mra_tensor *mra_encoder_apply(mra_encoder *encoder, mra_tape *tape, const int32_t *ids,
                              const uint8_t *mask, int batch, int n);
// The same from embeddings on: of x [batch, n, dim], to which the caller has applied its dropout (site 0; blocks draw
// at sites 1 to 2 blocks, and their hidden units at MRA_HIDDEN_SITE + block).
mra_tensor *mra_encoder_run(mra_encoder *encoder, mra_tape *tape, mra_tensor *x,
                            const uint8_t *mask, int batch, int n);

// Q (0), K (1) or V (2) of block `block` in the last pass, [batch, heads, n, head_dim]; valid until the tape is
// reset.
const mra_tensor *mra_encoder_projection(const mra_encoder *encoder, int block, int which);

#endif
