/*
 * envd/watch_walk.h - putting watches on folders: opening them by the names a watch has for them,
 * and walking what is below.
 *
 * Blocking file calls; belongs to the hub's thread.
 */
#ifndef SANDPIT_ENVD_WATCH_WALK_H
#define SANDPIT_ENVD_WATCH_WALK_H

#include "envd/watch_hub.h"

/* Tell WATCH that something of TYPE happened to NAME in NODE's folder (NULL: to NODE itself). */
void watch_emit(struct watch_hub *hub, struct watch_node *node, Filesystem__EventType type,
                const char *name);

/* Watch the folder itself. -1 with ERR_INTERNAL. */
int watch_walk_root(struct watch *watch, struct err *err);

/*
 * Follow the folder NAME in PARENT's, and all below it; REPORT what is there as created. A folder
 * that is gone by now is fine; one out of reach of its path is noted for watch_walk_retry.
 * -1 with *ERR when something cannot be watched for want of memory, watches or descriptors.
 */
int watch_walk_below(struct watch_node *parent, const char *name, bool report, struct err *err);

/* Every event so far has been seen: try those that could not be reached before. */
void watch_walk_retry(struct watch_hub *hub);
/* Drop what was noted for dead nodes. */
void watch_walk_forget(struct watch_hub *hub);

/* WATCH has failed after it was armed: ERR says why. It is followed no more. */
void watch_walk_fail(struct watch *watch, const struct err *err);

#endif
