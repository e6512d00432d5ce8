// The settings of an encoder, [model] and [attention], shared by all tasks.
#ifndef MRA_NN_ENCODER_OPTIONS_H
#define MRA_NN_ENCODER_OPTIONS_H

#include "nn/encoder.h"
#include "nn/reading.h"

// Reads model.{dim, heads, head_dim, layers, hidden, dropout, positions}, with what `encoder` holds as fallbacks.
void mra_encoder_options_read(mra_reader *reader, mra_encoder_options *encoder);
// Reads attention.method (default exact) and every other key of that section, which are options of the method; it checks
// them when the network is made.
void mra_attention_options_read(mra_reader *reader, mra_encoder_options *encoder);
// The same settings as lines "section.key=value".
void mra_encoder_options_write(const mra_encoder_options *encoder, mra_writer *writer);
void mra_attention_options_write(const mra_encoder_options *encoder, mra_writer *writer);

#endif
