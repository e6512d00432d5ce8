// Reading settings one after another, and writing them back as text.

#include "nn/reading.h"

#include <stdarg.h>
#include <stdio.h>

int64_t mra_read_int(mra_reader *reader, const char *key, int64_t fallback, int64_t low,
                     int64_t high)
{
    int64_t value = fallback;
    if (reader->status == MRA_OK)
        reader->status =
            mra_settings_int(reader->settings, key, fallback, low, high, &value, reader->err);
    return value;
}

double mra_read_real(mra_reader *reader, const char *key, double fallback, double low,
                     double high)
{
    double value = fallback;
    if (reader->status == MRA_OK)
        reader->status =
            mra_settings_real(reader->settings, key, fallback, low, high, &value, reader->err);
    return value;
}

bool mra_read_bool(mra_reader *reader, const char *key, bool fallback)
{
    bool value = fallback;
    if (reader->status == MRA_OK)
        reader->status =
            mra_settings_bool(reader->settings, key, fallback, &value, reader->err);
    return value;
}

int mra_read_choice(mra_reader *reader, const char *key, const char *const *names)
{
    int index = 0;
    if (reader->status == MRA_OK)
        reader->status =
            mra_settings_choice(reader->settings, key, names[0], names, &index, reader->err);
    return index;
}

const char *mra_read_text(mra_reader *reader, const char *key, const char *fallback)
{
    return mra_settings_text(reader->settings, key, fallback);
}

void mra_write(mra_writer *writer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t left = writer->used < writer->room ? writer->room - writer->used : 0;
    int length = vsnprintf(left ? writer->at + writer->used : NULL, left, format, arguments);
    va_end(arguments);
    writer->used += (size_t)length;
}
