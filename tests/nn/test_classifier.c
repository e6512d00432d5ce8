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
    N = 7
};

// ---- The definition -------------------------------------------------------------------------------

// Finds parameters by name in a flat copy of all values.
typedef struct reference {
    const mra_parameters *parameters;
    const double *values;
    mra_pooling pooling;
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

// z += Attention over one sequence; q, k, v and z are [N][INNER].
static void attention(const double *q, const double *k, const double *v, const uint8_t *mask,
                      double *z)
{
    for (int h = 0; h < HEADS; h++) {
        for (int i = 0; i < N; i++) {
            double weight[N], sum = 0;
            for (int j = 0; j < N; j++) {
                double dot = 0;
                for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++)
                    dot += q[i * INNER + c] * k[j * INNER + c];
                weight[j] = mask[i] && mask[j] ? exp(dot / sqrt((double)HEAD_DIM)) : 0;
                sum += weight[j];
            }
            for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++) {
                z[i * INNER + c] = 0;
                for (int j = 0; j < N && sum > 0; j++)
                    z[i * INNER + c] += weight[j] / sum * v[j * INNER + c];
            }
        }
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
    attention(q, k, v, mask, z);
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

// Logits of one sequence.
static void sequence_logits(const reference *r, const int32_t *ids, const uint8_t *mask,
                            double *logits)
{
    double x[N][DIM], bar[DIM], pooled[DIM] = {0}, hidden[HIDDEN];
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
    part_linear(r, -1, "expand", pooled, DIM, HIDDEN, hidden);
    for (int c = 0; c < HIDDEN; c++) hidden[c] = hidden[c] > 0 ? hidden[c] : 0;
    part_linear(r, -1, "contract", hidden, HIDDEN, CLASSES, logits);
}

static double reference_loss(const reference *r, const mra_batch *batch, double *logits)
{
    double loss = 0;
    int labelled = 0;
    for (int b = 0; b < BATCH; b++) {
        double *row = logits + b * CLASSES, sum = 0;
        sequence_logits(r, batch->ids + b * N, batch->mask + b * N, row);
        if (batch->labels[b] < 0) continue;
        for (int c = 0; c < CLASSES; c++) sum += exp(row[c]);
        loss += log(sum) - row[batch->labels[b]];
        labelled++;
    }
    return loss / labelled;
}

// ---- The comparison -------------------------------------------------------------------------------

static mra_classifier_options small_options(mra_pooling pooling, uint64_t seed)
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
    return options;
}

// Random ids; sequence b has N - 2 b tokens; the last one is not labelled if `filling`.
static void make_batch(mra_batch *batch, uint64_t seed, bool filling)
{
    static int32_t ids[BATCH * N], labels[BATCH];
    static uint8_t mask[BATCH * N];
    mra_random random = mra_random_open(seed, 9);
    for (int b = 0; b < BATCH; b++) {
        for (int i = 0; i < N; i++) {
            mask[b * N + i] = i < N - 2 * b;
            ids[b * N + i] = mask[b * N + i] ? 1 + (int32_t)mra_random_below(&random, 10) : 0;
        }
        labels[b] =
            filling && b == BATCH - 1 ? -1 : (int32_t)mra_random_below(&random, CLASSES);
    }
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
        if (!(worst <= 2e-5 * largest + 2e-6))
            fail_msg("%s: gradient is off by %g, its largest entry is %g", parameter->name,
                     worst, largest);
        at += parameter->tensor->size;
    }
}

static void check_model(mra_pooling pooling, uint64_t seed, bool filling)
{
    mra_error err;
    mra_device *device;
    mra_classifier *model;
    mra_tape *tape;
    mra_batch batch;
    mra_classifier_options options = small_options(pooling, seed);
    assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
    assert_int_equal(mra_classifier_create(&model, &options, device, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    size_t size = model->parameters.size;
    float *values = calloc(size, sizeof *values);
    double *exact = calloc(size, sizeof *exact), expected[BATCH * CLASSES];
    scatter_parameters(model, values, seed);
    for (size_t i = 0; i < size; i++) exact[i] = (double)values[i];
    make_batch(&batch, seed, filling);
    reference r = {&model->parameters, exact, pooling};
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
    check_model(MRA_POOL_TOKENS, 11, false);
    check_model(MRA_POOL_TOKENS, 12, true);
}

static void test_all_positions(void **state)
{
    (void)state;
    check_model(MRA_POOL_ALL, 21, false);
    check_model(MRA_POOL_ALL, 22, true);
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
    for (int pooling = 0; pooling < 2; pooling++) {
        mra_classifier *model;
        mra_classifier_options options = small_options((mra_pooling)pooling, 5);
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
    mra_classifier_options options = small_options(MRA_POOL_ALL, 1);
    options.classes = 1;
    refuse(options, device, "1 classes");
    options = small_options(MRA_POOL_ALL, 1);
    options.encoder.blocks = 0;
    refuse(options, device, "0 blocks");
    options = small_options(MRA_POOL_ALL, 1);
    options.encoder.dropout = 1;
    refuse(options, device, "dropout");
    options = small_options(MRA_POOL_ALL, 1);
    strcpy(options.encoder.method, "attend-o-matic");
    refuse(options, device, "attend-o-matic");
    options = small_options(MRA_POOL_ALL, 1);
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
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests_name("nn/classifier", tests, NULL, NULL);
}
