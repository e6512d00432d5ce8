// Listing, making and timing several methods side by side (see cli/rivals.h).

#include "cli/rivals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_option(const mra_method *method, const char *name, size_t length)
{
    for (int i = 0; i < method->option_count; i++)
        if (strlen(method->options[i].name) == length &&
            strncmp(method->options[i].name, name, length) == 0)
            return true;
    return false;
}

// The part of `setting` that is meant for `method`, or NULL.
static const char *setting_for(const char *setting, const mra_method *method)
{
    size_t name = strlen(method->name), key = strcspn(setting, ".=");
    if (setting[key] == '.' && key == name && strncmp(setting, method->name, name) == 0)
        return setting + key + 1; // an option that the method lacks is refused by the method
    return setting[key] == '=' && has_option(method, setting, key) ? setting : NULL;
}

static mra_status add_assignment(mra_cli_rival *rival, const char *assignment, mra_error *err)
{
    if (rival->assignments == MRA_METHOD_OPTIONS + 1)
        return mra_fail(err, MRA_BAD_INPUT, "--set: more settings than method %s has options",
                        rival->method->name);
    rival->assignment[rival->assignments++] = assignment;
    return MRA_OK;
}

static mra_status check_settings(const mra_cli_rivals *rivals, const mra_cli_words *set,
                                 mra_error *err)
{
    for (int s = 0; s < set->count; s++) {
        bool used = false;
        if (strchr(set->word[s], '=') == NULL)
            return mra_fail(err, MRA_BAD_INPUT,
                            "--set: '%s': expected KEY=VALUE or METHOD.KEY=VALUE",
                            set->word[s]);
        for (int i = 0; i < rivals->count; i++)
            used = used || setting_for(set->word[s], rivals->rival[i].method) != NULL;
        if (!used)
            return mra_fail(err, MRA_BAD_INPUT,
                            "--set: '%s': none of the methods has this option", set->word[s]);
    }
    return MRA_OK;
}

// One method, at one budget (NULL: what its options say).
static mra_status add_rival(mra_cli_rivals *rivals, const mra_method *method,
                            const char *budget, const mra_cli_words *set, mra_error *err)
{
    if (rivals->count == MRA_CLI_MAX_RIVALS)
        return mra_fail(err, MRA_BAD_INPUT, "more than %d methods and budgets",
                        MRA_CLI_MAX_RIVALS);
    mra_cli_rival *rival = &rivals->rival[rivals->count++];
    rival->method = method;
    mra_status status = MRA_OK;
    for (int s = 0; s < set->count && status == MRA_OK; s++) {
        const char *setting = setting_for(set->word[s], method);
        if (setting != NULL) status = add_assignment(rival, setting, err);
    }
    if (budget == NULL || status != MRA_OK) return status;
    if (strlen(budget) > sizeof rival->blocks - 8)
        return mra_fail(err, MRA_BAD_INPUT, "budget '%s': expected a number", budget);
    snprintf(rival->blocks, sizeof rival->blocks, "blocks=%s", budget);
    return add_assignment(rival, rival->blocks, err);
}

mra_status mra_cli_list_rivals(mra_cli_rivals *rivals, const mra_cli_words *methods,
                               const mra_cli_words *budgets, const mra_cli_words *set,
                               mra_error *err)
{
    *rivals = (mra_cli_rivals){.rival = calloc(MRA_CLI_MAX_RIVALS, sizeof(mra_cli_rival))};
    if (rivals->rival == NULL) return mra_fail(err, MRA_NO_MEMORY, "no memory for the methods");
    mra_status status = MRA_OK;
    for (int i = 0; i < methods->count && status == MRA_OK; i++) {
        const mra_method *method = mra_method_find(methods->word[i]);
        if (method == NULL)
            return mra_fail(
                err, MRA_BAD_INPUT,
                "--methods: unknown method '%s': `mra methods` lists those that exist",
                methods->word[i]);
        bool swept = budgets->count > 0 && has_option(method, "blocks", strlen("blocks"));
        if (!swept) status = add_rival(rivals, method, NULL, set, err);
        for (int b = 0; swept && b < budgets->count && status == MRA_OK; b++)
            status = add_rival(rivals, method, budgets->word[b], set, err);
    }
    return status == MRA_OK ? check_settings(rivals, set, err) : status;
}

bool mra_cli_several_methods(const mra_cli_rivals *rivals)
{
    for (int i = 1; i < rivals->count; i++)
        if (rivals->rival[i].method != rivals->rival[0].method) return true;
    return false;
}

mra_status mra_cli_create_rival(mra_cli_rival *rival, mra_device *device, mra_shape shape,
                                uint64_t seed, mra_cli_weights *weights, mra_error *err)
{
    mra_instance *instance = &rival->instance;
    mra_status status =
        mra_attention_layer_create(&instance->layer, rival->method->name, device, shape, seed,
                                   rival->assignment, rival->assignments, err);
    if (status == MRA_OK) status = mra_attention_layer_check(instance->layer, err);
    if (status == MRA_OK) status = mra_tape_create(&instance->tape, device, err);
    if (status == MRA_OK && weights)
        status = mra_cli_weights_load(weights, instance->layer, err);
    if (status == MRA_OK && weights)
        status = mra_cli_weights_keep(weights, instance->layer, err);
    return status;
}

mra_status mra_cli_create_rivals(mra_cli_rivals *rivals, mra_device *device, mra_shape shape,
                                 uint64_t seed, mra_cli_weights *weights, mra_error *err)
{
    mra_status status = MRA_OK;
    for (int i = 0; i < rivals->count && status == MRA_OK; i++)
        status = mra_cli_create_rival(&rivals->rival[i], device, shape, seed, weights, err);
    if (!weights || status != MRA_OK) return status;
    status = mra_cli_weights_check(weights, err);
    if (status == MRA_OK) status = mra_cli_weights_write(weights, err);
    return status;
}

void mra_cli_release_rival(mra_cli_rival *rival)
{
    if (rival->instance.tape != NULL) mra_tape_free(rival->instance.tape);
    if (rival->instance.layer != NULL) mra_attention_layer_free(rival->instance.layer);
    rival->instance = (mra_instance){0};
}

void mra_cli_release_rivals(mra_cli_rivals *rivals)
{
    for (int i = 0; i < rivals->count; i++) mra_cli_release_rival(&rivals->rival[i]);
}

void mra_cli_free_rivals(mra_cli_rivals *rivals)
{
    mra_cli_release_rivals(rivals);
    free(rivals->rival);
    *rivals = (mra_cli_rivals){0};
}

mra_status mra_cli_time_rivals(mra_cli_rivals *rivals, int repeats, mra_timing *forward,
                               mra_timing *both, mra_error *err)
{
    mra_work work[2 * MRA_CLI_MAX_RIVALS] = {{0}};
    mra_timing timing[2 * MRA_CLI_MAX_RIVALS];
    int count = rivals->count;
    for (int i = 0; i < count; i++) {
        mra_instance *instance = &rivals->rival[i].instance;
        work[i] = (mra_work){.run = mra_instance_forward, .context = instance};
        work[count + i] = (mra_work){.run = mra_instance_both, .context = instance};
    }
    mra_status status = mra_measure_times(work, 2 * count, repeats, timing, err);
    for (int i = 0; i < count && status == MRA_OK; i++) {
        forward[i] = timing[i];
        both[i] = timing[count + i];
    }
    return status;
}

void mra_cli_budget_text(const mra_cli_rival *rival, char *text, size_t room)
{
    const mra_option_value *blocks = mra_layer_option(rival->instance.layer, "blocks");
    snprintf(text, room, "-");
    if (blocks == NULL) return;
    if (blocks->count == 0) snprintf(text, room, "%g", blocks->number);
    size_t used = 0;
    for (int i = 0; i < blocks->count && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%g", i > 0 ? ":" : "",
                                 blocks->list[i]);
}
