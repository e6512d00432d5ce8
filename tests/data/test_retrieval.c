// Pairs of documents: the rows of the AAN files, and pairs of reviews of one film or of two.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "../io/pack.h"
#include "data/data.h"
#include "data/retrieval.h"
#include "nn/batches.h"

static mra_error err;

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

static void assert_text(const uint16_t *ids, int length, const char *text)
{
    assert_int_equal(length, strlen(text));
    for (int i = 0; i < length; i++) assert_int_equal(ids[i], (unsigned char)text[i] + 1);
}

// ---- AAN ------------------------------------------------------------------------------------

static mra_dataset_options aan_options(void)
{
    mra_dataset_options options = mra_dataset_defaults("retrieval");
    options.folder = scratch_folder;
    options.quiet = true;
    return options;
}

static void write_aan(const char *train)
{
    scratch_write_text("new_aan_pairs.train.tsv", train);
    scratch_write_text("new_aan_pairs.eval.tsv", "0\tP1\tP2\teval one\teval two\n");
    scratch_write_text("new_aan_pairs.test.tsv", "1.0\tP1\tP2\tt\"\"est\tx\r\n");
}

static void rows_of_the_aan_files(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = aan_options();
    write_aan("1.0\tA\tB\tfirst text\t\"quoted \"\"text\"\"\"\n0.0\tC\tD\tabc\tde");
    if (mra_dataset_open(&data, &options, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_true(mra_dataset_pairs("retrieval"));
    assert_false(mra_dataset_pairs("text"));
    assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 2);
    assert_int_equal(mra_dataset_count(data, MRA_DEV), 1);
    mra_example example = mra_dataset_get(data, MRA_TRAIN, 0);
    assert_int_equal(example.label, 1);
    assert_text(example.ids, example.length, "first text");
    assert_text(example.second, example.second_length, "quoted \"text\"");
    example = mra_dataset_get(data, MRA_TEST, 0);
    assert_text(example.ids, example.length, "t\"\"est");
    assert_text(example.second, example.second_length, "x");
    mra_dataset_free(data);
    options.maximum_length = 2;
    options.train = 1;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 1);
    example = mra_dataset_get(data, MRA_TRAIN, 0);
    assert_text(example.ids, example.length, "fi");
    assert_text(example.second, example.second_length, "qu");
    mra_dataset_free(data);
}

static void rows_that_are_wrong(void **state)
{
    (void)state;
    const struct {
        const char *text, *message;
    } bad[] = {
        {"1\tA\tB\tx\ty\n1\tA\tB\tx\n", "row 2: 4 columns: expected 5"},
        {"1\tA\tB\tx\ty\tz\n", "row 1: more than 5 columns: expected 5"},
        {"2\tA\tB\tx\ty\n", "row 1: label \"2\": expected 0 or 1"},
        {"1\tA\tB\t\ty\n", "row 1: an empty text"},
    };
    mra_dataset *data;
    const mra_dataset_options options = aan_options();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_aan(bad[i].text);
        assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
        assert_message("new_aan_pairs.train.tsv");
        assert_message(bad[i].message);
        assert_null(data);
    }
    unlink(scratch_path("new_aan_pairs.eval.tsv"));
    write_aan("1\tA\tB\tx\ty\n");
    unlink(scratch_path("new_aan_pairs.eval.tsv"));
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_ABSENT);
    assert_message("new_aan_pairs.eval.tsv is not in the folder");
}

// ---- Reviews of one film --------------------------------------------------------------------

enum { REVIEWS = 60, FILMS = 20 };

// Review k of a folder is about film k % FILMS of its split and names it.
static void pack_reviews(int lines)
{
    static char names[4 * REVIEWS + 1][60], texts[4 * REVIEWS][60], urls[4][REVIEWS * 40];
    static const char *const folders[4] = {"train/neg", "train/pos", "test/neg", "test/pos"};
    pack_member members[4 * REVIEWS + 1] = {{NULL, NULL}}, lists[5] = {{NULL, NULL}};
    static const char *const list_names[4] = {
        "aclImdb/train/urls_neg.txt", "aclImdb/train/urls_pos.txt", "aclImdb/test/urls_neg.txt",
        "aclImdb/test/urls_pos.txt"};
    for (int f = 0; f < 4; f++) {
        urls[f][0] = '\0';
        for (int k = 0; k < REVIEWS; k++) {
            char *name = names[f * REVIEWS + k], *text = texts[f * REVIEWS + k];
            sprintf(name, "aclImdb/%s/%d_5.txt", folders[f], k);
            sprintf(text, "film %c%02d, review %c%d", f < 2 ? 'a' : 'b', k % FILMS,
                    f % 2 ? 'p' : 'n', k);
            members[f * REVIEWS + k] = (pack_member){name, text};
            if (k < lines)
                sprintf(urls[f] + strlen(urls[f]), "http://%c%02d/\n", f < 2 ? 'a' : 'b',
                        k % FILMS);
        }
        lists[f] = (pack_member){list_names[f], urls[f]};
    }
    pack(scratch_path("imdb-labelled.tar.xz"), members);
    pack(scratch_path("imdb-urls.tar.xz"), lists);
}

static mra_dataset_options film_options(void)
{
    mra_dataset_options options = mra_dataset_defaults("same-film");
    options.folder = scratch_folder;
    options.cache = "";
    options.quiet = true;
    options.train = 400, options.dev = 50, options.test = 100;
    return options;
}

static void pairs_of_reviews(void **state)
{
    (void)state;
    pack_reviews(REVIEWS);
    mra_dataset *data, *again;
    const mra_dataset_options options = film_options();
    if (mra_dataset_open(&data, &options, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(mra_dataset_open(&again, &options, &err), MRA_OK);
    bool used[MRA_SPLITS][200] = {{false}};
    int same = 0;
    for (int s = 0; s < MRA_SPLITS; s++)
        for (size_t i = 0; i < mra_dataset_count(data, (mra_split)s); i++) {
            const mra_example e = mra_dataset_get(data, (mra_split)s, i);
            const mra_example f = mra_dataset_get(again, (mra_split)s, i);
            char film[2][4];
            for (int k = 0; k < 3; k++) { // after "film "
                film[0][k] = (char)(e.ids[5 + k] - 1);
                film[1][k] = (char)(e.second[5 + k] - 1);
            }
            film[0][3] = film[1][3] = '\0';
            assert_int_equal(e.label, strcmp(film[0], film[1]) == 0);
            assert_int_equal(film[0][0], s == MRA_TEST ? 'b' : 'a');
            if (e.label && e.length == e.second_length) // two reviews, not one twice
                assert_true(memcmp(e.ids, e.second, (size_t)e.length * 2) != 0);
            used[s][atoi(film[0] + 1)] = used[s][atoi(film[1] + 1)] = true;
            same += e.label;
            assert_int_equal(e.length, f.length);
            assert_memory_equal(e.ids, f.ids, (size_t)e.length * sizeof *e.ids);
        }
    for (int film = 0; film < FILMS; film++)
        assert_false(used[MRA_TRAIN][film] && used[MRA_DEV][film]);
    assert_in_range(same, 275 - 71, 275 + 71); // six standard deviations
    mra_dataset_free(data);
    mra_dataset_free(again);
}

// A batch of pairs: rows 2 i and 2 i + 1 are the sequences of example i.
static void batches_of_pairs(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_batches *batches;
    const mra_dataset_options options = film_options();
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    const mra_batches_options how = {.batch = 3, .positions = 64, .multiple = 1};
    assert_int_equal(mra_batches_create(&batches, data, MRA_DEV, 0, &how, &err), MRA_OK);
    const mra_batch *batch = mra_batches_evaluation(batches, 1);
    assert_int_equal(batch->n, 64);
    for (int row = 0; row < 3; row++) {
        const mra_example e = mra_dataset_get(data, MRA_DEV, (size_t)(3 + row));
        assert_int_equal(batch->labels[row], e.label);
        for (int i = 0; i < 64; i++) {
            assert_int_equal(batch->ids[2 * row * 64 + i], i < e.length ? e.ids[i] : 0);
            assert_int_equal(batch->mask[2 * row * 64 + i], i < e.length);
            assert_int_equal(batch->ids[(2 * row + 1) * 64 + i],
                             i < e.second_length ? e.second[i] : 0);
            assert_int_equal(batch->mask[(2 * row + 1) * 64 + i], i < e.second_length);
        }
    }
    mra_batches_free(batches);
    mra_dataset_free(data);
}

static void archives_that_are_wrong(void **state)
{
    (void)state;
    mra_dataset *data;
    const mra_dataset_options options = film_options();
    pack_reviews(REVIEWS - 1);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("review 59 has no film: the list has 59 lines");
    pack(scratch_path("imdb-urls.tar.xz"),
         (const pack_member[]){{"aclImdb/train/urls_pos.txt", "x\n"}, {NULL, NULL}});
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("expected urls_pos.txt and urls_neg.txt");
    unlink(scratch_path("imdb-urls.tar.xz"));
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_ABSENT);
    assert_message("imdb-urls.tar.xz");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_the_aan_files), cmocka_unit_test(rows_that_are_wrong),
        cmocka_unit_test(pairs_of_reviews), cmocka_unit_test(batches_of_pairs),
        cmocka_unit_test(archives_that_are_wrong)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
