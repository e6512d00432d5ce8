// The byte-level BPE against a plain second implementation on a vocabulary that the test trains, and
// against the public tokeniser's ids where RoBERTa's own vocabulary is at hand (MRA_DATA).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "core/core.h"
#include "core/random.h"
#include "data/bpe.h"
#include "tokeniser.h"

enum { MERGES = 150, FIRST_BYTE = 4, FIRST_MERGE = FIRST_BYTE + 256 };
static mra_error err;

// ---- A vocabulary of the test's own ---------------------------------------------------------

// Token t of the small vocabulary: 0 .. 3 special, 4 + b the byte b, then merges, then <mask>.
static struct {
    int left[MERGES], right[MERGES], count;
} trained;

static void name_of_token(int token, char *text)
{
    static const char *const special[] = {"<s>", "<pad>", "</s>", "<unk>"};
    *text = '\0';
    if (token < FIRST_BYTE) {
        strcpy(text, special[token]);
    } else if (token < FIRST_MERGE) {
        name_of_byte(token - FIRST_BYTE, text);
    } else if (token == FIRST_MERGE + trained.count) {
        strcpy(text, "<mask>");
    } else {
        name_of_token(trained.left[token - FIRST_MERGE], text);
        name_of_token(trained.right[token - FIRST_MERGE], text + strlen(text));
    }
}

// Replaces every `left right` by `merged`, from the left; returns the new length.
static int replace(int *token, int count, int left, int right, int merged)
{
    int kept = 0;
    for (int i = 0; i < count; i++) {
        const bool pair = i + 1 < count && token[i] == left && token[i + 1] == right;
        token[kept++] = pair ? merged : token[i];
        i += pair;
    }
    return kept;
}

// Plain BPE training: the most frequent pair of a text is merged, again and again.
static void train(const char *text)
{
    int count = (int)strlen(text);
    int *token = malloc(sizeof *token * (size_t)count);
    for (int i = 0; i < count; i++) token[i] = FIRST_BYTE + (unsigned char)text[i];
    for (trained.count = 0; trained.count < MERGES; trained.count++) {
        int most = 1, best = -1;
        for (int i = 0; i + 1 < count; i++) {
            int times = 0;
            for (int j = i; j + 1 < count; j++)
                times += token[j] == token[i] && token[j + 1] == token[i + 1];
            if (times > most) most = times, best = i;
        }
        if (best < 0) break;
        const int left = token[best], right = token[best + 1];
        trained.left[trained.count] = left;
        trained.right[trained.count] = right;
        count = replace(token, count, left, right, FIRST_MERGE + trained.count);
    }
    free(token);
}

static const char sample[] = "the theatre then there these lines thin thick thistle "
                             "\xc3\xa9t\xc3\xa9 caf\xc3\xa9 caf\xc3\xa9s "
                             "running runner ran sing singing single 1234 12345 1 12 !!! !!!? "
                             "... it's it's they'll they'll   "
                             "aaaaaaaa aaaaaa aaaa    \n\n\n  \t\t -- --- ---- the the the "
                             "sing sang song songs singing lines";

static void write_vocabulary(void)
{
    char name[4 * sizeof sample];
    FILE *vocab = fopen(scratch_path("vocab.json"), "w");
    FILE *merges = fopen(scratch_path("merges.txt"), "w");
    assert_non_null(vocab);
    assert_non_null(merges);
    for (int t = 0; t <= FIRST_MERGE + trained.count; t++) {
        fprintf(vocab, t ? ", " : "{");
        name_of_token(t, name);
        put_json_string(vocab, name);
        fprintf(vocab, ": %d", t);
    }
    fprintf(vocab, "}");
    fprintf(merges, "#version: 0.2\n");
    for (int m = 0; m < trained.count; m++) {
        name_of_token(trained.left[m], name);
        fprintf(merges, "%s ", name);
        name_of_token(trained.right[m], name);
        fprintf(merges, "%s\n", name);
    }
    fclose(vocab);
    fclose(merges);
}

static int set_up(void **state)
{
    if (scratch_make(state) != 0) return -1;
    train(sample);
    write_vocabulary();
    return 0;
}

// ---- The plain second implementation --------------------------------------------------------

enum { LETTER, DIGIT, BLANK, OTHER };

// For the alphabet of the random texts: ASCII and e with an acute accent.
static int kind(const unsigned char *text)
{
    if (*text == 0xc3 || *text == 0xa9) return LETTER;
    if ((*text | 32) >= 'a' && (*text | 32) <= 'z') return LETTER;
    if (*text >= '0' && *text <= '9') return DIGIT;
    return *text == ' ' || *text == '\n' || *text == '\t' ? BLANK : OTHER;
}

// The length of the piece at the start of `text`, by the rules in words: an ending; at most one
// blank and a run of one kind; white space, of which the last stays for a word that follows.
static int piece_length(const unsigned char *text, int left)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (int e = 0; e < 7; e++) {
        const int length = (int)strlen(endings[e]);
        if (left >= length && memcmp(text, endings[e], (size_t)length) == 0) return length;
    }
    const int blank = left > 1 && text[0] == ' ' && kind(text + 1) != BLANK;
    if (blank || kind(text) != BLANK) {
        int end = blank + 1;
        while (end < left && kind(text + end) == kind(text + blank)) end++;
        return end;
    }
    int end = 1;
    while (end < left && kind(text + end) == BLANK) end++;
    return end < left && end > 1 ? end - 1 : end;
}

static int encode_plainly(const char *text, int length, int *ids)
{
    int total = 0;
    for (int at = 0, size; at < length; at += size) {
        size = piece_length((const unsigned char *)text + at, length - at);
        int *token = ids + total, count = size;
        for (int i = 0; i < size; i++) token[i] = FIRST_BYTE + (unsigned char)text[at + i];
        for (int m = 0; m < trained.count; m++)
            count = replace(token, count, trained.left[m], trained.right[m], FIRST_MERGE + m);
        total += count;
    }
    return total;
}

// ---- Tests ----------------------------------------------------------------------------------

static mra_bpe *open_small(void)
{
    mra_bpe *bpe;
    if (mra_bpe_open(&bpe, scratch_folder, &err) != MRA_OK) fail_msg("%s", err.message);
    return bpe;
}

static mra_random open_random(void)
{
    const char *seed = getenv("MRA_TEST_SEED");
    const uint64_t number = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    printf("# MRA_TEST_SEED=%llu\n", (unsigned long long)number);
    return mra_random_open(number, mra_stream("bpe", 0, 0));
}

static void round_trip(const mra_bpe *bpe, const mra_ids *ids, const char *text, size_t length)
{
    char *back = malloc(length + 1);
    assert_int_equal(mra_bpe_decode(bpe, ids->id, ids->count, back, length), length);
    assert_memory_equal(back, text, length);
    free(back);
}

static void agrees_with_the_plain_implementation(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "the",      "in", "ing", "s", "'s",  "'ll", " ", "  ", "\n", "\t", "12",    "3",
        "\xc3\xa9", "a",  "aa",  "!", "...", "--",  "-", "'t", "'",  "Q",  " sing", "lin"};
    mra_bpe *bpe = open_small();
    mra_random random = open_random();
    mra_ids ids = {0};
    for (int round = 0; round < 3000; round++) {
        char text[600] = "";
        int plain[600];
        const int count = (int)mra_random_below(&random, 60);
        for (int i = 0; i < count; i++)
            strcat(text, parts[mra_random_below(&random, sizeof parts / sizeof parts[0])]);
        const int length = (int)strlen(text), expected = encode_plainly(text, length, plain);
        ids.count = 0;
        assert_int_equal(mra_bpe_encode(bpe, text, (size_t)length, &ids, &err), MRA_OK);
        assert_int_equal(ids.count, expected);
        for (int i = 0; i < expected; i++) assert_int_equal(ids.id[i], plain[i]);
        round_trip(bpe, &ids, text, (size_t)length);
    }
    mra_ids_free(&ids);
    mra_bpe_free(bpe);
}

static void every_byte_comes_back(void **state)
{
    (void)state;
    mra_bpe *bpe = open_small();
    mra_random random = open_random();
    mra_ids ids = {0};
    char text[700];
    for (int byte = 0; byte < 256; byte++) {
        text[0] = (char)byte;
        ids.count = 0;
        assert_int_equal(mra_bpe_encode(bpe, text, 1, &ids, &err), MRA_OK);
        assert_int_equal(ids.count, 1);
        assert_int_equal(ids.id[0], FIRST_BYTE + byte);
        round_trip(bpe, &ids, text, 1);
    }
    for (int round = 0; round < 2000; round++) { // mostly no UTF-8
        const size_t length = mra_random_below(&random, sizeof text);
        for (size_t i = 0; i < length; i++) text[i] = (char)mra_random_below(&random, 256);
        ids.count = 0;
        assert_int_equal(mra_bpe_encode(bpe, text, length, &ids, &err), MRA_OK);
        round_trip(bpe, &ids, text, length);
    }
    assert_int_equal(mra_bpe_encode(bpe, "", 0, &ids, &err), MRA_OK);
    mra_ids_free(&ids);
    mra_bpe_free(bpe);
}

// A piece of a megabyte: a scan after each merge would take hours.
static void a_piece_may_be_long(void **state)
{
    (void)state;
    mra_bpe *bpe = open_small();
    mra_ids ids = {0};
    const size_t length = getenv("MRA_SANITIZED") ? 100000 : 1000000;
    char *text = malloc(length);
    memset(text, 'a', length);
    assert_int_equal(mra_bpe_encode(bpe, text, length, &ids, &err), MRA_OK);
    assert_true(ids.count < length / 2);
    round_trip(bpe, &ids, text, length);
    free(text);
    mra_ids_free(&ids);
    mra_bpe_free(bpe);
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    mra_bpe *bpe;
    char *vocab = scratch_read(scratch_path("vocab.json"), NULL);
    char *merges = scratch_read(scratch_path("merges.txt"), NULL);
    const struct {
        const char *file, *text, *message;
    } cases[] = {
        {"vocab.json", "{\"a\": 0, ", "vocab.json: line 1"},
        {"vocab.json", "[1]", "expected an object"},
        {"vocab.json", "{\"a\": 7}", "\"a\": expected an id of its own from 0 to 0"},
        {"vocab.json", "{\"a\": \"x\"}", "expected an id"},
        {"vocab.json", "{\"a\": 0, \"b\": 0}", "an id of its own"},
        {"vocab.json", "{\"<s>\": 0}", "expected all 256 bytes"},
        {"merges.txt", "#version: 0.2\na b c\n", "merges.txt: line 2: \"a b c\""},
        {"merges.txt", "ab\n", "line 1: \"ab\": expected two tokens"},
        {"merges.txt", "\n\nt qq\n", "line 3: \"qq\" is not in vocab.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scratch_write_text(cases[i].file, cases[i].text);
        assert_int_equal(mra_bpe_open(&bpe, scratch_folder, &err), MRA_BAD_INPUT);
        if (!strstr(err.message, cases[i].message)) fail_msg("%s", err.message);
        assert_null(bpe);
        scratch_write_text("vocab.json", vocab);
        scratch_write_text("merges.txt", merges);
    }
    free(vocab);
    free(merges);
    assert_int_equal(mra_bpe_open(&bpe, "/nowhere", &err), MRA_ABSENT);
    assert_non_null(strstr(err.message, "vocab.json and merges.txt"));
    mra_bpe_free(NULL);
}

// Ids that the public tokeniser of RoBERTa gives, <s> and </s> left out.
static void ids_are_those_of_the_public_tokeniser(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int count, id[12];
    } known[] = {
        {"Hello world", 2, {31414, 232}},
        {" Hello world", 2, {20920, 232}},
        {"Hello world!", 3, {31414, 232, 328}},
        {"Hello world! c\xc3\xa9"
         "c\xc3\xa9 herlolip 418",
         10,
         {31414, 232, 328, 740, 1140, 12695, 69, 46078, 1588, 42928}},
    };
    char folder[1100];
    mra_bpe *bpe;
    snprintf(folder, sizeof folder, "%s/roberta-bpe",
             getenv("MRA_DATA") ? getenv("MRA_DATA") : "data");
    if (mra_bpe_open(&bpe, folder, &err) == MRA_ABSENT) {
        puts("# left out: RoBERTa's vocabulary is not here (MRA_DATA)");
        return;
    }
    assert_int_equal(mra_bpe_size(bpe), 50265);
    const mra_bpe_special special = mra_bpe_special_of(bpe);
    assert_int_equal(special.begin, 0);
    assert_int_equal(special.pad, 1);
    assert_int_equal(special.end, 2);
    assert_int_equal(special.unknown, 3);
    assert_int_equal(special.mask, 50264);
    mra_ids ids = {0};
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
        ids.count = 0;
        assert_int_equal(mra_bpe_encode(bpe, known[k].text, strlen(known[k].text), &ids, &err),
                         MRA_OK);
        assert_int_equal(ids.count, known[k].count);
        for (int i = 0; i < known[k].count; i++) assert_int_equal(ids.id[i], known[k].id[i]);
    }
    mra_ids_free(&ids);
    mra_bpe_free(bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_the_plain_implementation),
                                       cmocka_unit_test(every_byte_comes_back),
                                       cmocka_unit_test(a_piece_may_be_long),
                                       cmocka_unit_test(damaged_files_are_refused),
                                       cmocka_unit_test(ids_are_those_of_the_public_tokeniser)};
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
