/*
 * server/base/map.h - a hash table from strings to pointers.
 *
 * Not thread-safe: the owner's lock guards it. Keys are borrowed from the values (the value must
 * outlive its entry and keep its key unchanged). Keyed hashing, so that a peer cannot choose
 * colliding keys.
 */
#ifndef SANDPIT_BASE_MAP_H
#define SANDPIT_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

struct map_slot {
    const char *key; /* NULL when free */
    void *value;
};

struct map {
    struct map_slot *slots;
    size_t count;
    size_t cap; /* a power of two, or 0 */
};

void map_init(struct map *map);
/* Free the table, not the values. */
void map_clear(struct map *map);
void *map_get(const struct map *map, const char *key);
/* Add or replace. */
void map_put(struct map *map, const char *key, void *value);
/* Remove; returns the value or NULL. */
void *map_remove(struct map *map, const char *key);
/* Walk: start with *AT = 0; false at the end. No change to the table while walking. */
bool map_next(const struct map *map, size_t *at, void **value);

#endif
