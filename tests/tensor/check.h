// How the tests of src/tensor check an operation: forward against a definition in float64 that
// the test writes down by itself, gradients against central differences of that definition.
//
// Differences are taken of the float64 definition, not of the code under test: float32 rounding
// would leave three or four digits of a difference quotient. So a wrong forward pass cannot
// hide a wrong backward pass, nor the reverse.
#ifndef MRA_TESTS_TENSOR_CHECK_H
#define MRA_TESTS_TENSOR_CHECK_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "devices.h"
#include "tensor/device.h"
#include "tensor/gemm.h"
#include "tensor/kernels.h"
#include "tensor/tensor.h"

enum { CHECK_INPUTS = 4, CHECK_THREADS = 2 };

typedef struct check_shape {
    int rank;
    int dim[MRA_MAX_RANK];
} check_shape;

// One operation on given shapes. `reference` writes the result for float64 inputs; `context`
// goes to both.
typedef struct check_case {
    const char *name;
    int inputs;
    check_shape shape[CHECK_INPUTS];
    mra_tensor *(*apply)(mra_tape *tape, mra_tensor *const *x, const void *context);
    void (*reference)(double *const *x, double *y, const void *context);
    const void *context;
    double tolerance; // of the relative differences (Frobenius); 0: 2e-6
} check_case;

static inline size_t check_size(check_shape shape)
{
    size_t size = 1;
    for (int i = 0; i < shape.rank; i++) size *= (size_t)shape.dim[i];
    return size;
}

// The seed of a test: fresh in every run if MRA_TEST_SEED says so, otherwise fixed.
static inline uint64_t check_seed(void)
{
    const char *text = getenv("MRA_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20220711;
}

static inline float *check_normal(size_t count, uint64_t stream)
{
    float *x = mra_aligned_calloc(count ? count : 1, sizeof *x);
    assert_non_null(x);
    mra_fill_normal(x, count, 1.0f, check_seed(), stream);
    return x;
}

static inline mra_device *check_open(int threads)
{
    mra_device *device;
    mra_error err;
    mra_blas_single_thread();
    assert_int_equal(mra_device_open(&device, "cpu", threads, &err), MRA_OK);
    return device;
}

static inline mra_tape *check_tape(mra_device *device)
{
    mra_tape *tape;
    mra_error err;
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    return tape;
}

// |have - want| <= tolerance; NaN is never close, infinity to nothing but itself.
static inline void check_close(double have, double want, double tolerance)
{
    if (!(have == want || fabs(have - want) <= tolerance))
        fail_msg("%.9g, expected %.9g within %g", have, want, tolerance);
}

// Fills what the tape will hand out with NaN, so that whoever reads before writing is found
// out.
static inline void check_poison(mra_tape *tape, size_t bytes)
{
    void *memory = mra_tape_alloc(tape, bytes);
    assert_non_null(memory);
    memset(memory, 0xFF, bytes);
    mra_tape_reset(tape);
}

static inline double check_norm(const double *x, size_t size)
{
    double squares = 0.0;
    for (size_t i = 0; i < size; i++) squares += x[i] * x[i];
    return sqrt(squares);
}

static inline double check_difference(const char *name, const char *what, const float *have,
                                      const double *want, size_t size, double tolerance)
{
    double error = 0.0, norm = 0.0;
    for (size_t i = 0; i < size; i++) {
        if (!isfinite(have[i])) fail_msg("%s: %s[%zu] is %g", name, what, i, (double)have[i]);
        error += (have[i] - want[i]) * (have[i] - want[i]);
        norm += want[i] * want[i];
    }
    const double relative = sqrt(error) / (norm > 0.0 ? sqrt(norm) : 1.0);
    if (!(relative <= tolerance))
        fail_msg("%s: %s differs by %.2e, allowed %.2e", name, what, relative, tolerance);
    return relative;
}

// gradient[i] = d <seed, reference(x)> / d x[which][i], by central differences.
static inline void check_central(const check_case *c, double **x, int which, size_t outputs,
                                 const double *seed, double *gradient)
{
    const double step = 1e-5;
    double *y = malloc(outputs * sizeof *y);
    for (size_t i = 0; i < check_size(c->shape[which]); i++) {
        const double kept = x[which][i];
        double value[2];
        for (int side = 0; side < 2; side++) {
            x[which][i] = kept + (side ? step : -step);
            c->reference(x, y, c->context);
            value[side] = 0.0;
            for (size_t j = 0; j < outputs; j++) value[side] += seed[j] * y[j];
        }
        x[which][i] = kept;
        gradient[i] = (value[1] - value[0]) / (2.0 * step);
    }
    free(y);
}

typedef struct check_data {
    float *data[CHECK_INPUTS], *grad[CHECK_INPUTS], *start[CHECK_INPUTS];
    double *exact[CHECK_INPUTS];
} check_data;

static inline void check_make(const check_case *c, check_data *d)
{
    for (int k = 0; k < c->inputs; k++) {
        const size_t size = check_size(c->shape[k]);
        d->data[k] = check_normal(size, mra_stream(c->name, (uint64_t)k, 0));
        d->start[k] = check_normal(size, mra_stream(c->name, (uint64_t)k, 1));
        d->grad[k] = check_normal(size, mra_stream(c->name, (uint64_t)k, 1));
        d->exact[k] = malloc(size * sizeof(double));
        for (size_t i = 0; i < size; i++) d->exact[k][i] = d->data[k][i];
    }
}

static inline void check_release(const check_case *c, check_data *d)
{
    for (int k = 0; k < c->inputs; k++) {
        mra_aligned_free(d->data[k]);
        mra_aligned_free(d->start[k]);
        mra_aligned_free(d->grad[k]);
        free(d->exact[k]);
    }
}

// A tensor of the tape's device that holds `values` of the host and needs no gradient.
static inline mra_tensor *check_constant(mra_tape *tape, int rank, const int *shape,
                                         const float *values)
{
    size_t size = 1;
    for (int i = 0; i < rank; i++) size *= (size_t)shape[i];
    return mra_wrap(tape, rank, shape, mra_tape_upload(tape, values, size * sizeof *values),
                    NULL);
}

// The operands of a case on the tape of a device; their gradients begin as d->start.
static inline void check_operands(const check_case *c, mra_tape *tape, const check_data *d,
                                  mra_tensor **x)
{
    for (int k = 0; k < c->inputs; k++) {
        const size_t bytes = check_size(c->shape[k]) * sizeof(float);
        float *data = mra_tape_upload(tape, d->data[k], bytes);
        float *grad = mra_tape_upload(tape, d->start[k], bytes);
        x[k] = mra_wrap(tape, c->shape[k].rank, c->shape[k].dim, data, grad);
        assert_non_null(x[k]);
    }
}

static inline void check_download(mra_device *device, float *to, const float *from, size_t size)
{
    mra_error err;
    if (device->to_host(device, to, from, size * sizeof *to, &err)) fail_msg("%s", err.message);
}

// Runs the case once and leaves the gradients in d->grad, on top of d->start. `through`: the
// operands are intermediate results (copies), whose gradients are overwritten; otherwise they
// are leaves, whose gradients are added to. false: the device
// has no code for it.
static inline bool check_run(const check_case *c, mra_tape *tape, check_data *d, bool through,
                             double *want, float *seed, double *exact_seed, double *difference)
{
    mra_error err;
    mra_device *device = mra_tape_device(tape);
    mra_tensor *leaf[CHECK_INPUTS], *x[CHECK_INPUTS];
    check_poison(tape, 1 << 20);
    check_operands(c, tape, d, leaf);
    for (int k = 0; k < c->inputs; k++)
        x[k] = through ? mra_scale(tape, leaf[k], 1.0f) : leaf[k];
    mra_tensor *y = c->apply(tape, x, c->context);
    if (!y) {
        if (mra_tape_status(tape, &err) == MRA_ABSENT) return false;
        fail_msg("%s: %s", c->name, err.message);
    }
    c->reference(d->exact, want, c->context);
    const double tolerance = c->tolerance > 0.0 ? c->tolerance : 2e-6;
    float *have = calloc(y->size ? y->size : 1, sizeof *have);
    check_download(device, have, y->data, y->size);
    *difference = check_difference(c->name, "result", have, want, y->size, tolerance);
    free(have);
    mra_fill_normal(seed, y->size, 1.0f, check_seed(), mra_stream("seed", y->size, 0));
    for (size_t i = 0; i < y->size; i++) exact_seed[i] = seed[i];
    const mra_status status = mra_tape_backward_from(tape, y, seed, &err);
    if (status == MRA_ABSENT) return false;
    if (status) fail_msg("%s: %s", c->name, err.message);
    for (int k = 0; k < c->inputs; k++)
        check_download(device, d->grad[k], leaf[k]->grad, check_size(c->shape[k]));
    return true;
}

// What one case needs besides its operands: `outputs` entries each.
typedef struct check_results {
    size_t outputs;
    float *seed;
    double *want, *exact_seed;
    double *gradient[CHECK_INPUTS]; // by central differences; the same for every device
    double forward, backward;       // the largest differences
} check_results;

// The case on one tape (false: the device has no code for it), once with leaves and once with intermediate results for operands.
static inline bool check_on_tape(const check_case *c, mra_tape *tape, check_data *d,
                                 check_results *r)
{
    const double tolerance = c->tolerance > 0.0 ? c->tolerance : 2e-6;
    for (int through = 0; through < 2; through++) {
        double forward;
        if (!check_run(c, tape, d, through, r->want, r->seed, r->exact_seed, &forward))
            return false;
        r->forward = fmax(r->forward, forward);
        for (int k = 0; k < c->inputs; k++) {
            const size_t size = check_size(c->shape[k]);
            double *gradient = malloc(size * sizeof *gradient);
            if (!r->gradient[k]) {
                r->gradient[k] = malloc(size * sizeof *gradient);
                check_central(c, d->exact, k, r->outputs, r->exact_seed, r->gradient[k]);
            }
            memcpy(gradient, r->gradient[k], size * sizeof *gradient);
            // Rounding is relative to both terms of the sum, which may cancel.
            double part = check_norm(gradient, size);
            for (size_t i = 0; i < size; i++) gradient[i] += d->start[k][i];
            part = fmax(part / fmax(check_norm(gradient, size), 1e-300), 1.0);
            const double backward = check_difference(
                c->name, through ? "gradient (overwritten)" : "gradient (added)", d->grad[k],
                gradient, size, tolerance * part);
            r->backward = fmax(r->backward, backward);
            free(gradient);
        }
        mra_tape_reset(tape);
    }
    return true;
}

// The whole check of one case, with `outputs` entries in its result, on every device.
static inline void check_operation(const check_case *c, size_t outputs)
{
    check_results r = {.outputs = outputs,
                       .seed = malloc(outputs * sizeof(float)),
                       .want = malloc(outputs * sizeof(double)),
                       .exact_seed = malloc(outputs * sizeof(double))};
    for (device_turn turn = {0}; device_next(&turn);) {
        mra_tape *tape = check_tape(turn.device);
        check_data d = {0};
        check_make(c, &d);
        r.forward = r.backward = 0.0;
        if (check_on_tape(c, tape, &d, &r))
            device_log(c->name, turn.label, r.forward, r.backward);
        else
            printf("# %s: no code for it on %s\n", c->name, turn.device->name);
        check_release(c, &d);
        mra_tape_free(tape);
    }
    for (int k = 0; k < c->inputs; k++) free(r.gradient[k]);
    free(r.seed);
    free(r.want);
    free(r.exact_seed);
}

#endif
