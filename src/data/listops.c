// The language of ListOps: tokens, their text, their meaning, and the files they come in.

#include "data/listops.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "io/tsv.h"

static const char *const token_text[MRA_LISTOPS_VOCABULARY] = {
    "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]"};

static bool is_digit(uint16_t id)
{
    return id >= MRA_LISTOPS_ZERO && id < MRA_LISTOPS_ZERO + 10;
}

static bool is_operator(uint16_t id)
{
    return id >= MRA_LISTOPS_MIN && id <= MRA_LISTOPS_SM;
}

// ---- Meaning --------------------------------------------------------------------------------
//
// A stack machine. Of the arguments of an open operator only how often each digit occurred is
// kept, which says all that any of the four operators asks: the least and the largest digit,
// the sum, and the median.

typedef struct frame {
    uint16_t operation;
    int seen[10], count;
} frame;

// The value of rank `rank` (from 0) among the arguments in order.
static int ranked(const frame *f, int rank)
{
    int value = 0;
    while (rank >= f->seen[value]) rank -= f->seen[value++];
    return value;
}

static int close_frame(const frame *f)
{
    int sum = 0;
    switch (f->operation) {
    case MRA_LISTOPS_MIN:
        return ranked(f, 0);
    case MRA_LISTOPS_MAX:
        return ranked(f, f->count - 1);
    case MRA_LISTOPS_MED:
        return (ranked(f, (f->count - 1) / 2) + ranked(f, f->count / 2)) / 2;
    default:
        for (int v = 0; v < 10; v++) sum = (sum + f->seen[v] * v) % 10;
        return sum;
    }
}

int mra_listops_evaluate(const uint16_t *ids, int length)
{
    enum { DEEPEST = 1024 };
    static const frame empty;
    frame stack[DEEPEST];
    int depth = 0;
    for (int i = 0; i < length; i++) {
        int value;
        if (is_operator(ids[i])) {
            if (depth == DEEPEST) return -1;
            stack[depth] = empty;
            stack[depth++].operation = ids[i];
            continue;
        } else if (is_digit(ids[i])) {
            value = ids[i] - MRA_LISTOPS_ZERO;
        } else if (ids[i] == MRA_LISTOPS_END && depth > 0 && stack[depth - 1].count > 0) {
            value = close_frame(&stack[--depth]);
        } else {
            return -1;
        }
        if (depth == 0) return i == length - 1 ? value : -1;
        stack[depth - 1].seen[value]++;
        stack[depth - 1].count++;
    }
    return -1;
}

// ---- Text -----------------------------------------------------------------------------------

// How many arguments the operator at ids[0] has.
static int count_arguments(const uint16_t *ids, int length)
{
    int depth = 0, arguments = 0;
    for (int i = 0; i < length; i++) {
        if (ids[i] == MRA_LISTOPS_END && --depth == 0) break;
        arguments += depth == 1 && ids[i] != MRA_LISTOPS_END;
        depth += is_operator(ids[i]);
    }
    return arguments;
}

// In LRA's form an operator with m arguments opens m + 1 parentheses, of which each argument
// and the closing bracket close one: each token that ends a pair is followed by " )".
void mra_listops_print(FILE *stream, const uint16_t *ids, int length, bool parentheses)
{
    int depth = 0;
    for (int i = 0; i < length; i++) {
        if (i) fputc(' ', stream);
        if (is_operator(ids[i])) {
            int opens = parentheses ? count_arguments(ids + i, length - i) + 1 : 0;
            while (opens-- > 0) fputs("( ", stream);
            fputs(token_text[ids[i]], stream);
            depth++;
            continue;
        }
        fputs(token_text[ids[i]], stream);
        if (ids[i] == MRA_LISTOPS_END) {
            depth--;
            if (parentheses) fputs(" )", stream);
        }
        if (parentheses && depth > 0) fputs(" )", stream);
    }
}

mra_status mra_listops_write(const char *path, const mra_sequences *list, mra_error *err)
{
    mra_output output;
    mra_status status = mra_output_open(&output, path, err);
    if (status != MRA_OK) return status;
    fputs("Source\tTarget\r\n", output.stream);
    for (size_t i = 0; i < list->count && !ferror(output.stream); i++) {
        const mra_sequence *item = &list->items[i];
        mra_listops_print(output.stream, item->ids, item->length, true);
        fprintf(output.stream, "\t%d\r\n", item->label);
    }
    return mra_output_commit(&output, err);
}

// ---- Reading --------------------------------------------------------------------------------

typedef struct source {
    const char *path;
    mra_tsv_reader *reader;
    int text_column, label_column;
    uint16_t *ids; // the tokens of a row
    size_t room;
} source;

static mra_status find_column(const source *s, const char *name, int *column, mra_error *err)
{
    for (*column = 0; *column < mra_tsv_columns(s->reader); ++*column)
        if (strcmp(mra_tsv_column_name(s->reader, *column), name) == 0) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%s: there is no column %s", s->path, name);
}

// The token that the word at `text` spells, or 0.
static uint16_t token_of(const char *text, size_t length)
{
    for (uint16_t id = 1; id < MRA_LISTOPS_VOCABULARY; id++)
        if (strlen(token_text[id]) == length && memcmp(token_text[id], text, length) == 0)
            return id;
    return 0;
}

static mra_status tokenise(source *s, const char *text, int *length, mra_error *err)
{
    size_t most = strlen(text) / 2 + 1, count = 0;
    if (most > s->room) {
        uint16_t *larger = realloc(s->ids, most * sizeof *larger);
        if (!larger) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for a row", s->path);
        s->ids = larger;
        s->room = most;
    }
    for (;;) {
        text += strspn(text, " ");
        if (!*text) break;
        size_t word = strcspn(text, " ");
        bool parenthesis = word == 1 && (*text == '(' || *text == ')');
        uint16_t id = parenthesis ? 0 : token_of(text, word);
        if (!id && !parenthesis)
            return mra_fail(
                err, MRA_BAD_INPUT,
                "%s:%d: column Source: \"%.*s\": expected [MIN, [MAX, [MED, [SM, ] or a digit",
                s->path, mra_tsv_line(s->reader), word < 40 ? (int)word : 40, text);
        if (id) s->ids[count++] = id;
        text += word;
    }
    if (count == 0 || count > INT32_MAX)
        return mra_fail(err, MRA_BAD_INPUT, "%s:%d: column Source: expected an expression",
                        s->path, mra_tsv_line(s->reader));
    *length = (int)count;
    return MRA_OK;
}

static mra_status read_row(source *s, const char *const *cells, mra_sequences *list,
                           int maximum_length, bool check_labels, mra_error *err)
{
    int length = 0;
    mra_status status = tokenise(s, cells[s->text_column], &length, err);
    if (status != MRA_OK) return status;
    const char *target = cells[s->label_column];
    if (!(*target >= '0' && *target <= '9') || target[1])
        return mra_fail(err, MRA_BAD_INPUT, "%s:%d: column Target: \"%.40s\": expected a digit",
                        s->path, mra_tsv_line(s->reader), target);
    int label = *target - '0';
    int value = check_labels ? mra_listops_evaluate(s->ids, length) : label;
    if (value < 0)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s:%d: column Source: expected one whole expression", s->path,
                        mra_tsv_line(s->reader));
    if (value != label)
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s:%d: column Target is %d: the expression has the value %d", s->path,
                        mra_tsv_line(s->reader), label, value);
    if (length > maximum_length) length = maximum_length;
    if (mra_sequences_add(list, s->ids, length, label)) return MRA_OK;
    return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for its rows", s->path);
}

mra_status mra_listops_read(mra_sequences *list, const char *path, size_t limit,
                            int maximum_length, bool check_labels, mra_error *err)
{
    source s = {.path = path};
    mra_status status = mra_tsv_open(&s.reader, path, err);
    if (status != MRA_OK) return status;
    status = find_column(&s, "Source", &s.text_column, err);
    if (status == MRA_OK) status = find_column(&s, "Target", &s.label_column, err);
    while (status == MRA_OK && (limit == 0 || list->count < limit)) {
        const char *const *cells;
        status = mra_tsv_next(s.reader, &cells, err);
        if (status != MRA_OK || !cells) break;
        status = read_row(&s, cells, list, maximum_length, check_labels, err);
    }
    mra_tsv_close(s.reader);
    free(s.ids);
    if (status == MRA_OK && list->count == 0)
        status = mra_fail(err, MRA_BAD_INPUT, "%s: there are no rows", path);
    if (status != MRA_OK) mra_sequences_free(list);
    return status;
}
