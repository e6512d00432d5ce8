// # Attention among sorted rows
//
// src/tensor/cpu_sorted.c says what it is. A block of threads has 32 consecutive places of a
// sorted list (kernels/team.cuh) and walks over the places that they may see: the chunks around
// them, and of these, where a row sees its own bucket alone, the places of the tile's codes. A row
// has a place in each round, in different tiles. So each place leaves its own numerator, largest
// logit and sum, and a warp joins those of a row, in the order of the rounds; backward, gradients are
// left by place and added up by row in the same way. No sum depends on who comes first.
//
// At 12 heads of 64, batch 8, $n=4096$, two rounds, chunks of 64 and 128 buckets: 786432 places; a
// tile of 32 spans two buckets, 64 places, so $4 \cdot 64 \cdot 64$ operations a place, 12.9 GFLOP
// forward; 0.19 ms on an H200 at the 67 TFLOP/s of float32, five times that as operands come from
// shared memory, 0.9 ms. With the published ring a place sees 128, 1.9 ms. Bytes: q, k, v
// gathered, 604 MB, 201 MB of numerators written and read, z: 1.1 GB, 0.23 ms. Backward forms
// logits and $\langle dz_i, v_j\rangle$ twice, 14 operations an entry instead of 4: 3.3 ms (ring
// 6.6), 2.4 GB.

#include "team.cuh"

namespace MRA_BACKEND
{

enum { WARPS = THREADS / 32 };

struct sorted_plan {
    mra_sorted_form form;
    mra_sorted_operands o;
    int lists, length, tiles; // lists of a head, places and tiles of a list
    size_t heads;             // of all examples
    int32_t *place;           // [heads, rounds, n]: where a row stands in its list; -1: nowhere
    float *part, *other;      // [heads, rounds * n, d]: what each place leaves
    float *state;             // [heads, rounds * n, 2]: largest logit, sum
    float *product;           // [heads, n]: <dz_i, z_i>
};

// ---- Places ---------------------------------------------------------------------------------

struct no_place_each {
    sorted_plan p;
    __device__ void operator()(size_t at) const
    {
        p.place[at] = -1;
    }
};
struct place_each {
    sorted_plan p;
    __device__ void operator()(size_t at) const // of order
    {
        const size_t list = at / (size_t)p.length, range = (size_t)p.o.range;
        const int place = (int)(at % (size_t)p.length);
        if (place < p.o.start[list * (range + 1) + range])
            p.place[list * (size_t)p.length + (size_t)p.o.order[at]] = place;
    }
};

// Where the place of row i in a round lies in arrays by place; false: it has none.
__device__ static bool find_place(const sorted_plan &p, size_t head, int round, size_t i,
                                  size_t *at)
{
    const size_t n = (size_t)p.form.n, rounds = (size_t)p.form.rounds;
    const size_t list = head * rounds + (p.form.by_bucket ? (size_t)round : 0);
    const int place = p.place[(head * rounds + (size_t)round) * n + i];
    *at = list * n + (size_t)place;
    return place >= 0;
}

// ---- Tiles ----------------------------------------------------------------------------------

// Up to 32 places of one list, and which rows stand there.
struct sorted_tile {
    size_t head, list;    // list: of all heads
    int first, count;     // places; none: nothing to do
    int total, chunks;    // of the list
    const int32_t *order; // of the list
    const int32_t *start; // of the list
    const int32_t *codes; // by_bucket: of the list's round
    const uint8_t *mask;  // of the example, or NULL
    int n, chunk;
    __device__ explicit sorted_tile(const sorted_plan &p)
    {
        list = blockIdx.x / (unsigned)p.tiles;
        head = list / (size_t)p.lists;
        n = p.form.n, chunk = p.form.chunk;
        start = p.o.start + list * (size_t)(p.o.range + 1);
        order = p.o.order + list * (size_t)p.length;
        codes = p.o.codes + list * (size_t)p.length;
        mask = p.o.mask ? p.o.mask + head / (size_t)p.form.heads * (size_t)n : NULL;
        total = start[p.o.range];
        chunks = (total + chunk - 1) / chunk;
        first = (int)(blockIdx.x % (unsigned)p.tiles) * SIDE;
        count = min(total - first, (int)SIDE);
    }
    __device__ int row_at(int place) const
    {
        return order[place] % n;
    }
    __device__ const float *row_of(const float *x, int place, int d) const
    {
        return x + (head * (size_t)n + (size_t)row_at(place)) * (size_t)d;
    }
};

// The places that a tile of queries sees (back = 1), or that see a tile of keys (back = 0): one range
// or, around the ring, two.
struct sorted_span {
    int begin[2], end[2];
};
__device__ static sorted_span span_of(const sorted_plan &p, const sorted_tile &t, int back)
{
    const int m = t.chunk, last = t.first + t.count - 1;
    sorted_span s = {{max(0, t.first / m - back) * m, 0},
                     {min(t.total, (last / m + 2 - back) * m), 0}};
    if (p.form.by_bucket) { // of the buckets of the tile
        s.begin[0] = max(s.begin[0], t.start[t.codes[t.row_at(t.first)]]);
        s.end[0] = min(s.end[0], t.start[t.codes[t.row_at(last)] + 1]);
    } else if (back && t.first < m) { // the last chunk comes before the first
        s.begin[1] = max((t.chunks - 1) * m, s.end[0]);
        s.end[1] = t.total;
    } else if (!back && last / m == t.chunks - 1) {
        s.end[1] = min(m, s.begin[0]);
    }
    return s;
}

// With what share the exponential of the pair counts: query at place e, key at place f of the list.
// 0: they do not meet.
__device__ static float share_of(const sorted_plan &p, const sorted_tile &t, int e, int f)
{
    const int i = t.row_at(e), j = t.row_at(f), apart = e / t.chunk - f / t.chunk;
    if (t.mask && (!t.mask[i] || !t.mask[j])) return 0.0f;
    if (!p.form.by_bucket) {
        const int before = (e / t.chunk + t.chunks - 1) % t.chunks;
        return (float)((apart == 0) + (f / t.chunk == before));
    }
    if (apart < 0 || apart > 1 || t.codes[i] != t.codes[j]) return 0.0f;
    if (i == j || p.form.rounds == 1) return 1.0f;
    int meets = 0;
    for (int r = 0; r < p.form.rounds; r++) {
        const size_t at = (t.head * (size_t)p.form.rounds + (size_t)r) * (size_t)t.n;
        const int32_t code = p.o.codes[at + i];
        if (code < 0 || code != p.o.codes[at + j]) continue;
        const int rows = p.place[at + i] / t.chunk - p.place[at + j] / t.chunk;
        meets += rows == 0 || rows == 1;
    }
    return 1.0f / (float)meets;
}

// A row that meets itself: it counts where there is nothing else.
enum { SELF_LOGIT = -100000 };

// ---- Forward --------------------------------------------------------------------------------

template <int OWN> __global__ void sorted_forward_kernel(sorted_plan p)
{
    const int d = p.form.d, r = (int)threadIdx.x / TEAM;
    const sorted_tile t(p);
    if (t.count <= 0) return;
    float *q = dynamic_shared<float>(), *k = q + SIDE * (d + 1), *v = k + SIDE * (d + 1);
    float *weight = v + SIDE * (d + 1) + r * SIDE;
    const int e = t.first + r;

    load_rows(q, d, t.count, [&](int row) { return t.row_of(p.o.q, t.first + row, d); });
    online_row row = {-INFINITY, 0.0f};
    float out[OWN];
    for (int c = 0; c < OWN; c++) out[c] = 0.0f;
    const sorted_span s = span_of(p, t, 1);
    for (int part = 0; part < 2; part++)
        for (int first = s.begin[part]; first < s.end[part]; first += SIDE) {
            const int count = min(s.end[part] - first, (int)SIDE);
            __syncthreads();
            load_rows(k, d, count, [&](int y) { return t.row_of(p.o.k, first + y, d); });
            load_rows(v, d, count, [&](int y) { return t.row_of(p.o.v, first + y, d); });
            __syncthreads();
            float product[PRODUCTS];
            row_products(q + r * (d + 1), k, count, d, product);
            const auto logit_of = [&](int m, int y, float *share) {
                *share = r < t.count ? share_of(p, t, e, first + y) : 0.0f;
                if (*share == 0.0f) return -INFINITY;
                if (t.row_at(e) == t.row_at(first + y)) return (float)SELF_LOGIT;
                return product[m];
            };
            absorb<OWN>(weight, v, count, d, logit_of, row, out);
        }
    if (r >= t.count) return;
    const size_t at = t.list * (size_t)p.length + (size_t)e;
    put_row<OWN>(p.part + at * (size_t)d, out, 1.0f, false, d);
    if (threadIdx.x % TEAM > 0) return;
    p.state[2 * at] = row.largest;
    p.state[2 * at + 1] = row.sum;
}

// A warp joins what the places of a row left.
__global__ void sorted_join_kernel(sorted_plan p)
{
    const size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, n = (size_t)p.form.n;
    if (at >= p.heads * n) return;
    const size_t head = at / n, i = at % n, d = (size_t)p.form.d;
    size_t from;
    float largest = -INFINITY, total = 0.0f;
    for (int r = 0; r < p.form.rounds; r++)
        if (find_place(p, head, r, i, &from)) largest = fmaxf(largest, p.state[2 * from]);
    const float shift = largest == -INFINITY ? 0.0f : largest;
    for (int r = 0; r < p.form.rounds; r++)
        if (find_place(p, head, r, i, &from))
            total += p.state[2 * from + 1] * expf(p.state[2 * from] - shift);
    const float inverse = total > 0.0f ? 1.0f / total : 0.0f;
    for (size_t c = threadIdx.x % 32; c < d; c += 32) {
        float sum = 0.0f;
        for (int r = 0; r < p.form.rounds; r++)
            if (find_place(p, head, r, i, &from))
                sum += p.part[from * d + c] * expf(p.state[2 * from] - shift);
        p.o.z[at * d + c] = sum * inverse;
    }
    if (threadIdx.x % 32 > 0) return;
    p.o.statistics[2 * at] = largest;
    p.o.statistics[2 * at + 1] = total;
}

// ---- Backward -------------------------------------------------------------------------------

__global__ void sorted_product_kernel(sorted_plan p)
{
    const size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, d = (size_t)p.form.d;
    if (at >= p.heads * (size_t)p.form.n) return;
    float sum = 0.0f;
    for (size_t c = threadIdx.x % 32; c < d; c += 32)
        sum += p.o.dz[at * d + c] * p.o.z[at * d + c];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) p.product[at] = sum;
}

// Weight and gradient of the logit of the query at place e and the key at place f, from <q, k> and
// <dz, v>.
__device__ static void pair_gradient(const sorted_plan &p, const sorted_tile &t, int e, int f,
                                     float product, float along, float *weight, float *slope)
{
    *weight = *slope = 0.0f;
    const int i = t.row_at(e);
    const size_t at = t.head * (size_t)t.n + (size_t)i;
    const float share = share_of(p, t, e, f), sum = p.o.statistics[2 * at + 1];
    if (share == 0.0f || !(sum > 0.0f)) return;
    const bool self = i == t.row_at(f);
    const float logit = self ? (float)SELF_LOGIT : product;
    *weight = share * expf(logit - p.o.statistics[2 * at]) / sum;
    if (!self) *slope = *weight * (along - p.product[at]);
}

template <int OWN> __global__ void sorted_queries_kernel(sorted_plan p)
{
    const int d = p.form.d, stride = d + 1, r = (int)threadIdx.x / TEAM;
    const sorted_tile t(p);
    if (t.count <= 0) return;
    float *q = dynamic_shared<float>(), *dz = q + SIDE * stride, *k = dz + SIDE * stride;
    float *v = k + SIDE * stride, *weight = v + SIDE * stride + r * SIDE;
    const int e = t.first + r;

    load_rows(q, d, t.count, [&](int row) { return t.row_of(p.o.q, t.first + row, d); });
    load_rows(dz, d, t.count, [&](int row) { return t.row_of(p.o.dz, t.first + row, d); });
    float sum[OWN];
    for (int c = 0; c < OWN; c++) sum[c] = 0.0f;
    const sorted_span s = span_of(p, t, 1);
    for (int part = 0; part < 2; part++)
        for (int first = s.begin[part]; first < s.end[part]; first += SIDE) {
            const int count = min(s.end[part] - first, (int)SIDE);
            __syncthreads();
            load_rows(k, d, count, [&](int y) { return t.row_of(p.o.k, first + y, d); });
            load_rows(v, d, count, [&](int y) { return t.row_of(p.o.v, first + y, d); });
            __syncthreads();
            float product[PRODUCTS], along[PRODUCTS];
            row_products(q + r * stride, k, count, d, product);
            row_products(dz + r * stride, v, count, d, along);
            const auto slope_of = [&](int m, int y) {
                float share = 0.0f, slope = 0.0f;
                if (r < t.count)
                    pair_gradient(p, t, e, first + y, product[m], along[m], &share, &slope);
                return slope;
            };
            add_weighted<OWN>(weight, k, count, d, slope_of, sum);
        }
    if (r < t.count)
        put_row<OWN>(p.part + (t.list * (size_t)p.length + (size_t)e) * (size_t)d, sum, 1.0f,
                     false, d);
}

template <int OWN> __global__ void sorted_keys_kernel(sorted_plan p)
{
    const int d = p.form.d, stride = d + 1, r = (int)threadIdx.x / TEAM;
    const sorted_tile t(p);
    if (t.count <= 0) return;
    float *k = dynamic_shared<float>(), *v = k + SIDE * stride, *q = v + SIDE * stride;
    float *dz = q + SIDE * stride, *weight = dz + SIDE * stride + r * SIDE;
    float *slope = weight + SIDE * SIDE;
    const int f = t.first + r;

    load_rows(k, d, t.count, [&](int row) { return t.row_of(p.o.k, t.first + row, d); });
    load_rows(v, d, t.count, [&](int row) { return t.row_of(p.o.v, t.first + row, d); });
    float dk[OWN], dv[OWN];
    for (int c = 0; c < OWN; c++) dk[c] = dv[c] = 0.0f;
    const sorted_span s = span_of(p, t, 0);
    for (int part = 0; part < 2; part++)
        for (int first = s.begin[part]; first < s.end[part]; first += SIDE) {
            const int count = min(s.end[part] - first, (int)SIDE);
            __syncthreads();
            load_rows(q, d, count, [&](int x) { return t.row_of(p.o.q, first + x, d); });
            load_rows(dz, d, count, [&](int x) { return t.row_of(p.o.dz, first + x, d); });
            __syncthreads();
            float product[PRODUCTS], along[PRODUCTS];
            row_products(k + r * stride, q, count, d, product);
            row_products(v + r * stride, dz, count, d, along);
            const auto pair_of = [&](int m, int x, float *w, float *g) {
                *w = *g = 0.0f;
                if (r < t.count) pair_gradient(p, t, first + x, f, product[m], along[m], w, g);
            };
            take_queries<OWN>(weight, slope, q, dz, count, d, pair_of, dk, dv);
        }
    if (r >= t.count) return;
    const size_t at = (t.list * (size_t)p.length + (size_t)f) * (size_t)d;
    put_row<OWN>(p.part + at, dk, 1.0f, false, d);
    put_row<OWN>(p.other + at, dv, 1.0f, false, d);
}

// Adds up what the places of a row left.
struct sorted_collect_each {
    sorted_plan p;
    const float *part;
    float *to;
    bool add;
    __device__ void operator()(size_t at) const // of to[heads, n, d]
    {
        const size_t d = (size_t)p.form.d, n = (size_t)p.form.n, row = at / d;
        float sum = 0.0f;
        size_t from;
        for (int r = 0; r < p.form.rounds; r++)
            if (find_place(p, row / n, r, row % n, &from)) sum += part[from * d + at % d];
        to[at] = add ? to[at] + sum : sum;
    }
};

// ---- The functions of the table -------------------------------------------------------------

static sorted_plan make_plan(const mra_sorted_form *form, const mra_sorted_operands *operands)
{
    sorted_plan p = {};
    p.form = *form, p.o = *operands;
    p.lists = form->by_bucket ? form->rounds : 1;
    p.length = form->by_bucket ? form->n : form->rounds * form->n;
    p.tiles = (p.length + SIDE - 1) / SIDE;
    p.heads = form->batch * (size_t)form->heads;
    return p;
}

static size_t places(const sorted_plan &p)
{
    return p.heads * (size_t)p.form.rounds * (size_t)p.form.n;
}

static mra_status find_places(mra_device *device, sorted_plan *p, mra_error *err)
{
    p->place = working_piece<int32_t>(device, places(*p));
    mra_status status = for_each(device, "sorted_places", places(*p), no_place_each{*p}, err);
    return status ? status : for_each(device, "sorted_places", places(*p), place_each{*p}, err);
}

static dim3 grid_of(const sorted_plan &p)
{
    return dim3((unsigned)(p.heads * (size_t)p.lists * (size_t)p.tiles));
}

mra_status sorted_attention(mra_device *device, const mra_sorted_form *form,
                            const mra_sorted_operands *operands, mra_error *err)
{
    const char *name = "sorted_attention";
    sorted_plan p = make_plan(form, operands);
    const size_t count = places(p), d = (size_t)form->d;
    if (!count) return MRA_OK;
    mra_status status = working_begin(device,
                                      working_size(count * sizeof(int32_t)) +
                                          working_size(count * d * sizeof(float)) +
                                          working_size(2 * count * sizeof(float)),
                                      name, err);
    if (!status) status = find_places(device, &p, err);
    if (status) return status;
    p.part = working_piece<float>(device, count * d);
    p.state = working_piece<float>(device, 2 * count);
    const team_kernels<sorted_plan> kernels = {
        {sorted_forward_kernel<4>, sorted_forward_kernel<8>, sorted_forward_kernel<16>,
         sorted_forward_kernel<32>}};
    status = launch_team(device, "sorted_forward", grid_of(p), form->d, 3, 1, kernels, p, err);
    if (status) return status;
    MRA_LAUNCH(sorted_join_kernel, blocks_for(p.heads * (size_t)form->n, WARPS), THREADS, 0,
               stream_of(device), p);
    return launch_status(stream_of(device), name, err);
}

mra_status sorted_attention_backward(mra_device *device, const mra_sorted_form *form,
                                     const mra_sorted_operands *operands, mra_error *err)
{
    const char *name = "sorted_attention_backward";
    sorted_plan p = make_plan(form, operands);
    const size_t count = places(p), rows = p.heads * (size_t)form->n, d = (size_t)form->d;
    if (!count) return MRA_OK;
    mra_status status = working_begin(device,
                                      working_size(count * sizeof(int32_t)) +
                                          2 * working_size(count * d * sizeof(float)) +
                                          working_size(rows * sizeof(float)),
                                      name, err);
    if (!status) status = find_places(device, &p, err);
    if (status) return status;
    p.part = working_piece<float>(device, count * d);
    p.other = working_piece<float>(device, count * d);
    p.product = working_piece<float>(device, rows);
    MRA_LAUNCH(sorted_product_kernel, blocks_for(rows, WARPS), THREADS, 0, stream_of(device),
               p);
    const team_kernels<sorted_plan> queries = {
        {sorted_queries_kernel<4>, sorted_queries_kernel<8>, sorted_queries_kernel<16>,
         sorted_queries_kernel<32>}};
    const team_kernels<sorted_plan> keys = {{sorted_keys_kernel<4>, sorted_keys_kernel<8>,
                                             sorted_keys_kernel<16>, sorted_keys_kernel<32>}};
    if (p.o.dq) {
        status =
            launch_team(device, "sorted_queries", grid_of(p), form->d, 4, 1, queries, p, err);
        if (!status)
            status = for_each(device, name, rows * d,
                              sorted_collect_each{p, p.part, p.o.dq, p.o.add_q}, err);
    }
    if (status || (!p.o.dk && !p.o.dv)) return status;
    status = launch_team(device, "sorted_keys", grid_of(p), form->d, 4, 2, keys, p, err);
    if (!status && p.o.dk)
        status = for_each(device, name, rows * d,
                          sorted_collect_each{p, p.part, p.o.dk, p.o.add_k}, err);
    if (!status && p.o.dv)
        status = for_each(device, name, rows * d,
                          sorted_collect_each{p, p.other, p.o.dv, p.o.add_v}, err);
    return status;
}

} // namespace MRA_BACKEND
