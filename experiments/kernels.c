// The kernels on a device: what they take, beside their rivals in the same process.
//
// Three tables. kernels-operations.tsv: the operations of a device's table one by one, with the bytes
// that each has to move over the time it takes, as a share of what a copy reaches, and for products
// the operations per second. kernels-attention.tsv: MRA-2 and MRA-2-s beside exact attention twice, the tiled
// kernel (kernels/exact.cu) and the plain way (product, softmax, product over a stored matrix), in
// each precision. kernels-methods.tsv: every method of the comparison through the table of
// methods, on the tape, in float32 arrays.
//
// Inputs are Gaussian. With independent rows the selection refines boxes that are scattered over the
// matrix; in trained heads neighbouring rows share columns, which the caches like (kernels/NOTES.md).
//
// Arrays stay on the device. "both" of kernels-methods.tsv ends in the mean over the sequence, whose
// gradient goes back through the method: reading z once and writing dz once are part of it.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "attention/attention.h"
#include "common.h"
#include "common_device.h"
#include "tensor/gemm.h"
#include "tensor/kernels.h"

enum { MOST_LENGTHS = 8, OPERANDS = 4, ARRAYS = 8, PRECISIONS = 3 };

static const char *const precision_name[PRECISIONS] = {"float32", "tf32", "bf16"};

typedef struct kernels_run {
    mra_experiment *experiment;
    mra_device *device;
    mra_tape *tape;
    mra_device_clock clock;
    double lengths[MOST_LENGTHS];
    size_t length_count;
    int batch, heads, width, blocks, rows, columns;
    size_t size;                                 // entries of an array at the largest length
    float *array[ARRAYS];                        // q, k, v, dz, z, dq, dk, dv, on the device
    void *half[ARRAYS];                          // the same in bf16
    double copy_bytes, product_rate[PRECISIONS]; // per second: the ceilings
    mra_cells cells;
} kernels_run;

// A row that could not be measured says why instead of numbers.
static bool is_missing(mra_status status)
{
    return status == MRA_ABSENT || status == MRA_NO_MEMORY;
}

static const char *milliseconds(const mra_timing *timing, char text[32])
{
    if (timing->repeats < 1) return "-";
    snprintf(text, 32, "%.6g", 1e3 * timing->median);
    return text;
}

// ---- Operations -----------------------------------------------------------------------------

static mra_status open_place(kernels_run *run, mra_operation_place *place, mra_error *err)
{
    mra_device *device = run->device;
    const size_t rows = (size_t)run->rows, count = rows * (size_t)run->columns;
    *place = (mra_operation_place){.device = device,
                                   .rows = rows,
                                   .columns = run->columns,
                                   .x = run->array[0],
                                   .w = run->array[1],
                                   .y = run->array[2],
                                   .z = run->array[3]};
    if (count > run->size)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: rows, columns: %zu entries, expected at most %zu, those of an "
                        "array of the largest length",
                        run->experiment->settings_path, count, run->size);
    place->statistics = device->allocate(device, (2 * rows + 4 * (size_t)run->columns) * 4);
    place->ids = device->allocate(device, rows * sizeof *place->ids);
    int32_t *ids = malloc(rows * sizeof *ids);
    if (!place->statistics || !place->ids || !ids) {
        free(ids);
        return mra_fail(err, MRA_NO_MEMORY, "kernels: no memory for %zu rows", rows);
    }
    mra_random random = mra_random_open(run->experiment->seed, 77);
    for (size_t i = 0; i < rows; i++)
        ids[i] = (int32_t)mra_random_below(&random, (uint32_t)rows);
    mra_status status =
        device->to_device(device, place->ids, ids, rows * sizeof *place->ids, err);
    free(ids);
    return status;
}

// The ceilings come first: what the first operation (a copy) moves and the second (a product) computes.
static mra_status measure_operation(kernels_run *run, mra_operation_place *place, int index,
                                    mra_precision precision, mra_error *err)
{
    const mra_device_operation *operation = mra_device_operation_at(index);
    const double count = (double)run->rows * run->columns;
    const double bytes = operation->bytes * count;
    const double operations = operation->operations * count * run->columns;
    mra_timing timing;
    run->device->precision = precision;
    mra_status status =
        run->device->kernels->fill(run->device, (size_t)count, 0, place->z, err);
    if (status == MRA_OK)
        status = mra_device_time(&run->clock, operation->pass, place, &timing, err);
    run->device->precision = MRA_FLOAT32;
    if (status != MRA_OK) return status;
    const double seconds = timing.median;
    if (index == 0) run->copy_bytes = bytes / seconds;
    if (index == 1) run->product_rate[precision] = operations / seconds;
    return mra_cells_row(&run->cells, err, "ttrrrrrrr", operation->name,
                         operations > 0 ? precision_name[precision] : "float32", bytes,
                         operations, 1e3 * seconds, 1e3 * timing.least, 1e-9 * bytes / seconds,
                         bytes / seconds / run->copy_bytes, 1e-12 * operations / seconds);
}

static mra_status measure_operations(kernels_run *run, mra_error *err)
{
    static const char *const columns[] = {"operation",   "products", "bytes",    "flop",
                                          "ms",          "least_ms", "gb_per_s", "copy_share",
                                          "tflop_per_s", NULL};
    mra_operation_place place = {0};
    mra_status status = open_place(run, &place, err);
    if (status == MRA_OK)
        status =
            mra_cells_create(run->experiment, "-operations.tsv", columns, &run->cells, err);
    for (int i = 0; status == MRA_OK && mra_device_operation_at(i); i++) {
        const int kinds = mra_device_operation_at(i)->operations > 0 ? PRECISIONS : 1;
        for (int p = 0; p < kinds && status == MRA_OK; p++)
            status = measure_operation(run, &place, i, (mra_precision)p, err);
    }
    if (status == MRA_OK)
        status = mra_cells_commit(run->experiment, "-operations.tsv", &run->cells, err);
    else
        mra_cells_close(&run->cells);
    run->device->release(run->device, place.statistics);
    run->device->release(run->device, place.ids);
    return status;
}

// ---- Attention ------------------------------------------------------------------------------

typedef struct attention_pass {
    const mra_attention_kernels *kernels;
    mra_kernel_attention *attention;
    void *const *array; // q, k, v, dz, z, dq, dk, dv
    bool both;
} attention_pass;

static mra_status pass_attention(void *context, mra_error *err)
{
    attention_pass *p = context;
    void *const *a = p->array;
    mra_status status = p->kernels->forward(p->attention, a[0], a[1], a[2], NULL, a[4], err);
    if (status != MRA_OK || !p->both) return status;
    return p->kernels->backward(p->attention, a[0], a[1], a[2], NULL, a[4], a[3], a[5], a[6],
                                a[7], false, err);
}

static mra_status time_attention(kernels_run *run, const mra_kernel_request *request,
                                 mra_timing timing[2], mra_error *err)
{
    const mra_attention_kernels *kernels = run->device->kernels->attention;
    attention_pass pass = {.kernels = kernels,
                           .array = request->bf16_arrays ? run->half : (void **)run->array};
    mra_status status = kernels->create(&pass.attention, run->device, request, err);
    for (int both = 0; both < 2 && status == MRA_OK; both++) {
        pass.both = both;
        status = mra_device_time(&run->clock, pass_attention, &pass, &timing[both], err);
    }
    if (status == MRA_OK) status = kernels->check(pass.attention, err);
    kernels->release(pass.attention);
    return status;
}

// Exact attention the plain way: A is stored, and for the way back its gradient.
typedef struct plain_pass {
    kernels_run *run;
    int n;
    float *weight, *slope, *dweight; // [batch heads, n, n]
    bool both;
} plain_pass;

static mra_status product(const plain_pass *p, bool transpose_a, bool transpose_b, int m, int n,
                          int k, float alpha, const float *a, const float *b, float *c,
                          mra_error *err)
{
    mra_device *device = p->run->device;
    const mra_product form = {.batch = (size_t)p->run->batch * (size_t)p->run->heads,
                              .m = m,
                              .n = n,
                              .k = k,
                              .transpose_a = transpose_a,
                              .transpose_b = transpose_b,
                              .alpha = alpha};
    return device->kernels->gemm(device, &form, a, b, c, false, err);
}

static mra_status pass_plain(void *context, mra_error *err)
{
    plain_pass *p = context;
    float *const *a = p->run->array;
    const mra_kernels *kernels = p->run->device->kernels;
    const int n = p->n, d = p->run->width;
    const size_t rows = (size_t)p->run->batch * (size_t)p->run->heads * (size_t)n;
    const float factor = 1 / sqrtf((float)d);
    if (product(p, false, true, n, n, d, factor, a[0], a[1], p->slope, err) != MRA_OK ||
        kernels->softmax(p->run->device, rows, n, p->slope, p->weight, err) != MRA_OK ||
        product(p, false, false, n, d, n, 1, p->weight, a[2], a[4], err) != MRA_OK)
        return err->status;
    if (!p->both) return MRA_OK;
    if (product(p, true, false, n, d, n, 1, p->weight, a[3], a[7], err) != MRA_OK ||
        product(p, false, true, n, n, d, 1, a[3], a[2], p->dweight, err) != MRA_OK ||
        kernels->softmax_backward(p->run->device, rows, n, p->weight, p->dweight, p->slope,
                                  false, err) != MRA_OK ||
        product(p, false, false, n, d, n, factor, p->slope, a[1], a[5], err) != MRA_OK)
        return err->status;
    return product(p, true, false, n, d, n, factor, p->slope, a[0], a[6], err);
}

static mra_status time_plain(kernels_run *run, int n, mra_precision precision,
                             mra_timing timing[2], mra_error *err)
{
    mra_device *device = run->device;
    const size_t bytes = (size_t)run->batch * (size_t)run->heads * (size_t)n * (size_t)n * 4;
    plain_pass pass = {.run = run, .n = n};
    float **const matrix[] = {&pass.weight, &pass.slope, &pass.dweight};
    mra_status status = MRA_OK;
    for (int i = 0; i < 3 && status == MRA_OK; i++)
        if (!(*matrix[i] = device->scratch(device, bytes)))
            status = mra_fail(err, MRA_NO_MEMORY,
                              "no memory for %d matrices of %zu bytes on the device", 3, bytes);
    device->precision = precision;
    for (int both = 0; both < 2 && status == MRA_OK; both++) {
        pass.both = both;
        status = mra_device_time(&run->clock, pass_plain, &pass, &timing[both], err);
    }
    device->precision = MRA_FLOAT32;
    for (int i = 0; i < 3; i++) device->release(device, *matrix[i]);
    return status;
}

enum { KINDS = 4 };
static const char *const kind_name[KINDS] = {"mra2", "mra2s", "exact", "exact-stored"};

static mra_status measure_attention_row(kernels_run *run, int n, int kind,
                                        mra_precision precision, bool half, mra_error *err)
{
    if (mra_cells_skip(&run->cells, 1)) return MRA_OK;
    mra_kernel_request request = {.shape = {run->batch, run->heads, n, run->width},
                                  .options = mra_options_mra2(run->blocks),
                                  .precision = precision,
                                  .bf16_arrays = half};
    request.options.sparse = kind == 1;
    if (kind == 2) request.options = (mra_options){.scales = 1, .scale = {1}};
    mra_timing timing[2] = {{.repeats = 0}};
    char text[2][32], options[32] = "-";
    const mra_status status = kind == 3 ? time_plain(run, n, precision, timing, err)
                                        : time_attention(run, &request, timing, err);
    if (status != MRA_OK && !is_missing(status)) return status;
    if (kind < 2) snprintf(options, sizeof options, "blocks=%d", run->blocks);
    return mra_cells_row(&run->cells, err, "ittttttt", n, kind_name[kind], options,
                         precision_name[precision], half ? "bf16" : "float32",
                         milliseconds(&timing[0], text[0]), milliseconds(&timing[1], text[1]),
                         status == MRA_OK ? "-" : err->message);
}

static mra_status measure_attention(kernels_run *run, mra_error *err)
{
    static const char *const columns[] = {
        "n", "method", "options", "products", "arrays", "forward_ms", "both_ms", "note", NULL};
    if (mra_cells_open(run->experiment, "-attention.tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    mra_status status = MRA_OK;
    for (size_t i = 0; i < run->length_count && status == MRA_OK; i++)
        for (int kind = 0; kind < KINDS && status == MRA_OK; kind++)
            for (int p = 0; p < PRECISIONS + 1 && status == MRA_OK; p++) {
                const bool half = p == PRECISIONS; // arrays of bf16
                if (half && kind == 3) continue;   // the table has float32 arrays alone
                const mra_precision precision = half ? MRA_BF16 : (mra_precision)p;
                mra_say(run->experiment->quiet, "kernels: n = %d, %s, products in %s%s",
                        (int)run->lengths[i], kind_name[kind], precision_name[precision],
                        half ? ", arrays of bf16" : "");
                status = measure_attention_row(run, (int)run->lengths[i], kind, precision, half,
                                               err);
            }
    if (status == MRA_OK)
        return mra_cells_commit(run->experiment, "-attention.tsv", &run->cells, err);
    mra_cells_close(&run->cells);
    return status;
}

// ---- Methods --------------------------------------------------------------------------------

typedef struct method_pass {
    kernels_run *run;
    mra_attention_layer *layer;
    float *seed; // [batch heads, d], on the host
    bool both;
} method_pass;

static mra_status pass_method(void *context, mra_error *err)
{
    method_pass *p = context;
    kernels_run *run = p->run;
    mra_tape *tape = run->tape;
    mra_tensor *operand[3];
    const int shape[4] = {run->batch, run->heads, p->layer->shape.n, run->width};
    const int groups[3] = {run->batch * run->heads, p->layer->shape.n, run->width};
    mra_tape_reset(tape);
    mra_tape_mode(tape, false, p->both, run->experiment->seed, 0);
    for (int i = 0; i < 3; i++)
        operand[i] =
            mra_wrap(tape, 4, shape, run->array[i], p->both ? run->array[5 + i] : NULL);
    mra_tensor *z =
        mra_attention_apply(p->layer, tape, operand[0], operand[1], operand[2], NULL);
    if (p->both) z = mra_mean_pool(tape, z ? mra_reshape(tape, z, 3, groups) : NULL, NULL);
    if (!z) return mra_tape_status(tape, err);
    return p->both ? mra_tape_backward_from(tape, z, p->seed, err) : MRA_OK;
}

static mra_status time_method(kernels_run *run, const mra_method *method, int n,
                              mra_timing timing[2], mra_error *err)
{
    const size_t means = (size_t)run->batch * (size_t)run->heads * (size_t)run->width;
    method_pass pass = {.run = run, .seed = malloc(means * sizeof *pass.seed)};
    if (!pass.seed) return mra_fail(err, MRA_NO_MEMORY, "no memory for %zu means", means);
    mra_fill_normal(pass.seed, means, 1, run->experiment->seed, mra_stream("means", 0, 0));
    const mra_shape shape = {run->batch, run->heads, n, run->width};
    mra_status status = mra_attention_layer_create(&pass.layer, method->name, run->device,
                                                   shape, run->experiment->seed, NULL, 0, err);
    for (int both = 0; both < 2 && status == MRA_OK; both++) {
        pass.both = both;
        for (int i = 0; i < 3 && status == MRA_OK; i++)
            status =
                run->device->kernels->fill(run->device, run->size, 0, run->array[5 + i], err);
        if (status == MRA_OK)
            status = mra_device_time(&run->clock, pass_method, &pass, &timing[both], err);
    }
    mra_tape_reset(run->tape);
    if (pass.layer) mra_attention_layer_free(pass.layer);
    free(pass.seed);
    return status;
}

static mra_status measure_method(kernels_run *run, const mra_method *method, int n,
                                 mra_precision precision, mra_error *err)
{
    if (mra_cells_skip(&run->cells, 1)) return MRA_OK;
    mra_timing timing[2] = {{.repeats = 0}};
    char text[2][32];
    run->device->precision = precision;
    const mra_status status = time_method(run, method, n, timing, err);
    run->device->precision = MRA_FLOAT32;
    if (status != MRA_OK && !is_missing(status)) return status;
    return mra_cells_row(&run->cells, err, "itttttt", n, method->name,
                         precision_name[precision], milliseconds(&timing[0], text[0]),
                         milliseconds(&timing[1], text[1]), method->learned ? "yes" : "no",
                         status == MRA_OK ? "-" : err->message);
}

static mra_status measure_methods(kernels_run *run, mra_error *err)
{
    static const char *const columns[] = {"n",       "method",  "products", "forward_ms",
                                          "both_ms", "learned", "note",     NULL};
    if (mra_cells_open(run->experiment, "-methods.tsv", columns, &run->cells, err) != MRA_OK)
        return err->status;
    mra_status status = MRA_OK;
    for (size_t i = 0; i < run->length_count && status == MRA_OK; i++)
        for (int m = 0; mra_method_at(m) && status == MRA_OK; m++) {
            mra_say(run->experiment->quiet, "kernels: n = %d, %s", (int)run->lengths[i],
                    mra_method_at(m)->name);
            for (int p = 0; p < PRECISIONS && status == MRA_OK; p += 2)
                status = measure_method(run, mra_method_at(m), (int)run->lengths[i],
                                        (mra_precision)p, err);
        }
    if (status == MRA_OK)
        return mra_cells_commit(run->experiment, "-methods.tsv", &run->cells, err);
    mra_cells_close(&run->cells);
    return status;
}

// ---- The run --------------------------------------------------------------------------------

static mra_status read_settings(kernels_run *run, mra_error *err)
{
    mra_experiment *e = run->experiment;
    int64_t value[8];
    const struct {
        const char *key;
        int64_t high;
    } whole[] = {{"batch", 4096},   {"heads", 1024},    {"width", 128},    {"blocks", 1024},
                 {"rows", 1 << 24}, {"columns", 65536}, {"passes", 10000}, {"repeats", 1000}};
    for (int i = 0; i < 8; i++)
        if (mra_experiment_int(e, whole[i].key, 1, whole[i].high, &value[i], err) != MRA_OK)
            return err->status;
    if (mra_experiment_list(e, "lengths", run->lengths, MOST_LENGTHS, &run->length_count, err))
        return err->status;
    run->batch = (int)value[0], run->heads = (int)value[1], run->width = (int)value[2];
    run->blocks = (int)value[3], run->rows = (int)value[4], run->columns = (int)value[5];
    run->clock.passes = (int)value[6], run->clock.repeats = (int)value[7];
    for (size_t i = 0; i < run->length_count; i++) {
        if (!(run->lengths[i] >= 1 && run->lengths[i] <= 1 << 20))
            return mra_fail(err, MRA_BAD_INPUT, "%s: lengths: %g, expected 1 to %d",
                            e->settings_path, run->lengths[i], 1 << 20);
        const size_t size = (size_t)run->batch * (size_t)run->heads * (size_t)run->width *
                            (size_t)run->lengths[i];
        if (size > run->size) run->size = size;
    }
    return MRA_OK;
}

// float32 to bf16, to nearest, ties to even.
static uint16_t to_half(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static mra_status open_arrays(kernels_run *run, mra_error *err)
{
    mra_device *device = run->device;
    float *values = mra_aligned_calloc(run->size, sizeof *values);
    uint16_t *halves = mra_aligned_calloc(run->size, sizeof *halves);
    mra_status status =
        values && halves ? MRA_OK
                         : mra_fail(err, MRA_NO_MEMORY, "no memory for %zu entries", run->size);
    for (int i = 0; i < ARRAYS && status == MRA_OK; i++) {
        run->array[i] = device->allocate(device, run->size * sizeof *values);
        run->half[i] = device->allocate(device, run->size * sizeof *halves);
        if (!run->array[i] || !run->half[i])
            status = mra_fail(err, MRA_NO_MEMORY,
                              "device '%s' has no memory for %d arrays of %zu entries in "
                              "float32 and bf16",
                              device->name, ARRAYS, run->size);
        if (i >= OPERANDS || status != MRA_OK) continue;
        mra_fill_normal(values, run->size, 1, run->experiment->seed,
                        mra_stream("kernels", (uint64_t)i, 0));
        for (size_t e = 0; e < run->size; e++) halves[e] = to_half(values[e]);
        status =
            device->to_device(device, run->array[i], values, run->size * sizeof *values, err);
        if (status == MRA_OK)
            status = device->to_device(device, run->half[i], halves, run->size * sizeof *halves,
                                       err);
    }
    mra_aligned_free(values);
    mra_aligned_free(halves);
    run->clock.probe = run->array[0];
    run->clock.device = device;
    return status;
}

static void close_run(kernels_run *run)
{
    for (int i = 0; i < ARRAYS && run->device; i++) {
        run->device->release(run->device, run->array[i]);
        run->device->release(run->device, run->half[i]);
    }
    if (run->tape) mra_tape_free(run->tape);
    mra_device_close(run->device);
}

static mra_status measure_all(kernels_run *run, mra_error *err)
{
    mra_status status = mra_tape_create(&run->tape, run->device, err);
    if (status == MRA_OK) status = open_arrays(run, err);
    if (status == MRA_OK) status = measure_operations(run, err);
    if (status == MRA_OK) status = measure_attention(run, err);
    return status == MRA_OK ? measure_methods(run, err) : status;
}

static mra_status run_kernels(mra_experiment *experiment, mra_error *err)
{
    kernels_run run = {.experiment = experiment};
    const char *device = mra_experiment_text(experiment, "device");
    const char *gpu = getenv("MRA_GPU"); // run.sh: its name, its driver
    if (read_settings(&run, err) != MRA_OK) return err->status;
    bool done;
    if (mra_experiment_fact(experiment, err, "machine %s", gpu ? gpu : "-") != MRA_OK ||
        mra_experiment_begin(experiment, &done, err) != MRA_OK || done)
        return err->status;
    if (mra_device_open(&run.device, device ? device : "cuda", 1, err) != MRA_OK)
        return err->status;
    mra_status status = MRA_OK;
    if (!run.device->kernels->attention)
        status = mra_fail(err, MRA_BAD_INPUT,
                          "%s: device: '%s', expected one that has kernels: cuda or simt",
                          experiment->settings_path, run.device->name);
    mra_record_text(experiment->record, "device", run.device->name);
    mra_record_text(experiment->record, "gpu", gpu ? gpu : "-");
    if (status == MRA_OK) status = measure_all(&run, err);
    close_run(&run);
    return status;
}

int main(int argc, char **argv)
{
    return mra_experiment_main(
        &(mra_experiment_about){"kernels", "1", "time of the kernels on a device"}, run_kernels,
        argc, argv);
}
