/*
 * server/engine/local/stock.h - sockets inside sandboxes, opened ahead of their connections.
 *
 * Asking the launcher costs a connection to a guest more than connecting does. A sandbox that gets
 * connection after connection therefore gets several sockets at a time; what is over waits here,
 * not for long. IPv4, unconnected. Any thread; one mutex, never held across a call out.
 */
#ifndef SANDPIT_ENGINE_LOCAL_STOCK_H
#define SANDPIT_ENGINE_LOCAL_STOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/map.h"

#define STOCK_BATCH_MAX 16  /* sockets asked for at once */
#define STOCK_KEPT_MAX 32   /* sockets waiting, of one sandbox */
#define STOCK_TOTAL_MAX 512 /* sockets waiting, of all sandboxes */
#define STOCK_KEEP_MS 2000  /* unused for that long: closed */
#define STOCK_BUSY_MS 100   /* asked again within that time: ask for twice as many */

struct stock {
    pthread_mutex_t lock;
    struct map entries; /* sandbox id to struct stock_entry */
    size_t total;
};

void stock_init(struct stock *stock);
void stock_clear(struct stock *stock);

/* A socket in sandbox ID, the caller's; -1 when none waits. */
int stock_take(struct stock *stock, const char *id, int64_t now_mono_ms);
/* None waited: how many to ask for, 1..STOCK_BATCH_MAX. */
unsigned stock_want(struct stock *stock, const char *id, int64_t now_mono_ms);
/* Keep COUNT sockets of FDS (taken over). */
void stock_put(struct stock *stock, const char *id, const int *fds, size_t count);
/* Sandbox ID has ended: its next run has another network namespace. */
void stock_drop(struct stock *stock, const char *id);
/* Close what was not used for a while. Returns whether anything is left to look at again. */
bool stock_sweep(struct stock *stock, int64_t now_mono_ms);

#endif
