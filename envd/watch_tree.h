/*
 * envd/watch_tree.h - what happens in a watched folder, and below it if asked: inotify made
 * recursive.
 *
 * Blocking file calls; belongs to the hub's thread. Folders are watched before they are read and
 * held by descriptors meanwhile, so nothing falls in between whatever is renamed. What a client is
 * told and what its watch follows are decided here only.
 * Source: inotify(7); envd API section 5.4.
 */
#ifndef SANDPIT_ENVD_WATCH_TREE_H
#define SANDPIT_ENVD_WATCH_TREE_H

#include "envd/watch_hub.h"

/* Is PATH a folder that can be watched? ERR_NOT_FOUND, ERR_INVALID; texts are the client's. */
int watch_tree_check(const char *path, bool allow_network, struct err *err);

/* Watch what WATCH asks for. ERR_INTERNAL: out of watches or descriptors. */
int watch_tree_open(struct watch *watch, struct err *err);
/* Follow it no more. */
void watch_tree_close(struct watch *watch);
/* An event came (not IN_Q_OVERFLOW): tell those concerned. */
void watch_tree_event(struct watch_hub *hub, const struct inotify_event *event);
/* Every event so far has been seen: walk what could not be reached before. */
void watch_tree_retry(struct watch_hub *hub);
/* Nodes are about to be freed. */
void watch_tree_reap(struct watch_hub *hub);

#endif
