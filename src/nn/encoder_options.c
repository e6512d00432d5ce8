// The settings of an encoder, [model] and [attention].

#include "nn/encoder_options.h"

#include <stdio.h>
#include <string.h>

void mra_encoder_options_read(mra_reader *reader, mra_encoder_options *encoder)
{
    encoder->dim = (int)mra_read_int(reader, "model.dim", encoder->dim, 1, 8192);
    encoder->heads = (int)mra_read_int(reader, "model.heads", encoder->heads, 1, 256);
    encoder->head_dim = (int)mra_read_int(reader, "model.head_dim", encoder->head_dim, 1, 256);
    encoder->blocks =
        (int)mra_read_int(reader, "model.layers", encoder->blocks, 1, MRA_MAX_BLOCKS);
    encoder->hidden = (int)mra_read_int(reader, "model.hidden", encoder->hidden, 1, 65536);
    encoder->dropout = mra_read_real(reader, "model.dropout", encoder->dropout, 0.0, 0.99);
    encoder->positions =
        (int)mra_read_int(reader, "model.positions", encoder->positions, 1, 1 << 20);
}

void mra_attention_options_read(mra_reader *reader, mra_encoder_options *encoder)
{
    const char *method = mra_read_text(reader, "attention.method", "exact");
    if (reader->status == MRA_OK && strlen(method) >= sizeof encoder->method)
        reader->status =
            mra_fail(reader->err, MRA_BAD_INPUT, "attention.method: %.60s is unknown", method);
    snprintf(encoder->method, sizeof encoder->method, "%.39s", method);
    encoder->settings = 0;
    const char prefix[] = "attention.";
    const char *key;
    for (size_t i = 0; reader->status == MRA_OK; i++) {
        if (!(key = mra_settings_key(reader->settings, i))) break;
        if (strncmp(key, prefix, strlen(prefix)) != 0 || strcmp(key, "attention.method") == 0)
            continue;
        const char *value = mra_read_text(reader, key, "");
        const int room = (int)sizeof encoder->setting[0];
        const bool full = encoder->settings == MRA_ATTENTION_SETTINGS;
        if (full || snprintf(encoder->setting[encoder->settings], (size_t)room, "%s=%s",
                             key + strlen(prefix), value) >= room)
            reader->status = mra_fail(reader->err, MRA_BAD_INPUT,
                                      "%s: at most %d options of an attention method, each of "
                                      "fewer than %d characters",
                                      key, MRA_ATTENTION_SETTINGS, room);
        encoder->settings++;
    }
}

void mra_encoder_options_write(const mra_encoder_options *encoder, mra_writer *writer)
{
    mra_write(writer, "model.dim=%d\nmodel.heads=%d\nmodel.head_dim=%d\n", encoder->dim,
              encoder->heads, encoder->head_dim);
    mra_write(writer, "model.layers=%d\nmodel.hidden=%d\n", encoder->blocks, encoder->hidden);
    mra_write(writer, "model.dropout=%.17g\nmodel.positions=%d\n", encoder->dropout,
              encoder->positions);
}

void mra_attention_options_write(const mra_encoder_options *encoder, mra_writer *writer)
{
    mra_write(writer, "attention.method=%s\n", encoder->method);
    for (int i = 0; i < encoder->settings; i++)
        mra_write(writer, "attention.%s\n", encoder->setting[i]);
}
