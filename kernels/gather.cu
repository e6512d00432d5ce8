// # Looking rows up, moving them, and the way back
//
// All of these move memory and compute nothing: `gather` and `swap_middle` read and write each
// entry once (42 us for 101 MB on an H200 at 4.8 TB/s), with `add` they read the result too;
// `add_positions` reads its table from the caches.
//
// The way back of `gather` adds many rows of dy to few rows of a table. Atomic additions would
// come in another order in every run, and rounding with them. So the entries are sorted by table
// row, stably, and the sorted list is cut into chunks of 64 entries. A block sums the runs of equal
// rows in its chunk. A run that lies within a chunk is complete and is added to the table; of a
// run that goes on in the next chunks the parts are kept, and the chunk in which it begins adds
// them up, in order, in a second kernel. Memory: dy once, the sorted numbers (8 bytes an entry,
// some ten passes of a radix sort over 32 bits, or two over 16), the table's rows that occur
// twice.

#include "primitives.cuh"

namespace MRA_BACKEND
{

// ---- Gathering and moving -------------------------------------------------------------------

struct gather_each {
    int width;
    const float *table;
    const int32_t *ids;
    float *y;
    __device__ void operator()(size_t at) const
    {
        const size_t i = at / (size_t)width, j = at % (size_t)width;
        y[at] = table[(size_t)ids[i] * (size_t)width + j];
    }
};
mra_status gather(mra_device *device, size_t count, int width, const float *table,
                  const int32_t *ids, float *y, mra_error *err)
{
    return for_each(device, "gather", count * (size_t)width, gather_each{width, table, ids, y},
                    err);
}

struct positions_each {
    int n, width;
    const float *x, *table;
    const int32_t *positions;
    float *y;
    __device__ void operator()(size_t at) const
    {
        const size_t i = at / (size_t)width % (size_t)n, j = at % (size_t)width;
        const size_t row = positions ? (size_t)positions[i] : i;
        y[at] = x[at] + table[row * (size_t)width + j];
    }
};
mra_status add_positions(mra_device *device, size_t batch, int n, int width, const float *x,
                         const float *table, const int32_t *positions, float *y, mra_error *err)
{
    return for_each(device, "add_positions", batch * (size_t)n * (size_t)width,
                    positions_each{n, width, x, table, positions, y}, err);
}

struct swap_each {
    int first, second, inner;
    const float *x;
    float *y;
    bool add;
    __device__ void operator()(size_t at) const // of y[outer, second, first, inner]
    {
        const size_t k = at % (size_t)inner, rest = at / (size_t)inner;
        const size_t i = rest % (size_t)first, j = rest / (size_t)first % (size_t)second;
        const size_t a = rest / (size_t)first / (size_t)second;
        const float value = x[((a * first + i) * second + j) * inner + k];
        y[at] = add ? y[at] + value : value;
    }
};
mra_status swap_middle(mra_device *device, size_t outer, int first, int second, int inner,
                       const float *x, float *y, bool add, mra_error *err)
{
    return for_each(device, "swap_middle",
                    outer * (size_t)first * (size_t)second * (size_t)inner,
                    swap_each{first, second, inner, x, y, add}, err);
}

struct copy_columns_each {
    int width;
    const float *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    bool add;
    __device__ void operator()(size_t at) const
    {
        const size_t i = at / (size_t)width, j = at % (size_t)width;
        float *to = y + i * y_stride + j;
        const float value = x[i * x_stride + j];
        *to = add ? *to + value : value;
    }
};
mra_status copy_columns(mra_device *device, size_t rows, int width, const float *x,
                        size_t x_stride, float *y, size_t y_stride, bool add, mra_error *err)
{
    return for_each(device, "copy_columns", rows * (size_t)width,
                    copy_columns_each{width, x, x_stride, y, y_stride, add}, err);
}

struct mask_each {
    int width;
    const uint8_t *mask;
    const float *x;
    float *y;
    bool add;
    __device__ void operator()(size_t at) const
    {
        const float value = mask[at / (size_t)width] ? x[at] : 0.0f;
        y[at] = add ? y[at] + value : value;
    }
};
mra_status mask_rows(mra_device *device, size_t rows, int width, const uint8_t *mask,
                     const float *x, float *y, bool add, mra_error *err)
{
    return for_each(device, "mask_rows", rows * (size_t)width,
                    mask_each{width, mask, x, y, add}, err);
}

// ---- Scattering -----------------------------------------------------------------------------

enum { CHUNK = 64, COLUMNS = 64 };

// Chunks of sorted entries. head and tail: [chunks, width], the sums of a chunk's first run if it
// has begun before, and of its last run if it goes on; a chunk within one run has only a head.
struct scatter_plan {
    size_t count;
    int width;
    const int32_t *sorted, *place;
    const float *dy;
    float *table, *head, *tail;
};

__device__ static bool begins_before(const scatter_plan &p, size_t chunk)
{
    const size_t first = chunk * CHUNK;
    return chunk > 0 && p.sorted[first - 1] == p.sorted[first];
}
__device__ static size_t end_of(const scatter_plan &p, size_t chunk)
{
    return p.count - chunk * CHUNK < CHUNK ? p.count : (chunk + 1) * CHUNK;
}
__device__ static bool goes_on(const scatter_plan &p, size_t chunk)
{
    const size_t end = end_of(p, chunk);
    return end < p.count && p.sorted[end - 1] == p.sorted[end];
}

// A thread owns a column and goes down the chunk.
__global__ void scatter_chunk_kernel(scatter_plan p)
{
    const int column = (int)blockIdx.y * COLUMNS + (int)threadIdx.x;
    if (column >= p.width) return;
    const size_t chunk = blockIdx.x, end = end_of(p, chunk), width = (size_t)p.width;
    bool first_run = begins_before(p, chunk);
    float sum = 0.0f;
    for (size_t at = chunk * CHUNK; at < end; at++) {
        sum += p.dy[(size_t)p.place[at] * width + column];
        if (at + 1 < end && p.sorted[at + 1] == p.sorted[at]) continue;
        const bool last = at + 1 == end && goes_on(p, chunk);
        if (first_run)
            p.head[chunk * width + column] = sum;
        else if (last)
            p.tail[chunk * width + column] = sum;
        else
            p.table[(size_t)p.sorted[at] * width + column] += sum;
        first_run = false;
        sum = 0.0f;
    }
}

// The runs that begin in a chunk and go on in the next ones.
__global__ void scatter_join_kernel(scatter_plan p)
{
    const int column = (int)blockIdx.y * COLUMNS + (int)threadIdx.x;
    const size_t chunk = blockIdx.x, width = (size_t)p.width;
    if (column >= p.width || !goes_on(p, chunk)) return;
    const int32_t row = p.sorted[end_of(p, chunk) - 1];
    if (begins_before(p, chunk) && p.sorted[chunk * CHUNK] == row) return; // not begun here
    float sum = p.tail[chunk * width + column];
    for (size_t next = chunk + 1; next * CHUNK < p.count && p.sorted[next * CHUNK] == row;
         next++)
        sum += p.head[next * width + column];
    p.table[(size_t)row * width + column] += sum;
}

static size_t scatter_bytes(mra_device *device, size_t count, int bound, int width)
{
    const size_t part = blocks_for(count, CHUNK) * (size_t)width;
    return 2 * working_size(count * sizeof(int32_t)) + 2 * working_size(part * sizeof(float)) +
           own_sort_bytes(device, count, bound);
}

// table[ids[i], :] += dy[i, :], ids in [0, bound), within working memory that has begun.
static mra_status scatter(mra_device *device, size_t count, int bound, int width,
                          const int32_t *ids, const float *dy, float *table, mra_error *err)
{
    const size_t chunks = blocks_for(count, CHUNK), part = chunks * (size_t)width;
    int32_t *sorted = working_piece<int32_t>(device, count);
    int32_t *place = working_piece<int32_t>(device, count);
    float *head = working_piece<float>(device, part),
          *tail = working_piece<float>(device, part);
    mra_status status = own_sort(device, count, bound, ids, sorted, place, err);
    if (status) return status;
    const scatter_plan plan = {count, width, sorted, place, dy, table, head, tail};
    const dim3 grid((unsigned)chunks, blocks_for((size_t)width, COLUMNS));
    MRA_LAUNCH(scatter_chunk_kernel, grid, COLUMNS, 0, stream_of(device), plan);
    MRA_LAUNCH(scatter_join_kernel, grid, COLUMNS, 0, stream_of(device), plan);
    return launch_status(stream_of(device), "scatter_add", err);
}

mra_status scatter_add(mra_device *device, size_t count, int rows, int width,
                       const int32_t *ids, const float *dy, float *dtable, mra_error *err)
{
    if (!count || !width) return MRA_OK;
    mra_status status =
        working_begin(device, scatter_bytes(device, count, rows, width), "scatter_add", err);
    return status ? status : scatter(device, count, rows, width, ids, dy, dtable, err);
}

// ---- Positions: the sum over the batch first, then one entry a position -----------------------

struct batch_sum_each {
    size_t batch, size;
    const float *dy;
    float *sum;
    bool add;
    __device__ void operator()(size_t i) const
    {
        float total = 0.0f;
        for (size_t b = 0; b < batch; b++) total += dy[b * size + i];
        sum[i] = add ? sum[i] + total : total;
    }
};

mra_status add_positions_backward(mra_device *device, size_t batch, int n, int width,
                                  const float *dy, const int32_t *positions, float *dtable,
                                  mra_error *err)
{
    const char *name = "add_positions_backward";
    const size_t size = (size_t)n * (size_t)width;
    if (!batch || !size) return MRA_OK;
    if (!positions)
        return for_each(device, name, size, batch_sum_each{batch, size, dy, dtable, true}, err);
    const int bound = INT32_MAX; // how many rows the table has is not said
    const size_t bytes =
        working_size(size * sizeof(float)) + scatter_bytes(device, (size_t)n, bound, width);
    mra_status status = working_begin(device, bytes, name, err);
    if (status) return status;
    float *sum = working_piece<float>(device, size);
    status = for_each(device, name, size, batch_sum_each{batch, size, dy, sum, false}, err);
    if (status) return status;
    return scatter(device, (size_t)n, bound, width, positions, sum, dtable, err);
}

} // namespace MRA_BACKEND
