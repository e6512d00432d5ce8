// RoBERTa's files: Hugging Face's names, round trips, models of other sizes, refusals.
#include "roberta_small.h"

#include <unistd.h>

static const char *scratch_path(const char *name)
{
    static char path[200];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/mra-roberta-%d-%s", folder ? folder : "/tmp", (int)getpid(),
             name);
    return path;
}

static void test_round_trip(void **state)
{
    (void)state;
    const mra_roberta_head heads[] = {MRA_ROBERTA_MASKED, MRA_ROBERTA_CLASSES,
                                      MRA_ROBERTA_CANDIDATES};
    for (int i = 0; i < 3; i++) {
        mra_roberta_options options = small_options(heads[i], 4);
        mra_error err;
        mra_roberta *model = make_model(&options);
        float *values = scatter(model, 1.0f);
        const char *path = scratch_path("weights.safetensors");
        if (mra_roberta_save(model, path, &err) != MRA_OK) fail_msg("%s", err.message);
        options.encoder.seed++;
        mra_roberta *again = make_model(&options);
        int left = -1;
        if (mra_roberta_load(again, path, &left, &err) != MRA_OK) fail_msg("%s", err.message);
        assert_int_equal(left, 0);
        float *read = malloc(again->parameters.size * sizeof *read);
        assert_int_equal(mra_parameters_to_host(&again->parameters, read, &err), MRA_OK);
        assert_memory_equal(read, values, model->parameters.size * sizeof *read);
        unlink(path);
        free(read);
        free(values);
        mra_roberta_free(model);
        mra_roberta_free(again);
    }
}

// The names of the published checkpoint, as its users know them.
static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "roberta.embeddings.word_embeddings.weight",
        "roberta.embeddings.position_embeddings.weight",
        "roberta.embeddings.token_type_embeddings.weight",
        "roberta.embeddings.LayerNorm.weight",
        "roberta.embeddings.LayerNorm.bias",
        "roberta.encoder.layer.1.attention.self.query.weight",
        "roberta.encoder.layer.1.attention.self.value.bias",
        "roberta.encoder.layer.0.attention.output.dense.weight",
        "roberta.encoder.layer.0.attention.output.LayerNorm.weight",
        "roberta.encoder.layer.0.intermediate.dense.bias",
        "roberta.encoder.layer.0.output.dense.weight",
        "roberta.encoder.layer.1.output.LayerNorm.bias",
        "lm_head.bias",
        "lm_head.dense.weight",
        "lm_head.layer_norm.bias"};
    const mra_roberta_options options = small_options(MRA_ROBERTA_MASKED, DIM);
    mra_roberta *model = make_model(&options);
    const mra_parameters *parameters = &model->parameters;
    assert_int_equal(parameters->count, 3 + 2 + BLOCKS * 16 + 5);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int found = 0;
        for (int k = 0; k < parameters->count; k++)
            found += strcmp(parameters->list[k].name, names[i]) == 0;
        if (found != 1) fail_msg("%s: found %d times", names[i], found);
    }
    mra_roberta_free(model);
}

// A masked model is the start of a longer one, of one with more tokens, and of a fine-tuned one.
static void test_other_sizes(void **state)
{
    (void)state;
    const mra_roberta_options options = small_options(MRA_ROBERTA_MASKED, 4);
    mra_error err;
    mra_roberta *model = make_model(&options);
    free(scatter(model, 1.0f));
    const char *path = scratch_path("start.safetensors");
    assert_int_equal(mra_roberta_save(model, path, &err), MRA_OK);

    mra_roberta_options other = options;
    other.encoder.positions = 3 * POSITIONS;
    other.encoder.vocabulary = VOCABULARY + 4;
    mra_roberta *longer = make_model(&other);
    if (mra_roberta_load(longer, path, NULL, &err) != MRA_OK) fail_msg("%s", err.message);
    const float *from = model->positions->data, *to = longer->positions->data;
    assert_memory_equal(to, from, 2 * 4 * sizeof *to);
    for (int i = 0; i < 3 * POSITIONS; i++)
        assert_memory_equal(to + (2 + i) * 4, from + (2 + i % POSITIONS) * 4, 4 * sizeof *to);
    assert_memory_equal(longer->tokens->data, model->tokens->data, VOCABULARY * 4 * sizeof *to);
    assert_memory_equal(longer->out.bias->data, model->out.bias->data, VOCABULARY * sizeof *to);
    for (int t = VOCABULARY; t < VOCABULARY + 4; t++) {
        assert_true(longer->out.bias->data[t] == 0);
        assert_true(longer->tokens->data[4 * t] != 0);
    }
    mra_roberta_free(longer);

    other = options;
    other.head = MRA_ROBERTA_CLASSES;
    other.encoder.positions = 4;
    strcpy(other.encoder.method, "linformer");
    strcpy(other.encoder.setting[0], "k=2");
    other.encoder.settings = 1;
    mra_roberta *tuned = make_model(&other);
    int left;
    if (mra_roberta_load(tuned, path, &left, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(left, BLOCKS + 4); // a projection a layer, and the head
    assert_memory_equal(tuned->positions->data, from, 6 * 4 * sizeof *from);
    mra_roberta_free(tuned);
    unlink(path);
    mra_roberta_free(model);
}

static void refuse_load(mra_roberta_options options, const char *path, const char *expected)
{
    mra_error err;
    mra_roberta *model = make_model(&options);
    const size_t bytes = model->parameters.size * sizeof(float);
    float *before = malloc(bytes), *after = malloc(bytes);
    assert_int_equal(mra_parameters_to_host(&model->parameters, before, &err), MRA_OK);
    assert_int_equal(mra_roberta_load(model, path, NULL, &err), MRA_BAD_INPUT);
    if (!strstr(err.message, path) || !strstr(err.message, expected))
        fail_msg("'%s' instead of %s: ... %s", err.message, path, expected);
    assert_int_equal(mra_parameters_to_host(&model->parameters, after, &(mra_error){0}),
                     MRA_OK);
    assert_memory_equal(before, after, bytes);
    free(before);
    free(after);
    mra_roberta_free(model);
}

static void test_refusals(void **state)
{
    (void)state;
    const mra_roberta_options options = small_options(MRA_ROBERTA_CLASSES, 4);
    mra_error err;
    mra_roberta *model = make_model(&options);
    char path[200];
    snprintf(path, sizeof path, "%s", scratch_path("tuned.safetensors"));
    assert_int_equal(mra_roberta_save(model, path, &err), MRA_OK);
    mra_roberta_options other = options;
    other.head = MRA_ROBERTA_MASKED;
    refuse_load(other, path, "no array lm_head.dense.weight; expected one of shape [4, 6]");
    other = options;
    other.embedding = 3;
    refuse_load(
        other, path,
        "array roberta.embeddings.word_embeddings.weight has shape [13, 4], expected [");
    other = options;
    other.encoder.vocabulary = VOCABULARY - 1;
    refuse_load(other, path, "word_embeddings.weight has shape [13, 4], expected [12, 4]");
    other = options;
    other.encoder.positions = 2 * POSITIONS + 1;
    refuse_load(other, path, "position_embeddings.weight has shape [11, 4], expected [21, 4]");
    other = options;
    other.encoder.blocks = 3;
    refuse_load(other, path,
                "no array roberta.encoder.layer.2.attention.output.LayerNorm.weight; expected");
    other = options;
    other.encoder.hidden = 8;
    refuse_load(other, path, "roberta.encoder.layer.0.intermediate.dense.weight has shape");
    other = options;
    other.types = 1;
    refuse_load(other, path, "token_type_embeddings.weight has shape [2, 4], expected [1, 4]");
    unlink(path);
    mra_roberta_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_names),
        cmocka_unit_test(test_other_sizes), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests_name("nn/roberta_file", tests, open_device, close_device);
}
