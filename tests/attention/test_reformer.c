// reformer against its definition: one softmax over the union of the sets that the rounds find,
// with the drawn rotations taken as given; and how often vectors at an angle share a bucket.

#include "method_case.h"

#include "attention/hashing.h"
#include "tensor/kernels.h"

enum { HASHES, BUCKET, BUCKETS, VARIANT }; // positions of the options

// Codes of one head's rows as the program computes them from the layer's rotations (which
// tests/tensor/test_hash.c checks): [rounds][n], each round's from its own range.
static int32_t *codes_of(const method_case *c)
{
    mra_method_array rotations[MRA_METHOD_ARRAYS];
    mra_device *cpu;
    mra_error err;
    assert_int_equal(mra_device_open(&cpu, "cpu", 1, &err), MRA_OK);
    assert_int_equal(c->layer->method->drawn(c->layer, rotations), 1);
    mra_hash_form form = {.batch = 1,
                          .heads = 1,
                          .n = c->n,
                          .d = c->d,
                          .hashes = rotations[0].shape[1],
                          .width = rotations[0].shape[2]};
    int32_t tokens = 0, width = form.width, chunk = (int32_t)c->layer->option[BUCKET].number;
    for (int i = 0; i < c->n; i++) tokens += !c->mask || c->mask[i];
    if (c->layer->option[VARIANT].number == 0 && c->layer->option[BUCKETS].number == 0)
        width = tokens > chunk ? (tokens + chunk - 1) / chunk : 1; // half as many as buckets
    form.codes = 2 * form.width * form.hashes;
    const size_t each = (size_t)(form.hashes * form.width * c->d);
    int32_t *codes = malloc(sizeof *codes * (size_t)(form.hashes * c->n));
    assert_non_null(codes);
    assert_int_equal(cpu->kernels->hash_rotations(cpu, &form, c->q,
                                                  rotations[0].floats + (size_t)c->head * each,
                                                  &width, NULL, codes, &err),
                     MRA_OK);
    mra_device_close(cpu);
    return codes;
}

// met[n][n]: how many rounds have j in reach of i, by the paper's definition.
static void specified_sets(const method_case *c, const int32_t *codes, int rounds, int *met)
{
    const int n = c->n, chunk = (int)c->layer->option[BUCKET].number;
    int *place = malloc(sizeof *place * (size_t)n);
    for (int r = 0; r < rounds; r++) {
        const int32_t *code = codes + r * n;
        for (int i = 0; i < n; i++) { // how many unmasked tokens sort before i
            place[i] = 0;
            for (int j = 0; j < n; j++)
                place[i] += (!c->mask || c->mask[j]) &&
                            (code[j] < code[i] || (code[j] == code[i] && j < i));
        }
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                const int back = place[i] / chunk - place[j] / chunk;
                met[i * n + j] += code[i] == code[j] && (back == 0 || back == 1);
            }
    }
    free(place);
}

// The published code's: a ring of rounds * n places.
static void published_sets(const method_case *c, const int32_t *codes, int rounds, int *met)
{
    const int n = c->n, all = rounds * n, chunk = (int)c->layer->option[BUCKET].number;
    const int chunks = (all + chunk - 1) / chunk;
    int *token = malloc(sizeof *token * (size_t)all);
    for (int e = 0; e < all; e++) {
        int place = 0;
        for (int f = 0; f < all; f++)
            place += codes[f] < codes[e] || (codes[f] == codes[e] && f < e);
        token[place] = e % n;
    }
    for (int e = 0; e < all; e++)
        for (int f = 0; f < all; f++) {
            const int own = e / chunk, other = f / chunk;
            met[token[e] * n + token[f]] +=
                (other == own) + (other == (own + chunks - 1) % chunks);
        }
    free(token);
}

static void definition(const method_case *c, double *const x[3], double *z)
{
    const int n = c->n, d = c->d, rounds = (int)c->layer->option[HASHES].number;
    const bool published = c->layer->option[VARIANT].number == 1;
    int *met = calloc((size_t)n * (size_t)n, sizeof *met);
    double *p = malloc(sizeof *p * (size_t)n);
    int32_t *codes = codes_of(c);
    (published ? published_sets : specified_sets)(c, codes, rounds, met);
    memset(z, 0, sizeof *z * (size_t)(n * d));
    for (int i = 0; i < n; i++) {
        double largest = -INFINITY, sum = 0;
        if (c->mask && !c->mask[i]) continue;
        for (int j = 0; j < n; j++) {
            double dot = 0, norm = 0;
            for (int e = 0; e < d; e++) {
                dot += x[0][i * d + e] * x[0][j * d + e];
                norm += x[0][j * d + e] * x[0][j * d + e];
            }
            const bool seen = met[i * n + j] && (!c->mask || c->mask[j]);
            p[j] = !seen ? -INFINITY : i == j ? -1e5 : dot / sqrt(norm);
            if (p[j] > largest) largest = p[j];
        }
        for (int j = 0; j < n; j++)
            sum += p[j] = exp(p[j] - largest) * (published ? met[i * n + j] : 1);
        for (int j = 0; j < n; j++)
            for (int e = 0; e < d; e++) z[i * d + e] += p[j] / sum * x[2][j * d + e];
    }
    free(codes);
    free(met);
    free(p);
}

static void test_definition(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "reformer", .definition = definition});
    method_report(&(method_check){.method = "reformer",
                                  .options = {"hashes=4", "bucket=8", "buckets=6"},
                                  .label = "reformer, 4 rounds",
                                  .definition = definition,
                                  .lengths = {50, 191}});
    method_report(&(method_check){.method = "reformer",
                                  .options = {"hashes=1", "bucket=16", "buckets=10"},
                                  .label = "reformer, 1 round",
                                  .definition = definition,
                                  .shape = {.batch = 2, .heads = 3, .d = 20},
                                  .lengths = {100}});
    method_report(&(method_check){.method = "reformer",
                                  .options = {"variant=published"},
                                  .label = "reformer, published",
                                  .definition = definition,
                                  .lengths = {1, 33, 128, 333}});
    method_report(&(method_check){.method = "reformer",
                                  .options = {"variant=published", "hashes=3", "bucket=8"},
                                  .label = "reformer, published, chunks of 8",
                                  .definition = definition,
                                  .lengths = {49, 100}});
}

// Logits of +-10^4: a softmax of one or two tokens. Its gradients are differences of large
// numbers, so the forward pass alone is compared, and the gradients have to be finite.
static void test_extremes(void **state)
{
    (void)state;
    method_report(&(method_check){.method = "reformer",
                                  .label = "reformer, logits of 1e4",
                                  .definition = definition,
                                  .deviation = 1250,
                                  .tolerance = 1e-2,
                                  .without_gradient = true,
                                  .lengths = {33, 257}});
}

// ---- Collision rates ------------------------------------------------------------------------

// The probability that two vectors at correlation c agree in the nearest of 2 w axes: 2 w times
// the integral over a, b > 0 of the density of both having (a, b) on one axis, times the
// probability that each of the other w - 1 pairs of coordinates is smaller than (a, b) in size.
static double collision_rate(int w, double c)
{
    enum { GRID = 400 };
    const double step = 6.0 / GRID, s = sqrt(1 - c * c);
    double total = 0;
    for (int ib = 0; ib < GRID; ib++) {
        const double b = (ib + 0.5) * step;
        double inside = 0; // P(|X| < a, |Y| < b), grown with a
        for (int ia = 0; ia < GRID; ia++) {
            const double a = (ia + 0.5) * step;
            const double phi = exp(-a * a / 2) / sqrt(2 * M_PI);
            const double strip =
                phi * 0.5 *
                (erf((b - c * a) / (s * M_SQRT2)) - erf((-b - c * a) / (s * M_SQRT2)));
            const double mean = inside + strip * step; // half of 2 strip step: both signs of X
            const double r = (b - c * a) / s;
            total += phi * exp(-r * r / 2) / (sqrt(2 * M_PI) * s) * pow(mean, w - 1);
            inside += 2 * strip * step;
        }
    }
    return 2 * w * total * step * step;
}

// |z| > 5.3 in 16 counts: a false alarm in about 2 of 10^6 runs. For one and two projections
// the rate is (1 - theta / pi) and its square, which also checks the integral.
static void test_collision_rates(void **state)
{
    (void)state;
    enum { D = 8 };
    const int draws = getenv("MRA_SANITIZED") ? 1000 : 10000;
    static const int widths[4] = {1, 2, 4, 16};
    static const double angles[4] = {0.2, 0.7, 1.3, 1.7};
    mra_device *device;
    mra_error err;
    assert_int_equal(mra_device_open(&device, "cpu", 2, &err), MRA_OK);
    int32_t *codes = malloc(sizeof *codes * 2 * (size_t)draws);
    for (int w = 0; w < 4; w++) {
        mra_hash_directions rotations;
        const mra_hash_form form = {1, 1, 2, D, draws, widths[w], 2 * widths[w] * draws};
        assert_int_equal(mra_hash_directions_create(
                             &rotations, device, (int[]){1, draws, widths[w], D},
                             MRA_DIRECTIONS_NORMAL, dense_seed() + (uint64_t)w, "test", &err),
                         MRA_OK);
        for (int a = 0; a < 4; a++) {
            float x[2 * D] = {0};
            x[0] = 3;
            x[D] = (float)cos(angles[a]);
            x[D + 1] = (float)sin(angles[a]);
            assert_int_equal(device->kernels->hash_rotations(device, &form, x, rotations.data,
                                                             NULL, NULL, codes, &err),
                             MRA_OK);
            int agree = 0;
            for (int i = 0; i < draws; i++) agree += codes[2 * i] == codes[2 * i + 1];
            const double rate = collision_rate(widths[w], cos(angles[a]));
            if (w < 2) assert_true(fabs(rate - pow(1 - angles[a] / M_PI, w + 1)) < 1e-3);
            const double z = (agree - draws * rate) / sqrt(draws * rate * (1 - rate));
            printf("# reformer, %2d buckets, angle %.1f: rate %.4f, expected %.4f, z = %.2f\n",
                   2 * widths[w], angles[a], (double)agree / draws, rate, z);
            if (!(fabs(z) < 5.3)) fail_msg("z = %.2f", z);
        }
        mra_hash_directions_free(&rotations);
    }
    free(codes);
    mra_device_close(device);
}

// ---- Padding, the rule for itself, bad input ------------------------------------------------

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

static void run_reformer(mra_shape shape, const char *option, dense_arrays *a)
{
    mra_error err;
    mra_attention_layer *layer;
    if (mra_attention_layer_create(&layer, "reformer", device_of_test, shape, 5, &option, 1,
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
    const mra_shape large = {.batch = 1, .heads = 1, .n = 150, .d = 32};
    mra_shape small = large;
    small.n = 93;
    dense_arrays a = dense_make(large, 1.0f, false), b = dense_make(large, 1.0f, false);
    const size_t size = dense_size(small);
    a.mask = calloc(150, 1);
    assert_non_null(a.mask);
    memset(a.mask, 1, 93);
    for (size_t i = size; i < dense_size(large); i++) a.x[DENSE_V][i] = NAN;
    run_reformer(large, "bucket=16", &a);
    run_reformer(small, "bucket=16", &b);
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

// A token alone in its chunk has itself; long, zero and masked tokens leave everything finite;
// K gets no gradient.
static void test_itself(void **state)
{
    (void)state;
    const mra_shape shape = {.batch = 1, .heads = 1, .n = 40, .d = 64};
    const size_t size = dense_size(shape);
    for (int published = 0; published < 2; published++) {
        const char *variant = published ? "variant=published" : "variant=specified";
        dense_arrays a = dense_make(shape, 1000.0f, false);
        memset(a.x[DENSE_Q] + 640, 0, 640 * sizeof(float));
        run_reformer(shape, variant, &a);
        for (int x = DENSE_Z; x < DENSE_ARRAYS; x++)
            for (size_t i = 0; i < size; i++) {
                if (!isfinite(a.x[x][i])) fail_msg("array %d[%zu] = %g", x, i, a.x[x][i]);
                if (x == DENSE_DK) assert_true(a.x[x][i] == 0.0f);
            }
        a.mask = calloc(40, 1);
        run_reformer(shape, variant, &a);
        for (int x = DENSE_Z; x < DENSE_ARRAYS; x++)
            for (size_t i = 0; i < size; i++) assert_true(a.x[x][i] == 0.0f);
        a.mask[7] = 1;
        run_reformer(shape, variant, &a);
        for (size_t e = 7 * 64; e < 8 * 64; e++)
            if (fabsf(a.x[DENSE_Z][e] - a.x[DENSE_V][e]) > 1e-6f ||
                fabsf(a.x[DENSE_DV][e] - a.x[DENSE_DZ][e]) > 1e-6f)
                fail_msg("%s: a token alone does not attend to itself", variant);
        dense_release(&a);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    mra_error err;
    mra_attention_layer *layer;
    const mra_shape shape = {.batch = 1, .heads = 1, .n = 8, .d = 48};
    static const char *const wrong[3] = {"buckets=7", "bucket=0", "hashes=17"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mra_attention_layer_create(&layer, "reformer", device_of_test, shape,
                                                    5, wrong + i, 1, &err),
                         MRA_BAD_INPUT);
        const size_t name = (size_t)(strchr(wrong[i], '=') - wrong[i]);
        char option[16] = "";
        memcpy(option, wrong[i], name);
        if (!strstr(err.message, option) || !strstr(err.message, "reformer"))
            fail_msg("'%s' does not name %s", err.message, option);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),      cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_collision_rates), cmocka_unit_test(test_padding),
        cmocka_unit_test(test_itself),          cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
