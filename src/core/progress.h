// What people see of long work: one line that is redrawn on a terminal, a plain line now and
// then in a log, nothing when quiet. All of it goes to stderr; results go to files or stdout.
#ifndef MRA_CORE_PROGRESS_H
#define MRA_CORE_PROGRESS_H

#include <stdbool.h>

typedef struct mra_progress {
    bool quiet, terminal;
    const char *label;  // borrowed
    double total, done; // in units of the caller
    double
        first_done; // what was already done at the start (a resumed run): not counted as speed
    double started, last_shown;
} mra_progress;

// Starts a report of `total` units of work (`already` of them done by an earlier run). A
// terminal is redrawn at most 5 times a second; a log gets a line every 10 seconds.
mra_progress mra_progress_start(const char *label, double total, double already, bool quiet);
// Tells that `done` units are finished; `detail` (may be "") is shown beside the estimate, e.g.
// "loss 1.93". Shows percentage, detail, elapsed time and estimated time left.
void mra_progress_update(mra_progress *progress, double done, const char *detail);
// Shows the last line, with the total time.
void mra_progress_end(mra_progress *progress, const char *detail);
// A plain message line on stderr unless quiet (ends a redrawn line first).
void mra_say(bool quiet, const char *format, ...);

#endif
