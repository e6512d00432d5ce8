// MNLI and WikiHop, from small files in the official formats; the tokeniser is one of bytes, so that what is expected can
// be written down.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../core/scratch.h"
#include "data/mnli.h"
#include "data/wikihop.h"
#include "tokeniser.h"

static mra_error err;
static mra_bpe *bpe;

static int set_up(void **state)
{
    if (scratch_make(state) != 0) return -1;
    tokeniser_of_bytes(scratch_path("vocab.json"), scratch_path("merges.txt"));
    return mra_bpe_open(&bpe, scratch_folder, &err);
}

static int tear_down(void **state)
{
    mra_bpe_free(bpe);
    return scratch_remove(state);
}

// Tokens as text: <s> ^, </s> |, and the four added ones A a Q q; everything else is lower case or a digit.
static void show(const mra_sequence *item, char *text)
{
    for (int i = 0; i < item->length; i++) {
        const int id = item->ids[i];
        text[i] = id == 0           ? '^'
                  : id == 2         ? '|'
                  : id < BYTES_MASK ? (char)(id - BYTES_FIRST)
                                    : "AaQq"[id - BYTES_SIZE];
    }
    text[item->length] = '\0';
}

static void expect(const mra_sequences *list, size_t i, const char *expected, int label)
{
    char text[300];
    assert_true(i < list->count);
    show(&list->items[i], text);
    assert_string_equal(text, expected);
    assert_int_equal(list->items[i].label, label);
}

static void assert_message(const char *part)
{
    if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part);
}

// ---- MNLI -----------------------------------------------------------------------------------

static const char glue_train[] =
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
    "0\t31193\t31193n\tgovernment\t( a )\t( b )\t(ROOT a)\t(ROOT b)\tone "
    "two\tx\tneutral\tneutral\n"
    "1\t1\t1e\ttelephone\t\t\t\t\tabcdefgh\tijklmnop\tentailment\tentailment\r\n"
    "2\t2\t2c\tfiction\tp\tp\tp\tp\tno.\tyes \"quoted\" it's\tcontradiction\tcontradiction\n";

static void tables(void **state)
{
    (void)state;
    mra_sequences list = {0};
    scratch_write_text("train.tsv", glue_train);
    char path[600];
    assert_int_equal(mra_mnli_find(scratch_folder, 0, path, sizeof path, &err), MRA_OK);
    if (mra_mnli_read(&list, path, bpe, 13, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(list.count, 3);
    expect(&list, 0, "^one two||x|", 2);
    expect(&list, 1, "^abcde||ijkl|",
           1); // nine are left: the longer is cut, of equals the second
    expect(&list, 2, "^no.||yes \"q|", 0);
    mra_sequences_free(&list);
    assert_int_equal(mra_mnli_read(&list, path, bpe, 5, &err), MRA_OK);
    expect(&list, 1, "^a|||", 1);
    mra_sequences_free(&list);
    assert_int_equal(mra_mnli_find(scratch_folder, 1, path, sizeof path, &err), MRA_ABSENT);
    assert_message("neither dev_matched.tsv nor multinli_1.0_dev_matched.jsonl");
}

static void lines_of_json(void **state)
{
    (void)state;
    mra_sequences list = {0};
    const char *path = scratch_write_text(
        "multinli_1.0_dev_mismatched.jsonl",
        "{\"annotator_labels\": [\"neutral\", \"neutral\"], \"genre\": \"slate\", "
        "\"gold_label\": "
        "\"neutral\", \"sentence1\": \"a \\u00e9\", \"sentence2\": \"b\"}\n"
        "{\"gold_label\": \"-\", \"sentence1\": \"nobody\", \"sentence2\": \"agrees\"}\n"
        "{\"sentence2\": \"d\", \"sentence1\": \"c\", \"gold_label\": \"contradiction\"}");
    char found[600];
    assert_int_equal(mra_mnli_find(scratch_folder, 2, found, sizeof found, &err), MRA_OK);
    assert_string_equal(found, path);
    if (mra_mnli_read(&list, path, bpe, 100, &err) != MRA_OK) fail_msg("%s", err.message);
    assert_int_equal(list.count, 2);
    expect(&list, 0, "^a \xc3\xa9||b|", 2);
    expect(&list, 1, "^c||d|", 0);
    mra_sequences_free(&list);
}

static void refuse_mnli(const char *name, const char *text, const char *message)
{
    mra_sequences list = {0};
    const char *path = scratch_write_text(name, text);
    assert_int_equal(mra_mnli_read(&list, path, bpe, 50, &err), MRA_BAD_INPUT);
    assert_int_equal(list.count, 0);
    assert_message(path);
    assert_message(message);
}

static void bad_rows(void **state)
{
    (void)state;
    const char *head = "sentence1\tsentence2\tgold_label\n";
    char text[200];
    snprintf(text, sizeof text, "%sa\tb\tneutral\nc\td\tmaybe\n", head);
    refuse_mnli("t.tsv", text,
                "row 3: gold_label \"maybe\": expected contradiction, entailment");
    snprintf(text, sizeof text, "%sa\t\tneutral\n", head);
    refuse_mnli("t.tsv", text, "row 2: no sentence2: expected a sentence");
    snprintf(text, sizeof text, "%sa\tneutral\n", head);
    refuse_mnli("t.tsv", text, "t.tsv:2: 2 cells: expected 3 as in the header");
    refuse_mnli("t.tsv", head, "no pair of sentences");
    refuse_mnli("t.tsv", "sentence1\tsentence2\tlabel\na\tb\tneutral\n",
                "no column gold_label");
    refuse_mnli("t.jsonl",
                "{\"gold_label\": \"neutral\", \"sentence1\": 3, \"sentence2\": \"b\"}",
                "row 1: no sentence1");
    refuse_mnli("t.jsonl",
                "{\"gold_label\":\"neutral\",\"sentence1\":\"a\",\"sentence2\":\"b\"}\n{\"gold",
                "row 2: ");
    refuse_mnli("t.jsonl", "{\"sentence1\":\"a\",\"sentence2\":\"b\"}", "row 1: gold_label");
    refuse_mnli("t.jsonl", "[1]", "row 1: another value: expected a JSON object");
}

// ---- WikiHop --------------------------------------------------------------------------------

static const char two_questions[] =
    "[{\"id\": \"WH_train_0\", \"query\": \"of p\", \"answer\": \"y\", \"candidates\": "
    "[\"xx\", \"y\"], \"supports\": [\"one\", \"three\", \"four\", \"much too long for it\", "
    "\"z\"]}, "
    "{\"id\": \"WH_train_1\", \"query\": \"w\", \"answer\": \"c\", \"candidates\": [\"c\"], "
    "\"supports\": []}]";

static void questions(void **state)
{
    (void)state;
    mra_sequences list = {0};
    char path[600];
    scratch_write_text("train.json", two_questions);
    assert_int_equal(mra_wikihop_find(scratch_folder, 0, path, sizeof path, &err), MRA_OK);
    // The question is 14 tokens, which leaves room for 10.
    if (mra_wikihop_read(&list, path, bpe, 24, false, &err) != MRA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(list.count, 5);
    const int on = MRA_WIKIHOP_CONTINUES;
    expect(&list, 0, "Qof pqAxxaAya|one|three|", 10);
    expect(&list, 1, "Qof pqAxxaAya|four|", 10 + on);
    expect(&list, 2, "Qof pqAxxaAya|much too l", 10 + on);
    expect(&list, 3, "Qof pqAxxaAya|z|", 10 + on);
    expect(&list, 4, "QwqAca|", 3);
    mra_sequences_free(&list);
    // The published code loses the document that does not fit, and emits the question alone where none does.
    assert_int_equal(mra_wikihop_read(&list, path, bpe, 24, true, &err), MRA_OK);
    assert_int_equal(list.count, 4);
    expect(&list, 0, "Qof pqAxxaAya|one|three|", 10);
    expect(&list, 1, "Qof pqAxxaAya|", 10 + on);
    expect(&list, 2, "Qof pqAxxaAya|z|", 10 + on);
    expect(&list, 3, "QwqAca|", 3);
    mra_sequences_free(&list);
    assert_int_equal(mra_wikihop_find(scratch_folder, 1, path, sizeof path, &err), MRA_ABSENT);
}

static void refuse_wikihop(const char *text, int length, const char *message)
{
    mra_sequences list = {0};
    const char *path = scratch_write_text("bad.json", text);
    assert_int_equal(mra_wikihop_read(&list, path, bpe, length, false, &err), MRA_BAD_INPUT);
    assert_int_equal(list.count, 0);
    assert_message(path);
    assert_message(message);
}

static void bad_questions(void **state)
{
    (void)state;
    refuse_wikihop(two_questions, 13,
                   "question 1: question and candidates are 14 tokens: "
                   "expected at most 13");
    refuse_wikihop(
        "[{\"query\":\"q\",\"answer\":\"a\",\"candidates\":[\"b\"],\"supports\":[]}]", 50,
        "question 1: answer: expected one of the candidates");
    refuse_wikihop("[{\"query\":\"q\",\"answer\":\"b\",\"candidates\":[\"b\"],\"supports\":[]},"
                   "{\"answer\":\"b\",\"candidates\":[\"b\"],\"supports\":[]}]",
                   50, "question 2: query: expected a text");
    refuse_wikihop("[{\"query\":\"q\",\"answer\":\"b\",\"candidates\":[],\"supports\":[]}]", 50,
                   "question 1: candidates: expected a list of texts");
    refuse_wikihop(
        "[{\"query\":\"q\",\"answer\":\"b\",\"candidates\":[\"b\"],\"supports\":[\"s\",4]}]",
        50, "question 1: supports: expected a list of texts");
    refuse_wikihop("[{\"query\":\"q\",\"answer\":\"b\",\"candidates\":[\"b\"]}]", 50,
                   "question 1: supports");
    refuse_wikihop("[{\"query\": \"q\",\n\"answer", 50, "line 2: ");
    refuse_wikihop("{}", 50, "expected a list of questions");
    refuse_wikihop("[]", 50, "expected a list of questions");
    refuse_wikihop("[3]", 50, "question 1: no object");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables), cmocka_unit_test(lines_of_json), cmocka_unit_test(bad_rows),
        cmocka_unit_test(questions), cmocka_unit_test(bad_questions)};
    return cmocka_run_group_tests_name("data/tuning", tests, set_up, tear_down);
}
