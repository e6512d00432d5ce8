// # Byte-level byte-pair encoding
//
// Text becomes tokens in two steps. A regular expression cuts it into *pieces*: words with the blank
// before them, numbers, runs of other signs, runs of white space, and the English endings
// ('s, 'll, ...). Then each piece is a row of bytes in which the pair of neighbours with the lowest
// rank in the list of merges is replaced by the token it merges into, again and again,
// until no neighbours are in the list.
//
// The files name a byte by a printable character (a blank is Ġ), so that a token is a
// word of JSON: the 188 bytes that are printable in Latin-1 stand for themselves, the other 68
// follow one another from U+0100 on. Every byte is a token of its own; so every text can be encoded,
// none needs <unk>, and decoding gives back the same bytes.
//
// The cost. Taking the lowest rank by scanning the piece after each merge costs
// $O(\ell^2)$ for a piece of $\ell$ bytes. Words are short, but a piece may also be a megabyte of
// dashes. A heap of candidates (rank, then position) over a linked list of symbols costs
// $O(\ell\log\ell)$ and merges in the same order: a merge only makes pairs of a higher rank than its
// own, since the token that it makes occurs in the list after it.

#include "data/bpe.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/file.h"

// Contractions, letters, digits, other signs (each with at most one blank before it), white space
// that does not precede a word, white space.
static const char pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
    "|\\s+(?!\\S)|\\s+";

typedef struct merge_entry {
    uint64_t pair; // left << 32 | right
    int32_t rank, merged;
} merge_entry;

typedef struct symbol {
    int32_t id; // -1: swallowed by the symbol before it
    int32_t previous, next;
} symbol;

typedef struct candidate {
    int32_t rank, left;
    uint64_t pair; // as it was when the candidate was made: a later merge outdates it
    int32_t merged;
} candidate;

struct mra_bpe {
    char **bytes;     // [size]: the bytes of each token
    uint32_t *length; // [size]
    int size;
    mra_bpe_special special;
    int32_t of_byte[256];
    merge_entry *merges; // open addressing, `slots` a power of two, at most half full
    size_t slots;
    pcre2_code *expression;
    pcre2_match_data *match;
    symbol *symbols; // of the piece at hand
    candidate *heap;
    size_t room, heaped;
};

void mra_ids_free(mra_ids *ids)
{
    free(ids->id);
    *ids = (mra_ids){0};
}

static bool append(mra_ids *ids, int32_t id)
{
    if (ids->count == ids->room) {
        size_t room = ids->room ? 2 * ids->room : 256;
        int32_t *grown = realloc(ids->id, room * sizeof *grown);
        if (!grown) return false;
        ids->id = grown;
        ids->room = room;
    }
    ids->id[ids->count++] = id;
    return true;
}

mra_status mra_ids_add(mra_ids *ids, int32_t id, mra_error *err)
{
    return append(ids, id) ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "tokeniser: no memory");
}

// ---- Bytes and characters -------------------------------------------------------------------

static bool stands_for_itself(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
}

// The character that the files write for a byte, as UTF-8; returns its length.
static int character_of_byte(int byte, char text[4])
{
    int point = byte;
    if (!stands_for_itself(byte)) {
        point = 0x100;
        for (int b = 0; b < byte; b++) point += !stands_for_itself(b);
    }
    if (point < 0x80) {
        text[0] = (char)point;
        text[1] = '\0';
        return 1;
    }
    text[0] = (char)(0xc0 | point >> 6);
    text[1] = (char)(0x80 | (point & 0x3f));
    text[2] = '\0';
    return 2;
}

// The bytes of a token's name, or the name itself where it is no row of such characters (a special
// token). NULL: no memory.
static char *bytes_of_name(const char *name, uint32_t *length)
{
    const size_t size = strlen(name);
    char *bytes = malloc(size + 1);
    uint32_t count = 0;
    for (size_t i = 0; bytes && i < size; count++) {
        int byte = 0, width = 0;
        for (; byte < 256; byte++) {
            char text[4];
            width = character_of_byte(byte, text);
            if (strncmp(name + i, text, (size_t)width) == 0) break;
        }
        if (byte == 256) {
            memcpy(bytes, name, size + 1);
            *length = (uint32_t)size;
            return bytes;
        }
        bytes[count] = (char)byte;
        i += (size_t)width;
    }
    *length = count;
    return bytes;
}

// ---- Opening --------------------------------------------------------------------------------

static int32_t id_of(const json_t *vocabulary, const char *name)
{
    const json_t *id = json_object_get(vocabulary, name);
    return json_is_integer(id) ? (int32_t)json_integer_value(id) : -1;
}

static mra_status take_vocabulary(mra_bpe *bpe, const char *path, json_t *vocabulary,
                                  mra_error *err)
{
    const char *name;
    json_t *value;
    bpe->size = (int)json_object_size(vocabulary);
    bpe->bytes = calloc((size_t)bpe->size + 1, sizeof *bpe->bytes);
    bpe->length = calloc((size_t)bpe->size + 1, sizeof *bpe->length);
    if (!bpe->bytes || !bpe->length)
        return mra_fail(err, MRA_NO_MEMORY, "%s: no memory for %d tokens", path, bpe->size);
    json_object_foreach(vocabulary, name, value)
    {
        const json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= bpe->size || bpe->bytes[id])
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: token \"%.40s\": expected an id of its own from 0 to %d", path,
                            name, bpe->size - 1);
        bpe->bytes[id] = bytes_of_name(name, &bpe->length[id]);
        if (!bpe->bytes[id]) return mra_fail(err, MRA_NO_MEMORY, "%s: no memory", path);
    }
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        character_of_byte(byte, text);
        bpe->of_byte[byte] = id_of(vocabulary, text);
        if (bpe->of_byte[byte] < 0)
            return mra_fail(err, MRA_BAD_INPUT,
                            "%s: no token \"%s\" for the byte %d: expected all 256 bytes", path,
                            text, byte);
    }
    static const char *const names[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
    int32_t *const special[] = {&bpe->special.begin, &bpe->special.pad, &bpe->special.end,
                                &bpe->special.unknown, &bpe->special.mask};
    for (int i = 0; i < 5; i++)
        if ((*special[i] = id_of(vocabulary, names[i])) < 0)
            return mra_fail(err, MRA_BAD_INPUT, "%s: no token %s: expected one", path,
                            names[i]);
    return MRA_OK;
}

static merge_entry *slot_of(const mra_bpe *bpe, uint64_t pair)
{
    size_t at = (size_t)(pair * 0x9e3779b97f4a7c15u >> 20) & (bpe->slots - 1);
    while (bpe->merges[at].merged >= 0 && bpe->merges[at].pair != pair)
        at = (at + 1) & (bpe->slots - 1);
    return &bpe->merges[at];
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static bool make_slots(mra_bpe *bpe)
{
    bpe->slots = 1024;
    while (bpe->slots < 2 * (size_t)bpe->size) bpe->slots *= 2;
    bpe->merges = malloc(bpe->slots * sizeof *bpe->merges);
    for (size_t i = 0; bpe->merges && i < bpe->slots; i++) bpe->merges[i].merged = -1;
    return bpe->merges != NULL;
}

// One line "left right" without its newline.
static mra_status take_merge(mra_bpe *bpe, const char *path, size_t number, char *line,
                             const json_t *vocabulary, int32_t rank, mra_error *err)
{
    char joined[2048];
    char *blank = strchr(line, ' ');
    if (!blank || blank == line || !blank[1] || strchr(blank + 1, ' '))
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: line %zu: \"%.60s\": expected two tokens and one blank", path,
                        number, line);
    *blank = '\0';
    snprintf(joined, sizeof joined, "%s%s", line, blank + 1);
    const int32_t left = id_of(vocabulary, line), right = id_of(vocabulary, blank + 1);
    const int32_t merged = id_of(vocabulary, joined);
    if (left < 0 || right < 0 || merged < 0)
        return mra_fail(err, MRA_BAD_INPUT, "%s: line %zu: \"%.60s\" is not in vocab.json",
                        path, number,
                        left < 0    ? line
                        : right < 0 ? blank + 1
                                    : joined);
    merge_entry *entry = slot_of(bpe, pair_of(left, right));
    if (entry->merged < 0) *entry = (merge_entry){pair_of(left, right), rank, merged};
    return MRA_OK;
}

static mra_status read_merges(mra_bpe *bpe, const char *path, const json_t *vocabulary,
                              mra_error *err)
{
    FILE *file = fopen(path, "r");
    if (!file) return mra_fail(err, MRA_ABSENT, "%s: it cannot be read", path);
    mra_status status = make_slots(bpe) ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "no memory");
    char *line = NULL;
    size_t room = 0, number = 0;
    int32_t rank = 0;
    ssize_t length;
    while (status == MRA_OK && (length = getline(&line, &room, file)) > 0) {
        number++;
        if (line[length - 1] == '\n') line[--length] = '\0';
        if (length == 0 || (number == 1 && strncmp(line, "#version", 8) == 0)) continue;
        if (rank >= bpe->size)
            status = mra_fail(err, MRA_BAD_INPUT, "%s: line %zu: more merges than %d tokens",
                              path, number, bpe->size);
        else
            status = take_merge(bpe, path, number, line, vocabulary, rank++, err);
    }
    if (status == MRA_OK && ferror(file))
        status = mra_fail(err, MRA_IO, "%s: line %zu: it cannot be read", path, number);
    free(line);
    fclose(file);
    return status;
}

static mra_status read_files(mra_bpe *bpe, const char *folder, mra_error *err)
{
    char vocab[1100], merges[1100];
    snprintf(vocab, sizeof vocab, "%.1000s/vocab.json", folder);
    snprintf(merges, sizeof merges, "%.1000s/merges.txt", folder);
    if (!mra_file_exists(vocab) || !mra_file_exists(merges))
        return mra_fail(err, MRA_ABSENT,
                        "tokeniser: vocab.json and merges.txt of the byte-level BPE are not in "
                        "the folder %.200s",
                        folder);
    json_error_t reason;
    json_t *vocabulary = json_load_file(vocab, JSON_REJECT_DUPLICATES, &reason);
    if (!json_is_object(vocabulary)) {
        json_decref(vocabulary);
        return mra_fail(err, MRA_BAD_INPUT,
                        "%s: line %d: %.100s: expected an object of tokens and ids", vocab,
                        vocabulary ? 1 : reason.line, vocabulary ? "no object" : reason.text);
    }
    mra_status status = take_vocabulary(bpe, vocab, vocabulary, err);
    if (status == MRA_OK) status = read_merges(bpe, merges, vocabulary, err);
    json_decref(vocabulary);
    return status;
}

// Bytes that are not UTF-8 match nothing (MATCH_INVALID_UTF) and become pieces of their own.
static mra_status compile(mra_bpe *bpe, mra_error *err)
{
    int code;
    PCRE2_SIZE at;
    bpe->expression =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);
    if (!bpe->expression)
        return mra_fail(err, MRA_INTERNAL, "tokeniser: PCRE2 error %d at %zu", code,
                        (size_t)at);
    pcre2_jit_compile(bpe->expression, PCRE2_JIT_COMPLETE); // slower without, the same result
    bpe->match = pcre2_match_data_create(1, NULL);
    return bpe->match ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "tokeniser: no memory");
}

mra_status mra_bpe_open(mra_bpe **bpe, const char *folder, mra_error *err)
{
    *bpe = NULL;
    mra_bpe *opened = calloc(1, sizeof *opened);
    if (!opened) return mra_fail(err, MRA_NO_MEMORY, "tokeniser: no memory");
    mra_status status = read_files(opened, folder, err);
    if (status == MRA_OK) status = compile(opened, err);
    if (status == MRA_OK)
        *bpe = opened;
    else
        mra_bpe_free(opened);
    return status;
}

void mra_bpe_free(mra_bpe *bpe)
{
    if (!bpe) return;
    for (int i = 0; bpe->bytes && i < bpe->size; i++) free(bpe->bytes[i]);
    free(bpe->bytes);
    free(bpe->length);
    free(bpe->merges);
    free(bpe->symbols);
    free(bpe->heap);
    pcre2_match_data_free(bpe->match);
    pcre2_code_free(bpe->expression);
    free(bpe);
}

int mra_bpe_size(const mra_bpe *bpe)
{
    return bpe->size;
}

mra_bpe_special mra_bpe_special_of(const mra_bpe *bpe)
{
    return bpe->special;
}

// ---- Merging one piece ----------------------------------------------------------------------

static bool before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void push(mra_bpe *bpe, candidate new)
{
    size_t at = bpe->heaped++;
    while (at > 0 && before(&new, &bpe->heap[(at - 1) / 2])) {
        bpe->heap[at] = bpe->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    bpe->heap[at] = new;
}

static candidate pop(mra_bpe *bpe)
{
    const candidate top = bpe->heap[0], last = bpe->heap[--bpe->heaped];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < bpe->heaped) {
        if (child + 1 < bpe->heaped && before(&bpe->heap[child + 1], &bpe->heap[child]))
            child++;
        if (!before(&bpe->heap[child], &last)) break;
        bpe->heap[at] = bpe->heap[child];
        at = child;
    }
    bpe->heap[at] = last;
    return top;
}

// Enters the pair of symbol `left` and the one after it, if it is in the list of merges.
static void propose(mra_bpe *bpe, int32_t left)
{
    if (left < 0 || bpe->symbols[left].next < 0) return;
    const uint64_t pair =
        pair_of(bpe->symbols[left].id, bpe->symbols[bpe->symbols[left].next].id);
    const merge_entry *entry = slot_of(bpe, pair);
    if (entry->merged >= 0) push(bpe, (candidate){entry->rank, left, pair, entry->merged});
}

static bool make_room(mra_bpe *bpe, size_t length)
{
    if (length <= bpe->room) return true;
    symbol *symbols = realloc(bpe->symbols, length * sizeof *symbols);
    if (symbols) bpe->symbols = symbols;
    // At most one candidate a neighbouring pair at first, and two more for each merge.
    candidate *heap = realloc(bpe->heap, 3 * length * sizeof *heap);
    if (heap) bpe->heap = heap;
    if (!symbols || !heap) return false;
    bpe->room = length;
    return true;
}

static bool encode_piece(mra_bpe *bpe, const unsigned char *piece, size_t length, mra_ids *ids)
{
    if (!make_room(bpe, length)) return false;
    symbol *symbols = bpe->symbols;
    const int32_t count = (int32_t)length;
    for (int32_t i = 0; i < count; i++)
        symbols[i] = (symbol){bpe->of_byte[piece[i]], i - 1, i + 1 < count ? i + 1 : -1};
    bpe->heaped = 0;
    for (int32_t i = 0; i < count; i++) propose(bpe, i);
    while (bpe->heaped > 0) {
        const candidate top = pop(bpe);
        symbol *left = &symbols[top.left];
        if (left->id < 0 || left->next < 0 ||
            pair_of(left->id, symbols[left->next].id) != top.pair)
            continue;
        symbol *right = &symbols[left->next];
        left->id = top.merged;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0) symbols[left->next].previous = top.left;
        propose(bpe, left->previous);
        propose(bpe, top.left);
    }
    for (int32_t i = 0; i >= 0; i = symbols[i].next)
        if (!append(ids, symbols[i].id)) return false;
    return true;
}

// ---- The whole text -------------------------------------------------------------------------

mra_status mra_bpe_encode(mra_bpe *bpe, const char *text, size_t bytes, mra_ids *ids,
                          mra_error *err)
{
    size_t at = 0;
    bool room = true;
    if (bytes > INT32_MAX)
        return mra_fail(err, MRA_BAD_INPUT, "tokeniser: a text of %zu bytes: at most %d", bytes,
                        INT32_MAX);
    while (at < bytes && room) {
        const int found = pcre2_match(bpe->expression, (PCRE2_SPTR)text, bytes, at,
                                      PCRE2_NOTEMPTY, bpe->match, NULL);
        size_t begin = bytes, end = bytes;
        if (found > 0) {
            begin = pcre2_get_ovector_pointer(bpe->match)[0];
            end = pcre2_get_ovector_pointer(bpe->match)[1];
        } else if (found != PCRE2_ERROR_NOMATCH) {
            return mra_fail(err, MRA_INTERNAL, "tokeniser: PCRE2 error %d at byte %zu", found,
                            at);
        }
        if (begin > at)
            room = encode_piece(bpe, (const unsigned char *)text + at, begin - at, ids);
        if (room && end > begin)
            room = encode_piece(bpe, (const unsigned char *)text + begin, end - begin, ids);
        at = end;
    }
    return room ? MRA_OK : mra_fail(err, MRA_NO_MEMORY, "tokeniser: no memory for the tokens");
}

size_t mra_bpe_decode(const mra_bpe *bpe, const int32_t *id, size_t count, char *text,
                      size_t room)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        for (uint32_t b = 0; b < bpe->length[id[i]]; b++, length++)
            if (length < room) text[length] = bpe->bytes[id[i]][b];
    return length;
}
