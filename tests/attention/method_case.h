// One way to check every method of the comparison: against the dense definition in float64 that
// the method's test writes down by itself, forward and backward, with and without a mask, at odd
// lengths, and from the program's table of methods.
//
// The definition sees one head: Q, K, V in float64, the mask, the layer (for its options, its
// learned parameters and what it drew at random), and the unperturbed inputs in float32, from
// which discrete choices (buckets, blocks) are taken, so that a difference quotient does not
// step over one. Gradients are compared with central differences of the definition along random
// directions: one of Q alone, one of K, one of V.
//
//     static void definition(const method_case *c, double *const x[3], double *z) { ... }
//     method_report(&(method_check){.method = "linformer", .definition = definition});
//
// prints one line of the table in the log, as a TAP comment: the method, the largest relative
// differences forward and backward, with a mask and at odd lengths; and fails above `tolerance`.
// `make check` collects the lines of all methods in a table of its own (MRA_METHOD_TABLE names
// the file).
#ifndef MRA_TESTS_ATTENTION_METHOD_CASE_H
#define MRA_TESTS_ATTENTION_METHOD_CASE_H

#include "dense.h"

#include <stdio.h>

#include "../tensor/devices.h"
#include "attention/attention.h"

// What the definition is asked for: one head of one example.
typedef struct method_case {
    const mra_attention_layer *layer;
    int n, d;
    int example, head;      // which: for what is drawn or learned per head
    const uint8_t *mask;    // [n] or NULL
    const float *q, *k, *v; // [n][d], unperturbed
    const void *context;    // the test's own
} method_case;

// z[n][d] of this head from x = {q, k, v}; rows of masked queries are 0.
typedef void (*method_definition)(const method_case *c, double *const x[3], double *z);

typedef struct method_check {
    const char *method;
    const char *options[MRA_METHOD_OPTIONS]; // "name=value", as many as are not NULL
    const char *label;                       // in the log; NULL: the method's name
    method_definition definition;
    const void *context;
    double tolerance;          // forward; 0: 1e-5
    double gradient_tolerance; // 0: 1e-5
    double kernel_factor;      // tolerances on devices of kernels/, relative to these; 0: 1
    double deviation;          // of Q and K; 0: 1
    // Lengths to try instead of {1, 31, 33, 512, 1000}: as many as are not 0.
    int lengths[8];
    bool without_gradient; // check the forward pass alone
    mra_shape shape;       // batch, heads and d where they are not 0; default 1, 2, 64 and 32
} method_check;

typedef struct method_worst { // below 0: not measured
    double forward, backward, mask, odd;
} method_worst;

static inline size_t method_head_size(mra_shape shape)
{
    return (size_t)shape.n * (size_t)shape.d;
}

// The definition for all heads, of inputs moved by `step` along `direction` (NULL: not moved).
static inline void method_define(const method_check *check, const mra_attention_layer *layer,
                                 const dense_arrays *arrays, const float *const direction[3],
                                 double step, double *z)
{
    const mra_shape shape = arrays->shape;
    const size_t size = method_head_size(shape);
    double *x[3];
    for (int i = 0; i < 3; i++) assert_non_null(x[i] = malloc(size * sizeof *x[i]));
    for (int head = 0; head < shape.batch * shape.heads; head++) {
        const size_t at = (size_t)head * size;
        for (int i = 0; i < 3; i++)
            for (size_t e = 0; e < size; e++)
                x[i][e] =
                    arrays->x[i][at + e] + (direction[i] ? step * direction[i][at + e] : 0.0);
        const method_case c = {
            .layer = layer,
            .n = shape.n,
            .d = shape.d,
            .example = head / shape.heads,
            .head = head % shape.heads,
            .mask = arrays->mask ? arrays->mask + head / shape.heads * shape.n : NULL,
            .q = arrays->x[DENSE_Q] + at,
            .k = arrays->x[DENSE_K] + at,
            .v = arrays->x[DENSE_V] + at,
            .context = check->context};
        check->definition(&c, x, z + at);
    }
    for (int i = 0; i < 3; i++) free(x[i]);
}

// |<gradient, u> - difference quotient| / ||gradient|| along one random direction u of operand
// `which`. The norm is that of its own gradient, or a twentieth of all three where that is more;
// for one token, whose gradients of Q and K are often 0 by definition and rounding in practice,
// that of all three.
static inline double method_gradient_error(const method_check *check,
                                           const mra_attention_layer *layer,
                                           const dense_arrays *arrays, int which)
{
    const size_t size = dense_size(arrays->shape);
    const double step = 1e-5;
    float *u = dense_normal(size, 1.0f, 50 + (uint64_t)which);
    const float *direction[3] = {NULL, NULL, NULL};
    direction[which] = u;
    double *above = malloc(size * sizeof *above), *below = malloc(size * sizeof *below);
    assert_non_null(above);
    assert_non_null(below);
    method_define(check, layer, arrays, direction, step, above);
    method_define(check, layer, arrays, direction, -step, below);
    double quotient = 0, slope = 0, own = 0, all = 0;
    for (size_t i = 0; i < size; i++) {
        quotient += arrays->x[DENSE_DZ][i] * (above[i] - below[i]) / (2 * step);
        slope += (double)arrays->x[DENSE_DQ + which][i] * u[i];
        own += pow(arrays->x[DENSE_DQ + which][i], 2);
        for (int j = 0; j < 3; j++) all += pow(arrays->x[DENSE_DQ + j][i], 2);
    }
    free(above);
    free(below);
    mra_aligned_free(u);
    const double least = arrays->shape.n > 1 ? 0.05 : 1.0;
    const double norm = fmax(sqrt(own), least * sqrt(all));
    return fabs(slope - quotient) / (norm > 0 ? norm : 1);
}

static inline void method_keep(double *worst, double value)
{
    if (!(value <= *worst)) *worst = value; // NaN is kept
}

// Keeps the differences of one shape: a.x[DENSE_Z] and gradients against the definition, for which
// z is room.
static inline void method_differences(const method_check *check,
                                      const mra_attention_layer *layer, const dense_arrays *a,
                                      double *z, bool backward, bool masked,
                                      method_worst *worst)
{
    method_define(check, layer, a, (const float *const[3]){NULL, NULL, NULL}, 0, z);
    const double forward = dense_difference(a->x[DENSE_Z], z, dense_size(a->shape));
    method_keep(&worst->forward, forward);
    if (masked) method_keep(&worst->mask, forward);
    if (a->shape.n % 2) method_keep(&worst->odd, forward);
    for (int i = 0; i < 3 && backward; i++)
        method_keep(&worst->backward, method_gradient_error(check, layer, a, i));
}

// One shape: forward against the definition, backward along three directions. false: the device has
// no code for the method.
static inline bool method_compare(const method_check *check, mra_device *device, mra_tape *tape,
                                  mra_shape shape, bool masked, method_worst *worst)
{
    mra_error err;
    mra_attention_layer *layer;
    int options = 0;
    while (options < MRA_METHOD_OPTIONS && check->options[options]) options++;
    const mra_status made = mra_attention_layer_create(
        &layer, check->method, device, shape, dense_seed(), check->options, options, &err);
    if (made == MRA_ABSENT) return false;
    if (made != MRA_OK) fail_msg("%s", err.message);
    dense_arrays a =
        dense_make(shape, check->deviation > 0 ? (float)check->deviation : 1.0f, masked);
    const size_t size = dense_size(shape);
    double *z = calloc(size, sizeof *z);
    assert_non_null(z);
    const bool backward = !check->without_gradient;
    const mra_status ran = mra_attention_run(
        layer, tape, a.x[DENSE_Q], a.x[DENSE_K], a.x[DENSE_V], a.mask, a.x[DENSE_Z],
        backward ? a.x[DENSE_DZ] : NULL, a.x[DENSE_DQ], a.x[DENSE_DK], a.x[DENSE_DV], &err);
    if (ran != MRA_OK && ran != MRA_ABSENT) fail_msg("%s", err.message);
    if (ran == MRA_OK) method_differences(check, layer, &a, z, backward, masked, worst);
    free(z);
    dense_release(&a);
    mra_attention_layer_free(layer);
    return ran == MRA_OK;
}

// Adds the line to the table of the whole run. One write of one line: tests run side by side.
static inline void method_log(const char *line)
{
    const char *path = getenv("MRA_METHOD_TABLE");
    FILE *table = path ? fopen(path, "a") : NULL;
    if (!table) return;
    fputs(line, table);
    fclose(table);
}

// Every length, masked and not, at d = 64 and d = 32 in turn. The host runner is slow: long
// sequences are cut there, and orders after the first take the last length alone. false: the device
// has no code for the method.
static inline bool method_on_device(const method_check *check, const device_turn *turn,
                                    mra_tape *tape, method_worst *worst)
{
    static const int usual[] = {1, 31, 33, 512, 1000};
    const int *length = check->lengths[0] ? check->lengths : usual;
    const int limit = turn->slow ? 49 : getenv("MRA_SANITIZED") ? 200 : INT32_MAX;
    const int cut = turn->slow ? 48 : 97;
    int count = 0, before = 0, variant = 0;
    while (count < (check->lengths[0] ? 8 : 5) && length[count]) count++;
    for (int i = turn->order > 0 ? count - 1 : 0; i < count; i++) {
        const int n = length[i] > limit ? cut + length[i] % 2 : length[i];
        if (turn->slow && n == before) continue; // cut to the same
        before = n;
        for (int masked = turn->order > 0; masked < 2; masked++, variant++) {
            const mra_shape shape = {.batch = check->shape.batch ? check->shape.batch : 1,
                                     .heads = check->shape.heads ? check->shape.heads : 2,
                                     .n = n,
                                     .d = check->shape.d ? check->shape.d
                                          : variant % 2  ? 32
                                                         : 64};
            if (!method_compare(check, turn->device, tape, shape, masked, worst)) return false;
        }
    }
    return true;
}

// The beginning of a line of the log: method, label and device.
static inline void method_name(const method_check *check, const char *where, char name[160])
{
    const char *label = check->label ? check->label : check->method;
    const bool named = strncmp(label, check->method, strlen(check->method)) == 0;
    snprintf(name, 160, "%s%s%-28s %-13s", named ? "" : check->method, named ? "" : " ", label,
             where);
}

// The line of the log: "linformer k=7 cpu forward 2.5e-07 ...", - for what was not measured.
static inline void method_print(const method_check *check, const char *where,
                                const method_worst *worst)
{
    const double value[4] = {worst->forward, worst->backward, worst->mask, worst->odd};
    char cell[4][16], name[160], line[260];
    for (int i = 0; i < 4; i++)
        snprintf(cell[i], sizeof cell[i], value[i] < 0 ? "-" : "%.1e", value[i]);
    method_name(check, where, name);
    snprintf(line, sizeof line, "%s forward %7s  backward %7s  mask %7s  odd n %7s\n", name,
             cell[0], cell[1], cell[2], cell[3]);
    printf("# %s", line);
    fflush(stdout);
    method_log(line);
}

// Checks a method on every device that is there, prints a line for each and fails where a difference
// is too large.
static inline void method_report(const method_check *check)
{
    const double allowed = check->tolerance > 0 ? check->tolerance : 1e-5;
    const double slope = check->gradient_tolerance > 0 ? check->gradient_tolerance : 1e-5;
    const char *label = check->label ? check->label : check->method;
    for (device_turn turn = {0}; device_next(&turn);) {
        mra_tape *tape;
        mra_error err;
        method_worst worst = {-1, -1, -1, -1};
        if (turn.order > 0 && check->label) continue; // a variant: one order is enough
        if (mra_tape_create(&tape, turn.device, &err) != MRA_OK) fail_msg("%s", err.message);
        const bool there = method_on_device(check, &turn, tape, &worst);
        mra_tape_free(tape);
        if (!there) {
            printf("# %s: no code for it on %s\n", label, turn.device->name);
            continue;
        }
        method_print(check, turn.label, &worst);
        const bool kernels = strcmp(turn.device->name, "cpu") != 0;
        const double factor = kernels && check->kernel_factor > 0 ? check->kernel_factor : 1;
        if (!(worst.forward <= factor * allowed) || !(worst.backward <= factor * slope))
            fail_msg("%s on %s: relative differences %.3g forward, %.3g backward; allowed "
                     "%.3g, %.3g",
                     check->method, turn.label, worst.forward, worst.backward, factor * allowed,
                     factor * slope);
    }
}

// ---- Padding --------------------------------------------------------------------------------

// One of the two runs that method_padding compares: arrays->shape.n tokens, of which the first `tokens`
// are not masked (where they are all, there is no mask). false: the device has no code for the method.
static inline bool method_padding_run(const method_check *check, mra_device *device,
                                      dense_arrays *a, int tokens, int positions)
{
    mra_tape *tape;
    mra_attention_layer *layer;
    mra_error err;
    int options = 0;
    while (options < MRA_METHOD_OPTIONS && check->options[options]) options++;
    const int n = a->shape.n;
    uint8_t *mask = tokens < n ? calloc(1, (size_t)n) : NULL;
    if (mask) memset(mask, 1, (size_t)tokens);
    const mra_attention_request request = {.method = check->method,
                                           .device = device,
                                           .shape = a->shape,
                                           .seed = dense_seed(),
                                           .assignments = check->options,
                                           .assignment_count = options,
                                           .positions = positions};
    if (mra_tape_create(&tape, device, &err) != MRA_OK) fail_msg("%s", err.message);
    mra_status status = mra_attention_layer_make(&layer, &request, &err);
    if (status == MRA_OK) {
        status = mra_attention_run(layer, tape, a->x[DENSE_Q], a->x[DENSE_K], a->x[DENSE_V],
                                   mask, a->x[DENSE_Z], a->x[DENSE_DZ], a->x[DENSE_DQ],
                                   a->x[DENSE_DK], a->x[DENSE_DV], &err);
        mra_attention_layer_free(layer);
    }
    if (status != MRA_OK && status != MRA_ABSENT) fail_msg("%s", err.message);
    free(mask);
    mra_tape_free(tape);
    return status == MRA_OK;
}

// The norm of one head of the shorter run's array x.
static inline double method_padding_norm(const dense_arrays *a, int x, int head)
{
    const size_t size = method_head_size(a->shape);
    double sum = 0;
    for (size_t e = 0; e < size; e++) sum += pow(a->x[x][(size_t)head * size + e], 2);
    return sqrt(sum);
}

// || padded - shorter || of one head of array x, relative to the norm of the array (for gradients
// the norm of method_gradient_error). Rows of padding have to be 0.
static inline double method_padding_difference(const method_check *check,
                                               const dense_arrays a[2], int x, int head)
{
    const size_t longer = method_head_size(a[0].shape), size = method_head_size(a[1].shape);
    const float *padded = a[0].x[x] + (size_t)head * longer;
    const float *shorter = a[1].x[x] + (size_t)head * size;
    double sum = 0, all = 0, norm = method_padding_norm(&a[1], x, head);
    for (size_t e = 0; e < size; e++) sum += pow((double)padded[e] - (double)shorter[e], 2);
    for (size_t e = size; e < longer; e++)
        if (padded[e] != 0) fail_msg("%s: a row of padding is not 0", check->method);
    for (int i = DENSE_DQ; i <= DENSE_DV && x != DENSE_Z; i++)
        all += pow(method_padding_norm(&a[1], i, head), 2);
    norm = fmax(norm, (a[1].shape.n > 1 ? 0.05 : 1.0) * sqrt(all));
    return sqrt(sum) / (norm > 0 ? norm : 1);
}

// Padding at the end against a shorter sequence: the first `tokens` of n tokens, the others masked,
// and these tokens alone, with the learned parameters of n positions in both. The largest relative
// differences forward and of the three gradients on a device; false: it has no code for the method.
static inline bool method_padding_on(const method_check *check, mra_device *device, int n,
                                     int tokens, double worst[2])
{
    const int d = 32, heads = 2;
    dense_arrays a[2] = {
        dense_make((mra_shape){1, heads, n, d}, 1.0f, false),
        dense_make((mra_shape){1, heads, tokens, d}, 1.0f, false),
    };
    for (int x = 0; x < DENSE_ARRAYS; x++)
        for (int head = 0; head < heads; head++)
            memcpy(a[1].x[x] + head * tokens * d, a[0].x[x] + head * n * d,
                   sizeof(float) * (size_t)(tokens * d));
    const bool there = method_padding_run(check, device, &a[0], tokens, n) &&
                       method_padding_run(check, device, &a[1], tokens, n);
    worst[0] = worst[1] = 0;
    for (int head = 0; head < heads && there; head++)
        for (int x = DENSE_Z; x < DENSE_ARRAYS; x++)
            if (x != DENSE_DZ)
                method_keep(&worst[x != DENSE_Z], method_padding_difference(check, a, x, head));
    for (int i = 0; i < 2; i++) dense_release(&a[i]);
    return there;
}

// Fails where they are above the check's tolerances.
static inline void method_padding(const method_check *check, int n, int tokens)
{
    const double allowed = check->tolerance > 0 ? check->tolerance : 1e-5;
    const double slope = check->gradient_tolerance > 0 ? check->gradient_tolerance : 1e-5;
    mra_device *device;
    mra_error err;
    double worst[2];
    if (mra_device_open(&device, "cpu", 2, &err) != MRA_OK) fail_msg("%s", err.message);
    if (!method_padding_on(check, device, n, tokens, worst)) fail_msg("no code for it");
    if (!(worst[0] <= allowed) || !(worst[1] <= slope))
        fail_msg("%s: %d tokens of %d differ from %d tokens by %.3g forward, %.3g backward; "
                 "allowed %.3g, %.3g",
                 check->method, tokens, n, tokens, worst[0], worst[1], allowed, slope);
    mra_device_close(device);
}

#endif
