// # Refined boxes, forward
//
// The 32 queries of a block attend to the keys of their refined boxes and, through one
// coefficient each, to all other blocks; one running maximum serves both, as in
// src/mra/fused_forward.c. One warp takes an item: a row of blocks, or up to 16 boxes of a long
// one. It fetches the keys and values of the next box while it computes with this one's.
//
// 12 heads of 64, batch 8, $n=4096$, blocks $=8$: 98304 boxes.
//
// | | amount | ceiling of an H200 | time |
// | --- | --- | --- | --- |
// | products | $98304\cdot4\cdot32^2\cdot64=25.8$ GFLOP | 989 TFLOP/s bf16; about 600 by `mma.sync` | 26 us; 43 us |
// | exponentials | 101 M | 16 a cycle and processor: 3.7 T/s | 27 us |
// | keys and values | 98304 times 8 KB (bf16) = 805 MB | second-level cache, 5.5 to 7 TB/s | 115 to 146 us |
// | memory | $q,k,v,z$ once: 201 MB | 4.8 TB/s | 42 us |
// | TF32 | the same boxes, 16 KB each: 1.6 GB | as above | 230 to 290 us |
// | float32 | 25.8 GFLOP | 67 TFLOP/s | 385 us |
//
// So the kernel is bound by the second-level cache: a box does 32 operations for every byte, and
// no larger tile of queries shares its keys. What helps is that neighbouring rows often refine
// the same columns: the warps of a block of threads take neighbouring rows, walk their columns
// in ascending order, and copies go through the first-level cache (`cp.async.ca`), of which a
// third to a half is left.
//
// Rows differ in their number of boxes. The results of a row with several items (maxima,
// normalisers, sums) are left in memory, and the warp that finishes last combines them in the
// order of the items: the same bits whatever the order in which warps run.

#include "fine.cuh"

namespace MRA_BACKEND::attention
{

// Leaves the result of an item; in the last warp to come o and state become those of the row.
// False in the others.
template <class P, int D>
__device__ static bool combine_items(const plan &p, int head, const work &w,
                                     float (&o)[2][D / 8][4], softmax_state *state)
{
    const size_t size = TILE * (D + 2);
    float *own = partial_of(p, p.rows, head, w.line, w.item, size);
    put_partial<D / 8>(own, o);
    for (int i = 0; i < QUAD_ROWS; i++)
        if (threadIdx.x % 4 == 0) {
            own[TILE * D + lane_row(i)] = state->max[i];
            own[TILE * (D + 1) + lane_row(i)] = state->sum[i];
        }
    if (!arrive(&of_head(p.rows.arrived, head, 2 * (size_t)p.blocks)[w.line], w)) return false;

    const float *first = partial_of(p, p.rows, head, w.line, 0, size);
    for (int i = 0; i < QUAD_ROWS; i++) {
        state->max[i] = -INFINITY;
        state->sum[i] = 0;
        for (int k = 0; k < w.items; k++)
            state->max[i] =
                fmaxf(state->max[i], read_through(first + k * size + TILE * D + lane_row(i)));
    }
    clear_rows<D / 8>(o);
    for (int k = 0; k < w.items; k++) {
        const float *part = first + k * size;
        float factor[QUAD_ROWS];
        for (int i = 0; i < QUAD_ROWS; i++) {
            int r = lane_row(i);
            float max = read_through(part + TILE * D + r);
            float sum = read_through(part + TILE * (D + 1) + r);
            factor[i] = max == -INFINITY ? 0 : weight_exp<P::exact_exp>(max - state->max[i]);
            state->sum[i] = fmaf(factor[i], sum, state->sum[i]);
        }
        add_partial<D / 8>(o, part, factor);
    }
    return true;
}

template <class P, int D> struct fine_shared {
    typename P::element query[tile_size<typename P::element, D>::value];
    typename P::element key[STAGES][tile_size<typename P::element, D>::value];
    typename P::element value[STAGES][tile_size<typename P::element, D>::value];
    float scratch[P::SCRATCH > 0 ? P::SCRATCH : 4];
};

// Starts copying the keys and values of a box.
template <class P, int D>
__device__ static void fetch(const plan &p, int head, int y, int stage, const void *k,
                             const void *v, fine_shared<P, D> *shared)
{
    typedef typename P::element E;
    size_t size = (size_t)p.n * D;
    uint32_t present = present_of(p, head, y);
    load_block<E, D>(p, shared->key[stage], of_head((const E *)k, head, size), y, present);
    load_block<E, D>(p, shared->value[stage], of_head((const E *)v, head, size), y, present);
}

template <class P, class Io, int D>
__global__ void __launch_bounds__(warps_of<P, D>::value * 32)
    fine_kernel(plan p, const void *q, const void *k, const void *v, Io *z)
{
    typedef typename P::element E;
    char *bytes = dynamic_shared<char>();
    int head = p.first_head + blockIdx.y, warp = threadIdx.x / 32;
    fine_shared<P, D> *shared = (fine_shared<P, D> *)bytes + warp;
    work w;
    if (!find_work(p, p.rows, head, blockIdx.x * (blockDim.x / 32) + warp, &w)) return;

    size_t size = (size_t)p.n * D;
    uint32_t present = present_of(p, head, w.line);
    if (w.count > 0) {
        const E *query = of_head((const E *)q, head, size);
        load_block<E, D>(p, shared->query, query, w.line, present);
        fetch<P, D>(p, head, w.entry[0], 0, k, v, shared);
    }
    copy_commit();

    float o[2][D / 8][4];
    softmax_state state;
    clear_rows<D / 8>(o);
    for (int i = 0; i < QUAD_ROWS; i++) {
        state.max[i] = coarse_max_of(p, (size_t)head * p.blocks + w.line);
        state.sum[i] = 0;
    }
    for (int b = 0; b < w.count; b++) {
        int stage = b % STAGES;
        if (b + 1 < w.count)
            fetch<P, D>(p, head, w.entry[b + 1], (b + 1) % STAGES, k, v, shared);
        copy_commit();
        copy_wait<1>();
        __syncwarp();
        float c[2][4][4];
        clear(c);
        P::template inner<D>(c, shared->query, shared->key[stage]);
        soften<P::exact_exp, D / 8>(c, present_of(p, head, w.entry[b]), p.logit_scale, &state,
                                    o);
        P::template outer<D, D / 8>(o, c, shared->value[stage], shared->scratch);
        __syncwarp(); // before the stage is filled again
    }
    for (int i = 0; i < QUAD_ROWS; i++) state.sum[i] = quad_sum(state.sum[i]);
    if (w.items > 1 && !combine_items<P, D>(p, head, w, o, &state)) return;
    finish_rows<P, Io, D>(p, head, w.line, present, o, state, of_head(z, head, size));
}

// ---- Launches -------------------------------------------------------------------------------

template <class P, class Io, int D>
static void attend(const plan &p, const operands &o, stream_t stream)
{
    const int warps = warps_of<P, D>::value;
    const size_t bytes = warps * sizeof(fine_shared<P, D>);
    dim3 grid((unsigned)((p.items + warps - 1) / warps), (unsigned)p.launch_heads);
    MRA_LAUNCH((fine_kernel<P, Io, D>), grid, warps * 32, bytes, stream, p, o.q, o.k, o.v,
               (Io *)o.z);
}

template <class P, class Io>
static void attend_width(const plan &p, const operands &o, stream_t stream)
{
    if (p.d == 32) attend<P, Io, 32>(p, o, stream);
    if (p.d == 64) attend<P, Io, 64>(p, o, stream);
    if (p.d == 128) attend<P, Io, 128>(p, o, stream);
}

void attend_boxes(const plan &p, const operands &o, stream_t stream)
{
    if (o.precision == MRA_FLOAT32) attend_width<float_path, float>(p, o, stream);
    if (o.precision == MRA_TF32) attend_width<tf32_path, float>(p, o, stream);
    if (o.precision == MRA_BF16 && o.bf16_io) attend_width<bf16_path, bfloat16>(p, o, stream);
    if (o.precision == MRA_BF16 && !o.bf16_io) attend_width<bf16_path, float>(p, o, stream);
}

} // namespace MRA_BACKEND::attention
