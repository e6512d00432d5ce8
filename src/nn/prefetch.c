// Batches prepared one ahead.
//
// A loader that decodes pictures keeps a core busy for as long as the network keeps the device busy; done one after the
// other, each waits for the other. So a thread prepares the next batch while the loop computes with the present one.
// This changes no number, because a batch is a function of its portion alone, whoever fills it and whenever. The thread never
// has more than one batch to fill, and whoever asks for a batch waits for the thread first: a task needs no locks.

#include <pthread.h>
#include <stdlib.h>

#include "nn/task.h"

struct mra_prefetch {
    mra_task *task;
    bool ahead;
    void *batch[2];
    int given;           // which of the two was handed out last; the other is free to be filled
    mra_portion portion; // what the other one holds or is being filled with
    bool begun;          // it is worth something: filled, or being filled

    pthread_t thread;
    bool running; // the thread was started
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool busy, quit;   // under the lock: the thread has work; it shall end
    mra_status status; // of the last filling
    mra_error error;
};

static void fill(mra_prefetch *prefetch)
{
    prefetch->status =
        prefetch->task->kind->prepare(prefetch->task, &prefetch->portion,
                                      prefetch->batch[1 - prefetch->given], &prefetch->error);
}

static void *work(void *context)
{
    mra_prefetch *prefetch = context;
    pthread_mutex_lock(&prefetch->lock);
    for (;;) {
        while (!prefetch->busy && !prefetch->quit)
            pthread_cond_wait(&prefetch->changed, &prefetch->lock);
        if (prefetch->quit) break;
        pthread_mutex_unlock(&prefetch->lock);
        fill(prefetch);
        pthread_mutex_lock(&prefetch->lock);
        prefetch->busy = false;
        pthread_cond_broadcast(&prefetch->changed);
    }
    pthread_mutex_unlock(&prefetch->lock);
    return NULL;
}

static void wait_for_thread(mra_prefetch *prefetch)
{
    pthread_mutex_lock(&prefetch->lock);
    while (prefetch->busy) pthread_cond_wait(&prefetch->changed, &prefetch->lock);
    pthread_mutex_unlock(&prefetch->lock);
}

static void set_flag(mra_prefetch *prefetch, bool *flag)
{
    pthread_mutex_lock(&prefetch->lock);
    *flag = true;
    pthread_cond_broadcast(&prefetch->changed);
    pthread_mutex_unlock(&prefetch->lock);
}

mra_status mra_prefetch_create(mra_prefetch **prefetch, mra_task *task, bool ahead,
                               mra_error *err)
{
    *prefetch = NULL;
    mra_prefetch *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "batches: no memory");
    made->task = task;
    made->ahead = ahead;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->changed, NULL);
    mra_status status = MRA_OK;
    for (int i = 0; i < 2 && status == MRA_OK; i++)
        status = task->kind->batch_create(task, &made->batch[i], err);
    if (status == MRA_OK && ahead) {
        made->running = pthread_create(&made->thread, NULL, work, made) == 0;
        if (!made->running)
            status = mra_fail(err, MRA_IO, "the system refuses a thread that prepares batches");
    }
    if (status == MRA_OK)
        *prefetch = made;
    else
        mra_prefetch_free(made);
    return status;
}

void mra_prefetch_free(mra_prefetch *prefetch)
{
    if (!prefetch) return;
    if (prefetch->running) {
        wait_for_thread(prefetch);
        set_flag(prefetch, &prefetch->quit);
        pthread_join(prefetch->thread, NULL);
    }
    for (int i = 0; i < 2; i++) prefetch->task->kind->batch_free(prefetch->batch[i]);
    pthread_cond_destroy(&prefetch->changed);
    pthread_mutex_destroy(&prefetch->lock);
    free(prefetch);
}

static bool same_portion(const mra_portion *a, const mra_portion *b)
{
    return a->split == b->split && a->index == b->index && a->part == b->part &&
           a->parts == b->parts;
}

mra_status mra_prefetch_get(mra_prefetch *prefetch, const mra_portion *wanted,
                            const mra_portion *next, const void **batch, mra_error *err)
{
    if (prefetch->ahead) wait_for_thread(prefetch);
    if (!prefetch->begun || !same_portion(&prefetch->portion, wanted)) {
        prefetch->portion = *wanted;
        fill(prefetch);
    }
    prefetch->begun = false;
    if (prefetch->status != MRA_OK) {
        if (err) *err = prefetch->error;
        return prefetch->status;
    }
    prefetch->given = 1 - prefetch->given;
    *batch = prefetch->batch[prefetch->given];
    if (!prefetch->ahead || !next) return MRA_OK;
    prefetch->portion = *next;
    prefetch->begun = true;
    set_flag(prefetch, &prefetch->busy);
    return MRA_OK;
}
