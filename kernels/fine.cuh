// One warp on the boxes of a line: what the forward pass, the backward pass and exact attention
// share.
#ifndef MRA_KERNELS_FINE_CUH
#define MRA_KERNELS_FINE_CUH

#include "launch.cuh"

namespace MRA_BACKEND::attention
{

enum { STAGES = 2 }; // boxes in shared memory: one at work, one under way

// Columns of a result that one warp has in the backward pass, in eights.
template <int D> struct width_of {
    static const int value = D > 64 ? 8 : D / 8;
};

// Warps of a block of threads: what their tiles leave room for.
template <class P, int D> struct warps_of {
    static const int bytes = D * (int)sizeof(typename P::element);
    static const int value = bytes <= 128 ? 4 : bytes <= 256 ? 2 : 1;
};

// A warp's part of a line of boxes.
struct work {
    int line;         // row or column of boxes
    int item, items;  // which of the line's items, of how many
    const int *entry; // its boxes
    int count;
};

// Item `index` of a head, false beyond the last.
__device__ inline bool find_work(const plan &p, const box_list &list, int head, int index,
                                 work *w)
{
    const int *start = of_head(list.start, head, p.blocks + 1);
    const int *item_start = of_head(list.item_start, head, p.blocks + 1);
    if (index >= item_start[p.blocks]) return false;
    w->line = of_head(list.item_line, head, p.items)[index];
    w->item = index - item_start[w->line];
    w->items = item_start[w->line + 1] - item_start[w->line];
    int first = start[w->line] + w->item * ITEM_BOXES, end = start[w->line + 1];
    w->entry = of_head(list.entry, head, p.budget) + first;
    w->count = end - first < ITEM_BOXES ? end - first : ITEM_BOXES;
    return true;
}

// Where item `item` of a line with several leaves its result of `size` floats. A line of c items
// has c places; 2 (c - 1) are set aside for it.
__device__ inline float *partial_of(const plan &p, const box_list &list, int head, int line,
                                    int item, size_t size)
{
    int before = of_head(list.item_start, head, p.blocks + 1)[line] - line;
    size_t place = (size_t)head * 2 * (p.items - p.blocks) + 2 * before + item;
    return list.partial + place * size;
}

// Call when the warp has written its part. True in the warp that comes last: it adds the parts
// of all, in the order of the items, whoever it is.
__device__ inline bool arrive(int *arrived, const work &w)
{
    int before = 0;
    __threadfence();
    __syncwarp();
    if (threadIdx.x % 32 == 0) before = atomicAdd(arrived, 1);
    before = __shfl_sync(0xffffffffu, before, 0);
    __threadfence();
    bool last = before == w.items - 1;
    if (last && threadIdx.x % 32 == 0) atomicExch(arrived, 0); // for the next pass
    return last;
}

// Largest logit of the coarse boxes of a row; exact attention has none.
__device__ inline float coarse_max_of(const plan &p, size_t line)
{
    return p.coarse_max ? p.coarse_max[line] : -INFINITY;
}

// ---- Online softmax -------------------------------------------------------------------------

struct softmax_state {
    float max[QUAD_ROWS], sum[QUAD_ROWS]; // sum: of this lane's columns alone
};

// From products c to weights relative to the new maxima; brings state and o up to date.
// `keys`: bit per column, 0 for absent.
template <bool exact, int N>
__device__ inline void soften(float (&c)[2][4][4], uint32_t keys, float scale,
                              softmax_state *state, float (&o)[2][N][4])
{
#pragma unroll
    for (int i = 0; i < QUAD_ROWS; i++) {
        float largest = state->max[i];
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float *x = &c[i / 2][j][i % 2 * 2 + e];
                *x = keys >> lane_column(j, e) & 1 ? *x * scale : -INFINITY;
                largest = fmaxf(largest, *x);
            }
        largest = quad_max(largest);
        float reference = largest == -INFINITY ? 0 : largest, sum = 0;
        float change = weight_exp<exact>(state->max[i] - reference);
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float *x = &c[i / 2][j][i % 2 * 2 + e];
                *x = weight_exp<exact>(*x - reference);
                sum += *x;
            }
        state->sum[i] = state->sum[i] * change + sum;
        state->max[i] = largest;
#pragma unroll
        for (int j = 0; j < N; j++) {
            o[i / 2][j][i % 2 * 2] *= change;
            o[i / 2][j][i % 2 * 2 + 1] *= change;
        }
    }
}

// From products s = <q, k> and d = <dz, v> of a tile to the weights p (in s) and the gradients
// of the logits, times `scale` (in d), given max, inverse and product of each query.
template <bool exact>
__device__ inline void differentiate(float *s, float *d, bool there, float max, float inverse,
                                     float product, float scale)
{
    float p = there ? weight_exp<exact>(*s * scale - max) * inverse : 0;
    *s = p;
    *d = there ? p * (*d - product) * scale : 0;
}

// The same for a tile whose columns are queries (of the block named by `query`): their numbers
// come from global memory; rows of absent keys are given by `keys`.
template <bool exact>
__device__ inline void differentiate_columns(float (&s)[2][4][4], float (&d)[2][4][4],
                                             uint32_t keys, const float *row_max,
                                             const float *row_inverse, const float *product,
                                             float scale)
{
#pragma unroll
    for (int j = 0; j < 4; j++) {
        float2 max = *(const float2 *)(row_max + lane_column(j, 0));
        float2 inverse = *(const float2 *)(row_inverse + lane_column(j, 0));
        float2 share = *(const float2 *)(product + lane_column(j, 0));
#pragma unroll
        for (int i = 0; i < QUAD_ROWS; i++) {
            bool there = keys >> lane_row(i) & 1;
            float *x = &s[i / 2][j][i % 2 * 2], *y = &d[i / 2][j][i % 2 * 2];
            differentiate<exact>(x, y, there && inverse.x > 0, max.x, inverse.x, share.x,
                                 scale);
            differentiate<exact>(x + 1, y + 1, there && inverse.y > 0, max.y, inverse.y,
                                 share.y, scale);
        }
    }
}

// And for a tile whose rows are queries.
template <bool exact>
__device__ inline void differentiate_rows(float (&s)[2][4][4], float (&d)[2][4][4],
                                          uint32_t keys, const float (&max)[QUAD_ROWS],
                                          const float (&inverse)[QUAD_ROWS],
                                          const float (&product)[QUAD_ROWS], float scale)
{
#pragma unroll
    for (int i = 0; i < QUAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                bool there = (keys >> lane_column(j, e) & 1) && inverse[i] > 0;
                differentiate<exact>(&s[i / 2][j][i % 2 * 2 + e], &d[i / 2][j][i % 2 * 2 + e],
                                     there, max[i], inverse[i], product[i], scale);
            }
}

// ---- Results --------------------------------------------------------------------------------

// o[32, 8 N] to and from memory without gaps, one 8-byte pair at a time.
template <int N> __device__ inline void put_partial(float *to, const float (&o)[2][N][4])
{
#pragma unroll
    for (int i = 0; i < QUAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < N; j++) {
            float2 pair = {o[i / 2][j][i % 2 * 2], o[i / 2][j][i % 2 * 2 + 1]};
            *(float2 *)(to + lane_row(i) * 8 * N + lane_column(j, 0)) = pair;
        }
}
// o = o factor_o + factor * from, per row.
template <int N>
__device__ inline void add_partial(float (&o)[2][N][4], const float *from,
                                   const float (&factor)[QUAD_ROWS])
{
#pragma unroll
    for (int i = 0; i < QUAD_ROWS; i++)
#pragma unroll
        for (int j = 0; j < N; j++) {
            float2 pair = read_through_pair(from + lane_row(i) * 8 * N + lane_column(j, 0));
            float *to = &o[i / 2][j][i % 2 * 2];
            to[0] = fmaf(factor[i], pair.x, to[0]);
            to[1] = fmaf(factor[i], pair.y, to[1]);
        }
}

// Two neighbouring numbers of a row of the caller's array.
__device__ inline void store_pair(float *to, float a, float b, bool add)
{
    float2 pair = {a, b};
    if (add) {
        float2 held = *(float2 *)to;
        pair.x += held.x;
        pair.y += held.y;
    }
    *(float2 *)to = pair;
}
__device__ inline void store_pair(bfloat16 *to, float a, float b, bool add)
{
    uint32_t *pair = (uint32_t *)to;
    if (add) {
        a += to_float(to[0]);
        b += to_float(to[1]);
    }
    *pair = pack_bf16(a, b);
}

// Rows of block x of array[n, d]: columns column .. column + 8 N - 1 get o, plus share times
// `coarse` (NULL: none). Absent tokens are left alone when adding, else get 0.
template <class Io, int N>
__device__ inline void store_gradient(const plan &p, Io *array, int x, uint32_t present,
                                      int column, const float (&o)[2][N][4],
                                      const float *coarse, float share, bool add)
{
#pragma unroll
    for (int i = 0; i < QUAD_ROWS; i++) {
        int r = lane_row(i);
        bool there = present >> r & 1;
        if (x * TILE + r >= p.n || (add && !there)) continue;
        Io *row = array + (size_t)token_of(p, x, r) * p.d + column;
#pragma unroll
        for (int j = 0; j < N; j++) {
            int c = lane_column(j, 0);
            float a = o[i / 2][j][i % 2 * 2], b = o[i / 2][j][i % 2 * 2 + 1];
            if (coarse) {
                a += share * coarse[column + c];
                b += share * coarse[column + c + 1];
            }
            store_pair(row + c, there ? a : 0, there ? b : 0, add);
        }
    }
}

// Joins the coarse part (if there is one), divides, writes z and what the backward pass needs of
// the rows.
template <class P, class Io, int D>
__device__ inline void finish_rows(const plan &p, int head, int x, uint32_t present,
                                   float (&o)[2][D / 8][4], const softmax_state &state, Io *z)
{
    size_t line = (size_t)head * p.blocks + x;
    float coarse_max = coarse_max_of(p, line);
    const float *value = p.coarse_value + line * D;
#pragma unroll
    for (int i = 0; i < QUAD_ROWS; i++) {
        int r = lane_row(i);
        bool there = (present >> r & 1) && state.max[i] > -INFINITY;
        float coarse = 0, sum = state.sum[i];
        if (there && coarse_max > -INFINITY) {
            coarse = weight_exp<P::exact_exp>(coarse_max - state.max[i]);
            sum += coarse * p.coarse_sum[line];
        }
        float inverse = there ? 1 / sum : 0;
        if (threadIdx.x % 4 == 0) {
            p.row_max[line * TILE + r] = there ? state.max[i] : 0;
            p.row_inverse[line * TILE + r] = inverse;
        }
        if (x * TILE + r >= p.n) continue;
        Io *row = z + (size_t)token_of(p, x, r) * D;
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            int c = lane_column(j, 0);
            float a = o[i / 2][j][i % 2 * 2], b = o[i / 2][j][i % 2 * 2 + 1];
            if (coarse > 0) {
                a = fmaf(coarse, value[c], a);
                b = fmaf(coarse, value[c + 1], b);
            }
            store_pair(row + c, there ? a * inverse : 0, there ? b * inverse : 0, false);
        }
    }
}

} // namespace MRA_BACKEND::attention
#endif
