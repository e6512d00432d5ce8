// Reading a method's options, "name=value", against its table.
#include "attention/methods.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mra_status unknown_option(const mra_method *method, const char *name, mra_error *err)
{
    char names[300] = "";
    for (int i = 0; i < method->option_count; i++) {
        strncat(names, i ? ", " : "", sizeof names - strlen(names) - 1);
        strncat(names, method->options[i].name, sizeof names - strlen(names) - 1);
    }
    if (method->option_count == 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: unknown option '%s': it has none",
                        method->name, name);
    return mra_fail(err, MRA_BAD_INPUT, "%s: unknown option '%s': expected one of %s",
                    method->name, name, names);
}

static mra_status bad_value(const mra_method *method, const mra_option *option,
                            const char *text, const char *expected, mra_error *err)
{
    return mra_fail(err, MRA_BAD_INPUT, "%s: %s=%s: expected %s", method->name, option->name,
                    text, expected);
}

// One number in [low, high] that ends at `end` (a NUL or a separator).
static mra_status read_number(const mra_method *method, const mra_option *option,
                              const char *text, const char *from, const char **end,
                              double *number, mra_error *err)
{
    char *stop, expected[120];
    errno = 0;
    *number = strtod(from, &stop);
    *end = stop;
    const bool whole = option->type == MRA_OPTION_INT;
    snprintf(expected, sizeof expected, "%s from %g to %g",
             whole ? "a whole number" : "a number", option->low, option->high);
    if (stop == from || errno != 0 || !isfinite(*number) ||
        (whole && *number != floor(*number)) || *number < option->low || *number > option->high)
        return bad_value(method, option, text, expected, err);
    return MRA_OK;
}

static mra_status read_list(const mra_method *method, const mra_option *option,
                            const char *text, mra_option_value *value, mra_error *err)
{
    const int room = (int)(sizeof value->list / sizeof value->list[0]);
    const char *at = text;
    for (value->count = 0;; at++) {
        if (value->count == room)
            return bad_value(method, option, text, "at most 8 numbers separated by ':'", err);
        mra_status status =
            read_number(method, option, text, at, &at, &value->list[value->count], err);
        if (status != MRA_OK) return status;
        value->count++;
        if (*at == '\0') return MRA_OK;
        if (*at != ':') return bad_value(method, option, text, "numbers separated by ':'", err);
    }
}

// "none" or HxW, as the list {H, W}.
static mra_status read_grid(const mra_method *method, const mra_option *option,
                            const char *text, mra_option_value *value, mra_error *err)
{
    int height, width, used = 0;
    value->count = 0;
    if (strcmp(text, "none") == 0) return MRA_OK;
    if (sscanf(text, "%dx%d%n", &height, &width, &used) != 2 || text[used] != '\0' ||
        height < 1 || width < 1 || height > option->high || width > option->high)
        return bad_value(method, option, text, "none or HEIGHTxWIDTH, e.g. 32x32", err);
    value->list[0] = height, value->list[1] = width;
    value->count = 2;
    return MRA_OK;
}

static mra_status read_choice(const mra_method *method, const mra_option *option,
                              const char *text, mra_option_value *value, mra_error *err)
{
    const size_t length = strlen(text);
    int position = 0;
    for (const char *at = option->choices; at; position++) {
        const size_t width = strcspn(at, "|");
        if (width == length && strncmp(at, text, width) == 0) {
            value->number = position;
            return MRA_OK;
        }
        at = at[width] ? at + width + 1 : NULL;
    }
    return bad_value(method, option, text, option->choices, err);
}

static mra_status read_value(const mra_method *method, const mra_option *option,
                             const char *text, mra_option_value *value, mra_error *err)
{
    static const char *const truth[] = {"no", "false", "off", "0", "yes", "true", "on", "1"};
    const char *end = text;
    mra_status status;
    switch (option->type) {
    case MRA_OPTION_LIST:
        return read_list(method, option, text, value, err);
    case MRA_OPTION_CHOICE:
        return read_choice(method, option, text, value, err);
    case MRA_OPTION_GRID:
        return read_grid(method, option, text, value, err);
    case MRA_OPTION_BOOL:
        for (int i = 0; i < 8; i++)
            if (strcmp(text, truth[i]) == 0) {
                value->number = i >= 4;
                return MRA_OK;
            }
        return bad_value(method, option, text, "yes or no", err);
    case MRA_OPTION_INT:
    case MRA_OPTION_REAL:
        status = read_number(method, option, text, text, &end, &value->number, err);
        if (status == MRA_OK && *end != '\0')
            return bad_value(method, option, text, "one number", err);
        return status;
    }
    return mra_fail(err, MRA_INTERNAL, "%s: %s: unknown type of option", method->name,
                    option->name);
}

mra_status mra_method_parse(const mra_method *method, const char *const *assignments, int count,
                            mra_option_value *value, mra_error *err)
{
    for (int i = 0; i < method->option_count; i++) {
        const mra_option *option = &method->options[i];
        value[i] = (mra_option_value){0};
        mra_status status = read_value(method, option, option->fallback, &value[i], err);
        if (status != MRA_OK) return status;
    }
    for (int a = 0; a < count; a++) {
        const char *equal = strchr(assignments[a], '=');
        if (!equal)
            return mra_fail(err, MRA_BAD_INPUT, "%s: '%s': expected option=value", method->name,
                            assignments[a]);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(equal - assignments[a]), assignments[a]);
        int i = 0;
        while (i < method->option_count && strcmp(method->options[i].name, name) != 0) i++;
        if (i == method->option_count) return unknown_option(method, name, err);
        mra_status status = read_value(method, &method->options[i], equal + 1, &value[i], err);
        if (status != MRA_OK) return status;
        value[i].given = true;
    }
    return MRA_OK;
}
