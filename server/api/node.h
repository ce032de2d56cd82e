/*
 * server/api/node.h - this machine as E2B's API sees it: one node of a cluster of one.
 *
 * What an operator set (ready, draining, standby) is kept across restarts. Any thread.
 */
#ifndef SANDPIT_API_NODE_H
#define SANDPIT_API_NODE_H

#include "server/api/api.h"

struct node;

/*
 * Start-up; blocks. PATH is on the disk to report; it, STORE and LIFECYCLE outlive the node. A node
 * that was not ready before the restart lets LIFECYCLE refuse creates again.
 */
int node_new(struct store *store, struct lifecycle *lifecycle, const char *path, struct node **out,
             struct err *err);
void node_free(struct node *node);

const char *node_id(const struct node *node);
const char *node_cluster(const struct node *node);
/* Is STATUS one of the five words? */
bool node_status_known(const char *status);
/*
 * Worker. ERR_CONFLICT: "connecting" and "unhealthy" are found out, not set. Any but "ready" makes
 * creates fail with ERR_BUSY; what runs goes on, and what is paused can be resumed.
 */
int node_set_status(struct node *node, const char *status, struct err *err);
/* Worker. Node. New reference. */
json_t *node_json(struct node *node);

#endif
