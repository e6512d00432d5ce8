// A RoBERTa small enough for central differences: what the tests of nn/roberta.h share.
#ifndef MRA_TESTS_NN_ROBERTA_SMALL_H
#define MRA_TESTS_NN_ROBERTA_SMALL_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/random.h"
#include "io/safetensors.h"
#include "nn/roberta.h"

enum {
    VOCABULARY = 13,
    POSITIONS = 9,
    DIM = 6,
    HEADS = 2,
    HEAD_DIM = 4,
    INNER = HEADS * HEAD_DIM,
    HIDDEN = 10,
    BLOCKS = 2,
    CLASSES = 3
};

static inline uint64_t test_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
}

static inline mra_roberta_options small_options(mra_roberta_head head, int embedding)
{
    return (mra_roberta_options){.encoder = {.vocabulary = VOCABULARY,
                                             .positions = POSITIONS,
                                             .dim = DIM,
                                             .heads = HEADS,
                                             .head_dim = HEAD_DIM,
                                             .hidden = HIDDEN,
                                             .blocks = BLOCKS,
                                             .seed = test_seed(),
                                             .method = "exact"},
                                 .embedding = embedding,
                                 .types = 2,
                                 .head = head,
                                 .classes = CLASSES};
}

static mra_device *cpu;

static inline mra_roberta *make_model(const mra_roberta_options *options)
{
    mra_error err;
    mra_roberta *model;
    if (mra_roberta_create(&model, options, cpu, &err) != MRA_OK) fail_msg("%s", err.message);
    return model;
}

// All parameters, moved away from their initial values so that no path is nearly closed.
static inline float *scatter(mra_roberta *model, float deviation)
{
    mra_error err;
    float *values = malloc(model->parameters.size * sizeof *values);
    assert_int_equal(mra_parameters_to_host(&model->parameters, values, &err), MRA_OK);
    mra_random random = mra_random_open(test_seed(), 1);
    for (size_t i = 0; i < model->parameters.size; i++)
        values[i] += deviation * (float)mra_random_normal(&random);
    assert_int_equal(mra_parameters_from_host(&model->parameters, values, &err), MRA_OK);
    return values;
}

static inline int open_device(void **state)
{
    (void)state;
    mra_error err;
    return mra_device_open(&cpu, "cpu", 2, &err);
}

static inline int close_device(void **state)
{
    (void)state;
    mra_device_close(cpu);
    return 0;
}

#endif
