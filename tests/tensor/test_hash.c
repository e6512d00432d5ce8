// Unit rows, hash codes, sorting by code, sums over collisions and attention among sorted rows,
// each against its contract in tensor/kernels.h, written down in float64.

#include "check.h"

#include "tensor/hash.h"

static void check_done(mra_status status, const mra_error *err)
{
    if (status) fail_msg("%s", err->message);
}

// ---- Unit rows ------------------------------------------------------------------------------

static mra_tensor *apply_unit(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    (void)context;
    return mra_unit_rows(tape, x[0]);
}

static void exact_rows(int rows, int d, const double *x, double *y)
{
    for (int i = 0; i < rows; i++) {
        double squares = 0;
        for (int j = 0; j < d; j++) squares += x[i * d + j] * x[i * d + j];
        for (int j = 0; j < d; j++) y[i * d + j] = x[i * d + j] / sqrt(squares);
    }
}

static void exact_unit(double *const *x, double *y, const void *context)
{
    const int *size = context;
    exact_rows(size[0], size[1], x[0], y);
}

static void test_unit_rows(void **state)
{
    (void)state;
    const int size[2] = {35, 9}, wide[2] = {1, 1100}; // rows of a warp, of a block of threads
    check_operation(
        &(check_case){"unit_rows", 1, {{3, {5, 7, 9}}}, apply_unit, exact_unit, size, 0}, 315);
    check_operation(
        &(check_case){"unit_rows", 1, {{2, {1, 1100}}}, apply_unit, exact_unit, wide, 0}, 1100);
    const float x[6] = {0, 0, 3e-13f, 0, 3e15f, -4e15f}, dy[6] = {1, 2, 3, 4, 5, 6};
    for (device_turn turn = {0}; device_next(&turn);) {
        mra_device *device = turn.device;
        mra_error err;
        float y[6], norm[3], dx[6];
        float *x0 = device_put(device, x, sizeof x), *y0 = device_put(device, y, sizeof y);
        float *norm0 = device_put(device, norm, sizeof norm);
        float *dy0 = device_put(device, dy, sizeof dy),
              *dx0 = device_put(device, dx, sizeof dx);
        check_done(device->kernels->unit_rows(device, 3, 2, x0, y0, norm0, &err), &err);
        check_done(
            device->kernels->unit_rows_backward(device, 3, 2, y0, norm0, dy0, dx0, false, &err),
            &err);
        device_get(device, y, y0, sizeof y);
        device_get(device, dx, dx0, sizeof dx);
        float *const rest[] = {x0, norm0, dy0};
        for (int i = 0; i < 3; i++) device_get(device, NULL, rest[i], 0);
        for (int i = 0; i < 4; i++) assert_true(y[i] == 0.0f && dx[i] == 0.0f);
        check_close(y[4], 0.6, 1e-6);
        check_close(y[5], -0.8, 1e-6);
    }
}

// ---- Angular attention ----------------------------------------------------------------------

enum { MATRICES = 2, ROWS = 9, D = 6 };

static mra_tensor *apply_angular(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const double *c = context; // power, shrink
    return mra_angular_attention(tape, mra_unit_rows(tape, x[0]), mra_unit_rows(tape, x[1]),
                                 x[2], (int)c[0], (float)c[1]);
}

static void exact_angular(double *const *x, double *y, const void *context)
{
    const double *c = context;
    double q[MATRICES * ROWS * D], k[MATRICES * ROWS * D];
    exact_rows(MATRICES * ROWS, D, x[0], q);
    exact_rows(MATRICES * ROWS, D, x[1], k);
    memset(y, 0, sizeof q);
    for (int i = 0; i < MATRICES * ROWS; i++)
        for (int j = i / ROWS * ROWS; j < (i / ROWS + 1) * ROWS; j++) {
            double cosine = 0;
            for (int e = 0; e < D; e++) cosine += q[i * D + e] * k[j * D + e];
            const double w = pow(1 - acos((float)c[1] * cosine) / M_PI, c[0]);
            for (int e = 0; e < D; e++) y[i * D + e] += w * x[2][j * D + e];
        }
}

static void test_angular(void **state)
{
    (void)state;
    static const double forms[3][2] = {{1, 1}, {9, 0.98}, {16, 1}};
    for (int i = 0; i < 3; i++) {
        check_case c = {
            "angular_attention",
            3,
            {{3, {MATRICES, ROWS, D}}, {3, {MATRICES, ROWS, D}}, {3, {MATRICES, ROWS, D}}},
            apply_angular,
            exact_angular,
            forms[i],
            1e-5};
        check_operation(&c, MATRICES * ROWS * D);
    }
}

// Every cosine from -1 to 1: weights within 1e-6 of the definition, finite slopes.
static void check_angles(mra_device *device, int count)
{
    const size_t bytes = 2 * (size_t)count * sizeof(float);
    mra_error err;
    float *q = calloc(1, bytes), *k = calloc(1, bytes), *y = calloc(1, bytes);
    for (int i = 0; i < count; i++) {
        const double theta = M_PI * i / (count - 1);
        q[2 * i] = (float)cos(theta);
        q[2 * i + 1] = (float)sin(theta);
    }
    k[0] = 1.0f; // as v: one key with a value, the others 0
    float *q0 = device_put(device, q, bytes), *k0 = device_put(device, k, bytes);
    float *y0 = device_put(device, y, bytes), *dq0 = device_put(device, y, bytes);
    const mra_angle_form form = {1, count, 2, 3, 1.0f};
    check_done(device->kernels->angular_attention(device, &form, q0, k0, k0, y0, &err), &err);
    check_done(device->kernels->angular_attention_backward(device, &form, q0, k0, q0, k0, dq0,
                                                           false, NULL, false, &err),
               &err);
    device_get(device, y, y0, bytes);
    for (int i = 0; i < count; i++)
        check_close(y[2 * i], pow(1 - acos(fmax(-1, fmin(1, q[2 * i]))) / M_PI, 3), 1e-6);
    device_get(device, y, dq0, bytes);
    for (int i = 0; i < 2 * count; i++) assert_true(isfinite(y[i]));
    device_get(device, NULL, q0, 0);
    device_get(device, NULL, k0, 0);
    free(q);
    free(k);
    free(y);
}

static void test_angles(void **state)
{
    (void)state;
    for (device_turn turn = {0}; device_next(&turn);)
        check_angles(turn.device, turn.slow ? 151 : 3001);
}

// ---- Codes ----------------------------------------------------------------------------------

// Projections closer to a tie than single precision can tell are left out of the comparison.
static void check_codes(mra_device *device, const mra_hash_form *f, bool rotations)
{
    const size_t heads = f->batch * (size_t)f->heads, n = (size_t)f->n, d = (size_t)f->d;
    const size_t hashes = (size_t)f->hashes, width = (size_t)f->width;
    float *x = check_normal(heads * n * d, 11);
    float *directions = check_normal((size_t)f->heads * hashes * width * d, 12);
    int32_t *codes = calloc(heads * hashes * n, sizeof *codes);
    uint8_t *mask = calloc(f->batch * n, 1);
    mra_error err;
    for (size_t i = 0; i < f->batch * n; i++) mask[i] = i % 5 != 2;
    int32_t *widths = calloc(f->batch, sizeof *widths);
    for (size_t b = 0; b < f->batch; b++) widths[b] = f->width - (int)b;
    const size_t x_bytes = heads * n * d * sizeof *x,
                 code_bytes = heads * hashes * n * sizeof *codes;
    float *x0 = device_put(device, x, x_bytes);
    float *directions0 = device_put(device, directions,
                                    (size_t)f->heads * hashes * width * d * sizeof *directions);
    int32_t *codes0 = device_put(device, codes, code_bytes);
    uint8_t *mask0 = device_put(device, mask, f->batch * n);
    int32_t *widths0 = device_put(device, widths, f->batch * sizeof *widths);
    check_done(rotations ? device->kernels->hash_rotations(device, f, x0, directions0,
                                                           f->batch > 1 ? widths0 : NULL, mask0,
                                                           codes0, &err)
                         : device->kernels->hash_signs(device, f, x0, directions0, mask0,
                                                       codes0, &err),
               &err);
    device_get(device, codes, codes0, code_bytes);
    void *const rest[] = {x0, directions0, mask0, widths0};
    for (int i = 0; i < 4; i++) device_get(device, NULL, rest[i], 0);
    for (size_t at = 0; at < heads * hashes * n; at++) {
        const size_t i = at % n, h = at / n % hashes, head = at / n / hashes;
        const float *own = directions + ((head % (size_t)f->heads) * hashes + h) * width * d;
        double largest = -1, second = -1, least = 1e9;
        int32_t want = 0;
        const size_t used = rotations ? (size_t)widths[head / (size_t)f->heads] : width;
        for (size_t b = 0; b < used; b++) {
            double p = 0;
            for (size_t e = 0; e < d; e++)
                p += (double)own[b * d + e] * x[(head * n + i) * d + e];
            if (!rotations) want |= (int32_t)(p > 0) << b;
            if (fabs(p) < least) least = fabs(p);
            if (fabs(p) > largest) {
                second = largest;
                largest = fabs(p);
                if (rotations) want = (int32_t)(2 * width * h + b + (p < 0 ? used : 0));
            } else if (fabs(p) > second) {
                second = fabs(p);
            }
        }
        if (!mask[head / (size_t)f->heads * n + i])
            assert_int_equal(codes[at], -1);
        else if ((rotations ? largest - second : least) > 1e-4)
            assert_int_equal(codes[at], want);
    }
    mra_aligned_free(x);
    mra_aligned_free(directions);
    free(codes);
    free(mask);
    free(widths);
}

static void test_codes(void **state)
{
    (void)state;
    for (device_turn turn = {0}; device_next(&turn);) {
        const int n = turn.slow ? 45 : 150;
        check_codes(turn.device, &(mra_hash_form){2, 3, n, 20, 4, 7, 128}, false);
        check_codes(turn.device, &(mra_hash_form){1, 1, 5, 64, 2, 16, 1 << 16}, false);
        check_codes(turn.device, &(mra_hash_form){2, 3, n, 20, 4, 5, 40}, true);
        check_codes(turn.device, &(mra_hash_form){1, 2, 9, 20, 2, 71, 284}, true);
        check_codes(turn.device, &(mra_hash_form){1, 1, 1, 3, 1, 1, 2}, true);
    }
}

// Stable, with codes left out; start says where each code begins.
static void check_sort(mra_device *device, int lists, int length, int range)
{
    const size_t entries = (size_t)(lists * length), starts = (size_t)(lists * (range + 1));
    mra_error err;
    mra_random random = mra_random_open(check_seed(), 77);
    int32_t *codes = calloc(2 * entries + starts, sizeof *codes), *order = codes + entries;
    int32_t *start = order + entries;
    for (size_t i = 0; i < entries; i++)
        codes[i] = (int32_t)mra_random_below(&random, (uint32_t)range + 1) - 1;
    int32_t *codes0 = device_put(device, codes, entries * sizeof *codes);
    int32_t *order0 = device_put(device, order, entries * sizeof *codes);
    int32_t *start0 = device_put(device, start, starts * sizeof *codes);
    check_done(device->kernels->sort_by_code(device, (size_t)lists, length, range, codes0,
                                             order0, start0, &err),
               &err);
    device_get(device, NULL, codes0, 0);
    device_get(device, order, order0, entries * sizeof *codes);
    device_get(device, start, start0, starts * sizeof *codes);
    for (int list = 0; list < lists; list++, start += range + 1, order += length) {
        const int32_t *own = codes + list * length;
        int placed = 0;
        for (int c = 0; c < range; c++) assert_true(start[c] <= start[c + 1]);
        for (int i = 0; i < length; i++) {
            if (own[i] < 0) continue;
            int before = 0; // entries that come first
            for (int j = 0; j < length; j++)
                before += own[j] >= 0 && (own[j] < own[i] || (own[j] == own[i] && j < i));
            assert_int_equal(order[before], i);
            assert_true(before >= start[own[i]] && before < start[own[i] + 1]);
            placed++;
        }
        assert_int_equal(start[0], 0);
        assert_int_equal(start[range], placed);
    }
    free(codes);
}

// Ranges for which the kernels keep eight counts a code, fewer, and one in global memory.
static void test_sort(void **state)
{
    (void)state;
    for (device_turn turn = {0}; device_next(&turn);) {
        check_sort(turn.device, 3, 200, 17);
        check_sort(turn.device, 2, 333, 100);
        check_sort(turn.device, 1, 100, 8000);
        check_sort(turn.device, 2, 100, 25000);
        check_sort(turn.device, 2, 1, 1);
    }
}

// ---- Collisions -----------------------------------------------------------------------------

// Codes of which one takes half of the rows: buckets of one row, and of hundreds.
static void check_collisions(mra_device *device, const mra_hash_form *f,
                             const mra_collision_rule *rule, bool add)
{
    const size_t heads = f->batch * (size_t)f->heads, n = (size_t)f->n, d = (size_t)f->d;
    const size_t size = heads * n * d, codes = heads * (size_t)f->hashes * n;
    float *x[7]; // q, k, v, dy; y, dq, dk
    double *want[3];
    int32_t *code[2];
    mra_random random = mra_random_open(check_seed(), 78);
    mra_error err;
    for (uint64_t i = 0; i < 7; i++) x[i] = check_normal(size, 20 + i);
    for (int i = 0; i < 2; i++) {
        for (size_t row = 0; row < heads * n; row++) {
            double squares = 0;
            for (size_t e = 0; e < d; e++) squares += pow(x[i][row * d + e], 2);
            for (size_t e = 0; e < d; e++) x[i][row * d + e] /= (float)sqrt(squares);
        }
        code[i] = malloc(codes * sizeof *code[i]);
        for (size_t e = 0; e < codes; e++)
            code[i][e] = mra_random_below(&random, 2)
                             ? 0
                             : (int32_t)mra_random_below(&random, (uint32_t)f->codes + 1) - 1;
    }
    for (int i = 0; i < 3; i++) {
        want[i] = calloc(size, sizeof *want[i]);
        for (size_t e = 0; e < size && add; e++) want[i][e] = x[4 + i][e];
    }
    for (size_t row = 0; row < heads * n; row++)
        for (size_t j = 0; j < n; j++) {
            const size_t head = row / n, i = row % n, other = head * n + j;
            int met = 0;
            for (size_t h = 0; h < (size_t)f->hashes; h++) {
                const size_t at = (head * (size_t)f->hashes + h) * n;
                met += code[0][at + i] >= 0 && code[0][at + i] == code[1][at + j];
            }
            if (!met) continue;
            double c = 0, along = 0;
            for (size_t e = 0; e < d; e++) {
                c += rule->shrink * x[0][row * d + e] * x[1][other * d + e];
                along += (double)x[3][row * d + e] * x[2][other * d + e];
            }
            const double g = rule->derivative
                                 ? rule->power * pow(1 - acos(c) / M_PI, rule->power - 1) /
                                       (M_PI * sqrt(1 - c * c))
                                 : rule->power / 2.0 * met / f->hashes;
            for (size_t e = 0; e < d; e++) {
                want[0][row * d + e] += (double)met / f->hashes * x[2][other * d + e];
                want[1][row * d + e] += g * along * x[1][other * d + e];
                want[2][other * d + e] += g * along * x[0][row * d + e];
            }
        }
    float *x0[7];
    int32_t *code0[2];
    for (int i = 0; i < 7; i++) x0[i] = device_put(device, x[i], size * sizeof(float));
    for (int i = 0; i < 2; i++) code0[i] = device_put(device, code[i], codes * sizeof(int32_t));
    check_done(
        device->kernels->collision_sum(device, f, code0[1], code0[0], x0[2], x0[4], add, &err),
        &err);
    check_done(device->kernels->collision_backward(device, f, rule, code0[0], code0[1],
                                                   (const float *const[3]){x0[0], x0[1], x0[2]},
                                                   x0[3], x0[5], add, x0[6], add, &err),
               &err);
    for (int i = 0; i < 7; i++)
        device_get(device, i < 4 ? NULL : x[i], x0[i], size * sizeof(float));
    for (int i = 0; i < 2; i++) device_get(device, NULL, code0[i], 0);
    for (int i = 0; i < 3; i++) {
        check_difference("collisions", (const char *[]){"y", "dq", "dk"}[i], x[4 + i], want[i],
                         size, 1e-5);
        free(want[i]);
    }
    for (int i = 0; i < 7; i++) mra_aligned_free(x[i]);
    free(code[0]);
    free(code[1]);
}

static void test_collisions(void **state)
{
    (void)state;
    const mra_collision_rule bound = {false, 5, 1.0f}, derivative = {true, 5, 0.9f};
    for (device_turn turn = {0}; device_next(&turn);) {
        const bool slow = turn.slow;
        const mra_hash_form large = {2, 2, slow ? 100 : 260, slow ? 24 : 40, 3, 0, 30};
        const mra_hash_form wide = {1, 2, slow ? 70 : 150, 8, 2, 0, 2};
        const mra_hash_form square = {1, 1, 150, 70, 1, 0, 2};
        for (int add = 0; add < 2; add++) {
            check_collisions(turn.device, &large, &bound, add); // by pairs, by products
            check_collisions(turn.device, &wide, &bound, add);  // d x d matrices
            check_collisions(turn.device, &wide, &derivative, add);
        }
        if (turn.order == 0) check_collisions(turn.device, &square, &bound, false);
    }
}

// ---- Sorted rows ----------------------------------------------------------------------------

enum { HEADS = 2, N = 11, ROUNDS = 2, RANGE = 6 };

typedef struct sorted_case {
    mra_sorted_form form;
    int32_t codes[HEADS * ROUNDS * N];
    uint8_t mask[N];
} sorted_case;

static mra_tensor *apply_sorted(mra_tape *tape, mra_tensor *const *x, const void *context)
{
    const sorted_case *s = context;
    const int32_t *codes = mra_tape_upload(tape, s->codes, sizeof s->codes);
    const uint8_t *keep = mra_tape_upload(tape, s->mask, sizeof s->mask);
    return mra_sorted_attention(tape, x[0], x[1], x[2], &s->form, codes, RANGE, keep);
}

// How often row i of a head meets row j, and in which rounds.
static int meets(const sorted_case *s, const int32_t *codes, int i, int j)
{
    const int chunk = s->form.chunk, all = ROUNDS * N;
    int place[ROUNDS * N], count = 0;
    for (int e = 0; e < all; e++) {
        place[e] = 0;
        for (int f = 0; f < all; f++)
            place[e] += codes[f] >= 0 && (!s->form.by_bucket || f / N == e / N) &&
                        (codes[f] < codes[e] || (codes[f] == codes[e] && f < e));
    }
    if (s->form.by_bucket) {
        for (int r = 0; r < ROUNDS; r++) {
            const int e = r * N + i, f = r * N + j, back = place[e] / chunk - place[f] / chunk;
            if (codes[e] == codes[f] && codes[e] >= 0 && (back == 0 || back == 1)) return 1;
        }
        return 0;
    }
    const int chunks = (all + chunk - 1) / chunk;
    for (int e = i; e < all; e += N)
        for (int f = j; f < all; f += N) {
            const int own = place[e] / chunk, other = place[f] / chunk;
            count += (own == other) + (other == (own + chunks - 1) % chunks);
        }
    return count;
}

static void exact_sorted(double *const *x, double *y, const void *context)
{
    const sorted_case *s = context;
    memset(y, 0, sizeof *y * HEADS * N * D);
    for (int row = 0; row < HEADS * N; row++) {
        const int head = row / N, i = row % N;
        double p[N], largest = -INFINITY, sum = 0;
        for (int j = 0; j < N; j++) {
            const int count =
                s->mask[i] && s->mask[j] ? meets(s, s->codes + head * ROUNDS * N, i, j) : 0;
            p[j] = i == j ? -1e5 : 0;
            for (int e = 0; e < D && i != j; e++)
                p[j] += x[0][row * D + e] * x[1][(head * N + j) * D + e];
            p[j] = count ? p[j] + (i == j ? 0 : log(count)) : -INFINITY;
            if (p[j] > largest) largest = p[j];
        }
        if (largest == -INFINITY) continue;
        for (int j = 0; j < N; j++) sum += exp(p[j] - largest);
        for (int j = 0; j < N; j++)
            for (int e = 0; e < D; e++)
                y[row * D + e] += exp(p[j] - largest) / sum * x[2][(head * N + j) * D + e];
    }
}

static void test_sorted(void **state)
{
    (void)state;
    static const int chunks[4] = {1, 3, 8, 64};
    mra_random random = mra_random_open(check_seed(), 79);
    for (int which = 0; which < 8; which++) {
        sorted_case s = {.form = {1, HEADS, N, D, ROUNDS, chunks[which / 2], which % 2 == 0}};
        for (int i = 0; i < N; i++) s.mask[i] = mra_random_below(&random, 4) > 0;
        for (int e = 0; e < HEADS * ROUNDS * N; e++) {
            const bool out = s.form.by_bucket && !s.mask[e % N];
            const int32_t code = (int32_t)mra_random_below(&random, RANGE / ROUNDS);
            s.codes[e] = out ? -1 : code + e / N % ROUNDS * (RANGE / ROUNDS);
        }
        const check_shape shape = {4, {1, HEADS, N, D}};
        const check_case c = {
            "sorted_attention", 3, {shape, shape, shape}, apply_sorted, exact_sorted, &s, 1e-5};
        check_operation(&c, HEADS * N * D);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    mra_device *device = check_open(1);
    mra_tape *tape = check_tape(device);
    mra_error err;
    float data[24] = {0};
    mra_tensor *x = mra_wrap(tape, 3, (int[]){2, 3, 4}, data, NULL);
    mra_tensor *y = mra_wrap(tape, 3, (int[]){2, 4, 3}, data, NULL);
    assert_null(mra_angular_attention(tape, x, y, x, 2, 1.0f));
    assert_int_equal(mra_tape_status(tape, &err), MRA_BAD_INPUT);
    assert_non_null(strstr(err.message, "angular_attention"));
    mra_tape_free(tape);
    mra_device_close(device);
    // More columns than the tiles of a kernel have: said by the devices that have that limit.
    for (device_turn turn = {0}; device_next(&turn);) {
        if (strcmp(turn.device->name, "cpu") == 0) continue;
        static const float zeros[257];
        static const int32_t codes[1];
        const mra_hash_form form = {1, 1, 1, 257, 1, 0, 2};
        const mra_collision_rule rule = {false, 1, 1.0f};
        float *rows = device_put(turn.device, zeros, sizeof zeros);
        float *gradient = device_put(turn.device, zeros, sizeof zeros);
        int32_t *code = device_put(turn.device, codes, sizeof codes);
        assert_int_equal(
            turn.device->kernels->collision_backward(turn.device, &form, &rule, code, code,
                                                     (const float *const[3]){rows, rows, rows},
                                                     rows, gradient, false, NULL, false, &err),
            MRA_BAD_INPUT);
        assert_non_null(strstr(err.message, "d = 257: expected at most 256"));
        device_get(turn.device, NULL, rows, 0);
        device_get(turn.device, NULL, gradient, 0);
        device_get(turn.device, NULL, code, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unit_rows), cmocka_unit_test(test_angular),
        cmocka_unit_test(test_angles),    cmocka_unit_test(test_codes),
        cmocka_unit_test(test_sort),      cmocka_unit_test(test_collisions),
        cmocka_unit_test(test_sorted),    cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
