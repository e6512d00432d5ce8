// # Codes, and lists sorted by code
//
// What the codes are is said in src/tensor/cpu_hash.c. The projections of one example on all
// functions of its heads are one product (in the precision of the device: in TF32 or bf16 a row
// close to a hyperplane may fall on its other side); then a thread packs the signs of a function, or
// a warp finds the largest of its projections.
//
// Bytes at 12 heads of 64, batch 8, $n=4096$: sixteen functions of 9 planes make 226 MB of
// projections, written and read, 101 MB of rows and 25 MB of codes: 580 MB, 0.12 ms on an H200,
// for 7.2 GFLOP, 0.11 ms at the 67 TFLOP/s of float32. Two rotations into 64 axes: 201 MB of
// projections, 0.11 ms.
//
// Sorting is by counting. A block of eight warps has a list; warp $w$ has its $w$-th part and goes
// through it twice, 32 codes at a time, in order: first it counts its codes, then, the counts
// having become places by one prefix sum over (code, warp), it hands the places out. Lanes with
// equal codes find one another by a match of the warp; the places among them go by lane. So the
// order is stable and nothing depends on who comes first. A list of 4096 takes a warp 16 steps of
// some 100 clocks twice, about 3 us; 1536 lists, 16 functions of 96 heads, fill 132 processors
// twice: 10 us, where their 25 MB read twice and written once take 16 us. A
// list of so many codes that counts of eight warps do not fit into 96 KB of shared memory has one
// warp and its counts in global memory: 128 steps of about 1 us each way.

#include "primitives.cuh"
#include "scan.cuh"

namespace MRA_BACKEND
{

enum { WARPS = THREADS / 32 };

// ---- Codes ----------------------------------------------------------------------------------

// One example of the batch: projections p[heads, n, hashes * width], codes[heads, hashes, n].
struct hash_plan {
    mra_hash_form form;
    const int32_t *widths;   // of the example, or NULL: all
    const uint8_t *mask;     // of the example, or NULL
    const float *projection; // p
    int32_t *codes;
};

struct signs_each {
    hash_plan p;
    __device__ void operator()(size_t at) const // of codes
    {
        const size_t n = (size_t)p.form.n, hashes = (size_t)p.form.hashes;
        const size_t i = at % n, hash = at / n % hashes, head = at / n / hashes;
        const int width = p.form.width;
        const float *own = p.projection + ((head * n + i) * hashes + hash) * (size_t)width;
        int32_t code = 0;
        for (int b = 0; b < width; b++) code |= (int32_t)(own[b] > 0.0f) << b;
        p.codes[at] = p.mask && !p.mask[i] ? -1 : code;
    }
};

// The largest of p_0, p_1, ..., -p_0, -p_1, ..., and where it stands; the first of equal ones.
struct axis {
    float value;
    int place;
};
__device__ static axis better(axis a, axis b)
{
    return b.value > a.value || (b.value == a.value && b.place < a.place) ? b : a;
}

// A warp has a row and a function.
__global__ void rotations_kernel(hash_plan p, size_t count)
{
    const size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (at >= count) return;
    const size_t n = (size_t)p.form.n, hashes = (size_t)p.form.hashes;
    const size_t hash = at % hashes, i = at / hashes % n, head = at / hashes / n;
    const int width = p.widths ? *p.widths : p.form.width;
    const float *own = p.projection + at * (size_t)p.form.width;
    axis best = {-INFINITY, 0};
    for (int b = (int)threadIdx.x % 32; b < width; b += 32) {
        const axis up = {own[b], b}, down = {-own[b], width + b};
        best = better(better(best, up), down);
    }
    for (int step = 16; step > 0; step /= 2) {
        axis other;
        other.value = __shfl_xor_sync(0xffffffffu, best.value, step);
        other.place = __shfl_xor_sync(0xffffffffu, best.place, step);
        best = better(best, other);
    }
    if (threadIdx.x % 32 > 0) return;
    const bool out = p.mask && !p.mask[i];
    p.codes[(head * hashes + hash) * n + i] =
        out ? -1 : 2 * p.form.width * (int)hash + best.place;
}

static mra_status hash_rows(mra_device *device, const char *name, const mra_hash_form *form,
                            const float *x, const float *directions, const int32_t *widths,
                            const uint8_t *mask, int32_t *codes, bool rotations, mra_error *err)
{
    const size_t heads = (size_t)form->heads, n = (size_t)form->n;
    const size_t hashes = (size_t)form->hashes, rows = heads * n, count = rows * hashes;
    const size_t size = count * (size_t)form->width;
    if (!form->batch || !count) return MRA_OK;
    mra_status status = working_begin(device, working_size(size * sizeof(float)), name, err);
    if (status) return status;
    float *projection = working_piece<float>(device, size);
    const mra_product product = {heads, form->n, form->hashes * form->width, form->d, false,
                                 true,  1.0f};
    for (size_t b = 0; b < form->batch && !status; b++) {
        hash_plan p = {*form, widths ? widths + b : NULL, mask ? mask + b * n : NULL,
                       projection, codes + b * count};
        status = gemm(device, &product, x + b * rows * (size_t)form->d, directions, projection,
                      false, err);
        if (status) return status;
        if (!rotations) {
            status = for_each(device, name, count, signs_each{p}, err);
            continue;
        }
        launch(name, rotations_kernel, blocks_for(count, WARPS), THREADS, 0, stream_of(device),
               p, count);
        status = launch_status(stream_of(device), name, err);
    }
    return status;
}

mra_status hash_signs(mra_device *device, const mra_hash_form *form, const float *x,
                      const float *planes, const uint8_t *mask, int32_t *codes, mra_error *err)
{
    return hash_rows(device, "hash_signs", form, x, planes, NULL, mask, codes, false, err);
}

mra_status hash_rotations(mra_device *device, const mra_hash_form *form, const float *x,
                          const float *rotations, const int32_t *widths, const uint8_t *mask,
                          int32_t *codes, mra_error *err)
{
    return hash_rows(device, "hash_rotations", form, x, rotations, widths, mask, codes, true,
                     err);
}

// ---- Sorting --------------------------------------------------------------------------------

enum { SORT_SHARED = 96 * 1024 }; // bytes of counts

// `parts` warps of a block share a list; counts are [range, parts] and one more.
struct sort_plan {
    int length, range, parts;
    const int32_t *codes;
    int32_t *order, *start;
    int *count; // [lists, range * parts + 1], or NULL: in shared memory
};

// One step of a warp's part: lanes with equal codes, by which the first of them counts.
struct sort_step {
    int i;         // the lane's position in the list
    int32_t code;  // -1: none
    uint32_t same; // lanes with this code
    __device__ sort_step(const int32_t *codes, int first, int end)
    {
        i = first + (int)threadIdx.x % 32;
        code = i < end ? codes[i] : -1;
        same = __match_any_sync(0xffffffffu, (uint32_t)code);
    }
    __device__ int rank() const
    {
        return __popc(same & ((1u << threadIdx.x % 32) - 1));
    }
};

__global__ void sort_kernel(sort_plan p)
{
    MRA_SHARED(int, room, WARPS + 1);
    const size_t list = blockIdx.x;
    const int counts = p.range * p.parts, warp = (int)threadIdx.x / 32;
    const int each = ((p.length + p.parts - 1) / p.parts + 31) / 32 * 32;
    const int begin = warp < p.parts ? min(warp * each, p.length) : p.length;
    const int end = min(begin + each, p.length);
    const int32_t *codes = p.codes + list * (size_t)p.length;
    int32_t *order = p.order + list * (size_t)p.length;
    int32_t *start = p.start + list * (size_t)(p.range + 1);
    int *count = p.count ? p.count + list * (size_t)(counts + 1) : dynamic_shared<int>();
    for (int c = (int)threadIdx.x; c < counts; c += THREADS) count[c] = 0;
    __syncthreads();
    for (int first = begin; first < end; first += 32) {
        const sort_step step(codes, first, end);
        if (step.code >= 0 && step.rank() == 0)
            count[step.code * p.parts + warp] += __popc(step.same);
        __syncwarp();
    }
    __syncthreads();
    scan_array<WARPS>(count, counts, room);
    for (int c = (int)threadIdx.x; c <= p.range; c += THREADS) start[c] = count[c * p.parts];
    __syncthreads();
    for (int first = begin; first < end; first += 32) {
        const sort_step step(codes, first, end);
        int *next = count + max(step.code, 0) * p.parts + warp;
        if (step.code >= 0) order[*next + step.rank()] = step.i;
        __syncwarp();
        if (step.code >= 0 && step.rank() == 0) *next += __popc(step.same);
        __syncwarp();
    }
}

static sort_plan plan_sort(int length, int range)
{
    sort_plan p = {};
    p.length = length, p.range = range;
    for (p.parts = WARPS; p.parts > 1; p.parts /= 2)
        if (((size_t)range * (size_t)p.parts + 1) * sizeof(int) <= SORT_SHARED) break;
    return p;
}

size_t sort_lists_bytes(size_t lists, int length, int range)
{
    const size_t counts = ((size_t)range + 1) * sizeof(int);
    (void)length;
    return counts <= SORT_SHARED ? 0 : working_size(lists * counts);
}

mra_status sort_lists(mra_device *device, const char *name, size_t lists, int length, int range,
                      const int32_t *codes, int32_t *order, int32_t *start, mra_error *err)
{
    if (!lists) return MRA_OK;
    sort_plan p = plan_sort(length, range);
    p.codes = codes, p.order = order, p.start = start;
    size_t shared = ((size_t)range * (size_t)p.parts + 1) * sizeof(int);
    if (shared > SORT_SHARED) {
        p.count = working_piece<int>(device, lists * ((size_t)range + 1));
        shared = 0;
    }
    launch(name, sort_kernel, (unsigned)lists, THREADS, shared, stream_of(device), p);
    return launch_status(stream_of(device), name, err);
}

mra_status sort_by_code(mra_device *device, size_t lists, int length, int range,
                        const int32_t *codes, int32_t *order, int32_t *start, mra_error *err)
{
    const char *name = "sort_by_code";
    mra_status status =
        working_begin(device, sort_lists_bytes(lists, length, range), name, err);
    return status ? status
                  : sort_lists(device, name, lists, length, range, codes, order, start, err);
}

} // namespace MRA_BACKEND
