// Looking rows up in a table, and the way back, on the cpu.
//
// The way back adds many rows of dy to few rows of the table: a scatter. Adding as they come
// would need atomic additions, whose order, and so whose rounding, changes from run to run.
// Instead the entries are sorted by table row (a counting sort, which keeps their order) and
// cut into runs of at most 512 of one row; each run is summed on its own, and the sums of the
// runs are added in their order.

#include <string.h>

#include "tensor/cpu.h"

enum { RUN = 512 };

typedef struct gather_context {
    size_t count, width;
    const float *table;
    const int32_t *ids;
    float *y;
} gather_context;

static void gather_item(void *context, size_t item, int thread)
{
    (void)thread;
    const gather_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->count);
    for (size_t i = range.begin; i < range.end; i++)
        memcpy(c->y + i * c->width, c->table + (size_t)c->ids[i] * c->width,
               c->width * sizeof *c->y);
}

mra_status mra_cpu_gather(mra_device *device, size_t count, int width, const float *table,
                          const int32_t *ids, float *y, mra_error *err)
{
    (void)err;
    gather_context context = {count, (size_t)width, table, ids, y};
    mra_cpu_loop(device, mra_items(count, mra_rows_per_item((size_t)width)), gather_item,
                 &context);
    return MRA_OK;
}

// ---- Scatter --------------------------------------------------------------------------------

typedef struct run_of_row {
    size_t begin, end; // positions in the sorted order
    int32_t row;
} run_of_row;

typedef struct scatter_context {
    size_t count, width, rows, runs;
    const int32_t *ids;
    const float *dy;
    size_t *start;   // [rows + 1]: where each row of the table begins in `order`
    int32_t *order;  // [count]: entries sorted by table row
    run_of_row *run; // [runs]
    float *sum;      // [runs, width]
} scatter_context;

static void sort_by_row(scatter_context *c)
{
    memset(c->start, 0, (c->rows + 1) * sizeof *c->start);
    for (size_t i = 0; i < c->count; i++) c->start[c->ids[i] + 1]++;
    for (size_t row = 0; row < c->rows; row++) c->start[row + 1] += c->start[row];
    for (size_t i = 0; i < c->count; i++) c->order[c->start[c->ids[i]]++] = (int32_t)i;
    for (size_t row = c->rows; row > 0; row--) c->start[row] = c->start[row - 1];
    c->start[0] = 0;
}

static void cut_into_runs(scatter_context *c)
{
    c->runs = 0;
    for (size_t row = 0; row < c->rows; row++)
        for (size_t begin = c->start[row]; begin < c->start[row + 1]; begin += RUN) {
            const size_t rest = c->start[row + 1] - begin;
            c->run[c->runs++] =
                (run_of_row){begin, begin + (rest < RUN ? rest : RUN), (int32_t)row};
        }
}

static void sum_run(void *context, size_t item, int thread)
{
    (void)thread;
    const scatter_context *c = context;
    float *sum = c->sum + item * c->width;
    memset(sum, 0, c->width * sizeof *sum);
    for (size_t at = c->run[item].begin; at < c->run[item].end; at++) {
        const float *dy = c->dy + (size_t)c->order[at] * c->width;
#pragma omp simd
        for (size_t j = 0; j < c->width; j++) sum[j] += dy[j];
    }
}

// Working memory for the largest number of runs that there can be.
static mra_status scatter_memory(mra_device *device, scatter_context *c, mra_error *err)
{
    const char *name = "embedding, backward";
    const size_t distinct = c->rows < c->count ? c->rows : c->count;
    const size_t most = c->count / RUN + distinct;
    c->start = mra_cpu_scratch(device, c->rows + 1, sizeof *c->start, name, err);
    if (!c->start) return MRA_NO_MEMORY;
    c->order = mra_cpu_more_scratch(device, c->count, sizeof *c->order, name, err);
    if (!c->order) return MRA_NO_MEMORY;
    c->run = mra_cpu_more_scratch(device, most, sizeof *c->run, name, err);
    if (!c->run) return MRA_NO_MEMORY;
    c->sum = mra_cpu_more_scratch(device, most, c->width * sizeof *c->sum, name, err);
    return c->sum ? MRA_OK : MRA_NO_MEMORY;
}

mra_status mra_cpu_scatter_add(mra_device *device, size_t count, int rows, int width,
                               const int32_t *ids, const float *dy, float *dtable,
                               mra_error *err)
{
    scatter_context context = {
        .count = count, .width = (size_t)width, .rows = (size_t)rows, .ids = ids, .dy = dy};
    if (scatter_memory(device, &context, err)) return MRA_NO_MEMORY;
    sort_by_row(&context);
    cut_into_runs(&context);
    mra_cpu_loop(device, context.runs, sum_run, &context);
    for (size_t i = 0; i < context.runs; i++) {
        float *to = dtable + (size_t)context.run[i].row * context.width;
        const float *sum = context.sum + i * context.width;
#pragma omp simd
        for (size_t j = 0; j < context.width; j++) to[j] += sum[j];
    }
    return MRA_OK;
}

// ---- Positions ------------------------------------------------------------------------------

typedef struct positions_context {
    size_t batch, n, width;
    const float *x, *table; // backward: x is dy
    const int32_t *positions;
    float *y; // backward: [n, width], summed over the batch
} positions_context;

static void positions_item(void *context, size_t item, int thread)
{
    (void)thread;
    const positions_context *c = context;
    const mra_range range = mra_range_of(item, mra_rows_per_item(c->width), c->batch * c->n);
    for (size_t row = range.begin; row < range.end; row++) {
        const size_t i = row % c->n, at = c->positions ? (size_t)c->positions[i] : i;
        const float *x = c->x + row * c->width, *add = c->table + at * c->width;
        float *y = c->y + row * c->width;
#pragma omp simd
        for (size_t j = 0; j < c->width; j++) y[j] = x[j] + add[j];
    }
}

mra_status mra_cpu_add_positions(mra_device *device, size_t batch, int n, int width,
                                 const float *x, const float *table, const int32_t *positions,
                                 float *y, mra_error *err)
{
    (void)err;
    positions_context context = {batch, (size_t)n, (size_t)width, x, table, positions, y};
    const size_t items = mra_items(batch * context.n, mra_rows_per_item(context.width));
    mra_cpu_loop(device, items, positions_item, &context);
    return MRA_OK;
}

enum { POSITIONS = 16 }; // positions of one item

static void sum_over_batch(void *context, size_t item, int thread)
{
    (void)thread;
    const positions_context *c = context;
    const mra_range range = mra_range_of(item, POSITIONS, c->n);
    for (size_t i = range.begin; i < range.end; i++)
        mra_cpu_sum_rows(c->batch, c->width, c->x + i * c->width, c->n * c->width, NULL,
                         c->y + i * c->width);
}

mra_status mra_cpu_add_positions_backward(mra_device *device, size_t batch, int n, int width,
                                          const float *dy, const int32_t *positions,
                                          float *dtable, mra_error *err)
{
    const size_t size = (size_t)n * (size_t)width;
    float *sum = mra_cpu_scratch(device, size, sizeof *sum, "positions, backward", err);
    if (!sum) return MRA_NO_MEMORY;
    positions_context context = {
        .batch = batch, .n = (size_t)n, .width = (size_t)width, .x = dy, .y = sum};
    mra_cpu_loop(device, mra_items(context.n, POSITIONS), sum_over_batch, &context);
    if (!positions) {
        mra_cpu_add_parts(device, 1, size, sum, dtable);
        return MRA_OK;
    }
    for (size_t i = 0; i < context.n; i++) {
        float *to = dtable + (size_t)positions[i] * context.width;
        for (size_t j = 0; j < context.width; j++) to[j] += sum[i * context.width + j];
    }
    return MRA_OK;
}
