// A training's needs, looked at before it begins.
//
// How long a run takes depends on the method, on its options, on the length and on the machine; any formula for it would
// have to be fitted. It is simpler to make the model and take a step: the cost of a batch is linear in its examples, and what it
// costs does not depend on which tokens they hold, but for the methods that hash or choose blocks, where random
// tokens are a fair sample. So a step on two random examples, scaled to the batch, is the
// estimate.

#include "nn/train_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/file.h"
#include "core/random.h"
#include "nn/classifier.h"
#include "nn/evaluate.h"

enum { FEW = 2 };

// A batch of random tokens.
typedef struct sample {
    mra_batch batch;
    int32_t *ids, *labels;
    uint8_t *mask;
} sample;

static int longest(const mra_train_options *options)
{
    const int positions = options->classify.model.encoder.positions,
              multiple = options->classify.multiple;
    if (!options->classify.bucketed) return positions;
    const int n = (options->classify.data.maximum_length + multiple - 1) / multiple * multiple;
    return n < positions ? n : positions;
}

static mra_status make_sample(sample *sample, const mra_train_options *options,
                              const mra_classifier_options *model, mra_error *err)
{
    const int count = options->batch < FEW ? options->batch : FEW, n = longest(options);
    const size_t tokens = (size_t)(model->pairs ? 2 * count : count) * (size_t)n;
    sample->ids = malloc(tokens * sizeof *sample->ids);
    sample->mask = malloc(tokens);
    sample->labels = malloc((size_t)count * sizeof *sample->labels);
    if (!sample->ids || !sample->mask || !sample->labels)
        return mra_fail(err, MRA_NO_MEMORY, "estimate: no memory for %d examples", count);
    mra_random random = mra_random_open(options->seed, mra_stream("estimate", 0, 0));
    for (size_t i = 0; i < tokens; i++) {
        sample->ids[i] =
            1 + (int32_t)mra_random_below(&random, (uint32_t)model->encoder.vocabulary - 1);
        sample->mask[i] = 1;
    }
    for (int i = 0; i < count; i++)
        sample->labels[i] = (int32_t)mra_random_below(&random, (uint32_t)model->classes);
    sample->batch = (mra_batch){count, n, sample->ids, sample->mask, sample->labels};
    return MRA_OK;
}

// One pass, with the gradient or without.
static mra_status pass(mra_classifier *model, mra_tape *tape, const mra_batch *batch,
                       bool training, mra_error *err)
{
    float loss;
    int correct;
    mra_tape_mode(tape, training, training, 1, 0);
    mra_tensor *output = mra_classifier_loss(model, tape, batch, &correct);
    mra_status status = mra_tape_value(tape, output, &loss, err);
    if (status == MRA_OK && training) status = mra_tape_backward(tape, output, err);
    mra_tape_reset(tape);
    return status;
}

// Seconds for one example: the first pass makes room and is not counted; of those that follow the fastest is, for the others
// waited for whatever else runs on the machine.
static mra_status time_passes(mra_classifier *model, mra_tape *tape, const mra_batch *batch,
                              bool training, double *seconds, mra_error *err)
{
    mra_status status = pass(model, tape, batch, training, err);
    const double begin = mra_seconds();
    double fastest = INFINITY;
    for (int i = 0; status == MRA_OK && (i < 2 || mra_seconds() - begin < 0.1); i++) {
        const double start = mra_seconds();
        status = pass(model, tape, batch, training, err);
        fastest = fmin(fastest, mra_seconds() - start);
    }
    *seconds = fastest / batch->count;
    return status;
}

static double evaluated(size_t examples, size_t split)
{
    return (double)(examples && (!split || examples < split) ? examples : split);
}

static mra_status estimate(const mra_train_options *options, mra_classifier *model,
                           mra_device *device, mra_train_check *check, mra_error *err)
{
    mra_tape *tape = NULL;
    sample sample = {0};
    double example = 0;
    mra_status status = mra_tape_create(&tape, device, err);
    if (status == MRA_OK) status = make_sample(&sample, options, &model->options, err);
    if (status == MRA_OK) status = time_passes(model, tape, &sample.batch, true, &example, err);
    if (status == MRA_OK)
        status = time_passes(model, tape, &sample.batch, false, &check->example_seconds, err);
    const mra_dataset_options *data = &options->classify.data;
    const double steps = (double)options->schedule.steps;
    const double rounds =
        (double)((options->schedule.steps + options->eval_every - 1) / options->eval_every);
    const size_t dev = data->held_out ? data->held_out : data->dev;
    check->step_seconds = example * options->batch;
    check->seconds = steps * check->step_seconds +
                     check->example_seconds * (rounds * evaluated(options->dev_examples, dev) +
                                               evaluated(options->test_examples, data->test));
    free(sample.ids);
    free(sample.mask);
    free(sample.labels);
    mra_tape_free(tape);
    return status;
}

mra_status mra_classify_check(const mra_train_options *options, mra_device *device, bool timed,
                              mra_train_check *check, mra_error *err)
{
    *check = (mra_train_check){0};
    mra_classifier *model = NULL;
    mra_classifier_options needed = options->classify.model;
    mra_error absent;
    mra_status status = mra_dataset_about(options->classify.data.name,
                                          &needed.encoder.vocabulary, &needed.classes, err);
    if (status != MRA_OK) return status;
    needed.pairs = mra_dataset_pairs(options->classify.data.name);
    status = mra_dataset_find(&options->classify.data, &absent);
    check->present = status == MRA_OK;
    if (status != MRA_OK && status != MRA_ABSENT)
        return mra_fail(err, status, "%s", absent.message);
    if (status != MRA_OK) snprintf(check->absent, sizeof check->absent, "%s", absent.message);
    status = mra_classifier_create(&model, &needed, device, err);
    if (status != MRA_OK) return status;
    check->weights = model->parameters.size;
    if (timed) status = estimate(options, model, device, check, err);
    mra_classifier_free(model);
    return status;
}

mra_status mra_train_check_run(const mra_train_options *options, mra_device *device, bool timed,
                               mra_train_check *check, mra_error *err)
{
    *check = (mra_train_check){0};
    if (options->task->check) return options->task->check(options, device, timed, check, err);
    return mra_fail(err, MRA_BAD_INPUT, "trainings of the task %s cannot be checked",
                    options->task->name);
}
