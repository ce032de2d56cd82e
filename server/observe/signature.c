#include "server/observe/signature.h"

#include <string.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

_Static_assert(BASE64_SIZE(SHA256_BYTES) <= SIGNATURE_SIZE, "a hash fits");

void signature_make(const char *secret, size_t secret_len, const char *body, size_t body_len,
                    char out[SIGNATURE_SIZE])
{
    size_t len = secret_len + body_len;
    char *both = mem_calloc(len + 1, 1);
    uint8_t hash[SHA256_BYTES];

    memcpy(both, secret, secret_len);
    memcpy(both + secret_len, body, body_len);
    hash_sha256(both, len, hash);
    secret_wipe(both, len);
    free(both);
    base64_encode(BASE64_STD_RAW, hash, sizeof(hash), out);
}
