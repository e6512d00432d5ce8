// # Sums over colliding rows, and the way back
//
// src/tensor/cpu_collision.c and cpu_collision_backward.c say what is computed. Here no table is
// built by atomic additions, whose order would show in the rounding: the rows of each function are
// sorted by code (kernels/hash.cu), and a run of equal codes is added up in its order by one warp,
// which leaves the sum at the place where the run begins. A warp that looks a code up finds that
// place in the list of starts. Runs are dealt by their first entries, 32 places a warp, so that
// warps have about 32 rows each whatever the number of codes; a run that is much longer takes its
// warp longer.
//
// Forward at 12 heads of 64, batch 8, $n=4096$, 16 functions: $2 \cdot 1536 \cdot 4096$ rows of 256
// bytes are gathered, 3.2 GB through the second-level cache, 0.6 ms on an H200 at 5.5 TB/s;
// sorting 26 us; memory 0.6 GB, 0.13 ms.
//
// Backward a block of threads has 32 places of the sorted rows that get a gradient (kernels/team.cuh)
// and goes through the run of the others with the same codes, function after function, in one launch
// each, which adds to what the one before has left. With nine bits and codes spread out a run has
// 8 rows and a tile of places four runs: 32 pairs a place, $4 \cdot 32 \cdot 64$ operations,
// 52 GFLOP for each of $dQ$ and $dK$, 0.8 ms at the 67 TFLOP/s of float32, five times that as
// operands come from shared memory, 3.9 ms; bytes: five rows a place, 8 GB through the second-level
// cache, 1.5 ms. So 8 ms for both. Runs that are long in both arrays are not gone through pair by pair: with $a$ and $b$ rows and $2ab > (a+b)d$ the matrix
// $\sum_j v_j k_j^\top$ is formed first and each place multiplies by it, as on the cpu, so that
// codes that pile up cost no more than $O(n d^2)$ a function. Such a run has more than $d/2$ rows
// in each array; so runs begin more than $d/2$ places apart, and the place where one begins,
// divided by that, is a number of its own for its matrix.

#include "angle.cuh"
#include "team.cuh"

namespace MRA_BACKEND
{

enum { WARPS = THREADS / 32 };

// ---- Sums -----------------------------------------------------------------------------------

// Some heads: `from`, `to`, x and y are theirs. Lists: [heads, hashes].
struct sum_plan {
    mra_hash_form form;
    size_t lists;
    const int32_t *from, *to;
    const int32_t *order, *start; // of `from`, sorted
    const float *x;
    float *run; // [lists, n, d]: the sum of a run, at the place where it begins
    float *y;
    bool add;
};

__global__ void collision_runs_kernel(sum_plan p)
{
    const size_t n = (size_t)p.form.n, d = (size_t)p.form.d, steps = (n + 31) / 32;
    const size_t warp = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, list = warp / steps;
    if (list >= p.lists) return;
    const int lane = (int)threadIdx.x % 32, place = (int)(warp % steps) * 32 + lane;
    const int32_t *order = p.order + list * n;
    const int32_t *start = p.start + list * (size_t)(p.form.codes + 1);
    const float *x = p.x + list / (size_t)p.form.hashes * n * d;
    int rows = 0; // of the run that begins at this lane's place
    if (place < start[p.form.codes]) {
        const int32_t code = p.from[list * n + (size_t)order[place]];
        if (start[code] == place) rows = start[code + 1] - place;
    }
    for (uint32_t left = __ballot_sync(0xffffffffu, rows > 0); left; left &= left - 1) {
        const int from = __ffs(left) - 1, count = __shfl_sync(0xffffffffu, rows, from);
        const int first = place - lane + from;
        for (size_t c = (size_t)lane; c < d; c += 32) {
            float sum = 0.0f;
#pragma unroll 8
            for (int e = 0; e < count; e++) sum += x[(size_t)order[first + e] * d + c];
            p.run[(list * n + (size_t)first) * d + c] = sum;
        }
    }
}

__global__ void collision_sum_kernel(sum_plan p)
{
    const size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const size_t n = (size_t)p.form.n, d = (size_t)p.form.d, hashes = (size_t)p.form.hashes;
    const size_t head = at / n, codes = (size_t)p.form.codes + 1;
    if (head * hashes >= p.lists) return;
    for (size_t c = threadIdx.x % 32; c < d; c += 32) {
        float sum = 0.0f;
        for (size_t list = head * hashes; list < (head + 1) * hashes; list++) {
            const int32_t code = p.to[list * n + at % n];
            if (code < 0) continue;
            const int32_t *start = p.start + list * codes + code;
            if (start[1] > start[0]) sum += p.run[(list * n + (size_t)start[0]) * d + c];
        }
        float *to = p.y + at * d + c;
        *to = (p.add ? *to : 0.0f) + sum / (float)p.form.hashes;
    }
}

// Heads whose sorted codes and sums are in working memory at once; p: with all of its input.
static mra_status sum_slice(mra_device *device, sum_plan p, size_t heads, mra_error *err)
{
    const char *name = "collision_sum";
    const size_t n = (size_t)p.form.n, d = (size_t)p.form.d, codes = (size_t)p.form.codes + 1;
    state_of(device)->working_used = 0;
    p.lists = heads * (size_t)p.form.hashes;
    int32_t *order = working_piece<int32_t>(device, p.lists * n);
    int32_t *start = working_piece<int32_t>(device, p.lists * codes);
    p.run = working_piece<float>(device, p.lists * n * d);
    mra_status status =
        sort_lists(device, name, p.lists, p.form.n, p.form.codes, p.from, order, start, err);
    if (status) return status;
    p.order = order, p.start = start;
    MRA_LAUNCH(collision_runs_kernel, blocks_for(p.lists * ((n + 31) / 32), WARPS), THREADS, 0,
               stream_of(device), p);
    MRA_LAUNCH(collision_sum_kernel, blocks_for(heads * n, WARPS), THREADS, 0,
               stream_of(device), p);
    return launch_status(stream_of(device), name, err);
}

mra_status collision_sum(mra_device *device, const mra_hash_form *form, const int32_t *from,
                         const int32_t *to, const float *x, float *y, bool add, mra_error *err)
{
    const size_t n = (size_t)form->n, d = (size_t)form->d, hashes = (size_t)form->hashes;
    const size_t heads = form->batch * (size_t)form->heads, codes = (size_t)form->codes + 1;
    if (!heads || !n || !d) return MRA_OK;
    const size_t bytes =
        hashes * (n * sizeof(int32_t) + codes * sizeof(int32_t) + n * d * sizeof(float)) +
        sort_lists_bytes(hashes, form->n, form->codes);
    const size_t slice = slice_of(device, bytes, heads);
    mra_status status =
        working_begin(device, slice * bytes + 4 * working_size(1), "collision_sum", err);
    sum_plan p = {};
    p.form = *form, p.add = add;
    for (size_t first = 0; first < heads && !status; first += slice) {
        p.from = from + first * hashes * n, p.to = to + first * hashes * n;
        p.x = x + first * n * d, p.y = y + first * n * d;
        status = sum_slice(device, p, heads - first < slice ? heads - first : slice, err);
    }
    return status;
}

// ---- Backward -------------------------------------------------------------------------------

// One of the two arrays of rows: codes [heads, hashes, n] and how they are sorted; a, b [heads, n, d].
// A pair of rows, one of each array, has the weight g <a, a'> and gives it times b' to the first.
struct collision_side {
    const int32_t *codes, *order, *start;
    const float *a, *b;
};

struct pair_plan {
    mra_hash_form form;
    mra_collision_rule rule;
    size_t heads;
    int hash; // the function of this launch
    collision_side own, other;
    float factor;
    float *matrix;          // [heads, slots, d, d]
    int slots, span, tiles; // span: the least length of a run that has a matrix
    float *to;              // [heads, n, d], added to
};

// Sorted rows of one function of one head, of both arrays.
struct function_lists {
    size_t head, at; // at: of the list in arrays of n
    int codes;
    const int32_t *own_codes, *own_order, *own_start, *other_codes, *other_order, *other_start;
    __device__ function_lists(const pair_plan &p, size_t head_) : head(head_)
    {
        const size_t list = head * (size_t)p.form.hashes + (size_t)p.hash;
        codes = p.form.codes;
        at = list * (size_t)p.form.n;
        own_codes = p.own.codes + at, own_order = p.own.order + at;
        other_codes = p.other.codes + at, other_order = p.other.order + at;
        own_start = p.own.start + list * (size_t)(codes + 1);
        other_start = p.other.start + list * (size_t)(codes + 1);
    }
    // Whether the runs of this code are so long that a matrix is cheaper than their pairs.
    __device__ bool is_long(const pair_plan &p, int32_t code) const
    {
        const int64_t a = own_start[code + 1] - own_start[code];
        const int64_t b = other_start[code + 1] - other_start[code];
        return !p.rule.derivative && 2 * a * b > (a + b) * p.form.d;
    }
};

// matrix = sum of a_j^T b_j over the run of the other array that begins in this block's span of
// places, if it is long enough.
__global__ void collision_matrix_kernel(pair_plan p)
{
    MRA_SHARED(int32_t, found, 1);
    const int d = p.form.d, slot = (int)(blockIdx.x % (unsigned)p.slots);
    const function_lists list(p, blockIdx.x / (unsigned)p.slots);
    if (threadIdx.x == 0) found[0] = -1;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < p.span; i += THREADS) {
        const int place = slot * p.span + i;
        if (place >= list.other_start[list.codes]) continue;
        const int32_t code = list.other_codes[list.other_order[place]];
        if (list.other_start[code] == place && list.is_long(p, code)) found[0] = code;
    }
    __syncthreads();
    const int32_t code = found[0];
    if (code < 0) return;
    float *a = dynamic_shared<float>(), *b = a + SIDE * (d + 1);
    float *to = p.matrix + (size_t)blockIdx.x * (size_t)d * (size_t)d;
    const int begin = list.other_start[code], end = list.other_start[code + 1];
    const float *rows_a = p.other.a + list.head * (size_t)p.form.n * (size_t)d;
    const float *rows_b = p.other.b + list.head * (size_t)p.form.n * (size_t)d;
    enum { EACH = 16 }; // entries of a thread in one pass over the run
    for (int base = (int)threadIdx.x; base - (int)threadIdx.x < d * d; base += EACH * THREADS) {
        float sum[EACH] = {0.0f};
        for (int first = begin; first < end; first += SIDE) {
            const int count = min(end - first, (int)SIDE);
            const auto row_of = [&](int r) { return (size_t)list.other_order[first + r] * d; };
            __syncthreads();
            load_rows(a, d, count, [&](int r) { return rows_a + row_of(r); });
            load_rows(b, d, count, [&](int r) { return rows_b + row_of(r); });
            __syncthreads();
#pragma unroll
            for (int k = 0; k < EACH; k++) {
                const int entry = base + k * THREADS;
                if (entry >= d * d) break;
                const float *left = a + entry / d, *right = b + entry % d;
                for (int r = 0; r < count; r++)
                    sum[k] += left[r * (d + 1)] * right[r * (d + 1)];
            }
        }
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (base + k * THREADS < d * d) to[base + k * THREADS] = sum[k];
    }
}

// Whether rows i (own) and j (other) met in a function before this one.
__device__ static bool met_before(const pair_plan &p, const function_lists &list, int i, int j)
{
    const int32_t *own = list.own_codes + i, *other = list.other_codes + j;
    for (int before = 1; before <= p.hash; before++) {
        const int32_t code = *(own - (size_t)before * (size_t)p.form.n);
        if (code >= 0 && code == *(other - (size_t)before * (size_t)p.form.n)) return true;
    }
    return false;
}

template <int OWN> __global__ void collision_pairs_kernel(pair_plan p)
{
    const int d = p.form.d, stride = d + 1, r = (int)threadIdx.x / TEAM;
    const function_lists list(p, blockIdx.x / (unsigned)p.tiles);
    const size_t rows = list.head * (size_t)p.form.n;
    const int first = (int)(blockIdx.x % (unsigned)p.tiles) * SIDE;
    const int count = min(list.own_start[list.codes] - first, (int)SIDE);
    if (count <= 0) return;
    float *a = dynamic_shared<float>(), *b = a + SIDE * stride, *other_a = b + SIDE * stride;
    float *other_b = other_a + SIDE * stride, *weight = other_b + SIDE * stride + r * SIDE;
    const auto own_row = [&](int x) { return rows + (size_t)list.own_order[first + x]; };
    load_rows(a, d, count, [&](int x) { return p.own.a + own_row(x) * (size_t)d; });
    if (p.rule.derivative)
        load_rows(b, d, count, [&](int x) { return p.own.b + own_row(x) * (size_t)d; });
    const int32_t least = list.own_codes[list.own_order[first]];
    const int32_t most = list.own_codes[list.own_order[first + count - 1]];
    const int i = r < count ? list.own_order[first + r] : -1;
    const int32_t code = i >= 0 ? list.own_codes[i] : -1;
    const bool matrix = code >= 0 && list.is_long(p, code);
    const bool all_matrix = least == most && list.is_long(p, least);
    float sum[OWN];
    for (int c = 0; c < OWN; c++) sum[c] = 0.0f;

    const int end = all_matrix ? 0 : list.other_start[most + 1];
    for (int next = list.other_start[least]; next < end; next += SIDE) {
        const int others = min(end - next, (int)SIDE);
        const auto row_of = [&](int y) { return rows + (size_t)list.other_order[next + y]; };
        __syncthreads();
        load_rows(other_a, d, others, [&](int y) { return p.other.a + row_of(y) * (size_t)d; });
        load_rows(other_b, d, others, [&](int y) { return p.other.b + row_of(y) * (size_t)d; });
        __syncthreads();
        float product[PRODUCTS], cosine[PRODUCTS];
        row_products(a + r * stride, other_a, others, d, product);
        if (p.rule.derivative) row_products(b + r * stride, other_b, others, d, cosine);
        const auto weight_of = [&](int m, int y) {
            const int j = list.other_order[next + y];
            if (matrix || code < 0 || list.other_codes[j] != code) return 0.0f;
            if (p.rule.derivative && met_before(p, list, i, j)) return 0.0f;
            const float along = p.factor * product[m];
            if (!p.rule.derivative) return along;
            const float c = p.rule.shrink * cosine[m];
            const float below = integer_power(angle_share(c), p.rule.power - 1);
            return along * angle_slope(c, p.rule.power, below);
        };
        add_weighted<OWN>(weight, other_b, others, d, weight_of, sum);
    }
    if (all_matrix) __syncthreads(); // no tile of others has come between
    if (i < 0) return;
    if (matrix) {
        const size_t slot = (size_t)(list.other_start[code] / p.span);
        const float *m =
            p.matrix + (list.head * (size_t)p.slots + slot) * (size_t)d * (size_t)d;
        for (int k = 0; k < d; k++)
            add_rows<OWN>(sum, a + r * stride + k, m + (size_t)k * d, 1, d);
    }
    put_row<OWN>(p.to + (rows + (size_t)i) * (size_t)d, sum, matrix ? p.factor : 1.0f, true, d);
}

// The gradient of one array: dq with (own, other) = (q, k), dk the other way round.
static mra_status add_gradient(mra_device *device, pair_plan p, bool add, mra_error *err)
{
    const int d = p.form.d;
    const size_t rows = p.heads * (size_t)p.form.n;
    const team_kernels<pair_plan> pairs = {
        {collision_pairs_kernel<4>, collision_pairs_kernel<8>, collision_pairs_kernel<16>,
         collision_pairs_kernel<32>}};
    const team_kernels<pair_plan> matrices = {{collision_matrix_kernel, collision_matrix_kernel,
                                               collision_matrix_kernel,
                                               collision_matrix_kernel}};
    mra_status status = add ? MRA_OK : fill(device, rows * (size_t)d, 0.0f, p.to, err);
    for (p.hash = 0; p.hash < p.form.hashes && !status; p.hash++) {
        const dim3 slots((unsigned)(p.heads * (size_t)p.slots));
        const dim3 tiles((unsigned)(p.heads * (size_t)p.tiles));
        if (!p.rule.derivative)
            status = launch_team(device, "collision_matrix", slots, d, 2, 0, matrices, p, err);
        if (!status)
            status = launch_team(device, "collision_pairs", tiles, d, 4, 1, pairs, p, err);
    }
    return status;
}

// One array sorted: by code in each function.
static mra_status sort_side(mra_device *device, const mra_hash_form *form, size_t lists,
                            collision_side *side, mra_error *err)
{
    int32_t *order = working_piece<int32_t>(device, lists * (size_t)form->n);
    int32_t *start = working_piece<int32_t>(device, lists * (size_t)(form->codes + 1));
    side->order = order, side->start = start;
    return sort_lists(device, "collision_backward", lists, form->n, form->codes, side->codes,
                      order, start, err);
}

mra_status collision_backward(mra_device *device, const mra_hash_form *form,
                              const mra_collision_rule *rule, const int32_t *q_codes,
                              const int32_t *k_codes, const float *const qkv[3],
                              const float *dy, float *dq, bool add_q, float *dk, bool add_k,
                              mra_error *err)
{
    pair_plan p = {};
    p.form = *form, p.rule = *rule;
    p.heads = form->batch * (size_t)form->heads;
    p.span = form->d / 2 + 1;
    p.slots = (form->n + p.span - 1) / p.span;
    p.tiles = (form->n + SIDE - 1) / SIDE;
    p.factor = rule->derivative ? 1.0f : 0.5f * (float)rule->power / (float)form->hashes;
    const size_t lists = p.heads * (size_t)form->hashes, n = (size_t)form->n;
    if (!lists || !n) return MRA_OK;
    const size_t matrix =
        rule->derivative ? 0 : p.heads * (size_t)p.slots * (size_t)form->d * (size_t)form->d;
    const size_t bytes =
        2 * (working_size(lists * n * sizeof(int32_t)) +
             working_size(lists * (size_t)(form->codes + 1) * sizeof(int32_t)) +
             sort_lists_bytes(lists, form->n, form->codes)) +
        working_size(matrix * sizeof(float));
    mra_status status = working_begin(device, bytes, "collision_backward", err);
    collision_side q = {q_codes, NULL, NULL, dy, qkv[0]},
                   k = {k_codes, NULL, NULL, qkv[2], qkv[1]};
    if (!status) status = sort_side(device, form, lists, &q, err);
    if (!status) status = sort_side(device, form, lists, &k, err);
    if (status) return status;
    p.matrix = working_piece<float>(device, matrix);
    p.own = q, p.other = k, p.to = dq;
    if (dq) status = add_gradient(device, p, add_q, err);
    p.own = k, p.other = q, p.to = dk;
    return status || !dk ? status : add_gradient(device, p, add_k, err);
}

} // namespace MRA_BACKEND
