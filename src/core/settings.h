// Settings: an ini file (read by inih) plus key=value overrides, checked against what the
// program knows.
//
// A setting is `section.key` (keys before any section have no prefix). Every value that is read
// is marked as used; mra_settings_finish() then refuses the ones that nobody asked for, with
// the file, the line and the closest known key, so that a misspelt key never passes in silence.
#ifndef MRA_CORE_SETTINGS_H
#define MRA_CORE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct mra_settings mra_settings; // opaque

mra_status mra_settings_create(mra_settings **settings, mra_error *err); // empty
// Adds the file's settings; later values replace earlier ones. Errors name file and line.
mra_status mra_settings_read(mra_settings *settings, const char *path, mra_error *err);
// Adds one override "section.key=value" (or "key=value").
mra_status mra_settings_override(mra_settings *settings, const char *assignment,
                                 mra_error *err);
void mra_settings_free(mra_settings *settings);

// Typed access. The value lands in *value, `fallback` when the key is absent; a value that does
// not parse or lies outside [low, high] is MRA_BAD_INPUT naming file, line, key, value and what
// was expected.
mra_status mra_settings_int(mra_settings *settings, const char *key, int64_t fallback,
                            int64_t low, int64_t high, int64_t *value, mra_error *err);
mra_status mra_settings_real(mra_settings *settings, const char *key, double fallback,
                             double low, double high, double *value, mra_error *err);
// yes/no, true/false, on/off, 1/0.
mra_status mra_settings_bool(mra_settings *settings, const char *key, bool fallback,
                             bool *value, mra_error *err);
// The text as written; the pointer lives as long as `settings`. NULL fallback allowed.
const char *mra_settings_text(mra_settings *settings, const char *key, const char *fallback);
// One of `choices` (NULL-terminated); *index is its position.
mra_status mra_settings_choice(mra_settings *settings, const char *key, const char *fallback,
                               const char *const *choices, int *index, mra_error *err);
// A comma- or space-separated list of numbers, at most `limit`; *count says how many.
mra_status mra_settings_list(mra_settings *settings, const char *key, const char *fallback,
                             double *values, size_t limit, size_t *count, mra_error *err);

// Iterates over all settings in key order, for run records: index from 0 until NULL.
const char *mra_settings_key(const mra_settings *settings, size_t index);
const char *mra_settings_value(const mra_settings *settings, size_t index);

// MRA_BAD_INPUT for the first key that nobody read.
mra_status mra_settings_finish(const mra_settings *settings, mra_error *err);

#endif
