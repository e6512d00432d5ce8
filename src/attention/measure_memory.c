// # Peak memory
//
// The peak of a process never falls, so each measurement gets a process of its own: a child is
// forked, does the work and tells the most it ever had resident, as the kernel counts it
// (`ru_maxrss`). Nothing the measured code does not know of can be forgotten that way, the
// buffers of BLAS and the stacks of threads included.
//
// Two things have to be right before the fork. Memory that was freed but is still resident
// would be used again by the child without being counted: it goes back to the system first. And
// a forked child has only the thread that forked: the pool of OpenMP's runtime is dissolved
// before, so that parent and child both start new ones.

#include "attention/measure.h"

#include <errno.h>
#include <malloc.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/core.h"

// What the child tells its parent.
typedef struct peak_report {
    mra_error error;
    size_t before, peak;
} peak_report;

// Resident bytes now: the second number of /proc/self/statm, in pages. 0 when that cannot be
// read.
static size_t resident_now(void)
{
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL) return 0;
    unsigned long total = 0, resident = 0;
    int fields = fscanf(statm, "%lu %lu", &total, &resident);
    fclose(statm);
    return fields == 2 ? (size_t)resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

static void work_as_child(mra_measured run, void *context, int to_parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); // nobody would wait for it when the parent is killed
    peak_report report = {.before = resident_now()};
    report.error.status = run(context, &report.error);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    report.peak = (size_t)usage.ru_maxrss * 1024;
    ssize_t written = write(to_parent, &report, sizeof report); // below PIPE_BUF: in one piece
    // Not exit(): what the parent registered for its own end, or has yet to print, is not the
    // child's.
    _exit(written == (ssize_t)sizeof report ? 0 : 1);
}

static bool read_report(int from_child, peak_report *report)
{
    size_t have = 0;
    while (have < sizeof *report) {
        ssize_t got = read(from_child, (char *)report + have, sizeof *report - have);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        have += (size_t)got;
    }
    return true;
}

mra_status mra_measure_peak(mra_measured run, void *context, mra_memory *memory, mra_error *err)
{
    int ends[2];
    if (pipe(ends) != 0)
        return mra_fail(err, MRA_IO, "measuring memory: pipe: %s", strerror(errno));
    omp_pause_resource_all(omp_pause_soft);
    malloc_trim(0);
    pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return mra_fail(err, MRA_IO, "measuring memory: fork: %s", strerror(errno));
    }
    if (child == 0) {
        close(ends[0]);
        work_as_child(run, context, ends[1]);
    }
    close(ends[1]);
    peak_report report;
    bool told = read_report(ends[0], &report);
    close(ends[0]);
    int how = 0;
    while (waitpid(child, &how, 0) < 0 && errno == EINTR) continue;
    if (!told && WIFSIGNALED(how))
        return mra_fail(err, WTERMSIG(how) == SIGKILL ? MRA_NO_MEMORY : MRA_INTERNAL,
                        "measuring memory: the child process ended by signal %d",
                        WTERMSIG(how));
    if (!told) return mra_fail(err, MRA_INTERNAL, "measuring memory: the child told nothing");
    if (report.error.status != MRA_OK)
        return mra_fail(err, report.error.status, "%s", report.error.message);
    size_t above = report.peak > report.before ? report.peak - report.before : 0;
    *memory = (mra_memory){.before = report.before, .peak = report.peak, .above = above};
    return MRA_OK;
}

// ---- One instance of a method
// -------------------------------------------------------------------

static float *gaussian(size_t count, uint64_t seed, const char *purpose)
{
    float *values = mra_aligned_calloc(count, sizeof *values);
    if (values != NULL) mra_fill_normal(values, count, 1, seed, mra_stream(purpose, 0, 0));
    return values;
}

// The arrays that the request leaves to the child, and the run. Nothing is freed: the process
// ends.
static mra_status run_instance(const mra_peak_request *request, mra_instance *instance,
                               mra_error *err)
{
    mra_shape shape = request->shape;
    size_t count =
        (size_t)shape.batch * (size_t)shape.heads * (size_t)shape.n * (size_t)shape.d;
    instance->q = request->q != NULL ? request->q : gaussian(count, request->seed, "q");
    instance->k = request->k != NULL ? request->k : gaussian(count, request->seed, "k");
    instance->v = request->v != NULL ? request->v : gaussian(count, request->seed, "v");
    instance->mask = request->mask;
    instance->z = mra_aligned_calloc(count, sizeof(float));
    bool complete = instance->q != NULL && instance->k != NULL && instance->v != NULL &&
                    instance->z != NULL;
    if (request->backward) {
        instance->dz = gaussian(count, request->seed, "dz");
        instance->dq = mra_aligned_calloc(count, sizeof(float));
        instance->dk = mra_aligned_calloc(count, sizeof(float));
        instance->dv = mra_aligned_calloc(count, sizeof(float));
        complete = complete && instance->dz != NULL && instance->dq != NULL &&
                   instance->dk != NULL && instance->dv != NULL;
    }
    if (!complete)
        return mra_fail(err, MRA_NO_MEMORY, "no memory for arrays of %zu values", count);
    return request->backward ? mra_instance_both(instance, err)
                             : mra_instance_forward(instance, err);
}

static mra_status run_request(void *context, mra_error *err)
{
    const mra_peak_request *request = context;
    mra_instance instance = {0};
    mra_status status = mra_attention_layer_create(
        &instance.layer, request->method, request->device, request->shape, request->seed,
        request->assignments, request->assignment_count, err);
    if (status == MRA_OK) status = mra_tape_create(&instance.tape, request->device, err);
    return status == MRA_OK ? run_instance(request, &instance, err) : status;
}

mra_status mra_measure_method_peak(const mra_peak_request *request, mra_memory *memory,
                                   mra_error *err)
{
    mra_peak_request copy = *request;
    return mra_measure_peak(run_request, &copy, memory, err);
}
