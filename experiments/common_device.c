#include "common_device.h"

#include "tensor/kernels.h"

// ---- Time -----------------------------------------------------------------------------------

typedef struct timed_passes {
    const mra_device_clock *clock;
    mra_device_pass pass;
    void *context;
} timed_passes;

static mra_status run_passes(void *context, mra_error *err)
{
    const timed_passes *timed = context;
    mra_device *device = timed->clock->device;
    float value;
    for (int i = 0; i < timed->clock->passes; i++)
        if (timed->pass(timed->context, err) != MRA_OK) return err->status;
    return device->to_host(device, &value, timed->clock->probe, sizeof value, err);
}

mra_status mra_device_time(const mra_device_clock *clock, mra_device_pass pass, void *context,
                           mra_timing *timing, mra_error *err)
{
    timed_passes timed = {clock, pass, context};
    mra_status status = mra_measure_time(run_passes, &timed, clock->repeats, timing, err);
    timing->median /= clock->passes;
    timing->least /= clock->passes;
    timing->most /= clock->passes;
    return status;
}

// ---- Operations -----------------------------------------------------------------------------

static size_t entries(const mra_operation_place *p)
{
    return p->rows * (size_t)p->columns;
}

static mra_status pass_copy(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->scale(p->device, entries(p), 1, p->x, p->y, false, err);
}

static mra_status pass_product(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->linear(p->device, p->rows, p->columns, p->columns, p->x, p->w,
                                      p->statistics, p->y, err);
}

static mra_status pass_product_weight(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->linear_backward_weight(p->device, p->rows, p->columns,
                                                      p->columns, p->x, p->y, p->w, err);
}

static mra_status pass_add(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->add(p->device, entries(p), p->x, p->y, p->z, err);
}

static mra_status pass_gelu(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->gelu(p->device, entries(p), p->x, p->y, err);
}

static mra_status pass_gelu_backward(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->gelu_backward(p->device, entries(p), p->x, p->y, p->z, false,
                                             err);
}

static mra_status pass_dropout(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->dropout(p->device, entries(p), 0.1f, 1, 2, p->x, p->y, false,
                                       err);
}

static mra_status pass_layer_norm(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    const size_t at = 2 * p->rows;
    return p->device->kernels->layer_norm(p->device, p->rows, p->columns, 1e-12f, p->x,
                                          p->statistics + at, p->statistics + at + p->columns,
                                          p->y, p->statistics, err);
}

static mra_status pass_layer_norm_backward(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    float *gamma = p->statistics + 2 * p->rows;
    return p->device->kernels->layer_norm_backward(
        p->device, p->rows, p->columns, p->x, gamma, p->statistics, p->y, p->z, false,
        gamma + 2 * p->columns, gamma + 3 * p->columns, err);
}

static mra_status pass_softmax(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->softmax(p->device, p->rows, p->columns, p->x, p->y, err);
}

static mra_status pass_softmax_backward(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->softmax_backward(p->device, p->rows, p->columns, p->x, p->y,
                                                p->z, false, err);
}

static mra_status pass_gather(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->gather(p->device, p->rows, p->columns, p->x, p->ids, p->y, err);
}

static mra_status pass_scatter_add(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->scatter_add(p->device, p->rows, (int)p->rows, p->columns, p->ids,
                                           p->x, p->y, err);
}

static mra_status pass_column_sums(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    return p->device->kernels->add_column_sums(p->device, p->rows, p->columns, p->x,
                                               p->statistics, err);
}

static mra_status pass_adamw(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    const mra_adamw settings = {1e-9, 0.9, 0.999, 1e-6, 0, 1, 1000};
    return p->device->kernels->adamw(p->device, &settings, entries(p), p->w, p->x, p->y, p->z,
                                     err);
}

static mra_status pass_sum_of_squares(void *context, mra_error *err)
{
    mra_operation_place *p = context;
    double sum;
    return p->device->kernels->sum_of_squares(p->device, entries(p), p->x, &sum, err);
}

const mra_device_operation *mra_device_operation_at(int index)
{
    static const mra_device_operation all[] = {
        {"copy", 8, 0, pass_copy},
        {"linear", 8, 2, pass_product},
        {"linear_backward_weight", 8, 2, pass_product_weight},
        {"add", 12, 0, pass_add},
        {"gelu", 8, 0, pass_gelu},
        {"gelu_backward", 12, 0, pass_gelu_backward},
        {"dropout", 8, 0, pass_dropout},
        {"layer_norm", 8, 0, pass_layer_norm},
        {"layer_norm_backward", 12, 0, pass_layer_norm_backward},
        {"softmax", 8, 0, pass_softmax},
        {"softmax_backward", 12, 0, pass_softmax_backward},
        {"gather", 8, 0, pass_gather},
        {"scatter_add", 12, 0, pass_scatter_add},
        {"add_column_sums", 4, 0, pass_column_sums},
        {"sum_of_squares", 4, 0, pass_sum_of_squares},
        {"adamw", 28, 0, pass_adamw},
    };
    enum { OPERATIONS = sizeof all / sizeof all[0] };
    return index >= 0 && index < OPERATIONS ? &all[index] : NULL;
}
