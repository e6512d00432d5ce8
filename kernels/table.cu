// The table of primitive operations of `cuda` and `simt`, and the memory that its kernels share.

#include "attention.h"
#include "primitives.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace MRA_BACKEND
{

// Stands where the table has no function: whoever added one to src/tensor/kernels.h finds out at its
// first call.
static void missing()
{
    fprintf(stderr,
            "kernels/table.cu: an operation of src/tensor/kernels.h is not in the table: "
            "add it\n");
    abort();
}
static void replace_missing(mra_kernels *table)
{
    void (*entry)() = missing, *slot;
    for (size_t at = 0; at < offsetof(mra_kernels, fused); at += sizeof entry) {
        memcpy(&slot, (char *)table + at, sizeof slot);
        if (!slot) memcpy((char *)table + at, &entry, sizeof entry);
    }
}

static mra_kernels make_table()
{
    mra_kernels table = {};
    table.fill = fill;
    table.scale = scale;
    table.add = add;
    table.multiply = multiply;
    table.relu = relu;
    table.relu_backward = relu_backward;
    table.gelu = gelu;
    table.gelu_backward = gelu_backward;
    table.dropout = dropout;
    table.gemm = gemm;
    table.linear = linear;
    table.linear_backward_input = linear_backward_input;
    table.linear_backward_weight = linear_backward_weight;
    table.add_column_sums = add_column_sums;
    table.layer_norm = layer_norm;
    table.layer_norm_backward = layer_norm_backward;
    table.softmax = softmax;
    table.softmax_backward = softmax_backward;
    table.cross_entropy = cross_entropy;
    table.cross_entropy_backward = cross_entropy_backward;
    table.gather = gather;
    table.scatter_add = scatter_add;
    table.add_positions = add_positions;
    table.add_positions_backward = add_positions_backward;
    table.swap_middle = swap_middle;
    table.copy_columns = copy_columns;
    table.mask_rows = mask_rows;
    table.mean_pool = mean_pool;
    table.mean_pool_backward = mean_pool_backward;
    table.block_attention = block_attention;
    table.block_attention_backward = block_attention_backward;
    table.features = features;
    table.features_backward = features_backward;
    table.divide_by_last = divide_by_last;
    table.divide_by_last_backward = divide_by_last_backward;
    table.adamw = adamw;
    table.sum_of_squares = sum_of_squares;
    table.softmax_kept = softmax_kept;
    table.band_sum = band_sum;
    table.join = join;
    table.join_backward = join_backward;
    table.convolve = convolve;
    table.convolve_backward_filter = convolve_backward_filter;
    table.segment_mean = segment_mean;
    table.segment_mean_backward = segment_mean_backward;
    table.gaussian = gaussian;
    table.gaussian_backward = gaussian_backward;
    table.identity_minus = identity_minus;
    table.inverse_guess = inverse_guess;
    table.inverse_guess_backward = inverse_guess_backward;
    table.keep_bounded = keep_bounded;
    table.copy_chosen = copy_chosen;
    table.hierarchy = hierarchy;
    table.hierarchy_backward = hierarchy_backward;
    table.unit_rows = unit_rows;
    table.unit_rows_backward = unit_rows_backward;
    table.angular_attention = angular_attention;
    table.angular_attention_backward = angular_attention_backward;
    table.hash_signs = hash_signs;
    table.hash_rotations = hash_rotations;
    table.sort_by_code = sort_by_code;
    table.collision_sum = collision_sum;
    table.collision_backward = collision_backward;
    table.sorted_attention = sorted_attention;
    table.sorted_attention_backward = sorted_attention_backward;
    replace_missing(&table);
#ifdef __CUDACC__
    table.fused = mra_cuda_methods;
    table.attention = &mra_cuda_attention;
#else
    table.fused = mra_simt_methods;
    table.attention = &mra_simt_attention;
#endif
    table.fused_count = MRA_KERNEL_METHODS;
    return table;
}

// ---- Working memory -------------------------------------------------------------------------

mra_status working_begin(mra_device *device, size_t bytes, const char *kernel, mra_error *err)
{
    device_state *state = state_of(device);
    state->working_used = 0;
    if (bytes <= state->working_bytes) return MRA_OK;
    // What was there may still be in use by kernels under way; a device releases in order.
    own_release(device, state->working);
    state->working = own_allocate(device, bytes, false);
    state->working_bytes = state->working ? bytes : 0;
    if (state->working) return MRA_OK;
    return mra_fail(err, MRA_NO_MEMORY,
                    "%s: no working memory for %zu bytes on the device '%s' (%zu free)", kernel,
                    bytes, device->name, own_free_bytes(device));
}

// ---- What both devices have in common ---------------------------------------------------------

static void *allocate(mra_device *device, size_t bytes)
{
    return own_allocate(device, bytes, true);
}
static void *scratch(mra_device *device, size_t bytes)
{
    return own_allocate(device, bytes, false);
}

void make_device(mra_device *device, const char *name, device_state *state)
{
    state->table = make_table();
    device->name = name;
    device->threads = 1;
    device->kernels = &state->table;
    device->state = state;
    state->slice_bytes = (size_t)1 << 30;
    device->host_memory = false;
    device->precision = MRA_FLOAT32;
    device->allocate = allocate;
    device->scratch = scratch;
    device->release = own_release;
    device->to_device = own_to_device;
    device->to_host = own_to_host;
}

} // namespace MRA_BACKEND
