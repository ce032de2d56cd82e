#include "server/engine/local/stock.h"

#include <string.h>

#include "server/base/fd.h"
#include "server/base/mem.h"
#include "server/model/sandbox.h"

struct stock_entry {
    char id[SANDBOX_ID_SIZE]; /* the map's key */
    int fds[STOCK_KEPT_MAX];
    size_t count;
    size_t coming;  /* asked for, not there yet */
    unsigned batch; /* asked for last */
    int64_t used_mono_ms;
};

void stock_init(struct stock *stock)
{
    pthread_mutex_init(&stock->lock, NULL);
    map_init(&stock->entries);
    stock->total = 0;
}

/* Lock held. */
static void remove_entry(struct stock *stock, struct stock_entry *entry)
{
    map_remove(&stock->entries, entry->id);
    stock->total -= entry->count;
    while (entry->count > 0)
        fd_close(&entry->fds[--entry->count]);
    free(entry);
}

void stock_clear(struct stock *stock)
{
    size_t at = 0;
    void *entry;

    while (map_next(&stock->entries, &at, &entry)) {
        remove_entry(stock, entry);
        at = 0; /* the table changed */
    }
    map_clear(&stock->entries);
    pthread_mutex_destroy(&stock->lock);
}

int stock_take(struct stock *stock, const char *id, int64_t now_mono_ms)
{
    struct stock_entry *entry;
    int fd = -1;

    pthread_mutex_lock(&stock->lock);
    entry = map_get(&stock->entries, id);
    if (entry != NULL && entry->count > 0) {
        entry->used_mono_ms = now_mono_ms;
        stock->total--;
        fd = entry->fds[--entry->count];
    }
    pthread_mutex_unlock(&stock->lock);
    return fd;
}

/* Lock held. ID is shorter than SANDBOX_ID_SIZE. */
static struct stock_entry *add_entry(struct stock *stock, const char *id)
{
    struct stock_entry *entry = mem_zalloc(sizeof(*entry));

    memcpy(entry->id, id, strlen(id) + 1);
    map_put(&stock->entries, entry->id, entry);
    return entry;
}

unsigned stock_want(struct stock *stock, const char *id, int64_t now_mono_ms)
{
    struct stock_entry *entry;
    unsigned batch = 1;

    pthread_mutex_lock(&stock->lock);
    entry = map_get(&stock->entries, id);
    if (entry == NULL)
        entry = add_entry(stock, id);
    else if (now_mono_ms - entry->used_mono_ms < STOCK_BUSY_MS)
        batch = entry->batch * 2 < STOCK_BATCH_MAX ? entry->batch * 2 : STOCK_BATCH_MAX;
    entry->batch = batch;
    if (stock->total + batch > STOCK_TOTAL_MAX ||
        entry->count + entry->coming + batch - 1 > STOCK_KEPT_MAX)
        batch = 1;
    entry->coming += batch - 1;
    entry->used_mono_ms = now_mono_ms;
    pthread_mutex_unlock(&stock->lock);
    return batch;
}

void stock_put(struct stock *stock, const char *id, const int *fds, size_t count)
{
    struct stock_entry *entry;
    size_t kept = 0;

    pthread_mutex_lock(&stock->lock);
    entry = map_get(&stock->entries, id);
    if (entry != NULL)
        entry->coming -= count < entry->coming ? count : entry->coming;
    while (entry != NULL && kept < count && entry->count < STOCK_KEPT_MAX) {
        entry->fds[entry->count++] = fds[kept++];
        stock->total++;
    }
    pthread_mutex_unlock(&stock->lock);
    for (; kept < count; kept++) {
        int fd = fds[kept];

        fd_close(&fd);
    }
}

void stock_drop(struct stock *stock, const char *id)
{
    struct stock_entry *entry;

    pthread_mutex_lock(&stock->lock);
    entry = map_get(&stock->entries, id);
    if (entry != NULL)
        remove_entry(stock, entry);
    pthread_mutex_unlock(&stock->lock);
}

bool stock_sweep(struct stock *stock, int64_t now_mono_ms)
{
    size_t at = 0;
    bool left = false;
    void *found;

    pthread_mutex_lock(&stock->lock);
    while (map_next(&stock->entries, &at, &found)) {
        struct stock_entry *entry = found;

        if (now_mono_ms - entry->used_mono_ms < STOCK_KEEP_MS) {
            left = true;
            continue;
        }
        remove_entry(stock, entry);
        at = 0; /* the table changed */
        left = false;
    }
    pthread_mutex_unlock(&stock->lock);
    return left;
}
