// The file, in this order: a head; one entry a sequence, split after split; the ids of all
// sequences; a CRC-32 of everything before it.

#include "data/prepared.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"

static const char magic[16] = "mra sequences 1";

typedef struct head {
    char magic[16], key[64];
    uint32_t order; // 0x01020304, in the machine's byte order
    uint32_t unused;
    uint64_t count[MRA_PREPARED_SPLITS], ids;
} head;

typedef struct entry {
    int32_t length, second, label;
} entry;

// ---- Writing --------------------------------------------------------------------------------

static uint32_t put(FILE *stream, uint32_t crc, const void *bytes, size_t count)
{
    fwrite(bytes, 1, count, stream); // a failure is told by the commit
    return mra_crc32(crc, bytes, count);
}

mra_status mra_prepared_write(const char *path, const char key[65],
                              const mra_sequences splits[MRA_PREPARED_SPLITS], mra_error *err)
{
    mra_output output;
    head head = {.order = 0x01020304};
    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.key, key, sizeof head.key);
    for (int s = 0; s < MRA_PREPARED_SPLITS; s++) {
        head.count[s] = splits[s].count;
        for (size_t i = 0; i < splits[s].count; i++)
            head.ids +=
                (uint64_t)splits[s].items[i].length + (uint64_t)splits[s].items[i].second;
    }
    mra_status status = mra_output_open(&output, path, err);
    if (status != MRA_OK) return status;
    uint32_t crc = put(output.stream, 0, &head, sizeof head);
    for (int s = 0; s < MRA_PREPARED_SPLITS; s++)
        for (size_t i = 0; i < splits[s].count; i++) {
            const mra_sequence *item = &splits[s].items[i];
            const entry entry = {item->length, item->second, item->label};
            crc = put(output.stream, crc, &entry, sizeof entry);
        }
    for (int s = 0; s < MRA_PREPARED_SPLITS; s++)
        for (size_t i = 0; i < splits[s].count; i++) {
            const mra_sequence *item = &splits[s].items[i];
            crc = put(output.stream, crc, item->ids,
                      ((size_t)item->length + (size_t)item->second) * sizeof *item->ids);
        }
    fwrite(&crc, sizeof crc, 1, output.stream);
    return mra_output_commit(&output, err);
}

// ---- Reading --------------------------------------------------------------------------------

static bool map_file(mra_prepared *prepared, const char *path)
{
    struct stat info;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    bool mapped = fstat(file, &info) == 0 && S_ISREG(info.st_mode) &&
                  info.st_size > (off_t)(sizeof(head) + sizeof(uint32_t));
    if (mapped) {
        prepared->bytes = (size_t)info.st_size;
        prepared->map = mmap(NULL, prepared->bytes, PROT_READ, MAP_PRIVATE, file, 0);
        mapped = prepared->map != MAP_FAILED;
        if (!mapped) *prepared = (mra_prepared){0};
    }
    close(file);
    return mapped;
}

// Whether the head is of this machine and of `key`, the sizes add up and the checksum is right.
static bool is_whole(const mra_prepared *prepared, const char key[65])
{
    const head *head = prepared->map;
    if (memcmp(head->magic, magic, sizeof magic) != 0 || head->order != 0x01020304 ||
        memcmp(head->key, key, sizeof head->key) != 0)
        return false;
    const size_t most = prepared->bytes;
    size_t items = 0;
    for (int s = 0; s < MRA_PREPARED_SPLITS; s++) {
        if (head->count[s] > most) return false;
        items += head->count[s];
    }
    if (head->ids > most || items > most) return false;
    const size_t sum =
        sizeof *head + items * sizeof(entry) + head->ids * sizeof(uint16_t) + sizeof(uint32_t);
    uint32_t crc;
    if (sum != most) return false;
    memcpy(&crc, (const char *)prepared->map + most - sizeof crc, sizeof crc);
    return mra_crc32(0, prepared->map, most - sizeof crc) == crc;
}

static bool list_items(const mra_prepared *prepared, mra_sequences splits[MRA_PREPARED_SPLITS])
{
    const head *head = prepared->map;
    const entry *entry = (const void *)(head + 1);
    size_t items = 0, used = 0;
    for (int s = 0; s < MRA_PREPARED_SPLITS; s++) items += head->count[s];
    // The lists hold ids that they may change only if they own them, and these are borrowed.
    uint16_t *ids = (uint16_t *)(uintptr_t)(entry + items);
    for (int s = 0; s < MRA_PREPARED_SPLITS; s++) {
        if (!mra_sequences_resize(&splits[s], head->count[s])) return false;
        for (size_t i = 0; i < head->count[s]; i++, entry++) {
            if (entry->length < 0 || entry->second < 0) return false;
            const size_t size = (size_t)entry->length + (size_t)entry->second;
            if (size > head->ids - used) return false;
            splits[s].items[i] = (mra_sequence){.ids = ids + used,
                                                .length = entry->length,
                                                .second = entry->second,
                                                .label = entry->label,
                                                .borrowed = true};
            used += size;
        }
    }
    return true;
}

bool mra_prepared_open(mra_prepared *prepared, const char *path, const char key[65],
                       mra_sequences splits[MRA_PREPARED_SPLITS])
{
    *prepared = (mra_prepared){0};
    if (!map_file(prepared, path)) return false;
    if (is_whole(prepared, key) && list_items(prepared, splits)) return true;
    for (int s = 0; s < MRA_PREPARED_SPLITS; s++) mra_sequences_free(&splits[s]);
    mra_prepared_close(prepared);
    return false;
}

void mra_prepared_close(mra_prepared *prepared)
{
    if (prepared->map) munmap(prepared->map, prepared->bytes);
    *prepared = (mra_prepared){0};
}
