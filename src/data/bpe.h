// Byte-level byte-pair encoding, the tokeniser of RoBERTa (and before it of GPT-2: Radford et al.,
// "Language models are unsupervised multitask learners", 2019; byte-pair encoding of words:
// Sennrich, Haddow & Birch, ACL 2016).
//
//     mra_bpe *bpe;
//     status = mra_bpe_open(&bpe, "data/roberta-bpe", &err);   // vocab.json and merges.txt
//     mra_ids ids = {0};
//     status = mra_bpe_encode(bpe, text, bytes, &ids, &err);   // appends ids.count tokens
//     mra_ids_free(&ids);
//     mra_bpe_free(bpe);
//
// A tokeniser is immutable after opening; each thread encodes with its own.
#ifndef MRA_DATA_BPE_H
#define MRA_DATA_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct mra_bpe mra_bpe; // opaque

// A growing list of token ids; {0} is an empty one.
typedef struct mra_ids {
    int32_t *id; // owned
    size_t count, room;
} mra_ids;

void mra_ids_free(mra_ids *ids);
// Appends one id. MRA_NO_MEMORY.
mra_status mra_ids_add(mra_ids *ids, int32_t id, mra_error *err);

// Reads `folder`/vocab.json, an object of token: id with ids 0 .. size-1, and
// `folder`/merges.txt, one merge "left right" a line in the order of their ranks, with an
// optional first line "#version: ...". MRA_ABSENT: no such files, naming both; MRA_BAD_INPUT:
// a vocabulary that is no such object or lacks one of the 256 bytes or one of <s> <pad> </s> <unk>
// <mask>, a merge of something that is not in it (file, line).
mra_status mra_bpe_open(mra_bpe **bpe, const char *folder, mra_error *err);
void mra_bpe_free(mra_bpe *bpe);

// Appends the tokens of `bytes` bytes of text. Any bytes are allowed, also such that are not
// UTF-8, and mra_bpe_decode() gives back the same. No <s>, </s> or blank is put before or after:
// " Hello" and "Hello" are different tokens. What looks like a special token in the text is
// text. O(bytes log bytes). MRA_NO_MEMORY.
mra_status mra_bpe_encode(mra_bpe *bpe, const char *text, size_t bytes, mra_ids *ids,
                          mra_error *err);

// Writes the bytes of `count` tokens, at most `room` of them, and returns how many they are.
// Special tokens are written by their names. Ids are in [0, size).
size_t mra_bpe_decode(const mra_bpe *bpe, const int32_t *id, size_t count, char *text,
                      size_t room);

int mra_bpe_size(const mra_bpe *bpe); // of the vocabulary: 50265 for RoBERTa's

// The special tokens of RoBERTa.
typedef struct mra_bpe_special {
    int32_t begin, pad, end, unknown, mask; // <s> <pad> </s> <unk> <mask>
} mra_bpe_special;

mra_bpe_special mra_bpe_special_of(const mra_bpe *bpe);

#endif
