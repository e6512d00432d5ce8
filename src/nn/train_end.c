// The end of a training: the best weights are tested, and written down with all that belongs to them.

#include <stdio.h>

#include "nn/trainer.h"

static mra_status write_weights(mra_trainer *trainer, const mra_train_result *result,
                                mra_error *err)
{
    char path[MRA_TRAIN_NAME];
    mra_safetensors *file = NULL;
    const mra_task *task = trainer->task;
    mra_status status = mra_trainer_path(trainer, path, "weights.safetensors", err);
    if (status == MRA_OK) status = mra_safetensors_create(&file, err);
    if (status == MRA_OK)
        status = mra_safetensors_set(file, "settings", trainer->settings, err);
    if (status == MRA_OK) status = task->kind->describe(task, file, err);
    if (status == MRA_OK)
        status = mra_safetensors_set_number(file, "step", (double)result->best_step, err);
    for (int k = 0; task->kind->metric[k] && status == MRA_OK; k++) {
        char key[80];
        snprintf(key, sizeof key, "dev_%s", task->kind->metric[k]);
        status = mra_safetensors_set_number(file, key, result->dev.metric[k], err);
        snprintf(key, sizeof key, "test_%s", task->kind->metric[k]);
        if (status == MRA_OK)
            status = mra_safetensors_set_number(file, key, result->test.metric[k], err);
    }
    if (status == MRA_OK)
        status = mra_parameters_store(task->parameters, "", trainer->best, file, err);
    if (status == MRA_OK) status = mra_safetensors_write(file, path, err);
    mra_safetensors_free(file);
    return status;
}

static mra_status write_record(const mra_trainer *trainer, const mra_train_result *result,
                               mra_error *err)
{
    mra_record *record = trainer->run->record;
    const mra_task *task = trainer->task;
    char path[MRA_TRAIN_NAME];
    mra_status status = mra_trainer_path(trainer, path, "run.json", err);
    if (!record || status != MRA_OK) return status;
    const char *source;
    for (int i = 0; (source = task->kind->source(task, i)) && status == MRA_OK; i++)
        status = mra_record_input(record, source, err);
    mra_record_text(record, "task", task->kind->name);
    mra_record_text(record, "training", trainer->settings);
    mra_record_number(record, "best_step", (double)result->best_step);
    for (int k = 0; task->kind->metric[k]; k++) {
        char key[80];
        snprintf(key, sizeof key, "dev_%s", task->kind->metric[k]);
        mra_record_number(record, key, result->dev.metric[k]);
        snprintf(key, sizeof key, "test_%s", task->kind->metric[k]);
        mra_record_number(record, key, result->test.metric[k]);
    }
    mra_record_number(record, "test_majority", result->test_majority);
    mra_record_number(record, "training_seconds", result->seconds);
    return status == MRA_OK ? mra_record_write(record, path, err) : status;
}

// The result comes last, for it says that the rest is there.
mra_status mra_trainer_finish(mra_trainer *trainer, mra_train_result *result, mra_error *err)
{
    const mra_train_state *state = &trainer->state;
    const mra_task *task = trainer->task;
    mra_status status = mra_parameters_from_host(task->parameters, trainer->best, err);
    if (status == MRA_OK) status = mra_trainer_evaluate(trainer, MRA_TEST, &result->test, err);
    if (status == MRA_INTERRUPTED)
        return mra_fail(err, MRA_INTERRUPTED,
                        "stopped while testing; the same command goes on from %s",
                        trainer->checkpoint);
    if (status != MRA_OK) return status;
    result->dev = state->best;
    result->dev_majority = task->kind->majority(task, MRA_DEV);
    result->test_majority = task->kind->majority(task, MRA_TEST);
    result->best_step = state->best_step;
    result->steps = state->step;
    result->weights = task->parameters->size;
    result->seconds = state->seconds;
    if (!trainer->first) return MRA_OK;
    status = write_weights(trainer, result, err);
    if (status == MRA_OK) status = write_record(trainer, result, err);
    if (status == MRA_OK)
        status = mra_train_result_write(trainer->result, task->kind, result, err);
    return status;
}
