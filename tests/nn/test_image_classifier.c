// The image classifier against a float64 definition of it, and its gradient against central differences of that
// definition; patches, right answers, dropout inside the feed-forward net, and tokens laid out as a grid.
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
#include "nn/evaluate.h"
#include "nn/image_classifier.h"

enum {
    SIZE = 7,
    PATCH = 4,
    STRIDE = 3,
    PADDING = 2,
    SIDE = 3,
    N = SIDE * SIDE,
    DIM = 6,
    HEADS = 2,
    HEAD_DIM = 3,
    INNER = HEADS * HEAD_DIM,
    HIDDEN = 8,
    BLOCKS = 2,
    CLASSES = 7,
    BATCH = 3
};

static mra_error err;

static uint64_t fresh_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20220712;
}

// ---- The definition -------------------------------------------------------------------------------

typedef struct reference {
    const mra_parameters *parameters;
    const double *values;
    const float *kept; // factors of the hidden units [BLOCKS][BATCH][N][HIDDEN], or NULL: 1
} reference;

static const double *find(const reference *r, const char *name)
{
    const double *at = r->values;
    for (int i = 0; i < r->parameters->count; i++) {
        if (strcmp(r->parameters->list[i].name, name) == 0) return at;
        at += r->parameters->list[i].tensor->size;
    }
    fail_msg("no parameter %s", name);
    return NULL;
}

static const double *of_block(const reference *r, int block, const char *part)
{
    char name[100];
    snprintf(name, sizeof name, "encoder.block%d.%s", block, part);
    return find(r, name);
}

static void linear(const double *w, const double *b, const double *x, int in, int out,
                   double *y)
{
    for (int o = 0; o < out; o++) {
        y[o] = b[o];
        for (int i = 0; i < in; i++) y[o] += w[o * in + i] * x[i];
    }
}

static void normalise(const double *gain, const double *shift, const double *x, double *y)
{
    double mean = 0, variance = 0;
    for (int c = 0; c < DIM; c++) mean += x[c] / DIM;
    for (int c = 0; c < DIM; c++) variance += (x[c] - mean) * (x[c] - mean) / DIM;
    for (int c = 0; c < DIM; c++)
        y[c] = gain[c] * (x[c] - mean) / sqrt(variance + 1e-5) + shift[c];
}

// The convolution by its formula, plus positions.
static void stem(const reference *r, const float *pixels, double x[N][DIM])
{
    const double *w = find(r, "stem.weight"), *b = find(r, "stem.bias"),
                 *p = find(r, "stem.positions");
    for (int t = 0; t < N; t++)
        for (int o = 0; o < DIM; o++) {
            x[t][o] = b[o] + p[t * DIM + o];
            for (int i = 0; i < 3 * PATCH * PATCH; i++) {
                const int k = i / (PATCH * PATCH), u = i / PATCH % PATCH, v = i % PATCH;
                const int y = STRIDE * (t / SIDE) - PADDING + u;
                const int z = STRIDE * (t % SIDE) - PADDING + v;
                if (y < 0 || z < 0 || y >= SIZE || z >= SIZE) continue;
                x[t][o] += w[o * 3 * PATCH * PATCH + i] *
                           (double)pixels[k * SIZE * SIZE + y * SIZE + z];
            }
        }
}

static void attend(const double *q, const double *k, const double *v, double *z)
{
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < N; i++) {
            double weight[N], sum = 0;
            for (int j = 0; j < N; j++) {
                double dot = 0;
                for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++)
                    dot += q[i * INNER + c] * k[j * INNER + c];
                sum += weight[j] = exp(dot / sqrt((double)HEAD_DIM));
            }
            for (int c = h * HEAD_DIM; c < (h + 1) * HEAD_DIM; c++) {
                z[i * INNER + c] = 0;
                for (int j = 0; j < N; j++)
                    z[i * INNER + c] += weight[j] / sum * v[j * INNER + c];
            }
        }
}

static void block_pass(const reference *r, int block, int picture, double x[N][DIM])
{
    double q[N * INNER], k[N * INNER], v[N * INNER], z[N * INNER];
    double bar[DIM], out[DIM], hidden[HIDDEN];
    for (int i = 0; i < N; i++) {
        normalise(of_block(r, block, "attention_norm.gain"),
                  of_block(r, block, "attention_norm.shift"), x[i], bar);
        linear(of_block(r, block, "query.weight"), of_block(r, block, "query.bias"), bar, DIM,
               INNER, q + i * INNER);
        linear(of_block(r, block, "key.weight"), of_block(r, block, "key.bias"), bar, DIM,
               INNER, k + i * INNER);
        linear(of_block(r, block, "value.weight"), of_block(r, block, "value.bias"), bar, DIM,
               INNER, v + i * INNER);
    }
    attend(q, k, v, z);
    for (int i = 0; i < N; i++) {
        linear(of_block(r, block, "out.weight"), of_block(r, block, "out.bias"), z + i * INNER,
               INNER, DIM, out);
        for (int c = 0; c < DIM; c++) x[i][c] += out[c];
        normalise(of_block(r, block, "feed_forward_norm.gain"),
                  of_block(r, block, "feed_forward_norm.shift"), x[i], bar);
        linear(of_block(r, block, "expand.weight"), of_block(r, block, "expand.bias"), bar, DIM,
               HIDDEN, hidden);
        for (int c = 0; c < HIDDEN; c++) {
            hidden[c] *= 0.5 * (1 + erf(hidden[c] / sqrt(2.0)));
            if (r->kept)
                hidden[c] *= (double)r->kept[((block * BATCH + picture) * N + i) * HIDDEN + c];
        }
        linear(of_block(r, block, "contract.weight"), of_block(r, block, "contract.bias"),
               hidden, HIDDEN, DIM, out);
        for (int c = 0; c < DIM; c++) x[i][c] += out[c];
    }
}

static void picture_logits(const reference *r, int picture, const float *pixels, double *logits)
{
    double x[N][DIM], bar[DIM], mean[DIM] = {0}, hidden[HIDDEN];
    stem(r, pixels, x);
    for (int b = 0; b < BLOCKS; b++) block_pass(r, b, picture, x);
    for (int i = 0; i < N; i++) {
        normalise(find(r, "encoder.final_norm.gain"), find(r, "encoder.final_norm.shift"), x[i],
                  bar);
        for (int c = 0; c < DIM; c++) mean[c] += bar[c] / N;
    }
    linear(find(r, "head.expand.weight"), find(r, "head.expand.bias"), mean, DIM, HIDDEN,
           hidden);
    for (int c = 0; c < HIDDEN; c++) hidden[c] = fmax(0, hidden[c]);
    linear(find(r, "head.contract.weight"), find(r, "head.contract.bias"), hidden, HIDDEN,
           CLASSES, logits);
}

static double reference_loss(const reference *r, const mra_image_examples *examples,
                             double *logits)
{
    double loss = 0;
    int labelled = 0;
    for (int b = 0; b < BATCH; b++) {
        double *row = logits + b * CLASSES, sum = 0;
        picture_logits(r, b, examples->pixels + (size_t)b * 3 * SIZE * SIZE, row);
        if (examples->labels[b] < 0) continue;
        for (int c = 0; c < CLASSES; c++) sum += exp(row[c]);
        loss += log(sum) - row[examples->labels[b]];
        labelled++;
    }
    return loss / labelled;
}

// ---- The comparison -------------------------------------------------------------------------------

typedef struct fixture {
    mra_device *device;
    mra_image_classifier *model;
    mra_tape *tape;
    double *values;
    mra_image_examples examples;
} fixture;

static mra_image_classifier_options small_options(uint64_t seed)
{
    return (mra_image_classifier_options){.encoder = {.dim = DIM,
                                                      .heads = HEADS,
                                                      .head_dim = HEAD_DIM,
                                                      .hidden = HIDDEN,
                                                      .blocks = BLOCKS,
                                                      .seed = seed,
                                                      .method = "exact"},
                                          .stem = {SIZE, PATCH, STRIDE, PADDING},
                                          .classes = CLASSES};
}

// A model whose parameters have values of order one, so that no path through it is nearly closed, and pictures.
static fixture make(const mra_image_classifier_options *options, int batch)
{
    fixture f = {.examples = {.count = batch}};
    assert_int_equal(mra_device_open(&f.device, "cpu", 2, &err), MRA_OK);
    if (mra_image_classifier_create(&f.model, options, f.device, &err) != MRA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(mra_tape_create(&f.tape, f.device, &err), MRA_OK);
    const size_t size = f.model->parameters.size, pixels = 3 * (size_t)options->stem.size *
                                                           (size_t)options->stem.size *
                                                           (size_t)batch;
    float *values = calloc(size, sizeof *values);
    f.values = calloc(size, sizeof *f.values);
    mra_random random = mra_random_open(fresh_seed(), 1);
    assert_int_equal(mra_parameters_to_host(&f.model->parameters, values, &err), MRA_OK);
    for (size_t i = 0; i < size; i++) {
        values[i] += 0.3f * (float)mra_random_normal(&random);
        f.values[i] = (double)values[i];
    }
    assert_int_equal(mra_parameters_from_host(&f.model->parameters, values, &err), MRA_OK);
    free(values);
    f.examples.pixels = calloc(pixels, sizeof *f.examples.pixels);
    f.examples.labels = calloc((size_t)batch, sizeof *f.examples.labels);
    for (size_t i = 0; i < pixels; i++)
        f.examples.pixels[i] = (float)mra_random_normal(&random);
    for (int b = 0; b < batch; b++)
        f.examples.labels[b] = (int32_t)mra_random_below(&random, (uint32_t)options->classes);
    return f;
}

static void drop(fixture *f)
{
    mra_tape_free(f->tape);
    mra_image_classifier_free(f->model);
    mra_device_close(f->device);
    free(f->values);
    free(f->examples.pixels);
    free(f->examples.labels);
}

static void check_gradients(const fixture *f, const reference *r)
{
    double logits[BATCH * CLASSES], *values = f->values;
    for (int p = 0; p < f->model->parameters.count; p++) {
        const mra_parameter *parameter = &f->model->parameters.list[p];
        double largest = 0, worst = 0;
        for (size_t i = 0; i < parameter->tensor->size; i++, values++) {
            const double kept = *values, step = 1e-5;
            *values = kept + step;
            const double above = reference_loss(r, &f->examples, logits);
            *values = kept - step;
            const double below = reference_loss(r, &f->examples, logits);
            *values = kept;
            const double expected = (above - below) / (2 * step);
            largest = fmax(largest, fabs(expected));
            worst = fmax(worst, fabs((double)parameter->tensor->grad[i] - expected));
        }
        if (!(worst <= 3e-5 * largest + 3e-6))
            fail_msg("%s: gradient is off by %g, its largest entry is %g", parameter->name,
                     worst, largest);
    }
}

// The five largest by sorting them out one by one.
static bool among_five(const double *row, int label)
{
    int larger = 0;
    for (int c = 0; c < CLASSES; c++) larger += row[c] > row[label];
    return larger < 5;
}

static void the_definition(void **state)
{
    (void)state;
    for (int filling = 0; filling < 2; filling++) {
        const mra_image_classifier_options options = small_options(fresh_seed());
        fixture f = make(&options, BATCH);
        if (filling) f.examples.labels[1] = -1;
        const reference r = {.parameters = &f.model->parameters, .values = f.values};
        double logits[BATCH * CLASSES];
        const double expected = reference_loss(&r, &f.examples, logits);
        int64_t right[2] = {-1, -1}, want[2] = {0, 0};
        float loss = 0;
        mra_tape_mode(f.tape, true, true, 1, 1);
        mra_tensor *output = mra_image_classifier_loss(f.model, f.tape, &f.examples, right);
        if (mra_tape_value(f.tape, output, &loss, &err) != MRA_OK) fail_msg("%s", err.message);
        assert_true(fabs((double)loss - expected) <= 1e-5 * (1 + expected));
        for (int b = 0; b < BATCH; b++) {
            const double *row = logits + b * CLASSES;
            const int label = f.examples.labels[b];
            int best = 0;
            for (int c = 1; c < CLASSES; c++)
                if (row[c] > row[best]) best = c;
            want[0] += best == label;
            want[1] += label >= 0 && among_five(row, label);
        }
        assert_int_equal(right[0], want[0]);
        assert_int_equal(right[1], want[1]);
        assert_int_equal(mra_tape_backward(f.tape, output, &err), MRA_OK);
        if (filling) check_gradients(&f, &r);
        drop(&f);
    }
}

// Dropout inside the feed-forward net, given which units were kept; everything else of the network is as without.
static void hidden_units_are_dropped(void **state)
{
    (void)state;
    enum { UNITS = BATCH * N * HIDDEN };
    mra_image_classifier_options options = small_options(fresh_seed());
    options.encoder.hidden_dropout = 0.4;
    fixture f = make(&options, BATCH);
    static float ones[UNITS], kept[BLOCKS * UNITS];
    for (int i = 0; i < UNITS; i++) ones[i] = 1;
    mra_tape_mode(f.tape, true, false, 5, 6);
    int dropped = 0;
    for (int b = 0; b < BLOCKS; b++) {
        const int shape[] = {BATCH, N, HIDDEN};
        mra_tensor *x = mra_dropout(f.tape, mra_wrap(f.tape, 3, shape, ones, NULL), 0.4f,
                                    MRA_HIDDEN_SITE + (uint32_t)b);
        memcpy(kept + b * UNITS, x->data, sizeof ones);
        for (int i = 0; i < UNITS; i++) dropped += kept[b * UNITS + i] == 0;
    }
    assert_in_range(dropped, BLOCKS * UNITS / 5, BLOCKS * UNITS * 3 / 5);
    double logits[BATCH * CLASSES];
    reference r = {&f.model->parameters, f.values, kept};
    const mra_tensor *y = mra_image_classifier_logits(f.model, f.tape, &f.examples);
    reference_loss(&r, &f.examples, logits);
    for (int i = 0; i < BATCH * CLASSES; i++)
        assert_true(fabs((double)y->data[i] - logits[i]) <= 2e-5 * (1 + fabs(logits[i])));
    // None of it in evaluation.
    mra_tape_reset(f.tape);
    mra_tape_mode(f.tape, false, false, 5, 6);
    r.kept = NULL;
    y = mra_image_classifier_logits(f.model, f.tape, &f.examples);
    reference_loss(&r, &f.examples, logits);
    for (int i = 0; i < BATCH * CLASSES; i++)
        assert_true(fabs((double)y->data[i] - logits[i]) <= 2e-5 * (1 + fabs(logits[i])));
    drop(&f);
}

// ---- Patches --------------------------------------------------------------------------------------

static void patches_of_any_stem(void **state)
{
    (void)state;
    static const mra_stem stems[] = {{1, 1, 1, 0},  {5, 3, 1, 2},  {8, 2, 2, 0},
                                     {11, 6, 4, 5}, {64, 8, 4, 2}, {28, 14, 7, 5}};
    static const int sides[] = {1, 7, 4, 4, 16, 4};
    mra_random random = mra_random_open(fresh_seed(), 2);
    const mra_stem published = {224, 14, 7, 5}, small = {64, 4, 2, 1};
    assert_int_equal(mra_stem_side(&published), 32);
    assert_int_equal(mra_stem_side(&small), 32);
    for (int s = 0; s < 6; s++) {
        const mra_stem *stem = &stems[s];
        const int size = stem->size, patch = stem->patch, side = mra_stem_side(stem);
        assert_int_equal(side, sides[s]);
        const int pixels = 3 * size * size, count = 2;
        const int entries = count * side * side * 3 * patch * patch;
        float *in = calloc((size_t)(count * pixels), sizeof *in);
        float *one = calloc((size_t)entries, sizeof *one), *two = calloc((size_t)entries, 4);
        for (int i = 0; i < count * pixels; i++) in[i] = (float)mra_random_uniform(&random);
        mra_stem_unfold(stem, count, in, one, 1);
        mra_stem_unfold(stem, count, in, two, 3);
        assert_memory_equal(one, two, (size_t)entries * sizeof *one);
        for (int i = 0; i < entries; i++) {
            const int v = i % patch, u = i / patch % patch, k = i / (patch * patch) % 3;
            const int token = i / (3 * patch * patch) % (side * side);
            const int y = token / side * stem->stride - stem->padding + u;
            const int x = token % side * stem->stride - stem->padding + v;
            const int b = i / (3 * patch * patch * side * side);
            const bool inside = y >= 0 && x >= 0 && y < size && x < size;
            const float want = inside ? in[b * pixels + (k * size + y) * size + x] : 0;
            assert_true(one[i] == want);
        }
        free(in);
        free(one);
        free(two);
    }
}

// ---- Attention methods ----------------------------------------------------------------------------

// MRA-2 with every block refined is exact attention, and a grid permutes its tokens and back: the logits stay.
static void tokens_as_a_grid(void **state)
{
    (void)state;
    mra_image_classifier_options options = small_options(fresh_seed());
    options.stem = (mra_stem){16, 4, 2, 1}; // 8 x 8 tokens, 2 blocks of 32
    float logits[4][2 * CLASSES];
    for (int way = 0; way < 4; way++) {
        strcpy(options.encoder.method, way ? "mra2" : "exact");
        snprintf(options.encoder.setting[0], 80, "blocks=%d", way < 3 ? 2 : 1);
        strcpy(options.encoder.setting[1], "grid=8x8");
        options.encoder.settings = way == 0 ? 0 : way == 1 ? 1 : 2;
        fixture f = make(&options, 2);
        mra_tape_mode(f.tape, false, false, 0, 0);
        const mra_tensor *y = mra_image_classifier_logits(f.model, f.tape, &f.examples);
        if (!y) {
            mra_tape_status(f.tape, &err);
            fail_msg("%s", err.message);
        }
        memcpy(logits[way], y->data, sizeof logits[way]);
        drop(&f);
    }
    double coarse = 0;
    for (int i = 0; i < 2 * CLASSES; i++) {
        assert_true(fabsf(logits[1][i] - logits[0][i]) <= 1e-4f * (1 + fabsf(logits[0][i])));
        assert_true(fabsf(logits[2][i] - logits[0][i]) <= 1e-4f * (1 + fabsf(logits[0][i])));
        coarse = fmax(coarse, fabs((double)(logits[3][i] - logits[0][i])));
    }
    assert_true(coarse > 1e-4); // with one block of two the approximation shows
}

static void refused(const mra_image_classifier_options *options, const char *part)
{
    mra_device *device;
    mra_image_classifier *model;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(mra_image_classifier_create(&model, options, device, &err), MRA_BAD_INPUT);
    assert_null(model);
    if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part);
    mra_device_close(device);
}

static void bad_options(void **state)
{
    (void)state;
    mra_image_classifier_options o = small_options(1);
    o.classes = 1;
    refused(&o, "1 classes: expected at least 2");
    o = small_options(1);
    o.stem.patch = SIZE + 2 * PADDING + 1;
    refused(&o, "patch 12, stride 3, padding 2 of pictures of 7 pixels");
    o = small_options(1);
    o.stem.stride = 0;
    refused(&o, "stride 0");
    o = small_options(1);
    o.stem.padding = PATCH;
    refused(&o, "padding below patch");
    o = small_options(1);
    o.stem.size = 0;
    refused(&o, "size 0: expected 1 to 4096");
    o = small_options(1);
    o.encoder.hidden_dropout = 1;
    refused(&o, "hidden_dropout 1");
    o = small_options(1);
    strcpy(o.encoder.method, "mra2");
    strcpy(o.encoder.setting[0], "grid=4x8");
    o.encoder.settings = 1;
    refused(&o, "grid");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_definition), cmocka_unit_test(hidden_units_are_dropped),
        cmocka_unit_test(patches_of_any_stem), cmocka_unit_test(tokens_as_a_grid),
        cmocka_unit_test(bad_options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
