// Reading settings one after another, and writing them back as text: what the settings of a training, of its task and
// of its network have in common.
#ifndef MRA_NN_READING_H
#define MRA_NN_READING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/settings.h"

// A run of reads that stops at the first failure: later ones return their fallback and change nothing. Look at `status`
// once, at the end.
typedef struct mra_reader {
    mra_settings *settings;
    mra_error *err;
    mra_status status; // MRA_OK to begin with
} mra_reader;

// Numbers outside [low, high] and words that are not among the NULL-terminated `names` are MRA_BAD_INPUT
// (core/settings.h); the first of `names` is the fallback, and the position of the word is returned.
int64_t mra_read_int(mra_reader *reader, const char *key, int64_t fallback, int64_t low,
                     int64_t high);
double mra_read_real(mra_reader *reader, const char *key, double fallback, double low,
                     double high);
bool mra_read_bool(mra_reader *reader, const char *key, bool fallback);
int mra_read_choice(mra_reader *reader, const char *key, const char *const *names);
// The text as written; it belongs to the settings.
const char *mra_read_text(mra_reader *reader, const char *key, const char *fallback);

// Text that grows line by line in `room` bytes at `at`; what does not fit is counted in `used` and left out.
typedef struct mra_writer {
    char *at;
    size_t room, used;
} mra_writer;

void mra_write(mra_writer *writer, const char *format, ...) MRA_PRINTF(2, 3);

#endif
