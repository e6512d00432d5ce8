// The tape itself: sticky errors and their messages, nodes written elsewhere, what backward
// skips and repeats.

#include "check.h"

static mra_device *device;
static mra_tape *tape;

static int open_tape(void **state)
{
    (void)state;
    device = check_open(CHECK_THREADS);
    tape = check_tape(device);
    return 0;
}

static int close_tape(void **state)
{
    (void)state;
    mra_tape_free(tape);
    mra_device_close(device);
    return 0;
}

static float memory[4096];
static float gradient[4096];

static mra_tensor *leaf(int rank, const int *shape)
{
    return mra_wrap(tape, rank, shape, memory, gradient);
}
#define SHAPE(...)                                             \
    (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (int[]) \
    {                                                          \
        __VA_ARGS__                                            \
    }

// The operation failed, with a message that holds the three texts; clears the error.
static void expect_error(const mra_tensor *result, const char *name, const char *one,
                         const char *other)
{
    mra_error err = {MRA_OK, ""};
    assert_null(result);
    assert_int_equal(mra_tape_status(tape, &err), MRA_BAD_INPUT);
    const char *const words[] = {name, one, other};
    for (int i = 0; i < 3; i++)
        if (!strstr(err.message, words[i]))
            fail_msg("'%s' does not say '%s'", err.message, words[i]);
    if (strchr(err.message, '\n')) fail_msg("'%s' has more than one line", err.message);
    mra_tape_reset(tape);
}

static void test_shapes_that_do_not_fit(void **state)
{
    (void)state;
    expect_error(mra_add(tape, leaf(SHAPE(2, 3)), leaf(SHAPE(3, 2))), "add", "[2,3]", "[3,2]");
    expect_error(mra_add(tape, leaf(SHAPE(6)), leaf(SHAPE(6, 1))), "add", "[6]", "[6,1]");
    expect_error(mra_multiply(tape, leaf(SHAPE(2)), leaf(SHAPE(3))), "multiply", "[2]", "[3]");
    expect_error(mra_linear(tape, leaf(SHAPE(2, 5)), leaf(SHAPE(4, 6)), NULL), "linear",
                 "[2,5]", "[4,6]");
    expect_error(mra_linear(tape, leaf(SHAPE(2, 5)), leaf(SHAPE(4, 5)), leaf(SHAPE(5))),
                 "linear", "[4,5]", "b[5]");
    expect_error(mra_layer_norm(tape, leaf(SHAPE(2, 5)), leaf(SHAPE(5)), leaf(SHAPE(4)), 1e-5f),
                 "layer_norm", "[2,5]", "beta[4]");
    expect_error(mra_matmul(tape, leaf(SHAPE(2, 3, 4)), false, leaf(SHAPE(2, 3, 4)), false),
                 "matmul", "[2,3,4]", "B[2,3,4]");
    expect_error(mra_matmul(tape, leaf(SHAPE(2, 3, 4)), false, leaf(SHAPE(3, 4, 2)), false),
                 "matmul", "[2,3,4]", "[3,4,2]");
    expect_error(mra_split_heads(tape, leaf(SHAPE(2, 3, 7)), 2), "split_heads", "[2,3,7]", "2");
    expect_error(mra_merge_heads(tape, leaf(SHAPE(2, 3, 7))), "merge_heads", "[2,3,7]",
                 "heads");
    expect_error(mra_reshape(tape, leaf(SHAPE(2, 3)), SHAPE(7)), "reshape", "[2,3]", "[7]");
    expect_error(mra_apply_mask(tape, leaf(SHAPE(2, 3)), NULL), "apply_mask", "[2,3]", "batch");
    expect_error(mra_mean_pool(tape, leaf(SHAPE(2, 3)), NULL), "mean_pool", "[2,3]", "batch");
    expect_error(mra_concat(tape, (mra_tensor *[]){leaf(SHAPE(2, 3)), leaf(SHAPE(3, 3))}, 2),
                 "concat", "[2,3]", "[3,3]");
    expect_error(mra_concat(tape, NULL, 5), "concat", "5", "4");
}

static void test_values_that_do_not_fit(void **state)
{
    (void)state;
    expect_error(mra_embedding(tape, leaf(SHAPE(4, 2)), (int32_t[]){0, 4}, 2), "embedding",
                 "index 4", "0 to 3");
    expect_error(mra_embedding(tape, leaf(SHAPE(4, 2)), (int32_t[]){-1}, 1), "embedding",
                 "index -1", "position 0");
    expect_error(mra_embedding(tape, leaf(SHAPE(4)), NULL, 0), "embedding", "[4]", "width");
    expect_error(mra_add_positions(tape, leaf(SHAPE(1, 5, 2)), leaf(SHAPE(4, 2)), NULL),
                 "add_positions", "[1,5,2]", "[4,2]");
    expect_error(
        mra_add_positions(tape, leaf(SHAPE(1, 1, 2)), leaf(SHAPE(4, 2)), (int32_t[]){9}),
        "add_positions", "index 9", "0 to 3");
    expect_error(mra_dropout(tape, leaf(SHAPE(3)), 1.0f, 0), "dropout", "1", "p < 1");
    expect_error(mra_dropout(tape, leaf(SHAPE(3)), NAN, 0), "dropout", "nan", "p < 1");
    expect_error(mra_cross_entropy(tape, leaf(SHAPE(2, 3)), (int32_t[]){0, 3}, NULL),
                 "cross_entropy", "label 3", "row 1");
    expect_error(mra_cross_entropy(tape, leaf(SHAPE(6)), NULL, NULL), "cross_entropy", "[6]",
                 "classes");
    expect_error(mra_wrap(tape, 6, (int[]){1, 1, 1, 1, 1, 1}, memory, NULL), "tensor", "rank 6",
                 "5");
    expect_error(mra_wrap(tape, SHAPE(2, -1), memory, NULL), "tensor", "-1", "1");
    mra_tensor *tensor;
    mra_error err;
    const int huge[4] = {2000000000, 2000000000, 2000000000, 2};
    assert_int_equal(mra_tensor_create(&tensor, device, 4, huge, false, &err), MRA_BAD_INPUT);
    assert_null(tensor);
    assert_int_equal(mra_tensor_create(&tensor, device, 1, (int[]){-3}, false, &err),
                     MRA_BAD_INPUT);
}

// The first error stays; what follows returns NULL; reset clears it.
static void test_errors_are_sticky(void **state)
{
    (void)state;
    mra_error err;
    mra_tensor *wrong = mra_add(tape, leaf(SHAPE(2)), leaf(SHAPE(3)));
    assert_null(mra_gelu(tape, wrong));
    assert_null(mra_linear(tape, wrong, NULL, NULL));
    assert_null(mra_gelu(tape, leaf(SHAPE(2))));
    assert_null(mra_multiply(tape, leaf(SHAPE(4)), leaf(SHAPE(5))));
    assert_int_equal(mra_tape_backward(tape, NULL, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "add: a[2] and b[3]"));
    mra_tape_reset(tape);
    assert_int_equal(mra_tape_status(tape, &err), MRA_OK);
    assert_non_null(mra_gelu(tape, leaf(SHAPE(2))));
    assert_null(mra_tape_fail(tape, MRA_ABSENT, "%s is not there", "it"));
    assert_int_equal(mra_tape_status(tape, &err), MRA_ABSENT);
    assert_string_equal(err.message, "it is not there");
    mra_tape_reset(tape);
}

static void test_what_has_no_gradient(void **state)
{
    (void)state;
    mra_error err;
    mra_tensor *x = mra_wrap(tape, SHAPE(1), memory, NULL);
    mra_tensor *y = mra_scale(tape, x, 2.0f);
    assert_false(y->needs_grad);
    assert_null(y->grad);
    assert_int_equal(mra_tape_backward(tape, y, &err), MRA_BAD_INPUT);
    assert_int_equal(mra_tape_backward(tape, NULL, &err), MRA_BAD_INPUT);
    assert_int_equal(mra_tape_backward(tape, mra_gelu(tape, leaf(SHAPE(3))), &err),
                     MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "[3]"));
    mra_tape_mode(tape, false, false, 0, 0); // recording off
    assert_false(mra_gelu(tape, leaf(SHAPE(3)))->needs_grad);
    mra_tape_mode(tape, false, true, 0, 0);
    mra_tape_reset(tape);
}

// ---- What backward skips and repeats --------------------------------------------------------

// A branch that the loss does not use must not reach the gradients, whatever its memory holds;
// going back twice adds twice to leaves.
static void test_dead_branches_and_repeats(void **state)
{
    (void)state;
    mra_error err;
    check_poison(tape, 1 << 16);
    float data[3] = {1, 2, 3}, grad[3] = {0, 0, 0};
    mra_tensor *x = mra_wrap(tape, SHAPE(3), data, grad);
    mra_tensor *h = mra_scale(tape, x, 2.0f);
    mra_tensor *used = mra_multiply(tape, h, h);
    mra_gelu(tape, h);
    mra_add(tape, used, h);
    const float seed[3] = {1, 1, 1};
    for (int repeat = 1; repeat <= 2; repeat++) {
        assert_int_equal(mra_tape_backward_from(tape, used, seed, &err), MRA_OK);
        for (int i = 0; i < 3; i++) check_close(grad[i], (float)repeat * 8.0f * data[i], 1e-5f);
    }
    check_close(h->grad[1], 8.0f, 1e-5f); // intermediate gradients can be looked at
    assert_int_equal(mra_tape_backward_from(tape, x, seed, &err), MRA_OK);
    check_close(grad[0], 17.0f, 1e-5f);
    mra_tape_reset(tape);
}

// ---- A node written elsewhere ---------------------------------------------------------------

// y = 5 x, whose backward pass only knows how to add.
static mra_status adding_backward(mra_tape *on, mra_node *node, mra_error *err)
{
    (void)on, (void)err;
    const float factor = *(const float *)node->saved;
    for (size_t i = 0; i < node->output->size; i++)
        node->operand[0]->grad[i] += factor * node->output->grad[i];
    return MRA_OK;
}

static mra_status failing_backward(mra_tape *on, mra_node *node, mra_error *err)
{
    (void)on, (void)node;
    return mra_fail(err, MRA_NO_MEMORY, "no room");
}

static mra_tensor *fivefold(mra_tensor *x,
                            mra_status (*backward)(mra_tape *, mra_node *, mra_error *))
{
    float *factor = mra_tape_alloc(tape, sizeof *factor);
    mra_tensor *y = mra_tape_result(tape, x->rank, x->shape, x->needs_grad);
    *factor = 5.0f;
    for (size_t i = 0; i < x->size; i++) y->data[i] = 5.0f * x->data[i];
    return mra_tape_record(tape, &(mra_node){.output = y,
                                             .operand = {x, NULL},
                                             .operands = 2,
                                             .saved = factor,
                                             .backward = backward,
                                             .name = "fivefold"});
}

static void test_custom_nodes(void **state)
{
    (void)state;
    mra_error err;
    check_poison(tape, 1 << 16);
    float data[2] = {1, 2}, grad[2] = {0.5f, 0.5f};
    const float seed[2] = {1, 10};
    mra_tensor *x = mra_wrap(tape, SHAPE(2), data, grad);
    mra_tensor *h = mra_scale(tape, x, 2.0f);
    mra_tensor *view = mra_reshape(tape, h, SHAPE(1, 2));
    mra_tensor *sum =
        mra_add(tape, mra_reshape(tape, fivefold(view, adding_backward), SHAPE(2)),
                fivefold(h, adding_backward));
    check_close(sum->data[1], 40.0f, 0);
    assert_int_equal(mra_tape_backward_from(tape, sum, seed, &err), MRA_OK);
    check_close(grad[0], 20.5f, 1e-5f);
    check_close(grad[1], 200.5f, 1e-4f);
    mra_tensor *bad = fivefold(x, failing_backward);
    assert_int_equal(mra_tape_backward_from(tape, bad, seed, &err), MRA_NO_MEMORY);
    assert_non_null(strstr(err.message, "fivefold: no room"));
    assert_int_equal(mra_tape_backward_from(tape, bad, seed, NULL), MRA_NO_MEMORY);
    mra_tape_reset(tape);
}

// The caller's ids, labels and masks may change once an operation has returned.
static void test_host_arrays_are_copied(void **state)
{
    (void)state;
    mra_error err;
    float table[4] = {1, 2, 3, 4}, grad[4] = {0};
    int32_t ids[2] = {1, 0}, label[1] = {1};
    uint8_t mask[2] = {0, 1};
    mra_tensor *x = mra_embedding(tape, mra_wrap(tape, SHAPE(2, 2), table, grad), ids, 2);
    x = mra_apply_mask(tape, mra_reshape(tape, x, SHAPE(1, 2, 2)), mask);
    x = mra_mean_pool(tape, x, mask);
    mra_tensor *loss = mra_cross_entropy(tape, x, label, NULL);
    ids[0] = ids[1] = 1;
    label[0] = mask[1] = 0;
    mask[0] = 1;
    assert_int_equal(mra_tape_backward(tape, loss, &err), MRA_OK);
    const float p = 1.0f / (1.0f + expf(1.0f)); // softmax of (1, 2) at 0
    const float want[4] = {p, -p, 0, 0};
    for (int i = 0; i < 4; i++) check_close(grad[i], want[i], 1e-6f);
    mra_tape_reset(tape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes_that_do_not_fit),
        cmocka_unit_test(test_values_that_do_not_fit),
        cmocka_unit_test(test_errors_are_sticky),
        cmocka_unit_test(test_what_has_no_gradient),
        cmocka_unit_test(test_dead_branches_and_repeats),
        cmocka_unit_test(test_custom_nodes),
        cmocka_unit_test(test_host_arrays_are_copied),
    };
    return cmocka_run_group_tests(tests, open_tape, close_tape);
}
