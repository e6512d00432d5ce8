// Run records: what one needs to believe a result, and to make it again.
//
// Beside every result X.tsv stands X.run.json (jansson): command line, settings, seed, commit,
// machine (processor, cores, memory), device, threads, library versions, SHA-256 of every
// input, start time (UTC), wall time, peak memory, profile, and whatever the experiment adds.
#ifndef MRA_CORE_RECORD_H
#define MRA_CORE_RECORD_H

#include <stdint.h>

#include "core/error.h"
#include "core/settings.h"

typedef struct mra_record mra_record; // opaque

// Starts the clock. `argc`/`argv`: the program's command line. Reads the commit that the build
// wrote into the program (MRA_COMMIT), the machine from the system.
mra_status mra_record_create(mra_record **record, int argc, char *const *argv, mra_error *err);
void mra_record_free(mra_record *record);

void mra_record_text(mra_record *record, const char *key, const char *value);
void mra_record_number(mra_record *record, const char *key, double value);
void mra_record_settings(mra_record *record, const mra_settings *settings);
// Adds path and SHA-256 of an input; MRA_IO when it cannot be read.
mra_status mra_record_input(mra_record *record, const char *path, mra_error *err);

// Writes the record atomically to `path` (see core/file.h), with the time and memory spent so
// far.
mra_status mra_record_write(mra_record *record, const char *path, mra_error *err);

#endif
