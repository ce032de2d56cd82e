/*
 * server/model/snapshot.h - a kept copy of a sandbox's file system: one build of a template that
 * sandboxes can start from.
 *
 * Pure. A value with one owned string; snapshot_copy and snapshot_clear pair. Snapshots with one
 * name are builds of one template; the newest of a tag is what the tag means.
 */
#ifndef SANDPIT_MODEL_SNAPSHOT_H
#define SANDPIT_MODEL_SNAPSHOT_H

#include <stdint.h>

#include "server/base/hash.h"
#include "server/model/sandbox.h"

#define SNAPSHOT_NAME_SIZE 129 /* [a-z0-9-_]+, with the NUL */
#define SNAPSHOT_TAG_SIZE 129
#define SNAPSHOT_TAG_DEFAULT "default"
#define SNAPSHOT_TEMPLATE_CHARS 20 /* of [a-z0-9] */

/*
 * Stored. CREATING: begun, or for one fork alone; start-up removes it. Only READY ones are seen.
 */
enum snapshot_state { SNAPSHOT_CREATING, SNAPSHOT_READY, SNAPSHOT_DELETING, SNAPSHOT_STATE_COUNT };

struct snapshot {
    char id[SANDBOX_ID_SIZE]; /* the engine's: form as a sandbox id */
    char namespace_[NAMESPACE_SIZE];
    char client[CLIENT_SIZE];
    char template_id[SNAPSHOT_TEMPLATE_CHARS + 1];
    char name[SNAPSHOT_NAME_SIZE]; /* "" for none */
    char tag[SNAPSHOT_TAG_SIZE];
    char build_id[UUID_SIZE];
    char sandbox_id[SANDBOX_ID_SIZE];        /* of which */
    char base_template_id[TEMPLATE_ID_SIZE]; /* whose layers lie below */
    enum snapshot_state state;
    int64_t created_unix_ms;
    uint64_t size_bytes; /* what the sandbox had written */
    uint32_t cpu_count;
    uint32_t memory_mb;
    uint32_t disk_mb;
    char envd_version[ENVD_VERSION_SIZE];
    char *env; /* owned; sealed as a sandbox's, NULL for none */
};

/* Deep copy; OUT need not be initialised. */
void snapshot_copy(struct snapshot *out, const struct snapshot *from);
void snapshot_clear(struct snapshot *snapshot);
#define _cleanup_snapshot_ __attribute__((cleanup(snapshot_clear)))
void snapshot_list_free(struct snapshot *list, size_t count);

const char *snapshot_state_name(enum snapshot_state state);
int snapshot_state_parse(const char *name, enum snapshot_state *out);

/* Room for what clients call a snapshot; names that do not fit are refused. */
#define SNAPSHOT_ID_SIZE TEMPLATE_ID_SIZE
/* "namespace/name:tag", or "<template id>:default" without a name. -1: does not fit. */
int snapshot_public_id(const struct snapshot *snapshot, char out[SNAPSHOT_ID_SIZE]);

#endif
