// The drivers' command line, settings by profile and run stamps; see common.h for what they
// promise.

#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/npy.h"
#include "tensor/gemm.h"

static const char *const profiles[] = {"smoke", "laptop", "reduced", "paper", NULL};

// ---- Settings by profile --------------------------------------------------------------------

// "<profile>.<key>" if the settings have it, else "common.<key>"; remembers that `key` is
// known.
static const char *resolve(mra_experiment *experiment, const char *key, char name[128])
{
    bool seen = false;
    for (int i = 0; i < experiment->known_count; i++)
        seen |= !strcmp(experiment->known[i], key);
    if (!seen && experiment->known_count < MRA_EXPERIMENT_KEYS) {
        experiment->known[experiment->known_count++] = key;
    }
    snprintf(name, 128, "%s.%s", experiment->profile, key);
    if (!mra_settings_text(experiment->settings, name, NULL))
        snprintf(name, 128, "common.%s", key);
    return name;
}

static mra_status require(mra_experiment *experiment, const char *name, const char *key,
                          mra_error *err)
{
    if (mra_settings_text(experiment->settings, name, NULL)) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%s: no setting '%s' in [%s] or [common]",
                    experiment->settings_path, key, experiment->profile);
}

mra_status mra_experiment_int(mra_experiment *experiment, const char *key, int64_t low,
                              int64_t high, int64_t *value, mra_error *err)
{
    char name[128];
    resolve(experiment, key, name);
    if (require(experiment, name, key, err) != MRA_OK) return err->status;
    return mra_settings_int(experiment->settings, name, low, low, high, value, err);
}

mra_status mra_experiment_real(mra_experiment *experiment, const char *key, double low,
                               double high, double *value, mra_error *err)
{
    char name[128];
    resolve(experiment, key, name);
    if (require(experiment, name, key, err) != MRA_OK) return err->status;
    return mra_settings_real(experiment->settings, name, low, low, high, value, err);
}

mra_status mra_experiment_list(mra_experiment *experiment, const char *key, double *values,
                               size_t limit, size_t *count, mra_error *err)
{
    char name[128];
    resolve(experiment, key, name);
    if (require(experiment, name, key, err) != MRA_OK) return err->status;
    return mra_settings_list(experiment->settings, name, "", values, limit, count, err);
}

const char *mra_experiment_text(mra_experiment *experiment, const char *key)
{
    char name[128];
    return mra_settings_text(experiment->settings, resolve(experiment, key, name), NULL);
}

// The sections of other profiles may set what this driver knows, and nothing else: a key that
// is known is marked as used there, so that mra_settings_finish() refuses the misspelt ones of
// every section.
static mra_status finish_settings(mra_experiment *experiment, mra_error *err)
{
    for (int i = 0; i < experiment->known_count; i++) {
        char name[128];
        snprintf(name, sizeof name, "common.%s", experiment->known[i]);
        mra_settings_text(experiment->settings, name, NULL);
        for (int p = 0; profiles[p]; p++) {
            snprintf(name, sizeof name, "%s.%s", profiles[p], experiment->known[i]);
            mra_settings_text(experiment->settings, name, NULL);
        }
    }
    return mra_settings_finish(experiment->settings, err);
}

// ---- Stamps ---------------------------------------------------------------------------------

mra_status mra_experiment_fact(mra_experiment *experiment, mra_error *err, const char *format,
                               ...)
{
    size_t room = sizeof experiment->facts - experiment->facts_length;
    va_list arguments;
    va_start(arguments, format);
    int length =
        vsnprintf(experiment->facts + experiment->facts_length, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length + 2 > room) {
        return mra_fail(err, MRA_BAD_INPUT, "%s: more inputs or settings than a stamp holds",
                        experiment->about->name);
    }
    experiment->facts_length += (size_t)length;
    experiment->facts[experiment->facts_length++] = '\n';
    experiment->facts[experiment->facts_length] = 0;
    return MRA_OK;
}

mra_status mra_experiment_input(mra_experiment *experiment, const char *path, mra_error *err)
{
    char hex[65];
    if (mra_sha256_file(path, hex, err) != MRA_OK) return err->status;
    if (mra_experiment_fact(experiment, err, "input %s", hex) != MRA_OK) return err->status;
    return mra_record_input(experiment->record, path, err);
}

static mra_status form_stamp(mra_experiment *experiment, mra_error *err)
{
    const mra_experiment_about *about = experiment->about;
    mra_status status =
        mra_experiment_fact(experiment, err, "%s version %s profile %s seed %" PRIu64,
                            about->name, about->version, experiment->profile, experiment->seed);
    for (int i = 0; i < experiment->known_count && status == MRA_OK; i++) {
        const char *value = mra_experiment_text(experiment, experiment->known[i]);
        status = mra_experiment_fact(experiment, err, "%s = %s", experiment->known[i],
                                     value ? value : "(absent)");
    }
    if (status == MRA_OK) {
        mra_sha256(experiment->facts, experiment->facts_length, experiment->stamp);
    }
    return status;
}

void mra_experiment_path(const mra_experiment *experiment, const char *suffix, char path[1024])
{
    snprintf(path, 1024, "%s/%s%s", experiment->out, experiment->about->name, suffix);
}

// Whether the run record beside the tables is of this stamp and every output that it names is
// there.
static bool finished_before(const mra_experiment *experiment)
{
    char path[1024];
    mra_experiment_path(experiment, ".run.json", path);
    json_t *record = json_load_file(path, 0, NULL);
    const char *stamp = json_string_value(json_object_get(record, "stamp"));
    const char *outputs = json_string_value(json_object_get(record, "outputs"));
    bool finished = stamp && outputs && !strcmp(stamp, experiment->stamp);
    while (finished && *outputs) {
        size_t length = strcspn(outputs, " ");
        char output[2200];
        snprintf(output, sizeof output, "%s/%.*s", experiment->out, (int)length, outputs);
        finished = length > 0 && mra_file_exists(output);
        outputs += length + (outputs[length] == ' ');
    }
    json_decref(record);
    return finished;
}

mra_status mra_experiment_begin(mra_experiment *experiment, bool *done, mra_error *err)
{
    *done = false;
    if (finish_settings(experiment, err) != MRA_OK || form_stamp(experiment, err) != MRA_OK) {
        return err->status;
    }
    if (!experiment->again && finished_before(experiment)) {
        *done = true;
        mra_say(experiment->quiet, "%s: up to date", experiment->about->name);
        return MRA_OK;
    }
    return mra_make_folder(experiment->out, err);
}

// ---- Outputs --------------------------------------------------------------------------------

mra_status mra_experiment_output(mra_experiment *experiment, const char *suffix, mra_error *err)
{
    size_t length = strlen(experiment->outputs);
    int more = snprintf(experiment->outputs + length, sizeof experiment->outputs - length,
                        "%s%s%s", length ? " " : "", experiment->about->name, suffix);
    if (more < 0 || (size_t)more >= sizeof experiment->outputs - length) {
        return mra_fail(err, MRA_INTERNAL, "%s: too many outputs", experiment->about->name);
    }
    return MRA_OK;
}

mra_status mra_experiment_picture(mra_experiment *experiment, const char *suffix,
                                  const float *data, int rows, int columns, mra_error *err)
{
    char path[1024];
    mra_experiment_path(experiment, suffix, path);
    size_t shape[2] = {(size_t)rows, (size_t)columns};
    if (mra_npy_write(path, MRA_NPY_F4, 2, shape, data, err) != MRA_OK) return err->status;
    return mra_experiment_output(experiment, suffix, err);
}

// The record is written last: with it the run counts as finished.
static mra_status write_record(mra_experiment *experiment, mra_error *err)
{
    char path[1024];
    mra_experiment_path(experiment, ".run.json", path);
    mra_record *record = experiment->record;
    mra_record_text(record, "experiment", experiment->about->name);
    mra_record_text(record, "experiment_version", experiment->about->version);
    mra_record_text(record, "profile", experiment->profile);
    mra_record_text(record, "stamp", experiment->stamp);
    mra_record_text(record, "outputs", experiment->outputs);
    mra_record_number(record, "seed", (double)experiment->seed);
    mra_record_number(record, "threads", experiment->threads);
    mra_record_settings(record, experiment->settings);
    return mra_record_write(record, path, err);
}

// ---- The command line -----------------------------------------------------------------------

static void print_help(const mra_experiment_about *about)
{
    printf(
        "%s: %s\n\n"
        "usage: %s [options]\n"
        "  --settings FILE  settings of this experiment    [experiments/%s.ini]\n"
        "  --profile NAME   smoke, laptop, reduced, paper  [laptop]\n"
        "  --inputs DIR     Q, K, V of trained heads: a folder of sets <name>-<n>/, or one "
        "set, of\n"
        "                   files example<i>-{q,k,v}.npy of shape [heads, n, d]  "
        "[paper/inputs]\n"
        "  --out DIR        where tables go                [build/results/<profile>]\n"
        "  --threads N      worker threads                 [all processors]\n"
        "  --seed S         of everything that is drawn at random  [1]\n"
        "  --set KEY=VALUE  replaces one setting; may be repeated\n"
        "  --again          also if a finished run of the same settings and inputs is there\n"
        "  --quiet          no progress\n"
        "  --help\n",
        about->name, about->summary, about->name, about->name);
}

static mra_status parse_whole(const char *option, const char *text, uint64_t high,
                              uint64_t *value, mra_error *err)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || number > high) {
        return mra_fail(err, MRA_BAD_INPUT, "%s: '%s' is not a whole number from 0 to %" PRIu64,
                        option, text, high);
    }
    *value = number;
    return MRA_OK;
}

static mra_status check_profile(const char *profile, mra_error *err)
{
    for (int i = 0; profiles[i]; i++) {
        if (!strcmp(profile, profiles[i])) return MRA_OK;
    }
    return mra_fail(err, MRA_BAD_INPUT,
                    "--profile: '%s' is not one of smoke, laptop, reduced, paper", profile);
}

static mra_status add_override(mra_experiment *experiment, const char *assignment,
                               mra_error *err)
{
    if (experiment->override_count == MRA_EXPERIMENT_KEYS) {
        return mra_fail(err, MRA_BAD_INPUT, "--set: more than %d", MRA_EXPERIMENT_KEYS);
    }
    experiment->override[experiment->override_count++] = assignment;
    return MRA_OK;
}

// Fills the fields of the command line; *help is set when --help was given.
static mra_status parse_arguments(mra_experiment *experiment, int argc, char **argv, bool *help,
                                  mra_error *err)
{
    enum { SETTINGS = 1, PROFILE, INPUTS, OUT, THREADS, SEED, SET, AGAIN, QUIET, HELP };
    static const struct option options[] = {{"settings", required_argument, NULL, SETTINGS},
                                            {"profile", required_argument, NULL, PROFILE},
                                            {"inputs", required_argument, NULL, INPUTS},
                                            {"out", required_argument, NULL, OUT},
                                            {"threads", required_argument, NULL, THREADS},
                                            {"seed", required_argument, NULL, SEED},
                                            {"set", required_argument, NULL, SET},
                                            {"again", no_argument, NULL, AGAIN},
                                            {"quiet", no_argument, NULL, QUIET},
                                            {"help", no_argument, NULL, HELP},
                                            {NULL, 0, NULL, 0}};
    uint64_t threads = 0;
    mra_status status = MRA_OK;
    opterr = 0;
    for (int c; status == MRA_OK && (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case SETTINGS:
            experiment->settings_path = optarg;
            break;
        case PROFILE:
            experiment->profile = optarg;
            break;
        case INPUTS:
            experiment->inputs = optarg;
            break;
        case OUT:
            experiment->out = optarg;
            break;
        case THREADS:
            status = parse_whole("--threads", optarg, 1024, &threads, err);
            break;
        case SEED:
            status = parse_whole("--seed", optarg, UINT64_MAX, &experiment->seed, err);
            break;
        case SET:
            status = add_override(experiment, optarg, err);
            break;
        case AGAIN:
            experiment->again = true;
            break;
        case QUIET:
            experiment->quiet = true;
            break;
        case HELP:
            *help = true;
            break;
        default:
            status =
                mra_fail(err, MRA_BAD_INPUT, "%s: unknown option or missing value; see --help",
                         argv[optind - 1]);
        }
    }
    if (status == MRA_OK && optind < argc) {
        status =
            mra_fail(err, MRA_BAD_INPUT, "unexpected argument '%s'; see --help", argv[optind]);
    }
    experiment->threads = threads ? (int)threads : mra_default_threads();
    return status == MRA_OK ? check_profile(experiment->profile, err) : status;
}

static mra_status run_all(mra_experiment *experiment,
                          mra_status (*run)(mra_experiment *experiment, mra_error *err),
                          mra_error *err)
{
    if (mra_settings_create(&experiment->settings, err) != MRA_OK) return err->status;
    if (mra_settings_read(experiment->settings, experiment->settings_path, err) != MRA_OK) {
        return err->status;
    }
    for (int i = 0; i < experiment->override_count; i++) {
        char assignment[512];
        snprintf(assignment, sizeof assignment, "%s.%s", experiment->profile,
                 experiment->override[i]);
        if (mra_settings_override(experiment->settings, assignment, err) != MRA_OK) {
            return err->status;
        }
    }
    if (run(experiment, err) != MRA_OK) return err->status;
    // A driver that found nothing to do noted no output.
    return experiment->outputs[0] ? write_record(experiment, err) : MRA_OK;
}

int mra_experiment_main(const mra_experiment_about *about,
                        mra_status (*run)(mra_experiment *experiment, mra_error *err), int argc,
                        char **argv)
{
    mra_error err = {0};
    static mra_experiment experiment;
    experiment.about = about;
    experiment.profile = "laptop";
    experiment.inputs = "paper/inputs";
    experiment.seed = 1;
    bool help = false;
    mra_blas_single_thread();
    mra_status status = mra_record_create(&experiment.record, argc, argv, &err);
    if (status == MRA_OK) status = parse_arguments(&experiment, argc, argv, &help, &err);
    if (status == MRA_OK && help) print_help(about);
    if (status == MRA_OK && !help) {
        char settings_path[256], out[256];
        snprintf(settings_path, sizeof settings_path, "experiments/%s.ini", about->name);
        snprintf(out, sizeof out, "build/results/%s", experiment.profile);
        if (!experiment.settings_path) experiment.settings_path = settings_path;
        if (!experiment.out) experiment.out = out;
        status = run_all(&experiment, run, &err);
    }
    if (status != MRA_OK) fprintf(stderr, "%s: %s\n", about->name, err.message);
    mra_settings_free(experiment.settings);
    mra_record_free(experiment.record);
    return mra_exit_status(status);
}
