// Between the two files of `mra dump`: dump.c runs a network of `mra train` over its data, dump_text.c RoBERTa over a text.
#ifndef MRA_CLI_DUMP_H
#define MRA_CLI_DUMP_H

#include "cli/cli.h"
#include "core/record.h"
#include "nn/encoder.h"

typedef struct dump_arguments {
    mra_cli_common common;
    const char *split, *out, *text, *tokeniser;
    int64_t examples, length, heads;
} dump_arguments;

// Writes Q, K and V of all layers and heads of the encoder's last pass, over one sequence of n tokens, to
// out/example<i>-q.npy and so on: float16, [layers * heads, n, head_dim].
mra_status mra_dump_projections(const mra_encoder *encoder, const mra_encoder_options *options,
                                mra_device *device, const char *out, size_t example, int n,
                                mra_error *err);

// Runs the weights of RoBERTa in the file that is the operand over the text.
mra_status mra_dump_text(const dump_arguments *arguments, mra_record *record, mra_error *err);

#endif
