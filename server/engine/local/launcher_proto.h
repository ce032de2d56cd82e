/*
 * server/engine/local/launcher_proto.h - what server and launcher say to each other.
 *
 * One SOCK_SEQPACKET pair; each message is one packet of a fixed size, with at most one descriptor
 * beside it. The server faces the network, so the launcher believes nothing it sends: every
 * request passes request_check before it is looked at. Both ends are one binary: no byte order,
 * no old versions.
 */
#ifndef SANDPIT_ENGINE_LOCAL_LAUNCHER_PROTO_H
#define SANDPIT_ENGINE_LOCAL_LAUNCHER_PROTO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"
#include "server/model/sandbox.h"

#define LAUNCHER_MAGIC 0x53504c34u /* "SPL4": changes with the layout */

#define LAUNCHER_CPU_MAX 1024
#define LAUNCHER_MEMORY_MIN_MB 16
#define LAUNCHER_MEMORY_MAX_MB (64 * 1024 * 1024)
#define LAUNCHER_DISK_MIN_MB 16
#define LAUNCHER_DISK_MAX_MB (1024 * 1024 * 1024)
#define LAUNCHER_PIDS_MIN 16
#define LAUNCHER_PIDS_MAX 4194304 /* the kernel's PID_MAX_LIMIT */

enum launcher_op {
    LAUNCHER_CREATE = 1, /* with a descriptor: envd's configuration, readable to its end */
    LAUNCHER_DESTROY,
    LAUNCHER_ADOPT,
    LAUNCHER_LIST,
    LAUNCHER_DIAL,
    LAUNCHER_NETWORK, /* with a descriptor: the rules, a sealed memfd of JSON; empty: none */
    LAUNCHER_FREEZE,
    LAUNCHER_THAW,
    LAUNCHER_STOP,
    LAUNCHER_START, /* with a descriptor, as CREATE */
    LAUNCHER_SNAPSHOT,
    LAUNCHER_SNAPSHOT_DELETE,
    LAUNCHER_SNAPSHOT_LIST,
    LAUNCHER_GROUPS, /* answered with the folders of all sandboxes' groups: memory, CPU time */
    LAUNCHER_LOG,    /* answered with the pipe of what envd says */
    LAUNCHER_VOLUME, /* with a descriptor: a volume helper's connection (volume_proto.h) */
    LAUNCHER_MOUNTS, /* with a descriptor: the volumes of the next run of ID (volume_mount.h) */
    LAUNCHER_OP_COUNT
};

struct launcher_request {
    uint32_t magic;
    uint32_t op;     /* enum launcher_op */
    uint64_t serial; /* returned in every reply to it */
    char id[SANDBOX_ID_SIZE];
    char snapshot_id[SANDBOX_ID_SIZE];  /* SNAPSHOT…; CREATE: or "" */
    char template_id[TEMPLATE_ID_SIZE]; /* CREATE, START, as the limits */
    uint32_t cpu_count;
    uint32_t memory_mb;
    uint32_t disk_mb;
    uint32_t pids_max;
    uint8_t internet; /* CREATE, START, NETWORK: 0 or 1 */
    uint8_t ipv6;     /* DIAL: 0 or 1 */
    uint8_t sockets;  /* DIAL: how many, 1..PACKET_FDS_MAX */
    uint8_t zero;
};

enum launcher_event {
    LAUNCHER_DONE = 1, /* the answer to SERIAL; for DIAL with at least one socket */
    LAUNCHER_ITEM,     /* one sandbox of LIST or snapshot of SNAPSHOT_LIST, before its DONE */
    LAUNCHER_EXIT,     /* ID's init has ended; SERIAL is 0 */
};

struct launcher_reply {
    uint32_t magic;
    uint32_t event; /* enum launcher_event */
    uint64_t serial;
    uint32_t code; /* enum err_code; ERR_NONE: success */
    char id[SANDBOX_ID_SIZE];
    int32_t pid;          /* CREATE, ADOPT, ITEM: init's, 0 when not running */
    uint32_t slot;        /* the same: which range of ids */
    uint64_t start_ticks; /* the same: init's start time, /proc/<pid>/stat field 22 */
    uint64_t tree;        /* the same: storage.h; 0 when there are no figures */
    uint64_t size_bytes;  /* SNAPSHOT, and ITEM of SNAPSHOT_LIST */
    char msg[ERR_MSG_SIZE];
    char detail[ERR_DETAIL_SIZE];
};

/*
 * REQUEST (LEN bytes from the server, FD_COUNT descriptors beside it) is well formed: size, magic,
 * operation, NUL-terminated names of allowed characters, numbers in range, unused fields zero.
 * Returns 0 or -1 with ERR_INVALID.
 */
int request_check(const struct launcher_request *request, size_t len, int fd_count,
                  struct err *err);

/* Make REPLY the answer to SERIAL: success when ERR is NULL. */
void reply_init(struct launcher_reply *reply, uint64_t serial, const struct err *err);
/* The error a reply carries. Returns 0 when it is none, else -1 with *ERR set. */
int reply_result(const struct launcher_reply *reply, struct err *err);

/*
 * Send LEN bytes as one packet with FDS (FD_COUNT, at most PACKET_FDS_MAX). FLAGS as for sendmsg;
 * MSG_NOSIGNAL is added. Returns 0, or -1 with errno.
 */
#define PACKET_FDS_MAX 16
int packet_send(int sock, const void *data, size_t len, const int *fds, int fd_count, int flags);
/*
 * Receive one packet of at most SIZE bytes and up to FD_MAX descriptors (all close-on-exec; more
 * are closed). Returns its length, 0 when the other end is closed, or -1 with errno: EMSGSIZE for a
 * longer packet, for more descriptors, or when this process has no room for them; DATA holds what
 * fits then.
 */
ssize_t packet_receive(int sock, void *data, size_t size, int *fds, int fd_max, int *fd_count,
                       int flags);

#endif
