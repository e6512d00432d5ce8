// Masks equal deletion, for every method of the table: a sequence whose last tokens are masked gives, for
// the others, what the sequence without them gives, forward and backward, whether it ends inside a
// block or leaves whole blocks empty. What the tests of the methods show with masks is that a masked
// token is not seen; here it is not counted either: not in budgets, not among landmarks, not where
// blocks are drawn.
//
// The published code's variants hold to that where nothing else is said below; where they do not, that is
// what they are there to show, and it is checked too.

#include "method_case.h"

enum { LENGTHS = 4 };
static const int lengths[LENGTHS][2] = {{512, 500}, {128, 77}, {97, 64}, {40, 1}};

typedef struct padding_case {
    const char *method;
    const char *options[3];
    bool cpu_only;
    const char *differs; // why it is not the same; NULL: it is
} padding_case;

// Options beside the defaults: where a default would do all there is to do at these lengths.
static const padding_case special[] = {
    {.method = "mra2", .options = {"blocks=1.5"}},
    {.method = "mra2", .options = {"blocks=1.5", "ranking=spread"}, .cpu_only = true},
    {.method = "mra2",
     .options = {"blocks=1.5", "rows=all"},
     .differs = "counts the rows of padding"},
    {.method = "mra2s", .options = {"blocks=1.5"}},
    {.method = "mra", .options = {"blocks=1.5:20", "scales=32:8:1"}},
    {.method = "mra", .options = {"blocks=1.2:3:9", "scales=24:12:4:1", "sparse=yes"}},
    {.method = "mra",
     .options = {"blocks=1.5:20", "scales=32:8:1", "rows=all"},
     .differs = "counts the rows of padding"},
    {.method = "bigbird", .options = {"block=8"}},
    {.method = "bigbird",
     .options = {"block=8", "variant=published"},
     .differs = "draws padding, anew in every pass, and sees its last block"},
    {.method = "linformer", .options = {"variant=published"}},
    {.method = "performer",
     .options = {"variant=published"},
     .differs = "counts masked keys in its divisor"},
    {.method = "nystromformer", .options = {"landmarks=8"}},
    {.method = "nystromformer",
     .options = {"landmarks=1", "variant=published"},
     .differs = "its segments hold padding"},
    {.method = "soft", .options = {"landmarks=8"}},
    {.method = "soft",
     .options = {"landmarks=8", "variant=published"},
     .differs = "windows of padding are landmarks"},
    {.method = "yoso", .options = {"variant=published"}},
    {.method = "reformer",
     .options = {"variant=published"},
     .differs = "sorts padding among the tokens, so that chunks shift"},
    {.method = "scatterbrain", .options = {"window=16", "variant=published"}},
    {.method = "htransformer1d", .options = {"block=8"}},
    {.method = "htransformer1d",
     .options = {"block=8", "variant=published"},
     .differs = "blocks of padding add to its divisor"},
};

// The largest differences forward and backward; false: the device has no code for the method.
static bool measure(const method_check *check, const device_turn *turn, double largest[2])
{
    static const int short_ones[][2] = {{80, 45}};
    const int(*pairs)[2] = turn->slow ? short_ones : lengths;
    largest[0] = largest[1] = 0;
    for (int i = 0; i < (turn->slow ? 1 : LENGTHS); i++) {
        double worst[2];
        if (!method_padding_on(check, turn->device, pairs[i][0], pairs[i][1], worst))
            return false;
        for (int j = 0; j < 2; j++) method_keep(&largest[j], worst[j]);
    }
    return true;
}

static void check_padding(const padding_case *c, const device_turn *turn)
{
    enum { ROOM = 80 };
    char label[ROOM], name[160], line[200];
    int at = snprintf(label, ROOM, "%s", c->method);
    for (int i = 0; i < 3 && c->options[i]; i++)
        at += snprintf(label + at, (size_t)(ROOM - at), " %s", c->options[i]);
    const method_check check = {.method = c->method,
                                .label = label,
                                .options = {c->options[0], c->options[1], c->options[2]}};
    double largest[2];
    if ((c->cpu_only && turn->slow) || !measure(&check, turn, largest)) return;
    method_name(&check, turn->label, name);
    snprintf(line, sizeof line, "%s padding %7.1e\n", name, fmax(largest[0], largest[1]));
    printf("# %s forward %.1e, backward %.1e%s%s\n", name, largest[0], largest[1],
           c->differs ? ": " : "", c->differs ? c->differs : "");
    fflush(stdout);
    if (c->differs) {
        if (!(largest[0] > 1e-3)) fail_msg("%s: the same although it %s", label, c->differs);
        return;
    }
    method_log(line);
    if (!(fmax(largest[0], largest[1]) <= 1e-5))
        fail_msg("%s on %s: a masked tail differs from the shorter sequence by %.3g forward, "
                 "%.3g backward; allowed 1e-5",
                 label, turn->label, largest[0], largest[1]);
}

static void test_defaults(void **state)
{
    (void)state;
    for (device_turn turn = {0}; device_next(&turn);)
        for (int i = 0; mra_method_at(i) && turn.order == 0; i++)
            check_padding(&(padding_case){.method = mra_method_at(i)->name}, &turn);
}

static void test_options(void **state)
{
    (void)state;
    for (device_turn turn = {0}; device_next(&turn);)
        for (size_t i = 0; i < sizeof special / sizeof special[0] && turn.order == 0; i++)
            check_padding(&special[i], &turn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_defaults),
                                       cmocka_unit_test(test_options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
