/*
 * server/observe/signature.h - how a webhook's receiver knows that we sent it.
 *
 * Pure. Source: platform-api.md section 10, e2b-signature v1: a plain hash, not an HMAC.
 */
#ifndef SANDPIT_OBSERVE_SIGNATURE_H
#define SANDPIT_OBSERVE_SIGNATURE_H

#include <stddef.h>

#define SIGNATURE_SIZE 48 /* base64 of 32 bytes without padding, and a NUL */

/* base64(SHA-256(SECRET followed by BODY)) without '='. */
void signature_make(const char *secret, size_t secret_len, const char *body, size_t body_len,
                    char out[SIGNATURE_SIZE]);

#endif
