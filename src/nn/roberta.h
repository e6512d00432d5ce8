// RoBERTa (Liu et al., 2019) with any attention method: the masked language model, and the heads of its fine-tuning.
//
//     mra_roberta_options options = mra_roberta_small();   // or mra_roberta_base()
//     mra_roberta *model;
//     status = mra_roberta_create(&model, &options, device, &err);
//     status = mra_roberta_load(model, "roberta.safetensors", &left, &err);   // perhaps
//     mra_tensor *loss = mra_roberta_loss(model, tape, &batch, &correct);
//     mra_roberta_free(model);
#ifndef MRA_NN_ROBERTA_H
#define MRA_NN_ROBERTA_H

#include <stdint.h>

#include "nn/encoder.h"

// What stands on the encoder. With h_i [dim] the encoder's output at token i:
typedef enum mra_roberta_head {
    MRA_ROBERTA_MASKED,    // logits W_tokens LN(GELU(W h_i)) + bias at the masked tokens
    MRA_ROBERTA_CLASSES,   // logits W_2 drop(tanh(W_1 drop(h_0))) of the sequence (MNLI)
    MRA_ROBERTA_CANDIDATES // logit <w, h_i> + b of each candidate, a marked token i (WikiHop)
} mra_roberta_head;

// Rows of the table of positions before that of the first token: RoBERTa counts positions from its padding id, 1, on.
enum { MRA_ROBERTA_FIRST_POSITION = 2 };

typedef struct mra_roberta_options {
    // positions: tokens of the longest sequence (the table has MRA_ROBERTA_FIRST_POSITION rows more); post_norm is set
    // by mra_roberta_create().
    mra_encoder_options encoder;
    int embedding; // width of the embeddings and of the decoder; other than dim: a linear layer leads from it to dim
    int types;     // rows of the table of token types, of which all tokens use the first
    mra_roberta_head head;
    int classes; // MRA_ROBERTA_CLASSES
} mra_roberta_options;

// The published sizes (paper/published/roberta_methods.tsv) for 512 tokens, exact attention, dropout 0.1, vocabulary
// 50,265: base with 12 layers of 768, 12 heads of 64 and 3,072 hidden units, small with 4 of 384, 6 of 64, 1,536 and
// embeddings of 128.
mra_roberta_options mra_roberta_base(void);
mra_roberta_options mra_roberta_small(void);

typedef struct mra_roberta {
    mra_roberta_options options;
    mra_parameters
        parameters; // named as in Hugging Face's RoBERTa, "roberta.encoder.layer.0...."
    mra_encoder *encoder;
    mra_tensor *tokens, *positions, *types; // [vocabulary | positions + 2 | types, embedding]
    mra_linear_layer project;               // embedding -> dim, where they differ
    mra_norm_layer norm;                    // of the embeddings
    mra_linear_layer dense, out; // of the head; out without its own weight where tied
    mra_norm_layer head_norm;
} mra_roberta;

// Sequences of one shape, padded at their ends. Everything must live until the tape is reset.
typedef struct mra_roberta_batch {
    int count, n;
    const int32_t *ids;  // [count, n]
    const uint8_t *mask; // [count, n], 1 for a token; NULL: no padding
    // Masked tokens: `targets` of them, target t at flat position place[t] (row n + column), its token label[t]
    // (-1: not counted).
    int targets;
    const int32_t *place, *label;
    // Classes: label[count], the class (-1: not counted). Candidates: label[count], the column of the right
    // candidate, and candidate[count, n], 1 where a candidate stands.
    const uint8_t *candidate;
} mra_roberta_batch;

// Sizes that do not fit together are MRA_BAD_INPUT naming the field. `options` are copied.
mra_status mra_roberta_create(mra_roberta **model, const mra_roberta_options *options,
                              mra_device *device, mra_error *err);
void mra_roberta_free(mra_roberta *model);

// Hidden states [count, n, dim], zero at padding.
mra_tensor *mra_roberta_hidden(mra_roberta *model, mra_tape *tape,
                               const mra_roberta_batch *batch);
// Logits of the head: [targets, vocabulary], [count, classes], or [count, n] (candidates; -1e9 elsewhere).
mra_tensor *mra_roberta_logits(mra_roberta *model, mra_tape *tape,
                               const mra_roberta_batch *batch);
// Mean cross-entropy over the labels that count; *correct (may be NULL) receives how many are given the largest logit.
mra_tensor *mra_roberta_loss(mra_roberta *model, mra_tape *tape, const mra_roberta_batch *batch,
                             int *correct);

// Fills the model from a safetensors file with Hugging Face's names, of float32, float16 or bfloat16: weights of
// RobertaForMaskedLM and its fine-tuned kin, or what this suite has trained. The file's shapes must be the model's, except:
//
// - a table of positions for m tokens is repeated where n is a multiple of m (published: 4,096 from 512), and cut where n < m;
// - a vocabulary smaller than the model's fills the first rows; the other rows keep their initial values, and the decoder's bias
//   is 0 there (published: WikiHop adds four tokens);
// - what the attention method learns, and a head that is not the masked-token head, keep their initial values
//   where the file has none. *left receives how many parameters did (may be NULL).
//
// Anything else that is missing or of another shape is MRA_BAD_INPUT naming file, array and expected shape; the model is then
// unchanged. Arrays that the model has no use for are passed over.
mra_status mra_roberta_load(mra_roberta *model, const char *path, int *left, mra_error *err);
// The sizes of the model in such a file, from the shapes of its arrays, with exact attention and without dropout. How many
// heads there are no shape says: encoder.heads is 1 and encoder.head_dim the width of all of them together. The head is
// MRA_ROBERTA_CANDIDATES, which needs nothing of the file. MRA_BAD_INPUT names file and array.
mra_status mra_roberta_sizes(mra_roberta_options *options, const char *path, mra_error *err);
// Writes all parameters as float32 under the same names, atomically.
mra_status mra_roberta_save(const mra_roberta *model, const char *path, mra_error *err);
// Gives the encoder's parameters Hugging Face's names; mra_roberta_create() calls it.
void mra_roberta_rename(mra_parameters *parameters);

#endif
