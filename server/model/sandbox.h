/*
 * server/model/sandbox.h - what a sandbox is: plain data and its rules.
 *
 * Pure. A struct sandbox is a value with owned strings; sandbox_copy and sandbox_clear pair.
 */
#ifndef SANDPIT_MODEL_SANDBOX_H
#define SANDPIT_MODEL_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/hash.h"

#define SANDBOX_ID_SIZE 24 /* 'i', 20 of [a-z0-9] and a NUL, with room for foreign ids */
#define SANDBOX_ID_CHARS 20
#define NAMESPACE_SIZE 64 /* [a-z0-9-_]+, with the NUL */
#define CLIENT_SIZE 64
#define TEMPLATE_ID_SIZE 200 /* "namespace/name:tag" with the NUL */

/*
 * Stored states. Intent comes first: CREATING and KILLING are written before the engine acts.
 * Clients see RUNNING and PAUSED only; a KILLING sandbox is gone for them.
 */
enum sandbox_state {
    SANDBOX_CREATING,
    SANDBOX_RUNNING,
    SANDBOX_PAUSING,
    SANDBOX_PAUSED,
    SANDBOX_RESUMING,
    SANDBOX_KILLING,
    SANDBOX_STATE_COUNT
};

enum sandbox_end { /* why a sandbox ended; for logs and events */
                   SANDBOX_END_NONE,
                   SANDBOX_END_KILLED,  /* DELETE /sandboxes/{id} */
                   SANDBOX_END_TIMEOUT, /* its endAt came */
                   SANDBOX_END_EXITED,  /* its init ended by itself */
                   SANDBOX_END_LOST,    /* not there any more when the server looked */
                   SANDBOX_END_FAILED,  /* could not be created */
                   SANDBOX_END_COUNT
};

#define ENVD_VERSION_SIZE 32 /* "0.6.13", with the NUL */
#define ENVD_BUILD_SIZE 65   /* SHA-256 of the program in hex, with the NUL */

struct sandbox {
    char id[SANDBOX_ID_SIZE];
    char namespace_[NAMESPACE_SIZE];         /* owner: the key's namespace */
    char client[CLIENT_SIZE];                /* who created it: the key's client id */
    char key_id[UUID_SIZE];                  /* the key itself; "" when not known */
    char template_id[TEMPLATE_ID_SIZE];      /* as resolved: "base" or "namespace/name:tag" */
    char alias[TEMPLATE_ID_SIZE];            /* first bare alias of the template; "" for none */
    char base_template_id[TEMPLATE_ID_SIZE]; /* whose layers lie below; "": template_id's */
    enum sandbox_state state;
    int64_t created_unix_ms; /* first start */
    int64_t started_unix_ms; /* start of this run */
    int64_t end_unix_ms;     /* when it times out; when paused: the time of the pause */
    int64_t timeout_s; /* that it was created with; traffic wakes it for as long; 0: unknown */
    uint32_t cpu_count;
    uint32_t memory_mb;
    uint32_t disk_mb;
    char envd_version[ENVD_VERSION_SIZE]; /* that runs in it; "" when not known */
    char envd_build[ENVD_BUILD_SIZE];     /* "" when not known */
    bool secure;                          /* envd wants X-Access-Token */
    bool auto_pause;                      /* at end_unix_ms: pause, not kill */
    bool auto_pause_files;                /* that pause keeps files alone, no memory */
    bool auto_resume;                     /* traffic wakes it */
    bool paused_files;                    /* paused, or being paused: files alone are kept */
    bool paused_deaf;                     /* envd did not answer when it was paused */
    bool internet;                        /* egress on */
    bool internet_set;    /* allow_internet_access was given: shown as such, else null */
    bool private_traffic; /* network.allowPublicTraffic was false */
    char *metadata;       /* owned JSON object text of strings, NULL for none */
    char *env;            /* owned; sealed JSON object of strings, NULL for none */
    char *network;        /* owned JSON text of the request's "network", NULL for none */
    char *volume_mounts;  /* owned JSON text (server/model/volume.h, mounts), NULL for none */
    char *engine_data;    /* owned; what the engine wrote to find it again, NULL for none */
};

/* Deep copy; OUT need not be initialised. */
void sandbox_copy(struct sandbox *out, const struct sandbox *from);
/* Free owned strings and zero. */
void sandbox_clear(struct sandbox *sandbox);
#define _cleanup_sandbox_ __attribute__((cleanup(sandbox_clear)))

/* A new id: "i" and 20 random characters of [a-z0-9]. */
void sandbox_id_new(char out[SANDBOX_ID_SIZE]);
/*
 * The id a client sent, "<id>" or "<id>-<client id>": cut at the first '-', checked to be
 * [a-z0-9]+ and to fit. ERR_INVALID "Invalid sandbox ID" otherwise (platform-api §1).
 */
int sandbox_id_parse(const char *s, size_t len, char out[SANDBOX_ID_SIZE], struct err *err);

/* "creating", "running" …: stored and logged. */
const char *sandbox_state_name(enum sandbox_state state);
int sandbox_state_parse(const char *name, enum sandbox_state *out);
/* What clients are told: "running" or "paused". */
const char *sandbox_state_public(enum sandbox_state state);
/* Seen by clients: neither being created nor being killed. */
bool sandbox_state_visible(enum sandbox_state state);
const char *sandbox_end_name(enum sandbox_end end);

#endif
