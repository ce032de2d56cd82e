/*
 * envd/sign.h - signatures of file URLs (GET and POST /files).
 *
 * Pure but for the clock value given. Any thread.
 * Source: envd API section 6.3.
 */
#ifndef SANDPIT_ENVD_SIGN_H
#define SANDPIT_ENVD_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"

#define SIGN_SIZE 48 /* "v1_", 43 characters of base64, NUL and a byte to spare */

/* What is signed. Borrowed strings, "" when absent. */
struct sign_request {
    const char *path;       /* the decoded query value, not expanded */
    const char *operation;  /* "read" or "write" */
    const char *username;   /* the query value */
    const char *expiration; /* decimal Unix seconds; NULL: does not expire */
};

/* "v1_" and unpadded base64 of SHA-256 over the request and TOKEN. */
void sign_make(const struct sign_request *request, const char *token, char out[SIGN_SIZE]);

/*
 * Is SIGNATURE (NULL when none came) right for REQUEST, and not expired at NOW_UNIX_S? The time
 * taken does not depend on how much of it is right. Returns 0, or -1 with
 *   ERR_UNAUTHENTICATED  missing, wrong or expired (in that order)
 *   ERR_INVALID          an expiration that is not a number
 */
int sign_check(const struct sign_request *request, const char *token, const char *signature,
               int64_t now_unix_s, struct err *err);

#endif
