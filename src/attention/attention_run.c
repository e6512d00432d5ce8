// A method on plain arrays of the host: what the commands, the benchmarks and the experiments
// call.
//
// A method that is one fused operation takes the arrays as they are (its row has a `run`): then
// the time measured is the method's own. Any other is a chain of the tape's operations: its
// inputs go to the device, its results come back.

#include "attention/attention.h"

#include <string.h>

#include "tensor/kernels.h"

typedef struct run_operands {
    mra_tensor *tensor[3]; // q, k, v on the tape
    size_t bytes;          // of each
} run_operands;

// Copies q, k and v to the device, with zeroed gradients if they are wanted.
static mra_status upload(const mra_attention_layer *layer, mra_tape *tape,
                         const float *const input[3], bool gradients, run_operands *operands,
                         mra_error *err)
{
    const mra_shape shape = layer->shape;
    const int sizes[4] = {shape.batch, shape.heads, shape.n, shape.d};
    mra_device *device = layer->device;
    for (int i = 0; i < 3; i++) {
        float *data = mra_tape_upload(tape, input[i], operands->bytes);
        float *grad = gradients ? mra_tape_device_alloc(tape, operands->bytes) : NULL;
        if (!data || (gradients && !grad)) return mra_tape_status(tape, err);
        if (grad) {
            mra_status status =
                device->kernels->fill(device, operands->bytes / sizeof(float), 0.0f, grad, err);
            if (status != MRA_OK) return status;
        }
        operands->tensor[i] = mra_wrap(tape, 4, sizes, data, grad);
        if (!operands->tensor[i]) return mra_tape_status(tape, err);
    }
    return MRA_OK;
}

static mra_status run_on_tape(mra_attention_layer *layer, mra_tape *tape,
                              const float *const input[3], const uint8_t *mask, float *z,
                              const float *dz, float *const gradient[3], size_t bytes,
                              mra_error *err)
{
    mra_device *device = layer->device;
    run_operands operands = {.bytes = bytes};
    mra_tape_mode(tape, false, dz != NULL, layer->seed, 0);
    mra_status status = upload(layer, tape, input, dz != NULL, &operands, err);
    if (status != MRA_OK) return status;
    mra_tensor *output = mra_attention_apply(layer, tape, operands.tensor[0],
                                             operands.tensor[1], operands.tensor[2], mask);
    if (!output) return mra_tape_status(tape, err);
    if (z) status = device->to_host(device, z, output->data, bytes, err);
    if (status != MRA_OK || !dz) return status;
    status = mra_tape_backward_from(tape, output, dz, err);
    for (int i = 0; i < 3 && status == MRA_OK; i++)
        status = device->to_host(device, gradient[i], operands.tensor[i]->grad, bytes, err);
    return status;
}

mra_status mra_attention_run(mra_attention_layer *layer, mra_tape *tape, const float *q,
                             const float *k, const float *v, const uint8_t *mask, float *z,
                             const float *dz, float *dq, float *dk, float *dv, mra_error *err)
{
    const mra_shape shape = layer->shape;
    const size_t bytes = sizeof(float) * (size_t)shape.batch * (size_t)shape.heads *
                         (size_t)shape.n * (size_t)shape.d;
    mra_status status;
    mra_tape_reset(tape);
    if (layer->method->run && layer->device->host_memory) {
        float *output = z ? z : mra_tape_alloc(tape, bytes);
        status = output ? layer->method->run(layer, q, k, v, mask, output, dz, dq, dk, dv, err)
                        : mra_tape_status(tape, err);
    } else {
        status = run_on_tape(layer, tape, (const float *const[3]){q, k, v}, mask, z, dz,
                             (float *const[3]){dq, dk, dv}, bytes, err);
    }
    mra_tape_reset(tape);
    return status;
}
