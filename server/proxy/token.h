/*
 * server/proxy/token.h - the JWTs that envd wants, cached per sandbox and user, renewed at half of
 * their life. One cache per loop; loop thread.
 */
#ifndef SANDPIT_PROXY_TOKEN_H
#define SANDPIT_PROXY_TOKEN_H

#include <stddef.h>
#include <stdint.h>

#include "server/auth/auth.h"
#include "server/base/err.h"
#include "server/base/map.h"

#define TOKEN_CACHE_MAX 4096     /* entries; the cache starts afresh when it is full */
#define TOKEN_USER_MAX_BYTES 256 /* with the NUL; a longer name counts as malformed */

struct token_cache {
    struct map entries; /* "<id> <user>" to struct token_entry */
};

void token_cache_init(struct token_cache *cache);
void token_cache_clear(struct token_cache *cache);
/*
 * The token of sandbox ID for USER (NULL: nobody named), signed with KEY; borrowed until the next
 * call. NULL with ERR set when it cannot be made.
 */
const char *token_get(struct token_cache *cache, const uint8_t key[SHA256_BYTES], const char *id,
                      const char *user, int64_t now_unix_s, struct err *err);
/*
 * The user name in an Authorization value (LEN bytes) of the Basic kind: 0 and OUT
 * (TOKEN_USER_MAX_BYTES), or -1 when it is another kind or malformed.
 * Source: RFC 7617; envd-api.md section 6.2.
 */
int token_basic_user(const char *value, size_t len, char *out);

#endif
