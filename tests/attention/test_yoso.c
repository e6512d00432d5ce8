// yoso against its definition: the expectation kernel, the sampled sums with the drawn
// hyperplanes taken as given, the estimates of the gradients, and their means over many draws.
//
// A sampled gradient is not the derivative of anything. But it is that of a sum in which the
// codes are held and the weight of a pair is a + g (<q_i, k_j> - <q_i, k_j> at the given
// point), with a and g what the paper says of the pair's collisions: the definition that is
// differentiated here.

#include "method_case.h"

#include "attention/hashing.h"
#include "tensor/hash.h"
#include "tensor/kernels.h"

enum { SPECIFIED, PUBLISHED };

static double option(const method_case *c, int which)
{
    return c->layer->option[which].number; // hashes, bits, estimate, variant
}

static void unit(int d, const double *x, double *y)
{
    double norm = 0;
    for (int j = 0; j < d; j++) norm += x[j] * x[j];
    for (int j = 0; j < d; j++) y[j] = norm > 0 ? x[j] / sqrt(norm) : 0;
}

static double inner(int d, const double *a, const double *b)
{
    double sum = 0;
    for (int j = 0; j < d; j++) sum += a[j] * b[j];
    return sum;
}

static double weight(double c, double power)
{
    return pow(1 - acos(fmax(-1, fmin(1, c))) / M_PI, power);
}

static double slope(double c, double power)
{
    return power * weight(c, power - 1) / (M_PI * sqrt(1 - c * c));
}

// Unit rows of x (double) or of given floats.
static double *unit_rows(int n, int d, const double *x, const float *given)
{
    double *y = malloc(sizeof *y * (size_t)(n * d)), row[256];
    assert_non_null(y);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < d; j++) row[j] = x ? x[i * d + j] : given[i * d + j];
        unit(d, row, y + i * d);
    }
    return y;
}

// z from pair weights a[n][n].
static void finish(const method_case *c, const double *a, const double *v, double *z)
{
    double *x = malloc(sizeof *x * (size_t)c->d);
    for (int i = 0; i < c->n; i++) {
        memset(x, 0, sizeof *x * (size_t)c->d);
        for (int j = 0; j < c->n; j++)
            for (int e = 0; e < c->d && !(c->mask && (!c->mask[i] || !c->mask[j])); e++)
                x[e] += a[i * c->n + j] * v[j * c->d + e];
        unit(c->d, x, z + i * c->d);
    }
    free(x);
}

static void expectation(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d;
    double *q = unit_rows(n, d, x[0], NULL), *k = unit_rows(n, d, x[1], NULL);
    double *a = malloc(sizeof *a * (size_t)n * (size_t)n);
    const double shrink = option(c, 3) == PUBLISHED ? 0.98f : 1;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            a[i * n + j] = weight(shrink * inner(d, q + i * d, k + j * d), option(c, 1));
    finish(c, a, x[2], z);
    free(a);
    free(q);
    free(k);
}

// Codes of one head's rows as the program computes them from the layer's hyperplanes (which
// tests/tensor/test_hash.c checks): [hashes][n].
static int32_t *codes_of(const method_case *c, const float *rows)
{
    mra_method_array planes[MRA_METHOD_ARRAYS];
    mra_device *cpu;
    mra_error err;
    assert_int_equal(mra_device_open(&cpu, "cpu", 1, &err), MRA_OK);
    assert_int_equal(c->layer->method->drawn(c->layer, planes), 1);
    const mra_hash_form form = {.batch = 1,
                                .heads = 1,
                                .n = c->n,
                                .d = c->d,
                                .hashes = planes[0].shape[1],
                                .width = planes[0].shape[2],
                                .codes = 1 << planes[0].shape[2]};
    const size_t each = (size_t)(form.hashes * form.width * c->d);
    int32_t *codes = malloc(sizeof *codes * (size_t)(form.hashes * c->n));
    assert_non_null(codes);
    assert_int_equal(cpu->kernels->hash_signs(cpu, &form, rows,
                                              planes[0].floats + (size_t)c->head * each, NULL,
                                              codes, &err),
                     MRA_OK);
    mra_device_close(cpu);
    return codes;
}

static void sampled(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d, hashes = (int)option(c, 0);
    const double power = option(c, 1);
    double *q = unit_rows(n, d, x[0], NULL), *k = unit_rows(n, d, x[1], NULL);
    double *q0 = unit_rows(n, d, NULL, c->q), *k0 = unit_rows(n, d, NULL, c->k);
    double *a = malloc(sizeof *a * (size_t)n * (size_t)n);
    int32_t *of_q = codes_of(c, c->q), *of_k = codes_of(c, c->k);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            int met = 0;
            for (int h = 0; h < hashes; h++) met += of_q[h * n + i] == of_k[h * n + j];
            a[i * n + j] = (double)met / hashes;
            if (!met) continue;
            const double at = inner(d, q0 + i * d, k0 + j * d);
            const double g =
                option(c, 3) == PUBLISHED ? slope(0.99f * at, power) : power / 2 * met / hashes;
            a[i * n + j] += g * (inner(d, q + i * d, k + j * d) - at);
        }
    finish(c, a, x[2], z);
    free(a);
    free(q);
    free(k);
    free(q0);
    free(k0);
    free(of_q);
    free(of_k);
}

// yoso-conv: z + filter * v, zeros outside and at padding.
static void with_convolution(const method_case *c, double *const x[3], double *z)
{
    const int taps = c->layer->parameter[0]->shape[1];
    const float *filter = c->layer->parameter[0]->data + c->head * taps;
    expectation(c, x, z);
    for (int i = 0; i < c->n; i++)
        for (int t = 0; t < taps; t++) {
            const int j = i + t - taps / 2;
            if (j < 0 || j >= c->n || (c->mask && (!c->mask[i] || !c->mask[j]))) continue;
            for (int e = 0; e < c->d; e++) z[i * c->d + e] += filter[t] * x[2][j * c->d + e];
        }
}

static void test_expectation(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "yoso",
                                  .options = {"estimate=expectation"},
                                  .label = "yoso expectation",
                                  .definition = expectation});
    method_report(
        &(method_check){.method = "yoso",
                        .options = {"estimate=expectation", "variant=published", "bits=12"},
                        .label = "yoso expectation, published",
                        .definition = expectation,
                        .lengths = {33, 100}});
    method_report(&(method_check){.method = "yoso-conv",
                                  .options = {"estimate=expectation"},
                                  .label = "yoso-conv expectation",
                                  .definition = with_convolution,
                                  .lengths = {1, 33, 200}});
}

// Two bits put a quarter of all pairs into one bucket: the products of large buckets; one bit,
// the matrices of the largest.
static void test_sampled(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "yoso", .definition = sampled});
    method_report(&(method_check){.method = "yoso",
                                  .options = {"bits=2", "hashes=5"},
                                  .label = "yoso sampled, 2 bits",
                                  .definition = sampled,
                                  .lengths = {70, 300}});
    method_report(&(method_check){.method = "yoso",
                                  .options = {"bits=1", "hashes=3"},
                                  .label = "yoso sampled, 1 bit",
                                  .definition = sampled,
                                  .shape = {.batch = 2, .heads = 3, .d = 16},
                                  .lengths = {257}});
    method_report(&(method_check){.method = "yoso",
                                  .options = {"bits=4", "variant=published"},
                                  .label = "yoso sampled, published",
                                  .definition = sampled,
                                  .lengths = {1, 33, 200}});
    for (int d = 8; d <= 48; d += 40) // orders 16 and 64
        method_report(&(method_check){.method = "yoso",
                                      .options = {"variant=published"},
                                      .label = "yoso sampled, published, any d",
                                      .definition = sampled,
                                      .shape = {.d = d},
                                      .lengths = {50}});
}

// Rows of one product of Hadamard matrices and signs are at right angles, of squared length
// 32^3; 7 functions of 9 rows take three products of 32.
static void test_hadamard(void **state)
{
    (void)state;
    enum { ORDER = 32, WIDTH = 9, FUNCTIONS = 7, EACH = ORDER / WIDTH };
    mra_device *device;
    mra_error err;
    mra_hash_directions rows;
    assert_int_equal(mra_device_open(&device, "cpu", 1, &err), MRA_OK);
    assert_int_equal(
        mra_hash_directions_create(&rows, device, (int[]){1, FUNCTIONS, WIDTH, ORDER},
                                   MRA_DIRECTIONS_HADAMARD, dense_seed(), "test", &err),
        MRA_OK);
    for (int a = 0; a < FUNCTIONS * WIDTH; a++)
        for (int b = 0; b < FUNCTIONS * WIDTH; b++) {
            double inner = 0;
            for (int e = 0; e < ORDER; e++)
                inner += (double)rows.host[a * ORDER + e] * rows.host[b * ORDER + e];
            const bool same = a / (EACH * WIDTH) == b / (EACH * WIDTH);
            if (a == b || same) assert_true(inner == (a == b ? ORDER * ORDER * ORDER : 0));
            if (!same && a % (EACH * WIDTH) == b % (EACH * WIDTH)) // drawn anew
                assert_true(fabs(inner) < ORDER * ORDER * ORDER);
        }
    mra_hash_directions_free(&rows);
    mra_device_close(device);
}

// ---- Means over draws -----------------------------------------------------------------------

enum { N = 12, D = 16, HASHES = 4, BITS = 3, SIZE = N * D };

typedef struct means {
    double sum[3], squares[3]; // of <u, x>, <u, dq>, <u, dk>
} means;

// One draw of hyperplanes: x, dq and dk (of the unit vectors) along u, added to m.
static void one_draw(mra_device *device, mra_tape *tape, uint64_t seed, bool derivative,
                     float *const data[5], means *m)
{
    mra_error err;
    mra_hash_directions planes;
    const mra_hash_form form = {1, 1, N, D, HASHES, BITS, 1 << BITS};
    const mra_collision_rule rule = {derivative, BITS, 0.99f};
    assert_int_equal(mra_hash_directions_create(&planes, device, (int[]){1, HASHES, BITS, D},
                                                MRA_DIRECTIONS_NORMAL, seed, "test", &err),
                     MRA_OK);
    float grad[3][SIZE] = {{0}};
    mra_tensor *x[3];
    for (int i = 0; i < 3; i++) x[i] = mra_wrap(tape, 4, (int[]){1, 1, N, D}, data[i], grad[i]);
    const int32_t *of_q = mra_hash_by_signs(tape, x[0], &form, planes.data, NULL);
    const int32_t *of_k = mra_hash_by_signs(tape, x[1], &form, planes.data, NULL);
    mra_tensor *y = mra_collision_attention(tape, x[0], x[1], x[2], &form, &rule, of_q, of_k);
    assert_non_null(y);
    assert_int_equal(mra_tape_backward_from(tape, y, data[3], &err), MRA_OK);
    const float *value[3] = {y->data, grad[0], grad[1]};
    for (int i = 0; i < 3; i++) {
        double along = 0;
        for (int e = 0; e < SIZE; e++) along += (double)value[i][e] * data[4][e];
        m->sum[i] += along;
        m->squares[i] += along * along;
    }
    mra_tape_reset(tape);
    mra_hash_directions_free(&planes);
}

// What the means should be: weights w, and in the gradients bits/2 w, or, with `derivative`,
// w'(0.99 c) times the probability to meet at least once.
static void expected_means(bool derivative, float *const data[5], double want[3])
{
    want[0] = want[1] = want[2] = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double c = 0, xv = 0, dy = 0, q = 0, k = 0;
            for (int e = 0; e < D; e++) {
                c += (double)data[0][i * D + e] * data[1][j * D + e];
                xv += (double)data[4][i * D + e] * data[2][j * D + e];
                dy += (double)data[3][i * D + e] * data[2][j * D + e];
                q += (double)data[4][i * D + e] * data[1][j * D + e];
                k += (double)data[4][j * D + e] * data[0][i * D + e];
            }
            const double w = weight(c, BITS);
            const double g =
                derivative ? (1 - pow(1 - w, HASHES)) * slope(0.99f * c, BITS) : BITS / 2.0 * w;
            want[0] += w * xv;
            want[1] += g * dy * q;
            want[2] += g * dy * k;
        }
}

// |z| > 5.3 of six means of 4000 draws each: a false alarm in about 1 of 10^6 runs.
static void test_means(void **state)
{
    (void)state;
    mra_device *device;
    mra_tape *tape;
    mra_error err;
    assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
    assert_int_equal(mra_tape_create(&tape, device, &err), MRA_OK);
    float *data[5];
    for (uint64_t i = 0; i < 5; i++) data[i] = dense_normal(SIZE, 1.0f, 200 + i);
    for (int i = 0; i < N; i++) // close pairs among the others
        for (int e = 0; e < D; e++)
            data[1][i * D + e] = data[0][i * D + e] + 0.3f * (float)i * data[1][i * D + e];
    for (int i = 0; i < 2; i++)
        for (int row = 0; row < N; row++) {
            float *x = data[i] + row * D, norm = 0;
            for (int e = 0; e < D; e++) norm += x[e] * x[e];
            for (int e = 0; e < D; e++) x[e] /= sqrtf(norm);
        }
    for (int derivative = 0; derivative < 2; derivative++) {
        const int draws = getenv("MRA_SANITIZED") ? 400 : 4000;
        means m = {{0}, {0}};
        double want[3];
        for (int i = 0; i < draws; i++)
            one_draw(device, tape, dense_seed() * 1000 + (uint64_t)i, derivative, data, &m);
        expected_means(derivative, data, want);
        for (int i = 0; i < 3; i++) {
            const double mean = m.sum[i] / draws;
            const double spread = sqrt((m.squares[i] / draws - mean * mean) / draws);
            const double z = (mean - want[i]) / spread;
            printf("# yoso, mean of %s%s: %.4f, expected %.4f, z = %.2f\n",
                   (const char *[]){"x", "dq", "dk"}[i], derivative ? " (published)" : "", mean,
                   want[i], z);
            if (!(fabs(z) < 5.3)) fail_msg("z = %.2f", z);
        }
    }
    for (int i = 0; i < 5; i++) mra_aligned_free(data[i]);
    mra_tape_free(tape);
    mra_device_close(device);
}

// ---- Padding, extremes, bad input -----------------------------------------------------------

static mra_device *device_of_test;
static mra_tape *tape_of_test;

static int open_device(void **state)
{
    (void)state;
    mra_error err;
    mra_blas_single_thread();
    return mra_device_open(&device_of_test, "cpu", 2, &err) ||
           mra_tape_create(&tape_of_test, device_of_test, &err);
}

static int close_device(void **state)
{
    (void)state;
    mra_tape_free(tape_of_test);
    mra_device_close(device_of_test);
    return 0;
}

static void run_yoso(mra_shape shape, const char *const *options, int count, dense_arrays *a)
{
    mra_error err;
    mra_attention_layer *layer;
    if (mra_attention_layer_create(&layer, "yoso", device_of_test, shape, 5, options, count,
                                   &err) ||
        mra_attention_run(layer, tape_of_test, a->x[DENSE_Q], a->x[DENSE_K], a->x[DENSE_V],
                          a->mask, a->x[DENSE_Z], a->x[DENSE_DZ], a->x[DENSE_DQ],
                          a->x[DENSE_DK], a->x[DENSE_DV], &err))
        fail_msg("%s", err.message);
    mra_attention_layer_free(layer);
}

// Masking the last tokens is the same as not having them, whatever is written there.
static void test_padding(void **state)
{
    (void)state;
    static const char *const options[2][1] = {{"estimate=sampled"}, {"estimate=expectation"}};
    for (int which = 0; which < 2; which++) {
        const mra_shape large = {.batch = 1, .heads = 1, .n = 60, .d = 32};
        mra_shape small = large;
        small.n = 43;
        dense_arrays a = dense_make(large, 1.0f, false), b = dense_make(large, 1.0f, false);
        const size_t size = dense_size(small);
        a.mask = calloc(60, 1);
        assert_non_null(a.mask);
        memset(a.mask, 1, 43);
        for (size_t i = size; i < dense_size(large); i++) a.x[DENSE_K][i] = NAN;
        run_yoso(large, options[which], 1, &a);
        run_yoso(small, options[which], 1, &b);
        for (int x = DENSE_Z; x < DENSE_ARRAYS; x++) {
            double *want = dense_copy(b.x[x], size);
            assert_close(a.x[x], want, size, 1e-6);
            for (size_t i = size; i < dense_size(large); i++)
                if (a.x[x][i] != 0.0f) fail_msg("padding: array %d[%zu] = %g", x, i, a.x[x][i]);
            free(want);
        }
        dense_release(&a);
        dense_release(&b);
    }
}

// Long vectors, equal and opposite ones, zeros, and no token at all: everything stays finite.
static void test_extremes(void **state)
{
    (void)state;
    static const char *const options[4][2] = {
        {"estimate=sampled", "variant=specified"},
        {"estimate=sampled", "variant=published"},
        {"estimate=expectation", "variant=specified"},
        {"estimate=expectation", "variant=published"},
    };
    const mra_shape shape = {.batch = 1, .heads = 1, .n = 40, .d = 64};
    const size_t size = dense_size(shape);
    for (int which = 0; which < 4; which++) {
        dense_arrays a = dense_make(shape, 100.0f, false);
        memcpy(a.x[DENSE_K], a.x[DENSE_Q], 10 * 64 * sizeof(float));
        for (int i = 640; i < 1280; i++) a.x[DENSE_K][i] = -a.x[DENSE_Q][i];
        memset(a.x[DENSE_K] + 1280, 0, 64 * sizeof(float));
        memset(a.x[DENSE_Q] + 1344, 0, 64 * sizeof(float));
        run_yoso(shape, options[which], 2, &a);
        for (int x = DENSE_Z; x < DENSE_ARRAYS; x++)
            for (size_t i = 0; i < size; i++)
                if (!isfinite(a.x[x][i])) fail_msg("array %d[%zu] = %g", x, i, a.x[x][i]);
        a.mask = calloc(40, 1);
        run_yoso(shape, options[which], 2, &a);
        for (int x = DENSE_Z; x < DENSE_ARRAYS; x++)
            for (size_t i = 0; i < size; i++) assert_true(a.x[x][i] == 0.0f);
        dense_release(&a);
    }
}

static void refuse(mra_shape shape, const char *method, const char *const *options, int count,
                   const char *words)
{
    mra_error err;
    mra_attention_layer *layer;
    assert_int_equal(mra_attention_layer_create(&layer, method, device_of_test, shape, 5,
                                                options, count, &err),
                     MRA_BAD_INPUT);
    if (!strstr(err.message, words)) fail_msg("'%s' lacks '%s'", err.message, words);
}

static void test_refusals(void **state)
{
    (void)state;
    const mra_shape shape = {.batch = 1, .heads = 1, .n = 8, .d = 48};
    refuse(shape, "yoso", (const char *const[]){"bits=0"}, 1, "bits");
    refuse(shape, "yoso", (const char *const[]){"hashes=0"}, 1, "hashes");
    refuse(shape, "yoso-conv", (const char *const[]){"conv=4"}, 1, "conv");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expectation), cmocka_unit_test(test_sampled),
        cmocka_unit_test(test_hadamard),    cmocka_unit_test(test_means),
        cmocka_unit_test(test_padding),     cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
