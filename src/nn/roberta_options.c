// The settings of RoBERTa.

#include "nn/roberta_options.h"

#include "core/progress.h"
#include "nn/encoder_options.h"

static const char *const size_names[] = {"small", "base", NULL};

void mra_roberta_settings_read(mra_reader *reader, mra_roberta_settings *settings,
                               uint64_t seed)
{
    mra_roberta_options *model = &settings->model;
    const bool base = mra_read_choice(reader, "model.size", size_names) == 1;
    *model = base ? mra_roberta_base() : mra_roberta_small();
    model->encoder.seed = seed;
    mra_encoder_options_read(reader, &model->encoder);
    model->embedding = (int)mra_read_int(reader, "model.embedding", model->embedding, 1, 8192);
    model->types = (int)mra_read_int(reader, "model.types", model->types, 1, 16);
    settings->init = mra_read_text(reader, "model.init", NULL);
    mra_attention_options_read(reader, &model->encoder);
}

void mra_roberta_settings_write(const mra_roberta_settings *settings, mra_writer *writer)
{
    const mra_roberta_options *model = &settings->model;
    mra_encoder_options_write(&model->encoder, writer);
    mra_write(writer, "model.embedding=%d\nmodel.types=%d\n", model->embedding, model->types);
    if (settings->init) mra_write(writer, "model.init=%s\n", settings->init);
    mra_attention_options_write(&model->encoder, writer);
}

mra_status mra_roberta_begin(mra_roberta **model, const mra_roberta_settings *settings,
                             mra_device *device, bool quiet, mra_error *err)
{
    mra_status status = mra_roberta_create(model, &settings->model, device, err);
    if (status != MRA_OK || !settings->init) return status;
    int left = 0;
    status = mra_roberta_load(*model, settings->init, &left, err);
    if (status != MRA_OK) {
        mra_roberta_free(*model);
        *model = NULL;
        return status;
    }
    mra_say(quiet, "%s: %d of %d arrays loaded, the others start at random", settings->init,
            (*model)->parameters.count - left, (*model)->parameters.count);
    return MRA_OK;
}
