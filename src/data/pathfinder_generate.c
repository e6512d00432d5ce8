// A whole data set of Pathfinder pictures, drawn in parallel: picture i is a function of (seed, i).

#include "data/pathfinder.h"

#include <stdlib.h>

#include "core/parallel.h"
#include "core/progress.h"

enum { CHUNK = 256 };

typedef struct job {
    const mra_pathfinder *tables;
    mra_sequence **items; // all pictures of all splits, in order
    size_t total;
    uint64_t seed;
    size_t base;  // of the chunks of this round
    bool *failed; // [chunks of a round]
} job;

static void draw_chunk(void *context, size_t chunk, int thread)
{
    (void)thread;
    job *j = context;
    const size_t first = (j->base + chunk) * CHUNK;
    uint8_t pixels[MRA_PATHFINDER_LENGTH];
    uint16_t ids[MRA_PATHFINDER_LENGTH];
    for (size_t i = first; i < first + CHUNK && i < j->total; i++) {
        const int label = mra_pathfinder_draw(j->tables, j->seed, i, pixels, NULL);
        for (int p = 0; p < MRA_PATHFINDER_LENGTH; p++) ids[p] = (uint16_t)(pixels[p] + 1);
        if (!mra_sequence_set(j->items[i], ids, MRA_PATHFINDER_LENGTH, label))
            j->failed[chunk] = true;
    }
}

// Rounds of some chunks, so that people see how far it is.
static bool draw_all(job *j, int threads, bool quiet)
{
    enum { ROUND = 16 };
    bool failed[ROUND] = {false}, good = true;
    mra_progress progress =
        mra_progress_start("drawing Pathfinder-32", (double)j->total, 0, quiet);
    j->failed = failed;
    const size_t chunks = (j->total + CHUNK - 1) / CHUNK;
    for (j->base = 0; j->base < chunks && good; j->base += ROUND) {
        const size_t left = chunks - j->base;
        mra_parallel_for(threads, left < ROUND ? left : ROUND, draw_chunk, j);
        for (int i = 0; i < ROUND; i++) good = good && !failed[i];
        const size_t done = (j->base + ROUND) * CHUNK;
        mra_progress_update(&progress, (double)(done < j->total ? done : j->total), "");
    }
    mra_progress_end(&progress, "");
    return good;
}

mra_status mra_pathfinder_generate(mra_sequences splits[3], const size_t counts[3],
                                   uint64_t seed, int threads, bool quiet, mra_error *err)
{
    job j = {.seed = seed, .total = counts[0] + counts[1] + counts[2]};
    mra_pathfinder *tables = mra_pathfinder_create();
    j.tables = tables;
    j.items = calloc(j.total + 1, sizeof *j.items);
    bool good = tables && j.items;
    for (int s = 0; s < 3 && good; s++) good = mra_sequences_resize(&splits[s], counts[s]);
    size_t at = 0;
    for (int s = 0; s < 3 && good; s++)
        for (size_t i = 0; i < counts[s]; i++) j.items[at++] = &splits[s].items[i];
    if (good) good = draw_all(&j, threads < 1 ? mra_default_threads() : threads, quiet);
    free(j.items);
    mra_pathfinder_free(tables);
    if (good) return MRA_OK;
    for (int s = 0; s < 3; s++) mra_sequences_free(&splits[s]);
    return mra_fail(err, MRA_NO_MEMORY, "pathfinder32: no memory for %zu pictures", j.total);
}
