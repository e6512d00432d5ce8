// What the files of the cpu device share: private to src/tensor/cpu_*.c.
//
// A kernel cuts its work into items whose size depends on the shape alone and hands them to
// mra_parallel_for (core/parallel.h). Items are as large as a core's cache likes: large enough
// that handing them out costs nothing, small enough that two threads end at about the same
// time.
#ifndef MRA_TENSOR_CPU_H
#define MRA_TENSOR_CPU_H

#include "core/arena.h"
#include "core/parallel.h"
#include "tensor/kernels.h"

// Entries of an item of an entry-by-entry loop: 64 KiB of each array, a cache's worth for
// three.
enum { MRA_CPU_ENTRIES = 16384 };

// The half-open range of entries (or rows) that belongs to an item.
typedef struct mra_range {
    size_t begin, end;
} mra_range;

static inline size_t mra_items(size_t total, size_t per_item)
{
    return total / per_item + (total % per_item != 0);
}

static inline mra_range mra_range_of(size_t item, size_t per_item, size_t total)
{
    size_t begin = item * per_item, rest = total - begin;
    return (mra_range){begin, begin + (rest < per_item ? rest : per_item)};
}

// How many rows of `width` floats make an item: about MRA_CPU_ENTRIES entries, at least one
// row.
static inline size_t mra_rows_per_item(size_t width)
{
    size_t rows = MRA_CPU_ENTRIES / (width ? width : 1);
    return rows ? rows : 1;
}

// Runs body over `items` on the threads of the device.
void mra_cpu_loop(mra_device *device, size_t items, mra_loop_body body, void *context);

// Working memory of one kernel call: `count` pieces of `size` bytes, uninitialised, valid until
// the next call of mra_cpu_scratch on this device. NULL sets MRA_NO_MEMORY in *err, naming
// `kernel`.
void *mra_cpu_scratch(mra_device *device, size_t count, size_t size, const char *kernel,
                      mra_error *err);
// Another piece for the same call; the earlier ones stay valid.
void *mra_cpu_more_scratch(mra_device *device, size_t count, size_t size, const char *kernel,
                           mra_error *err);

// total[0 .. width) = sum of `rows` rows that lie `stride` floats apart, with mask[row] != 0 if
// there is a mask. Sums of 32 rows are added up in turn, so that the rounding error grows with
// rows / 32.
void mra_cpu_sum_rows(size_t rows, size_t width, const float *x, size_t stride,
                      const uint8_t *mask, float *total);

// y[0 .. count) += sum over the parts of parts[part][0 .. count), in the order of the parts.
void mra_cpu_add_parts(mra_device *device, size_t parts, size_t count, const float *part,
                       float *y);

// The functions of the table, each in the file that its group names; contracts in
// tensor/kernels.h.

// cpu_elementwise.c
mra_status mra_cpu_fill(mra_device *, size_t, float, float *, mra_error *);
mra_status mra_cpu_scale(mra_device *, size_t, float, const float *, float *, bool,
                         mra_error *);
mra_status mra_cpu_add(mra_device *, size_t, const float *, const float *, float *,
                       mra_error *);
mra_status mra_cpu_multiply(mra_device *, size_t, const float *, const float *, float *, bool,
                            mra_error *);
mra_status mra_cpu_relu(mra_device *, size_t, const float *, float *, mra_error *);
mra_status mra_cpu_relu_backward(mra_device *, size_t, const float *, const float *, float *,
                                 bool, mra_error *);
// cpu_gelu.c
mra_status mra_cpu_gelu(mra_device *, size_t, const float *, float *, mra_error *);
mra_status mra_cpu_gelu_backward(mra_device *, size_t, const float *, const float *, float *,
                                 bool, mra_error *);
// cpu_dropout.c
mra_status mra_cpu_dropout(mra_device *, size_t, float, uint64_t, uint64_t, const float *,
                           float *, bool, mra_error *);
// cpu_product.c
mra_status mra_cpu_gemm(mra_device *, const mra_product *, const float *, const float *,
                        float *, bool, mra_error *);
mra_status mra_cpu_linear(mra_device *, size_t, int, int, const float *, const float *,
                          const float *, float *, mra_error *);
mra_status mra_cpu_linear_backward_input(mra_device *, size_t, int, int, const float *,
                                         const float *, float *, bool, mra_error *);
mra_status mra_cpu_linear_backward_weight(mra_device *, size_t, int, int, const float *,
                                          const float *, float *, mra_error *);
mra_status mra_cpu_add_column_sums(mra_device *, size_t, int, const float *, float *,
                                   mra_error *);
// cpu_normalise.c
mra_status mra_cpu_layer_norm(mra_device *, size_t, int, float, const float *, const float *,
                              const float *, float *, float *, mra_error *);
mra_status mra_cpu_layer_norm_backward(mra_device *, size_t, int, const float *, const float *,
                                       const float *, const float *, float *, bool, float *,
                                       float *, mra_error *);
mra_status mra_cpu_softmax(mra_device *, size_t, int, const float *, float *, mra_error *);
mra_status mra_cpu_softmax_backward(mra_device *, size_t, int, const float *, const float *,
                                    float *, bool, mra_error *);
mra_status mra_cpu_softmax_kept(mra_device *, size_t, int, int, int, const uint8_t *,
                                const float *, float *, mra_error *);
// cpu_loss.c
mra_status mra_cpu_cross_entropy(mra_device *, size_t, int, const float *, const int32_t *,
                                 float *, float *, int32_t *, mra_error *);
mra_status mra_cpu_cross_entropy_backward(mra_device *, size_t, int, const float *,
                                          const int32_t *, const float *, const int32_t *,
                                          const float *, float *, bool, mra_error *);
// cpu_gather.c
mra_status mra_cpu_gather(mra_device *, size_t, int, const float *, const int32_t *, float *,
                          mra_error *);
mra_status mra_cpu_scatter_add(mra_device *, size_t, int, int, const int32_t *, const float *,
                               float *, mra_error *);
mra_status mra_cpu_add_positions(mra_device *, size_t, int, int, const float *, const float *,
                                 const int32_t *, float *, mra_error *);
mra_status mra_cpu_add_positions_backward(mra_device *, size_t, int, int, const float *,
                                          const int32_t *, float *, mra_error *);
// cpu_rows.c
mra_status mra_cpu_swap_middle(mra_device *, size_t, int, int, int, const float *, float *,
                               bool, mra_error *);
mra_status mra_cpu_copy_columns(mra_device *, size_t, int, const float *, size_t, float *,
                                size_t, bool, mra_error *);
mra_status mra_cpu_mask_rows(mra_device *, size_t, int, const uint8_t *, const float *, float *,
                             bool, mra_error *);
mra_status mra_cpu_mean_pool(mra_device *, size_t, int, int, const uint8_t *, const float *,
                             float *, mra_error *);
mra_status mra_cpu_mean_pool_backward(mra_device *, size_t, int, int, const uint8_t *,
                                      const float *, float *, bool, mra_error *);
// cpu_block_attention.c
mra_status mra_cpu_block_attention(mra_device *, const mra_block_form *,
                                   const mra_block_operands *, mra_error *);
mra_status mra_cpu_block_attention_backward(mra_device *, const mra_block_form *,
                                            const mra_block_operands *, mra_error *);
// cpu_features.c
mra_status mra_cpu_features(mra_device *, const mra_feature_form *, const float *,
                            const float *, const uint8_t *, float *, float *, float *,
                            mra_error *);
mra_status mra_cpu_features_backward(mra_device *, const mra_feature_form *, const float *,
                                     const float *, const uint8_t *, const float *, float *,
                                     float *, bool, mra_error *);
mra_status mra_cpu_divide_by_last(mra_device *, size_t, int, const float *, float *,
                                  mra_error *);
mra_status mra_cpu_divide_by_last_backward(mra_device *, size_t, int, const float *,
                                           const float *, const float *, float *, bool,
                                           mra_error *);
// cpu_hierarchy.c, cpu_hierarchy_backward.c
mra_status mra_cpu_hierarchy(mra_device *, const mra_hierarchy *,
                             const mra_hierarchy_operands *, mra_error *);
mra_status mra_cpu_hierarchy_backward(mra_device *, const mra_hierarchy *,
                                      const mra_hierarchy_operands *, mra_error *);
// cpu_outside_band.c
mra_status mra_cpu_band_sum(mra_device *, const mra_band_form *, const float *, const float *,
                            const float *, float *, bool, mra_error *);
// cpu_join.c
mra_status mra_cpu_join(mra_device *, size_t, int, const mra_join_operands *, mra_error *);
mra_status mra_cpu_join_backward(mra_device *, size_t, int, const mra_join_operands *,
                                 mra_error *);

// cpu_sequence.c
mra_status mra_cpu_convolve(mra_device *, size_t, int, int, int, int, const float *,
                            const float *, bool, float *, bool, mra_error *);
mra_status mra_cpu_convolve_backward_filter(mra_device *, size_t, int, int, int, int,
                                            const float *, const float *, float *, mra_error *);
mra_status mra_cpu_segment_mean(mra_device *, size_t, int, int, int, int, const int32_t *,
                                const float *, float *, mra_error *);
mra_status mra_cpu_segment_mean_backward(mra_device *, size_t, int, int, int, int,
                                         const int32_t *, const float *, float *, bool,
                                         mra_error *);
// cpu_gaussian.c
mra_status mra_cpu_gaussian(mra_device *, size_t, int, int, int, const float *, const float *,
                            float *, mra_error *);
mra_status mra_cpu_gaussian_backward(mra_device *, size_t, int, int, int, const float *,
                                     const float *, const float *, const float *, float *, bool,
                                     float *, bool, mra_error *);
// cpu_inverse.c
mra_status mra_cpu_identity_minus(mra_device *, size_t, int, float, const float *, float *,
                                  mra_error *);
mra_status mra_cpu_inverse_guess(mra_device *, int, bool, size_t, int, const float *, float *,
                                 float *, int32_t *, mra_error *);
mra_status mra_cpu_inverse_guess_backward(mra_device *, int, size_t, int, const float *,
                                          const float *, const int32_t *, const float *,
                                          float *, mra_error *);
mra_status mra_cpu_keep_bounded(mra_device *, bool, size_t, size_t, float, const float *,
                                const float *, float *, int32_t *, mra_error *);
mra_status mra_cpu_copy_chosen(mra_device *, size_t, size_t, const int32_t *, int,
                               const float *, float *, bool, mra_error *);
// cpu_unit.c
mra_status mra_cpu_unit_rows(mra_device *, size_t, int, const float *, float *, float *,
                             mra_error *);
mra_status mra_cpu_unit_rows_backward(mra_device *, size_t, int, const float *, const float *,
                                      const float *, float *, bool, mra_error *);
// cpu_angle.c
mra_status mra_cpu_angular_attention(mra_device *, const mra_angle_form *, const float *,
                                     const float *, const float *, float *, mra_error *);
mra_status mra_cpu_angular_attention_backward(mra_device *, const mra_angle_form *,
                                              const float *, const float *, const float *,
                                              const float *, float *, bool, float *, bool,
                                              mra_error *);
// cpu_hash.c
mra_status mra_cpu_hash_signs(mra_device *, const mra_hash_form *, const float *, const float *,
                              const uint8_t *, int32_t *, mra_error *);
mra_status mra_cpu_hash_rotations(mra_device *, const mra_hash_form *, const float *,
                                  const float *, const int32_t *, const uint8_t *, int32_t *,
                                  mra_error *);
mra_status mra_cpu_sort_by_code(mra_device *, size_t, int, int, const int32_t *, int32_t *,
                                int32_t *, mra_error *);
// Stable counting sort of one list; see sort_by_code.
void mra_cpu_sort_list(int length, int range, const int32_t *codes, int32_t *order,
                       int32_t *start);
// cpu_collision.c
mra_status mra_cpu_collision_sum(mra_device *, const mra_hash_form *, const int32_t *,
                                 const int32_t *, const float *, float *, bool, mra_error *);
// cpu_collision_backward.c
mra_status mra_cpu_collision_backward(mra_device *, const mra_hash_form *,
                                      const mra_collision_rule *, const int32_t *,
                                      const int32_t *, const float *const[3], const float *,
                                      float *, bool, float *, bool, mra_error *);
// cpu_sorted.c
mra_status mra_cpu_sorted_attention(mra_device *, const mra_sorted_form *,
                                    const mra_sorted_operands *, mra_error *);
mra_status mra_cpu_sorted_attention_backward(mra_device *, const mra_sorted_form *,
                                             const mra_sorted_operands *, mra_error *);
// cpu_optimiser.c
mra_status mra_cpu_adamw(mra_device *, const mra_adamw *, size_t, float *, const float *,
                         float *, float *, mra_error *);
mra_status mra_cpu_sum_of_squares(mra_device *, size_t, const float *, double *, mra_error *);

#endif
