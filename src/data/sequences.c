// Each sequence is one allocation, so that threads can fill different items of a list at once.

#include "data/sequences.h"

#include <stdlib.h>
#include <string.h>

#include "core/random.h"

static bool set_pair(mra_sequence *item, const uint16_t *ids, int length,
                     const uint16_t *second_ids, int second, int label)
{
    const size_t total = (size_t)length + (size_t)second;
    uint16_t *copy = malloc((total > 0 ? total : 1) * sizeof *copy);
    if (!copy) return false;
    if (length > 0) memcpy(copy, ids, (size_t)length * sizeof *copy);
    if (second > 0) memcpy(copy + length, second_ids, (size_t)second * sizeof *copy);
    if (!item->borrowed) free(item->ids);
    *item = (mra_sequence){.ids = copy, .length = length, .second = second, .label = label};
    return true;
}

bool mra_sequence_set(mra_sequence *item, const uint16_t *ids, int length, int label)
{
    return set_pair(item, ids, length, NULL, 0, label);
}

static bool reserve(mra_sequences *list, size_t count)
{
    if (count <= list->room) return true;
    size_t room = list->room ? 2 * list->room : 256;
    if (room < count) room = count;
    mra_sequence *larger = realloc(list->items, room * sizeof *larger);
    if (!larger) return false;
    list->items = larger;
    list->room = room;
    return true;
}

bool mra_sequences_resize(mra_sequences *list, size_t count)
{
    if (!reserve(list, count)) return false;
    for (size_t i = list->count; i < count; i++) list->items[i] = (mra_sequence){0};
    list->count = count;
    return true;
}

bool mra_sequences_add_pair(mra_sequences *list, const uint16_t *ids, int length,
                            const uint16_t *second_ids, int second, int label)
{
    mra_sequence item = {0};
    if (!reserve(list, list->count + 1) ||
        !set_pair(&item, ids, length, second_ids, second, label))
        return false;
    list->items[list->count++] = item;
    return true;
}

bool mra_sequences_add(mra_sequences *list, const uint16_t *ids, int length, int label)
{
    return mra_sequences_add_pair(list, ids, length, NULL, 0, label);
}

void mra_sequences_truncate(mra_sequences *list, size_t count)
{
    while (list->count > count) {
        mra_sequence *last = &list->items[--list->count];
        if (!last->borrowed) free(last->ids);
    }
}

void mra_sequences_free(mra_sequences *list)
{
    mra_sequences_truncate(list, 0);
    free(list->items);
    *list = (mra_sequences){0};
}

void mra_sequences_shuffle(mra_sequences *list, uint64_t seed, const char *purpose)
{
    mra_random random = mra_random_open(seed, mra_stream(purpose, list->count, 0));
    for (size_t left = list->count; left > 1; left--) {
        size_t chosen = mra_random_below(&random, (uint32_t)left);
        mra_sequence swapped = list->items[left - 1];
        list->items[left - 1] = list->items[chosen];
        list->items[chosen] = swapped;
    }
}

bool mra_sequences_move(mra_sequences *to, mra_sequences *from, size_t count)
{
    if (count > from->count) count = from->count;
    if (!reserve(to, to->count + count)) return false;
    if (count == 0) return true;
    memcpy(to->items + to->count, from->items, count * sizeof *to->items);
    to->count += count;
    from->count -= count;
    memmove(from->items, from->items + count, from->count * sizeof *from->items);
    return true;
}
