/*
 * server/model/limits.h - every number that bounds what a client may ask for, with its unit.
 *
 * docs/limits.md lists them for users.
 */
#ifndef SANDPIT_MODEL_LIMITS_H
#define SANDPIT_MODEL_LIMITS_H

#include <stdint.h>

#define SANDBOX_TIMEOUT_DEFAULT_S 300   /* POST /v2/sandboxes without "timeout" */
#define SANDBOX_TIMEOUT_V1_DEFAULT_S 15 /* POST /sandboxes without "timeout" */
#define SANDBOX_TIMEOUT_MAX_S 86400     /* longest life from now: 24 h */
#define TRAFFIC_LIFE_MIN_MS 300000      /* of a sandbox that traffic woke */
#define SANDBOX_REFRESH_MIN_S 15
#define SANDBOX_REFRESH_MAX_S 3600

#define SANDBOX_CPU_DEFAULT 2 /* cores */
#define SANDBOX_MEMORY_DEFAULT_MB 1024
#define SANDBOX_DISK_DEFAULT_MB 10240 /* held by the storage; docs/limits.md */
#define SANDBOX_PIDS_MAX 4096         /* processes and threads in one sandbox */

#define METADATA_ENTRIES_MAX 128
#define METADATA_BYTES_MAX 65536 /* keys and values together */
#define ENV_ENTRIES_MAX 1024
#define ENV_BYTES_MAX 262144
#define LIST_LIMIT_MAX 100
#define KEYS_PER_NAMESPACE_MAX 1000 /* usable API keys, and as many access tokens */
#define SANDBOX_COUNT_MAX 4000      /* on one server */
#define SNAPSHOT_COUNT_MAX 1000     /* builds of snapshots in one namespace */
#define FORK_COUNT_MAX 100          /* sandboxes by one fork */

#define IDEMPOTENCY_KEEP_MS (24 * 60 * 60 * INT64_C(1000))
#define IDEMPOTENCY_KEYS_MAX 1000000 /* on one server */

#define WEBHOOKS_MAX 20 /* of one namespace */
#define WEBHOOK_NAME_MAX_BYTES 128
#define WEBHOOK_URL_MAX_BYTES 2048
#define WEBHOOK_SECRET_MAX_BYTES 256

#define API_BODY_MAX_BYTES (1024 * 1024)
#define VOLUME_FILE_MAX_BYTES (UINT64_C(64) << 30) /* of one upload into a volume */
#define VOLUME_CALLS_MAX 8 /* operations on files of volumes that hold a worker at once */
#define HEAD_MAX_BYTES (64 * 1024) /* request line and headers together */
#define HEAD_FIELDS_MAX 100        /* header fields */

#endif
