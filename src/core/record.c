// Run records as JSON (jansson). Nothing of the user is recorded beyond the command line: no
// host name, no user name, no environment.

#include "core/record.h"

#include <archive.h>
#include <cblas.h>
#include <gsl/gsl_version.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#ifdef MRA_HAVE_LIBXSMM
#include <libxsmm_config.h>
#endif

#include "core/file.h"
#include "core/parallel.h"

#ifndef MRA_COMMIT
#define MRA_COMMIT "unknown"
#endif
#ifndef MRA_VERSION
#define MRA_VERSION "unknown"
#endif

struct mra_record {
    json_t *root;
    double started;
    bool no_memory; // told by mra_record_write
};

// A JSON string; bytes that are not UTF-8 (a file name may hold any) become question marks.
static json_t *text_value(const char *text)
{
    json_t *value = json_string(text);
    if (value) return value;
    char *plain = strdup(text);
    if (!plain) return NULL;
    for (char *c = plain; *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    value = json_string(plain);
    free(plain);
    return value;
}

// Whole numbers without a decimal point; infinities and NaN, which JSON does not have, as null.
static json_t *number_value(double value)
{
    if (!isfinite(value)) return json_null();
    if (value == floor(value) && fabs(value) < 0x1p53) return json_integer((json_int_t)value);
    return json_real(value);
}

// Adds `value` (a new reference, or NULL for want of memory) to `object`.
static void put(mra_record *record, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) record->no_memory = true;
}

// ---- The machine and what the program stands on ---------------------------------------------

// "model name : X" of the first processor, or the architecture.
static void processor_name(char *name, size_t room)
{
    struct utsname system;
    snprintf(name, room, "%s", uname(&system) == 0 ? system.machine : "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return;
    char line[512];
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(name, room, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    fclose(file);
}

static void put_machine(mra_record *record)
{
    json_t *machine = json_object();
    char name[256];
    processor_name(name, sizeof name);
    put(record, machine, "processor", text_value(name));
    put(record, machine, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    put(record, machine, "memory_bytes",
        number_value((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE)));
    put(record, record->root, "machine", machine);
}

static void put_libraries(mra_record *record)
{
    json_t *libraries = json_object();
    put(record, libraries, "openblas", text_value(openblas_get_config()));
#ifdef MRA_HAVE_LIBXSMM
    put(record, libraries, "libxsmm", text_value(LIBXSMM_CONFIG_VERSION));
#endif
    put(record, libraries, "gsl", text_value(gsl_version));
    put(record, libraries, "jansson", text_value(JANSSON_VERSION));
    put(record, libraries, "libarchive", text_value(archive_version_string()));
    put(record, libraries, "zlib", text_value(zlibVersion()));
    put(record, record->root, "libraries", libraries);
    put(record, record->root, "compiler", text_value("gcc " __VERSION__));
}

static void put_start(mra_record *record)
{
    time_t now = time(NULL);
    struct tm utc;
    char text[32] = "unknown";
    if (gmtime_r(&now, &utc)) strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    put(record, record->root, "started", text_value(text));
}

// ---- The record -----------------------------------------------------------------------------

mra_status mra_record_create(mra_record **record, int argc, char *const *argv, mra_error *err)
{
    mra_record *r = *record = calloc(1, sizeof **record);
    if (r) r->root = json_object();
    if (!r || !r->root) {
        mra_record_free(r);
        *record = NULL;
        return mra_fail(err, MRA_NO_MEMORY, "no memory for the run record");
    }
    r->started = mra_seconds();
    json_t *command = json_array();
    for (int i = 0; i < argc; i++)
        if (json_array_append_new(command, text_value(argv[i])) != 0) r->no_memory = true;
    put(r, r->root, "command", command);
    put(r, r->root, "version", text_value(MRA_VERSION));
    put(r, r->root, "commit", text_value(MRA_COMMIT));
    put_start(r);
    put_machine(r);
    put_libraries(r);
    put(r, r->root, "settings", json_object());
    put(r, r->root, "inputs", json_array());
    return MRA_OK;
}

void mra_record_free(mra_record *record)
{
    if (!record) return;
    json_decref(record->root);
    free(record);
}

void mra_record_text(mra_record *record, const char *key, const char *value)
{
    put(record, record->root, key, text_value(value));
}

void mra_record_number(mra_record *record, const char *key, double value)
{
    put(record, record->root, key, number_value(value));
}

void mra_record_settings(mra_record *record, const mra_settings *settings)
{
    json_t *object = json_object_get(record->root, "settings");
    for (size_t i = 0; mra_settings_key(settings, i); i++)
        put(record, object, mra_settings_key(settings, i),
            text_value(mra_settings_value(settings, i)));
}

mra_status mra_record_input(mra_record *record, const char *path, mra_error *err)
{
    char hex[65];
    mra_status status = mra_sha256_file(path, hex, err);
    if (status != MRA_OK) return status;
    json_t *input = json_object();
    put(record, input, "path", text_value(path));
    put(record, input, "sha256", text_value(hex));
    if (json_array_append_new(json_object_get(record->root, "inputs"), input) != 0)
        record->no_memory = true;
    return MRA_OK;
}

mra_status mra_record_write(mra_record *record, const char *path, mra_error *err)
{
    put(record, record->root, "wall_seconds", number_value(mra_seconds() - record->started));
    put(record, record->root, "peak_memory_bytes", number_value((double)mra_peak_memory()));
    if (record->no_memory)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for the run record", path);
    mra_output output;
    mra_status status = mra_output_open(&output, path, err);
    if (status != MRA_OK) return status;
    // A failed write stays with the stream and is told by the commit.
    json_dumpf(record->root, output.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    fputc('\n', output.stream);
    return mra_output_commit(&output, err);
}
