/*
 * server/model/claim.h - an Idempotency-Key: which create it stands for, and what came of that.
 *
 * Plain data. Source: platform-api.md section 2.
 */
#ifndef SANDPIT_MODEL_CLAIM_H
#define SANDPIT_MODEL_CLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"
#include "server/base/hash.h"
#include "server/model/sandbox.h"

#define CLAIM_KEY_SIZE 256 /* 1 to 255 characters of [a-z0-9-] and a NUL */

enum claim_state {
    CLAIM_OPEN, /* its create has begun; no client can know of a sandbox of it */
    CLAIM_DONE, /* there was a sandbox: the answer is known */
    CLAIM_LOST, /* there was one, and it was gone when the server came back */
    CLAIM_STATE_COUNT
};

struct claim {
    char namespace_[NAMESPACE_SIZE];
    char key[CLAIM_KEY_SIZE];
    uint8_t body_sha256[SHA256_BYTES]; /* of the request in one fixed form */
    char sandbox_id[SANDBOX_ID_SIZE];
    int64_t created_unix_ms;
    enum claim_state state;
};

/* ERR_INVALID for a key that is empty, too long or not [a-z0-9-]. */
int claim_key_check(const char *key, struct err *err);
/* "open", "done", "lost": stored. */
const char *claim_state_name(enum claim_state state);
int claim_state_parse(const char *name, enum claim_state *out);

#endif
