/*
 * envd/rpc_watch.h - polled watchers (CreateWatcher) for the envd that replaces this one, and from
 * the one before. After watch_save and watch_load. Loop thread.
 */
#ifndef ENVD_RPC_WATCH_H
#define ENVD_RPC_WATCH_H

#include "envd/handover.h"

void rpc_watch_save(struct handover_out *out);
int rpc_watch_load(const Handover__Polled *in, struct err *err);

#endif
