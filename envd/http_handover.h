/*
 * envd/http_handover.h - the connections of a server for the envd that replaces this one, and from
 * the one before. Loop thread.
 */
#ifndef ENVD_HTTP_HANDOVER_H
#define ENVD_HTTP_HANDOVER_H

#include "envd/handover.h"
#include "envd/http.h"

struct http_server;

/* Nothing runs that cannot be handed over; UPGRADE is the request that asks. */
bool http_can_save(const struct http_server *server, const struct exchange *upgrade);
void http_save(struct http_server *server, struct handover_out *out);
/* Nothing is read, sent or started before http_go_on. -1 with *ERR: the connection is closed. */
int http_load(struct http_server *server, const Handover__Connection *in, struct err *err);
void http_go_on(struct http_server *server);
/* The request that caused it all, to be answered; NULL when its client has gone. */
struct exchange *http_take_upgrade(struct http_server *server);

#endif
