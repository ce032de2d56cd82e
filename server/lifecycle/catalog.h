/*
 * server/lifecycle/catalog.h - every snapshot of this server in memory, and who uses it.
 *
 * One mutex, used in catalog.c alone; never held across a call into store or engine. Readers get
 * copies. A row being deleted is not found any more; its deletion waits until nobody starts from
 * it. Any thread, unless a function says that it waits.
 */
#ifndef SANDPIT_LIFECYCLE_CATALOG_H
#define SANDPIT_LIFECYCLE_CATALOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "mapper/template_id.h"
#include "server/base/err.h"
#include "server/model/snapshot.h"

struct catalog_row {
    struct snapshot snapshot;
    unsigned users; /* sandboxes that are being made from it */
    bool deleting;  /* one thread deletes it now */
};

struct catalog {
    pthread_mutex_t lock;
    pthread_cond_t unused;    /* a row has lost a user */
    struct catalog_row *rows; /* in the order of their creation */
    size_t count, cap;
};

void catalog_init(struct catalog *catalog);
void catalog_clear(struct catalog *catalog);

/*
 * Add a copy of *SNAPSHOT, unless its namespace has MAX (ERR_LIMIT). One with a name gets the
 * template id that the name has already; ERR_EXISTS when the name is a template's id.
 */
int catalog_add(struct catalog *catalog, struct snapshot *snapshot, size_t max, struct err *err);
/* The capture has succeeded: READY, SIZE_BYTES. */
void catalog_ready(struct catalog *catalog, const char *id, uint64_t size_bytes);
void catalog_remove(struct catalog *catalog, const char *id);

/*
 * What REF means to NAMESPACE_: a name or template id with a tag, a build id or nothing (the
 * default tag). *OUT is owned. ERR_NOT_FOUND: no such name ("") or no such tag of it (a message).
 */
int catalog_find(struct catalog *catalog, const char *namespace_, const struct template_id *ref,
                 struct snapshot *out, struct err *err);
/* Keep ID for a start until catalog_unuse; *OUT owned. ERR_NOT_FOUND. */
int catalog_use(struct catalog *catalog, const char *id, struct snapshot *out, struct err *err);
void catalog_unuse(struct catalog *catalog, const char *id);

/*
 * Take the rows that REF means out of sight: all of its tag, or of the template when it has none;
 * by build id that one. Also those whose deletion failed before. Waits until nobody starts from
 * them. *OUT are copies, owned, each to be removed or given back. None: *COUNT 0. Worker.
 */
void catalog_condemn(struct catalog *catalog, const char *namespace_, const struct template_id *ref,
                     struct snapshot **out, size_t *count);
/* Its deletion failed: stays out of sight; the next catalog_condemn gets it again. */
void catalog_give_back(struct catalog *catalog, const char *id);

/* Copies of the newest ready build of each tag, newest first, owned. */
void catalog_list(struct catalog *catalog, const char *namespace_, struct snapshot **out,
                  size_t *count);

#endif
