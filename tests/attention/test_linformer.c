// Linformer against its definition: keys and values mixed over positions, softmax over what was mixed.

#include "method_case.h"

static void definition(const method_case *c, double *const x[3], double *z)
{
    const mra_tensor *e = c->layer->parameter[0];
    const int k = e->shape[1], positions = e->shape[2], n = c->n, d = c->d;
    const float *projection = e->data + (size_t)c->head * (size_t)k * (size_t)positions;
    double *mixed[2], *weight = malloc(sizeof *weight * (size_t)k);
    for (int which = 0; which < 2; which++) {
        mixed[which] = calloc((size_t)k * (size_t)d, sizeof(double));
        for (int r = 0; r < k; r++)
            for (int j = 0; j < n; j++)
                for (int i = 0; i < d && (!c->mask || c->mask[j]); i++)
                    mixed[which][r * d + i] +=
                        projection[(size_t)r * (size_t)positions + (size_t)j] *
                        x[1 + which][j * d + i];
    }
    for (int i = 0; i < n; i++) {
        double largest = -INFINITY, sum = 0;
        for (int r = 0; r < k; r++) {
            weight[r] = 0;
            for (int j = 0; j < d; j++) weight[r] += x[0][i * d + j] * mixed[0][r * d + j];
            weight[r] /= sqrt(d);
            largest = fmax(largest, weight[r]);
        }
        for (int r = 0; r < k; r++) sum += weight[r] = exp(weight[r] - largest);
        for (int j = 0; j < d; j++) {
            z[i * d + j] = 0;
            for (int r = 0; r < k && (!c->mask || c->mask[i]); r++)
                z[i * d + j] += weight[r] / sum * mixed[1][r * d + j];
        }
    }
    free(mixed[0]);
    free(mixed[1]);
    free(weight);
}

static void test_linformer(void **state)
{
    (void)state;
    // Mixed keys are as large as sqrt(n / k) keys: moderate inputs keep the softmax from a single entry.
    method_report(&(method_check){.method = "linformer",
                                  .options = {"k=48"},
                                  .definition = definition,
                                  .deviation = 0.5,
                                  .shape = {.batch = 2}});
    method_report(&(method_check){.method = "linformer",
                                  .options = {"k=7", "variant=published"},
                                  .label = "linformer k=7",
                                  .definition = definition,
                                  .lengths = {33, 64}});
}

static void test_padding(void **state)
{
    (void)state;
    method_padding(&(method_check){.method = "linformer", .options = {"k=32"}}, 100, 71);
}

static void test_learned(void **state)
{
    (void)state;
    mra_method_parameter parameter[MRA_METHOD_PARAMETERS];
    mra_error err;
    int count;
    const char *const published[] = {"variant=published"};
    mra_attention_request request = {
        .method = "linformer", .shape = {1, 3, 50, 8}, .positions = 80};
    assert_int_equal(mra_attention_learned(&request, parameter, &count, &err), MRA_OK);
    assert_int_equal(count, 1);
    assert_string_equal(parameter[0].name, "projection");
    assert_int_equal(parameter[0].shape[0], 3);
    assert_int_equal(parameter[0].shape[1], 256);
    assert_int_equal(parameter[0].shape[2], 80);
    assert_true(parameter[0].deviation == 1 / 16.0f); // N(0, 1/k)
    assert_false(parameter[0].shared_by_layers);
    request.assignments = published;
    request.assignment_count = 1;
    assert_int_equal(mra_attention_learned(&request, parameter, &count, &err), MRA_OK);
    assert_true(parameter[0].shared_by_layers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linformer),
                                       cmocka_unit_test(test_padding),
                                       cmocka_unit_test(test_learned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
