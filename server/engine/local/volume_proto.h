/*
 * server/engine/local/volume_proto.h - what the server and a volume helper say to each other.
 *
 * A call has a connection of its own (SOCK_SEQPACKET): the server makes it, gives one end to the
 * launcher (LAUNCHER_VOLUME), which forks a helper for it. One packet each way; a WRITE is followed
 * by a COMMIT or the end of the connection. The helper, root at first, believes nothing: every call
 * passes volume_call_check. Both ends are one binary: no byte order, no old versions.
 */
#ifndef SANDPIT_ENGINE_LOCAL_VOLUME_PROTO_H
#define SANDPIT_ENGINE_LOCAL_VOLUME_PROTO_H

#include <stddef.h>
#include <stdint.h>

#include "server/base/buf.h"
#include "server/base/err.h"
#include "server/engine/volume.h"

#define VOLUME_MAGIC 0x53505631u              /* "SPV1": changes with the layout */
#define VOLUME_RECORDS_MAX (48 * 1024 * 1024) /* bytes of one answer's entries */

/* After the verbs of server/engine/volume.h. */
enum {
    VOLUME_CALL_COMMIT = VOLUME_VERB_COUNT, /* only after a WRITE */
    VOLUME_CALL_CREATE,
    VOLUME_CALL_DELETE,
    VOLUME_CALL_NAMES, /* every volume; the entries' paths are their ids */
    VOLUME_CALL_COUNT
};

struct volume_call {
    uint32_t magic;
    uint32_t verb;
    uint64_t size_mb;          /* CREATE */
    char volume_id[UUID_SIZE]; /* all but NAMES and COMMIT */
    uint8_t force;             /* 0 or 1 */
    uint8_t zero[2];
    int32_t uid, gid, mode; /* -1: not given */
    uint32_t depth;         /* LIST */
    char path[VOLUME_PATH_SIZE];
};

/*
 * The answer: code ERR_NONE with COUNT entries in BYTES of records, in a first descriptor when
 * COUNT is not 0; for READ and WRITE the file is the last descriptor.
 */
struct volume_reply {
    uint32_t magic;
    uint32_t code; /* enum err_code */
    uint32_t count;
    uint32_t zero;
    uint64_t bytes;
    char msg[ERR_MSG_SIZE];
    char detail[ERR_DETAIL_SIZE];
};

/* CALL (LEN bytes) is well formed. Returns 0 or -1 with ERR_INVALID. */
int volume_call_check(const struct volume_call *call, size_t len, struct err *err);

/* Append ENTRY to the records in BUF. -1 when BUF is full. */
int volume_record_add(struct buf *buf, const struct volume_entry *entry);
/* COUNT records of DATA. *OUT is an array of COUNT to free with its strings; -1: malformed. */
int volume_records_parse(const void *data, size_t len, uint32_t count, struct volume_entry **out);

#endif
