// # Refined boxes, backward
//
// With $p_{ij}$ the weights, $d_{ij}=\langle dz_i,v_j\rangle$ and $dS_{ij}=p_{ij}(d_{ij}-\langle
// dz_i,z_i\rangle)$ (src/mra/fused_backward.c), $dQ_x$ is a sum over the boxes of a row, $dK_y$
// and $dV_y$ over those of a column. Adding to all three from one walk would take atomic
// additions of floats, and their order would show in the result. So there are two walks, along
// rows for $dQ$ and down columns for $dK$, $dV$, and tiles are computed twice: seven products a
// box instead of five. Along columns the products are formed transposed ($K_yQ_x^\top$,
// $V_y\,dZ_x^\top$), so that their results are left operands as they stand.
//
// 12 heads of 64, batch 8, $n=4096$, blocks $=8$, bf16:
//
// | | amount | ceiling of an H200 | time |
// | --- | --- | --- | --- |
// | preparing: read $z$, $dz$ | 101 MB | 4.8 TB/s | 21 us |
// | products | $98304\cdot14\cdot32^2\cdot64=90$ GFLOP | 600 TFLOP/s by `mma.sync` | 150 us |
// | exponentials, twice | 201 M | 3.7 T/s | 54 us |
// | rows: keys, values | 805 MB | second-level cache, 5.5 to 7 TB/s | 115 to 146 us |
// | columns: queries, $dz$, row statistics | 843 MB | the same | 120 to 153 us |
// | memory: read 4, write 3 arrays | 352 MB | 4.8 TB/s | 73 us |
//
// Together 260 to 320 us, again bound by the second-level cache; in TF32 twice that.
//
// At $d=128$ the sums of a column would not fit the registers: two warps share the box, each
// with half the columns of the result, and both form the tile.

#include "fine.cuh"

namespace MRA_BACKEND::attention
{

enum { PREPARE_THREADS = 128, PREPARE_WIDTH = 8 };

// ---- What every row needs to know -----------------------------------------------------------

__device__ static void read_eight(const float *from, float (&x)[PREPARE_WIDTH])
{
    for (int i = 0; i < PREPARE_WIDTH; i += 4) {
        float4 piece = *(const float4 *)(from + i);
        x[i] = piece.x;
        x[i + 1] = piece.y;
        x[i + 2] = piece.z;
        x[i + 3] = piece.w;
    }
}
__device__ static void read_eight(const bfloat16 *from, float (&x)[PREPARE_WIDTH])
{
    uint4 piece = *(const uint4 *)from;
    const uint32_t pair[4] = {piece.x, piece.y, piece.z, piece.w};
    for (int i = 0; i < PREPARE_WIDTH; i++)
        x[i] = to_float(bfloat16{(uint16_t)(pair[i / 2] >> i % 2 * 16)});
}

// Sum over the lanes whose numbers differ in the bits of `mask`.
__device__ static float lanes_sum(float x, int from, int to)
{
    for (int step = from; step < to; step *= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

// One warp, one block of rows: <dz_i, z_i>, and over the rows the sums G_x, h_x of the coarse
// part (src/mra/fused_coarse.c). D/8 lanes share a row.
template <class Io, int D, bool exact>
__global__ void prepare_kernel(plan p, const Io *z, const Io *dz, bfloat16 *copy)
{
    const int lanes = D / PREPARE_WIDTH, rows = 32 / lanes;
    int head = p.first_head + blockIdx.y, lane = threadIdx.x % 32,
        c = lane % lanes * PREPARE_WIDTH;
    int x = blockIdx.x * (PREPARE_THREADS / 32) + threadIdx.x / 32;
    if (x >= p.blocks) return;
    size_t size = (size_t)p.n * D, line = (size_t)head * p.blocks + x;
    z += head * size;
    dz += head * size;
    float coarse_max = coarse_max_of(p, line), pull_product = 0, pull[PREPARE_WIDTH] = {0};
    for (int first = 0; first < TILE; first += rows) {
        int r = first + lane / lanes;
        float inverse = p.row_inverse[line * TILE + r], a[PREPARE_WIDTH] = {0}, product = 0;
        if (inverse > 0) {
            float b[PREPARE_WIDTH];
            size_t place = (size_t)token_of(p, x, r) * D + c;
            read_eight(dz + place, a);
            read_eight(z + place, b);
            for (int i = 0; i < PREPARE_WIDTH; i++) product = fmaf(a[i], b[i], product);
            for (int i = 0; copy && i < PREPARE_WIDTH; i += 2)
                *(uint32_t *)(copy + head * size + place + i) = pack_bf16(a[i], a[i + 1]);
        }
        product = lanes_sum(product, 1, lanes);
        if (c == 0) p.row_product[line * TILE + r] = product;
        if (inverse == 0 || coarse_max == -INFINITY) continue;
        float share = weight_exp<exact>(coarse_max - p.row_max[line * TILE + r]) * inverse;
        pull_product = fmaf(share, product, pull_product);
        for (int i = 0; i < PREPARE_WIDTH; i++) pull[i] = fmaf(share, a[i], pull[i]);
    }
    pull_product = lanes_sum(pull_product, lanes, 32);
    for (int i = 0; i < PREPARE_WIDTH; i++) pull[i] = lanes_sum(pull[i], lanes, 32);
    if (lane >= lanes || !p.pull) return;
    for (int i = 0; i < PREPARE_WIDTH; i++) p.pull[line * D + c + i] = pull[i];
    if (lane == 0) p.pull_product[line] = pull_product;
}

template <class Io, int D, bool exact>
static void prepare(const plan &p, const operands &o, stream_t stream)
{
    const int warps = PREPARE_THREADS / 32;
    dim3 grid((unsigned)((p.blocks + warps - 1) / warps), (unsigned)p.launch_heads);
    MRA_LAUNCH((prepare_kernel<Io, D, exact>), grid, PREPARE_THREADS, 0, stream, p,
               (const Io *)o.z, (const Io *)o.caller_dz, (bfloat16 *)o.dz_copy);
}

template <class Io, bool exact>
static void prepare_width(const plan &p, const operands &o, stream_t stream)
{
    if (p.d == 32) prepare<Io, 32, exact>(p, o, stream);
    if (p.d == 64) prepare<Io, 64, exact>(p, o, stream);
    if (p.d == 128) prepare<Io, 128, exact>(p, o, stream);
}

void prepare_backward(const plan &p, const operands &o, stream_t stream)
{
    if (o.bf16_io)
        prepare_width<bfloat16, false>(p, o, stream);
    else if (o.precision == MRA_FLOAT32)
        prepare_width<float, true>(p, o, stream);
    else
        prepare_width<float, false>(p, o, stream);
}

// ---- The two walks --------------------------------------------------------------------------

// `own`: the two blocks of the line (left operands); `box`: those of the boxes.
template <class P, int D> struct back_shared {
    typename P::element own[2][tile_size<typename P::element, D>::value];
    typename P::element box[STAGES][2][tile_size<typename P::element, D>::value];
    float scratch[P::SCRATCH > 0 ? P::SCRATCH : 4];
};

template <class P, int D>
__device__ static void
fetch_two(const plan &p, int head, int block, const void *a, const void *b,
          typename P::element (*to)[tile_size<typename P::element, D>::value])
{
    typedef typename P::element E;
    size_t size = (size_t)p.n * D;
    uint32_t present = present_of(p, head, block);
    load_block<E, D>(p, to[0], of_head((const E *)a, head, size), block, present);
    load_block<E, D>(p, to[1], of_head((const E *)b, head, size), block, present);
}

// Leaves an item's sums and, in the last warp to come, adds those of all items.
template <int N>
__device__ static bool combine(const plan &p, const box_list &list, int head, const work &w,
                               int part, int parts, float (&first)[2][N][4],
                               float (*second)[2][N][4])
{
    const size_t own = TILE * 8 * N, size = own * (second ? 2 : 1) * parts;
    const float ones[QUAD_ROWS] = {1, 1, 1, 1};
    float *place = partial_of(p, list, head, w.line, w.item, size) + part * own;
    put_partial<N>(place, first);
    if (second) put_partial<N>(place + own * parts, *second);
    int *arrived = of_head(list.arrived, head, 2 * (size_t)p.blocks) + part * p.blocks + w.line;
    if (!arrive(arrived, w)) return false;
    clear_rows<N>(first);
    if (second) clear_rows<N>(*second);
    for (int k = 0; k < w.items; k++) {
        place = partial_of(p, list, head, w.line, k, size) + part * own;
        add_partial<N>(first, place, ones);
        if (second) add_partial<N>(*second, place + own * parts, ones);
    }
    return true;
}

// dQ of a row of boxes.
template <class P, class Io, int D>
__global__ void __launch_bounds__(warps_of<P, D>::value * 32) rows_kernel(plan p, operands a)
{
    const int N = width_of<D>::value;
    char *bytes = dynamic_shared<char>();
    int head = p.first_head + blockIdx.y, warp = threadIdx.x / 32, column = blockIdx.z * 8 * N;
    back_shared<P, D> *shared = (back_shared<P, D> *)bytes + warp;
    work w;
    if (!find_work(p, p.rows, head, blockIdx.x * (blockDim.x / 32) + warp, &w)) return;
    if (w.count > 0) {
        fetch_two<P, D>(p, head, w.line, a.q, a.dz, shared->own);
        fetch_two<P, D>(p, head, w.entry[0], a.k, a.v, shared->box[0]);
    }
    copy_commit();

    size_t line = (size_t)head * p.blocks + w.line;
    float max[QUAD_ROWS], inverse[QUAD_ROWS], product[QUAD_ROWS], o[2][N][4];
    clear_rows<N>(o);
    for (int i = 0; i < QUAD_ROWS; i++) {
        max[i] = p.row_max[line * TILE + lane_row(i)];
        inverse[i] = p.row_inverse[line * TILE + lane_row(i)];
        product[i] = p.row_product[line * TILE + lane_row(i)];
    }
    for (int b = 0; b < w.count; b++) {
        typename P::element(*box)[tile_size<typename P::element, D>::value] =
            shared->box[b % STAGES];
        if (b + 1 < w.count)
            fetch_two<P, D>(p, head, w.entry[b + 1], a.k, a.v, shared->box[(b + 1) % STAGES]);
        copy_commit();
        copy_wait<1>();
        __syncwarp();
        float s[2][4][4], d[2][4][4];
        clear(s);
        clear(d);
        P::template inner<D>(s, shared->own[0], box[0]);
        P::template inner<D>(d, shared->own[1], box[1]);
        differentiate_rows<P::exact_exp>(s, d, present_of(p, head, w.entry[b]), max, inverse,
                                         product, p.logit_scale);
        P::template outer<D, N>(o, d, box[0] + column, shared->scratch);
        __syncwarp();
    }
    if (w.items > 1 && !combine<N>(p, p.rows, head, w, blockIdx.z, D / (8 * N), o, NULL))
        return;
    uint32_t present = present_of(p, head, w.line);
    int tokens = __popc(present);
    store_gradient<Io, N>(p, of_head((Io *)a.dq, head, (size_t)p.n * D), w.line, present,
                          column, o, p.sparse ? NULL : p.dquery + line * D,
                          tokens > 0 ? 1 / (float)tokens : 0, a.add);
}

// dK and dV of a column of boxes.
template <class P, class Io, int D>
__global__ void __launch_bounds__(warps_of<P, D>::value * 32) columns_kernel(plan p, operands a)
{
    const int N = width_of<D>::value;
    char *bytes = dynamic_shared<char>();
    int head = p.first_head + blockIdx.y, warp = threadIdx.x / 32, column = blockIdx.z * 8 * N;
    back_shared<P, D> *shared = (back_shared<P, D> *)bytes + warp;
    work w;
    if (!find_work(p, p.columns, head, blockIdx.x * (blockDim.x / 32) + warp, &w)) return;
    if (w.count > 0) {
        fetch_two<P, D>(p, head, w.line, a.k, a.v, shared->own);
        fetch_two<P, D>(p, head, w.entry[0], a.q, a.dz, shared->box[0]);
    }
    copy_commit();

    uint32_t present = present_of(p, head, w.line);
    float dkey[2][N][4], dvalue[2][N][4];
    clear_rows<N>(dkey);
    clear_rows<N>(dvalue);
    for (int b = 0; b < w.count; b++) {
        typename P::element(*box)[tile_size<typename P::element, D>::value] =
            shared->box[b % STAGES];
        if (b + 1 < w.count)
            fetch_two<P, D>(p, head, w.entry[b + 1], a.q, a.dz, shared->box[(b + 1) % STAGES]);
        copy_commit();
        copy_wait<1>();
        __syncwarp();
        float s[2][4][4], d[2][4][4];
        clear(s);
        clear(d);
        P::template inner<D>(s, shared->own[0], box[0]);
        P::template inner<D>(d, shared->own[1], box[1]);
        size_t rows = ((size_t)head * p.blocks + w.entry[b]) * TILE;
        differentiate_columns<P::exact_exp>(s, d, present, p.row_max + rows,
                                            p.row_inverse + rows, p.row_product + rows,
                                            p.logit_scale);
        P::template outer<D, N>(dvalue, s, box[1] + column, shared->scratch);
        P::template outer<D, N>(dkey, d, box[0] + column, shared->scratch);
        __syncwarp();
    }
    if (w.items > 1 &&
        !combine<N>(p, p.columns, head, w, blockIdx.z, D / (8 * N), dkey, &dvalue))
        return;
    size_t size = (size_t)p.n * D, line = (size_t)head * p.blocks + w.line;
    int tokens = __popc(present);
    store_gradient<Io, N>(p, of_head((Io *)a.dk, head, size), w.line, present, column, dkey,
                          p.sparse ? NULL : p.dkey + line * D,
                          tokens > 0 ? 1 / (float)tokens : 0, a.add);
    store_gradient<Io, N>(p, of_head((Io *)a.dv, head, size), w.line, present, column, dvalue,
                          p.sparse ? NULL : p.dvalue + line * D, 1, a.add);
}

template <class P, class Io, int D>
static void both_walks(const plan &p, const operands &o, stream_t stream)
{
    const int warps = warps_of<P, D>::value;
    const size_t bytes = warps * sizeof(back_shared<P, D>);
    dim3 grid((unsigned)((p.items + warps - 1) / warps), (unsigned)p.launch_heads,
              (unsigned)(D / (8 * width_of<D>::value)));
    MRA_LAUNCH((rows_kernel<P, Io, D>), grid, warps * 32, bytes, stream, p, o);
    MRA_LAUNCH((columns_kernel<P, Io, D>), grid, warps * 32, bytes, stream, p, o);
}

template <class P, class Io>
static void walk_width(const plan &p, const operands &o, stream_t stream)
{
    if (p.d == 32) both_walks<P, Io, 32>(p, o, stream);
    if (p.d == 64) both_walks<P, Io, 64>(p, o, stream);
    if (p.d == 128) both_walks<P, Io, 128>(p, o, stream);
}

void fine_backward(const plan &p, const operands &o, stream_t stream)
{
    if (o.precision == MRA_FLOAT32) walk_width<float_path, float>(p, o, stream);
    if (o.precision == MRA_TF32) walk_width<tf32_path, float>(p, o, stream);
    if (o.precision == MRA_BF16 && o.bf16_io) walk_width<bf16_path, bfloat16>(p, o, stream);
    if (o.precision == MRA_BF16 && !o.bf16_io) walk_width<bf16_path, float>(p, o, stream);
}

} // namespace MRA_BACKEND::attention
