// `mra grad`: forward and backward of any method over arrays from files.

#include "cli/arrays.h"
#include "cli/cli.h"
#include "cli/weights.h"

#include "core/core.h"

struct arguments {
    mra_cli_common common;
    const char *method, *q, *k, *v, *mask, *dout, *out, *dq, *dk, *dv, *dweights;
    mra_cli_words set;
    mra_cli_weight_files files;
};

static const mra_cli_option options[] = {
    {.name = "method",
     .argument = "NAME",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, method),
     .help = "Attention method; `mra methods` lists them."},
    {.name = "set",
     .argument = "KEY=VALUE",
     .kind = MRA_CLI_REPEAT,
     .offset = offsetof(struct arguments, set),
     .help = "An option of the method, e.g. blocks=4; `mra methods NAME` lists them. May be "
             "given several times."},
    {.name = "q",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, q),
     .help = "Queries."},
    {.name = "k",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, k),
     .help = "Keys."},
    {.name = "v",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, v),
     .help = "Values."},
    {.name = "mask",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(struct arguments, mask),
     .help = "1 for a token, 0 for padding: [n] or [batch, n]. Padded keys are invisible, "
             "padded query rows give 0."},
    {.name = "dout",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, dout),
     .help = "Gradient with respect to the output, of the shape of the queries."},
    {.name = "dq",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, dq),
     .help = "Receives the gradient with respect to the queries."},
    {.name = "dk",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, dk),
     .help = "Receives the gradient with respect to the keys."},
    {.name = "dv",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, dv),
     .help = "Receives the gradient with respect to the values."},
    {.name = "out",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(struct arguments, out),
     .help = "Receives the output itself, if wanted."},
    {.name = "dweights",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(struct arguments, dweights),
     .help = "Receives the gradients with respect to what the method learns, if wanted: "
             "safetensors, names as with --weights."},
    MRA_CLI_WEIGHT_OPTIONS(struct arguments),
    {0}};

const mra_cli_command mra_cli_command_grad = {
    .name = "grad",
    .summary = "gradients of any method on .npy arrays",
    .synopsis =
        (const char *const[]){
            "--method NAME [--set KEY=VALUE]... --q FILE --k FILE --v FILE [--mask FILE] "
            "--dout FILE --dq FILE --dk FILE --dv FILE [--out FILE] [--weights FILE] "
            "[--dweights FILE] [--save-weights FILE] [--dump-random FILE]",
            NULL},
    .description =
        (const char *const[]){
            "Computes Z as `mra attend` does, and the gradients of <dout, Z> with respect "
            "to Q, K and V, as the method goes back through its own approximation. What a "
            "method chooses (which boxes to refine) is held fixed: no gradient flows "
            "through the choice.",
            "What a method learns comes from --weights or is drawn with --seed, as with `mra "
            "attend`.",
            "All arrays have one shape: [n, d], [heads, n, d] or [batch, heads, n, d]. The "
            "outputs are float32. All of them are written, or none.",
            NULL},
    .examples =
        (const char *const[]){
            "mra grad --method mra2 --q q.npy --k k.npy --v v.npy --dout g.npy --dq dq.npy "
            "--dk dk.npy --dv dv.npy",
            NULL},
    .options = options,
    .run = mra_cli_grad};

// Z, dQ, dK and dV, and where they go.
static mra_status run(const struct arguments *arguments, mra_cli_weights *weights,
                      const mra_cli_arrays *arrays, mra_error *err)
{
    enum { RESULTS = 4, OUTPUTS = RESULTS + MRA_CLI_WEIGHT_OUTPUTS };
    size_t size = arrays->q.size;
    float *results = mra_aligned_calloc(size, 4 * sizeof *results);
    if (results == NULL) return mra_fail(err, MRA_NO_MEMORY, "no memory for the gradients");
    float *z = results, *dq = z + size, *dk = dq + size, *dv = dk + size;
    mra_status status =
        mra_cli_run_method(&arguments->common, arguments->method, &arguments->set, weights,
                           arrays, z, dq, dk, dv, err);
    mra_cli_output outputs[OUTPUTS] = {{"out", arguments->out, z, NULL, false},
                                       {"dq", arguments->dq, dq, NULL, false},
                                       {"dk", arguments->dk, dk, NULL, false},
                                       {"dv", arguments->dv, dv, NULL, false}};
    mra_cli_weights_outputs(weights, outputs + RESULTS);
    if (status == MRA_OK) status = mra_cli_write_arrays(outputs, OUTPUTS, &arrays->q, err);
    mra_aligned_free(results);
    return status;
}

int mra_cli_grad(int argc, char **argv)
{
    struct arguments arguments;
    int exit_status;
    if (!mra_cli_parse(&mra_cli_command_grad, &arguments, argc, argv, &exit_status))
        return exit_status;
    mra_cli_inputs inputs = {.q = arguments.q,
                             .k = arguments.k,
                             .v = arguments.v,
                             .mask = arguments.mask,
                             .dout = arguments.dout};
    mra_cli_arrays arrays = {0};
    mra_cli_weights weights = {0};
    mra_error err = {0};
    mra_status status = mra_cli_read_arrays(&arrays, &inputs, &err);
    if (status == MRA_OK)
        status = mra_cli_weights_open(&weights, &arguments.files, arguments.dweights, false,
                                      arguments.common.seed, &err);
    if (status == MRA_OK) status = run(&arguments, &weights, &arrays, &err);
    mra_cli_weights_close(&weights);
    mra_cli_free_arrays(&arrays);
    return status == MRA_OK ? 0 : mra_cli_fail(&err);
}
