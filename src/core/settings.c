// Settings: entries sorted by key, each with the place it came from, and the list of keys that
// the program asked for. Both lists are short (tens of entries), so they are plain sorted
// arrays.
//
// inih splits the file into sections, keys and values. It tells its caller no line numbers
// unless it was compiled for that, so the reader that hands it the lines counts them. The same
// reader takes indentation away: to inih an indented line continues the value before it, which
// would swallow an indented key in silence.

#include "core/settings.h"

#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct entry {
    char *key, *value;
    char *file; // NULL: an override on the command line
    int line;
    bool used;
} entry;

struct mra_settings {
    entry *entries; // sorted by key
    size_t count, room;
    char **known; // keys that were asked for, in the order of asking
    size_t known_count, known_room;
};

mra_status mra_settings_create(mra_settings **settings, mra_error *err)
{
    *settings = calloc(1, sizeof **settings);
    return *settings ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "no memory for the settings");
}

void mra_settings_free(mra_settings *settings)
{
    if (!settings) return;
    for (size_t i = 0; i < settings->count; i++) {
        free(settings->entries[i].key);
        free(settings->entries[i].value);
        free(settings->entries[i].file);
    }
    for (size_t i = 0; i < settings->known_count; i++) free(settings->known[i]);
    free(settings->entries);
    free(settings->known);
    free(settings);
}

// ---- Storing --------------------------------------------------------------------------------

// The position of `key`, or where it belongs; *found says which.
static size_t locate(const mra_settings *settings, const char *key, bool *found)
{
    size_t low = 0, high = settings->count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(settings->entries[middle].key, key);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// Makes room for one more element in a growing array; false when there is no memory.
static bool reserve_one(void **array, size_t count, size_t *room, size_t size)
{
    if (count < *room) return true;
    size_t wanted = *room ? 2 * *room : 16;
    void *larger = realloc(*array, wanted * size);
    if (!larger) return false;
    *array = larger;
    *room = wanted;
    return true;
}

// Makes an empty entry at `position`; false when there is no memory.
static bool insert_entry(mra_settings *settings, size_t position, const char *key)
{
    void *array = settings->entries;
    bool ok = reserve_one(&array, settings->count, &settings->room, sizeof(entry));
    settings->entries = array;
    char *copy = ok ? strdup(key) : NULL;
    if (!copy) return false;
    memmove(settings->entries + position + 1, settings->entries + position,
            (settings->count - position) * sizeof(entry));
    settings->entries[position] = (entry){.key = copy};
    settings->count++;
    return true;
}

static bool store(mra_settings *settings, const char *key, const char *value, const char *file,
                  int line)
{
    char *new_value = strdup(value), *new_file = file ? strdup(file) : NULL;
    bool found;
    size_t position = locate(settings, key, &found);
    if (!new_value || (file && !new_file) ||
        (!found && !insert_entry(settings, position, key))) {
        free(new_value);
        free(new_file);
        return false;
    }
    entry *e = &settings->entries[position];
    free(e->value);
    free(e->file);
    e->value = new_value;
    e->file = new_file;
    e->line = line;
    return true;
}

// ---- Reading a file -------------------------------------------------------------------------

typedef struct reading {
    mra_settings *settings;
    const char *path;
    FILE *file;
    int line;        // the number of the line read last
    int long_line;   // the first line that does not fit into inih's buffer, or 0
    int binary_line; // the first line with a NUL byte, or 0
    bool no_memory;
} reading;

// Hands inih one line, like fgets, without indentation, and counts it. What does not fit is
// skipped and remembered, so that one line of the file stays one line.
static char *next_line(char *buffer, int room, void *stream)
{
    reading *r = stream;
    int length = 0, c = getc(r->file);
    if (c == EOF) return NULL;
    r->line++;
    while (c == ' ' || c == '\t') c = getc(r->file);
    for (; c != EOF && c != '\n'; c = getc(r->file)) {
        if (c == '\0' && !r->binary_line) r->binary_line = r->line;
        if (length < room - 2)
            buffer[length++] = (char)c;
        else if (!r->long_line)
            r->long_line = r->line;
    }
    buffer[length++] = '\n';
    buffer[length] = '\0';
    return buffer;
}

static int take_pair(void *user, const char *section, const char *name, const char *value)
{
    reading *r = user;
    char key[256];
    int length = snprintf(key, sizeof key, "%s%s%s", section, *section ? "." : "", name);
    if (length < 0 || length >= (int)sizeof key || !*name) return 0;
    if (store(r->settings, key, value, r->path, r->line)) return 1;
    r->no_memory = true;
    return 0;
}

mra_status mra_settings_read(mra_settings *settings, const char *path, mra_error *err)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return mra_fail(err, MRA_BAD_INPUT, "%s: cannot read the settings: %s", path,
                        strerror(errno));
    reading r = {.settings = settings, .path = path, .file = file};
    errno = 0;
    int wrong_line = ini_parse_stream(next_line, &r, take_pair, &r);
    int reason = ferror(file) ? (errno ? errno : EIO) : 0;
    fclose(file);
    if (reason)
        return mra_fail(err, MRA_BAD_INPUT, "%s: cannot read the settings: %s", path,
                        strerror(reason));
    if (r.no_memory || wrong_line < 0)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    if (r.binary_line)
        return mra_fail(err, MRA_BAD_INPUT, "%s:%d: a zero byte: expected a text file", path,
                        r.binary_line);
    if (r.long_line)
        return mra_fail(err, MRA_BAD_INPUT, "%s:%d: the line is too long for a setting", path,
                        r.long_line);
    if (wrong_line > 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s:%d: expected [section], key = value or ; comment", path,
                        wrong_line);
    return MRA_OK;
}

// `text` without the white space at both ends, copied into `out`; false when it does not fit.
static bool copy_trimmed(const char *text, size_t length, char *out, size_t room)
{
    while (length > 0 && strchr(" \t", text[0])) text++, length--;
    while (length > 0 && strchr(" \t", text[length - 1])) length--;
    if (length >= room) return false;
    memcpy(out, text, length);
    out[length] = '\0';
    return true;
}

mra_status mra_settings_override(mra_settings *settings, const char *assignment, mra_error *err)
{
    const char *equals = strchr(assignment, '=');
    char key[256], value[1024];
    if (!equals || !copy_trimmed(assignment, (size_t)(equals - assignment), key, sizeof key) ||
        !*key)
        return mra_fail(err, MRA_BAD_INPUT, "argument \"%.200s\": expected section.key=value",
                        assignment);
    if (!copy_trimmed(equals + 1, strlen(equals + 1), value, sizeof value))
        return mra_fail(err, MRA_BAD_INPUT,
                        "argument %s=...: the value is longer than %zu characters", key,
                        sizeof value - 1);
    if (!store(settings, key, value, NULL, 0))
        return mra_fail(err, MRA_NO_MEMORY, "argument %s: no memory", key);
    return MRA_OK;
}

// ---- Typed access ---------------------------------------------------------------------------

// Remembers that the program knows `key`. Without memory the key is only missing among
// suggestions.
static void remember_known(mra_settings *settings, const char *key)
{
    for (size_t i = 0; i < settings->known_count; i++)
        if (strcmp(settings->known[i], key) == 0) return;
    void *array = settings->known;
    bool ok = reserve_one(&array, settings->known_count, &settings->known_room, sizeof(char *));
    settings->known = array;
    char *copy = ok ? strdup(key) : NULL;
    if (copy) settings->known[settings->known_count++] = copy;
}

// The entry of `key`, marked as used, or NULL.
static const entry *ask(mra_settings *settings, const char *key)
{
    remember_known(settings, key);
    bool found;
    size_t position = locate(settings, key, &found);
    if (!found) return NULL;
    settings->entries[position].used = true;
    return &settings->entries[position];
}

static mra_status refuse(const entry *e, const char *expected, mra_error *err)
{
    if (!e->file)
        return mra_fail(err, MRA_BAD_INPUT, "argument %s=%s: expected %s", e->key, e->value,
                        expected);
    return mra_fail(err, MRA_BAD_INPUT, "%s:%d: %s = %s: expected %s", e->file, e->line, e->key,
                    e->value, expected);
}

mra_status mra_settings_int(mra_settings *settings, const char *key, int64_t fallback,
                            int64_t low, int64_t high, int64_t *value, mra_error *err)
{
    *value = fallback;
    const entry *e = ask(settings, key);
    if (!e) return MRA_OK;
    char *end;
    errno = 0;
    long long parsed = strtoll(e->value, &end, 10);
    if (end == e->value || *end || errno || parsed < low || parsed > high) {
        char expected[120];
        snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)low,
                 (long long)high);
        return refuse(e, expected, err);
    }
    *value = parsed;
    return MRA_OK;
}

mra_status mra_settings_real(mra_settings *settings, const char *key, double fallback,
                             double low, double high, double *value, mra_error *err)
{
    *value = fallback;
    const entry *e = ask(settings, key);
    if (!e) return MRA_OK;
    char *end;
    double parsed = strtod(e->value, &end);
    if (end == e->value || *end || isnan(parsed) || parsed < low || parsed > high) {
        char expected[120];
        snprintf(expected, sizeof expected, "a number from %g to %g", low, high);
        return refuse(e, expected, err);
    }
    *value = parsed;
    return MRA_OK;
}

mra_status mra_settings_bool(mra_settings *settings, const char *key, bool fallback,
                             bool *value, mra_error *err)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    *value = fallback;
    const entry *e = ask(settings, key);
    if (!e) return MRA_OK;
    for (int i = 0; i < 8; i++) {
        if (strcasecmp(e->value, words[i]) != 0) continue;
        *value = i % 2;
        return MRA_OK;
    }
    return refuse(e, "yes or no", err);
}

const char *mra_settings_text(mra_settings *settings, const char *key, const char *fallback)
{
    const entry *e = ask(settings, key);
    return e ? e->value : fallback;
}

mra_status mra_settings_choice(mra_settings *settings, const char *key, const char *fallback,
                               const char *const *choices, int *index, mra_error *err)
{
    const entry *e = ask(settings, key);
    const char *wanted = e ? e->value : fallback;
    char expected[300] = "one of";
    for (int i = 0; choices[i]; i++) {
        if (strcmp(wanted, choices[i]) == 0) {
            *index = i;
            return MRA_OK;
        }
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s%s", i ? ", " : " ", choices[i]);
    }
    if (e) return refuse(e, expected, err);
    return mra_fail(err, MRA_INTERNAL, "%s: the fallback %s is not %s", key, fallback,
                    expected);
}

mra_status mra_settings_list(mra_settings *settings, const char *key, const char *fallback,
                             double *values, size_t limit, size_t *count, mra_error *err)
{
    const entry *e = ask(settings, key);
    const char *at = e ? e->value : fallback;
    char expected[120];
    snprintf(expected, sizeof expected, "1 to %zu numbers separated by commas or spaces",
             limit);
    entry given = e ? *e : (entry){.key = (char *)key, .value = (char *)fallback};
    *count = 0;
    for (;;) {
        at += strspn(at, " \t,");
        if (!*at) break;
        char *end;
        double parsed = strtod(at, &end);
        bool whole = end > at && (!*end || strchr(" \t,", *end));
        if (!whole || isnan(parsed) || *count == limit) return refuse(&given, expected, err);
        values[(*count)++] = parsed;
        at = end;
    }
    return *count ? MRA_OK : refuse(&given, expected, err);
}

// ---- Looking back ---------------------------------------------------------------------------

const char *mra_settings_key(const mra_settings *settings, size_t index)
{
    return index < settings->count ? settings->entries[index].key : NULL;
}

const char *mra_settings_value(const mra_settings *settings, size_t index)
{
    return index < settings->count ? settings->entries[index].value : NULL;
}

// Levenshtein's edit distance, one row of the table at a time; texts beyond 255 characters
// count as far.
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[256], length = strlen(b);
    if (length > 255) return SIZE_MAX;
    for (size_t j = 0; j <= length; j++) row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            size_t best = diagonal + (a[i] != b[j]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j + 1] + 1 < best) best = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[length];
}

mra_status mra_settings_finish(const mra_settings *settings, mra_error *err)
{
    const entry *e = NULL;
    for (size_t i = 0; i < settings->count && !e; i++)
        if (!settings->entries[i].used) e = &settings->entries[i];
    if (!e) return MRA_OK;
    const char *closest = NULL;
    size_t smallest = SIZE_MAX;
    for (size_t i = 0; i < settings->known_count; i++) {
        size_t distance = edit_distance(e->key, settings->known[i]);
        if (distance >= smallest) continue;
        smallest = distance;
        closest = settings->known[i];
    }
    char place[300];
    if (e->file)
        snprintf(place, sizeof place, "%.250s:%d", e->file, e->line);
    else
        snprintf(place, sizeof place, "argument %.100s=%.100s", e->key, e->value);
    return mra_fail(err, MRA_BAD_INPUT, "%s: unknown key %s%s%s%s", place, e->key,
                    closest ? " (the closest known key is " : "", closest ? closest : "",
                    closest ? ")" : "");
}
