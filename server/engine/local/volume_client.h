/*
 * server/engine/local/volume_client.h - the server's end of calls on volumes: engine.h's volume_*.
 *
 * Blocks: workers only. CLIENT passes the connection of each call to the launcher.
 */
#ifndef SANDPIT_ENGINE_LOCAL_VOLUME_CLIENT_H
#define SANDPIT_ENGINE_LOCAL_VOLUME_CLIENT_H

#include "server/engine/engine.h"
#include "server/engine/local/client.h"

int volume_client_create(struct client *client, const char *volume_id, uint64_t size_mb,
                         struct err *err);
int volume_client_delete(struct client *client, const char *volume_id, struct err *err);
int volume_client_list(struct client *client, engine_volume_fn fn, void *ctx, struct err *err);
int volume_client_do(struct client *client, const char *volume_id,
                     const struct volume_request *request, struct volume_answer *answer,
                     struct err *err);
int volume_client_commit(struct volume_answer *answer, struct err *err);
/* Before SPEC is created or started: tell the launcher of its volumes, if it has any. */
int volume_client_mounts(struct client *client, const struct engine_spec *spec, struct err *err);

#endif
