// The methods that a device has as one operation, through the common interface: on `simt` and on `cuda`
// as on `cpu`.
#include "attention_case.h"

#include "attention/attention.h"
#include "tensor/kernel_device.h"
#include "tensor/tensor.h"

typedef struct method_run {
    float *z, *dq, *dk, *dv;
    mra_statistics statistics;
} method_run;

static mra_device *open_device(const char *name)
{
    mra_device *device;
    mra_error err;
    mra_blas_single_thread();
    if (mra_device_open(&device, name, 1, &err) != MRA_OK) fail_msg("%s", err.message);
    return device;
}

// Forward and backward of a method on a device; the status of what fails.
static mra_status run_method(const char *device_name, const char *method, const char *set,
                             const arrays *a, method_run *r, mra_error *err)
{
    mra_device *device = open_device(device_name);
    mra_attention_layer *layer = NULL;
    mra_tape *tape;
    float **out[] = {&r->z, &r->dq, &r->dk, &r->dv};
    for (int i = 0; i < 4; i++) *out[i] = reference_alloc(a->size, sizeof(float));
    mra_status status = mra_tape_create(&tape, device, err);
    if (status == MRA_OK)
        status = mra_attention_layer_create(&layer, method, device, a->shape, 1, &set,
                                            set != NULL, err);
    if (status == MRA_OK)
        status = mra_attention_run(layer, tape, a->q, a->k, a->v, a->mask, r->z, a->dz, r->dq,
                                   r->dk, r->dv, err);
    if (status == MRA_OK && layer->method->statistics)
        r->statistics = layer->method->statistics(layer);
    if (layer) mra_attention_layer_free(layer);
    mra_tape_free(tape);
    mra_device_close(device);
    return status;
}

static void free_run(method_run *r)
{
    float *all[] = {r->z, r->dq, r->dk, r->dv};
    for (int i = 0; i < 4; i++) free(all[i]);
}

static double distance_of(const float *have, const float *want, size_t count)
{
    double *wanted = to_double(want, count);
    double distance = reference_distance(have, wanted, count);
    free(wanted);
    return distance;
}

static void methods_agree_with_the_cpu(void **state)
{
    const char *where = *state;
    const struct {
        const char *method, *set;
        mra_shape shape;
        mask_kind mask;
    } cases[] = {{"mra2", "blocks=1.5", {2, 2, 100, 32}, RANDOM_MASK},
                 {"mra2", "grid=16x8", {1, 2, 128, 64}, NO_MASK},
                 {"mra2s", "blocks=0.5", {2, 1, 129, 32}, TAIL_MASK},
                 {"exact", NULL, {2, 1, 70, 64}, BLOCK_MASK}};
    const char *precision[] = {"float32", "tf32", "bf16"};
    const double tolerance[] = {5e-6, 4 * ldexp(1, -11), 4 * ldexp(1, -8)};
    const char *name[] = {"z", "dq", "dk", "dv"};
    for (int i = 0; i < 4; i++) {
        arrays a =
            make_arrays(cases[i].shape, 32, cases[i].mask, 1, kernel_seed() + (uint64_t)i);
        method_run want = {0};
        mra_error err = {0};
        if (run_method("cpu", cases[i].method, cases[i].set, &a, &want, &err) != MRA_OK)
            fail_msg("%s", err.message);
        const float *wanted[] = {want.z, want.dq, want.dk, want.dv};
        for (int p = 0; p < 3; p++) {
            method_run have = {0};
            char device[16];
            snprintf(device, sizeof device, "%s:%s", where, precision[p]);
            if (run_method(device, cases[i].method, cases[i].set, &a, &have, &err) != MRA_OK)
                fail_msg("%s", err.message);
            const float *had[] = {have.z, have.dq, have.dk, have.dv};
            for (int k = 0; k < 4; k++) {
                double distance = distance_of(had[k], wanted[k], a.size);
                if (!(distance <= tolerance[p]))
                    fail_msg("%s on %s: %s differs by %.2e", cases[i].method, device, name[k],
                             distance);
            }
            assert_int_equal(have.statistics.boxes[0], want.statistics.boxes[0]);
            assert_int_equal(have.statistics.boxes[1], want.statistics.boxes[1]);
            assert_int_equal(have.statistics.empty_rows, want.statistics.empty_rows);
            free_run(&have);
        }
        free_run(&want);
        free_arrays(&a);
    }
}

static void refuse(const char *method, int d, float spoil, mra_status wanted, const char *words)
{
    arrays a = make_arrays((mra_shape){1, 2, 40, d}, 32, NO_MASK, 1, kernel_seed());
    a.q[a.size - 1] += spoil;
    method_run r = {0};
    mra_error err = {0};
    assert_int_equal(run_method("simt", method, NULL, &a, &r, &err), wanted);
    if (!strstr(err.message, words)) fail_msg("'%s' says nothing of '%s'", err.message, words);
    free_run(&r);
    free_arrays(&a);
}

static void what_cannot_be_done_is_said(void **state)
{
    (void)state;
    refuse("mra2", 48, 0, MRA_BAD_INPUT, "mra2: d: 48");
    refuse("exact", 16, 0, MRA_BAD_INPUT, "exact: d: 16");
    refuse("mra", 32, 0, MRA_ABSENT, "'simt' has no code");
    refuse("mra2", 32, NAN, MRA_BAD_INPUT, "head 1 has NaN");
    refuse("exact", 32, INFINITY, MRA_BAD_INPUT, "head 1 has NaN");
}

int main(void)
{
    static char where[2][5] = {"simt", "cuda"};
    const bool there = kernels_are_there("cuda");
    const struct CMUnitTest tests[] = {
        {"methods_agree_with_the_cpu, simt", methods_agree_with_the_cpu, NULL, NULL, where[0]},
        cmocka_unit_test(what_cannot_be_done_is_said),
        {there ? "methods_agree_with_the_cpu, cuda" : NULL, methods_agree_with_the_cpu, NULL,
         NULL, where[1]},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
