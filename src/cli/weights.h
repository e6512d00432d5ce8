// What attention methods learn and draw, in files: the options --weights, --save-weights and
// --dump-random of the subcommands that run methods, and --dweights of `mra grad`.
//
// Arrays are called as the method calls them ("projection"; `mra methods NAME` lists them).
// Where several methods stand side by side, METHOD.NAME ("linformer.projection") belongs to
// that method alone and is what --save-weights and --dump-random write; --weights takes
// METHOD.NAME if it is there, else NAME.
#ifndef MRA_CLI_WEIGHTS_H
#define MRA_CLI_WEIGHTS_H

#include "attention/attention.h"
#include "cli/arrays.h"
#include "cli/cli.h"
#include "core/arena.h"
#include "io/safetensors.h"

// A member `files` of this type in the arguments of a subcommand receives the options; a path is
// NULL where the option was not given.
typedef struct mra_cli_weight_files {
    const char *weights, *save, *random;
} mra_cli_weight_files;

extern const char mra_cli_help_weights[], mra_cli_help_save_weights[],
    mra_cli_help_dump_random[];

// The rows of a subcommand's table of options, but for --dweights.
#define MRA_CLI_WEIGHT_OPTIONS(arguments)                                             \
    {.name = "weights",                                                               \
     .argument = "FILE",                                                              \
     .kind = MRA_CLI_TEXT,                                                            \
     .offset = offsetof(arguments, files.weights),                                    \
     .help = mra_cli_help_weights},                                                   \
        {.name = "save-weights",                                                      \
         .argument = "FILE",                                                          \
         .kind = MRA_CLI_TEXT,                                                        \
         .offset = offsetof(arguments, files.save),                                   \
         .help = mra_cli_help_save_weights},                                          \
    {                                                                                 \
        .name = "dump-random", .argument = "FILE", .kind = MRA_CLI_TEXT,              \
        .offset = offsetof(arguments, files.random), .help = mra_cli_help_dump_random \
    }

typedef struct mra_cli_weights {
    mra_cli_weight_files files;
    const char *dweights;                        // path, or NULL
    bool several;                                // methods side by side: names are METHOD.NAME
    mra_safetensors *given;                      // --weights
    mra_safetensors *saved, *random, *gradients; // to be written, with the arrays in `memory`
    mra_arena memory;
    bool learns, draws; // whether any layer so far does
} mra_cli_weights;

// Reads --weights. `dweights` is the path for gradients, or NULL. Free with mra_cli_weights_close, also after a failure.
mra_status mra_cli_weights_open(mra_cli_weights *weights, const mra_cli_weight_files *files,
                                const char *dweights, bool several, uint64_t seed,
                                mra_error *err);
// Gives a layer that was just made its learned parameters from the file, if there is one. An
// array that is missing or has another shape is MRA_BAD_INPUT naming the file, the array, its
// shape and the one that was expected.
mra_status mra_cli_weights_load(mra_cli_weights *weights, const mra_attention_layer *layer,
                                mra_error *err);
// Keeps a copy of what the layer learned and drew and, if it has gone backward, of the gradients
// of what it learns, as far as they are to be written. A method that is kept a second time adds
// nothing.
mra_status mra_cli_weights_keep(mra_cli_weights *weights, const mra_attention_layer *layer,
                                mra_error *err);
// After the last layer: MRA_BAD_INPUT for an option that none of them had a use for.
mra_status mra_cli_weights_check(const mra_cli_weights *weights, mra_error *err);
// The files, as outputs for mra_cli_write_arrays.
enum { MRA_CLI_WEIGHT_OUTPUTS = 3 };
void mra_cli_weights_outputs(const mra_cli_weights *weights,
                             mra_cli_output outputs[MRA_CLI_WEIGHT_OUTPUTS]);
// Writes them now, all or none.
mra_status mra_cli_weights_write(const mra_cli_weights *weights, mra_error *err);
void mra_cli_weights_close(mra_cli_weights *weights);

// Runs `method` with the options `set` ("key=value") on what was read: what `mra attend` and
// `mra grad` do. `weights` is open and has seen no other layer. z, dq, dk, dv: arrays of q's size;
// the gradients are computed, for arrays->dout, if dq is not NULL.
mra_status mra_cli_run_method(const mra_cli_common *common, const char *method,
                              const mra_cli_words *set, mra_cli_weights *weights,
                              const mra_cli_arrays *arrays, float *z, float *dq, float *dk,
                              float *dv, mra_error *err);

#endif
