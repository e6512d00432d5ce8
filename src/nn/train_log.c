// The log of a training.
//
// Rows are appended as they come, so that one can watch a run; and yet the log of a run that was killed and went on has
// to be the log of a run that was not. The checkpoint therefore remembers how long the log was, and the
// next run cuts it back to there before it repeats the steps since.

#include "nn/train_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static mra_status refused(const mra_train_log *log, mra_error *err)
{
    return mra_fail(err, MRA_IO, "%s: cannot write: %s", log->path,
                    strerror(errno ? errno : EIO));
}

// The first line; returns its length.
static int64_t write_header(const mra_train_log *log)
{
    int bytes =
        fprintf(log->stream, "step\tsplit\tloss\t%s\tlearning_rate\ttokens_per_second\tseconds",
                log->kind->metric[0]);
    for (int k = 1; log->kind->metric[k]; k++)
        bytes += fprintf(log->stream, "\t%s", log->kind->metric[k]);
    return bytes + fprintf(log->stream, "\n");
}

mra_status mra_train_log_open(mra_train_log *log, const char *path, const mra_task_kind *kind,
                              int64_t *bytes, mra_error *err)
{
    *log = (mra_train_log){.kind = kind};
    if (strlen(path) >= sizeof log->path)
        return mra_fail(err, MRA_BAD_INPUT, "%.60s...: the name is too long", path);
    strcpy(log->path, path);
    errno = 0;
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    log->stream = descriptor < 0 ? NULL : fdopen(descriptor, "r+");
    if (!log->stream) return refused(log, err);
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: another process is training in this folder",
                        path);
    if (*bytes == 0) {
        if (ftruncate(descriptor, 0) != 0) return refused(log, err);
        *bytes = write_header(log);
        if (fflush(log->stream) != 0) return refused(log, err);
        return MRA_OK;
    }
    if (fseeko(log->stream, 0, SEEK_END) != 0) return refused(log, err);
    int64_t found = (int64_t)ftello(log->stream);
    if (found < *bytes)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s has %" PRId64
                        " bytes, but the checkpoint beside it was written after %" PRId64
                        "; it was shortened or replaced",
                        path, found, *bytes);
    if (ftruncate(fileno(log->stream), (off_t)*bytes) != 0 ||
        fseeko(log->stream, 0, SEEK_END) != 0)
        return refused(log, err);
    return MRA_OK;
}

mra_status mra_train_log_row(mra_train_log *log, const mra_log_row *row, int64_t *bytes,
                             mra_error *err)
{
    errno = 0;
    fprintf(log->stream, "%" PRId64 "\t%s\t%.6f\t%.6f\t%.6g\t%.0f\t%.2f", row->step, row->split,
            row->loss, row->metric[0], row->learning_rate, row->tokens_per_second,
            row->seconds);
    for (int k = 1; log->kind->metric[k]; k++) fprintf(log->stream, "\t%.6f", row->metric[k]);
    fputc('\n', log->stream);
    if (fflush(log->stream) != 0) return refused(log, err);
    *bytes = (int64_t)ftello(log->stream);
    return MRA_OK;
}

void mra_train_log_close(mra_train_log *log)
{
    if (log->stream) fclose(log->stream);
    log->stream = NULL;
}
