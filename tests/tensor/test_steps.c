// Whole training steps of a small encoder: bit-identical for any number of threads, and without
// asking the system for memory after the first.

#include "check.h"

enum {
    BATCH = 3,
    LENGTH = 700,
    WIDTH = 24,
    HEADS = 2,
    HIDDEN = 40,
    VOCABULARY = 19,
    CLASSES = 5
};
enum { PARAMETERS = 14, STEPS = 3 };

static const int parameter_shape[PARAMETERS][2] = {
    {VOCABULARY, WIDTH}, {LENGTH, WIDTH}, {1, WIDTH}, {1, WIDTH},          {WIDTH, WIDTH},
    {1, WIDTH},          {WIDTH, WIDTH},  {1, WIDTH}, {1, WIDTH},          {HIDDEN, WIDTH},
    {1, HIDDEN},         {WIDTH, HIDDEN}, {1, WIDTH}, {CLASSES, 2 * WIDTH}};

typedef struct model {
    mra_device *device;
    mra_tape *tape;
    mra_tensor *weight[PARAMETERS], *first[PARAMETERS], *second[PARAMETERS];
    int32_t ids[BATCH * LENGTH], labels[BATCH];
    uint8_t mask[BATCH * LENGTH];
} model;

static mra_tensor *parameter(model *m, int index, bool needs_grad)
{
    mra_tensor *tensor;
    mra_error err;
    const int *shape = parameter_shape[index], rank = shape[0] == 1 ? 1 : 2;
    assert_int_equal(mra_tensor_create(&tensor, m->device, rank, rank == 1 ? shape + 1 : shape,
                                       needs_grad, &err),
                     MRA_OK);
    return tensor;
}

static model *open_model(int threads)
{
    model *m = calloc(1, sizeof *m);
    m->device = check_open(threads);
    m->tape = check_tape(m->device);
    for (int i = 0; i < PARAMETERS; i++) {
        m->weight[i] = parameter(m, i, true);
        m->first[i] = parameter(m, i, false);
        m->second[i] = parameter(m, i, false);
        mra_fill_normal(m->weight[i]->data, m->weight[i]->size, 0.2f, check_seed(),
                        (uint64_t)i);
    }
    mra_random random = mra_random_open(check_seed(), 1000);
    for (int i = 0; i < BATCH * LENGTH; i++) {
        m->ids[i] = (int32_t)mra_random_below(&random, VOCABULARY);
        m->mask[i] = mra_random_below(&random, 5) > 0;
    }
    for (int i = 0; i < BATCH; i++) m->labels[i] = (int32_t)mra_random_below(&random, CLASSES);
    return m;
}

static void close_model(model *m)
{
    for (int i = 0; i < PARAMETERS; i++) {
        mra_tensor_free(m->weight[i], m->device);
        mra_tensor_free(m->first[i], m->device);
        mra_tensor_free(m->second[i], m->device);
    }
    mra_tape_free(m->tape);
    mra_device_close(m->device);
    free(m);
}

// Mixes positions as h softmax(h^T h)^T per head, which takes both kinds of batched products.
static mra_tensor *mix(mra_tape *tape, mra_tensor *x)
{
    mra_tensor *h = mra_split_heads(tape, x, HEADS);
    mra_tensor *inner =
        mra_softmax(tape, mra_scale(tape, mra_matmul(tape, h, true, h, false), 0.01f));
    return mra_merge_heads(tape, mra_matmul(tape, h, false, inner, true));
}

static mra_tensor *forward(model *m)
{
    mra_tape *tape = m->tape;
    mra_tensor **w = m->weight;
    mra_tensor *x = mra_embedding(tape, w[0], m->ids, BATCH * LENGTH);
    x = mra_reshape(tape, x, 3, (int[]){BATCH, LENGTH, WIDTH});
    x = mra_dropout(tape, mra_add_positions(tape, x, w[1], NULL), 0.1f, 0);
    mra_tensor *h = mra_layer_norm(tape, x, w[2], w[3], 1e-5f);
    h = mra_linear(tape, mix(tape, mra_linear(tape, h, w[4], w[5])), w[6], w[7]);
    x = mra_add(tape, x, mra_dropout(tape, h, 0.1f, 1));
    h = mra_gelu(tape,
                 mra_linear(tape, mra_layer_norm(tape, x, w[8], w[3], 1e-5f), w[9], w[10]));
    x = mra_add(tape, x, mra_linear(tape, h, w[11], w[12]));
    x = mra_apply_mask(tape, x, m->mask);
    mra_tensor *pools[2] = {mra_mean_pool(tape, x, m->mask),
                            mra_relu(tape, mra_mean_pool(tape, x, NULL))};
    x = mra_concat(tape, pools, 2);
    return mra_cross_entropy(tape, mra_linear(tape, x, w[13], NULL), m->labels, NULL);
}

static float training_step(model *m, uint64_t step)
{
    const mra_kernels *kernels = m->device->kernels;
    mra_error err;
    mra_tape_reset(m->tape);
    mra_tape_mode(m->tape, true, true, 7, step);
    for (int i = 0; i < PARAMETERS; i++)
        kernels->fill(m->device, m->weight[i]->size, 0.0f, m->weight[i]->grad, &err);
    mra_tensor *loss = forward(m);
    if (mra_tape_backward(m->tape, loss, &err)) fail_msg("%s", err.message);
    double norm = 0.0;
    for (int i = 0; i < PARAMETERS; i++) {
        double sum;
        kernels->sum_of_squares(m->device, m->weight[i]->size, m->weight[i]->grad, &sum, &err);
        assert_true(sum > 0.0);
        norm += sum;
    }
    const mra_adamw settings = {1e-2, 0.9, 0.999, 1e-6, 0.01, 1.0 / sqrt(1.0 + norm), step};
    for (int i = 0; i < PARAMETERS; i++)
        kernels->adamw(m->device, &settings, m->weight[i]->size, m->weight[i]->data,
                       m->weight[i]->grad, m->first[i]->data, m->second[i]->data, &err);
    return loss->data[0];
}

static void test_threads_change_nothing(void **state)
{
    (void)state;
    const int threads[3] = {1, 2, 4};
    model *models[3];
    float loss[3][STEPS];
    for (int k = 0; k < 3; k++) {
        models[k] = open_model(threads[k]);
        for (uint64_t step = 1; step <= STEPS; step++)
            loss[k][step - 1] = training_step(models[k], step);
    }
    for (int k = 1; k < 3; k++) {
        assert_memory_equal(loss[0], loss[k], sizeof loss[0]);
        for (int i = 0; i < PARAMETERS; i++) {
            const mra_tensor *one = models[0]->weight[i], *many = models[k]->weight[i];
            assert_memory_equal(one->grad, many->grad, one->size * sizeof(float));
            assert_memory_equal(one->data, many->data, one->size * sizeof(float));
        }
    }
    assert_true(loss[0][STEPS - 1] < loss[0][0]); // and it learns
    for (int k = 0; k < 3; k++) close_model(models[k]);
}

// ---- Memory ---------------------------------------------------------------------------------

// How often this process asked for memory. Under the sanitizers, which have an allocator of
// their own, only the arena is counted.
static size_t requests;

#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static void count_request(void)
{
    __atomic_fetch_add(&requests, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
    count_request();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    count_request();
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    count_request();
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count_request();
    return __libc_memalign(alignment, size);
}
#endif

static void test_steps_allocate_nothing(void **state)
{
    (void)state;
    model *m = open_model(CHECK_THREADS);
    training_step(m, 1);
    mra_tape_reset(m->tape); // the arena settles into one chunk
    const size_t chunks = mra_tape_arena(m->tape)->requests, before = requests;
    for (uint64_t step = 2; step < 5; step++) training_step(m, step);
    assert_int_equal(mra_tape_arena(m->tape)->requests, chunks);
    assert_int_equal(requests, before);
#ifndef __SANITIZE_ADDRESS__
    assert_true(before > 0); // the counting works
#endif
    close_model(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_steps_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
