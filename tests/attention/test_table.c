// Every row of the table of methods, whichever there are: forward and backward at n = 512, for
// d = 64 and d = 32, with and without a mask. What a method computes is checked by its own test;
// here it is what all of them promise: finite results, the same bits on any number of threads
// and at every call, the same seed the same numbers, nothing at masked tokens.
#include "dense.h"

#include <stdio.h>

#include "attention/attention.h"
#include "tensor/gemm.h"

enum { OUTPUTS = DENSE_ARRAYS - DENSE_Z };

// What one run of a method gives: z, dq, dk, dv, and the gradients of what the method learns.
typedef struct table_result {
    float *output[OUTPUTS];
    size_t size;
    float *learned[MRA_METHOD_PARAMETERS];
    size_t learned_size[MRA_METHOD_PARAMETERS];
    int parameters;
} table_result;

static int length(void)
{
    return getenv("MRA_SANITIZED") ? 130 : 512;
}

static float *copy_floats(const float *from, size_t count)
{
    float *to = malloc(count * sizeof *to);
    assert_non_null(to);
    memcpy(to, from, count * sizeof *to);
    return to;
}

static void release_result(table_result *result)
{
    for (int i = 0; i < OUTPUTS; i++) free(result->output[i]);
    for (int i = 0; i < result->parameters; i++) free(result->learned[i]);
}

// A layer of its own, run `passes` times: what the last one gives.
static table_result run_method(const mra_method *method, const dense_arrays *a, int threads,
                               uint64_t seed, int passes, bool backward)
{
    mra_device *device;
    mra_attention_layer *layer;
    mra_tape *tape;
    mra_error err;
    table_result result = {.size = dense_size(a->shape)};
    if (mra_device_open(&device, "cpu", threads, &err) != MRA_OK ||
        mra_attention_layer_create(&layer, method->name, device, a->shape, seed, NULL, 0,
                                   &err) != MRA_OK ||
        mra_tape_create(&tape, device, &err) != MRA_OK)
        fail_msg("%s", err.message);
    for (int pass = 0; pass < passes; pass++) {
        for (int i = 0; i < layer->parameters; i++)
            memset(layer->parameter[i]->grad, 0,
                   layer->parameter[i]->size * sizeof *layer->parameter[i]->grad);
        if (mra_attention_run(layer, tape, a->x[DENSE_Q], a->x[DENSE_K], a->x[DENSE_V], a->mask,
                              a->x[DENSE_Z], backward ? a->x[DENSE_DZ] : NULL, a->x[DENSE_DQ],
                              a->x[DENSE_DK], a->x[DENSE_DV], &err) != MRA_OK)
            fail_msg("%s: %s", method->name, err.message);
    }
    for (int i = 0; i < OUTPUTS; i++)
        result.output[i] = copy_floats(a->x[DENSE_Z + i], result.size);
    result.parameters = layer->parameters;
    for (int i = 0; i < layer->parameters; i++) {
        result.learned_size[i] = layer->parameter[i]->size;
        result.learned[i] = copy_floats(layer->parameter[i]->grad, layer->parameter[i]->size);
    }
    mra_tape_free(tape);
    mra_attention_layer_free(layer);
    mra_device_close(device);
    return result;
}

static const char *const output_name[OUTPUTS] = {"z", "dq", "dk", "dv"};

static void check_same(const char *what, const char *when, const float *a, const float *b,
                       size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s %s: entry %zu is %.9g, was %.9g", what, when, i, (double)b[i],
                     (double)a[i]);
}

static void check_equal(const mra_method *method, const char *when, const table_result *a,
                        const table_result *b)
{
    char what[100];
    for (int i = 0; i < OUTPUTS; i++) {
        snprintf(what, sizeof what, "%s: %s", method->name, output_name[i]);
        check_same(what, when, a->output[i], b->output[i], a->size);
    }
    for (int i = 0; i < a->parameters; i++) {
        snprintf(what, sizeof what, "%s: the gradient of parameter %d", method->name, i);
        check_same(what, when, a->learned[i], b->learned[i], a->learned_size[i]);
    }
}

// All entries finite, and not all of them zero. Some methods take the queries for keys (soft, reformer): then
// the gradient of K may be 0.
static void check_alive(const char *method, const char *what, const float *x, size_t size)
{
    bool any = strcmp(what, "dk") == 0;
    for (size_t i = 0; i < size; i++) {
        if (!isfinite(x[i])) fail_msg("%s: %s: entry %zu is %g", method, what, i, (double)x[i]);
        any = any || x[i] != 0;
    }
    if (!any) fail_msg("%s: %s is zero", method, what);
}

// Masked tokens get no output and take no part in gradients.
static void check_masked_rows(const mra_method *method, const dense_arrays *a,
                              const table_result *result)
{
    const size_t n = (size_t)a->shape.n, d = (size_t)a->shape.d;
    for (size_t row = 0; a->mask && row < result->size / d; row++) {
        const size_t example = row / n / (size_t)a->shape.heads;
        if (a->mask[example * n + row % n]) continue;
        for (int i = 0; i < OUTPUTS; i++)
            for (size_t c = 0; c < d; c++)
                if (result->output[i][row * d + c] != 0)
                    fail_msg("%s: %s of masked token %zu is %g", method->name, output_name[i],
                             row % n, (double)result->output[i][row * d + c]);
    }
}

static void check_method(const mra_method *method, int d, bool masked)
{
    dense_arrays a =
        dense_make((mra_shape){.batch = 1, .heads = 2, .n = length(), .d = d}, 1.0f, masked);
    table_result one = run_method(method, &a, 1, 7, 1, true);
    for (int i = 0; i < OUTPUTS; i++)
        check_alive(method->name, output_name[i], one.output[i], one.size);
    for (int i = 0; i < one.parameters; i++)
        check_alive(method->name, "the gradient of a parameter", one.learned[i],
                    one.learned_size[i]);
    check_masked_rows(method, &a, &one);
    table_result two = run_method(method, &a, 2, 7, 1, true);
    check_equal(method, "on two threads", &one, &two);
    table_result again = run_method(method, &a, 2, 7, 2, true);
    check_equal(method, "at the second call", &one, &again);
    table_result forward = run_method(method, &a, 1, 7, 1, false);
    char what[100];
    snprintf(what, sizeof what, "%s: z", method->name);
    check_same(what, "without a backward pass", one.output[0], forward.output[0], one.size);
    release_result(&one);
    release_result(&two);
    release_result(&again);
    release_result(&forward);
    dense_release(&a);
}

static void test_every_method(void **state)
{
    (void)state;
    mra_blas_single_thread();
    for (int i = 0; mra_method_at(i); i++)
        for (int d = 64; d >= 32; d /= 2)
            for (int masked = 0; masked < 2; masked++)
                check_method(mra_method_at(i), d, masked);
}

// Another seed changes what a method learns at first or draws, and nothing else. (With fewer tokens
// all blocks of a pattern may be taken, and nothing is left to draw.)
static void test_seeds(void **state)
{
    (void)state;
    for (int i = 0; mra_method_at(i); i++) {
        const mra_method *method = mra_method_at(i);
        dense_arrays a =
            dense_make((mra_shape){.batch = 1, .heads = 2, .n = 320, .d = 32}, 1.0f, false);
        table_result one = run_method(method, &a, 2, 7, 1, false);
        table_result other = run_method(method, &a, 2, 8, 1, false);
        const bool same = memcmp(one.output[0], other.output[0], one.size * sizeof(float)) == 0;
        const bool random = method->learned || method->drawn;
        if (same == random)
            fail_msg("%s: another seed, %s", method->name,
                     random ? "the same result" : "another result");
        release_result(&one);
        release_result(&other);
        dense_release(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method),
        cmocka_unit_test(test_seeds),
    };
    return cmocka_run_group_tests_name("attention/table", tests, NULL, NULL);
}
