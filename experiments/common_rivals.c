// The methods beside MRA-2, as settings name them; see common_rivals.h.

#include "common_rivals.h"

#include <stdlib.h>
#include <string.h>

static bool is_option(const mra_method *method, const char *name)
{
    for (int i = 0; i < method->option_count; i++)
        if (!strcmp(method->options[i].name, name)) return true;
    return false;
}

// "window 0.25 16 32 64", or "default".
static mra_status read_sweep(const mra_experiment *experiment, const char *line,
                             mra_rival_sweep *sweep, mra_error *err)
{
    int used = 0;
    const char *rest = line;
    if (!strcmp(line, "default")) return MRA_OK;
    if (sscanf(rest, " %31s %lf%n", sweep->option, &sweep->share, &used) < 2)
        return mra_fail(
            err, MRA_BAD_INPUT,
            "%s: %s: '%s': expected 'default', or an option, a share of n and values",
            experiment->settings_path, sweep->method->name, line);
    if (!is_option(sweep->method, sweep->option))
        return mra_fail(err, MRA_BAD_INPUT, "%s: %s: the method has no option '%s'",
                        experiment->settings_path, sweep->method->name, sweep->option);
    for (rest += used; sweep->count < MRA_RIVAL_VALUES; rest += used, sweep->count++)
        if (sscanf(rest, " %lf%n", &sweep->value[sweep->count], &used) < 1) break;
    if (sweep->count == 0 || strspn(rest, " \t") != strlen(rest))
        return mra_fail(err, MRA_BAD_INPUT, "%s: %s: '%s': expected 1 to %d numbers",
                        experiment->settings_path, sweep->method->name, line, MRA_RIVAL_VALUES);
    return MRA_OK;
}

static bool is_named(const char *const *names, const char *name)
{
    for (; names && *names; names++)
        if (!strcmp(*names, name)) return true;
    return false;
}

mra_status mra_rival_sweeps(mra_experiment *experiment, const char *const *except,
                            mra_rival_sweep sweeps[MRA_RIVALS], int *count, mra_error *err)
{
    *count = 0;
    for (int i = 0; mra_method_at(i) && *count < MRA_RIVALS; i++) {
        const mra_method *method = mra_method_at(i);
        if (is_named(except, method->name)) continue;
        const char *line = mra_experiment_text(experiment, method->name);
        if (!line) continue;
        mra_rival_sweep *sweep = &sweeps[(*count)++];
        *sweep = (mra_rival_sweep){.method = method};
        mra_status status = read_sweep(experiment, line, sweep, err);
        if (status != MRA_OK) return status;
    }
    return MRA_OK;
}

bool mra_rival_assignment(const mra_rival_sweep *sweep, size_t i, int n, char *text,
                          size_t room)
{
    *text = '\0';
    if (!*sweep->option) return i == 0;
    if (i >= sweep->count || sweep->value[i] > sweep->share * n) return false;
    snprintf(text, room, "%s=%g", sweep->option, sweep->value[i]);
    return true;
}
