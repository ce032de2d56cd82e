/*
 * server/api/wire.h - our objects as the Platform API's JSON and back.
 *
 * Pure but for `lifecycle` (tokens). Any thread; a json_t belongs to one thread. Functions that
 * return json_t give a new reference. The Python client fails on a required key that is missing,
 * and on null where an object may be.
 * Source: platform-api.md section 4, templates-api.md section 3.
 */
#ifndef SANDPIT_API_WIRE_H
#define SANDPIT_API_WIRE_H

#include "server/api/api.h"
#include "server/base/json.h"
#include "server/model/sandbox.h"
#include "server/model/template.h"

#define WIRE_CONTENT_PREFIX "/volumecontent/" /* paths of the content API */
#define WIRE_CLIENT_ID "6532622b" /* legacy constant, required, unused by SDKs */

/* Sandbox: the answer of create, connect and resume, with its tokens. */
json_t *wire_sandbox(struct api *api, const struct sandbox *sandbox);
/* ListedSandbox. */
json_t *wire_listed(const struct api *api, const struct sandbox *sandbox);
/* SandboxDetail: never with the traffic token. */
json_t *wire_detail(struct api *api, const struct sandbox *sandbox);
/* Template; with BUILDS also what TemplateWithBuilds has. */
json_t *wire_template(const struct api *api, const struct template *template, bool builds);

/* The body of POST /sandboxes or /v2/sandboxes. */
struct create_body {
    json_t *json;    /* owned; `request` borrows from it */
    json_t *network; /* owned: what of "network" is kept and shown again, NULL for none */
    struct lifecycle_create request; /* without namespace_ and client */
};
/*
 * Check BODY (borrowed) with the defaults of version 2 (V2) or 1. *OUT is to clear. ERR_INVALID
 * naming the field, ERR_UNSUPPORTED naming what is asked for and not built; *OUT untouched then.
 */
int wire_create_parse(json_t *body, bool v2, struct create_body *out, struct err *err);
/* What an Idempotency-Key stands for: the whole body, in whatever order and spacing it came. */
void wire_create_hash(const struct create_body *body, bool v2, uint8_t out[SHA256_BYTES]);
void create_body_clear(struct create_body *body);

/* volume_wire.c: an entry of a volume, VolumeEntryStat. */
json_t *wire_volume_entry(const struct volume_entry *entry);

/* network.c: the part of the above for "network" and "allow_internet_access". */
int wire_network_parse(const json_t *body, struct create_body *out, struct err *err);

#endif
