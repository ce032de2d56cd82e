/*
 * server/engine/local/launcher.h - the inside of the launcher: the one process that keeps root.
 *
 * Single-threaded; an epoll loop that never waits for anything else. What takes longer than a few
 * system calls runs in a forked child (job.c). Everything here belongs to the loop.
 *
 *   launcher.c   set-up, loop, end          requests.c  what the server may ask, and when
 *   boxes.c      the table of sandboxes     pool.c      spares, and creates that wait for one
 *   job.c        forked helpers             router.c    the egress router's keeper
 *   network.c    network rules in force
 */
#ifndef SANDPIT_ENGINE_LOCAL_LAUNCHER_H
#define SANDPIT_ENGINE_LOCAL_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/base/map.h"
#include "server/engine/local/context.h"
#include "server/engine/local/demand.h"
#include "server/engine/local/launcher_proto.h"
#include "server/engine/local/record.h"
#include "server/engine/local/spawn.h"

#define SLOT_COUNT 4608     /* SANDBOX_COUNT_MAX, and room for spares and the dying */
#define WAITING_MAX 1024    /* creates that wait for a spare */
#define BUILDERS_MAX 4      /* spares being built at once */
#define JOBS_MAX 64         /* children at once, builders apart */
#define REFILL_PAUSE_MS 25  /* pause after a create, while most spares are left */
#define BUILD_RETRY_MS 2000 /* pause after a spare could not be built */

struct launcher;

/* Something epoll watches; embed it. */
struct source {
    int fd; /* -1: not watched */
    void (*ready)(struct launcher *launcher, struct source *source);
};

enum box_state {
    BOX_SPARE,   /* waits for an order; has no id */
    BOX_ORDERED, /* becoming envd for the CREATE `serial` */
    BOX_RUNNING,
    BOX_ENDED,  /* its first process is gone, the rest is not; or found like that at start */
    BOX_KEPT,   /* a tree and nothing else: it may be started again */
    BOX_ENDING, /* a job removes it */
};

struct box {
    char id[SANDBOX_ID_SIZE]; /* "" for a spare; a spare's folder for one found at start */
    enum box_state state;
    struct record record;   /* pid, start, slot, internet, rules */
    int rules;              /* memfd of the network rules in force; -1: none, or not known */
    int rules_next;         /* JOB_NETWORK: what it makes of them */
    uint64_t rules_version; /* gateway.h */
    uint64_t tree;          /* storage_tree_id */
    bool kept;              /* its tree is older than this run: a failed start keeps it */
    bool busy;              /* a job other than destroy works on it */
    bool adopted;           /* the server knows it: its end is told */
    uint64_t serial;        /* BOX_ORDERED: the request to answer */
    struct source init;     /* pidfd of the first process */
    struct source control;  /* BOX_SPARE, BOX_ORDERED */
    struct box *next;       /* in the list of all */
    struct box *next_spare;
};

/* A CREATE or START without a spare yet. */
struct waiting {
    struct launcher_request request;
    int config;
    struct waiting *next;
};

enum job_kind {
    JOB_BUILD,
    JOB_DESTROY,
    JOB_DISCARD,
    JOB_FREEZE,
    JOB_THAW,
    JOB_NETWORK,
    JOB_GATEWAY,
    JOB_RULES,
    JOB_STOP,
    JOB_SNAPSHOT,
    JOB_SNAPSHOT_DELETE,
    JOB_SNAPSHOT_LIST
};

/* A forked helper. */
struct job {
    struct source source; /* its report, then its end */
    enum job_kind kind;
    uint32_t slot;   /* JOB_BUILD */
    struct box *box; /* the others; NULL for JOB_RULES, JOB_GATEWAY and snapshots' own */
    bool on;         /* JOB_NETWORK */
    char snapshot_id[SANDBOX_ID_SIZE];
    struct waiting *start; /* JOB_STOP: a START that waits for it, owned */
    uint64_t serial;       /* the request to answer; 0: nobody asked */
    struct err err;        /* what went wrong; JOB_DISCARD: why it was begun */
    bool reported;
};

struct launcher {
    struct context ctx;
    struct local_config config; /* owned strings */
    struct source server;
    struct source children;  /* signalfd for SIGCHLD */
    struct source addresses; /* netlink: the host's addresses change */
    struct source router;    /* pidfd */
    struct source gateway;   /* a connection that ends when the egress gateway does */
    int epoll;
    int lock;
    bool stopping;
    bool router_adopted;
    struct box *boxes;
    struct map by_id; /* id → struct box */
    bool slots[SLOT_COUNT];
    uint32_t slot_count; /* how many fit above id_base */
    uint32_t slot_next;  /* where the search for a free one begins */
    struct box *spares;  /* oldest first */
    unsigned spare_count;
    struct demand demand;
    struct demand_limits demand_limits;
    struct waiting *waiting, **waiting_tail;
    struct map waiting_ids;
    unsigned waiting_count;
    unsigned builders;
    unsigned jobs;
    unsigned volume_helpers;
    struct map mounts;            /* id → struct mounts: for a sandbox about to start */
    int64_t build_after_mono_ms;  /* a build has failed: none before */
    int64_t refill_after_mono_ms; /* a create has been served */
};

/* launcher.c */
int launcher_watch(struct launcher *launcher, struct source *source, int fd,
                   void (*ready)(struct launcher *, struct source *), struct err *err);
/* Stop watching and close. */
void launcher_unwatch(struct launcher *launcher, struct source *source);
/* Answer SERIAL: success when ERR is NULL. BOX, or NULL, fills in what CREATE and ADOPT want. */
void launcher_answer(struct launcher *launcher, uint64_t serial, const struct box *box, int fd,
                     const struct err *err);
void launcher_send(struct launcher *launcher, const struct launcher_reply *reply, int fd);
/* The answer to a DIAL: COUNT sockets, still the caller's. */
void launcher_send_sockets(struct launcher *launcher, uint64_t serial, const int *socks, int count);

/* requests.c */
void requests_ready(struct launcher *launcher, struct source *source);

/* boxes.c */
/* Read <state>/sandboxes and <run>/sandboxes, and what control groups are left over. */
void boxes_find(struct launcher *launcher);
/* A new box in SLOT (SLOT_NONE allowed), on the list. */
struct box *box_new(struct launcher *launcher, uint32_t slot);
/* Off the list and the map, slot free again, descriptors closed. */
void box_free(struct launcher *launcher, struct box *box);
/* BOX has only its tree left: its slot is free. */
void box_keep(struct launcher *launcher, struct box *box);
/* Give BOX its id and put it in the map. */
void box_name(struct launcher *launcher, struct box *box, const char *id);
/* Watch the first process by PIDFD (owned). */
int box_watch(struct launcher *launcher, struct box *box, int pidfd, struct err *err);
/* A free slot, or SLOT_NONE. It counts as used from now on. */
uint32_t slot_take(struct launcher *launcher);
void slot_release(struct launcher *launcher, uint32_t slot);

/* pool.c */
/* Queue REQUEST with its descriptor CONFIG (owned) and serve it when there is a spare. */
int pool_create(struct launcher *launcher, const struct launcher_request *request, int config,
                struct err *err);
/* The same, for a request that was put aside (owned). Never refused: it was accepted before. */
void pool_queue(struct launcher *launcher, struct waiting *waiting);
/* Forget a request that is not queued. */
void waiting_free(struct waiting *waiting);
/* Give spares to creates that wait, and begin as many builds as are needed. */
void pool_run(struct launcher *launcher);
/* How long the loop may sleep, in ms, until the pool has something to do; -1: for ever. */
int pool_sleep_ms(struct launcher *launcher);
/* A build has ended: SPARE, or NULL with ERR. */
void pool_built(struct launcher *launcher, const struct spare *spare, const struct err *err);
/* At the end: remove the spares, here and now. */
void pool_drain(struct launcher *launcher);

/* job.c */
/* Begin JOB (owned, zeroed but for what it names). On failure it is freed. */
int job_start(struct launcher *launcher, struct job *job, struct err *err);

/* network.c */
/* Before JOB_NETWORK: BOX is to have *RULES (taken; -1: none). */
int network_begin(struct launcher *launcher, struct box *box, int *rules, struct err *err);
/* JOB_NETWORK's child. *RECORD: how far it came, also on failure. */
int network_run(const struct launcher *launcher, const struct job *job, struct record *record,
                struct err *err);
/* The job's end. RECORD NULL: its child did not report. */
void network_end(struct launcher *launcher, struct box *box, const struct record *record,
                 bool done);
/* JOB_GATEWAY's child: all rules that are for the gateway. */
int network_send_all(const struct launcher *launcher, struct err *err);
/* Hear of the gateway's end, once there is a router. */
void network_watch(struct launcher *launcher);
/* volume_calls.c */
/* LAUNCHER_VOLUME: fork a helper for the connection FD (borrowed). */
int volumes_serve(struct launcher *launcher, int fd, struct err *err);
/* LAUNCHER_MOUNTS: what the next order of ID mounts, from the file FD (borrowed). */
int volumes_expect(struct launcher *launcher, const char *id, int fd, struct err *err);
/* Forget it. */
void volumes_forget(struct launcher *launcher, const char *id);
/* How many volumes an order of ID comes with. */
unsigned volumes_expected(const struct launcher *launcher, const char *id);
/* Send them after the order, on CONTROL, and forget them. */
int volumes_send(struct launcher *launcher, const char *id, int control, struct err *err);

/* router.c */
/* Find or start the egress router; without one, sandboxes have no internet: logged once. */
void router_start(struct launcher *launcher);
void router_stop(struct launcher *launcher);

#endif
