// The whole network against a float64 definition of it, and its gradient against central differences of that
// definition, entry by entry over every parameter.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "nn/classifier.h"
#include "nn/evaluate.h"

enum {
    VOCABULARY = 11,
    POSITIONS = 9,
    DIM = 6,
    HEADS = 2,
    HEAD_DIM = 4,
    INNER = HEADS * HEAD_DIM,
    HIDDEN = 10,
    BLOCKS = 2,
    CLASSES = 3,
    BATCH = 3,
    N = 7,
    ROWS = 3 // of Linformer's projections
};

// ---- The definition -------------------------------------------------------------------------------

// Finds parameters by name in a flat copy of all values.
typedef struct reference {
    const mra_parameters *parameters;
    const double *values;
    mra_pooling pooling;
    const char *projection; // Linformer's, by name with %d for the block; NULL: exact attention
    bool pairs;
} reference;

static const double *find(const reference *r, const char *format, int block, const char *part)
{
    char name[100];
    snprintf(name, sizeof name, format, block, part);
    const double *at = r->values;
    for (int i = 0; i < r->parameters->count; i++) {
        if (strcmp(r->parameters->list[i].name, name) == 0) return at;
        at += r->parameters->list[i].tensor->size;
    }
    fail_msg("no parameter %s", name);
    return NULL;
}

static void linear(const double *w, const double *b, const double *x, int in, int out,
                   double *y)
{
    for (int o = 0; o < out; o++) {
        y[o] = b[o];
        for (int i = 0; i < in; i++) y[o] += w[o * in + i] * x[i];
    }
}

static void part_linear(const reference *r, int block, const char *part, const double *x,
                        int in, int out, double *y)
{
    char weight[60], bias[60];
    snprintf(weight, sizeof weight, "%s.weight", part);
    snprintf(bias, sizeof bias, "%s.bias", part);
    const char *format = block < 0 ? "head.%2$s" : "encoder.block%d.%s";
    linear(find(r, format, block, weight), find(r, format, block, bias), x, in, out, y);
}

static void normalise(const double *gain, const double *shift, const double *x, double *y)
{
    double mean = 0, variance = 0;
    for (int c = 0; c < DIM; c++) mean += x[c] / DIM;
    for (int c = 0; c < DIM; c++) variance += (x[c] - mean) * (x[c] - mean) / DIM;
    for (int c = 0; c < DIM; c++)
        y[c] = gain[c] * (x[c] - mean) / sqrt(variance + 1e-5) + shift[c];
}

// z += Attention over one sequence; q and z are [N][INNER], k and v [keys][INNER].
static void attention(const double *q, const double *k, const double *v, const uint8_t *mask,
                      int keys, const uint8_t *key_mask, double *z)
{
    for (int h = 0; h < HEADS; h++) {
        for (int i = 0; i < N; i++) {
            double weight[N], sum = 0;
            for (int j = 0; j < keys; j++) {
                double dot = 0;
                for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++)
                    dot += q[i * INNER + c] * k[j * INNER + c];
                weight[j] = mask[i] && key_mask[j] ? exp(dot / sqrt((double)HEAD_DIM)) : 0;
                sum += weight[j];
            }
            for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++) {
                z[i * INNER + c] = 0;
                for (int j = 0; j < keys && sum > 0; j++)
                    z[i * INNER + c] += weight[j] / sum * v[j * INNER + c];
            }
        }
    }
}

// What one head's projection E [ROWS, POSITIONS] makes of x [N][INNER], in place: rows from ROWS
// on are left over.
static void project(const double *e, const uint8_t *mask, int h, double *x)
{
    for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++) {
        double mixed[ROWS] = {0};
        for (int m = 0; m < ROWS; m++)
            for (int j = 0; j < N; j++)
                if (mask[j]) mixed[m] += e[m * POSITIONS + j] * x[j * INNER + c];
        for (int m = 0; m < ROWS; m++) x[m * INNER + c] = mixed[m];
    }
}

static void block_pass(const reference *r, int block, const uint8_t *mask, double x[N][DIM])
{
    static double q[N * INNER], k[N * INNER], v[N * INNER], z[N * INNER];
    double bar[DIM], out[DIM], hidden[HIDDEN];
    const char *path = "encoder.block%d.%s";
    for (int i = 0; i < N; i++) {
        normalise(find(r, path, block, "attention_norm.gain"),
                  find(r, path, block, "attention_norm.shift"), x[i], bar);
        part_linear(r, block, "query", bar, DIM, INNER, q + i * INNER);
        part_linear(r, block, "key", bar, DIM, INNER, k + i * INNER);
        part_linear(r, block, "value", bar, DIM, INNER, v + i * INNER);
    }
    if (r->projection) {
        static const uint8_t all[ROWS] = {1, 1, 1};
        const double *e = find(r, r->projection, block, "");
        for (int h = 0; h < HEADS; h++) {
            project(e + h * ROWS * POSITIONS, mask, h, k);
            project(e + h * ROWS * POSITIONS, mask, h, v);
        }
        attention(q, k, v, mask, ROWS, all, z);
    } else {
        attention(q, k, v, mask, N, mask, z);
    }
    for (int i = 0; i < N; i++) {
        part_linear(r, block, "out", z + i * INNER, INNER, DIM, out);
        for (int c = 0; c < DIM; c++) x[i][c] += out[c];
        normalise(find(r, path, block, "feed_forward_norm.gain"),
                  find(r, path, block, "feed_forward_norm.shift"), x[i], bar);
        part_linear(r, block, "expand", bar, DIM, HIDDEN, hidden);
        for (int c = 0; c < HIDDEN; c++) hidden[c] *= 0.5 * (1 + erf(hidden[c] / sqrt(2.0)));
        part_linear(r, block, "contract", hidden, HIDDEN, DIM, out);
        for (int c = 0; c < DIM; c++) x[i][c] += out[c];
    }
}

// The mean of one sequence.
static void sequence_mean(const reference *r, const int32_t *ids, const uint8_t *mask,
                          double pooled[DIM])
{
    double x[N][DIM], bar[DIM];
    memset(pooled, 0, DIM * sizeof *pooled);
    const double *tokens = find(r, "encoder.tokens", 0, "");
    const double *positions = find(r, "encoder.positions", 0, "");
    for (int i = 0; i < N; i++)
        for (int c = 0; c < DIM; c++)
            x[i][c] = tokens[ids[i] * DIM + c] + positions[i * DIM + c];
    for (int block = 0; block < BLOCKS; block++) block_pass(r, block, mask, x);
    int count = 0;
    for (int i = 0; i < N; i++) count += mask[i];
    for (int i = 0; i < N; i++) {
        if (!mask[i]) continue;
        normalise(find(r, "encoder.final_norm.gain", 0, ""),
                  find(r, "encoder.final_norm.shift", 0, ""), x[i], bar);
        for (int c = 0; c < DIM; c++)
            pooled[c] += bar[c] / (r->pooling == MRA_POOL_ALL ? POSITIONS : count);
    }
}

// Logits of one sequence, or of the pair that begins with it.
static void example_logits(const reference *r, const int32_t *ids, const uint8_t *mask,
                           double *logits)
{
    double pooled[4 * DIM], hidden[HIDDEN];
    sequence_mean(r, ids, mask, pooled);
    if (r->pairs) sequence_mean(r, ids + N, mask + N, pooled + DIM);
    for (int c = 0; c < DIM && r->pairs; c++) {
        pooled[2 * DIM + c] = pooled[c] * pooled[DIM + c];
        pooled[3 * DIM + c] = pooled[c] - pooled[DIM + c];
    }
    part_linear(r, -1, "expand", pooled, r->pairs ? 4 * DIM : DIM, HIDDEN, hidden);
    for (int c = 0; c < HIDDEN; c++) hidden[c] = hidden[c] > 0 ? hidden[c] : 0;
    part_linear(r, -1, "contract", hidden, HIDDEN, CLASSES, logits);
}

static double reference_loss(const reference *r, const mra_batch *batch, double *logits)
{
    double loss = 0;
    int labelled = 0;
    for (int b = 0; b < BATCH; b++) {
        double *row = logits + b * CLASSES, sum = 0;
        const int at = b * (r->pairs ? 2 : 1) * N;
        example_logits(r, batch->ids + at, batch->mask + at, row);
        if (batch->labels[b] < 0) continue;
        for (int c = 0; c < CLASSES; c++) sum += exp(row[c]);
        loss += log(sum) - row[batch->labels[b]];
        labelled++;
    }
    return loss / labelled;
}

// ---- The comparison -------------------------------------------------------------------------------

static mra_classifier_options small_options(mra_pooling pooling, uint64_t seed,
                                            const char *variant)
{
    mra_classifier_options options = {.classes = CLASSES, .pooling = pooling};
    options.encoder = (mra_encoder_options){.vocabulary = VOCABULARY,
                                            .positions = POSITIONS,
                                            .dim = DIM,
                                            .heads = HEADS,
                                            .head_dim = HEAD_DIM,
                                            .hidden = HIDDEN,
                                            .blocks = BLOCKS,
                                            .seed = seed,
                                            .method = "exact"};
    if (variant) {
        strcpy(options.encoder.method, "linformer");
        snprintf(options.encoder.setting[0], sizeof options.encoder.setting[0], "k=%d", ROWS);
        snprintf(options.encoder.setting[1], sizeof options.encoder.setting[1], "variant=%s",
                 variant);
        options.encoder.settings = 2;
    }
    return options;
}

// Random ids; sequence b of 0 .. 2 BATCH - 1 has N - b tokens; the last example is not labelled if `filling`.
static void make_batch(mra_batch *batch, uint64_t seed, bool filling)
{
    static int32_t ids[2 * BATCH * N], labels[BATCH];
    static uint8_t mask[2 * BATCH * N];
    mra_random random = mra_random_open(seed, 9);
    for (int i = 0; i < 2 * BATCH * N; i++) {
        mask[i] = i % N < N - i / N;
        ids[i] = mask[i] ? 1 + (int32_t)mra_random_below(&random, 10) : 0;
    }
    for (int b = 0; b < BATCH; b++)
        labels[b] =
            filling && b == BATCH - 1 ? -1 : (int32_t)mra_random_below(&random, CLASSES);
    *batch = (mra_batch){BATCH, N, ids, mask, labels};
}

// Gives every parameter values of order one, so that no path through the network is nearly closed.
static void scatter_parameters(mra_classifier *model, float *values, uint64_t seed)
{
    mra_error err;
    mra_parameters_to_host(&model->parameters, values, &err);
    mra_random random = mra_random_open(seed, 1);
    for (size_t i = 0; i < model->parameters.size; i++)
        values[i] += 0.4f * (float)mra_random_normal(&random);
    mra_parameters_from_host(&model->parameters, values, &err);
}

static void check_gradients(const mra_classifier *model, reference *r, double *values,
                            const mra_batch *batch)
{
    double logits[BATCH * CLASSES];
    size_t at = 0;
    for (int p = 0; p < model->parameters.count; p++) {
        const mra_parameter *parameter = &model->parameters.list[p];
        double largest = 0, worst = 0;
        for (size_t i = 0; i < parameter->tensor->size; i++) {
            double kept = values[at + i], step = 1e-5;
            values[at + i] = kept + step;
            double above = reference_loss(r, batch, logits);
            values[at + i] = kept - step;
            double below = reference_loss(r, batch, logits);
            values[at + i] = kept;
            double expected = (above - below) / (2 * step);
            largest = fmax(largest, fabs(expected));
            worst = fmax(worst, fabs((double)parameter->tensor->grad[i] - expected));
        }
        // A projection mixes tokens before the exponential, and rounding grows with it.
        if (!(worst <= (r->projection ? 2e-4 : 2e-5) * largest + 2e-6))
            fail_msg("%s: gradient is off by %g, its largest entry is %g", parameter->name,
                     worst, largest);
        at += parameter->tensor->size;
    }
}

static void check_model(mra_pooling pooling, uint64_t seed, bool filling, const char *variant)
{
    mra_error err;
    mra_device *device;
    mra_classifier *model;
    mra_tape *tape;
    mra_batch batch;
    const bool pairs = variant && strcmp(variant, "pairs") == 0;
    if (pairs) variant = NULL;
    mra_classifier_options options = small_options(pooling, seed, variant);
    options.pairs = pairs;
    assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
    assert_int_equal(mra_classifier_create(&model, &options, device, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    size_t size = model->parameters.size;
    float *values = calloc(size, sizeof *values);
    double *exact = calloc(size, sizeof *exact), expected[BATCH * CLASSES];
    scatter_parameters(model, values, seed);
    for (size_t i = 0; i < size; i++) exact[i] = (double)values[i];
    make_batch(&batch, seed, filling);
    reference r = {&model->parameters, exact, pooling,
                   !variant                            ? NULL
                   : strcmp(variant, "published") == 0 ? "encoder.attention.projection"
                                                       : "encoder.block%d.attention.projection",
                   pairs};
    double expected_loss = reference_loss(&r, &batch, expected);

    mra_tape_mode(tape, true, true, 1, 1);
    int correct = -1, expected_correct = 0;
    float loss = 0;
    mra_tensor *output = mra_classifier_loss(model, tape, &batch, &correct);
    assert_int_equal(mra_tape_value(tape, output, &loss, &err), MRA_OK);
    assert_true(fabs((double)loss - expected_loss) <= 1e-5 * (1 + expected_loss));
    for (int b = 0; b < BATCH; b++) {
        const double *row = expected + b * CLASSES;
        int best = row[1] > row[0] ? 1 : 0;
        if (row[2] > row[best]) best = 2;
        expected_correct += best == batch.labels[b];
    }
    assert_int_equal(correct, expected_correct);
    assert_int_equal(mra_tape_backward(tape, output, &err), MRA_OK);
    check_gradients(model, &r, exact, &batch);
    free(values);
    free(exact);
    mra_tape_free(tape);
    mra_classifier_free(model);
    mra_device_close(device);
}

static void test_tokens(void **state)
{
    (void)state;
    check_model(MRA_POOL_TOKENS, 11, false, NULL);
    check_model(MRA_POOL_TOKENS, 12, true, NULL);
}

static void test_all_positions(void **state)
{
    (void)state;
    check_model(MRA_POOL_ALL, 21, false, NULL);
    check_model(MRA_POOL_ALL, 22, true, NULL);
}

// What an attention method learns is trained with the rest: one projection for each block, or one
// for both, in which the gradients of both add up.
static void test_learned_attention(void **state)
{
    (void)state;
    check_model(MRA_POOL_TOKENS, 31, true, "specified");
    check_model(MRA_POOL_ALL, 32, false, "published");
}

static void test_pairs(void **state)
{
    (void)state;
    check_model(MRA_POOL_TOKENS, 41, false, "pairs");
    check_model(MRA_POOL_ALL, 42, true, "pairs");
}

// ---- Properties -----------------------------------------------------------------------------------

// The logits of a sequence do not depend on how far its batch is padded.
static void test_padding(void **state)
{
    (void)state;
    mra_error err;
    mra_device *device;
    mra_tape *tape;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    for (int which = 0; which < 4; which++) {
        const mra_pooling pooling = which % 2 ? MRA_POOL_TOKENS : MRA_POOL_ALL;
        mra_classifier *model;
        mra_classifier_options options =
            small_options(pooling, 5, which < 2 ? NULL : "specified");
        assert_int_equal(mra_classifier_create(&model, &options, device, &err), MRA_OK);
        int32_t ids[POSITIONS] = {3, 1, 4, 1, 5, 0, 0, 0, 0};
        uint8_t mask[POSITIONS] = {1, 1, 1, 1, 1, 0, 0, 0, 0};
        float logits[2][CLASSES];
        for (int i = 0; i < 2; i++) {
            mra_batch batch = {1, i ? POSITIONS : 5, ids, mask, NULL};
            mra_tape_mode(tape, false, false, 0, 0);
            mra_tensor *output = mra_classifier_logits(model, tape, &batch);
            assert_int_equal(mra_tape_status(tape, &err), MRA_OK);
            device->to_host(device, logits[i], output->data, sizeof logits[i], &err);
            mra_tape_reset(tape);
        }
        for (int c = 0; c < CLASSES; c++)
            assert_true(fabsf(logits[0][c] - logits[1][c]) < 1e-6f);
        mra_classifier_free(model);
    }
    mra_tape_free(tape);
    mra_device_close(device);
}

static void refuse(mra_classifier_options options, mra_device *device, const char *expected)
{
    mra_error err = {0};
    mra_classifier *model;
    assert_int_equal(mra_classifier_create(&model, &options, device, &err), MRA_BAD_INPUT);
    assert_null(model);
    if (!strstr(err.message, expected)) fail_msg("%s: expected %s", err.message, expected);
}

static void test_bad_options(void **state)
{
    (void)state;
    mra_error err;
    mra_device *device;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    mra_classifier_options options = small_options(MRA_POOL_ALL, 1, NULL);
    options.classes = 1;
    refuse(options, device, "1 classes");
    options = small_options(MRA_POOL_ALL, 1, NULL);
    options.encoder.blocks = 0;
    refuse(options, device, "0 blocks");
    options = small_options(MRA_POOL_ALL, 1, NULL);
    options.encoder.dropout = 1;
    refuse(options, device, "dropout");
    options = small_options(MRA_POOL_ALL, 1, NULL);
    strcpy(options.encoder.method, "attend-o-matic");
    refuse(options, device, "attend-o-matic");
    options = small_options(MRA_POOL_ALL, 1, NULL);
    strcpy(options.encoder.setting[0], "colour=red");
    options.encoder.settings = 1;
    refuse(options, device, "colour");
    mra_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_all_positions),
        cmocka_unit_test(test_learned_attention),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests_name("nn/classifier", tests, NULL, NULL);
}
