// `mra audit`: how well methods approximate given heads, and what they cost, as a table.

#include "cli/arrays.h"
#include "cli/cli.h"
#include "cli/rivals.h"

#include <math.h>
#include <string.h>

#include "core/core.h"

struct arguments {
    mra_cli_common common;
    const char *q, *k, *v, *mask;
    mra_cli_words methods, budgets, set;
    int64_t repeats;
    mra_cli_weight_files files;
};

static const mra_cli_option options[] = {
    {.name = "q",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, q),
     .help = "Queries, [n, d], [heads, n, d] or [batch, heads, n, d]: a .npy file, or a "
             ".safetensors file that holds an array q; the same for k and v."},
    {.name = "k",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .required = true,
     .offset = offsetof(struct arguments, k),
     .help = "Keys, of the same shape."},
    {.name = "v",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(struct arguments, v),
     .help =
         "Values, of the same shape; without them, values are drawn from N(0, 1) with --seed."},
    {.name = "mask",
     .argument = "FILE",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(struct arguments, mask),
     .help = "1 for a token, 0 for padding: [n] or [batch, n]."},
    {.name = "methods",
     .argument = "A,B,...",
     .kind = MRA_CLI_WORDS,
     .fallback = "mra2,mra2s",
     .offset = offsetof(struct arguments, methods),
     .help = "Methods to measure; `mra methods` lists them."},
    {.name = "budgets",
     .argument = "B,B,...",
     .kind = MRA_CLI_WORDS,
     .fallback = "1,2,4,8",
     .offset = offsetof(struct arguments, budgets),
     .help = "Values of the option `blocks` to go through, for the methods that have it; a "
             "method that takes one value per scale gets them as 8:2."},
    {.name = "set",
     .argument = "KEY=VALUE",
     .kind = MRA_CLI_REPEAT,
     .offset = offsetof(struct arguments, set),
     .help = "An option for every listed method that has it; METHOD.KEY=VALUE for one of "
             "them. May be given several times."},
    {.name = "repeats",
     .argument = "N",
     .kind = MRA_CLI_COUNT,
     .fallback = "3",
     .low = 1,
     .high = 1000,
     .offset = offsetof(struct arguments, repeats),
     .help = "How often each time is taken; the median is shown."},
    MRA_CLI_WEIGHT_OPTIONS(struct arguments),
    {0}};

const mra_cli_command mra_cli_command_audit = {
    .name = "audit",
    .summary = "error, entropy, time and memory of methods on given heads",
    .synopsis =
        (const char *const[]){
            "--q FILE --k FILE [--v FILE] [--mask FILE] [--methods A,B,...] "
            "[--budgets B,B,...] [--set KEY=VALUE]... [--repeats N] [--weights FILE] "
            "[--save-weights FILE] [--dump-random FILE]",
            NULL},
    .description =
        (const char *const[]){
            "Prints a table with tabs to stdout, one row per head, method and budget:",
            "batch, head: which head, from 0. method, blocks: the method and its budget, - "
            "for a method without one. n, d: the head's shape. entropy: of exact attention, "
            "the mean over rows in nats, computed in float64. relative_error: ||Z^ - Z||_F "
            "/ ||Z||_F against exact attention, of what `mra attend` gives for all heads "
            "together. forward_ms, both_ms: milliseconds of a "
            "forward pass, and of forward and backward, for this head alone; medians, the "
            "methods taking turns. peak_bytes: peak resident memory of forward and backward "
            "above the inputs (outputs, gradients, workspace), measured in a process of its "
            "own. certified_error: what the relative error cannot exceed, from block "
            "radii (`mra attend --certify`); inf where nothing is certain, - for a method "
            "without a certificate.",
            "What methods learn comes from --weights or is drawn with --seed.", NULL},
    .examples =
        (const char *const[]){
            "mra audit --q q.npy --k k.npy --v v.npy --methods exact,mra2 --budgets 1,2,4,8",
            "mra audit --q q.npy --k k.npy --methods mra --set mra.scales=16:4:1 --budgets 2:8",
            NULL},
    .options = options,
    .run = mra_cli_audit};

// Everything that the rows of one head need; arrays of n * d values.
typedef struct audit {
    const struct arguments *arguments;
    mra_device *device;
    mra_shape head_shape; // [1, 1, n, d]
    const mra_cli_arrays *inputs;
    mra_cli_rivals rivals, exact; // exact: the reference alone
    mra_cli_weights weights;
    const float *v;                 // of all heads
    float *made_v;                  // if v was not given
    float *z, *dz, *dq, *dk, *dv;   // of one head
    float *approximate_z, *exact_z; // of all heads
    double *entropy, *error;        // of all heads; of all rivals and heads
    double *certified;              // of all rivals and heads; NAN where there is none
} audit;

static mra_status allocate(audit *a, mra_error *err)
{
    size_t head = (size_t)a->head_shape.n * (size_t)a->head_shape.d;
    size_t all = a->inputs->q.size, heads = all / head;
    float **arrays[] = {&a->z, &a->dz, &a->dq, &a->dk, &a->dv, &a->approximate_z, &a->exact_z};
    bool complete = true;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i] = mra_aligned_calloc(i < 5 ? head : all, sizeof(float));
        complete = complete && *arrays[i] != NULL;
    }
    a->entropy = mra_aligned_calloc(heads, sizeof *a->entropy);
    a->error = mra_aligned_calloc(heads * (size_t)a->rivals.count, sizeof *a->error);
    a->certified = mra_aligned_calloc(heads * (size_t)a->rivals.count, sizeof *a->certified);
    a->v = a->inputs->v.data;
    if (a->v == NULL) a->v = a->made_v = mra_aligned_calloc(all, sizeof(float));
    if (!complete || a->entropy == NULL || a->error == NULL || a->certified == NULL ||
        a->v == NULL)
        return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu heads of %zu values", heads,
                        head);
    uint64_t seed = a->arguments->common.seed;
    if (a->made_v != NULL) mra_fill_normal(a->made_v, all, 1, seed, mra_stream("v", 0, 0));
    mra_fill_normal(a->dz, head, 1, seed, mra_stream("dz", 0, 0));
    return MRA_OK;
}

static void release(audit *a)
{
    mra_cli_free_rivals(&a->rivals);
    mra_cli_free_rivals(&a->exact);
    mra_cli_weights_close(&a->weights);
    float *arrays[] = {a->z,       a->dz,    a->dq, a->dk, a->dv, a->approximate_z,
                       a->exact_z, a->made_v};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) mra_aligned_free(arrays[i]);
    mra_aligned_free(a->entropy);
    mra_aligned_free(a->error);
    mra_aligned_free(a->certified);
    if (a->device != NULL) mra_device_close(a->device);
}

// Lets a rival work on one head of the inputs.
static void point_at(audit *a, mra_instance *instance, size_t head)
{
    size_t offset = head * (size_t)a->head_shape.n * (size_t)a->head_shape.d;
    size_t batch = head / (size_t)a->inputs->shape.heads;
    instance->q = (const float *)a->inputs->q.data + offset;
    instance->k = (const float *)a->inputs->k.data + offset;
    instance->v = a->v + offset;
    instance->mask =
        a->inputs->mask == NULL ? NULL : a->inputs->mask + batch * (size_t)a->head_shape.n;
    instance->z = a->z;
    instance->dz = a->dz;
    instance->dq = a->dq;
    instance->dk = a->dk;
    instance->dv = a->dv;
}

static mra_status peak_of(audit *a, const mra_cli_rival *rival, mra_memory *memory,
                          mra_error *err)
{
    const mra_instance *instance = &rival->instance;
    mra_peak_request request = {.method = rival->method->name,
                                .device = a->device,
                                .shape = a->head_shape,
                                .seed = a->arguments->common.seed,
                                .assignments = rival->assignment,
                                .assignment_count = rival->assignments,
                                .q = instance->q,
                                .k = instance->k,
                                .v = instance->v,
                                .mask = instance->mask,
                                .backward = true};
    return mra_measure_method_peak(&request, memory, err);
}

// Measures the memory of one rival on the head it points at and prints its row.
static mra_status print_row(audit *a, size_t head, const mra_cli_rival *rival,
                            const mra_timing *forward, const mra_timing *both, mra_error *err)
{
    size_t heads = (size_t)a->inputs->shape.heads, all = heads * (size_t)a->inputs->shape.batch;
    mra_memory memory = {0};
    char budget[64];
    mra_cli_budget_text(rival, budget, sizeof budget);
    mra_status status = peak_of(a, rival, &memory, err);
    if (status != MRA_OK) return status;
    printf("%zu\t%zu\t%s\t%s\t%d\t%d\t%.6g\t%.6g\t%.6g\t%.6g\t%zu", head / heads, head % heads,
           rival->method->name, budget, a->head_shape.n, a->head_shape.d, a->entropy[head],
           a->error[(size_t)(rival - a->rivals.rival) * all + head], 1e3 * forward->median,
           1e3 * both->median, memory.above);
    const double certified = a->certified[(size_t)(rival - a->rivals.rival) * all + head];
    if (isnan(certified))
        printf("\t-\n");
    else
        printf("\t%.6g\n", certified);
    fflush(stdout);
    return MRA_OK;
}

static mra_status audit_head(audit *a, size_t head, mra_error *err)
{
    mra_timing forward[MRA_CLI_MAX_RIVALS], both[MRA_CLI_MAX_RIVALS];
    for (int i = 0; i < a->rivals.count; i++) point_at(a, &a->rivals.rival[i].instance, head);
    mra_status status =
        mra_cli_time_rivals(&a->rivals, (int)a->arguments->repeats, forward, both, err);
    for (int i = 0; i < a->rivals.count && status == MRA_OK; i++)
        status = print_row(a, head, &a->rivals.rival[i], &forward[i], &both[i], err);
    return status;
}

// The certified relative error of every head after a forward pass over all of them.
static mra_status certify_whole(audit *a, const mra_cli_rival *rival, const float *z,
                                double *certified, mra_error *err)
{
    const mra_attention_layer *layer = rival->instance.layer;
    const size_t rows = a->inputs->q.size / (size_t)a->head_shape.d;
    const size_t heads = rows / (size_t)a->head_shape.n;
    for (size_t h = 0; h < heads; h++) certified[h] = NAN;
    if (layer->method->certify == NULL || !a->device->host_memory) return MRA_OK;
    double *row = mra_aligned_calloc(rows, sizeof *row);
    mra_certificate *certificate = mra_aligned_calloc(heads, sizeof *certificate);
    mra_status status = MRA_OK;
    if (row == NULL || certificate == NULL)
        status = mra_fail(err, MRA_NO_MEMORY, "no memory for the bounds of %zu rows", rows);
    if (status == MRA_OK)
        status = layer->method->certify(layer, rival->instance.q, rival->instance.k,
                                        rival->instance.v, rival->instance.mask, z, row,
                                        certificate, err);
    for (size_t h = 0; h < heads && status == MRA_OK; h++)
        certified[h] = certificate[h].relative;
    mra_aligned_free(row);
    mra_aligned_free(certificate);
    return status;
}

// One forward pass of a rival over all heads at once, as `mra attend` does it: methods learn and
// draw for each head of a layer, so a head alone would not be the same.
static mra_status run_whole(audit *a, mra_cli_rival *rival, float *z, double *certified,
                            mra_error *err)
{
    mra_status status = mra_cli_create_rival(rival, a->device, a->inputs->shape,
                                             a->arguments->common.seed, &a->weights, err);
    point_at(a, &rival->instance, 0);
    rival->instance.z = z;
    if (status == MRA_OK) status = mra_instance_forward(&rival->instance, err);
    if (status == MRA_OK && certified) status = certify_whole(a, rival, z, certified, err);
    mra_cli_release_rival(rival);
    return status;
}

static mra_status measure_errors(audit *a, mra_error *err)
{
    const size_t count = (size_t)a->head_shape.n * (size_t)a->head_shape.d;
    const size_t heads = a->inputs->q.size / count;
    mra_status status = run_whole(a, &a->exact.rival[0], a->exact_z, NULL, err);
    for (int i = 0; i < a->rivals.count && status == MRA_OK; i++) {
        status = run_whole(a, &a->rivals.rival[i], a->approximate_z,
                           a->certified + (size_t)i * heads, err);
        for (size_t h = 0; h < heads && status == MRA_OK; h++)
            a->error[(size_t)i * heads + h] =
                mra_relative_error(a->approximate_z + h * count, a->exact_z + h * count, count);
    }
    if (status == MRA_OK) status = mra_cli_weights_check(&a->weights, err);
    return status;
}

static mra_status prepare(audit *a, mra_error *err)
{
    const struct arguments *arguments = a->arguments;
    mra_cli_words reference = {.word = {"exact"}, .count = 1}, none = {.count = 0};
    uint64_t seed = arguments->common.seed;
    mra_status status = mra_cli_list_rivals(&a->rivals, &arguments->methods,
                                            &arguments->budgets, &arguments->set, err);
    if (status == MRA_OK)
        status = mra_cli_list_rivals(&a->exact, &reference, &none, &none, err);
    if (status == MRA_OK) status = mra_cli_device(&a->device, &arguments->common, err);
    if (status == MRA_OK)
        status = mra_cli_weights_open(&a->weights, &arguments->files, NULL,
                                      mra_cli_several_methods(&a->rivals), seed, err);
    if (status == MRA_OK) status = allocate(a, err);
    if (status == MRA_OK) status = measure_errors(a, err);
    if (status == MRA_OK)
        status = mra_cli_create_rivals(&a->rivals, a->device, a->head_shape, seed, NULL, err);
    if (status == MRA_OK)
        status =
            mra_measure_entropy(a->inputs->shape, a->inputs->q.data, a->inputs->k.data,
                                a->inputs->mask, 0, arguments->common.threads, a->entropy, err);
    return status;
}

static mra_status run_audit(audit *a, mra_error *err)
{
    size_t heads = (size_t)a->inputs->shape.batch * (size_t)a->inputs->shape.heads;
    mra_status status = prepare(a, err);
    if (status == MRA_OK) status = mra_cli_weights_write(&a->weights, err);
    if (status != MRA_OK) return status;
    printf("batch\thead\tmethod\tblocks\tn\td\tentropy\trelative_error\tforward_ms\tboth_ms\t"
           "peak_bytes\tcertified_error\n");
    mra_progress progress =
        mra_progress_start("audit", (double)heads, 0, a->arguments->common.quiet);
    for (size_t head = 0; head < heads && status == MRA_OK; head++) {
        status = audit_head(a, head, err);
        mra_progress_update(&progress, (double)head + 1, "");
    }
    if (status == MRA_OK) mra_progress_end(&progress, "");
    return status;
}

int mra_cli_audit(int argc, char **argv)
{
    struct arguments arguments;
    int exit_status;
    if (!mra_cli_parse(&mra_cli_command_audit, &arguments, argc, argv, &exit_status))
        return exit_status;
    mra_cli_inputs inputs = {
        .q = arguments.q, .k = arguments.k, .v = arguments.v, .mask = arguments.mask};
    mra_cli_arrays arrays = {0};
    mra_error err = {0};
    mra_status status = mra_cli_read_arrays(&arrays, &inputs, &err);
    if (status == MRA_OK) {
        audit a = {.arguments = &arguments,
                   .inputs = &arrays,
                   .head_shape = {1, 1, arrays.shape.n, arrays.shape.d}};
        status = run_audit(&a, &err);
        release(&a);
    }
    mra_cli_free_arrays(&arrays);
    return status == MRA_OK ? 0 : mra_cli_fail(&err);
}
