// The arrays of `mra attend`, `mra grad` and `mra audit`: reading and checking what comes in,
// writing what goes out all together or not at all.
#ifndef MRA_CLI_ARRAYS_H
#define MRA_CLI_ARRAYS_H

#include <stdint.h>

#include "core/error.h"
#include "cli/cli.h"
#include "io/npy.h"
#include "io/safetensors.h"
#include "mra/mra.h"

// Which files to read; NULL for one that is not wanted. A name that ends in .safetensors means the
// float32 array q, k, v or dout of that file.
typedef struct mra_cli_inputs {
    const char *q, *k, *v, *mask, *dout;
} mra_cli_inputs;

// What was read: float32 arrays [n, d], [heads, n, d] or [batch, heads, n, d], all of q's shape
// (empty where not wanted), and the mask as [batch][n] bytes or NULL.
typedef struct mra_cli_arrays {
    mra_npy q, k, v, dout;
    mra_shape shape; // batch and heads are 1 where q has no such dimension
    uint8_t *mask;
} mra_cli_arrays;

// Reads and checks. MRA_BAD_INPUT names the file and the index of a NaN or infinity, or both
// files and shapes where shapes differ. The mask is [n] (for every sequence) or [batch, n]. On
// failure nothing is held.
mra_status mra_cli_read_arrays(mra_cli_arrays *arrays, const mra_cli_inputs *inputs,
                               mra_error *err);
void mra_cli_free_arrays(mra_cli_arrays *arrays);

// One file to write: .npy, float32 of q's shape; or, with `file`, that safetensors file.
// `option` is what the user called it, for messages.
typedef struct mra_cli_output {
    const char *option, *path;
    const float *data;
    const mra_safetensors *file;
    bool per_row; // of q's shape without the last dimension
} mra_cli_output;

// Writes all `count` (at most 8) files, arrays with the shape of `like` (NULL where there are none), or none: every file is
// complete on disk under a temporary name before the first gets its final name. Outputs with a
// NULL path are left out; two outputs of the same path, or a folder as path, are MRA_BAD_INPUT.
mra_status mra_cli_write_arrays(const mra_cli_output *outputs, int count, const mra_npy *like,
                                mra_error *err);

#endif
