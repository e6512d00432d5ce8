// What the drivers of all figures share: the command line, settings by profile, inputs, stamps
// and tables.
//
// A driver is a function that fills tables from trained attention heads. mra_experiment_main()
// does the rest:
//
//     static mra_status run(mra_experiment *experiment, mra_error *err);
//     int main(int argc, char **argv)
//     {
//         return mra_experiment_main(&(mra_experiment_about){"wavelet", "1", "..."}, run,
//                                    argc, argv);
//     }
//
// Three promises are kept here, once for all. (1) A figure is only drawn anew when something
// that it depends on changed: the *stamp* of a run is the SHA-256 of the driver's name and
// version, the profile, the effective settings, the seed and the checksums of all inputs; a run
// whose stamp stands in a finished run record ends at once. (2) A run that is killed continues:
// finished cells stay in the journal of each table, and the journal belongs to a stamp, so that
// cells of other settings never mix. (3) No input, no figure: the drivers read trained heads
// and nothing else.
#ifndef MRA_EXPERIMENTS_COMMON_H
#define MRA_EXPERIMENTS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/core.h"
#include "io/tsv.h"

typedef struct mra_experiment_about {
    const char *name;    // of the driver, its settings file, its tables and its figure
    const char *version; // raise it whenever the numbers of an unchanged run would change
    const char *summary; // one line for --help
} mra_experiment_about;

enum { MRA_EXPERIMENT_KEYS = 64 };

typedef struct mra_experiment {
    const mra_experiment_about *about;
    const char *profile, *settings_path, *inputs, *out; // borrowed from argv or constants
    int threads;
    uint64_t seed;
    bool quiet, again;
    mra_settings *settings;
    mra_record *record;
    const char *known[MRA_EXPERIMENT_KEYS]; // the settings that the driver asked for
    int known_count;
    const char *override[MRA_EXPERIMENT_KEYS]; // --set key=value
    int override_count;
    char facts[16384]; // what the stamp covers, as text
    size_t facts_length;
    char stamp[65];
    char outputs[2048]; // paths of finished outputs, separated by spaces
} mra_experiment;

// Parses the command line, reads the settings, calls `run`, writes the run record, and turns a
// failure into one line on stderr and an exit status (core/error.h).
int mra_experiment_main(const mra_experiment_about *about,
                        mra_status (*run)(mra_experiment *experiment, mra_error *err), int argc,
                        char **argv);

// Settings by profile: section [common] holds what all profiles share, a section named after
// the profile overrides it. Same contract as the functions of core/settings.h.
mra_status mra_experiment_int(mra_experiment *experiment, const char *key, int64_t low,
                              int64_t high, int64_t *value, mra_error *err);
mra_status mra_experiment_real(mra_experiment *experiment, const char *key, double low,
                               double high, double *value, mra_error *err);
mra_status mra_experiment_list(mra_experiment *experiment, const char *key, double *values,
                               size_t limit, size_t *count, mra_error *err);
const char *mra_experiment_text(mra_experiment *experiment, const char *key);

// Adds a fact to the stamp ("threads 2" for a driver that measures time). Inputs add
// themselves.
mra_status mra_experiment_fact(mra_experiment *experiment, mra_error *err, const char *format,
                               ...) MRA_PRINTF(3, 4);

// Adds an input file by its checksum, to the stamp and to the run record.
mra_status mra_experiment_input(mra_experiment *experiment, const char *path, mra_error *err);

// After settings and inputs are read: refuses settings that nobody asked for, forms the stamp,
// and sets *done if a finished run with this stamp and all of its outputs are there. Otherwise
// makes the output folder.
mra_status mra_experiment_begin(mra_experiment *experiment, bool *done, mra_error *err);

// "<out>/<name><suffix>", e.g. suffix "-basis.tsv".
void mra_experiment_path(const mra_experiment *experiment, const char *suffix, char path[1024]);
// Notes a finished output ("<out>/<name><suffix>") for the run record.
mra_status mra_experiment_output(mra_experiment *experiment, const char *suffix,
                                 mra_error *err);

// A table under construction. Its rows always come in the same order, so what an earlier run of
// the same stamp left is simply the first `already` of them.
typedef struct mra_cells {
    mra_tsv *tsv;
    size_t already, next; // rows that were there; rows that were skipped or written so far
} mra_cells;

// Opens "<out>/<name><suffix>" as a journal (io/tsv.h) of this stamp.
mra_status mra_cells_open(mra_experiment *experiment, const char *suffix,
                          const char *const *columns, mra_cells *cells, mra_error *err);
// The same without a journal, for tables that are quickly made: it appears whole at the commit.
mra_status mra_cells_create(mra_experiment *experiment, const char *suffix,
                            const char *const *columns, mra_cells *cells, mra_error *err);
// Whether the next `rows` rows are all there; if so they count as done and need not be
// computed.
bool mra_cells_skip(mra_cells *cells, size_t rows);
// The next row, unless it is there: `types` has one letter for each cell, t for a text (const
// char *), i for an int, r for a real number (double).
mra_status mra_cells_row(mra_cells *cells, mra_error *err, const char *types, ...);
// Commits the table and notes it as an output; closes it after a failure too.
mra_status mra_cells_commit(mra_experiment *experiment, const char *suffix, mra_cells *cells,
                            mra_error *err);
// Closes a table whose run failed; its journal stays for the next run.
void mra_cells_close(mra_cells *cells);

// Writes "<out>/<name><to>" from the committed table "<out>/<name><from>": one row for every
// set of equal cells in the columns `groups` (NULL-terminated, at most 8; groups in the order
// of their first row), with the columns mean, sd (n - 1; 0 for a single value), least, most and
// count of the numbers in column `value`.
mra_status mra_experiment_summary(mra_experiment *experiment, const char *from,
                                  const char *const *groups, const char *value, const char *to,
                                  mra_error *err);

// A float32 matrix [rows, columns] as a .npy file "<out>/<name><suffix>": for the heat maps of
// the figures.
mra_status mra_experiment_picture(mra_experiment *experiment, const char *suffix,
                                  const float *data, int rows, int columns, mra_error *err);

#endif
