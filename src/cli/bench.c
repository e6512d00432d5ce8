// `mra bench attention`: speed and memory of methods on random input, with the machine's own
// matrix product beside them as the yardstick.
//
// Order matters here. Memory comes first, while this process holds nothing, since a child
// starts with what its parent holds. Then all rivals are timed in turns. The rate of the large
// matrix product is taken before and after, and the higher one is printed.

#include "cli/cli.h"
#include "cli/rivals.h"

#include <math.h>
#include <string.h>

#include "core/core.h"
#include "tensor/gemm.h"

enum { SGEMM_SIZE = 2048 };

struct arguments {
    mra_cli_common common;
    mra_cli_numbers n;
    int64_t heads, d, repeats;
    const char *blocks;
    mra_cli_words methods, set;
    mra_cli_weight_files files;
};

static const mra_cli_option options[] = {
    {.name = "n",
     .argument = "N,N,...",
     .kind = MRA_CLI_COUNTS,
     .fallback = "4096",
     .low = 1,
     .high = 1 << 24,
     .offset = offsetof(struct arguments, n),
     .help = "Numbers of tokens; the suffix k means 1024."},
    {.name = "heads",
     .argument = "H",
     .kind = MRA_CLI_COUNT,
     .fallback = "12",
     .low = 1,
     .high = 4096,
     .offset = offsetof(struct arguments, heads),
     .help = "Heads."},
    {.name = "d",
     .argument = "D",
     .kind = MRA_CLI_COUNT,
     .fallback = "64",
     .low = 1,
     .high = 256,
     .offset = offsetof(struct arguments, d),
     .help = "Dimensions of a head."},
    {.name = "blocks",
     .argument = "B",
     .kind = MRA_CLI_TEXT,
     .offset = offsetof(struct arguments, blocks),
     .help = "Value of the option `blocks` for the methods that have it (default: theirs)."},
    {.name = "methods",
     .argument = "A,B,...",
     .kind = MRA_CLI_WORDS,
     .fallback = "exact,mra2,mra2s",
     .offset = offsetof(struct arguments, methods),
     .help = "Methods to measure; `mra methods` lists them."},
    {.name = "set",
     .argument = "KEY=VALUE",
     .kind = MRA_CLI_REPEAT,
     .offset = offsetof(struct arguments, set),
     .help = "An option for every listed method that has it; METHOD.KEY=VALUE for one of "
             "them. May be given several times."},
    {.name = "repeats",
     .argument = "R",
     .kind = MRA_CLI_COUNT,
     .fallback = "5",
     .low = 1,
     .high = 1000,
     .offset = offsetof(struct arguments, repeats),
     .help = "How often each time is taken; the median is shown."},
    MRA_CLI_WEIGHT_OPTIONS(struct arguments),
    {0}};

const mra_cli_command mra_cli_command_bench = {
    .name = "bench",
    .summary = "speed and memory of methods on random input",
    .synopsis =
        (const char *const[]){
            "attention [--n N,N,...] [--heads H] [--d D] [--blocks B] "
            "[--methods A,B,...] [--set KEY=VALUE]... [--repeats R] [--weights FILE] "
            "[--save-weights FILE] [--dump-random FILE]",
            NULL},
    .description =
        (const char *const[]){
            "Prints a table with tabs to stdout, one row per number of tokens and method, "
            "for queries, keys, values and gradients drawn from N(0, 1):",
            "method, n, heads, d, blocks: what was run; blocks is - for a method without "
            "that option. forward_ms, both_ms: milliseconds of a forward pass, and of "
            "forward and backward, over all heads; medians, the methods taking turns so "
            "that a drift of the clock hits all alike. peak_mib: peak resident MiB of a "
            "process that makes the inputs, runs forward and backward and does nothing "
            "else: program, libraries, inputs, outputs, gradients and workspace. gflops: "
            "floating-point operations that the method's forward pass really does, divided "
            "by its time. sgemm_gflops: the same rate for a product of two square float32 "
            "matrices of size 2048 on as many threads, the higher of two taken before and "
            "after. forward_least_ms, both_least_ms: the shortest of the repeats. threads, "
            "repeats: as they were.",
            "Operations of exact attention are 4 n^2 d + 2 n^2 a head; those of the "
            "multi-resolution methods are counted box by box: 2 d for every logit, 2 d + 2 "
            "for every box that is kept, and the pooling. - means that they are not counted.",
            "What methods learn comes from --weights or is drawn with --seed. These files, and "
            "those of --save-weights and --dump-random, are for one number of tokens.",
            NULL},
    .examples =
        (const char *const[]){
            "mra bench attention --n 4096 --heads 12 --d 64",
            "mra bench attention --n 4k,16k,64k --heads 1 --d 64 --methods mra2 --blocks 8",
            NULL},
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
    .run = mra_cli_bench};

typedef struct bench {
    const struct arguments *arguments;
    mra_device *device;
    mra_cli_rivals rivals;
    mra_cli_weights weights;
    float *arrays; // q, k, v, z, dz, dq, dk, dv
} bench;

static mra_status measure_memory(const bench *b, mra_shape shape, mra_memory *memory,
                                 mra_error *err)
{
    mra_status status = MRA_OK;
    for (int i = 0; i < b->rivals.count && status == MRA_OK; i++) {
        const mra_cli_rival *rival = &b->rivals.rival[i];
        mra_peak_request request = {.method = rival->method->name,
                                    .device = b->device,
                                    .shape = shape,
                                    .seed = b->arguments->common.seed,
                                    .assignments = rival->assignment,
                                    .assignment_count = rival->assignments,
                                    .backward = true};
        status = mra_measure_method_peak(&request, &memory[i], err);
    }
    return status;
}

// Draws the inputs and lets every rival work on them.
static mra_status make_arrays(bench *b, mra_shape shape, mra_error *err)
{
    size_t size = (size_t)shape.heads * (size_t)shape.n * (size_t)shape.d;
    size_t room = (size + 15) / 16 * 16; // every array starts on a cache line
    uint64_t seed = b->arguments->common.seed;
    b->arrays = mra_aligned_calloc(8 * room, sizeof *b->arrays);
    if (b->arrays == NULL)
        return mra_fail(err, MRA_NO_MEMORY, "no memory for 8 arrays of %zu values", size);
    float *q = b->arrays, *k = q + room, *v = k + room, *z = v + room;
    float *dz = z + room, *dq = dz + room, *dk = dq + room, *dv = dk + room;
    mra_fill_normal(q, size, 1, seed, mra_stream("q", 0, 0));
    mra_fill_normal(k, size, 1, seed, mra_stream("k", 0, 0));
    mra_fill_normal(v, size, 1, seed, mra_stream("v", 0, 0));
    mra_fill_normal(dz, size, 1, seed, mra_stream("dz", 0, 0));
    for (int i = 0; i < b->rivals.count; i++) {
        mra_instance *instance = &b->rivals.rival[i].instance;
        instance->q = q, instance->k = k, instance->v = v;
        instance->z = z, instance->dz = dz;
        instance->dq = dq, instance->dk = dk, instance->dv = dv;
    }
    return MRA_OK;
}

static void print_rows(const bench *b, mra_shape shape, const mra_timing *forward,
                       const mra_timing *both, const mra_memory *memory, double sgemm)
{
    for (int i = 0; i < b->rivals.count; i++) {
        const mra_cli_rival *rival = &b->rivals.rival[i];
        char budget[64], rate[32] = "-";
        double operations = mra_measure_operations(rival->instance.layer);
        mra_cli_budget_text(rival, budget, sizeof budget);
        if (!isnan(operations))
            snprintf(rate, sizeof rate, "%.5g", operations / forward[i].median / 1e9);
        printf("%s\t%d\t%d\t%d\t%s\t%.6g\t%.6g\t%.6g\t%s\t%.5g\t%.6g\t%.6g\t%d\t%d\n",
               rival->method->name, shape.n, shape.heads, shape.d, budget,
               1e3 * forward[i].median, 1e3 * both[i].median,
               (double)memory[i].peak / 1048576.0, rate, sgemm, 1e3 * forward[i].least,
               1e3 * both[i].least, b->arguments->common.threads, forward[i].repeats);
    }
    fflush(stdout);
}

static mra_status bench_size(bench *b, int n, mra_error *err)
{
    const struct arguments *arguments = b->arguments;
    mra_shape shape = {1, (int)arguments->heads, n, (int)arguments->d};
    mra_timing forward[MRA_CLI_MAX_RIVALS], both[MRA_CLI_MAX_RIVALS];
    mra_memory memory[MRA_CLI_MAX_RIVALS];
    double sgemm = 0;
    mra_status status = measure_memory(b, shape, memory, err);
    if (status == MRA_OK)
        status = mra_cli_create_rivals(&b->rivals, b->device, shape, arguments->common.seed,
                                       NULL, err);
    for (int i = 0; i < b->rivals.count && status == MRA_OK; i++)
        status = mra_cli_weights_load(&b->weights, b->rivals.rival[i].instance.layer, err);
    if (status == MRA_OK) status = make_arrays(b, shape, err);
    if (status == MRA_OK) {
        sgemm = mra_sgemm_rate(SGEMM_SIZE, arguments->common.threads);
        status = mra_cli_time_rivals(&b->rivals, (int)arguments->repeats, forward, both, err);
    }
    if (status == MRA_OK) {
        sgemm = fmax(sgemm, mra_sgemm_rate(SGEMM_SIZE, arguments->common.threads));
        print_rows(b, shape, forward, both, memory, sgemm);
    }
    mra_cli_release_rivals(&b->rivals);
    mra_aligned_free(b->arrays);
    b->arrays = NULL;
    return status;
}

// Makes all layers once: what is wrong with options or weights shows before the first row. The
// files that were asked for are written here.
static mra_status check_sizes(bench *b, mra_error *err)
{
    const struct arguments *arguments = b->arguments;
    mra_status status =
        mra_cli_weights_open(&b->weights, &arguments->files, NULL,
                             mra_cli_several_methods(&b->rivals), arguments->common.seed, err);
    if (status == MRA_OK && arguments->n.count > 1 &&
        (arguments->files.weights || arguments->files.save || arguments->files.random))
        status = mra_fail(err, MRA_BAD_INPUT,
                          "--weights, --save-weights and --dump-random go with one number of "
                          "tokens; --n has %d",
                          arguments->n.count);
    for (int i = 0; i < arguments->n.count && status == MRA_OK; i++) {
        mra_shape shape = {1, (int)arguments->heads, (int)arguments->n.value[i],
                           (int)arguments->d};
        status = mra_cli_create_rivals(&b->rivals, b->device, shape, arguments->common.seed,
                                       &b->weights, err);
        mra_cli_release_rivals(&b->rivals);
    }
    return status;
}

static mra_status run_bench(bench *b, mra_error *err)
{
    const struct arguments *arguments = b->arguments;
    mra_cli_words budget = {.word = {arguments->blocks}, .count = arguments->blocks != NULL};
    mra_status status =
        mra_cli_list_rivals(&b->rivals, &arguments->methods, &budget, &arguments->set, err);
    if (status == MRA_OK) status = mra_cli_device(&b->device, &arguments->common, err);
    if (status == MRA_OK) status = check_sizes(b, err);
    if (status != MRA_OK) return status;
    printf("method\tn\theads\td\tblocks\tforward_ms\tboth_ms\tpeak_mib\tgflops\tsgemm_gflops\t"
           "forward_least_ms\tboth_least_ms\tthreads\trepeats\n");
    fflush(stdout);
    for (int i = 0; i < arguments->n.count && status == MRA_OK; i++) {
        mra_say(arguments->common.quiet, "bench: n = %.0f, %d methods, %d repeats",
                arguments->n.value[i], b->rivals.count, (int)arguments->repeats);
        status = bench_size(b, (int)arguments->n.value[i], err);
    }
    return status;
}

int mra_cli_bench(int argc, char **argv)
{
    struct arguments arguments;
    int exit_status;
    if (!mra_cli_parse(&mra_cli_command_bench, &arguments, argc, argv, &exit_status))
        return exit_status;
    const char *what = arguments.common.operands[0];
    if (strcmp(what, "attention") != 0)
        return mra_cli_misuse(&mra_cli_command_bench,
                              "unknown benchmark '%s': expected attention", what);
    mra_error err = {0};
    bench b = {.arguments = &arguments};
    mra_status status = run_bench(&b, &err);
    mra_cli_free_rivals(&b.rivals);
    mra_cli_weights_close(&b.weights);
    if (b.device != NULL) mra_device_close(b.device);
    return status == MRA_OK ? 0 : mra_cli_fail(&err);
}
