// The table of methods: options and their errors, layers on a tape, layers on plain arrays.

#include "dense.h"

#include "attention/attention.h"
#include "tensor/gemm.h"

static mra_device *device;
static mra_tape *tape;
static const mra_shape shape = {2, 2, 128, 16};

static int open_device(void **state)
{
    (void)state;
    mra_error err;
    mra_blas_single_thread();
    if (mra_device_open(&device, "cpu", 2, &err) != MRA_OK) return 1;
    return mra_tape_create(&tape, device, &err) != MRA_OK;
}

static int close_device(void **state)
{
    (void)state;
    mra_tape_free(tape);
    mra_device_close(device);
    return 0;
}

static mra_attention_layer *make(const char *method, const char *const *options, int count)
{
    mra_attention_layer *layer;
    mra_error err;
    const mra_status status =
        mra_attention_layer_create(&layer, method, device, shape, 1, options, count, &err);
    if (status != MRA_OK) fail_msg("%s: %s", method, err.message);
    return layer;
}

static void test_table(void **state)
{
    (void)state;
    int count = 0;
    for (const mra_method *method; (method = mra_method_at(count)) != NULL; count++) {
        assert_ptr_equal(mra_method_find(method->name), method);
        assert_true(method->option_count <= MRA_METHOD_OPTIONS);
        assert_non_null(method->summary);
        assert_non_null(method->source);
        assert_non_null(method->time);
        assert_non_null(method->memory);
        mra_attention_layer_free(make(method->name, NULL, 0)); // defaults are valid
    }
    assert_true(count >= 4);
    assert_null(mra_method_at(-1));
    assert_null(mra_method_find("exac"));
    mra_attention_layer_free(NULL);
}

static const mra_option_value *value_of(const mra_attention_layer *layer, const char *name)
{
    for (int i = 0; i < layer->method->option_count; i++)
        if (strcmp(layer->method->options[i].name, name) == 0) return &layer->option[i];
    fail_msg("no option %s", name);
    return NULL;
}

static void test_options_are_read(void **state)
{
    (void)state;
    const char *const two[] = {"blocks=1.5", "ranking=plain", "first=1", "diagonal=3",
                               "grid=8x16",  "blocks=2"}; // the last value of an option holds
    mra_attention_layer *layer = make("mra2", two, 6);
    assert_true(value_of(layer, "blocks")->number == 2 && value_of(layer, "blocks")->given);
    assert_true(value_of(layer, "ranking")->number == 1);
    assert_true(value_of(layer, "first")->number == 1);
    assert_true(value_of(layer, "diagonal")->number == 3);
    assert_int_equal(value_of(layer, "grid")->count, 2);
    assert_true(value_of(layer, "grid")->list[0] == 8 &&
                value_of(layer, "grid")->list[1] == 16);
    mra_attention_layer_free(layer);

    const char *const any[] = {"scales=16:4:1", "blocks=2:8", "sparse=yes"};
    layer = make("mra", any, 3);
    assert_int_equal(value_of(layer, "scales")->count, 3);
    assert_true(value_of(layer, "scales")->list[1] == 4);
    assert_true(value_of(layer, "blocks")->list[1] == 8);
    assert_true(value_of(layer, "sparse")->number == 1);
    assert_int_equal(value_of(layer, "grid")->count, 0);
    assert_false(value_of(layer, "grid")->given);
    mra_attention_layer_free(layer);
}

typedef struct refusal {
    const char *method, *option, *names; // what the message has to name
} refusal;

static void test_options_are_refused(void **state)
{
    (void)state;
    const refusal refusals[] = {
        {"softmax", "", "mra2s"},                     // unknown method: the names that exist
        {"exact", "blocks=3", "blocks"},              // no options at all
        {"mra2", "blocs=3", "diagonal"},              // unknown option: the names that exist
        {"mra2", "blocks", "blocks"},                 // no value
        {"mra2", "=3", "ranking"},                    //
        {"mra2", "blocks=", "1.04858e+06"},           // out of range or no number: the range
        {"mra2", "blocks=-1", "1.04858e+06"},         //
        {"mra2", "blocks=many", "blocks=many"},       //
        {"mra2", "blocks=3x", "3x"},                  //
        {"mra2", "blocks=nan", "nan"},                //
        {"mra2", "blocks=inf", "inf"},                //
        {"mra2", "first=1.5", "whole"},               //
        {"mra2", "diagonal=2", "diagonal"},           // even
        {"mra2", "ranking=rows", "row|plain|spread"}, //
        {"mra2", "ranking=", "row|plain|spread"},     //
        {"mra2", "grid=8", "HEIGHTxWIDTH"},           //
        {"mra2", "grid=8x8x8", "HEIGHTxWIDTH"},       //
        {"mra2", "grid=8x8", "n = 128"},              // another number of tokens
        {"mra", "scales=16:4:2", "last scale"},       //
        {"mra", "scales=16:5:1", "divides"},          //
        {"mra", "scales=16:4:1:", "scales"},          //
        {"mra", "scales=16,4,1", "':'"},              //
        {"mra", "scales=9:8:7:6:5:4:3:2:1", "8 numbers"},
        {"mra", "blocks=4", "blocks"}, // one number for two refinements
        {"mra", "sparse=maybe", "yes or no"},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const refusal *r = &refusals[i];
        mra_attention_layer *layer;
        mra_error err = {0};
        const mra_status status = mra_attention_layer_create(
            &layer, r->method, device, shape, 1, &r->option, r->option[0] != '\0', &err);
        if (status != MRA_BAD_INPUT || !strstr(err.message, r->names) ||
            !strstr(err.message, r->method) || layer)
            fail_msg("%s %s: status %d, '%s' (expected to name %s)", r->method, r->option,
                     status, err.message, r->names);
    }
}

static void test_shapes_are_refused(void **state)
{
    (void)state;
    const mra_shape bad[] = {
        {0, 1, 4, 4}, {1, 0, 4, 4}, {1, 1, 0, 4}, {1, 1, 4, 0}, {1, 1, 4, 257}};
    mra_attention_layer *layer;
    mra_error err;
    for (int i = 0; mra_method_at(i); i++)
        for (size_t s = 0; s < sizeof bad / sizeof bad[0]; s++)
            assert_int_equal(mra_attention_layer_create(&layer, mra_method_at(i)->name, device,
                                                        bad[s], 1, NULL, 0, &err),
                             MRA_BAD_INPUT);
    mra_device elsewhere = *device;
    elsewhere.name = "elsewhere";
    elsewhere.host_memory = false;
    for (int i = 0; mra_method_at(i); i++) {
        const char *name = mra_method_at(i)->name;
        if (!mra_method_at(i)->run) continue; // a chain of primitives runs on any device
        assert_int_not_equal(
            mra_attention_layer_create(&layer, name, &elsewhere, shape, 1, NULL, 0, &err),
            MRA_OK);
        assert_non_null(strstr(err.message, "elsewhere"));
        assert_non_null(strstr(err.message, name));
    }
}

// n = 128 has 4 blocks a row: 5 are too many if asked for, but a default is cut to what there
// is.
static void test_budget_larger_than_the_matrix(void **state)
{
    (void)state;
    mra_error err;
    const char *five = "blocks=5", *four = "blocks=4";
    for (int sparse = 0; sparse < 2; sparse++) {
        const char *method = sparse ? "mra2s" : "mra2";
        mra_attention_layer *layer = make(method, &five, 1);
        assert_int_equal(mra_attention_layer_check(layer, &err), MRA_BAD_INPUT);
        assert_non_null(strstr(err.message, "budget larger than the matrix"));
        assert_non_null(strstr(err.message, "blocks=5"));
        mra_attention_layer_free(layer);
        layer = make(method, &four, 1);
        assert_int_equal(mra_attention_layer_check(layer, &err), MRA_OK);
        mra_attention_layer_free(layer);
        layer = make(method, NULL, 0);
        assert_int_equal(mra_attention_layer_check(layer, &err), MRA_OK);
        mra_attention_layer_free(layer);
    }
    // 2 boxes of side 16 a row make 32 boxes of side 4; 33 of those are too many.
    const char *const budgets[] = {"blocks=2:33", "blocks=2:32", "blocks=9:1"};
    for (int i = 0; i < 3; i++) {
        mra_attention_layer *layer =
            make("mra", (const char *const[]){"scales=16:4:1", budgets[i]}, 2);
        assert_int_equal(mra_attention_layer_check(layer, &err),
                         i == 1 ? MRA_OK : MRA_BAD_INPUT);
        mra_attention_layer_free(layer);
    }
}

// ---- Layers on plain arrays and on a tape
// -------------------------------------------------------

static void run(mra_attention_layer *layer, dense_arrays *arrays)
{
    mra_error err;
    float **x = arrays->x;
    for (int a = DENSE_Z; a < DENSE_ARRAYS; a++) // all of it is overwritten
        for (size_t i = 0; i < dense_size(shape); i++) x[a][i] = NAN;
    if (mra_attention_run(layer, tape, x[0], x[1], x[2], arrays->mask, x[DENSE_Z], x[DENSE_DZ],
                          x[DENSE_DQ], x[DENSE_DK], x[DENSE_DV], &err) != MRA_OK)
        fail_msg("%s", err.message);
}

static mra_tensor *wrap(dense_arrays *arrays, int data, int gradient)
{
    const int dims[4] = {shape.batch, shape.heads, shape.n, shape.d};
    float *grad = gradient ? arrays->x[gradient] : NULL;
    if (grad) memset(grad, 0, dense_size(shape) * sizeof *grad);
    return mra_wrap(tape, 4, dims, arrays->x[data], grad);
}

// The same result on the tape, with the operands' gradients wanted as the bits of `wanted` say.
static void apply(mra_attention_layer *layer, dense_arrays *arrays, int wanted)
{
    mra_error err;
    mra_tape_mode(tape, true, true, 1, 0);
    mra_tensor *x[3];
    for (int i = 0; i < 3; i++) x[i] = wrap(arrays, i, wanted >> i & 1 ? DENSE_DQ + i : 0);
    mra_tensor *z = mra_attention_apply(layer, tape, x[0], x[1], x[2], arrays->mask);
    assert_int_equal(mra_tape_status(tape, &err), MRA_OK);
    memcpy(arrays->x[DENSE_Z], z->data, dense_size(shape) * sizeof(float));
    if (wanted && z->needs_grad) { // not where only K is wanted and the method does not read it
        // The layer and the mask are used for something else before the way back.
        if (arrays->mask) memset(arrays->mask, 1, (size_t)(shape.batch * shape.n));
        assert_non_null(mra_attention_apply(layer, tape, x[2], x[0], x[1], NULL));
        if (mra_tape_backward_from(tape, z, arrays->x[DENSE_DZ], &err) != MRA_OK)
            fail_msg("%s", err.message);
    }
    mra_tape_reset(tape);
}

static void test_run_and_apply_agree(void **state)
{
    (void)state;
    const char *const budget[] = {"blocks=2"};
    const size_t bytes = dense_size(shape) * sizeof(float);
    for (int m = 0; mra_method_at(m); m++) {
        const char *name = mra_method_at(m)->name;
        mra_attention_layer *layer = make(name, budget, strncmp(name, "mra2", 4) == 0);
        dense_arrays expected = dense_make(shape, 1.0f, true);
        run(layer, &expected);
        for (int a = DENSE_Z; a < DENSE_ARRAYS; a++)
            for (size_t i = 0; i < dense_size(shape); i++)
                assert_true(isfinite(expected.x[a][i]));
        for (int wanted = 0; wanted < 8; wanted++) {
            dense_arrays arrays = dense_make(shape, 1.0f, true);
            apply(layer, &arrays, wanted);
            assert_memory_equal(arrays.x[DENSE_Z], expected.x[DENSE_Z], bytes);
            for (int i = 0; i < 3; i++)
                if (wanted >> i & 1)
                    assert_memory_equal(arrays.x[DENSE_DQ + i], expected.x[DENSE_DQ + i],
                                        bytes);
            dense_release(&arrays);
        }
        dense_release(&expected);
        mra_attention_layer_free(layer);
    }
}

// A method without a `run` of its own goes over the tape and gives the same; z may be left out.
static void test_run_over_the_tape(void **state)
{
    (void)state;
    const size_t bytes = dense_size(shape) * sizeof(float);
    mra_attention_layer *layer = make("exact", NULL, 0);
    dense_arrays direct = dense_make(shape, 1.0f, true), taped = dense_make(shape, 1.0f, true);
    run(layer, &direct);
    mra_method indirect = *layer->method;
    indirect.run = NULL;
    layer->method = &indirect;
    run(layer, &taped);
    for (int a = DENSE_Z; a < DENSE_ARRAYS; a++)
        assert_memory_equal(direct.x[a], taped.x[a], bytes);
    layer->method = mra_method_find("exact");
    float **x = taped.x;
    mra_error err;
    memset(x[DENSE_DQ], 0, bytes);
    assert_int_equal(mra_attention_run(layer, tape, x[0], x[1], x[2], taped.mask, NULL,
                                       x[DENSE_DZ], x[DENSE_DQ], x[DENSE_DK], x[DENSE_DV],
                                       &err),
                     MRA_OK);
    assert_memory_equal(direct.x[DENSE_DQ], x[DENSE_DQ], bytes);
    memset(x[DENSE_Z], 0, bytes);
    assert_int_equal(mra_attention_run(layer, tape, x[0], x[1], x[2], taped.mask, x[DENSE_Z],
                                       NULL, NULL, NULL, NULL, &err),
                     MRA_OK);
    assert_memory_equal(direct.x[DENSE_Z], x[DENSE_Z], bytes);
    dense_release(&direct);
    dense_release(&taped);
    mra_attention_layer_free(layer);
}

// Every block refined: nothing is approximated any more.
static void test_full_budget_is_exact(void **state)
{
    (void)state;
    const char *const two[] = {"blocks=4"};
    const char *const any[] = {"scales=16:4:1", "blocks=8:128"};
    const struct {
        const char *name;
        const char *const *options;
        int count;
    } full[] = {{"mra2", two, 1}, {"mra2s", two, 1}, {"mra", any, 2}};
    mra_attention_layer *exact = make("exact", NULL, 0);
    dense_arrays expected = dense_make(shape, 1.0f, true);
    run(exact, &expected);
    for (int m = 0; m < 3; m++) {
        mra_attention_layer *layer = make(full[m].name, full[m].options, full[m].count);
        dense_arrays arrays = dense_make(shape, 1.0f, true);
        run(layer, &arrays);
        for (int a = DENSE_Z; a < DENSE_ARRAYS; a++) {
            double *wide = dense_copy(expected.x[a], dense_size(shape));
            assert_close(arrays.x[a], wide, dense_size(shape), 1e-5);
            free(wide);
        }
        dense_release(&arrays);
        mra_attention_layer_free(layer);
    }
    dense_release(&expected);
    mra_attention_layer_free(exact);
}

static void test_statistics(void **state)
{
    (void)state;
    assert_null(mra_method_find("exact")->statistics);
    const char *const budget[] = {"blocks=2"};
    mra_attention_layer *layer = make("mra2", budget, 1);
    dense_arrays arrays = dense_make(shape, 1.0f, false);
    run(layer, &arrays);
    const mra_statistics statistics = layer->method->statistics(layer);
    assert_int_equal(statistics.empty_rows, 0);
    assert_int_equal(statistics.boxes[0], 4 * (4 * 4 - 2 * 4)); // heads x (all less refined)
    dense_release(&arrays);
    mra_attention_layer_free(layer);
}

static void test_apply_refuses_other_shapes(void **state)
{
    (void)state;
    mra_error err;
    mra_attention_layer *layer = make("exact", NULL, 0);
    dense_arrays arrays = dense_make(shape, 1.0f, false);
    const int dims[4] = {shape.batch, shape.heads, shape.n - 1, shape.d};
    mra_tensor *q = wrap(&arrays, 0, 0), *k = mra_wrap(tape, 4, dims, arrays.x[1], NULL);
    assert_null(mra_attention_apply(layer, tape, q, k, q, NULL));
    assert_int_equal(mra_tape_status(tape, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "exact"));
    mra_tape_reset(tape);
    assert_null(mra_attention_apply(layer, tape, NULL, NULL, NULL, NULL));
    mra_tape_reset(tape);
    dense_release(&arrays);
    mra_attention_layer_free(layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_options_are_read),
        cmocka_unit_test(test_options_are_refused),
        cmocka_unit_test(test_shapes_are_refused),
        cmocka_unit_test(test_budget_larger_than_the_matrix),
        cmocka_unit_test(test_run_and_apply_agree),
        cmocka_unit_test(test_run_over_the_tape),
        cmocka_unit_test(test_full_budget_is_exact),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_apply_refuses_other_shapes),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
