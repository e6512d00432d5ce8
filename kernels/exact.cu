// # Exact attention, tiled
//
// Softmax attention without an $n\times n$ matrix (Dao et al., "FlashAttention", NeurIPS 2022;
// Rabe & Staats, arXiv 2112.05682): each warp keeps 32 queries, and the warps of a block of
// threads share the keys and values that stream by, 32 at a time, the next ones on their way. It
// stands in where cuDNN's fused attention is absent; the rows of src/attention/exact.c.
//
// 12 heads of 64, batch 8, $n=4096$:
//
// | | amount | ceiling of an H200 | time |
// | --- | --- | --- | --- |
// | forward | $96\cdot4n^2\cdot64=412$ GFLOP | 989 TFLOP/s bf16; 600 by `mma.sync` | 0.42 ms; 0.69 ms |
// | | 1.6 G exponentials | 3.7 T/s | 0.44 ms, beside the products at best |
// | | keys, values: every block of 128 queries reads all: 3.2 GB | second-level cache, 5.5 TB/s | 0.59 ms |
// | | TF32; float32 | 250 by `mma.sync`; 67 TFLOP/s | 1.7 ms; 6.2 ms |
// | backward | 7 products, 1.44 TFLOP | 600 TFLOP/s | 2.4 ms |
//
// Expect half of these rates: a warp waits for its exponentials between products, which cuDNN's
// kernels hide by running two groups of warps against each other, and `mma.sync` takes its
// operands through registers. The backward pass forms tiles twice, seven products where five
// would do, so that all sums have a fixed order (fine_backward.cu).

#include "fine.cuh"

namespace MRA_BACKEND::attention
{

// Warps that share what streams by, and what shared memory holds for them: `own` tiles of each
// warp, and two streams.
template <class P, int D> struct exact_warps {
    static const int value = D * (int)sizeof(typename P::element) <= 256 ? 4 : 2;
};
template <class P, int D, int own_tiles> struct exact_shared {
    typename P::element own[exact_warps<P, D>::value][own_tiles]
                           [tile_size<typename P::element, D>::value];
    typename P::element stream[STAGES][2][tile_size<typename P::element, D>::value];
    float scratch[exact_warps<P, D>::value][P::SCRATCH > 0 ? P::SCRATCH : 4];
};

// Starts copying block y of two arrays, by all threads.
template <class P, int D>
__device__ static void
fetch_stream(const plan &p, int head, int y, const void *a, const void *b,
             typename P::element (*to)[tile_size<typename P::element, D>::value])
{
    typedef typename P::element E;
    size_t size = (size_t)p.n * D;
    if (y < p.blocks) {
        uint32_t present = present_of(p, head, y);
        load_block<E, D>(p, to[0], of_head((const E *)a, head, size), y, present, threadIdx.x,
                         blockDim.x);
        load_block<E, D>(p, to[1], of_head((const E *)b, head, size), y, present, threadIdx.x,
                         blockDim.x);
    }
    copy_commit();
}

template <class P, class Io, int D>
__global__ void __launch_bounds__(exact_warps<P, D>::value * 32)
    exact_kernel(plan p, operands a)
{
    typedef typename P::element E;
    char *bytes = dynamic_shared<char>();
    exact_shared<P, D, 1> *shared = (exact_shared<P, D, 1> *)bytes;
    int head = p.first_head + blockIdx.y, warp = threadIdx.x / 32;
    int x = blockIdx.x * exact_warps<P, D>::value + warp;
    size_t size = (size_t)p.n * D;
    uint32_t present = x < p.blocks ? present_of(p, head, x) : 0;
    E *query = shared->own[warp][0];
    load_block<E, D>(p, query, of_head((const E *)a.q, head, size), x, present);
    fetch_stream<P, D>(p, head, 0, a.k, a.v, shared->stream[0]);

    float o[2][D / 8][4];
    softmax_state state;
    clear_rows<D / 8>(o);
    for (int i = 0; i < QUAD_ROWS; i++) {
        state.max[i] = -INFINITY;
        state.sum[i] = 0;
    }
    for (int y = 0; y < p.blocks; y++) {
        fetch_stream<P, D>(p, head, y + 1, a.k, a.v, shared->stream[(y + 1) % STAGES]);
        copy_wait<1>();
        __syncthreads();
        float c[2][4][4];
        clear(c);
        P::template inner<D>(c, query, shared->stream[y % STAGES][0]);
        soften<P::exact_exp, D / 8>(c, present_of(p, head, y), p.logit_scale, &state, o);
        P::template outer<D, D / 8>(o, c, shared->stream[y % STAGES][1], shared->scratch[warp]);
        __syncthreads(); // before the stage is filled again
    }
    if (x >= p.blocks) return;
    for (int i = 0; i < QUAD_ROWS; i++) state.sum[i] = quad_sum(state.sum[i]);
    finish_rows<P, Io, D>(p, head, x, present, o, state, of_head((Io *)a.z, head, size));
}

template <class P, class Io, int D>
__global__ void __launch_bounds__(exact_warps<P, D>::value * 32)
    exact_rows_kernel(plan p, operands a)
{
    typedef typename P::element E;
    const int N = width_of<D>::value;
    char *bytes = dynamic_shared<char>();
    exact_shared<P, D, 2> *shared = (exact_shared<P, D, 2> *)bytes;
    int head = p.first_head + blockIdx.y, warp = threadIdx.x / 32, column = blockIdx.z * 8 * N;
    int x = blockIdx.x * exact_warps<P, D>::value + warp;
    size_t size = (size_t)p.n * D, line = (size_t)head * p.blocks + x;
    uint32_t present = x < p.blocks ? present_of(p, head, x) : 0;
    E(*own)[tile_size<E, D>::value] = shared->own[warp];
    load_block<E, D>(p, own[0], of_head((const E *)a.q, head, size), x, present);
    load_block<E, D>(p, own[1], of_head((const E *)a.dz, head, size), x, present);
    fetch_stream<P, D>(p, head, 0, a.k, a.v, shared->stream[0]);

    float max[QUAD_ROWS], inverse[QUAD_ROWS], product[QUAD_ROWS], o[2][N][4];
    clear_rows<N>(o);
    for (int i = 0; i < QUAD_ROWS; i++) {
        size_t row = line * TILE + lane_row(i);
        max[i] = x < p.blocks ? p.row_max[row] : 0;
        inverse[i] = x < p.blocks ? p.row_inverse[row] : 0;
        product[i] = x < p.blocks ? p.row_product[row] : 0;
    }
    for (int y = 0; y < p.blocks; y++) {
        fetch_stream<P, D>(p, head, y + 1, a.k, a.v, shared->stream[(y + 1) % STAGES]);
        copy_wait<1>();
        __syncthreads();
        E(*box)[tile_size<E, D>::value] = shared->stream[y % STAGES];
        float s[2][4][4], d[2][4][4];
        clear(s);
        clear(d);
        P::template inner<D>(s, own[0], box[0]);
        P::template inner<D>(d, own[1], box[1]);
        differentiate_rows<P::exact_exp>(s, d, present_of(p, head, y), max, inverse, product,
                                         p.logit_scale);
        P::template outer<D, N>(o, d, box[0] + column, shared->scratch[warp]);
        __syncthreads();
    }
    if (x >= p.blocks) return;
    store_gradient<Io, N>(p, of_head((Io *)a.dq, head, size), x, present, column, o, NULL, 0,
                          a.add);
}

template <class P, class Io, int D>
__global__ void __launch_bounds__(exact_warps<P, D>::value * 32)
    exact_columns_kernel(plan p, operands a)
{
    typedef typename P::element E;
    const int N = width_of<D>::value;
    char *bytes = dynamic_shared<char>();
    exact_shared<P, D, 2> *shared = (exact_shared<P, D, 2> *)bytes;
    int head = p.first_head + blockIdx.y, warp = threadIdx.x / 32, column = blockIdx.z * 8 * N;
    int y = blockIdx.x * exact_warps<P, D>::value + warp;
    size_t size = (size_t)p.n * D;
    uint32_t present = y < p.blocks ? present_of(p, head, y) : 0;
    E(*own)[tile_size<E, D>::value] = shared->own[warp];
    load_block<E, D>(p, own[0], of_head((const E *)a.k, head, size), y, present);
    load_block<E, D>(p, own[1], of_head((const E *)a.v, head, size), y, present);
    fetch_stream<P, D>(p, head, 0, a.q, a.dz, shared->stream[0]);

    float dkey[2][N][4], dvalue[2][N][4];
    clear_rows<N>(dkey);
    clear_rows<N>(dvalue);
    for (int x = 0; x < p.blocks; x++) {
        fetch_stream<P, D>(p, head, x + 1, a.q, a.dz, shared->stream[(x + 1) % STAGES]);
        copy_wait<1>();
        __syncthreads();
        E(*box)[tile_size<E, D>::value] = shared->stream[x % STAGES];
        float s[2][4][4], d[2][4][4];
        clear(s);
        clear(d);
        P::template inner<D>(s, own[0], box[0]);
        P::template inner<D>(d, own[1], box[1]);
        size_t rows = ((size_t)head * p.blocks + x) * TILE;
        differentiate_columns<P::exact_exp>(s, d, present, p.row_max + rows,
                                            p.row_inverse + rows, p.row_product + rows,
                                            p.logit_scale);
        P::template outer<D, N>(dvalue, s, box[1] + column, shared->scratch[warp]);
        P::template outer<D, N>(dkey, d, box[0] + column, shared->scratch[warp]);
        __syncthreads();
    }
    if (y >= p.blocks) return;
    store_gradient<Io, N>(p, of_head((Io *)a.dk, head, size), y, present, column, dkey, NULL, 0,
                          a.add);
    store_gradient<Io, N>(p, of_head((Io *)a.dv, head, size), y, present, column, dvalue, NULL,
                          0, a.add);
}

// ---- Launches -------------------------------------------------------------------------------

template <class P, class Io, int D>
static void launch(const plan &p, const operands &o, bool forward, stream_t stream)
{
    const int warps = exact_warps<P, D>::value;
    dim3 grid((unsigned)((p.blocks + warps - 1) / warps), (unsigned)p.launch_heads);
    if (forward) {
        const size_t bytes = sizeof(exact_shared<P, D, 1>);
        MRA_LAUNCH((exact_kernel<P, Io, D>), grid, warps * 32, bytes, stream, p, o);
        return;
    }
    const size_t bytes = sizeof(exact_shared<P, D, 2>);
    grid.z = D / (8 * width_of<D>::value);
    MRA_LAUNCH((exact_rows_kernel<P, Io, D>), grid, warps * 32, bytes, stream, p, o);
    MRA_LAUNCH((exact_columns_kernel<P, Io, D>), grid, warps * 32, bytes, stream, p, o);
}

template <class P, class Io>
static void launch_width(const plan &p, const operands &o, bool forward, stream_t stream)
{
    if (p.d == 32) launch<P, Io, 32>(p, o, forward, stream);
    if (p.d == 64) launch<P, Io, 64>(p, o, forward, stream);
    if (p.d == 128) launch<P, Io, 128>(p, o, forward, stream);
}

static void pass(const plan &p, const operands &o, bool forward, stream_t stream)
{
    if (o.precision == MRA_FLOAT32) launch_width<float_path, float>(p, o, forward, stream);
    if (o.precision == MRA_TF32) launch_width<tf32_path, float>(p, o, forward, stream);
    if (o.precision == MRA_BF16 && o.bf16_io)
        launch_width<bf16_path, bfloat16>(p, o, forward, stream);
    if (o.precision == MRA_BF16 && !o.bf16_io)
        launch_width<bf16_path, float>(p, o, forward, stream);
}

void exact_forward(const plan &p, const operands &o, stream_t stream)
{
    pass(p, o, true, stream);
}

void exact_backward(const plan &p, const operands &o, stream_t stream)
{
    pass(p, o, false, stream);
}

} // namespace MRA_BACKEND::attention
