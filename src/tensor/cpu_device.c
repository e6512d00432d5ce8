// The cpu device: its memory, its table of kernels, and what the kernels share.
//
// Device memory is host memory. Working memory of the kernels comes from one arena that is
// reset by each call, so that after the largest call no other asks the system for any.

#include "tensor/cpu_device.h"

#include <stdlib.h>
#include <string.h>

#include "tensor/cpu.h"

typedef struct cpu_state {
    mra_arena scratch;
} cpu_state;

static const mra_kernels cpu_kernels = {
    .fill = mra_cpu_fill,
    .scale = mra_cpu_scale,
    .add = mra_cpu_add,
    .multiply = mra_cpu_multiply,
    .relu = mra_cpu_relu,
    .relu_backward = mra_cpu_relu_backward,
    .gelu = mra_cpu_gelu,
    .gelu_backward = mra_cpu_gelu_backward,
    .dropout = mra_cpu_dropout,
    .gemm = mra_cpu_gemm,
    .linear = mra_cpu_linear,
    .linear_backward_input = mra_cpu_linear_backward_input,
    .linear_backward_weight = mra_cpu_linear_backward_weight,
    .add_column_sums = mra_cpu_add_column_sums,
    .layer_norm = mra_cpu_layer_norm,
    .layer_norm_backward = mra_cpu_layer_norm_backward,
    .softmax = mra_cpu_softmax,
    .softmax_backward = mra_cpu_softmax_backward,
    .softmax_kept = mra_cpu_softmax_kept,
    .cross_entropy = mra_cpu_cross_entropy,
    .cross_entropy_backward = mra_cpu_cross_entropy_backward,
    .gather = mra_cpu_gather,
    .scatter_add = mra_cpu_scatter_add,
    .add_positions = mra_cpu_add_positions,
    .add_positions_backward = mra_cpu_add_positions_backward,
    .swap_middle = mra_cpu_swap_middle,
    .copy_columns = mra_cpu_copy_columns,
    .mask_rows = mra_cpu_mask_rows,
    .mean_pool = mra_cpu_mean_pool,
    .mean_pool_backward = mra_cpu_mean_pool_backward,
    .block_attention = mra_cpu_block_attention,
    .block_attention_backward = mra_cpu_block_attention_backward,
    .features = mra_cpu_features,
    .features_backward = mra_cpu_features_backward,
    .divide_by_last = mra_cpu_divide_by_last,
    .divide_by_last_backward = mra_cpu_divide_by_last_backward,
    .hierarchy = mra_cpu_hierarchy,
    .hierarchy_backward = mra_cpu_hierarchy_backward,
    .band_sum = mra_cpu_band_sum,
    .join = mra_cpu_join,
    .join_backward = mra_cpu_join_backward,
    .convolve = mra_cpu_convolve,
    .convolve_backward_filter = mra_cpu_convolve_backward_filter,
    .segment_mean = mra_cpu_segment_mean,
    .segment_mean_backward = mra_cpu_segment_mean_backward,
    .gaussian = mra_cpu_gaussian,
    .gaussian_backward = mra_cpu_gaussian_backward,
    .identity_minus = mra_cpu_identity_minus,
    .inverse_guess = mra_cpu_inverse_guess,
    .inverse_guess_backward = mra_cpu_inverse_guess_backward,
    .keep_bounded = mra_cpu_keep_bounded,
    .copy_chosen = mra_cpu_copy_chosen,
    .unit_rows = mra_cpu_unit_rows,
    .unit_rows_backward = mra_cpu_unit_rows_backward,
    .angular_attention = mra_cpu_angular_attention,
    .angular_attention_backward = mra_cpu_angular_attention_backward,
    .hash_signs = mra_cpu_hash_signs,
    .hash_rotations = mra_cpu_hash_rotations,
    .sort_by_code = mra_cpu_sort_by_code,
    .collision_sum = mra_cpu_collision_sum,
    .collision_backward = mra_cpu_collision_backward,
    .sorted_attention = mra_cpu_sorted_attention,
    .sorted_attention_backward = mra_cpu_sorted_attention_backward,
    .adamw = mra_cpu_adamw,
    .sum_of_squares = mra_cpu_sum_of_squares,
};

// ---- Memory ---------------------------------------------------------------------------------

static void *cpu_allocate(mra_device *device, size_t bytes)
{
    (void)device;
    return mra_aligned_calloc(bytes, 1);
}

static void cpu_release(mra_device *device, void *memory)
{
    (void)device;
    mra_aligned_free(memory);
}

static mra_status cpu_copy(mra_device *device, void *to, const void *from, size_t bytes,
                           mra_error *err)
{
    (void)device, (void)err;
    if (bytes) memcpy(to, from, bytes);
    return MRA_OK;
}

static void cpu_close(mra_device *device)
{
    cpu_state *state = device->state;
    mra_arena_free(&state->scratch);
    free(state);
    free(device);
}

mra_status mra_cpu_open(mra_device **device, int threads, mra_error *err)
{
    mra_device *cpu = malloc(sizeof *cpu);
    cpu_state *state = calloc(1, sizeof *state);
    *device = cpu;
    if (!cpu || !state) {
        free(cpu);
        free(state);
        *device = NULL;
        return mra_fail(err, MRA_NO_MEMORY, "device 'cpu': no memory for its state");
    }
    *cpu = (mra_device){
        .name = "cpu",
        .threads = threads < 1 ? mra_default_threads() : threads,
        .kernels = &cpu_kernels,
        .state = state,
        .host_memory = true,
        .allocate = cpu_allocate,
        .scratch = cpu_allocate,
        .release = cpu_release,
        .to_device = cpu_copy,
        .to_host = cpu_copy,
        .close = cpu_close,
    };
    return MRA_OK;
}

// ---- What the kernels share -----------------------------------------------------------------

void mra_cpu_loop(mra_device *device, size_t items, mra_loop_body body, void *context)
{
    mra_parallel_for(device->threads, items, body, context);
}

void *mra_cpu_scratch(mra_device *device, size_t count, size_t size, const char *kernel,
                      mra_error *err)
{
    cpu_state *state = device->state;
    mra_arena_reset(&state->scratch);
    return mra_cpu_more_scratch(device, count, size, kernel, err);
}

void *mra_cpu_more_scratch(mra_device *device, size_t count, size_t size, const char *kernel,
                           mra_error *err)
{
    cpu_state *state = device->state;
    void *memory = NULL;
    if (!size || count <= SIZE_MAX / size)
        memory = mra_arena_alloc(&state->scratch, count * size);
    if (!memory)
        mra_fail(err, MRA_NO_MEMORY, "%s: no working memory for %zu values of %zu bytes",
                 kernel, count, size);
    return memory;
}

enum { STRIP = 64, RUN = 32 }; // columns kept in registers; rows of a partial sum

// Up to STRIP columns of mra_cpu_sum_rows: the totals stay in registers while the rows stream
// by.
static void sum_strip(size_t rows, size_t width, const float *x, size_t stride,
                      const uint8_t *mask, float *total)
{
    float sum[STRIP] = {0};
    for (size_t begin = 0; begin < rows; begin += RUN) {
        float run[STRIP] = {0};
        size_t end = rows - begin < RUN ? rows : begin + RUN;
        for (size_t row = begin; row < end; row++) {
            if (mask && !mask[row]) continue;
            const float *entry = x + row * stride;
            if (width == STRIP)
                for (size_t j = 0; j < STRIP; j++) run[j] += entry[j];
            else
                for (size_t j = 0; j < width; j++) run[j] += entry[j];
        }
        for (size_t j = 0; j < STRIP; j++) sum[j] += run[j];
    }
    memcpy(total, sum, width * sizeof *total);
}

void mra_cpu_sum_rows(size_t rows, size_t width, const float *x, size_t stride,
                      const uint8_t *mask, float *total)
{
    for (size_t left = 0; left < width; left += STRIP) {
        size_t columns = width - left < STRIP ? width - left : STRIP;
        sum_strip(rows, columns, x + left, stride, mask, total + left);
    }
}

typedef struct parts_context {
    size_t parts, count;
    const float *part;
    float *y;
} parts_context;

static void add_parts_item(void *context, size_t item, int thread)
{
    (void)thread;
    const parts_context *sum = context;
    mra_range range = mra_range_of(item, 1024, sum->count);
    for (size_t part = 0; part < sum->parts; part++) {
        const float *restrict from = sum->part + part * sum->count;
        float *restrict y = sum->y;
        for (size_t i = range.begin; i < range.end; i++) y[i] += from[i];
    }
}

void mra_cpu_add_parts(mra_device *device, size_t parts, size_t count, const float *part,
                       float *y)
{
    parts_context context = {parts, count, part, y};
    mra_cpu_loop(device, mra_items(count, 1024), add_parts_item, &context);
}
