#include "server/base/map.h"

#include <pthread.h>
#include <sodium.h>
#include <stdint.h>
#include <string.h>

#include "server/base/mem.h"

#define MAP_FIRST_SLOTS 64

static uint8_t hash_key[crypto_shorthash_KEYBYTES];
static pthread_once_t hash_once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
    randombytes_buf(hash_key, sizeof(hash_key));
}

static size_t hash(const char *key)
{
    uint64_t out;

    pthread_once(&hash_once, make_key);
    crypto_shorthash((uint8_t *)&out, (const uint8_t *)key, strlen(key), hash_key);
    return (size_t)out;
}

void map_init(struct map *map)
{
    memset(map, 0, sizeof(*map));
}

void map_clear(struct map *map)
{
    free(map->slots);
    map_init(map);
}

/* The slot of KEY, or the free one where it would go. */
static size_t find(const struct map *map, const char *key)
{
    size_t at = hash(key) & (map->cap - 1);

    while (map->slots[at].key != NULL && strcmp(map->slots[at].key, key) != 0)
        at = (at + 1) & (map->cap - 1);
    return at;
}

static void grow(struct map *map)
{
    struct map old = *map;

    map->cap = old.cap > 0 ? old.cap * 2 : MAP_FIRST_SLOTS;
    map->slots = mem_calloc(map->cap, sizeof(map->slots[0]));
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].key != NULL)
            map->slots[find(map, old.slots[i].key)] = old.slots[i];
    free(old.slots);
}

void *map_get(const struct map *map, const char *key)
{
    return map->cap == 0 ? NULL : map->slots[find(map, key)].value;
}

void map_put(struct map *map, const char *key, void *value)
{
    size_t at;

    if (map->count * 4 >= map->cap * 3)
        grow(map);
    at = find(map, key);
    if (map->slots[at].key == NULL)
        map->count++;
    map->slots[at] = (struct map_slot){.key = key, .value = value};
}

void *map_remove(struct map *map, const char *key)
{
    size_t at, next;
    void *value;

    if (map->cap == 0)
        return NULL;
    at = find(map, key);
    value = map->slots[at].value;
    if (map->slots[at].key == NULL)
        return NULL;
    map->count--;
    /* close the gap: move later entries of the run whose home is not between gap and entry */
    for (next = (at + 1) & (map->cap - 1); map->slots[next].key != NULL;
         next = (next + 1) & (map->cap - 1)) {
        size_t home = hash(map->slots[next].key) & (map->cap - 1);
        if (((next - home) & (map->cap - 1)) >= ((next - at) & (map->cap - 1))) {
            map->slots[at] = map->slots[next];
            at = next;
        }
    }
    map->slots[at] = (struct map_slot){0};
    return value;
}

bool map_next(const struct map *map, size_t *at, void **value)
{
    while (*at < map->cap) {
        const struct map_slot *slot = &map->slots[(*at)++];
        if (slot->key != NULL) {
            *value = slot->value;
            return true;
        }
    }
    return false;
}
