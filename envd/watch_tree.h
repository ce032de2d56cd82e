/*
 * envd/watch_tree.h - what happens in a folder, and below it if asked: inotify made recursive.
 *
 * Blocking file calls; belongs to one thread (the watch's own).
 * Source: inotify(7); envd API section 5.4.
 */
#ifndef SANDPIT_ENVD_WATCH_TREE_H
#define SANDPIT_ENVD_WATCH_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "envd/entry.h"
#include "server/base/err.h"
#include "server/base/map.h"

enum watch_kind { /* numbers of the wire */
                  WATCH_CREATE = 1,
                  WATCH_WRITE = 2,
                  WATCH_REMOVE = 3,
                  WATCH_RENAME = 4,
                  WATCH_CHMOD = 5,
};

struct watch_event {
    enum watch_kind kind;
    char *name; /* below the watched folder; "." is that folder */
    bool has_entry;
    struct entry entry;
};
void watch_event_clear(struct watch_event *event);

/* Takes what EVENT holds. */
typedef void (*watch_emit_fn)(void *arg, struct watch_event *event);

struct watch_tree {
    int fd; /* inotify, non-blocking */
    const char *path;
    bool recursive;
    bool include_entry;
    struct map by_wd;       /* struct watch_dir by decimal wd; owns them */
    struct map by_rel;      /* the same by path below `path` */
    uint32_t upload_cookie; /* of an upload's file on its way to its name */
    watch_emit_fn emit;
    void *arg;
};

/* Is PATH a folder that can be watched? ERR_NOT_FOUND, ERR_INVALID; texts are the client's. */
int watch_tree_check(const char *path, bool allow_network, struct err *err);

/*
 * Watch PATH (borrowed). Returns 0 (then watch_tree_clear) or -1 with ERR_INTERNAL: out of watches
 * or descriptors.
 */
int watch_tree_open(struct watch_tree *tree, const char *path, bool recursive, bool include_entry,
                    watch_emit_fn emit, void *arg, struct err *err);
void watch_tree_clear(struct watch_tree *tree);

/* Emit what has happened since. -1 with ERR_INTERNAL: events were lost, or it cannot go on. */
int watch_tree_read(struct watch_tree *tree, struct err *err);

#endif
