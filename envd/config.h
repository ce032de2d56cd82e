/*
 * envd/config.h - what this envd was told: keys, default user, environment, and POST /init.
 *
 * `struct settings` is an immutable snapshot with a reference count: readable from any thread for
 * as long as the reference is held. config_apply replaces the current snapshot (loop thread only).
 * One mutex in config.c guards the pointer to the current one.
 * Source: envd-api sections 4.2, 6.1, 7.3.
 */
#ifndef ENVD_CONFIG_H
#define ENVD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/base/json.h"

#define CONFIG_JWT_KEY_BYTES 32
#define CONFIG_TOKEN_MAX_BYTES 4096
#define CONFIG_CPU_MAX 8192
#define CONFIG_JSON_MAX_BYTES (1 << 20)
#define CONFIG_REPLAY_BYTES (1 << 20) /* unless it is told */
#define CONFIG_REPLAY_BYTES_MIN (64 << 10)
#define CONFIG_REPLAY_BYTES_MAX (1 << 30)
#define CONFIG_REPLAY_TOTAL_BYTES (64 << 20)

struct settings {
    bool insecure;    /* no JWT and no access token wanted */
    bool initialised; /* it has been told something */
    bool has_jwt_key;
    struct secret jwt_key;      /* HS256 */
    char *access_token;         /* NULL: none is set */
    char *sandbox_id;           /* "" when unknown */
    char *template_id;          /* "" when unknown */
    char *default_user;         /* never NULL; "root" until told otherwise */
    char *default_workdir;      /* "" when unset */
    char *events_ip;            /* of the platform's event service; "" when unset */
    int64_t cpu_count;          /* CPUs this sandbox may use; 0 when unknown */
    int64_t memory_total_bytes; /* its memory limit; 0 when unknown */
    int64_t replay_bytes;       /* kept of each output of a process: sandpitReplayBytes */
    int64_t replay_total_bytes; /* of all together: sandpitReplayTotalBytes */
    /*
     * Name to string: what every process gets, internal variables included. Read-only: borrow
     * values, take no references (jansson's counts are not shared between threads).
     */
    json_t *envs;
    /* Private to config.c. */
    json_t *user_envs;
    json_t *mounted; /* path to the lifecycle that a volume was mounted there for */
    bool has_timestamp;
    int64_t timestamp_ms;
    uint32_t timestamp_nanos;
    unsigned refs;
};

/* Start with the defaults. Once, before any thread. */
void config_init(bool insecure);
void config_clear(void);

/* The current snapshot, a new reference. Any thread. */
struct settings *settings_get(void);
/* Drop a reference; NULL is fine. Any thread. */
void settings_unref(struct settings *settings);

static inline void cleanup_settings(struct settings **settings)
{
    settings_unref(*settings);
}
#define _cleanup_settings_ __attribute__((cleanup(cleanup_settings)))

/*
 * Apply a JSON document with the fields of POST /init and, from the launcher only (TRUSTED), also
 * jwtKey, sandboxID, templateID, cpuCount and memoryTotalBytes. Loop thread. All or nothing: on -1
 * (ERR_INVALID, ERR_UNSUPPORTED) the current settings stay. A timestamp that is not newer than the
 * last one leaves everything as it is and returns 0, with *STALE (may be NULL) set.
 */
int config_apply(const json_t *json, bool trusted, bool *stale, struct err *err);

/* A volume is mounted at PATH for the lifecycle LIFECYCLE_ID. Loop thread. */
bool config_is_mounted(const char *path, const char *lifecycle_id);
/* From now on that is so; LIFECYCLE_ID NULL: none is. Loop thread. */
void config_set_mounted(const char *path, const char *lifecycle_id);

/* The current settings as a document that config_apply takes, trusted. Secret: wipe it. */
char *config_export(void);

/* Read FD to its end, apply it as trusted, wipe the bytes. Blocking: start-up only. */
int config_read_fd(int fd, struct err *err);

#endif
