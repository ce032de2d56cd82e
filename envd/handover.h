/*
 * envd/handover.h - the state that one envd hands over to the next: records in a sealed memfd.
 *
 * Written by the envd that is replaced, read twice by the one that replaces it: in a rehearsal that
 * changes nothing, then for good. Each module writes and reads its own records (*_save, *_load);
 * what they hold is envd/handover.proto. Loop thread.
 * docs/internals/envd-handover.md is the page about it.
 */
#ifndef ENVD_HANDOVER_H
#define ENVD_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "envd/handover.pb-c.h"
#include "server/base/buf.h"
#include "server/base/err.h"

#define HANDOVER_FORMAT 1            /* what is written */
#define HANDOVER_FORMAT_MIN 1        /* the oldest that is read */
#define HANDOVER_MAX_BYTES (1 << 30) /* of a state */
#define HANDOVER_FDS_MAX (1 << 20)   /* descriptor numbers are below this */

/* ---- Writing ---- */

struct handover_out;

/* NULL with *ERR. */
struct handover_out *handover_out_new(struct err *err);
void handover_out_free(struct handover_out *out);
/* Append; the first failure stays and shows in handover_out_seal. */
void handover_put(struct handover_out *out, const Handover__Record *record);
/* FD is to be there after the exec. Returns FD; a negative one is none. */
int32_t handover_fd(struct handover_out *out, int fd);
/* Something cannot be handed over: neither can the rest. */
void handover_refuse(struct handover_out *out, const char *what);
/* No more records. Returns the memfd, borrowed, or -1 with *ERR. */
int handover_out_seal(struct handover_out *out, struct err *err);
/* The descriptors that were named. */
const int *handover_out_fds(const struct handover_out *out, size_t *count);

/* Room for what a call under way is (rpc_method.save). */
struct handover_call {
    Handover__Call call;
    Handover__Follower follower;
    Handover__Delivery delivery;
    Handover__Feeder feeder;
    uint64_t at[2];
    char path[128];
    struct buf reader;
};

/* ---- Reading ---- */

struct handover_in {
    const uint8_t *data; /* mapped */
    size_t len;
    size_t at;
    uint64_t records;
    bool ended;
};

/* Map the state in FD (borrowed). Returns 0 (then handover_in_clear), or -1 with *ERR. */
int handover_in_open(int fd, struct handover_in *in, struct err *err);
/* The same of memory that the caller keeps; nothing to clear. */
void handover_in_memory(const void *data, size_t len, struct handover_in *in);
void handover_in_clear(struct handover_in *in);
/*
 * The next record, to free with handover__record__free_unpacked. 1; 0 after the last, which was an
 * End that counts right; -1 with ERR_INVALID. A record of a kind that is not known here is one with
 * kind_case 0.
 */
int handover_next(struct handover_in *in, Handover__Record **out, struct err *err);

static inline void cleanup_record(Handover__Record **record)
{
    if (*record != NULL)
        handover__record__free_unpacked(*record, NULL);
}
#define _cleanup_record_ __attribute__((cleanup(cleanup_record)))

/* Bytes as protobuf-c has them; borrowed. */
static inline ProtobufCBinaryData handover_bytes(const void *data, size_t len)
{
    return (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)data};
}
ProtobufCBinaryData handover_str(const char *s); /* NULL: none */

/* A string from bytes, to free(). -1 with ERR_INVALID for a NUL inside. */
int handover_take_str(const ProtobufCBinaryData *bytes, char **out, struct err *err);
/* An open descriptor with CLOEXEC set; -1 stays -1. -1 with ERR_INVALID when there is none. */
int handover_take_fd(int32_t fd, int *out, struct err *err);

#endif
