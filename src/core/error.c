// Errors as values: the message is formatted where the facts are known, and callers add to it.

#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// One line, whatever went into it: a control character in a file name must not break the
// terminal.
static void keep_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = ' ';
}

mra_status mra_fail(mra_error *err, mra_status status, const char *format, ...)
{
    if (!err) return status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    keep_one_line(err->message);
    err->status = status;
    return status;
}

mra_status mra_fail_within(mra_error *err, const char *format, ...)
{
    if (!err) return MRA_INTERNAL;
    char inner[sizeof err->message];
    memcpy(inner, err->message, sizeof inner);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (used + 3 < sizeof err->message) {
        // What does not fit any more is cut off, on purpose.
        const size_t room = sizeof err->message - used - 3;
        memcpy(err->message + used, ": ", 2);
        memcpy(err->message + used + 2, inner, strnlen(inner, room));
        err->message[used + 2 + strnlen(inner, room)] = '\0';
    }
    keep_one_line(err->message);
    return err->status;
}

int mra_exit_status(mra_status status)
{
    if (status == MRA_OK) return 0;
    return status == MRA_INTERNAL ? 1 : 2;
}
