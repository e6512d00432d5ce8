// What the files that implement src/tensor/kernels.h on a device share: the device's state, its
// working memory, and the functions themselves, whose contracts are in that header.
//
// Two devices are made of these files, `cuda` (kernels/cuda) and `simt` (kernels/simt). They differ
// in memory, in products and in sorting, where cuda calls cuBLASLt and CUB: the functions under
// "What the two devices have of their own".
#ifndef MRA_KERNELS_PRIMITIVES_CUH
#define MRA_KERNELS_PRIMITIVES_CUH

#include "simt/device.cuh"
#include "tensor/kernels.h"

namespace MRA_BACKEND
{

enum { THREADS = 256 }; // of a block that goes entry by entry or row by row

struct own_state; // of kernels/cuda or kernels/simt

struct device_state {
    stream_t stream; // first: code that knows no more of a device finds it
    void *working;   // one buffer for the kernel that runs; it grows
    size_t working_bytes, working_used;
    size_t slice_bytes; // what an operation that works in slices wants at once
    own_state *own;
    mra_kernels table;
};

inline device_state *state_of(mra_device *device)
{
    return (device_state *)device->state;
}
inline stream_t stream_of(mra_device *device)
{
    return state_of(device)->stream;
}

// ---- Working memory -------------------------------------------------------------------------

// Begins the working memory of one call and makes it hold at least `bytes`; MRA_NO_MEMORY names
// `kernel`, what was asked for and what is free. Pieces are taken by `working_piece`; to know how
// much they need, add up working_size() of each.
mra_status working_begin(mra_device *device, size_t bytes, const char *kernel, mra_error *err);

inline size_t working_size(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}
template <class T> inline T *working_piece(mra_device *device, size_t count)
{
    device_state *state = state_of(device);
    T *piece = (T *)((char *)state->working + state->working_used);
    state->working_used += working_size(count * sizeof(T));
    return piece;
}

// How many of `most` items that want `bytes` of working memory each make a slice; at least one.
inline size_t slice_of(mra_device *device, size_t bytes, size_t most)
{
    const size_t fit = state_of(device)->slice_bytes / (bytes ? bytes : 1);
    return fit < 1 ? 1 : fit < most ? fit : most;
}

inline unsigned blocks_for(size_t items, size_t each)
{
    return (unsigned)((items + each - 1) / each);
}

// f(i) for i in [0, count): 4 entries a thread, `THREADS` apart, so that a thread has four loads
// under way.
template <class F> __global__ void each_kernel(size_t count, F f)
{
    const size_t first = (size_t)blockIdx.x * (4 * THREADS) + threadIdx.x;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const size_t i = first + (size_t)k * THREADS;
        if (i < count) f(i);
    }
}
template <class F>
inline mra_status for_each(mra_device *device, const char *name, size_t count, F f,
                           mra_error *err)
{
    if (!count) return MRA_OK;
    launch(name, each_kernel<F>, blocks_for(count, 4 * THREADS), THREADS, 0, stream_of(device),
           count, f);
    return launch_status(stream_of(device), name, err);
}

// y[0 .. count) += part[0][.] + part[1][.] + ..., in this order.
mra_status add_parts(mra_device *device, size_t parts, size_t count, const float *part,
                     float *y, mra_error *err);

// sort_by_code of src/tensor/kernels.h within working memory that has begun, of which it takes
// sort_lists_bytes.
mra_status sort_lists(mra_device *device, const char *name, size_t lists, int length, int range,
                      const int32_t *codes, int32_t *order, int32_t *start, mra_error *err);
size_t sort_lists_bytes(size_t lists, int length, int range);

// ---- What the two devices have of their own ---------------------------------------------------

// Device memory for the table and the tape; NULL: none left.
void *own_allocate(mra_device *device, size_t bytes, bool zeroed);
void own_release(mra_device *device, void *memory);
size_t own_free_bytes(mra_device *device);
mra_status own_to_device(mra_device *device, void *to, const void *from, size_t bytes,
                         mra_error *err);
mra_status own_to_host(mra_device *device, void *to, const void *from, size_t bytes,
                       mra_error *err);
// C (+)= alpha op(A) op(B), as `gemm` of the table; bias: added to every row of C, or NULL.
mra_status own_product(mra_device *device, const mra_product *product, const float *a,
                       const float *b, const float *bias, float *c, bool add, mra_error *err);
// Sorts keys[count], each in [0, bound), stably; place[i] receives where sorted[i] was.
mra_status own_sort(mra_device *device, size_t count, int bound, const int32_t *keys,
                    int32_t *sorted, int32_t *place, mra_error *err);
// Bytes of working memory, besides the arrays, that own_sort takes; it takes them itself with
// working_piece.
size_t own_sort_bytes(mra_device *device, size_t count, int bound);

// Fills in the members of `device` that both have in common, and the table.
void make_device(mra_device *device, const char *name, device_state *state);

// ---- The functions of the table -------------------------------------------------------------

// elementwise.cu
mra_status fill(mra_device *, size_t, float, float *, mra_error *);
mra_status scale(mra_device *, size_t, float, const float *, float *, bool, mra_error *);
mra_status add(mra_device *, size_t, const float *, const float *, float *, mra_error *);
mra_status multiply(mra_device *, size_t, const float *, const float *, float *, bool,
                    mra_error *);
mra_status relu(mra_device *, size_t, const float *, float *, mra_error *);
mra_status relu_backward(mra_device *, size_t, const float *, const float *, float *, bool,
                         mra_error *);
mra_status gelu(mra_device *, size_t, const float *, float *, mra_error *);
mra_status gelu_backward(mra_device *, size_t, const float *, const float *, float *, bool,
                         mra_error *);
mra_status dropout(mra_device *, size_t, float, uint64_t, uint64_t, const float *, float *,
                   bool, mra_error *);
// product.cu
mra_status gemm(mra_device *, const mra_product *, const float *, const float *, float *, bool,
                mra_error *);
mra_status linear(mra_device *, size_t, int, int, const float *, const float *, const float *,
                  float *, mra_error *);
mra_status linear_backward_input(mra_device *, size_t, int, int, const float *, const float *,
                                 float *, bool, mra_error *);
mra_status linear_backward_weight(mra_device *, size_t, int, int, const float *, const float *,
                                  float *, mra_error *);
// sums.cu
mra_status add_column_sums(mra_device *, size_t, int, const float *, float *, mra_error *);
mra_status sum_of_squares(mra_device *, size_t, const float *, double *, mra_error *);
mra_status mean_pool(mra_device *, size_t, int, int, const uint8_t *, const float *, float *,
                     mra_error *);
mra_status mean_pool_backward(mra_device *, size_t, int, int, const uint8_t *, const float *,
                              float *, bool, mra_error *);
// normalise.cu
mra_status layer_norm(mra_device *, size_t, int, float, const float *, const float *,
                      const float *, float *, float *, mra_error *);
mra_status layer_norm_backward(mra_device *, size_t, int, const float *, const float *,
                               const float *, const float *, float *, bool, float *, float *,
                               mra_error *);
mra_status softmax(mra_device *, size_t, int, const float *, float *, mra_error *);
mra_status softmax_backward(mra_device *, size_t, int, const float *, const float *, float *,
                            bool, mra_error *);
// loss.cu
mra_status cross_entropy(mra_device *, size_t, int, const float *, const int32_t *, float *,
                         float *, int32_t *, mra_error *);
mra_status cross_entropy_backward(mra_device *, size_t, int, const float *, const int32_t *,
                                  const float *, const int32_t *, const float *, float *, bool,
                                  mra_error *);
// gather.cu
mra_status gather(mra_device *, size_t, int, const float *, const int32_t *, float *,
                  mra_error *);
mra_status scatter_add(mra_device *, size_t, int, int, const int32_t *, const float *, float *,
                       mra_error *);
mra_status add_positions(mra_device *, size_t, int, int, const float *, const float *,
                         const int32_t *, float *, mra_error *);
mra_status add_positions_backward(mra_device *, size_t, int, int, const float *,
                                  const int32_t *, float *, mra_error *);
mra_status swap_middle(mra_device *, size_t, int, int, int, const float *, float *, bool,
                       mra_error *);
mra_status copy_columns(mra_device *, size_t, int, const float *, size_t, float *, size_t, bool,
                        mra_error *);
mra_status mask_rows(mra_device *, size_t, int, const uint8_t *, const float *, float *, bool,
                     mra_error *);
// block_attention.cu
mra_status block_attention(mra_device *, const mra_block_form *, const mra_block_operands *,
                           mra_error *);
mra_status block_attention_backward(mra_device *, const mra_block_form *,
                                    const mra_block_operands *, mra_error *);
// features.cu
mra_status features(mra_device *, const mra_feature_form *, const float *, const float *,
                    const uint8_t *, float *, float *, float *, mra_error *);
mra_status features_backward(mra_device *, const mra_feature_form *, const float *,
                             const float *, const uint8_t *, const float *, float *, float *,
                             bool, mra_error *);
mra_status divide_by_last(mra_device *, size_t, int, const float *, float *, mra_error *);
mra_status divide_by_last_backward(mra_device *, size_t, int, const float *, const float *,
                                   const float *, float *, bool, mra_error *);
// sequence.cu
mra_status softmax_kept(mra_device *, size_t, int, int, int, const uint8_t *, const float *,
                        float *, mra_error *);
mra_status convolve(mra_device *, size_t, int, int, int, int, const float *, const float *,
                    bool, float *, bool, mra_error *);
mra_status convolve_backward_filter(mra_device *, size_t, int, int, int, int, const float *,
                                    const float *, float *, mra_error *);
mra_status segment_mean(mra_device *, size_t, int, int, int, int, const int32_t *,
                        const float *, float *, mra_error *);
mra_status segment_mean_backward(mra_device *, size_t, int, int, int, int, const int32_t *,
                                 const float *, float *, bool, mra_error *);
mra_status gaussian(mra_device *, size_t, int, int, int, const float *, const float *, float *,
                    mra_error *);
mra_status gaussian_backward(mra_device *, size_t, int, int, int, const float *, const float *,
                             const float *, const float *, float *, bool, float *, bool,
                             mra_error *);
// inverse.cu
mra_status identity_minus(mra_device *, size_t, int, float, const float *, float *,
                          mra_error *);
mra_status inverse_guess(mra_device *, int, bool, size_t, int, const float *, float *, float *,
                         int32_t *, mra_error *);
mra_status inverse_guess_backward(mra_device *, int, size_t, int, const float *, const float *,
                                  const int32_t *, const float *, float *, mra_error *);
mra_status keep_bounded(mra_device *, bool, size_t, size_t, float, const float *, const float *,
                        float *, int32_t *, mra_error *);
mra_status copy_chosen(mra_device *, size_t, size_t, const int32_t *, int, const float *,
                       float *, bool, mra_error *);
// band.cu
mra_status band_sum(mra_device *, const mra_band_form *, const float *, const float *,
                    const float *, float *, bool, mra_error *);
mra_status join(mra_device *, size_t, int, const mra_join_operands *, mra_error *);
mra_status join_backward(mra_device *, size_t, int, const mra_join_operands *, mra_error *);
// normalise.cu
mra_status unit_rows(mra_device *, size_t, int, const float *, float *, float *, mra_error *);
mra_status unit_rows_backward(mra_device *, size_t, int, const float *, const float *,
                              const float *, float *, bool, mra_error *);
// angle.cu
mra_status angular_attention(mra_device *, const mra_angle_form *, const float *, const float *,
                             const float *, float *, mra_error *);
mra_status angular_attention_backward(mra_device *, const mra_angle_form *, const float *,
                                      const float *, const float *, const float *, float *,
                                      bool, float *, bool, mra_error *);
// hash.cu
mra_status hash_signs(mra_device *, const mra_hash_form *, const float *, const float *,
                      const uint8_t *, int32_t *, mra_error *);
mra_status hash_rotations(mra_device *, const mra_hash_form *, const float *, const float *,
                          const int32_t *, const uint8_t *, int32_t *, mra_error *);
mra_status sort_by_code(mra_device *, size_t, int, int, const int32_t *, int32_t *, int32_t *,
                        mra_error *);
// collision.cu
mra_status collision_sum(mra_device *, const mra_hash_form *, const int32_t *, const int32_t *,
                         const float *, float *, bool, mra_error *);
mra_status collision_backward(mra_device *, const mra_hash_form *, const mra_collision_rule *,
                              const int32_t *, const int32_t *, const float *const[3],
                              const float *, float *, bool, float *, bool, mra_error *);
// sorted.cu
mra_status sorted_attention(mra_device *, const mra_sorted_form *, const mra_sorted_operands *,
                            mra_error *);
mra_status sorted_attention_backward(mra_device *, const mra_sorted_form *,
                                     const mra_sorted_operands *, mra_error *);
// hierarchy.cu
mra_status hierarchy(mra_device *, const mra_hierarchy *, const mra_hierarchy_operands *,
                     mra_error *);
mra_status hierarchy_backward(mra_device *, const mra_hierarchy *,
                              const mra_hierarchy_operands *, mra_error *);
// optimiser.cu
mra_status adamw(mra_device *, const mra_adamw *, size_t, float *, const float *, float *,
                 float *, mra_error *);

} // namespace MRA_BACKEND
#endif
