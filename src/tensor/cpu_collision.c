// Sums over the rows with which a row shares a hash code, on the cpu.
//
// Of each hash function a table with one row per code that occurs: the rows of $x$ are added
// into it by their codes, and each result looks its own code up. That is $2 n$ row additions a
// function whatever the codes are, and a table of at most $n$ rows. A head is one item, so that
// its functions follow one another in a fixed order.

#include <string.h>

#include "tensor/cpu.h"

typedef struct sum_context {
    const mra_hash_form *form;
    const int32_t *from, *to;
    const float *x;
    float *y;
    bool add;
    int32_t *place; // [codes] per thread: row of the table + 1, 0: none
    float *table;   // [n, d] per thread
} sum_context;

static inline void add_row(size_t d, const float *restrict x, float *restrict y)
{
#pragma omp simd
    for (size_t j = 0; j < d; j++) y[j] += x[j];
}

// One function of one head: table from x, then y += table.
static void one_hash(const sum_context *c, const int32_t *from, const int32_t *to,
                     const float *x, float *y, int32_t *place, float *table)
{
    const size_t n = (size_t)c->form->n, d = (size_t)c->form->d;
    int32_t rows = 0;
    memset(place, 0, (size_t)c->form->codes * sizeof *place);
    for (size_t i = 0; i < n; i++) {
        if (from[i] < 0) continue;
        int32_t *at = &place[from[i]];
        if (*at) {
            add_row(d, x + i * d, table + (size_t)(*at - 1) * d);
        } else {
            memcpy(table + (size_t)rows * d, x + i * d, d * sizeof *x);
            *at = ++rows;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (to[i] >= 0 && place[to[i]])
            add_row(d, table + (size_t)(place[to[i]] - 1) * d, y + i * d);
}

static void sum_item(void *context, size_t item, int thread)
{
    const sum_context *c = context;
    const size_t n = (size_t)c->form->n, d = (size_t)c->form->d, size = n * d;
    int32_t *place = c->place + (size_t)thread * (size_t)c->form->codes;
    float *table = c->table + (size_t)thread * 2 * size, *sum = table + size;
    float *y = c->y + item * size;
    memset(sum, 0, size * sizeof *sum);
    for (int h = 0; h < c->form->hashes; h++) {
        const size_t at = (item * (size_t)c->form->hashes + (size_t)h) * n;
        one_hash(c, c->from + at, c->to + at, c->x + item * size, sum, place, table);
    }
    const float factor = 1.0f / (float)c->form->hashes;
    if (c->add)
        for (size_t i = 0; i < size; i++) y[i] += factor * sum[i];
    else
        for (size_t i = 0; i < size; i++) y[i] = factor * sum[i];
}

mra_status mra_cpu_collision_sum(mra_device *device, const mra_hash_form *form,
                                 const int32_t *from, const int32_t *to, const float *x,
                                 float *y, bool add, mra_error *err)
{
    const size_t size = (size_t)form->n * (size_t)form->d, threads = (size_t)device->threads;
    sum_context c = {.form = form, .from = from, .to = to, .x = x, .y = y, .add = add};
    c.place = mra_cpu_scratch(device, threads * (size_t)form->codes, sizeof *c.place,
                              "collision sum", err);
    if (!c.place) return MRA_NO_MEMORY;
    c.table =
        mra_cpu_more_scratch(device, threads * 2 * size, sizeof *c.table, "collision sum", err);
    if (!c.table) return MRA_NO_MEMORY;
    mra_cpu_loop(device, form->batch * (size_t)form->heads, sum_item, &c);
    return MRA_OK;
}
