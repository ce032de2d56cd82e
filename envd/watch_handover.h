/*
 * envd/watch_handover.h - watches for the envd that replaces this one, and from the one before: the
 * inotify instances stay open, so the kernel queues what happens meanwhile. Loop thread.
 */
#ifndef ENVD_WATCH_HANDOVER_H
#define ENVD_WATCH_HANDOVER_H

#include "envd/handover.h"
#include "envd/watch.h"

/* With the threads held and parked (watch_hub.h). Numbers the watches. */
void watch_save(struct handover_out *out);
uint32_t watch_number(const struct watch *watch);

/* No thread runs before watch_go_on. -1 with *ERR. *COUNT rises by the watches that are there. */
int watch_load(struct loop *loop, const Handover__Hub *in, size_t *count, struct err *err);
/* Whose it is: READY(ARG) is called as watch_start promises. Once for each watch. */
int watch_adopt(uint32_t number, void (*ready)(void *arg), void *arg, struct watch **out,
                struct err *err);
/* Follow on. Watches that nobody has adopted are stopped. */
void watch_go_on(void);

#endif
