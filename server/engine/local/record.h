/*
 * server/engine/local/record.h - what is on disk about a sandbox, and finding it again.
 *
 * Its tree in the storage has its id as a name, is made first and removed last.
 * <run>/sandboxes/<id> (JSON) names the first process and the slot, while there are any. Only root
 * may write either, so the launcher believes them and nothing the server says. Launcher and its
 * children only; blocking, no fsync: after a crash of the machine no process is left to find.
 * Of a version before storage.h: <state>/sandboxes/<id>/, whose "root" belongs to the slot's ids.
 */
#ifndef SANDPIT_ENGINE_LOCAL_RECORD_H
#define SANDPIT_ENGINE_LOCAL_RECORD_H

#include <stdint.h>
#include <sys/types.h>

#include "server/base/err.h"
#include "server/engine/local/context.h"

/* Folders of sandboxes that have no id yet: not among the characters of ids. */
#define SPARE_PREFIX "spare-"
#define SPARE_COPY_SUFFIX "c" /* a copy of a snapshot, until its sandbox has a name */

#define RULES_DIGEST_SIZE 33 /* 128 bits of SHA-256 in hex, with the NUL */
#define RULES_UNKNOWN "?"    /* instead of a digest: something is in force, and not known what */

struct record {
    pid_t pid; /* 0: none is known */
    uint64_t start_ticks;
    uint32_t slot;                 /* SLOT_NONE: unknown */
    bool internet;                 /* egress is on */
    char rules[RULES_DIGEST_SIZE]; /* digest of the network rules in force; "" for none */
    bool frozen;                   /* asked to stand still until thaw */
    bool thaw;                     /* frozen for a snapshot, no longer than that takes */
    bool files;                    /* it has a tree */
    bool legacy;                   /* the tree is one of an earlier version's */
};

int record_write(const struct context *ctx, const char *id, const struct record *record,
                 struct err *err);
/*
 * What is known of ID. The pid is 0 when its process is gone: another start time, another boot, no
 * record. No slot after another boot. ERR_NOT_FOUND when neither tree nor record exists.
 */
int record_read(const struct context *ctx, const char *id, struct record *out, struct err *err);
/* Remove the record; none is no error. */
int record_remove(const struct context *ctx, const char *id, struct err *err);
/* FN for every id with a folder or a record, once or twice; spares too, by their folder's name. */
void record_each(const struct context *ctx, void (*fn)(void *ctx, const char *id), void *fn_ctx);
/* The form of a record's text; for tests. Returns 0 or -1 with ERR_INVALID. */
int record_parse(const char *text, size_t len, const char *boot_id, struct record *out,
                 struct err *err);

#endif
