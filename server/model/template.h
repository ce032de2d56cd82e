/*
 * server/model/template.h - a template as the API shows it and an engine starts it.
 *
 * Plain data, fixed size. The built-in one is "base"; builds come with the template store.
 */
#ifndef SANDPIT_MODEL_TEMPLATE_H
#define SANDPIT_MODEL_TEMPLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/base/hash.h"
#include "server/model/sandbox.h"

#define TEMPLATE_BASE_ID "base"

struct template
{
    char id[TEMPLATE_ID_SIZE];    /* templateID */
    char alias[TEMPLATE_ID_SIZE]; /* bare name */
    char name[TEMPLATE_ID_SIZE];  /* "namespace/alias", or the bare name of a global one */
    char build_id[UUID_SIZE];
    char snapshot_id[SANDBOX_ID_SIZE]; /* the engine's, of a snapshot; "" for none */
    uint32_t cpu_count;
    uint32_t memory_mb;
    uint32_t disk_mb;
    bool is_public;
    int64_t created_unix_ms;
    int64_t updated_unix_ms;
};

/* The built-in template; CREATED_UNIX_MS is when this installation first started. */
void template_base(struct template *out, int64_t created_unix_ms);

#endif
