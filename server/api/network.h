/*
 * server/api/network.h - NetworkConfig as a client sends it, checked field by field.
 *
 * Pure; a json_t belongs to one thread. Every function returns 0, or -1 with ERR_INVALID in the
 * contract's words; ERR_UNSUPPORTED for what this server does not have.
 * Source: platform-api.md section 4.
 */
#ifndef SANDPIT_API_NETWORK_H
#define SANDPIT_API_NETWORK_H

#include <stdbool.h>

#include "server/base/json.h"

/*
 * Check the egress members of BODY and put what is kept of them into KEPT. DENIED: internet access
 * is switched off beside it, which counts as denyOut of all.
 */
int network_egress_parse(const json_t *body, bool denied, json_t *kept, struct err *err);
/* The ingress members; *PUBLIC stays when allowPublicTraffic is absent or null. */
int network_ingress_parse(const json_t *body, json_t *kept, bool *public_traffic, struct err *err);
/* network_rules.c: "rules", {host: [{transform: {headers: {name: value}}}]}. */
int network_rules_parse(const json_t *body, json_t *kept, struct err *err);
/* STORED "network" text as it is shown: without the proxy's password. New reference or NULL. */
json_t *network_shown(const char *stored);

#endif
