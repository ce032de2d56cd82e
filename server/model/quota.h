/*
 * server/model/quota.h - what a namespace, or one API key, may use at most.
 *
 * Plain data, copied by value. The server's defaults hold for each namespace; a namespace may have
 * values of its own instead, and a key further ones, which hold as well.
 */
#ifndef SANDPIT_MODEL_QUOTA_H
#define SANDPIT_MODEL_QUOTA_H

#include <stdint.h>

#include "server/base/err.h"

enum quota_kind {
    QUOTA_SANDBOXES, /* that run at the same time */
    QUOTA_CREATES,   /* in a second; as many at once */
    QUOTA_CPU,       /* cores of one sandbox */
    QUOTA_MEMORY,    /* MiB of one sandbox */
    QUOTA_DISK,      /* MiB of one sandbox */
    QUOTA_LIFETIME,  /* seconds of one run of a sandbox, from its start */
    QUOTA_COUNT
};

#define QUOTA_NONE INT64_C(0)   /* no limit */
#define QUOTA_UNSET INT64_C(-1) /* nothing said: what is more general holds */

#define QUOTA_MAX INT32_MAX       /* largest value of any kind */
#define QUOTA_CREATES_MAX 1000000 /* of that kind */

struct quota {
    int64_t max[QUOTA_COUNT]; /* each QUOTA_UNSET, QUOTA_NONE or the largest that is allowed */
};

/* What holds for one caller; nothing in it is QUOTA_UNSET. */
struct quotas {
    struct quota space; /* all of the namespace together, or each of its sandboxes */
    struct quota key;   /* the same for what one key has made */
};

extern const struct quota quota_unset;
extern const struct quota quota_none;

/* "sandboxes", "creates" …: stored. */
const char *quota_kind_name(enum quota_kind kind);
int quota_kind_parse(const char *name, enum quota_kind *out);
/* Put what FROM says over *QUOTA. */
void quota_overlay(struct quota *quota, const struct quota *from);
/* The smaller limit of both; QUOTA_NONE: none. */
int64_t quotas_max(const struct quotas *quotas, enum quota_kind kind);

#endif
