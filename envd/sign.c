#include "envd/sign.h"

#include <stdio.h>
#include <string.h>

#include "server/base/hash.h"
#include "server/base/mem.h"
#include "server/base/str.h"

#define SIGN_PREFIX "v1_"

_Static_assert(SIGN_SIZE > sizeof(SIGN_PREFIX) + (SHA256_BYTES * 4 + 2) / 3, "room for the text");

void sign_make(const struct sign_request *request, const char *token, char out[SIGN_SIZE])
{
    uint8_t digest[SHA256_BYTES];
    char text[BASE64_SIZE(SHA256_BYTES)];
    char *input = mem_asprintf("%s:%s:%s:%s%s%s", request->path, request->operation,
                               request->username, token, request->expiration != NULL ? ":" : "",
                               request->expiration != NULL ? request->expiration : "");

    hash_sha256(input, strlen(input), digest);
    secret_wipe(input, strlen(input)); /* it holds the token */
    free(input);
    base64_encode(BASE64_STD_RAW, digest, sizeof(digest), text);
    snprintf(out, SIGN_SIZE, SIGN_PREFIX "%s", text);
}

int sign_check(const struct sign_request *request, const char *token, const char *signature,
               int64_t now_unix_s, struct err *err)
{
    char want[SIGN_SIZE];
    int64_t expiration = INT64_MAX;

    if (request->expiration != NULL &&
        str_to_i64(request->expiration, strlen(request->expiration), INT64_MIN, INT64_MAX,
                   "signature_expiration", &expiration, err) < 0)
        return -1;
    if (signature == NULL)
        return err_set(err, ERR_UNAUTHENTICATED, "missing signature query parameter");
    sign_make(request, token, want);
    if (!hash_equal_str(signature, strlen(signature), want))
        return err_set(err, ERR_UNAUTHENTICATED, "invalid signature");
    if (expiration < now_unix_s)
        return err_set(err, ERR_UNAUTHENTICATED, "signature is already expired");
    return 0;
}
