// RoBERTa against a float64 definition of it written down here, its gradients against central differences of that
// definition, entry by entry.
#include "roberta_small.h"

enum {
    BATCH = 3,
    N = 7,
    TARGETS = 5,
    MOST = TARGETS * VOCABULARY // logits of any head
};

// ---- The definition, with parameters found by the names of Hugging Face ---------------------------

typedef struct reference {
    const mra_roberta *model;
    const double *values; // of all parameters, one after another
    int embedding;
} reference;

static const double *find(const reference *r, const char *format, ...)
{
    char name[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    const double *at = r->values;
    const mra_parameters *parameters = &r->model->parameters;
    for (int i = 0; i < parameters->count; i++) {
        if (strcmp(parameters->list[i].name, name) == 0) return at;
        at += parameters->list[i].tensor->size;
    }
    fail_msg("no parameter %s", name);
    return NULL;
}

static void linear(const reference *r, const char *path, const double *x, int in, int out,
                   double *y)
{
    const double *w = find(r, "%s.weight", path), *b = find(r, "%s.bias", path);
    for (int o = 0; o < out; o++) {
        y[o] = b[o];
        for (int i = 0; i < in; i++) y[o] += w[o * in + i] * x[i];
    }
}

static void layer_linear(const reference *r, int layer, const char *part, const double *x,
                         int in, int out, double *y)
{
    char path[100];
    snprintf(path, sizeof path, "roberta.encoder.layer.%d.%s", layer, part);
    linear(r, path, x, in, out, y);
}

static void normalise(const reference *r, const char *path, int width, double *x)
{
    const double *gain = find(r, "%s.weight", path), *shift = find(r, "%s.bias", path);
    double mean = 0, variance = 0;
    for (int c = 0; c < width; c++) mean += x[c] / width;
    for (int c = 0; c < width; c++) variance += (x[c] - mean) * (x[c] - mean) / width;
    for (int c = 0; c < width; c++)
        x[c] = gain[c] * (x[c] - mean) / sqrt(variance + 1e-5) + shift[c];
}

static double gelu(double x)
{
    return x * 0.5 * erfc(-x / sqrt(2.0));
}

static void embed(const reference *r, const int32_t *ids, double x[N][DIM])
{
    const int width = r->embedding;
    const double *tokens = find(r, "roberta.embeddings.word_embeddings.weight");
    const double *positions = find(r, "roberta.embeddings.position_embeddings.weight");
    const double *types = find(r, "roberta.embeddings.token_type_embeddings.weight");
    for (int i = 0; i < N; i++) {
        double sum[DIM];
        for (int c = 0; c < width; c++)
            sum[c] = tokens[ids[i] * width + c] + positions[(i + 2) * width + c] + types[c];
        if (width == DIM)
            memcpy(x[i], sum, sizeof sum);
        else
            linear(r, "roberta.embeddings.dense", sum, width, DIM, x[i]);
        normalise(r, "roberta.embeddings.LayerNorm", DIM, x[i]);
    }
}

static void attend(const double *q, const double *k, const double *v, const uint8_t *mask,
                   double *z)
{
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < N; i++) {
            double weight[N], sum = 0;
            for (int j = 0; j < N; j++) {
                double dot = 0;
                for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++)
                    dot += q[i * INNER + c] * k[j * INNER + c];
                sum += weight[j] = mask[j] ? exp(dot / sqrt((double)HEAD_DIM)) : 0;
            }
            for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++) {
                z[i * INNER + c] = 0;
                for (int j = 0; j < N; j++)
                    z[i * INNER + c] += weight[j] / sum * v[j * INNER + c];
            }
        }
}

static void layer_pass(const reference *r, int layer, const uint8_t *mask, double x[N][DIM])
{
    double q[N * INNER], k[N * INNER], v[N * INNER], z[N * INNER], out[DIM], hidden[HIDDEN];
    char path[100];
    for (int i = 0; i < N; i++) {
        layer_linear(r, layer, "attention.self.query", x[i], DIM, INNER, q + i * INNER);
        layer_linear(r, layer, "attention.self.key", x[i], DIM, INNER, k + i * INNER);
        layer_linear(r, layer, "attention.self.value", x[i], DIM, INNER, v + i * INNER);
    }
    attend(q, k, v, mask, z);
    for (int i = 0; i < N; i++) {
        layer_linear(r, layer, "attention.output.dense", z + i * INNER, INNER, DIM, out);
        for (int c = 0; c < DIM; c++) x[i][c] += out[c];
        snprintf(path, sizeof path, "roberta.encoder.layer.%d.attention.output.LayerNorm",
                 layer);
        normalise(r, path, DIM, x[i]);
        layer_linear(r, layer, "intermediate.dense", x[i], DIM, HIDDEN, hidden);
        for (int c = 0; c < HIDDEN; c++) hidden[c] = gelu(hidden[c]);
        layer_linear(r, layer, "output.dense", hidden, HIDDEN, DIM, out);
        for (int c = 0; c < DIM; c++) x[i][c] += out[c];
        snprintf(path, sizeof path, "roberta.encoder.layer.%d.output.LayerNorm", layer);
        normalise(r, path, DIM, x[i]);
    }
}

static void token_logits(const reference *r, const double *h, double *logits)
{
    const int width = r->embedding;
    double y[DIM];
    linear(r, "lm_head.dense", h, DIM, width, y);
    for (int c = 0; c < width; c++) y[c] = gelu(y[c]);
    normalise(r, "lm_head.layer_norm", width, y);
    const double *tokens = find(r, "roberta.embeddings.word_embeddings.weight");
    const double *bias = find(r, "lm_head.bias");
    for (int t = 0; t < VOCABULARY; t++) {
        logits[t] = bias[t];
        for (int c = 0; c < width; c++) logits[t] += tokens[t * width + c] * y[c];
    }
}

// Logits as the model gives them (candidates: -1e9 where none stands); rows and columns of them.
static void reference_logits(const reference *r, const mra_roberta_batch *batch, double *logits,
                             int *rows, int *columns)
{
    static double x[BATCH][N][DIM];
    const mra_roberta_head head = r->model->options.head;
    for (int b = 0; b < BATCH; b++) {
        embed(r, batch->ids + b * N, x[b]);
        for (int layer = 0; layer < BLOCKS; layer++)
            layer_pass(r, layer, batch->mask + b * N, x[b]);
    }
    *rows = head == MRA_ROBERTA_MASKED ? TARGETS : BATCH;
    *columns = head == MRA_ROBERTA_MASKED    ? VOCABULARY
               : head == MRA_ROBERTA_CLASSES ? CLASSES
                                             : N;
    for (int row = 0; row < *rows; row++) {
        double *out = logits + row * *columns, y[DIM];
        if (head == MRA_ROBERTA_MASKED) {
            token_logits(r, x[batch->place[row] / N][batch->place[row] % N], out);
        } else if (head == MRA_ROBERTA_CLASSES) {
            linear(r, "classifier.dense", x[row][0], DIM, DIM, y);
            for (int c = 0; c < DIM; c++) y[c] = tanh(y[c]);
            linear(r, "classifier.out_proj", y, DIM, CLASSES, out);
        } else {
            for (int i = 0; i < N; i++) {
                linear(r, "qa_outputs", x[row][i], DIM, 1, &out[i]);
                if (!batch->candidate[row * N + i]) out[i] = -1e9;
            }
        }
    }
}

static double reference_loss(const reference *r, const mra_roberta_batch *batch)
{
    double logits[MOST], loss = 0;
    int rows, columns, counted = 0;
    reference_logits(r, batch, logits, &rows, &columns);
    for (int row = 0; row < rows; row++) {
        double sum = 0;
        if (batch->label[row] < 0) continue;
        for (int c = 0; c < columns; c++) sum += exp(logits[row * columns + c]);
        loss += log(sum) - logits[row * columns + batch->label[row]];
        counted++;
    }
    return loss / counted;
}

// Sequence b has N - b tokens; some of everything, a place twice among the masked ones and one label left out.
static mra_roberta_batch make_batch(mra_roberta_head head)
{
    static int32_t ids[BATCH * N], label[BATCH + TARGETS];
    static const int32_t place[TARGETS] = {2, 0, N + 5, 2 * N + 1, 2};
    static uint8_t mask[BATCH * N], candidate[BATCH * N];
    mra_random random = mra_random_open(test_seed(), 9);
    for (int i = 0; i < BATCH * N; i++) {
        mask[i] = i % N < N - i / N;
        ids[i] = mask[i] ? 2 + (int32_t)mra_random_below(&random, VOCABULARY - 2) : 1;
        candidate[i] = i % N == 1 || i % N == 3;
    }
    const int rows = head == MRA_ROBERTA_MASKED ? TARGETS : BATCH;
    for (int i = 0; i < rows; i++) {
        label[i] = (int32_t)mra_random_below(&random,
                                             head == MRA_ROBERTA_MASKED ? VOCABULARY : CLASSES);
        if (head == MRA_ROBERTA_CANDIDATES) label[i] = 1 + 2 * (label[i] % 2);
    }
    label[1] = -1;
    return (mra_roberta_batch){.count = BATCH,
                               .n = N,
                               .ids = ids,
                               .mask = mask,
                               .targets = TARGETS,
                               .place = place,
                               .label = label,
                               .candidate = candidate};
}

// ---- Values and gradients -------------------------------------------------------------------------

static void check_logits(const reference *r, const mra_roberta_batch *batch, mra_tape *tape)
{
    double expected[MOST];
    int rows, columns;
    reference_logits(r, batch, expected, &rows, &columns);
    mra_error err;
    mra_tape_mode(tape, false, false, 0, 0);
    mra_tensor *logits = mra_roberta_logits((mra_roberta *)r->model, tape, batch);
    if (mra_tape_status(tape, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(logits->size, rows * columns);
    for (int i = 0; i < rows * columns; i++)
        if (!(fabs((double)logits->data[i] - expected[i]) <= 1e-4 * (1 + fabs(expected[i]))))
            fail_msg("logit %d: %.9g, expected %.9g", i, (double)logits->data[i], expected[i]);
    mra_tape_reset(tape);
}

static void check_gradients(const reference *r, double *values, const mra_roberta_batch *batch)
{
    size_t at = 0;
    for (int p = 0; p < r->model->parameters.count; p++) {
        const mra_parameter *parameter = &r->model->parameters.list[p];
        double largest = 0, worst = 0;
        for (size_t i = 0; i < parameter->tensor->size; i++) {
            const double kept = values[at + i], step = 1e-5;
            values[at + i] = kept + step;
            const double above = reference_loss(r, batch);
            values[at + i] = kept - step;
            const double below = reference_loss(r, batch);
            values[at + i] = kept;
            const double expected = (above - below) / (2 * step);
            largest = fmax(largest, fabs(expected));
            worst = fmax(worst, fabs((double)parameter->tensor->grad[i] - expected));
        }
        if (!(worst <= 1e-4 * largest + 5e-6))
            fail_msg("%s: gradient is off by %g, its largest entry is %g", parameter->name,
                     worst, largest);
        at += parameter->tensor->size;
    }
}

static void check_head(mra_roberta_head head, int embedding)
{
    const mra_roberta_options options = small_options(head, embedding);
    const mra_roberta_batch batch = make_batch(head);
    mra_error err;
    mra_tape *tape;
    mra_roberta *model = make_model(&options);
    float *values = scatter(model, 0.4f);
    double *exact = malloc(model->parameters.size * sizeof *exact);
    for (size_t i = 0; i < model->parameters.size; i++) exact[i] = (double)values[i];
    const reference r = {model, exact, embedding};
    assert_int_equal(mra_tape_create(&tape, cpu, &err), MRA_OK);
    check_logits(&r, &batch, tape);
    mra_tape_mode(tape, true, true, 3, 0);
    int correct;
    mra_tensor *loss = mra_roberta_loss(model, tape, &batch, &correct);
    if (mra_tape_backward(tape, loss, &err) != MRA_OK) fail_msg("%s", err.message);
    const double expected = reference_loss(&r, &batch);
    assert_true(fabs((double)loss->data[0] - expected) <= 1e-4 * (1 + fabs(expected)));
    check_gradients(&r, exact, &batch);
    mra_tape_free(tape);
    mra_roberta_free(model);
    free(values);
    free(exact);
}

static void test_masked(void **state)
{
    (void)state;
    check_head(MRA_ROBERTA_MASKED, DIM);
}

static void test_masked_factorised(void **state)
{
    (void)state;
    check_head(MRA_ROBERTA_MASKED, 4);
}

static void test_classes(void **state)
{
    (void)state;
    check_head(MRA_ROBERTA_CLASSES, 4);
}

static void test_candidates(void **state)
{
    (void)state;
    check_head(MRA_ROBERTA_CANDIDATES, DIM);
}

// What stands at padding is nobody's business.
static void test_padding(void **state)
{
    (void)state;
    const mra_roberta_options options = small_options(MRA_ROBERTA_MASKED, 4);
    mra_roberta_batch batch = make_batch(MRA_ROBERTA_MASKED);
    mra_error err;
    mra_tape *tape;
    mra_roberta *model = make_model(&options);
    assert_int_equal(mra_tape_create(&tape, cpu, &err), MRA_OK);
    mra_tape_mode(tape, false, false, 0, 0);
    float kept[TARGETS * VOCABULARY];
    mra_tensor *logits = mra_roberta_logits(model, tape, &batch);
    memcpy(kept, logits->data, sizeof kept);
    mra_tape_reset(tape);
    int32_t ids[BATCH * N];
    for (int i = 0; i < BATCH * N; i++) ids[i] = batch.mask[i] ? batch.ids[i] : 7;
    batch.ids = ids;
    logits = mra_roberta_logits(model, tape, &batch);
    assert_memory_equal(kept, logits->data, sizeof kept);
    mra_tape_free(tape);
    mra_roberta_free(model);
}

static void refuse_options(mra_roberta_options options, const char *expected)
{
    mra_error err;
    mra_roberta *model;
    assert_int_equal(mra_roberta_create(&model, &options, cpu, &err), MRA_BAD_INPUT);
    assert_null(model);
    assert_non_null(strstr(err.message, expected));
}

static void test_options(void **state)
{
    (void)state;
    mra_roberta_options options = small_options(MRA_ROBERTA_CLASSES, 4);
    options.classes = 1;
    refuse_options(options, "1 classes");
    options = small_options(MRA_ROBERTA_MASKED, 0);
    refuse_options(options, "embedding 0");
    options = small_options(MRA_ROBERTA_MASKED, 4);
    options.encoder.heads = 0;
    refuse_options(options, "heads");
    const mra_roberta_options base = mra_roberta_base(), small = mra_roberta_small();
    assert_int_equal(base.encoder.blocks * base.encoder.dim + base.embedding, 12 * 768 + 768);
    assert_int_equal(small.encoder.heads * small.encoder.head_dim, small.encoder.dim);
    assert_int_equal(small.encoder.vocabulary, 50265);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masked),  cmocka_unit_test(test_masked_factorised),
        cmocka_unit_test(test_classes), cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_padding), cmocka_unit_test(test_options)};
    return cmocka_run_group_tests_name("nn/roberta", tests, open_device, close_device);
}
