// mra dump of a file of weights and a text: sizes read from the file, and the first layer's queries, keys and values from the
// bytes of the text on, against a definition in float64.
#include "roberta_small.h"

#include <sys/wait.h>

#include "../core/scratch.h"
#include "../data/tokeniser.h"
#include "io/npy.h"

enum { LENGTH = 7, EXAMPLES = 2, SPAN = LENGTH - 2, WIDE = BYTES_SIZE + 3 };

static const char text[] = "Je pense, donc \xe2\x80\xa6"; // 17 bytes and more than needed

static mra_roberta *make_wide(void)
{
    mra_roberta_options options = small_options(MRA_ROBERTA_MASKED, DIM);
    options.encoder.vocabulary = WIDE;
    mra_roberta *model = make_model(&options);
    free(scatter(model, 0.5f));
    return model;
}

static const float *find(const mra_roberta *model, const char *name)
{
    static float *copy;
    mra_error err;
    free(copy);
    copy = NULL;
    for (int i = 0; i < model->parameters.count; i++) {
        const mra_tensor *tensor = model->parameters.list[i].tensor;
        if (strcmp(model->parameters.list[i].name, name) != 0) continue;
        copy = malloc(tensor->size * sizeof *copy);
        assert_int_equal(
            cpu->to_host(cpu, copy, tensor->data, tensor->size * sizeof *copy, &err), MRA_OK);
        return copy;
    }
    fail_msg("no parameter %s", name);
    return NULL;
}

// Adds row `row` of a table to x [DIM].
static void add_row(const mra_roberta *model, const char *name, int row, double *x)
{
    const float *table = find(model, name);
    for (int e = 0; e < DIM; e++) x[e] += table[row * DIM + e];
}

// What stands before the first layer: token `id` at position i, normalised.
static void embed(const mra_roberta *model, int id, int i, double *x)
{
    double mean = 0, variance = 0;
    memset(x, 0, DIM * sizeof *x);
    add_row(model, "roberta.embeddings.word_embeddings.weight", id, x);
    add_row(model, "roberta.embeddings.position_embeddings.weight", i + 2, x);
    add_row(model, "roberta.embeddings.token_type_embeddings.weight", 0, x);
    for (int e = 0; e < DIM; e++) mean += x[e] / DIM;
    for (int e = 0; e < DIM; e++) variance += (x[e] - mean) * (x[e] - mean) / DIM;
    const float *gain = find(model, "roberta.embeddings.LayerNorm.weight");
    for (int e = 0; e < DIM; e++) x[e] = (x[e] - mean) / sqrt(variance + 1e-5) * gain[e];
    add_row(model, "roberta.embeddings.LayerNorm.bias", 0, x);
}

// The id of position i of an example: <s>, bytes, </s>.
static int id_of(int example, int i)
{
    if (i == 0) return 0;
    return i == LENGTH - 1 ? 2 : BYTES_FIRST + (unsigned char)text[example * SPAN + i - 1];
}

static void check_arrays(const mra_roberta *model, int example, int which)
{
    static const char *const part[] = {"query", "key", "value"};
    char name[200];
    mra_npy array;
    mra_error err;
    snprintf(name, sizeof name, "out/example%d-%c.npy", example, "qkv"[which]);
    if (mra_npy_read_f32(&array, scratch_path(name), true, &err)) fail_msg("%s", err.message);
    assert_int_equal(array.rank, 3);
    assert_int_equal(array.shape[0], BLOCKS * HEADS);
    assert_int_equal(array.shape[1], LENGTH);
    assert_int_equal(array.shape[2], HEAD_DIM);
    const float *have = array.data;
    for (int i = 0; i < LENGTH; i++) {
        double x[DIM], want[INNER] = {0};
        embed(model, id_of(example, i), i, x);
        snprintf(name, sizeof name, "roberta.encoder.layer.0.attention.self.%s.weight",
                 part[which]);
        const float *w = find(model, name);
        for (int o = 0; o < INNER; o++)
            for (int e = 0; e < DIM; e++) want[o] += w[o * DIM + e] * x[e];
        snprintf(name, sizeof name, "roberta.encoder.layer.0.attention.self.%s.bias",
                 part[which]);
        const float *b = find(model, name);
        for (int o = 0; o < INNER; o++) {
            const double is = have[(o / HEAD_DIM * LENGTH + i) * HEAD_DIM + o % HEAD_DIM];
            // float16: 11 bits
            if (fabs(is - want[o] - b[o]) > 1e-3 * (1 + fabs(want[o] + b[o])))
                fail_msg("%s of example %d, token %d, entry %d: %g, expected %g", part[which],
                         example, i, o, is, want[o] + b[o]);
        }
    }
    mra_npy_free(&array);
}

// Runs mra dump with these arguments, in the scratch folder; what it says goes to said.txt.
static int dump(const char *arguments)
{
    char command[2000];
    snprintf(command, sizeof command, "cd %s && \"$MRA_BIN\" dump %s >said.txt 2>&1",
             scratch_folder, arguments);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void refuse(const char *arguments, const char *words)
{
    assert_int_equal(dump(arguments), 2);
    char *said = scratch_read(scratch_path("said.txt"), NULL);
    if (!strstr(said, words)) fail_msg("'%s', expected '%s'", said, words);
    free(said);
    assert_int_not_equal(access(scratch_path("bad"), F_OK), 0);
}

// Of the whole command line with these arguments more.
static void refuse_weights(const char *more, const char *words)
{
    char arguments[300];
    snprintf(arguments, sizeof arguments,
             "w.safetensors --out bad --tokeniser . --text text.txt --heads 2 %s", more);
    refuse(arguments, words);
}

static int set_up(void **state)
{
    if (scratch_make(state) != 0 || open_device(state) != MRA_OK) return -1;
    tokeniser_of_bytes(scratch_path("vocab.json"), scratch_path("merges.txt"));
    scratch_write_text("text.txt", text);
    return 0;
}

static int tear_down(void **state)
{
    close_device(state);
    return scratch_remove(state);
}

static void test_dump(void **state)
{
    (void)state;
    mra_error err;
    mra_roberta *model = make_wide();
    if (mra_roberta_save(model, scratch_path("w.safetensors"), &err))
        fail_msg("%s", err.message);
    assert_int_equal(dump("w.safetensors --text text.txt --tokeniser . --length 7 --examples 2 "
                          "--heads 2 --out out --quiet"),
                     0);
    for (int example = 0; example < EXAMPLES; example++)
        for (int which = 0; which < 3; which++) check_arrays(model, example, which);
    char *table = scratch_read(scratch_path("out/examples.tsv"), NULL);
    assert_string_equal(table, "example\tfirst_token\ttokens\n0\t0\t5\n1\t5\t5\n");
    free(table);
    assert_int_equal(access(scratch_path("out/run.json"), F_OK), 0);
    mra_roberta_free(model);
}

static void test_sizes(void **state)
{
    (void)state;
    for (int embedding = 4; embedding <= DIM; embedding += 2) {
        mra_error err;
        mra_roberta_options options = small_options(MRA_ROBERTA_CLASSES, embedding), found;
        mra_roberta *model = make_model(&options);
        const char *path = scratch_path("sizes.safetensors");
        if (mra_roberta_save(model, path, &err)) fail_msg("%s", err.message);
        if (mra_roberta_sizes(&found, path, &err)) fail_msg("%s", err.message);
        assert_int_equal(found.encoder.vocabulary, VOCABULARY);
        assert_int_equal(found.encoder.positions, POSITIONS);
        assert_int_equal(found.encoder.dim, DIM);
        assert_int_equal(found.encoder.hidden, HIDDEN);
        assert_int_equal(found.encoder.blocks, BLOCKS);
        assert_int_equal(found.encoder.heads * found.encoder.head_dim, INNER);
        assert_int_equal(found.embedding, embedding);
        assert_int_equal(found.types, 2);
        mra_roberta_free(model);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    mra_error err;
    mra_roberta *model = make_wide();
    mra_roberta_save(model, scratch_path("w.safetensors"), &err);
    mra_roberta_free(model);
    refuse_weights("--length 10", "3 to 9 tokens");
    refuse_weights("--length 9 --examples 3", "expected at least 21 for 3 examples");
    refuse_weights("--length 7 --split dev", "a text has no splits");
    refuse("w.safetensors --out bad --tokeniser . --text text.txt --length 7 --heads 3",
           "--heads that divides them");
    refuse("w.safetensors --out bad --tokeniser . --text none.txt --heads 2 --length 7",
           "none.txt");
    refuse("w.safetensors --out bad --text text.txt --length 7",
           "needs --text and --tokeniser");
    refuse("w.safetensors --out bad --tokeniser . --text text.txt --length 7",
           "expected --heads");
    refuse("run --out bad --heads 2 --length 7", "go with MODEL.safetensors");
    refuse("none.safetensors --out bad --tokeniser . --text text.txt --length 7",
           "none.safetensors");
    // A file of something else, and a tokeniser with more tokens than the network has.
    mra_roberta_options options = small_options(MRA_ROBERTA_MASKED, DIM);
    model = make_model(&options);
    mra_roberta_save(model, scratch_path("w.safetensors"), &err);
    mra_roberta_free(model);
    refuse_weights("--length 7", "a tokeniser of 261 tokens");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dump),
                                       cmocka_unit_test(test_sizes),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
