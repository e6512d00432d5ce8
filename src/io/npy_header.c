// Parsing {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
//
// The format promises exactly these three keys; writers differ in their order, in quotes and in
// white space. So this reads the part of Python's grammar that such a literal can hold, and
// nothing more.

#include "io/npy_header.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

typedef struct parser {
    const char *at, *path;
    mra_npy *array;
    mra_error *err;
} parser;

static void skip_space(parser *p)
{
    while (isspace((unsigned char)*p->at)) p->at++;
}

// Takes `c` if it is next.
static bool take(parser *p, char c)
{
    skip_space(p);
    if (*p->at != c) return false;
    p->at++;
    return true;
}

static mra_status malformed(const parser *p, const char *expected)
{
    return mra_fail(p->err, MRA_BAD_INPUT, "%s: header: expected %s at \"%.30s\"", p->path,
                    expected, p->at);
}

// A quoted text of at most room - 1 characters.
static bool take_text(parser *p, char *text, size_t room)
{
    skip_space(p);
    char quote = *p->at;
    if (quote != '\'' && quote != '"') return false;
    const char *end = strchr(p->at + 1, quote);
    if (!end || (size_t)(end - p->at - 1) >= room) return false;
    size_t length = (size_t)(end - p->at - 1);
    memcpy(text, p->at + 1, length);
    text[length] = '\0';
    p->at = end + 1;
    return true;
}

static mra_status parse_type(parser *p)
{
    static const struct {
        const char *descr;
        mra_npy_type type;
    } known[] = {{"<f2", MRA_NPY_F2}, {"<f4", MRA_NPY_F4},  {"<f8", MRA_NPY_F8},
                 {"<i4", MRA_NPY_I4}, {"<i8", MRA_NPY_I8},  {"|u1", MRA_NPY_U1},
                 {"<u1", MRA_NPY_U1}, {"|b1", MRA_NPY_BOOL}};
    char descr[64];
    if (!take_text(p, descr, sizeof descr)) return malformed(p, "descr as a quoted type");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(descr, known[i].descr) != 0) continue;
        p->array->type = known[i].type;
        return MRA_OK;
    }
    return mra_fail(
        p->err, MRA_BAD_INPUT,
        "%s: descr is '%s': expected little-endian <f2, <f4, <f8, <i4, <i8, |u1 or |b1",
        p->path, descr);
}

static mra_status parse_order(parser *p)
{
    skip_space(p);
    if (strncmp(p->at, "True", 4) == 0)
        return mra_fail(p->err, MRA_BAD_INPUT,
                        "%s: fortran_order is True: expected False (an array in C order)",
                        p->path);
    if (strncmp(p->at, "False", 5) != 0) return malformed(p, "fortran_order as True or False");
    p->at += 5;
    return MRA_OK;
}

static bool take_number(parser *p, size_t *number)
{
    skip_space(p);
    if (!isdigit((unsigned char)*p->at)) return false;
    for (*number = 0; isdigit((unsigned char)*p->at); p->at++) {
        size_t digit = (size_t)(*p->at - '0');
        if (*number > (SIZE_MAX - digit) / 10) return false;
        *number = 10 * *number + digit;
    }
    if (*p->at == 'L') p->at++; // a long integer, as Python 2 wrote it
    return true;
}

static mra_status parse_shape(parser *p)
{
    mra_npy *array = p->array;
    array->rank = 0;
    if (!take(p, '(')) return malformed(p, "shape as a tuple");
    while (!take(p, ')')) {
        if (array->rank == MRA_NPY_MAX_RANK)
            return mra_fail(p->err, MRA_BAD_INPUT, "%s: shape has more than %d dimensions",
                            p->path, MRA_NPY_MAX_RANK);
        if (!take_number(p, &array->shape[array->rank]))
            return malformed(p, "a dimension of shape");
        array->rank++;
        skip_space(p);
        if (!take(p, ',') && *p->at != ')') return malformed(p, "a comma or ) in shape");
    }
    return MRA_OK;
}

// size = product of shape. The product of the dimensions that are not 0 must fit, too, times
// the largest element, so that no later multiplication overflows.
static mra_status set_size(const parser *p)
{
    mra_npy *array = p->array;
    size_t product = 1;
    bool empty = false;
    for (int i = 0; i < array->rank; i++) {
        empty |= array->shape[i] == 0;
        if (array->shape[i] > 1 && product > SIZE_MAX / 16 / array->shape[i])
            return mra_fail(p->err, MRA_BAD_INPUT,
                            "%s: shape: the number of elements overflows", p->path);
        if (array->shape[i] > 1) product *= array->shape[i];
    }
    array->size = empty ? 0 : product;
    return MRA_OK;
}

// One "key: value"; `seen` marks which keys were there.
static mra_status parse_pair(parser *p, bool seen[3])
{
    static const char *const keys[3] = {"descr", "fortran_order", "shape"};
    static mra_status (*const parse[3])(parser *) = {parse_type, parse_order, parse_shape};
    char key[64];
    if (!take_text(p, key, sizeof key)) return malformed(p, "a quoted key");
    for (int i = 0; i < 3; i++) {
        if (strcmp(key, keys[i]) != 0) continue;
        if (seen[i])
            return mra_fail(p->err, MRA_BAD_INPUT, "%s: header: %s is there twice", p->path,
                            key);
        seen[i] = true;
        if (!take(p, ':')) return malformed(p, "a colon");
        return parse[i](p);
    }
    return mra_fail(p->err, MRA_BAD_INPUT,
                    "%s: header: unknown key %s: expected descr, fortran_order, shape", p->path,
                    key);
}

mra_status mra_npy_parse_header(mra_npy *array, const char *text, const char *path,
                                mra_error *err)
{
    parser p = {.at = text, .path = path, .array = array, .err = err};
    bool seen[3] = {false, false, false};
    if (!take(&p, '{')) return malformed(&p, "{");
    while (!take(&p, '}')) {
        mra_status status = parse_pair(&p, seen);
        if (status != MRA_OK) return status;
        skip_space(&p);
        if (!take(&p, ',') && *p.at != '}') return malformed(&p, "a comma or }");
    }
    skip_space(&p);
    if (*p.at) return malformed(&p, "the end of the header");
    if (!seen[0] || !seen[1] || !seen[2])
        return mra_fail(err, MRA_BAD_INPUT, "%s: header: %s is missing", path,
                        !seen[0]   ? "descr"
                        : !seen[1] ? "fortran_order"
                                   : "shape");
    return set_size(&p);
}
