// The common interface, and the reviews: from archives packed here in the official layout,
// through the prepared copy, into splits. The real archive is read where MRA_DATA has it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "../io/pack.h"
#include "core/file.h"
#include "data/data.h"
#include "data/imdb.h"

#define assert_message(part)                                                                \
    do {                                                                                    \
        if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part); \
    } while (0)

static mra_error err;

// In an order that is not that of the names, with members that are no labelled reviews.
static const pack_member reviews[] = {{"aclImdb/README", "about"},
                                      {"aclImdb/train/unsup/0_0.txt", "unlabelled"},
                                      {"aclImdb/train/pos/10_9.txt", "Great & good."},
                                      {"aclImdb/train/pos/2_8.txt", "fine"},
                                      {"aclImdb/train/urls_pos.txt", "http"},
                                      {"aclImdb/train/pos/notes.md", "not a review"},
                                      {"./aclImdb/train/neg/0_1.txt", "bad\xff\n"},
                                      {"aclImdb/train/neg/1_2.txt", "awful"},
                                      {"aclImdb/test/pos/0_10.txt", "best"},
                                      {"aclImdb/test/neg/5_3.txt", "worst"},
                                      {"aclImdb/test/neg/4_3.txt", "dull"},
                                      {NULL, NULL}};

static int pack_reviews(void **state)
{
    if (scratch_make(state) != 0) return -1;
    pack(scratch_path("aclImdb_v1.tar.gz"), reviews);
    return 0;
}

static mra_dataset_options text_options(void)
{
    mra_dataset_options options = mra_dataset_defaults("text");
    options.folder = scratch_folder;
    options.cache = "";
    options.quiet = true;
    return options;
}

static void assert_example(const mra_dataset *data, mra_split split, size_t i, const char *text,
                           int label)
{
    mra_example example = mra_dataset_get(data, split, i);
    assert_int_equal(example.length, strlen(text));
    assert_int_equal(example.label, label);
    for (int j = 0; j < example.length; j++)
        assert_int_equal(example.ids[j], (unsigned char)text[j] + 1);
}

static void assert_all_reviews(const mra_dataset *data)
{
    assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 4);
    assert_int_equal(mra_dataset_count(data, MRA_DEV), 3);
    assert_int_equal(mra_dataset_count(data, MRA_TEST), 3);
    // By name; "./" is the first name of all.
    assert_example(data, MRA_TRAIN, 0, "bad\xff\n", 0);
    assert_example(data, MRA_TRAIN, 1, "awful", 0);
    assert_example(data, MRA_TRAIN, 2, "Great & good.", 1);
    assert_example(data, MRA_TRAIN, 3, "fine", 1);
    assert_example(data, MRA_TEST, 0, "dull", 0);
    assert_example(data, MRA_TEST, 1, "worst", 0);
    assert_example(data, MRA_TEST, 2, "best", 1);
    assert_ptr_equal(mra_dataset_get(data, MRA_DEV, 2).ids,
                     mra_dataset_get(data, MRA_TEST, 2).ids);
}

static void reviews_from_an_archive(void **state)
{
    (void)state;
    mra_dataset *data;
    const mra_dataset_options options = text_options();
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    assert_string_equal(mra_dataset_name(data), "text");
    assert_int_equal(mra_dataset_vocabulary(data), 257);
    assert_int_equal(mra_dataset_classes(data), 2);
    assert_int_equal(mra_dataset_maximum_length(data), 4000);
    assert_string_equal(mra_dataset_source(data, 0), scratch_path("aclImdb_v1.tar.gz"));
    assert_null(mra_dataset_source(data, 1));
    assert_true(mra_dataset_majority(data, MRA_TRAIN) == 0.5);
    assert_true(mra_dataset_majority(data, MRA_TEST) == 2.0 / 3);
    assert_all_reviews(data);
    mra_dataset_free(data);
    mra_dataset_free(NULL);
}

static void reviews_are_cut(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = text_options();
    options.maximum_length = 4;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    assert_example(data, MRA_TRAIN, 2, "Grea", 1);
    mra_dataset_free(data);
}

// A part is drawn by the seed; what is held out for dev is not in train.
static void parts_of_the_reviews(void **state)
{
    (void)state;
    mra_dataset_options options = text_options();
    bool differs = false;
    int first_length = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        mra_dataset *data, *again;
        options.seed = seed;
        options.held_out = 1;
        options.test = 2;
        assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
        assert_int_equal(mra_dataset_open(&again, &options, &err), MRA_OK);
        assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 3);
        assert_int_equal(mra_dataset_count(data, MRA_DEV), 1);
        assert_int_equal(mra_dataset_count(data, MRA_TEST), 2);
        int held = mra_dataset_get(data, MRA_DEV, 0).length,
            sum = held;                  // the four lengths differ,
        for (size_t i = 0; i < 3; i++) { // but for two of five
            sum += mra_dataset_get(data, MRA_TRAIN, i).length;
            assert_int_equal(mra_dataset_get(data, MRA_TRAIN, i).length,
                             mra_dataset_get(again, MRA_TRAIN, i).length);
        }
        assert_int_equal(sum, 5 + 5 + 13 + 4);
        if (seed == 0) first_length = held;
        differs = differs || held != first_length;
        mra_dataset_free(data);
        mra_dataset_free(again);
    }
    assert_true(differs);
    mra_dataset *data;
    options.held_out = 4;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("4 examples held out for dev: expected fewer than the 4 of train");
    assert_null(data);
}

// The one file in the scratch folder's cache.
static const char *copy_path(char path[600])
{
    DIR *folder = opendir(scratch_path("cache"));
    path[0] = '\0';
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (entry->d_name[0] != '.') {
            assert_int_equal(path[0], 0); // and only one
            snprintf(path, 600, "%s/cache/%s", scratch_folder, entry->d_name);
        }
    if (folder) closedir(folder);
    return path;
}

static void the_prepared_copy(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = text_options();
    char cache[300], path[600];
    snprintf(cache, sizeof cache, "%s/cache", scratch_folder);
    options.cache = cache;
    for (int run = 0; run < 2; run++) {
        assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
        assert_all_reviews(data);
        mra_dataset_free(data);
    }
    // Cut or with a flipped byte at places all over it: that is noticed, and it is made anew.
    size_t bytes = 0;
    char *whole = scratch_read(copy_path(path), &bytes);
    assert_non_null(whole);
    for (size_t i = 0; i < bytes; i += 17) {
        char *damaged = malloc(bytes);
        memcpy(damaged, whole, bytes);
        damaged[i] ^= 0x20;
        const char *name = path + strlen(scratch_folder) + 1;
        scratch_write(name, damaged, i % 2 ? bytes : i);
        free(damaged);
        size_t counts[2];
        assert_int_equal(
            mra_imdb_prepare(scratch_path("aclImdb_v1.tar.gz"), cache, counts, true, &err),
            MRA_OK);
        assert_int_equal(counts[0], 4);
        assert_int_equal(counts[1], 3);
        size_t again_bytes = 0;
        char *again = scratch_read(path, &again_bytes);
        assert_int_equal(again_bytes, bytes);
        assert_memory_equal(again, whole, bytes);
        free(again);
    }
    free(whole);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    assert_all_reviews(data);
    mra_dataset_free(data);
}

static void a_copy_that_cannot_be_written(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = text_options();
    options.cache = "/proc/absent/cache";
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK); // done without
    assert_all_reviews(data);
    mra_dataset_free(data);
    size_t counts[2];
    assert_int_equal(
        mra_imdb_prepare(scratch_path("aclImdb_v1.tar.gz"), options.cache, counts, true, &err),
        MRA_IO);
    assert_message("/proc/absent/cache: cannot make the folder");
}

static void archives_that_are_wrong(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = text_options();
    char folder[300];
    snprintf(folder, sizeof folder, "%s/wrong", scratch_folder);
    assert_int_equal(mra_make_folder(folder, &err), MRA_OK);
    options.folder = folder;
    const char *const name = "wrong/imdb-labelled.tar.xz";
    pack(scratch_path(name), (const pack_member[]){{"aclImdb/train/pos/0_9.txt", "good"},
                                                   {"aclImdb/train/neg/0_1.txt", "bad"},
                                                   {"aclImdb/test/pos/0_9.txt", "good"},
                                                   {NULL, NULL}});
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("imdb-labelled.tar.xz: no reviews in aclImdb/test/neg/");
    pack(scratch_path(name),
         (const pack_member[]){{"aclImdb/train/pos/0_9.txt", ""}, {NULL, NULL}});
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("member aclImdb/train/pos/0_9.txt: 0 bytes: expected a review");
    pack(scratch_path(name), reviews);
    size_t bytes = 0;
    char *whole = scratch_read(scratch_path(name), &bytes);
    scratch_write(name, whole, bytes / 2);
    free(whole);
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("imdb-labelled.tar.xz: ");
    assert_null(data);
    char cache[300];
    snprintf(cache, sizeof cache, "%s/cache-of-wrong", scratch_folder);
    options.cache = cache;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_false(mra_file_exists(cache)); // no copy of half an archive
}

static void what_is_absent_says_where_it_was_looked_for(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = text_options();
    options.folder = "/nowhere";
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_ABSENT);
    assert_message(
        "neither aclImdb_v1.tar.gz nor imdb-labelled.tar.xz is in the folder /nowhere");
    assert_message("MRA_DATA");
    char path[1024], kept[1024] = "";
    if (getenv("MRA_DATA")) snprintf(kept, sizeof kept, "%s", getenv("MRA_DATA"));
    setenv("MRA_DATA", "/elsewhere", 1);
    assert_int_equal(mra_imdb_find(NULL, path, sizeof path, &err), MRA_ABSENT);
    assert_message("in the folder /elsewhere;");
    setenv("MRA_DATA", scratch_folder, 1);
    assert_int_equal(mra_imdb_find(NULL, path, sizeof path, &err), MRA_OK);
    assert_string_equal(path, scratch_path("aclImdb_v1.tar.gz"));
    unsetenv("MRA_DATA");
    if (mra_imdb_find(NULL, path, sizeof path, &err) == MRA_ABSENT)
        assert_message("in the folder data;");
    if (*kept) setenv("MRA_DATA", kept, 1);
    options = mra_dataset_defaults("listops");
    options.folder = "/nowhere";
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_ABSENT);
    assert_message("basic_train.tsv is not in the folder /nowhere");
    assert_message("mra data prepare listops --out /nowhere");
}

static void listops_generated_and_from_files(void **state)
{
    (void)state;
    mra_dataset_options options = mra_dataset_defaults("listops");
    assert_int_equal(options.train, 96000);
    assert_int_equal(options.minimum_length, 500);
    assert_int_equal(options.maximum_length, 2000);
    options.train = 40, options.dev = 7, options.test = 0;
    options.minimum_length = 10, options.maximum_length = 60;
    options.quiet = true;
    mra_dataset *data;
    if (mra_dataset_open(&data, &options, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 40);
    assert_int_equal(mra_dataset_count(data, MRA_DEV), 7);
    assert_int_equal(mra_dataset_count(data, MRA_TEST), 0);
    assert_int_equal(mra_dataset_vocabulary(data), 16);
    assert_int_equal(mra_dataset_classes(data), 10);
    assert_null(mra_dataset_source(data, 0));
    for (size_t i = 0; i < 40; i++) {
        mra_example example = mra_dataset_get(data, MRA_TRAIN, i);
        assert_in_range(example.length, 11, 59);
        assert_in_range(example.label, 0, 9);
        for (int j = 0; j < example.length; j++) assert_in_range(example.ids[j], 1, 15);
    }
    mra_dataset_free(data);
    scratch_write_text("basic_train.tsv", "Source\tTarget\n[MIN 2 3 ]\t2\n[MAX 2 3 ]\t3\n");
    scratch_write_text("basic_val.tsv", "Target\tSource\n2\t( ( ( [MIN 2 ) 3 ) ] )\n");
    scratch_write_text("basic_test.tsv", "Source\tTarget\r\n4\t4\r\n");
    options.folder = scratch_folder;
    options.train = 1, options.check_labels = true;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_OK);
    assert_int_equal(mra_dataset_count(data, MRA_TRAIN), 1);
    assert_int_equal(mra_dataset_count(data, MRA_DEV), 1);
    assert_int_equal(mra_dataset_get(data, MRA_DEV, 0).length, 4);
    assert_int_equal(mra_dataset_get(data, MRA_TEST, 0).label, 4);
    assert_string_equal(mra_dataset_source(data, 2), scratch_path("basic_test.tsv"));
    mra_dataset_free(data);
    scratch_write_text("basic_test.tsv", "Source\tTarget\n4\t5\n");
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("basic_test.tsv:2: column Target is 5: the expression has the value 4");
}

static void options_that_are_wrong(void **state)
{
    (void)state;
    mra_dataset *data;
    mra_dataset_options options = mra_dataset_defaults("lists");
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("data set \"lists\": expected listops, text, image, pathfinder32, retrieval "
                   "or same-film");
    options = mra_dataset_defaults("listops");
    options.train = 0;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("train = 0 examples to generate: expected 1 to");
    options = text_options();
    options.maximum_length = 0;
    assert_int_equal(mra_dataset_open(&data, &options, &err), MRA_BAD_INPUT);
    assert_message("maximum length 0");
    assert_string_equal(mra_dataset_known(0), "listops");
    assert_string_equal(mra_dataset_known(1), "text");
    assert_string_equal(mra_dataset_known(2), "image");
    assert_string_equal(mra_dataset_known(3), "pathfinder32");
    assert_string_equal(mra_dataset_known(4), "retrieval");
    assert_string_equal(mra_dataset_known(5), "same-film");
    assert_null(mra_dataset_known(6));
    assert_string_equal(mra_split_name(MRA_DEV), "dev");
}

static void the_real_archive(void **state)
{
    (void)state;
    char path[1024];
    if (mra_imdb_find(NULL, path, sizeof path, &err) != MRA_OK) {
        printf("# not checked here: %s\n", err.message);
        return;
    }
    mra_sequences train = {0}, test = {0};
    assert_int_equal(mra_imdb_read(&train, &test, path, 4000, NULL, true, &err), MRA_OK);
    const mra_sequences *const splits[2] = {&train, &test};
    for (int s = 0; s < 2; s++) {
        size_t positive = 0;
        assert_int_equal(splits[s]->count, MRA_IMDB_PER_SPLIT);
        for (size_t i = 0; i < splits[s]->count; i++) {
            positive += (size_t)splits[s]->items[i].label;
            assert_in_range(splits[s]->items[i].length, 1, 4000);
        }
        assert_int_equal(positive, MRA_IMDB_PER_SPLIT / 2);
    }
    mra_sequences_free(&train);
    mra_sequences_free(&test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reviews_from_an_archive),
        cmocka_unit_test(reviews_are_cut),
        cmocka_unit_test(parts_of_the_reviews),
        cmocka_unit_test(the_prepared_copy),
        cmocka_unit_test(a_copy_that_cannot_be_written),
        cmocka_unit_test(archives_that_are_wrong),
        cmocka_unit_test(what_is_absent_says_where_it_was_looked_for),
        cmocka_unit_test(listops_generated_and_from_files),
        cmocka_unit_test(options_that_are_wrong),
        cmocka_unit_test(the_real_archive),
    };
    return cmocka_run_group_tests(tests, pack_reviews, scratch_remove);
}
