// Corpora: which documents are found where, that each lands in one split, how they are packed, and the prepared copy.
// The tokeniser is one of bytes, so that what is expected can be read.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "../io/pack.h"
#include "data/corpus.h"
#include "tokeniser.h"

static mra_error err;

static int set_up(void **state)
{
    if (scratch_make(state) != 0) return -1;
    mkdir(scratch_path("roberta-bpe"), 0777);
    tokeniser_of_bytes(scratch_path("roberta-bpe/vocab.json"),
                       scratch_path("roberta-bpe/merges.txt"));
    return 0;
}

static mra_corpus_options options_of(const char *sources)
{
    mra_corpus_options options = mra_corpus_defaults();
    options.folder = scratch_folder;
    options.sources = sources;
    options.dev = options.test = 0;
    options.cache = "";
    options.quiet = true;
    return options;
}

static mra_corpus *open_corpus(const mra_corpus_options *options)
{
    mra_corpus *corpus;
    if (mra_corpus_open(&corpus, options, &err) != MRA_OK) fail_msg("%s", err.message);
    return corpus;
}

// The stream of a split as text, </s> as '|'.
static char *text_of(const mra_corpus *corpus, mra_split split)
{
    size_t count;
    const uint16_t *stream = mra_corpus_stream(corpus, split, &count);
    char *text = calloc(count + 1, 1);
    for (size_t i = 0; i < count; i++)
        text[i] = stream[i] == 2 ? '|' : (char)(stream[i] - BYTES_FIRST);
    return text;
}

static void expect(const mra_corpus_options *options, const char *expected)
{
    mra_corpus *corpus = open_corpus(options);
    char *text = text_of(corpus, MRA_TRAIN);
    assert_string_equal(text, expected);
    free(text);
    mra_corpus_free(corpus);
}

static const pack_member members[] = {{"./a/", NULL},
                                      {"./a/2.txt", " two\n"},
                                      {"./a/1.txt", "one"},
                                      {"./a/9.txt", "\n \n"},
                                      {"./a/readme", "no text"},
                                      {"./b/1.txt", "b1\n\n  \nb2\nmore\n\n"},
                                      {NULL, NULL}};

static void documents(void **state)
{
    (void)state;
    pack(scratch_path("c.tar.gz"), members);
    mkdir(scratch_path("folder"), 0777);
    mkdir(scratch_path("folder/deep"), 0777);
    scratch_write_text("folder/y.txt", "why");
    scratch_write_text("folder/deep/x.txt", "ex\r\n");
    scratch_write_text("folder/no.md", "none");
    scratch_write_text("lines.txt", "\n\nfirst\nstill first\n\t\r\n\nsecond");
    mra_corpus_options options = options_of("c.tar.gz");
    expect(&options, "one||two||b1\n\n  \nb2\nmore||");
    options.blank_lines = true;
    expect(&options, "one||two||b1||b2\nmore||");
    options.members = "nothing/ a/";
    expect(&options, "one||two||");
    options = options_of(" folder  c.tar.gz lines.txt ");
    expect(&options,
           "ex||why||one||two||b1\n\n  \nb2\nmore||first\nstill first\n\t\r\n\nsecond||");
    options.sources = "lines.txt";
    options.blank_lines = true;
    expect(&options, "first\nstill first||second||");
    mra_corpus *corpus = open_corpus(&options);
    assert_int_equal(mra_corpus_documents(corpus, MRA_TRAIN), 2);
    assert_int_equal(mra_corpus_vocabulary(corpus), BYTES_SIZE);
    assert_int_equal(mra_corpus_special(corpus).mask, BYTES_MASK);
    assert_string_equal(mra_corpus_source(corpus, 0), scratch_path("lines.txt"));
    assert_null(mra_corpus_source(corpus, 1));
    mra_corpus_free(corpus);
}

// 40 documents "<number>" by blank lines: every one is in exactly one split, in order, and the draw follows the seed.
static void splits(void **state)
{
    (void)state;
    char text[400] = "", before[400] = "";
    for (int i = 10; i < 50; i++) sprintf(text + strlen(text), "%d\n\n", i);
    scratch_write_text("numbers.txt", text);
    mra_corpus_options options = options_of("numbers.txt");
    options.blank_lines = true;
    options.dev = 7;
    options.test = 5;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        int seen[50] = {0};
        options.seed = seed;
        mra_corpus *corpus = open_corpus(&options);
        for (int s = 0; s < MRA_SPLITS; s++) {
            char *stream = text_of(corpus, (mra_split)s);
            int last = 0;
            assert_int_equal(strlen(stream), 4 * mra_corpus_documents(corpus, (mra_split)s));
            for (size_t i = 0; stream[i]; i += 4) {
                const int number = atoi(stream + i);
                assert_true(number > last && stream[i + 2] == '|' && stream[i + 3] == '|');
                seen[last = number]++;
            }
            if (s == MRA_DEV && seed > 1) assert_string_not_equal(stream, before);
            if (s == MRA_DEV) strcpy(before, stream);
            free(stream);
        }
        for (int i = 10; i < 50; i++) assert_int_equal(seen[i], 1);
        assert_int_equal(mra_corpus_documents(corpus, MRA_DEV), 7);
        assert_int_equal(mra_corpus_documents(corpus, MRA_TEST), 5);
        mra_corpus_free(corpus);
    }
}

static void sequences(void **state)
{
    (void)state;
    scratch_write_text("abc.txt", "abcdefgh\n\nij");
    mra_corpus_options options = options_of("abc.txt");
    options.blank_lines = true;
    mra_corpus *corpus = open_corpus(&options); // abcdefgh||ij||
    assert_int_equal(mra_corpus_sequences(corpus, MRA_TRAIN, 7), 2);
    assert_int_equal(mra_corpus_sequences(corpus, MRA_TRAIN, 9), 2);
    assert_int_equal(mra_corpus_sequences(corpus, MRA_TRAIN, 17), 0);
    assert_int_equal(mra_corpus_sequences(corpus, MRA_TRAIN, 2), 0);
    assert_int_equal(mra_corpus_sequences(corpus, MRA_DEV, 7), 0);
    int32_t ids[7];
    mra_corpus_sequence(corpus, MRA_TRAIN, 1, 7, ids);
    const int32_t expected[7] = {
        0, BYTES_FIRST + 'f', BYTES_FIRST + 'g', BYTES_FIRST + 'h', 2, 2, 2};
    assert_memory_equal(ids, expected, sizeof ids);
    mra_corpus_free(corpus);
}

// The copy is read in place of the source, unless anything that it was made from has changed, or it is damaged.
static void prepared(void **state)
{
    (void)state;
    char cache[512];
    snprintf(cache, sizeof cache, "%s", scratch_path("cache"));
    scratch_write_text("p.txt", "one\n\ntwo\n\nthree");
    mra_corpus_options options = options_of("p.txt");
    options.blank_lines = true;
    options.cache = cache;
    options.dev = 1;
    for (int round = 0; round < 3; round++) {
        mra_corpus *corpus = open_corpus(&options);
        char *train = text_of(corpus, MRA_TRAIN), *dev = text_of(corpus, MRA_DEV);
        assert_int_equal(strlen(train) + strlen(dev), 11 + 6);
        assert_int_equal(mra_corpus_documents(corpus, MRA_DEV), 1);
        free(train);
        free(dev);
        mra_corpus_free(corpus);
        DIR *folder = opendir(cache);
        int copies = 0;
        for (struct dirent *entry; (entry = readdir(folder));) {
            char path[1024];
            if (strncmp(entry->d_name, "corpus-", 7) != 0) continue;
            copies++;
            snprintf(path, sizeof path, "%s/%s", cache, entry->d_name);
            FILE *file = fopen(path, "r+b");
            assert_int_equal(fseek(file, -6, SEEK_END), 0);
            if (round == 1) fputc(99, file); // damaged
            fclose(file);
        }
        closedir(folder);
        assert_int_equal(copies, 1);
    }
    scratch_write_text("p.txt", "one\n\ntwo\n\nfour");
    options.dev = 0;
    expect(&options, "one||two||four||");
}

static void refuse(const mra_corpus_options *options, mra_status status, const char *expected)
{
    mra_corpus *corpus;
    assert_int_equal(mra_corpus_open(&corpus, options, &err), status);
    assert_null(corpus);
    if (!strstr(err.message, expected)) fail_msg("\"%s\" lacks \"%s\"", err.message, expected);
}

static void refusals(void **state)
{
    (void)state;
    scratch_write_text("one.txt", "one");
    scratch_write_text("none.txt", " \n\n ");
    scratch_write_text("broken.tar.gz", "\x1f\x8b\x08 this is no archive");
    mra_corpus_options options = options_of("one.txt absent.tar");
    refuse(&options, MRA_ABSENT, "corpus: absent.tar is not in the folder");
    options.sources = "one.txt none.txt";
    refuse(&options, MRA_BAD_INPUT, "none.txt: no documents: expected *.txt");
    options.sources = "";
    refuse(&options, MRA_BAD_INPUT, "no sources");
    options.sources = "broken.tar.gz";
    refuse(&options, MRA_BAD_INPUT, "broken.tar.gz");
    options.sources = "one.txt";
    options.dev = 1;
    refuse(&options, MRA_BAD_INPUT, "1 documents, of which 1 are held out for dev");
    options.dev = 0;
    options.bpe = scratch_folder;
    refuse(&options, MRA_ABSENT, "vocab.json and merges.txt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(documents), cmocka_unit_test(splits),
                                       cmocka_unit_test(sequences), cmocka_unit_test(prepared),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests_name("data/corpus", tests, set_up, scratch_remove);
}
