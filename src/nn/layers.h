// Learned parameters, and the layers that are made of them.
//
// A network is a list of named parameters plus the order in which operations use them. The list is what the
// optimiser updates, what a checkpoint stores and what `weights.safetensors` contains; names are paths such as
// "encoder.block0.query.weight".
#ifndef MRA_NN_LAYERS_H
#define MRA_NN_LAYERS_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "io/safetensors.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

enum { MRA_PARAMETER_NAME = 80 };

typedef struct mra_parameter {
    char name[MRA_PARAMETER_NAME];
    mra_tensor *tensor; // on the device, with a gradient
} mra_parameter;

typedef struct mra_parameters {
    mra_device *device; // borrowed
    uint64_t seed;      // of the initial values
    mra_parameter *list;
    int count, room;
    size_t size; // elements of all parameters together
} mra_parameters;

// How a parameter begins. Element i of parameter `name` is a function of (seed, name, i) alone.
typedef enum mra_initial {
    MRA_INITIAL_ZERO,
    MRA_INITIAL_ONE,
    MRA_INITIAL_NORMAL, // N(0, scale^2)
    MRA_INITIAL_UNIFORM // uniform on (-scale, scale)
} mra_initial;

void mra_parameters_open(mra_parameters *parameters, mra_device *device, uint64_t seed);
void mra_parameters_free(mra_parameters *parameters);
// Makes a parameter; the list owns it. `*tensor` may be used until the list is freed.
mra_status mra_parameters_add(mra_parameters *parameters, mra_tensor **tensor, const char *name,
                              int rank, const int *shape, mra_initial initial, float scale,
                              mra_error *err);
// All values, one parameter after another, to `values` (parameters->size floats on the host), and back.
mra_status mra_parameters_to_host(const mra_parameters *parameters, float *values,
                                  mra_error *err);
mra_status mra_parameters_from_host(mra_parameters *parameters, const float *values,
                                    mra_error *err);
// Adds the arrays "<prefix><name>" with the values of `values` (laid out as above; borrowed) to a file.
mra_status mra_parameters_store(const mra_parameters *parameters, const char *prefix,
                                const float *values, mra_safetensors *file, mra_error *err);
// Fetches the arrays "<prefix><name>" of a file into `values`. An array that is missing or has another
// shape is MRA_BAD_INPUT naming the file, the array, its shape and the one that was expected.
mra_status mra_parameters_fetch(const mra_parameters *parameters, const char *prefix,
                                const mra_safetensors *file, const char *path, float *values,
                                mra_error *err);

// y = x W^T + b, W [out, in], both initialised uniformly on (-1/sqrt(in), 1/sqrt(in)): what PyTorch's nn.Linear
// does by default, and so what the published experiments start from.
typedef struct mra_linear_layer {
    mra_tensor *weight, *bias;
} mra_linear_layer;

mra_status mra_linear_layer_create(mra_linear_layer *layer, mra_parameters *parameters,
                                   const char *name, int in, int out, mra_error *err);
mra_tensor *mra_linear_layer_apply(const mra_linear_layer *layer, mra_tape *tape,
                                   mra_tensor *x);

// LayerNorm with gain (ones) and shift (zeros), epsilon 1e-5.
typedef struct mra_norm_layer {
    mra_tensor *gain, *shift;
} mra_norm_layer;

mra_status mra_norm_layer_create(mra_norm_layer *layer, mra_parameters *parameters,
                                 const char *name, int width, mra_error *err);
mra_tensor *mra_norm_layer_apply(const mra_norm_layer *layer, mra_tape *tape, mra_tensor *x);

#endif
