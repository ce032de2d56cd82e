/*
 * server/engine/engine.h - the contract between lifecycle and what runs sandboxes.
 *
 * Functions block and run on workers only; `dial` alone is asynchronous and runs on a loop. An
 * engine serialises nothing: lifecycle never calls two functions for one id at once (dial
 * excepted). On failure nothing is left behind. A NULL slot means this engine cannot do it;
 * lifecycle answers ERR_UNSUPPORTED with the engine's name.
 */
#ifndef SANDPIT_ENGINE_ENGINE_H
#define SANDPIT_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/engine/volume.h"
#include "server/loop/loop.h"
#include "server/model/sandbox.h"

#define ENVD_PORT 49983

/* What create needs. All pointers borrowed for the call. */
struct engine_spec {
    const char *id;
    const char *template_id;
    /* create: a snapshot whose file system it starts with, above TEMPLATE_ID; NULL: the template's
     * alone. Not for start. */
    const char *snapshot;
    uint32_t cpu_count;
    uint32_t memory_mb;
    uint32_t disk_mb;
    uint32_t pids_max;
    bool internet;
    /* create, start: volumes, there before anything runs; JSON (server/model/volume.h) or NULL */
    const char *volume_mounts;
    const char *network; /* NULL, or its rules as for set_network; INTERNET is true then */
    /*
     * JSON that envd gets before it serves, over a pipe, never argv or environment; the fields are
     * those of envd's POST /init (envd-api.md 7.3) and "jwtKey" (64 hex digits), "sandboxID",
     * "templateID". Holds secrets.
     */
    const char *envd_config;
};

/* What create gives back and adopt needs: opaque text of the engine, owned, to free(). */
struct engine_sandbox {
    char *engine_data;
};

/* A sandbox found by list. Borrowed during the callback. */
typedef void (*engine_list_fn)(void *ctx, const char *id, const char *engine_data);

/* A snapshot found by snapshot_list. Borrowed during the callback. */
typedef void (*engine_snapshot_fn)(void *ctx, const char *snapshot_id, uint64_t size_bytes);

/*
 * dial's answer, on the loop that asked: FD is a non-blocking socket whose connect has begun (the
 * callee owns it and waits for writability), or -1 with ERR set: ERR_NOT_FOUND no such sandbox,
 * ERR_CONFLICT refused (nothing listens there; over loopback that is known at once).
 */
typedef void (*engine_dial_fn)(void *ctx, int fd, const struct err *err);

/* An init that ended by itself. Called on a thread of the engine; must not block. */
typedef void (*engine_exit_fn)(void *ctx, const char *id);

/* What `sample` measures of one sandbox. */
struct engine_sample {
    const char *id, *engine_data; /* which; borrowed */
    bool ok;                      /* it was measured; else all that follows is 0 */
    bool has_disk;
    uint64_t cpu_us; /* used since its first start, of all cores together */
    uint64_t memory_bytes;
    uint64_t cache_bytes; /* of memory_bytes: file pages */
    uint64_t disk_used_bytes;
    uint64_t disk_total_bytes; /* 0: only what the template says */
};

struct engine;

struct engine_ops {
    const char *name;
    /* Worker. 0 and *OUT, or -1: ERR_LIMIT no room, ERR_NOT_FOUND template, ERR_INTERNAL … */
    int (*create)(struct engine *engine, const struct engine_spec *spec, struct engine_sandbox *out,
                  struct err *err);
    /* Worker. End it and remove all of it. Unknown ids succeed: destroy may be repeated. */
    int (*destroy)(struct engine *engine, const char *id, const char *engine_data, struct err *err);
    /*
     * Worker, at start-up. Take over one that an earlier process created. 0: it runs (or is
     * frozen). ERR_CONFLICT: its processes are gone, its file system is kept: `start` runs it
     * again, `destroy` removes it. ERR_NOT_FOUND: nothing is left.
     */
    int (*adopt)(struct engine *engine, const char *id, const char *engine_data, struct err *err);
    /* Worker. Everything that exists, adopted or not. */
    int (*list)(struct engine *engine, engine_list_fn fn, void *ctx, struct err *err);
    /*
     * Loop thread. CB is called exactly once, later, on LOOP. IPV6: connect to [::1]. LOOP NULL:
     * any thread; CB is called on any, also before dial returns, and must not block.
     */
    void (*dial)(struct engine *engine, struct loop *loop, const char *id, uint16_t port, bool ipv6,
                 engine_dial_fn cb, void *ctx);
    /*
     * Loop thread, never blocks. NULL, or dial to 127.0.0.1 without waiting: a socket as dial's
     * answer, or -1: ask with dial. Sandbox and server share a machine then.
     */
    int (*dial_now)(struct engine *engine, const char *id, uint16_t port);
    /*
     * Worker. Replace what ID may reach: nothing (INTERNET false), the internet (NETWORK NULL), or
     * what NETWORK says: JSON text, the effective egress rules as in engine/local/gateway.h, which
     * may hold secrets. Connections that are not allowed any more are cut. Running or frozen; also
     * after adopt, as an engine keeps no text of rules across a restart of the server.
     * ERR_UNSUPPORTED: rules that this engine or machine cannot hold; nothing changed.
     */
    int (*set_network)(struct engine *engine, const char *id, bool internet, const char *network,
                       struct err *err);
    /*
     * Worker. Stop and go on, memory kept while the machine runs. After freeze the file system is
     * on the disk, too: `start` finds it after a crash of the machine. Both may be repeated.
     */
    int (*freeze)(struct engine *engine, const char *id, struct err *err);
    int (*thaw)(struct engine *engine, const char *id, struct err *err);
    /*
     * Worker. End all its processes, frozen or not, and keep its file system, written to disk.
     * on_exit is not called. Repeated: 0. ERR_NOT_FOUND: nothing of it is there.
     */
    int (*stop)(struct engine *engine, const char *id, struct err *err);
    /*
     * Worker. Run SPEC->id again on the file system that it has: after stop, after its processes
     * ended by themselves, or after the machine has started again. *OUT as create's. ERR_CONFLICT:
     * it runs; ERR_NOT_FOUND: there is no file system of it.
     */
    int (*start)(struct engine *engine, const struct engine_spec *spec, struct engine_sandbox *out,
                 struct err *err);
    /*
     * Worker. Keep a copy of ID's file system as SNAPSHOT_ID: as of one moment, ID frozen
     * meanwhile (and only if it was not before: its state stays). ID may be stopped. SNAPSHOT_ID is
     * chosen by the caller, form as a sandbox id. On return it is on the disk. *SIZE_BYTES is what
     * the sandbox had written. ERR_EXISTS, ERR_NOT_FOUND, ERR_NO_SPACE; on failure nothing is left.
     */
    int (*snapshot)(struct engine *engine, const char *id, const char *snapshot_id,
                    uint64_t *size_bytes, struct err *err);
    /* Worker. Sandboxes that began with it stay as they are. Unknown ids succeed. */
    int (*snapshot_delete)(struct engine *engine, const char *snapshot_id, struct err *err);
    /* Worker. Every complete snapshot there is. */
    int (*snapshot_list)(struct engine *engine, engine_snapshot_fn fn, void *ctx, struct err *err);
    /* Worker. A new, empty volume that may hold SIZE_MB (0: no limit). Repeated: 0. */
    int (*volume_create)(struct engine *engine, const char *volume_id, uint64_t size_mb,
                         struct err *err);
    /* Worker. With all in it; no sandbox may have it mounted. Unknown ids succeed. */
    int (*volume_delete)(struct engine *engine, const char *volume_id, struct err *err);
    /* Worker. Every volume there is. */
    int (*volume_list)(struct engine *engine, engine_volume_fn fn, void *ctx, struct err *err);
    /*
     * Worker. Do REQUEST in a volume; paths never lead out of it. *ANSWER is to clear.
     * ERR_NOT_FOUND no such path, ERR_INVALID (a file where a folder is wanted …), ERR_EXISTS,
     * ERR_FORBIDDEN a link that leads out, ERR_NO_SPACE, ERR_BUSY.
     */
    int (*volume_do)(struct engine *engine, const char *volume_id,
                     const struct volume_request *request, struct volume_answer *answer,
                     struct err *err);
    /* Worker. Give what was written to ANSWER->file its name; ANSWER then has the file's entry. */
    int (*volume_commit)(struct engine *engine, struct volume_answer *answer, struct err *err);
    /*
     * Any thread that may block, one at a time. Measure COUNT sandboxes at once; cheap for a
     * thousand. -1: none can be measured here.
     */
    int (*sample)(struct engine *engine, struct engine_sample *samples, size_t count,
                  struct err *err);
    /*
     * Worker. *FD is a non-blocking pipe (the caller's) of what envd says in the running sandbox
     * ID, one JSON object a line, untrusted. What was said while nobody read is there, up to 64
     * KiB. One reader at a time. ERR_NOT_FOUND: it does not run, or was made without one.
     */
    int (*open_log)(struct engine *engine, const char *id, int *fd, struct err *err);
    void (*free)(struct engine *engine);
};

/* Embedded in each engine's own struct. */
struct engine {
    const struct engine_ops *ops;
    engine_exit_fn on_exit; /* set by lifecycle before the first create or adopt */
    void *on_exit_ctx;
};

/* One line of `sandpit doctor`. Text is static or owned by the callee until it returns. */
enum check_state { CHECK_OK, CHECK_WARN, CHECK_FAIL };
typedef void (*engine_check_fn)(void *ctx, const char *name, enum check_state state,
                                const char *found, const char *remedy);

#endif
