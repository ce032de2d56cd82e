/*
 * server/engine/local/netrules.h - one sandbox's own egress rules, in its own network namespace.
 *
 * The namespace belongs to the host's root, so nothing inside can change them, and they end with
 * it. They hold no state: each packet is judged alone, so that a live update ends what it forbids.
 * What it costs does not depend on how many sandboxes there are. Judged here: addresses for all
 * but the TCP of gatewayed sandboxes, and DNS. The router (egress.h) adds what holds for all.
 * Children of the launcher only.
 */
#ifndef SANDPIT_ENGINE_LOCAL_NETRULES_H
#define SANDPIT_ENGINE_LOCAL_NETRULES_H

#include "server/base/buf.h"
#include "server/engine/local/context.h"
#include "server/engine/local/record.h"
#include "server/model/network.h"

/* nft's input for POLICY. */
void netrules_text(struct buf *out, const struct net_policy *policy);

/* What a sandbox may reach from now on. */
struct netrules_change {
    const char *id;
    int netns; /* pidfd of its first process */
    bool on;
    int rules;        /* memfd of the policy's JSON; -1 or empty: none */
    uint64_t version; /* gateway.h */
    bool anew;        /* nothing of it is in force, whatever the record says */
};

/*
 * Bring CHANGE about and write it down in RECORD. A failure may leave less open than before or
 * after, never more.
 */
int netrules_apply(const struct context *ctx, const struct netrules_change *change,
                   struct record *record, struct err *err);
/* Tell the gateway RULES once more, when they are for it. */
int netrules_tell(const struct context *ctx, const char *id, const struct record *record, int rules,
                  uint64_t version, struct err *err);
/* The sandbox of RECORD has ended or is about to: whatever is kept of it elsewhere goes. */
void netrules_forget(const struct context *ctx, const char *id, const struct record *record);

#endif
