// Vocabularies of byte-level BPE that tests write.
#ifndef MRA_TESTS_DATA_TOKENISER_H
#define MRA_TESTS_DATA_TOKENISER_H

#include <stdio.h>
#include <stdlib.h>

// The name of a byte in vocab.json: printable ones are themselves, the others come after them in Unicode.
static inline void name_of_byte(int byte, char *text)
{
    int point = byte, shift = 0;
    for (int b = 0; b <= byte; b++) {
        const int plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte && !plain) point = 256 + shift;
        shift += !plain;
    }
    if (point < 128)
        sprintf(text, "%c", point);
    else
        sprintf(text, "%c%c", 192 + point / 64, 128 + point % 64);
}

static inline void put_json_string(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

enum { BYTES_FIRST = 4, BYTES_MASK = BYTES_FIRST + 256, BYTES_SIZE };

// A vocabulary without merges at these paths: <s> <pad> </s> <unk>, byte b as 4 + b, <mask>.
static inline void tokeniser_of_bytes(const char *vocab_path, const char *merges_path)
{
    static const char *const special[] = {"<s>", "<pad>", "</s>", "<unk>"};
    FILE *vocab = fopen(vocab_path, "w"), *merges = fopen(merges_path, "w");
    if (!vocab || !merges) abort();
    for (int t = 0; t < BYTES_SIZE; t++) {
        char name[8];
        if (t >= BYTES_FIRST && t < BYTES_MASK) name_of_byte(t - BYTES_FIRST, name);
        fprintf(vocab, t ? ", " : "{");
        put_json_string(vocab, t < BYTES_FIRST   ? special[t]
                               : t == BYTES_MASK ? "<mask>"
                                                 : name);
        fprintf(vocab, ": %d", t);
    }
    fprintf(vocab, "}");
    fprintf(merges, "#version: 0.2\n");
    if (fclose(vocab) != 0 || fclose(merges) != 0) abort();
}

#endif
