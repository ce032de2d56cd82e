/*
 * server/loop/signal.h - SIGTERM, SIGINT and SIGHUP as callbacks on a loop (signalfd).
 */
#ifndef SANDPIT_LOOP_SIGNAL_H
#define SANDPIT_LOOP_SIGNAL_H

#include "server/base/err.h"
#include "server/loop/loop.h"

struct signal_watch;

/*
 * Block the three signals for this thread and those it starts, and ignore SIGPIPE. In main, before
 * any thread starts: a thread with them unblocked would take them and end the process.
 */
void signal_block(void);
/*
 * Call ON_SIGNAL with the signal's number. Before LOOP runs, or on it. A child that execs inherits
 * the blocked mask: reset it with an empty one.
 */
int signal_watch_new(struct loop *loop, void (*on_signal)(void *ctx, int signo), void *ctx,
                     struct signal_watch **out, struct err *err);
/* On the loop, or after it has ended. The signals stay blocked. */
void signal_watch_free(struct signal_watch *watch);

#endif
