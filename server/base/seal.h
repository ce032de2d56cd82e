/*
 * server/base/seal.h - text that is stored encrypted: XSalsa20-Poly1305 with a random nonce.
 *
 * Pure but for the random nonce; hash_init first. Any thread.
 */
#ifndef SANDPIT_BASE_SEAL_H
#define SANDPIT_BASE_SEAL_H

#include <stddef.h>
#include <stdint.h>

#include "server/base/err.h"

#define SEAL_KEY_BYTES 32
#define SEAL_MAX_BYTES (16 * 1024 * 1024) /* the longest text */

/* LEN bytes of TEXT (at most SEAL_MAX_BYTES) as base64, to free(). NULL when it is longer. */
char *seal_text(const uint8_t key[SEAL_KEY_BYTES], const char *text, size_t len);
/*
 * What SEALED holds: *LEN bytes and a NUL, to wipe (secret_wipe) and free(). NULL with ERR_INVALID
 * when it was not made with KEY, or was changed.
 */
char *seal_open(const uint8_t key[SEAL_KEY_BYTES], const char *sealed, size_t *len,
                struct err *err);

#endif
