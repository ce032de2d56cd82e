/*
 * server/engine/local/client.h - the server's end of the launcher's socket.
 *
 * Any thread may ask; a reader thread of its own receives, wakes those who wait, and posts dials to
 * their loops. One mutex (client.c) guards all of it; no lock is held across a callback.
 */
#ifndef SANDPIT_ENGINE_LOCAL_CLIENT_H
#define SANDPIT_ENGINE_LOCAL_CLIENT_H

#include "server/engine/engine.h"
#include "server/engine/local/launcher_proto.h"

struct client;

/* ENGINE's on_exit is called, on the reader thread, when the launcher tells of an end. */
int client_new(int sock, struct engine *engine, struct client **out, struct err *err);
/* Ends the reader; whoever still waits gets an error. */
void client_free(struct client *client);

/*
 * Send REQUEST (magic and serial are filled in) with FD (-1: none; borrowed) and wait for its
 * answer. ITEM (may be NULL) is called for each ITEM before, on the reader thread. Blocks.
 */
typedef void (*client_item_fn)(void *ctx, const struct launcher_reply *item);
int client_call(struct client *client, struct launcher_request *request, int fd,
                client_item_fn item, void *ctx, struct launcher_reply *reply, struct err *err);
/* The same for an answer with descriptors: FDS are the caller's, -1 where there is none. */
int client_call_fds(struct client *client, struct launcher_request *request,
                    int fds[PACKET_FDS_MAX], struct err *err);

/* engine.h dial. Never blocks. */
void client_dial(struct client *client, struct loop *loop, const char *id, uint16_t port, bool ipv6,
                 engine_dial_fn cb, void *ctx);
/* engine.h dial_now. */
int client_dial_now(struct client *client, const char *id, uint16_t port);
/* Sandbox ID has ended: nothing of it is kept. */
void client_forget(struct client *client, const char *id);

#endif
