/*
 * envd/watch_node.h - the tables of one inotify instance: which folder has which descriptor, who
 * watches it, and what each watch calls it.
 *
 * The kernel has one watch descriptor for a folder, however often it is added. So a descriptor (a
 * struct watch_inode) has a list of nodes, one for each place of a watch where it is seen. The
 * nodes of a watch are a tree, like the folders: a rename moves one node, whatever is below it, and
 * a path is put together from the names on the way up.
 *
 * Plain tables without system calls; belongs to the instance's thread.
 */
#ifndef SANDPIT_ENVD_WATCH_NODE_H
#define SANDPIT_ENVD_WATCH_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/map.h"

struct watch;

struct watch_link { /* a row of a hash table */
    struct watch_link *next;
    uint64_t hash;
};

struct watch_table {
    struct watch_link **slots;
    size_t count, cap;
};

struct watch_inode { /* a folder, as the kernel sees it */
    struct watch_link link;
    int wd;
    struct watch_node *nodes;
};

struct watch_node {         /* a folder, as a watch sees it */
    struct watch_link link; /* by parent and name; roots have none */
    struct watch *watch;
    struct watch_inode *inode;
    struct watch_node
        *next_here; /* of the same folder; kept when dead: a walk of the list goes on */
    struct watch_node **prev_here;
    struct watch_node *parent; /* NULL: the watched folder */
    struct watch_node *children, *next, *prev;
    struct watch_told *told;
    char *name;
    uint32_t number; /* in a state that is handed over */
    bool dead;       /* dropped; freed by watch_index_reap */
};

/* Names that a walk has reported, whose own events may still come. */
struct watch_told {
    struct watch_node *node;
    struct watch_told *next, *prev; /* oldest first */
    uint64_t until;   /* later events are not about what the walk saw; UINT64_MAX: it goes on */
    struct map names; /* owns them */
};

struct watch_index {
    struct watch_table inodes;
    struct watch_table names;
    struct watch_told *told_first, *told_last;
    struct watch_node *dead;
    /* Nobody watches WD any more. */
    void (*unused)(struct watch_index *index, int wd);
};

void watch_index_init(struct watch_index *index, void (*unused)(struct watch_index *index, int wd));
/* After every watch has dropped its nodes. */
void watch_index_clear(struct watch_index *index);

struct watch_inode *watch_inode_find(const struct watch_index *index, int wd);
struct watch_node *watch_node_child(const struct watch_index *index,
                                    const struct watch_node *parent, const char *name);
/* WATCH sees WD as NAME below PARENT (NULL: the watched folder), where nothing else is now. */
struct watch_node *watch_node_add(struct watch_index *index, struct watch *watch,
                                  struct watch_node *parent, const char *name, int wd);
/* NODE, with all below it, is NAME below PARENT from now on. */
void watch_node_move(struct watch_index *index, struct watch_node *node, struct watch_node *parent,
                     const char *name);
/* Drop NODE and all below it. Their memory stays until watch_index_reap. */
void watch_node_drop(struct watch_index *index, struct watch_node *node);
void watch_index_reap(struct watch_index *index);
bool watch_node_is_below(const struct watch_node *node, const struct watch_node *above);

/* Append the path of NODE below the watched folder; nothing for the folder itself. -1: too long. */
int watch_node_path(const struct watch_node *node, struct buf *out);

/* NAME in NODE has been reported. False when it had been already. */
bool watch_told_add(struct watch_index *index, struct watch_node *node, const char *name);
/* Forget that. False when it had not been. */
bool watch_told_take(struct watch_index *index, struct watch_node *node, const char *name);
/* The walk is over: events up to UNTIL may be about what it told. */
void watch_told_mark(struct watch_index *index, uint64_t until);
/* All events up to DONE have been seen: older notes are of no use. */
void watch_told_expire(struct watch_index *index, uint64_t done);

#endif
