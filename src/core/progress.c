// Progress on stderr, in the one form that suits the reader: a line redrawn in place on a
// terminal, a line every 10 seconds in a log, so that a log of an hour has 360 lines and not
// 360 thousand.
//
// The estimate of the time left assumes that the rest goes at the mean speed so far. What an
// earlier run had done already counts as done, not as speed.

#include "core/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/file.h"

// Whether a redrawn line stands unfinished on the terminal. There is one stderr, so there is
// one of these.
static bool line_is_open;

static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

// "47s", "12m05s" or "3h07m".
static void format_duration(double seconds, char *text, size_t room)
{
    long whole = seconds > 0 ? (long)(seconds + 0.5) : 0;
    if (whole < 60)
        snprintf(text, room, "%lds", whole);
    else if (whole < 3600)
        snprintf(text, room, "%ldm%02lds", whole / 60, whole % 60);
    else
        snprintf(text, room, "%ldh%02ldm", whole / 3600, whole % 3600 / 60);
}

static void show(const char *line, bool terminal, bool last)
{
    if (!terminal) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    fprintf(stderr, "\r%.*s\033[K%s", terminal_width() - 1, line, last ? "\n" : "");
    fflush(stderr);
    line_is_open = !last;
}

mra_progress mra_progress_start(const char *label, double total, double already, bool quiet)
{
    double now = mra_seconds();
    return (mra_progress){.quiet = quiet,
                          .terminal = isatty(STDERR_FILENO) == 1,
                          .label = label,
                          .total = total,
                          .done = already,
                          .first_done = already,
                          .started = now,
                          .last_shown = now};
}

void mra_progress_update(mra_progress *progress, double done, const char *detail)
{
    progress->done = done;
    double now = mra_seconds(), interval = progress->terminal ? 0.2 : 10.0;
    if (progress->quiet || now - progress->last_shown < interval) return;
    progress->last_shown = now;
    double elapsed = now - progress->started, finished = done - progress->first_done;
    char line[400], spent[32], left[32] = "?";
    format_duration(elapsed, spent, sizeof spent);
    if (finished > 0)
        format_duration(elapsed * (progress->total - done) / finished, left, sizeof left);
    double percent = progress->total > 0 ? 100.0 * done / progress->total : 100.0;
    snprintf(line, sizeof line, "%s: %.1f%%%s%s, %s elapsed, %s left", progress->label, percent,
             *detail ? ", " : "", detail, spent, left);
    show(line, progress->terminal, false);
}

void mra_progress_end(mra_progress *progress, const char *detail)
{
    if (progress->quiet) return;
    char line[400];
    double elapsed = mra_seconds() - progress->started;
    char spent[32];
    if (elapsed < 10)
        snprintf(spent, sizeof spent, "%.1fs", elapsed);
    else
        format_duration(elapsed, spent, sizeof spent);
    snprintf(line, sizeof line, "%s: done%s%s in %s", progress->label, *detail ? ", " : "",
             detail, spent);
    show(line, progress->terminal, true);
}

void mra_say(bool quiet, const char *format, ...)
{
    if (quiet) return;
    if (line_is_open) fputc('\n', stderr);
    line_is_open = false;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}
