/*
 * server/auth/volume_token.h - the token with which a client reads and writes one volume's files.
 *
 * A JWT (HS256) that names a volume, its namespace and what its holder may do. It is never stored;
 * whether the volume is still there is for whoever uses it to see. Any thread, never blocks.
 * Source: platform-api.md section 7.
 */
#ifndef SANDPIT_AUTH_VOLUME_TOKEN_H
#define SANDPIT_AUTH_VOLUME_TOKEN_H

#include "server/auth/auth.h"

#define VOLUME_TOKEN_LIFE_S 86400
#define VOLUME_TOKEN_MAX 2048 /* bytes of one that is looked at */

/*
 * A token for volume VOLUME_ID of WHO's namespace, good for what WHO's key may do. DOMAIN (NULL:
 * none) names who issues it. *OUT is to free().
 */
int volume_token_make(const uint8_t key[SHA256_BYTES], const struct identity *who,
                      const char *volume_id, const char *domain, int64_t now_unix_s, char **out,
                      struct err *err);
/*
 * TEXT (untrusted) is a token of ours for VOLUME_ID, signed and not expired: *OUT is who it stands
 * for. ERR_UNAUTHENTICATED; ERR_NOT_FOUND "Volume not found" for another volume's.
 */
int volume_token_check(const uint8_t key[SHA256_BYTES], const char *text, const char *volume_id,
                       int64_t now_unix_s, struct identity *out, struct err *err);

#endif
