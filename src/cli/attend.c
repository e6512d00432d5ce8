// `mra attend`: one forward pass of any method over arrays from files.

#include "cli/arrays.h"
#include "cli/certify.h"
#include "cli/cli.h"
#include "cli/weights.h"

#include "core/core.h"

struct arguments {
    mra_cli_common common;
    const char *method, *q, *k, *v, *mask, *out, *certify;
    double tolerance;
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
    {.name = "out",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, out),
     .help = "Receives the output: float32, of the shape of the queries."},
    {.name = "certify",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(struct arguments, certify),
     .help = "Receives, for mra2, mra2s and mra, a bound on the distance of every row of the "
             "output from exact attention: float32, of the shape of the queries without the "
             "last dimension. A table on stdout sums up each head."},
    {.name = "tolerance",
     .argument = "X",
     .kind = MRA_CLI_REAL,
     .low = 1e-9,
     .high = 1e9,
     .offset = offsetof(struct arguments, tolerance),
     .help = "For mra2: refine until the certified relative error of each head is at most X, "
             "or everything is refined."},
    MRA_CLI_WEIGHT_OPTIONS(struct arguments),
    {0}};

const mra_cli_command mra_cli_command_attend = {
    .name = "attend",
    .summary = "attention of any method on .npy arrays",
    .synopsis = (const char *const[]){"--method NAME [--set KEY=VALUE]... --q FILE --k FILE "
                                      "--v FILE [--mask FILE] --out FILE [--weights FILE] "
                                      "[--save-weights FILE] [--dump-random FILE] "
                                      "[--certify FILE] [--tolerance X]",
                                      NULL},
    .description =
        (const char *const[]){
            "Computes softmax(Q K^T / sqrt(d)) V, exactly or as the method approximates it, "
            "for arrays in NumPy's .npy format: [n, d] for one head, [heads, n, d], or "
            "[batch, heads, n, d], of float16, float32 or float64, all three of the same "
            "shape.",
            "What a method learns (`mra methods NAME` lists it) comes from --weights or is "
            "drawn with --seed, as is all else that is random; --save-weights and "
            "--dump-random write both down, so that another program can compute the same.",
            "With --certify or --tolerance the result comes with a certificate, from the radii "
            "of blocks and without exact attention: no row of the output is farther from exact "
            "attention than its bound, and no head by more than certified_relative of its norm "
            "(inf: nothing is certain). trivial_rows: rows of which only is known that both "
            "outputs are means of the values; blocks: what a tolerance made it refine, per row "
            "of boxes.",
            "The output appears whole under its name or not at all. An input with a NaN or "
            "an infinity is refused.",
            NULL},
    .examples =
        (const char *const[]){
            "mra attend --method exact --q q.npy --k k.npy --v v.npy --out z.npy",
            "mra attend --method mra2 --set blocks=4 --q q.npy --k k.npy --v v.npy --out z.npy",
            "mra attend --method mra2 --tolerance 0.01 --certify bound.npy --q q.npy --k k.npy "
            "--v v.npy --out z.npy",
            "mra attend --method linformer --weights w.safetensors --q q.npy --k k.npy "
            "--v v.npy --out z.npy",
            NULL},
    .options = options,
    .run = mra_cli_attend};

static mra_status attend(const struct arguments *arguments, const mra_cli_arrays *arrays,
                         mra_cli_weights *weights, float *z, mra_cli_certified *certified,
                         mra_error *err)
{
    certified->tolerance = arguments->tolerance;
    if (arguments->certify == NULL && arguments->tolerance == 0)
        return mra_cli_run_method(&arguments->common, arguments->method, &arguments->set,
                                  weights, arrays, z, NULL, NULL, NULL, err);
    return mra_cli_run_certified(&arguments->common, arguments->method, &arguments->set,
                                 weights, arrays, z, certified, err);
}

int mra_cli_attend(int argc, char **argv)
{
    struct arguments arguments;
    int exit_status;
    if (!mra_cli_parse(&mra_cli_command_attend, &arguments, argc, argv, &exit_status))
        return exit_status;
    mra_cli_inputs inputs = {
        .q = arguments.q, .k = arguments.k, .v = arguments.v, .mask = arguments.mask};
    mra_cli_arrays arrays = {0};
    mra_cli_weights weights = {0};
    mra_cli_certified certified = {0};
    float *z = NULL;
    mra_error err = {0};
    mra_status status = mra_cli_read_arrays(&arrays, &inputs, &err);
    if (status == MRA_OK && (z = mra_aligned_calloc(arrays.q.size, sizeof *z)) == NULL)
        status = mra_fail(&err, MRA_NO_MEMORY, "no memory for the output");
    if (status == MRA_OK)
        status = mra_cli_weights_open(&weights, &arguments.files, NULL, false,
                                      arguments.common.seed, &err);
    if (status == MRA_OK) status = attend(&arguments, &arrays, &weights, z, &certified, &err);
    mra_cli_output outputs[2 + MRA_CLI_WEIGHT_OUTPUTS] = {
        {.option = "out", .path = arguments.out, .data = z},
        {.option = "certify",
         .path = arguments.certify,
         .data = certified.bound,
         .per_row = true}};
    mra_cli_weights_outputs(&weights, outputs + 2);
    if (status == MRA_OK)
        status = mra_cli_write_arrays(outputs, 2 + MRA_CLI_WEIGHT_OUTPUTS, &arrays.q, &err);
    if (status == MRA_OK && certified.certificate != NULL)
        mra_cli_print_certified(&certified, arrays.shape);
    mra_cli_certified_free(&certified);
    mra_cli_weights_close(&weights);
    mra_aligned_free(z);
    mra_cli_free_arrays(&arrays);
    return status == MRA_OK ? 0 : mra_cli_fail(&err);
}
